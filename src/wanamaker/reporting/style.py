"""The house style: colours that differ for every eye, and the fonts that pictures and figures share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

# Okabe and Ito, "Color Universal Design" (2008), told apart under all common colour deficiencies; its black and yellow
# are replaced because neither shows on photos. The second eight are darker or lighter siblings of the first.
PALETTE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#8f6bd1",
    "#b8b021",
    "#004c78",
    "#9a6a00",
    "#00664a",
    "#8f3f6c",
    "#8fd0f5",
    "#8f3f00",
    "#5b3c9b",
    "#75700f",
)
INK = "#1d2733"
MUTED = "#5b6876"
RULE = "#d9dfe5"
PAPER = "#ffffff"
ACCENT = PALETTE[0]


def rgb(code: str) -> tuple[int, int, int]:
    """ "#rrggbb" as three numbers."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def class_colour(label: int) -> str:
    """Colour of a class (1..K), the same in every picture and figure; repeats after 16 classes."""
    return PALETTE[(label - 1) % len(PALETTE)]


def ink_on(code: str) -> str:
    """Black or white, whichever reads better on a colour (WCAG relative luminance)."""
    linear = [(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in (c / 255 for c in rgb(code))]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of matplotlib's own data, which is the same on every machine.

    Args:
        size: pixels.
        bold: the bold face.
    """
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
