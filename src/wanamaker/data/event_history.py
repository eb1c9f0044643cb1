"""The events of a bucket as numbers, in the order in which they became known, and the positions that look at them.

Axis letters: N customers, E events, P positions, A as-of dates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.event_bucket import EventBucket, first_at
from wanamaker.data.event_roles import EventRoles
from wanamaker.data.event_tasks import DAY

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Names:
    """A column of words as numbers.

    Attributes:
        code: int32 [E], index into `values`.
        values: sorted; "" is an empty cell.
    """

    code: np.ndarray
    values: tuple[str, ...]

    def take(self, places: np.ndarray) -> Names:
        """Some events; the words stay."""
        return Names(self.code[places], self.values)


@dataclass(frozen=True)
class History:
    """Events by customer, those of a customer by time.

    Events of one customer at one time stand in the order of what they say, so that nothing depends on the order of the
    rows of the log.

    Attributes:
        offsets: int64 [N + 1]; events offsets[n] to offsets[n + 1] - 1 are those of customer n.
        time: int64 [E], microseconds since 1970, when it became known.
        type: what happened.
        names: column -> words; numbers: column -> float64 [E].
    """

    offsets: np.ndarray
    time: np.ndarray
    type: Names
    names: dict[str, Names]
    numbers: dict[str, np.ndarray]

    @property
    def owner(self) -> np.ndarray:
        """Number of each event's customer, int64 [E]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def taken(self, order: np.ndarray, time: np.ndarray) -> History:
        """The same events in another order within their customers.

        Args:
            order: int64 [E]. time: int64 [E], in the old order.
        """
        return replace(
            self,
            time=time[order],
            type=self.type.take(order),
            names={name: words.take(order) for name, words in self.names.items()},
            numbers={name: values[order] for name, values in self.numbers.items()},
        )


def names_of(column: pa.Array | np.ndarray) -> Names:
    """A column of words; the numbers of words do not depend on the order of the rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    codes = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    words = np.array([*pc.fill_null(array.dictionary, "").to_pylist(), ""], dtype=object).astype(str)
    used = np.unique(codes)
    values, place = np.unique(words[used], return_inverse=True)
    table = np.zeros(len(words), np.int32)
    table[used] = place
    return Names(table[codes], tuple(values.tolist()))


def numbers_in(column: Any) -> np.ndarray:
    """A column of numbers as float64 [E]; NaN where a cell is empty."""
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(pa.float64()).to_numpy(zero_copy_only=False)


def microseconds(column: Any) -> np.ndarray:
    """A column of times as int64 [E]."""
    values = column if isinstance(column, np.ndarray) else column.to_numpy(zero_copy_only=False)
    return values.astype("datetime64[us]").astype(np.int64)


def histories(bucket: EventBucket, roles: EventRoles) -> tuple[History, History]:
    """The events of a bucket as they became known, and as they happened (the same object where that is the same)."""
    columns, E = bucket.columns, bucket.num_events
    kind = names_of(columns[roles.type]) if roles.type else Names(np.zeros(E, np.int32), (roles.event,))
    apart = {roles.time, roles.available_at, roles.type, *roles.numbers()}
    history = History(
        offsets=bucket.offsets,
        time=microseconds(columns[roles.time]),
        type=kind,
        names={name: names_of(column) for name, column in columns.items() if name not in apart},
        numbers={name: numbers_in(columns[name]) for name in roles.numbers()},
    )
    happened = _settled(history, history.time, roles)
    if roles.available_at is None:
        return happened, happened
    # What was told before it happened (a booking) counts from when it happened, or labels would be known.
    known = np.maximum(microseconds(columns[roles.available_at]), history.time)
    return _settled(history, known, roles), happened


def _settled(history: History, time: np.ndarray, roles: EventRoles) -> History:
    """By customer and time, then by what the events say: the order number first, so that lines of an order meet."""
    owner = history.owner
    tied = (np.diff(owner) == 0) & (np.diff(time) == 0)
    if not tied.any() and not ((np.diff(owner) == 0) & (np.diff(time) < 0)).any():
        return replace(history, time=time)
    first = [history.names[roles.order].code] if roles.order else []
    words = [history.names[name].code for name in sorted(history.names) if name != roles.order]
    numbers = [history.numbers[name] for name in sorted(history.numbers)]
    keys = [*reversed([*first, history.type.code, *words, *numbers]), time, owner]
    return history.taken(np.lexsort(keys), time)


@dataclass(frozen=True)
class Positions:
    """Customers at moments, by customer and moment.

    Attributes:
        customer: int64 [P], number in the bucket.
        moment: int64 [P], microseconds since 1970.
        first, stop: int64 [P]; events first to stop - 1 of the history were known then.
        start: int64 [P]; a sequence model sees events start to stop - 1 of these.
    """

    customer: np.ndarray
    moment: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)

    def since(self, history: History) -> np.ndarray:
        """Days from the last known event to the moment, float64 [P]; NaN where there is none."""
        if not len(history.time):
            return np.full(len(self), np.nan)
        last = history.time[np.maximum(self.stop - 1, 0)]
        return np.where(self.stop > self.first, (self.moment - last) / DAY, np.nan)


def positions_at(
    history: History,
    moments: np.ndarray,
    known_from: np.ndarray,
    until: tuple[str, ...] = (),
    days: float | None = None,
    events: int | None = None,
) -> Positions:
    """Every customer at every as-of date by which they are known.

    Args:
        history: as it became known.
        moments: int64 [A], microseconds since 1970; events of `time < moment` are known.
        known_from: int64 [N], from when customers are known without an event; the largest int64: never.
        until: types of events after which a customer is asked nothing any more.
        days, events: see `windowed`.
    """
    N, A = len(history.offsets) - 1, len(moments)
    customer, moment = np.repeat(np.arange(N), A), np.tile(moments, N)
    first, end = history.offsets[customer], history.offsets[customer + 1]
    stop = first_at(history.time, first, end, moment) if len(history.time) else first
    there = (stop > first) | (known_from[customer] < moment)
    if until:
        over = np.isin(history.type.code, [i for i, name in enumerate(history.type.values) if name in until])
        so_far = np.concatenate([[0], np.cumsum(over)])
        there &= so_far[stop] == so_far[first]
    kept = np.flatnonzero(there)
    return windowed(history, customer[kept], moment[kept], stop[kept], days, events)


def windowed(
    history: History,
    customer: np.ndarray,
    moment: np.ndarray,
    stop: np.ndarray,
    days: float | None = None,
    events: int | None = None,
) -> Positions:
    """Positions whose sequences hold the latest events only.

    Args:
        history: as it became known.
        customer, moment, stop: int64 [P].
        days: that a sequence reaches back; None: to the first event.
        events: that a sequence has at most; None: all.
    """
    first = history.offsets[customer]
    start = first
    if days is not None and len(history.time):
        start = first_at(history.time, first, stop, moment - int(days * DAY))
    if events is not None:
        start = np.maximum(start, stop - events)
    return Positions(customer, moment, first, stop, start)
