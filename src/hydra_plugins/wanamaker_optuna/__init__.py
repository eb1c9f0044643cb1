"""`hydra/sweeper=optuna`: hyperparameter search by Optuna for Hydra 1.3.

The published hydra-optuna-sweeper pins Optuna 2, whose SQLite storage fails with SQLAlchemy 2.1; this one runs on
Optuna 4 and 5, resumes, survives failing trials and writes the best recipe. Hydra imports every module of this
package whose name has no leading underscore at each start of the program, so those modules import nothing heavy.
"""
