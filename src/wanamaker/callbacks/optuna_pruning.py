"""Ends a hopeless trial of an Optuna sweep early, on all ranks at once."""

import json
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from wanamaker.errors import UserError

STORAGE, STUDY, TRIAL = "WANAMAKER_OPTUNA_STORAGE", "WANAMAKER_OPTUNA_STUDY", "WANAMAKER_OPTUNA_TRIAL"
"""Set by the sweeper in the environment of every trial."""

PRUNED_FILE = "pruned.json"
"""Tells the sweeper that the trial was pruned: `{"study": name, "trial": number, "step": epoch}`."""


class OptunaPruning(Callback):
    """Reports the monitored metric after each validation and stops the trial when its peers did better by then.

    Rank zero reports and asks Optuna's median pruner: a trial is pruned when its best value so far is worse than
    the median of the earlier trials at the same epoch. The answer is broadcast, so that every rank stops after the
    same step. Outside a sweep the callback does nothing.

    Args:
        monitor: The metric to report, as logged.
        output_dir: The job's folder, where the sweeper looks for the mark.
        n_startup_trials: Trials that are never pruned, because there is nothing to compare them with.
        n_warmup_steps: Epochs of every trial that are never pruned.

    Attributes:
        pruned: Whether this trial was.
    """

    def __init__(self, monitor: str, output_dir: str, n_startup_trials: int = 5, n_warmup_steps: int = 0) -> None:
        self.monitor = monitor
        self.output_dir = Path(output_dir)
        self.n_startup_trials = n_startup_trials
        self.n_warmup_steps = n_warmup_steps
        self.pruned = False
        self._trial: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pruned = False
        if TRIAL not in os.environ:
            rank_zero_info("OptunaPruning: this run is no trial of a sweep, nothing will be pruned.")
        elif trainer.is_global_zero:
            self._trial = self._open()

    def _open(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Looked up through the storage, because the trial was asked for in another process.
        storage = optuna.storages.get_storage(os.environ[STORAGE])
        study = optuna.load_study(
            study_name=os.environ[STUDY],
            storage=storage,
            pruner=optuna.pruners.MedianPruner(self.n_startup_trials, self.n_warmup_steps),
        )
        study_id = storage.get_study_id_from_name(study.study_name)
        number = int(os.environ[TRIAL])
        return optuna.trial.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or TRIAL not in os.environ:
            return
        prune = self._should_prune(trainer) if trainer.is_global_zero else False
        if trainer.strategy.broadcast(prune):
            self.pruned = True
            trainer.should_stop = True
            rank_zero_info(
                f"Pruned in epoch {trainer.current_epoch}: other trials had a better {self.monitor} by then."
            )

    def _should_prune(self, trainer: Trainer) -> bool:
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise UserError(
                f"callbacks.optuna_pruning.monitor={self.monitor} was not logged in validation; logged were: {known}."
            )
        epoch = trainer.current_epoch
        self._trial.report(float(trainer.callback_metrics[self.monitor]), epoch)
        if not self._trial.should_prune():
            return False
        mark = {"study": os.environ[STUDY], "trial": int(os.environ[TRIAL]), "step": epoch}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / PRUNED_FILE).write_text(json.dumps(mark) + "\n", encoding="utf-8")
        return True
