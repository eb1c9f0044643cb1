"""A log of any size as buckets of whole customers, each small enough for memory.

The events of a customer may stand anywhere in a log. One pass deals its rows to bucket files by a hash of the
customer; a second one sorts each bucket by (customer, time). What is held at a time is a block of the log, then one
bucket, whatever the size of the log (but for a customer, who is never cut). The result lies in a cache: complete or
absent, and made again when the log, or what is read of it, has changed.

Axis letters: n customers and E events of a bucket, R rows of a block.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.event_bucket import EventBucket, bucket_of
from wanamaker.data.event_partition import MAX_BUCKETS, LogColumns, estimated_rows, log_blocks, log_files
from wanamaker.data.experiment_table import key_of
from wanamaker.data.simulate.cache_lock import made_once
from wanamaker.data.simulate.media_fields import restored
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
"""Raise this when the same log gives other files: it is part of a folder's name."""

BUCKET_EVENTS = 500_000  # of a bucket, on average: some 100 MB while it is sorted
SUMMARY = "buckets.json"
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"


def partition_log(
    source: str | Path | Sequence[str | Path],
    folder: str | Path,
    id: str,
    time: str,
    *,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    times: Sequence[str] = (),
    time_format: str | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    decimal: str = ".",
    buckets: int | None = None,
) -> EventBuckets:
    """Rewrite a log as buckets, unless that was done before.

    Args:
        source: a CSV (also compressed) or Parquet file, a folder of such shards, or several of these.
        folder: of the cache; each log, and each choice of columns, gets a folder of its own there.
        id, time, categorical, numeric, times, time_format, encoding, delimiter, decimal: see `LogColumns`.
        buckets: how many; None: such that a bucket has about `BUCKET_EVENTS` events.

    Raises:
        UserError: a missing file or column, a time or number that cannot be read (with its row), a log without events,
            a folder that cannot be written. Nothing is left behind.
    """
    columns = LogColumns(
        id, time, tuple(categorical), tuple(numeric), tuple(times), time_format, encoding, delimiter, decimal
    )
    if buckets is None:
        buckets = min(max(math.ceil(estimated_rows(source) / BUCKET_EVENTS), 1), MAX_BUCKETS)
    if not 1 <= buckets <= MAX_BUCKETS:
        raise UserError(f"buckets={buckets}: give a whole number from 1 up to {MAX_BUCKETS}.")
    target = Path(folder) / f"{fingerprint(source, columns)}-{buckets}"
    made_once(
        target,
        is_complete,
        lambda place: write_buckets(place, log_blocks(source, columns), columns, buckets),
        "rearranged event log",
        "rearranges the event log",
    )
    return EventBuckets(target)


def fingerprint(source: str | Path | Sequence[str | Path], columns: LogColumns) -> str:
    """A name that changes with the files (place, size, time of change) and with what is read of them."""
    files = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in log_files(source)]
    content = {"files": files, "columns": asdict(columns), "version": VERSION}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Whether the buckets are there. The rename that makes the folder comes last, so that they are whole."""
    return (folder / SUMMARY).is_file()


def read_log(source: str | Path | Sequence[str | Path], columns: LogColumns) -> tuple[EventBucket, int]:
    """A log that fits into memory, as one bucket.

    Returns:
        The bucket, and how many rows were left out because they are nobody's (the id is empty).

    Raises:
        UserError: as `partition_log`.
    """
    import pyarrow as pa

    kept, left_out, ids = [], 0, _Identifiers()
    for block in log_blocks(source, columns):
        block, lost = _with_owner(block, columns.id)
        left_out += lost
        if len(block):
            ids.see(block.column(columns.id))
            kept.append(ids.alike(block, columns.id))
    if not kept:
        raise _no_events(source, left_out)
    table = pa.concat_tables([ids.settle(table, columns.id) for table in kept])
    return _sorted(table.unify_dictionaries(), columns), left_out


def write_buckets(folder: Path, blocks: Iterable[pa.Table], columns: LogColumns, buckets: int) -> None:
    """Fill a folder that is there.

    Args:
        folder: an empty one.
        blocks: of the log, as `log_blocks` yields them.
        columns: of the log.
        buckets: how many.

    Raises:
        UserError: no event.
    """
    ids, left_out, heap = _Identifiers(), 0, folder / "unsorted"
    heap.mkdir()
    with ExitStack() as files:
        writers: dict[int, Any] = {}
        for block in blocks:
            block, lost = _with_owner(block, columns.id)
            left_out += lost
            if len(block):
                ids.see(block.column(columns.id))
                block = ids.alike(block, columns.id)
                _deal(block, heap, buckets, writers, files)
    if not writers:
        raise _no_events("the log", left_out)
    summary: dict[str, list[Any]] = {name: [] for name in ("customers", "events", "first", "last")}
    for number in range(buckets):
        unsorted = heap / _name(number)
        bucket = None
        if unsorted.is_file():
            bucket = _sorted(ids.settle(_read(unsorted, stream=True), columns.id), columns)
            unsorted.unlink()
            _write_sorted(folder, number, bucket)
        time = None if bucket is None else bucket.columns[columns.time]
        summary["customers"].append(0 if bucket is None else len(bucket.ids))
        summary["events"].append(0 if time is None else len(time))
        summary["first"].append(None if time is None else str(time.min()))
        summary["last"].append(None if time is None else str(time.max()))
    heap.rmdir()
    content = {"version": VERSION, "columns": asdict(columns), "whole": ids.whole, "left_out": left_out, **summary}
    (folder / SUMMARY).write_text(json.dumps(content) + "\n", encoding="utf-8")


class EventBuckets:
    """Buckets on disk.

    Args:
        folder: that `partition_log` made.

    Attributes:
        columns: of the log.
        customers, events: of each bucket, int64 [number of buckets]; a bucket may be empty.
        first, last: times of the earliest and latest event of each bucket, datetime64[us]; NaT where it is empty.
        left_out: rows of the log that were left out because they are nobody's (the id is empty).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        content = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
        self.columns = restored(LogColumns, content["columns"])
        self._whole = content["whole"]
        self.left_out: int = content["left_out"]
        self.customers, self.events = (np.array(content[name], np.int64) for name in ("customers", "events"))
        self.first, self.last = (np.array(content[name], "datetime64[us]") for name in ("first", "last"))

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[EventBucket]:
        return (self.read(number) for number in range(len(self)))

    @property
    def num_events(self) -> int:
        """Of all buckets."""
        return int(self.events.sum())

    @property
    def num_customers(self) -> int:
        """Of all buckets."""
        return int(self.customers.sum())

    def ids(self, number: int) -> np.ndarray:
        """Identifiers of a bucket's customers, as `EventBucket.ids`."""
        return self._customers(number)[0]

    def read(self, number: int) -> EventBucket:
        """One bucket, in memory: names are Arrow dictionaries ("" is an empty cell), numbers Arrow float64 (NaN)."""
        ids, offsets = self._customers(number)
        if not self.events[number]:
            return EventBucket(ids, offsets, self._nothing())
        table = _read(self.folder / _name(number))
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        return EventBucket(ids, offsets, columns | {self.columns.time: columns[self.columns.time].to_numpy()})

    def _customers(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.events[number]:
            return np.empty(0, np.int64 if self._whole else object), np.zeros(1, np.int64)
        table = _read(self.folder / _name(number, "customers"))
        offsets = np.concatenate([[0], np.cumsum(table.column("events").to_numpy())])
        return table.column("id").to_numpy(), offsets.astype(np.int64)

    def _nothing(self) -> dict[str, Any]:
        import pyarrow as pa

        names = dict.fromkeys(self.columns.categorical, pa.dictionary(pa.int32(), pa.string()))
        others = dict.fromkeys(self.columns.numeric, pa.float64()) | dict.fromkeys(
            self.columns.times, pa.timestamp("us")
        )
        empty = {name: pa.array([], kind) for name, kind in {**names, **others}.items()}
        return {self.columns.time: np.empty(0, "datetime64[us]"), **empty}


class _Identifiers:
    """Whether all identifiers of a log are whole numbers, which is known only at its end.

    Attributes:
        whole: so far.
    """

    def __init__(self) -> None:
        self.whole = True

    def see(self, column: pa.ChunkedArray) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.whole and not pa.types.is_integer(column.type):
            self.whole = bool(pc.all(pc.match_substring_regex(column.unique(), _WHOLE_NUMBER)).as_py())

    def alike(self, block: pa.Table, name: str) -> pa.Table:
        """Identifiers as text: a later shard may hold other kinds."""
        import pyarrow as pa

        return block.set_column(0, name, block.column(name).cast(pa.string()))

    def settle(self, table: pa.Table, name: str) -> pa.Table:
        """All of the log was seen: whole numbers become numbers."""
        import pyarrow as pa

        if not self.whole:
            return table
        return table.set_column(0, name, table.column(name).cast(pa.int64()))


def _with_owner(block: pa.Table, name: str) -> tuple[pa.Table, int]:
    """The rows that are somebody's, and how many are not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = block.column(name)
    if pa.types.is_integer(column.type):
        return block, 0
    mask = pc.not_equal(column, "")
    lost = len(block) - int(pc.sum(mask).as_py() or 0)
    return (block.filter(mask), lost) if lost else (block, 0)


def _no_events(source: object, left_out: int) -> UserError:
    if left_out:
        return UserError(f"{source}: the id is empty in all {left_out:,} rows; name the column that tells customers.")
    return UserError(f"{source} has a header and no rows; export it again.")


def _deal(block: pa.Table, heap: Path, buckets: int, writers: dict[int, Any], files: ExitStack) -> None:
    """Append the rows of a block to the files of their buckets, in the order of the log."""
    import pyarrow as pa

    # Text, not dictionaries: a stream cannot know at its start which names will come.
    for place, name in enumerate(block.column_names):
        if pa.types.is_dictionary(block.schema.field(name).type):
            block = block.set_column(place, name, block.column(name).cast(pa.string()))
    ids = block.column(0).combine_chunks().dictionary_encode()
    of_id = key_of(ids.dictionary.to_numpy(zero_copy_only=False)) % buckets
    bucket = of_id[ids.indices.to_numpy()]
    block = block.take(np.argsort(bucket, kind="stable"))
    cuts = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=buckets))])
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    for number in np.flatnonzero(np.diff(cuts)):
        if number not in writers:
            file = files.enter_context(pa.OSFile(str(heap / _name(number)), "wb"))
            writers[number] = files.enter_context(pa.ipc.new_stream(file, block.schema, options=options))
        writers[number].write_table(block.slice(cuts[number], cuts[number + 1] - cuts[number]))


def _sorted(table: pa.Table, columns: LogColumns) -> EventBucket:
    """Order rows by (id, time); those that tie stay in the order of the log."""
    import pyarrow as pa

    further = {name: table.column(name).combine_chunks() for name in columns.times}
    for name in (*columns.categorical, *columns.numeric):
        column = table.column(name)
        # Text is encoded chunk by chunk: that of a large bucket might not fit into one Arrow array.
        column = column.dictionary_encode() if pa.types.is_string(column.type) else column
        further[name] = column.unify_dictionaries().combine_chunks()
    return bucket_of(table.column(columns.id).to_numpy(), table.column(columns.time).to_numpy(), further, columns.time)


def _write_sorted(folder: Path, number: int, bucket: EventBucket) -> None:
    import pyarrow as pa
    import pyarrow.feather as feather

    events = pa.table(dict(bucket.columns))
    customers = pa.table({"id": pa.array(bucket.ids), "events": np.diff(bucket.offsets)})
    feather.write_feather(events, folder / _name(number), compression="lz4")
    feather.write_feather(customers, folder / _name(number, "customers"), compression="lz4")


def _read(path: Path, stream: bool = False) -> pa.Table:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        return (pa.ipc.open_stream(file) if stream else pa.ipc.open_file(file)).read_all()


def _name(number: int, part: str = "events") -> str:
    return f"{part}-{number:05d}.arrow"
