"""The smallest family that exercises the runtime: a line fitted to points, with switches that make a rank misbehave."""

import os
import signal
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

from wanamaker.data.sampler import EpochBatchSampler, resume_position
from wanamaker.errors import UserError


class ToyBatch(NamedTuple):
    """`x` and `y` are [B, 1]; `index` [B] says which rows they are."""

    x: Tensor
    y: Tensor
    index: Tensor


class ToyRows(Dataset[ToyBatch]):
    """Points on y = 2x + 1."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, key: int) -> ToyBatch:
        x = torch.tensor([key / self.num_rows])
        return ToyBatch(x, 2 * x + 1, torch.tensor(key))


class ToyDataModule(LightningDataModule):
    """Points in global batches.

    Args:
        batch_size: Global.
        num_rows: Number of points.
        num_workers: Of the loader.
        missing: Pretend that this file is missing.
    """

    def __init__(
        self, batch_size: int = 8, num_rows: int = 32, num_workers: int = 0, seed: int = 0, missing: str | None = None
    ) -> None:
        super().__init__()
        self.batch_size, self.num_rows, self.num_workers, self.seed = batch_size, num_rows, num_workers, seed
        self.missing = missing

    def preflight(self, stages: list[str]) -> None:
        if self.missing:
            raise UserError(f"data.missing: {self.missing} is not on disk.")

    def train_dataloader(self) -> DataLoader[ToyBatch]:
        trainer = self.trainer
        assert trainer is not None
        start_epoch, start_batch = resume_position(trainer)
        sampler = EpochBatchSampler(
            self.num_rows,
            self.batch_size,
            seed=self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            start_epoch=start_epoch,
            start_batch=start_batch,
        )
        return DataLoader(ToyRows(self.num_rows), batch_sampler=sampler, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[ToyBatch]:
        trainer = self.trainer
        assert trainer is not None
        rows = range(trainer.global_rank, self.num_rows, trainer.world_size)
        return DataLoader(ToyRows(self.num_rows), sampler=list(rows), batch_size=4)

    test_dataloader = val_dataloader


class ToyModule(LightningModule):
    """Linear regression.

    Args:
        net: The line.
        optimizer: From parameters to an optimiser.
        misbehave: What a rank does at a step: null, "raise", "user_error", "kill", "exit", "terminate_all", "stop".
        rank: Which rank.
        step: At which optimiser step.
        marker: A file; when it exists the module behaves, and misbehaving creates it. For tests of resuming.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Any,
        misbehave: str | None = None,
        rank: int = 0,
        step: int = 2,
        marker: str | None = None,
    ) -> None:
        super().__init__()
        self.net, self.optimizer = net, optimizer
        self.misbehave, self.rank, self.step, self.marker = misbehave, rank, step, marker
        self.val_loss = MeanMetric()

    def training_step(self, batch: ToyBatch, batch_idx: int) -> Tensor:
        if self.misbehave and self.global_step == self.step and self.global_rank == self.rank:
            self._misbehave()
        loss = nn.functional.mse_loss(self.net(batch.x), batch.y)
        self.log("train/loss", loss)
        return loss

    def _misbehave(self) -> None:
        if self.marker is not None:
            if os.path.exists(self.marker):
                return
            open(self.marker, "w").close()
        if self.misbehave == "raise":
            raise RuntimeError("the toy broke on purpose")
        if self.misbehave == "user_error":
            raise UserError("row 7 of toy.csv is negative; remove it.")
        if self.misbehave == "exit":
            os._exit(3)
        signals = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}
        os.kill(os.getpid(), signals[self.misbehave])

    def validation_step(self, batch: ToyBatch, batch_idx: int) -> None:
        self.val_loss.update(nn.functional.mse_loss(self.net(batch.x), batch.y), len(batch.x))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()

    def on_test_epoch_end(self) -> None:
        self.log("test/loss", self.val_loss.compute())
        self.val_loss.reset()

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())
