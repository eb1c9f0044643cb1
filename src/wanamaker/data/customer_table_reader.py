"""`TableReader`: a table of customers, which columns of it are needed, how its rows are split, what training rows say.

A table in memory is one block; a streamed one is read block by block, twice before training: labels (which decide the
split), then features.

Axis letters: N rows, F numeric features, J categorical features, T tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.customer_table_cells import is_stray_text, moments_in, numbers_in, refuse_written_numbers, yes_in
from wanamaker.data.customer_table_labels import labels_of, refuse_unwatched, settle_tasks
from wanamaker.data.customer_table_roles import ROW, TableRoles
from wanamaker.data.customer_table_rows import Cells, encode_rows, weight_of
from wanamaker.data.customer_table_split import SplitFacts, split_rows
from wanamaker.data.customer_table_statistics import label_stats
from wanamaker.data.customer_table_survey import FeatureSurvey
from wanamaker.data.customer_table_survival import survival_feature
from wanamaker.data.experiment_source import ExperimentSource, kind_of
from wanamaker.data.experiment_split import NONE, TRAIN, split_by_column
from wanamaker.data.experiment_survey import KEYS
from wanamaker.data.experiment_table import feature_kinds, identifiers_of, key_of, text_codes
from wanamaker.data.leak_gate import Leak, check_allow, find_leaks, refuse_leaks
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import PropensitySchema, PropensityStats, SurvivalFeature, Task
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 1 << 17  # rows of a streamed table that are looked at together


@dataclass(frozen=True)
class Policy:
    """How a table is read; see `CustomerTableDataModule`."""

    split: Mapping[str, Any]
    checks: Mapping[str, float]
    allow: Collection[str] = ()
    survival: Mapping[str, Any] | None = None
    max_categories: int = 1000
    blank: str = "missing"


@dataclass(frozen=True)
class Learnt:
    """What the training rows say.

    Attributes:
        codes: uint8 [N], index into `experiment_split.SPLITS`.
        schema: names.
        stats: scales.
        leaks: that were let through.
        unknown: T counts of rows whose label is not known.
        blank: column of numbers that is written as text -> count of its blank cells, number of the first row.
    """

    codes: np.ndarray
    schema: PropensitySchema
    stats: PropensityStats
    leaks: tuple[Leak, ...]
    unknown: tuple[int, ...]
    blank: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Outcomes:
    """What decides the split; arrays over all rows."""

    label: np.ndarray
    time: np.ndarray
    values: tuple[set[str], ...]
    facts: SplitFacts
    survival: tuple[np.ndarray, np.ndarray] | None


class TableReader:
    """One table.

    Args:
        source: its files.
        roles: which column is what.
        policy: how it is read.
        streamed: read it block by block; otherwise it is held in memory until `release`.
    """

    def __init__(self, source: ExperimentSource, roles: TableRoles, policy: Policy, streamed: bool) -> None:
        self.source, self.roles, self.policy, self.streamed = source, roles, policy, streamed
        self.cells = Cells(source.name, source.decimal, policy.blank == "refuse")
        self._table: pa.Table | None = None

    # -- columns -------------------------------------------------------------------------------------------------------

    def check_header(self, labels: bool) -> None:
        """Make sure that the declared columns are there; `labels` as in `TableRoles.check_columns`."""
        split, curve = self.policy.split, self.policy.survival
        extra = {split["column"]: "data.split.column"} if split["column"] else {}
        if curve is not None:
            extra |= {curve[name]: f"data.survival.{name}" for name in ("time", "event")}
        self.source.check_delimiter()
        self.roles.check_columns(self.source.columns, self.source.name, labels=labels, extra=extra)
        if split["by"] == "time" and self.roles.moment is None:
            raise UserError("data.split.by=time needs data.roles.moment: name the column of dates.")

    def _extra(self) -> list[str]:
        """Columns that are no features because an option says what they are."""
        event = self.policy.survival["event"] if self.policy.survival is not None else None
        return [name for name in (self.policy.split["column"], event) if name is not None]

    def _label_columns(self) -> list[str]:
        """What decides the split of a row and the survival of a customer."""
        curve = self.policy.survival or {}
        wanted = [self.roles.id, *self.roles.label_columns, self.roles.moment, self.policy.split["column"]]
        found = self._there([*wanted, curve.get("time"), curve.get("event")])
        return found or self.source.columns[:1]  # a table without columns would have no rows

    def columns(self, schema: PropensitySchema | None) -> list[str]:
        """What a batch is made of: with the features of a schema, or all features."""
        if schema is None:
            features = self.roles.feature_columns(self.source.columns, self._extra())
        else:
            features = tuple(self.feature_sources(schema))
        return self._there([*self._label_columns(), self.roles.weight, *features])

    @staticmethod
    def feature_sources(schema: PropensitySchema) -> list[str]:
        """The columns that the features of a schema are read from."""
        curve = schema.survival
        numeric = [curve.column if curve is not None and name == curve.name else name for name in schema.numeric]
        return list(dict.fromkeys([*numeric, *schema.categorical]))

    def _there(self, wanted: list[str | None]) -> list[str]:
        there = set(self.source.columns)
        return list(dict.fromkeys(column for column in wanted if column is not None and column in there))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def table(self, schema: PropensitySchema | None) -> pa.Table:
        """The whole table, in memory."""
        if self._table is None:
            text = [self.roles.id, self.policy.split["column"], *self.roles.categorical]
            text += schema.categorical if schema is not None else ()
            self._table = self.source.read(self.columns(schema), [name for name in text if name])
        return self._table

    def release(self) -> None:
        """Forget the table that lies in memory."""
        self._table = None

    def _blocks(self, columns: list[str], schema: PropensitySchema | None = None) -> Iterator[tuple[Any, pa.Table]]:
        """Places [N] and cells of the rows."""
        if not self.streamed:
            table = self.table(schema)
            yield np.arange(len(table)), table
            return
        import pyarrow as pa

        first = 0
        for group in self.source.groups:
            for batch in self.source.read_group(group, columns, BLOCK_ROWS):
                yield np.arange(first, first + len(batch)), pa.Table.from_batches([batch])
                first += len(batch)

    # -- split ---------------------------------------------------------------------------------------------------------

    def codes(self, schema: PropensitySchema | None) -> np.ndarray:
        """Index into `experiment_split.SPLITS` of every row, uint8 [N]; rows without any label are "none"."""
        roles = self.roles if schema is None else self.settled(schema.tasks)
        return split_rows(self._outcomes(roles, schema).facts, self.policy.split)

    def _outcomes(self, roles: TableRoles, schema: PropensitySchema | None = None, keep: bool = False) -> _Outcomes:
        """One pass over labels, identifiers, moments and what else decides the split.

        Args:
            roles: with the tasks to read.
            schema: of a trained model that reads the table, if any.
            keep: also refuse repeated identifiers, and read the survival of the customers.
        """
        split = self.policy.split
        repeated = "repeated" in self.policy.allow and roles.id is not None
        by_key = repeated or split["by"] == "hash"
        once = keep and roles.id is not None and not repeated
        every = -(-self.source.num_rows // KEYS) if self.streamed else 1
        parts: dict[str, list[np.ndarray]] = {name: [] for name in _PARTS}
        values: list[set[str]] = [set() for _ in roles.tasks]
        for row, table in self._blocks(self._label_columns(), schema):
            found = labels_of(table, roles.tasks, row, self.source.name, self.source.decimal)
            for seen, new in zip(values, found.values, strict=True):
                seen |= new
            parts["label"].append(found.label)
            parts["time"].append(found.time)
            if by_key or once:
                first = int(row[0]) if len(row) else 0
                key = key_of(row if roles.id is None else identifiers_of(table, roles.id, first))
                parts["key"].append(key if by_key else key[:0])
                parts["once"].append(key[key % every == 0] if once else key[:0])
            if split["by"] == "time" or keep:
                dated = self.moments(table, row)  # refuses what is no date, before anything is learnt
                parts["moment"] += [dated] if split["by"] == "time" else []
            if split["column"] is not None:
                parts["column"].append(self._column_codes(table))
            if keep and self.policy.survival is not None:
                for name, numbers in zip(("age", "event"), self._survival_of(table, row), strict=True):
                    parts[name].append(numbers)
        joined = {name: np.concatenate(arrays) if arrays else None for name, arrays in parts.items()}
        if joined["label"] is None or not len(joined["label"]):
            raise UserError(f"{self.source.name} has no rows.")
        if once:
            self._refuse_repeated(joined["once"])
        usable = np.isfinite(joined["label"]).any(axis=1)
        if joined["moment"] is not None and keep:
            self._refuse_undated(joined["moment"], usable)
        facts = SplitFacts(
            usable=usable if joined["moment"] is None else usable & ~np.isnat(joined["moment"]),
            positive=self._positive(joined["label"][:, 0], roles, schema),
            key=joined["key"] if by_key else None,
            moment=joined["moment"],
            column=joined["column"],
            repeated=repeated,
        )
        survival = (joined["age"], joined["event"]) if joined["age"] is not None else None
        return _Outcomes(joined["label"], joined["time"], tuple(values), facts, survival)

    @staticmethod
    def _positive(label: np.ndarray, roles: TableRoles, schema: PropensitySchema | None) -> np.ndarray:
        """Strata of a draw; the labels of a regression have none."""
        kind = schema.tasks[0].kind if schema is not None else roles.tasks[0].kind
        known = label[np.isfinite(label)]
        if kind is None and len(known) and known.min() < 0:
            kind = "regression"
        return np.zeros(len(label), bool) if kind == "regression" else label > 0

    def moments(self, table: pa.Table, row: np.ndarray) -> np.ndarray:
        """When each row was true, datetime64[s] [N]; NaT where not known."""
        name = self.roles.moment
        if name is None or name not in table.column_names:
            return np.full(len(table), np.datetime64("NaT"), "datetime64[s]")
        return moments_in(table.column(name), name, row, self.source.name)

    def _column_codes(self, table: pa.Table) -> np.ndarray:
        name = self.policy.split["column"]
        if name not in table.column_names:  # customers to be scored
            return np.full(len(table), NONE, np.uint8)
        return split_by_column(*text_codes(table.column(name)), name, self.source.name)

    def _survival_of(self, table: pa.Table, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Age and whether it ended, float64 [N] each."""
        option = self.policy.survival
        same = [task.positive for task in self.roles.tasks if task.column == option["event"]]
        positive = option["positive"] if option["positive"] is not None else (same[0] if same else None)
        event, seen = yes_in(
            table.column(option["event"]),
            None if positive is None else str(positive),
            option["event"],
            "data.survival",
            row,
            self.source.name,
        )
        if positive is not None and seen and not (event == 1).any() and not self.streamed:
            raise UserError(
                f"data.survival.positive={positive!r} is not among the values of column {option['event']!r} of"
                f" {self.source.name}. {nearest(str(positive), sorted(seen))}"
            )
        bad = np.isfinite(event) & (event != 0) & (event != 1)
        if bad.any():
            raise UserError(
                f"column {option['event']!r} (data.survival.event) of {self.source.name} holds"
                f" {event[bad.argmax()]:g} in row {int(row[bad.argmax()]) + 1} of the table; write 0 and 1, or say in"
                " data.survival.positive which value means that it ended."
            )
        return numbers_in(
            table.column(option["time"]), option["time"], "survival time", row, self.source.name, self.source.decimal
        ), event

    def _refuse_undated(self, moment: np.ndarray, usable: np.ndarray) -> None:
        bad = np.isnat(moment) & usable
        if bad.any():
            raise UserError(
                f"column {self.roles.moment!r} (moment) of {self.source.name} is empty in row {int(bad.argmax()) + 1}"
                f" of the table ({int(bad.sum()):,} such rows): data.split.by=time needs a date in each."
            )

    def _refuse_repeated(self, keys: np.ndarray) -> None:
        """Say which identifier stands in two rows, and where."""
        keys = np.sort(keys)
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if not len(twice):
            return
        rows: list[int] = []
        name = None
        for row, block in self._blocks([self.roles.id]):
            found = identifiers_of(block, self.roles.id, int(row[0]) if len(row) else 0)
            hits = np.flatnonzero(key_of(found) == keys[twice[0]])
            rows += (row[hits] + 1).tolist()
            name = found[hits[0]] if len(hits) else name
        raise UserError(
            f"column {self.roles.id!r} (id) of {self.source.name} has {name!s} in rows {rows[0]} and {rows[1]} of the"
            " table: one row stands for one customer. Join the rows, name another column in data.roles.id, or pass"
            " data.allow=[repeated], which keeps the rows of a customer in one part of the split."
        )

    # -- training rows -------------------------------------------------------------------------------------------------

    def learn(self) -> Learnt:
        """Split the table, survey the training rows, and let the gate judge them.

        Raises:
            UserError: labels that are not what was declared or all alike, repeated identifiers, cells that cannot be
                read, an empty training split, leaks.
        """
        numeric, categorical, stray = self._kinds()
        curve_name = f"survival({self.policy.survival['time']})" if self.policy.survival is not None else None
        names = [*self.source.columns, *([curve_name] if curve_name else [])]
        allow = check_allow(self.policy.allow, names, ("repeated",))
        found = self._outcomes(self.roles, keep=True)
        codes = split_rows(found.facts, self.policy.split)
        train = codes == TRAIN
        if not found.facts.usable.any():
            columns = ", ".join(repr(task.column) for task in self.roles.tasks)
            raise UserError(
                f"{self.source.name} has no row to learn from: the labels ({columns}) are empty in every row."
            )
        if not train.any():
            raise UserError(
                f"No row of {self.source.name} is left to train on: lower data.split.val and data.split.test."
            )
        tasks = settle_tasks(self.roles.tasks, found.label, train, found.values, self.source.name)
        for t, (role, task) in enumerate(zip(self.roles.tasks, tasks, strict=True)):
            if task.kind == "hazard":
                refuse_unwatched(task, found.label[train, t], found.time[train, t], f"{role.place}.edges")
        curve = None
        if found.survival is not None:
            age, event = (part[train] for part in found.survival)
            curve = survival_feature(self.policy.survival["time"], age, event)
        schema, survey, stats, leaks = self._survey(tasks, curve, (numeric, categorical, stray), found, train, allow)
        unknown = tuple((~np.isfinite(found.label)).sum(axis=0).tolist())
        blank = {name: (count, first) for name, (count, first) in survey.blank.items() if count}
        return Learnt(codes, schema, stats, leaks, unknown, blank)

    def _survey(
        self,
        tasks: tuple[Task, ...],
        curve: SurvivalFeature | None,
        kinds: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
        found: _Outcomes,
        train: np.ndarray,
        allow: Collection[str],
    ) -> tuple[PropensitySchema, FeatureSurvey, PropensityStats, tuple[Leak, ...]]:
        numeric, categorical, stray = kinds
        survey = FeatureSurvey(numeric, categorical, curve, stray, self.cells, self.policy.max_categories)
        for row, table in self._blocks(self.columns(None)):
            survey.see(table, row, train[row])
            weight_of(table, self.roles.weight, row, self.cells)  # refuses what is not positive
        schema = PropensitySchema(
            id=self.roles.id or ROW,
            tasks=tasks,
            numeric=survey.numeric,
            categorical=categorical,
            categories=survey.sorted_categories(),
            survival=curve,
        )
        sample, row = survey.drawn()
        rows = encode_rows(sample, schema, self.settled(tasks), row, row, self.cells)
        labels = label_stats(tasks, found.label[train], found.time[train])
        stats = survey.stats(rows.numeric, labels)
        if not any(len(np.unique(values)) > 1 for part in (rows.numeric, rows.categorical) for values in part.T):
            raise UserError(
                f"{self.source.name}: every feature ({', '.join([*schema.numeric, *schema.categorical][:12])}) is empty"
                " or the same in all training rows, so that no customer can be told from another; check data.roles."
            )
        leaks = find_leaks(schema, rows.numeric, rows.categorical, rows.label, rows.time, self.policy.checks)
        refuse_leaks(leaks, allow, self.source.name)
        return schema, survey, stats, leaks

    @staticmethod
    def blank(table: pa.Table, schema: PropensitySchema, numeric: np.ndarray) -> dict[str, tuple[int, int]]:
        """What `Learnt.blank` says, of a whole table with its encoded numbers [N, F]."""
        found = {}
        for f, name in enumerate(schema.numeric):
            if name in table.column_names and kind_of(table.schema.field(name).type) == "text":
                empty = np.isnan(numeric[:, f])
                if empty.any():
                    found[name] = (int(empty.sum()), int(empty.argmax()) + 1)
        return found

    def settled(self, tasks: tuple[Task, ...]) -> TableRoles:
        """The roles with the kinds of the tasks as they were found."""
        known = {task.name: task for task in tasks}
        return replace(self.roles, tasks=tuple(replace(role, kind=known[role.name].kind) for role in self.roles.tasks))

    def _kinds(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Numeric and categorical features, and those of the numeric ones that are written as text."""
        features = self.roles.feature_columns(self.source.columns, self._extra())
        if not features:
            raise UserError(f"{self.source.name} has no column left for a feature; see data.roles.features and drop.")
        # What the first block of a streamed table holds decides; a cell further on that disagrees is refused.
        _, block = next(self._blocks(self.columns(None)), (None, None))
        if block is None or not len(block):
            raise UserError(f"{self.source.name} has no rows.")
        kinds = {name: self.source.kinds.get(name) or kind_of(block.schema.field(name).type) for name in features}
        written = self.source.kind == "csv"
        stray = tuple(
            name
            for name in features
            if kinds[name] == "text"
            and name not in self.roles.categorical
            and is_stray_text(block.column(name), written, self.source.decimal)
        )
        for name in set(features) - {*stray, *self.roles.categorical}:
            if kinds[name] == "text":
                refuse_written_numbers(block.column(name), name, self.source.name, self.source.decimal)
        kinds |= dict.fromkeys(stray, "number")
        dates = [name for name in features if kinds[name] == "date"]
        if dates:
            raise UserError(
                f"column {dates[0]!r} of {self.source.name} holds dates, which are no feature: write the days up to the"
                f" moment of the prediction instead, or leave it out with data.roles.drop=[{dates[0]}]."
            )
        numeric, categorical = feature_kinds(features, kinds, self.roles.categorical, self.source.name)
        return numeric, categorical, stray


_PARTS = ("label", "time", "key", "once", "moment", "column", "age", "event")
