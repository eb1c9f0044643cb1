"""How well expected amounts rank and add up: Gini, Kendall's tau-b, deciles and totals of customer value.

Most customers are worth nothing, so ranks are full of ties: Spearman's correlation rewards a bare count of orders for
its ties. Gini asks how much of the money the best customers bring, tau-b corrects for ties on both sides.

Amounts are in the unit of the data. A score that is not defined is NaN.

Axis letters: N rows, B bins.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.pair_counts import weight_beyond
from wanamaker.metrics.propensity_classification import GainCurve, gain_curve, lift_table
from wanamaker.metrics.uplift_groups import checked

NAN = float("nan")


class DecileTable(NamedTuple):
    """Bins of equal weight by descending prediction; a group of equal predictions is divided between bins.

    Attributes:
        low, high: float64 [B], smallest and largest prediction of the bin.
        weight: float64 [B], customers.
        predicted, actual: float64 [B], mean amounts.
        share: float64 [B], of the money that all customers brought.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """Mean |predicted - actual| over actual (decile MAPE of Wang et al. 2019); bins without money are left out."""
        known = self.actual > 0
        if not known.any():
            return NAN
        return float((np.abs(self.predicted - self.actual)[known] / self.actual[known]).mean())


def normalised_gini(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Gini of amounts ranked by the prediction, over that of amounts ranked by themselves.

    1 is the perfect order, 0 is chance, below 0 is worse (Wang, Liu & Miao 2019, arXiv 1912.07753). The area is by
    trapezoids, straight across customers with the same prediction: their order does not count. (The paper's code adds
    up the heights, which adds 1/N to both Ginis, and ranks ties by the order of rows.)

    Args:
        actual: [N], amounts of 0 or more; NaN if all are 0 or all the same.
        predicted: [N].
        weight: [N], customers that a row stands for; None is 1 each.
    """
    predicted, actual, weight = checked("normalised_gini", predicted, actual, weight=weight)
    if np.ptp(actual[weight > 0]) == 0:
        warnings.warn(f"normalised_gini: all amounts are {actual[weight > 0][0]:g}: no order to find (NaN).")
        return NAN
    own, best = (_area(gain_curve(actual, score, weight)) - 0.5 for score in (predicted, actual))
    return own / best


def kendall_tau_b(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in opposite order, over the pairs without ties.

    "Without ties" is the geometric mean of the two sides, which makes 1 possible only where ties agree. By scipy where
    rows count once.

    Args:
        actual, predicted: [N].
        weight: [N], customers that a row stands for; None is 1 each. A row of weight 2 is two rows.

    Returns:
        From -1 to 1; NaN where one side is constant.
    """
    actual, predicted, weight = checked("kendall_tau_b", actual, predicted, weight=weight)
    if (weight == 1).all():
        from scipy.stats import kendalltau

        return float(kendalltau(actual, predicted, variant="b", method="asymptotic").statistic)
    untied = [_untied(side, weight) for side in (actual, predicted)]
    if min(untied) <= 0:
        return NAN
    same, _ = weight_beyond(actual, predicted, weight)
    opposite, _ = weight_beyond(actual, -predicted, weight)
    return float((weight * (same - opposite)).sum() / np.sqrt(untied[0] * untied[1]))


def decile_table(
    actual: np.ndarray, predicted: np.ndarray, bins: int = 10, weight: np.ndarray | None = None
) -> DecileTable:
    """Predicted and actual amounts by bin of the prediction, best first; arguments as in `normalised_gini`."""
    table = lift_table(actual, predicted, bins, weight)
    return DecileTable(
        low=table.low,
        high=table.high,
        weight=table.weight,
        predicted=table.predicted,
        actual=table.rate,
        share=np.diff(table.gain, prepend=0.0),
    )


def total_bias(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Predicted total over actual total: 1 is right, 0.8 is a fifth too low; NaN where the actual total is 0."""
    predicted, actual, weight = checked("total_bias", predicted, actual, weight=weight)
    total = (weight * actual).sum()
    return float((weight * predicted).sum() / total) if total != 0 else NAN


def mae(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean |predicted - actual|, in the unit of the amounts. The median, not the mean, is what makes it small."""
    predicted, actual, weight = checked("mae", predicted, actual, weight=weight)
    return float(np.average(np.abs(predicted - actual), weights=weight))


def rmse(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Root of the mean (predicted - actual)^2, in the unit of the amounts."""
    predicted, actual, weight = checked("rmse", predicted, actual, weight=weight)
    return float(np.sqrt(np.average((predicted - actual) ** 2, weights=weight)))


def r2(actual: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> float:
    """1 - squared error over that of the mean of these rows; NaN where all amounts are the same."""
    predicted, actual, weight = checked("r2", predicted, actual, weight=weight)
    if np.ptp(actual[weight > 0]) == 0:
        return NAN
    spread = np.average((actual - np.average(actual, weights=weight)) ** 2, weights=weight)
    return float(1 - np.average((predicted - actual) ** 2, weights=weight) / spread)


def _area(curve: GainCurve) -> float:
    return float(np.trapezoid(curve.gain, curve.share))


def _untied(side: np.ndarray, weight: np.ndarray) -> float:
    """Weight of the pairs that differ on a side; 0 if none does, whatever the rounding."""
    distinct, place = np.unique(side[weight > 0], return_inverse=True)
    own = np.bincount(place, weight[weight > 0])
    return float((own.sum() ** 2 - (own**2).sum()) / 2) if len(distinct) > 1 else 0.0
