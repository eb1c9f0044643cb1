"""`TableRoles`: which column of a table of customers is a task's label, a feature, ...

id: customerID                      null: the number of the row
tasks:                              the first is the one that is monitored
  - {name: churn, column: Churn, positive: "Yes"}                      binary: does it happen
  - {name: cancel, kind: hazard, column: Churn, positive: "Yes", time: tenure, edges: [6, 12, 24], unit: months}
  - {name: spend, kind: value, column: spend_next_year, unit: USD}     0 for most
  - {name: score, kind: regression, column: score}
                                    kind null: found in the data (hazard where `time` is given)
                                    positive null: 0/1, true/false and yes/no are understood
features: null                      every column without another role; or a list
categorical: [SeniorCitizen]        names written as numbers; text is categorical by itself
drop: [PageValues]                  columns that are no features
weight: weight                      customers the row stands for
moment: signup_date                 when the row was true, for a split by time

A label that is empty is not known: its task learns nothing from the row, the others do. The `time` of a hazard is no
feature unless `features` lists it, because it is the label's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from wanamaker.data.column_names import check_categorical, check_task_names, column_name, column_names
from wanamaker.data.experiment_roles import value_text
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import TASK_KINDS
from wanamaker.errors import UserError

ROW = "row"  # what the schema calls the identifier of a table without one


@dataclass(frozen=True)
class TaskRole:
    """A task as it was declared.

    Attributes:
        name: of the task.
        column: of the label; of a hazard: whether it happened.
        kind: of `propensity_batch.TASK_KINDS`; None: found in the data.
        positive: value of the column that means yes; None: 1, true, yes.
        unit: of a value, a regression, or a hazard's time.
        time: column of a hazard: when it happened or observation ended, above 0.
        edges: of a hazard; see `propensity_batch.Task`.
        place: where it stands in the configuration, for messages.
    """

    name: str
    column: str
    kind: str | None = None
    positive: str | None = None
    unit: str = ""
    time: str | None = None
    edges: tuple[float, ...] = ()
    place: str = "data.roles.tasks[0]"


@dataclass(frozen=True)
class TableRoles:
    """The declared role of each column; see the module text."""

    tasks: tuple[TaskRole, ...]
    id: str | None = None
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    weight: str | None = None
    moment: str | None = None

    def __post_init__(self) -> None:
        check_task_names("data.roles.tasks", self.task_names)
        taken: dict[str, str] = {}
        for column, role in self._exclusive():
            if taken.setdefault(column, role) != role:
                raise UserError(
                    f"data.roles: column {column!r} is declared as {taken[column]} and as {role}; keep one of the two."
                )
        check_categorical(self.categorical, self.features)
        for column in self.categorical:
            if taken.get(column, "feature") != "feature":
                raise UserError(
                    f"data.roles.categorical names {column!r}, which is declared as {taken[column]} and so is no"
                    " feature; keep one of the two."
                )

    @classmethod
    def from_config(cls, roles: Mapping[str, Any] | TableRoles) -> TableRoles:
        """Read the mapping of the module text (YAML).

        Raises:
            UserError: a key is unknown or missing, or an entry does not say what it means.
        """
        if isinstance(roles, TableRoles):
            return roles
        given = options_of("data.roles", roles, dict.fromkeys(f.name for f in fields(cls)))
        if not given["tasks"]:
            raise UserError(
                "data.roles.tasks is missing: say what is to be foretold, such as [{name: churn, column: Churn}]."
            )
        return cls(
            tasks=_tasks(given["tasks"]),
            id=column_name("data.roles.id", given["id"], optional=True),
            features=None if given["features"] is None else column_names("data.roles.features", given["features"]),
            categorical=column_names("data.roles.categorical", given["categorical"] or ()),
            drop=column_names("data.roles.drop", given["drop"] or ()),
            weight=column_name("data.roles.weight", given["weight"], optional=True),
            moment=column_name("data.roles.moment", given["moment"], optional=True),
        )

    @property
    def task_names(self) -> tuple[str, ...]:
        """T names."""
        return tuple(task.name for task in self.tasks)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of labels and of hazards' times, each once."""
        wanted = [column for task in self.tasks for column in (task.column, task.time) if column is not None]
        return tuple(dict.fromkeys(wanted))

    @property
    def future(self) -> dict[str, str]:
        """Columns that no feature may be computed from -> why."""
        labels = {task.column: f"the label of task {task.name!r}" for task in self.tasks}
        times = {task.time: f"the time of task {task.name!r}" for task in self.tasks if task.time is not None}
        ids = {} if self.id is None else {self.id: "the identifier"}
        return ids | times | labels

    def _exclusive(self) -> list[tuple[str, str]]:
        """(column, role) of the entries that rule each other out."""
        found = [(task.column, "label") for task in self.tasks]
        found += [(column, role) for column, role in ((self.id, "id"), (self.weight, "weight")) if column is not None]
        found += [(column, "feature") for column in self.features or ()] + [(column, "drop") for column in self.drop]
        return found

    def check_columns(
        self, columns: Sequence[str], source: str, *, labels: bool, extra: Mapping[str, str] | None = None
    ) -> None:
        """Make sure that a header has what was declared.

        Args:
            columns: of the file.
            source: its name, for messages.
            labels: whether all of it must be there; otherwise the identifier alone, as for customers to be scored
                (features are looked for when it is known which a model wants).
            extra: other columns that must be there -> the option that names them.

        Raises:
            UserError: naming a missing column, its role and the nearest name.
        """
        wanted = {column: f"{task.place}.column" for task in self.tasks for column in (task.column,)}
        wanted |= {task.time: f"{task.place}.time" for task in self.tasks if task.time is not None}
        for role in ("features", "categorical", "drop"):
            wanted |= dict.fromkeys(getattr(self, role) or (), f"data.roles.{role}")
        wanted |= {name: f"data.roles.{role}" for role in ("weight", "moment") if (name := getattr(self, role))}
        wanted |= extra or {}
        if not labels:
            wanted = {}
        if self.id is not None:
            wanted = {self.id: "data.roles.id"} | wanted
        for column, role in wanted.items():
            if column not in columns:
                raise UserError(f"{source} has no column {column!r} ({role}). {nearest(column, columns)}")

    def feature_columns(self, columns: Iterable[str], extra: Iterable[str] = ()) -> tuple[str, ...]:
        """The features among the columns of a file, in the file's order where none are declared.

        Args:
            columns: of the file.
            extra: columns that have another role elsewhere.
        """
        if self.features is not None:
            return self.features
        taken = {column for column, _ in self._exclusive()} | {self.moment, *self.label_columns, *extra}
        return tuple(column for column in columns if column not in taken)


def _tasks(value: Any) -> tuple[TaskRole, ...]:
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, Sequence):
        raise UserError(
            f"data.roles.tasks={value!r} must be a list of tasks, such as [{{name: churn, column: Churn}}]."
        )
    return tuple(_task(f"data.roles.tasks[{i}]", entry) for i, entry in enumerate(value))


def _task(place: str, entry: Any) -> TaskRole:
    if not isinstance(entry, Mapping):
        column = column_name(place, entry)
        return TaskRole(column, column, place=place)
    keys = ("name", "column", "kind", "positive", "unit", "time", "edges")
    given = options_of(place, entry, dict.fromkeys(keys))
    if given["name"] is None and given["column"] is None:
        raise UserError(f"{place}.column is missing: name the column of the label.")
    column = column_name(f"{place}.column", given["column"] if given["column"] is not None else given["name"])
    kind, time, edges = given["kind"], given["time"], given["edges"]
    if kind not in (None, *TASK_KINDS):
        raise UserError(f"{place}.kind={kind!r}; choose from {', '.join(TASK_KINDS)}, or null.")
    if kind is None and (time is not None or edges is not None):
        kind = "hazard"
    if kind == "hazard":
        if time is None:
            raise UserError(
                f"{place}.time is missing: a hazard needs the column of when it happened, or was last seen."
            )
        edges = _edges(f"{place}.edges", edges)
    elif time is not None or edges is not None:
        raise UserError(f"{place}: `time` and `edges` belong to kind: hazard, not to kind: {kind}.")
    if given["positive"] is not None and kind in ("value", "regression"):
        raise UserError(f"{place}.positive={given['positive']!r} belongs to kind: binary or hazard, not to {kind}.")
    return TaskRole(
        name=column_name(f"{place}.name", given["name"] if given["name"] is not None else column),
        column=column,
        kind=kind,
        positive=None if given["positive"] is None else value_text(f"{place}.positive", given["positive"]),
        unit=str(given["unit"] or ""),
        time=column_name(f"{place}.time", time, optional=True),
        edges=edges or (),
        place=place,
    )


def _edges(place: str, value: Any) -> tuple[float, ...]:
    if value is None or isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise UserError(
            f"{place}={value!r} must list the ends of a hazard's intervals, such as [6, 12, 24]; the last one is the"
            " horizon that is reported."
        )
    for edge in value:
        if isinstance(edge, bool) or not isinstance(edge, int | float) or not (math.isfinite(edge) and edge > 0):
            raise UserError(f"{place} holds {edge!r}; each must be a number above 0.")
    if any(later <= earlier for earlier, later in pairwise(value)):
        raise UserError(f"{place}={list(value)} must ascend.")
    return tuple(map(float, value))
