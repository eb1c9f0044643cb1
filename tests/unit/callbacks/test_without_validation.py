from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from wanamaker.callbacks.without_validation import WithoutValidation
from wanamaker.errors import UserError

Make = Callable[..., Trainer]


def checkpoints(folder: Path) -> list[ModelCheckpoint]:
    """The two of every run: of the best epoch and of the last."""
    best = ModelCheckpoint(folder, "best", monitor="val/loss", enable_version_counter=False)
    return [best, ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)]


def test_all_rows_are_trained_on(
    make_trainer: Make, toy: type, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    class Whole(toy):  # type: ignore[misc]
        def val_dataloader(self) -> list:
            return []

    callbacks = [WithoutValidation(), *checkpoints(tmp_path)]
    with caplog.at_level("INFO"):
        make_trainer(callbacks=callbacks, enable_checkpointing=True).fit(Whole())
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["last.ckpt"]
    assert caplog.text.count("val/loss is not known and there is no best epoch: last.ckpt") == 1
    assert not [str(w.message) for w in recwarn if "could not find the monitored key" in str(w.message)]
    with pytest.raises(UserError, match=r"cannot stop early by val/loss.*callbacks.early_stopping=null"):
        make_trainer(callbacks=[WithoutValidation(), EarlyStopping("val/loss")]).fit(Whole())


def test_where_something_is_validated_nothing_changes(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    callbacks = [WithoutValidation(), EarlyStopping("val/loss"), *checkpoints(tmp_path)]
    make_trainer(callbacks=callbacks, enable_checkpointing=True).fit(toy())
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
