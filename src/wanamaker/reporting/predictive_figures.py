"""Figures about what a posterior predicts: bands around the observed KPI, coverage, discrepancies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.predictions.posterior import MixPosterior
from wanamaker.reporting.mix_style import (
    ALARM,
    SPLIT_FILLS,
    axis_dates,
    axis_numbers,
    house_grid,
    kpi_label,
    legend_above,
    shortened,
)
from wanamaker.reporting.page import HALF, WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED

if TYPE_CHECKING:
    import pandas as pd

_OUTER, _INNER = "#d6e6f3", "#9cc3e0"


def bands_figure(
    posterior: MixPosterior, series: np.ndarray, kpi: str, unit: str, *, name: str, choice: str = ""
) -> Figure:
    """Observed KPI of some series together against the 50 and 90 % bands of the replicates; held-out periods shaded.

    Args:
        posterior: with replicates.
        series: numbers of the series that are summed.
        kpi, unit: of the KPI.
        name: of the file.
        choice: of the tabs.
    """
    seen = np.isfinite(posterior.observed[series]).all(axis=0)
    observed = np.where(seen, np.nan_to_num(posterior.observed[series]).sum(axis=0), np.nan)
    made = posterior.replicated[:, series].sum(axis=1, dtype=np.float64)
    held_out = ~posterior.train[series].any(axis=0)
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    low, inner_low, middle, inner_high, high = np.quantile(made, shares, axis=0, method="weibull")
    dates = posterior.dates
    many = len(dates) > 160
    with house_grid(WIDE, 3.7) as (figure, grid):
        axes = grid[0, 0]
        _shade(axes, dates, held_out & seen)
        axes.fill_between(dates, low, high, color=_OUTER, lw=0, label="90 % of the replicates")
        axes.fill_between(dates, inner_low, inner_high, color=_INNER, lw=0, label="50 %")
        axes.plot(dates, middle, color=ACCENT, lw=1.0, label="their median")
        style = {"lw": 0.9, "marker": "" if many else "o", "ms": 2.6}
        axes.plot(dates, observed, color=INK, label="observed", zorder=3, **style)
        reach = np.concatenate([low, high, observed[seen]])
        bottom, top = float(reach.min()), float(reach.max())
        axes.set_ylim(bottom - 0.05 * (top - bottom or 1), top + 0.05 * (top - bottom or 1))
        room = (dates[-1] - dates[0]) * 0.008 if len(dates) > 1 else np.timedelta64(1, "D")
        axes.set_xlim(dates[0] - room, dates[-1] + room)
        axes.set_ylabel(kpi_label(kpi, unit))
        axis_numbers(axes.yaxis)
        axis_dates(axes)
        legend_above(axes)
        axes.set_title(shortened(choice or "All series", 90), pad=36)
        words = []
        for word, mask in (("training", seen & ~held_out), ("held-out", seen & held_out)):
            if mask.any():
                inside = np.mean((observed >= low)[mask] & (observed <= high)[mask])
                words.append(f"{100 * inside:.0f} % of {int(mask.sum())} {word} periods")
        said = f"Inside the 90 % band: {', '.join(words)}." if words else "Nothing was observed here."
        return picture(
            figure,
            name,
            f"Observed {kpi} against bands of its replicates for {choice or 'all series'}. {said}",
            f"{said} Replicates are data as the model would make them again, noise included.",
            choice=choice,
        )


def _shade(axes: object, dates: np.ndarray, held_out: np.ndarray) -> None:
    """Shade held-out stretches, with their name over the first."""
    if not held_out.any():
        return
    step = np.diff(dates).min() if len(dates) > 1 else np.timedelta64(1, "D")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], held_out.astype(int), [0]])))
    for number, (first, last) in enumerate(edges.reshape(-1, 2)):
        start, end = dates[first] - step / 2, dates[last - 1] + step / 2
        axes.axvspan(start, end, color=SPLIT_FILLS["test"], lw=0, zorder=0)
        axes.axvline(start, color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
        if number == 0:
            axes.annotate(
                "held out",
                (start, 1),
                (3, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8.5,
                color=MUTED,
                va="bottom",
            )


def coverage_figure(frame: pd.DataFrame) -> Figure:
    """Share of observed values inside intervals against what the intervals promise.

    Args:
        frame: of `decisions.predictive_checks.coverage_table`.
    """
    styles = {"train": (ACCENT, "o", "training rows"), "held out": (ALARM, "s", "held-out rows")}
    with house_grid(HALF, 3.4) as (figure, grid):
        axes = grid[0, 0]
        axes.plot([40, 100], [40, 100], color=MUTED, lw=1.0, ls=(0, (4, 2)))
        for split, rows in frame.groupby("split", sort=False):
            colour, marker, word = styles[split]
            label = f"{word} ({int(rows['rows'].iloc[0]):,})"
            axes.plot(rows["level"], 100 * rows["inside"], marker=marker, color=colour, lw=1.6, ms=6, label=label)
        bottom = min(40.0, 100 * float(frame["inside"].min()) - 5)
        axes.set_xlim(45, 100)
        axes.set_ylim(max(bottom, -2), 102)
        axes.set_xticks(sorted(frame["level"].unique()))
        axes.set_xlabel("interval, %")
        axes.set_ylabel("observed values inside, %")
        axes.set_title("Do intervals keep their word?")
        axes.legend(loc="lower right", fontsize=9)
        said = ", ".join(f"{r.split} {r.level} %: {100 * r.inside:.0f} %" for r in frame.itertuples())
        return picture(
            figure,
            "posterior_coverage",
            f"Share of observed values inside predictive intervals: {said}.",
            "On the dashed line intervals hold what they promise; below it they are too narrow, above it too wide.",
            wide=False,
        )


def discrepancy_figure(frame: pd.DataFrame) -> Figure:
    """Bayesian p-values of all series together.

    Args:
        frame: of `decisions.predictive_checks.discrepancy_table`.
    """
    shown = frame[frame["series"] == "all"].reset_index(drop=True)
    words = {
        "lag-1 autocorrelation of the residual": "autocorrelation\nof the residual",
        "largest value": "largest value",
    }
    rows = np.arange(len(shown))
    with house_grid(HALF, 3.4) as (figure, grid):
        axes = grid[0, 0]
        axes.axvspan(0.025, 0.975, color="#eef2f5", lw=0)
        for row, value in zip(rows, shown.itertuples(), strict=True):
            if not np.isfinite(value.p_value):
                continue
            colour = ALARM if value.extreme else ACCENT
            axes.plot([0.5, value.p_value], [row, row], color=colour, lw=2)
            axes.plot(value.p_value, row, "D" if value.extreme else "o", color=colour, ms=7)
            axes.annotate(
                f"{value.p_value:.2f}",
                (value.p_value, row),
                (0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=INK,
                bbox={"facecolor": "#eef2f5", "edgecolor": "none", "pad": 0.6} if 0.1 < value.p_value < 0.9 else None,
            )
        axes.axvline(0.5, color=MUTED, lw=0.8)
        axes.set_xlim(-0.06, 1.06)
        axes.set_ylim(len(shown) - 0.5, -0.7)
        axes.set_yticks(rows, [words.get(s, s) for s in shown["statistic"]], color=INK)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("share of replicates that show more")
        axes.set_title("Is the KPI of this kind?")
        said = ", ".join(f"{r.statistic} {r.p_value:.2f}" for r in shown.itertuples())
        return picture(
            figure,
            "posterior_discrepancies",
            f"Bayesian p-values on training rows, all series together: {said}.",
            "In the grey band the replicates show as much of it as the data. At an end (diamonds) the model would "
            "hardly make such data; of the autocorrelation only too much counts.",
            wide=False,
        )
