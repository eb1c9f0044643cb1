"""What the positions of a log are split into, and what those to learn from say about names and scales.

Two passes over the buckets: labels decide the split, then the training positions are looked at. What is kept grows by
some bytes per position (its label, customer's hash, moment and split) and not with the events.

Axis letters: P positions, F numeric features, J categorical features, C, D columns of an event, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.customer_table_labels import refuse_unwatched
from wanamaker.data.customer_table_split import SplitFacts, split_rows
from wanamaker.data.customer_table_statistics import label_stats, quantiles_of
from wanamaker.data.event_reader import EventReader
from wanamaker.data.event_rows import Prepared, gaps_of
from wanamaker.data.experiment_split import TRAIN, mixed
from wanamaker.data.experiment_survey import SAMPLE, Moments
from wanamaker.data.propensity_batch import PropensitySchema, PropensityStats
from wanamaker.errors import UserError

QUANTILE_EVENTS = SAMPLE


@dataclass(frozen=True)
class Facts:
    """What is known of every position, in the order of rows.

    Attributes:
        counts: int64 [number of buckets], positions of each.
        customer: int32 [P], number in the bucket.
        key, moment: int64 [P]. label, time: float32 [P, T].
        codes: uint8 [P], index into `experiment_split.SPLITS`.
    """

    counts: np.ndarray
    customer: np.ndarray
    key: np.ndarray
    moment: np.ndarray
    label: np.ndarray
    time: np.ndarray
    codes: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Row of each bucket's first position, int64 [number of buckets + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)])


def facts_of(reader: EventReader, parts: Iterator[Prepared], split: Mapping[str, Any]) -> Facts:
    """The first pass.

    Args:
        reader: of the log.
        parts: of all buckets.
        split: from `customer_table_split.parse_split`.
    """
    counts, customers, keys, moments, cuts, labels, times = ([] for _ in range(7))
    for part in parts:
        counts.append(len(part.positions))
        customers.append(part.positions.customer.astype(np.int32))
        keys.append(part.key[part.positions.customer])
        moments.append(part.positions.moment)
        cuts.append(reader.split_moment(part))
        labels.append(part.label.astype(np.float32))
        times.append(part.time.astype(np.float32))
    key, moment, label = np.concatenate(keys), np.concatenate(moments), np.concatenate(labels)
    # A stratified draw looks at rows alone; with several moments of a customer only their hash keeps them together.
    repeated = len(np.unique(key)) < len(key) or len(counts) > 1
    codes = split_rows(
        SplitFacts(
            usable=np.isfinite(label).any(axis=1),
            positive=label[:, 0] > 0,
            key=key,
            moment=np.concatenate(cuts).astype("datetime64[us]").astype("datetime64[s]"),
            repeated=repeated,
        ),
        split,
    )
    return Facts(
        np.array(counts, np.int64), np.concatenate(customers), key, moment, label, np.concatenate(times), codes
    )


class _Sampled:
    """Rows whose places in a fixed random order come first, so that a sample does not depend on the buckets."""

    def __init__(self, columns: int) -> None:
        self.rows, self.places = np.empty((0, columns), np.float32), np.empty(0, np.uint64)

    def add(self, rows: np.ndarray, number: np.ndarray) -> None:
        """Rows [N, columns] with a number each."""
        self.rows = np.concatenate([self.rows, rows.astype(np.float32)])
        self.places = np.concatenate([self.places, mixed(number)])
        if len(self.places) > SAMPLE:
            kept = np.argpartition(self.places, SAMPLE)[:SAMPLE]
            self.rows, self.places = self.rows[kept], self.places[kept]


class Learner:
    """The second pass: names and scales of the training positions.

    Args:
        reader: of the log.
        max_categories: names that a column may have.

    Attributes:
        sample: {feature: float32 [n]} and labels of sampled training positions, for the gates; after `schema`.
    """

    def __init__(self, reader: EventReader, max_categories: int) -> None:
        self.reader, self.max_categories = reader, max_categories
        self.numeric: tuple[str, ...] | None = None
        self.categorical: tuple[str, ...] = ()
        self.names: dict[str, set[str]] = {}
        self.event_names: dict[str, set[str]] = {name: set() for name in reader.roles.event_categorical}
        self.event_numeric = reader.roles.numbers()
        self.events = Moments(len(self.event_numeric))
        self.event_rows = 0
        self.event_sample = _Sampled(len(self.event_numeric) + 1)
        self.train = 0

    def see(self, part: Prepared, train: np.ndarray) -> None:
        """A bucket; `train` is bool [P]."""
        if self.numeric is None:
            self.numeric, self.categorical = tuple(part.numeric), tuple(part.words)
            self.names = {name: set() for name in self.categorical}
            self.moments = Moments(len(self.numeric))
            self.sampled = _Sampled(len(self.numeric))
        places = np.flatnonzero(train)
        self.train += len(places)
        if not len(places):
            return
        values = np.stack([part.numeric[name][places] for name in self.numeric], axis=1) if self.numeric else None
        if values is not None:
            self.moments.add(values)
            number = part.key[part.positions.customer[places]] ^ part.positions.moment[places]
            self.sampled.add(values, number)
        for name in self.categorical:
            code, words = part.words[name]
            self.names[name] |= {words[i] for i in np.unique(code[places])}
        self._see_events(part, places)
        for name, found in (*self.names.items(), *self.event_names.items()):
            if len(found) > self.max_categories:
                raise UserError(
                    f"column {name!r} of {self.reader.name} has more than {self.max_categories:,} different names in"
                    " training: a name that hardly repeats teaches nothing. Leave it out of data.roles (or"
                    " data.customers), or raise data.max_categories."
                )

    def _see_events(self, part: Prepared, places: np.ndarray) -> None:
        p, history = part.positions, part.history
        begins = np.bincount(p.start[places], minlength=len(history.time) + 1)
        ends = np.bincount(p.stop[places], minlength=len(history.time) + 1)
        seen = np.flatnonzero(np.cumsum(begins - ends)[:-1] > 0)
        columns = part.event_words(self.reader.roles.event_categorical[0])
        for name, found in self.event_names.items():
            found |= {columns[name].values[i] for i in np.unique(columns[name].code[seen])}
        values = np.stack([*(history.numbers[n][seen] for n in self.event_numeric), gaps_of(history)[seen]], axis=1)
        self.events.add(values[:, :-1])
        self.event_rows += len(seen)
        number = part.key[history.owner[seen]] ^ (seen - history.offsets[history.owner[seen]])
        self.event_sample.add(values, number)

    def schema(self) -> PropensitySchema:
        """Names, of all buckets.

        Raises:
            UserError: no position to learn from.
        """
        if not self.train:
            raise UserError(
                f"No position of {self.reader.name} is left to train on: lower data.split.val and data.split.test, or"
                " choose as-of dates whose label windows end before the log does."
            )
        return PropensitySchema(
            id=self.reader.roles.id,
            tasks=tuple(one.task for one in self.reader.options.tasks),
            numeric=self.numeric or (),
            categorical=self.categorical,
            categories=tuple(tuple(sorted(self.names[name])) for name in self.categorical),
            event_categorical=tuple(self.event_names),
            event_categories=tuple(tuple(sorted(found)) for found in self.event_names.values()),
            event_numeric=self.event_numeric,
        )

    def stats(self, facts: Facts) -> PropensityStats:
        """Scales, of all buckets."""
        train = facts.codes == TRAIN
        labels = label_stats([one.task for one in self.reader.options.tasks], facts.label[train], facts.time[train])
        events = max(self.event_rows, 1)
        return PropensityStats(
            mean=tuple(self.moments.mean.tolist()),
            sd=tuple(self.moments.sd.tolist()),
            missing=tuple((1 - self.moments.count / self.train).tolist()),
            quantiles=tuple(quantiles_of(self.sampled.rows[:, f]) for f in range(len(self.numeric or ()))),
            event_mean=tuple(self.events.mean.tolist()),
            event_sd=tuple(self.events.sd.tolist()),
            event_missing=tuple((1 - self.events.count / events).tolist()),
            event_quantiles=tuple(quantiles_of(self.event_sample.rows[:, d]) for d in range(len(self.event_numeric))),
            gap_quantiles=quantiles_of(self.event_sample.rows[:, -1]),
            label_mean=labels.label_mean,
            label_sd=labels.label_sd,
            positive_share=labels.positive_share,
            hazard=labels.hazard,
            largest=labels.largest,
        )


def check_labels(reader: EventReader, facts: Facts, needs: Sequence[int], split: Mapping[str, Any]) -> list[str]:
    """What is wrong or worth saying about the labels.

    Args:
        reader: of the log.
        facts: of all positions.
        needs: codes of the splits that need labels.
        split: from `customer_table_split.parse_split`.

    Returns:
        Sentences to be said once.

    Raises:
        UserError: a task without any label, or with labels of one class only.
    """
    from wanamaker.data.event_moments import moment_text

    said = []
    if split["by"] == "time" and split["embargo"] < reader.ahead:
        said.append(
            f"data.split.embargo={split['embargo']:g}: label windows ({reader.ahead:g} days) of training positions"
            f" reach into the time of later parts; data.split.embargo={reader.ahead:g} keeps them apart."
        )
    for t, one in enumerate(reader.options.tasks):
        label = facts.label[:, t]
        known = np.isfinite(label)
        place = f"data.tasks[{t}] ({one.task.name})"
        if not known.any():
            raise UserError(
                f"{place} looks {reader.options.embargo + one.days:g} days ahead of {_dates(reader.moments)}, but the"
                f" log ends on {moment_text(reader.span.end)}: no label is known. Choose an earlier data.as_of, shorten"
                " the window, or say how far the log is complete with data.log_end."
            )
        if one.task.kind == "value" and (low := np.nanmin(label)) < 0:
            raise UserError(
                f"{place} is a value but adds up to {low:g} for some customer: amounts are 0 or positive; count"
                " purchases only (event: ...), or declare kind: regression."
            )
        beyond = int((~known).sum())
        if beyond and not one.once:
            said.append(
                f"{one.task.name}: the window of {beyond:,} of {len(label):,} positions reaches beyond the end of the"
                f" log ({moment_text(reader.span.end)}); their label is not known."
            )
        if one.task.kind == "hazard":
            learnt = np.isin(facts.codes, list(needs))
            refuse_unwatched(one.task, label[learnt], facts.time[learnt, t], f"data.tasks[{t}].edges")
        for code in needs:
            mine = label[known & (facts.codes == code)]
            if not len(mine):
                continue
            mine = mine > 0 if one.task.kind == "value" else mine
            if mine.min() == mine.max():
                where = "training " if code == TRAIN else ""
                raise UserError(
                    f"{place} is {mine[0]:g} for all {len(mine):,} {where}positions: there is nothing to learn from"
                    " labels of one class. Check the event's name and the window, or bring more data."
                )
    return said


def _dates(moments: np.ndarray) -> str:
    from wanamaker.data.event_moments import moment_text

    if len(moments) == 1:
        return moment_text(moments[0])
    return f"{moment_text(moments[0])} to {moment_text(moments[-1])}"
