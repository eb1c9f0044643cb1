"""What S draws say together: a centre and intervals, named alike in every table.

Axis letters: S posterior draws or ensemble members.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LEVELS = (50, 90)
"""Central intervals that tables show, in per cent."""


def interval_columns(name: str, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Columns `name`, `name_low_90`, `name_low_50`, `name_high_50`, `name_high_90`.

    The centre is the mean over the draws, so that centres of parts still add up to the centre of their sum. The bounds
    are quantiles. One draw tells nothing about its own uncertainty: its bounds are NaN rather than the centre again.

    Args:
        name: of the quantity.
        draws: float [S, ...]; an entry that is NaN in any draw is NaN in every column.

    Returns:
        Arrays [...] by column name.
    """
    draws = np.asarray(draws, np.float64)
    low_high = [(f"{name}_low_{level}", 50 - level / 2) for level in reversed(LEVELS)]
    low_high += [(f"{name}_high_{level}", 50 + level / 2) for level in LEVELS]
    columns = {name: draws.mean(axis=0)}
    if len(draws) == 1:
        # [()] makes a number of an array without axes, as the mean above is one: a cell of a table can hold no array.
        return columns | {column: np.full(draws.shape[1:], np.nan)[()] for column, _ in low_high}
    bounds = np.percentile(draws, [q for _, q in low_high], axis=0)
    return columns | {column: bound for (column, _), bound in zip(low_high, bounds, strict=True)}


def probability_above(draws: np.ndarray, limit: float = 0.0) -> np.ndarray:
    """Share of the draws [S, ...] above ``limit``; a draw that equals it counts half (so that "no change" is 0.5)."""
    draws = np.asarray(draws, np.float64)
    share = ((draws > limit) + 0.5 * (draws == limit)).mean(axis=0)
    return np.where(np.isnan(draws).any(axis=0), np.nan, share)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``above / below``, NaN (never infinity) where ``below`` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def interval_text(row: Mapping[str, float], name: str, level: int = 90, digits: int = 0) -> str:
    """ "1,200 (1,050 to 1,340)" of the columns that `interval_columns` made; without bounds where there are none."""
    low, high = row[f"{name}_low_{level}"], row[f"{name}_high_{level}"]
    centre = f"{row[name]:,.{digits}f}"
    return centre if not np.isfinite(low) else f"{centre} ({low:,.{digits}f} to {high:,.{digits}f})"
