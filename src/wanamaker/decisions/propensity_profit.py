"""What contacting more customers would have brought, on customers whose outcomes are known.

Axis letters: M rows that judge, G points of a curve, R draws of the bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan, contacted, net_value, ranking
from wanamaker.decisions.propensity_resample import resampled

if TYPE_CHECKING:
    import pandas as pd

POINTS = 201


@dataclass(frozen=True)
class Profit:
    """Money per 1,000 customers with its interval.

    Attributes:
        value, low, high: money.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ProfitCurve:
    """Customers are contacted in the order of the plan; money per 1,000 customers of the pool.

    Attributes:
        share: [G], of customers contacted, from 0 to 1.
        observed: [G], value of what happened less cost, with low and high of the bootstrap.
        low, high: [G].
        expected: [G], the same by the scores.
        chosen: share that the plan contacts here, and what it brings.
        profit: at `chosen`.
        everyone: profit of contacting all.
        best: share at which the observed curve is highest; by hindsight.
        rows: M.
        level: of the intervals.
    """

    share: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    expected: np.ndarray
    chosen: float
    profit: Profit
    everyone: Profit
    best: float
    rows: int
    level: float


def profit_curve(plan: PropensityPlan) -> ProfitCurve | None:
    """The curve; None where no row has known outcomes of every task that is worth money, or nothing is."""
    question, p = plan.question, plan.predictions
    if not question.money:
        return None
    place = plan.judged[min(question.money)].place
    for t in question.money:
        place = np.intersect1d(place, plan.judged[t].place, assume_unique=True)
    if len(place) < 2:
        return None
    label, weight = np.zeros((len(place), len(p.tasks))), p.weight[place].astype(np.float64)
    customer = np.zeros(len(place), np.int64)
    for t in question.money:
        rows = plan.judged[t]
        at = np.searchsorted(rows.place, place)
        label[:, t], customer = rows.label[at], rows.customer[at]
        weight = weight * rows.weight[at] / p.weight[rows.place[at]]  # what censoring weighs
    score = p.score[place]
    observed, expected = net_value(question, label), net_value(question, score)
    contact = contacted(question, score, plan.thresholds, len(plan.customers))
    order = np.argsort(-ranking(question, score), kind="stable")
    grid, level = np.linspace(0, 1, POINTS), question.options.level
    curves, chosen, all_ = [], [], []
    shown = _curve(observed, weight, order, grid)
    now = 1000 * float((weight * contact) @ observed / weight.sum())
    always = 1000 * float(weight @ observed / weight.sum())
    for rows, shrink in resampled(customer, question.options.draws, question.options.seed):
        counts = np.bincount(rows, minlength=len(place)) * weight
        total = counts.sum()
        curves.append(shown + shrink * (_curve(observed, counts, order, grid) - shown))
        chosen.append(now + shrink * (1000 * float((counts * contact) @ observed / total) - now))
        all_.append(always + shrink * (1000 * float(counts @ observed / total) - always))
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = np.quantile(curves, tails, axis=0)
    at = float(weight @ contact / weight.sum())
    return ProfitCurve(
        grid,
        shown,
        low,
        high,
        _curve(expected, weight, order, grid),
        at,
        Profit(now, *np.quantile(chosen, tails).tolist()),
        Profit(always, *np.quantile(all_, tails).tolist()),
        float(grid[shown.argmax()]),
        len(place),
        level,
    )


def _curve(net: np.ndarray, weight: np.ndarray, order: np.ndarray, grid: np.ndarray) -> np.ndarray:
    share = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
    height = np.concatenate([[0.0], np.cumsum((weight * net)[order])]) / weight.sum()
    return 1000 * np.interp(grid, share, height)


def profit_frame(curve: ProfitCurve) -> pd.DataFrame:
    """One row per share of customers contacted; money per 1,000 customers."""
    import pandas as pd

    return pd.DataFrame(
        {
            "share": curve.share,
            "observed_per_1000": curve.observed,
            "low": curve.low,
            "high": curve.high,
            "expected_per_1000": curve.expected,
        }
    )
