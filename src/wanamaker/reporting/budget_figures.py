"""Figures of a budget plan: money and value per channel, response curves, the plan over time, and how sure the gain is.

Axis letters: S draws, G series, H periods, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.budget import BudgetPlan
from wanamaker.decisions.response import ResponseSurface
from wanamaker.reporting.mix_style import (
    ALARM,
    axis_dates,
    axis_numbers,
    channel_colour,
    house_grid,
    percent,
    short_number,
    shortened,
)
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, RULE

if TYPE_CHECKING:
    import pandas as pd

_NOW = "#a7b3c0"
_CURVES, _COLUMNS = 12, 3


def channel_figure(plan: BudgetPlan, channels: pd.DataFrame) -> Figure:
    """Money now and planned, and what it brings, per paid channel."""
    rows = channels[channels["role"] != "organic"].sort_values("planned_spend", ascending=False).head(20)
    unit, names = plan.response.money_unit, [shortened(name) for name in rows["channel"]]
    place = np.arange(len(rows))[::-1].astype(float)
    colours = [channel_colour(int(i)) for i in rows.index]
    with house_grid(WIDE, 1.5 + 0.52 * len(rows), 1, 2, sharey=True) as (figure, axes):
        for axis, kind, title in zip(axes[0], ("spend", "value"), ("Money", "Value it brings"), strict=True):
            for offset, when, colour, label in (
                (0.19, "current", _NOW, "current"),
                (-0.19, "planned", colours, "planned"),
            ):
                values = rows[f"{when}_{kind}"].to_numpy(float)
                axis.barh(place + offset, values, height=0.34, color=colour, label=label)
                ends = values
                if kind == "value" and np.isfinite(rows[f"{when}_value_low_90"]).all():
                    low, high = (rows[f"{when}_value_{side}_90"].to_numpy(float) for side in ("low", "high"))
                    axis.errorbar(
                        values,
                        place + offset,
                        xerr=[values - low, high - values],
                        fmt="none",
                        ecolor=INK,
                        lw=1,
                        capsize=2,
                    )
                    ends = np.maximum(values, high)
                for y, value, end in zip(place + offset, values, ends, strict=True):
                    axis.annotate(
                        short_number(value),
                        (end, y),
                        (4, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                        color=INK,
                    )
            axis.set_title(f"{title} ({unit})")
            axis.grid(axis="y", visible=False)
            axis.grid(axis="x", visible=True)
            axis.set_xlim(left=0)
            axis.margins(x=0.12)
            axis_numbers(axis.xaxis)
        axes[0, 0].set_yticks(place, names, color=INK)
        alt = "Money per channel, current and planned: " + "; ".join(
            f"{n} {short_number(a)} to {short_number(b)} {unit}"
            for n, a, b in zip(rows["channel"], rows["current_spend"], rows["planned_spend"], strict=True)
        )
        caption = "Grey: the current plan. Coloured: the new plan. "
        caption += "Black lines: 90 % intervals over the model's draws." if plan.response.num_draws > 1 else ""
        return picture(figure, "budget_channels", alt, caption)


def curve_figure(plan: BudgetPlan, channels: pd.DataFrame) -> Figure:
    """What each channel brings as a function of its money, with where it stands and where it should."""
    rows = channels[channels["role"] == "planned"].sort_values("planned_spend", ascending=False)
    shown = rows.head(_CURVES)
    unit, count = plan.response.money_unit, len(shown)
    lines = -(-count // _COLUMNS)
    with house_grid(WIDE, 0.5 + 2.45 * lines, lines, min(_COLUMNS, count)) as (figure, grid):
        axes = grid.reshape(-1)
        for axis in axes[count:]:
            axis.set_visible(False)
        for axis, (c, row) in zip(axes, shown.iterrows(), strict=False):
            colour = channel_colour(int(c))
            most = 1.35 * max(row["current_spend"], row["planned_spend"])
            money, value, safe = _curve(plan, int(c), np.linspace(0, most, 41))
            mean = value.mean(axis=0)
            if len(value) > 1:
                low, high = np.percentile(value, [5, 95], axis=0)
                axis.fill_between(money, low, high, color=colour, alpha=0.16, lw=0)
            axis.plot(money[money <= safe], mean[money <= safe], color=colour)
            beyond = money >= money[money <= safe][-1]
            axis.plot(money[beyond], mean[beyond], color=colour, ls=(0, (3, 2)))
            axis.plot(row["current_spend"], row["current_value"], "o", color="white", mec=INK, mew=1.4, ms=7, zorder=5)
            axis.plot(row["planned_spend"], row["planned_value"], "o", color=colour, mec=INK, mew=0.8, ms=8, zorder=6)
            axis.set_title(shortened(str(row["channel"]), 30))
            axis.set_xlim(0, most)
            axis.set_ylim(bottom=0)
            axis_numbers(axis.xaxis)
            axis_numbers(axis.yaxis)
        for axis in grid[:, 0]:
            axis.set_ylabel(f"brings ({unit})")
        for axis in axes[max(0, count - _COLUMNS) : count]:
            axis.set_xlabel(f"money in the window ({unit})")
        left = (
            f" The {count} channels with most money; {len(rows) - count} more are in the tables."
            if len(rows) > count
            else ""
        )
        caption = (
            "Line: what the channel's money brings in the pattern of the new plan, carry-over included. Band: 90 % "
            "interval. White point: current, coloured point: planned. Dashed: some cell is above the highest money "
            f"ever spent there in one period, so the model extrapolates.{left}"
        )
        alt = "Response curves of " + ", ".join(
            f"{r['channel']} ({short_number(r['current_spend'])} to {short_number(r['planned_spend'])} {unit})"
            for _, r in shown.iterrows()
        )
        return picture(figure, "budget_curves", alt, caption)


def _curve(plan: BudgetPlan, c: int, money: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Money, value [S, points] of one channel in the plan's pattern, and the money up to which history reaches."""
    response, window = plan.response, plan.window
    pattern = plan.best.plan[:, :, c]
    pattern = window.spend[:, :, c] if pattern.sum() <= 0 else pattern
    pattern = pattern / pattern.sum()
    vary = np.arange(len(response.channels)) == c
    fixed = plan.best.plan.copy()
    surface = ResponseSurface(response, replace(window, spend=fixed), vary)
    fixed[:, :, c] = 0.0
    zero, values = surface.value(fixed), []
    for point in money:
        fixed[:, :, c] = point * pattern
        values.append(surface.value(fixed) - zero)
    limit = np.broadcast_to(window.max_spend[:, c][:, None], pattern.shape)
    safe = float((limit[pattern > 0] / pattern[pattern > 0]).min())
    return money, np.stack(values, axis=1), safe


def timing_figure(plan: BudgetPlan) -> Figure:
    """The money of each period, current and planned, stacked by channel."""
    window, response = plan.window, plan.response
    unit = response.money_unit
    current, planned = (a.sum(axis=0) for a in (window.spend, plan.best.plan))  # [H, C]
    order = [c for c in np.argsort(-planned.sum(axis=0)) if response.paid[c] and (planned + current)[:, c].any()]
    top = 1.08 * max(current.sum(axis=1).max(), planned.sum(axis=1).max(), 1e-300)
    dates = window.dates.astype("datetime64[D]")
    step = (dates[-1] - dates[-2]) if len(dates) > 1 else np.timedelta64(7, "D")
    edges = np.append(dates, dates[-1] + step)
    with house_grid(WIDE, 3.9, 1, 2, sharey=True) as (figure, axes):
        for axis, plan_, title in zip(axes[0], (current, planned), ("Current plan", "New plan"), strict=True):
            below = np.zeros(len(dates))
            for c in order:
                above = below + plan_[:, c]
                axis.stairs(
                    above,
                    edges.astype("datetime64[s]").astype(object),
                    baseline=below,
                    fill=True,
                    color=channel_colour(int(c)),
                    label=shortened(response.channels[c], 18),
                    lw=0,
                )
                below = above
            axis.set_title(f"{title}: {short_number(plan_.sum())} {unit}")
            axis.set_ylim(0, top)
            axis_dates(axis)
            axis_numbers(axis.yaxis)
        axes[0, 0].set_ylabel(f"money per period ({unit})")
        if len(order) <= 12:
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(order)), fontsize=9)
        sums = [f"{short_number(a.sum())} {unit}" for a in (current, planned)]
        alt = f"Money per period, stacked by channel: {sums[0]} now, {sums[1]} planned."
        caption = "All series together. The same scale left and right."
        if len(order) > 12:
            caption += " Colours as in the figure of the channels."
        return picture(figure, "budget_timing", alt, caption)


def gain_figure(plan: BudgetPlan, comparison: pd.DataFrame) -> Figure:
    """How much more the plan brings than each plan that needs no optimiser, and the draws of the hardest comparison."""
    unit, rival = plan.response.money_unit, plan.best_naive
    rows = comparison[comparison["plan"] != "optimised"]
    more = plan.beyond(plan.naive[rival])
    with house_grid(WIDE, 1.6 + 0.42 * max(4, len(rows)), 1, 2) as (figure, axes):
        left, right = axes[0]
        place = np.arange(len(rows))[::-1].astype(float)
        centre = rows["optimised_brings_more"].to_numpy(float)
        if plan.response.num_draws > 1:
            for level, width in ((90, 1.6), (50, 5.0)):
                low, high = (rows[f"optimised_brings_more_{side}_{level}"].to_numpy(float) for side in ("low", "high"))
                left.hlines(place, low, high, color=ACCENT, lw=width)
        left.plot(centre, place, "o", color=ACCENT, mec="white", mew=1, ms=8, zorder=5)
        left.axvline(0, color=INK, lw=1)
        left.set_yticks(place, [shortened(name, 30) for name in rows["plan"]], color=INK)
        left.set_ylim(-0.6, len(rows) - 0.4)
        left.set_title(f"The plan brings more than ... ({unit})")
        left.grid(axis="y", visible=False)
        left.grid(axis="x", visible=True)
        axis_numbers(left.xaxis)
        if len(more) >= 30:
            right.hist(more, bins=min(40, max(10, len(more) // 8)), color=ACCENT, alpha=0.75)
            right.set_ylabel("draws")
        else:
            order = np.argsort(more)
            right.plot(more[order], np.arange(1, len(more) + 1), "o", color=ACCENT, ms=7)
            right.set_ylabel("draws, sorted")
            right.set_ylim(0, len(more) + 1)
        right.axvline(0, color=ALARM if (more < 0).any() else INK, lw=1.2)
        right.axvline(more.mean(), color=INK, lw=1.2, ls=(0, (3, 2)))
        right.annotate(
            f"mean {short_number(more.mean())}",
            (more.mean(), 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color=INK,
        )
        right.set_title(f"Draws against the best of them ({unit})")
        right.spines["left"].set_color(RULE)
        right.tick_params(colors=MUTED)
        axis_numbers(right.xaxis)
        if not more.any():
            right.set_xlim(-1, 1)
            right.set_xticks([0])
        same = "" if more.any() else ", which is the same plan"
        caption = f"Left: mean, 50 % and 90 % interval over the draws. Right: every draw against '{rival}'{same}."
        alt = (
            f"The plan brings {short_number(more.mean())} {unit} more than '{rival}' on average; more in "
            f"{percent(float(np.mean(more > 0)), 0)} of the draws."
        )
        return picture(figure, "budget_gain", alt, caption)


def all_figures(plan: BudgetPlan, channels: pd.DataFrame, comparison: pd.DataFrame) -> Sequence[Figure]:
    """Every figure of the report, in its order."""
    return [
        channel_figure(plan, channels),
        curve_figure(plan, channels),
        timing_figure(plan),
        gain_figure(plan, comparison),
    ]
