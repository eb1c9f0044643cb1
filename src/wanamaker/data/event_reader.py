"""From a log of events to positions with features and labels, one bucket of customers at a time.

Axis letters: P positions, N customers, E events, A as-of dates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from wanamaker.data.event_bucket import EventBucket, first_at
from wanamaker.data.event_customers import NEVER, CustomerTable, with_customers
from wanamaker.data.event_features import COUNT, FeatureOptions, event_features, last_words
from wanamaker.data.event_history import History, Positions, histories, microseconds, names_of, positions_at
from wanamaker.data.event_moments import LogSpan, moment_text, moments_in, parse_moment
from wanamaker.data.event_options import EventOptions
from wanamaker.data.event_partition import LogColumns, estimated_rows, log_blocks
from wanamaker.data.event_rows import EventRows, Prepared, encode
from wanamaker.data.event_shards import EventBuckets, partition_log, read_log
from wanamaker.data.event_tasks import DAY, After, labels_after
from wanamaker.data.experiment_table import key_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import PropensitySchema
from wanamaker.errors import UserError

_EARLIEST, _LATEST = (int(np.datetime64(year, "us").astype(np.int64)) for year in ("1900", "2200"))


class EventReader:
    """Positions of a log, bucket by bucket.

    Args:
        options: of the recipe.

    Attributes:
        streamed: the log lies in buckets on disk.
        left_out: rows of the log without an identifier.
        feature_types: types that the features "types" count; None: all that the log has.
    """

    def __init__(self, options: EventOptions) -> None:
        self.options, self.roles = options, options.roles
        self.name = str(options.path)
        self.left_out = 0
        self._whole: EventBucket | None = None
        self._parts: EventBuckets | None = None
        self.feature_types: tuple[str, ...] | None = None
        self._model: PropensitySchema | None = None
        self.streamed = self._rows() > options.in_memory

    # -- reading -------------------------------------------------------------------------------------------------------

    def columns(self) -> LogColumns:
        """What is read of the log."""
        roles, extra = self.roles, {}
        if roles.available_at is not None:
            extra["times"] = (roles.available_at,)
        return LogColumns(
            roles.id, roles.time, categorical=roles.names(), numeric=roles.numbers(), **extra, **self.options.writing
        )

    def _rows(self) -> int:
        return estimated_rows(self.options.path)

    def open(self) -> None:
        """Read the log, or rewrite it in buckets, unless that was done.

        Raises:
            UserError: a missing file or column, a cell that cannot be read, no events.
        """
        if self._whole is not None or self._parts is not None:
            return
        if self.streamed:
            self._require_cache()
            known = {**asdict(self.columns()), "buckets": self.options.buckets}
            self._parts = partition_log(self.options.path, self.options.cache, **known)
            self.left_out = self._parts.left_out
        else:
            self._whole, self.left_out = read_log(self.options.path, self.columns())

    def look(self) -> None:
        """Read the first rows of the log, and the table of customers, to find mistakes in a recipe.

        Raises:
            UserError: a missing file, column or cache folder, a cell that cannot be read.
        """
        self._require_cache()
        next(iter(log_blocks(self.options.path, self.columns())), None)
        _ = self.customers

    def _require_cache(self) -> None:
        if self.options.cache is None:
            raise UserError(
                f"{self.name} has about {self._rows():,} events, more than data.events_in_memory="
                f"{self.options.in_memory:,}: name a folder for its buckets in data.cache_dir, or raise"
                " data.events_in_memory."
            )

    @property
    def num_buckets(self) -> int:
        """How many parts the log is read in."""
        self.open()
        return 1 if self._parts is None else len(self._parts)

    def bucket(self, number: int) -> EventBucket:
        """The events of some customers, and the customers of the table who have none among them."""
        self.open()
        bucket = self._events(number)
        if self.customers is None:
            return bucket
        ids = self.customers.ids
        if self._parts is not None:
            ids = ids[key_of(ids) % len(self._parts) == number]
        return with_customers(bucket, ids)

    def ids(self, number: int) -> np.ndarray:
        """The customers of a bucket."""
        if self._parts is not None and self.customers is None:
            return self._parts.ids(number)
        return self.bucket(number).ids

    def _events(self, number: int) -> EventBucket:
        return self.arranged(self._whole if self._parts is None else self._parts.read(number), number)

    def arranged(self, bucket: EventBucket, number: int) -> EventBucket:
        """Bucket `number` as its events are understood; a subclass may make one event of several lines."""
        return bucket

    def said(self) -> list[str]:
        """What was left out of the log, in sentences; after it was looked at as a whole."""
        lost = self.left_out
        return [f"{lost:,} rows without {self.roles.id!r} were left out."] if lost else []

    @cached_property
    def customers(self) -> CustomerTable | None:
        """The table of customers."""
        if self.options.customers is None:
            return None
        writing = {name: value for name, value in self.options.writing.items() if name != "time_format"}
        if writing.get("delimiter") == "whitespace":
            writing["delimiter"] = None
        return CustomerTable(self.options.customers, self.roles.id, **writing, model=self._model)

    def adopt(self, schema: PropensitySchema) -> None:
        """Make the features of a trained model: types that this log does not have are counted, too (0 times)."""
        counted = [name.removeprefix(COUNT) for name in schema.numeric if name.startswith(COUNT)]
        self.feature_types, self._model = tuple(counted), schema
        self.__dict__.pop("customers", None)

    # -- the log as a whole --------------------------------------------------------------------------------------------

    @cached_property
    def _overview(self) -> tuple[LogSpan, dict[str, int]]:
        firsts, lasts, dates_only, types = [], [], True, {}
        for number in range(self.num_buckets):
            bucket = self._events(number)
            time = microseconds(bucket.columns[self.roles.time])
            if not len(time):
                continue
            firsts.append(int(time.min()))
            lasts.append(int(time.max()))
            dates_only = dates_only and not (time % DAY).any()
            if self.roles.type is None:
                types[self.roles.event] = min(firsts)
                continue
            kind = names_of(bucket.columns[self.roles.type])
            earliest = np.full(len(kind.values), np.iinfo(np.int64).max)
            np.minimum.at(earliest, kind.code, time)
            for name, moment in zip(kind.values, earliest.tolist(), strict=True):
                types[name] = min(types.get(name, moment), moment)
        if not firsts:
            raise UserError(f"{self.name} has no event left: {' '.join(self.said())} Check data.roles.")
        first, last = min(firsts), max(lasts)
        for moment in (first, last):
            if not _EARLIEST <= moment < _LATEST:
                raise UserError(
                    f"{self.name} has an event on {moment_text(moment)}, as stands for an unknown date; correct it, or"
                    " take the row out."
                )
        end = (last // DAY + 1) * DAY
        if self.options.log_end is not None:
            end = parse_moment("data.log_end", self.options.log_end)
            if end <= last:
                raise UserError(
                    f"data.log_end={self.options.log_end!r}, but the log has an event on"
                    f" {np.datetime64(last, 'us')}; the end lies after all events."
                )
        return LogSpan(first, last, end, DAY if dates_only else 1), types

    @property
    def span(self) -> LogSpan:
        """When the events happened."""
        return self._overview[0]

    @property
    def types(self) -> tuple[str, ...]:
        """Of events before the last as-of date, sorted: what came up later is no name for a feature."""
        return tuple(sorted(name for name, first in self._overview[1].items() if first < self.moments.max()))

    @cached_property
    def moments(self) -> np.ndarray:
        """As-of dates, int64 [A].

        Raises:
            UserError: one outside the log.
        """
        return moments_in(self.options.as_of, self.span, self.ahead)

    @property
    def ahead(self) -> float:
        """Days from a moment to the end of the longest label window."""
        return self.options.embargo + max(one.days for one in self.options.tasks)

    def check_types(self) -> None:
        """Refuse types of events that the log does not have.

        Raises:
            UserError: naming the option.
        """
        places = {f"data.tasks[{i}]": one.events for i, one in enumerate(self.options.tasks)}
        places |= {"data.purchases": self.options.purchases, "data.until": self.options.until}
        for place, events in places.items():
            for name in events:
                if name not in self._overview[1]:
                    where = f"column {self.roles.type!r}" if self.roles.type else "data.roles.event"
                    raise UserError(
                        f"{place} names event {name!r}, which {where} of {self.name} does not have."
                        f" {nearest(name, sorted(self._overview[1]))}"
                    )

    # -- positions -----------------------------------------------------------------------------------------------------

    def feature_options(self, history: History) -> FeatureOptions:
        """Which features the recipe wants of this log."""
        o, roles = self.options, self.roles
        return FeatureOptions(
            groups=o.features,
            purchases=o.purchases,
            amount=roles.amount,
            order=roles.order,
            numeric=roles.numeric,
            categorical=roles.categorical,
            windows=o.windows,
            types=(self.types if self.feature_types is None else self.feature_types) if roles.type else (),
        )

    def positions(self, history: History, ids: np.ndarray) -> Positions:
        """Who is asked, and when."""
        o = self.options
        known_from = np.full(len(ids), NEVER)
        if self.customers is not None:
            place = self.customers.place_of(ids)
            known_from = np.where(place >= 0, self.customers.since[place], NEVER)
        return positions_at(history, self.moments, known_from, o.until, o.history_days, o.history_events)

    def labels(self, happened: History, positions: Positions) -> tuple[np.ndarray, np.ndarray]:
        """What came after the moments; label and time, float64 [P, T] each."""
        o, offsets, time = self.options, happened.offsets, happened.time
        first, end = offsets[positions.customer], offsets[positions.customer + 1]
        start = positions.moment + int(o.embargo * DAY)

        def place_of(moment: np.ndarray) -> np.ndarray:
            return first_at(time, first, end, moment) if len(time) else first

        after = After(
            type=happened.type.code,
            types=happened.type.values,
            time=time,
            values=happened.numbers,
            first=first,
            begin=place_of(start),
            end=end,
            start=start,
            log_end=self.span.end,
            tick=self.span.tick,
        )
        stops = np.stack([place_of(start + int(one.days * DAY)) for one in o.tasks])
        return labels_after(o.tasks, after, stops)

    def features(
        self, history: History, positions: Positions
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, tuple[str, ...]]]]:
        """Numeric ones and names, of what was known at the moments."""
        options = self.feature_options(history)
        return event_features(history, positions, options), last_words(history, positions, options)

    def prepare(self, number: int) -> Prepared:
        """A bucket's positions with all that is known of them."""
        bucket = self.bucket(number)
        history, happened = histories(bucket, self.roles)
        positions = self.positions(history, bucket.ids)
        numeric, words = self.features(history, positions)
        if self.customers is not None:
            self._add_static(bucket.ids[positions.customer], numeric, words)
        label, time = self.labels(happened, positions)
        return Prepared(
            ids=bucket.ids,
            key=key_of(bucket.ids),
            history=history,
            positions=positions,
            numeric=numeric,
            words=words,
            label=label,
            time=time,
            weight=np.ones(len(positions), np.float32),
        )

    def split_moment(self, part: Prepared) -> np.ndarray:
        """Moments by which `split.by: time` orders positions, int64 [P]."""
        return part.positions.moment

    def _add_static(self, ids: np.ndarray, numeric: dict[str, Any], words: dict[str, Any]) -> None:
        """Features of the table of customers; missing for those it does not have."""
        place = self.customers.place_of(ids)
        there = place >= 0
        clash = [n for n in (*self.customers.numeric, *self.customers.words) if n in numeric or n in words]
        if clash:
            raise UserError(
                f"{self.options.customers.path} (data.customers): column {clash[0]!r} has the name of a feature that is"
                " made of the events; rename it, or leave it out with data.customers.drop."
            )
        for name, values in self.customers.numeric.items():
            numeric[name] = np.where(there, values[place], np.nan)
        for name, column in self.customers.words.items():
            code = np.where(there, column.code[place], len(column.values))
            words[name] = code.astype(np.int64), (*column.values, "")

    def all_prepared(self) -> Iterator[Prepared]:
        """Of every bucket."""
        return (self.prepare(number) for number in range(self.num_buckets))


def encoded(reader: EventReader, part: Prepared, schema: PropensitySchema, first_row: int) -> EventRows:
    """A bucket's positions by the names of a schema."""
    return encode(part, schema, first_row, reader.roles.event_categorical[0])


class BucketEncoder:
    """Buckets of a log on disk as a model reads them; workers get a copy of it.

    Args:
        reader: of the log.
        schema: whose names count.
        first: int64 [number of buckets + 1], row of each bucket's first position.
    """

    def __init__(self, reader: EventReader, schema: PropensitySchema, first: np.ndarray) -> None:
        self.reader, self.schema, self.first = reader, schema, first

    def __call__(self, number: int) -> EventRows:
        return encoded(self.reader, self.reader.prepare(number), self.schema, int(self.first[number]))
