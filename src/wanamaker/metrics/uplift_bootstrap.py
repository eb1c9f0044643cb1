"""Intervals for any score of rows by resampling them, and for the difference of two rankings on the same rows.

Rows are drawn with replacement, within strata where given: an experiment's arms keep their sizes. The same seed draws
the same rows, so scores of one table may be compared draw by draw.

Axis letters: N rows, R draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A score with its percentile interval.

    Attributes:
        value: on all rows.
        low, high: quantiles of the draws, so that `level` of them lie between.
        standard_error: standard deviation of the draws.
        undefined: draws on which the score is NaN (an arm without responders); they are left out of the above.
    """

    value: float
    low: float
    high: float
    standard_error: float
    undefined: int


class Comparison(NamedTuple):
    """Two rankings, and the first less the second.

    Attributes:
        first, second: scores on all rows.
        difference: with its interval, of draws that both rankings share.
        p_value: two-sided, that there is no difference, from the difference over its standard error.
    """

    first: float
    second: float
    difference: Interval
    p_value: float


def bootstrap_interval(
    statistic: Callable[..., float],
    arrays: Sequence[np.ndarray],
    draws: int = 200,
    seed: int = 0,
    stratify: np.ndarray | None = None,
    level: float = 0.9,
) -> Interval:
    """Percentile interval of ``statistic(*arrays)``.

    Args:
        statistic: of arrays with N rows each, such as `qini_sklift`.
        arrays: first axis N, all resampled alike.
        draws: R; 200 for a standard error, 1,000 for the ends of an interval.
        seed: of the draws.
        stratify: int [N]; each value keeps its number of rows. None draws from all.
        level: share of the draws within the interval.

    Raises:
        ValueError: fewer than two draws, a level outside (0, 1), or arrays that disagree in length.
    """
    rows = _resampled_rows(arrays, draws, seed, stratify, level)
    value = float(statistic(*arrays))
    scores = np.array([float(statistic(*(array[row] for array in arrays))) for row in rows])
    return _interval(value, scores, level)


def paired_comparison(
    statistic: Callable[..., float],
    first: np.ndarray,
    second: np.ndarray,
    arrays: Sequence[np.ndarray],
    draws: int = 200,
    seed: int = 0,
    stratify: np.ndarray | None = None,
    level: float = 0.9,
) -> Comparison:
    """Compare two rankings by ``statistic(score, *arrays)`` on the same draws of rows.

    Args:
        first, second: [N], scores of the two.
        arrays: what the statistic reads beside the score.
        statistic, draws, seed, stratify, level: as in `bootstrap_interval`.
    """
    rows = _resampled_rows([first, second, *arrays], draws, seed, stratify, level)
    on_all = [float(statistic(score, *arrays)) for score in (first, second)]
    differences = []
    for row in rows:
        taken = [array[row] for array in arrays]
        differences.append(float(statistic(first[row], *taken)) - float(statistic(second[row], *taken)))
    difference = _interval(on_all[0] - on_all[1], np.array(differences), level)
    return Comparison(*on_all, difference, two_sided_p(difference.value, difference.standard_error))


def two_sided_p(value: float, standard_error: float) -> float:
    """Probability of a normal estimate at least this far from 0 if the truth is 0; NaN without a standard error."""
    from statistics import NormalDist

    if not standard_error > 0:
        return float("nan")
    return 2 * NormalDist().cdf(-abs(value / standard_error))


def _resampled_rows(
    arrays: Sequence[np.ndarray], draws: int, seed: int, stratify: np.ndarray | None, level: float
) -> Iterator[np.ndarray]:
    lengths = {len(array) for array in arrays} | ({len(stratify)} if stratify is not None else set())
    if len(lengths) != 1 or draws < 2 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap: arrays of one length, at least 2 draws and a level in (0, 1) are expected; got lengths "
            f"{sorted(lengths)}, draws={draws}, level={level}."
        )
    num_rows = lengths.pop()
    strata = np.zeros(num_rows, np.int64) if stratify is None else np.unique(stratify, return_inverse=True)[1]
    order = np.argsort(strata, kind="stable")
    size = np.bincount(strata)[strata[order]]
    start = np.searchsorted(strata[order], strata[order])
    return _draw(order, start, size, draws, seed)


def _draw(order: np.ndarray, start: np.ndarray, size: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        # Sorted, a resample of a sorted table stays nearly sorted, and taking its rows stays in the cache.
        yield np.sort(order[start + generator.integers(size)])


def _interval(value: float, scores: np.ndarray, level: float) -> Interval:
    known = scores[~np.isnan(scores)]
    undefined = len(scores) - len(known)
    if len(known) < 2:
        return Interval(value, float("nan"), float("nan"), float("nan"), undefined)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), float(known.std(ddof=1)), undefined)
