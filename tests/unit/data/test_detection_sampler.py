"""Global batches of images: orientation, scale and canvas are the same on any number of ranks."""

from itertools import chain

import numpy as np
import pytest

from wanamaker.data.detection_sampler import (
    DetectionBatchSampler,
    DetectionCanvas,
    DetectionEvaluationSampler,
    resized_size,
)
from wanamaker.data.sampler import SampleKey

RNG = np.random.default_rng(0)
HEIGHTS, WIDTHS = RNG.integers(200, 700, 61), RNG.integers(200, 700, 61)
CANVAS = DetectionCanvas(HEIGHTS, WIDTHS, max_side=600)
SHORT_SIDES = [160, 200, 240]


def batches(epoch: int = 0, **options) -> list[list[SampleKey]]:
    sampler = DetectionBatchSampler(CANVAS, 4, short_sides=SHORT_SIDES, seed=5, **options)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((100, 1000), (133, 1333)),
        ((1, 5000), (1, 1333)),
        ((800, 800), (800, 800)),
    ],
)
def test_resized_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, 800, 1333) == expected


def test_every_image_once_and_few_mixed_batches() -> None:
    for epoch in range(3):
        keys = batches(epoch)
        assert {key.index for key in chain(*keys)} == set(range(61))
        assert sum(len(batch) for batch in keys) == 64
        mixed = [len({bool(HEIGHTS[k.index] > WIDTHS[k.index]) for k in batch}) == 2 for batch in keys]
        assert not any(mixed[:-2]), "only what is left over is mixed"
        assert all(key.epoch == epoch for key in chain(*keys))


def test_canvas_of_the_dataset_is_one_an_orientation_and_scale() -> None:
    largest = DetectionCanvas(HEIGHTS, WIDTHS, max_side=600, fit="dataset")
    sampler = DetectionBatchSampler(largest, 4, short_sides=SHORT_SIDES, seed=5)
    keys = list(chain(*sampler))
    for key in keys:
        height, width = resized_size(int(HEIGHTS[key.index]), int(WIDTHS[key.index]), key.short_side, 600)
        assert height <= key.canvas_h
        assert width <= key.canvas_w
    seen = {(key.canvas_h, key.canvas_w) for key in keys}
    assert sampler.canvases(0) == seen
    assert 2 * len(SHORT_SIDES) <= len(seen) <= 3 * len(SHORT_SIDES), "both orientations, and a mixed batch"
    assert len(DetectionBatchSampler(CANVAS, 4, short_sides=SHORT_SIDES, seed=5).canvases(0)) > len(seen)


def test_both_orientations_stay_mixed_over_the_epoch() -> None:
    portrait = [bool(HEIGHTS[b[0].index] > WIDTHS[b[0].index]) for b in batches()[:-2]]
    assert 0 < sum(portrait[: len(portrait) // 2]) < len(portrait) // 2


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_two_ranks_see_the_batches_of_one(grouped: bool, drop_last: bool) -> None:
    options = {"group_by_aspect": grouped, "drop_last": drop_last}
    whole = batches(2, **options)
    first, second = (batches(2, rank=r, world_size=2, **options) for r in range(2))
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


def test_canvas_holds_every_image_of_the_global_batch_and_no_more() -> None:
    for batch in batches(1, rank=1, world_size=4):
        assert len(batch) == 1
    for batch in batches(1):
        sizes = [resized_size(HEIGHTS[k.index], WIDTHS[k.index], k.short_side, 600) for k in batch]
        assert len({(k.short_side, k.canvas_h, k.canvas_w) for k in batch}) == 1
        key = batch[0]
        assert key.canvas_h % 32 == key.canvas_w % 32 == 0
        assert 0 <= key.canvas_h - max(h for h, _ in sizes) < 32
        assert 0 <= key.canvas_w - max(w for _, w in sizes) < 32


def test_scales_are_drawn_per_batch_and_epoch() -> None:
    by_epoch = [[b[0].short_side for b in batches(e)] for e in range(8)]
    assert {s for scales in by_epoch for s in scales} == set(SHORT_SIDES)
    assert len({tuple(scales) for scales in by_epoch}) > 1
    assert by_epoch[0] == [b[0].short_side for b in batches(0)]


def test_resume_continues_with_the_same_keys() -> None:
    assert batches(3)[5:] == list(
        DetectionBatchSampler(CANVAS, 4, short_sides=SHORT_SIDES, seed=5, start_epoch=3, start_batch=5)
    )


@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_sees_each_image_once_on_the_same_canvas(world_size: int) -> None:
    def keys(rank: int, ranks: int) -> list[list[SampleKey]]:
        return list(DetectionEvaluationSampler(CANVAS, 4, short_side=200, rank=rank, world_size=ranks))

    per_rank = [list(chain(*keys(rank, world_size))) for rank in range(world_size)]
    seen = list(chain(*per_rank))
    assert sorted(key.index for key in seen) == list(range(61))
    whole = {key.index: key for key in chain(*keys(0, 1))}
    assert all(whole[key.index] == key for key in seen)


def test_evaluation_without_grouping_keeps_file_order() -> None:
    sampler = DetectionEvaluationSampler(CANVAS, 8, short_side=200, group_by_aspect=False)
    assert [key.index for key in chain(*sampler)] == list(range(61))
