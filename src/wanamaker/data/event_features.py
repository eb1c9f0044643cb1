"""What the events before a moment say about a customer, as numbers.

Every function is given the events with their positions and looks at `first` to `stop - 1` of each position alone, so
that nothing which became known at the moment or later can move a feature.

An order is the lines of one customer with the same time and order number; without order numbers, every purchase.

Axis letters: P positions, E events, O orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.event_bucket import first_at, over_segments
from wanamaker.data.event_history import History, Positions
from wanamaker.data.event_tasks import DAY, MOST_DAYS
from wanamaker.errors import UserError

GROUPS = ("rfm", "intervals", "momentum", "recent", "types", "columns")
WINDOWS = (7, 30, 90)
COUNT = "count of "  # a type of event


@dataclass(frozen=True)
class FeatureOptions:
    """Which features there are.

    Attributes:
        groups: of `GROUPS`.
        purchases: types of events that are orders; () is every type.
        amount: column of money, or None.
        order: column of order numbers, or None.
        numeric, categorical: further columns of events.
        windows: days that "recent" looks back.
        types: every type of the log, for "types".
    """

    groups: tuple[str, ...]
    purchases: tuple[str, ...]
    amount: str | None
    order: str | None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    windows: tuple[int, ...] = WINDOWS
    types: tuple[str, ...] = ()


def parse_groups(groups: Sequence[str], windows: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The groups and windows of a data config.

    Raises:
        UserError: a group that there is not, or a window that is no number of days.
    """
    chosen = (groups,) if isinstance(groups, str) else tuple(groups or ())
    for group in chosen:
        if group not in GROUPS:
            raise UserError(f"data.features names {group!r}; choose from {', '.join(GROUPS)}.")
    for days in windows:
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
            raise UserError(f"data.windows holds {days!r}; give whole numbers of days, such as [7, 30, 90].")
    return chosen, tuple(windows)


@dataclass(frozen=True)
class Orders:
    """Orders in the order of customers and time.

    Attributes:
        time: int64 [O]. amount: float64 [O].
        gap: float64 [O], days since the customer's order before; NaN for their first.
        before: int64 [E + 1], how many orders begin among the first events.
    """

    time: np.ndarray
    amount: np.ndarray
    gap: np.ndarray
    before: np.ndarray


def orders_of(history: History, options: FeatureOptions) -> Orders:
    """The orders of a history."""
    counted = np.ones(len(history.time), bool)
    if options.purchases:
        known = [i for i, name in enumerate(history.type.values) if name in options.purchases]
        counted = np.isin(history.type.code, known)
    lines = np.flatnonzero(counted)
    owner, time = history.owner[lines], history.time[lines]
    begins = np.ones(len(lines), bool)
    if options.order is not None:
        number = history.names[options.order].code[lines]
        begins[1:] = (np.diff(owner) != 0) | (np.diff(time) != 0) | (np.diff(number) != 0)
    at = np.flatnonzero(begins)
    amount = np.zeros(len(at))
    if options.amount is not None and len(at):
        amount = np.add.reduceat(np.nan_to_num(history.numbers[options.amount][lines]), at)
    owner, time = owner[at], time[at]
    gap = np.full(len(at), np.nan)
    gap[1:] = np.where(np.diff(owner) == 0, np.diff(time) / DAY, np.nan)
    starts = np.zeros(len(counted) + 1, np.int64)
    starts[lines[at] + 1] = 1
    return Orders(time, amount, gap, np.cumsum(starts))


@dataclass(frozen=True)
class _View:
    """What the groups look at; low and high are each position's orders."""

    history: History
    positions: Positions
    orders: Orders
    low: np.ndarray
    high: np.ndarray
    options: FeatureOptions

    @property
    def count(self) -> np.ndarray:
        return self.high - self.low

    def of_last(self, values: np.ndarray) -> np.ndarray:
        """A number of each position's last order; NaN without one."""
        return _picked(values, self.high - 1, self.count > 0)


def event_features(history: History, positions: Positions, options: FeatureOptions) -> dict[str, np.ndarray]:
    """Name -> float64 [P]; NaN where a number means nothing (the gap between orders of who has one)."""
    orders = orders_of(history, options)
    low, high = orders.before[positions.first], orders.before[positions.stop]
    view = _View(history, positions, orders, low, high, options)
    found: dict[str, np.ndarray] = {}
    for group in options.groups:
        found |= _COMPUTED[group](view)
    return found


def last_words(history: History, positions: Positions, options: FeatureOptions) -> dict[str, tuple[Any, Any]]:
    """Name -> (int64 [P] numbers of words, words) of the last known event, "" where there is none."""
    if "columns" not in options.groups:
        return {}
    found = {}
    for name in options.categorical:
        words = history.names[name]
        code = _picked(words.code, positions.stop - 1, positions.stop > positions.first, len(words.values))
        found[f"last {name}"] = (code.astype(np.int64), (*words.values, ""))
    return found


def _rfm(view: _View) -> dict[str, np.ndarray]:
    p, orders, count = view.positions, view.orders, view.count
    first_event = _picked(view.history.time, p.first, p.stop > p.first)
    first_order = _picked(orders.time, view.low, count > 0)
    last_order = view.of_last(orders.time)
    found = {
        "tenure_days": (p.moment - first_event) / DAY,
        "days_since_last_event": p.since(view.history),
        "events": (p.stop - p.first).astype(np.float64),
        "orders": count.astype(np.float64),
        "days_since_last_order": (p.moment - last_order) / DAY,
        "days_since_first_order": (p.moment - first_order) / DAY,
        "days_first_to_last_order": (last_order - first_order) / DAY,
    }
    if view.options.amount is not None:
        spend = over_segments(np.add, orders.amount, view.low, view.high, 0.0)
        found |= {
            "spend": spend,
            "spend_per_order": spend / np.where(count > 0, count, np.nan),
            "smallest_order": over_segments(np.minimum, orders.amount, view.low, view.high, np.nan),
            "largest_order": over_segments(np.maximum, orders.amount, view.low, view.high, np.nan),
            "last_order": view.of_last(orders.amount),
        }
    return found


def _intervals(view: _View) -> dict[str, np.ndarray]:
    gap, low = np.nan_to_num(view.orders.gap), np.minimum(view.low + 1, view.high)
    number = view.high - low
    some = np.where(number > 0, number, np.nan)
    mean = over_segments(np.add, gap, low, view.high, 0.0) / some
    square = over_segments(np.add, gap**2, low, view.high, 0.0) / some
    last = view.of_last(view.orders.time)
    return {
        "days_between_orders": mean,
        "days_between_orders_sd": np.sqrt(np.maximum(square - mean**2, 0)),
        "days_between_orders_trend": _slope(gap, low, view.high),
        "last_days_between_orders": _picked(gap, view.high - 1, number > 0),
        "gap_over_mean": (view.positions.moment - last) / DAY / np.where(mean > 0, mean, np.nan),
    }


def _momentum(view: _View) -> dict[str, np.ndarray]:
    if view.options.amount is None:
        return {}
    amount, count = view.orders.amount, view.count
    mean = over_segments(np.add, amount, view.low, view.high, 0.0) / np.where(count > 0, count, np.nan)
    return {
        "order_momentum": _slope(amount, view.low, view.high),
        "last_order_over_mean": view.of_last(amount) / np.where(mean != 0, mean, np.nan),
    }


def _recent(view: _View) -> dict[str, np.ndarray]:
    p, found = view.positions, {}
    for days in view.options.windows:
        begin = p.stop
        if len(view.history.time):
            begin = first_at(view.history.time, p.first, p.stop, p.moment - days * DAY)
        low = view.orders.before[begin]
        found[f"events_{days}d"] = (p.stop - begin).astype(np.float64)
        found[f"orders_{days}d"] = (view.high - low).astype(np.float64)
        if view.options.amount is not None:
            found[f"spend_{days}d"] = over_segments(np.add, view.orders.amount, low, view.high, 0.0)
    return found


def _types(view: _View) -> dict[str, np.ndarray]:
    p, kind, found = view.positions, view.history.type, {}
    total = np.where(p.stop > p.first, p.stop - p.first, np.nan)
    for name in view.options.types:
        mine = kind.code == (kind.values.index(name) if name in kind.values else -1)
        so_far = np.concatenate([[0], np.cumsum(mine)])
        count = (so_far[p.stop] - so_far[p.first]).astype(np.float64)
        latest = np.maximum.accumulate(np.where(mine, np.arange(len(mine)), -1)) if len(mine) else mine
        last = _picked(latest, p.stop - 1, p.stop > p.first, -1).astype(np.int64)
        when = _picked(view.history.time, last, last >= p.first)
        found[COUNT + name] = count
        found[f"share of {name}"] = count / total
        found[f"days since {name}"] = (p.moment - when) / DAY
    return found


def _columns(view: _View) -> dict[str, np.ndarray]:
    p, found = view.positions, {}
    for name in view.options.numeric:
        values = view.history.numbers[name]
        there = np.isfinite(values)
        so_far = np.concatenate([[0], np.cumsum(there)])
        number = so_far[p.stop] - so_far[p.first]
        total = over_segments(np.add, np.where(there, values, 0.0), p.first, p.stop, 0.0)
        found[f"mean {name}"] = total / np.where(number > 0, number, np.nan)
        found[f"last {name} value"] = _picked(values, p.stop - 1, p.stop > p.first)
    for name in view.options.categorical:
        found[f"different {name}"] = _different(view.history, view.history.names[name].code, p)
    return found


def _different(history: History, code: np.ndarray, p: Positions) -> np.ndarray:
    """How many different words there were, float64 [P]."""
    owner = history.owner
    order = np.lexsort((np.arange(len(code)), code, owner))
    repeat = np.zeros(len(code), bool)
    repeat[1:] = (np.diff(owner[order]) == 0) & (np.diff(code[order]) == 0)
    new = np.empty(len(code), bool)
    new[order] = ~repeat
    so_far = np.concatenate([[0], np.cumsum(new)])
    return (so_far[p.stop] - so_far[p.first]).astype(np.float64)


def _slope(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Least-squares slope over 0, 1, 2, ... of each segment, float64 [P]; NaN for fewer than two values."""
    n = (high - low).astype(np.float64)
    place = np.arange(len(values))
    total = over_segments(np.add, values, low, high, 0.0)
    moment = over_segments(np.add, values * place, low, high, 0.0) - (low + (n - 1) / 2) * total
    return moment / np.where(n > 1, n * (n**2 - 1) / 12, np.nan)


def _picked(values: np.ndarray, place: np.ndarray, there: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """values[place] where there is such a place, else `empty`; float64 [P]."""
    if not len(values):
        return np.full(len(place), empty, np.float64)
    return np.where(there, values[np.clip(place, 0, len(values) - 1)].astype(np.float64), empty)


_COMPUTED: Mapping[str, Any] = {
    "rfm": _rfm,
    "intervals": _intervals,
    "momentum": _momentum,
    "recent": _recent,
    "types": _types,
    "columns": _columns,
}
