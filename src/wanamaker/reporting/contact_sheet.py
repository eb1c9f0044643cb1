"""Several overlays on one sheet: title, legend, and a caption under each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wanamaker.reporting.overlay import draw_detections, to_picture
from wanamaker.reporting.style import INK, MUTED, PAPER, RULE, class_colour, font, rgb

_GAP = 28
_MARGIN = 44
_CAPTION = 40
_SMOOTH = 3
_MAX_LEGEND = 16  # colours repeat after that, so more entries would not tell more


class Tile(NamedTuple):
    """One photo of a sheet."""

    image: np.ndarray | Image.Image  # uint8 [H, W, 3] or a picture
    caption: str
    boxes: np.ndarray  # [D, 4] xyxy pixels of the photo
    labels: np.ndarray  # [D], 1..K
    scores: np.ndarray | None  # [D]
    truth_boxes: np.ndarray | None = None  # [M, 4] xyxy pixels of the photo


def contact_sheet(
    tiles: Sequence[Tile], class_names: Sequence[str], *, title: str, subtitle: str = "", tile_side: int = 640
) -> Image.Image:
    """Draw tiles in a grid.

    Args:
        tiles: at least one photo.
        class_names: K names.
        title: first line, in bold.
        subtitle: second line; may be empty.
        tile_side: longer side of each picture, pixels; photos are enlarged or reduced to it.

    Raises:
        ValueError: no tiles.
    """
    if not tiles:
        raise ValueError("A contact sheet needs at least one photo.")
    pictures = [_drawn(tile, class_names, tile_side) for tile in tiles]
    columns = min(len(tiles), max(1, round(len(tiles) ** 0.5 * 1.15)))
    grid = [list(range(start, min(start + columns, len(tiles)))) for start in range(0, len(tiles), columns)]
    cell = max(picture.width for picture in pictures)
    heights = [max(pictures[i].height for i in row) for row in grid]
    width = 2 * _MARGIN + columns * cell + (columns - 1) * _GAP
    with_truth = any(tile.truth_boxes is not None for tile in tiles)
    used = sorted({int(label) for tile in tiles for label in tile.labels})[:_MAX_LEGEND]
    entries = [(class_names[label - 1], class_colour(label)) for label in used]
    entries += [("annotated", "")] if with_truth else []
    legend = _legend(entries, width - 2 * _MARGIN)
    head = _MARGIN + 46 + (30 if subtitle else 0) + (legend.height + 14 if legend else 0) + 16
    height = head + sum(heights) + len(grid) * (_CAPTION + 12) + _MARGIN // 2
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN - 8
    room = width - 2 * _MARGIN
    draw.text((_MARGIN, y), shortened(title, font(32, bold=True), room), INK, font(32, bold=True))
    y += 46
    if subtitle:
        draw.text((_MARGIN, y), shortened(subtitle, font(18), room), MUTED, font(18))
        y += 30
    if legend:
        sheet.paste(legend, (_MARGIN, y + 6))
    y = head
    for row, row_height in zip(grid, heights, strict=True):
        for column, index in enumerate(row):
            picture = pictures[index]
            x = _MARGIN + column * (cell + _GAP) + (cell - picture.width) // 2
            sheet.paste(picture, (x, y))
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=RULE)
            left = _MARGIN + column * (cell + _GAP)
            draw.text((left, y + row_height + 10), shortened(tiles[index].caption, font(16), cell), INK, font(16))
        y += row_height + _CAPTION + 12
    return sheet


def shortened(text: str, face: ImageFont.FreeTypeFont, room: float) -> str:
    """A text that fits into ``room`` pixels, with an ellipsis in its middle where it was too long."""
    if face.getlength(text) <= room:
        return text
    keep = len(text)
    while keep > 1 and face.getlength(f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}") > room:
        keep -= 1
    return f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"


def _drawn(tile: Tile, class_names: Sequence[str], side: int) -> Image.Image:
    picture = to_picture(tile.image)
    drawn = draw_detections(
        picture,
        tile.boxes,
        tile.labels,
        tile.scores,
        class_names,
        truth_boxes=tile.truth_boxes,
        long_side=(side, side),
    )
    return drawn.image


def _legend(entries: Sequence[tuple[str, str]], room: int) -> Image.Image | None:
    """Names with their colours, wrapped to ``room`` pixels; an entry without a colour is drawn as the dashed box."""
    if not entries:
        return None
    face, line, swatch = font(17), 30, 20
    places, x, y = [], 0, 0
    for name, _ in entries:
        name = shortened(name, face, room - swatch - 12)
        needed = swatch + 10 + round(face.getlength(name))
        if x and x + needed > room:
            x, y = 0, y + line
        places.append((x, y, name))
        x += needed + 28
    size = (room, y + line)
    large = Image.new("RGB", (size[0] * _SMOOTH, size[1] * _SMOOTH), PAPER)
    pen = ImageDraw.Draw(large)
    for (x, y, _), (_, colour) in zip(places, entries, strict=True):
        left, top, right, bottom = ((v * _SMOOTH) for v in (x, y + 5, x + swatch, y + 5 + swatch))
        if colour:
            pen.rounded_rectangle((left, top, right, bottom), 5 * _SMOOTH, fill=rgb(colour))
        else:
            dash = swatch * _SMOOTH // 5
            for start in range(0, swatch * _SMOOTH, 2 * dash):
                for points in (
                    (left + start, top, left + start + dash, top),
                    (left + start, bottom, left + start + dash, bottom),
                    (left, top + start, left, top + start + dash),
                    (right, top + start, right, top + start + dash),
                ):
                    pen.line(points, fill=INK, width=2 * _SMOOTH)
    small = large.reduce(_SMOOTH)
    pen = ImageDraw.Draw(small)
    for x, y, name in places:
        pen.text((x + swatch + 10, y + 5 + swatch / 2), name, INK, face, anchor="lm")
    return small
