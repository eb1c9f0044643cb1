"""`CocoMetrics` on two real gloo processes: equal to one process, every image once, and no rank left waiting."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from coco_cases import Case, random_case

from wanamaker.metrics import rank_zero
from wanamaker.metrics.coco import CocoMetrics

NUM_CLASSES = 4


def _shards() -> dict[str, tuple[list[int], list[int]]]:
    """Name to the rows of `random_case(50)` that each rank holds."""
    rows = list(range(25))
    return {
        "uneven": (rows[:19], rows[19:]),
        "strided": (rows[0::2], rows[1::2]),
        "repeats": (rows[:13] + rows[:2], rows[11:] + rows[:5]),
        "rank 1 has none": (rows, []),
        "rank 0 has none": ([], rows),
        "no images": ([], []),
    }


def _case() -> Case:
    return random_case(50, num_images=25, num_classes=NUM_CLASSES)


def _fed(case: Case) -> CocoMetrics:
    return case.feed(CocoMetrics(NUM_CLASSES))


def _worker(rank: int, folder: Path) -> None:
    """Everything two ranks can do, in one pair of processes (starting them is what takes the time)."""
    timeout = datetime.timedelta(seconds=60)
    outcome: dict[str, object] = {}

    def join(name: str) -> None:
        dist.init_process_group("gloo", f"file://{folder / name}", world_size=2, rank=rank, timeout=timeout)

    join("first")
    case = _case()
    for name, shards in _shards().items():
        outcome[name] = _fed(case.select(shards[rank])).compute()

    metric = _fed(case.select(_shards()["uneven"][rank]))
    metric.compute()
    if rank == 0:  # compute again where only one rank has news: no rank may return early from a cache
        metric.update(case.detections[:1], case.ground_truth[:1], case.image_ids[:1])
    outcome["again"] = metric.compute()
    outcome["curves"] = metric.precision_recall_curves()
    records = metric.evaluated_records()
    outcome["evaluated"] = None if records is None else records.image_ids

    def error_of(function) -> str:
        try:
            function()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    shared_id = case.select([rank])
    shared_id.image_ids = [7]
    outcome["shared id"] = error_of(_fed(shared_id).compute)

    def broken(parts: list[int]) -> None:
        raise KeyError(f"lost {sum(parts)}")

    outcome["broken"] = error_of(lambda: rank_zero.on_rank_zero(rank + 1, broken))
    outcome["after errors"] = _fed(case.select(_shards()["uneven"][rank])).compute()
    assert rank_zero.gloo_group() is None

    # As beside NCCL: the default group is said not to carry CPU memory, so a gloo group is made, once.
    rank_zero.default_group_is_gloo = lambda: False
    outcome["own group"] = _fed(case.select(_shards()["uneven"][rank])).compute()
    group = rank_zero.gloo_group()
    outcome["own group, shared id"] = error_of(_fed(shared_id).compute)
    assert group is not None
    assert rank_zero.gloo_group() is group
    dist.destroy_process_group()
    join("second")  # a second fit in the same processes: the group of the first is gone
    outcome["second fit"] = _fed(case.select(_shards()["repeats"][rank])).compute()
    assert rank_zero.gloo_group() is not group
    dist.destroy_process_group()
    outcome["alone"] = _fed(case).compute()
    (folder / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, (folder,), nprocs=2)
    return [pickle.loads((folder / f"rank{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict:
    return _case().ours()


LIKE_ONE = ["uneven", "strided", "repeats", "rank 1 has none", "rank 0 has none"]
LIKE_ONE += ["again", "after errors", "own group", "second fit", "alone"]


@pytest.mark.parametrize("name", LIKE_ONE)
def test_two_ranks_equal_one(outcomes: list[dict], alone: dict, name: str) -> None:
    for outcome in outcomes:
        np.testing.assert_equal(outcome[name], alone)


def test_no_images_on_any_rank(outcomes: list[dict]) -> None:
    for outcome in outcomes:
        assert np.isnan(outcome["no images"]["ap"])
        assert np.isnan(outcome["no images"]["ap_class"]).all()


def test_every_rank_has_the_curves_and_rank_0_the_records(outcomes: list[dict]) -> None:
    np.testing.assert_equal(outcomes[0]["curves"], outcomes[1]["curves"])
    assert outcomes[0]["evaluated"].tolist() == sorted(_case().image_ids)
    assert outcomes[1]["evaluated"] is None


@pytest.mark.parametrize("name", ["shared id", "own group, shared id"])
def test_a_mistake_found_on_rank_0_is_raised_on_both(outcomes: list[dict], name: str) -> None:
    message = "Image id 7 was evaluated twice with different ground truth"
    assert outcomes[0][name].startswith(f"ValueError: {message}")
    assert outcomes[1][name].startswith(f"ValueError: On rank 0: ValueError: {message}")


def test_a_failure_on_rank_0_is_raised_on_both(outcomes: list[dict]) -> None:
    assert outcomes[0]["broken"] == "KeyError: 'lost 3'"
    assert outcomes[1]["broken"] == "RuntimeError: On rank 0: KeyError: 'lost 3'"
