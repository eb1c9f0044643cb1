"""Figures of amounts and of money: deciles and concentration of value, profit by customers contacted.

Blue is what the model says, orange what happened.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_profit import ProfitCurve
from wanamaker.decisions.propensity_scores import TaskScores
from wanamaker.metrics.propensity_classification import gain_curve
from wanamaker.metrics.propensity_value import decile_table
from wanamaker.reporting.mix_style import axis_numbers, house_grid, percent, short_number, shortened
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.propensity_figures import DASHED, GREY, OBSERVED, gain_axis, judged_words
from wanamaker.reporting.style import ACCENT, INK, MUTED

if TYPE_CHECKING:
    from wanamaker.decisions.propensity_rows import TaskRows

_LOG_FROM = 100  # times the smallest decile: from there on a linear axis hides half of the bars


def ranks_amounts(rows: TaskRows) -> bool:
    """Whether shares of a total make sense: amounts of 0 or more, not all 0."""
    return bool(rows.usable and rows.label.min() >= 0)


def value_figure(plan: PropensityPlan, task: TaskScores, *, choice: bool = True) -> Figure:
    """Predicted and actual mean by decile, and how much of all the best customers bring."""
    rows, level = task.rows, plan.question.options.level
    table = decile_table(rows.label, rows.score, weight=rows.weight)
    tenths = np.arange(1, len(table.actual) + 1)
    heights = np.concatenate([table.actual, table.predicted])
    heights = heights[heights > 0]
    log = len(heights) > 0 and heights.max() / heights.min() > _LOG_FROM
    unit = f" ({rows.unit})" if rows.unit else ""
    with house_grid(WIDE, 3.9, 1, 2) as (figure, axes):
        left, right = axes[0]
        if log:
            left.set_yscale("log")
            left.set_ylim(heights.min() / 2, heights.max() * 2)
        left.bar(tenths, table.actual, color=OBSERVED, alpha=0.6, width=0.74, label="actual")
        reach = NormalDist().inv_cdf((1 + level) / 2) * _standard_errors(rows, len(tenths))
        down = np.minimum(reach, table.actual * (0.999 if log else 1))
        left.errorbar(tenths, table.actual, yerr=[down, reach], fmt="none", ecolor=INK, lw=1.1, capsize=3)
        left.plot(tenths, table.predicted, "D", color=ACCENT, mec="white", ms=7, zorder=5, label="predicted")
        left.set_xticks(tenths)
        left.set_xlabel("tenth of customers, highest prediction first")
        left.set_ylabel(f"mean per customer{unit}{', log scale' if log else ''}")
        left.set_title(f"{shortened(rows.name, 24)}: predicted and actual by tenth")
        left.legend(loc="upper right", fontsize=9)
        if not log:
            axis_numbers(left.yaxis)
        else:
            from matplotlib.ticker import FuncFormatter, NullFormatter

            left.yaxis.set_major_formatter(FuncFormatter(short_number))
            left.yaxis.set_minor_formatter(NullFormatter())
        curve, best = (gain_curve(rows.label, by, rows.weight) for by in (rows.score, rows.label))
        gain_axis(right, (curve.share, curve.gain), (best.share, best.gain), rows.name)
        gini = f", Gini {task['gini'].value:.3f}" if "gini" in task.scores else ""
        right.set_title(f"{shortened(rows.name, 24)}: concentration{gini}")
        right.set_ylabel("share of the total (%)")
        alt = f"{rows.name}: predicted and actual mean by tenth: " + ", ".join(
            f"{short_number(p)} and {short_number(a)}" for p, a in zip(table.predicted, table.actual, strict=True)
        )
        caption = (
            f"Left: diamonds on top of their bars mean that amounts can be taken at their word ({percent(level, 0)} "
            "intervals). Right: how much of the "
            "total the customers with the highest predictions bring; the Gini is the area above the random line, as a "
            f"share of that of hindsight. Judged on {judged_words(plan.judging)}."
        )
        return picture(
            figure, f"propensity_value_{rows.task + 1}", f"{alt}.", caption, choice=rows.name if choice else ""
        )


def _standard_errors(rows: TaskRows, bins: int) -> np.ndarray:
    """[bins], of the mean label in groups of about equal size, highest score first."""
    groups = np.array_split(np.argsort(-rows.score, kind="stable"), bins)
    return np.array([rows.label[g].std() / np.sqrt(len(g)) if len(g) else 0.0 for g in groups])


def amount_figure(plan: PropensityPlan, task: TaskScores) -> Figure:
    """Predicted against actual of a number that may be below 0, by group of ten."""
    from wanamaker.metrics.propensity_calibration import calibration_table

    rows = task.rows
    table = calibration_table(rows.label, rows.score, weight=rows.weight)
    unit = f" ({rows.unit})" if rows.unit else ""
    with house_grid(WIDE, 3.7) as (figure, axes):
        axis = axes[0, 0]
        ends = np.array([table.predicted.min(), table.predicted.max()])
        axis.plot(ends, ends, color=INK, lw=1.2, ls=DASHED, label="as predicted")
        axis.errorbar(
            table.predicted,
            table.observed,
            yerr=np.nan_to_num(table.standard_error),
            fmt="o",
            color=OBSERVED,
            mec="white",
            ms=8,
            lw=1.4,
            capsize=3,
            label="actual",
        )
        axis.set_xlabel(f"predicted{unit}")
        axis.set_ylabel(f"actual{unit}")
        axis.set_title(f"{shortened(rows.name, 24)}: actual against predicted")
        axis.legend(loc="upper left", fontsize=9)
        axis_numbers(axis.xaxis)
        axis_numbers(axis.yaxis)
        alt = f"{rows.name}: predicted from {short_number(ends[0])} to {short_number(ends[1])} by tenth."
        caption = f"Ten groups by prediction, with standard errors. Judged on {judged_words(plan.judging)}."
        return picture(figure, f"propensity_value_{rows.task + 1}", alt, caption, choice=rows.name)


def profit_figure(plan: PropensityPlan, curve: ProfitCurve) -> Figure:
    """Money per 1,000 customers by the share of them that is contacted."""
    unit, share = plan.unit, 100 * curve.share
    with house_grid(WIDE, 4.2) as (figure, axes):
        axis = axes[0, 0]
        axis.fill_between(share, curve.low, curve.high, color=OBSERVED, alpha=0.18, lw=0)
        axis.plot(share, curve.observed, color=OBSERVED, lw=2.6, label="observed, in the model's order")
        axis.plot(share, curve.expected, color=ACCENT, lw=1.8, ls=(0, (6, 2)), label="expected by the scores")
        axis.plot([0, 100], [0, curve.observed[-1]], color=GREY, lw=1.5, ls=DASHED, label="observed, at random")
        axis.axhline(0, color=INK, lw=1)
        axis.plot(100 * curve.chosen, curve.profit.value, "o", color=INK, mec="white", ms=10, zorder=6)
        right = curve.chosen > 0.6
        axis.annotate(
            f"this list: {percent(curve.chosen, 0)} contacted, {short_number(curve.profit.value)} {unit}",
            (100 * curve.chosen, curve.profit.value),
            (-10 if right else 10, 12),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )
        span = np.ptp(np.concatenate([curve.low, curve.high]))
        axis.set_ylim(min(0, curve.low.min()) - 0.04 * span, max(0, curve.high.max()) + 0.16 * span)
        axis.set_xlim(0, 100)
        axis.set_xlabel("customers contacted (%)")
        axis.set_ylabel(f"net value ({unit} per 1,000 customers)")
        axis.set_title("Net value of contacting more customers")
        axis_numbers(axis.yaxis)
        axis.tick_params(labelcolor=MUTED)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
        alt = (
            f"Contacting {percent(curve.chosen, 0)} of the customers would have brought "
            f"{short_number(curve.profit.value)} {unit} per 1,000, contacting all {short_number(curve.everyone.value)}."
        )
        caption = (
            f"Value of what happened less the cost of contacts, with its {percent(curve.level, 0)} band (bootstrap of "
            "customers). It counts every case as won by the contact: divide `value` by how many contacts it takes to "
            f"win one. Judged on {judged_words(plan.judging)}."
        ).replace("`", "")
        return picture(figure, "propensity_profit", alt, caption)
