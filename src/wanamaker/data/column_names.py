"""Names of columns and of tasks as a recipe gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wanamaker.data.panel_roles import nearest
from wanamaker.errors import UserError


def column_name(place: str, value: Any, optional: bool = False) -> Any:
    """The name of a column.

    Raises:
        UserError: it is none.
    """
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or str(value) == "":
        raise UserError(f"{place}={value!r} must be the name of a column.")
    return str(value)


def column_names(place: str, value: Any) -> tuple[str, ...]:
    """Names of columns, each once.

    Raises:
        UserError: no list, or a name that stands twice.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"{place}={value!r} must be a list of columns, such as [{value}].")
    names = tuple(column_name(place, entry) for entry in value)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{place} names {twice[0]!r} twice; each column may stand once.")
    return names


def one_or_more(place: str, value: Any) -> tuple[str, ...]:
    """Names, of which a single one need not stand in a list; none at all is fine.

    Raises:
        UserError: no name, or one that stands twice.
    """
    if value is None:
        return ()
    return column_names(place, [value] if isinstance(value, str | int) else value)


_OF_SCORES = ("rank", "id", "moment", "split", "net_value", "net_low", "net_high", "contact")
_OF_A_TASK = ("low", "high", "above", "reasons")


def check_task_names(place: str, names: Sequence[str]) -> None:
    """Make sure that the table of scores can have a column of each task's name.

    Raises:
        UserError: two tasks of one name, or one whose column is another's.
    """
    taken = dict.fromkeys(_OF_SCORES, "a column")
    taken |= {f"{name}_{end}": f"that of task {name!r}" for name in names for end in _OF_A_TASK}
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{place}: two tasks are called {name!r}; give each a name of its own.")
        if name in taken:
            raise UserError(f"{place} calls a task {name!r}, which is {taken[name]} of the table of scores; rename it.")


def check_categorical(categorical: Sequence[str], features: Sequence[str] | None) -> None:
    """Make sure that categorical columns are features; without declared ones, any may be.

    Raises:
        UserError: naming one that is not.
    """
    unknown = [column for column in categorical if features is not None and column not in features]
    if unknown:
        raise UserError(
            f"data.roles.categorical names {unknown[0]!r}, which is not among data.roles.features."
            f" {nearest(unknown[0], features or ())}"
        )
