"""The scores of one task of a propensity model, by its kind, from rows with known labels.

- ``binary``: ``auc``, ``average_precision``, ``brier``, ``log_loss``, ``calibration_error`` (mean |gap| of ten bins of
  equal weight), ``calibration_error_debiased``, ``total`` (predicted over actual positives), ``lift_at_10`` (rate among
  the best tenth over that of all).
- ``hazard``: ``concordance`` and ``integrated_brier`` of the survival curve, and the above of the probability by the
  last edge, where customers whose observation ended before are stood for by others (`survival.known_by`).
- ``value``: ``gini`` (normalised), ``kendall`` (tau-b), ``total``, ``decile_error`` (mean |predicted - actual| / actual
  of deciles), ``auc`` (does the expected value tell buyers from the rest), ``mae``, ``rmse``.
- ``regression``: ``r2``, ``kendall``, ``total``, ``mae``, ``rmse``.

A score that is not defined is NaN, never 0, and a note says why.

Axis letters: N rows, D edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from wanamaker.metrics import propensity_classification as classification
from wanamaker.metrics import propensity_value as value_scores
from wanamaker.metrics.survival import at_edges, concordance, integrated_brier, known_by_of, still_watched
from wanamaker.metrics.uplift_calibration import calibration_error_of, calibration_table_of
from wanamaker.metrics.uplift_groups import group_by_score

BINARY_SCORES = (
    "auc",
    "average_precision",
    "brier",
    "log_loss",
    "calibration_error",
    "calibration_error_debiased",
    "total",
    "lift_at_10",
)
SCORES = {
    "binary": BINARY_SCORES,
    "hazard": ("concordance", "integrated_brier", *BINARY_SCORES),
    "value": ("gini", "kendall", "total", "decile_error", "auc", "mae", "rmse"),
    "regression": ("r2", "kendall", "total", "mae", "rmse"),
}
_NEED_TWO_CLASSES = ("auc", "average_precision", "lift_at_10")
# Arithmetic in half or single precision leaves probabilities this far outside 0 and 1.
_ROUNDING = 1e-5
NAN = float("nan")


class TaskLike(Protocol):
    """What is read of a task (`data.propensity_batch.Task`)."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def edges(self) -> tuple[float, ...]: ...


class PropensityRows(NamedTuple):
    """Positions of which a label is known; floating arrays keep the precision they came in.

    Attributes:
        row: int64 [N], unique in the data.
        label, time, score: [N, T]. survival: [N, D]. weight: [N].
    """

    row: np.ndarray
    label: np.ndarray
    time: np.ndarray
    score: np.ndarray
    survival: np.ndarray
    weight: np.ndarray


class TaskRows(NamedTuple):
    """Rows of one task whose label is known.

    Attributes:
        label, score, weight: [N].
        time: [N], of a hazard; else of no meaning.
        survival: [N, D], of a hazard; else [N, 0].
        square: [N], squared weights of the rows that this one stands for (what its noise depends on); None is weight^2.
    """

    label: np.ndarray
    time: np.ndarray
    score: np.ndarray
    survival: np.ndarray
    weight: np.ndarray
    square: np.ndarray | None = None


def rows_of_tasks(tasks: Sequence[TaskLike], rows: PropensityRows) -> list[tuple[TaskLike, TaskRows]]:
    """Each task with its rows of known label."""
    found = []
    start = 0
    for t, task in enumerate(tasks):
        width = len(task.edges) if task.kind == "hazard" else 0
        known = ~np.isnan(rows.label[:, t])
        survival = rows.survival[known, start : start + width]
        label, time, score = (array[known, t] for array in (rows.label, rows.time, rows.score))
        found.append((task, TaskRows(label, time, score, survival, rows.weight[known])))
        start += width
    return found


def scores_of_task(task: TaskLike, rows: TaskRows) -> tuple[dict[str, float], dict[str, str]]:
    """Scores by name, without the task's name, and what a reader must be told, by kind of note."""
    label, time, score, survival, weight = (np.asarray(array, np.float64) for array in rows[:5])
    nothing = dict.fromkeys(SCORES[task.kind], NAN)
    if len(label) == 0 or not weight.sum() > 0:
        return nothing, {f"{task.name}/none": f"{task.name}: no label is known, so its scores are NaN."}
    if not (np.isfinite(score).all() and np.isfinite(survival).all()):
        return nothing, {f"{task.name}/finite": f"{task.name}: a prediction is not finite, so its scores are NaN."}
    if not weight.all():
        own = weight != 0
        square = None if rows.square is None else rows.square[own]
        return scores_of_task(task, TaskRows(*(array[own] for array in (label, time, score, survival, weight)), square))
    if task.kind == "binary":
        return binary_scores(task, label, probabilities(task, score), weight, rows.square)
    if task.kind == "hazard":
        return _hazard(task, label, time, probabilities(task, score), probabilities(task, survival), weight)
    return amount_scores(task, label, score, weight)


def binary_scores(
    task: TaskLike, label: np.ndarray, score: np.ndarray, weight: np.ndarray, square: np.ndarray | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of a yes or no."""
    scores = dict.fromkeys(BINARY_SCORES, NAN)
    square = weight**2 if square is None else square
    # Labels are their own squares.
    groups = group_by_score(score, (weight, weight * label, square, square * label, square * label))
    errors = calibration_error_of(calibration_table_of(groups))
    scores |= {
        "brier": classification.brier(label, score, weight),
        "log_loss": classification.log_loss(label, score, weight),
        "calibration_error": errors.absolute_plain,
        "calibration_error_debiased": errors.absolute,
        "total": value_scores.total_bias(label, score, weight),
    }
    seen = np.unique(label[weight > 0])
    if len(seen) < 2:
        note = f"{task.name}: all {len(label)} known labels are {seen[0]:g}, so {', '.join(_NEED_TWO_CLASSES)} are NaN."
        return scores, {f"{task.name}/class": note}
    scores |= {
        "auc": classification.auc(label, score, weight),
        "average_precision": classification.average_precision(label, score, weight),
        "lift_at_10": classification.lift_at(label, score, 0.1, weight),
    }
    return scores, {}


def _hazard(
    task: TaskLike, event: np.ndarray, time: np.ndarray, score: np.ndarray, survival: np.ndarray, weight: np.ndarray
) -> tuple[dict[str, float], dict[str, str]]:
    edges = np.asarray(task.edges, np.float64)
    time = at_edges(time, edges)
    return hazard_scores(
        task,
        TaskRows(event, time, score, survival, weight),
        concordance(time, event, survival, edges, weight),
        integrated_brier(time, event, survival, edges, weight),
    )


def hazard_scores(
    task: TaskLike, rows: TaskRows, agreement: float, squared: float
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of a hazard whose concordance and integrated Brier score are known; the survival of rows is not read."""
    watched = still_watched(rows.time, rows.label, rows.weight)
    label, share = known_by_of(rows.time, rows.label, rows.weight, task.edges[-1], watched)
    known = share > 0
    scores = dict.fromkeys(SCORES["hazard"], NAN)
    notes: dict[str, str] = {}
    if known.any():
        square = rows.weight**2 if rows.square is None else rows.square
        square = square[known] * (share[known] / rows.weight[known]) ** 2
        found, notes = binary_scores(task, label[known], rows.score[known], share[known], square)
        scores |= found
    scores |= {"concordance": agreement, "integrated_brier": squared}
    if np.isnan(squared):
        notes[f"{task.name}/watched"] = (
            f"{task.name}: nobody was watched until {task.edges[-1]:g}, the last edge, so integrated_brier is NaN and "
            "scores by the last edge are those of whoever had the event."
        )
    return scores, notes


def amount_scores(
    task: TaskLike, actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of a value or a regression."""
    scores = dict.fromkeys(SCORES[task.kind], NAN)
    scores |= {
        "kendall": value_scores.kendall_tau_b(actual, predicted, weight),
        "total": value_scores.total_bias(actual, predicted, weight),
        "mae": value_scores.mae(actual, predicted, weight),
        "rmse": value_scores.rmse(actual, predicted, weight),
    }
    if task.kind == "regression":
        return scores | {"r2": value_scores.r2(actual, predicted, weight)}, {}
    own = actual[weight > 0]
    if own.min() < 0:
        note = (
            f"{task.name}: {int((own < 0).sum())} of {len(own)} amounts are below 0 (the lowest is {own.min():g}), so "
            "gini and decile_error, shares of a total, are NaN."
        )
        return scores, {f"{task.name}/negative": note}
    notes: dict[str, str] = {}
    if own.max() > own.min():
        scores["gini"] = value_scores.normalised_gini(actual, predicted, weight)
    else:
        notes[f"{task.name}/same"] = f"{task.name}: all {len(own)} amounts are {own[0]:g}, so gini is NaN."
    if own.max() > 0:
        scores["decile_error"] = value_scores.decile_table(actual, predicted, weight=weight).error
    if own.min() == 0 and own.max() > 0:
        scores["auc"] = classification.auc((actual > 0).astype(np.float64), predicted, weight)
    return scores, notes


def probabilities(task: TaskLike, values: np.ndarray) -> np.ndarray:
    """Values between 0 and 1, rid of rounding.

    Raises:
        ValueError: a value further outside than rounding takes it.
    """
    if values.min(initial=0.0) < -_ROUNDING or values.max(initial=1.0) > 1 + _ROUNDING:
        raise ValueError(
            f"{task.name}: predictions run from {values.min():g} to {values.max():g}; a {task.kind} task is scored by "
            "probabilities."
        )
    return values.clip(0.0, 1.0)
