"""Figures of the response curves: saturation and returns over money, carry-over, prices and promotions.

Axis letters: S draws, G series, C channels, V points of a curve, L adstock taps, n periods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.elasticity import Elasticities
from wanamaker.decisions.frequency import FrequencyCurve
from wanamaker.decisions.intervals import interval_columns
from wanamaker.decisions.roi_curves import RoiCurve
from wanamaker.reporting.mix_style import axis_numbers, channel_colour, house_grid, short_names, short_number, shortened
from wanamaker.reporting.page import HALF, WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, PAPER

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_DASHES = (0, (4, 2))
_SPAN = "#eef2f5"
_PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # behind a number that a line may cross


def centre_and_bounds(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 90 % bounds over the draws [S, ...]; the bounds of a single draw are NaN."""
    columns = interval_columns("x", draws)
    return columns["x"], columns["x_low_90"], columns["x_high_90"]


def saturation_figure(
    curves: Sequence[RoiCurve],
    history: Sequence[np.ndarray],
    numbers: Sequence[int],
    num_periods: int,
    period: str,
    pays_in: str = "",
) -> Figure:
    """What a channel brings per period against the money spent on it per period, a panel per channel.

    Args:
        curves: of `decisions.roi_curves.roi_curves`.
        history: for each curve the money per period that was spent, all series together, [n].
        numbers: of the channels, for their colours.
        num_periods: of the window the curves are about.
        period: what a period is called, such as "week".
        pays_in: unit of what comes back, where that is not money.
    """
    with _panels(len(curves), 2.35) as (figure, axes):
        for curve, spent, number, a in zip(curves, history, numbers, axes, strict=False):
            x = curve.investment / num_periods
            centre, low, high = centre_and_bounds(curve.value / num_periods)
            colour = channel_colour(number)
            _band(a, x, low, high, colour)
            limit = curve.historical / num_periods
            _solid_then_dashed(a, x, centre, x <= limit * (1 + 1e-9), colour)
            now = curve.current / num_periods
            a.plot(now, np.interp(now, x, centre), "o", ms=7, color=PAPER, mec=INK, mew=1.6, zorder=5)
            top = float(np.nanmax(np.concatenate([centre, high[np.isfinite(high)]])))
            bottom = min(0.0, float(np.nanmin(np.concatenate([centre, low[np.isfinite(low)]]))))
            room = (top - bottom) or 1.0
            inside = np.sort(spent[(spent > 0) & (spent <= x[-1])])
            inside = inside[np.unique(np.linspace(0, len(inside) - 1, min(len(inside), 150)).astype(int))]
            a.vlines(inside, bottom - 0.13 * room, bottom - 0.05 * room, color=INK, lw=0.5, alpha=_faint(len(inside)))
            if not pays_in:
                a.plot(x, x, color=MUTED, lw=0.9, ls=(0, (1, 2)), zorder=1)
            a.set_ylim(bottom - 0.15 * room, top + 0.07 * room)
            a.set_xlim(-0.015 * x[-1], x[-1] * 1.01)
            _panel_title(a, curve.channel)
            axis_numbers(a.xaxis)
            axis_numbers(a.yaxis)
        money = curves[0].money_unit
        figure.supxlabel(f"spent per {period}, {money}", fontsize=10, color=MUTED)
        figure.supylabel(f"brought in per {period}, {pays_in or money}", fontsize=10, color=MUTED)
        said = "; ".join(f"{c.channel}: {short_number(c.value[:, -1].mean())}" for c in curves)
        return picture(
            figure,
            "saturation",
            f"Saturation curves of {len(curves)} channels in {pays_in or money}; at the right end, "
            f"over the whole window: {said}.",
            "Line: what the spend brings in; band: 90 % interval; ring: today. Small ticks: what was spent in each "
            "period so far; beyond the money that was ever tried the line is dashed, because there the model "
            "extrapolates. Spend is scaled in all periods alike, so the flighting stays as it was."
            + ("" if pays_in else " Dotted: break-even; above it, a channel brings in more than it costs."),
        )


def roi_curve_figure(curves: Sequence[RoiCurve], num_periods: int, period: str, pays_in: str = "") -> Figure:
    """ROI and marginal ROI against the money spent, a panel per channel."""
    with _panels(len(curves), 2.2) as (figure, axes):
        for curve, a in zip(curves, axes, strict=False):
            x = curve.investment / num_periods
            known = curve.investment <= curve.historical * (1 + 1e-9)
            tops = [1.0] if not pays_in else [0.0]
            for draws, colour, word in ((curve.roi, ACCENT, "ROI"), (curve.marginal_roi, PALETTE[1], "marginal ROI")):
                centre, low, high = centre_and_bounds(draws)
                _band(a, x, low, high, colour)
                _solid_then_dashed(a, x, centre, known, colour, label=word)
                now = np.interp(curve.current, curve.investment[np.isfinite(centre)], centre[np.isfinite(centre)])
                a.plot(curve.current / num_periods, now, "o", ms=6, color=PAPER, mec=colour, mew=1.6, zorder=5)
                later = centre[len(x) // 8 :]
                tops += [float(np.nanmax(later)) * 1.25, float(np.nanmax(np.append(high[len(x) // 4 :], now)))]
            if not pays_in:
                a.axhline(1, color=INK, lw=0.9, ls=_DASHES, zorder=1)
            a.set_ylim(0, np.nanmax(tops) * 1.05)
            a.set_xlim(0, x[-1] * 1.01)
            _panel_title(a, curve.channel)
            axis_numbers(a.xaxis)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=9)
        money = curves[0].money_unit
        figure.supxlabel(f"spent per {period}, {money}", fontsize=10, color=MUTED)
        figure.supylabel(f"{pays_in or money} per {money}", fontsize=10, color=MUTED)
        return picture(
            figure,
            "roi_curves",
            f"ROI and marginal ROI against spend of {len(curves)} channels.",
            "Blue: what all the money returns per unit; orange: what a little more returns. Rings: today."
            + ("" if pays_in else " Where orange crosses the dashed line at 1, more money brings back just itself."),
        )


def frequency_figure(curves: Sequence[FrequencyCurve], numbers: Sequence[int], period: str) -> Figure:
    """What a contact is worth against the contacts per person it comes with, a panel per channel.

    Args:
        curves: of `decisions.frequency.frequency_curves`.
        numbers: of the channels, for their colours.
        period: what a period is called.
    """
    with _panels(len(curves), 2.4) as (figure, axes):
        for curve, number, a in zip(curves, numbers, axes, strict=False):
            x, colour = curve.frequency, channel_colour(number)
            centre, low, high = centre_and_bounds(100 * curve.worth)
            _band(a, x, low, high, colour)
            a.axvspan(*curve.seen, color=_SPAN, lw=0, zorder=0)
            _solid_then_dashed(a, x, centre, (x >= curve.seen[0]) & (x <= curve.seen[1]), colour)
            a.axhline(100, color=MUTED, lw=0.9, ls=(0, (1, 2)), zorder=1)
            top = float(np.nanmax(np.concatenate([centre, np.nan_to_num(high)])))
            for at, form in ((curve.now, {"color": PAPER, "mec": INK, "mew": 1.6}), (curve.best, {"color": INK})):
                a.plot(at, np.interp(at, x, centre), "o", ms=7, zorder=5, **form)
            a.set_ylim(0, 1.1 * max(top, 100))
            a.set_xlim(x[0], x[-1])
            _panel_title(a, curve.channel)
        figure.supxlabel(f"contacts per person reached and {period}", fontsize=10, color=MUTED)
        figure.supylabel("worth of a contact, % of today", fontsize=10, color=MUTED)
        said = "; ".join(f"{c.channel}: {c.now:.1f} now, best {c.best:.1f}" for c in curves)
        return picture(
            figure,
            "frequency",
            f"Worth of a contact against contacts per person. {said}.",
            "Line: what a contact brings at this frequency, 100 as contacts came on average; band: 90 % interval. "
            "Ring: mean frequency today; dot: where a contact brings most. Shaded: frequencies in the data; beyond, "
            "dashed, the model extrapolates.",
        )


def adstock_figure(adstock: np.ndarray, channels: Sequence[str], period: str, half_lives: np.ndarray) -> Figure:
    """How the effect of a period's media spreads over the periods after it, a panel per channel.

    Args:
        adstock: [S, C, L], newest first.
        channels: C names.
        period: what a period is called.
        half_lives: [S, C], periods.
    """
    L = adstock.shape[2]
    with _panels(len(channels), 1.75) as (figure, axes):
        total = np.maximum(adstock.sum(axis=2, keepdims=True), 1e-300)
        share = 100 * adstock / total
        for c, a in zip(range(len(channels)), axes, strict=False):
            centre, low, high = centre_and_bounds(share[:, c])
            a.bar(np.arange(L), centre, color=channel_colour(c), width=0.72)
            a.vlines(np.arange(L), low, high, color=INK, lw=1.0)
            middle, early, late = centre_and_bounds(half_lives[:, c])
            words = f"half after {middle:.1f} {period}s"
            words += f" ({early:.1f} to {late:.1f})" if np.isfinite(early) else ""
            a.text(0.98, 0.93, words, transform=a.transAxes, ha="right", va="top", fontsize=9, color=INK)
            a.set_ylim(0, max(float(np.nanmax(np.append(high, centre))) * 1.15, 1.0))
            _panel_title(a, channels[c])
            a.xaxis.get_major_locator().set_params(integer=True, nbins=8)
        figure.supxlabel(f"{period}s after the spend", fontsize=10, color=MUTED)
        figure.supylabel("% of the effect", fontsize=10, color=MUTED)
        said = "; ".join(f"{n} {h:.1f}" for n, h in zip(channels, half_lives.mean(axis=0), strict=True))
        return picture(
            figure,
            "carry_over",
            f"Carry-over of {len(channels)} channels; {period}s until half of the effect has come: {said}.",
            f"Of all that one {period}'s media bring, the share that comes in the same {period} (0) and in each one "
            "after it. Lines: 90 % intervals.",
        )


def half_lives(adstock: np.ndarray) -> np.ndarray:
    """Periods after which half of the effect has come, [S, C].

    With R(t) the share still to come after t periods, R is interpolated in the logarithm, which makes the half-life of
    geometric decay d exactly ln 0.5 / ln d (before truncation).

    Args:
        adstock: [S, C, L], newest first.
    """
    S, C, _ = adstock.shape
    result = np.empty((S, C))
    for c in range(C):
        rest = 1 - np.cumsum(adstock[:, c], axis=1) / np.maximum(adstock[:, c].sum(axis=1, keepdims=True), 1e-300)
        rest = np.concatenate([np.ones((S, 1)), np.clip(rest, 0, 1)], axis=1)  # [S, L + 1]
        after = np.argmax(rest <= 0.5, axis=1)
        at = np.arange(S)
        r0, r1 = rest[at, after - 1], rest[at, after]
        with np.errstate(divide="ignore", invalid="ignore"):
            smooth = np.log(r0 / 0.5) / np.log(r0 / r1)
        straight = (r0 - 0.5) / np.maximum(r0 - r1, 1e-300)
        result[:, c] = after - 1 + np.where(r1 > 1e-9, smooth, straight)
    return result


def price_figures(
    curves: Sequence[tuple[str, Elasticities, np.ndarray, float, tuple[float, float], str]], kpi: str
) -> list[Figure]:
    """KPI against price above, elasticity below, three prices a figure.

    Args:
        curves: per price: name; elasticities at V values; x [V] of the axis; the x of the reference price; lowest and
            highest x seen in training; label of the axis.
        kpi: its name.
    """
    figures = []
    for first in range(0, len(curves), 3):
        some = curves[first : first + 3]
        with house_grid(WIDE if len(some) > 1 else HALF, 4.6, 2, len(some), sharex="col") as (figure, grid):
            said = []
            for column, (name, values, x, reference, seen, label) in enumerate(some):
                top, below = grid[:, column]
                total = values.kpi.sum(axis=1)
                at = int(np.argmin(np.abs(x - reference)))
                change = 100 * (total / total[:, at : at + 1] - 1)
                for a, draws in ((top, change), (below, values.total())):
                    centre, low, high = centre_and_bounds(draws)
                    a.axvspan(*seen, color=_SPAN, lw=0)
                    a.axvline(reference, color=INK, lw=0.9, ls=_DASHES)
                    _band(a, x, low, high, ACCENT)
                    _solid_then_dashed(a, x, centre, (x >= seen[0]) & (x <= seen[1]), ACCENT)
                    a.axhline(0, color=MUTED, lw=0.8)
                top.set_ylim(*_range_seen(change, (x >= seen[0]) & (x <= seen[1])))
                axis_numbers(top.yaxis)
                _panel_title(top, name)
                below.set_xlabel(label)
                middle, low, high = centre_and_bounds(values.total()[:, at])
                words = f"at the reference: {middle:.2f}"
                words += f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else ""
                below.set_title(words, fontsize=9, fontweight="normal", color=INK)
                said.append(f"{name} {words}")
            grid[0, 0].set_ylabel(f"change of {kpi}, %")
            grid[1, 0].set_ylabel("elasticity")
            figures.append(
                picture(
                    figure,
                    f"price_{first // 3 + 1}",
                    f"Change of {kpi} and elasticity against price: {'; '.join(said)}.",
                    f"Above: by how much {kpi} differs from that at the reference price (dashed). Below: elasticity, "
                    "the per cent by which it changes when the price rises by 1 %. Grey: prices seen in training, "
                    "without the extremes of a few series; beyond them the line is dashed. Bands: 90 % intervals. All "
                    "series together.",
                    wide=len(some) > 1,
                )
            )
    return figures


def _range_seen(change: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Limits of an axis for curves [S, V]: what was seen fills it, what is extrapolated may leave it."""
    centre, low, high = centre_and_bounds(change[:, seen] if seen.any() else change)
    most, least = float(centre.max()), float(centre.min())
    reach = max(most - least, 1e-6)
    if np.isfinite(low).any():  # the band too, unless it is so wide that the line would be flat
        most, least = min(float(high.max()), most + reach), max(float(low.min()), least - reach)
    return least - 0.08 * (most - least) - 1e-6, most + 0.08 * (most - least) + 1e-6


def promotion_figure(curves: Sequence[tuple[str, np.ndarray, np.ndarray, tuple[float, float]]], kpi: str) -> Figure:
    """Change of the KPI against the size of a promotion, a panel per promotion.

    Args:
        curves: per promotion: name; x [V]; KPI of the window [S, V] at x, the first x being no promotion; lowest and
            highest x seen.
        kpi: its name.
    """
    with _panels(len(curves), 2.1 if len(curves) > 1 else 4.1) as (figure, axes):
        said = []
        for (name, x, total, seen), a in zip(curves, axes, strict=False):
            x, change = x[1:], 100 * (total / total[:, :1] - 1)[:, 1:]
            centre, low, high = centre_and_bounds(change)
            a.axvspan(*seen, color=_SPAN, lw=0)
            _band(a, x, low, high, PALETTE[2])
            _solid_then_dashed(a, x, centre, (x >= seen[0]) & (x <= seen[1]), PALETTE[2])
            a.axhline(0, color=MUTED, lw=0.8)
            _panel_title(a, name)
            axis_numbers(a.xaxis)
            inside = int(np.flatnonzero(x <= seen[1])[-1])
            said.append(f"{name} {centre[inside]:+.1f} % at {short_number(x[inside])}")
        figure.supylabel(f"change of {kpi}, %", fontsize=10, color=MUTED)
        figure.supxlabel("size of the promotion, in the units of the file", fontsize=10, color=MUTED)
        return picture(
            figure,
            "promotions",
            f"Change of {kpi} with promotions: {'; '.join(said)}.",
            f"By how much {kpi} differs from no promotion. Grey: what was seen in training. Bands: 90 % intervals. All "
            "series together.",
            wide=len(curves) > 1,
        )


def elasticity_figure(frame: pd.DataFrame, limit: int = 25) -> Figure:
    """Own-price elasticity per series with 90 % intervals, the largest series, most elastic first.

    Args:
        frame: series, elasticity, elasticity_low_90, elasticity_high_90, kpi (`Elasticities.to_frame`).
        limit: series shown.
    """
    total, frame = frame[frame["series"] == "all"], frame[frame["series"] != "all"]
    count = len(frame)
    frame = frame.nlargest(limit, "kpi").sort_values("elasticity")
    rows = np.arange(len(frame))
    with house_grid(WIDE, 0.95 + 0.26 * max(len(frame), 2)) as (figure, grid):
        axes = grid[0, 0]
        value, low, high = (frame[f"elasticity{c}"].to_numpy(float) for c in ("", "_low_90", "_high_90"))
        axes.hlines(rows, low, high, color=ACCENT, lw=1.8)
        axes.plot(value, rows, "o", ms=6, color=ACCENT)
        ends = np.nanmax(np.stack([value, np.nan_to_num(high, nan=-np.inf)]), axis=0)
        starts = np.nanmin(np.stack([value, np.nan_to_num(low, nan=np.inf)]), axis=0)
        reach = (max(ends.max(), 0) - min(starts.min(), 0)) or 1.0
        for row in rows:
            axes.text(
                ends[row] + 0.012 * reach, row, f"{value[row]:.2f}", va="center", fontsize=9, color=INK, bbox=_PLATE
            )
        axes.axvline(0, color=MUTED, lw=0.8)
        if len(total):
            axes.axvline(float(total["elasticity"].iloc[0]), color=INK, lw=0.9, ls=_DASHES)
        axes.set_xlim(min(starts.min(), 0) - 0.02 * reach, max(ends.max(), 0) + 0.09 * reach)
        axes.set_yticks(rows, short_names(frame["series"], 40), color=INK)
        axes.set_ylim(max(len(frame), 2) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set(title="Own-price elasticity", xlabel="% change of the KPI for 1 % more price")
        listed = ", ".join(f"{n} {v:.2f}" for n, v in list(zip(frame["series"], value, strict=True))[:12])
        more = " Dashed: all series together." if len(total) else ""
        if len(frame) < count:
            more += f" The {len(frame)} largest of {count:,} series; the others are in the tables."
        return picture(
            figure,
            "own_price_elasticity",
            f"Own-price elasticity by series: {listed}.",
            f"At each series' mean price; lines are 90 % intervals.{more}",
        )


def _panels(count: int, height: float):  # type: ignore[no-untyped-def]
    """A grid of ``count`` panels, at most three side by side; `axes` is the flat list of those in use."""
    from contextlib import contextmanager

    columns = min(3, max(count, 1)) if count != 4 else 2
    rows = -(-max(count, 1) // columns)

    @contextmanager
    def grid():  # type: ignore[no-untyped-def]
        width = WIDE if columns > 1 else HALF
        with house_grid(width, rows * height + 0.5, rows, columns) as (figure, axes):
            flat = list(axes.reshape(-1))
            for a in flat[count:]:
                a.set_visible(False)
            yield figure, flat[:count]

    return grid()


def _panel_title(axes: Axes, name: str) -> None:
    axes.set_title(shortened(name, 34), fontsize=10)


def _band(axes: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)


def _solid_then_dashed(
    axes: Axes, x: np.ndarray, y: np.ndarray, known: np.ndarray, colour: str, label: str = ""
) -> None:
    """A line, solid where it was seen and dashed where it extrapolates."""
    axes.plot(x, np.where(known, y, np.nan), color=colour, lw=2.0, label=label or None)
    beyond = ~known
    beyond[1:] |= ~known[:-1]  # the pieces that lead into and out of what was seen
    beyond[:-1] |= ~known[1:]
    axes.plot(x, np.where(beyond, y, np.nan), color=colour, lw=1.8, ls=_DASHES)


def _faint(count: int) -> float:
    return float(np.clip(30 / max(count, 1), 0.12, 0.8))
