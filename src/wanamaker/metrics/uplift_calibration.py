"""Whether customers predicted to be moved by 5 are moved by 5: predicted effects against doubly robust ones, by bin.

Customers are put into bins of about equal size by their predicted effect; customers with the same prediction stay
together, so there may be fewer bins than asked for. In a bin of predicted mean p, the mean effect score d estimates the
true mean effect with a standard error s, and its gap is d - p. Bins average over what differs within them, so an error
that changes sign within a bin is not seen; more bins see more and are noisier.

A perfect prediction has gaps too, of size s, so the plain scores are positive by chance alone:

- ``squared``: mean gap^2 less mean s^2, unbiased for the mean squared gap (Xu & Yadlowsky 2022, "Calibration error for
  heterogeneous treatment effects"); may come out below 0.
- ``absolute``: 2 |gap| less the mean of a folded normal around the gap, the bias correction of the absolute value
  (in the manner of Kumar, Liang & Ma 2019 for probabilities); some bias is left where gaps are about as large as s.
- ``signed``: d - p over all customers; needs no correction.

Axis letters: N rows, G distinct predictions, B bins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.doubly_robust import Estimate, average_effect_of, effect_moments
from wanamaker.metrics.uplift_groups import ScoreGroups, checked, group_by_score


class CalibrationTable(NamedTuple):
    """Bins by ascending predicted effect; effects in units of the outcome.

    Attributes:
        low, high: float64 [B], smallest and largest prediction.
        weight: float64 [B], customers.
        predicted: float64 [B], mean prediction.
        observed: float64 [B], mean doubly robust effect.
        standard_error: float64 [B], of ``observed``; NaN for a bin of a single row.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    standard_error: np.ndarray


class CalibrationError(NamedTuple):
    """Scores of a `CalibrationTable`; definitions at the top of this module.

    Attributes:
        signed: observed less predicted, units of the outcome; above 0 is a prediction too low.
        signed_se: its standard error.
        absolute, absolute_plain: mean |gap|, corrected and not.
        squared, squared_plain: mean gap^2, corrected and not.
    """

    signed: float
    signed_se: float
    absolute: float
    absolute_plain: float
    squared: float
    squared_plain: float


def calibration_table(
    effect: np.ndarray, dr_effect: np.ndarray, bins: int = 10, weight: np.ndarray | None = None
) -> CalibrationTable:
    """Predicted and observed effects by bin of the prediction.

    Args:
        effect: [N], predicted by models that did not learn from the row.
        dr_effect: [N], effect scores (`wanamaker.metrics.doubly_robust`).
        bins: at most so many.
        weight: [N], customers that a row stands for; None is 1 each.
    """
    effect, dr_effect, weight = checked("calibration_table", effect, dr_effect, weight=weight)
    return calibration_table_of(group_by_score(effect, effect_moments(dr_effect, weight)), bins)


def calibration_table_of(groups: ScoreGroups, bins: int = 10) -> CalibrationTable:
    """`calibration_table` of the sums of `effect_moments` per predicted effect."""
    if bins < 1:
        raise ValueError(f"calibration_table: bins={bins}; give at least 1.")
    score = groups.score[::-1]
    sums = [values[::-1] for values in groups.sums]
    weight = sums[0]
    # A prediction belongs where the middle of its customers falls.
    middle = np.cumsum(weight) - weight / 2
    bin_of = np.minimum((middle / weight.sum() * bins).astype(np.int64), bins - 1)
    starts = np.flatnonzero(np.diff(bin_of, prepend=-1))

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts)

    customers = total(weight)
    predicted, observed = total(weight * score) / customers, total(sums[1]) / customers
    gap = observed - predicted
    # The spread of effect - prediction, not of the effect: what the prediction explains is no noise of the gap.
    w2, w2e, w2ee = sums[2:]
    centre = score + gap[np.searchsorted(starts, np.arange(len(score)), side="right") - 1]
    squares = np.maximum(total(w2ee - 2 * centre * w2e + centre**2 * w2), 0.0)
    effective = customers**2 / total(w2)  # rows, were they of one weight
    correction = np.divide(effective, effective - 1, out=np.full(len(starts), np.nan), where=effective > 1.5)
    error = np.sqrt(squares * correction) / customers
    last = np.append(starts[1:], len(score)) - 1
    return CalibrationTable(score[starts], score[last], customers, predicted, observed, error)


def calibration_error(
    effect: np.ndarray, dr_effect: np.ndarray, bins: int = 10, weight: np.ndarray | None = None
) -> CalibrationError:
    """Calibration error of predicted effects; arguments as in `calibration_table`."""
    return calibration_error_of(calibration_table(effect, dr_effect, bins, weight))


def calibration_error_of(table: CalibrationTable) -> CalibrationError:
    """Scores of a table; corrected ones are NaN if a bin has a single row."""
    from scipy.special import erf

    share = table.weight / table.weight.sum()
    gap, error = table.observed - table.predicted, table.standard_error
    size = np.abs(gap)
    ratio = np.divide(size, error, out=np.full(len(size), np.inf), where=error != 0)
    folded = error * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + size * erf(ratio / math.sqrt(2))
    return CalibrationError(
        signed=float((share * gap).sum()),
        signed_se=float(np.sqrt((share**2 * error**2).sum())),
        absolute=float((share * (2 * size - folded)).sum()),
        absolute_plain=float((share * size).sum()),
        squared=float((share * (gap**2 - error**2)).sum()),
        squared_plain=float((share * gap**2).sum()),
    )


class CalibrationLine(NamedTuple):
    """Best linear prediction of the effect by its prediction: ``effect = level + slope (prediction - its mean)``.

    Attributes:
        level: mean effect, units of the outcome.
        slope: 1 if differences are right on average, 0 if the prediction tells nothing; NaN for one prediction.
    """

    level: Estimate
    slope: Estimate


def calibration_line(effect: np.ndarray, dr_effect: np.ndarray, weight: np.ndarray | None = None) -> CalibrationLine:
    """Line through effect scores [N] over predicted effects [N] (BLP of Chernozhukov, Demirer, Duflo & Fernandez-Val).

    The slope's standard error allows for any spread of the scores (heteroscedasticity-consistent).
    """
    effect, dr_effect, weight = checked("calibration_line", effect, dr_effect, weight=weight)
    return calibration_line_of(group_by_score(effect, effect_moments(dr_effect, weight)))


def calibration_line_of(groups: ScoreGroups) -> CalibrationLine:
    """`calibration_line` of the sums of `effect_moments` per predicted effect."""
    weight, first, w2, w2e, w2ee = groups.sums
    level = average_effect_of(groups)
    x = groups.score - (weight * groups.score).sum() / weight.sum()
    spread = (weight * x**2).sum()
    if len(x) < 2 or spread <= 0:
        return CalibrationLine(level, Estimate(float("nan"), float("nan")))
    slope = (x * first).sum() / spread
    fitted = level.value + slope * x
    squares = np.maximum(w2ee - 2 * fitted * w2e + fitted**2 * w2, 0.0)
    return CalibrationLine(level, Estimate(float(slope), float(np.sqrt((x**2 * squares).sum()) / spread)))
