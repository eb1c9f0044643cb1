"""Pictures: labels inside and apart, small photos enlarged, sheets with captions."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from wanamaker.reporting.contact_sheet import Tile, contact_sheet, shortened
from wanamaker.reporting.labels import place_labels
from wanamaker.reporting.overlay import draw_detections, to_picture
from wanamaker.reporting.style import PALETTE, class_colour, font, ink_on, rgb

NAMES = ["bottle", "carton of milk"]


def apart(a: np.ndarray, b: np.ndarray) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def crowd(count: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    corner = random.uniform(-5, [width - 10, height - 10], (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(3, 60, (count, 2))], axis=1)
    return boxes, random.integers(1, 3, count), random.uniform(0, 1, count)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (90, 120), (1600, 300)])
@pytest.mark.parametrize("count", [1, 12, 80])
def test_labels_stay_in_the_picture_and_apart(count: int, width: int, height: int) -> None:
    drawn = draw_detections(np.full((height, width, 3), 120, np.uint8), *crowd(count, width, height), NAMES)
    assert 1 <= len(drawn.labels) <= count
    assert (drawn.labels[:, :2] >= 0).all()
    assert (drawn.labels[:, 2:] <= drawn.image.size).all()
    for a, b in combinations(drawn.labels, 2):
        assert apart(a, b)


def test_a_label_with_no_room_is_left_out() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10.0]])
    places = place_labels(boxes, np.array([[10, 10], [11, 3], [4, 11]]), (10, 10))
    assert places[0].tolist() == [0, 0, 10, 10]
    assert places[1:] == [None, None]


def test_small_photos_are_enlarged_and_large_ones_reduced() -> None:
    small = draw_detections(np.zeros((60, 96, 3), np.uint8), np.zeros((0, 4)), [], [], NAMES)
    assert small.image.size == (640, 400)
    assert small.scale == pytest.approx(640 / 96)
    large = draw_detections(np.zeros((1000, 2560, 3), np.uint8), np.zeros((0, 4)), [], [], NAMES)
    assert large.image.size == (1280, 500)


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((320, 640, 3), 128, np.uint8)
    drawn = draw_detections(image, np.array([[100, 100, 300, 250]]), [1], [0.9], NAMES)
    pixels = np.asarray(drawn.image).astype(int)
    blue = np.abs(pixels - rgb(class_colour(1))).sum(axis=2) < 40
    assert blue[175, 97:103].any()
    assert blue[175, 297:303].any()
    assert blue[248:253, 200].any()
    assert (pixels[175, 120:280] == 128).all()
    assert (pixels[10:60, 400:600] == 128).all()


def test_truth_is_dashed_in_black_and_white() -> None:
    image = np.full((320, 640, 3), 128, np.uint8)
    truth = np.array([[100, 100, 300, 250]])
    drawn = draw_detections(image, np.zeros((0, 4)), [], [], NAMES, truth_boxes=truth)
    edge = np.asarray(drawn.image)[100, 105:295].astype(int)
    assert (edge.max(axis=1) - edge.min(axis=1) <= 12).all()  # no hue
    assert edge.max() > 240
    assert edge.min() < 70
    assert len(drawn.labels) == 0


def test_every_kind_of_picture_becomes_rgb() -> None:
    assert to_picture(np.zeros((4, 5), np.uint8)).mode == "RGB"
    assert to_picture(Image.new("RGBA", (3, 3), (0, 0, 0, 0))).getpixel((1, 1)) == (255, 255, 255)
    assert to_picture(Image.new("CMYK", (3, 3))).mode == "RGB"
    for wrong in (np.zeros((4, 5, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros(7, np.uint8)):
        with pytest.raises(ValueError, match="A picture is uint8"):
            to_picture(wrong)


def test_what_does_not_fit_together_is_refused() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="1 boxes, 2 labels and 2 scores"):
        draw_detections(image, np.zeros((1, 4)), [1, 2], [1, 1], NAMES)
    with pytest.raises(ValueError, match=r"Labels 3\.\.3, but there are 2 names"):
        draw_detections(image, np.zeros((1, 4)), [3], [1], NAMES)


def test_sheet_holds_all_photos() -> None:
    tiles = [
        Tile(np.full((50, 40 + 20 * i, 3), 40 * i, np.uint8), f"photo {i}", *crowd(3, 40, 50)[:1], [1, 2, 1], None)
        for i in range(5)
    ]
    sheet = contact_sheet(tiles, NAMES, title="Sheet", subtitle="five", tile_side=160)
    greys = {tuple(c) for _, c in sheet.getcolors(maxcolors=1 << 24)}
    assert {(40 * i,) * 3 for i in range(5)} <= greys
    assert set(map(rgb, PALETTE[:2])) <= greys  # the legend
    one = contact_sheet(tiles[:1], NAMES, title="A title that is far too long for one photo " * 3, tile_side=160)
    assert one.width < sheet.width
    with pytest.raises(ValueError, match="at least one photo"):
        contact_sheet([], NAMES, title="")


def test_long_texts_keep_their_ends() -> None:
    face = font(16)
    text = shortened("a_very_long_folder/and_a_long_file_name_0001.jpg", face, 150)
    assert face.getlength(text) <= 150
    assert text.startswith("a_v")
    assert text.endswith("jpg")
    assert shortened("short", face, 150) == "short"


def luminance(code: str) -> float:
    value = np.array(rgb(code)) / 255
    return float(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_label_text_reads_on_every_colour() -> None:
    for code in PALETTE:
        light, dark = sorted([luminance(code), luminance(ink_on(code))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG AA
    assert class_colour(1) == class_colour(1 + len(PALETTE))
