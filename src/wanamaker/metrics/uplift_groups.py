"""Sums over the customers that share a score: what every uplift score needs, whether from rows or from a histogram.

A ranking says nothing about the order of customers with the same score, so a curve may be cut only between distinct
scores. Summing such customers first makes every score independent of the order of rows, turns ties and weights into
the same thing, and lets a histogram (scores rounded, then summed) run through the code that is exact for rows.

Axis letters: N rows, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class ScoreGroups(NamedTuple):
    """Sums per distinct score.

    Attributes:
        score: float64 [G], descending.
        sums: arrays of float64 [G], as many as were given to `group_by_score`, in its order.
    """

    score: np.ndarray
    sums: tuple[np.ndarray, ...]


def group_by_score(score: np.ndarray, values: Iterable[np.ndarray]) -> ScoreGroups:
    """Sum each of ``values`` over the rows that share a score.

    Args:
        score: float64 [N], finite.
        values: float64 [N] each; taken one after the other, so that a generator needs the memory of one.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=np.inf))
    return ScoreGroups(ordered[starts], tuple(np.add.reduceat(value[order], starts) for value in values))


def join_groups(parts: Sequence[ScoreGroups]) -> ScoreGroups:
    """Groups of all parts, the same scores added."""
    columns = zip(*(part.sums for part in parts), strict=True)
    return group_by_score(np.concatenate([part.score for part in parts]), map(np.concatenate, columns))


def rounded_scores(score: np.ndarray, bits: int) -> np.ndarray:
    """Scores rounded to ``bits`` binary digits after the leading one: by a share 2^-(bits + 1) at most.

    No range has to be known beforehand, and ranks that have never met round alike.

    Args:
        score: floating [N].
        bits: from 0 to 22, float32 having 23.

    Returns:
        float64 [N].
    """
    drop = np.uint32(23 - bits)
    # A carry out of the digits goes into the exponent, which is where it belongs.
    pattern = np.asarray(score, np.float32).view(np.uint32) + (np.uint32(1) << (drop - np.uint32(1)))
    return ((pattern >> drop) << drop).view(np.float32).astype(np.float64) + 0.0  # -0.0 becomes 0.0


def checked(name: str, score: np.ndarray, *columns: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
    """Score, columns and weight as float64 [N], once they are known to be finite and of one length.

    Args:
        name: of the function that asks, for the message.
        weight: None counts every row once.

    Raises:
        ValueError: no rows, different lengths, values that are not finite, or a negative weight.
    """
    arrays = [np.asarray(array, np.float64) for array in (score, *columns)]
    arrays.append(np.ones(len(arrays[0])) if weight is None else np.asarray(weight, np.float64))
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1 or len(arrays[0]) == 0:
        raise ValueError(f"{name}: one value per row is expected for at least one row, shapes are {shapes}.")
    for array in arrays:
        if not np.isfinite(array).all():
            i = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(f"{name}: row {i} has the value {array[i]}; leave out rows that are not known.")
    if arrays[-1].min() < 0 or arrays[-1].sum() == 0:
        raise ValueError(f"{name}: weights must not be negative, and not all 0; the smallest is {arrays[-1].min()}.")
    return arrays
