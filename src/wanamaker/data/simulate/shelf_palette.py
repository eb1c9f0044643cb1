"""Colours of the `shelf` simulator: brand palettes, the names of colours, and small colour arithmetic.

All colours are sRGB triples in 0..255. The names are the eleven basic colour terms of English, so that a label of the
simulator can be compared with a colour a person would say.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np

RGB = tuple[int, int, int]


class Palette(NamedTuple):
    """The five colours of one brand: body, partner, spark, the ink of its writing and the paper of its label."""

    primary: RGB
    secondary: RGB
    accent: RGB
    ink: RGB
    paper: RGB


def _hex(code: str) -> RGB:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


def _palettes(rows: str) -> tuple[Palette, ...]:
    return tuple(Palette(*(_hex(code) for code in row.split())) for row in rows.strip().splitlines())


# Saturated supermarket brands.
BASE_PALETTES = _palettes(
    """
    c8202f f4b72f ffffff ffffff fff4dc
    1f4e9c 6fb7e6 f7d648 ffffff f3f7fb
    1e7a46 a8cf45 f6e27a ffffff f6f8ea
    f08a1d 7a2e12 fff0c9 ffffff fff3dc
    f3c51b c2272d 2b2b2b 8d1519 fff8d8
    5b2a86 d65fa6 f6d155 ffffff f7f0fa
    e4568c ffd3e0 7c1d4b ffffff fff1f5
    5a3620 d9a766 f3e3c3 fbeed6 f5e8d0
    20242b c9a24b e9e4d6 f4ead0 f2ede1
    f1eee6 2a6fb0 e2574c 24425f ffffff
    1b8f8f f5efe0 f2783c ffffff f2faf8
    8fb339 3a5a1c f7f3d0 ffffff f8faea
    8c1c3a e9b7a1 f2d6a2 fff0e2 fbeee6
    97a1ab 2d3e50 e9542b 1f2a36 f2f4f5
    0f5c63 e8c547 f7f7f2 fdf6d8 f4f4ea
    d9d4c7 7f9a5b b5532d 4a3b2a fbf8f0
    """
)

# The new season: soft grounds, neon sparks, dark ink.
RESTOCK_PALETTES = _palettes(
    """
    f6b8a6 3d405b e07a5f 3d405b fdf6f0
    b8d8d8 4f6367 ef5d60 2f3e46 f4fbfb
    c5b4e3 463f7a f4e04d 2c2650 f8f5fd
    d7f205 1a1a1a ff3ea5 1a1a1a f9ffe0
    101820 00c2a8 fee715 fee715 e8f7f4
    ffd6e8 9b287b 2ec4b6 5e1a4c fff5fa
    0b3954 ff6663 bfd7ea e0ff4f f1f6fa
    cdb891 1f3a2e d1495b 1f3a2e f8f3e8
    ff7f11 232528 beb7a4 fffffc fdf6ec
    e9f1f7 274c77 ffb703 274c77 ffffff
    """
)

# Two or three anchors a name, because "brown" or "green" is a region and not a point.
_ANCHORS: dict[str, str] = {
    "black": "15171b 2b2d33",
    "white": "ffffff f1eee6",
    "grey": "8f959c b9bdc1 5d636b",
    "red": "c8202f e2453c 8c1c3a",
    "orange": "f08a1d f2783c",
    "yellow": "f3c51b f6e27a d7f205",
    "green": "1e7a46 8fb339 3a5a1c 1b8f7f",
    "blue": "1f4e9c 6fb7e6 16345c 3a8fb0",
    "purple": "5b2a86 a58bd0",
    "pink": "e4568c ffc4d8",
    "brown": "5a3620 8a5a33 c79a62",
}
COLOUR_NAMES: tuple[str, ...] = tuple(_ANCHORS)
_ANCHOR_RGB = np.array([_hex(code) for codes in _ANCHORS.values() for code in codes.split()], dtype=np.float64)
_ANCHOR_NAME = np.array([index for index, codes in enumerate(_ANCHORS.values()) for _ in codes.split()])


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 [..., 3] to CIE L*a*b* (D65) [..., 3]."""
    linear = np.asarray(rgb, dtype=np.float64) / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = (linear[..., None, :] * matrix).sum(-1) / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], -1
    )


_ANCHOR_LAB = _lab(_ANCHOR_RGB)


def _name_table() -> np.ndarray:
    """Index into COLOUR_NAMES for every colour on a 16 x 16 x 16 grid; naming a pixel is then one look-up."""
    level = np.arange(16) * 16 + 8
    grid = np.stack(np.meshgrid(level, level, level, indexing="ij"), -1).reshape(-1, 3)
    difference = _lab(grid)[:, None, :] - _ANCHOR_LAB[None]
    # Lightness counts less than hue: a shaded red is still red.
    distance = (difference**2 * np.array([0.45, 1.0, 1.0])).sum(-1)
    return _ANCHOR_NAME[distance.argmin(1)].astype(np.int64)


_NAME_TABLE = _name_table()


def dominant_colour(rgb: np.ndarray) -> str:
    """Name the basic colour that most pixels of a package belong to.

    Args:
        rgb: uint8 [P, 3], unlit colours of the package (no light, no shadow).

    Returns:
        One of `COLOUR_NAMES`.
    """
    index = rgb.astype(np.int64) >> 4
    names = _NAME_TABLE[(index[:, 0] << 8) | (index[:, 1] << 4) | index[:, 2]]
    return COLOUR_NAMES[int(np.bincount(names, minlength=len(COLOUR_NAMES)).argmax())]


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """Mix two colours; `share` 0 gives the first, 1 the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def shift(colour: RGB, hue: float = 0.0, saturation: float = 1.0, value: float = 1.0) -> RGB:
    """Turn the hue (in turns) and scale saturation and value of one colour."""
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    channels = colorsys.hsv_to_rgb((h + hue) % 1.0, min(1.0, s * saturation), min(1.0, v * value))
    return tuple(round(channel * 255) for channel in channels)  # type: ignore[return-value]


def luminance(colour: RGB) -> float:
    """Perceived lightness 0..255 (Rec. 601 weights)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def readable(ink: RGB, ground: RGB) -> RGB:
    """Return `ink`, or black or white where it would not be read on `ground`."""
    if abs(luminance(ink) - luminance(ground)) >= 70:
        return ink
    return (28, 26, 30) if luminance(ground) > 128 else (250, 248, 242)


def draw_palette(rng: np.random.Generator, style: str) -> Palette:
    """Pick the palette of a brand and vary it slightly, so that no two brands match exactly."""
    palettes = RESTOCK_PALETTES if style == "restock" else BASE_PALETTES
    palette = palettes[int(rng.integers(len(palettes)))]
    hue, saturation, value = rng.normal(0, 0.012), rng.uniform(0.88, 1.08), rng.uniform(0.92, 1.05)
    return Palette(
        *(shift(colour, hue, saturation, value) for colour in palette[:3]), ink=palette.ink, paper=palette.paper
    )
