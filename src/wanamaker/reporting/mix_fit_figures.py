"""Figures about the fit: actual against predicted, errors, importance, the training, walk-forward folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.reporting.mix_rows import Line
from wanamaker.reporting.mix_scores import PERCENT
from wanamaker.reporting.mix_style import (
    ALARM,
    axis_dates,
    axis_numbers,
    house_grid,
    kpi_label,
    legend_above,
    shade_splits,
    short_names,
    short_number,
    shortened,
)
from wanamaker.reporting.page import HALF, WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE, RULE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MAX_POINTS = 4_000  # of a scatter: more only make the page heavy
_BAND = "#c9dff0"


def fit_figure(line: Line, kpi: str, unit: str, *, name: str, choice: str = "", note: str = "") -> Figure:
    """Observed and predicted KPI over time with the 90 % predictive interval, residuals below.

    Args:
        line: of `mix_rows.lines_over_time`.
        kpi, unit: of the KPI.
        name: of the file.
        choice: of the tabs.
        note: such as the scores of the splits; stands in the caption.
    """
    with house_grid(WIDE, 4.7, 2, 1, sharex=True, height_ratios=[2.6, 1]) as (figure, grid):
        top, below = grid[:, 0]
        shade_splits(top, line.date, line.split)
        shade_splits(below, line.date, line.split, labels=False)
        top.fill_between(line.date, line.low, line.high, color=_BAND, lw=0, label="90 % predictive interval")
        top.plot(line.date, line.mean, color=ACCENT, lw=1.6, label="predicted")
        seen = np.isfinite(line.observed)
        many = len(line.date) > 160
        top.plot(
            line.date, line.observed, color=INK, lw=0.9, marker="" if many else "o", ms=2.6, label="observed", zorder=3
        )
        high = float(np.nanmax(np.concatenate([line.high, line.observed[seen]])))
        low = float(np.nanmin(np.concatenate([line.low, line.observed[seen]])))
        top.set_ylim(low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1))
        top.set_ylabel(kpi_label(kpi, unit))
        residual = line.observed - line.mean
        if seen.any():
            width = np.diff(line.date).min() * 0.75 if len(line.date) > 1 else np.timedelta64(18, "h")
            colours = np.where(residual[seen] >= 0, ACCENT, ALARM)
            if many:
                below.vlines(line.date[seen], 0, residual[seen], colors=colours, lw=0.9)
            else:
                below.bar(line.date[seen], residual[seen], width=width, color=colours)
        below.axhline(0, color=INK, lw=0.8)
        below.set_ylabel("observed\nless predicted")
        for a in (top, below):
            axis_numbers(a.yaxis)
        axis_dates(below)
        room = (line.date[-1] - line.date[0]) * 0.008 if len(line.date) > 1 else np.timedelta64(1, "D")
        below.set_xlim(line.date[0] - room, line.date[-1] + room)
        legend_above(top)
        top.set_title(shortened(choice or line.name, 90), pad=36)
        covered = np.mean((line.observed[seen] >= line.low[seen]) & (line.observed[seen] <= line.high[seen]))
        said = f"{100 * covered:.0f} % of the observed values lie inside the 90 % interval." if seen.any() else ""
        return picture(
            figure,
            name,
            f"Observed and predicted {kpi} over {len(line.date)} periods for {line.name}. {said}",
            f"{said} {note}".strip(),
            choice=choice,
        )


def error_figure(
    residual: np.ndarray,
    fitted: np.ndarray,
    standardised: np.ndarray,
    autocorrelation: np.ndarray,
    bound: float,
    unit: str,
) -> Figure:
    """Four views of the errors: histogram, Q-Q, error against fitted value, autocorrelation.

    Args:
        residual: [n], observed - predicted, KPI units.
        fitted: [n], predicted.
        standardised: [n], residuals divided by the standard deviation of their series.
        autocorrelation: [lags], from lag 1.
        bound: |autocorrelation| that chance stays below in 95 of 100 cases.
        unit: of the KPI.
    """
    from scipy.stats import norm

    with house_grid(WIDE, 6.6, 2, 2) as (figure, grid):
        axes = grid[0, 0]
        reach = min(6.0, float(np.abs(standardised).max(initial=1.0)))
        bins = np.linspace(-reach, reach, int(np.clip(np.sqrt(len(standardised)) * 1.5, 9, 41)))
        axes.hist(np.clip(standardised, -reach, reach), bins=bins, density=True, color=ACCENT, alpha=0.75)
        x = np.linspace(-reach, reach, 200)
        axes.plot(x, norm.pdf(x), color=INK, lw=1.2)
        axes.set(title="How large errors are", xlabel="error, standard deviations of its series", ylabel="density")
        axes = grid[0, 1]
        ordered = np.sort(standardised)
        at = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), 400)).round().astype(int))
        theory = norm.ppf((at + 0.5) / len(ordered))
        limit = float(np.abs(np.concatenate([theory, ordered[at], [1.0]])).max()) * 1.05
        axes.plot([-limit, limit], [-limit, limit], color=INK, lw=1.0)
        axes.plot(theory, ordered[at], "o", ms=3, color=ACCENT, mew=0)
        axes.set(title="Q-Q: on the line where normal", xlabel="expected if normal", ylabel="found")
        _against_fitted(grid[1, 0], residual, fitted, unit)
        axes = grid[1, 1]
        lags = np.arange(1, len(autocorrelation) + 1)
        axes.axhspan(-bound, bound, color="#eef2f5", lw=0)
        colours = np.where(np.abs(autocorrelation) > bound, ALARM, ACCENT)
        axes.bar(lags, autocorrelation, color=colours, width=0.6)
        axes.axhline(0, color=INK, lw=0.8)
        reach = max(0.3, 1.15 * float(np.abs(autocorrelation).max(initial=0)))
        axes.set_ylim(-reach, reach)
        axes.set(title="Do errors follow each other?", xlabel="periods apart", ylabel="autocorrelation")
        axes.xaxis.get_major_locator().set_params(integer=True)
        return picture(
            figure,
            "errors",
            f"Errors of {len(residual):,} rows: histogram, Q-Q plot, errors against fitted values, autocorrelation "
            f"(lag 1: {autocorrelation[0] if len(autocorrelation) else float('nan'):.2f}).",
            "Histogram and Q-Q: how close errors come to the normal distribution (black). Errors against fitted "
            "values: the lines hold the middle 80 % of the errors; where they open like a funnel, errors grow with the "
            "level. Autocorrelation: bars outside the grey band are more than chance.",
        )


def _against_fitted(axes: Axes, residual: np.ndarray, fitted: np.ndarray, unit: str) -> None:
    rng = np.random.default_rng(0)
    some = rng.permutation(len(fitted))[:_MAX_POINTS]
    log = bool((fitted > 0).all() and fitted.max() > 50 * np.quantile(fitted, 0.05))
    axes.plot(
        fitted[some],
        residual[some],
        "o",
        ms=2.6,
        color=ACCENT,
        alpha=0.45 if len(some) > 300 else 0.8,
        mew=0,
        rasterized=True,
    )
    groups = np.array_split(np.argsort(fitted), int(np.clip(len(fitted) // 25, 3, 15)))
    middle = [np.median(fitted[g]) for g in groups]
    for quantile in (10, 90):
        axes.plot(middle, [np.percentile(residual[g], quantile) for g in groups], color=INK, lw=1.2)
    axes.axhline(0, color=INK, lw=0.8)
    limit = float(np.quantile(np.abs(residual), 0.997)) * 1.15 or 1.0
    axes.set_ylim(-limit, limit)
    axes.set(title="Do errors grow with the level?", xlabel=f"predicted, {unit}", ylabel=f"error, {unit}")
    if log:
        axes.set_xscale("log")
    else:
        axis_numbers(axes.xaxis)
    axis_numbers(axes.yaxis)


def bars_figure(
    names: Sequence[str],
    values: np.ndarray,
    *,
    name: str,
    title: str,
    x_label: str,
    caption: str,
    spread: np.ndarray | None = None,
    colours: Sequence[str] | None = None,
    form: str = ".3f",
    wide: bool = False,
) -> Figure:
    """Horizontal bars with their values, first entry on top.

    Args:
        names, values: of the bars; NaN shows as a dash.
        name: of the file.
        title, x_label, caption: in words.
        spread: half a length of a whisker per bar.
        colours: of the bars.
        form: of the values.
        wide: over the whole page.
    """
    values = np.asarray(values, float)
    rows = np.arange(len(names))
    whisker = np.zeros(len(values)) if spread is None else np.nan_to_num(np.asarray(spread, float))
    with house_grid(WIDE if wide else HALF, 1.0 + 0.27 * max(len(names), 2)) as (figure, grid):
        axes = grid[0, 0]
        shown = np.nan_to_num(values)
        axes.barh(rows, shown, color=colours or ACCENT, height=0.64)
        if spread is not None:
            axes.hlines(rows, shown - whisker, shown + whisker, color=INK, lw=1.0)
        low, high = min(0.0, float((shown - whisker).min())), max(0.0, float((shown + whisker).max()))
        reach = (high - low) or 1.0
        for row in rows:
            text = format(values[row], form) if np.isfinite(values[row]) else "–"
            axes.text(max(shown[row] + whisker[row], 0) + 0.02 * reach, row, text, va="center", fontsize=9, color=INK)
        axes.set_xlim(low - 0.02 * reach * (low < 0), high + 0.2 * reach)
        axes.set_yticks(rows, short_names(names, 34 if wide else 24), color=INK)
        axes.set_ylim(max(len(names), 2) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.spines["left"].set_visible(False)
        axes.set(title=title, xlabel=x_label)
        axes.xaxis.set_major_locator(_few_ticks())
        listed = ", ".join(f"{n} {v:{form}}" for n, v in list(zip(names, values, strict=True))[:12])
        return picture(figure, name, f"{title}: {listed}.", caption, wide=wide)


def _few_ticks() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5)


def history_figures(history: pd.DataFrame, monitor: str = "") -> list[Figure]:
    """Curves of the training by epoch: loss, penalties, the monitored metric, the learning rate; those that are there.

    Args:
        history: `metrics.csv` of the training, with a column epoch.
        monitor: metric that chose the checkpoint.
    """
    if "epoch" not in history:
        return []
    by_epoch = history.groupby("epoch").mean(numeric_only=True)
    names = [c for c in by_epoch if by_epoch[c].notna().any() and c != "step" and not c.startswith("test/")]
    penalty = [c for c in names if c.startswith("train/") and ("penalt" in c or "constraint" in c or "prior" in c)]
    fit = [c for c in names if c in ("train/loss", "val/loss", "train/fit", "val/fit", "train/nll", "val/nll")]
    leaf = monitor.rpartition("/")[2]
    chosen = [c for c in names if c not in fit and leaf and c.rpartition("/")[2] == leaf]
    rate = [c for c in names if c.startswith(("lr", "learning_rate")) or "/lr" in c]
    panels = [
        ("Loss", fit, "Falling together is learning; a validation curve that rises again is learning by heart."),
        ("Penalties", penalty, "What breaking a constraint or leaving a prior costs: near 0 means it is kept."),
        (f"{leaf} (chooses the checkpoint)", chosen, "The metric by which the best epoch was chosen."),
        ("Learning rate", rate[:3], "The size of the optimiser's steps."),
    ]
    figures = []
    for number, (title, columns, caption) in enumerate(panels):
        if columns:
            curves = {c: by_epoch[c].dropna() for c in columns[:8]}
            figures.append(_history_panel(curves, title, caption, f"training_{number + 1}"))
    return figures


def _history_panel(curves: Mapping[str, pd.Series], title: str, caption: str, name: str) -> Figure:
    with house_grid(HALF, 2.9) as (figure, grid):
        axes = grid[0, 0]
        for number, (label, values) in enumerate(curves.items()):
            words = label.replace("train/", "training ").replace("val/", "validation ").replace("_", " ")
            axes.plot(
                values.index + 1,
                values,
                label=words,
                color=PALETTE[number % len(PALETTE)],
                lw=1.6,
                ls="-" if number % 2 == 0 else (0, (4, 1.5)),
                marker="o" if len(values) < 3 else "",
                ms=4,
            )
        whole = np.concatenate([v.to_numpy(float) for v in curves.values()])
        whole = whole[np.isfinite(whole)]
        if whole.size and whole.min() > 0 and whole.max() > 30 * np.median(whole):
            axes.set_yscale("log")
        else:
            axis_numbers(axes.yaxis)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8.5, labelcolor=INK)
        ends = ", ".join(f"{label} {v.iloc[0]:.4g} to {v.iloc[-1]:.4g}" for label, v in curves.items())
        return picture(figure, name, f"{title} by epoch: {ends}.", caption, wide=False)


def folds_figure(frame: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Scores per walk-forward fold as bars, with their mean (line) and one standard deviation (band).

    Args:
        frame: one row per fold: fold, and a column per metric.
        metrics: columns shown, at most 4.
    """
    metrics = list(metrics)[:4]
    with house_grid(WIDE, 2.9, 1, len(metrics)) as (figure, grid):
        said = []
        for axes, metric in zip(grid[0], metrics, strict=True):
            values = frame[metric].to_numpy(float)
            mean, sd = np.nanmean(values), np.nanstd(values, ddof=1) if np.isfinite(values).sum() > 1 else np.nan
            at = np.arange(len(values))
            scale = 100.0 if metric in PERCENT else 1.0
            values, mean, sd = scale * values, scale * mean, scale * sd
            axes.bar(at, np.nan_to_num(values), color=ACCENT, width=0.62)
            if np.isfinite(sd):
                axes.axhspan(mean - sd, mean + sd, color="#eef2f5", lw=0, zorder=0)
            axes.axhline(mean, color=INK, lw=1.2, ls=(0, (4, 2)))
            axes.axhline(0, color=RULE, lw=0.8)
            axes.set_xticks(at, frame["fold"].astype(str), fontsize=9 if len(at) <= 8 else 7)
            words = _plus_minus(mean, sd) + ("\u00a0%" if metric in PERCENT else "")
            axes.set(title=f"{metric}: {words}", xlabel="fold")
            axis_numbers(axes.yaxis)
            said.append(f"{metric} {words}")
        return picture(
            figure,
            "walk_forward",
            f"Walk-forward scores over {len(frame)} folds, mean and standard deviation: {'; '.join(said)}.",
            "Each bar is a model trained on the past only and scored on the periods that followed. Dashed: mean; grey: "
            "one standard deviation. Bars of very different height say that the score depends on when you ask.",
        )


def _plus_minus(mean: float, sd: float) -> str:
    """ "0.65 ± 0.13", both with the digits of the second."""
    if not (np.isfinite(sd) and sd > 0):
        return short_number(mean)
    digits = int(np.clip(1 - np.floor(np.log10(sd)), 0, 4))
    return f"{mean:,.{digits}f} ± {sd:,.{digits}f}"
