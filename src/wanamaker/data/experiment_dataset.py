"""Rows of an experiment that lie in memory, as `UpliftBatch`es.

Axis letters: N rows, B batch rows.
"""

from __future__ import annotations

import numpy as np
import torch

from wanamaker.data.experiment_table import ExperimentRows
from wanamaker.data.rows_dataset import RowsDataset
from wanamaker.data.uplift_batch import UpliftBatch


def to_batch(rows: ExperimentRows) -> UpliftBatch:
    """Arrays as tensors."""
    tensors = UpliftBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in rows))
    return tensors._replace(categorical=tensors.categorical.long())


class ExperimentDataset(RowsDataset[UpliftBatch]):
    """Some rows of the table. A batch is one gather per tensor.

    Args:
        rows: the whole table; its arrays are shared, not copied.
        places: int64 [N], which of the rows to serve.
    """

    def __init__(self, rows: ExperimentRows, places: np.ndarray) -> None:
        self.rows = UpliftBatch(*(torch.from_numpy(array) for array in rows))
        super().__init__(places)

    def batch(self, chosen: torch.Tensor) -> UpliftBatch:
        batch = UpliftBatch(*(tensor[chosen] for tensor in self.rows))
        return batch._replace(categorical=batch.categorical.long())
