"""A metric that callbacks watch and nobody measures is a mistake, told in words after the first validation."""

from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.errors import UserError, nearest


class WatchedMetrics(Callback):
    """Compares what checkpoints, early stopping and pruning watch with what a validation has measured.

    To stand before them in the list of callbacks: they would end the run with an error of their own. Which metrics
    there are is known when the first validation has logged them, and no sooner.

    Raises:
        UserError: at the end of a validation, naming the metric and the nearest one.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        measured = sorted(name for name in trainer.callback_metrics if not name.startswith("lr"))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            watched = getattr(callback, "monitor", None)
            if watched and watched not in trainer.callback_metrics:
                raise UserError(
                    f"This run does not measure '{watched}', which {type(callback).__name__} is to watch ("
                    f"monitor.metric, or the callback's own).{nearest(watched, measured)}"
                )
