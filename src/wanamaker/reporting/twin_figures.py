"""Figures of a recovery twin: truth against estimate, coverage, ranks and bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.recovery_twin import LEVELS, RecoveryTwin, held, rank_histogram
from wanamaker.reporting.mix_style import ALARM, axis_numbers, house_grid, percent, short_names, shortened
from wanamaker.reporting.page import HALF, WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 12
_BAND = "#eef2f5"
_COLUMNS = 4


def truth_figure(twin: RecoveryTwin, kpi: str, unit: str) -> Figure:
    """Truth against estimate of every twin's contributions, a panel per channel."""
    found = twin.of("contribution")
    channels = list(dict.fromkeys(found["of"]))
    shown = channels[:MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    if len(shown) in (5, 6, 9):
        columns = 3
    rows = -(-len(shown) // columns)
    with house_grid(WIDE, 0.7 + 2.45 * rows, rows, columns) as (figure, grid):
        for axes, channel in zip(grid.flat, shown, strict=False):
            _truth_panel(axes, found[found["of"] == channel], channel)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        in_unit = f", {unit}" if unit else ""
        figure.supxlabel(f"true contribution to {kpi}{in_unit}", fontsize=10, color=MUTED)
        figure.supylabel("estimate with 90 % interval", fontsize=10, color=MUTED)
        inside = held(found, 90)
        more = f" The {len(channels) - len(shown)} other channels are in the tables." if shown != channels else ""
        return picture(
            figure,
            "twin_truth",
            f"True contribution against estimate of {found['replicate'].nunique()} twins for {len(shown)} channels; "
            f"{int(inside.sum())} of {len(found)} 90 % intervals hold the truth.",
            "Each line is one twin: the refit's 90 % interval, over the contribution that its KPI was made with. On "
            f"the dashed line the two agree; intervals that miss it are red diamonds.{more}",
        )


def _truth_panel(axes: Axes, part: object, channel: str) -> None:
    frame = part.sort_values("truth")  # type: ignore[attr-defined]
    inside = held(frame, 90).to_numpy()
    truth, mean = frame["truth"].to_numpy(), frame["mean"].to_numpy()
    low, high = frame["low_90"].to_numpy(), frame["high_90"].to_numpy()
    ends = float(min(low.min(), truth.min())), float(max(high.max(), truth.max()))
    room = 0.06 * (ends[1] - ends[0] or abs(ends[1]) or 1.0)
    limits = ends[0] - room, ends[1] + room
    spread = float(np.ptp(truth)) or room
    across = float(truth.min()) - 0.18 * spread, float(truth.max()) + 0.18 * spread
    axes.plot(across, across, color=MUTED, lw=1.0, ls=(0, (4, 2)), zorder=1)
    for good, colour, marker in ((True, ACCENT, "o"), (False, ALARM, "D")):
        at = inside == good
        axes.vlines(truth[at], low[at], high[at], color=colour, lw=1.7, zorder=2)
        axes.plot(truth[at], mean[at], marker, color=colour, ms=5, ls="", zorder=3)
    axes.set_xlim(*across)
    axes.set_ylim(*limits)
    axis_numbers(axes.xaxis)
    axis_numbers(axes.yaxis)
    axes.locator_params(axis="x", nbins=3)
    axes.set_title(f"{shortened(channel, 20)}   {int(inside.sum())}/{len(inside)}", fontsize=10)


def coverage_figure(twin: RecoveryTwin) -> Figure:
    """Share of truths inside intervals against what the intervals promise."""
    frame = twin.coverage[twin.coverage["quantity"] == "contribution"]
    levels, share = frame["level"].to_numpy(float), 100 * frame["share"].to_numpy(float)
    low, high = 100 * frame["low"].to_numpy(float), 100 * frame["high"].to_numpy(float)
    off = (frame["p_holm"] < 0.05).to_numpy()
    places = np.arange(len(levels))
    with house_grid(HALF, 3.4) as (figure, grid):
        axes = grid[0, 0]
        axes.bar(places, high - low, bottom=low, width=0.6, color=_BAND, edgecolor=RULE, lw=0.8, zorder=1)
        axes.hlines(levels, places - 0.3, places + 0.3, color=MUTED, lw=1.2, ls=(0, (4, 2)), zorder=2)
        for bad, colour, marker in ((False, ACCENT, "o"), (True, ALARM, "D")):
            axes.plot(places[off == bad], share[off == bad], marker, color=colour, ms=8, ls="", zorder=3)
        for x, y in zip(places, share, strict=True):
            axes.annotate(
                f"{y:.0f} %", (x, y), (9, 0), textcoords="offset points", fontsize=9.5, color=INK, va="center"
            )
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_ylim(min(float(low.min()), float(share.min())) - 6, 104)
        axes.set_xticks(places, [f"{level:.0f} % interval" for level in levels], color=INK)
        axes.set_ylabel("truths inside, %")
        axes.set_title("Do intervals keep their word?")
        said = ", ".join(f"{int(r.held)} of {int(r.intervals)} in {r.level} %" for r in frame.itertuples())
        return picture(
            figure,
            "twin_coverage",
            f"True contributions inside intervals: {said}.",
            "Dashed: what is promised. In the grey bar lie 95 of 100 such shares where intervals keep their word; "
            "below it they are too narrow, above it too wide. Red: off, by the test below.",
            wide=False,
        )


def rank_figure(twin: RecoveryTwin) -> Figure:
    """Ranks of the truth among the draws, over all channels and twins."""
    ranks = twin.of("contribution")["rank"].to_numpy(float)
    bins = int(np.clip(len(ranks) // 6, 4, 10))
    counts, low, high = rank_histogram(ranks, bins)
    with house_grid(HALF, 3.4) as (figure, grid):
        axes = grid[0, 0]
        axes.axhspan(low, high, color=_BAND, lw=0, zorder=0)
        axes.axhline(len(ranks) / bins, color=MUTED, lw=1.0, ls=(0, (4, 2)), zorder=1)
        edges = np.linspace(0, 100, bins + 1)
        outside = (counts < low) | (counts > high)
        axes.bar(
            edges[:-1],
            counts,
            width=100 / bins,
            align="edge",
            color=np.where(outside, ALARM, ACCENT),
            edgecolor="white",
            lw=1.5,
            alpha=0.9,
            zorder=2,
        )
        for edge in (low, high):
            axes.axhline(edge, color=MUTED, lw=0.7, zorder=3)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 1.12 * max(float(counts.max()), high))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("draws below the truth, %")
        axes.set_ylabel("channels x twins")
        axes.set_title("Where does the truth lie among the draws?")
        return picture(
            figure,
            "twin_ranks",
            f"Histogram of the rank of {len(ranks)} true contributions among the refits' draws: "
            f"{', '.join(map(str, counts))}; even would be {len(ranks) / bins:.1f} in each of {bins} bins.",
            "Even within the lines (95 of 100 counts): calibrated. A bowl: too narrow; a hill: too wide; a slope to "
            "the left: estimates too high, to the right: too low.",
            wide=False,
        )


def bias_figure(twin: RecoveryTwin) -> Figure:
    """Error of each twin, relative to the true contribution, and its mean with a 90 % interval, by channel."""
    found, table = twin.of("contribution"), twin.channels
    channels = table["channel"].tolist()
    with house_grid(WIDE, 1.25 + 0.42 * len(channels)) as (figure, grid):
        axes = grid[0, 0]
        rows = np.arange(len(channels))
        reach = []
        for row, (channel, numbers) in enumerate(zip(channels, table.itertuples(), strict=True)):
            part = found[found["of"] == channel]
            errors = 100 * (part["mean"] - part["truth"]).to_numpy() / max(abs(numbers.truth), 1e-30)
            axes.plot(errors, np.full(len(errors), row), "o", color="#9cc3e0", ms=4.5, alpha=0.9, zorder=2)
            reach += errors.tolist()
            colour, marker = (ALARM, "D") if numbers.biased else (ACCENT, "o")
            if np.isfinite(numbers.bias_low_90):
                ends = 100 * numbers.bias_low_90, 100 * numbers.bias_high_90
                axes.plot(ends, [row, row], color=colour, lw=2.2, zorder=3)
                reach += ends
            axes.plot(100 * numbers.bias, row, marker, color=colour, ms=6.5, zorder=4)
        axes.axvline(0, color=MUTED, lw=0.9, zorder=1)
        low, high = min(0.0, *reach), max(0.0, *reach)
        room = 0.05 * (high - low or 1.0)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(len(channels) - 0.4, -0.6)
        axes.set_yticks(rows, short_names(channels, 26), color=INK)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True, color=RULE)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("estimate less truth, % of the true contribution")
        axes.set_title("Which way does it err?")
        said = ", ".join(f"{r.channel} {percent(r.bias, 0, sign=True)}" for r in table.itertuples())
        return picture(
            figure,
            "twin_bias",
            f"Mean error of contributions over the twins: {said}.",
            "Pale: each twin. Strong: their mean with its 90 % interval; a red diamond is off zero beyond chance. A "
            "prior that disagrees with the user's data pulls every twin the same way.",
        )


def levels_words(twin: RecoveryTwin) -> str:
    """ "27 of 48 in 50 %, 40 of 48 in 80 %, 44 of 48 in 90 %"."""
    frame = twin.coverage[twin.coverage["quantity"] == "contribution"].set_index("level")
    return ", ".join(
        f"{int(frame.loc[level, 'held'])} of {int(frame.loc[level, 'intervals'])} in their {level} %"
        for level in LEVELS
    )
