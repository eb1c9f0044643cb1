"""Records to COCO's file formats, exactly: pycocotools on the written files gives the numbers of `CocoMetrics`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.metrics.detection_records import DetectionRecords


def write_coco_results(path: Path | str, records: DetectionRecords, category_ids: Sequence[int]) -> Path:
    """Write the detections as a COCO results file: a JSON list of image_id, category_id, bbox (xywh pixels), score.

    Nothing is rounded: each double is written with the shortest decimal that reads back as the same double, because a
    box rounded to two decimals can cross an IoU threshold, and a rounded score can tie. One detection per line, in
    image order and, within an image, in the detector's order, which breaks ties. Images without detections leave no
    trace in this format; keep the ground truth beside it. Detections outside the classes have no category id and are
    left out; they score nothing either way.

    Args:
        path: the file; its folder must exist. It appears whole or not at all.
        records: from `CocoMetrics.evaluated_records`.
        category_ids: K ids of the annotation file, in label order (ascending, so that labels and ids sort alike).

    Returns:
        The path.

    Raises:
        ValueError: an id is missing for a ground-truth label, or ids are not ascending.
        OSError: the file cannot be written.
    """
    categories = _checked(category_ids, records)
    path = Path(path)
    image_of_row = np.repeat(records.image_ids, records.num_detections)
    inside = np.flatnonzero((records.labels >= 1) & (records.labels <= len(categories)))
    columns = (
        image_of_row[inside].tolist(),
        categories[records.labels[inside] - 1].tolist(),
        records.boxes_xywh(inside).tolist(),
        records.scores[inside].tolist(),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write("[")
            separator = "\n"
            for image, category, box, score in zip(*columns, strict=True):
                row = {"image_id": image, "category_id": category, "bbox": box, "score": score}
                file.write(separator + json.dumps(row, allow_nan=False))
                separator = ",\n"
            file.write("\n]\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def coco_ground_truth_dict(
    records: DetectionRecords, category_ids: Sequence[int], class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The ground truth as a COCO instance file holds it: images, annotations, categories; ready for ``json.dump``.

    Every evaluated image is listed, also one with neither objects nor detections. Annotation ids count from 1:
    pycocotools takes a match with annotation id 0 for no match, so a file that counts from 0 scores lower.

    Args:
        records: from `CocoMetrics.evaluated_records`.
        category_ids: K ids, in label order.
        class_names: K names, in label order; without them the id stands for the name.

    Raises:
        ValueError: an id is missing for a ground-truth label, ids are not ascending, or names and ids differ in number.
    """
    categories = _checked(category_ids, records)
    names = [str(id_) for id_ in categories] if class_names is None else list(class_names)
    if len(names) != len(categories):
        raise ValueError(f"{len(names)} class names for {len(categories)} category ids; give one for each.")
    columns = (
        range(1, len(records.object_labels) + 1),
        np.repeat(records.image_ids, records.num_objects).tolist(),
        categories[records.object_labels - 1].tolist() if len(records.object_labels) else [],
        records.object_boxes.tolist(),
        records.object_areas.tolist(),
        records.object_crowd.tolist(),
    )
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    return {
        "images": [{"id": id_} for id_ in records.image_ids.tolist()],
        "annotations": [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)],
        "categories": [{"id": int(id_), "name": name} for id_, name in zip(categories, names, strict=True)],
    }


def _checked(category_ids: Sequence[int], records: DetectionRecords) -> np.ndarray:
    ids = np.asarray(category_ids, dtype=np.int64)
    if (np.diff(ids) <= 0).any():
        raise ValueError(f"category_ids must be ascending, in label order; got {ids.tolist()}.")
    largest = int(records.object_labels.max(initial=0))
    if largest > len(ids):
        raise ValueError(f"{len(ids)} category ids for ground-truth labels up to {largest}; give one per class.")
    return ids
