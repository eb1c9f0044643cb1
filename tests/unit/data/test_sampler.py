"""Batches as a pure function of (seed, epoch, rank, world size, start batch)."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from wanamaker.data.sampler import (
    EpochBatchSampler,
    EvaluationBatchSampler,
    per_rank_batch_size,
    resume_position,
    seeded_permutation,
    stable_seed,
)
from wanamaker.errors import UserError


def flat(batches) -> list[int]:
    return list(chain.from_iterable(batches))


def epoch_of(sampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_stable_seed_is_fixed_for_ever() -> None:
    # A different value here makes every checkpoint resume with other data.
    assert stable_seed(0, 1, 2) == 9058871843155686531
    assert stable_seed(0) != stable_seed(0, 0)
    assert stable_seed(1, 23) != stable_seed(12, 3)
    assert all(0 <= stable_seed(i) < 2**63 for i in range(1000))
    assert len({stable_seed(0, e, i) for e in range(30) for i in range(30)}) == 900


def test_permutation_is_fixed_for_ever() -> None:
    assert seeded_permutation(8, 5).tolist() == [2, 4, 3, 1, 5, 0, 6, 7]
    assert sorted(seeded_permutation(1000, 1).tolist()) == list(range(1000))


def test_every_sample_once_and_order_differs_by_epoch_and_seed() -> None:
    sampler = EpochBatchSampler(24, 6, seed=1)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(24))
    assert first != second
    assert first == epoch_of(EpochBatchSampler(24, 6, seed=1), 0)
    assert first != epoch_of(EpochBatchSampler(24, 6, seed=2), 0)


@pytest.mark.parametrize("num_samples", [1, 5, 16, 23])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_split_the_same_global_batches(num_samples: int, world_size: int) -> None:
    whole = epoch_of(EpochBatchSampler(num_samples, 8, seed=4), 3)
    ranks = [
        epoch_of(EpochBatchSampler(num_samples, 8, seed=4, rank=r, world_size=world_size), 3) for r in range(world_size)
    ]
    assert [flat(parts) for parts in zip(*ranks, strict=True)] == whole
    assert all(len(batch) == 8 for batch in whole)
    assert set(flat(whole)) == set(range(num_samples))


def test_last_batch_is_completed_with_other_samples_or_dropped() -> None:
    batches = epoch_of(EpochBatchSampler(23, 8, seed=0), 0)
    assert len(batches) == 3
    assert len(set(batches[-1])) == 8, "no sample twice in one batch while there are others"
    assert len(set(flat(batches))) == 23
    dropped = epoch_of(EpochBatchSampler(23, 8, seed=0, drop_last=True), 0)
    assert dropped == batches[:2]


def test_start_batch_skips_in_its_epoch_only_and_keeps_the_length() -> None:
    plain = EpochBatchSampler(20, 4, seed=7)
    resumed = EpochBatchSampler(20, 4, seed=7, start_epoch=2, start_batch=3)
    assert len(resumed) == len(plain) == 5
    assert list(resumed) == epoch_of(plain, 2)[3:], "before any set_epoch, as Lightning does"
    assert epoch_of(resumed, 3) == epoch_of(plain, 3)


def test_resume_on_another_number_of_ranks() -> None:
    whole = epoch_of(EpochBatchSampler(40, 8, seed=7), 2)
    for world_size in (1, 2, 4):
        ranks = [
            list(EpochBatchSampler(40, 8, seed=7, rank=r, world_size=world_size, start_epoch=2, start_batch=3))
            for r in range(world_size)
        ]
        assert [flat(parts) for parts in zip(*ranks, strict=True)] == whole[3:]


def test_epoch_is_fixed_when_iteration_starts() -> None:
    sampler = EpochBatchSampler(8, 4, seed=0)
    iterator = iter(sampler)
    sampler.set_epoch(1)
    assert list(iterator) == epoch_of(EpochBatchSampler(8, 4, seed=0), 0)


def test_frozen_epoch_and_unshuffled_order() -> None:
    sampler = EpochBatchSampler(8, 4, seed=0, freeze_epoch=True)
    assert epoch_of(sampler, 0) == epoch_of(sampler, 5)
    assert epoch_of(EpochBatchSampler(6, 2, shuffle=False), 9) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 10, "batch_size": 3, "world_size": 2}, "batch_size=3 .* 2 ranks.* 2 or 4"),
        ({"num_samples": 10, "batch_size": 0}, "batch_size=0"),
        ({"num_samples": 3, "batch_size": 4, "drop_last": True}, "drop_last=false"),
        ({"num_samples": 0, "batch_size": 4}, "0 training samples"),
        ({"num_samples": 8, "batch_size": 4, "start_batch": 2}, "batch 2 of epoch 0, but an epoch has 2"),
    ],
)
def test_user_errors(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EpochBatchSampler(**options)


def test_uneven_split_names_the_key() -> None:
    with pytest.raises(UserError, match=r"data\.eval_batch_size=5"):
        per_rank_batch_size(5, 4, "eval_batch_size")
    assert per_rank_batch_size(8, 4) == 2


@pytest.mark.parametrize("num_samples", [0, 1, 4, 5, 11, 12])
@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (4, 1), (4, 2), (6, 3)])
def test_evaluation_counts_each_row_once(num_samples: int, batch_size: int, world_size: int) -> None:
    samplers = [
        EvaluationBatchSampler(num_samples, batch_size, rank=r, world_size=world_size) for r in range(world_size)
    ]
    per_rank = [list(s) for s in samplers]
    assert sorted(i for batches in per_rank for batch in batches for i in batch) == list(range(num_samples))
    for rank, (sampler, batches) in enumerate(zip(samplers, per_rank, strict=True)):
        assert len(sampler) == len(batches)
        assert flat(batches) == list(range(rank, num_samples, world_size))


def counters(epoch_ready: int, epoch_processed: int, ready: int, completed: int, last: bool = False):
    tracker = SimpleNamespace(ready=ready, processed=ready, completed=completed)
    batches = SimpleNamespace(current=tracker, total=tracker, is_last_batch=last)
    current = SimpleNamespace(ready=epoch_ready, processed=epoch_processed)
    fit_loop = SimpleNamespace(
        epoch_progress=SimpleNamespace(current=current), epoch_loop=SimpleNamespace(batch_progress=batches)
    )
    return SimpleNamespace(fit_loop=fit_loop)


def test_resume_position() -> None:
    assert resume_position(None) == (0, 0)
    assert resume_position(counters(0, 0, 0, 0)) == (0, 0)
    assert resume_position(counters(3, 2, 5, 5)) == (2, 5)
    assert resume_position(counters(3, 2, 5, 4)) == (2, 5), "saved in on_train_batch_end"
    assert resume_position(counters(3, 2, 6, 6, last=True)) == (3, 0)
    assert resume_position(counters(3, 3, 6, 6, last=True)) == (3, 0)


def test_order_is_close_to_uniform() -> None:
    first = np.array([EpochBatchSampler(10, 10, seed=s).order(0)[0] for s in range(2000)])
    counts = np.bincount(first, minlength=10)
    assert counts.min() > 140
    assert counts.max() < 260
