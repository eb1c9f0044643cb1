"""`ExperimentReader`: the table of an experiment, which columns of it are needed, how its rows are split and surveyed.

Axis letters: N rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.experiment_gates import GateReport, check_allow, run_gates, settle, unrepeated
from wanamaker.data.experiment_roles import ExperimentRoles
from wanamaker.data.experiment_source import ExperimentSource, kind_of
from wanamaker.data.experiment_split import NONE, split_by_column, split_by_hash, split_randomly
from wanamaker.data.experiment_survey import KEYS, Survey, Surveyor
from wanamaker.data.experiment_table import (
    Labels,
    encode,
    feature_kinds,
    identifiers_of,
    key_of,
    labels_of,
    text_codes,
    treatment_of,
)
from wanamaker.data.uplift_batch import UpliftSchema
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 1 << 17  # rows of a streamed table that are surveyed at a time


@dataclass(frozen=True)
class Policy:
    """How strictly a table is read; see `ExperimentDataModule`."""

    split: Mapping[str, Any]
    checks: Mapping[str, float]
    allow: Collection[str] = ()
    max_categories: int = 1000


class ExperimentReader:
    """One table.

    Args:
        source: its files.
        roles: which column is what.
        policy: how strictly it is read.
        streamed: read it block by block; otherwise it is held in memory until `release`.
    """

    def __init__(self, source: ExperimentSource, roles: ExperimentRoles, policy: Policy, streamed: bool) -> None:
        self.source, self.roles, self.policy, self.streamed = source, roles, policy, streamed
        column = policy.split["column"]
        self.split_columns = [column] if column else []
        self._table: pa.Table | None = None

    def check_header(self, labels: bool) -> None:
        """Make sure that the declared columns are there; `labels` as in `ExperimentRoles.check_columns`."""
        self.source.check_delimiter()
        self.roles.check_columns(self.source.columns, self.source.name, labels=labels, extra=self.split_columns)
        if labels and self.source.kinds:
            self.kinds(self.source.kinds)

    def kinds(self, kinds: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the numeric and of the categorical features."""
        features = self.roles.feature_columns(self.source.columns, self.split_columns)
        return feature_kinds(features, kinds, self.roles.categorical, self.source.name)

    def columns(self, schema: UpliftSchema | None) -> list[str]:
        """What a batch is made of: with the features of a schema, or all features."""
        if schema is not None:
            features: tuple[str, ...] = (*schema.numeric, *schema.categorical)
        else:
            features = self.roles.feature_columns(self.source.columns, self.split_columns)
        wanted = [*self._label_columns(), self.roles.weight, self.roles.cost, *features]
        there = set(self.source.columns)
        return list(dict.fromkeys(column for column in wanted if column in there))

    @staticmethod
    def feature_sources(schema: UpliftSchema) -> list[str]:
        """The columns that the features of a schema are read from."""
        return [*schema.numeric, *schema.categorical]

    def _label_columns(self) -> list[str]:
        """What decides the split of a row."""
        wanted = [self.roles.id, self.roles.treatment, *self.roles.outcome_names, *self.split_columns]
        there = set(self.source.columns)
        found = [column for column in wanted if column in there]
        return found or self.source.columns[:1]  # a table without columns would have no rows

    def table(self, schema: UpliftSchema | None) -> pa.Table:
        """The whole table, in memory."""
        if self._table is None:
            text = [self.roles.id, self.roles.treatment, *self.split_columns, *self.roles.categorical]
            text += schema.categorical if schema is not None else ()
            self._table = self.source.read(self.columns(schema), [name for name in text if name])
        return self._table

    def release(self) -> None:
        """Forget the table that lies in memory."""
        self._table = None

    def _blocks(self, columns: list[str], schema: UpliftSchema | None = None) -> Iterator[pa.Table]:
        if not self.streamed:
            yield self.table(schema)
            return
        import pyarrow as pa

        for group in self.source.groups:
            for batch in self.source.read_group(group, columns, BLOCK_ROWS):
                yield pa.Table.from_batches([batch])

    # -- split and survey ----------------------------------------------------------------------------------------------

    def codes(self, schema: UpliftSchema | None) -> np.ndarray:
        """Index into `experiment_split.SPLITS` of every row, uint8 [N]; rows without labels are "none".

        Raises:
            UserError: no row, an arm that the schema, of a trained model, does not have, or, in memory, identifiers
                that repeat.
        """
        surveyor = self._surveyor((), (), allow_missing=True)
        for block in self._blocks(self._label_columns(), schema):
            surveyor.see(block, learn=False, every=0 if self.streamed else 1)
            if schema is not None:
                treatment_of(labels_of(block, self.roles), schema, self.roles)
        self._refuse_repeated(surveyor.repeated())
        return surveyor.split_only().codes

    def learn(self) -> tuple[Survey, GateReport, int]:
        """Survey the table and let the gates judge it.

        Returns:
            What was found (without the sample), what the gates saw, and the number of rows that can only be scored.

        Raises:
            UserError: labels that are not what was declared, repeated identifiers, what the gates find.
        """
        kinds = self.source.kinds or {field.name: kind_of(field.type) for field in self.table(None).schema}
        numeric, categorical = self.kinds(kinds)
        allow = check_allow(self.policy.allow, [*numeric, *categorical])
        surveyor = self._surveyor(numeric, categorical, allow_missing="missing" in allow)
        every = -(-self.source.num_rows // KEYS) if self.streamed else 1
        for block in self._blocks(self.columns(None)):
            surveyor.see(block, every=every)
        self._refuse_repeated(surveyor.repeated())
        survey = surveyor.result()
        sample = encode(survey.sample, survey.schema, self.roles, survey.sample_row, survey.sample_key)
        gates = run_gates(survey.schema, sample, survey.arm_count, survey.train_count, self.policy.checks)
        names = unrepeated(survey.schema, self.roles.categorical, int(survey.train_count.sum()))
        gates = replace(gates, findings=(*gates.findings, *names))
        settle(gates, allow, self.source.name)
        return replace(survey, sample=None, sample_row=None, sample_key=None), gates, surveyor.left_out

    def _surveyor(self, numeric: tuple[str, ...], categorical: tuple[str, ...], allow_missing: bool) -> Surveyor:
        return Surveyor(
            self.roles,
            self.source.name,
            self._split,
            numeric,
            categorical,
            allow_missing=allow_missing,
            allow_repeated="repeated" in self.policy.allow,
            max_categories=self.policy.max_categories,
        )

    def _split(self, table: pa.Table, labels: Labels, usable: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Codes of a block, uint8 [N]."""
        options = self.policy.split
        column = options["column"]
        if column is not None:
            if column not in table.column_names:  # customers yet to be treated
                return np.full(len(table), NONE, np.uint8)
            return split_by_column(*text_codes(table.column(column)), column, self.source.name)
        if self.streamed or options["by"] == "hash" or "repeated" in self.policy.allow:
            return split_by_hash(key, options)
        rank = np.argsort(np.argsort(np.array(labels.values, dtype=object)))
        strata = 2 * rank[labels.code] + (labels.outcome[:, 0] > 0)
        codes = np.full(len(table), NONE, np.uint8)
        codes[usable] = split_randomly(strata[usable], options)
        return codes

    def _refuse_repeated(self, key: int | None) -> None:
        """Say which identifier was met twice, and where."""
        if key is None:
            return
        rows: list[int] = []
        name, first = None, 0
        for block in self._blocks([self.roles.id]):
            found = identifiers_of(block, self.roles.id, first)
            hits = np.flatnonzero(key_of(found) == key)
            rows += (hits + first + 1).tolist()
            name = found[hits[0]] if len(hits) else name
            first += len(block)
        raise UserError(
            f"column {self.roles.id!r} (id) of {self.source.name} has {name!s} in rows {rows[0]} and {rows[1]} of the"
            " table: one row stands for one customer. Join the rows, name another column in data.roles.id, or pass"
            " data.allow=[repeated]."
        )
