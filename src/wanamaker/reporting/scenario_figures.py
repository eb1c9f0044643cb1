"""Figures of the scenario and the pricing report: differences with intervals, effects over time, prices and curves.

Axis letters: P periods, V prices on a grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.reporting.mix_style import ALARM, axis_dates, axis_numbers, house_grid, shortened
from wanamaker.reporting.page import Figure, number, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, RULE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_ROWS = 24
_GOOD, _BAD = PALETTE[2], PALETTE[5]


def _bar(axes: Axes, row: int, values: pd.Series, name: str, colour: str, scale: float = 1.0) -> float:
    """A point with its 50 and 90 % intervals; returns the right end."""
    centre = values[name] * scale
    ends = [centre]
    for level, width in ((90, 2.0), (50, 6.0)):
        low, high = values[f"{name}_low_{level}"] * scale, values[f"{name}_high_{level}"] * scale
        if np.isfinite(low):
            axes.plot([low, high], [row, row], color=colour, lw=width, alpha=0.45 if level == 50 else 0.9, zorder=2)
            ends += [low, high]
    axes.plot(centre, row, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
    return max(ends)


def _rows_axes(axes: Axes, names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), [shortened(name, 30) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, lw=1, zorder=1)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.margins(x=0.08)


def difference_figure(table: pd.DataFrame, money: str, kpi: str, unit: str) -> Figure:
    """Change of profit and of the KPI per scenario, best first.

    Args:
        table: of `ScenarioResults.to_frame`, in the order to show.
        money, kpi, unit: words for the axes.
    """
    shown = table.head(MAX_ROWS)
    names = shown["scenario"].tolist()
    with house_grid(10.0, 1.2 + 0.42 * len(shown), 1, 2, sharey=True) as (figure, grid):
        left, right = grid[0]
        for row, (_, values) in enumerate(shown.iterrows()):
            colour = _GOOD if values["profit_change"] > 0 else _BAD if values["profit_change"] < 0 else MUTED
            _bar(left, row, values, "profit_change", colour)
            _bar(right, row, values, "kpi_change_share", ACCENT, scale=100)
        _rows_axes(left, names, f"profit change, {money}")
        _rows_axes(right, names, f"change of {kpi} ({unit}), % of the baseline")
        axis_numbers(left.xaxis)
        left.set_title("Profit: value less spend")
        right.set_title(f"{kpi[:1].upper()}{kpi[1:]}")
        alt = "Change of profit against the baseline: " + ", ".join(
            f"{v['scenario']} {number(v['profit_change'], money)}" for _, v in shown.head(8).iterrows()
        )
        return picture(
            figure,
            "scenario_differences",
            alt + ".",
            "Dots are means; thick and thin lines hold 50 % and 90 % of the draws. Right of the line at 0 is better "
            "than going on as before.",
        )


def time_figure(table: pd.DataFrame, scenario: str, unit: str, place: int) -> Figure:
    """The effect of one scenario by period, with the periods after the window shaded.

    Args:
        table: rows of `ScenarioResults.by_period` of the scenario.
        scenario: its name.
        unit: of the KPI.
        place: its number, for the file name.
    """
    with house_grid(10.0, 3.0) as (figure, grid):
        axes = grid[0, 0]
        date = table["date"].to_numpy()
        for level, alpha in ((90, 0.15), (50, 0.3)):
            low, high = table[f"kpi_change_low_{level}"], table[f"kpi_change_high_{level}"]
            axes.fill_between(date, low, high, color=ACCENT, alpha=alpha, lw=0)
        axes.plot(date, table["kpi_change"], color=ACCENT)
        after = table["after_window"].to_numpy()
        if after.any():
            axes.axvspan(date[after][0], date[-1], color="#fdf1e7", lw=0, zorder=0)
            axes.annotate(
                "after the window", (date[after][0], 1), (4, -2), xycoords=("data", "axes fraction"),
                textcoords="offset points", fontsize=8.5, color=MUTED, va="top",
            )  # fmt: skip
        axes.axhline(0, color=MUTED, lw=1)
        axes.set_ylabel(f"{unit} per period")
        axis_numbers(axes.yaxis)
        axis_dates(axes)
        total = table["kpi_change"].sum()
        return picture(
            figure,
            f"scenario_over_time_{place}",
            f"{scenario}: change per period over time, {number(total, unit)} in all.",
            f"{scenario}: difference to the baseline per period, all series together; bands hold 50 % and 90 % of "
            "the draws.",
            choice=scenario,
        )


def price_change_figure(table: pd.DataFrame, left_out: int) -> Figure:
    """Recommended price changes with intervals.

    Args:
        table: of `PricePlan.to_frame`, rows and order to show.
        left_out: how many series are not shown.
    """
    names = table["series"].tolist()
    with house_grid(9.0, 1.3 + 0.36 * len(table)) as (figure, grid):
        axes = grid[0, 0]
        now = table["price_current"]
        for row, (index, values) in enumerate(table.iterrows()):
            base = now[index]
            relative = {k: 100 * (v / base - 1) for k, v in values.items() if str(k).startswith("price_best")}
            limits = [100 * (values[end] / base - 1) for end in ("low", "high")]
            axes.plot(limits, [row, row], color=RULE, lw=10, solid_capstyle="butt", zorder=1)
            flagged = bool(values["at_bound"]) or bool(values["extrapolates"])
            _bar(axes, row, relative, "price_best", ALARM if flagged else ACCENT)  # type: ignore[arg-type]
        _rows_axes(axes, names, "change of the price, %")
        listed = ", ".join(f"{v['series']} {v['price_change']:+.0%}" for _, v in table.head(10).iterrows())
        more = f" The {len(table)} series with the largest gain of {len(table) + left_out}." if left_out else ""
        return picture(
            figure,
            "price_changes",
            f"Recommended price changes: {listed}.",
            "Dots are recommendations; lines hold 50 % and 90 % of what single draws recommend; grey bars are the "
            f"bounds. Orange: at a bound, or outside the prices the model has seen.{more}",
        )


def price_curve_figure(
    curve: pd.DataFrame, row: pd.Series, seen: tuple[float, float], words: dict[str, str], place: int
) -> Figure:
    """Objective and KPI of one series over its price.

    Args:
        curve: rows of `PricePlan.curves` of the series.
        row: of `PricePlan.to_frame`.
        seen: lowest and highest price of the training data.
        words: "objective", "money", "kpi", "unit".
        place: number of the series on the page, for the file name.
    """
    with house_grid(10.0, 3.4, 1, 2) as (figure, grid):
        for axes, name, colour, unit in (
            (grid[0, 0], words["objective"], PALETTE[2], words["money"]),
            (grid[0, 1], "kpi", ACCENT, words["unit"]),
        ):
            x = curve["price"]
            for level, alpha in ((90, 0.15), (50, 0.3)):
                low, high = curve[f"{name}_low_{level}"], curve[f"{name}_high_{level}"]
                axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)
            axes.plot(x, curve[name], color=colour)
            for outside in ((x.min(), seen[0]), (seen[1], x.max())):
                if outside[1] > outside[0]:
                    axes.axvspan(*outside, color="#f2f2f2", lw=0, zorder=0)
            axes.axvline(row["price_current"], color=MUTED, lw=1.2, ls=(0, (3, 2)))
            axes.axvline(row["price_best"], color=INK, lw=1.2)
            axes.set_xlabel(f"price, {words['money']} (dashed: now, line: best, grey: not seen in training)")
            axes.set_ylabel(unit)
            title = words["kpi"] if name == "kpi" else name
            axes.set_title(title[:1].upper() + title[1:])
            axis_numbers(axes.yaxis)
        series = row["series"]
        return picture(
            figure,
            f"price_curve_{place}",
            f"{series}: {words['objective']} by price; now {number(row['price_current'], words['money'])}, best "
            f"{number(row['price_best'], words['money'])}.",
            f"{series}: what the model expects over the window at each price; bands hold 50 % and 90 % of the draws.",
            choice=str(series),
        )
