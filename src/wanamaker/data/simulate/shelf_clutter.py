"""Things in a photo of the `shelf` simulator that are no products: on the shelf, in front of it, in somebody's hand."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wanamaker.data.simulate.shelf_canvas import Canvas
from wanamaker.data.simulate.shelf_fixtures import Fixture
from wanamaker.data.simulate.shelf_label import Brand, font
from wanamaker.data.simulate.shelf_palette import RGB, blend, readable, shift

_SCALE = 3
_SKIN: tuple[RGB, ...] = ((246, 208, 178), (224, 172, 128), (180, 122, 82), (120, 78, 52), (84, 54, 38))
_CLOTH: tuple[RGB, ...] = ((52, 64, 92), (150, 52, 60), (66, 104, 88), (60, 58, 64), (196, 176, 148), (92, 128, 170))
_OFFERS = ("SALE", "NEW", "-20%", "2+1", "TOP", "BIO")


def _drawing(wide: float, tall: float) -> tuple[Image.Image, ImageDraw.ImageDraw, float, float]:
    """A transparent sheet at three times the size, its pen, and that size."""
    sheet = Image.new("RGBA", (max(4, int(wide)) * _SCALE, max(4, int(tall)) * _SCALE), (0, 0, 0, 0))
    return sheet, ImageDraw.Draw(sheet), float(sheet.width), float(sheet.height)


def _any(rng: np.random.Generator, options: tuple) -> RGB:
    return options[int(rng.integers(len(options)))]


def thing_on_shelf(canvas: Canvas, fixture: Fixture, x: int, foot: int) -> int:
    """Stand something that is no product on the shelf at `x`; returns its width in pixels."""
    rng = canvas.rng
    maker = (_plant_pot, _fruit_crate, _books, _mug, _towels)[int(rng.integers(5))]
    tall = fixture.clear * float(rng.uniform(0.3, 0.55))
    thing = maker(rng, tall).reduce(_SCALE)
    canvas.put(thing, x, foot - thing.height)
    return thing.width


def _plant_pot(rng: np.random.Generator, tall: float) -> Image.Image:
    sheet, pen, w, h = _drawing(tall * 0.9, tall * 1.3)
    green: RGB = (int(rng.integers(40, 90)), int(rng.integers(110, 160)), int(rng.integers(50, 90)))
    for _ in range(13):
        angle, length = float(rng.uniform(-1.25, 1.25)), float(rng.uniform(0.3, 0.6)) * h
        tip = (w / 2 + length * math.sin(angle) * 0.75, 0.62 * h - length * math.cos(angle))
        middle = ((w / 2 + tip[0]) / 2, (0.62 * h + tip[1]) / 2)
        across = (math.cos(angle) * length * 0.13, math.sin(angle) * length * 0.13)
        leaf = [
            (w / 2, 0.64 * h),
            (middle[0] + across[0], middle[1] + across[1]),
            tip,
            (middle[0] - across[0], middle[1] - across[1]),
        ]
        pen.polygon(leaf, fill=blend(green, (255, 255, 190), float(rng.uniform(0, 0.35))))
    clay = _any(rng, ((186, 98, 66), (236, 232, 224), (84, 96, 108), (212, 170, 90)))
    pen.polygon([(0.26 * w, 0.62 * h), (0.74 * w, 0.62 * h), (0.66 * w, h), (0.34 * w, h)], fill=clay)
    pen.polygon([(0.62 * w, 0.62 * h), (0.74 * w, 0.62 * h), (0.66 * w, h), (0.58 * w, h)], fill=shift(clay, value=0.8))
    pen.rectangle((0.22 * w, 0.58 * h, 0.78 * w, 0.66 * h), fill=shift(clay, value=0.92))
    return sheet


def _fruit_crate(rng: np.random.Generator, tall: float) -> Image.Image:
    sheet, pen, w, h = _drawing(tall * 2.1, tall * 0.8)
    skin = _any(rng, ((232, 138, 36), (204, 42, 40), (156, 190, 60), (246, 212, 72), (110, 60, 110)))
    radius = 0.085 * w
    for row, lift in enumerate((0.26, 0.36, 0.46)):
        for k in range(7):
            cx = (0.06 + 0.147 * k + 0.07 * (row % 2)) * w + float(rng.uniform(-0.012, 0.012)) * w
            cy = lift * h + float(rng.uniform(-0.02, 0.02)) * h
            peel = shift(skin, float(rng.normal(0, 0.012)), 1.0, float(rng.uniform(0.82, 1.05)))
            pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=shift(peel, value=0.78))
            pen.ellipse((cx - 0.94 * radius, cy - radius, cx + 0.72 * radius, cy + 0.68 * radius), fill=peel)
            pen.ellipse(
                (cx - 0.5 * radius, cy - 0.62 * radius, cx - 0.15 * radius, cy - 0.27 * radius),
                fill=blend(peel, (255, 255, 255), 0.55),
            )
    wood: RGB = (198, 158, 106)
    for k in range(3):
        top = (0.5 + 0.17 * k) * h
        pen.rectangle((0, top, w, top + 0.14 * h), fill=shift(wood, value=1 - 0.07 * k))
        pen.line((0, top + 0.14 * h, w, top + 0.14 * h), fill=shift(wood, value=0.5), width=_SCALE)
    for post in (0.0, 0.94):
        pen.rectangle((post * w, 0.44 * h, (post + 0.06) * w, h), fill=shift(wood, value=0.8))
    return sheet


def _books(rng: np.random.Generator, tall: float) -> Image.Image:
    number = int(rng.integers(3, 7))
    sheet, pen, w, h = _drawing(tall * 0.2 * number, tall * 1.25)
    edges = np.concatenate([[0.0], np.cumsum(rng.uniform(0.7, 1.3, number))])
    edges = edges / edges[-1] * w
    for left, right in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        top = float(rng.uniform(0, 0.22)) * h
        cloth = _any(rng, _CLOTH)
        pen.rectangle((left, top, right - _SCALE, h), fill=cloth)
        pen.rectangle((left, top, left + 0.18 * (right - left), h), fill=blend(cloth, (255, 255, 255), 0.2))
        for band in (0.14, 0.2, 0.84):
            y = top + band * (h - top)
            pen.line((left, y, right - _SCALE, y), fill=blend(cloth, (240, 214, 150), 0.7), width=_SCALE)
    return sheet


def _mug(rng: np.random.Generator, tall: float) -> Image.Image:
    sheet, pen, w, h = _drawing(tall * 0.85, tall * 0.72)
    glaze = _any(rng, ((238, 236, 230), (74, 128, 160), (210, 92, 70), (110, 146, 104), (60, 62, 70)))
    pen.arc((0.58 * w, 0.2 * h, 0.98 * w, 0.78 * h), -100, 110, fill=shift(glaze, value=0.82), width=int(0.09 * w))
    pen.rounded_rectangle((0.02 * w, 0.04 * h, 0.76 * w, h - 1), int(0.08 * w), fill=glaze)
    pen.rectangle((0.58 * w, 0.1 * h, 0.76 * w, 0.92 * h), fill=shift(glaze, value=0.85))
    pen.rectangle((0.1 * w, 0.12 * h, 0.18 * w, 0.86 * h), fill=blend(glaze, (255, 255, 255), 0.55))
    pen.ellipse((0.02 * w, 0, 0.76 * w, 0.12 * h), fill=shift(glaze, value=0.6))
    return sheet


def _towels(rng: np.random.Generator, tall: float) -> Image.Image:
    number = int(rng.integers(3, 6))
    sheet, pen, w, h = _drawing(tall * 1.5, tall * 0.18 * number)
    for k in range(number):
        cloth = shift(_any(rng, _CLOTH), saturation=0.7, value=1.35)
        y0, y1 = k * h / number, (k + 1) * h / number - _SCALE * 0.4
        inset = float(rng.uniform(0, 0.03)) * w
        pen.rounded_rectangle((inset, y0, w - inset - 1, y1), int((y1 - y0) * 0.48), fill=cloth)
        pen.line(
            (inset + 0.1 * w, (y0 + y1) / 2, w - 2 * inset, (y0 + y1) / 2), fill=shift(cloth, value=0.75), width=_SCALE
        )
    return sheet


def tray(canvas: Canvas, brand: Brand, left: int, right: int, foot: int, tall: int) -> None:
    """The open cardboard tray in which facings are delivered: hides their feet."""
    palette, draw = brand.palette, canvas.draw
    top = foot - tall
    ground = palette.primary if canvas.rng.random() < 0.6 else (190, 150, 104)
    draw.rectangle((left, top, right - 1, foot - 1), fill=ground)
    draw.line((left, top, right - 1, top), fill=blend(ground, (255, 255, 255), 0.5))
    draw.rectangle((left, foot - max(1, tall // 6), right - 1, foot - 1), fill=blend(ground, (0, 0, 0), 0.2))
    size = int(0.6 * tall)
    if size >= 6 and right - left > 3 * size:
        middle = ((left + right) / 2, foot - 0.54 * tall)
        draw.text(middle, brand.name.upper(), readable(palette.ink, ground), font(size), "mm")
    canvas.hide((left, top, right, foot))


def talker(canvas: Canvas, fixture: Fixture, foot: int) -> None:
    """A round offer on the rail that covers a part of what stands behind it."""
    rng = canvas.rng
    size = fixture.clear * float(rng.uniform(0.16, 0.28))
    sheet, pen, w, h = _drawing(size, size)
    ground = _any(rng, ((226, 44, 48), (252, 206, 48), (38, 132, 86), (250, 250, 246), (234, 84, 150)))
    if rng.random() < 0.5:
        pen.ellipse((0, 0, w - 1, h - 1), fill=ground, outline=blend(ground, (255, 255, 255), 0.6), width=2 * _SCALE)
    else:
        points = []
        for k in range(28):
            reach, turn = (0.5 if k % 2 else 0.42) * w, k * math.pi / 14
            points.append((w / 2 + reach * math.cos(turn), h / 2 + reach * math.sin(turn)))
        pen.polygon(points, fill=ground)
    text = _OFFERS[int(rng.integers(len(_OFFERS)))]
    ink = readable((255, 255, 255), ground)
    pen.text((w / 2, h / 2), text, ink, font(max(8, int(0.24 * h))), "mm", stroke_width=_SCALE // 2, stroke_fill=ink)
    sheet = sheet.rotate(float(rng.uniform(-16, 16)), Image.Resampling.BICUBIC)
    canvas.put(
        sheet.reduce(_SCALE), int(rng.uniform(0, canvas.width - size)), foot - int(size * rng.uniform(0.5, 0.95))
    )


def basket(canvas: Canvas, fixture: Fixture, foot: int) -> None:
    """Wires in front of some products."""
    rng, draw = canvas.rng, canvas.draw
    wire = blend((206, 210, 214), (44, 44, 48), float(rng.integers(2)) * 0.9)
    tall, wide = int(fixture.clear * rng.uniform(0.25, 0.42)), int(canvas.width * rng.uniform(0.25, 0.6))
    left, thick = int(rng.uniform(-0.1, 0.7) * canvas.width), max(1, fixture.clear // 90)
    pitch = max(5, fixture.clear // 12)
    for x in range(left, left + wide, pitch):
        box = (x, foot - tall, x + thick - 1, foot - 1)
        draw.rectangle(box, fill=wire)
        canvas.hide((x, foot - tall, x + thick, foot))
    for k, y in enumerate(range(foot - tall, foot, pitch)):
        deep = thick + (thick if k == 0 else 0)
        draw.rectangle((left, y, left + wide, y + deep - 1), fill=wire)
        canvas.hide((left, y, left + wide + 1, y + deep))


def foreground(canvas: Canvas, fixture: Fixture) -> None:
    """Now and then something close to the camera: leaves, a reaching hand, a blurred shopper."""
    kind = canvas.rng.random()
    if kind < 0.06:
        _leaves(canvas, fixture.clear)
    elif kind < 0.14:
        _hand(canvas, fixture.clear)
    elif kind < 0.2:
        _shopper(canvas)


def _layer(canvas: Canvas) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    layer = Image.new("RGBA", (canvas.width * 2, canvas.height * 2), (0, 0, 0, 0))
    return layer, ImageDraw.Draw(layer)


def _leaves(canvas: Canvas, clear: int) -> None:
    rng = canvas.rng
    layer, pen = _layer(canvas)
    stem, floor = float(rng.uniform(0.02, 0.98)) * layer.width, float(layer.height)
    green: RGB = (int(rng.integers(34, 80)), int(rng.integers(96, 150)), int(rng.integers(44, 80)))
    for _ in range(int(rng.integers(5, 9))):
        angle, length = float(rng.uniform(-1.1, 1.1)), 2 * clear * float(rng.uniform(0.3, 0.7))
        tip = (stem + length * math.sin(angle), floor - length * math.cos(angle))
        middle = ((stem + tip[0]) / 2, (floor + tip[1]) / 2)
        dx, dy = math.cos(angle) * length * 0.1, math.sin(angle) * length * 0.1
        tint = blend(green, (230, 255, 170), float(rng.uniform(0, 0.25)))
        pen.polygon([(stem, floor), (middle[0] + dx, middle[1] + dy), tip], fill=tint)
        pen.polygon([(stem, floor), (middle[0] - dx, middle[1] - dy), tip], fill=shift(tint, value=0.82))
    canvas.put(layer.reduce(2).filter(ImageFilter.GaussianBlur(0.6)), 0, 0)


def _hand(canvas: Canvas, clear: int) -> None:
    """A forearm from below and a hand that reaches into the shelf."""
    rng = canvas.rng
    layer, pen = _layer(canvas)
    skin, cloth = _any(rng, _SKIN), _any(rng, _CLOTH)
    dark = shift(skin, value=0.86)
    size = 2 * clear * float(rng.uniform(0.2, 0.3))
    x = float(rng.uniform(0.15, 0.85)) * layer.width
    y = float(rng.uniform(0.45, 0.8)) * layer.height
    lean = float(rng.uniform(-0.5, 0.5)) * size
    below = layer.height + size
    arm = [(x - 0.34 * size, y), (x + 0.34 * size, y), (x + 0.5 * size + lean, below), (x - 0.5 * size + lean, below)]
    pen.polygon(arm, fill=skin)
    pen.polygon([arm[1], (x + 0.12 * size, y), (x + 0.16 * size + lean, below), arm[2]], fill=dark)
    cuff = y + 1.15 * size
    share = min(1.0, (cuff - y) / (below - y))
    sleeve = x + lean * share
    pen.polygon(
        [
            (sleeve - 0.56 * size, cuff),
            (sleeve + 0.56 * size, cuff),
            (x + 0.74 * size + lean, below),
            (x - 0.74 * size + lean, below),
        ],
        fill=cloth,
    )
    pen.ellipse((x - 0.46 * size, y - 0.55 * size, x + 0.46 * size, y + 0.42 * size), fill=skin)
    thumb = -1 if rng.random() < 0.5 else 1
    width = int(0.2 * size)
    pen.line((x + thumb * 0.34 * size, y, x + thumb * 0.72 * size, y - 0.42 * size), fill=dark, width=width)
    end = (x + thumb * 0.72 * size, y - 0.42 * size)
    pen.ellipse((end[0] - width / 2, end[1] - width / 2, end[0] + width / 2, end[1] + width / 2), fill=dark)
    for k in range(4):
        foot_x = x - 0.33 * size + 0.22 * k * size
        tip_y = y - size * (0.95 + (0.12, 0.24, 0.2, 0.02)[k])
        tone = skin if k % 2 else blend(skin, dark, 0.5)
        pen.line((foot_x, y - 0.2 * size, foot_x, tip_y), fill=tone, width=width)
        pen.ellipse((foot_x - width / 2, tip_y - width / 2, foot_x + width / 2, tip_y + width / 2), fill=tone)
    canvas.put(layer.reduce(2).filter(ImageFilter.GaussianBlur(0.5)), 0, 0)


def _shopper(canvas: Canvas) -> None:
    """A head and a shoulder at the edge, out of focus."""
    rng = canvas.rng
    layer, pen = _layer(canvas)
    side = float(rng.choice((0.0, 1.0))) * layer.width + float(rng.uniform(-0.06, 0.06)) * layer.width
    size = layer.height * float(rng.uniform(0.16, 0.24))
    cloth, hair = _any(rng, _CLOTH), _any(rng, ((40, 30, 26), (110, 74, 44), (196, 160, 100), (90, 90, 94)))
    neck = layer.height - size
    pen.ellipse((side - 1.7 * size, neck - 0.1 * size, side + 1.7 * size, neck + 2.6 * size), fill=cloth)
    pen.ellipse((side - 0.72 * size, neck - 1.5 * size, side + 0.72 * size, neck + 0.2 * size), fill=hair)
    canvas.put(layer.reduce(2).filter(ImageFilter.GaussianBlur(canvas.height / 110)), 0, 0)
