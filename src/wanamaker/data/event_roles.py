"""Which column of an event log is what, and which table says more about its customers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from wanamaker.data.column_names import column_name, one_or_more
from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

TYPE = "type"  # name of the type where the log has no column of it


@dataclass(frozen=True)
class EventRoles:
    """Columns of a log of events.

    Attributes:
        id: whose event it is: a customer or a session.
        time: when it happened.
        type: what happened; None: every event is an `event`.
        event: the type of every event of a log without a column of types.
        amount: money of the event.
        categorical, numeric: further columns that a sequence model reads.
        available_at: when the event became known, where that is later than `time`: features and sequences are cut by
            it, labels by `time`.
        order: lines with the same value are one order of a customer, such as the number of an invoice; None: every
            event is one.
    """

    id: str
    time: str
    type: str | None = None
    event: str = "purchase"
    amount: str | None = None
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    available_at: str | None = None
    order: str | None = None

    @classmethod
    def from_config(cls, roles: Mapping[str, Any]) -> EventRoles:
        """Roles of a data config.

        Raises:
            UserError: an unknown role, no id or time, or a column with two roles.
        """
        defaults = {field.name: None for field in fields(cls)} | {"event": "purchase", "categorical": (), "numeric": ()}
        given = options_of("data.roles", roles, defaults, ("id", "time"))
        for name, value in given.items():
            place = f"data.roles.{name}"
            if name in ("categorical", "numeric"):
                given[name] = one_or_more(place, value)
            else:
                given[name] = column_name(place, value, optional=name not in ("id", "time", "event"))
        made = cls(**given)
        columns = made.names() + made.numbers() + ((made.available_at,) if made.available_at else ())
        for column in (made.id, made.time, *columns):
            if (made.id, made.time, *columns).count(column) > 1:
                raise UserError(f"data.roles: column {column!r} has two roles; give it one.")
        return made

    def names(self) -> tuple[str, ...]:
        """Columns of words that are read from the log."""
        return tuple(name for name in (self.type, *self.categorical, self.order) if name)

    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers that are read from the log."""
        return tuple(name for name in (self.amount, *self.numeric) if name)

    @property
    def event_categorical(self) -> tuple[str, ...]:
        """C names, the type first."""
        return (self.type or TYPE, *self.categorical)


@dataclass(frozen=True)
class CustomerRoles:
    """A table with one row per customer: what was known before any event.

    Attributes:
        path: CSV or Parquet.
        id: its column; None: as in the log.
        since: column of the moment from which they were known; None: always.
        features: columns; None: every column without another role.
        categorical: features that are names though written as numbers.
        drop: columns that are no features.
    """

    path: str
    id: str | None = None
    since: str | None = None
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, roles: Mapping[str, Any] | None) -> CustomerRoles | None:
        """Roles of a data config; None: there is no such table."""
        if roles is None:
            return None
        defaults = {field.name: None for field in fields(cls)} | {"categorical": (), "drop": ()}
        given = options_of("data.customers", roles, defaults, ("path",))
        for name, value in given.items():
            place = f"data.customers.{name}"
            if name in ("categorical", "drop") or (name == "features" and value is not None):
                given[name] = one_or_more(place, value)
            elif name != "features":
                given[name] = column_name(place, value, optional=name != "path")
        made = cls(**given)
        taken = [c for c in (made.id, made.since, *made.drop, *(made.features or ())) if c is not None]
        for column in taken:
            if taken.count(column) > 1:
                raise UserError(f"data.customers: column {column!r} has two roles; give it one.")
        return made
