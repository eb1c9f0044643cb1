"""Who was treated: definitions on the rows of the treatment window.

A customer is treated, a control, or left out, and those who are left out are counted by reason. Nobody is a control
for want of a chance to be treated: a status that is seen once cannot be seen to rise, and someone who bought nothing
was not there to be treated (unless `inactive: control` says so, for offers that reach customers in another way).

Axis letters: R rows of the window, C customers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wanamaker.data.panel_options import options_of
from wanamaker.data.transactions_features import most_frequent
from wanamaker.data.transactions_roles import TransactionRoles, names_of
from wanamaker.data.transactions_source import Coded, Transactions
from wanamaker.errors import UserError

KINDS = ("status_ascending", "status_descending", "column")
AGGREGATES = ("any", "mode", "all")
_TRUE, _FALSE = {"1", "true", "yes", "1.0"}, {"0", "false", "no", "0.0"}


@dataclass(frozen=True)
class Treatment:
    """A definition.

    Attributes:
        kind: `status_ascending`: the status changes in the window and never falls; `status_descending`: it changes and
            never rises; `column`: by the values of a column.
        column: of kind `column`.
        aggregate: how its rows make one answer per customer: treated in `any` row, in `all`, or in most (`mode`).
        values: of a column of words, those that mean treated. () takes 1, true and yes, and numbers above 0.
        control: with `mode`, a value of the column: every customer's most frequent value is his arm, and this one is
            the control.
        inactive: what customers without a purchase in the window are: `exclude` or `control`.
    """

    kind: str
    column: str | None = None
    aggregate: str = "any"
    values: tuple[str, ...] = ()
    control: str | None = None
    inactive: str = "exclude"

    @classmethod
    def from_config(cls, given: Any, roles: TransactionRoles) -> Treatment:
        """From a recipe: a mapping, or the word for a change of status.

        Raises:
            UserError: a definition that is unknown, or lacks what it needs.
        """
        place = "data.treatment"
        given = {"kind": given} if isinstance(given, str) else given
        defaults = {name: field.default for name, field in cls.__dataclass_fields__.items()}
        options = options_of(place, given, {**defaults, "kind": None, "values": None})
        values = names_of(f"{place}.values", options.pop("values"))
        control = options.pop("control")
        found = cls(**options, values=values, control=None if control is None else str(control))
        for name, known in (("kind", KINDS), ("aggregate", AGGREGATES), ("inactive", ("exclude", "control"))):
            if getattr(found, name) not in known:
                raise UserError(f"{place}.{name}={getattr(found, name)!r}; choose from {', '.join(known)}.")
        found._check(place, roles)
        return found

    def _check(self, place: str, roles: TransactionRoles) -> None:
        if self.kind == "column":
            if self.column is None:
                raise UserError(f"{place}.column is missing: name the column that tells who was treated.")
            role = dict(roles.columns()).get(self.column, "categorical")
            if role not in ("numeric", "categorical", "status"):
                raise UserError(f"{place}.column={self.column!r} is the {role} already; choose another column.")
            if self.control is not None and (self.aggregate != "mode" or self.values):
                raise UserError(f"{place}.control={self.control!r} goes with aggregate: mode and without values.")
            return
        extra = [name for name in ("column", "values", "control") if getattr(self, name)]
        if extra or self.inactive != "exclude":
            raise UserError(f"{place}.{(extra or ['inactive'])[0]} goes with kind: column, not with {self.kind}.")
        if roles.status is None or len(roles.status.order) < 2:
            raise UserError(
                f"{place}.kind={self.kind} needs data.roles.status: {{column: ..., order: [lowest, ..., highest]}}."
            )

    def reading(self, roles: TransactionRoles) -> TransactionRoles:
        """The roles to read a file with: the column of the treatment is read also where it is no feature."""
        if self.column is None or self.column in dict(roles.columns()):
            return roles
        return replace(roles, categorical=(*roles.categorical, self.column))

    @property
    def arms(self) -> tuple[str, str]:
        """Control and offer, where there is one offer."""
        words = {"status_ascending": "status risen", "status_descending": "status fallen", "column": "treated"}
        return ("status kept" if self.kind != "column" else "not treated", words[self.kind])


@dataclass(frozen=True)
class Assignment:
    """Who got what.

    Attributes:
        arm: int64 [C], number of the arm by customer code; -1 is left out.
        arms: names; the first is the control.
        reason: int64 [C], index into `reasons` of those who are left out; -1 of the others.
        reasons: why.
    """

    arm: np.ndarray
    arms: tuple[str, ...]
    reason: np.ndarray
    reasons: tuple[str, ...]


def assign(rows: Transactions, treatment: Treatment, roles: TransactionRoles) -> Assignment:
    """Tell the arms of all customers.

    Args:
        rows: Of the treatment window.

    Raises:
        UserError: a status that has no place, a value that no row has, values that mean neither yes nor no.
    """
    return _by_column(rows, treatment) if treatment.kind == "column" else _by_status(rows, treatment, roles)


def _by_status(rows: Transactions, treatment: Treatment, roles: TransactionRoles) -> Assignment:
    count = len(rows.customer.names)
    rank = _ranks(rows.status, roles)
    known = np.flatnonzero(rows.status.code >= 0)
    order = known[np.argsort(rows.customer.code[known], kind="stable")]
    owner, step = rows.customer.code[order], rank[rows.status.code[order]]
    same = owner[1:] == owner[:-1]
    change = np.where(same, np.diff(step), 0.0)  # NaN beside a status apart
    risen = np.bincount(owner[1:][change > 0], minlength=count) > 0
    fallen = np.bincount(owner[1:][change < 0], minlength=count) > 0
    apart = np.bincount(owner[np.isnan(step)], minlength=count) > 0
    times = np.bincount(owner, minlength=count)

    reasons = (
        "no transaction in the treatment window",
        "a status apart",
        "one transaction in the treatment window, which cannot show a change",
        "the status moved the other way, or both ways",
    )
    treated, other = (risen, fallen) if treatment.kind == "status_ascending" else (fallen, risen)
    reason = np.select([times == 0, apart, times == 1, other], [0, 1, 2, 3], -1)
    return Assignment(np.where(reason >= 0, -1, treated.astype(np.int64)), treatment.arms, reason, reasons)


def _ranks(status: Coded, roles: TransactionRoles) -> np.ndarray:
    """[statuses], step of the ladder; NaN for those apart."""
    ladder, apart = roles.status.order, roles.status.apart
    for listed in (*ladder, *apart):
        if listed not in status.names:
            raise UserError(
                f"data.roles.status lists {listed!r}, which no row has in column {roles.status.column!r}; it has "
                f"{', '.join(map(repr, status.names[:12]))}."
            )
    for name in status.names:
        if name not in ladder and name not in apart:
            raise UserError(
                f"Status {name!r} of column {roles.status.column!r} has no place: put it into data.roles.status.order "
                "(lowest to highest), or into apart if it is no step of that ladder."
            )
    return np.array([ladder.index(name) if name in ladder else np.nan for name in status.names])


def _by_column(rows: Transactions, treatment: Treatment) -> Assignment:
    count = len(rows.customer.names)
    rows = rows.take(~rows.refund)
    owner = rows.customer.code
    active = np.bincount(owner, minlength=count) > 0
    if treatment.control is not None:
        arm, arms = _modal_arms(rows, treatment, count)
    else:
        yes = _yes(rows, treatment)
        if treatment.aggregate == "mode":
            arm = np.maximum(most_frequent(owner, Coded(yes.astype(np.int64), ("no", "yes")), count).code, 0)
        else:
            some, every = (np.bincount(owner[rows_], minlength=count) for rows_ in (yes, ~yes))
            arm = (some > 0) if treatment.aggregate == "any" else (some > 0) & (every == 0)
        arm, arms = np.asarray(arm, np.int64), treatment.arms
    reason = np.select([~active, arm < 0], [0, 1], -1)
    if treatment.inactive == "control":
        arm, reason = np.where(active, arm, 0), np.where(active, reason, -1)
    reasons = ("no purchase in the treatment window", f"no value of {treatment.column}")
    return Assignment(np.where(reason >= 0, -1, arm), arms, reason, reasons)


def _words(rows: Transactions, treatment: Treatment) -> Coded:
    of_status = treatment.column not in rows.categorical
    return rows.status if of_status else rows.categorical[treatment.column]


def _require_values(values: tuple[str, ...], words: Coded, name: str, column: str) -> None:
    for value in values:
        if value not in words.names:
            known = ", ".join(map(repr, words.names[:12]))
            raise UserError(f"data.treatment.{name}: no row has {value!r} in column {column!r}; it has {known}.")


def _modal_arms(rows: Transactions, treatment: Treatment, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    if treatment.column in rows.numeric:
        raise UserError(f"data.treatment.control: {treatment.column!r} is a column of numbers; name words as arms.")
    words = _words(rows, treatment)
    _require_values((treatment.control,), words, "control", treatment.column)
    present = set(np.unique(words.code)) - {-1}
    arms = (treatment.control, *(n for c, n in enumerate(words.names) if c in present and n != treatment.control))
    number = np.array([arms.index(name) if name in arms else -1 for name in words.names])
    modal = most_frequent(rows.customer.code, words, count).code
    return np.where(modal >= 0, number[modal], -1), arms


def _yes(rows: Transactions, treatment: Treatment) -> np.ndarray:
    """Whether a row says that its customer was treated, bool [R]; an empty cell says no."""
    column = treatment.column
    if column in rows.numeric:
        if treatment.values:
            raise UserError(f"data.treatment.values: {column!r} is a column of numbers, where any above 0 counts.")
        return rows.numeric[column] > 0
    words = _words(rows, treatment)
    values = treatment.values
    if values:
        _require_values(values, words, "values", column)
    else:
        values = tuple(name for name in words.names if name.casefold() in _TRUE)
        strange = [name for name in words.names if name.casefold() not in _TRUE | _FALSE]
        if strange:
            raise UserError(
                f"data.treatment.column={column!r} holds {strange[0]!r}, which says neither yes nor no: list what "
                "means treated in data.treatment.values. Numbers, of which those above 0 count, belong to "
                "data.roles.numeric."
            )
    return np.isin(words.code, [words.names.index(value) for value in values])
