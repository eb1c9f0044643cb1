"""Batches of a table that is larger than memory, read from its row groups.

Training: per pass, the row groups stand in a seeded random order, and their training rows, laid end to end, are cut
into `lanes` stretches of equal length. Every global batch takes the same number of rows from every lane. A rank owns
some of the lanes and a worker some of the rank's, so one rank and many see the same global batches (as sets), each row
once per pass but for the few that complete the last batch. Within a lane, `LANE_ROWS` rows are read at a time and put
in an arm-interleaved random order. What a lane has emitted is a function of (seed, epoch, pass, lane, number of
rows), so a resumed run goes on with the very next batch and skips whole row groups unread.

Evaluation: the rows, in the order of the file, are cut into one stretch per rank and worker; each row comes once.

Memory: about `lanes * LANE_ROWS` encoded rows per rank, whatever the size of the table.

Axis letters: N rows of the table.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from wanamaker.data.experiment_dataset import to_batch
from wanamaker.data.experiment_roles import ExperimentRoles
from wanamaker.data.experiment_sampler import interleaved
from wanamaker.data.experiment_source import ExperimentSource
from wanamaker.data.experiment_table import ExperimentRows, encode, identifiers_of, key_of
from wanamaker.data.panel_dataset import whole_batch
from wanamaker.data.sampler import EpochDataLoader, per_rank_batch_size, seeded_permutation, stable_seed
from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.errors import UserError

LANE_ROWS = 1 << 15  # rows of a lane that are shuffled together
READ_ROWS = 1 << 15  # rows decoded at a time
_CACHED = 8  # row groups whose identifiers and costs are kept

Piece = tuple[int, int, int]  # row group, first and last + 1 of its chosen rows


class RowReader:
    """Reads and encodes chosen rows of a table.

    Args:
        source: the files.
        columns: that are needed.
        schema, roles: see `experiment_table.encode`.
        chosen: bool [N], which rows there are to read.
    """

    def __init__(
        self,
        source: ExperimentSource,
        columns: Sequence[str],
        schema: UpliftSchema,
        roles: ExperimentRoles,
        chosen: np.ndarray,
    ) -> None:
        self.source, self.columns, self.schema, self.roles, self.chosen = source, list(columns), schema, roles, chosen
        self.counts = np.array([chosen[g.first : g.first + g.rows].sum() for g in source.groups], np.int64)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def stretch(self, order: np.ndarray, start: int, stop: int) -> list[Piece]:
        """The pieces that rows `start` to `stop` consist of, where the row groups stand in some order."""
        ends = np.cumsum(self.counts[order])
        pieces = []
        for place in range(int(np.searchsorted(ends, start, side="right")), len(order)):
            begin = int(ends[place] - self.counts[order[place]])
            if begin >= stop:
                break
            first, last = max(start - begin, 0), min(stop, int(ends[place])) - begin
            if last > first:
                pieces.append((int(order[place]), first, last))
        return pieces

    def read(self, pieces: Sequence[Piece]) -> Iterator[ExperimentRows]:
        """The rows of some pieces in their order, at most `READ_ROWS` at a time."""
        import pyarrow as pa

        for number, first, last in pieces:
            group = self.source.groups[number]
            row, passed = group.first, 0
            for block in self.source.read_group(group, self.columns, READ_ROWS):
                places = np.flatnonzero(self.chosen[row : row + len(block)])
                mine = places[max(first - passed, 0) : max(last - passed, 0)]
                passed += len(places)
                if len(mine):
                    table = pa.Table.from_batches([block])
                    yield self._encoded(table if len(mine) == len(block) else table.take(mine), mine + row)
                row += len(block)
                if passed >= last:
                    break

    def _encoded(self, table: Any, row: np.ndarray) -> ExperimentRows:
        key = key_of(row if self.roles.id is None else identifiers_of(table, self.roles.id, int(row[0]), whole=False))
        return encode(table, self.schema, self.roles, row, key)

    def strata(self, rows: ExperimentRows) -> np.ndarray:
        """What every batch should hold in proportion, int [N]."""
        return rows.treatment

    def to_batch(self, rows: ExperimentRows) -> UpliftBatch:
        """Arrays as a model reads them."""
        return to_batch(rows)


class Lane:
    """A stretch of the training rows of one pass, in its shuffled order.

    Args:
        reader: of the training rows.
        order: of the row groups in this pass.
        start, stop: of the stretch.
        seed: of the order within it.
    """

    def __init__(self, reader: RowReader, order: np.ndarray, start: int, stop: int, seed: int) -> None:
        self.reader, self.order, self.start, self.stop, self.seed = reader, order, start, stop, seed

    def chunks(self, skip: int) -> Iterator[ExperimentRows]:
        """Rows after the first `skip`, without end: after its last row the stretch begins again."""
        number, offset = divmod(skip % (self.stop - self.start), LANE_ROWS)
        while True:
            begin = self.start + number * LANE_ROWS
            for rows in in_portions(self.reader.read(self.reader.stretch(self.order, begin, self.stop)), LANE_ROWS):
                yield rows.take(interleaved(self.reader.strata(rows), stable_seed(self.seed, number))[offset:])
                number, offset = number + 1, 0
            number = 0


def in_portions(parts: Iterable[ExperimentRows], size: int) -> Iterator[ExperimentRows]:
    """The same rows, `size` at a time; the last portion may be smaller."""
    held: list[ExperimentRows] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part.row)
        if count < size:
            continue
        rows, first = ExperimentRows.joined(held), 0
        while first + size <= count:
            yield rows.take(slice(first, first + size))
            first += size
        held, count = ([rows.take(slice(first, None))] if first < count else []), count - first
    if held:
        yield ExperimentRows.joined(held)


class TrainingLanes(IterableDataset):
    """One epoch of one rank, from some batch on; a worker yields the rows of its own lanes.

    Args:
        reader: of the training rows.
        lanes: how many the table is cut into.
        mine: numbers of this rank's lanes.
        per_lane: rows of a lane in a global batch.
        steps: global batches of a pass.
        passes: of the epoch.
        seed: of the epoch.
        skip: batches of the epoch to leave out.
    """

    def __init__(
        self, reader: RowReader, lanes: int, mine: range, per_lane: int, steps: int, passes: int, seed: int, skip: int
    ) -> None:
        self.reader, self.lanes, self.mine, self.per_lane = reader, lanes, mine, per_lane
        self.steps, self.passes, self.seed, self.skip = steps, passes, seed, skip

    def __iter__(self) -> Iterator[UpliftBatch]:
        worker = get_worker_info()
        mine = list(self.mine)
        if worker is not None:
            mine = np.array_split(mine, worker.num_workers)[worker.id].tolist()
        total = len(self.reader)
        cuts = [lane * total // self.lanes for lane in range(self.lanes + 1)]
        for number in range(self.skip // self.steps, self.passes):
            begin = max(self.skip - number * self.steps, 0)
            seed = stable_seed(self.seed, number)
            order = seeded_permutation(len(self.reader.counts), seed)
            streams = [
                in_portions(
                    Lane(self.reader, order, cuts[lane], cuts[lane + 1], stable_seed(seed, lane)).chunks(
                        begin * self.per_lane
                    ),
                    self.per_lane,
                )
                for lane in mine
            ]
            for _ in range(begin, self.steps):
                yield self.reader.to_batch(ExperimentRows.joined([next(stream) for stream in streams]))


class TrainingStream:
    """What a trainer iterates over: the global batches of an epoch, this rank's part of each.

    It is no `DataLoader`, because the rows that the workers read for one batch have to be joined; Lightning takes any
    iterable, finds `set_epoch` through `sampler`, and saves `state_dict`.

    Args:
        reader: of the training rows.
        lanes: a divisor of `batch_size` and a multiple of `world_size`.
        batch_size: Global batch.
        passes: over the rows in one epoch.
        seed: Seeds the order, together with the epoch.
        rank, world_size, start_epoch, start_batch, freeze_epoch: as in `EpochBatchSampler`.
        num_workers: reading processes of this rank.
        pin_memory: page-locked batches.

    Raises:
        UserError: lanes that do not divide, or fewer training rows than lanes.
    """

    def __init__(
        self,
        reader: RowReader,
        lanes: int,
        batch_size: int,
        *,
        passes: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_epoch: int = 0,
        start_batch: int = 0,
        freeze_epoch: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        check_lanes(lanes, batch_size, world_size)
        if len(reader) < lanes:
            raise UserError(
                f"data.lanes={lanes}, but there are {len(reader)} training rows: use fewer lanes, or raise"
                " data.rows_in_memory to hold the table in memory."
            )
        self.reader, self.lanes, self.batch_size, self.passes, self.seed = reader, lanes, batch_size, passes, seed
        share = lanes // world_size
        self.mine = range(rank * share, (rank + 1) * share)
        self.num_workers, self.pin_memory = min(num_workers, share), pin_memory
        self.start_epoch, self.start_batch, self.freeze_epoch = start_epoch, start_batch, freeze_epoch
        self.epoch = start_epoch
        self.steps = -(-len(reader) // batch_size)
        if start_batch >= len(self):
            raise UserError(
                f"The checkpoint stands at batch {start_batch} of epoch {start_epoch}, but an epoch has {len(self)}"
                " batches now: the table or data.batch_size changed. Resume with the old values."
            )

    @property
    def sampler(self) -> TrainingStream:
        """Itself: where Lightning looks for `set_epoch`."""
        return self

    batch_sampler = sampler  # and `EpochDataLoader` for the fingerprint
    state_dict = EpochDataLoader.state_dict
    load_state_dict = EpochDataLoader.load_state_dict

    def fingerprint(self) -> dict[str, int]:
        """What decides the order of an epoch; see `EpochBatchSampler.fingerprint`."""
        return {
            "num_samples": len(self.reader),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "lanes": self.lanes,
            "passes": self.passes,
        }

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next `iter`."""
        if not self.freeze_epoch:
            self.epoch = epoch

    def __len__(self) -> int:
        return self.passes * self.steps

    def __iter__(self) -> Iterator[UpliftBatch]:
        # No generator function: the epoch is fixed now. Workers start with the first batch, because Lightning calls
        # `iter` once more than it iterates.
        skip = self.start_batch if self.epoch == self.start_epoch and not self.freeze_epoch else 0
        seed = stable_seed(self.seed, self.epoch)
        per_lane = self.batch_size // self.lanes
        lanes = TrainingLanes(self.reader, self.lanes, self.mine, per_lane, self.steps, self.passes, seed, skip)
        return self._batches(lanes, len(self) - skip)

    def _batches(self, lanes: TrainingLanes, count: int) -> Iterator[UpliftBatch]:
        loader = DataLoader(
            lanes, batch_size=None, num_workers=self.num_workers, pin_memory=self.pin_memory, collate_fn=whole_batch
        )
        parts = iter(loader)  # the workers take turns
        for _ in range(count):
            of_workers = [next(parts) for _ in range(max(self.num_workers, 1))]
            yield type(of_workers[0])(*(torch.cat(tensors) for tensors in zip(*of_workers, strict=True)))


class _Stretch(IterableDataset):
    """Rows `start` to `stop` in the order of the file, in batches; workers divide them among themselves."""

    def __init__(self, reader: RowReader, start: int, stop: int, size: int) -> None:
        self.reader, self.start, self.stop, self.size = reader, start, stop, size

    def part(self, worker: int, workers: int) -> tuple[int, int]:
        """First and last + 1 row of a worker."""
        count = self.stop - self.start
        return self.start + worker * count // workers, self.start + (worker + 1) * count // workers

    def __iter__(self) -> Iterator[UpliftBatch]:
        worker = get_worker_info()
        start, stop = self.part(*((0, 1) if worker is None else (worker.id, worker.num_workers)))
        order = np.arange(len(self.reader.counts))
        for rows in in_portions(self.reader.read(self.reader.stretch(order, start, stop)), self.size):
            yield self.reader.to_batch(rows)


class EvaluationStream:
    """Every row once, on one rank, in batches; ranks may have different numbers of batches.

    Args:
        reader: of the rows to evaluate.
        batch_size: Global batch.
        rank, world_size: this process.
        num_workers: reading processes of this rank.
        pin_memory: page-locked batches.
    """

    def __init__(
        self,
        reader: RowReader,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        size = per_rank_batch_size(batch_size, world_size, "eval_batch_size")
        total = len(reader)
        self.rows = _Stretch(reader, rank * total // world_size, (rank + 1) * total // world_size, size)
        self.num_workers, self.pin_memory = num_workers, pin_memory

    def __len__(self) -> int:
        workers = max(self.num_workers, 1)
        parts = [self.rows.part(worker, workers) for worker in range(workers)]
        return sum(-(-(stop - start) // self.rows.size) for start, stop in parts)

    def __iter__(self) -> Iterator[UpliftBatch]:
        return self._batches()

    def _batches(self) -> Iterator[UpliftBatch]:
        yield from DataLoader(
            self.rows, batch_size=None, num_workers=self.num_workers, pin_memory=self.pin_memory, collate_fn=whole_batch
        )


class RowLookup:
    """Columns of any rows, read again from the files: identifiers and costs of 100 million rows need not lie in memory.

    The last few row groups are kept, and rows of one batch stand close together, so that a pass over the table reads
    these columns once more and no more.

    Args:
        source: the files.
    """

    def __init__(self, source: ExperimentSource) -> None:
        self.source = source
        self._kept: OrderedDict[tuple[int, str], Any] = OrderedDict()

    def table(self, row: np.ndarray, column: str) -> Any:
        """One column at some rows, as a `pyarrow.Table` in the order of `row` [N]."""
        import pyarrow as pa

        group_of = self.source.group_of(row)
        parts, places = [], np.empty(len(row), np.int64)
        count = 0
        for number in np.unique(group_of):
            mine = np.flatnonzero(group_of == number)
            parts.append(self._group(int(number), column).take(row[mine] - self.source.groups[number].first))
            places[mine] = np.arange(count, count + len(mine))
            count += len(mine)
        return pa.concat_tables(parts, promote_options="permissive").take(places)

    def _group(self, number: int, column: str) -> Any:
        import pyarrow as pa

        key = (number, column)
        if key not in self._kept:
            blocks = list(self.source.read_group(self.source.groups[number], [column], READ_ROWS))
            self._kept[key] = pa.Table.from_batches(blocks)
            while len(self._kept) > _CACHED:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def check_lanes(lanes: int, batch_size: int, world_size: int) -> None:
    """Refuse lanes that cannot be shared.

    Raises:
        UserError: with lanes that can.
    """
    if lanes % world_size:
        raise UserError(
            f"data.lanes={lanes} do not divide over {world_size} ranks; use data.lanes={math.lcm(lanes, world_size)}."
        )
    if batch_size % lanes:
        raise UserError(
            f"data.batch_size={batch_size} does not divide over data.lanes={lanes}: a streamed batch takes the same"
            f" number of rows from each lane; use data.batch_size={-(-batch_size // lanes) * lanes}."
        )
