"""Loaders of data whose rows each belong to a split, held in memory or streamed: the same for every such module.

Axis letters: N rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from wanamaker.data.experiment_split import TEST, TRAIN, VAL
from wanamaker.data.panel_dataset import WholePanelBatches, whole_batch
from wanamaker.data.sampler import EpochDataLoader, EvaluationBatchSampler, per_rank_batch_size, training_order
from wanamaker.errors import UserError


class SplitLoaders(L.LightningDataModule, ABC):
    """What data modules share once rows have numbers and splits.

    A subclass has ``codes`` (uint8 [N], index into `experiment_split.SPLITS`) and ``streamed``, and says how rows
    become data sets, samplers and streams.

    Args:
        counts: further whole numbers of the recipe, name -> (value, least allowed).
        batch_size: Global training batch.
        eval_batch_size: Global evaluation batch.
        passes_per_epoch: Passes over the training rows in one epoch, each in its own order.
        num_workers: Loader processes per rank.
        pin_memory: Page-locked batches; None: when there is a CUDA device.
        seed: Seeds the order of the rows.

    Attributes:
        counted: what rows are called in messages.
        evaluation_sampler: of batches of row numbers, (count, batch size, rank=, world_size=).
    """

    counted = "rows"
    evaluation_sampler: type[EvaluationBatchSampler] = EvaluationBatchSampler

    codes: np.ndarray
    streamed: bool

    def __init__(
        self,
        *,
        counts: Mapping[str, tuple[Any, int]],
        batch_size: int,
        eval_batch_size: int,
        passes_per_epoch: int,
        num_workers: int,
        pin_memory: bool | None,
        seed: int,
    ) -> None:
        super().__init__()
        # A rank without evaluation rows is allowed (metrics are computed once per epoch, not per batch).
        self.allow_zero_length_dataloader_with_multiple_devices = True
        counts = {**counts, "passes_per_epoch": (passes_per_epoch, 1), "num_workers": (num_workers, 0)}
        for name, (value, least) in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"data.{name}={value!r}; give a whole number, {least} or more.")
        per_rank_batch_size(batch_size, 1), per_rank_batch_size(eval_batch_size, 1, "eval_batch_size")
        self.batch_size, self.eval_batch_size, self.passes_per_epoch = batch_size, eval_batch_size, passes_per_epoch
        self.num_workers, self.seed = num_workers, seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.codes)

    @property
    def num_train_rows(self) -> int:
        """Rows to train on."""
        return int((self.codes == TRAIN).sum())

    def split_of(self, row: np.ndarray) -> np.ndarray:
        """Index into `experiment_split.SPLITS` (as `SPLITS` of the predictions) of some rows, int64 [n]."""
        return self.codes[np.asarray(row)].astype(np.int64)

    # -- what a subclass says ------------------------------------------------------------------------------------------

    @abstractmethod
    def _dataset(self, places: np.ndarray) -> Any:
        """The rows at `places`, in memory."""

    @abstractmethod
    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> Any:
        """Global batches of `places`; `order` as `training_order` gives it."""

    @abstractmethod
    def _training_stream(self, chosen: np.ndarray, order: dict[str, Any]) -> Any:
        """The chosen rows, bool [N], of data that are streamed."""

    @abstractmethod
    def _evaluation_stream(self, chosen: np.ndarray, **options: Any) -> Any:
        """The chosen rows, bool [N], once and in order."""

    # -- loaders -------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Any:
        rank, world_size = self._rank()
        order = training_order(self.trainer, rank, world_size, passes=self.passes_per_epoch, seed=self.seed)
        chosen = self.codes == TRAIN
        if self.streamed:
            return self._training_stream(chosen, order)
        places = np.flatnonzero(chosen)
        return EpochDataLoader(
            self._dataset(places),
            batch_sampler=self._training_sampler(places, order),
            collate_fn=whole_batch,
            persistent_workers=self.num_workers > 0,
            **self._loader_options(),
        )

    def val_dataloader(self) -> Any:
        code = VAL if (self.codes == VAL).any() else TRAIN
        count, ranks = int((self.codes == code).sum()), self._rank()[1]
        if count < ranks:
            # DDP synchronises buffers in the first forward pass after training: a rank without one blocks the rest.
            raise UserError(
                f"The val split has {count} {self.counted} for {ranks} ranks; raise data.split.val, or use fewer"
                " devices."
            )
        return self._evaluation_loader(self.codes == code)

    def test_dataloader(self) -> Any:
        return self._evaluation_loader(self.codes == TEST)

    def predict_dataloader(self) -> Any:
        """Every row in order, also those without labels."""
        if self.streamed:
            return self._evaluation_loader(np.ones(self.num_rows, bool))
        dataset = self._dataset(np.arange(self.num_rows))
        sampler = self._evaluation_sampler(self.num_rows)
        return DataLoader(WholePanelBatches(dataset), sampler=sampler, batch_size=None, **self._loader_options())

    def _evaluation_loader(self, chosen: np.ndarray) -> Any:
        if self.streamed:
            rank, world_size = self._rank()
            return self._evaluation_stream(chosen, rank=rank, world_size=world_size, **self._loader_options())
        places = np.flatnonzero(chosen)
        return DataLoader(
            self._dataset(places),
            batch_sampler=self._evaluation_sampler(len(places)),
            collate_fn=whole_batch,
            **self._loader_options(),
        )

    def _evaluation_sampler(self, count: int) -> EvaluationBatchSampler:
        rank, world_size = self._rank()
        return self.evaluation_sampler(count, self.eval_batch_size, rank=rank, world_size=world_size)

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader_options(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "pin_memory": self.pin_memory}
