"""The furniture of the `shelf` simulator: back walls, boards with their price rail, tags and posters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from wanamaker.data.simulate.shelf_canvas import Canvas
from wanamaker.data.simulate.shelf_label import Brand, draw_label, font
from wanamaker.data.simulate.shelf_palette import RGB, blend, readable

_WALLS: tuple[RGB, ...] = (
    (226, 220, 210),
    (206, 212, 218),
    (190, 178, 160),
    (132, 140, 150),
    (240, 238, 232),
    (92, 90, 96),
    (196, 214, 206),
    (168, 122, 82),
)
_BOARDS: tuple[RGB, ...] = (
    (240, 240, 238),
    (210, 214, 218),
    (186, 140, 94),
    (128, 92, 64),
    (78, 82, 90),
    (230, 220, 198),
)
_RAILS: tuple[RGB, ...] = ((246, 246, 244), (60, 64, 72), (214, 44, 50), (36, 104, 180), (58, 140, 84), (250, 210, 70))
_TAGS: tuple[RGB, ...] = ((252, 252, 248), (252, 252, 248), (250, 222, 90), (226, 64, 56))
_WALL_KINDS = ("plain", "plain", "pegs", "slats", "planks", "tiles")


class Fixture(NamedTuple):
    """One piece of shelving.

    Attributes:
        wall: Colour of the back.
        kind: Its structure.
        board: Colour of the boards.
        rail: Colour of the strip that holds the price tags; equal to the board where there is none.
        clear: Height between two boards, pixels.
        thick: Height of a board's front, pixels.
        deck: Height at which the top of a board is seen, pixels.
    """

    wall: RGB
    kind: str
    board: RGB
    rail: RGB
    clear: int
    thick: int
    deck: int


def choose(rng: np.random.Generator, options: tuple[RGB, ...]) -> RGB:
    """One of some colours."""
    return options[int(rng.integers(len(options)))]


def draw_fixture(rng: np.random.Generator, clear: int, elevation: float) -> Fixture:
    """Choose the shelving of a photo."""
    board = choose(rng, _BOARDS)
    return Fixture(
        wall=choose(rng, _WALLS),
        kind=_WALL_KINDS[int(rng.integers(len(_WALL_KINDS)))],
        board=board,
        rail=choose(rng, _RAILS) if rng.random() < 0.7 else board,
        clear=clear,
        thick=max(5, int(clear * rng.uniform(0.085, 0.13))),
        deck=max(2, int(clear * (0.02 + 0.42 * max(0.0, elevation)))),
    )


def back_wall(canvas: Canvas, fixture: Fixture, foot: int, light: float) -> None:
    """Wall and deck of the compartment that ends at row `foot`: dark under the upper board, lit below it."""
    top, bottom = foot - fixture.clear, foot - fixture.deck
    y0, y1 = max(0, top), min(canvas.height, bottom)
    if y1 > y0:
        down = (np.arange(y0, y1, dtype=np.float32)[:, None] - top) / fixture.clear
        across = np.linspace(-1, 1, canvas.width, dtype=np.float32)[None]
        shade = 0.98 - 0.4 * np.exp(-down / 0.09) - 0.16 * down + 0.09 * across * np.sign(light or 1)
        if fixture.kind == "slats":
            pitch = max(6, fixture.clear // 7)
            shade = shade * (1 - 0.2 * ((np.arange(y0, y1)[:, None] - top) % pitch < max(1, pitch // 9)))
        elif fixture.kind in ("planks", "tiles"):
            pitch = max(7, fixture.clear // (3 if fixture.kind == "planks" else 5))
            shade = shade * (1 - 0.14 * (np.arange(canvas.width)[None] % pitch < max(1, pitch // 20)))
            if fixture.kind == "tiles":
                shade = shade * (1 - 0.12 * ((np.arange(y0, y1)[:, None] - top) % pitch < max(1, pitch // 20)))
        pixels = np.clip(shade[..., None] * np.array(fixture.wall, dtype=np.float32), 0, 255).astype(np.uint8)
        if fixture.kind == "pegs":
            pitch = max(7, fixture.clear // 9)
            for dy in range(max(1, pitch // 6)):
                for dx in range(max(1, pitch // 6)):
                    holes = pixels[pitch // 2 + dy :: pitch, pitch // 2 + dx :: pitch]
                    holes[...] = (holes * 0.6).astype(np.uint8)
        canvas.image.paste(Image.fromarray(pixels), (0, y0))
    # The deck: the top of the board, darker towards the wall.
    ramp = np.linspace(0.55, 1.0, fixture.deck, dtype=np.float32)[:, None, None]
    deck = np.broadcast_to(ramp * np.array(fixture.board, dtype=np.float32), (fixture.deck, canvas.width, 3))
    canvas.image.paste(Image.fromarray(deck.astype(np.uint8)), (0, bottom))
    rows = np.arange(max(0, top), max(0, min(canvas.height, foot)))
    if len(rows):
        canvas.light[rows] = 1.04 - 0.26 * np.exp(-((rows - top) / fixture.clear) / 0.07)


def board(canvas: Canvas, fixture: Fixture, foot: int) -> None:
    """The front of a board with its rail and price tags; some tags reach up over a product's foot."""
    rng, draw, thick, wide = canvas.rng, canvas.draw, fixture.thick, canvas.width
    if foot > canvas.height:
        return
    draw.rectangle((0, foot, wide, foot + thick - 1), fill=fixture.rail)
    lip = max(1, thick // 6)
    draw.rectangle((0, foot, wide, foot + lip - 1), fill=blend(fixture.board, (255, 255, 255), 0.45))
    under = foot + thick - max(1, thick // 5)
    draw.rectangle((0, under, wide, foot + thick - 1), fill=blend(fixture.rail, (0, 0, 0), 0.35))
    canvas.hide((0, foot, wide, foot + thick))
    colour = choose(rng, _TAGS)
    x = float(rng.uniform(-0.3, 0.4)) * fixture.clear
    while x < wide:
        tag = thick * float(rng.uniform(1.7, 2.6))
        tall = thick - 3 * lip if rng.random() < 0.75 else thick * float(rng.uniform(0.9, 1.7))
        _price_tag(canvas, x, foot + thick - lip - max(4.0, tall), tag, max(4.0, tall), colour)
        x += tag + float(rng.choice((0.2, 1.5, 4.0))) * thick * float(rng.uniform(0.6, 1.4))


def _price_tag(canvas: Canvas, x: float, y: float, wide: float, tall: float, ground: RGB) -> None:
    rng, draw = canvas.rng, canvas.draw
    box = (round(x), round(y), round(x + wide), round(y + tall))
    ink = readable((40, 40, 46), ground)
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=ground, outline=blend(ground, (0, 0, 0), 0.25))
    canvas.hide(box)
    cents = int(rng.integers(49, 999))
    size = int(min(0.62 * tall, 0.27 * wide))
    if size >= 6:
        draw.text((x + 0.62 * wide, y + tall / 2), f"{cents // 100}.{cents % 100:02d}", ink, font(size), "mm")
    else:
        draw.rectangle((x + 0.5 * wide, y + 0.3 * tall, x + 0.86 * wide, y + 0.62 * tall), fill=ink)
    line = max(1, round(0.09 * tall))
    for k in range(3):
        top = round(y + tall * (0.24 + 0.2 * k))
        draw.rectangle((x + 0.08 * wide, top, x + wide * (0.34 - 0.06 * k), top + line - 1), fill=ink)


def poster(canvas: Canvas, fixture: Fixture, foot: int, brand: Brand) -> None:
    """An advertisement on the back wall: printed like a package, and no product."""
    rng = canvas.rng
    tall = int(fixture.clear * rng.uniform(0.35, 0.62))
    wide = int(tall * rng.uniform(0.8, 1.9))
    x, y = int(rng.uniform(-0.2 * wide, canvas.width - 0.8 * wide)), foot - int(fixture.clear * rng.uniform(0.7, 0.92))
    edge = max(1, tall // 22)
    sheet = Image.new("RGBA", (wide + 2 * edge, tall + 2 * edge), (250, 249, 245, 255))
    sheet.paste(draw_label(brand, int(rng.integers(3)), wide, tall), (edge, edge))
    canvas.put(sheet, x, y)
