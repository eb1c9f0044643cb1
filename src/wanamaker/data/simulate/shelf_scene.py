"""Composes one photo of the `shelf` simulator: shelves, products, clutter, light and lens, with exact labels.

Every pixel knows which product it shows (the owner map), so boxes are tight around the visible part whatever stands in
front, and move with the picture when the camera tilts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wanamaker.data.simulate.shelf_label import draw_brand
from wanamaker.data.simulate.shelf_package import BASE_CATEGORIES, RESTOCK_CATEGORIES, Package, design_package
from wanamaker.data.simulate.shelf_palette import RGB, blend
from wanamaker.data.simulate.shelf_sprite import Sprite, View, draw_package

_MIN_SIDE = 5
"""Shorter visible boxes, in pixels, are not annotated: nobody could tell what they are."""

_MIN_VISIBLE = 0.12
"""Nor are products of which less than this share is seen."""

_WALLS: tuple[RGB, ...] = (
    (214, 208, 198),
    (196, 202, 208),
    (176, 164, 148),
    (120, 128, 138),
    (230, 226, 218),
    (84, 80, 84),
)
_BOARDS: tuple[RGB, ...] = (
    (238, 238, 236),
    (206, 210, 214),
    (168, 126, 84),
    (118, 84, 58),
    (70, 74, 80),
    (226, 214, 190),
)
_TAGS: tuple[RGB, ...] = ((252, 252, 248), (250, 222, 90), (236, 84, 70), (240, 244, 250))


class Product(NamedTuple):
    """A labelled product.

    Attributes:
        category: Name of the category.
        bbox: (x, y, width, height) of the visible part, pixels.
        area: Visible pixels.
        crowd: Whether it stands for a pile that nobody counts (COCO's `iscrowd`).
        attributes: colour, material, shape, size and the occluded share, 0..1.
    """

    category: str
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool
    attributes: dict[str, str | float]


class Scene(NamedTuple):
    """A photo and its labels.

    Attributes:
        image: RGB.
        products: In drawing order.
    """

    image: Image.Image
    products: list[Product]


def categories(style: str) -> tuple[str, ...]:
    """Category names of a style, in the order of their ids: `restock` adds two that `base` lacks."""
    return BASE_CATEGORIES + RESTOCK_CATEGORIES if style == "restock" else BASE_CATEGORIES


class _Canvas:
    """The photo in the making: pixels, who owns each, and what is known of the owners."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.image = Image.new("RGB", (width, height))
        self.owner = np.zeros((height, width), dtype=np.int16)
        self.full_area: list[float] = [0.0]
        self.known: list[tuple[Package, str, bool]] = []
        self.draw = ImageDraw.Draw(self.image)

    def paste(self, sprite: Sprite, x: int, foot_y: int, package: Package, dim: float = 1.0) -> None:
        """Put a product with its foot on `foot_y`; it becomes the owner of what it covers."""
        y = foot_y + sprite.foot - sprite.rgb.height
        rgb = sprite.rgb if dim == 1.0 else sprite.rgb.point(lambda value: int(value * dim))
        self.image.paste(rgb, (x, y), sprite.alpha)
        self.known.append((package, sprite.colour, False))
        number = len(self.known)
        solid = np.asarray(sprite.alpha) > 127
        self.full_area.append(float(solid.sum()))
        y0, x0, y1, x1 = max(0, y), max(0, x), min(self.height, y + solid.shape[0]), min(self.width, x + solid.shape[1])
        if y1 > y0 and x1 > x0:
            self.owner[y0:y1, x0:x1][solid[y0 - y : y1 - y, x0 - x : x1 - x]] = number

    def cover(self, box: tuple[int, int, int, int]) -> None:
        """Nobody owns what a thing that is no product covers."""
        x0, y0, x1, y1 = (max(0, int(value)) for value in box)
        self.owner[y0:y1, x0:x1] = 0

    def shade(self, sprite: Sprite, x: int, foot_y: int, offset: int) -> None:
        """A soft shadow on the back wall."""
        shadow = sprite.alpha.filter(ImageFilter.BoxBlur(max(1, offset // 2))).point(lambda value: int(value * 0.35))
        y = foot_y + sprite.foot - sprite.rgb.height
        self.image.paste((18, 16, 20), (x + offset, y + max(1, offset // 3)), shadow)


def compose_scene(rng: np.random.Generator, width: int, height: int, style: str = "base") -> Scene:
    """Compose a photo.

    Args:
        rng: Source of every choice: the same state gives the same photo.
        width: Pixels, at least 64.
        height: Pixels, at least 64.
        style: `base`, or `restock`: other package designs and two more categories.
    """
    canvas = _Canvas(width, height, rng)
    empty = rng.random() < 0.025
    view = View(round(float(rng.uniform(-0.9, 0.9)), 1), float(rng.uniform(-0.02, 0.16)), float(rng.uniform(-0.8, 0.8)))
    rows = int(rng.choice(3, p=(0.3, 0.45, 0.25))) + 1
    board = max(5, int(height * rng.uniform(0.03, 0.05)))
    wall, wood = _pick(rng, _WALLS), _pick(rng, _BOARDS)
    clear = (height - rows * board) / rows
    for row in range(rows):
        foot = int((row + 1) * (clear + board) - board)
        _back_wall(canvas, foot - int(clear), foot, wall, view.light)
        if not empty:
            _pile(canvas, foot, clear, view, style, share=0.1)
            _fill_row(canvas, foot, clear, view, style)
        elif rng.random() < 0.5:
            _poster(canvas, foot, clear)
        _board(canvas, foot, board, wood)
    _clutter(canvas, clear)
    image, owner = _tilt(canvas)
    image = _develop(rng, image, view.light)
    return Scene(image, [] if empty else _label(canvas, owner))


def _pick(rng: np.random.Generator, options: tuple[RGB, ...]) -> RGB:
    return options[int(rng.integers(len(options)))]


def _back_wall(canvas: _Canvas, top: int, foot: int, wall: RGB, light: float) -> None:
    """Wall between two boards: darker under the upper board and away from the lamp."""
    top = max(0, top)
    down = np.linspace(0, 1, max(1, foot - top))[:, None]
    across = np.linspace(-1, 1, canvas.width)[None, :]
    shade = 0.62 + 0.3 * np.minimum(1, down * 2.2) - 0.1 * across * np.sign(light or 1)
    wall_pixels = np.clip(shade[..., None] * np.array(wall, dtype=np.float32), 0, 255).astype(np.uint8)
    canvas.image.paste(Image.fromarray(wall_pixels), (0, top))


def _fill_row(canvas: _Canvas, foot: int, clear: float, view: View, style: str) -> None:
    """Facings of one design after another, from beyond the left border to beyond the right one."""
    rng, names = canvas.rng, categories(style)
    x = float(rng.uniform(-0.3, 0.1) * clear)
    while x < canvas.width:
        package = design_package(rng, names[int(rng.integers(len(names)))], draw_brand(rng, style))
        facings = int(rng.choice(3, p=(0.5, 0.33, 0.17))) + 1
        tall = int(np.clip(0.78 * package.height, 0.3, 0.96) * clear)
        sprite = draw_package(package, tall, view)
        if rng.random() < 0.35:  # a second row behind, half hidden and in shadow
            for number in range(facings):
                behind = int(x + (number + 0.35) * sprite.rgb.width)
                lift = int(0.035 * clear) + 1
                canvas.paste(sprite, behind, foot - lift, package, dim=0.62)
        for _ in range(facings):
            canvas.shade(sprite, int(x), foot, max(2, int(0.05 * clear)))
            canvas.paste(sprite, int(x), foot - int(rng.integers(0, 2)), package)
            x += sprite.rgb.width * (1 + float(rng.uniform(-0.06, 0.1)))
        x += float(rng.choice((0.02, 0.08, 0.5), p=(0.5, 0.35, 0.15))) * clear


def _pile(canvas: _Canvas, foot: int, clear: float, view: View, style: str, share: float) -> None:
    """Now and then a blurred heap at the back of the shelf, labelled as a crowd: nobody counts it one by one."""
    rng = canvas.rng
    if rng.random() > share:
        return
    names = categories(style)
    package = design_package(rng, names[int(rng.integers(len(names)))], draw_brand(rng, style))
    wide, tall = int(canvas.width * rng.uniform(0.3, 0.5)), int(clear * 0.3)
    left = int(rng.uniform(0, canvas.width - wide))
    sprite = draw_package(package, tall, view)
    heap = Image.new("RGBA", (wide, int(clear * 0.6)))
    step = max(4, int(sprite.rgb.width * 0.8))
    for level in range(2):
        for x in range(-step // 2 + level * step // 2, wide, step):
            heap.paste(sprite.rgb, (x, heap.height - sprite.rgb.height - int(level * tall * 0.8)), sprite.alpha)
    heap = heap.filter(ImageFilter.GaussianBlur(1.6))
    alpha = heap.getchannel("A")
    rgb = heap.convert("RGB").point(lambda value: int(value * 0.6))
    canvas.paste(Sprite(rgb, alpha, 0, sprite.colour), left, foot - 2, package)
    canvas.known[-1] = (package, sprite.colour, True)


def _board(canvas: _Canvas, foot: int, thick: int, wood: RGB) -> None:
    """The shelf board's front edge with price tags; a tag may reach up over a product's foot."""
    rng, draw = canvas.rng, canvas.draw
    draw.rectangle((0, foot, canvas.width, foot + thick), fill=blend(wood, (0, 0, 0), 0.12))
    draw.rectangle((0, foot, canvas.width, foot + max(1, thick // 3)), fill=blend(wood, (255, 255, 255), 0.3))
    draw.line((0, foot + thick - 1, canvas.width, foot + thick - 1), fill=blend(wood, (0, 0, 0), 0.5))
    canvas.cover((0, foot, canvas.width, foot + thick))
    x = float(rng.uniform(0, 40))
    while x < canvas.width:
        wide = thick * float(rng.uniform(1.8, 3.0))
        up = int(thick * rng.uniform(0.0, 0.9)) if rng.random() < 0.3 else 0
        box = (int(x), foot + 1 - up, int(x + wide), foot + thick - 2)
        draw.rectangle(box, fill=_pick(rng, _TAGS))
        line = max(1, thick // 6)
        draw.rectangle((box[0] + line, box[1] + line, int(x + wide * 0.55), box[1] + 2 * line), fill=(60, 60, 66))
        draw.rectangle((int(x + wide * 0.55), box[3] - 2 * line, box[2] - line, box[3] - line), fill=(40, 40, 46))
        canvas.cover((box[0], box[1], box[2] + 1, box[3] + 1))
        x += wide + float(rng.uniform(0.5, 6.0)) * thick


def _poster(canvas: _Canvas, foot: int, clear: float) -> None:
    """A paper on the back wall of an empty shelf: colourful, and no product."""
    rng, draw = canvas.rng, canvas.draw
    tall, wide = int(clear * 0.5), int(clear * rng.uniform(0.4, 0.9))
    x, y = int(rng.uniform(0, max(1, canvas.width - wide))), int(foot - clear * 0.8)
    draw.rectangle((x, y, x + wide, y + tall), fill=_pick(rng, _TAGS))
    for number in range(3):
        line = y + tall * (number + 1) // 5
        draw.rectangle((x + wide // 8, line, x + wide - wide // 4, line + max(1, tall // 14)), fill=(96, 100, 110))


def _clutter(canvas: _Canvas, clear: float) -> None:
    """Things in front that are no products: a leaf of a plant, the wires of a basket, a round shelf talker."""
    rng, draw = canvas.rng, canvas.draw
    kind = rng.random()
    if kind < 0.08:
        stem = float(rng.uniform(0.05, 0.95)) * canvas.width
        mask = Image.new("L", canvas.image.size)
        pen = ImageDraw.Draw(mask)
        for _ in range(int(rng.integers(4, 8))):
            angle, length = rng.uniform(-1.1, 1.1), clear * rng.uniform(0.3, 0.7)
            tip = (stem + length * np.sin(angle), canvas.height - length * np.cos(angle))
            side = (np.cos(angle) * length * 0.1, np.sin(angle) * length * 0.1)
            middle = ((stem + tip[0]) / 2, (canvas.height + tip[1]) / 2)
            leaf = [(stem, canvas.height), (middle[0] + side[0], middle[1] + side[1]), tip]
            pen.polygon([*leaf, (middle[0] - side[0], middle[1] - side[1])], fill=255)
        green = (int(rng.integers(30, 70)), int(rng.integers(90, 140)), int(rng.integers(40, 70)))
        canvas.image.paste(green, (0, 0), mask.filter(ImageFilter.GaussianBlur(0.7)))
        canvas.owner[np.asarray(mask) > 127] = 0
    elif kind < 0.16:
        wire = blend((190, 194, 200), (40, 40, 44), float(rng.random()) * 0.6)
        top, left = int(canvas.height - clear * 0.35), int(rng.uniform(0, canvas.width * 0.6))
        right = left + int(canvas.width * rng.uniform(0.25, 0.5))
        thick = max(1, canvas.height // 128)
        for x in range(left, right, max(5, canvas.width // 24)):
            draw.line((x, top, x, canvas.height), fill=wire, width=thick)
            canvas.cover((x - thick // 2, top, x + (thick + 1) // 2, canvas.height))
        for y in range(top, canvas.height, max(6, canvas.height // 18)):
            draw.line((left, y, right, y), fill=wire, width=thick)
            canvas.cover((left, y - thick // 2, right, y + (thick + 1) // 2))
    elif kind < 0.26:
        radius = int(canvas.height * rng.uniform(0.04, 0.07))
        x, y = int(rng.uniform(radius, canvas.width - radius)), int(rng.uniform(radius, canvas.height - radius))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_pick(rng, _TAGS[1:]))
        draw.rectangle((x - radius // 2, y - radius // 5, x + radius // 2, y + radius // 5), fill=(250, 250, 250))
        rows, columns = np.ogrid[: canvas.height, : canvas.width]
        canvas.owner[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = 0


def _tilt(canvas: _Canvas) -> tuple[Image.Image, np.ndarray]:
    """A hand-held camera: a little rotation and keystone, the same for the pixels and for who owns them."""
    rng = canvas.rng
    if rng.random() < 0.3:
        return canvas.image, canvas.owner
    wide, tall = canvas.width, canvas.height
    margin = 0.045
    corners = np.array([(0, 0), (0, tall), (wide, tall), (wide, 0)], dtype=np.float64)
    inward = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * rng.uniform(0, margin, (4, 2)) * (wide, tall)
    source = corners + inward
    # Eight numbers of the projective map from the corners of the new picture to points of the old one.
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    map_ = np.linalg.solve(np.array(rows), source.ravel()).tolist()
    perspective = Image.Transform.PERSPECTIVE
    image = canvas.image.transform((wide, tall), perspective, map_, Image.Resampling.BICUBIC)
    owner = Image.fromarray(canvas.owner.astype(np.int32), mode="I").transform((wide, tall), perspective, map_)
    return image, np.asarray(owner).astype(np.int16)


def _develop(rng: np.random.Generator, image: Image.Image, light: float) -> Image.Image:
    """Lamp, lens and sensor: a gradient, colour cast, vignette, contrast, sometimes blur, and noise."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.0))))
    pixels = np.asarray(image, dtype=np.float32)
    tall, wide = pixels.shape[:2]
    across, down = np.linspace(-1, 1, wide, dtype=np.float32)[None], np.linspace(-1, 1, tall, dtype=np.float32)[:, None]
    lamp = 1 + rng.uniform(0.02, 0.2) * across * np.sign(light or 1) - rng.uniform(-0.05, 0.15) * down
    lamp = lamp * (1 - rng.uniform(0, 0.14) * (across**2 + down**2))
    exposure = rng.uniform(0.8, 1.14)
    cast = np.array([1 + rng.uniform(-0.06, 0.08), 1.0, 1 + rng.uniform(-0.1, 0.06)])
    gain = (lamp[..., None] * (exposure * cast)).astype(np.float32)
    contrast = float(rng.uniform(0.86, 1.08))
    pixels = (pixels * gain - 118) * contrast + 118
    noise = rng.standard_normal((tall, wide, 1), dtype=np.float32) * np.float32(rng.uniform(1.0, 6.0))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _label(canvas: _Canvas, owner: np.ndarray) -> list[Product]:
    """Boxes tight around what is seen of each product."""
    counts = np.bincount(owner.ravel(), minlength=len(canvas.known) + 1)
    products = []
    for number, (package, colour, crowd) in enumerate(canvas.known, start=1):
        visible = float(counts[number])
        if visible < _MIN_VISIBLE * canvas.full_area[number] or visible < _MIN_SIDE**2:
            continue
        mine = owner == number
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        x, y = int(columns[0]), int(rows[0])
        wide, tall = int(columns[-1]) - x + 1, int(rows[-1]) - y + 1
        if min(wide, tall) < _MIN_SIDE:
            continue
        hidden = max(0.0, 1 - visible / canvas.full_area[number])
        attributes: dict[str, str | float] = {
            "colour": colour,
            "material": package.material,
            "shape": package.shape,
            "size": package.size,
            "occlusion": round(hidden, 3),
        }
        box = (float(x), float(y), float(wide), float(tall))
        products.append(Product(package.category, box, visible, crowd, attributes))
    return products
