"""Colour names: a survey nobody fitted, simulated shelves with known colours, and light that does not fool it."""

import numpy as np
import pytest
from matplotlib.colors import XKCD_COLORS, to_rgb

from wanamaker.data.simulate.shelf import ShelfOptions, draw_photo
from wanamaker.decisions.colour import BASIC_COLOURS, colour_codes, colour_name, dominant_colour, srgb_to_lab

SAME = {"gray": "grey", "violet": "purple"}


def survey() -> list[tuple[str, np.ndarray]]:
    """Entries of XKCD's survey whose last word is a basic term and whose other words name no other colour."""
    stems = [*BASIC_COLOURS, *SAME, "redd", "yellow", "purpl", "purpley", "orang", "brown", "grey", "pink", "blu"]
    entries = []
    for name, code in XKCD_COLORS.items():
        *words, last = name.removeprefix("xkcd:").split()
        last = SAME.get(last, last)
        mixed = any(w.startswith(tuple(stems)) for w in words if w not in ("bluegrey",))
        if last in BASIC_COLOURS and not mixed:
            entries.append((last, np.array(to_rgb(code)) * 255))
    return entries


def test_names_agree_with_a_survey_of_people() -> None:
    held_out = survey()[1::2]  # the other half was looked at when the prototypes were placed
    names = np.array([name for name, _ in held_out])
    got = np.array(BASIC_COLOURS)[colour_codes(np.stack([rgb for _, rgb in held_out]))]
    assert len(held_out) > 150
    assert (got == names).mean() >= 0.9


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 30, 35), "red"),
        ((120, 15, 25), "red"),
        ((30, 80, 200), "blue"),
        ((150, 200, 245), "blue"),
        ((20, 110, 50), "green"),
        ((250, 220, 30), "yellow"),
        ((250, 130, 20), "orange"),
        ((110, 65, 30), "brown"),
        ((120, 50, 170), "purple"),
        ((250, 150, 190), "pink"),
        ((128, 128, 128), "grey"),
        ((250, 250, 250), "white"),
        ((10, 10, 12), "black"),
    ],
)
def test_focal_colours(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_name(rgb) == name


def test_lab_of_known_colours() -> None:
    # Values of the CIE formulae for sRGB primaries under D65, to two decimals.
    expected = [[100, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [0, 0, 0]]
    rgb = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]])
    np.testing.assert_allclose(srgb_to_lab(rgb), expected, atol=0.02)


def shelf_with(colour: tuple[int, int, int], light: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """A lit cylinder of one colour with a white label and a glint, before a pale wall."""
    image = np.full((120, 120, 3), 225.0)
    across = np.linspace(-1, 1, 60)
    shade = 0.45 + 0.55 * np.sqrt(1 - 0.85 * across**2)
    image[20:110, 30:90] = np.array(colour) * shade[None, :, None]
    image[60:75, 40:75] = 250
    image[25:100, 45:48] = 255
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image * light, 0, 255).astype(np.uint8)


BOX = np.array([30, 20, 90, 110])


@pytest.mark.parametrize("light", [(1, 1, 1), (0.55, 0.55, 0.55), (0.75, 0.68, 0.58)], ids=["day", "dim", "warm dim"])
@pytest.mark.parametrize(
    ("rgb", "name"),
    [((210, 30, 35), "red"), ((30, 80, 190), "blue"), ((20, 130, 60), "green"), ((240, 205, 40), "yellow")],
)
def test_light_shade_label_and_glint_do_not_change_the_name(rgb, name, light) -> None:
    found = dominant_colour(shelf_with(rgb, light), BOX)
    assert found.name == name
    assert 0.5 < found.share <= 1
    assert colour_name([int(found.hex[i : i + 2], 16) for i in (1, 3, 5)]) == name


def test_one_flat_colour_and_boxes_at_the_edge() -> None:
    image = np.full((40, 40, 3), 245, np.uint8)
    image[:, :20] = (25, 75, 190)
    assert dominant_colour(image, np.array([0, 0, 20, 40])).name == "blue"
    assert dominant_colour(image, np.array([-30.0, -30, 3, 60])).name == "blue"
    assert dominant_colour(image, np.array([30, 5, 30.4, 5.4])).name == "white"
    with pytest.raises(ValueError, match="does not overlap the image of 40 x 40"):
        dominant_colour(image, np.array([50, 50, 60, 60]))


def test_the_same_every_time() -> None:
    image = shelf_with((210, 30, 35))
    assert dominant_colour(image, BOX) == dominant_colour(image, BOX)


def test_colours_of_simulated_products() -> None:
    """Packages carry several colours, and the truth is the largest share of the *unlit* print: two of three is good.

    Guessing the most frequent name would score about a quarter.
    """
    right, truths = 0, []
    for index in range(24):
        scene = draw_photo(ShelfOptions(image_size=256), "test", index)
        pixels = np.asarray(scene.image.convert("RGB"))
        for product in scene.products:
            if product.crowd or product.attributes["occlusion"] > 0.3:
                continue
            x, y, wide, tall = product.bbox
            truths.append(product.attributes["colour"])
            right += dominant_colour(pixels, np.array([x, y, x + wide, y + tall])).name == truths[-1]
    assert len(truths) > 100
    assert right / len(truths) >= 0.58
    assert right / len(truths) >= 1.5 * max(truths.count(name) for name in set(truths)) / len(truths)


@pytest.mark.realdata
def test_colours_of_real_groceries_under_a_fridge_lamp(data_dir) -> None:
    """Warm, dim photos; what each product looks like to us is written here."""
    import json

    from PIL import Image

    seen_as = {"water": {"green"}, "mushroom": {"blue"}, "orange": {"orange"}, "mustard": {"yellow", "orange"}}
    seen_as |= {"ketchup": {"red"}, "eggBox": {"brown", "grey"}, "squash": {"green", "black"}}
    folder = data_dir / "detection" / "grocery_fridge"
    coco = json.loads((folder / "annotations_coco.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    right = []
    for entry in coco["images"]:
        pixels = np.asarray(Image.open(folder / "images" / entry["file_name"]).convert("RGB"))
        for mark in coco["annotations"]:
            if mark["image_id"] == entry["id"] and names[mark["category_id"]] in seen_as:
                x, y, wide, tall = mark["bbox"]
                found = dominant_colour(pixels, np.array([x, y, x + wide, y + tall]))
                right.append(found.name in seen_as[names[mark["category_id"]]])
    assert len(right) >= 190
    assert np.mean(right) >= 0.75
