"""Composes one photo of the `shelf` simulator: shelves, products, clutter, light and lens, with exact labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from wanamaker.data.simulate import shelf_clutter as clutter
from wanamaker.data.simulate.shelf_camera import develop, fall_of_shadow, tilt
from wanamaker.data.simulate.shelf_canvas import Canvas, Product, darken
from wanamaker.data.simulate.shelf_fixtures import Fixture, back_wall, board, draw_fixture, poster
from wanamaker.data.simulate.shelf_label import Brand, draw_brand
from wanamaker.data.simulate.shelf_package import BASE_CATEGORIES, RESTOCK_CATEGORIES, Package, design_package
from wanamaker.data.simulate.shelf_palette import blend
from wanamaker.data.simulate.shelf_sprite import Sprite, View, draw_package

EMPTY_SHARE = 0.018
"""Share of photos with bare shelves; in about one in a hundred more, nothing that stands there is seen."""

_PILE_SHARE = 0.045  # of compartments with a crowd at the back
_REACH = 0.96  # height of the tallest usual package over the clear height


class Scene(NamedTuple):
    """A photo and its labels.

    Attributes:
        image: RGB.
        products: In drawing order.
        shown: int16 [H, W], place in `products`, from 1, of what each pixel shows; 0 for everything else.
    """

    image: Image.Image
    products: list[Product]
    shown: np.ndarray


def categories(style: str) -> tuple[str, ...]:
    """Category names of a style, in the order of their ids: `restock` adds two that `base` lacks."""
    return BASE_CATEGORIES + RESTOCK_CATEGORIES if style == "restock" else BASE_CATEGORIES


def compose_scene(rng: np.random.Generator, width: int, height: int, style: str = "base") -> Scene:
    """Compose a photo.

    Args:
        rng: Source of every choice: the same state gives the same photo.
        width: Pixels, at least 48.
        height: Pixels, at least 48.
        style: `base`, or `restock`: other package designs and two more categories.
    """
    canvas = Canvas(width, height, rng)
    empty = rng.random() < EMPTY_SHARE
    view = View(round(float(rng.uniform(-0.9, 0.9)), 1), float(rng.uniform(-0.03, 0.16)), float(rng.uniform(-1, 1)))
    clear = int(min(height, 1.2 * width) / float(rng.choice((1.15, 1.6, 2.1, 2.7), p=(0.13, 0.27, 0.35, 0.25))))
    fixture = draw_fixture(rng, clear, view.elevation)
    pitch = fixture.clear + fixture.thick
    brands = [draw_brand(rng, style) for _ in range(int(rng.integers(3, 6)))]
    # The kick plate, seen where the lowest board does not reach the lower border.
    canvas.draw.rectangle((0, 0, width, height), fill=blend(fixture.board, (24, 24, 28), 0.62))
    foot = int(height * rng.uniform(0.84, 1.0)) - fixture.thick
    if rng.random() < 0.5:
        foot += pitch  # the lowest compartment is cut by the border
    eye = height * 0.45
    while foot + fixture.thick > 0:
        # Lower boards are seen from further above.
        lean = float(np.clip(view.elevation + 0.1 * (foot - eye) / height, -0.08, 0.22))
        back_wall(canvas, fixture, foot, view.light)
        if rng.random() < (0.5 if empty else 0.06):
            poster(canvas, fixture, foot, brands[0])
        if not empty and foot > 0.1 * clear:
            _fill(canvas, fixture, foot, view._replace(elevation=lean), brands, style)
        board(canvas, fixture, foot)
        _in_front(canvas, fixture, foot)
        foot -= pitch
    clutter.foreground(canvas, fixture)
    fall_of_shadow(canvas)
    image, owner, lens = tilt(canvas)
    products, shown = canvas.products(owner, lens)
    return Scene(develop(rng, image, canvas.light, view.light), products, shown)


def _in_front(canvas: Canvas, fixture: Fixture, foot: int) -> None:
    if canvas.rng.random() < 0.05:
        clutter.basket(canvas, fixture, foot)
    if canvas.rng.random() < 0.14:
        clutter.talker(canvas, fixture, foot)


def _design(rng: np.random.Generator, brands: list[Brand], style: str) -> Package:
    names = categories(style)
    name, brand = names[int(rng.integers(len(names)))], brands[int(rng.integers(len(brands)))]
    if rng.random() < 0.3:
        brand = draw_brand(rng, style)
    return design_package(rng, name, brand, int(rng.integers(3)))


def _drawn(package: Package, fixture: Fixture, view: View, depth: float = 1.0) -> Sprite:
    share = float(np.clip(_REACH * package.height, 0.26, 0.95))
    return draw_package(package, max(8, int(share * depth * fixture.clear)), view)


def _fill(canvas: Canvas, fixture: Fixture, foot: int, view: View, brands: list[Brand], style: str) -> None:
    """Facings of one design after another, from beyond the left border to beyond the right one."""
    rng, clear = canvas.rng, fixture.clear
    if rng.random() < _PILE_SHARE:
        _pile(canvas, fixture, foot, view, brands, style)
    x = float(rng.uniform(-0.35, 0.1)) * clear
    while x < canvas.width:
        if rng.random() < 0.05:
            x += clutter.thing_on_shelf(canvas, fixture, int(x), foot - fixture.deck // 4) + 0.05 * clear
            continue
        package = _design(rng, brands, style)
        # A flat box seen from its end would be a stripe: the yaw follows the place in the photo.
        aside = 1.1 * (0.5 - x / canvas.width) + 0.45 * view.yaw
        sprite = _drawn(package, fixture, view._replace(yaw=float(np.clip(aside, -1, 1))))
        facings = int(rng.choice(4, p=(0.34, 0.32, 0.22, 0.12))) + 1
        start = x
        x = _facings(canvas, fixture, foot, package, sprite, x, facings, view)
        if rng.random() < 0.06:
            lip = int(sprite.rgb.height * rng.uniform(0.14, 0.26))
            clutter.tray(canvas, package.brand, int(start) - 2, int(x) + 2, foot, max(3, lip))
        x += float(rng.choice((0.015, 0.06, 0.35), p=(0.55, 0.33, 0.12))) * clear


def _facings(
    canvas: Canvas, fixture: Fixture, foot: int, package: Package, sprite: Sprite, x: float, number: int, view: View
) -> float:
    """Stand a design side by side, perhaps with a second row behind; returns where it ends."""
    rng, wide = canvas.rng, sprite.rgb.width
    stand = foot - max(1, fixture.deck // 5)
    drift = round(-np.sign(view.light or 1) * max(2.0, 0.045 * fixture.clear))
    if rng.random() < 0.16:
        behind, shift = _drawn(package, fixture, view, depth=0.93), float(rng.uniform(0.25, 0.5))
        for k in range(number):
            canvas.place(behind, int(x + (k + shift) * wide), stand - fixture.deck // 2 - 1, package, dim=0.66)
    for _ in range(number):
        shown = sprite
        if rng.random() < 0.07:
            # Most lean a little, a few have fallen over.
            fallen = rng.random() < 0.25
            turn = 90.0 * float(rng.choice((-1, 1))) if fallen else float(rng.uniform(-6, 6))
            shown = _turned(sprite, turn)
        canvas.cast(shown, int(x), stand, drift)
        canvas.place(shown, int(x), stand - int(rng.integers(0, max(2, fixture.deck // 3))), package)
        x += shown.rgb.width * (1 + float(rng.uniform(-0.07, 0.08)))
    return x


def _turned(sprite: Sprite, degrees: float) -> Sprite:
    sheet = sprite.rgb.convert("RGBA")
    sheet.putalpha(sprite.alpha)
    sheet = sheet.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    sheet = sheet.crop(sheet.getchannel("A").point(lambda value: 255 * (value > 60)).getbbox())
    return Sprite(sheet.convert("RGB"), sheet.getchannel("A"), 0, sprite.colour)


def _pile(canvas: Canvas, fixture: Fixture, foot: int, view: View, brands: list[Brand], style: str) -> None:
    """A heap at the back of the shelf, out of focus, labelled as a crowd: nobody counts it one by one."""
    rng, clear = canvas.rng, fixture.clear
    package = _design(rng, brands, style)
    sprite = draw_package(package, max(8, int(clear * rng.uniform(0.2, 0.28))), view)
    wide, levels = int(clear * rng.uniform(0.9, 1.7)), int(rng.integers(3, 5))
    step, rise = max(4, int(sprite.rgb.width * 0.72)), int(sprite.rgb.height * 0.62)
    heap = Image.new(
        "RGBA", (wide, min(int(0.9 * clear), sprite.rgb.height + rise * (levels - 1) + 4)), (60, 54, 50, 0)
    )
    for level in range(levels):
        inset = int(level * 0.5 * step)
        for x in range(inset - step // 3, wide - inset - step // 2, step):
            at = (x + int(rng.integers(-2, 3)), heap.height - sprite.rgb.height - level * rise)
            heap.paste(sprite.rgb, at, sprite.alpha)
    heap = heap.filter(ImageFilter.GaussianBlur(0.9 + clear / 160))
    rgb = darken(heap.convert("RGB"), 0.7)
    left = int(rng.uniform(-0.2, 0.9) * canvas.width)
    blurred = Sprite(rgb, heap.getchannel("A"), 0, sprite.colour)
    canvas.place(blurred, left, foot - fixture.deck, package, crowd=True)
