"""`ExperimentDataModule`: a table of customers, offers and outcomes, as `UpliftBatch`es for the uplift models.

Axis letters: N rows, K arms.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.experiment_dataset import ExperimentDataset
from wanamaker.data.experiment_gates import GateReport, parse_checks
from wanamaker.data.experiment_reader import ExperimentReader, Policy
from wanamaker.data.experiment_roles import ExperimentRoles
from wanamaker.data.experiment_sampler import ArmBatchSampler
from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_split import SPLITS, TEST, TRAIN, VAL, parse_experiment_split
from wanamaker.data.experiment_stream import EvaluationStream, RowLookup, RowReader, TrainingStream
from wanamaker.data.experiment_survey import Survey
from wanamaker.data.experiment_table import ExperimentRows, cost_of, encode, identifiers_of, key_of
from wanamaker.data.sampler import per_rank_batch_size
from wanamaker.data.split_loaders import SplitLoaders
from wanamaker.data.uplift_batch import FeatureStats, UpliftSchema
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

_FULL_PREFLIGHT = 512 << 20  # bytes of a table that is read as a whole before anything is written


class ExperimentDataModule(SplitLoaders):
    """An experiment in a CSV or Parquet file, or in a folder of Parquet shards.

    Nothing is scaled here: batches hold the units of the file. Categories and statistics are those of the training
    rows. A Parquet table of more than `rows_in_memory` rows is streamed by row group: see `experiment_stream`.

    What is kept of a streamed table does not grow with it, but for three bytes per row (its split, and which rows a
    loader serves): identifiers and costs are read again where they are asked for, by row group. It is split by a hash
    of the customer, whatever `split.by` says of tables in memory; `split.by: column` holds for both.

    `num_workers` processes read a streamed table; of a table in memory they gather batches.

    Args:
        path: The table, one row per customer.
        roles: Which column is what; see `experiment_roles`.
        split: `{val, test, by, seed, stratify, column}`; see `experiment_split`. With `val: 0` the validation rows are
            the training rows: for members that are cross-fitted, each row judged by those that never saw it.
        encoding: Of a CSV file.
        delimiter: Between the cells of a CSV file; null is a comma (a tab in a .tsv file).
        decimal: Decimal sign of a CSV file.
        checks: Thresholds of the gates; see `experiment_gates.CHECKS`.
        allow: Gates (see `experiment_gates`) and columns whose findings do not stop the run. `missing` lets rows
            without arm or outcome be scored only, `repeated` lets identifiers repeat (the split is by customer then).
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
        gates: What the gates saw; after `setup("fit")`.
        streamed: Whether the table is read as it is used.
    """

    has_annotations = True

    source: ExperimentSource
    reader: ExperimentReader
    gates: GateReport
    streamed: bool

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        split: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
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
        self.roles = ExperimentRoles.from_config(roles)
        self.policy = Policy(parse_experiment_split(split), parse_checks(checks), allow or (), max_categories)
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
        self._adopted: UpliftSchema | None = None
        self._learnt: Survey | None = None
        self._codes: np.ndarray | None = None
        self._rows: ExperimentRows | None = None
        self._memory_columns: tuple[np.ndarray, np.ndarray] | None = None
        self._lookup: RowLookup | None = None

    # -- before training -----------------------------------------------------------------------------------------------

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Find the user's mistakes in the parent process, before anything is written.

        A table in memory is read as a whole and goes through the gates; of one that is streamed, or of a file above
        512 MB, the header is, and the rest when training starts.

        Args:
            stages: Of fit, validate, test and predict; None: all.

        Raises:
            UserError: a missing file or column, labels that are not what was declared, what the gates find.
        """
        stages = ("fit", "validate", "test") if stages is None else tuple(stages)
        self._open(labels=any(stage != "predict" for stage in stages))
        if self.streamed or self.source.size > _FULL_PREFLIGHT:
            return
        if "fit" in stages:
            self._learn()
        for stage in stages:
            self._require(stage)

    def setup(self, stage: str | None = None) -> None:
        self._open(labels=stage != "predict")
        if stage in (None, "fit") and self._adopted is None:
            self._learn()
        if stage is not None:
            self._require(stage)

    def adopt(self, schema: UpliftSchema) -> None:
        """Encode by the names of a trained model, and make sure that it can read this table.

        Args:
            schema: Of the model.

        Raises:
            UserError: naming the features that are missing, or an arm that the model does not know.
        """
        if schema == (self._adopted or (self._learnt.schema if self._learnt else None)):
            return
        self._open(labels=False)
        missing = self.source.missing([*schema.numeric, *schema.categorical])
        if missing:
            raise UserError(
                f"{self.source.name} lacks {'feature' if len(missing) == 1 else 'features'}"
                f" {', '.join(map(repr, missing))}, which the model was trained with. {self.source.hint(missing[0])}"
                " Bring the columns, or train without them."
            )
        names = [outcome.name for outcome in schema.outcomes]
        if list(self.roles.outcome_names) != names:
            raise UserError(
                f"data.roles.outcomes={list(self.roles.outcome_names)}, but the model was trained for {names}: name"
                " those, in that order."
            )
        self._adopted, self._rows = schema, None
        self.reader.release()  # what the model takes for names, a CSV file without them may hold as numbers
        if self.streamed:
            self._codes = self.reader.codes(schema)
        else:
            self._encode()

    @property
    def schema(self) -> UpliftSchema:
        """Names: of the model that was adopted, else of the training rows."""
        return self._adopted if self._adopted is not None else self._learn().schema

    @property
    def stats(self) -> FeatureStats:
        """Statistics of the training rows of this table."""
        return self._learn().stats

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
            self.reader = ExperimentReader(self.source, self.roles, self.policy, self.streamed)
        self.reader.check_header(labels)

    def _learn(self) -> Survey:
        """Survey the table and let the gates judge it; once."""
        if self._learnt is None:
            self._open(labels=True)
            self._learnt, self.gates, left_out = self.reader.learn()
            self._codes = self._learnt.codes
            self._announce(left_out)
        return self._learnt

    def _encode(self) -> ExperimentRows:
        """The whole table as arrays, for one that lies in memory; once per schema."""
        if self._rows is None:
            schema, table = self.schema, self.reader.table(self._adopted)
            names = identifiers_of(table, self.roles.id, 0)
            self._memory_columns = names, cost_of(table, self.roles)
            self._rows = encode(table, schema, self.roles, np.arange(len(table)), key_of(names))
            self._codes = self.codes  # while the table is there
            self.reader.release()
        return self._rows

    def _require(self, stage: str) -> None:
        """Refuse a stage whose rows are not there."""
        if stage == "test" and not (self.codes == TEST).any():
            raise UserError(
                f"{self.source.name} has no test rows: raise data.split.test={self.policy.split['test']}, or leave"
                " stage test out."
            )

    @rank_zero_only
    def _announce(self, left_out: int) -> None:
        counts = np.bincount(self._codes, minlength=len(SPLITS))
        arms = ", ".join(f"{name} {count:,}" for name, count in self.gates.arm_count.items())
        log.info(
            "%s: %d rows%s; train %d, val %s, test %d; arms: %s",
            self.path.name,
            len(self._codes),
            " (streamed)" if self.streamed else "",
            counts[TRAIN],
            counts[VAL] or "on the training rows",
            counts[TEST],
            arms,
        )
        if left_out:
            log.warning(
                "%s: %d rows have no arm, no outcome or an arm that data.roles.arms leaves out; they are scored only.",
                self.path.name,
                left_out,
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

    def cost_of(self, row: np.ndarray) -> np.ndarray:
        """Money spent on some rows, float64 [N]; NaN where not known."""
        row = np.asarray(row)
        if self.roles.cost is None or self.roles.cost not in self.source.columns:
            return np.full(len(row), np.nan)
        if not self.streamed:
            self._encode()
            return self._memory_columns[1][row]
        return cost_of(self._look_up(row, self.roles.cost), self.roles)

    def _look_up(self, row: np.ndarray, column: str) -> Any:
        if self._lookup is None:
            self._lookup = RowLookup(self.source)
        return self._lookup.table(row, column)

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _dataset(self, places: np.ndarray) -> ExperimentDataset:
        return ExperimentDataset(self._encode(), places)

    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> ArmBatchSampler:
        return ArmBatchSampler(self._encode().treatment[places], self.batch_size, **order)

    def _training_stream(self, chosen: np.ndarray, order: dict[str, Any]) -> TrainingStream:
        return TrainingStream(self._reader(chosen), self.lanes, self.batch_size, **order, **self._loader_options())

    def _evaluation_stream(self, chosen: np.ndarray, **options: Any) -> EvaluationStream:
        return EvaluationStream(self._reader(chosen), self.eval_batch_size, **options)

    def _reader(self, chosen: np.ndarray) -> RowReader:
        from wanamaker.data.experiment_stream import RowReader

        return RowReader(self.source, self.reader.columns(self.schema), self.schema, self.roles, chosen)
