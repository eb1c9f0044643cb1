"""`CustomerTableDataModule`: a table of customers, sessions or subscriptions, as `PropensityBatch`es without events.

Axis letters: N rows, T tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.customer_table_reader import Learnt, Policy, TableReader
from wanamaker.data.customer_table_roles import TableRoles
from wanamaker.data.customer_table_rows import CustomerDataset, CustomerRows, encode_rows
from wanamaker.data.customer_table_split import parse_split
from wanamaker.data.customer_table_stream import CustomerRowReader
from wanamaker.data.customer_table_survival import parse_survival
from wanamaker.data.derived_source import DerivedSource, parse_derive
from wanamaker.data.experiment_sampler import ArmBatchSampler
from wanamaker.data.experiment_split import NONE, SPLITS, TEST, TRAIN, VAL
from wanamaker.data.leak_gate import Leak, parse_checks, report_leaks
from wanamaker.data.passed_on import passed_on
from wanamaker.data.propensity_batch import PropensitySchema, PropensityStats
from wanamaker.data.split_table import SplitTable
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

BLANKS = ("missing", "refuse")


class CustomerTableDataModule(SplitTable[PropensitySchema, PropensityStats, CustomerRows]):
    """One row per customer in a CSV or Parquet file, or in a folder of Parquet shards.

    Nothing is scaled here: batches hold the units of the file. Categories, statistics and survival curves are those of
    the training rows. A training batch holds rows with and without the first task's event in proportion.

    A Parquet table of more than `rows_in_memory` rows is streamed by row group: see `experiment_stream`. Its split is
    the same as in memory. While it is decided, labels (8 bytes per row and task) and what the split looks at are held;
    after that, three bytes per row.

    `num_workers` processes read a streamed table; of a table in memory they gather batches.

    Args:
        path: The table.
        roles: Which column is what; see `customer_table_roles`.
        survival: `{time, event, positive}`: a further numeric feature "survival(<time>)", the Kaplan-Meier share of the
            training customers that was left at the customer's `time`; null for none. `positive` is the value of `event`
            that means that it ended (null: as in the task with that column, else 1, true or yes).
        derive: Further numeric features, name -> expression of columns, such as `{price: spend / orders}`; see
            `derived_source`.
        split: `{val, test, by, seed, stratify, column, embargo, folds, fold, repeat}`; see `customer_table_split`. With
            `val: 0` the validation rows are the training rows: for members that are cross-fitted, each row judged by
            those that never saw it.
        encoding: Of a CSV file.
        delimiter: Between the cells of a CSV file; null is a comma (a tab in a .tsv file).
        decimal: Decimal sign of a CSV file.
        blank: Blank cells of numeric features: "missing" values, or "refuse" them.
        checks: `{rows, leak_auc, leak_r2}` of the leak gate; see `leak_gate`.
        allow: Features whose leak does not stop the run; `repeated` lets identifiers repeat, and keeps the rows of a
            customer in one part of the split.
        max_categories: Names that a categorical column may have.
        rows_in_memory: Rows above which a Parquet table is streamed.
        lanes: Of a streamed table: stretches that every batch takes rows from; a multiple of the number of ranks and a
            divisor of `batch_size`.
        batch_size: Global training batch.
        eval_batch_size: Global evaluation batch.
        passes_per_epoch: Passes over the training rows in one epoch, each in its own order.
        num_workers: Loader processes per rank.
        pin_memory: Page-locked batches; null: when there is a CUDA device.
        seed: Seeds the order of the rows.

    Attributes:
        source: The files.
        reader: Of the table.
        streamed: Whether the table is read as it is used.
    """

    source: DerivedSource
    reader: TableReader
    reader_type = TableReader

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        survival: Mapping[str, Any] | None = None,
        derive: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        blank: str = "missing",
        checks: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        max_categories: int = 1000,
        rows_in_memory: int = 2_000_000,
        lanes: int = 16,
        batch_size: int = 1024,
        eval_batch_size: int = 8192,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        given = locals()
        super().__init__(**passed_on(SplitTable, given, roles=TableRoles.from_config(roles)))
        self.derive = parse_derive(derive)
        if blank not in BLANKS:
            raise UserError(f"data.blank={blank!r}; choose from {', '.join(BLANKS)}.")
        if isinstance(allow, str):
            raise UserError(f"data.allow={allow!r} must be a list, such as [{allow}].")
        self.policy = Policy(
            parse_split(split),
            parse_checks(checks),
            tuple(map(str, allow or ())),
            parse_survival(survival),
            max_categories,
            blank,
        )
        self._announced = False

    # -- before training -----------------------------------------------------------------------------------------------

    @property
    def has_annotations(self) -> bool:
        """Whether the table has a label column; without one, customers are scored and not judged."""
        self._open(labels=False)
        return any(task.column in self.source.columns for task in self.roles.tasks)

    @property
    def task_names(self) -> tuple[str, ...]:
        """T names of what is foretold, as the recipe declares them."""
        return self.roles.task_names

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """What the gate found and `allow` let through."""
        return self._learn().leaks

    def _files(self) -> DerivedSource:
        return DerivedSource(self.path, self.derive, self.roles.future, **self.writing)

    def _learn(self) -> Learnt:
        if self._learnt is None:
            self._open(labels=True)
            self._learnt = self.reader.learn()
            self._codes = self._learnt.codes
            self._refuse_empty_validation()
        return self._learnt

    def _refuse_other_labels(self, schema: PropensitySchema) -> None:
        names = [task.name for task in schema.tasks]
        if list(self.roles.task_names) != names:
            raise UserError(
                f"data.roles.tasks are {list(self.roles.task_names)}, but the model was trained for {names}: name"
                " those, in that order."
            )

    def _beside(self, table: pa.Table) -> np.ndarray:
        return self.reader.moments(table, np.arange(len(table)))

    def _encoded(self, table: pa.Table, schema: PropensitySchema, key: np.ndarray) -> CustomerRows:
        roles = self.reader.settled(schema.tasks)
        rows = encode_rows(table, schema, roles, np.arange(len(table)), key, self.reader.cells)
        if self._adopted is not None:
            self._report_blank(self.reader.blank(table, schema, rows.numeric))
        return rows

    def _require(self, stage: str) -> None:
        if stage == "test" and self.has_annotations and (self.codes == NONE).all():
            columns = ", ".join(repr(task.column) for task in self.roles.tasks)
            raise UserError(
                f"{self.source.name} has no row with a label to test on: fill in {columns}, or pass stages=[predict]."
            )
        super()._require(stage)

    def _refuse_empty_validation(self) -> None:
        split = self.policy.split
        if split["column"] is None and split["val"] > 0 and not (self._codes == VAL).any():
            raise UserError(
                f"data.split.val={split['val']} of {len(self._codes):,} rows of {self.source.name} leaves none to"
                " validate on; raise it, or set it to 0 to validate on the training rows."
            )

    @rank_zero_only
    def _say(self, found: Learnt) -> None:
        if self._announced:
            return
        self._announced = True
        counts = np.bincount(found.codes, minlength=len(SPLITS))
        stats, tasks = found.stats, found.schema.tasks
        shares = ", ".join(f"{task.name} {share:.2%}" for task, share in zip(tasks, stats.positive_share, strict=True))
        log.info(
            "%s: %d rows%s; train %d, val %s, test %d; labels above 0: %s",
            self.path.name,
            len(found.codes),
            " (streamed)" if self.streamed else "",
            counts[TRAIN],
            counts[VAL] or "on the training rows",
            counts[TEST],
            shares,
        )
        for task, unknown in zip(tasks, found.unknown, strict=True):
            if unknown:
                log.warning("%s: label %r is not known in %d rows.", self.path.name, task.name, unknown)
        self._report_blank(found.blank)
        report_leaks(found.leaks, self.policy.allow, self.path.name)

    @rank_zero_only
    def _report_blank(self, blank: Mapping[str, tuple[int, int]]) -> None:
        if not blank:
            return
        cells = [f"{name!r} in {count:,} rows (the first is row {first})" for name, (count, first) in blank.items()]
        log.warning(
            "%s: numbers that are blank: %s; they are missing values (data.blank=refuse refuses them).",
            self.path.name,
            ", ".join(cells),
        )

    # -- rows ----------------------------------------------------------------------------------------------------------

    def moment_of(self, row: np.ndarray) -> np.ndarray:
        """When some rows were true, datetime64[s] [N]; NaT where not known."""
        row = np.asarray(row)
        if self.roles.moment is None or self.roles.moment not in self.source.columns:
            return np.full(len(row), np.datetime64("NaT"), "datetime64[s]")
        return self._looked_up(row, self.roles.moment, 1, lambda table: self.reader.moments(table, row))

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _dataset(self, places: np.ndarray) -> CustomerDataset:
        return CustomerDataset(self._encode(), places)

    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> ArmBatchSampler:
        return ArmBatchSampler(self._encode().strata()[places], self.batch_size, **order)

    def _reader(self, chosen: np.ndarray) -> CustomerRowReader:
        schema = self.schema
        return CustomerRowReader(
            self.source,
            self.reader.columns(schema),
            schema,
            self.reader.settled(schema.tasks),
            chosen,
            self.reader.cells,
        )
