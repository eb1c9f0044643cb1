"""The written files, read back by pycocotools, give the numbers of `CocoMetrics`."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from coco_cases import Case, assert_equal, random_case, run_pycocotools, thing
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wanamaker.metrics.coco import CocoMetrics
from wanamaker.metrics.coco_files import coco_ground_truth_dict, write_coco_results


@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_on_the_written_files_gives_the_same_numbers(seed: int, tmp_path: Path) -> None:
    case = random_case(seed, num_classes=4)
    metric = case.feed(CocoMetrics(4))
    ours = metric.compute()
    category_ids = [0, 7, 13, 90]
    results = write_coco_results(tmp_path / "results.json", metric.evaluated_records(), category_ids)
    truth = coco_ground_truth_dict(metric.evaluated_records(), category_ids, ["a", "b", "c", "d"])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(tmp_path / "truth.json"))
        evaluator = COCOeval(reference, reference.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert_equal(ours, evaluator)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["results.json", "truth.json"]


def test_the_files_hold_the_doubles_that_were_evaluated(tmp_path: Path) -> None:
    case = random_case(4, num_classes=3)
    metric = case.feed(CocoMetrics(3))
    metric.compute()
    records = metric.evaluated_records()
    written = json.loads(write_coco_results(tmp_path / "r.json", records, [1, 2, 3]).read_text())
    np.testing.assert_array_equal([row["bbox"] for row in written], records.boxes_xywh())
    np.testing.assert_array_equal([row["score"] for row in written], records.scores)
    truth = coco_ground_truth_dict(records, [1, 2, 3])
    assert [image["id"] for image in truth["images"]] == sorted(case.image_ids)
    assert [a["id"] for a in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    assert [c["name"] for c in truth["categories"]] == ["1", "2", "3"]


def test_empty_images_and_unknown_labels(tmp_path: Path) -> None:
    case = Case(2).add(5, [], []).add(2, [(0, 0, 50, 50, 0.9, 3), (0, 0, 50, 50, 0.8, 2)], [thing(0, 0, 50, 50, 2)])
    metric = case.feed(CocoMetrics(2))
    with pytest.warns(UserWarning, match="labels outside"):
        ours = metric.compute()
    path = write_coco_results(tmp_path / "r.json", metric.evaluated_records(), [3, 8])
    written = json.loads(path.read_text())
    assert written == [{"image_id": 2, "category_id": 8, "bbox": [0, 0, 50, 50], "score": float(np.float32(0.8))}]
    truth = coco_ground_truth_dict(metric.evaluated_records(), [3, 8])
    assert truth["images"] == [{"id": 2}, {"id": 5}]
    assert_equal(ours, run_pycocotools(truth, written))


def test_no_detections_is_an_empty_list(tmp_path: Path) -> None:
    metric = Case(1).add(1, [], []).feed(CocoMetrics(1))
    metric.compute()
    assert json.loads(write_coco_results(tmp_path / "r.json", metric.evaluated_records(), [1]).read_text()) == []
    assert coco_ground_truth_dict(metric.evaluated_records(), [1])["annotations"] == []


def test_mistakes(tmp_path: Path) -> None:
    metric = random_case(5, num_classes=3).feed(CocoMetrics(3))
    metric.compute()
    records = metric.evaluated_records()
    with pytest.raises(ValueError, match="2 category ids for ground-truth labels up to 3"):
        write_coco_results(tmp_path / "r.json", records, [1, 2])
    with pytest.raises(ValueError, match="ascending"):
        write_coco_results(tmp_path / "r.json", records, [1, 3, 2])
    with pytest.raises(ValueError, match="2 class names for 3 category ids"):
        coco_ground_truth_dict(records, [1, 2, 3], ["a", "b"])
    with pytest.raises(OSError, match="missing"):
        write_coco_results(tmp_path / "missing" / "r.json", records, [1, 2, 3])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = random_case(5, num_classes=3).feed(CocoMetrics(3))
    metric.compute()
    path = tmp_path / "r.json"
    path.write_text("[]")
    calls = 0

    def full(row: dict, **_: object) -> str:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(28, "No space left on device")
        return "{}"

    monkeypatch.setattr("wanamaker.metrics.coco_files.json.dumps", full)
    with pytest.raises(OSError, match="No space left"):
        write_coco_results(path, metric.evaluated_records(), [1, 2, 3])
    assert path.read_text() == "[]"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
