"""Training batches in which every rank meets every arm in proportion.

Axis letters: N rows, K arms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wanamaker.data.panel_dataset import PanelBatchSampler
from wanamaker.data.sampler import stable_seed


def interleaved(arm: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of the rows in which the arms take turns, int64 [N].

    The i-th of an arm's n rows (in random order) gets a random place in [i/n, (i+1)/n), and all rows are sorted by
    place: any stretch of the result holds an arm in proportion, up to two rows. With a permutation that ignores the
    arms, a rank's part of a batch could lack one whose share is small.

    Args:
        arm: int [N].
        seed: of the order.
    """
    # The raw stream, which NumPy promises to keep: see `sampler.seeded_permutation`.
    raw = np.random.Philox(key=seed).random_raw(2 * len(arm))
    shuffled = np.argsort(raw[: len(arm)], kind="stable")
    jitter = raw[len(arm) :] / np.float64(2**64)
    place = np.empty(len(arm))
    for k in np.unique(arm):
        rows = shuffled[arm[shuffled] == k]
        place[rows] = (np.arange(len(rows)) + jitter[rows]) / len(rows)
    return np.argsort(place, kind="stable")


class ArmBatchSampler(PanelBatchSampler):
    """Batches of a table in memory: every pass is an interleaved permutation by (seed, epoch, pass), cut into batches.

    Args:
        arm: int [N], of each training row.
        batch_size: Global batch, divisible by the number of ranks.
        **options: `passes`, `seed`, `rank`, `world_size`, `start_epoch`, `start_batch` and `freeze_epoch`, as in
            `PanelBatchSampler`. The last batch of a pass is completed from the pass's start.
    """

    def __init__(self, arm: np.ndarray, batch_size: int, **options: Any) -> None:
        self.arm = arm
        super().__init__(len(arm), batch_size, **options)

    def pass_batches(self, epoch: int, number: int) -> np.ndarray:
        """Rows of every global batch of one pass, int64 [batches, batch_size]."""
        order = interleaved(self.arm, stable_seed(self.seed, epoch, number))
        return np.resize(order, (self.per_pass, self.batch_size))
