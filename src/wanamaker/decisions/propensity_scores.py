"""How good the scores are: one table of metrics per task with intervals, on the rows that judge.

Axis letters: M rows that judge a task, D edges of a hazard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_resample import interval
from wanamaker.decisions.propensity_rows import TaskRows
from wanamaker.metrics.propensity_calibration import calibration_error
from wanamaker.metrics.propensity_classification import auc, average_precision, brier, gain_curve, log_loss
from wanamaker.metrics.propensity_value import decile_table, kendall_tau_b, mae, normalised_gini, rmse, total_bias
from wanamaker.metrics.survival import concordance, integrated_brier

if TYPE_CHECKING:
    import pandas as pd

TOP = 0.1  # the tenth that the page speaks of
# Calibration errors that can be passed over, and that can be lived with: at most so much, and so much of the rate.
SMALL, FAIR = (0.02, 0.1), (0.05, 0.25)


@dataclass(frozen=True)
class Score:
    """A number about a task.

    Attributes:
        value, low, high: with the interval of the bootstrap; NaN where not defined.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TaskScores:
    """How good the scores of a task are.

    Attributes:
        rows: that judge it.
        scores: by the names of `metrics`; empty where nothing can be said.
    """

    rows: TaskRows
    scores: Mapping[str, Score]

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    @property
    def known(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.scores)


def judge(plan: PropensityPlan) -> tuple[TaskScores, ...]:
    """T; intervals draw customers again, with all their positions."""
    return tuple(_task_scores(plan, rows) for rows in plan.judged)


def _task_scores(plan: PropensityPlan, rows: TaskRows) -> TaskScores:
    options = plan.question.options
    if not rows.usable:
        return TaskScores(rows, {})
    found = {}
    for name, statistic in _statistics(rows).items():
        found[name] = Score(*interval(statistic, rows.customer, options.draws, options.seed, options.level))
    if rows.is_probability:
        found |= _calibration(plan, rows)
    if rows.survival is not None:
        found |= _survival_scores(plan, rows)
    return TaskScores(rows, found)


def _statistics(rows: TaskRows) -> dict[str, Callable[[np.ndarray], float]]:
    """Name to a function of the rows drawn."""

    def of(score: Callable[..., float], weighted: bool = True) -> Callable[[np.ndarray], float]:
        if weighted:
            return lambda r: score(rows.label[r], rows.score[r], weight=rows.weight[r])
        return lambda r: score(rows.label[r], rows.score[r])

    def mean(values: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda r: float(np.average(values[r], weights=rows.weight[r]))

    found = {"observed": mean(rows.label), "predicted": mean(rows.score)}
    ranks = rows.label.min() >= 0
    if ranks:
        found["top_tenth_share"] = lambda r: float(gain_curve(rows.label[r], rows.score[r], rows.weight[r]).at(TOP))
    if rows.is_probability:
        found |= {"auc": of(auc), "average_precision": of(average_precision), "brier": of(brier)}
        return found | {"log_loss": of(log_loss)}
    if ranks:
        found["gini"] = of(normalised_gini)
    found |= {"kendall_tau_b": of(kendall_tau_b, weighted=False), "total": of(total_bias)}
    return found | {"mae": of(mae), "rmse": of(rmse)}


def _calibration(plan: PropensityPlan, rows: TaskRows) -> dict[str, Score]:
    """The calibration error, and what it would be by chance if every probability were right.

    Resampling rows would only add to the error, so its interval is that of chance: outcomes drawn from the scores.
    """
    options, nan = plan.question.options, float("nan")
    rng = np.random.default_rng(options.seed)
    score, weight = rows.score, rows.weight
    chance = [
        calibration_error((rng.random(len(rows)) < score).astype(np.float64), score, weight=weight)
        for _ in range(options.draws)
    ]
    tails = np.quantile(chance, [(1 - options.level) / 2, (1 + options.level) / 2])
    return {
        "calibration_error": Score(calibration_error(rows.label, score, weight=weight), nan, nan),
        "calibration_error_debiased": Score(
            calibration_error(rows.label, score, weight=weight, debiased=True), nan, nan
        ),
        "calibration_error_by_chance": Score(float(np.mean(chance)), *tails.tolist()),
    }


def _survival_scores(plan: PropensityPlan, rows: TaskRows) -> dict[str, Score]:
    """Of the whole curve; drawn over its own rows, which are more than those of the last edge."""
    s, options = rows.survival, plan.question.options
    assert s is not None
    _, customer = np.unique(plan.predictions.id[s.place], return_inverse=True)
    statistics = {
        "concordance": lambda r: concordance(s.time[r], s.event[r], s.survival[r], s.edges, s.weight[r]),
        "integrated_brier": lambda r: integrated_brier(s.time[r], s.event[r], s.survival[r], s.edges, s.weight[r]),
    }
    return {
        name: Score(*interval(statistic, customer, options.draws, options.seed, options.level))
        for name, statistic in statistics.items()
    }


def metric_frame(plan: PropensityPlan, scores: tuple[TaskScores, ...]) -> pd.DataFrame:
    """One row per task and metric. Columns: task, metric, value, low, high, rows, positives, split."""
    import pandas as pd

    rows = []
    for task in scores:
        for name, score in task.scores.items():
            rows.append(
                {
                    "task": task.rows.name,
                    "metric": name,
                    "value": score.value,
                    "low": score.low,
                    "high": score.high,
                    "rows": len(task.rows),
                    "positives": task.rows.positives,
                    "split": "+".join(plan.judging),
                }
            )
    columns = ("task", "metric", "value", "low", "high", "rows", "positives", "split")
    return pd.DataFrame(rows, columns=list(columns))


def decile_frame(scores: tuple[TaskScores, ...]) -> pd.DataFrame:
    """One row per task and tenth of the rows that judge, highest score first.

    Columns: task, group (1 is the highest), customers (sum of weights), low and high (scores), predicted and observed
    (means), share (of all cases, or of the total). Numbers that may be below 0 have no such table.
    """
    import pandas as pd

    frames = []
    for task in scores:
        rows = task.rows
        if not task.known or rows.label.min() < 0:
            continue
        table = decile_table(rows.label, rows.score, weight=rows.weight)
        columns = {"task": rows.name, "group": np.arange(1, len(table.actual) + 1), "customers": table.weight}
        columns |= {"low": table.low, "high": table.high, "predicted": table.predicted, "observed": table.actual}
        frames.append(pd.DataFrame({**columns, "share": table.share}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
