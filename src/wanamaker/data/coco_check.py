"""Check of a COCO annotation file and its images before training: every problem at once, each with ids and a remedy.

Errors stop the run: they would train on wrong labels or fail hours later. Warnings are handled and counted: boxes
that overshoot the image by a rounding error are clipped, boxes without area are left out of training.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wanamaker.data.coco_index import CocoIndex, file_stamp, remember
from wanamaker.data.coco_report import MAX_EXAMPLES, CheckFinding, CocoReport, Severity, finding
from wanamaker.data.image_check import CheckMode, check_images


def _of_annotations(
    index: CocoIndex, severity: Severity, kind: str, wrong: np.ndarray, remedy: str
) -> list[CheckFinding]:
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return []
    examples = [
        f"annotation {index.annotation_id[i]} of image {index.annotation_image[i]}"
        f" bbox {[round(v, 2) for v in index.bbox[i].tolist()]}"
        for i in rows[:MAX_EXAMPLES]
    ]
    return [finding(severity, kind, examples, len(rows), remedy)]


def _duplicates(values: np.ndarray, kind: str, what: str, remedy: str) -> list[CheckFinding]:
    found, counts = np.unique(values, return_counts=True)
    again = found[counts > 1]
    if not len(again):
        return []
    examples = [f"{what} {value}" for value in again[:MAX_EXAMPLES].tolist()]
    return [finding("error", kind, examples, len(again), remedy)]


def check_structure(index: CocoIndex) -> list[CheckFinding]:
    """Ids and references of the *whole* file (before a subset is taken)."""
    findings = [
        finding("error", f"malformed entry, {what}", places, count, "Correct or remove these entries.")
        for what, count, places in index.malformed
    ]
    findings += _duplicates(index.image_id, "duplicate image id", "image", "Give every image its own id.")
    findings += _duplicates(
        index.annotation_id, "duplicate annotation id", "annotation", "Give every annotation its own id."
    )
    findings += _duplicates(index.category_id, "duplicate category id", "category", "Give every category its own id.")
    names = np.array(index.category_name, dtype=np.str_)
    findings += _duplicates(names, "duplicate category name", "category", "Merge or rename these categories.")
    findings += _duplicates(
        np.array(index.file_name, dtype=np.str_),
        "two images with the same file",
        "file",
        "Keep one image entry per file and move its annotations there.",
    )
    findings += _of_annotations(
        index,
        "error",
        "annotation of an unknown image",
        ~np.isin(index.annotation_image, index.image_id),
        "Add the image or remove the annotation.",
    )
    unknown = ~np.isin(index.annotation_category, index.category_id)
    if unknown.any():
        ids, counts = np.unique(index.annotation_category[unknown], return_counts=True)
        examples = [f"category id {c} in {n} annotations" for c, n in zip(ids, counts, strict=True)]
        examples.append(f"first: annotation {index.annotation_id[unknown][0]}")
        remedy = "Add these categories to the file, or correct the annotations."
        findings.append(finding("error", "unknown category id", examples, int(unknown.sum()), remedy))
    findings += _category_notes(index)
    for key, count in index.assumed.items():
        default = "width x height of the box" if key == "area" else "0"
        remedy = f"Taken as {default}. COCO metrics by size use the area, crowds are not counted as errors."
        findings.append(finding("warning", f"annotation without '{key}'", [], count, remedy))
    return findings


def _category_notes(index: CocoIndex) -> list[CheckFinding]:
    ids = np.unique(index.category_id)
    if not len(ids):
        return [finding("error", "no category", [], 1, "Declare at least one category.")]
    if ids[-1] - ids[0] + 1 == len(ids) and ids[0] in (0, 1):
        return []
    gaps = np.setdiff1d(np.arange(min(1, ids[0]), ids[-1] + 1), ids)
    remedy = "They are mapped to labels 1..K in ascending order of id, and back in all results."
    return [finding("note", "non-contiguous category ids, missing", map(str, gaps.tolist()), len(gaps), remedy)]


def check_boxes(index: CocoIndex, tolerance: float) -> list[CheckFinding]:
    """Boxes against the size of their image; `tolerance` is the overshoot in pixels that is clipped silently."""
    order = np.argsort(index.image_id, kind="stable")
    if not len(order):
        return [finding("error", "no image", [], 1, "The file, or the chosen subset, is empty.")]
    place = np.searchsorted(index.image_id, index.annotation_image, sorter=order)
    place = order[np.minimum(place, len(order) - 1)]
    known = index.image_id[place] == index.annotation_image
    x1, y1, box_w, box_h = index.bbox.T
    width, height = index.width[place], index.height[place]
    x2, y2 = x1 + box_w, y1 + box_h
    negative = (box_w < 0) | (box_h < 0)
    zero = ~negative & ((box_w == 0) | (box_h == 0))
    over = np.maximum.reduce([-x1, -y1, x2 - width, y2 - height])
    off = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    solid = known & ~negative & ~zero
    far = solid & (over > tolerance)
    remedy_far = (
        "bbox is [x, y, width, height] in pixels of the image. Correct these boxes"
        + (" (as corners x1 y1 x2 y2 they would fit: convert them)" if _fit_as_corners(index, place, far) else "")
        + ", or raise data.box_tolerance to clip what sticks out."
    )
    findings = _of_annotations(index, "error", "box wholly outside the image", solid & off, remedy_far)
    findings += _of_annotations(
        index, "error", f"box outside the image by more than {tolerance:g} px", far & ~off, remedy_far
    )
    findings += _of_annotations(
        index, "error", "box with negative size", known & negative, "bbox is [x, y, width, height]: correct these."
    )
    findings += _of_annotations(
        index, "warning", "box of zero width or height", known & zero, "Left out of training, kept for evaluation."
    )
    # Exports with one decimal overshoot by a hundredth of a pixel all the time; that is no news.
    findings += _of_annotations(
        index,
        "warning",
        f"box outside the image by up to {tolerance:g} px",
        solid & ~off & (over > 0.01) & ~far,
        "Clipped to the image in training, kept as it is for evaluation.",
    )
    size_wrong = np.flatnonzero((index.width < 1) | (index.height < 1))
    if len(size_wrong):
        examples = [f"image {index.image_id[i]}: {index.width[i]} x {index.height[i]}" for i in size_wrong]
        findings.append(
            finding("error", "image size is not positive", examples, len(size_wrong), "Correct width and height.")
        )
    empty = int((~np.isin(index.image_id, index.annotation_image)).sum())
    if empty:
        findings.append(finding("note", "images without boxes", [], empty, "Kept: they teach what is background."))
    crowds = int(index.iscrowd.sum())
    if crowds:
        findings.append(
            finding("note", "crowd boxes", [], crowds, "Left out of training; evaluation ignores what lies on them.")
        )
    return findings


def _fit_as_corners(index: CocoIndex, place: np.ndarray, rows: np.ndarray) -> bool:
    """Whether all of these boxes lie inside their images when read as x1 y1 x2 y2, a frequent mistake."""
    x1, y1, x2, y2 = index.bbox[rows].T
    inside = (x1 < x2) & (y1 < y2) & (x2 <= index.width[place][rows]) & (y2 <= index.height[place][rows])
    return bool(len(inside)) and bool(inside.all())


def check_coco(whole: CocoIndex, used: CocoIndex, folder: Path, mode: CheckMode, tolerance: float = 2.0) -> CocoReport:
    """Check an annotation file and the images that will be used.

    Args:
        whole: The file as read.
        used: The part that a split uses, `whole.narrow(subset, categories)`.
        folder: Where the images lie.
        mode: `full` decodes every image, `headers` reads headers and the end of each file, `off` opens no image.
        tolerance: Overshoot of boxes in pixels that is clipped; more is an error.

    Returns:
        The report; `raise_errors` turns its errors into one exception.
    """
    findings = [*check_structure(whole), *check_boxes(used, tolerance), *check_images(used, folder, mode)]
    return CocoReport(whole.path, len(used.image_id), len(used.annotation_id), len(used.category_id), tuple(findings))


def check_coco_once(
    whole: CocoIndex,
    used: CocoIndex,
    folder: Path,
    mode: CheckMode,
    tolerance: float = 2.0,
    cache_dir: Path | None = None,
) -> CocoReport:
    """`check_coco`, remembering a result without errors in `cache_dir`.

    It is remembered until the annotation file or the listing of the image folder changes, or other images or a more
    thorough check are asked for.
    """
    if cache_dir is None:
        return check_coco(whole, used, folder, mode, tolerance)
    stamp = f"{file_stamp(whole.path)}|{folder.resolve()}|{folder.stat().st_mtime_ns}|{mode}|{tolerance}"
    used_images = hashlib.blake2b(used.image_id.tobytes() + used.category_id.tobytes()).hexdigest()
    digest = hashlib.blake2b(f"{stamp}|{used_images}".encode(), digest_size=12).hexdigest()
    remembered = cache_dir / f"coco-check-{digest}.json"
    if remembered.is_file():
        fields = json.loads(remembered.read_text())
        findings = tuple(CheckFinding(**{**f, "examples": tuple(f["examples"])}) for f in fields.pop("findings"))
        return CocoReport(path=whole.path, findings=findings, **fields)
    report = check_coco(whole, used, folder, mode, tolerance)
    if not report.of("error"):
        fields = asdict(report)
        del fields["path"]
        remember(remembered, lambda path: path.write_text(json.dumps(fields)))
    return report
