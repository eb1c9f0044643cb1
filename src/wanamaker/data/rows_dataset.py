"""Data sets whose batches are one gather per tensor.

Axis letters: N rows, B batch rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch = TypeVar("Batch")


class RowsDataset(Dataset, ABC, Generic[Batch]):
    """Some rows of what lies in memory.

    Args:
        places: int64 [N], which of the rows to serve.
    """

    def __init__(self, places: np.ndarray) -> None:
        self.places = torch.from_numpy(places)

    @abstractmethod
    def batch(self, chosen: Tensor) -> Batch:
        """The rows at some places, int64 [B], of what lies in memory."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> Batch:
        """One row, as a batch of one."""
        return self.__getitems__([place])

    def __getitems__(self, places: Sequence[int]) -> Batch:
        """Several rows at once; `DataLoader` calls this with all keys of a batch.

        Args:
            places: [B], numbers in 0..N-1.
        """
        return self.batch(self.places[torch.as_tensor(places, dtype=torch.int64)])
