"""Where labels go: beside their boxes, inside the picture, and never on one another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def place_labels(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> list[np.ndarray | None]:
    """Choose a place for each label; earlier labels choose first.

    The corners and edges of a label's own box are tried in the order a reader would look for it: above the box, in its
    top corner, below it, and so on. The first free place that hides no other box's upper left corner is taken, else the
    first free place.

    Args:
        boxes: [L, 4] xyxy pixels, the box each label names.
        sizes: int64 [L, 2], width and height of each label.
        canvas: width and height of the picture.

    Returns:
        For each label int64 [4] xyxy inside the canvas, or None where there was no room.
    """
    width, height = canvas
    taken = np.zeros((0, 4), dtype=np.int64)
    places: list[np.ndarray | None] = []
    for index, (box, (w, h)) in enumerate(zip(np.asarray(boxes), np.asarray(sizes).tolist(), strict=True)):
        place = None
        if w <= width and h <= height:
            others = np.delete(np.asarray(boxes), index, axis=0)
            second = None
            for x, y in _candidates(box, w, h):
                x, y = min(max(round(x), 0), width - w), min(max(round(y), 0), height - h)
                candidate = np.array([x, y, x + w, y + h], dtype=np.int64)
                if _overlaps(candidate, taken):
                    continue
                if not _hides_corner(candidate, others):
                    place = candidate
                    break
                second = candidate if second is None else second
            place = second if place is None else place
        if place is not None:
            taken = np.concatenate([taken, place[None]])
        places.append(place)
    return places


def _candidates(box: np.ndarray, w: int, h: int) -> Iterator[tuple[float, float]]:
    """Upper left corners of a label of w x h pixels, best first."""
    x1, y1, x2, y2 = (float(v) for v in box)
    middle = (x1 + x2 - w) / 2
    yield from ((x1, y1 - h), (x2 - w, y1 - h), (x1, y1), (x1, y2), (x2 - w, y2), (x2 - w, y1), (x1, y2 - h))
    yield from ((x2 - w, y2 - h), (middle, y1 - h), (middle, y2), (x2, y1), (x1 - w, y1), (middle, (y1 + y2 - h) / 2))
    for step in range(1, 4):
        yield from ((x1, y1 + step * h), (x1, y1 - (step + 1) * h), (x2 - w, y1 + step * h), (x1, y2 + step * h))


def _overlaps(place: np.ndarray, taken: np.ndarray) -> bool:
    apart = (
        (place[2] <= taken[:, 0]) | (taken[:, 2] <= place[0]) | (place[3] <= taken[:, 1]) | (taken[:, 3] <= place[1])
    )
    return bool((~apart).any())


def _hides_corner(place: np.ndarray, boxes: np.ndarray) -> bool:
    x, y = boxes[:, 0], boxes[:, 1]
    return bool(((place[0] <= x) & (x <= place[2]) & (place[1] <= y) & (y <= place[3])).any())
