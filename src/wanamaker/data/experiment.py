"""`ExperimentDataModule`: a table of customers, offers and outcomes, as `UpliftBatch`es for the uplift models.

Axis letters: N rows, K arms.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.experiment_dataset import ExperimentDataset
from wanamaker.data.experiment_gates import GateReport, parse_checks
from wanamaker.data.experiment_reader import ExperimentReader, Policy
from wanamaker.data.experiment_roles import ExperimentRoles
from wanamaker.data.experiment_sampler import ArmBatchSampler
from wanamaker.data.experiment_split import SPLITS, TEST, TRAIN, VAL, parse_experiment_split
from wanamaker.data.experiment_stream import RowReader
from wanamaker.data.experiment_survey import Survey
from wanamaker.data.experiment_table import ExperimentRows, cost_of, encode
from wanamaker.data.passed_on import passed_on
from wanamaker.data.split_table import SplitTable
from wanamaker.data.uplift_batch import FeatureStats, UpliftSchema
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


class ExperimentDataModule(SplitTable[UpliftSchema, FeatureStats, ExperimentRows]):
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

    reader: ExperimentReader
    reader_type = ExperimentReader
    gates: GateReport

    def __init__(
        self,
        *,
        path: str,
        roles: Mapping[str, Any],
        split: Mapping[str, Any] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
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
        super().__init__(**passed_on(SplitTable, given, roles=ExperimentRoles.from_config(roles)))
        self.policy = Policy(parse_experiment_split(split), parse_checks(checks), allow or (), max_categories)

    # -- before training -----------------------------------------------------------------------------------------------

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """As every table's; of customers to be scored also that there are some, each with an identifier of its own."""
        super().preflight(stages)
        if "predict" in (stages or ()) and self.read_before_a_run:
            self.codes  # noqa: B018 - looks at every row

    def _learn(self) -> Survey:
        if self._learnt is None:
            self._open(labels=True)
            self._learnt, self.gates, left_out = self.reader.learn()
            self._codes = self._learnt.codes
            self._announce(left_out)
        return self._learnt

    def _refuse_other_labels(self, schema: UpliftSchema) -> None:
        names = [outcome.name for outcome in schema.outcomes]
        if list(self.roles.outcome_names) != names:
            raise UserError(
                f"data.roles.outcomes={list(self.roles.outcome_names)}, but the model was trained for {names}: name"
                " those, in that order."
            )

    def _beside(self, table: pa.Table) -> np.ndarray:
        return cost_of(table, self.roles)

    def _encoded(self, table: pa.Table, schema: UpliftSchema, key: np.ndarray) -> ExperimentRows:
        return encode(table, schema, self.roles, np.arange(len(table)), key)

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

    def cost_of(self, row: np.ndarray) -> np.ndarray:
        """Money spent on some rows, float64 [N]; NaN where not known."""
        row = np.asarray(row)
        if self.roles.cost is None or self.roles.cost not in self.source.columns:
            return np.full(len(row), np.nan)
        return self._looked_up(row, self.roles.cost, 1, lambda table: cost_of(table, self.roles))

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _dataset(self, places: np.ndarray) -> ExperimentDataset:
        return ExperimentDataset(self._encode(), places)

    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> ArmBatchSampler:
        return ArmBatchSampler(self._encode().treatment[places], self.batch_size, **order)

    def _reader(self, chosen: np.ndarray) -> RowReader:
        return RowReader(self.source, self.reader.columns(self.schema), self.schema, self.roles, chosen)
