"""Figures of probabilities: ROC and precision over recall, lift and gain, calibration, thresholds.

All of them look only at rows that judge. Blue is what the model says, orange what happened.

Axis letters: M rows that judge a task, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_options import BASE_RATE, CONSTANT, PROFIT
from wanamaker.decisions.propensity_scores import TaskScores
from wanamaker.decisions.propensity_thresholds import BREAK_EVEN, MEAN, SET
from wanamaker.metrics.propensity_calibration import calibration_table
from wanamaker.metrics.propensity_classification import gain_curve, lift_table, precision_recall_curve, roc_curve
from wanamaker.reporting.mix_style import axis_numbers, house_grid, percent, short_number, shortened
from wanamaker.reporting.page import WIDE, Figure, picture
from wanamaker.reporting.style import ACCENT, INK, MUTED, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OBSERVED = PALETTE[1]
GREY = "#8594a4"
DASHED = (0, (3, 2))
POINTS = 300  # of a curve: more would only make the page heavy
_FEW = 10  # customers: thresholds that flag fewer are not drawn
_RARE = 0.05  # share of cases from which down a linear axis hides them
RULE_WORDS = {
    PROFIT: "most profit",
    BREAK_EVEN: "pays its cost",
    BASE_RATE: "base rate",
    MEAN: "mean score",
    CONSTANT: "one half",
    "otsu": "Otsu",
    "yen": "Yen",
    "isodata": "ISODATA",
    "kmeans": "k-means",
    SET: "as set",
}
_MARKS = {
    PROFIT: ("*", PALETTE[5]),
    BREAK_EVEN: ("P", PALETTE[2]),
    BASE_RATE: ("o", PALETTE[1]),
    MEAN: ("o", PALETTE[1]),
    CONSTANT: ("s", PALETTE[3]),
    "otsu": ("^", PALETTE[6]),
    "yen": ("v", PALETTE[7]),
    "isodata": ("<", PALETTE[9]),
    "kmeans": (">", PALETTE[11]),
    SET: ("X", INK),
}


def ranking_figure(plan: PropensityPlan, task: TaskScores) -> Figure:
    """ROC curve and precision over recall, with every rule's threshold on both."""
    rows = task.rows
    roc = roc_curve(rows.label, rows.score, rows.weight)
    curve = precision_recall_curve(rows.label, rows.score, rows.weight)
    found = plan.rules[rows.task]
    with house_grid(WIDE, 4.6, 1, 2) as (figure, axes):
        left, right = axes[0]
        left.plot([0, 100], [0, 100], color=INK, lw=1.2, ls=DASHED, label="chance")
        left.plot(*_thinned(100 * roc.x, 100 * roc.y), color=ACCENT, label="the model")
        right.axhline(100 * rows.base_rate, color=INK, lw=1.2, ls=DASHED)
        found_some = curve.x > 0  # before the first one is found, precision is 0 or, by convention, 1
        right.plot(*_thinned(100 * curve.x[found_some], 100 * curve.y[found_some]), color=ACCENT)
        for rule in found:
            yes = rule.takes(rows.score)
            true, called = rows.weight @ (rows.label * yes), rows.weight @ yes
            positives, all_ = rows.weight @ rows.label, rows.weight.sum()
            recall = 100 * true / positives
            shape, colour = _MARKS[rule.rule]
            style = {"marker": shape, "color": colour, "mec": "white", "mew": 0.8, "ls": "", "zorder": 6}
            size = 14 if shape == "*" else 9
            name = f"{RULE_WORDS[rule.rule]} ({_chance(rule.value)})"
            left.plot(100 * (called - true) / (all_ - positives), recall, ms=size, label=name, **style)
            if called:
                right.plot(recall, 100 * true / called, ms=size, **style)
        for axis in (left, right):
            axis.set_xlim(-1, 101)
            axis.set_ylim(0, 102)
        title = shortened(rows.name, 24)
        left.set_title(f"{title}: ROC curve, AUC {task['auc'].value:.3f}")
        left.set_xlabel("false alarms (% of those without)")
        left.set_ylabel("found (% of those with)")
        right.set_title(f"{title}: precision over recall")
        right.set_xlabel("recall: found (% of those with)")
        right.set_ylabel("precision: right (% of those flagged)")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
        alt = f"{rows.name}: AUC {task['auc'].value:.3f}, average precision {task['average_precision'].value:.3f}."
        caption = (
            "Marks: where each rule would draw the line, in brackets the smallest score that it flags. Dashed: what "
            f"chance gives; on the right that is the base rate, {percent(rows.base_rate)}. "
            f"{_from(plan)}"
        )
        return picture(figure, f"propensity_roc_{rows.task + 1}", alt, caption, choice=rows.name)


def lift_figure(plan: PropensityPlan, task: TaskScores, *, choice: bool = True) -> Figure:
    """Lift by tenth of customers, and the share of cases reached."""
    rows, level = task.rows, plan.question.options.level
    table = lift_table(rows.label, rows.score, weight=rows.weight)
    curve = gain_curve(rows.label, rows.score, rows.weight)
    best = gain_curve(rows.label, rows.label, rows.weight)
    tenths = np.arange(1, len(table.lift) + 1)
    each = len(rows) / len(tenths)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(table.rate * (1 - table.rate).clip(0) / each)
    with house_grid(WIDE, 3.9, 1, 2) as (figure, axes):
        left, right = axes[0]
        left.bar(tenths, 100 * table.rate, color=OBSERVED, alpha=0.6, width=0.74, label="observed")
        left.errorbar(tenths, 100 * table.rate, yerr=100 * half, fmt="none", ecolor=INK, lw=1.1, capsize=3)
        left.plot(tenths, 100 * table.predicted, "D", color=ACCENT, mec="white", ms=7, zorder=5, label="predicted")
        left.axhline(100 * rows.base_rate, color=INK, lw=1.2, ls=DASHED, label="all customers")
        top = 100 * max((table.rate + half).max(), table.predicted.max())
        left.set_ylim(0, 1.12 * top or 1)
        for tenth, rate, spread, lift in zip(tenths, table.rate, half, table.lift, strict=True):
            at = 100 * max(rate + spread, table.predicted[tenth - 1])
            left.annotate(
                f"{lift:.1f}×",
                (tenth, at),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=MUTED,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
            )
        left.set_xticks(tenths)
        left.set_xlabel("tenth of customers, highest score first")
        left.set_ylabel("share with it (%)")
        left.set_title(f"{shortened(rows.name, 24)}: rate and lift by tenth")
        left.legend(loc="upper right", fontsize=9)
        gain_axis(right, (curve.share, curve.gain), (best.share, best.gain), "customers with it")
        right.set_ylabel("cases reached (%)")
        right.set_title(f"{shortened(rows.name, 24)}: share of cases reached")
        first = table.gain[0]
        alt = (
            f"{rows.name}: the tenth of customers with the highest scores holds {percent(first, 0)} of all cases, "
            f"{table.lift[0]:.1f} times a random tenth; by tenth: "
            + ", ".join(percent(rate, 0) for rate in table.rate)
            + "."
        )
        caption = (
            "Left: how many of each tenth had it, with "
            f"{percent(level, 0)} intervals; the number above is how many times as many as among all. Right: if the "
            f"customers with the highest scores are taken first. {_from(plan)}"
        )
        return picture(figure, f"propensity_lift_{rows.task + 1}", alt, caption, choice=rows.name if choice else "")


def gain_axis(axis: Axes, model: tuple[np.ndarray, ...], best: tuple[np.ndarray, ...], who: str) -> None:
    """Cumulative shares of the model's order, of hindsight and of chance, in per cent."""
    axis.plot(*_thinned(100 * best[0], 100 * best[1]), color=GREY, lw=1.4, label="hindsight")
    axis.plot(*_thinned(100 * model[0], 100 * model[1]), color=ACCENT, label="the model's order")
    axis.plot([0, 100], [0, 100], color=INK, lw=1.2, ls=DASHED, label="random")
    tenth = 100 * float(np.interp(0.1, *model))
    axis.plot(10, tenth, "o", color=ACCENT, mec="white", ms=8, zorder=6)
    axis.annotate(
        f"{tenth:.0f} % in the first tenth".replace(" %", "\u00a0%"),
        (10, tenth),
        (10, -13),
        textcoords="offset points",
        fontsize=9,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 102)
    axis.set_xlabel("customers taken (%)")
    axis.legend(loc="lower right", fontsize=9)


def calibration_figure(plan: PropensityPlan, task: TaskScores) -> Figure:
    """Observed against predicted rate, and how many customers have which score."""
    rows, level = task.rows, plan.question.options.level
    table = calibration_table(rows.label, rows.score, weight=rows.weight)
    spread = NormalDist().inv_cdf((1 + level) / 2) * np.nan_to_num(table.standard_error)
    low, high = np.clip(table.observed - spread, 0, 1), np.clip(table.observed + spread, 0, 1)
    error = task["calibration_error"].value
    with house_grid(WIDE, 4.0, 1, 2) as (figure, axes):
        left, right = axes[0]
        start, end = _range(table.predicted)
        top = 100 * min(1.0, 1.08 * max(table.predicted.max(), high.max()))
        left.plot([start, end], [start, end], color=INK, lw=1.2, ls=DASHED, label="as predicted")
        left.errorbar(
            100 * table.predicted,
            100 * table.observed,
            yerr=100 * np.stack([table.observed - low, high - table.observed]).clip(0),
            fmt="o",
            color=OBSERVED,
            ecolor=OBSERVED,
            mec="white",
            ms=8,
            lw=1.4,
            capsize=3,
            label="observed",
        )
        left.set_xlim(start, end)
        left.set_ylim(0, top)
        left.set_xlabel("predicted (%)")
        left.set_ylabel("observed (%)")
        left.set_title(f"{shortened(rows.name, 24)}: calibration, error {percent(error)}")
        left.legend(loc="upper left", fontsize=9)
        start, end = _range(rows.score)
        edges = np.linspace(start, end, 31) / 100
        for label, colour, name in ((0, GREY, "without"), (1, OBSERVED, "with")):
            counts, _ = np.histogram(rows.score[rows.label == label], edges)
            right.stairs(counts, 100 * edges, color=colour, lw=1.6, label=f"{name}: {int(counts.sum()):,}")
            right.stairs(counts, 100 * edges, color=colour, fill=True, alpha=0.25)
        right.set_xlabel("score (%)")
        right.set_ylabel("customers")
        right.set_title(f"{shortened(rows.name, 24)}: who has which score")
        right.set_xlim(start, end)
        if rows.positives < _RARE * len(rows):
            right.set_yscale("log")
            right.set_ylim(bottom=0.6)
            right.set_ylabel("customers, log scale")
            right.yaxis.set_major_formatter(short_number)
        else:
            right.set_ylim(bottom=0)
            axis_numbers(right.yaxis)
            right.yaxis.get_major_locator().set_params(integer=True)  # there is no half customer
        right.legend(loc="upper right", fontsize=9)
        alt = (
            f"{rows.name}: predicted against observed by tenth: "
            + ", ".join(
                f"{percent(p, 0)} and {percent(o, 0)}" for p, o in zip(table.predicted, table.observed, strict=True)
            )
            + "."
        )
        caption = (
            f"Left: ten groups of equal size by score, about {len(rows) / len(table.weight):,.0f} customers "
            f"each, with {percent(level, 0)} intervals. Points on the dashed line mean that a score of 30 % is 30 %. "
            f"The error is the mean distance from it, chance included. {_from(plan)}"
        )
        return picture(figure, f"propensity_calibration_{rows.task + 1}", alt, caption, choice=rows.name)


def threshold_figure(plan: PropensityPlan, task: TaskScores) -> Figure:
    """Precision, recall and the share flagged, by where the line is drawn."""
    rows = task.rows
    found = plan.rules[rows.task]
    order = np.argsort(-rows.score, kind="stable")
    score, weight = rows.score[order], rows.weight[order]
    called, true = np.cumsum(weight), np.cumsum(weight * rows.label[order])
    last = np.append(np.diff(score) != 0, True)  # equal scores are flagged together
    lines = {
        "precision: right, of those flagged": (true / called, ACCENT, "-"),
        "recall: found, of those with it": (true / true[-1], OBSERVED, "-"),
        "flagged, of all": (called / called[-1], GREY, DASHED),
    }
    with house_grid(WIDE, 3.9) as (figure, axes):
        axis = axes[0, 0]
        for name, (line, colour, dashes) in lines.items():
            axis.plot(*_thinned(100 * score[last], 100 * line[last]), color=colour, ls=dashes, label=name)
        # The few highest scores would take most of the picture and say little.
        end = 100 * float(score[min(len(score) - 1, max(_FEW, len(score) // 200))])
        end = max([end, *(100 * rule.value for rule in found if rule.value <= score[0])])
        inside = [rule for rule in found if 100 * rule.value <= end]
        for rule in inside:
            shape, colour = _MARKS[rule.rule]
            axis.axvline(100 * rule.value, color=colour, lw=0.9, ls=(0, (1, 2)), zorder=1)
            axis.plot(
                100 * rule.value,
                0,
                shape,
                color=colour,
                ms=13 if shape == "*" else 9,
                mec="white",
                clip_on=False,
                zorder=7,
                ls="",
                label=RULE_WORDS[rule.rule],
            )
        start = _range(score)[0]
        axis.set_xlim(min([start, *(100 * rule.value for rule in inside)]), end * 1.01)
        axis.set_ylim(0, 102)
        axis.set_xlabel("flagged from this score on (%)")
        axis.set_ylabel("%")
        axis.set_title(f"{shortened(rows.name, 24)}: where to draw the line")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
        alt = f"{rows.name}: thresholds " + ", ".join(
            f"{RULE_WORDS[rule.rule]} {_chance(rule.value)}" for rule in inside
        )
        outside = [RULE_WORDS[rule.rule] for rule in found if rule not in inside]
        caption = "Further to the right fewer customers are flagged, more of them rightly. Marks: the rules' thresholds"
        caption += f"; no customer reaches that of {', '.join(outside)}." if outside else "."
        return picture(figure, f"propensity_thresholds_{rows.task + 1}", alt + ".", caption, choice=rows.name)


def _range(score: np.ndarray) -> tuple[float, float]:
    """Ends of an axis of probabilities in per cent: from 0 on, unless all of them are far from it."""
    low, high = 100 * float(score.min()), 100 * float(score.max())
    pad = 0.08 * (high - low) or 0.5
    return (max(0.0, low - pad) if low > high / 2 else 0.0), min(100.0, high + pad)


def _chance(value: float) -> str:
    """A probability with about two digits."""
    return percent(value, 0 if value >= 0.1 else 1) if np.isfinite(value) else "nobody"


def _from(plan: PropensityPlan) -> str:
    """Where the rows of a figure come from."""
    return f"Judged on {judged_words(plan.judging)}."


def judged_words(splits: Sequence[str]) -> str:
    """ "test customers", "training customers, which the model learned from"."""
    words: Mapping[str, str] = {
        "train": "training customers, which the model learned from",
        "val": "validation customers",
        "test": "test customers",
        "none": "customers outside the training data",
    }
    return " and ".join(words[name] for name in splits)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `POINTS` of a curve, its ends kept."""
    if len(x) <= POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(np.int64))
    return x[keep], y[keep]
