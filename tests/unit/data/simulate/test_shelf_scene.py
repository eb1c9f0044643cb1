"""Photos of the `shelf` simulator: repeatable, and labelled exactly."""

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from wanamaker.data.simulate.shelf import ShelfOptions, draw_photo, photo_seed
from wanamaker.data.simulate.shelf_canvas import MIN_SIDE, MIN_VISIBLE, Canvas
from wanamaker.data.simulate.shelf_label import draw_brand
from wanamaker.data.simulate.shelf_package import (
    BASE_CATEGORIES,
    MATERIALS,
    RESTOCK_CATEGORIES,
    SHAPES,
    SIZES,
    design_package,
)
from wanamaker.data.simulate.shelf_palette import COLOUR_NAMES, dominant_colour
from wanamaker.data.simulate.shelf_scene import Scene, categories, compose_scene
from wanamaker.data.simulate.shelf_sprite import View, draw_package

ALL = BASE_CATEGORIES + RESTOCK_CATEGORIES
NUM_PHOTOS = 240


def rng(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(entropy)))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    options = ShelfOptions(image_size=128)
    started = time.perf_counter()
    drawn = [draw_photo(options, "train", index) for index in range(NUM_PHOTOS)]
    print(f"{60 * NUM_PHOTOS / (time.perf_counter() - started):.0f} photos of 128 px a minute in one process")
    return drawn


def test_a_photo_depends_on_nothing_but_its_seed(scenes: list[Scene]) -> None:
    again = draw_photo(ShelfOptions(image_size=128, num_train=7), "train", 5)
    assert again.image.tobytes() == scenes[5].image.tobytes()
    assert again.products == scenes[5].products


@pytest.mark.parametrize("change", [{"seed": 1}, {"style": "restock"}])
def test_another_seed_or_style_draws_another_photo(scenes: list[Scene], change: dict) -> None:
    other = draw_photo(ShelfOptions(image_size=128, **change), "train", 5)
    assert other.image.tobytes() != scenes[5].image.tobytes()


def test_splits_and_indices_never_share_a_seed() -> None:
    options = ShelfOptions()
    seeds = [photo_seed(options, split, index) for split in ("train", "val", "test") for index in range(3000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_boxes_are_tight_around_what_is_seen(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.shown.shape
        assert scene.shown.max() <= len(scene.products)
        for number, product in enumerate(scene.products, start=1):
            rows, columns = np.nonzero(scene.shown == number)
            x, y = columns.min(), rows.min()
            assert product.bbox == (x, y, columns.max() + 1 - x, rows.max() + 1 - y)
            assert product.area == len(rows)
            assert min(product.bbox[2:]) >= MIN_SIDE
            assert product.bbox[0] + product.bbox[2] <= width
            assert product.bbox[1] + product.bbox[3] <= height


def test_a_pixel_says_it_shows_a_product_only_where_the_product_changed_it() -> None:
    canvas = Canvas(160, 120, rng(1))
    for x, category in ((10, "bottle"), (60, "box"), (110, "tub")):
        package = design_package(rng(x), category, draw_brand(rng(2), "base"))
        before = np.asarray(canvas.image).copy()
        canvas.place(draw_package(package, 70, View(0.3, 0.1, 0.6)), x, 110, package)
        changed = (np.asarray(canvas.image) != before).any(-1)
        mine = canvas.owner == canvas.owner.max()
        # The soft edge, one pixel wide, belongs to nobody.
        assert (mine & ~changed).mean() < 0.002
        rows, columns = np.nonzero(changed)
        owned_rows, owned_columns = np.nonzero(mine)
        for seen, owned in ((rows, owned_rows), (columns, owned_columns)):
            assert abs(int(seen.min()) - int(owned.min())) <= 1
            assert abs(int(seen.max()) - int(owned.max())) <= 1


def test_what_stands_in_front_takes_pixels_and_counts_as_occlusion() -> None:
    package = design_package(rng(3), "box", draw_brand(rng(4), "base"))
    sprite = draw_package(package, 60, View(0.0, 0.0, 0.0))
    canvas = Canvas(200, 100, rng(0))
    canvas.place(sprite, 20, 90, package)
    alone = canvas.products(canvas.owner, None)[0][0]
    assert alone.attributes["occlusion"] == 0
    wide = sprite.rgb.width
    canvas.place(sprite, 20 + wide // 2, 90, package)
    behind, front = canvas.products(canvas.owner, None)[0]
    assert behind.attributes["occlusion"] == pytest.approx(0.5, abs=0.06)
    assert behind.bbox[2] == pytest.approx(wide / 2, abs=3)
    assert front.attributes["occlusion"] == 0
    canvas.put(Image.new("RGBA", (200, 80), (9, 9, 9, 255)), 0, 15)
    assert canvas.products(canvas.owner, None)[0] == []


def test_a_product_cut_by_the_border_has_a_clipped_box() -> None:
    package = design_package(rng(3), "can", draw_brand(rng(4), "base"))
    sprite = draw_package(package, 60, View(0.0, 0.0, 0.0))
    canvas = Canvas(100, 100, rng(0))
    canvas.place(sprite, -sprite.rgb.width // 2, 90, package)
    (product,) = canvas.products(canvas.owner, None)[0]
    assert product.bbox[0] == 0
    assert product.attributes["occlusion"] == pytest.approx(0.5, abs=0.06)


def test_the_lens_scales_what_counts_as_the_whole_product() -> None:
    package = design_package(rng(3), "can", draw_brand(rng(4), "base"))
    canvas = Canvas(100, 100, rng(0))
    canvas.place(draw_package(package, 50, View(0.0, 0.0, 0.0)), 30, 80, package)
    # A lens that shows everything at double size: (x, y) of the photo is (x / 2 + 20, y / 2 + 30) of the canvas.
    lens = (0.5, 0, 20, 0, 0.5, 30, 0, 0)
    owner = Image.fromarray(canvas.owner.astype(np.int32)).transform((100, 100), Image.Transform.PERSPECTIVE, lens)
    (product,) = canvas.products(np.asarray(owner).astype(np.int16), lens)[0]
    assert product.bbox[3] == pytest.approx(100, abs=6)
    assert product.attributes["occlusion"] == pytest.approx(0, abs=0.03)


def test_attributes_come_from_their_vocabularies(scenes: list[Scene]) -> None:
    for product in (product for scene in scenes for product in scene.products):
        assert product.category in BASE_CATEGORIES
        assert list(product.attributes) == ["colour", "material", "shape", "size", "occlusion"]
        assert product.attributes["colour"] in COLOUR_NAMES
        assert product.attributes["material"] in MATERIALS
        assert product.attributes["shape"] in SHAPES
        assert product.attributes["size"] in SIZES
        assert 0 <= product.attributes["occlusion"] <= 1 - MIN_VISIBLE + 0.001


def test_categories_agree_with_what_they_are_made_of(scenes: list[Scene]) -> None:
    seen: dict[str, set] = {name: set() for name in BASE_CATEGORIES}
    for product in (product for scene in scenes for product in scene.products):
        seen[product.category].add((product.attributes["material"], product.attributes["shape"]))
    assert seen["can"] == {("metal", "cylindrical")}
    assert seen["box"] == {("paper", "rectangular")}
    assert seen["carton"] == {("paper", "gabled")}
    assert {shape for _, shape in seen["bottle"]} == {"necked"}
    assert {material for material, _ in seen["bottle"]} == {"glass", "plastic"}


@pytest.mark.parametrize("category", ALL)
def test_every_package_has_its_height_colour_and_a_solid_body(category: str) -> None:
    for number in range(12):
        package = design_package(rng(number), category, draw_brand(rng(100 + number), "base"), number % 3)
        assert package.category == category
        for height in (16, 24, 90):
            view = View(round(-0.9 + 0.15 * number, 1), -0.05 + 0.02 * number, -1 + 0.18 * number)
            sprite = draw_package(package, height, view)
            solid = np.asarray(sprite.alpha) > 127
            assert sprite.rgb.size == sprite.alpha.size
            assert height * 0.8 <= np.flatnonzero(solid.any(1)).size <= height * 1.45 + 3
            assert solid.mean() > 0.3
            assert sprite.colour in COLOUR_NAMES


def test_the_size_label_scales_the_package() -> None:
    heights: dict[str, list[float]] = {name: [] for name in SIZES}
    for number in range(120):
        package = design_package(rng(number), "carton", draw_brand(rng(1), "base"))
        heights[package.size].append(package.height)
    assert max(heights["small"]) < min(heights["large"])


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((205, 30, 40), "red"), ((30, 110, 60), "green"), ((25, 70, 160), "blue"), ((250, 250, 250), "white")],
)
def test_the_colour_label_names_most_pixels(rgb: tuple[int, int, int], name: str) -> None:
    pixels = np.tile(np.array([rgb], dtype=np.uint8), (60, 1))
    pixels[:20] = (20, 20, 20)
    assert dominant_colour(pixels) == name


def share(scenes: list[Scene], holds: Callable[[Scene], bool]) -> float:
    return sum(holds(scene) for scene in scenes) / len(scenes)


def test_shares_of_empty_photos_crowds_and_cut_products(scenes: list[Scene]) -> None:
    assert 0.004 <= share(scenes, lambda scene: not scene.products) <= 0.06
    assert 0.01 <= share(scenes, lambda scene: any(product.crowd for product in scene.products)) <= 0.15
    products = [product for scene in scenes for product in scene.products]
    hidden = np.array([product.attributes["occlusion"] for product in products])
    assert 0.3 < (hidden > 0.1).mean() < 0.65
    assert 0.05 < (hidden > 0.6).mean() < 0.3
    border = [product.bbox[0] == 0 or product.bbox[0] + product.bbox[2] == 128 for product in products]
    assert 0.08 < np.mean(border) < 0.45
    assert 6 < len(products) / len(scenes) < 16


def test_categories_are_balanced(scenes: list[Scene]) -> None:
    counts = Counter(product.category for scene in scenes for product in scene.products)
    assert set(counts) == set(BASE_CATEGORIES)
    assert min(counts.values()) > 0.5 * max(counts.values())


def test_restock_adds_categories_behind_those_of_base() -> None:
    assert categories("restock")[: len(BASE_CATEGORIES)] == categories("base")
    found: set[str] = set()
    for index in range(40):
        found |= {product.category for product in compose_scene(rng(9, index), 96, 96, "restock").products}
    assert set(RESTOCK_CATEGORIES) <= found


@pytest.mark.parametrize("size", [(64, 64), (64, 48), (48, 64), (333, 250), (512, 512)])
def test_any_format(size: tuple[int, int]) -> None:
    for index in range(4):
        scene = compose_scene(rng(5, index), *size)
        assert scene.image.size == size
        assert scene.image.mode == "RGB"
        assert scene.shown.shape == size[::-1]


def test_photos_are_neither_black_nor_burnt_out(scenes: list[Scene]) -> None:
    means = np.array([np.asarray(scene.image).mean() for scene in scenes])
    assert np.percentile(means, 2) > 40
    assert np.percentile(means, 98) < 225
    assert all(np.asarray(scene.image).std() > 8 for scene in scenes)
