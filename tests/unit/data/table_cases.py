"""What tests of data modules over one table share: modules on small tables, what they refuse, ranks, and a trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.unit.data.experiment_files import as_rank, joined, rows_of

from wanamaker.data.experiment_split import TRAIN
from wanamaker.errors import UserError


class TableCase:
    """One kind of data module.

    Args:
        module: (folder, frame, **options) -> module on a file of the frame.
        frame: (rows, seed) -> frame.
    """

    def __init__(self, module: Callable[..., Any], frame: Callable[..., pd.DataFrame]) -> None:
        self.module, self.frame = module, frame

    def ready(self, folder: Path, frame: pd.DataFrame | None = None, stage: str = "fit", **options: Any) -> Any:
        """A module after `setup`."""
        data = self.module(folder, frame, **options)
        data.setup(stage)
        return data

    def refused(self, folder: Path, frame: pd.DataFrame | None = None, stage: str = "fit", **options: Any) -> str:
        """What `setup` says of a mistake, in one line, without the folder."""
        return _said(folder, lambda: self.ready(folder, frame, stage, **options))

    def changed(self, **columns: Any) -> pd.DataFrame:
        """The frame with other columns: values, or functions of what is there."""
        frame = self.frame()
        for name, change in columns.items():
            frame[name] = change(frame[name]) if callable(change) else change
        return frame

    def with_cell(self, column: str, row: int, value: object) -> pd.DataFrame:
        """The frame with another value in one place."""
        frame = self.frame().astype({column: object})
        frame.loc[row, column] = value
        return frame

    def adopted(self, folder: Path, frame: pd.DataFrame, stage: str = "predict", **options: Any) -> Any:
        """A module on a frame that a model is to read which was trained on the frame of this case."""
        schema = self.ready(folder, name="training.csv").schema
        data = self.ready(folder, frame, stage, **options)
        data.adopt(type(schema).from_dict(schema.to_dict()))
        return data

    def not_adopted(self, folder: Path, frame: pd.DataFrame) -> str:
        """What is said of a frame that the model cannot read, in one line, without the folder."""
        return _said(folder, lambda: self.adopted(folder, frame))

    def check_own_schema(self, folder: Path) -> None:
        """Adopting its own schema changes nothing."""
        data = self.ready(folder)
        before = rows_of(data.test_dataloader())
        data.adopt(type(data.schema).from_dict(data.schema.to_dict()))
        assert rows_of(data.test_dataloader()) == before
        other = self.ready(folder, stage="test")  # a new process, the same file
        other.adopt(data.schema)
        assert rows_of(other.test_dataloader()) == before


def _said(folder: Path, doing: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as error:
        doing()
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder}/", "")


def batches_of_ranks(data: Any, batches: int, passes: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Training batches of one rank, and of each of two, which see the same ones.

    Args:
        data: after `setup`.
        batches: of a pass.
        passes: of an epoch.
    """
    whole = rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=1)
    halves = [rows_of(as_rank(data, rank, 2).train_dataloader(), epoch=1) for rank in (0, 1)]
    assert [set(a + b) for a, b in zip(*halves, strict=True)] == [set(batch) for batch in whole]
    assert len(whole) == batches * passes
    assert set(joined(whole[:batches])) == set(np.flatnonzero(data.codes == TRAIN))
    return whole, halves


def check_evaluated_once(data: Any, loader: str, code: int) -> None:
    """Two ranks together evaluate each row of a split once."""
    evaluated = [rows_of(getattr(as_rank(data, rank, 2), loader)()) for rank in (0, 1)]
    assert sorted(joined(evaluated[0] + evaluated[1])) == np.flatnonzero(data.codes == code).tolist()


class Nothing(L.LightningModule):
    """Learns nothing, and remembers which rows it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.row.tolist()))
        return self.layer(batch.numeric.nan_to_num()).pow(2).mean() * 1e-6

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/rows", float(len(batch.row)), reduce_fx="sum", batch_size=1)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/rows", float(len(batch.row)), reduce_fx="sum", batch_size=1)

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return batch.row

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-9)


def run_through(data: Any, folder: Path, train: int, test: int) -> None:
    """Train, stop in the middle of an epoch, resume; test and predict."""
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    options |= {"enable_model_summary": False, "use_distributed_sampler": False, "max_epochs": 2}
    straight = Nothing()
    L.Trainer(**options, enable_checkpointing=False).fit(straight, data)
    assert {epoch for epoch, _ in straight.seen} == {0, 1}
    saver = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer = L.Trainer(**options, callbacks=[saver])
    first = Nothing()
    trainer.fit(first, data)
    assert first.seen == straight.seen
    assert trainer.callback_metrics["val/rows"] == train
    resumed = Nothing()
    L.Trainer(**options, enable_checkpointing=False).fit(resumed, data, ckpt_path=str(folder / "step=3.ckpt"))
    assert resumed.seen == straight.seen[3:]
    (scores,) = trainer.test(first, data, verbose=False)
    assert scores["test/rows"] == test
    assert torch.cat(trainer.predict(first, data)).tolist() == list(range(data.num_rows))
