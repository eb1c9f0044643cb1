"""Events of some customers as arrays, in the order of customers and time.

A log that fits in memory is one bucket; a larger one is many, each holding all events of its customers.

Axis letters: N customers, E events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


class EventBucket(NamedTuple):
    """All events of some customers.

    Attributes:
        ids: int64 or objects (str) [N], ascending, each once.
        offsets: int64 [N + 1]; events offsets[n] to offsets[n + 1] - 1 are those of customer n.
        columns: column of the log -> its E events, sorted by customer and time. The time is datetime64[us], numbers and
            names are Arrow arrays (or NumPy ones).
    """

    ids: np.ndarray
    offsets: np.ndarray
    columns: dict[str, np.ndarray | pa.Array]

    @property
    def num_events(self) -> int:
        """E."""
        return int(self.offsets[-1])

    @property
    def owner(self) -> np.ndarray:
        """Number of each event's customer, int64 [E]."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))


def bucket_of(identifiers: np.ndarray, time: np.ndarray, columns: dict[str, pa.Array], name: str) -> EventBucket:
    """Sort events by customer and time; events of one customer at one time keep their order.

    Args:
        identifiers: int64 or objects [E].
        time: datetime64[us] [E].
        columns: further columns, [E] each.
        name: of the time column.
    """
    import pandas as pd

    code, ids = pd.factorize(identifiers, sort=True)
    order = np.lexsort((time, code))
    counts = np.bincount(code, minlength=len(ids))
    sorted_columns = {key: column.take(order) for key, column in columns.items()}
    return EventBucket(
        ids=np.asarray(ids),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        columns={name: time[order], **sorted_columns},
    )


def first_at(time: np.ndarray, low: np.ndarray, high: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """First place in [low, high) whose time is not before a moment, or `high`; a bisection of all at once.

    Args:
        time: [E], ascending within every [low, high).
        low, high: int64 [P].
        moment: [P], of time's type.

    Returns:
        int64 [P].
    """
    low, high = low.astype(np.int64), high.astype(np.int64)  # copies
    while (open_ := low < high).any():
        middle = (low + high) // 2
        before = open_ & (time[np.minimum(middle, len(time) - 1)] < moment)
        low = np.where(before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


def over_segments(
    operation: np.ufunc, values: np.ndarray, low: np.ndarray, high: np.ndarray, empty: float
) -> np.ndarray:
    """An operation over values[low:high] of each segment, float64 [P]; `empty` where there are none.

    Args:
        operation: np.add, np.maximum, ...
        values: [E].
        low, high: int64 [P]; segments may overlap.
        empty: of a segment without values.
    """
    if not len(low):
        return np.empty(0)
    padded = np.append(values.astype(np.float64), 0.0)  # `high` may be E, which reduceat does not take
    found = operation.reduceat(padded, np.stack([low, high], axis=1).ravel())[::2]
    return np.where(low < high, found, empty)
