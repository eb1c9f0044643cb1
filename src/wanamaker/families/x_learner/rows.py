"""A sample of validation rows, gathered from all ranks: what limits, scales and calibration are computed from.

Axis letters: n rows of the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from wanamaker.metrics.gathered_rows import with_all_rows
from wanamaker.nn.row_hash import stream, uniform

_SAMPLE = 77


class RowSample:
    """Keeps at most about ``limit`` rows, chosen by a hash of the row number: the same on one rank and on many.

    Args:
        limit: rows.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, num_rows: int, row: Tensor, **columns: Tensor) -> None:
        """Add rows of a table of ``num_rows``; columns are [B, ...]."""
        values = {"row": row, **columns}
        if num_rows > self.limit:
            keep = uniform(stream(row, _SAMPLE)) < self.limit / num_rows
            values = {name: value[keep] for name, value in values.items()}
        self._parts.append({name: value.detach().cpu().numpy() for name, value in values.items()})

    def clear(self) -> None:
        """Forget all rows."""
        self._parts = []

    def together(self, function: Callable[[dict[str, Tensor]], Any]) -> Any:
        """``function`` of the rows of all ranks, ordered by row number; its result on every rank. A collective."""
        return with_all_rows(self._parts, function)
