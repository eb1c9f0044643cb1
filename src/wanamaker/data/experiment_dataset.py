"""Rows of an experiment that lie in memory, as `UpliftBatch`es.

Axis letters: N rows, B batch rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from wanamaker.data.experiment_table import ExperimentRows
from wanamaker.data.uplift_batch import UpliftBatch


def to_batch(rows: ExperimentRows) -> UpliftBatch:
    """Arrays as tensors."""
    tensors = UpliftBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in rows))
    return tensors._replace(categorical=tensors.categorical.long())


class ExperimentDataset(Dataset):
    """Some rows of the table. A batch is one gather per tensor.

    Args:
        rows: the whole table; its arrays are shared, not copied.
        places: int64 [N], which of the rows to serve.
    """

    def __init__(self, rows: ExperimentRows, places: np.ndarray) -> None:
        self.rows = UpliftBatch(*(torch.from_numpy(array) for array in rows))
        self.places = torch.from_numpy(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> UpliftBatch:
        """One row, as a batch of one."""
        return self.__getitems__([place])

    def __getitems__(self, places: Sequence[int]) -> UpliftBatch:
        """Several rows at once; `DataLoader` calls this with all keys of a batch.

        Args:
            places: [B], numbers in 0..N-1.
        """
        chosen = self.places[torch.as_tensor(places)]
        batch = UpliftBatch(*(tensor[chosen] for tensor in self.rows))
        return batch._replace(categorical=batch.categorical.long())
