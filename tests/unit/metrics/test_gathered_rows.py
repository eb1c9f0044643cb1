"""Rows of all ranks as one table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wanamaker.metrics import gathered_rows
from wanamaker.metrics.gathered_rows import with_all_rows


def part(*rows: int) -> dict[str, np.ndarray]:
    row = np.array(rows, np.int64)
    return {"row": row, "score": np.stack([row, -row], axis=1).astype(np.float32)}


@pytest.mark.parametrize(
    "ranks",
    [
        [[part(0, 1, 2, 3, 4)]],
        [[part(4, 2), part(0)], [part(1, 3)]],
        [[part(3, 4, 0)], [], [part(2), part(1, 0)]],  # a row that was padded, a rank without one
    ],
)
def test_rows_come_in_order_and_once(monkeypatch: pytest.MonkeyPatch, ranks: list[list[dict]]) -> None:
    def gathered(parts: Any, function: Callable[[list], Any]) -> Any:
        assert parts is ranks[0]
        return function(ranks)

    monkeypatch.setattr(gathered_rows, "on_rank_zero", gathered)
    found = with_all_rows(ranks[0], dict)
    assert found["row"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(found["score"], torch.stack([found["row"], -found["row"]], dim=1).float())
