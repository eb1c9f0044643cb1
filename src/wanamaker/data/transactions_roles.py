"""Which column of a transactions table is what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wanamaker.data.panel_roles import nearest
from wanamaker.errors import UserError


@dataclass(frozen=True)
class Operation:
    """The column that tells purchases from refunds.

    Attributes:
        column: its name.
        refund: its values that mean money back, whatever the sign of the amount.
        purchase: its values that mean a purchase; () is every other value. With some named, rows of neither kind
            (coins given as a present, corrections) are left out and counted.
    """

    column: str
    refund: tuple[str, ...]
    purchase: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """The column of the loyalty status that a customer had at the time of a transaction.

    Attributes:
        column: its name.
        order: statuses from the lowest to the highest.
        apart: statuses that are no step of this ladder, such as those of employees: customers who have one are left out
            of a comparison of rises and falls, and counted.
    """

    column: str
    order: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class TransactionRoles:
    """Columns of a table with one row per transaction, or per line of an order.

    Attributes:
        customer: identifies the customer; rows without one are left out and counted.
        date: of the transaction, with or without a time of day.
        amount: money; below 0 is a refund where no operation column says so.
        order: number of the order or receipt: its rows are one purchase, and a refund with its number undoes it. None:
            every row is a purchase of its own.
        operation, status: see there; None without such a column.
        numeric: further numbers, such as coins spent and coins earned; an empty cell is 0.
        categorical: further names, such as the shop.
        date_format: as for `datetime.strptime`; None is ISO 8601.
        money_unit: a word.
    """

    customer: str
    date: str
    amount: str
    order: str | None = None
    operation: Operation | None = None
    status: Status | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    date_format: str | None = None
    money_unit: str = "money"

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> TransactionRoles:
        """From the mapping of a recipe.

        Raises:
            UserError: a role that does not exist or lacks its column, or a column with two roles.
        """
        values = _mapping("data.roles", given, cls.__dataclass_fields__)
        roles = cls(
            customer=_column("data.roles.customer", values.get("customer")),
            date=_column("data.roles.date", values.get("date")),
            amount=_column("data.roles.amount", values.get("amount")),
            order=None if values.get("order") is None else _column("data.roles.order", values["order"]),
            operation=_operation(values.get("operation")),
            status=_status(values.get("status")),
            numeric=names_of("data.roles.numeric", values.get("numeric")),
            categorical=names_of("data.roles.categorical", values.get("categorical")),
            date_format=_date_format(values.get("date_format")),
            money_unit=_word("data.roles.money_unit", values.get("money_unit") or "money"),
        )
        seen: dict[str, str] = {}
        for column, role in roles.columns():
            if column in seen:
                raise UserError(f"data.roles: column {column!r} is both {seen[column]} and {role}; give it one role.")
            seen[column] = role
        return roles

    def columns(self) -> list[tuple[str, str]]:
        """(column, role) of all that is read."""
        single = [
            (self.customer, "customer"),
            (self.date, "date"),
            (self.amount, "amount"),
            (self.order, "order"),
            (self.operation and self.operation.column, "operation"),
            (self.status and self.status.column, "status"),
        ]
        many = [(name, "numeric") for name in self.numeric] + [(name, "categorical") for name in self.categorical]
        return [(column, role) for column, role in single + many if column]


def _mapping(place: str, given: Any, known: Iterable[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UserError(f"{place}={given!r}; give a mapping of {', '.join(known)}.")
    for name in given:
        if name not in known:
            raise UserError(f"{place}.{name} does not exist. {nearest(name, list(known))}")
    return dict(given)


def _column(place: str, given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{place}={given!r}; give the name of a column.")
    return given


def _word(place: str, given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise UserError(f"{place}={given!r}; give a word, such as EUR.")
    return str(given)


def _date_format(given: Any) -> str | None:
    """A format of dates; None and "" are ISO 8601."""
    if given in (None, "", "ISO8601"):
        return None
    day, place = datetime(2020, 1, 1, tzinfo=UTC), "data.roles.date_format"
    if isinstance(given, str) and "%" in given:
        try:
            if datetime.strptime(day.strftime(given), given).date() == day.date():
                return given
        except ValueError:
            pass
    raise UserError(
        f"{place}={given!r} tells no whole date; write it with %d, %m and %Y, such as '%d.%m.%Y' or '%d.%m.%Y %H:%M', "
        "or null for 2023-01-31."
    )


def names_of(place: str, given: Any) -> tuple[str, ...]:
    """A list of words; numbers that a recipe wrote bare become words."""
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UserError(f"{place}={given!r}; give a list of names.")
    names = tuple(str(name) for name in given)
    if len(set(names)) < len(names):
        raise UserError(f"{place}={list(names)} names one twice; give each once.")
    return names


def _operation(given: Any) -> Operation | None:
    if given is None:
        return None
    place = "data.roles.operation"
    values = _mapping(place, given, Operation.__dataclass_fields__)
    refund, purchase = (names_of(f"{place}.{name}", values.get(name)) for name in ("refund", "purchase"))
    if both := sorted(set(refund) & set(purchase)):
        raise UserError(f"{place}: {both[0]!r} is both a refund and a purchase; list it once.")
    if not refund and not purchase:
        raise UserError(
            f"{place} names no value: list those that mean money back in {place}.refund, such as [Refund], or leave "
            "the column out (data.roles.operation=null)."
        )
    return Operation(_column(f"{place}.column", values.get("column")), refund, purchase)


def _status(given: Any) -> Status | None:
    if given is None:
        return None
    place = "data.roles.status"
    values = _mapping(place, {"column": given} if isinstance(given, str) else given, Status.__dataclass_fields__)
    order, apart = (names_of(f"{place}.{name}", values.get(name)) for name in ("order", "apart"))
    if both := sorted(set(order) & set(apart)):
        raise UserError(f"{place}: {both[0]!r} is both in order and apart; list it once.")
    return Status(_column(f"{place}.column", values.get("column")), order, apart)
