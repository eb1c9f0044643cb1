"""Batches of a log that is larger than memory, read bucket by bucket.

Training: per pass, the buckets stand in a seeded random order and so do the customers within each. Their training
positions, laid end to end, are cut into `lanes` stretches of equal length; every global batch takes the same number of
positions from every lane. A rank owns some of the lanes and a worker some of the rank's, so one rank and many see the
same global batches (as sets), each position once per pass but for the few that complete the last batch. What a lane has
emitted is a function of (seed, epoch, pass, lane, number of positions): a resumed run goes on with the very next batch,
and buckets that were passed are not read.

Evaluation: the positions, in the order of rows, are cut into one stretch per rank and worker; each comes once.

Memory: one encoded bucket per lane.

Axis letters: P positions, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wanamaker.data.event_rows import EventRows
from wanamaker.data.event_sampler import by_length
from wanamaker.data.experiment_stream import EvaluationStream, Piece, RowReader, TrainingStream, _Stretch
from wanamaker.data.panel_dataset import whole_batch
from wanamaker.data.propensity_batch import PropensityBatch
from wanamaker.data.sampler import seeded_permutation, stable_seed

Part = tuple[EventRows, np.ndarray]  # a bucket and places in it


class BucketReader:
    """Chosen positions of a log in buckets.

    Args:
        encoded: number of a bucket -> its positions.
        first: int64 [number of buckets + 1], row of each bucket's first position.
        chosen: bool [all positions], which of them there are to read.

    Attributes:
        counts: int64 [number of buckets], chosen positions of each.
    """

    def __init__(self, encoded: Callable[[int], EventRows], first: np.ndarray, chosen: np.ndarray) -> None:
        self.encoded, self.first, self.chosen = encoded, first, chosen
        ahead = np.concatenate([[0], np.cumsum(chosen)])
        self.counts = np.diff(ahead[first])

    def __len__(self) -> int:
        return int(self.counts.sum())

    stretch = RowReader.stretch

    def bucket(self, number: int) -> Part:
        """A bucket, and the places in it that are chosen."""
        rows = self.encoded(number)
        return rows, np.flatnonzero(self.chosen[self.first[number] : self.first[number + 1]])


def joined(batches: Sequence[PropensityBatch]) -> PropensityBatch:
    """Several batches as one; their sequences stand one after the other."""
    if len(batches) == 1:
        return batches[0]
    ahead, moved = 0, []
    for batch in batches:
        moved.append(batch._replace(sequence=torch.where(batch.sequence >= 0, batch.sequence + ahead, batch.sequence)))
        ahead += len(batch.length)
    return PropensityBatch(*(torch.cat(tensors) for tensors in zip(*moved, strict=True)))


def in_batches(parts: Iterable[Part], size: int) -> Iterator[PropensityBatch]:
    """The same positions, `size` at a time; the last batch may be smaller."""
    held: list[PropensityBatch] = []
    missing = size
    for rows, places in parts:
        while len(places):
            now, places = places[:missing], places[missing:]
            held.append(rows.batch(now))
            missing -= len(now)
            if not missing:
                yield joined(held)
                held, missing = [], size
    if held:
        yield joined(held)


class Lane:
    """A stretch of the training positions of one pass.

    Args:
        reader: of the training positions.
        order: of the buckets in this pass.
        start, stop: of the stretch.
        size: positions of a batch that come from this lane.
        bucket_batches: of them whose customers are sorted by length together; 1: none.
        seed: of the pass.
    """

    def __init__(
        self,
        reader: BucketReader,
        order: np.ndarray,
        start: int,
        stop: int,
        size: int,
        bucket_batches: int,
        seed: int,
    ) -> None:
        self.reader, self.size, self.bucket_batches, self.seed = reader, size, bucket_batches, seed
        self.pieces, self.length = reader.stretch(order, start, stop), stop - start

    def parts(self, skip: int) -> Iterator[Part]:
        """Positions after the first `skip`, without end: after its last one the stretch begins again."""
        skip %= self.length
        while True:
            for number, first, last in self.pieces:
                if skip >= last - first:
                    skip -= last - first
                    continue
                rows, places = self._laid((number, first, last))
                yield rows, places[skip:]
                skip = 0

    def _laid(self, piece: Piece) -> Part:
        number, first, last = piece
        rows, places = self.reader.bucket(number)
        seed = stable_seed(self.seed, number)
        owner = rows.customer[places]
        begins = np.flatnonzero(np.diff(owner, prepend=-1) != 0)
        sizes = np.diff(np.append(begins, len(owner)))
        groups = seeded_permutation(len(begins), seed)
        ahead = np.cumsum(sizes[groups]) - sizes[groups]
        order = np.arange(len(owner)) + np.repeat(begins[groups] - ahead, sizes[groups])
        order = order[first:last]
        if self.bucket_batches > 1:
            longest = np.maximum.reduceat((rows.stop - rows.start)[places], begins)
            group = np.repeat(groups, sizes[groups])[first:last]
            order = order[by_length(group, longest, self.size, self.bucket_batches, stable_seed(seed, first))]
        return rows, places[order]


class EventLanes(IterableDataset):
    """One epoch of one rank, from some batch on; a worker yields the positions of its own lanes.

    Args:
        stream: whose epoch.
        seed: of the epoch.
        skip: batches of the epoch to leave out.
    """

    def __init__(self, stream: EventTrainingStream, seed: int, skip: int) -> None:
        self.stream, self.seed, self.skip = stream, seed, skip

    def __iter__(self) -> Iterator[PropensityBatch]:
        worker, stream = get_worker_info(), self.stream
        mine = list(stream.mine)
        if worker is not None:
            mine = np.array_split(mine, worker.num_workers)[worker.id].tolist()
        total, size = len(stream.reader), stream.batch_size // stream.lanes
        cuts = [lane * total // stream.lanes for lane in range(stream.lanes + 1)]
        for number in range(self.skip // stream.steps, stream.passes):
            begin = max(self.skip - number * stream.steps, 0)
            seed = stable_seed(self.seed, number)
            order = seeded_permutation(len(stream.reader.counts), seed)
            lanes = [
                Lane(stream.reader, order, cuts[lane], cuts[lane + 1], size, stream.bucket_batches, seed)
                for lane in mine
            ]
            streams = [in_batches(lane.parts(begin * size), size) for lane in lanes]
            for _ in range(begin, stream.steps):
                yield joined([next(parts) for parts in streams])


class EventTrainingStream(TrainingStream):
    """What a trainer iterates over: the global batches of an epoch, this rank's part of each.

    Args:
        reader: of the training positions.
        lanes: a divisor of `batch_size` and a multiple of the number of ranks.
        batch_size: Global batch.
        bucket_batches: batches whose customers are sorted by length together; 1: none.
        **options: as in `TrainingStream`.
    """

    def __init__(
        self, reader: BucketReader, lanes: int, batch_size: int, bucket_batches: int = 1, **options: Any
    ) -> None:
        super().__init__(reader, lanes, batch_size, **options)
        self.bucket_batches = bucket_batches

    def fingerprint(self) -> dict[str, int]:
        return super().fingerprint() | {"bucket_batches": self.bucket_batches}

    def __iter__(self) -> Iterator[PropensityBatch]:
        # No generator function: the epoch is fixed now. Workers start with the first batch, because Lightning calls
        # `iter` once more than it iterates.
        skip = self.start_batch if self.epoch == self.start_epoch and not self.freeze_epoch else 0
        return self._batches(EventLanes(self, stable_seed(self.seed, self.epoch), skip), len(self) - skip)

    def _batches(self, lanes: EventLanes, count: int) -> Iterator[PropensityBatch]:
        loader = DataLoader(
            lanes, batch_size=None, num_workers=self.num_workers, pin_memory=self.pin_memory, collate_fn=whole_batch
        )
        parts = iter(loader)  # the workers take turns
        for _ in range(count):
            yield joined([next(parts) for _ in range(max(self.num_workers, 1))])


class EventStretch(_Stretch):
    """Positions `start` to `stop` in the order of rows, in batches; workers divide them among themselves."""

    def __iter__(self) -> Iterator[PropensityBatch]:
        worker = get_worker_info()
        start, stop = self.part(*((0, 1) if worker is None else (worker.id, worker.num_workers)))
        return in_batches(self._parts(start, stop), self.size)

    def _parts(self, start: int, stop: int) -> Iterator[Part]:
        for number, first, last in self.reader.stretch(np.arange(len(self.reader.counts)), start, stop):
            rows, places = self.reader.bucket(number)
            yield rows, places[first:last]


class EventEvaluationStream(EvaluationStream):
    """Every position once, on one rank, in batches; ranks may have different numbers of batches.

    Args:
        reader: of the positions to evaluate.
        batch_size: Global batch.
        **options: as in `EvaluationStream`.
    """

    def __init__(self, reader: BucketReader, batch_size: int, **options: Any) -> None:
        super().__init__(reader, batch_size, **options)
        self.rows = EventStretch(reader, self.rows.start, self.rows.stop, self.rows.size)
