"""Whether of customers given 30 % about 30 % come: probabilities against what came, by bin.

The tables and scores are those of uplift (`uplift_calibration`): a label takes the place of the effect that was seen,
and corrections for noise are the same. A perfect model has gaps between predicted and observed too, by chance alone;
the debiased error takes part of that off (Kumar, Liang & Ma 2019, "Verified uncertainty calibration").

Also right for any number that should be right on average, as an amount of money.

Axis letters: N rows, B bins.
"""

from __future__ import annotations

import math

import numpy as np

from wanamaker.metrics.doubly_robust import effect_moments
from wanamaker.metrics.uplift_calibration import CalibrationError, CalibrationTable, calibration_table_of
from wanamaker.metrics.uplift_calibration import calibration_error_of as errors_of_table
from wanamaker.metrics.uplift_groups import ScoreGroups, checked, group_by_score

BINNINGS = ("quantile", "width")


def calibration_table(
    label: np.ndarray, score: np.ndarray, bins: int = 10, by: str = "quantile", weight: np.ndarray | None = None
) -> CalibrationTable:
    """Predicted and observed rate by bin, ascending; bins that nobody falls into are left out.

    Args:
        label: [N], 0 or 1 (or amounts).
        score: [N], probabilities (or expected amounts).
        bins: at most so many.
        by: "quantile", bins of about equal weight, customers with the same score together; or "width", bins of equal
            width between 0 and 1 as in most papers, the last one closed.
        weight: [N], customers that a row stands for; None is 1 each.

    Returns:
        B bins; `standard_error` is of the observed rate, NaN in a bin of one row.
    """
    score, label, weight = checked("calibration_table", score, label, weight=weight)
    if by not in BINNINGS or bins < 1:
        raise ValueError(f"calibration_table: bins={bins}, by={by!r}; give at least 1 bin, by quantile or width.")
    own = weight > 0
    score, label, weight = score[own], label[own], weight[own]
    groups = group_by_score(score, effect_moments(label, weight))
    if by == "quantile":
        return calibration_table_of(groups, bins)
    if score.min() < 0 or score.max() > 1:
        raise ValueError(
            f"calibration_table: scores run from {score.min():g} to {score.max():g}; bins of equal width are for "
            'probabilities, take by="quantile".'
        )
    number = np.minimum((groups.score * bins).astype(np.int64), bins - 1)
    tables = []
    for b in np.unique(number):
        own = number == b
        tables.append(calibration_table_of(ScoreGroups(groups.score[own], tuple(v[own] for v in groups.sums)), 1))
    return CalibrationTable(*(np.concatenate(column) for column in zip(*tables, strict=True)))


def calibration_error(
    label: np.ndarray,
    score: np.ndarray,
    bins: int = 10,
    by: str = "quantile",
    weight: np.ndarray | None = None,
    debiased: bool = False,
) -> float:
    """Expected calibration error: mean |observed - predicted| over bins, each by its weight.

    Args:
        label, score, bins, by, weight: as in `calibration_table`.
        debiased: corrected bin by bin. NaN where a bin has a single row. Of an error that is all chance it takes off
            some 40 %, of a real one nothing; `error_by_chance` says what to expect of chance.
    """
    errors = calibration_errors(label, score, bins, by, weight)
    return errors.absolute if debiased else errors.absolute_plain


def calibration_errors(
    label: np.ndarray, score: np.ndarray, bins: int = 10, by: str = "quantile", weight: np.ndarray | None = None
) -> CalibrationError:
    """Mean gap (observed less predicted), mean |gap| and mean gap^2, plain and debiased; arguments as above."""
    return errors_of_table(calibration_table(label, score, bins, by, weight))


def error_by_chance(table: CalibrationTable) -> float:
    """Expected calibration error (plain) of a model that is right, on as many customers as these, in these bins.

    An error no larger than this is no reason to doubt the model.
    """
    share = table.weight / table.weight.sum()
    return float((share * table.standard_error).sum() * math.sqrt(2 / math.pi))
