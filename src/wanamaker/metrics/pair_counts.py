"""How much weight lies beyond each row in two numbers at once: what concordance and Kendall's tau count.

Axis letters: N rows, Q rows that ask.
"""

from __future__ import annotations

import numpy as np


def weight_beyond(
    key: np.ndarray, value: np.ndarray, weight: np.ndarray, ask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the rows of larger key that have a larger, and the same, value.

    Rows are compared by the binary digits of their keys: a key is larger than another just if, at the first digit in
    which they differ, it has a 1. One sort of the rows per digit: O(N log N log K) for K distinct keys.

    Args:
        key, value: [N], comparable numbers, no NaN.
        weight: float64 [N].
        ask: bool [N], the rows that are asked for; None is all.

    Returns:
        float64 [Q] each: larger value, same value.
    """
    rank = np.unique(key, return_inverse=True)[1].astype(np.int64)
    place = np.unique(value, return_inverse=True)[1].astype(np.int64)
    places = int(place.max(initial=0)) + 1
    asked = np.arange(len(rank)) if ask is None else np.flatnonzero(ask)
    above, same = np.zeros(len(asked)), np.zeros(len(asked))
    for digit in range(int(rank.max(initial=0)).bit_length()):
        block = rank >> digit
        # Rows whose digit is 0 are below those of the next block, which share their higher digits.
        lower = block[asked] % 2 == 0
        if not lower.any():
            continue
        upper = np.flatnonzero(block % 2 == 1)
        spot = block[upper] * places + place[upper]
        order = np.argsort(spot, kind="stable")
        spot, passed = spot[order], np.concatenate([[0.0], np.cumsum(weight[upper][order])])
        row = asked[lower]
        start = (block[row] + 1) * places
        left, right, end = (np.searchsorted(spot, start + offset) for offset in (place[row], place[row] + 1, places))
        above[lower] += passed[end] - passed[right]
        same[lower] += passed[right] - passed[left]
    return above, same
