"""What a recipe says about a log of events, checked before the log is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from wanamaker.data.event_features import parse_groups
from wanamaker.data.event_moments import parse_as_of, parse_moment
from wanamaker.data.event_partition import MAX_BUCKETS
from wanamaker.data.event_roles import CustomerRoles, EventRoles
from wanamaker.data.event_tasks import MOST_DAYS, EventTask, is_days, parse_tasks
from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

Options = TypeVar("Options", bound="EventOptions")


@dataclass(frozen=True)
class EventOptions:
    """What a recipe says about a log.

    Attributes:
        path: a file, a folder of shards, or several.
        roles, customers, tasks: see their classes.
        as_of: from `event_moments.parse_as_of`.
        embargo: days from a moment to the start of its label windows.
        purchases: types of events that are orders.
        features: groups of `event_features.GROUPS`. windows: days that "recent" looks back.
        history_days, history_events: how far sequences reach back; None: to the first event.
        until: types of events after which a customer is asked nothing any more.
        log_end: to which the log is complete; None: to the end of the day of its latest event.
        writing: time_format, encoding, delimiter and decimal.
        in_memory: events above which the log is read bucket by bucket.
        cache: folder of the buckets. buckets: how many; None: such that each fits well into memory.
    """

    path: Any
    roles: EventRoles
    tasks: tuple[EventTask, ...]
    as_of: Mapping[str, Any]
    customers: CustomerRoles | None = None
    embargo: float = 0
    purchases: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    windows: tuple[int, ...] = ()
    history_days: float | None = None
    history_events: int | None = None
    until: tuple[str, ...] = ()
    log_end: str | None = None
    writing: Mapping[str, Any] = field(default_factory=dict)
    in_memory: int = 5_000_000
    cache: Path | None = None
    buckets: int | None = None

    def extended(self, kind: type[Options], **more: Any) -> Options:
        """These options as those of a more special kind of log, with what it has besides."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(EventOptions)}, **more)


def event_options(
    *,
    path: Any,
    roles: Mapping[str, Any] | EventRoles,
    tasks: Sequence[Mapping[str, Any]],
    as_of: Any,
    embargo: float,
    customers: Mapping[str, Any] | None,
    purchases: str | Sequence[str] | None,
    features: Sequence[str],
    windows: Sequence[int],
    history: Mapping[str, Any] | None,
    until: str | Sequence[str] | None,
    log_end: str | None,
    writing: Mapping[str, Any],
    events_in_memory: int,
    cache_dir: str | None,
    buckets: int | None,
) -> EventOptions:
    """Options as `EventLogDataModule` takes them.

    Raises:
        UserError: naming the option.
    """
    if not is_days(embargo, zero=True):
        raise UserError(f"data.embargo={embargo!r}; give a number of days, 0 or more, at most {MOST_DAYS:,}.")
    if buckets is not None and (isinstance(buckets, bool) or buckets not in range(1, MAX_BUCKETS + 1)):
        raise UserError(f"data.buckets={buckets!r}; give a whole number from 1 up to {MAX_BUCKETS}, or null.")
    if log_end is not None:
        parse_moment("data.log_end", log_end)
    known = roles if isinstance(roles, EventRoles) else EventRoles.from_config(roles)
    reach = options_of("data.history", history, {"days": None, "events": None})
    if reach["days"] is not None and not is_days(reach["days"]):
        raise UserError(
            f"data.history.days={reach['days']!r}; give a number above 0 and at most {MOST_DAYS:,}, or null for all of"
            " it."
        )
    most = reach["events"]
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise UserError(f"data.history.events={most!r}; give a whole number above 0, or null for all of them.")
    groups, looks = parse_groups(features, windows)
    return EventOptions(
        path=path,
        roles=known,
        tasks=parse_tasks(tasks, known.numbers(), known.amount),
        as_of=parse_as_of(as_of),
        customers=CustomerRoles.from_config(customers),
        embargo=embargo,
        purchases=words_of(purchases),
        features=groups,
        windows=looks,
        history_days=reach["days"],
        history_events=most,
        until=words_of(until),
        log_end=log_end,
        writing=writing,
        in_memory=events_in_memory,
        cache=None if cache_dir is None else Path(cache_dir),
        buckets=buckets,
    )


def words_of(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One word, several or none, as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))
