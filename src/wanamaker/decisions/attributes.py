"""Product attributes from detections: what stands where on a photo, in words and numbers a merchandiser filters by.

Pure functions on arrays: who calls them reads the pictures. Axis letters: D products, I images, H and W image height
and width.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.colour import Colour, dominant_colour
from wanamaker.errors import UserError
from wanamaker.predictions import Detections

if TYPE_CHECKING:  # pandas costs half a second to import
    import pandas as pd

SIZE_WITHIN = ("category", "image")
SIZE_CLASSES = ("small", "medium", "large")
SHAPES = ("slim", "tall", "square", "wide", "flat")
HORIZONTAL = ("left", "centre", "right")
VERTICAL = ("top", "middle", "bottom")

PRODUCT_COLUMNS = (
    "image_id",
    "file_name",
    "product",
    "category",
    "score",
    "colour",
    "colour_hex",
    "colour_share",
    "size_share",
    "size_class",
    "horizontal",
    "vertical",
    "shelf_row",
    "shape",
    "aspect_ratio",
    "category_count",
    "x1",
    "y1",
    "x2",
    "y2",
)

# A product counts as small below two thirds of what is usual in its group and as large above one and a half: the two
# are each other's inverse, and products that are all alike stay medium (quantiles would call a third of them small).
_SIZE_BOUNDS = (2 / 3, 3 / 2)
_SHAPE_BOUNDS = (1 / 2.2, 1 / 1.25, 1.25, 2.2)  # of width / height, between the entries of SHAPES
_ROW_TOLERANCE = 0.45  # of the median height: how far the bottoms of two products on one shelf may differ


def above_threshold(detections: Detections, score_threshold: float | Mapping[str, float]) -> Detections:
    """The detections with at least this score; the images seen stay the same.

    Args:
        detections: of any score.
        score_threshold: one number for all classes, or a number per class name; classes that are not named take the
            entry ``default``, which must then be there.

    Raises:
        UserError: a threshold is not in [0, 1], a class is unknown, or a class has no threshold.
    """
    limits = score_limits(score_threshold, detections.class_names)
    return detections.select(detections.score >= limits[detections.label - 1]) if len(detections) else detections


def check_score_threshold(score_threshold: float | Mapping[str, float]) -> dict[str, float]:
    """The thresholds by class name or ``default``.

    Raises:
        UserError: one is not in [0, 1].
    """
    by_name = score_threshold if isinstance(score_threshold, Mapping) else {"default": score_threshold}
    for name, value in by_name.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"decision.score_threshold={value!r} ({name}) must be a number in [0, 1]; 0.5 is usual.")
    return dict(by_name)


def score_limits(score_threshold: float | Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    """float32 [K], the threshold of each class.

    Raises:
        UserError: as `above_threshold`.
    """
    by_name = check_score_threshold(score_threshold)
    for name in by_name:
        if name not in (*names, "default"):
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"classes are {', '.join(names[:20])}."
            raise UserError(f"decision.score_threshold names a class {name!r} that the model does not know; {hint}")
    missing = [name for name in names if name not in by_name]
    if missing and "default" not in by_name:
        raise UserError(f"decision.score_threshold has no value for {', '.join(missing[:5])}: add an entry 'default'.")
    return np.array([by_name.get(name, by_name.get("default")) for name in names], dtype=np.float32)


def suppress_across_classes(detections: Detections, iou_threshold: float) -> Detections:
    """Keep the surest of boxes of one image that overlap by more than ``iou_threshold``, whatever their class.

    A detector suppresses per class; a product that it takes for a bottle *and* for a can is still one product.

    Raises:
        UserError: the threshold is not in (0, 1].
    """
    check_overlap_threshold(iou_threshold)
    keep = np.zeros(len(detections), dtype=bool)
    for _, index in detections.by_image():  # best score first
        boxes = detections.boxes[index].astype(np.float64)
        alive = np.ones(len(index), dtype=bool)
        for i in range(len(index)):
            if alive[i]:
                alive[i + 1 :] &= _iou(boxes[i], boxes[i + 1 :]) <= iou_threshold
        keep[index] = alive
    return detections.select(keep)


def check_overlap_threshold(iou_threshold: float) -> None:
    """Raise UserError for an overlap that is not in (0, 1]."""
    if not 0 < iou_threshold <= 1:
        raise UserError(f"decision.overlap_threshold={iou_threshold} must lie in (0, 1]; 0.7 is usual, null is off.")


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [N] of one box [4] with boxes [N, 4], xyxy."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = np.clip(sides, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inter
    return inter / np.maximum(union, 1e-9)


def product_colours(image: np.ndarray, boxes: np.ndarray) -> list[Colour]:
    """Dominant colour of each product of one image.

    Args:
        image: uint8 [H, W, 3], sRGB.
        boxes: [D, 4] xyxy pixels. A box outside the image or without area takes the nearest pixel of the image.
    """
    height, width = image.shape[:2]
    limits = np.array([width, height, width, height], dtype=np.float64)
    colours = []
    for box in np.clip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), 0, limits):
        for low, high in ((0, 2), (1, 3)):
            if box[high] - box[low] < 1:  # thinner than a pixel: the pixel it lies in
                box[low] = min(np.floor(box[low]), limits[low] - 1)
                box[high] = box[low] + 1
        colours.append(dominant_colour(image, box))
    return colours


def position_codes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which third of the image the middle of each box lies in.

    Args:
        boxes: [D, 4] xyxy pixels.
        sizes: [D, 2] (width, height) of the image of each box.

    Returns:
        Indices [D] into `HORIZONTAL` and [D] into `VERTICAL`.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    third = np.clip(np.floor(middle * 3), 0, 2).astype(np.int64)
    return third[:, 0], third[:, 1]


def shelf_rows(boxes: np.ndarray) -> np.ndarray:
    """Shelf of each product of one image [D], counted from 1 at the top.

    Products on a shelf share the line they stand on, whatever their height, so the bottoms of the boxes are clustered:
    in ascending order, a bottom further from the mean of the running shelf than the tolerance opens the next one.

    Args:
        boxes: [D, 4] xyxy pixels.
    """
    if len(boxes) == 0:
        return np.zeros(0, dtype=np.int64)
    bottoms = boxes[:, 3].astype(np.float64)
    tolerance = _ROW_TOLERANCE * float(np.median(boxes[:, 3] - boxes[:, 1]))
    rows = np.empty(len(boxes), dtype=np.int64)
    row, total, members = 1, 0.0, 0
    for index in np.argsort(bottoms, kind="stable"):
        if members and bottoms[index] - total / members > tolerance:
            row, total, members = row + 1, 0.0, 0
        rows[index] = row
        total, members = total + bottoms[index], members + 1
    return rows


def shape_codes(aspect_ratio: np.ndarray) -> np.ndarray:
    """Indices [D] into `SHAPES` of width / height [D]: slim below 1:2.2, tall below 1:1.25, then square, wide, flat."""
    return np.searchsorted(np.array(_SHAPE_BOUNDS), aspect_ratio, side="right")


def size_codes(area_share: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Indices [D] into `SIZE_CLASSES`: each product against the median share of its group.

    Args:
        area_share: [D], area of the product as a share of its image.
        group: [D], which products are compared: their category, or their image.
    """
    codes = np.ones(len(group), dtype=np.int64)
    for one in np.unique(group):
        member = group == one
        usual = float(np.median(area_share[member]))
        if usual > 0:
            codes[member] = np.searchsorted(np.array(_SIZE_BOUNDS), area_share[member] / usual, side="right")
    return codes


def product_table(
    detections: Detections, images: pd.DataFrame, colours: Sequence[Colour], size_within: str = "category"
) -> pd.DataFrame:
    """One row per product, by image in the order seen, numbered from 1 in reading order (shelf, then left to right).

    Args:
        detections: the products, already above the score threshold.
        images: columns image_id, file_name, width, height; every image seen is among them.
        colours: [D], in the order of the detections.
        size_within: what a product's size class is relative to, of `SIZE_WITHIN`: the products of its category in all
            images, or the products of its image.

    Returns:
        The columns of `PRODUCT_COLUMNS`. ``size_share`` is the share of the image's area; ``category_count`` the number
        of products of the category in the image.

    Raises:
        ValueError: an image is missing from ``images`` or listed twice, has no size, or colours do not match.
    """
    import pandas as pd

    if len(colours) != len(detections):
        raise ValueError(f"{len(colours)} colours for {len(detections)} products; there must be one for each.")
    known = _known_images(detections, images)
    place = pd.Index(known["image_id"]).get_indexer(detections.image_id)
    sizes = known[["width", "height"]].to_numpy(np.float64)[place]
    limits = np.concatenate([sizes, sizes], axis=1)
    boxes = np.clip(detections.boxes.astype(np.float64), 0, limits)
    width_height = boxes[:, 2:] - boxes[:, :2]
    share = width_height.prod(axis=1) / sizes.prod(axis=1)
    aspect = width_height[:, 0] / np.maximum(width_height[:, 1], 1e-9)
    horizontal, vertical = position_codes(boxes, sizes)
    group = {"category": detections.label, "image": detections.image_id}[size_within]
    rows = np.zeros(len(detections), dtype=np.int64)
    numbers = np.zeros(len(detections), dtype=np.int64)
    counts = np.zeros(len(detections), dtype=np.int64)
    order = []
    for _, index in detections.by_image():
        rows[index] = shelf_rows(boxes[index])
        reading = index[np.lexsort((boxes[index, 0], rows[index]))]
        numbers[reading] = np.arange(1, len(index) + 1)
        _, inverse, count = np.unique(detections.label[index], return_inverse=True, return_counts=True)
        counts[index] = count[inverse]
        order.append(reading)
    names = np.array([*detections.class_names, ""], dtype=object)
    table = pd.DataFrame(
        {
            "image_id": detections.image_id,
            "file_name": known["file_name"].to_numpy(dtype=object)[place],
            "product": numbers,
            "category": names[detections.label - 1],
            "score": detections.score,
            "colour": np.array([c.name for c in colours], dtype=object),
            "colour_hex": np.array([c.hex for c in colours], dtype=object),
            "colour_share": np.array([c.share for c in colours], dtype=np.float64),
            "size_share": share,
            "size_class": np.array(SIZE_CLASSES, dtype=object)[size_codes(share, group)],
            "horizontal": np.array(HORIZONTAL, dtype=object)[horizontal],
            "vertical": np.array(VERTICAL, dtype=object)[vertical],
            "shelf_row": rows,
            "shape": np.array(SHAPES, dtype=object)[shape_codes(aspect)],
            "aspect_ratio": aspect,
            "category_count": counts,
            **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
        },
        columns=list(PRODUCT_COLUMNS),
    )
    texts = ["file_name", "category", "colour", "colour_hex", "size_class", "horizontal", "vertical", "shape"]
    table = table.astype(dict.fromkeys(texts, "str"))
    return table.iloc[np.concatenate([np.zeros(0, np.int64), *order])].reset_index(drop=True)


def image_table(products: pd.DataFrame, detections: Detections, images: pd.DataFrame) -> pd.DataFrame:
    """One row per image seen, also those without a product.

    Args:
        products: of `product_table`.
        detections: the same that made ``products``.
        images: as in `product_table`.

    Returns:
        image_id, file_name, width, height, products, categories (how many different ones), counts (JSON, category to
        number, most frequent first), colours (JSON, colour to number, most frequent first), shelf_rows, covered_share
        (share of the image's area under at least one box, on a grid of 256 x 256), empty.

    Raises:
        ValueError: as `product_table`.
    """
    import pandas as pd

    known = _known_images(detections, images).set_index("image_id").loc[detections.image_ids_seen]
    groups = dict(iter(products.groupby("image_id")))
    nothing = products.iloc[:0]
    rows = []
    for image_id, file_name, width, height in known[["file_name", "width", "height"]].itertuples():
        group = groups.get(image_id, nothing)
        rows.append(
            {
                "image_id": image_id,
                "file_name": str(file_name),
                "width": int(width),
                "height": int(height),
                "products": len(group),
                "categories": group["category"].nunique(),
                "counts": json.dumps(_counts(group["category"]), ensure_ascii=False),
                "colours": json.dumps(_counts(group["colour"])),
                "shelf_rows": int(group["shelf_row"].max()) if len(group) else 0,
                "covered_share": _covered_share(group[["x1", "y1", "x2", "y2"]].to_numpy(), int(width), int(height)),
                "empty": len(group) == 0,
            }
        )
    columns = ["image_id", "file_name", "width", "height", "products", "categories", "counts", "colours"]
    table = pd.DataFrame(rows, columns=[*columns, "shelf_rows", "covered_share", "empty"])
    whole = dict.fromkeys(["image_id", "width", "height", "products", "categories", "shelf_rows"], "int64")
    texts = dict.fromkeys(["file_name", "counts", "colours"], "str")
    return table.astype({**whole, **texts, "covered_share": "float64", "empty": "bool"})


def _counts(column: pd.Series) -> dict[str, int]:
    """Value to number, most frequent first, ties by name."""
    found = column.value_counts()
    return {str(name): int(n) for name, n in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))}


def _covered_share(boxes: np.ndarray, width: int, height: int, cells: int = 256) -> float:
    covered = np.zeros((cells, cells), dtype=bool)
    for x1, y1, x2, y2 in np.round(boxes / [width, height, width, height] * cells).astype(int):
        covered[y1:y2, x1:x2] = True
    return float(covered.mean())


def _known_images(detections: Detections, images: pd.DataFrame) -> pd.DataFrame:
    seen = images[images["image_id"].isin(detections.image_ids_seen)]
    if seen["image_id"].duplicated().any():
        twice = seen.loc[seen["image_id"].duplicated(), "image_id"].unique()[:5].tolist()
        raise ValueError(f"The image table lists images {twice} more than once.")
    missing = np.setdiff1d(detections.image_ids_seen, seen["image_id"].to_numpy())
    if len(missing):
        raise ValueError(
            f"{len(missing)} images of the predictions are not in the image table, for example {missing[:5].tolist()}: "
            "predictions and image table must come from the same data."
        )
    if len(seen) and (seen[["width", "height"]].to_numpy() <= 0).any():
        broken = seen.loc[(seen[["width", "height"]] <= 0).any(axis=1), "file_name"].tolist()[:5]
        raise ValueError(f"Images without a size in the image table: {broken}.")
    return seen
