"""Simulated campaigns on disk: the table (one file, or shards), truth.parquet and truth.json in a folder that is
complete or absent.

A piece at a time is made and written, so that the memory needed does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from wanamaker.data.simulate.kept import KeptSimulation
from wanamaker.data.simulate.uplift_options import PIECE_ROWS, UpliftSimulation
from wanamaker.data.simulate.uplift_table import UpliftWorld, to_arrow
from wanamaker.data.simulate.uplift_truth import SUMMARY, TRUTH, TruthSummary, truth_table, write_summary

TABLE, SHARDS = "experiment.parquet", "experiment"
GROUP_ROWS = 20_000  # of the table: what a reader that streams holds of a shard at a time


def table_path(folder: Path, options: UpliftSimulation) -> Path:
    """The table in such a folder: a file, or a folder of shards."""
    return folder / (SHARDS if options.shards else TABLE)


def write_campaign(folder: Path, options: UpliftSimulation) -> None:
    """Write table and truth into a folder that is there, piece by piece.

    Raises:
        UserError: options that cannot be met.
    """
    import pyarrow.parquet as pq

    world, summary = UpliftWorld(options), TruthSummary(options)
    if options.shards:
        (folder / SHARDS).mkdir()
    with ExitStack() as truths:
        truth_file = None
        for name, numbers in _parts(options):
            with ExitStack() as tables:
                table_file = None
                for number in numbers:
                    piece = world.piece(number)
                    summary.add(piece)
                    table, truth = to_arrow(piece, options), truth_table(piece, options)
                    if table_file is None:
                        table_file = tables.enter_context(pq.ParquetWriter(folder / name, table.schema))
                    if truth_file is None:
                        truth_file = truths.enter_context(pq.ParquetWriter(folder / TRUTH, truth.schema))
                    table_file.write_table(table, row_group_size=GROUP_ROWS)
                    truth_file.write_table(truth, row_group_size=PIECE_ROWS)
    write_summary(folder, summary)


CAMPAIGNS = KeptSimulation("campaign", "campaign", (SUMMARY, TRUTH), write_campaign)


def _parts(options: UpliftSimulation) -> Iterator[tuple[str, range]]:
    """Files of the table and the pieces in each."""
    shards = options.shards or 1
    for shard in range(shards):
        start, stop = (options.num_pieces * edge // shards for edge in (shard, shard + 1))
        yield (f"{SHARDS}/part-{shard:05d}.parquet" if options.shards else TABLE), range(start, stop)
