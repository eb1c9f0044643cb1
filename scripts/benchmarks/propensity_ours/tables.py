"""The tables of out-of-fold scores: probabilities of churn and purchase, and what CDNOW's customers are worth.

Axis letters: N rows, R repeats, K folds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from propensity_peers.task import Task

from propensity_ours.fits import Plan, failures, predictions_of, results_of, run_ours, run_peers
from propensity_ours.tasks import FILES, FOLDS, RECIPES, write_task
from wanamaker.metrics.propensity_calibration import calibration_error
from wanamaker.metrics.propensity_classification import auc, average_precision, brier, log_loss
from wanamaker.metrics.propensity_value import kendall_tau_b, normalised_gini

REFERENCE = "lightgbm_small"
BINARY = ("logistic", "lightgbm_small", "lightgbm_small_native", "lightgbm_default", "histogram_boosting")
VALUE = ("past_orders", "past_spend", "bg_nbd_gamma_gamma", "lightgbm_tweedie", "lightgbm_two_part")


def tables(plan: Plan, home: Path, names: list[str], repeats: int) -> str:
    """Fit what is missing of the tasks and return their tables.

    Args:
        home: folder of the public tables.
        names: of `RECIPES`.
    """
    parts = []
    for name in names:
        task = write_task(name, home, repeats, plan.task(name))
        run_peers(plan, task, VALUE if name == "cdnow" else BINARY)
        run_ours(plan, task, [*RECIPES[name], f"data.path='{home / FILES[name]}'"])
        parts.append(_value(plan, name) if name == "cdnow" else _binary(plan, name))
    return "\n\n".join(parts)


def _binary(plan: Plan, name: str) -> str:
    task = Task.read(plan.task(name))
    y, (repeats, folds) = task.label, task.shape
    found = predictions_of(plan, name)
    by_fold = {learner: _fold_scores(task, score, auc) for learner, score in found.items()}
    lines = [
        f"{name}: {len(y):,} rows, {y.mean():.1%} positive, {repeats} x stratified {FOLDS}-fold; AUC: mean of folds",
        f"{'learner':32s} {'AUC':>7s} {'SD':>6s} {'diff.':>7s} {'SE*':>6s} {'wins':>5s} {'AP':>7s} {'Brier':>7s} "
        f"{'log loss':>8s} {'ECE':>6s} {'CPU-s':>6s}",
    ]
    for learner in sorted(found, key=lambda key: -by_fold[key].mean()):
        own = by_fold[learner]
        line = f"{learner:32s} {own.mean():7.4f} {own.std(ddof=1):6.4f} "
        if REFERENCE in by_fold:
            difference = own - by_fold[REFERENCE]
            # Nadeau & Bengio (2003): folds share training rows; 1/(K-1) is test rows over training rows.
            spread = difference.std(ddof=1) * np.sqrt(1 / own.size + 1 / (folds - 1))
            line += f"{difference.mean():+7.4f} {spread:6.4f} {int((difference > 0).sum()):2d}/{own.size:<2d} "
        else:
            line += " " * 21
        for score, width in ((average_precision, 7), (brier, 7), (log_loss, 8), (calibration_error, 6)):
            line += f"{np.mean([_number(score(y, part)) for part in found[learner]]):{width}.4f} "
        lines.append(line + _cost(plan, name, learner))
    lines.append(f"diff.: to {REFERENCE} on the same folds; SE* allows for the rows that folds share.")
    return "\n".join(lines + failures(plan, name))


def _value(plan: Plan, name: str) -> str:
    task = Task.read(plan.task(name))
    y, found = task.label, predictions_of(plan, name)
    lines = [
        f"{name}: {len(y):,} customers, {np.mean(y == 0):.1%} without a purchase in {task.about.weeks:g} weeks; "
        f"{task.shape[0]} x {FOLDS}-fold by customer, all customers together; means over repeats",
        f"{'learner':32s} {'Gini':>7s} {'SD':>6s} {'tau-b':>6s} {'total':>6s} {'MAE':>7s} {'RMSE':>7s} "
        f"{'AUC buys':>8s} {'CPU-s':>6s}",
    ]
    rows = {}
    for learner, scores in found.items():
        one = scores[:1] if np.ptp(scores, axis=0).max() == 0 else scores
        rows[learner] = np.array(
            [
                (
                    normalised_gini(y, score),
                    kendall_tau_b(y, score),
                    score.sum() / y.sum(),
                    np.abs(score - y).mean(),
                    np.sqrt(np.square(score - y).mean()),
                    auc((y > 0).astype(np.float64), score),
                )
                for score in one
            ]
        )
    for learner in sorted(rows, key=lambda key: -rows[key][:, 0].mean()):
        gini, tau, total, mae, rmse, buys = rows[learner].mean(0)
        sd = rows[learner][:, 0].std(ddof=1) if len(rows[learner]) > 1 else 0.0
        lines.append(
            f"{learner:32s} {gini:7.4f} {sd:6.4f} {tau:6.4f} {total:6.3f} {mae:7.2f} {rmse:7.2f} {buys:8.4f} "
            f"{_cost(plan, name, learner)}"
        )
    lines += [
        "total: predicted over actual; of past orders and past spend only the order counts. BG/NBD sees nobody's",
        "future, the others learn from that of other customers.",
    ]
    return "\n".join(lines + failures(plan, name))


def _fold_scores(task: Task, prediction: np.ndarray, score) -> np.ndarray:
    """Score of every fold, [R x K]."""
    repeats, folds = task.shape
    return np.array(
        [
            score(task.label[held], prediction[repeat, held])
            for repeat in range(repeats)
            for held in (task.fold[repeat] == fold for fold in range(folds))
        ]
    )


def _number(score) -> float:
    """Score, or the plain one where a debiased one is beside it."""
    return float(score[0] if isinstance(score, tuple) else score)


def _cost(plan: Plan, task: str, learner: str) -> str:
    result = results_of(plan, task).get(learner)
    return f"{result['cpu_seconds']:6.0f}" if result else f"{'':6s}"
