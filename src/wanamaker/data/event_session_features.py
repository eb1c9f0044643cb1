"""What is known in the middle of a session: of itself so far, of its user before it, and of the product in view.

Everything counts what happened strictly before the moment (of users: before the session began), but for the session's
own events, of which the position's own is the last one.

Axis letters: P positions, E events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wanamaker.data.event_bucket import first_at, over_segments
from wanamaker.data.event_features import COUNT
from wanamaker.data.event_history import History, Positions
from wanamaker.data.event_tasks import DAY

GROUPS = ("session", "user", "product")
_MINUTE = DAY / 1440


def session_features(
    history: History, positions: Positions, product: str | None, price: str | None, types: Sequence[str]
) -> dict[str, np.ndarray]:
    """Name -> float64 [P].

    Args:
        history: of the sessions. positions: after their events.
        product, price: columns, or None.
        types: of events to count.
    """
    first, stop = positions.first, positions.stop
    here, begin = history.time[stop - 1], history.time[first]
    before = history.time[np.maximum(stop - 2, 0)]
    found = {
        "events so far": (stop - first).astype(np.float64),
        "minutes so far": (here - begin) / _MINUTE,
        "minutes since the event before": np.where(stop - first > 1, (here - before) / _MINUTE, np.nan),
        "hour": (here % DAY) / (DAY / 24),
        "weekday": ((here // DAY + 3) % 7).astype(np.float64),  # day 0 was a Thursday; Monday is 0
    }
    for name in types:
        mine = _is(history, name)
        so_far = np.concatenate([[0], np.cumsum(mine)])
        found[COUNT + name] = (so_far[stop] - so_far[first]).astype(np.float64)
    if product is not None:
        code, owner = history.names[product].code, history.owner
        order = np.lexsort((np.arange(len(code)), code, owner))
        again = np.zeros(len(code), bool)
        again[1:] = (np.diff(owner[order]) == 0) & (np.diff(code[order]) == 0)
        new = np.empty(len(code), bool)
        new[order] = ~again
        so_far = np.concatenate([[0], np.cumsum(new)])
        found["products so far"] = (so_far[stop] - so_far[first]).astype(np.float64)
        start = np.flatnonzero(~again)
        run = np.empty(len(code), np.int64)
        run[order] = np.arange(len(code)) - np.repeat(start, np.diff(np.append(start, len(code)))) + 1
        found["times this product so far"] = run[stop - 1].astype(np.float64)
    if price is not None:
        values = history.numbers[price]
        there = np.isfinite(values)
        so_far = np.concatenate([[0], np.cumsum(there)])
        number = (so_far[stop] - so_far[first]).astype(np.float64)
        total = over_segments(np.add, np.where(there, values, 0.0), first, stop, 0.0)
        found["price in view"] = values[stop - 1]
        found["mean price so far"] = total / np.where(number > 0, number, np.nan)
        found["highest price so far"] = np.where(
            number > 0, over_segments(np.maximum, np.where(there, values, -np.inf), first, stop, -np.inf), np.nan
        )
    return found


def user_features(history: History, positions: Positions, user: str, target: str) -> dict[str, np.ndarray]:
    """What the user did before the session began; name -> float64 [P], NaN for sessions without a user.

    Args:
        history: of all sessions. positions: after their events.
        user: column. target: type of event that is foretold.
    """
    events = _Apart(history, history.names[user].code)
    code = history.names[user].code[positions.first]
    known = np.array([value != "" for value in history.names[user].values], bool)[code]
    begin = history.time[positions.first]
    low, high = events.before(code, begin)
    begins = np.zeros(len(history.time), bool)
    begins[history.offsets[:-1][np.diff(history.offsets) > 0]] = True
    last = events.time[np.maximum(high - 1, 0)] if len(events.time) else begin
    found = {
        "earlier sessions": events.count(begins, low, high),
        "earlier events": (high - low).astype(np.float64),
        f"earlier {target}": events.count(_is(history, target), low, high),
        "days since earlier sessions": np.where(high > low, (begin - last) / DAY, np.nan),
    }
    return {name: np.where(known, values, np.nan) for name, values in found.items()}


def product_features(
    history: History, positions: Positions, product: str, types: Sequence[str]
) -> dict[str, np.ndarray]:
    """How often each type of event met the product in view before, in all sessions; name -> float64 [P].

    Args:
        history: of all sessions. positions: after their events.
        product: column. types: of events.
    """
    events = _Apart(history, history.names[product].code)
    code = history.names[product].code[positions.stop - 1]
    known = np.array([value != "" for value in history.names[product].values], bool)[code]
    low, high = events.before(code, positions.moment)
    found = {f"{name} of the product before": events.count(_is(history, name), low, high) for name in types}
    return {name: np.where(known, values, np.nan) for name, values in found.items()}


class _Apart:
    """Events by another owner (a user, a product) and time.

    Args:
        history: whose events.
        code: int [E], number of each event's owner.
    """

    def __init__(self, history: History, code: np.ndarray) -> None:
        self.order = np.lexsort((history.time, code))
        self.time = history.time[self.order]
        self.offsets = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=1))])

    def before(self, code: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last + 1 place of the events of owners [P] strictly before moments [P]."""
        low = self.offsets[code]
        return low, first_at(self.time, low, self.offsets[code + 1], moment)

    def count(self, mask: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """How many events of a mask [E] lie in each stretch, float64 [P]."""
        so_far = np.concatenate([[0], np.cumsum(mask[self.order])])
        return (so_far[high] - so_far[low]).astype(np.float64)


def _is(history: History, name: str) -> np.ndarray:
    values = history.type.values
    return history.type.code == (values.index(name) if name in values else -1)
