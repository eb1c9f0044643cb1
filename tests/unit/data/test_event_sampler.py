"""Batches of positions: the same on one and two ranks, all positions once, of like length, resumed exactly."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.data.event_example import event_frame, event_module, written

from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_sampler import EventEvaluationSampler, LengthBatchSampler


@pytest.fixture(scope="module")
def shape() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 300)
    owner = np.repeat(np.arange(300), sizes)
    return owner, rng.geometric(0.1, 300)[owner] + np.arange(len(owner)) % 3


def test_two_ranks_see_the_batches_of_one(shape: tuple[np.ndarray, np.ndarray]) -> None:
    one = list(LengthBatchSampler(*shape, 32, 4, seed=1, passes=2))
    two = [list(LengthBatchSampler(*shape, 32, 4, seed=1, passes=2, rank=r, world_size=2)) for r in (0, 1)]
    assert len(one) == len(two[0]) == len(two[1])
    for whole, first, second in zip(one, *two, strict=True):
        assert whole == first + second
        assert len(first) == len(second)


def test_an_epoch_is_the_same_set_with_and_without_buckets(shape: tuple[np.ndarray, np.ndarray]) -> None:
    owner, seen = shape
    for epoch in (0, 3):
        plain, bucketed = (LengthBatchSampler(owner, seen, 32, n, seed=1) for n in (1, 10))
        a, b = (np.concatenate(s.global_batches(epoch)) for s in (plain, bucketed))
        np.testing.assert_array_equal(np.sort(a), np.sort(b))
        assert set(a) == set(range(len(owner)))
        assert len(a) - len(owner) < 32

    def spread(sampler: LengthBatchSampler) -> float:
        return float(np.mean([np.std(seen[rows]) for rows in sampler.global_batches(0)]))

    assert spread(bucketed) < 0.5 * spread(plain)
    # Positions of a customer stand together but at the cuts.
    parts = sum(len(np.unique(owner[rows])) for rows in bucketed.global_batches(0))
    assert parts <= 300 + 2 * len(bucketed)


def test_a_resumed_epoch_goes_on(shape: tuple[np.ndarray, np.ndarray]) -> None:
    whole = list(LengthBatchSampler(*shape, 32, 4, seed=1))
    assert list(LengthBatchSampler(*shape, 32, 4, seed=1, start_batch=5)) == whole[5:]


@pytest.mark.parametrize("count", [64, 65, 67, 3])
def test_evaluation_counts_every_position_once(count: int) -> None:
    ranks = [EventEvaluationSampler(count, 32, rank=r, world_size=4) for r in range(4)]
    batches = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(found) for found in batches]
    assert sorted(row for found in batches for rows in found for row in rows) == list(range(count))


def test_epochs_of_the_data_module(tmp_path: Path) -> None:
    path = written(event_frame(), tmp_path)

    def batches(**options: object) -> list[np.ndarray]:
        module: EventLogDataModule = event_module(path, as_of=["2024-02-15", "2024-03-15"], **options)
        loader = module.train_dataloader()
        loader.sampler.set_epoch(2) if hasattr(loader.sampler, "set_epoch") else loader.batch_sampler.set_epoch(2)
        return [batch.row.numpy() for batch in loader]

    plain, bucketed = batches(bucket_batches=1), batches(bucket_batches=50)
    np.testing.assert_array_equal(np.sort(np.concatenate(plain)), np.sort(np.concatenate(bucketed)))
    assert {len(rows) for rows in bucketed} == {8}
    for one, other in zip(bucketed, batches(num_workers=1), strict=True):
        np.testing.assert_array_equal(one, other)
