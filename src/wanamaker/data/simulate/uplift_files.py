"""Simulated campaigns on disk: the table (one file, or shards), truth.parquet and truth.json in a folder that is
complete or absent.

A piece at a time is made and written, so that the memory needed does not grow with the table.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from wanamaker.data.simulate.cache_lock import only_one
from wanamaker.data.simulate.uplift_options import PIECE_ROWS, UpliftSimulation
from wanamaker.data.simulate.uplift_table import UpliftWorld, to_arrow
from wanamaker.data.simulate.uplift_truth import SUMMARY, TRUTH, TruthSummary, truth_table, write_summary
from wanamaker.errors import UserError

TABLE, SHARDS = "experiment.parquet", "experiment"
GROUP_ROWS = 20_000  # of the table: what a reader that streams holds of a shard at a time
REMEDY = "Point paths.cache_dir (or WANAMAKER_CACHE_DIR) to a folder with room that you can write."


def campaign_folder(cache_dir: Path | str, options: UpliftSimulation) -> Path:
    """Where the campaign of these options lies, or will."""
    return Path(cache_dir) / "campaign" / options.folder_name


def table_path(folder: Path, options: UpliftSimulation) -> Path:
    """The table in such a folder: a file, or a folder of shards."""
    return folder / (SHARDS if options.shards else TABLE)


def is_complete(folder: Path) -> bool:
    """Whether a campaign is there. The rename that makes the folder comes last, so that it is whole."""
    return (folder / SUMMARY).is_file() and (folder / TRUTH).is_file()


def ensure_campaign(cache_dir: Path | str, options: UpliftSimulation) -> Path:
    """The folder with this campaign, made now if it is not there yet.

    Safe to call from several processes: the others wait for the first. Where the file system knows no locks each
    makes its own, and the first to finish wins.

    Raises:
        UserError: the folder cannot be written, or the options cannot be met; nothing is left behind.
    """
    target = campaign_folder(cache_dir, options)
    if is_complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(target, "simulates the campaign") as alone:
            if not is_complete(target):
                if alone:  # what a killed process left
                    for leftover in target.parent.glob(f".{target.name}.part-*"):
                        shutil.rmtree(leftover, ignore_errors=True)
                _make(target, options)
    except OSError as error:
        raise UserError(f"Cannot write the simulated campaign {target}: {error.strerror or error}. {REMEDY}") from error
    return target


def _make(target: Path, options: UpliftSimulation) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        write_campaign(partial, options)
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        try:
            partial.rename(target)
        except OSError:
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def _parts(options: UpliftSimulation) -> Iterator[tuple[str, range]]:
    """Files of the table and the pieces in each."""
    shards = options.shards or 1
    for shard in range(shards):
        start, stop = (options.num_pieces * edge // shards for edge in (shard, shard + 1))
        yield (f"{SHARDS}/part-{shard:05d}.parquet" if options.shards else TABLE), range(start, stop)
