"""COCO's box evaluation of `DetectionRecords`, by faster-coco-eval (https://github.com/MiXaiLL76/faster_coco_eval).

Axis letters: T IoU thresholds (10: .50 to .95), R recall levels (101: 0 to 1), K classes, A area ranges (4: all, small,
medium, large), M detection limits (3: 1, 10, 100).

The numbers are those of ``pycocotools.COCOeval(..., "bbox")`` on the same boxes; `tests/unit/metrics` compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.detection_records import DetectionRecords

_log = logging.getLogger(__name__)

NUM_IOU, NUM_RECALL, NUM_AREAS, NUM_LIMITS = 10, 101, 4, 3
RECALL_LEVELS = np.linspace(0.0, 1.0, NUM_RECALL)

# The evaluator takes a Python dict per box, about half a kilobyte each. Classes do not interact, so evaluating a few at
# a time holds the peak at this many dicts (or one class, where a class alone is larger) instead of all of them.
_DETECTIONS_AT_ONCE = 50_000


class CocoEvaluation(NamedTuple):
    """The arrays behind the summary; -1 marks a class or area range without ground truth, as in pycocotools."""

    precision: np.ndarray  # float64 [T, R, K, A, M]
    recall: np.ndarray  # float64 [T, K, A, M]
    scores: np.ndarray  # float64 [T, R, K, A, M], the score at which each recall level is reached


def evaluate_records(records: DetectionRecords, num_classes: int) -> CocoEvaluation:
    """Match detections to ground truth and accumulate precision and recall.

    Args:
        records: images in ascending id order, each once (`each_image_once`).
        num_classes: K. Detections with a label outside 1..K are left out, as pycocotools leaves out unknown categories.

    Returns:
        The full arrays; all -1 where nothing was there to be found.
    """
    precision = np.full((NUM_IOU, NUM_RECALL, num_classes, NUM_AREAS, NUM_LIMITS), -1.0)
    recall = np.full((NUM_IOU, num_classes, NUM_AREAS, NUM_LIMITS), -1.0)
    scores = np.full_like(precision, -1.0)
    detections = _Rows(records.labels, records.num_detections)
    objects = _Rows(records.object_labels, records.num_objects)
    for labels in _groups_of_classes(records, num_classes):
        found, truth = detections.of(labels), objects.of(labels)
        if len(truth) == 0:
            continue  # nothing to be found: stays -1, whatever was detected
        at = slice(labels.start - 1, labels.stop - 1)
        result = _evaluate_classes(records, detections.image_row, found, objects.image_row, truth, labels)
        precision[:, :, at], recall[:, at], scores[:, :, at] = result
    return CocoEvaluation(precision, recall, scores)


def summarize(evaluation: CocoEvaluation) -> dict[str, float | list[float]]:
    """The twelve numbers of COCO and the per-class averages; see `CocoMetrics.compute` for the keys.

    A number for which there is no ground truth is NaN (pycocotools: -1), and means skip such classes.
    """
    precision, recall = evaluation.precision, evaluation.recall
    summary: dict[str, float | list[float]] = {
        "ap": _mean(precision[:, :, :, 0, 2]),
        "ap50": _mean(precision[0, :, :, 0, 2]),
        "ap75": _mean(precision[5, :, :, 0, 2]),
    }
    areas = {"small": 1, "medium": 2, "large": 3}
    summary |= {f"ap_{name}": _mean(precision[:, :, :, a, 2]) for name, a in areas.items()}
    summary |= {f"ar{limit}": _mean(recall[:, :, 0, m]) for m, limit in enumerate((1, 10, 100))}
    summary |= {f"ar_{name}": _mean(recall[:, :, a, 2]) for name, a in areas.items()}
    classes = range(precision.shape[2])
    summary["ap_class"] = [_mean(precision[:, :, k, 0, 2]) for k in classes]
    summary["ap50_class"] = [_mean(precision[0, :, k, 0, 2]) for k in classes]
    return summary


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]  # the flat selection, in pycocotools' order: the same doubles are added the same way
    return float(known.mean()) if known.size else float("nan")


class _Rows:
    """Where the rows of each class are: one stable sort instead of a scan per class."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray) -> None:
        self.image_row = np.repeat(np.arange(len(counts)), counts)
        self._order = np.argsort(labels, kind="stable")
        self._sorted = labels[self._order]

    def of(self, labels: range) -> np.ndarray:
        """Rows whose label is in ``labels``, in record order inside each class."""
        start = np.searchsorted(self._sorted, labels.start, side="left")
        stop = np.searchsorted(self._sorted, labels.stop, side="left")
        return self._order[start:stop]


def _groups_of_classes(records: DetectionRecords, num_classes: int) -> Iterator[range]:
    """Consecutive labels whose boxes together stay within `_DETECTIONS_AT_ONCE`; one class at least."""
    counts = np.zeros(num_classes + 1, dtype=np.int64)
    for labels in (records.labels, records.object_labels):
        inside = labels[(labels >= 1) & (labels <= num_classes)]
        counts += np.bincount(inside, minlength=num_classes + 1)
    start, total = 1, 0
    for label in range(1, num_classes + 1):
        if label > start and total + counts[label] > _DETECTIONS_AT_ONCE:
            yield range(start, label)
            start, total = label, 0
        total += int(counts[label])
    yield range(start, num_classes + 1)


def _evaluate_classes(
    records: DetectionRecords,
    image_of_detection: np.ndarray,
    found: np.ndarray,
    image_of_object: np.ndarray,
    truth: np.ndarray,
    labels: range,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision [T, R, L, A, M], recall [T, L, A, M] and scores [T, R, L, A, M] of the L classes ``labels``.

    ``found`` and ``truth`` are the rows of those classes' detections and objects; row numbers of images stand for their
    ids, which keeps the order (the evaluator carries ids as floats, exact only to 2**53).
    """
    from faster_coco_eval import COCO, COCOeval_faster

    boxes = records.boxes_xywh(found)
    detections = {
        "image_id": image_of_detection[found],
        "category_id": records.labels[found],
        "bbox": boxes,
        "area": boxes[:, 2] * boxes[:, 3],
        "score": records.scores[found],
        "iscrowd": np.zeros(len(found), dtype=np.int64),
    }
    objects = {
        "image_id": image_of_object[truth],
        "category_id": records.object_labels[truth],
        "bbox": records.object_boxes[truth],
        "area": records.object_areas[truth],
        "iscrowd": records.object_crowd[truth],
    }
    frame = {
        "images": [{"id": row} for row in np.union1d(detections["image_id"], objects["image_id"]).tolist()],
        "categories": [{"id": label} for label in labels],
    }
    evaluator = COCOeval_faster(
        COCO(frame | {"annotations": _annotations(objects)}),
        COCO(frame | {"annotations": _annotations(detections)}),
        "bbox",
        print_function=_log.debug,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"], evaluator.eval["scores"]


def _annotations(columns: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """Columns of equal length to COCO annotations, with ids from 1: evaluators read a match with id 0 as no match."""
    names = ("id", *columns)
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(range(1, len(values[0]) + 1), *values, strict=True)]
