"""Rows of a panel as `MediaBatch`es, gathered from the panel's own arrays, and the order in which training sees them.

Axis letters: G series, T periods, C media channels, B batch rows, L adstock taps, H periods before the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wanamaker.data.media_panel import MediaBatch, MediaPanel
from wanamaker.data.rows_dataset import RowsDataset
from wanamaker.data.sampler import EpochBatchSampler, seeded_permutation, stable_seed
from wanamaker.errors import UserError

_ROUND_TO = 16  # rows; a whole-panel batch is completed to a multiple, so that 1, 2, 4, 8 and 16 ranks share it alike
_EVAL_BATCH = 8192


class PanelDataset(RowsDataset[MediaBatch]):
    """Some rows of a panel. A batch is one gather per tensor; nothing of the panel is copied or scaled here.

    Args:
        panel: The whole panel; its arrays are shared, not copied.
        season: float32 [T, S].
        trend: float32 [T, R].
        rows: int64 [N], the rows to serve, as series * T + time.
        taps: L, the row's own period and `taps - 1` before it.
    """

    def __init__(self, panel: MediaPanel, season: np.ndarray, trend: np.ndarray, rows: np.ndarray, taps: int) -> None:
        super().__init__(rows)
        self.taps, self.periods = taps, panel.num_periods
        self.kpi, self.media, self.lead_in = (torch.from_numpy(x) for x in (panel.kpi, panel.media, panel.lead_in))
        self.lead_in_frequency = _tensor(panel.lead_in_frequency)
        self.price, self.promotion = torch.from_numpy(panel.price), torch.from_numpy(panel.promotion)
        self.control = torch.from_numpy(panel.control)
        self.season, self.trend = torch.from_numpy(season), torch.from_numpy(trend)
        self.frequency = _tensor(panel.contact_frequency)
        self.lags = torch.arange(taps)

    def batch(self, chosen: Tensor) -> MediaBatch:
        series, time = chosen // self.periods, chosen % self.periods
        media, frequency = self._history(series, time)
        return MediaBatch(
            row=chosen,
            series=series,
            time=time,
            kpi=self.kpi[series, time],
            media=media,
            frequency=frequency,
            price=self.price[series, time],
            promotion=self.promotion[series, time],
            control=self.control[series, time],
            season=self.season[time],
            trend=self.trend[time],
        )

    def _history(self, series: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Media (contacts) of each row's own period and of those before it, newest first, and their frequency."""
        then = time[:, None] - self.lags  # [B, L]; negative before the panel begins
        media = self._looked_up(self.media, self.lead_in, series, then)  # [B, L, C]
        if self.frequency is None:
            return media, media.new_ones((*then.shape, 0))
        frequency = self._looked_up(self.frequency, self.lead_in_frequency, series, then)
        # The lead-in holds contacts already, the panel itself the reach.
        media = torch.where((then >= 0)[..., None], media * frequency, media)
        return media, torch.where(media > 0, frequency, 1.0)

    @staticmethod
    def _looked_up(values: Tensor, lead_in: Tensor, series: Tensor, then: Tensor) -> Tensor:
        """Values [B, L, C] of series [B] at periods [B, L]; 0 before what is known."""
        found = values[series[:, None], then.clamp(min=0)]
        before = then < 0
        if bool(before.any()):
            found[before] = 0
            known = lead_in.shape[1]
            row, tap = torch.nonzero(before & (then >= -known), as_tuple=True)
            found[row, tap] = lead_in[series[row], known + then[row, tap]]
        return found


def _tensor(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def whole_batch(batch: Any) -> Any:
    """The collate function of data sets that hand over whole batches, such as `PanelDataset`."""
    return batch


def whole_panel_batch(count: int, world_size: int) -> int:
    """Size of one global batch of all training rows: their count, completed to a multiple of 16.

    Raises:
        UserError: it does not divide over the ranks.
    """
    size = -(-count // _ROUND_TO) * _ROUND_TO
    if size % world_size:
        raise UserError(
            f"data.batch_size=null makes one global batch of {size} rows ({count} training rows, completed to a"
            f" multiple of {_ROUND_TO}), which does not divide over {world_size} ranks; use 1, 2, 4, 8 or 16"
            f" devices, or set data.batch_size to a multiple of {world_size}."
        )
    return size


def evaluation_batch(count: int, world_size: int) -> int:
    """Size of a global evaluation batch of `count` rows: all of them, at most 8,192, so that it divides."""
    step = math.lcm(_ROUND_TO, world_size)
    return max(1, -(-min(count, _EVAL_BATCH) // step)) * step


class WholePanelBatches(Dataset):
    """Takes the keys of a whole batch; see `detection_loader.WholeBatches` for why prediction needs it."""

    def __init__(self, dataset: PanelDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, places: Sequence[int]) -> MediaBatch:
        return self.dataset.__getitems__(places)


class PanelBatchSampler(EpochBatchSampler):
    """Training batches whose epoch is several passes over the rows.

    A small panel has so few batches that the work around an epoch (validation, checkpoints, metrics) would cost more
    than the training. Every pass has its own permutation, and no batch straddles two passes: the last batch of a pass
    is completed with rows from the pass's start.

    Args:
        num_samples: Rows.
        batch_size: Global batch, divisible by the number of ranks.
        passes: Passes over the rows in one epoch.
        **options: As in `EpochBatchSampler`.
    """

    def __init__(self, num_samples: int, batch_size: int, *, passes: int = 1, **options: Any) -> None:
        self.passes = passes
        super().__init__(num_samples, batch_size, **options)

    @property
    def per_pass(self) -> int:
        """Global batches of one pass."""
        return super().__len__()

    def __len__(self) -> int:
        return self.passes * self.per_pass

    def pass_batches(self, epoch: int, number: int) -> np.ndarray:
        """Rows of every global batch of one pass, int64 [batches, batch_size]."""
        if self.shuffle:
            order = seeded_permutation(self.num_samples, stable_seed(self.seed, epoch, number))
        else:
            order = np.arange(self.num_samples)
        # np.resize repeats from the start where the last batch is short, and cuts where it is dropped.
        return np.resize(order, (self.per_pass, self.batch_size))

    def global_batches(self, epoch: int) -> list[list[int]]:
        return [rows for number in range(self.passes) for rows in self.pass_batches(epoch, number).tolist()]

    def __iter__(self) -> Iterator[list[int]]:
        # The arguments are bound now: the epoch of this iteration is fixed before the first batch is asked for.
        skip = self.start_batch if self.epoch == self.start_epoch and not self.freeze_epoch else 0
        return self._batches(self.epoch, skip)

    def share(self) -> slice:
        """Places of this rank in a global batch."""
        return slice(self.rank * self.per_rank, (self.rank + 1) * self.per_rank)

    def _batches(self, epoch: int, skip: int) -> Iterator[list[int]]:
        mine = self.share()
        # Pass by pass: the rows of all passes of a long panel need not lie in memory at once.
        for number in range(skip // self.per_pass, self.passes):
            first = skip - number * self.per_pass if skip > number * self.per_pass else 0
            for rows in self.pass_batches(epoch, number)[first:, mine]:
                yield rows.tolist()

    def fingerprint(self) -> dict[str, int]:
        return super().fingerprint() | {"passes": self.passes}
