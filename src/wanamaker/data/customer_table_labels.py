"""Labels of a table of customers: which kind each task is of, and what is wrong with its columns.

Axis letters: N rows, T tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.customer_table_cells import numbers_in, yes_in
from wanamaker.data.customer_table_roles import TaskRole
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import Task
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

_RARE = 0.5  # share of zeros from which amounts that are never negative are a "value"


@dataclass(frozen=True)
class Labels:
    """What came of some customers.

    Attributes:
        label: float32 [N, T]; NaN where not known.
        time: float32 [N, T]; NaN where not known and for other kinds than a hazard.
        values: [T] sets of the values that a column of yes and no holds; empty for the others.
    """

    label: np.ndarray
    time: np.ndarray
    values: tuple[set[str], ...]


def labels_of(table: pa.Table, tasks: Sequence[TaskRole], row: np.ndarray, source: str, decimal: str = ".") -> Labels:
    """Labels of some rows; of a column that the table lacks, none is known.

    Args:
        table: with the columns of labels.
        tasks: T roles.
        row: int64 [N], places of the rows in the whole table.
        source: name of the file, for messages.
        decimal: decimal sign of text.

    Raises:
        UserError: a cell that cannot be read, a hazard's time that is not above 0.
    """
    N, T = len(table), len(tasks)
    label, time = np.full((N, T), np.nan, np.float32), np.full((N, T), np.nan, np.float32)
    values: list[set[str]] = []
    for t, task in enumerate(tasks):
        seen: set[str] = set()
        if task.column in table.column_names:
            column = table.column(task.column)
            if task.kind in ("value", "regression"):
                label[:, t] = numbers_in(column, task.column, "label", row, source, decimal)
            else:
                label[:, t], seen = yes_in(column, task.positive, task.column, task.place, row, source)
            if task.kind in ("binary", "hazard"):
                _refuse_numbers(label[:, t], task, row, source)
            if task.kind == "hazard" and task.time in table.column_names:
                time[:, t] = numbers_in(table.column(task.time), task.time, "time", row, source, decimal)
                _settle_times(label, time, t, task, row, source)
        values.append(seen)
    return Labels(label, time, tuple(values))


def _refuse_numbers(label: np.ndarray, task: TaskRole, row: np.ndarray, source: str) -> None:
    other = np.isfinite(label) & (label != 0) & (label != 1)
    if other.any():
        first = int(other.argmax())
        raise UserError(
            f"column {task.column!r} (label) of {source} holds {label[first]:g} in row {int(row[first]) + 1} of the"
            f" table; {task.kind} labels are 0 and 1: name the value that means yes in {task.place}.positive, or"
            " declare kind: value or regression."
        )


def _settle_times(label: np.ndarray, time: np.ndarray, t: int, task: TaskRole, row: np.ndarray, source: str) -> None:
    """Half-known labels become unknown; in place."""
    happened = label[:, t] == 1
    bad = (time[:, t] < 0) | ((time[:, t] == 0) & happened)
    if bad.any():
        first = int(bad.argmax())
        raise UserError(
            f"column {task.time!r} (time of {task.name!r}) of {source} is {time[first, t]:g} in row"
            f" {int(row[first]) + 1} of the table{'' if time[first, t] else ', where it happened'}: the time is counted"
            " from the moment of the prediction and lies above 0; correct the row, or take it out."
        )
    # Observed for no time at all: nothing is known.
    unknown = ~(time[:, t] > 0) | np.isnan(label[:, t])
    label[unknown, t] = time[unknown, t] = np.nan


def settle_tasks(
    roles: Sequence[TaskRole], labels: np.ndarray, train: np.ndarray, values: Sequence[set[str]], source: str
) -> tuple[Task, ...]:
    """Names and kinds of the tasks, once all labels are known.

    Args:
        roles: as declared.
        labels: float32 [N, T], of the whole table.
        train: bool [N], rows to learn from.
        values: [T], see `Labels`.
        source: name of the file, for messages.

    Raises:
        UserError: a task whose labels are all alike or missing, or are not what was declared.
    """
    tasks = []
    for t, role in enumerate(roles):
        known = labels[np.isfinite(labels[:, t]), t]
        place = f"column {role.column!r} (label of {role.name!r}) of {source}"
        if role.positive is not None and values[t]:
            folded = {value.casefold() for value in values[t]}
            if role.positive.strip().casefold() not in folded:
                if len(values[t]) == 1:
                    raise UserError(
                        f"{place} is {next(iter(values[t]))!r} in every row, and never"
                        f" {role.place}.positive={role.positive!r}: there is nothing to learn from labels of one class."
                    )
                raise UserError(
                    f"{role.place}.positive={role.positive!r} is not among the values of {place}."
                    f" {nearest(role.positive, sorted(values[t]))}"
                )
        if not len(known):
            raise UserError(f"{place} is empty in every row: there is nothing to learn. Check {role.place}.column.")
        for rows, where in ((known, "all"), (labels[train & np.isfinite(labels[:, t]), t], "training")):
            if not len(rows) or rows.min() == rows.max():
                raise UserError(_one_class(role, rows, where, place))
        two = np.unique(known)
        if role.kind is None and role.positive is None and len(two) == 2 and (two != 0).all():
            raise UserError(
                f"{place} holds {two[0]:g} and {two[1]:g} only: say which of them means yes, in {role.place}.positive,"
                " or declare kind: regression."
            )
        kind = role.kind or _kind_of(known, role)
        if kind == "value" and known.min() < 0:
            raise UserError(
                f"{place} is a value but holds {known.min():g}: amounts are 0 or positive; net out refunds, or declare"
                " kind: regression."
            )
        tasks.append(Task(role.name, kind, role.unit, role.edges))
    return tuple(tasks)


def refuse_unwatched(task: Task, label: np.ndarray, time: np.ndarray, place: str) -> None:
    """Refuse a hazard of which an interval saw nobody, or whose event nobody had in any.

    Args:
        task: of the hazard.
        label, time: [N], of the rows to learn from; NaN where not known.
        place: of its edges, for messages.

    Raises:
        UserError: naming the edges and the longest time.
    """
    known = np.isfinite(label) & np.isfinite(time)
    if not known.any():
        return
    begins, longest = (0.0, *task.edges)[-2], float(time[known].max())
    if longest <= begins:
        raise UserError(
            f"{place}={list(task.edges)}: nobody is watched for longer than {longest:g}, so that nothing is known of"
            f" the interval from {begins:g} to {task.edges[-1]:g}; let the last edge be {longest:g} or less."
        )
    if not (known & (label == 1) & (time <= task.edges[-1])).any():
        raise UserError(
            f"{place}={list(task.edges)}: {task.name!r} happened to nobody by {task.edges[-1]:g}; let the last edge be"
            " later, or check the unit."
        )


def _one_class(role: TaskRole, rows: np.ndarray, where: str, place: str) -> str:
    if not len(rows):
        return f"{place} is empty in all training rows: there is nothing to learn. Check data.split."
    only = f"{rows[0]:g}"
    if role.positive is not None:
        only = f"{only} ({role.positive!r} in {'every' if rows[0] else 'no'} row)"
    remedy = f"Check {role.place}." if where == "all" else "Lower data.split.test, or bring more rows."
    return (
        f"{place} is {only} in all {len(rows):,} {'' if where == 'all' else 'training '}rows: there is nothing to"
        f" learn from labels of one class. {remedy}"
    )


def _kind_of(known: np.ndarray, role: TaskRole) -> str:
    if role.positive is not None or bool(((known == 0) | (known == 1)).all()):
        return "binary"
    return "value" if known.min() >= 0 and (known == 0).mean() >= _RARE else "regression"
