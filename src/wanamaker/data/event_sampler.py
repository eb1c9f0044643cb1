"""Batches of positions in which sequences are of like length and positions of one sequence stay together.

Axis letters: P positions, B positions of a global batch, G customers, L slots of a pass (P completed to full batches).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from wanamaker.data.event_rows import EventRows
from wanamaker.data.panel_dataset import PanelBatchSampler
from wanamaker.data.propensity_batch import PropensityBatch
from wanamaker.data.rows_dataset import RowsDataset
from wanamaker.data.sampler import EvaluationBatchSampler, seeded_permutation, stable_seed


class EventDataset(RowsDataset[PropensityBatch]):
    """Some positions. A batch is one gather per tensor.

    Args:
        rows: of the whole log; its arrays are shared, not copied.
        places: int64 [P], which of its positions to serve.
    """

    def __init__(self, rows: EventRows, places: np.ndarray) -> None:
        super().__init__(places)
        self.rows = rows

    def batch(self, chosen: Tensor) -> PropensityBatch:
        return self.rows.batch(chosen.numpy())


def by_length(group: np.ndarray, longest: np.ndarray, size: int, bucket_batches: int, seed: int) -> np.ndarray:
    """An order in which every batch of `size` holds customers with sequences of like length, int64 [L].

    The customers of every `bucket_batches` batches are sorted by length together; those of a batch are shuffled again,
    so that the parts of ranks are alike, and so are the batches, but for the last one where it is not full.

    Args:
        group: int64 [L], customer of each slot; one who comes twice in a row is one visit.
        longest: int64 [G], events of each customer's longest sequence.
        size: of a batch.
        bucket_batches: at least 1.
        seed: of the order.
    """
    visit = np.cumsum(np.diff(group, prepend=-1) != 0) - 1
    first = np.flatnonzero(np.diff(visit, prepend=-1) != 0)
    window = first // (bucket_batches * size)
    place = np.empty(len(first), np.int64)
    place[np.lexsort((np.arange(len(first)), longest[group[first]], window))] = np.arange(len(first))
    laid = np.argsort(place[visit], kind="stable")
    batch = np.arange(len(group)) // size
    turn = seeded_permutation(len(first), seed)
    laid = laid[np.lexsort((np.arange(len(group)), turn[visit[laid]], batch))]
    full = len(group) // size
    batches = laid[: full * size].reshape(full, size)[seeded_permutation(full, stable_seed(seed, 1))]
    return np.concatenate([batches.ravel(), laid[full * size :]])


class LengthBatchSampler(PanelBatchSampler):
    """Batches of a log in memory: customers in a seeded order, each with all its positions, cut into full batches.

    `batch_size` counts positions, so that every rank scores the same number of them; of a customer who lies across a
    cut, some positions go to one batch (or rank) and some to the next, and either reads the events they need.

    With `bucket_batches` above 1 the customers of every so many batches are sorted by the number of events, so that a
    batch holds sequences of like length; within a batch the customers, and then the batches, are shuffled again. Which
    positions an epoch has does not depend on it.

    Args:
        owner: int64 [P], customer of each position; the positions of one stand together.
        seen: int64 [P], events that each position looks at.
        batch_size: B, divisible by the number of ranks.
        bucket_batches: global batches whose customers are sorted together; 1: none.
        **options: `passes`, `seed`, `rank`, `world_size`, `start_epoch`, `start_batch` and `freeze_epoch`, as in
            `PanelBatchSampler`. The last batch of a pass is completed from the pass's start.
    """

    def __init__(
        self, owner: np.ndarray, seen: np.ndarray, batch_size: int, bucket_batches: int = 1, **options: Any
    ) -> None:
        self.begins = np.flatnonzero(np.diff(owner, prepend=-1) != 0)  # [G]
        self.sizes = np.diff(np.append(self.begins, len(owner)))
        self.longest = np.maximum.reduceat(seen, self.begins) if len(owner) else np.empty(0, np.int64)
        self.bucket_batches = bucket_batches
        super().__init__(len(owner), batch_size, **options)

    def pass_batches(self, epoch: int, number: int) -> np.ndarray:
        """Positions of every global batch of one pass, int64 [batches, B]."""
        seed = stable_seed(self.seed, epoch, number)
        groups = seeded_permutation(len(self.begins), seed)
        sizes = self.sizes[groups]
        ahead = np.cumsum(sizes) - sizes
        order = np.arange(self.num_samples) + np.repeat(self.begins[groups] - ahead, sizes)
        slots = np.resize(order, self.per_pass * self.batch_size)  # [L]
        if self.bucket_batches <= 1:
            return slots.reshape(self.per_pass, self.batch_size)
        group = np.resize(np.repeat(groups, sizes), len(slots))
        laid = by_length(group, self.longest, self.batch_size, self.bucket_batches, stable_seed(seed, 1))
        return slots[laid].reshape(self.per_pass, self.batch_size)

    def fingerprint(self) -> dict[str, int]:
        return super().fingerprint() | {"bucket_batches": self.bucket_batches}


class EventEvaluationSampler(EvaluationBatchSampler):
    """Evaluation batches: every position once on one rank; a rank takes a stretch of each batch, so that positions of
    one sequence stay together."""

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.num_samples, self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            mine = np.array_split(np.arange(start, stop), self.world_size)[self.rank].tolist()
            if mine:
                yield self.keys(mine)

    def __len__(self) -> int:
        """Batches of this rank: a last batch of fewer positions than ranks leaves some without."""
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > self.rank)
