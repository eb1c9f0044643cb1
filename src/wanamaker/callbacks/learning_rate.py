"""Learning rates of every parameter group, for the loggers there are."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor


class LearningRate(LearningRateMonitor):
    """Lightning's monitor, except that a run with `logger=none` is no error: there is nowhere to log to, and it rests.

    Args:
        logging_interval: "step" or "epoch".
        log_momentum: Also log momentum, or Adam's betas.
        log_weight_decay: Also log weight decay.
    """

    def __init__(
        self, logging_interval: str = "step", log_momentum: bool = False, log_weight_decay: bool = False
    ) -> None:
        super().__init__(logging_interval, log_momentum, log_weight_decay)  # type: ignore[arg-type]

    def on_train_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_start(trainer, *args, **kwargs)

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_batch_start(trainer, *args, **kwargs)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_epoch_start(trainer, *args, **kwargs)
