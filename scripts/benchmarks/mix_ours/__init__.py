"""The Bayesian mix of this repository on simulated panels, one fit per process: see `bayesian_mmm.py` beside it."""
