"""`SessionDataModule`: sessions of a clickstream, scored after each of their events until the first purchase.

Every event before a session's first purchase is a position: what will come of the session, told by its events so far,
by what its user did in earlier sessions, and by what became of the product in view up to that moment. The purchase and
what follows it are never seen; sessions that begin with it are left out and counted. An event at the very time of the
purchase counts as not before it.

Axis letters: P positions, E events, N sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from wanamaker.data.column_names import column_name, one_or_more
from wanamaker.data.event_history import History, Positions, windowed
from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_options import EventOptions
from wanamaker.data.event_partition import LogColumns
from wanamaker.data.event_reader import EventReader
from wanamaker.data.event_roles import EventRoles
from wanamaker.data.event_rows import Prepared
from wanamaker.data.event_session_features import GROUPS, product_features, session_features, user_features
from wanamaker.data.event_tasks import DAY, MOST_DAYS, is_days, parse_tasks
from wanamaker.data.experiment_table import key_of
from wanamaker.data.panel_options import options_of
from wanamaker.data.passed_on import passed_on
from wanamaker.errors import UserError


@dataclass(frozen=True)
class SessionRoles:
    """Columns of a clickstream with one row per event.

    Attributes:
        session: which visit. time: of the event. type: what was done, such as view, cart, purchase.
        user: who; None: users are not known, and every session is split for itself.
        product: in view; None: not known.
        price: of the product.
        categorical, numeric: further columns that a sequence model reads.
    """

    session: str
    time: str
    type: str
    user: str | None = None
    product: str | None = None
    price: str | None = None
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, roles: Mapping[str, Any]) -> SessionRoles:
        """Roles of a data config.

        Raises:
            UserError: an unknown role, or one that is missing.
        """
        defaults = {field.name: None for field in fields(cls)} | {"categorical": (), "numeric": ()}
        given = options_of("data.roles", roles, defaults, ("session", "time", "type"))
        for name, value in given.items():
            place = f"data.roles.{name}"
            if name in ("categorical", "numeric"):
                given[name] = one_or_more(place, value)
            else:
                given[name] = column_name(place, value, optional=name in ("user", "product", "price"))
        made = cls(**given)
        for name in ("user", "product"):
            column = getattr(made, name)
            if column is not None and column in (made.time, made.type, made.price, *made.numeric):
                raise UserError(f"data.roles: column {column!r} has two roles, one of them {name}; give it one.")
        return made

    def of_events(self) -> EventRoles:
        """Roles of the events, checked."""
        return EventRoles.from_config(
            {
                "id": self.session,
                "time": self.time,
                "type": self.type,
                "amount": self.price,
                "categorical": self.categorical,
                "numeric": self.numeric,
            }
        )


@dataclass(frozen=True)
class SessionOptions(EventOptions):
    """What a recipe says about sessions.

    Attributes:
        columns: which column is what.
        target: the type of event that ends what is seen of a session.
        groups: of `event_session_features.GROUPS`.
        timeout: minutes without an event after which a session is over; the outcome of one that may still go on when
            the log ends is not known.
    """

    columns: SessionRoles | None = None
    target: str = "purchase"
    groups: tuple[str, ...] = ()
    timeout: float = 30.0


class SessionReader(EventReader):
    """Positions of sessions.

    Args:
        options: of the recipe.
    """

    options: SessionOptions

    def __init__(self, options: SessionOptions) -> None:
        super().__init__(options)
        self._begun_with_target: dict[int, int] = {}
        self._number = 0
        if self.streamed and {"user", "product"} & set(options.groups):
            raise UserError(
                f"data.groups={list(options.groups)}: what users and products did elsewhere is known of a log in memory"
                f" only, and {self.name} has more than data.events_in_memory={options.in_memory:,} events: raise that,"
                " or keep data.groups=[session]."
            )

    def columns(self) -> LogColumns:
        found, roles = super().columns(), self.options.columns
        further = [name for name in (roles.user, roles.product) if name and name not in found.categorical]
        return replace(found, categorical=(*found.categorical, *further))

    @property
    def ahead(self) -> float:
        return 0.0

    @property
    def moments(self) -> np.ndarray:
        """Sessions have moments of their own."""
        return np.array([self.span.first, self.span.end])

    def said(self) -> list[str]:
        count = sum(self._begun_with_target.values())
        name = self.options.target
        lost = [f"{count:,} sessions were left out: they begin with {name!r}."] if count else []
        return super().said() + lost

    def prepare(self, number: int) -> Prepared:
        self._number = number
        part = super().prepare(number)
        user = self.options.columns.user
        if user is None:
            return part
        # Sessions of one user belong together: in splits, and in the folds of cross-fitted members.
        names = part.history.names[user]
        first = np.minimum(part.history.offsets[:-1], max(len(names.code) - 1, 0))
        values = np.array(names.values, dtype=object)
        own = np.array([value == "" for value in values], bool)[names.code[first]]
        return replace(part, key=np.where(own, part.key, key_of(values)[names.code[first]]))

    def split_moment(self, part: Prepared) -> np.ndarray:
        return part.history.time[part.positions.first]  # a session is not cut

    def positions(self, history: History, ids: np.ndarray) -> Positions:
        ends = self._ends(history)
        self._begun_with_target[self._number] = int((ends == history.offsets[:-1]).sum())
        owner = history.owner
        seen = np.flatnonzero(np.arange(len(owner)) < ends[owner])
        reach = self.options.history_days, self.options.history_events
        return windowed(history, owner[seen], history.time[seen], seen + 1, *reach)

    def _ends(self, history: History) -> np.ndarray:
        """Place of each session's first event that is not before its first target, int64 [N]."""
        name, values = self.options.target, history.type.values
        target = history.type.code == (values.index(name) if name in values else -1)
        owner = history.owner
        first = np.full(len(history.offsets) - 1, np.iinfo(np.int64).max)
        np.minimum.at(first, owner[target], history.time[target])
        before = history.time < first[owner]
        return history.offsets[:-1] + np.bincount(owner[before], minlength=len(first))

    def labels(self, happened: History, positions: Positions) -> tuple[np.ndarray, np.ndarray]:
        o, offsets = self.options, happened.offsets
        end = offsets[positions.customer + 1]
        label = np.full((len(positions), len(o.tasks)), np.nan)
        last = happened.time[np.maximum(end - 1, 0)]
        known = self.span.last - last >= int(o.timeout * DAY / 1440)
        for t, one in enumerate(o.tasks):
            chosen = [i for i, name in enumerate(happened.type.values) if name in one.events]
            counted = np.isin(happened.type.code, chosen)
            so_far = np.concatenate([[0], np.cumsum(counted)])
            count = so_far[end] - so_far[positions.stop]
            if one.task.kind == "regression":
                label[:, t] = count
            else:
                label[:, t] = (count == 0) if one.without else (count > 0)
        label[~known] = np.nan
        return label, np.full_like(label, np.nan)

    def features(self, history: History, positions: Positions) -> tuple[dict[str, Any], dict[str, Any]]:
        roles, groups = self.options.columns, self.options.groups
        numeric: dict[str, np.ndarray] = {}
        words: dict[str, Any] = {}
        types = self.types if self.feature_types is None else self.feature_types
        types = tuple(name for name in types if name != self.options.target)
        if "session" in groups:
            numeric |= session_features(history, positions, roles.product, roles.price, types)
            words["last type"] = history.type.code[positions.stop - 1].astype(np.int64), history.type.values
            for name in roles.categorical:
                column = history.names[name]
                words[f"last {name}"] = column.code[positions.stop - 1].astype(np.int64), column.values
        if "user" in groups and roles.user is not None:
            numeric |= user_features(history, positions, roles.user, self.options.target)
        if "product" in groups and roles.product is not None:
            numeric |= product_features(history, positions, roles.product, (*types, self.options.target))
        return numeric, words


class SessionDataModule(EventLogDataModule):
    """A clickstream in CSV or Parquet files, one row per event, in any order.

    Rows are positions: a session after one of its events. `identifiers` are those of sessions; sessions of one user lie
    in one part of the split.

    Args:
        path: The log: a file, a folder of shards, or several.
        roles: Which column is what; see `SessionRoles`.
        target: The type of event that is foretold, and that ends what is seen of a session.
        tasks: What is to be foretold of the rest of the session: `{name, kind: binary, event}` or `{name, kind:
            regression, event, count: true}`; null: `[{name: conversion, kind: binary, event: <target>}]`.
        groups: Features: session (what was done so far), user (what they did in earlier sessions), product (what became
            of the product in view, in all sessions up to now).
        timeout: Minutes without an event after which a session is over.

    The other arguments are those of `EventLogDataModule`.
    """

    reader_type = SessionReader

    def __init__(
        self,
        *,
        path: Any,
        roles: Mapping[str, Any],
        target: str = "purchase",
        tasks: Sequence[Any] | None = None,
        groups: Sequence[str] = GROUPS,
        timeout: float = 30.0,
        history: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        time_format: str | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        checks: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        events_in_memory: int = 5_000_000,
        cache_dir: str | None = None,
        buckets: int | None = None,
        lanes: int = 4,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        bucket_batches: int = 50,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        given = locals()
        columns = SessionRoles.from_config(roles)
        chosen = (groups,) if isinstance(groups, str) else tuple(groups or ())
        for group in chosen:
            if group not in GROUPS:
                raise UserError(f"data.groups names {group!r}; choose from {', '.join(GROUPS)}.")
        if not is_days(timeout, zero=True):
            raise UserError(f"data.timeout={timeout!r}; give a number of minutes, 0 or more, at most {MOST_DAYS:,}.")
        if tasks is not None and not tasks:
            raise UserError(f"data.tasks is an empty list; null foretells {target!r}.")
        asked = tasks or [{"name": "conversion", "kind": "binary", "event": target}]
        for i, task in enumerate(asked):
            if not isinstance(task, Mapping) or task.get("kind") not in ("binary", "regression") or "within" in task:
                raise UserError(
                    f"data.tasks[{i}]={task!r}; of the rest of a session there is {{name: ..., kind: binary, event:"
                    " ...}} or {name: ..., kind: regression, event: ..., count: true}."
                )
        tasks = [{**task, "within": 1} for task in asked]
        super().__init__(**passed_on(EventLogDataModule, given, roles=columns.of_events(), tasks=tasks, features=()))
        # The window is the rest of the session, whose days nobody knows before.
        rest = tuple(replace(one, task=replace(one.task, horizon=None)) for one in parse_tasks(tasks, ()))
        self.options = replace(self.options, tasks=rest).extended(
            SessionOptions, columns=columns, target=target, groups=chosen, timeout=float(timeout)
        )
