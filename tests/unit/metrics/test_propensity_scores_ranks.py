"""`PropensityScores` on two real gloo processes: equal to one process to the last bit, and no rank left waiting."""

from __future__ import annotations

import datetime
import math
import pickle
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from propensity_metric_case import ROWS, customers, fed

ALL = list(range(ROWS))


def _shards() -> dict[str, tuple[list[int], list[int]]]:
    """Name to the rows that each rank holds."""
    return {
        "uneven": (ALL[:350], ALL[350:]),
        "strided": (ALL[0::2], ALL[1::2]),
        "repeats": (ALL[:300] + ALL[:4], ALL[250:] + ALL[:9]),
        "rank 0 has none": ([], ALL),
        "no rows": ([], []),
    }


def _worker(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", f"file://{folder / 'store'}", world_size=2, rank=rank, timeout=datetime.timedelta(seconds=60)
    )
    outcome: dict[str, object] = {name: fed(shards[rank]).compute() for name, shards in _shards().items()}
    # Beyond the limit on both ranks, on one, and only together.
    for limit in (40, 200, 360):
        outcome[f"at most {limit}"] = fed(_shards()["uneven"][rank], max_rows=limit).compute()
    outcome["histogram, rank 0 has none"] = fed(_shards()["rank 0 has none"][rank], max_rows=90).compute()
    case = customers()
    try:
        fed([5], case=case._replace(label=case.label * 0 + rank)).compute()
    except ValueError as error:
        outcome["conflict"] = str(error)
    outcome["after the error"] = fed(_shards()["repeats"][rank]).compute()
    dist.destroy_process_group()
    (folder / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, (folder,), nprocs=2)
    return [pickle.loads((folder / f"rank{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.mark.parametrize("name", ["uneven", "strided", "repeats", "rank 0 has none", "after the error"])
def test_two_ranks_equal_one_to_the_last_bit(outcomes: list[dict], name: str) -> None:
    alone = fed(ALL).compute()
    assert not any(math.isnan(value) for value in alone.values())
    assert outcomes[0][name] == alone
    assert outcomes[1][name] == alone


@pytest.mark.parametrize("name", ["at most 40", "at most 200", "at most 360", "histogram, rank 0 has none"])
def test_sums_of_two_ranks_are_those_of_one(outcomes: list[dict], name: str) -> None:
    alone = fed(ALL, max_rows=90).compute()
    assert outcomes[0][name] == outcomes[1][name]
    assert outcomes[0][name] == pytest.approx(alone, rel=1e-9, abs=1e-12)


def test_no_rows_and_mistakes_on_both_ranks(outcomes: list[dict]) -> None:
    for outcome in outcomes:
        assert all(math.isnan(value) for value in outcome["no rows"].values())
        assert "row 5 came with label" in outcome["conflict"]
