"""What becomes of callbacks that watch a validation when nothing is validated."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from wanamaker.errors import UserError

_STAGE = "val/"


class WithoutValidation(Callback):
    """Lets a model be trained on all there is: without validation rows, the weights after the last epoch count.

    Checkpoints of the best `val/` metric are switched off with one line that says so, because there is no best;
    `last.ckpt` is the result. Where something is validated the callback does nothing.

    Raises:
        UserError: at the start of training, when training is to stop by a metric that nobody will know.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if sum(trainer.num_val_batches) > 0:
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.monitor.startswith(_STAGE):
                raise UserError(
                    f"Nothing is validated in this run, so training cannot stop early by {callback.monitor}: hold rows "
                    "out for validation (data.split.val), or switch it off with callbacks.early_stopping=null and set "
                    "trainer.max_epochs."
                )
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and (callback.monitor or "").startswith(_STAGE):
                callback.save_top_k = 0
                rank_zero_info(
                    f"Nothing is validated in this run, so {callback.monitor} is not known and there is no best epoch: "
                    "last.ckpt, the weights after the last epoch, is the result."
                )
