"""From which score on a customer counts as "yes": the rules, and what each of them would have done.

Beside the rules of `metrics.thresholds` there are "break_even" (cost over value: right if probabilities are),
"mean" (mean prediction, where no outcome is known) and "set" (a number of the user's). Rules that look at outcomes
(base rate, profit) learn from rows that do not judge them, where there are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity_options import BASE_RATE, CONSTANT, PROFIT, RULES, Question
from wanamaker.decisions.propensity_rows import TaskRows
from wanamaker.metrics.thresholds import Threshold, profit_threshold, threshold
from wanamaker.predictions import PropensityPredictions

if TYPE_CHECKING:
    import pandas as pd

BREAK_EVEN, MEAN, SET = "break_even", "mean", "set"
_SHAPE_RULES = tuple(rule for rule in RULES if rule not in (PROFIT, BASE_RATE, CONSTANT))


def task_threshold(
    question: Question, predictions: PropensityPredictions, rows: TaskRows, rule: str | float
) -> Threshold:
    """The threshold of a rule for one task.

    Args:
        question: for value and cost.
        predictions: whose scores stand in where no outcome is known.
        rows: with known outcomes, to learn from; may be none.
        rule: of `RULES`, or a number.
    """
    t = rows.task
    scores = rows.score if len(rows) else predictions.score[:, t].astype(np.float64)

    def at(name: str, value: float) -> Threshold:
        return Threshold(name, float(value), float((scores >= value).mean()))

    if not isinstance(rule, str):
        return at(SET, rule)
    if rule == BASE_RATE:
        return at(BASE_RATE, rows.base_rate) if len(rows) else at(MEAN, scores.mean())
    if rule == PROFIT:
        worth, cost = question.money[t], question.options.cost
        if not len(rows) or not rows.is_probability:
            return at(BREAK_EVEN, cost / worth)
        o = question.options
        best = profit_threshold(rows.label, rows.score, worth, cost, rows.weight, o.draws, o.seed, o.level)
        return Threshold(PROFIT, best.value, best.share, best.note)
    return threshold(scores, rule, weight=rows.weight if len(rows) else None)


def every_threshold(question: Question, predictions: PropensityPredictions, rows: TaskRows) -> tuple[Threshold, ...]:
    """What each rule says of one task with probabilities; arguments as above."""
    wanted: list[str | float] = [BASE_RATE, CONSTANT]
    found = []
    if question.money.get(rows.task, 0) > 0:
        wanted[:0] = [PROFIT] if len(rows) else []
        even = question.options.cost / question.money[rows.task]
        found.append(Threshold(BREAK_EVEN, even, float((predictions.score[:, rows.task] >= even).mean())))
    scores = rows.score if len(rows) else predictions.score[:, rows.task]
    if np.ptp(scores) > 0:  # equal scores have no shape to split
        wanted += _SHAPE_RULES
    given = question.thresholds.get(rows.task)
    if isinstance(given, int | float):
        wanted.append(given)
    return (*found, *(task_threshold(question, predictions, rows, rule) for rule in wanted))


def threshold_frame(
    question: Question, task: str, thresholds: Sequence[Threshold], judged: TaskRows, customers: np.ndarray
) -> pd.DataFrame:
    """One row per rule: how many customers it takes, and how right it is on the rows that judge.

    Columns: task, rule, threshold, customers (of the audience's pool), share; where rows judge: precision, recall,
    false_positive_rate, and with money profit_per_1000.

    Args:
        question: for value and cost.
        task: name.
        thresholds: of `every_threshold`.
        judged: rows that judge; may be none.
        customers: [N], scores of the pool.
    """
    import pandas as pd

    rows = []
    for rule in thresholds:
        taken = rule.takes(customers)
        row = {
            "task": task,
            "rule": rule.rule,
            "threshold": rule.value,
            "customers": int(taken.sum()),
            "share": float(taken.mean()),
        }
        if len(judged):
            yes, label, weight = rule.takes(judged.score), judged.label, judged.weight
            true, called = weight @ (label * yes), weight @ yes
            row["precision"] = float(true / called) if called else np.nan
            row["recall"] = float(true / (weight @ label)) if judged.positives else np.nan
            negatives = weight @ (1 - label)
            row["false_positive_rate"] = float((called - true) / negatives) if negatives else np.nan
            if judged.task in question.money:
                profit = question.money[judged.task] * true - question.options.cost * called
                row["profit_per_1000"] = 1000 * float(profit / weight.sum())
        rows.append(row)
    return pd.DataFrame(rows)
