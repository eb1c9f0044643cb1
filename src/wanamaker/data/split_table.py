"""Data modules over one table, a row per customer, that is held in memory or read by row group.

Axis letters: N rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_split import TEST
from wanamaker.data.experiment_stream import EvaluationStream, RowLookup, TrainingStream, check_lanes
from wanamaker.data.experiment_table import identifiers_of, key_of
from wanamaker.data.passed_on import passed_on
from wanamaker.data.split_loaders import SplitLoaders
from wanamaker.errors import UserError

_FULL_PREFLIGHT = 512 << 20  # bytes of a table that is read as a whole before anything is written

Schema = TypeVar("Schema")
Stats = TypeVar("Stats")
Rows = TypeVar("Rows")


class SplitTable(SplitLoaders, Generic[Schema, Stats, Rows]):
    """What data modules share that read such a table, survey its training rows, and encode it by their names or those
    of a trained model.

    A subclass sets ``policy``, and says what its rows are.

    Args:
        path: The table.
        roles: Which column is what.
        encoding, delimiter, decimal: Of a CSV file.
        max_categories: Names that a categorical column may have.
        rows_in_memory: Rows above which a Parquet table is streamed.
        lanes: Of a streamed table: stretches that every batch takes rows from.

    The other arguments are those of `SplitLoaders`.

    Attributes:
        source: The files.
        reader: Of the table.
        streamed: Whether the table is read as it is used.
        has_annotations: Whether the table has labels.
        reader_type: (source, roles, policy, streamed) -> reader.
    """

    source: ExperimentSource
    reader: Any
    policy: Any
    streamed: bool
    has_annotations: bool
    reader_type: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        *,
        path: str,
        roles: Any,
        encoding: str,
        delimiter: str | None,
        decimal: str,
        max_categories: int,
        rows_in_memory: int,
        lanes: int,
        batch_size: int,
        eval_batch_size: int,
        passes_per_epoch: int,
        num_workers: int,
        pin_memory: bool | None,
        seed: int,
    ) -> None:
        given = locals()
        counts = {"max_categories": (max_categories, 2), "rows_in_memory": (rows_in_memory, 0), "lanes": (lanes, 1)}
        super().__init__(**passed_on(SplitLoaders, given, counts=counts))
        self.path, self.roles = Path(path), roles
        self.writing = {"encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        self.rows_in_memory, self.lanes = rows_in_memory, lanes
        self._adopted: Schema | None = None
        self._learnt: Any = None
        self._codes: np.ndarray | None = None
        self._rows: Rows | None = None
        self._memory_columns: tuple[np.ndarray, np.ndarray] | None = None
        self._lookup: RowLookup | None = None

    # -- what a subclass says ------------------------------------------------------------------------------------------

    def _files(self) -> ExperimentSource:
        """The table's files."""
        return ExperimentSource(self.path, **self.writing)

    @abstractmethod
    def _learn(self) -> Any:
        """Survey the table and let the gates judge it, once: `_learnt`, with `codes`, `schema` and `stats`."""

    def _say(self, found: Any) -> None:
        """Say what is in the table, when training begins."""

    @abstractmethod
    def _refuse_other_labels(self, schema: Schema) -> None:
        """Refuse a model that was trained for other labels than the roles name."""

    @abstractmethod
    def _beside(self, table: Any) -> np.ndarray:
        """What is kept of a table in memory beside identifiers, [N]."""

    @abstractmethod
    def _encoded(self, table: Any, schema: Schema, key: np.ndarray) -> Rows:
        """The whole table as arrays; `key` are hashes of the identifiers, int64 [N]."""

    @abstractmethod
    def _reader(self, chosen: np.ndarray) -> Any:
        """Reads the chosen rows, bool [N], of a table that is streamed."""

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
        self._open(labels="fit" in stages or (self.has_annotations and set(stages) != {"predict"}))
        if self.streamed and "fit" in stages:
            check_lanes(self.lanes, self.batch_size, world_size=1)
        if not self.read_before_a_run:
            return
        if "fit" in stages:
            self._learn()
        for stage in stages:
            self._require(stage)

    def setup(self, stage: str | None = None) -> None:
        self._open(labels=stage != "predict")
        if stage in (None, "fit") and self._adopted is None:
            self._say(self._learn())
        if stage is not None:
            self._require(stage)

    def check_model(self, schema: Schema) -> None:
        """As `adopt`, before anything is written; a table too large to be looked at twice is judged when it is read."""
        if self.read_before_a_run:
            self.adopt(schema)

    @property
    def read_before_a_run(self) -> bool:
        """Whether the table, which `preflight` has opened, is small enough to be read as a whole for mistakes."""
        return not self.streamed and self.source.size <= _FULL_PREFLIGHT

    def adopt(self, schema: Schema) -> None:
        """Encode by the names of a trained model, and make sure that it can read this table.

        Args:
            schema: Of the model.

        Raises:
            UserError: naming the features that are missing, or labels or arms that the model does not have.
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
        self._refuse_other_labels(schema)
        self._adopted, self._rows, self._codes = schema, None, None
        self.reader.release()  # what the model takes for names, a CSV file without them may hold as numbers
        if self.streamed:
            self._codes = self.reader.codes(schema)
        else:
            self._encode()

    @property
    def schema(self) -> Schema:
        """Names: of the model that was adopted, else of the training rows."""
        return self._adopted if self._adopted is not None else self._learn().schema

    @property
    def stats(self) -> Stats:
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
            self.source = self._files()
            rows = self.source.num_rows
            self.streamed = rows is not None and rows > self.rows_in_memory
            self.reader = self.reader_type(self.source, self.roles, self.policy, self.streamed)
        self.reader.check_header(labels)

    def _encode(self) -> Rows:
        """The whole table as arrays, for one that lies in memory; once per schema."""
        if self._rows is None:
            schema, table = self.schema, self.reader.table(self._adopted)
            names = identifiers_of(table, self.roles.id, 0)
            self._memory_columns = names, self._beside(table)
            self._rows = self._encoded(table, schema, key_of(names))
            self._codes = self.codes  # while the table is there
            self.reader.release()
        return self._rows

    def _require(self, stage: str) -> None:
        """Refuse a stage whose rows are not there."""
        if stage == "test" and self.has_annotations and not (self.codes == TEST).any():
            raise UserError(
                f"{self.source.name} has no test rows: raise data.split.test={self.policy.split['test']}, or leave"
                " stage test out."
            )

    # -- rows ----------------------------------------------------------------------------------------------------------

    def identifiers(self, row: np.ndarray) -> np.ndarray:
        """The customer of some rows, int64 or objects [n]; of a streamed table they are read again, by row group."""
        row = np.asarray(row)
        if self.roles.id is None:
            return row.astype(np.int64)
        name = self.roles.id
        return self._looked_up(row, name, 0, lambda table: identifiers_of(table, name, 0, whole=False))

    def _looked_up(self, row: np.ndarray, column: str, place: int, read: Callable[[Any], np.ndarray]) -> np.ndarray:
        """Values of some rows, [n]: `_memory_columns[place]`, or what `read` makes of a column where it is streamed."""
        if not self.streamed:
            self._encode()
            return self._memory_columns[place][row]
        if self._lookup is None:
            self._lookup = RowLookup(self.source)
        return read(self._lookup.table(row, column))

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _training_stream(self, chosen: np.ndarray, order: Mapping[str, Any]) -> TrainingStream:
        return TrainingStream(self._reader(chosen), self.lanes, self.batch_size, **order, **self._loader_options())

    def _evaluation_stream(self, chosen: np.ndarray, **options: Any) -> EvaluationStream:
        return EvaluationStream(self._reader(chosen), self.eval_batch_size, **options)
