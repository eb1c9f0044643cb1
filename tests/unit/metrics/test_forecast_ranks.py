"""`ForecastMetrics` on two real gloo processes: equal to one process to the last bit, and no rank left waiting."""

from __future__ import annotations

import datetime
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from wanamaker.metrics.forecast import ForecastMetrics

SERIES, PERIODS = 3, 17
ROWS = list(range(SERIES * PERIODS))


def _shards() -> dict[str, tuple[list[int], list[int]]]:
    """Name to the rows that each rank holds."""
    return {
        "uneven": (ROWS[:40], ROWS[40:]),
        "strided": (ROWS[0::2], ROWS[1::2]),
        "repeats": (ROWS[:30] + ROWS[:4], ROWS[25:] + ROWS[:9]),
        "rank 1 has none": (ROWS, []),
        "rank 0 has none": ([], ROWS),
        "no rows": ([], []),
    }


def _fed(rows: list[int], *, scale: bool = True) -> ForecastMetrics:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(len(ROWS), generator=generator) * 100
    prediction = target + torch.randn(len(ROWS), generator=generator)
    target[5] = float("nan")
    metric = ForecastMetrics()
    if scale:
        metric.set_naive_scale(np.array([1.0, 2.0, 3.0]))
    for batch in torch.tensor(rows, dtype=torch.int64).split(7):
        metric.update(prediction[batch], target[batch], batch, batch // PERIODS, batch % PERIODS)
    return metric


def _worker(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", f"file://{folder / 'store'}", world_size=2, rank=rank, timeout=datetime.timedelta(seconds=60)
    )
    outcome: dict[str, object] = {name: _fed(shards[rank]).compute() for name, shards in _shards().items()}
    metric = _fed(_shards()["uneven"][rank])
    metric.compute()
    outcome["again"] = metric.compute()
    # Only rank 1 knows the scale, as where only it has met the data.
    outcome["scale on one rank"] = _fed(_shards()["strided"][rank], scale=rank == 1).compute()
    conflict = ForecastMetrics()
    one = torch.zeros(1, dtype=torch.int64)
    conflict.update(torch.ones(1), torch.ones(1) + rank, one, one, one)
    try:
        conflict.compute()
    except ValueError as error:
        outcome["conflict"] = str(error)
    outcome["after the error"] = _fed(_shards()["repeats"][rank]).compute()
    dist.destroy_process_group()
    (folder / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, (folder,), nprocs=2)
    return [pickle.loads((folder / f"rank{rank}.pickle").read_bytes()) for rank in range(2)]


LIKE_ONE = ["uneven", "strided", "repeats", "rank 1 has none", "rank 0 has none", "again"]
LIKE_ONE += ["scale on one rank", "after the error"]


@pytest.mark.parametrize("name", LIKE_ONE)
def test_two_ranks_equal_one_to_the_last_bit(outcomes: list[dict], name: str) -> None:
    alone = _fed(ROWS).compute()
    assert not any(math.isnan(value) for value in alone.values())
    assert outcomes[0][name] == alone
    assert outcomes[1][name] == alone


def test_no_rows_on_any_rank(outcomes: list[dict]) -> None:
    for outcome in outcomes:
        assert all(math.isnan(value) for value in outcome["no rows"].values())


def test_a_mistake_is_raised_on_both_ranks(outcomes: list[dict]) -> None:
    for outcome in outcomes:
        assert "row 0 came with the targets [1.0, 2.0]" in outcome["conflict"]
