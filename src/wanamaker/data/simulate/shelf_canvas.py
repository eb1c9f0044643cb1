"""The photo of the `shelf` simulator in the making: its pixels, and which product each pixel shows.

The owner map moves with the picture through the lens, so boxes are tight around what is seen of a product, whatever
stands in front of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wanamaker.data.simulate.shelf_package import Package
from wanamaker.data.simulate.shelf_palette import RGB
from wanamaker.data.simulate.shelf_sprite import Sprite

MIN_SIDE = 5
"""Boxes shorter than this, in pixels, are not annotated: nobody could tell what they show."""

MIN_VISIBLE = 0.18
"""Nor are products of which less than this share is seen."""


class Product(NamedTuple):
    """A labelled product.

    Attributes:
        category: Name of the category.
        bbox: (x, y, width, height) of the visible part, pixels.
        area: Visible pixels.
        crowd: Whether it stands for a pile that nobody counts (COCO's `iscrowd`).
        attributes: colour, material, shape, size, and occlusion: the share hidden or beyond the border, 0..1.
    """

    category: str
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool
    attributes: dict[str, str | float]


class _Placed(NamedTuple):
    package: Package
    colour: str
    crowd: bool
    full_area: float


# A soft round shadow, resized to lie under each product.
_axis = np.linspace(-1, 1, 33)
_CONTACT = Image.fromarray((np.clip(1 - np.hypot(_axis[None], _axis[:, None]), 0, 1) ** 0.8 * 170).astype(np.uint8))


class Canvas:
    """What is drawn so far.

    Attributes:
        image: RGB pixels.
        draw: Pen on the image; what it paints belongs to nobody only after `hide`.
        owner: int16 [H, W], number of the product that a pixel shows, 0 for none.
        light: float32 [H], light that falls on each row of pixels, for the camera.
    """

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.image = Image.new("RGB", (width, height))
        self.draw = ImageDraw.Draw(self.image)
        self.owner = np.zeros((height, width), dtype=np.int16)
        self.light = np.ones(height, dtype=np.float32)
        self._placed: list[_Placed] = []

    def place(self, sprite: Sprite, x: int, foot: int, package: Package, dim: float = 1.0, crowd: bool = False) -> None:
        """Put a product with its foot on row `foot`; it owns what it covers."""
        y = foot + sprite.foot - sprite.rgb.height
        rgb = sprite.rgb if dim == 1.0 else darken(sprite.rgb, dim)
        self.image.paste(rgb, (x, y), sprite.alpha)
        solid = np.asarray(sprite.alpha) > 127
        self._placed.append(_Placed(package, sprite.colour, crowd, float(solid.sum())))
        self._own(solid, x, y, len(self._placed))

    def put(self, thing: Image.Image, x: int, y: int) -> None:
        """Put an RGBA picture of something that is no product, with its top left corner at (x, y)."""
        alpha = thing.getchannel("A")
        self.image.paste(thing.convert("RGB"), (x, y), alpha)
        self._own(np.asarray(alpha) > 127, x, y, 0)

    def hide(self, box: tuple[float, float, float, float]) -> None:
        """Whatever was painted into (left, top, right, bottom), right and bottom not included, is no product."""
        x0, y0, x1, y1 = (max(0, round(value)) for value in box)
        self.owner[y0:y1, x0:x1] = 0

    def _own(self, solid: np.ndarray, x: int, y: int, number: int) -> None:
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(self.width, x + solid.shape[1]), min(self.height, y + solid.shape[0])
        if y1 > y0 and x1 > x0:
            self.owner[y0:y1, x0:x1][solid[y0 - y : y1 - y, x0 - x : x1 - x]] = number

    def cast(self, sprite: Sprite, x: int, foot: int, drift: int) -> None:
        """The shadows of a product: one on the wall behind, `drift` pixels aside, and one at its foot."""
        reach = max(1, abs(drift) // 2)
        wall = sprite.alpha.reduce(2) if sprite.alpha.width > 8 else sprite.alpha
        shadow = wall.filter(ImageFilter.BoxBlur(max(1, reach // 2))).resize(sprite.alpha.size)
        y = foot + sprite.foot - sprite.rgb.height
        self.image.paste((16, 14, 20), (x + drift, y + reach), darken(shadow, 0.3))
        wide, tall = int(sprite.rgb.width * 1.3), max(4, int(sprite.rgb.width * 0.22))
        at = (x + (sprite.rgb.width - wide) // 2 + drift // 3, foot + sprite.foot - tall // 2)
        self.image.paste((8, 6, 10), at, _CONTACT.resize((wide, tall)))

    def shade(self, mask: Image.Image, colour: RGB, strength: float) -> None:
        """Tint the picture where `mask` (L, any size) is bright; the owners stay."""
        mask = mask.resize(self.image.size, Image.Resampling.BILINEAR)
        self.image.paste(colour, (0, 0), darken(mask, strength))

    def products(self, owner: np.ndarray, lens: tuple[float, ...] | None) -> tuple[list[Product], np.ndarray]:
        """Labels of what is seen.

        Args:
            owner: The owner map after the lens, int16 [H, W].
            lens: Projective map from the pixels of `owner` to those of the canvas, eight numbers; None: as drawn.

        Returns:
            The products in drawing order, and the map int16 [H, W] of their places in that list, counted from 1.
        """
        counts = np.bincount(owner.ravel(), minlength=len(self._placed) + 1)
        place_of = np.zeros(len(self._placed) + 1, dtype=np.int16)
        found: list[Product] = []
        for number, placed in enumerate(self._placed, start=1):
            visible = float(counts[number])
            if visible < MIN_SIDE**2 or visible < 0.5 * MIN_VISIBLE * placed.full_area:
                continue
            mine = owner == number
            rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
            x, y = int(columns[0]), int(rows[0])
            wide, tall = int(columns[-1]) - x + 1, int(rows[-1]) - y + 1
            hidden = 1 - visible / (placed.full_area * _growth(lens, x + wide / 2, y + tall / 2))
            if min(wide, tall) < MIN_SIDE or hidden > 1 - MIN_VISIBLE:
                continue
            package = placed.package
            attributes: dict[str, str | float] = {
                "colour": placed.colour,
                "material": package.material,
                "shape": package.shape,
                "size": package.size,
                "occlusion": round(min(1.0, max(0.0, hidden)), 3),
            }
            box = (float(x), float(y), float(wide), float(tall))
            found.append(Product(package.category, box, visible, placed.crowd, attributes))
            place_of[number] = len(found)
        return found, place_of[owner]


def darken(image: Image.Image, share: float) -> Image.Image:
    """Multiply all values; `share` 0..1."""
    return Image.fromarray((np.asarray(image).astype(np.uint16) * round(share * 256) >> 8).astype(np.uint8))


def _growth(lens: tuple[float, ...] | None, x: float, y: float) -> float:
    """How many pixels of the photo show one pixel of the canvas around (x, y): one over the Jacobian."""
    if lens is None:
        return 1.0
    a, b, c, d, e, f, g, h = lens
    determinant = a * (e - f * h) - b * (d - f * g) + c * (d * h - e * g)
    return float(abs((g * x + h * y + 1) ** 3 / determinant))
