"""Positions of a bucket as a model reads them, and how some of them become a batch.

Axis letters: P positions, F numeric features, J categorical features, E events, C, D columns of an event, T tasks,
S sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from wanamaker.data.event_history import History, Names, Positions
from wanamaker.data.event_tasks import DAY
from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema

_OF_POSITIONS = (
    "row",
    "key",
    "customer",
    "moment",
    "numeric",
    "categorical",
    "start",
    "stop",
    "since",
    "label",
    "time",
    "weight",
)


@dataclass(frozen=True)
class Prepared:
    """Positions of a bucket before names become numbers.

    Attributes:
        ids: [N], of the bucket's customers. key: int64 [N], their hashes.
        history: events as they became known.
        positions: P of them.
        numeric: feature -> float64 [P].
        words: feature -> (index into the words, int64 [P]; the words).
        label, time: float64 [P, T].
        weight: float32 [P].
    """

    ids: np.ndarray
    key: np.ndarray
    history: History
    positions: Positions
    numeric: dict[str, np.ndarray]
    words: dict[str, tuple[np.ndarray, tuple[str, ...]]]
    label: np.ndarray
    time: np.ndarray
    weight: np.ndarray

    def event_words(self, roles_type: str) -> dict[str, Names]:
        """Columns of words of the events, the type under the given name."""
        return {roles_type: self.history.type, **self.history.names}


def number_words(words: tuple[str, ...] | Names, known: tuple[str, ...]) -> np.ndarray:
    """Number in a batch of every word, int64: place among the known ones + 1, else 0."""
    numbers = {word: i for i, word in enumerate(known, start=1)}
    values = words.values if isinstance(words, Names) else words
    return np.array([numbers.get(word, 0) for word in values] or [0], np.int64)


@dataclass(frozen=True)
class EventRows:
    """Positions of a bucket with the events that they look at; what `PropensityBatch` says, in NumPy.

    Attributes:
        row, key: int64 [P].
        customer: int64 [P], number in `ids`. ids: of the bucket.
        moment: int64 [P], microseconds since 1970.
        numeric: float32 [P, F]. categorical: int32 [P, J].
        start, stop: int64 [P]; the position sees events start to stop - 1.
        since: float32 [P].
        label, time: float32 [P, T]. weight: float32 [P].
        event_categorical: int32 [E, C]. event_numeric: float32 [E, D]. event_gap: float32 [E].
    """

    row: np.ndarray
    key: np.ndarray
    customer: np.ndarray
    ids: np.ndarray
    moment: np.ndarray
    numeric: np.ndarray
    categorical: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    since: np.ndarray
    label: np.ndarray
    time: np.ndarray
    weight: np.ndarray
    event_categorical: np.ndarray
    event_numeric: np.ndarray
    event_gap: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: np.ndarray) -> EventRows:
        """Some positions; the events stay."""
        of_positions = {name: getattr(self, name)[places] for name in _OF_POSITIONS}
        return replace(self, **of_positions)

    def batch(self, places: np.ndarray) -> PropensityBatch:
        """Some positions; those that begin with the same event share a sequence.

        Args:
            places: int64 [P'].
        """
        start, seen = self.start[places], self.stop[places] - self.start[places]
        begins, sequence = np.unique(np.where(seen > 0, start, -1), return_inverse=True)
        if len(begins) and begins[0] == -1:
            begins, sequence = begins[1:], sequence - 1
        length = np.zeros(len(begins), np.int64)
        with_events = sequence >= 0
        np.maximum.at(length, sequence[with_events], seen[with_events])
        ahead = np.cumsum(length) - length  # first place of each sequence in the batch
        event = np.arange(int(length.sum())) + np.repeat(begins - ahead, length)
        gap = self.event_gap[event]
        gap[ahead] = np.nan
        arrays = PropensityBatch(
            row=self.row[places],
            key=self.key[places],
            numeric=self.numeric[places],
            categorical=self.categorical[places].astype(np.int64),
            sequence=sequence.astype(np.int64),
            seen=seen,
            since=np.where(seen > 0, self.since[places], np.float32(np.nan)),
            length=length,
            event_categorical=self.event_categorical[event].astype(np.int64),
            event_numeric=self.event_numeric[event],
            event_gap=gap,
            label=self.label[places],
            time=self.time[places],
            weight=self.weight[places],
        )
        return PropensityBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def encode(prepared: Prepared, schema: PropensitySchema, first_row: int, event_type: str) -> EventRows:
    """Names become numbers of the schema.

    Args:
        prepared: of a bucket.
        schema: whose features and categories count.
        first_row: number of its first position.
        event_type: name of the type's column in the schema.
    """
    positions, history = prepared.positions, prepared.history
    P, E = len(positions), len(history.time)
    numeric = np.empty((P, len(schema.numeric)), np.float32)
    for f, name in enumerate(schema.numeric):
        numeric[:, f] = prepared.numeric[name]
    categorical = np.empty((P, len(schema.categorical)), np.int32)
    for j, name in enumerate(schema.categorical):
        code, words = prepared.words[name]
        categorical[:, j] = number_words(words, schema.categories[j])[code]
    columns: Mapping[str, Names] = prepared.event_words(event_type)
    event_categorical = np.empty((E, len(schema.event_categorical)), np.int32)
    for c, name in enumerate(schema.event_categorical):
        event_categorical[:, c] = number_words(columns[name], schema.event_categories[c])[columns[name].code]
    event_numeric = np.empty((E, len(schema.event_numeric)), np.float32)
    for d, name in enumerate(schema.event_numeric):
        event_numeric[:, d] = history.numbers[name]
    return EventRows(
        row=np.arange(first_row, first_row + P),
        key=prepared.key[positions.customer],
        customer=positions.customer,
        ids=prepared.ids,
        moment=positions.moment,
        numeric=numeric,
        categorical=categorical,
        start=positions.start,
        stop=positions.stop,
        since=positions.since(history).astype(np.float32),
        label=prepared.label.astype(np.float32),
        time=prepared.time.astype(np.float32),
        weight=prepared.weight,
        event_categorical=event_categorical,
        event_numeric=event_numeric,
        event_gap=gaps_of(history).astype(np.float32),
    )


def gaps_of(history: History) -> np.ndarray:
    """Days since the customer's event before, float64 [E]; NaN for their first."""
    gap = np.full(len(history.time), np.nan)
    owner = history.owner
    gap[1:] = np.where(np.diff(owner) == 0, np.diff(history.time) / DAY, np.nan)
    return gap
