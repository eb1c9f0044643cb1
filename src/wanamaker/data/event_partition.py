"""A log of events as its files have it: any number of rows, in typed blocks, with every cell that cannot be read named.

Axis letters: R rows of a block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.event_text import table_file
from wanamaker.data.panel_dates import is_date_type, why_not
from wanamaker.data.panel_roles import DateRole
from wanamaker.data.panel_source import NotNumbers, PanelSource, as_numbers, as_text
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 1 << 17  # rows of a block: what is held of a log while it is read
_ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
_TEXT = ".txt"  # of columns that blanks separate
_SINCE_1970 = {"s": 1_000_000, "ms": 1_000, "us": 1}  # microseconds of a unit
_ZONE = r"^(?P<clock>.*:\d{2}(?:[.,]\d+)?)\s?(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_COMPRESSION = 6  # a guess of how many times smaller a compressed file is


@dataclass(frozen=True)
class LogColumns:
    """Which columns of a log are read, and how.

    Attributes:
        id: whose event it is.
        time: when it happened. A zone is taken off, so that what counts is the clock on the wall; a log has one zone.
        categorical: columns of names, such as the type of an event; an empty cell is "".
        numeric: columns of numbers; an empty cell is NaN.
        times: further columns of times, such as when an event became known.
        time_format: strptime format of all times; YYYYMMDD; s, ms or us for numbers since 1970; None for ISO 8601.
        encoding, delimiter, decimal: of CSV files; the delimiter "whitespace" is any number of blanks.
    """

    id: str
    time: str
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    time_format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    decimal: str = "."

    def __post_init__(self) -> None:
        names = [self.id, self.time, *self.categorical, *self.numeric, *self.times]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"data.roles: column {twice[0]!r} has two roles; give it one.")


MAX_BUCKETS = 512  # files that are open at a time


def log_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of a log in the order in which they are read: as given, those of a folder by name.

    Args:
        source: a CSV (also compressed) or Parquet file, a folder of such shards, or several of these.

    Raises:
        UserError: nothing is there, or it is no table.
    """
    if isinstance(source, Mapping) or not isinstance(source, str | Path | Sequence):
        raise UserError(f"data.path={source!r}; give a file, a folder of shards, or a list of these.")
    if not isinstance(source, str | Path):
        files = [file for one in source for file in log_files(one)]
        if not files:
            raise UserError("data.path is an empty list; give a log, or a folder of its shards.")
        return files
    path = Path(source)
    if not path.is_dir():
        if path.suffix.lower() != _TEXT or not path.is_file():
            PanelSource(path)  # says so if it is missing or no table
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if set(_ENDINGS) & set(file.suffixes)
        and not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(f"{path} holds no .csv and no .parquet file; give a log of events, or a folder of its shards.")
    return files


def estimated_rows(source: str | Path | Sequence[str | Path]) -> int:
    """How many rows a log has: exact for Parquet, judged by the length of the first lines for CSV."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    for file in log_files(source):
        if file.suffix.lower() != _TEXT and PanelSource(file).kind == "parquet":
            rows += pq.read_metadata(file).num_rows
            continue
        with pa.input_stream(str(file), compression="detect") as stream:
            start = stream.read(1 << 18)
        lines = max(start.count(b"\n"), 1)
        size = file.stat().st_size * (1 if {".csv", ".tsv", _TEXT} & {file.suffix} else _COMPRESSION)
        rows += int(lines * max(size / max(len(start), 1), 1.0))
    return rows


def log_blocks(source: str | Path | Sequence[str | Path], columns: LogColumns) -> Iterator[pa.Table]:
    """A log, block by block, in the order of its files.

    Args:
        source: see `log_files`.
        columns: to be read.

    Yields:
        Tables of about `BLOCK_ROWS` rows: the id as int64 or text ("" where the cell is empty), the time as
        timestamp[us], then dictionaries of text and float64.

    Raises:
        UserError: a missing file or column, and a time or a number that cannot be read, with its row.
    """
    import pyarrow as pa

    zone: dict[str, str] = {}
    for path in log_files(source):
        reader = _LogFile(table_file(path, columns.encoding, columns.delimiter, columns.decimal), columns, zone)
        waiting: list[pa.Table] = []
        for table in reader.tables():
            waiting.append(table)
            if sum(map(len, waiting)) >= BLOCK_ROWS:
                yield pa.concat_tables(waiting).unify_dictionaries()
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting).unify_dictionaries()


class _LogFile:
    """One file of a log.

    Args:
        file: its text or row groups.
        columns: to be read.
        zone: what earlier rows of the log end with: one zone (or none) for all of them, and where it was met first.
    """

    def __init__(self, file: PanelSource, columns: LogColumns, zone: dict[str, str]) -> None:
        self.file, self.columns, self.zone = file, columns, zone
        roles = {columns.id: "id", columns.time: "time"} | dict.fromkeys(columns.times, "time")
        roles |= dict.fromkeys(columns.categorical, "categorical") | dict.fromkeys(columns.numeric, "numeric")
        if lines := file.require(list(roles), roles):
            raise UserError(f"{file.name}: {' '.join(lines)}")
        self.keys = [name for name, role in roles.items() if role != "numeric"]

    def tables(self) -> Iterator[pa.Table]:
        """Its rows, in typed tables."""
        try:
            yield from self._tables(as_text_too=False)
        except NotNumbers:  # once more, as text, to say where
            for _ in self._tables(as_text_too=True):
                pass

    def _tables(self, as_text_too: bool) -> Iterator[pa.Table]:
        import pyarrow as pa

        first = 0
        for batch in self.file.batches(self.keys, list(self.columns.numeric), as_text_too):
            made = {self.columns.id: self._ids(batch.column(self.columns.id))}
            for name in (self.columns.time, *self.columns.times):
                made[name] = pa.array(self._times(batch.column(name), name, first))
            for name in self.columns.categorical:
                made[name] = _names(batch.column(name))
            for name in self.columns.numeric:
                made[name] = pa.array(self._numbers(batch.column(name), name, first))
            yield pa.table(made)
            first += batch.num_rows

    def _ids(self, column: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_integer(column.type) and not column.null_count:
            return column.cast(pa.int64())
        text = as_text(column)
        if pa.types.is_dictionary(text.type):
            return pa.DictionaryArray.from_arrays(text.indices, pc.utf8_trim_whitespace(text.dictionary)).cast(
                pa.string()
            )
        return pc.utf8_trim_whitespace(text)

    def _numbers(self, column: pa.Array, name: str, first: int) -> np.ndarray:
        cells, bad = as_numbers(column, self.columns.decimal)
        if len(bad):
            cell, other = column[int(bad[0])].as_py(), "," if self.columns.decimal == "." else "."
            raise UserError(
                f"{self._place(first + int(bad[0]))}: column {name!r} (numeric) is {str(cell)!r}, which is no number."
                " Write numbers without a currency sign or thousands separators (1234.50), pass"
                f" data.decimal={other!r} if that is its sign, or make the column categorical."
            )
        large = np.abs(cells) > np.finfo(np.float32).max  # false of an empty cell
        if large.any():
            worst = int(large.argmax())
            raise UserError(
                f"{self._place(first + worst)}: column {name!r} (numeric) is {cells[worst]:g}, which is infinite or too"
                " large to learn from; correct it or leave the cell empty."
            )
        return cells

    def _times(self, column: pa.Array, name: str, first: int) -> np.ndarray:
        """Clock times, datetime64[us] [R]."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if is_date_type(kind):
            column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            if column.null_count:
                empty = column.is_null().to_numpy(zero_copy_only=False)
                raise self._no_time(name, first + int(np.argmax(empty)), "")
            if pa.types.is_timestamp(kind) and kind.tz:
                self._same_zone(kind.tz, name, first)
                column = pc.local_timestamp(column)
            return column.cast(pa.timestamp("us"), safe=False).to_numpy().astype("datetime64[us]")
        text = as_text(column)
        text = text if pa.types.is_dictionary(text.type) else text.dictionary_encode()
        codes = text.indices.to_numpy(zero_copy_only=False)
        cells = [cell.strip() for cell in text.dictionary.to_pylist()]
        if self.columns.time_format is None:
            cells = self._without_zone(cells, codes, name, first)
        times = _parsed(cells, self.columns.time_format)
        bad = np.flatnonzero(np.isnat(times))
        wrong = np.flatnonzero(np.isin(codes, bad)) if len(bad) else bad
        if len(wrong):
            raise self._no_time(name, first + int(wrong[0]), cells[codes[wrong[0]]])
        return times[codes]

    def _without_zone(self, cells: list[str], codes: np.ndarray, name: str, first: int) -> list[str]:
        found = [re.match(_ZONE, cell) for cell in cells]
        zones = [match["zone"] if match else "" for match in found]
        used = np.unique(codes)
        kinds = {zones[code] for code in used if cells[code]}
        if len(kinds) > 1 or (kinds and self.zone and kinds != set(self.zone)):
            for row, code in enumerate(codes):
                if cells[code]:
                    self._same_zone(zones[code], name, first + row)
        elif kinds:
            self._same_zone(kinds.pop(), name, first)
        return [match["clock"] if match else cell for match, cell in zip(found, cells, strict=True)]

    def _same_zone(self, zone: str, name: str, row: int) -> None:
        if not self.zone:
            self.zone[zone] = self._place(row)
        elif zone not in self.zone:
            (other, where), named = next(iter(self.zone.items())), {"": "no zone"}
            raise UserError(
                f"{self._place(row)}: column {name!r} (time) has {named.get(zone, 'zone ' + zone)},"
                f" {where} has {named.get(other, 'zone ' + other)}. The order of events needs one clock: write all"
                " times in one zone (UTC, say)."
            )

    def _no_time(self, name: str, row: int, cell: str) -> UserError:
        place = f"{self._place(row)}: column {name!r} (time)"
        if not cell:
            return UserError(f"{place} is empty: an event needs a time; fill it in or take the row out.")
        form = self.columns.time_format
        if form in _SINCE_1970:
            return UserError(f"{place} is {cell!r}, but data.time_format={form} reads numbers ({form} since 1970).")
        remedy = why_not(cell, DateRole(name, "%Y%m%d" if form == "YYYYMMDD" else form))
        for name in ("roles.date.format or date_format", "roles.date.format"):
            remedy = remedy.replace(name, "data.time_format")
        return UserError(f"{place} is {cell!r}, which is no time. {remedy}")

    def _place(self, number: int) -> str:
        return f"{self.file.name}, row {self.file.file_row(number)}"


def _names(column: pa.Array) -> pa.DictionaryArray:
    """Text without blanks around it; "" is an empty cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = as_text(column)
    text = text if pa.types.is_dictionary(text.type) else text.dictionary_encode()
    # Two spellings may become one by this, which a dictionary does not allow to be unified: encode once more.
    trimmed = pc.utf8_trim_whitespace(text.dictionary.cast(pa.string()))
    again = trimmed.dictionary_encode()
    return pa.DictionaryArray.from_arrays(again.indices.take(text.indices).cast(pa.int32()), again.dictionary)


def _parsed(cells: list[str], form: str | None) -> np.ndarray:
    """datetime64[us] of texts, NaT where one cannot be read."""
    import pandas as pd
    import pyarrow as pa

    if form in _SINCE_1970:
        numbers = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").to_numpy(np.float64)
        numbers = numbers * _SINCE_1970[form]
        there = np.abs(numbers) < 2**62
        return np.where(there, np.round(np.where(there, numbers, 0)).astype("datetime64[us]"), np.datetime64("NaT"))
    form = "%Y%m%d" if form == "YYYYMMDD" else form
    if form is None:
        try:
            return pa.array(cells, pa.string()).cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
        except pa.ArrowInvalid:  # some cell is no ISO 8601 time as Arrow knows it; pandas knows more forms
            pass
    return (
        pd.to_datetime(pd.Series(cells, dtype=object), format=form or "ISO8601", errors="coerce")
        .to_numpy()
        .astype("datetime64[us]")
    )
