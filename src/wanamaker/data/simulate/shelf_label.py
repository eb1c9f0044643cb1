"""Flat label art of the `shelf` simulator: brand, layout, motif, name and small print, drawn with Pillow.

A `Brand` holds every random choice, so the same brand can be drawn at any size and looks the same on each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wanamaker.data.simulate.shelf_palette import RGB, Palette, blend, draw_palette, luminance, readable, shift

BASE_LAYOUTS = ("band", "wave", "diagonal", "pinstripe", "window", "sunburst", "plain")
RESTOCK_LAYOUTS = ("dots", "blocks", "arches", "checker", "frame")
MOTIFS = ("fruit", "leaf", "drop", "star", "heart", "wheat", "peak", "rings")
_ONSETS = ("B", "D", "F", "K", "L", "M", "N", "P", "R", "S", "T", "V", "Z", "Br", "Kl", "Pr", "Tr")
_VOWELS = ("a", "e", "i", "o", "u", "ia", "eo")
_CODAS = ("", "", "l", "n", "r", "x", "m")
_WORDS = ("original", "classic", "fresh", "lemon", "mint", "cocoa", "oat", "berry", "rich", "light", "spicy", "honey")
_FLAVOUR_TURNS = (0.0, 0.13, 0.33, 0.55, 0.78)


@dataclass(frozen=True)
class Brand:
    """One line of products: everything that its packages share."""

    palette: Palette
    name: str
    layout: str
    motif: str
    upper: bool
    plate: str
    name_height: float
    motif_height: float
    seed: int


def _draw_name(rng: np.random.Generator) -> str:
    syllables = 2 if rng.random() < 0.75 else 3
    text = ""
    for index in range(syllables):
        onset = _ONSETS[int(rng.integers(len(_ONSETS)))]
        text += (onset if index == 0 else onset.lower()) + _VOWELS[int(rng.integers(len(_VOWELS)))]
    return (text + _CODAS[int(rng.integers(len(_CODAS)))])[:8]


def draw_brand(rng: np.random.Generator, style: str) -> Brand:
    """Invent a brand: palette, name, layout, motif and where they sit on the front."""
    layouts = RESTOCK_LAYOUTS if style == "restock" else BASE_LAYOUTS
    return Brand(
        palette=draw_palette(rng, style),
        name=_draw_name(rng),
        layout=layouts[int(rng.integers(len(layouts)))],
        motif=MOTIFS[int(rng.integers(len(MOTIFS)))],
        upper=bool(rng.random() < 0.6),
        plate=("none", "none", "ellipse", "ribbon", "box")[int(rng.integers(5))],
        name_height=float(rng.uniform(0.2, 0.36)),
        motif_height=float(rng.uniform(0.58, 0.72)),
        seed=int(rng.integers(2**31)),
    )


def flavour_palette(brand: Brand, flavour: int) -> Palette:
    """Palette of one flavour: the brand's body colour stays on flavour 0, the spark and partner turn with the rest."""
    turn = _FLAVOUR_TURNS[flavour % len(_FLAVOUR_TURNS)]
    palette = brand.palette
    if turn == 0.0:
        return palette
    return palette._replace(
        secondary=shift(palette.secondary, turn, 1.1), accent=shift(palette.accent, turn, 1.15, 0.98)
    )


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of everything printed in a photo: the one that comes with Pillow."""
    return ImageFont.load_default(size)


def _ground(draw: ImageDraw.ImageDraw, brand: Brand, palette: Palette, w: int, h: int) -> RGB:
    """Paint the background of a layout; returns the colour that lies behind the name."""
    p, s, a, _, paper = palette
    layout = brand.layout
    draw.rectangle((0, 0, w, h), fill=p)
    name_y = brand.name_height * h
    if layout == "band":
        draw.rectangle((0, name_y - 0.17 * h, w, name_y + 0.17 * h), fill=s)
        draw.rectangle((0, name_y - 0.2 * h, w, name_y - 0.17 * h), fill=a)
        draw.rectangle((0, name_y + 0.17 * h, w, name_y + 0.2 * h), fill=a)
        return s
    if layout == "wave":
        xs = [w * k / 16 for k in range(17)]
        phase = brand.seed % 7
        for lift, colour in ((0.05, a), (0.0, s)):
            crest = [(x, h * (0.55 - lift + 0.06 * math.sin(x / w * 7 + phase))) for x in xs]
            draw.polygon([*crest, (w, h), (0, h)], fill=colour)
        return p
    if layout == "diagonal":
        step = max(4.0, 0.42 * w)
        for k in range(-1, int((w + h) / step) + 2):
            x = k * step
            draw.polygon([(x, 0), (x + step * 0.45, 0), (x + step * 0.45 - h, h), (x - h, h)], fill=s)
        draw.rectangle((0.12 * w, name_y - 0.14 * h, 0.88 * w, name_y + 0.14 * h), fill=p)
        return p
    if layout == "pinstripe":
        step = max(3.0, w / 14)
        for k in range(15):
            draw.rectangle((k * step, 0, k * step + step * 0.4, h), fill=blend(p, s, 0.55))
        draw.rectangle((0, 0, w, 0.07 * h), fill=a)
        draw.rectangle((0, 0.93 * h, w, h), fill=a)
        draw.rectangle((0.1 * w, name_y - 0.14 * h, 0.9 * w, name_y + 0.14 * h), fill=paper)
        return paper
    if layout == "window":
        draw.rectangle((0, 0.14 * h, w, 0.84 * h), fill=paper)
        draw.rectangle((0, 0.84 * h, w, 0.87 * h), fill=a)
        return paper
    if layout == "sunburst":
        cx, cy, reach = w / 2, brand.motif_height * h, 1.2 * (w + h)
        for k in range(12):
            turn = k * math.pi / 6
            draw.polygon(
                [
                    (cx, cy),
                    (cx + reach * math.cos(turn), cy + reach * math.sin(turn)),
                    (cx + reach * math.cos(turn + 0.26), cy + reach * math.sin(turn + 0.26)),
                ],
                fill=blend(p, s, 0.5),
            )
        return p
    if layout == "dots":
        step = max(5.0, w / 6)
        for row in range(int(h / step) + 2):
            for column in range(8):
                x, y = (column + 0.5 * (row % 2)) * step, row * step
                draw.ellipse((x - step * 0.27, y - step * 0.27, x + step * 0.27, y + step * 0.27), fill=s)
        draw.rectangle((0, name_y - 0.15 * h, w, name_y + 0.15 * h), fill=paper)
        return paper
    if layout == "blocks":
        draw.rectangle((0, 0, w * 0.5, h * 0.45), fill=paper)
        draw.rectangle((w * 0.5, 0.3 * h, w, h * 0.75), fill=s)
        draw.pieslice((-0.1 * w, 0.55 * h, 0.7 * w, 0.55 * h + 0.8 * w), 180, 360, fill=a)
        draw.rectangle((0.08 * w, name_y - 0.13 * h, 0.92 * w, name_y + 0.13 * h), fill=p)
        return p
    if layout == "arches":
        for k, colour in enumerate((s, p, a, p, s)):
            radius = (0.62 - 0.11 * k) * w
            draw.ellipse((w / 2 - radius, 0.98 * h - radius, w / 2 + radius, 0.98 * h + radius), fill=colour)
        return p
    if layout == "checker":
        step = w / 8
        for row in range(int(0.3 * h / step) + 1):
            for column in range(8):
                if (row + column) % 2:
                    y = h - (row + 1) * step
                    draw.rectangle((column * step, y, (column + 1) * step, y + step), fill=s)
        return p
    if layout == "frame":
        edge = 0.09 * w
        draw.rectangle((edge, edge, w - edge, h - edge), fill=paper, outline=a, width=max(1, round(edge * 0.4)))
        return paper
    draw.rectangle((0, 0.9 * h, w, h), fill=s)
    return p


def _motif(draw: ImageDraw.ImageDraw, brand: Brand, palette: Palette, cx: float, cy: float, r: float) -> None:
    """Draw the illustration of radius `r` at (cx, cy)."""
    a, s = palette.accent, palette.secondary
    leaf = (92, 140, 60)
    name = brand.motif
    if name == "fruit":
        for dx in (-0.42, 0.42):
            draw.ellipse((cx + dx * r - 0.62 * r, cy - 0.5 * r, cx + dx * r + 0.62 * r, cy + 0.74 * r), fill=s)
            draw.ellipse(
                (cx + dx * r - 0.36 * r, cy - 0.28 * r, cx + dx * r - 0.06 * r, cy + 0.02 * r),
                fill=blend(s, (255, 255, 255), 0.55),
            )
        draw.polygon([(cx, cy - 0.4 * r), (cx + 0.7 * r, cy - r), (cx + 0.55 * r, cy - 0.35 * r)], fill=leaf)
    elif name == "leaf":
        for side in (-1, 1):
            draw.polygon(
                [
                    (cx, cy + r),
                    (cx + side * 0.85 * r, cy + 0.1 * r),
                    (cx + side * 0.7 * r, cy - 0.8 * r),
                    (cx, cy - 0.1 * r),
                ],
                fill=leaf if side > 0 else blend(leaf, (255, 255, 255), 0.25),
            )
        draw.ellipse((cx - 0.3 * r, cy - 0.5 * r, cx + 0.3 * r, cy + 0.1 * r), fill=a)
    elif name == "drop":
        draw.polygon([(cx, cy - r), (cx + 0.55 * r, cy + 0.1 * r), (cx - 0.55 * r, cy + 0.1 * r)], fill=a)
        draw.ellipse((cx - 0.62 * r, cy - 0.3 * r, cx + 0.62 * r, cy + 0.94 * r), fill=a)
        draw.ellipse((cx - 0.35 * r, cy + 0.1 * r, cx - 0.05 * r, cy + 0.5 * r), fill=blend(a, (255, 255, 255), 0.6))
    elif name == "star":
        corners = []
        for k in range(10):
            reach, turn = (r if k % 2 == 0 else 0.45 * r), -math.pi / 2 + k * math.pi / 5
            corners.append((cx + reach * math.cos(turn), cy + reach * math.sin(turn)))
        draw.polygon(corners, fill=a)
    elif name == "heart":
        draw.ellipse((cx - 0.9 * r, cy - 0.8 * r, cx + 0.05 * r, cy + 0.15 * r), fill=a)
        draw.ellipse((cx - 0.05 * r, cy - 0.8 * r, cx + 0.9 * r, cy + 0.15 * r), fill=a)
        draw.polygon([(cx - 0.84 * r, cy - 0.1 * r), (cx + 0.84 * r, cy - 0.1 * r), (cx, cy + r)], fill=a)
    elif name == "wheat":
        draw.line((cx, cy + r, cx, cy - 0.6 * r), fill=a, width=max(1, round(0.1 * r)))
        for k in range(4):
            y = cy - 0.7 * r + 0.4 * k * r
            for side in (-1, 1):
                draw.ellipse(
                    (cx + side * 0.32 * r - 0.24 * r, y - 0.2 * r, cx + side * 0.32 * r + 0.24 * r, y + 0.2 * r), fill=a
                )
    elif name == "peak":
        draw.polygon([(cx - r, cy + 0.7 * r), (cx - 0.25 * r, cy - 0.6 * r), (cx + 0.4 * r, cy + 0.7 * r)], fill=s)
        draw.polygon(
            [(cx - 0.3 * r, cy + 0.7 * r), (cx + 0.35 * r, cy - 0.9 * r), (cx + r, cy + 0.7 * r)],
            fill=blend(s, (30, 30, 40), 0.3),
        )
        draw.polygon(
            [(cx + 0.14 * r, cy - 0.4 * r), (cx + 0.35 * r, cy - 0.9 * r), (cx + 0.55 * r, cy - 0.4 * r)],
            fill=(250, 250, 250),
        )
    else:
        for k, colour in enumerate((a, palette.paper, s)):
            radius = r * (1 - 0.3 * k)
            draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=colour)


def draw_label(brand: Brand, flavour: int, width: int, height: int) -> Image.Image:
    """Draw the front of a label.

    Args:
        brand: The product line.
        flavour: Variety within the line; changes partner colours, the motif's tint and the small word.
        width: Pixels.
        height: Pixels.

    Returns:
        RGB image of exactly that size, unlit.
    """
    palette = flavour_palette(brand, flavour)
    image = Image.new("RGB", (width, height), palette.primary)
    draw = ImageDraw.Draw(image)
    w, h = float(width), float(height)
    ground = _ground(draw, brand, palette, width, height)
    cx, name_y = w / 2, brand.name_height * h
    radius = min(0.24 * w, 0.2 * h)
    _motif(draw, brand, palette, cx, brand.motif_height * h, radius)

    text = brand.name.upper() if brand.upper else brand.name
    room = 0.7 * w
    size = int(min(0.26 * h, 1.75 * room / max(3, len(text))))
    if brand.plate == "ellipse":
        draw.ellipse((0.1 * w, name_y - 0.85 * size, 0.9 * w, name_y + 0.85 * size), fill=palette.secondary)
        ground = palette.secondary
    elif brand.plate == "ribbon":
        draw.polygon(
            [
                (0.04 * w, name_y - 0.7 * size),
                (0.96 * w, name_y - 0.7 * size),
                (0.9 * w, name_y),
                (0.96 * w, name_y + 0.7 * size),
                (0.04 * w, name_y + 0.7 * size),
                (0.1 * w, name_y),
            ],
            fill=palette.accent,
        )
        ground = palette.accent
    elif brand.plate == "box":
        draw.rectangle((0.1 * w, name_y - 0.72 * size, 0.9 * w, name_y + 0.72 * size), fill=palette.paper)
        ground = palette.paper
    ink = readable(palette.ink, ground)
    if size >= 6:
        draw.text(
            (cx, name_y),
            text,
            font=font(size),
            fill=ink,
            anchor="mm",
            stroke_width=max(0, size // 16),
            stroke_fill=ink,
        )
    else:
        draw.rectangle((cx - 0.3 * w, name_y - 0.3 * size, cx + 0.3 * w, name_y + 0.3 * size), fill=ink)

    _small_print(draw, brand, flavour, palette, w, h, ground)
    return image


def _small_print(
    draw: ImageDraw.ImageDraw, brand: Brand, flavour: int, palette: Palette, w: float, h: float, ground: RGB
) -> None:
    """The word under the name, lines of print at the foot, and a round seal on some brands."""
    mark_rng = brand.seed
    word_y = brand.name_height * h + 0.17 * h
    size = int(min(0.09 * h, 0.13 * w))
    ink = readable(palette.ink, palette.primary)
    if size >= 6:
        word = _WORDS[(mark_rng + 5 * flavour) % len(_WORDS)]
        behind = palette.paper if brand.layout in ("window", "frame") else palette.primary
        draw.text((w / 2, word_y), word, font=font(size), fill=readable(palette.ink, behind), anchor="mm")
    line = max(1.0, 0.014 * h)
    foot = palette.paper if luminance(ink) > 128 else ink
    for k in range(3):
        length = 0.2 + 0.12 * ((mark_rng >> (3 * k)) % 3)
        y = 0.9 * h + k * 2.2 * line
        if y + line < h:
            draw.rectangle((w * (0.5 - length / 2), y, w * (0.5 + length / 2), y + line), fill=foot)
    if mark_rng % 3 == 0:
        r = 0.085 * w
        x, y = 0.76 * w, 0.47 * h
        draw.ellipse((x - r, y - r, x + r, y + r), fill=palette.accent, outline=palette.paper)
