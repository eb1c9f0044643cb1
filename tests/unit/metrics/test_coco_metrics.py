"""`CocoMetrics` in one process: equal to pycocotools, and well-behaved as a torchmetrics.Metric."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from coco_cases import STATS, Case, assert_equal, random_case, thing
from torch import nn

from wanamaker.metrics import coco_evaluation
from wanamaker.metrics.coco import CocoMetrics


@pytest.mark.parametrize("seed", range(12))
def test_random_images_equal_pycocotools(seed: int) -> None:
    case = random_case(seed, num_images=15 + seed, num_classes=1 + seed % 6, objects=3 + seed, found=10 + 4 * seed)
    assert_equal(case.ours(), case.reference())


def test_the_random_cases_hold_what_they_claim() -> None:
    case = random_case(3, num_images=60)
    truth = {name: torch.cat([t[name] for t in case.ground_truth]) for name in ("area", "iscrowd", "boxes")}
    scores = torch.cat([d["scores"] for d in case.detections])
    assert 0.01 < truth["iscrowd"].double().mean() < 0.08
    for low, high in ((0, 32**2), (32**2, 96**2), (96**2, 1e10)):
        assert ((truth["area"] > low) & (truth["area"] < high)).sum() > 10
    assert len(scores.unique()) < 0.8 * len(scores)  # ties
    assert any(len(d["boxes"]) == 0 for d in case.detections)
    assert any(len(t["boxes"]) == 0 for t in case.ground_truth)
    stats = case.reference().stats
    assert ((stats > 0.02) & (stats < 0.98)).all()  # neither hopeless nor perfect: there is something to disagree on


@pytest.mark.parametrize("at_once", [1, 40, 10**9])
def test_the_number_of_classes_evaluated_at_once_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(21, num_classes=9)
    monkeypatch.setattr(coco_evaluation, "_DETECTIONS_AT_ONCE", at_once)
    assert_equal(case.ours(), case.reference())


def test_class_groups_cover_every_class_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(4, num_classes=7)
    metric = case.feed(CocoMetrics(7))
    metric.compute()
    for at_once in (1, 17, 60, 10**6):
        monkeypatch.setattr(coco_evaluation, "_DETECTIONS_AT_ONCE", at_once)
        groups = list(coco_evaluation._groups_of_classes(metric.evaluated_records(), 7))
        assert [label for group in groups for label in group] == list(range(1, 8))


def test_the_order_and_size_of_batches_change_nothing() -> None:
    case = random_case(5)
    once = case.ours()
    shuffled = case.select(np.random.default_rng(0).permutation(len(case.image_ids)).tolist())
    for batch_size in (1, 7, 100):
        np.testing.assert_equal(shuffled.feed(CocoMetrics(case.num_classes), batch_size).compute(), once)


def edge_cases() -> dict[str, Case]:
    box = (10, 10, 60, 60)
    same = thing(10, 10, 50, 50)
    crowd = thing(0, 0, 200, 200, crowd=True)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (150, 2))
    many = [(*c, *(c + rng.uniform(20, 60, 2)), s, 1) for c, s in zip(corner, rng.random(150), strict=True)]
    near = [(c[0] + 1, c[1] + 1, c[2], c[3], s, 1) for c, s in zip(many, rng.random(150).round(1), strict=True)]
    objects = [thing(c[0], c[1], c[2] - c[0], c[3] - c[1]) for c in many[:140]]
    return {
        "image without ground truth": Case(1).add(1, [(*box, 0.9, 1)], [same]).add(2, [(*box, 0.95, 1)], []),
        "image without detections": Case(1).add(1, [(*box, 0.9, 1)], [same]).add(2, [], [same]),
        "image with neither": Case(1).add(1, [(*box, 0.9, 1)], [same]).add(2, [], []),
        "no detection anywhere": Case(2).add(1, [], [same]).add(2, [], [thing(10, 10, 50, 50, 2)]),
        "no ground truth anywhere": Case(2).add(1, [(*box, 0.9, 1)], []),
        "nothing but images": Case(2).add(1, [], []).add(2, [], []),
        "all-crowd image": Case(1)
        .add(1, [(*box, 0.9, 1), (20, 20, 70, 70, 0.8, 1)], [crowd])
        .add(2, [(*box, 0.7, 1)], [same]),
        "only crowds": Case(1).add(1, [(*box, 0.9, 1)], [crowd]),
        "crowd beside an object": Case(1).add(
            1, [(*box, 0.9, 1), (12, 12, 60, 60, 0.8, 1), (100, 100, 150, 150, 0.7, 1)], [crowd, same]
        ),
        "two crowds, one object": Case(1).add(
            1, [(*box, 0.9, 1), (0, 0, 200, 200, 0.95, 1)], [crowd, thing(0, 0, 190, 190, crowd=True), same]
        ),
        "class absent from ground truth": Case(3).add(1, [(*box, 0.9, 1), (*box, 0.8, 3)], [same]),
        "class absent from both": Case(4).add(1, [(*box, 0.9, 2)], [thing(10, 10, 50, 50, 2)]),
        "more than 100 per image": Case(1).add(1, near, objects).add(2, many, objects[:5]),
        "more than 100 tied": Case(1).add(1, [(*d[:4], 0.5, 1) for d in near], objects),
        "ties across images": Case(1)
        .add(9, [(*box, 0.5, 1)], [same])
        .add(3, [(200, 200, 240, 240, 0.5, 1)], [same])
        .add(5, [(*box, 0.5, 1), (10, 10, 60, 61, 0.5, 1)], [same]),
        "ties inside an image": Case(1).add(
            1, [(10, 10, 60, 45, 0.5, 1), (*box, 0.5, 1), (11, 10, 60, 60, 0.5, 1)], [same, thing(10, 10, 50, 52)]
        ),
        "two objects equally near": Case(1).add(
            1, [(0, 0, 40, 40, 0.5, 1), (2, 0, 42, 40, 0.4, 1)], [thing(-2, 0, 40, 40), thing(2, 0, 40, 40)]
        ),
        "score zero": Case(1).add(1, [(*box, 0.0, 1)], [same]),
        "areas at the borders": Case(1).add(
            1,
            [(0, 0, 32, 32, 0.9, 1), (100, 100, 196, 196, 0.8, 1), (300, 300, 340, 340, 0.7, 1)],
            [thing(0, 0, 32, 32), thing(100, 100, 96, 96), thing(300, 300, 40, 40, area=0.0)],
        ),
        "box without an area": Case(1).add(1, [(5, 5, 5, 5, 0.9, 1), (*box, 0.8, 1)], [same, thing(5, 5, 0, 0)]),
        "mask smaller than its box": Case(1).add(1, [(0, 0, 100, 100, 0.9, 1)], [thing(0, 0, 100, 100, area=900.0)]),
    }


@pytest.mark.parametrize("name", edge_cases())
def test_edge_cases_equal_pycocotools(name: str) -> None:
    case = edge_cases()[name]
    assert_equal(case.ours(), case.reference())


def test_no_ground_truth_is_nan_and_means_skip_it() -> None:
    result = edge_cases()["class absent from ground truth"].ours()
    assert result["ap"] == result["ap_class"][0] == pytest.approx(1.0)
    assert np.isnan(result["ap_class"][1:]).all()
    assert np.isnan(result["ap50_class"][1:]).all()
    assert np.isnan(result["ap_small"])
    assert np.isnan(result["ar_large"])


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric CocoMetrics was called before:UserWarning")
def test_no_images_at_all_is_nan_throughout() -> None:
    untouched = CocoMetrics(2)
    empty_batch = CocoMetrics(2)
    empty_batch.update([], [], torch.zeros(0, dtype=torch.int64))
    for metric in (untouched, empty_batch):
        result = metric.compute()
        assert set(result) == {*STATS, "ap_class", "ap50_class"}
        assert np.isnan([result[name] for name in STATS]).all()
        assert len(result["ap_class"]) == 2
        assert np.isnan(result["ap_class"]).all()
        assert len(metric.evaluated_records().image_ids) == 0


def test_labels_beyond_the_classes_count_for_nothing_and_are_named() -> None:
    case = random_case(6, num_classes=3)
    plain = case.ours()
    for found in case.detections:
        extra = torch.tensor([[0.0, 0, 50, 50]] * 3)
        found["boxes"] = torch.cat([extra, found["boxes"]])
        found["scores"] = torch.cat([torch.ones(3), found["scores"]])
        found["labels"] = torch.cat([torch.tensor([0, 4, 91]), found["labels"]])
    with pytest.warns(UserWarning, match=r"labels outside 1\.\.3 \(\[0, 4, 91\]\)"):
        result = case.ours()
    np.testing.assert_equal(result, plain)
    assert_equal(result, case.reference())


def test_an_image_counts_once_and_the_first_is_kept() -> None:
    case = random_case(7)
    plain = case.ours()
    twice = case.select([*range(len(case.image_ids)), 2, 0, 2])
    worse = [{name: value[:1] for name, value in found.items()} for found in twice.detections[-3:]]
    twice.detections[-3:] = worse
    np.testing.assert_equal(twice.ours(), plain)


def test_one_id_for_two_images_is_refused() -> None:
    case = random_case(8).select([0, 1, 2, 3])
    case.image_ids[3] = case.image_ids[1]
    with pytest.raises(
        ValueError, match=f"Image id {case.image_ids[1]} was evaluated twice with different ground truth"
    ):
        case.ours()


def test_image_ids_beyond_float64_stay_apart() -> None:
    case = random_case(9)
    small = Case(case.num_classes, case.detections, case.ground_truth, list(range(len(case.image_ids))))
    large = Case(case.num_classes, case.detections, case.ground_truth, [2**62 + i for i in range(len(case.image_ids))])
    np.testing.assert_equal(large.ours(), small.ours())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_input_precisions_are_taken_as_they_are(dtype: torch.dtype) -> None:
    case = random_case(10)
    for found in case.detections:
        found["boxes"], found["scores"] = found["boxes"].to(dtype), found["scores"].to(dtype)
    assert_equal(case.ours(), case.reference())


def test_curves_are_those_of_pycocotools() -> None:
    case = random_case(11, num_classes=4)
    for truth in case.ground_truth:  # class 4 is never there
        truth["labels"].clamp_(max=3)
    metric = case.feed(CocoMetrics(4))
    with pytest.raises(RuntimeError, match="compute"):
        metric.precision_recall_curves()
    result = metric.compute()
    curves = metric.precision_recall_curves()
    reference = case.reference()
    np.testing.assert_array_equal(curves.recall, reference.params.recThrs)
    np.testing.assert_allclose(curves.precision[:3], reference.eval["precision"][0, :, :3, 0, 2].T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.scores[:3], reference.eval["scores"][0, :, :3, 0, 2].T, rtol=0, atol=1e-12)
    assert np.isnan(curves.precision[3]).all()
    assert np.isnan(curves.scores[3]).all()
    np.testing.assert_allclose(curves.precision[:3].mean(1), result["ap50_class"][:3], rtol=0, atol=1e-12)
    metric.update(*case_batch(case))
    with pytest.raises(RuntimeError, match="compute"):
        metric.precision_recall_curves()


def case_batch(case: Case) -> tuple:
    return case.detections[:1], case.ground_truth[:1], case.image_ids[:1]


def test_compute_twice_then_more_images_then_reset() -> None:
    case = random_case(12)
    half = len(case.image_ids) // 2
    first, rest = case.select(list(range(half))), case.select(list(range(half, len(case.image_ids))))
    metric = first.feed(CocoMetrics(case.num_classes))
    np.testing.assert_equal(metric.compute(), first.ours())
    np.testing.assert_equal(metric.compute(), first.ours())
    np.testing.assert_equal(rest.feed(metric).compute(), case.ours())
    metric.reset()
    np.testing.assert_equal(rest.feed(metric).compute(), rest.ours())


def test_copies_and_pickles_carry_the_state_and_go_their_own_way() -> None:
    case = random_case(13)
    expected = case.ours()
    fed = case.feed(CocoMetrics(case.num_classes))
    for metric in (copy.deepcopy(fed), pickle.loads(pickle.dumps(fed)), fed.clone()):
        metric.update(*case_batch(random_case(99)))
        metric.reset()
        np.testing.assert_equal(case.feed(metric).compute(), expected)
    np.testing.assert_equal(fed.compute(), expected)
    np.testing.assert_equal(pickle.loads(pickle.dumps(fed)).compute(), expected)


def test_inside_a_module_it_is_neither_saved_nor_cast() -> None:
    case = random_case(14)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.metric = CocoMetrics(case.num_classes)

    holder = Holder()
    case.feed(holder.metric)
    holder.half().bfloat16().to("meta")
    assert set(holder.state_dict()) == {"layer.weight", "layer.bias"}
    assert not list(holder.metric.buffers()) + list(holder.metric.parameters())
    np.testing.assert_equal(holder.metric.compute(), case.ours())


def test_it_has_no_value_per_batch() -> None:
    with pytest.raises(NotImplementedError, match="compute"):
        CocoMetrics(2)(*case_batch(random_case(0)))


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, True, None])
def test_the_number_of_classes_is_checked(num_classes: object) -> None:
    with pytest.raises(ValueError, match="num_classes"):
        CocoMetrics(num_classes)


def _set(rows: str, field: str, value: torch.Tensor | None):
    def damage(batch: dict) -> None:
        if value is None:
            del batch[rows][1][field]
        else:
            batch[rows][1][field] = value

    return damage


def _float_ids(batch: dict) -> None:
    batch["image_ids"] = torch.tensor([10.0, 20.0])


def _drop_id(batch: dict) -> None:
    batch["image_ids"] = batch["image_ids"][:1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_id, "2 detections and 2 ground truths for 1 image ids"),
        (_float_ids, "image_ids are torch.float32"),
        (_set("detections", "scores", None), "detections of image 20 has no 'scores'"),
        (_set("ground_truth", "iscrowd", None), "ground_truth of image 20 has no 'iscrowd'"),
        (_set("ground_truth", "area", None), "ground_truth of image 20 has no 'area'"),
        (_set("detections", "boxes", torch.ones(2, 5)), r"image 20 has shape \[2, 5\]; expected \['N', 4\]"),
        (_set("detections", "scores", torch.ones(2, 1)), r"image 20 has shape \[2, 1\]; expected \['N'\]"),
        (_set("detections", "scores", torch.ones(3)), "detections of image 20 has 2 boxes but 3 scores"),
        (_set("detections", "boxes", torch.tensor([[0, 0, 1, 1], [0, 0, float("nan"), 1]])), "image 20 is not finite"),
        (_set("detections", "scores", torch.tensor([1.0, float("inf")])), "image 20 is not finite"),
        (_set("ground_truth", "boxes", torch.full((1, 4), float("inf"))), "image 20 is not finite"),
        (_set("ground_truth", "area", torch.tensor([-1.0])), "image 20 is negative or not finite"),
        (_set("ground_truth", "area", torch.tensor([float("nan")])), "image 20 is negative or not finite"),
        (_set("ground_truth", "area", torch.tensor([float("inf")])), "image 20 is negative or not finite"),
        (_set("ground_truth", "iscrowd", torch.tensor([2])), "image 20 is neither 0 nor 1"),
        (_set("ground_truth", "labels", torch.tensor([0])), r"image 20 is outside 1\.\.2"),
        (_set("ground_truth", "labels", torch.tensor([3])), r"image 20 is outside 1\.\.2"),
    ],
)
def test_mistakes_name_the_image_and_add_nothing(damage, message: str) -> None:
    case = Case(2).add(10, [], []).add(20, [(0, 0, 9, 9, 0.5, 1), (0, 0, 9, 9, 0.4, 2)], [thing(0, 0, 9, 9, 2)])
    batch = {"detections": case.detections, "ground_truth": case.ground_truth, "image_ids": case.image_ids}
    batch = copy.deepcopy(batch)
    damage(batch)
    metric = case.feed(CocoMetrics(2))
    before = metric.compute()
    with pytest.raises(ValueError, match=message):
        metric.update(**batch)
    np.testing.assert_equal(metric.compute(), before)
