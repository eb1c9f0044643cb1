"""A COCO instance file as flat arrays: parsed once, small in memory, cheap to share with worker processes.

Axis letters: I images, A annotations, C categories.

A list of dictionaries for the 860,000 boxes of train2017 costs gigabytes in every worker (reference counts unshare
the pages after a fork); the arrays cost 60 MB once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_CACHE_VERSION = 1
_EXAMPLES = 5


@dataclass(frozen=True)
class CocoIndex:
    """The content of an instance file, unfiltered, in file order.

    Attributes:
        path: The annotation file.
        image_id: int64 [I].
        file_name: I names relative to the image folder.
        height: int64 [I], pixels as the file declares them; width likewise.
        annotation_id: int64 [A]; annotation_image, annotation_category likewise.
        bbox: float64 [A, 4], x y width height in pixels.
        area: float64 [A], of the segment in COCO, of the box where the file gives none.
        iscrowd: bool [A].
        category_id: int64 [C], in file order; category_name: C names.
        malformed: Entries that cannot be read, as (what, count, first examples); they are not in the arrays.
        assumed: Optional keys that were missing, with their counts.
    """

    path: Path
    image_id: np.ndarray
    file_name: list[str]
    height: np.ndarray
    width: np.ndarray
    annotation_id: np.ndarray
    annotation_image: np.ndarray
    annotation_category: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    iscrowd: np.ndarray
    category_id: np.ndarray
    category_name: list[str]
    malformed: list[tuple[str, int, list[str]]] = field(default_factory=list)
    assumed: dict[str, int] = field(default_factory=dict)

    def narrow(self, subset: Sequence[int] | None, categories: Sequence[str] | None) -> CocoIndex:
        """Keep images `subset[0]` up to, not including, `subset[1]` in file order, and the named categories.

        Images that lose all boxes stay. Annotations of unknown images or categories go.

        Raises:
            UserError: an empty or impossible range, or a category the file does not have.
        """
        keep = np.arange(len(self.image_id))[_subset_slice(subset, len(self.image_id), self.path)]
        category_keep = self._category_mask(categories)
        rows = np.isin(self.annotation_image, self.image_id[keep])
        rows &= np.isin(self.annotation_category, self.category_id[category_keep])
        return replace(
            self,
            image_id=self.image_id[keep],
            file_name=[self.file_name[i] for i in keep],
            height=self.height[keep],
            width=self.width[keep],
            annotation_id=self.annotation_id[rows],
            annotation_image=self.annotation_image[rows],
            annotation_category=self.annotation_category[rows],
            bbox=self.bbox[rows],
            area=self.area[rows],
            iscrowd=self.iscrowd[rows],
            category_id=self.category_id[category_keep],
            category_name=[name for name, kept in zip(self.category_name, category_keep, strict=True) if kept],
        )

    def _category_mask(self, categories: Sequence[str] | None) -> np.ndarray:
        if categories is None:
            return np.ones(len(self.category_id), dtype=bool)
        unknown = [name for name in categories if name not in self.category_name]
        if unknown or not categories:
            known = ", ".join(self.category_name[:20]) + (", ..." if len(self.category_name) > 20 else "")
            wrong = f"has unknown names {unknown}" if unknown else "is empty"
            raise UserError(f"data.categories {wrong}; {self.path} has {len(self.category_name)} categories: {known}.")
        return np.array([name in set(categories) for name in self.category_name])

    def ordered_categories(self) -> tuple[list[int], list[str]]:
        """Category ids in ascending order and their names: label k is the k-th of them, counting from 1."""
        order = np.argsort(self.category_id, kind="stable")
        return self.category_id[order].tolist(), [self.category_name[i] for i in order]


def _subset_slice(subset: Sequence[int] | None, count: int, path: Path) -> slice:
    if subset is None:
        return slice(None)
    values = list(subset)
    valid = len(values) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    if not valid or not 0 <= values[0] < values[1]:
        raise UserError(f"subset={values}: give [start, stop] with 0 <= start < stop (stop not included), or null.")
    if values[0] >= count or values[1] > count:
        raise UserError(f"subset={values} reaches beyond the {count} images of {path}; stop may be {count} at most.")
    return slice(*values)


class _Malformed:
    """Counts what cannot be read, with the first few places."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, where: str) -> None:
        count, examples = self.found.get(what, (0, []))
        self.found[what] = (count + 1, [*examples, where] if len(examples) < _EXAMPLES else examples)

    def listed(self) -> list[tuple[str, int, list[str]]]:
        return [(what, count, examples) for what, (count, examples) in self.found.items()]


def _is_int(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(v) for v in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_IMAGE_KEYS = {"id": _is_int, "file_name": _is_name, "width": _is_int, "height": _is_int}
_ANNOTATION_KEYS = {"id": _is_int, "image_id": _is_int, "category_id": _is_int, "bbox": _is_box}
_CATEGORY_KEYS = {"id": _is_int, "name": _is_name}


def _readable(
    entries: list[Any], section: str, keys: dict[str, Callable[[Any], bool]], malformed: _Malformed
) -> list[dict[str, Any]]:
    good = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            malformed.add(f"{section}: entry is no object", f"entry {place}")
            continue
        where = f"id {entry['id']}" if "id" in entry else f"entry {place}"
        wrong = None
        for key, valid in keys.items():
            if key not in entry:
                wrong = f"{section}: key '{key}' missing"
            elif not valid(entry[key]):
                wrong = f"{section}: '{key}' is not valid"
                where += f" ({key}={str(entry[key])[:60]})"
            if wrong:
                malformed.add(wrong, where)
                break
        else:
            good.append(entry)
    return good


def parse_coco(path: Path) -> CocoIndex:
    """Read an instance file.

    Raises:
        UserError: no JSON, or not the three sections images, annotations and categories. Single bad entries are
            collected in `CocoIndex.malformed`, to be reported together.
    """
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); it may be cut short: export or download it again."
        ) from error
    sections = ("images", "annotations", "categories")
    missing = [key for key in sections if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise UserError(
            f"{path} is no COCO instance file: list(s) {', '.join(missing)} missing."
            ' It needs {"images": [...], "annotations": [...], "categories": [...]}.'
        )
    malformed = _Malformed()
    images = _readable(content["images"], "images", _IMAGE_KEYS, malformed)
    annotations = _readable(content["annotations"], "annotations", _ANNOTATION_KEYS, malformed)
    categories = _readable(content["categories"], "categories", _CATEGORY_KEYS, malformed)
    del content
    assumed = {key: sum(key not in a for a in annotations) for key in ("area", "iscrowd")}
    bbox = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    area = np.array(
        [a["area"] if _is_number(a.get("area")) else a["bbox"][2] * a["bbox"][3] for a in annotations],
        dtype=np.float64,
    )

    def integers(entries: list[dict[str, Any]], key: str) -> np.ndarray:
        return np.array([int(entry[key]) for entry in entries], dtype=np.int64)

    return CocoIndex(
        path=path,
        image_id=integers(images, "id"),
        file_name=[image["file_name"] for image in images],
        height=integers(images, "height"),
        width=integers(images, "width"),
        annotation_id=integers(annotations, "id"),
        annotation_image=integers(annotations, "image_id"),
        annotation_category=integers(annotations, "category_id"),
        bbox=bbox,
        area=area,
        iscrowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
        category_id=integers(categories, "id"),
        category_name=[category["name"] for category in categories],
        malformed=malformed.listed(),
        assumed={key: count for key, count in assumed.items() if count},
    )


_ARRAYS = (
    "image_id",
    "height",
    "width",
    "annotation_id",
    "annotation_image",
    "annotation_category",
    "bbox",
    "area",
    "iscrowd",
    "category_id",
)


def file_stamp(path: Path) -> str:
    """Name for cached facts about a file: changes with its place, size or modification time."""
    status = path.stat()
    text = f"{_CACHE_VERSION}|{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def remember(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file that moves to `target` when complete.

    A cache that cannot be written costs time, not results: it is said in a warning and the run goes on.
    """
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        log.warning("Cannot remember in %s (%s): the same work is done again in the next run.", target.parent, error)


def load_coco(path: Path, cache_dir: Path | None = None) -> CocoIndex:
    """`parse_coco`, remembering the arrays of large files in `cache_dir` (400 MB of JSON: 12 s and 5 GB become 0.1 s).

    Only files without malformed entries are remembered. A cache written by an interrupted run cannot be seen: it is
    moved into place when complete.
    """
    cached = None if cache_dir is None else cache_dir / f"coco-{file_stamp(path)}.npz"
    if cached is not None and cached.is_file():
        with np.load(cached, allow_pickle=False) as stored:
            extra = json.loads(stored["extra"].item())
            return CocoIndex(path=path, **{name: stored[name] for name in _ARRAYS}, **extra)
    index = parse_coco(path)
    if cached is not None and not index.malformed:
        extra = json.dumps(
            {"file_name": index.file_name, "category_name": index.category_name, "assumed": index.assumed}
        )
        arrays = {name: getattr(index, name) for name in _ARRAYS}
        remember(cached, lambda path: np.savez(path, extra=np.array(extra), **arrays))
    return index
