"""`EventLogDataModule`: a log of events, as positions with features, sequences and labels for the propensity models.

A position is a customer at an as-of date. What they are told by is every event with `time < as_of`; an as-of date
stands for its midnight, the first instant of the day, on the clock of the log. Labels look at
`as_of + embargo <= time < as_of + embargo + within`.

Axis letters: P positions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wanamaker.data.customer_table_split import parse_split
from wanamaker.data.event_features import WINDOWS
from wanamaker.data.event_moments import moment_text
from wanamaker.data.event_options import event_options
from wanamaker.data.event_reader import BucketEncoder, EventReader, encoded
from wanamaker.data.event_roles import EventRoles
from wanamaker.data.event_rows import EventRows, Prepared
from wanamaker.data.event_sampler import EventDataset, EventEvaluationSampler, LengthBatchSampler
from wanamaker.data.event_stream import BucketReader, EventEvaluationStream, EventTrainingStream
from wanamaker.data.event_survey import Facts, Learner, check_labels, facts_of
from wanamaker.data.experiment_split import TEST, TRAIN, VAL
from wanamaker.data.experiment_stream import check_lanes
from wanamaker.data.leak_gate import check_allow, find_leaks, parse_checks, settle_leaks
from wanamaker.data.passed_on import arguments_of, passed_on
from wanamaker.data.propensity_batch import PropensitySchema, PropensityStats
from wanamaker.data.split_loaders import SplitLoaders
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

# Whatever is made of the events is known at the as-of date, and may foretell well (who has just bought will not lapse):
# the gate looks for what no honest feature reaches.
CHECKS = {"rows": 20_000, "leak_auc": 0.95, "leak_r2": 0.9}
_KEPT = 8  # buckets whose identifiers are kept
_JUDGED = ("numeric", "categorical", "label", "time")


class EventLogDataModule(SplitLoaders):
    """A log of events in CSV or Parquet files, one row per event, in any order.

    Nothing is scaled here: batches hold the units of the file. Names and statistics are those of the training
    positions.

    Args:
        path: The log: a file, a folder of shards, or several.
        roles: Which column is what; see `event_roles.EventRoles`.
        tasks: What is to be foretold; see `event_tasks.parse_tasks`.
        as_of: When customers are looked at: a date, a list of dates, `{first, last, every}` (days), or null for the end
            of the log (to score only). A customer is asked from the first as-of date after their first event on, or
            after `customers.since`.
        embargo: Days from an as-of date to the start of the label windows.
        customers: Table of features that do not change; see `event_roles.CustomerRoles`. Its customers without events
            are scored by these.
        purchases: Types of events that are orders; null: every event.
        features: Groups of features made of the events; see `event_features.GROUPS`. They look at all events before the
            as-of date, whatever `history` says.
        windows: Days that the group "recent" looks back.
        history: `{days, events}` that sequences reach back at most; null: to the first event.
        until: Types of events after which a customer is asked nothing any more, such as a cancellation.
        log_end: To which the log is complete; null: to the end of the day of its latest event.
        split: `{val, test, by, seed, stratify, embargo, folds, fold, repeat}`; see `customer_table_split`. All
            positions of a customer lie in one part, but with `by: time`.
        time_format: Of the column of times: null for ISO 8601, a strptime format ("%d.%m.%Y"), YYYYMMDD, or s or ms for
            numbers since 1970. A log has one zone (or none), which is taken off: what counts is its clock.
        encoding: Of CSV files.
        delimiter: Between the cells of CSV files; "whitespace" for columns that any number of blanks separate.
        decimal: Decimal sign of CSV files.
        checks: Thresholds of the leak gate; see `leak_gate`.
        allow: Features and gates whose findings do not stop the run.
        max_categories: Names that a column of words may have.
        events_in_memory: Events above which the log is rewritten in buckets of customers and read bucket by bucket.
        cache_dir: Where the buckets go.
        buckets: How many; null: such that each has about half a million events.
        lanes: Of a streamed log: buckets that every batch takes positions from.
        batch_size: Global training batch, in positions.
        eval_batch_size: Global evaluation batch, in positions.
        bucket_batches: Batches whose customers are sorted by length of sequence together; 1 turns it off.
        passes_per_epoch: Passes over the training positions in one epoch, each in its own order.
        num_workers: Loader processes per rank.
        pin_memory: Page-locked batches; null: when there is a CUDA device.
        seed: Seeds the order of the positions.

    Attributes:
        reader: Of the log.
    """

    has_annotations = True
    counted = "positions"
    evaluation_sampler = EventEvaluationSampler
    reader_type: type[EventReader] = EventReader

    def __init__(
        self,
        *,
        path: Any,
        roles: Mapping[str, Any] | EventRoles,
        tasks: Sequence[Any],
        as_of: Any = None,
        embargo: float = 0,
        customers: Mapping[str, Any] | None = None,
        purchases: str | Sequence[str] | None = None,
        features: Sequence[str] = ("rfm", "intervals", "momentum", "recent"),
        windows: Sequence[int] = WINDOWS,
        history: Mapping[str, Any] | None = None,
        until: str | Sequence[str] | None = None,
        log_end: str | None = None,
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
        counts = {
            "max_categories": (max_categories, 2),
            "events_in_memory": (events_in_memory, 0),
            "lanes": (lanes, 1),
            "bucket_batches": (bucket_batches, 1),
        }
        super().__init__(**passed_on(SplitLoaders, given, counts=counts))
        writing = {"time_format": time_format, "encoding": encoding, "delimiter": delimiter, "decimal": decimal}
        self.options = event_options(**arguments_of(event_options, given), writing=writing)
        self.split = parse_split(split)
        if self.split["by"] == "column":
            raise UserError("data.split.by=column: a log has no such column; choose from random, hash, time.")
        self.checks, self.allow, self.max_categories = parse_checks(checks, CHECKS), allow or (), max_categories
        self.lanes, self.bucket_batches = lanes, bucket_batches
        self._adopted: PropensitySchema | None = None
        self._learnt: tuple[PropensitySchema, PropensityStats] | None = None
        self._facts: Facts | None = None
        self._prepared: Prepared | None = None
        self._rows: EventRows | None = None
        self._reader: EventReader | None = None
        self._kept_ids: dict[int, np.ndarray] = {}

    @property
    def reader(self) -> EventReader:
        """Of the log; opened when it is asked for."""
        if self._reader is None:
            self._reader = self.reader_type(self.options)
        return self._reader

    # -- before training -----------------------------------------------------------------------------------------------

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Find the user's mistakes in the parent process, before anything is written.

        A log in memory is read as a whole; of one that is streamed, the options are checked, and the rest when training
        starts.

        Args:
            stages: Of fit, validate, test and predict; None: all.

        Raises:
            UserError: a missing file or column, an as-of date outside the log, labels of one class, what the gate
                finds.
        """
        stages = ("fit", "validate", "test") if stages is None else tuple(stages)
        reader = self.reader_type(self.options)
        if reader.streamed:
            if "fit" in stages:
                check_lanes(self.lanes, self.batch_size, world_size=1)
            reader.look()
            return
        for stage in stages:
            self._check(stage)

    def prepare_data(self) -> None:
        if self.reader.streamed:
            self.reader.open()  # one process rearranges the log, the others find it done

    def setup(self, stage: str | None = None) -> None:
        self._check("fit" if stage is None else stage)

    def _check(self, stage: str) -> None:
        if stage != "predict":  # in a new log, nobody may have cancelled yet
            self.reader.check_types()
        if stage == "fit" and self._adopted is None:
            self._learn()
        codes = self.codes  # reads the log, whatever the stage
        if stage == "test" and not (codes == TEST).any():
            if not np.isfinite(self.facts.label).any():
                raise UserError(
                    f"{self.reader.name}: no label is known at data.as_of, because the log ends on"
                    f" {moment_text(self.reader.span.end)}: choose an earlier date, or pass stages=[predict]."
                )
            raise UserError(
                f"{self.reader.name} has no test positions: raise data.split.test={self.split['test']}, or leave stage"
                " test out."
            )
        if stage in ("fit", "validate") and self.split["val"] > 0 and not (codes == VAL).any():
            raise UserError(
                f"{self.reader.name}: data.split.val={self.split['val']:g} leaves no position to validate on; raise it,"
                " or set it to 0 to validate on the training positions."
            )

    def adopt(self, schema: PropensitySchema) -> None:
        """Encode by the names of a trained model, and make sure that it can read this log.

        Args:
            schema: Of the model.

        Raises:
            UserError: naming the features or columns that are missing, or tasks that are others.
        """
        if schema == (self._adopted or (self._learnt[0] if self._learnt else None)):
            return
        self.reader.adopt(schema)
        self._prepared = None
        part = self._part(0)
        have = {*part.numeric, *part.words}
        missing = [name for name in (*schema.numeric, *schema.categorical) if name not in have]
        columns = {*self.reader.roles.event_categorical, *self.reader.roles.numbers()}
        missing += [name for name in (*schema.event_categorical, *schema.event_numeric) if name not in columns]
        if missing:
            raise UserError(
                f"{self.reader.name} gives no {'feature' if len(missing) == 1 else 'features'}"
                f" {', '.join(map(repr, missing))}, which the model was trained with. Take data.roles, data.features,"
                " data.windows and data.customers from the model's recipe, or train without them."
            )
        names, own = [task.name for task in schema.tasks], [one.task.name for one in self.options.tasks]
        if own != names:
            raise UserError(f"data.tasks={own}, but the model was trained for {names}: name those, in that order.")
        self._adopted, self._rows = schema, None

    @property
    def schema(self) -> PropensitySchema:
        """Names: of the model that was adopted, else of the training positions."""
        return self._adopted if self._adopted is not None else self._learn()[0]

    @property
    def stats(self) -> PropensityStats:
        """Statistics of the training positions of this log."""
        return self._learn()[1]

    @property
    def task_names(self) -> tuple[str, ...]:
        """T names of what is foretold, as the recipe declares them."""
        return tuple(one.task.name for one in self.options.tasks)

    @property
    def facts(self) -> Facts:
        """Labels, moments and split of every position."""
        if self._facts is None:
            self._facts = facts_of(self.reader, self._parts(), self.split)
            if not len(self._facts.key):
                raise UserError(f"{self.reader.name}: nobody is known by data.as_of; choose a later date.")
        return self._facts

    @property
    def streamed(self) -> bool:
        """Whether the log is read bucket by bucket."""
        return self.reader.streamed

    @property
    def codes(self) -> np.ndarray:
        """Index into `experiment_split.SPLITS` of every position, uint8 [P]."""
        return self.facts.codes

    def _part(self, number: int) -> Prepared:
        """A bucket; the one of a log in memory is kept until it is encoded."""
        if self.reader.streamed:
            return self.reader.prepare(number)
        if self._prepared is None:
            self._prepared = self.reader.prepare(0)
        return self._prepared

    def _parts(self) -> Any:
        return (self._part(number) for number in range(self.reader.num_buckets))

    def _learn(self) -> tuple[PropensitySchema, PropensityStats]:
        """Look at the training positions and let the gate judge them; once."""
        if self._learnt is None:
            facts = self.facts
            self._refuse_strangers()
            said = check_labels(self.reader, facts, (TRAIN,), self.split)
            learner, first = Learner(self.reader, self.max_categories), facts.first
            for number, part in enumerate(self._parts()):
                learner.see(part, facts.codes[first[number] : first[number + 1]] == TRAIN)
            schema = learner.schema()
            self._judge(schema)
            self._learnt = schema, learner.stats(facts)
            self._announce(said)
        return self._learnt

    def _encode(self) -> EventRows:
        """All positions of a log in memory as arrays; once per schema."""
        if self._rows is None:
            schema = self.schema
            self._rows = self._encoded(0, schema)
            self._prepared = None  # is made again where another schema is adopted
        return self._rows

    def _encoded(self, number: int, schema: PropensitySchema) -> EventRows:
        """A bucket's positions as arrays."""
        return encoded(self.reader, self._part(number), schema, int(self.facts.first[number]))

    def _refuse_strangers(self) -> None:
        """A table of customers none of whom is in the log (0042 and 42 are two) would teach nothing."""
        table = self.reader.customers
        if table is None or self.reader.streamed:
            return
        part = self._part(0)
        busy = part.ids[np.diff(part.history.offsets) > 0]
        if not (table.place_of(busy) >= 0).any():
            raise UserError(
                f"{self.options.customers.path} (data.customers): no customer of the table, such as {table.ids[0]}, has"
                f" an event in {self.reader.name}, where one is {busy[0]}; write them alike."
            )

    def _judge(self, schema: PropensitySchema) -> None:
        """Look for features that know the answer, in as many training positions as the gate looks at."""
        found: list[EventRows] = []
        for number in range(self.reader.num_buckets):
            rows = self._encoded(number, schema)
            found.append(rows.take(np.flatnonzero(self.codes[rows.row] == TRAIN)))
            if sum(map(len, found)) >= self.checks["rows"]:
                break
        parts = [np.concatenate([getattr(rows, name) for rows in found]) for name in _JUDGED]
        leaks = find_leaks(schema, *parts, self.checks)
        check_allow(self.allow, [*schema.numeric, *schema.categorical])
        settle_leaks([leak for leak in leaks if leak.feature in self.allow], self.allow, self.reader.name)
        if stops := [leak for leak in leaks if leak.feature not in self.allow]:
            names = ", ".join(dict.fromkeys(leak.feature for leak in stops))
            text = "; ".join(f"feature {leak.feature!r} {leak.text}" for leak in stops)
            raise UserError(
                f"{self.reader.name}: leak: {text}: suspiciously well, as if computed from the outcome. What was not"
                " known at the as-of date must go (data.customers.drop, data.features) or be dated later"
                f" (data.roles.available_at). If it was known, data.allow=[{names}] lets it through."
            )

    @rank_zero_only
    def _announce(self, said: Sequence[str]) -> None:
        counts = np.bincount(self.codes, minlength=4)
        log.info(
            "%s: %d positions%s; train %d, val %s, test %d, without label %d",
            self.reader.name,
            len(self.codes),
            " (streamed)" if self.reader.streamed else "",
            counts[TRAIN],
            counts[VAL] or "on the training positions",
            counts[TEST],
            counts[3],
        )
        for sentence in (*self.reader.said(), *said):
            log.warning("%s: %s", self.reader.name, sentence)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def moment_of(self, row: np.ndarray) -> np.ndarray:
        """As-of date of some positions, datetime64[s] [n]."""
        return self.facts.moment[np.asarray(row)].astype("datetime64[us]").astype("datetime64[s]")

    def identifiers(self, row: np.ndarray) -> np.ndarray:
        """The customer of some positions, int64 or objects [n]."""
        row, facts = np.asarray(row), self.facts
        bucket = np.searchsorted(facts.first, row, side="right") - 1
        found: list[np.ndarray] = []
        places = np.argsort(bucket, kind="stable")
        for number in np.unique(bucket):
            found.append(self._ids(int(number))[facts.customer[row[bucket == number]]])
        if not found:
            return np.empty(0, np.int64)
        names = np.concatenate(found)
        back = np.empty_like(names)
        back[places] = names
        return back

    def _ids(self, number: int) -> np.ndarray:
        """Customers of a bucket; those of the last few are kept."""
        if number not in self._kept_ids:
            while len(self._kept_ids) >= _KEPT:
                self._kept_ids.pop(next(iter(self._kept_ids)))
            self._kept_ids[number] = self.reader.ids(number)
        return self._kept_ids[number]

    # -- loaders -------------------------------------------------------------------------------------------------------

    def _dataset(self, places: np.ndarray) -> EventDataset:
        return EventDataset(self._encode(), places)

    def _training_sampler(self, places: np.ndarray, order: dict[str, Any]) -> LengthBatchSampler:
        rows = self._encode()
        seen = rows.stop[places] - rows.start[places]
        return LengthBatchSampler(rows.customer[places], seen, self.batch_size, self.bucket_batches, **order)

    def _training_stream(self, chosen: np.ndarray, order: dict[str, Any]) -> EventTrainingStream:
        options = {**order, **self._loader_options()}
        return EventTrainingStream(
            self._bucket_reader(chosen), self.lanes, self.batch_size, self.bucket_batches, **options
        )

    def _evaluation_stream(self, chosen: np.ndarray, **options: Any) -> EventEvaluationStream:
        return EventEvaluationStream(self._bucket_reader(chosen), self.eval_batch_size, **options)

    def _bucket_reader(self, chosen: np.ndarray) -> BucketReader:
        encoded = BucketEncoder(self.reader, self.schema, self.facts.first)
        return BucketReader(encoded, self.facts.first, chosen)
