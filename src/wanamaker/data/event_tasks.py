"""What is asked about customers of an event log: tasks of a recipe, and their answers after a moment.

Axis letters: P positions, E events, T tasks, N customers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.column_names import check_task_names, column_name, one_or_more
from wanamaker.data.event_bucket import over_segments
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import TASK_KINDS, Task
from wanamaker.errors import UserError

DAY = 86_400_000_000  # microseconds
MOST_DAYS = 100_000  # of any length of time in a recipe
DAYS_OF = {"hours": 1 / 24, "days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
_DEFAULTS = {
    "name": None,
    "kind": None,
    "event": None,
    "without": None,
    "within": None,
    "sum": None,
    "count": False,
    "edges": (),
    "unit": None,
    "once": False,
}


@dataclass(frozen=True)
class EventTask:
    """A question to the events after a moment.

    Attributes:
        task: what the model is told.
        events: types that count; () is every type.
        without: the answer of a binary task is that none of them happens.
        sum: column whose values are added up; None: events are counted.
        days: how far it looks; of a hazard, its last edge.
        once: asked only of customers who had none of `events` before.
    """

    task: Task
    events: tuple[str, ...]
    without: bool
    sum: str | None
    days: float
    once: bool


def parse_tasks(
    tasks: Sequence[Mapping[str, Any]], numbers: Sequence[str], amount: str | None = None
) -> tuple[EventTask, ...]:
    """Tasks of a data config.

    Args:
        tasks: `{name: churn, kind: hazard, event: cancel, edges: [30, 60, 90], unit: days}`: time to the first such
            event; `{name: lapse, kind: binary, without: purchase, within: 90}`: none in 90 days; `{..., kind: binary,
            event: purchase, within: 30}`; `{..., kind: value, event: purchase, sum: amount, within: 273, unit: USD}`;
            `{..., kind: regression, event: purchase, count: true, within: 90}`. `once: true` leaves out those who had
            the event before. No `event`: any type.
        numbers: columns that may be added up.
        amount: the one that `sum: amount` means.

    Raises:
        UserError: naming the task and its key.
    """
    if isinstance(tasks, Mapping) or not isinstance(tasks, Sequence) or not tasks:
        raise UserError(
            f"data.tasks={tasks!r}; list what is to be foretold, such as [{{name: lapse, kind: binary, without:"
            " purchase, within: 90}]."
        )
    found = tuple(_task(f"data.tasks[{i}]", given, numbers, amount) for i, given in enumerate(tasks))
    check_task_names("data.tasks", [one.task.name for one in found])
    return found


def is_days(value: Any, zero: bool = False) -> bool:
    """Whether a value of a recipe is a length of time in days that there can be: finite, above 0 (or 0)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return 0 <= value <= MOST_DAYS and (zero or value > 0)


def _task(place: str, given: Mapping[str, Any], numbers: Sequence[str], amount: str | None) -> EventTask:
    o = options_of(place, given, _DEFAULTS, ("name", "kind"))
    if o["sum"] == "amount" and amount is not None:
        o["sum"] = amount
    if o["kind"] not in TASK_KINDS:
        raise UserError(f"{place}.kind={o['kind']!r}; choose from {', '.join(TASK_KINDS)}.")
    if o["event"] is not None and o["without"] is not None:
        raise UserError(f"{place} has both event and without; keep one: what happens, or what does not.")
    if o["without"] is not None and o["kind"] != "binary":
        raise UserError(f"{place}.without goes with kind: binary; of kind {o['kind']} give event.")
    events = o["event"] if o["without"] is None else o["without"]
    if events is not None and not isinstance(events, str | int) and not events:
        raise UserError(f"{place}: its events are an empty list; name some, or leave them out for any type.")
    events = one_or_more(f"{place}.event" if o["without"] is None else f"{place}.without", events)
    name = column_name(f"{place}.name", o["name"])
    for key in ("count", "once"):
        if not isinstance(o[key], bool):
            raise UserError(f"{place}.{key}={o[key]!r}; say true or false.")
    _refuse_unused(place, o)
    if o["kind"] == "hazard":
        edges = _edges(place, o["edges"])
        unit = o["unit"] or "days"
        if unit not in DAYS_OF:
            raise UserError(f"{place}.unit={unit!r}; time is counted in {', '.join(DAYS_OF)}.")
        days = edges[-1] * DAYS_OF[unit]
        if not is_days(days):
            raise UserError(f"{place}.edges={o['edges']!r}: the last one lies more than {MOST_DAYS:,} days ahead.")
        return EventTask(Task(name, "hazard", unit, edges, days), events, False, None, days, bool(o["once"]))
    within = o["within"]
    if not is_days(within):
        raise UserError(f"{place}.within={within!r}; say how many days it looks ahead, such as within: 90.")
    if (o["kind"] == "value") != (o["sum"] is not None) and not (o["kind"] == "regression" and o["sum"] is not None):
        raise UserError(f"{place}.sum={o['sum']!r}: a value is the sum of a column; give sum: amount, of kind value.")
    if o["sum"] is not None and o["sum"] not in numbers:
        raise UserError(
            f"{place}.sum={o['sum']!r} is no number of the log (data.roles.amount, data.roles.numeric)."
            f" {nearest(o['sum'], numbers)}"
        )
    if o["kind"] == "regression" and o["sum"] is None and not o["count"]:
        raise UserError(f"{place}: a regression needs count: true (how many events) or sum: a column.")
    task = Task(name, o["kind"], o["unit"] or "", (), float(within))
    return EventTask(task, events, o["without"] is not None, o["sum"], float(within), bool(o["once"]))


def _refuse_unused(place: str, o: Mapping[str, Any]) -> None:
    """Options of another kind of task would do nothing."""
    unused = ("within", "sum", "count") if o["kind"] == "hazard" else ("edges",)
    unused += ("count",) if o["kind"] in ("binary", "value") else ()
    for key in unused:
        if o[key]:
            raise UserError(f"{place}.{key}={o[key]!r} means nothing to kind: {o['kind']}; take it out.")
    if o["count"] and o["sum"] is not None:
        raise UserError(
            f"{place} has count: true and sum: {o['sum']}; keep one: how many events, or what they add up to."
        )


def _edges(place: str, edges: Any) -> tuple[float, ...]:
    try:
        values = () if isinstance(edges, str) else tuple(float(edge) for edge in edges)
    except (TypeError, ValueError):
        values = ()
    ascends = all(a < b for a, b in itertools.pairwise(values))  # false of a NaN
    if not values or not values[0] > 0 or not math.isfinite(values[-1]) or not ascends:
        raise UserError(f"{place}.edges={edges!r}; a hazard needs ends of intervals that ascend, such as [30, 60, 90].")
    return values


@dataclass(frozen=True)
class After:
    """The events of positions from the start of their label windows on.

    Attributes:
        type: int64 [E], index into `types`. types: names.
        time: int64 [E], microseconds since 1970; ascending within a customer.
        values: column -> float64 [E].
        first, begin, end: int64 [P]: the customer's first event, the first one in the window, and one past the last
            one of the customer.
        start: int64 [P], where label windows begin.
        log_end: microseconds, to which the log is complete.
        tick: of the clock: a day where the log has dates only, else one microsecond.
    """

    type: np.ndarray
    types: tuple[str, ...]
    time: np.ndarray
    values: Mapping[str, np.ndarray]
    first: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    start: np.ndarray
    log_end: int
    tick: int

    def counts(self, events: Sequence[str]) -> np.ndarray:
        """Whether each event is of one of some types, bool [E]; () is all of them."""
        if not events:
            return np.ones(len(self.type), bool)
        return np.isin(self.type, [i for i, name in enumerate(self.types) if name in events])


def labels_after(tasks: Sequence[EventTask], after: After, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What came after the moments.

    A label window holds `start <= time < start + within`; one that reaches beyond the end of the log gives NaN. A
    hazard counts from `start` to the end of the tick in which the event happened (a purchase on the first day of a log
    of dates happened within one day) and is censored at the end of the log.

    Args:
        tasks: T of them.
        after: the events.
        places: int64 [T, P], one past the last event in each task's window.

    Returns:
        label and time, float64 [P, T] each; see `PropensityBatch`.
    """
    P = len(after.start)
    label, time = np.full((P, len(tasks)), np.nan), np.full((P, len(tasks)), np.nan)
    room = after.log_end - after.start  # [P]
    for t, one in enumerate(tasks):
        counted = after.counts(one.events)
        so_far = np.concatenate([[0], np.cumsum(counted)])
        if one.task.kind == "hazard":
            ahead = np.append(np.where(counted, np.arange(len(counted)), len(counted)), len(counted))
            ahead = np.minimum.accumulate(ahead[::-1])[::-1]  # the next event that counts
            found = ahead[after.begin]
            happened = found < after.end
            when = np.append(after.time, 0)[found] - after.start + after.tick
            unit = DAYS_OF[one.task.unit] * DAY
            known = room > 0
            label[:, t] = np.where(known, happened, np.nan)
            time[:, t] = np.where(known, np.where(happened, when, room) / unit, np.nan)
        else:
            stop = places[t]
            count = so_far[stop] - so_far[after.begin]
            if one.task.kind == "binary":
                answer = (count == 0) if one.without else (count > 0)
            elif one.sum is None:
                answer = count
            else:
                values = np.where(counted, np.nan_to_num(after.values[one.sum]), 0.0)
                answer = over_segments(np.add, values, after.begin, stop, 0.0)
            label[:, t] = np.where(room >= one.days * DAY, answer, np.nan)
        if one.once:
            before = so_far[after.begin] - so_far[after.first] > 0
            label[before, t] = time[before, t] = np.nan
    return label, time
