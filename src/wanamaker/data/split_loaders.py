"""Loaders of data whose rows each belong to a split, held in memory or streamed: the same for every such module.

Axis letters: N rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader

from wanamaker.data.experiment_split import TEST, TRAIN, VAL
from wanamaker.data.panel_dataset import WholePanelBatches, whole_batch
from wanamaker.data.sampler import EpochDataLoader, EvaluationBatchSampler, training_order
from wanamaker.errors import UserError


class SplitLoaders(L.LightningDataModule, ABC):
    """What data modules share once rows have numbers and splits.

    A subclass has ``codes`` (uint8 [N], index into `experiment_split.SPLITS`), ``streamed``, the options named below,
    and says how rows become data sets, samplers and streams.

    Attributes:
        counted: what rows are called in messages.
        evaluation_sampler: of batches of row numbers, (count, batch size, rank=, world_size=).
    """

    counted = "rows"
    evaluation_sampler: type[EvaluationBatchSampler] = EvaluationBatchSampler

    codes: np.ndarray
    streamed: bool
    eval_batch_size: int
    passes_per_epoch: int
    num_workers: int
    pin_memory: bool
    seed: int

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
