"""`CocoMetrics` on the annotations of real photos, with detections made by shaking the ground truth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from coco_cases import Case, assert_equal, run_pycocotools, thing

from wanamaker.metrics.coco import CocoMetrics
from wanamaker.metrics.coco_files import write_coco_results

pytestmark = pytest.mark.realdata


@pytest.fixture(params=["coco128_train2017", "bccd", "grocery_fridge"])
def annotations(request: pytest.FixtureRequest) -> dict:
    root = os.environ.get("WANAMAKER_DATA_DIR")
    if not root:
        pytest.skip("WANAMAKER_DATA_DIR is not set")
    return json.loads((Path(root) / "detection" / request.param / "annotations_coco.json").read_text())


def shaken(annotations: dict, seed: int) -> tuple[Case, list[int]]:
    """Two or three detections near every object, a tenth under another label, plus boxes that hit nothing."""
    rng = np.random.default_rng(seed)
    category_ids = sorted(category["id"] for category in annotations["categories"])
    label_of = {category: label for label, category in enumerate(category_ids, start=1)}
    case = Case(len(category_ids))
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in annotations["images"]}
    for annotation in annotations["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    for image_id, objects in by_image.items():
        truth, found = [], []
        for item in objects:
            x, y, w, h = item["bbox"]
            crowd = bool(item.get("iscrowd", 0)) or rng.random() < 0.03  # these files have no crowds
            truth.append(thing(x, y, w, h, label_of[item["category_id"]], item["area"], crowd))
            for _ in range(rng.integers(1, 4)):
                dx, dy = rng.normal(0, 0.08, 2) * (w, h)
                dw, dh = np.exp(rng.normal(0, 0.12, 2)) * (w, h)
                label = label_of[item["category_id"]] if rng.random() < 0.9 else rng.integers(1, case.num_classes + 1)
                found.append((x + dx, y + dy, x + dx + dw, y + dy + dh, round(rng.beta(3, 2), 2), label))
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = rng.uniform(5, 300, 4)
            found.append((x, y, x + w, y + h, round(rng.beta(1, 4), 2), rng.integers(1, case.num_classes + 1)))
        case.add(image_id, found, truth)
    return case, category_ids


def test_equal_to_pycocotools_on_the_annotation_file(annotations: dict, tmp_path: Path) -> None:
    """The reference reads the data set's own annotations (with the crowds drawn above), not what we wrote of them."""
    case, category_ids = shaken(annotations, seed=0)
    metric = case.feed(CocoMetrics(case.num_classes), batch_size=16)
    ours = metric.compute()
    assert 0.1 < ours["ap"] < 0.9
    assert_equal(ours, case.reference())

    crowd = {}
    for image_id, truth in zip(case.image_ids, case.ground_truth, strict=True):
        crowd[image_id] = iter(truth["iscrowd"].tolist())
    for annotation in annotations["annotations"]:
        annotation["iscrowd"] = next(crowd[annotation["image_id"]])
    path = write_coco_results(tmp_path / "results.json", metric.evaluated_records(), category_ids)
    assert_equal(ours, run_pycocotools(annotations, json.loads(path.read_text())))


def test_perfect_detections_score_one(annotations: dict) -> None:
    case, _ = shaken(annotations, seed=1)
    for found, truth in zip(case.detections, case.ground_truth, strict=True):
        real = truth["iscrowd"] == 0
        boxes = truth["boxes"][real].clone()
        boxes[:, 2:] += boxes[:, :2]
        found.update(boxes=boxes, labels=truth["labels"][real], scores=boxes.new_ones(len(boxes)))
    result = case.ours()
    assert result["ap"] == pytest.approx(1.0, abs=1e-12)
    assert_equal(result, case.reference())
