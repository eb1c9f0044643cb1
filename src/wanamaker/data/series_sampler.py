"""Training batches of whole series: the model holds the panel, and a batch only says which of its series to look at.

Axis letters: B series of a batch, G series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from wanamaker.data.media_panel import SeriesBatch
from wanamaker.data.panel_dataset import PanelBatchSampler
from wanamaker.errors import UserError


class SeriesDataset(Dataset):
    """Numbers of series as `SeriesBatch`es, 0..G-1; a batch may be empty.

    Args:
        num_series: G.
    """

    def __init__(self, num_series: int) -> None:
        self.num_series = num_series

    def __len__(self) -> int:
        return self.num_series

    def __getitem__(self, series: int) -> SeriesBatch:
        """One series, as a batch of one."""
        return self.__getitems__([series])

    def __getitems__(self, series: Sequence[int]) -> SeriesBatch:
        """Several series at once; `DataLoader` calls this with all keys of a batch.

        Args:
            series: [B], B may be 0.
        """
        return SeriesBatch(torch.tensor(list(series), dtype=torch.int64))


class SeriesBatchSampler(PanelBatchSampler):
    """Batches of series: every pass is a permutation by (seed, epoch, pass), cut into full batches.

    The series that do not fill a last batch are left out of that pass. Each pass draws anew who they are, so that a
    sum over a batch, times G over the batch size, is an unbiased estimate of the sum over all series.

    A rank takes every `world_size`-th series of a global batch, so that all ranks take the same number of steps; with
    fewer series in a batch than there are ranks, the share of the last ranks is empty.

    Args:
        num_series: G.
        batch_size: Series of a global batch, at most G; None is G. It need not divide over the ranks.
        rank: This process.
        world_size: Number of processes.
        **options: `passes`, `seed`, `start_epoch`, `start_batch` and `freeze_epoch`, as in `PanelBatchSampler`.

    Raises:
        UserError: a batch of more series than there are.
    """

    def __init__(
        self, num_series: int, batch_size: int | None = None, *, rank: int = 0, world_size: int = 1, **options: Any
    ) -> None:
        size = num_series if batch_size is None else batch_size
        if size > num_series:
            raise UserError(
                f"data.batch_size={size} with data.batch_unit=series, but the panel has {num_series} series: give"
                f" {num_series} or fewer, or null for all of them."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1}.")
        super().__init__(num_series, size, drop_last=True, **options)  # as one rank: shares may be unequal
        self.rank, self.world_size = rank, world_size

    def share(self) -> slice:
        return slice(self.rank, None, self.world_size)
