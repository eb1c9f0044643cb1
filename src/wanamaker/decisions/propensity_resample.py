"""Intervals of scores by drawing customers again, with all their positions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np

_MOST = 20_000  # positions per draw; more would only make the report slow


def resampled(customer: np.ndarray, draws: int, seed: int) -> Iterator[tuple[np.ndarray, float]]:
    """Rows of each draw, and by how much the spread of what is computed on them is to be multiplied.

    Customers are drawn with replacement, a customer with all its rows. Of more than 20,000 rows each draw takes about
    that many; its spread is then shrunk by the square root of the share drawn (m out of n bootstrap: Bickel, Götze and
    van Zwet, Statistica Sinica 7, 1997).

    Args:
        customer: int64 [M], who a row belongs to.
        draws: how many.
        seed: the same seed draws the same customers.
    """
    rng = np.random.default_rng(seed)
    _, number, counts = np.unique(customer, return_inverse=True, return_counts=True)
    order, first = np.argsort(number, kind="stable"), np.cumsum(counts) - counts
    K = len(counts)
    take = max(1, round(K * min(1.0, _MOST / len(customer))))
    for _ in range(draws):
        drawn = rng.integers(0, K, take)
        lengths = counts[drawn]
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield order[np.repeat(first[drawn], lengths) + inside], float(np.sqrt(take / K))


def interval(
    statistic: Callable[[np.ndarray], float], customer: np.ndarray, draws: int, seed: int, level: float
) -> tuple[float, float, float]:
    """A score of rows, with the interval that holds ``level`` of the draws; NaN where too few draws define it.

    Args:
        statistic: of rows (int64 [m]).
        customer: int64 [M].
        draws, seed: of `resampled`.
        level: in (0, 1).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of one class is not defined: it is counted below
        value = float(statistic(np.arange(len(customer))))
        found = []
        for rows, shrink in resampled(customer, draws, seed):
            drawn = float(statistic(rows))
            found.append(value + shrink * (drawn - value))
    defined = np.array([v for v in found if np.isfinite(v)])
    if len(defined) < draws / 2:
        return value, float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return value, float(low), float(high)
