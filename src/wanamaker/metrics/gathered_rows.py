"""Rows of all ranks as one table.

Axis letters: n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wanamaker.metrics.rank_zero import on_rank_zero


def with_all_rows(parts: Sequence[Mapping[str, np.ndarray]], function: Callable[[dict[str, Tensor]], Any]) -> Any:
    """``function`` of the rows of all ranks, on the CPU, ordered by row number, each once; its result on every rank.

    A collective, see `on_rank_zero`.

    Args:
        parts: columns of this rank's rows, [n, ...] each, among them ``row``; a rank may have none.
        function: called on rank 0 only, with tensors.
    """

    def joined(of_ranks: list[Sequence[Mapping[str, np.ndarray]]]) -> Any:
        flat = [part for of_rank in of_ranks for part in of_rank]
        columns = {name: np.concatenate([part[name] for part in flat]) for name in flat[0]}
        _, first = np.unique(columns["row"], return_index=True)
        return function({name: torch.from_numpy(value[first]) for name, value in columns.items()})

    return on_rank_zero(parts, joined)
