"""`CustomerTableDataModule`: a table of customers, sessions or subscriptions, as `PropensityBatch`es without events.

Axis letters: N rows, T tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.customer_table_reader import Learnt, Policy, TableReader
from wanamaker.data.customer_table_roles import TableRoles
from wanamaker.data.customer_table_rows import CustomerDataset, CustomerRows, encode_rows
from wanamaker.data.customer_table_split import parse_split
from wanamaker.data.customer_table_stream import CustomerRowReader
from wanamaker.data.customer_table_survival import parse_survival
from wanamaker.data.experiment_sampler import ArmBatchSampler
from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_split import NONE, SPLITS, TEST, TRAIN, VAL
from wanamaker.data.experiment_stream import EvaluationStream, RowLookup, TrainingStream
from wanamaker.data.experiment_table import identifiers_of, key_of
from wanamaker.data.leak_gate import Leak, parse_checks, report_leaks
from wanamaker.data.propensity_batch import PropensitySchema, PropensityStats
from wanamaker.data.sampler import per_rank_batch_size
from wanamaker.data.split_loaders import SplitLoaders
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_FULL_PREFLIGHT = 512 << 20  # bytes of a table that is read as a whole before anything is written
BLANKS = ("missing", "refuse")


class CustomerTableDataModule(SplitLoaders):
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

    source: ExperimentSource
    reader: TableReader
    streamed: bool

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        survival: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
        blank: str = "missing",
        checks: Mapping[str, float] | None = None,
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
        super().__init__()
        # A rank without evaluation rows is allowed (metrics are computed once per epoch, not per batch).
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.path = Path(path)
        self.roles = TableRoles.from_config(roles)
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
        self.writing = {"encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        for name, value, least in (
            ("max_categories", max_categories, 2),
            ("rows_in_memory", rows_in_memory, 0),
            ("lanes", lanes, 1),
            ("passes_per_epoch", passes_per_epoch, 1),
            ("num_workers", num_workers, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"data.{name}={value!r}; give a whole number, {least} or more.")
        per_rank_batch_size(batch_size, 1), per_rank_batch_size(eval_batch_size, 1, "eval_batch_size")
        self.rows_in_memory, self.lanes = rows_in_memory, lanes
        self.batch_size, self.eval_batch_size, self.passes_per_epoch = batch_size, eval_batch_size, passes_per_epoch
        self.num_workers, self.seed = num_workers, seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._adopted: PropensitySchema | None = None
        self._learnt: Learnt | None = None
        self._codes: np.ndarray | None = None
        self._rows: CustomerRows | None = None
        self._memory_columns: tuple[np.ndarray, np.ndarray] | None = None
        self._lookup: RowLookup | None = None
        self._announced = False

    # -- before training -----------------------------------------------------------------------------------------------

    @property
    def has_annotations(self) -> bool:
        """Whether the table has a label column; without one, customers are scored and not judged."""
        self._open(labels=False)
        return any(task.column in self.source.columns for task in self.roles.tasks)

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Find the user's mistakes in the parent process, before anything is written.

        A table in memory is read as a whole and goes through the gate; of one that is streamed, or of a file above
        512 MB, the header is, and the rest when training starts.

        Args:
            stages: Of fit, validate, test and predict; None: all.

        Raises:
            UserError: a missing file or column, labels that are not what was declared, what the gate finds.
        """
        stages = ("fit", "validate", "test") if stages is None else tuple(stages)
        self._open(labels="fit" in stages or (self.has_annotations and set(stages) != {"predict"}))
        if self.streamed or self.source.size > _FULL_PREFLIGHT:
            return
        if "fit" in stages:
            self._learn()
        for stage in stages:
            self._require(stage)

    def setup(self, stage: str | None = None) -> None:
        self._open(labels=stage != "predict")
        if stage in (None, "fit") and self._adopted is None:
            self._announce(self._learn())
        if stage is not None:
            self._require(stage)

    def adopt(self, schema: PropensitySchema) -> None:
        """Encode by the names of a trained model, and make sure that it can read this table.

        Args:
            schema: Of the model.

        Raises:
            UserError: naming the features that are missing, or tasks that the model does not have.
        """
        if schema == (self._adopted or (self._learnt.schema if self._learnt else None)):
            return
        self._open(labels=False)
        missing = self.source.missing(self.reader.feature_sources(schema))
        if missing:
            raise UserError(
                f"{self.source.name} lacks {'feature' if len(missing) == 1 else 'features'}"
                f" {', '.join(map(repr, missing))}, which the model was trained with. {self.source.hint(missing[0])}"
                " Bring the columns, or train without them."
            )
        names = [task.name for task in schema.tasks]
        if list(self.roles.task_names) != names:
            raise UserError(
                f"data.roles.tasks are {list(self.roles.task_names)}, but the model was trained for {names}: name"
                " those, in that order."
            )
        self._adopted, self._rows, self._codes = schema, None, None
        self.reader.release()  # what the model takes for names, a CSV file without them may hold as numbers
        if self.streamed:
            self._codes = self.reader.codes(schema)
        else:
            self._encode()

    @property
    def schema(self) -> PropensitySchema:
        """Names: of the model that was adopted, else of the training rows."""
        return self._adopted if self._adopted is not None else self._learn().schema

    @property
    def stats(self) -> PropensityStats:
        """Statistics of the training rows of this table."""
        return self._learn().stats

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """What the gate found and `allow` let through."""
        return self._learn().leaks

    @property
    def codes(self) -> np.ndarray:
        """Index into `experiment_split.SPLITS` of every row, uint8 [N]."""
        if self._codes is None:
            self._codes = self.reader.codes(self._adopted)
        return self._codes

    def _open(self, labels: bool) -> None:
        """Look at the header."""
        if not hasattr(self, "source"):
            self.source = ExperimentSource(self.path, **self.writing)
            rows = self.source.num_rows
            self.streamed = rows is not None and rows > self.rows_in_memory
            self.reader = TableReader(self.source, self.roles, self.policy, self.streamed)
        self.reader.check_header(labels)

    def _learn(self) -> Learnt:
        """Survey the table and let the gate judge it; once."""
        if self._learnt is None:
            self._open(labels=True)
            self._learnt = self.reader.learn()
            self._codes = self._learnt.codes
            self._refuse_empty_validation()
        return self._learnt

    def _encode(self) -> CustomerRows:
        """The whole table as arrays, for one that lies in memory; once per schema."""
        if self._rows is None:
            schema, table = self.schema, self.reader.table(self._adopted)
            row = np.arange(len(table))
            names = identifiers_of(table, self.roles.id, 0)
            self._memory_columns = names, self.reader.moments(table, row)
            roles = self.reader.settled(schema.tasks)
            self._rows = encode_rows(table, schema, roles, row, key_of(names), self.reader.cells)
            if self._adopted is not None:
                self._report_blank(self.reader.blank(table, schema, self._rows.numeric))
            self._codes = self.codes  # while the table is there
            self.reader.release()
        return self._rows

    def _require(self, stage: str) -> None:
        """Refuse a stage whose rows are not there."""
        if stage != "test" or not self.has_annotations or (self.codes == TEST).any():
            return
        if (self.codes == NONE).all():
            columns = ", ".join(repr(task.column) for task in self.roles.tasks)
            raise UserError(
                f"{self.source.name} has no row with a label to test on: fill in {columns}, or pass stages=[predict]."
            )
        raise UserError(
            f"{self.source.name} has no test rows: raise data.split.test={self.policy.split['test']}, or leave"
            " stage test out."
        )

    def _refuse_empty_validation(self) -> None:
        split = self.policy.split
        if split["column"] is None and split["val"] > 0 and not (self._codes == VAL).any():
            raise UserError(
                f"data.split.val={split['val']} of {len(self._codes):,} rows of {self.source.name} leaves none to"
                " validate on; raise it, or set it to 0 to validate on the training rows."
            )

    @rank_zero_only
    def _announce(self, found: Learnt) -> None:
        """Say once what is in the table; `preflight`, which comes before, says nothing."""
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

    def identifiers(self, row: np.ndarray) -> np.ndarray:
        """The customer of some rows, int64 or objects [N]; of a streamed table they are read again, by row group."""
        row = np.asarray(row)
        if self.roles.id is None:
            return row.astype(np.int64)
        if not self.streamed:
            self._encode()
            return self._memory_columns[0][row]
        return identifiers_of(self._look_up(row, self.roles.id), self.roles.id, 0, whole=False)

    def moment_of(self, row: np.ndarray) -> np.ndarray:
        """When some rows were true, datetime64[s] [N]; NaT where not known."""
        row = np.asarray(row)
        if self.roles.moment is None or self.roles.moment not in self.source.columns:
            return np.full(len(row), np.datetime64("NaT"), "datetime64[s]")
        if not self.streamed:
            self._encode()
            return self._memory_columns[1][row]
        return self.reader.moments(self._look_up(row, self.roles.moment), row)

    def _look_up(self, row: np.ndarray, column: str) -> Any:
        if self._lookup is None:
            self._lookup = RowLookup(self.source)
        return self._lookup.table(row, column)

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _dataset(self, places: np.ndarray) -> CustomerDataset:
        return CustomerDataset(self._encode(), places)

    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> ArmBatchSampler:
        return ArmBatchSampler(self._encode().strata()[places], self.batch_size, **order)

    def _training_stream(self, chosen: np.ndarray, order: dict[str, Any]) -> TrainingStream:
        return TrainingStream(self._reader(chosen), self.lanes, self.batch_size, **order, **self._loader_options())

    def _evaluation_stream(self, chosen: np.ndarray, **options: Any) -> EvaluationStream:
        return EvaluationStream(self._reader(chosen), self.eval_batch_size, **options)

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
