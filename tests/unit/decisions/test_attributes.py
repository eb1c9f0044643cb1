"""Attributes of products: thresholds, places, shelves, sizes, and the two tables."""

import json

import numpy as np
import pandas as pd
import pytest

from wanamaker.decisions.attributes import (
    HORIZONTAL,
    PRODUCT_COLUMNS,
    SHAPES,
    SIZE_CLASSES,
    VERTICAL,
    above_threshold,
    image_table,
    position_codes,
    product_colours,
    product_table,
    shape_codes,
    shelf_rows,
    size_codes,
    suppress_across_classes,
)
from wanamaker.decisions.colour import Colour
from wanamaker.errors import UserError
from wanamaker.predictions import Detections

NAMES = ["bottle", "carton"]


def detections(boxes, label=None, score=None, image_id=None, seen=None) -> Detections:
    count = len(boxes)
    image_id = np.ones(count) if image_id is None else np.array(image_id)
    label = np.ones(count) if label is None else np.array(label)
    score = np.full(count, 0.9) if score is None else np.array(score)
    return Detections(image_id, np.array(boxes), score, label, NAMES, np.unique(image_id) if seen is None else seen)


def test_one_threshold_and_one_per_class() -> None:
    found = detections([[0, 0, 1, 1]] * 4, label=[1, 1, 2, 2], score=[0.5, 0.4, 0.4, 0.2], seen=np.array([1, 2]))
    assert above_threshold(found, 0.4).score.tolist() == pytest.approx([0.5, 0.4, 0.4])
    per_class = above_threshold(found, {"default": 0.45, "carton": 0.3})
    assert per_class.label.tolist() == [1, 2]
    assert per_class.image_ids_seen.tolist() == [1, 2]
    assert len(above_threshold(found.select(np.zeros(4, bool)), 0.5)) == 0


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, "must be a number in"),
        ({"default": True}, "must be a number in"),
        ({"default": 0.5, "botle": 0.3}, "did you mean 'bottle'"),
        ({"bottle": 0.3}, "no value for carton: add an entry 'default'"),
    ],
)
def test_thresholds_that_make_no_sense(threshold, message: str) -> None:
    with pytest.raises(UserError, match=message):
        above_threshold(detections([[0, 0, 1, 1]]), threshold)


def test_one_product_is_not_two_categories() -> None:
    found = detections(
        [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 10, 10]],
        label=[1, 2, 2, 1],
        score=[0.6, 0.9, 0.8, 0.5],
        image_id=[1, 1, 1, 2],
    )
    assert suppress_across_classes(found, 0.8).score.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert len(suppress_across_classes(found, 1.0)) == 4
    with pytest.raises(UserError, match="overlap_threshold=0"):
        suppress_across_classes(found, 0)


def test_places() -> None:
    boxes = np.array([[0, 0, 10, 10], [45, 45, 55, 55], [90, 90, 100, 100], [0, 100, 10, 200.0]])
    sizes = np.array([[100, 100], [100, 100], [100, 100], [100, 200]])
    horizontal, vertical = position_codes(boxes, sizes)
    assert [HORIZONTAL[i] for i in horizontal] == ["left", "centre", "right", "left"]
    assert [VERTICAL[i] for i in vertical] == ["top", "middle", "bottom", "bottom"]


def test_shelves_are_told_by_what_products_stand_on() -> None:
    # Two shelves at 100 and 220; tall and short products, slightly tilted, in any order.
    boxes = np.array([[0, 10, 30, 99], [200, 150, 230, 224], [40, 60, 70, 102], [80, 20, 99, 104], [0, 190, 30, 218.0]])
    assert shelf_rows(boxes).tolist() == [1, 2, 1, 1, 2]
    assert shelf_rows(np.zeros((0, 4))).tolist() == []


def test_shapes() -> None:
    assert [SHAPES[i] for i in shape_codes(np.array([0.3, 0.6, 1.0, 1.6, 3.0]))] == list(SHAPES)


def test_sizes_are_relative_to_their_group() -> None:
    share = np.array([0.01, 0.02, 0.04, 0.2, 0.2, 0.2])
    codes = size_codes(share, np.array([1, 1, 1, 2, 2, 2]))
    assert [SIZE_CLASSES[i] for i in codes] == ["small", "medium", "large", "medium", "medium", "medium"]
    assert [SIZE_CLASSES[i] for i in size_codes(share, np.zeros(6))][-1] == "large"


def images_of(*ids: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": ids, "file_name": [f"{i}.jpg" for i in ids], "path": "", "width": 100, "height": 200}
    )


def two_shelves() -> tuple[Detections, list[Colour]]:
    found = detections(
        [[50, 110, 70, 190], [0, 10, 20, 90], [60, 20, 80, 91], [20, 30, 60, 120]],
        label=[2, 1, 1, 1],
        score=[0.9, 0.8, 0.7, 0.6],
        image_id=[7, 7, 7, 9],
        seen=np.array([9, 8, 7]),
    )
    return found, [Colour("blue", "#0000ff", 0.7), *[Colour("red", "#ff0000", 0.5)] * 2, Colour("green", "#00ff00", 1)]


def test_product_table_reads_like_a_page() -> None:
    found, colours = two_shelves()
    table = product_table(found, images_of(7, 8, 9, 10), colours)
    assert tuple(table.columns) == PRODUCT_COLUMNS
    assert table["image_id"].tolist() == [9, 7, 7, 7]
    shelf = table[table["image_id"] == 7]
    assert shelf["product"].tolist() == [1, 2, 3]
    assert shelf["category"].tolist() == ["bottle", "bottle", "carton"]
    assert shelf["shelf_row"].tolist() == [1, 1, 2]
    assert shelf["colour"].tolist() == ["red", "red", "blue"]
    assert shelf["category_count"].tolist() == [2, 2, 1]
    assert shelf["size_share"].tolist() == pytest.approx([0.08, 0.071, 0.08])
    assert shelf["file_name"].unique().tolist() == ["7.jpg"]
    assert shelf["horizontal"].tolist() == ["left", "right", "centre"]
    within_image = product_table(found, images_of(7, 8, 9), colours, size_within="image")
    assert table["size_class"].tolist() == ["large", "medium", "medium", "medium"]
    assert within_image["size_class"].tolist() == ["medium"] * 4


def test_image_table_has_every_image() -> None:
    found, colours = two_shelves()
    images = images_of(7, 8, 9, 10)
    table = image_table(product_table(found, images, colours), found, images)
    assert table["image_id"].tolist() == [9, 8, 7]
    assert table["products"].tolist() == [1, 0, 3]
    assert table["empty"].tolist() == [False, True, False]
    assert [json.loads(text) for text in table["counts"]] == [{"bottle": 1}, {}, {"bottle": 2, "carton": 1}]
    assert [json.loads(text) for text in table["colours"]] == [{"green": 1}, {}, {"red": 2, "blue": 1}]
    assert table["shelf_rows"].tolist() == [1, 0, 2]
    assert table["covered_share"].tolist() == pytest.approx([0.18, 0, 0.231], abs=0.01)


def test_tables_of_nothing() -> None:
    nothing = detections(np.zeros((0, 4)), seen=np.array([8]))
    products = product_table(nothing, images_of(8), [])
    assert len(products) == 0
    assert tuple(products.columns) == PRODUCT_COLUMNS
    assert image_table(products, nothing, images_of(8))["empty"].tolist() == [True]


def test_predictions_and_images_must_belong_together() -> None:
    found, colours = two_shelves()
    with pytest.raises(ValueError, match=r"1 images of the predictions .* \[9\]"):
        product_table(found, images_of(7, 8), colours)
    with pytest.raises(ValueError, match=r"\[7\] more than once"):
        product_table(found, images_of(7, 7, 8, 9), colours)
    with pytest.raises(ValueError, match="3 colours for 4 products"):
        product_table(found, images_of(7, 8, 9), colours[:3])


def test_colours_of_boxes_outside_and_without_area() -> None:
    image = np.full((20, 30, 3), 250, np.uint8)
    image[:, :10] = (220, 30, 30)
    boxes = np.array([[0, 0, 10, 20], [-9, -9, -5, -5], [40, 5, 50, 9], [20, 5, 20, 5.0]])
    assert [c.name for c in product_colours(image, boxes)] == ["red", "red", "white", "white"]
    assert product_colours(image, np.zeros((0, 4))) == []
