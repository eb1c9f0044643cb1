"""Held-out rows of an epoch, kept until the calibration is known, and a sample of them gathered from all ranks.

Axis letters: N rows that this rank holds, n rows of the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wanamaker.metrics.gathered_rows import with_all_rows
from wanamaker.nn.row_hash import stream, uniform

_SAMPLE = 77


class HeldOutRows:
    """Keeps columns of the rows that this rank judged.

    Args:
        limit: rows that are gathered at most, about; chosen by a hash of the row number, whatever the ranks.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[dict[str, Tensor]] = []

    def add(self, **columns: Tensor) -> None:
        """Add rows; columns, among them ``row``, are [B, ...]."""
        self._parts.append({name: value.detach() for name, value in columns.items()})

    def clear(self) -> None:
        """Forget all rows."""
        self._parts = []

    def here(self) -> dict[str, Tensor]:
        """The columns of this rank's rows, [N, ...]; none where it has no row."""
        if not self._parts:
            return {}
        joined = {name: torch.cat([part[name] for part in self._parts]) for name in self._parts[0]}
        self._parts = [joined]
        return joined

    def together(self, num_rows: int, function: Callable[[dict[str, Tensor]], Any]) -> Any:
        """``function`` of the sample, on the CPU, ordered by row number, each once; its result on every rank.

        A collective.

        Args:
            num_rows: of the data, all ranks together.
        """
        own = self.here()
        if own and num_rows > self.limit:
            keep = uniform(stream(own["row"], _SAMPLE)) < self.limit / num_rows
            own = {name: value[keep] for name, value in own.items()}
        part = {name: value.cpu().numpy() for name, value in own.items()}
        return with_all_rows([part] if part else [], function)
