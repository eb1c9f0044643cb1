"""Simulated logs on disk: the log (one file, or shards by time), customers.parquet, truth.parquet and truth.json in a
folder that is complete or absent.

With shards a piece at a time is made and written, a part of it to every shard, so that the memory needed does not grow
with the log and a customer's events lie in all shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.simulate.events_log import DAY_SECONDS, EventLog, Piece, customers_table, events_table
from wanamaker.data.simulate.events_options import TIME, EventSimulation
from wanamaker.data.simulate.events_truth import SUMMARY, TRUTH, Outlook, truth_table, write_summary
from wanamaker.data.simulate.kept import KeptSimulation, ParquetFiles

if TYPE_CHECKING:
    import pyarrow as pa

LOG, SHARDS, CUSTOMERS = "events.parquet", "events", "customers.parquet"


def log_path(folder: Path, options: EventSimulation) -> Path:
    """The log in such a folder: a file, or a folder of shards."""
    return folder / (SHARDS if options.shards else LOG)


def write_log(folder: Path, options: EventSimulation) -> None:
    """Write log, customers and truth into a folder that is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    log, outlook, averages = EventLog(options), Outlook(options), _Averages()
    kept: list[pa.Table] = []
    if options.shards:
        (folder / SHARDS).mkdir()
    with ParquetFiles(folder) as files:
        for number in range(options.num_pieces):
            piece = log.piece(number)
            files.write(CUSTOMERS, customers_table(piece.customers, options))
            truth = truth_table(piece, outlook)
            files.write(TRUTH, truth)
            averages.add(truth, len(piece.owner))
            if options.shards:
                for shard, rows in _by_time(piece, options):
                    files.write(f"{SHARDS}/part-{shard:05d}.parquet", events_table(piece, options, rows))
            else:
                kept.append(events_table(piece, options))
    if kept:
        table = pa.concat_tables(kept)
        time = table.column(TIME).to_numpy()
        # Customers in order of their number where times tie: pieces ascend, but days within them do not.
        pq.write_table(table.take(np.argsort(time, kind="stable")), folder / LOG)
    write_summary(folder, options, averages.events, averages.to_list())


EVENT_LOGS = KeptSimulation("event_log", "event log", (SUMMARY,), write_log)


def _by_time(piece: Piece, options: EventSimulation) -> Iterator[tuple[int, np.ndarray]]:
    """Each shard with the events of its stretch of time, by time."""
    shard = piece.second // DAY_SECONDS * options.shards // options.days
    order = np.argsort(piece.second, kind="stable")
    for number in range(options.shards):
        yield number, order[shard[order] == number]


class _Averages:
    """Averages of the truth by as-of date, over the customers who have not cancelled."""

    def __init__(self) -> None:
        self.events = 0
        self._sums: dict[str, dict[str, float]] = {}

    def add(self, truth: pa.Table, events: int) -> None:
        self.events += events
        frame = truth.to_pandas()
        asked = [name for name in frame.columns if name.startswith(("probability", "expected"))]
        for day, part in frame.groupby("as_of"):
            sums = self._sums.setdefault(str(np.datetime64(day, "D")), {"cancelled": 0, "customers": 0})
            there = part[~part["cancelled"]]
            sums["cancelled"] += int(part["cancelled"].sum())
            sums["customers"] += len(there)
            for name in asked:
                sums[name] = sums.get(name, 0.0) + float(there[name].sum())

    def to_list(self) -> list[dict[str, Any]]:
        """An entry per as-of date."""
        found = []
        for day, sums in sorted(self._sums.items()):
            customers = max(sums["customers"], 1)
            means = {name: value / customers for name, value in sums.items() if name not in ("cancelled", "customers")}
            found.append({"as_of": day, "customers": sums["customers"], "cancelled": sums["cancelled"], **means})
        return found
