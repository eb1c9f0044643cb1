"""Seeded detection data for the metric tests, and pycocotools run on it: the reference."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wanamaker.metrics.coco import CocoMetrics

STATS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


def thing(
    x: float, y: float, w: float, h: float, label: int = 1, area: float | None = None, crowd: bool = False
) -> tuple:
    """One ground-truth object; its area is that of the box unless a mask's is given."""
    return (x, y, w, h, label, w * h if area is None else area, int(crowd))


@dataclass
class Case:
    """Per image: what a detector gives, what a data module gives, and the image's id."""

    num_classes: int
    detections: list[dict[str, torch.Tensor]] = field(default_factory=list)
    ground_truth: list[dict[str, torch.Tensor]] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)

    def add(self, image_id: int, found: list[tuple], truth: list[tuple]) -> Case:
        """``found``: (x1, y1, x2, y2, score, label); ``truth``: what `thing` returns."""
        rows = np.array(found, dtype=np.float64).reshape(-1, 6)
        self.detections.append(
            {
                "boxes": torch.tensor(rows[:, :4], dtype=torch.float32),
                "scores": torch.tensor(rows[:, 4], dtype=torch.float32),
                "labels": torch.tensor(rows[:, 5], dtype=torch.int64),
            }
        )
        rows = np.array(truth, dtype=np.float64).reshape(-1, 7)
        self.ground_truth.append(
            {
                "boxes": torch.tensor(rows[:, :4]),
                "labels": torch.tensor(rows[:, 4], dtype=torch.int64),
                "area": torch.tensor(rows[:, 5]),
                "iscrowd": torch.tensor(rows[:, 6], dtype=torch.int64),
            }
        )
        self.image_ids.append(image_id)
        return self

    def select(self, rows: list[int]) -> Case:
        pick = [[values[row] for row in rows] for values in (self.detections, self.ground_truth, self.image_ids)]
        return Case(self.num_classes, *pick)

    def feed(self, metric: CocoMetrics, batch_size: int = 3) -> CocoMetrics:
        for i in range(0, len(self.image_ids), batch_size):
            at = slice(i, i + batch_size)
            metric.update(self.detections[at], self.ground_truth[at], torch.tensor(self.image_ids[at]))
        return metric

    def ours(self) -> dict:
        return self.feed(CocoMetrics(self.num_classes)).compute()

    def reference(self) -> COCOeval:
        """pycocotools on these images, from dicts built here and not by our writers."""
        images, annotations, results = [], [], []
        for image_id, found, truth in zip(self.image_ids, self.detections, self.ground_truth, strict=True):
            images.append({"id": image_id})
            for (x1, y1, x2, y2), score, label in zip(
                found["boxes"].double().tolist(),
                found["scores"].double().tolist(),
                found["labels"].tolist(),
                strict=True,
            ):
                box = [x1, y1, x2 - x1, y2 - y1]
                results.append({"image_id": image_id, "category_id": label, "bbox": box, "score": score})
            columns = (truth[name].tolist() for name in ("boxes", "labels", "area", "iscrowd"))
            for box, label, area, crowd in zip(*columns, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": label,
                        "bbox": box,
                        "area": area,
                        "iscrowd": crowd,
                    }
                )
        categories = [{"id": label, "name": str(label)} for label in range(1, self.num_classes + 1)]
        return run_pycocotools({"images": images, "annotations": annotations, "categories": categories}, results)


def run_pycocotools(ground_truth: dict, results: list[dict]) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        if results:
            found = truth.loadRes(results)
        else:  # loadRes fails on an empty list
            found = COCO()
            found.dataset = ground_truth | {"annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def assert_equal(ours: dict, reference: COCOeval, atol: float = 1e-12) -> None:
    """All twelve numbers and both per-class lists, -1 for NaN."""
    expected = np.where(reference.stats == -1, np.nan, reference.stats)
    np.testing.assert_allclose([ours[name] for name in STATS], expected, rtol=0, atol=atol, err_msg=str(STATS))
    precision = reference.eval["precision"][:, :, :, 0, 2]
    for key, values in (("ap_class", precision), ("ap50_class", precision[:1])):
        expected = [
            values[:, :, k][values[:, :, k] > -1].mean() if (values[:, :, k] > -1).any() else np.nan
            for k in range(values.shape[2])
        ]
        np.testing.assert_allclose(ours[key], expected, rtol=0, atol=atol, err_msg=key)


def random_case(seed: int, num_images: int = 30, num_classes: int = 5, objects: int = 8, found: int = 30) -> Case:
    """Boxes from 4 to 400 px, mask areas below the box's, 4 % crowds, tied scores, images without one or the other."""
    rng = np.random.default_rng(seed)
    case = Case(num_classes)
    for image_id in rng.permutation(10 * num_images)[:num_images].tolist():
        count = int(rng.integers(0, objects + 1))
        xy, wh = rng.uniform(0, 500, (count, 2)), np.exp(rng.uniform(np.log(4), np.log(400), (count, 2)))
        labels = rng.integers(1, num_classes + 1, count)
        crowd = rng.random(count) < 0.04
        truth = [
            thing(*p, *s, label, s[0] * s[1] * rng.uniform(0.4, 1.0), c)
            for p, s, label, c in zip(xy, wh, labels, crowd, strict=True)
        ]
        rows = []
        for _ in range(int(rng.integers(0, found + 1))):
            if count and rng.random() < 0.7:  # an object, shaken: overlaps on both sides of every IoU threshold
                i = rng.integers(count)
                p = xy[i] + wh[i] * rng.normal(0, 0.12, 2)
                q = p + wh[i] * np.exp(rng.normal(0, 0.15, 2))
                label = labels[i] if rng.random() < 0.9 else rng.integers(1, num_classes + 1)
            else:
                p = rng.uniform(0, 500, 2)
                q = p + np.exp(rng.uniform(np.log(4), np.log(400), 2))
                label = rng.integers(1, num_classes + 1)
            rows.append((*p, *q, np.round(rng.random(), 1 if rng.random() < 0.5 else 4), label))
        case.add(image_id, rows, truth)
    return case
