"""What the figures of a mix report share: colours of parts, axes in people's numbers, splits as shaded spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.reporting.figures import HOUSE_STYLE
from wanamaker.reporting.mix_rows import split_spans
from wanamaker.reporting.style import INK, MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALARM = PALETTE[5]
BASE_COLOURS = {"baseline": "#c5ced7", "trend": "#a7b3c0", "season": "#8594a4", "control": "#66788a"}
PRICE_COLOURS = ("#8f3f00", "#c47a3a", "#5e3418", "#e0b48c")
PROMOTION_COLOURS = ("#75700f", "#b0aa36", "#4a4708", "#d6d287")
KIND_WORDS = {
    "baseline": "Level",
    "trend": "Trend",
    "season": "Season",
    "control": "Controls",
    "promotion": "Promotions",
    "price": "Prices",
    "media": "Media",
}
KIND_COLOURS = {
    **dict.fromkeys(BASE_COLOURS, "#5b6876"),
    "promotion": "#75700f",
    "price": "#8f3f00",
    "media": PALETTE[0],
}
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test", "none": "not used"}
SPLIT_FILLS = {"train": "#ffffff", "val": "#eef4fa", "test": "#fdf1e7", "none": "#f2f2f2"}


def channel_colour(number: int) -> str:
    """Colour of a media channel, the same in every figure."""
    return PALETTE[number % len(PALETTE)]


def part_colours(names: Sequence[str], kinds: Sequence[str], channels: Sequence[str]) -> dict[str, str]:
    """Colour of every part: media as their channel, what is not marketing in greys."""
    seen: dict[str, int] = {}
    colours = {}
    for name, kind in zip(names, kinds, strict=True):
        rank = seen[kind] = seen.get(kind, -1) + 1
        if kind == "media":
            colours[name] = channel_colour(list(channels).index(name) if name in channels else rank)
        elif kind == "price":
            colours[name] = PRICE_COLOURS[rank % 4]
        elif kind == "promotion":
            colours[name] = PROMOTION_COLOURS[rank % 4]
        else:
            colours[name] = BASE_COLOURS[kind]
    return colours


def shortened(name: str, length: int = 26) -> str:
    """A name of at most ``length`` letters, with an ellipsis in its middle where it was longer."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 3
    return f"{name[: length - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"


def short_names(names: Sequence[str], length: int = 26) -> list[str]:
    """Names of at most ``length`` letters that still differ: what all share goes first, then letters in the middle."""
    names = list(names)
    if len(names) > 1 and any(len(name) > length for name in names):
        head, tail = _shared(names), _shared([name[::-1] for name in names])[::-1]
        head = head[: max(head.rfind(" "), head.rfind("_")) + 1]
        tail = tail[tail.find(" ") :] if " " in tail else ""
        if len(head) > 4:
            names = [f"…{name[len(head) :]}" for name in names]
        if len(tail) > 4 and all(len(name) > len(tail) for name in names):
            names = [f"{name[: -len(tail)]}…" for name in names]
    return [shortened(name, length) for name in names]


def _shared(names: Sequence[str]) -> str:
    """The letters that all names begin with."""
    first, last = min(names), max(names)
    return first[: next((i for i, letter in enumerate(first) if letter != last[i]), len(first))]


def short_number(value: float, _position: object = None) -> str:
    """ "12k", "1.5M", "2bn": for axes and bars."""
    if not np.isfinite(value):
        return "–"
    for limit, word in ((1e12, "tn"), (1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{word}"
    return f"{value:.3g}"


def axis_numbers(axis: object) -> None:
    """Ticks of a matplotlib axis (``axes.xaxis``) as `short_number`, with enough digits to tell neighbours apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5))  # type: ignore[attr-defined]
    axis.set_major_formatter(FuncFormatter(short_number))  # type: ignore[attr-defined]


def axis_dates(axes: Axes) -> None:
    """Few, short dates below a time line."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


@contextmanager
def house_grid(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: object
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure with rows x columns axes in the house style, drawn without a screen; sizes in inches.

    Args:
        width, height: inches.
        rows, columns: of axes.
        options: of `matplotlib.figure.Figure.subplots`.

    Yields:
        The figure and its axes, always an array [rows, columns].
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)  # type: ignore[arg-type]


def shade_splits(axes: Axes, date: np.ndarray, split: np.ndarray, *, labels: bool = True) -> None:
    """Shade validation and test, with their names at the top; nothing where all is training."""
    spans = split_spans(date, split)
    if {name for *_, name in spans} <= {"train"}:
        return
    length = (spans[-1][1] - spans[0][0]).astype(float)
    for first, end, name in spans:
        if name != "train":
            axes.axvspan(first, end, color=SPLIT_FILLS[name], lw=0, zorder=0)
            axes.axvline(first, color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
        share = (end - first).astype(float) / length
        if labels and share > 0.01 and (name != "none" or share > 0.13):
            # A narrow span's name runs to the left of its end, except the last one's, which has room to its right.
            leftwards = share < 0.13 and end != spans[-1][1]
            axes.annotate(
                SPLIT_WORDS[name],
                (end if leftwards else first, 1),
                (-3 if leftwards else 3, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8.5,
                color=MUTED,
                ha="right" if leftwards else "left",
                va="bottom",
            )


def legend_above(axes: Axes, columns: int = 6, **options: object) -> None:
    """A legend in one line above the axes, left."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.08),
        ncols=columns,
        fontsize=9,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.4,
        labelcolor=INK,
        **options,
    )


def percent(share: float, digits: int = 1, *, sign: bool = False) -> str:
    """ "12.3 %" for 0.123, a dash for what is not a number; the space does not break."""
    if not np.isfinite(share):
        return "–"
    rounded = round(100 * share, digits) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}\u00a0%"


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Positions near ``wanted`` that lie ``gap`` apart within [low, high] where there is room (least squares).

    Isotonic regression of the positions less their rank times the gap, by pooling neighbours.
    """
    wanted = np.asarray(wanted, float)
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    pools: list[list[float]] = []  # sum, count
    for rank, value in enumerate(wanted[order]):
        pools.append([value - rank * gap, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    flat = np.concatenate([np.full(int(count), total / count) for total, count in pools]) if pools else np.zeros(0)
    flat = np.clip(flat, low, high - gap * max(len(wanted) - 1, 0))
    placed = np.empty_like(wanted)
    placed[order] = flat + gap * np.arange(len(wanted))
    return placed


def kpi_label(kpi: str, unit: str) -> str:
    """What an axis of the KPI is called: "revenue, EUR", and "conversions" where name and unit are the same word."""
    return kpi if not unit or unit.casefold() == kpi.casefold() else f"{kpi}, {unit}"
