"""Figures in the house style, as SVG: sharp at any size, and small enough to live inside a page."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, PAPER, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOUSE_STYLE: dict[str, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "svg.fonttype": "path",  # the reader's machine need not have the font
    "svg.hashsalt": "wanamaker",  # the same figure is the same file
}


@contextmanager
def house_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, drawn without a screen.

    Args:
        width: inches.
        height: inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document without date and program, so that equal figures are equal text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def line_figure(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    width: float = 6.4,
    height: float = 3.0,
) -> str:
    """Curves, each named at its right end, so that no one has to match colours.

    Args:
        series: name to (x, y); points that are not finite are left out.
        x_label: of the axis.
        y_label: of the axis.
        width: inches.
        height: inches.

    Returns:
        SVG.
    """
    with house_figure(width, height) as (figure, axes):
        ends = []
        for number, (name, (x, y)) in enumerate(series.items()):
            x_, y_ = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
            finite = np.isfinite(x_) & np.isfinite(y_)
            if not finite.any():
                continue
            x_, y_ = x_[finite], y_[finite]
            colour = PALETTE[number % len(PALETTE)]
            dashes = "-" if number % 2 == 0 else (0, (4, 1.5))  # for printers without colour
            axes.plot(x_, y_, color=colour, linestyle=dashes, marker="o" if len(x_) < 3 else "", markersize=4)
            ends.append((float(y_[-1]), float(x_[-1]), name, colour))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if all(float(x).is_integer() for xs, _ in series.values() for x in xs if np.isfinite(x)):
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 1.5
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        low, high = axes.get_ylim()
        last = max((x for _, x, _, _ in ends), default=1.0)
        for y, (wanted, _, name, colour) in zip(
            _spread([e[0] for e in sorted(ends)], (high - low) * 0.075), sorted(ends), strict=True
        ):
            at = (last, wanted)
            text = (1.02, (y - low) / (high - low))
            axes.annotate(
                name, at, text, textcoords="axes fraction", color=colour, fontsize=9, va="center", annotation_clip=False
            )
        return to_svg(figure)


def bar_figure(
    values: Mapping[str, float],
    *,
    notes: Mapping[str, str] | None = None,
    x_label: str = "",
    limit: float | None = None,
    digits: int = 2,
    width: float = 6.4,
) -> str:
    """Horizontal bars with their values, first entry on top.

    Args:
        values: name to length; a value that is not finite is shown as "no data".
        notes: name to a small text behind the value.
        x_label: of the axis.
        limit: full length, for shares and scores; None fits the values.
        digits: decimals of the values.
        width: inches; the height follows from the number of bars.

    Returns:
        SVG.
    """
    names = list(values)
    lengths = np.array([values[name] for name in names], dtype=float)
    finite = np.isfinite(lengths)
    full = limit if limit is not None else max(float(lengths[finite].max(initial=0.0)), 1e-9)
    with house_figure(width, 0.55 + 0.27 * max(len(names), 1)) as (figure, axes):
        rows = np.arange(len(names))
        if limit is not None:
            axes.barh(rows, np.full(len(names), full), color="#eef2f5", height=0.62)
        axes.barh(rows, np.where(finite, lengths, 0), color=ACCENT, height=0.62)
        for row, name in enumerate(names):
            text = f"{lengths[row]:,.{digits}f}" if finite[row] else "no data"
            note = f"  {notes[name]}" if notes and name in notes else ""
            end = full if limit is not None else float(lengths[row]) if finite[row] else 0.0
            axes.text(end + full * 0.015, row, text, va="center", fontsize=9, color=INK)
            if note:
                axes.text(end + full * 0.1, row, note, va="center", fontsize=8, color=MUTED)
        axes.set_yticks(rows, names, color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, full * (1.28 if notes else 1.14))
        axes.set_xlabel(x_label)
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        return to_svg(figure)


def _spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Heights close to ascending ``wanted`` ones, but at least ``apart`` from each other."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + apart) if placed else y)
    shift = (placed[-1] - wanted[-1]) / 2 if placed else 0.0  # share the displacement between both ends
    return [y - shift for y in placed]
