"""Tables that are read in record batches: CSV (also compressed), Parquet, or a frame that is in memory already.

Nothing of a file is kept: whoever reads a batch takes what it needs. Text that is no number, rows of another length and
text that is not UTF-8 are found here, with the row as an editor shows it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BLOCK_BYTES = 1 << 18  # of a CSV file per batch; pyarrow reads some 32 of them ahead
BATCH_ROWS = 1 << 14  # of a Parquet file per batch
_NULLS = {"", "#N/A", "#NA", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "None", "none", "-nan", "<NA>", "NaT"}
_TRUTH = {"true": 1.0, "false": 0.0}


class NotNumbers(Exception):
    """A column of numbers holds text: read it again as text to say where."""


class PanelSource:
    """One table, in batches.

    Args:
        path: a file ending in .csv, .csv.gz (or another compression that pyarrow knows), .tsv, .parquet or .pq, or a
            pandas frame.
        encoding: of a CSV file.
        delimiter: between the cells of a CSV file.
        decimal: the decimal sign of a CSV file, "." or ",".

    Raises:
        UserError: the file is missing, empty, of an unknown kind, or its header cannot be read.
    """

    def __init__(
        self,
        path: str | Path | pd.DataFrame,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        decimal: str = ".",
    ) -> None:
        if decimal not in (".", ","):
            raise UserError(f"decimal={decimal!r}; choose '.' or ','.")
        delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter  # a command line has no other way to write it
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise UserError(
                f"data.delimiter={delimiter!r} is not one character between the cells of a CSV file: give ',', ';' or "
                "'|', tab, or null for a comma (a tab in a .tsv file)."
            )
        if delimiter == decimal:
            raise UserError(f"data.delimiter={delimiter!r} is the decimal sign too; one of the two is another.")
        self.encoding, self.decimal = encoding, decimal
        if not isinstance(path, str | Path):
            self.kind, self.name, self.path, self._frame = "frame", "the frame", None, path
            self.columns = [str(column) for column in path.columns]
        else:
            self.path, self._frame = Path(path), None
            self.name = str(path)
            self.kind = _kind(self.path)
            self.delimiter = delimiter or ("\t" if ".tsv" in self.path.suffixes else ",")
            self.columns = self._parquet_columns() if self.kind == "parquet" else self._header()
        self._lines: list[int] | None = None

    def _parquet_columns(self) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(self.path).names)
        except pa.ArrowInvalid as error:
            raise UserError(f"{self.name} is not a Parquet file ({error}); write it again.") from error

    def _open_text(self) -> io.TextIOBase:
        import pyarrow as pa

        raw = pa.input_stream(str(self.path), compression="detect")
        encoding = "utf-8-sig" if self.encoding.lower().replace("-", "") == "utf8" else self.encoding
        return io.TextIOWrapper(io.BufferedReader(raw), encoding=encoding, newline="")

    def _header(self) -> list[str]:
        try:
            with self._open_text() as text:
                header = next(csv.reader(_not_blank(text), delimiter=self.delimiter), None)
        except UnicodeDecodeError as error:
            raise self._undecodable() from error
        except (OSError, LookupError, UnicodeError, csv.Error) as error:  # binary files, too
            raise UserError(
                f"{self.name} cannot be read as text in data.encoding={self.encoding}: {error}. Check the file and its "
                "encoding."
            ) from error
        if not header:
            raise UserError(f"{self.name} is empty: it has no header and no rows.")
        return header

    def _undecodable(self) -> UserError:
        """Say where the bytes are that are not text."""
        import pyarrow as pa

        line = 1
        with pa.input_stream(str(self.path), compression="detect") as stream:
            start = stream.read(2)
            if start in (b"\xff\xfe", b"\xfe\xff"):
                return UserError(f"{self.name} is UTF-16 text; save it as UTF-8, or pass data.encoding=utf-16.")
            for raw in io.BufferedReader(_Joined(start, stream)):
                try:
                    raw.decode(self.encoding)
                except UnicodeDecodeError as error:
                    near = raw[max(0, error.start - 20) : error.end + 10].decode("latin-1").strip()
                    return UserError(
                        f"{self.name}, row {line}: byte {raw[error.start]:#04x} is not {self.encoding} (near {near!r})."
                        " Save the file as UTF-8, or pass its encoding, such as data.encoding=latin-1."
                    )
                line += 1
        return UserError(f"{self.name} is not {self.encoding}; save it as UTF-8 or pass its encoding (data.encoding).")

    def require(self, columns: Sequence[str], roles: dict[str, str]) -> list[str]:
        """One sentence for each of `columns` that is missing or whose name stands twice in the header."""
        from wanamaker.data.panel_roles import nearest

        lines = []
        known = set(self.columns)
        if len(known) == 1 and self.kind == "csv" and not known >= set(columns):
            for other, word in ((";", "';'"), ("\t", "tabs"), ("|", "'|'"), (",", "commas")):
                if other in self.columns[0] and other != (self.delimiter or ","):
                    told = "tab" if other == "\t" else repr(other)
                    return [f"The header is one column with {word} inside: pass data.delimiter={told}."]
        for column in columns:
            if column not in known:
                role = f" ({roles[column]})" if column in roles else ""
                lines.append(f"column {column!r}{role} is not there. {nearest(column, self.columns)}")
            elif self.columns.count(column) > 1:
                places = [str(i + 1) for i, name in enumerate(self.columns) if name == column]
                lines.append(
                    f"column {column!r} stands in the header {len(places)} times, as columns {', '.join(places)}."
                )
        return lines

    def batches(self, keys: Sequence[str], numbers: Sequence[str], as_text: bool = False) -> Iterator[pa.RecordBatch]:
        """The named columns, batch by batch: `keys` as text or as they are stored, `numbers` as numbers.

        Args:
            keys: columns of dates and names.
            numbers: columns of numbers.
            as_text: deliver the numbers of a CSV file as text.

        Raises:
            NotNumbers: a cell of a number column of a CSV file is no number.
        """
        if self.kind == "csv":
            return self._csv(keys, numbers, as_text)
        columns = [*keys, *(name for name in numbers if name not in keys)]
        return self._parquet(columns) if self.kind == "parquet" else self._frames(columns)

    def _csv(self, keys: Sequence[str], numbers: Sequence[str], as_text: bool) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.csv as pacsv

        text = pa.dictionary(pa.int32(), pa.string())
        number = pa.string() if as_text else pa.float64()
        types = dict.fromkeys(numbers, number) | dict.fromkeys(keys, text)
        read = pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=self.encoding)
        parse = pacsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        convert = pacsv.ConvertOptions(
            column_types=types, include_columns=list(types), strings_can_be_null=False, decimal_point=self.decimal
        )
        try:
            # pyarrow undoes the compression itself, by the file's name
            with pacsv.open_csv(str(self.path), read, parse, convert) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            message = str(error)
            if "conversion error to" in message and "invalid UTF8" not in message:
                raise NotNumbers(message) from error
            if "UTF8" in message:
                raise self._undecodable() from error
            if "Expected" in message and "columns, got" in message:
                raise self._ragged() from error
            raise UserError(f"{self.name} cannot be read as CSV: {message}") from error
        except UnicodeDecodeError as error:
            raise self._undecodable() from error

    def _parquet(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        # Row groups are read as they come; buffering them ahead would hold the file's columns in memory.
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 16) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)

    def _frames(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        frame = self._frame[columns]
        for start in range(0, len(frame), BATCH_ROWS):
            part = frame.iloc[start : start + BATCH_ROWS]
            mixed = [name for name in columns if part[name].dtype == object]
            part = part.astype(dict.fromkeys(mixed, str)) if mixed else part
            # Columns of a frame that was put together may lie in several chunks, which a batch cannot.
            yield from pa.Table.from_pandas(part, preserve_index=False).combine_chunks().to_batches()

    def file_row(self, number: int) -> int:
        """The row as the user sees it: the line of a CSV file (header = 1), the position from 1 elsewhere.

        Args:
            number: how many rows were delivered before it.
        """
        if self.kind != "csv":
            return number + 1
        self._count_lines()
        return self._lines[number] if number < len(self._lines) else number + 2

    def _ragged(self) -> UserError:
        """What is said of CSV rows of another length than the header.

        They are looked for here and not by a handler that the reader calls: its threads may still hold such a handler
        when the interpreter ends, which then aborts.
        """
        bad = [(line, cells) for line, cells, expected in self._rows() if cells != expected]
        line, cells = bad[0]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return UserError(
            f"row {line} of {self.name} has {cells} cells, the header {len(self.columns)}{more}: its numbers would "
            "stand under other names. Put quotes around cells with a comma (thousands separators, too), or complete "
            "the row."
        )

    def _count_lines(self) -> None:
        # Blank lines are not delivered, and a quoted cell may hold several lines: only reading the file tells. This is
        # done once, and only for a message.
        if self._lines is None:
            self._lines = [line for line, cells, expected in self._rows() if cells == expected]

    def _rows(self) -> Iterator[tuple[int, int, int]]:
        """(line of the file, cells, cells of the header) of every row below the header that is not blank."""
        expected, before = 0, 0
        with self._open_text() as text:
            rows = csv.reader(text, delimiter=self.delimiter)
            for cells in rows:
                if cells and expected == 0:
                    expected = len(cells)
                elif cells:
                    yield before + 1, len(cells), expected
                before = rows.line_num


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of a stream."""

    def __init__(self, start: bytes, stream: Any) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._start or self._stream.read(len(buffer))
        data, self._start = data[: len(buffer)], data[len(buffer) :] if self._start else b""
        buffer[: len(data)] = data
        return len(data)


def _kind(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes]
    if path == Path():  # what Path makes of ""
        raise UserError("data.path is empty: name a file, data.path=sales.csv.")
    if path.is_dir():
        raise UserError(f"data.path={path} is a folder: name the file in it, such as {path / 'sales.csv'}.")
    if not path.is_file():
        raise UserError(
            f"Data not on disk: {path}. Data lying elsewhere: set WANAMAKER_DATA_DIR or paths.data_dir=... ."
        )
    if {".csv", ".tsv"} & set(endings):
        return "csv"
    if endings and endings[-1] in (".parquet", ".pq"):
        return "parquet"
    raise UserError(f"{path} is neither .csv (also .csv.gz) nor .parquet; export the table as CSV (UTF-8) or Parquet.")


def _not_blank(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line.strip())


def as_text(column: pa.Array) -> pa.Array:
    """A key column as text: 2 and 2.0 become "2", a time stamp its local date, an empty cell "".

    Dictionaries stay dictionaries where they can.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        if column.null_count or column.dictionary.null_count:
            return as_text(column.dictionary_decode())
        return pa.DictionaryArray.from_arrays(column.indices, as_text(column.dictionary))
    if pa.types.is_timestamp(kind):
        local = pc.local_timestamp(column) if kind.tz else column
        column = pc.floor_temporal(local, unit="day").cast(pa.date32())
    elif pa.types.is_date64(kind):
        column = column.cast(pa.date32())
    elif pa.types.is_floating(kind) and pc.all(pc.equal(column, pc.floor(column))).as_py() is not False:
        column = column.cast(pa.int64())
    return pc.fill_null(column.cast(pa.string()), "")


def as_numbers(column: pa.Array, decimal: str = ".") -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 [N], NaN where a cell is empty, and the places [K] of cells that hold no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _parse_numbers(column.to_pylist(), decimal)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, np.empty(0, np.int64)
    if pa.types.is_decimal(kind):
        return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.empty(0, np.int64)
    return np.full(len(column), np.nan), np.arange(len(column))


def _parse_numbers(texts: list[str | None], decimal: str) -> tuple[np.ndarray, np.ndarray]:
    values, bad = np.full(len(texts), np.nan), []
    # Python also reads "1_000", which no table means; and with a decimal comma a point is no decimal sign
    refused = "_" if decimal == "." else "_."
    for place, text in enumerate(texts):
        if text is None or (text := text.strip()) in _NULLS:
            continue
        try:
            values[place] = float("refused" if set(refused) & set(text) else text.replace(decimal, "."))
        except ValueError:
            if text.casefold() in _TRUTH:
                values[place] = _TRUTH[text.casefold()]
            else:
                bad.append(place)
    return values, np.array(bad, np.int64)
