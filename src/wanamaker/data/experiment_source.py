"""The files of an experiment: a CSV or Parquet file, or a folder of Parquet shards, read as a whole or by row group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.panel_roles import nearest
from wanamaker.data.panel_source import PanelSource
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MISSING = ["", "#N/A", "#NA", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "None", "none", "-nan", "<NA>", "NaT"]


@dataclass(frozen=True)
class RowGroup:
    """A part of a Parquet file that can be read alone.

    Attributes:
        file: index into `ExperimentSource.files`.
        number: of the group in its file.
        first: row of the whole table that it begins with.
        rows: how many it has.
    """

    file: int
    number: int
    first: int
    rows: int


class ExperimentSource:
    """One table, of one or several files. Shards stand in the order of their names.

    Args:
        path: a file ending in .csv, .csv.gz, .tsv, .parquet or .pq, or a folder of Parquet files.
        encoding: of a CSV file.
        delimiter: between the cells of a CSV file; None: a comma (a tab in a .tsv file).
        decimal: the decimal sign of a CSV file.

    Attributes:
        columns: of the table, in order.
        kinds: column -> "number", "text", "date" or the name of another type; empty for a CSV file, whose types are
            known when it is read.
        groups: row groups; none for a CSV file.

    Raises:
        UserError: the path is missing, holds no table, or the shards disagree about a column.
    """

    def __init__(
        self, path: str | Path, encoding: str = "utf-8", delimiter: str | None = None, decimal: str = "."
    ) -> None:
        self.path, self.name = Path(path), str(path)
        self.encoding, self.delimiter, self.decimal = encoding, delimiter, decimal
        self.kinds: dict[str, str] = {}
        self.groups: list[RowGroup] = []
        self._footers: list[pq.FileMetaData] = []
        if self.path.is_dir():
            self.files = sorted(file for file in self.path.rglob("*.parquet") if not file.name.startswith(("_", ".")))
            if not self.files:
                raise UserError(f"{self.name} holds no .parquet file; give a table, or a folder of Parquet shards.")
            self.kind = "parquet"
        else:
            first = PanelSource(self.path, encoding, delimiter, decimal)
            self.files, self.kind, self.columns = [self.path], first.kind, first.columns
            if first.kind == "csv":
                self._csv_text = first
        if self.kind == "parquet":
            self._read_footers()
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice:
            raise UserError(f"{self.name}: column {twice[0]!r} stands in the header twice; rename one of them.")

    @property
    def num_rows(self) -> int | None:
        """Rows of the table; None for a CSV file, which has to be read for that."""
        return self.groups[-1].first + self.groups[-1].rows if self.groups else (0 if self.kind == "parquet" else None)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)

    def _read_footers(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        first_row = 0
        for i, file in enumerate(self.files):
            try:
                with pq.ParquetFile(file) as opened:
                    schema, footer = opened.schema_arrow, opened.metadata
            except pa.ArrowInvalid as error:
                raise UserError(f"{file} is not a Parquet file ({error}); write it again.") from error
            self._footers.append(footer)
            kinds = {field.name: kind_of(field.type) for field in schema}
            if i == 0:
                self.columns, self.kinds = list(schema.names), kinds
            for name, kind in self.kinds.items():
                if name not in kinds:
                    raise UserError(f"{file} has no column {name!r}, {self.files[0].name} has; write the shards alike.")
                if kind == "empty":
                    self.kinds[name] = kinds[name]
                elif kinds[name] not in (kind, "empty"):
                    raise UserError(
                        f"{file}: column {name!r} holds {kinds[name]}, in shards before it {kind}; write them alike."
                    )
            for number in range(footer.num_row_groups):
                rows = footer.row_group(number).num_rows
                self.groups.append(RowGroup(i, number, first_row, rows))
                first_row += rows

    def read(self, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
        """The named columns of the whole table, in memory.

        Args:
            columns: names; others are not decoded.
            text: columns of a CSV file to read as they are written ("007" stays so).

        Raises:
            UserError: a CSV file that cannot be read, with the row at fault.
        """
        import pyarrow as pa
        import pyarrow.csv as pacsv
        import pyarrow.parquet as pq

        if self.kind == "parquet":
            tables = [pq.read_table(file, columns=list(columns), partitioning=None) for file in self.files]
            return pa.concat_tables(tables, promote_options="permissive")
        convert = pacsv.ConvertOptions(
            column_types={name: pa.string() for name in text if name in columns},
            include_columns=list(columns),
            null_values=_MISSING,
            strings_can_be_null=False,  # an offer may be called None
            decimal_point=self.decimal,
        )
        delimiter = self._csv_text.delimiter
        try:
            return pacsv.read_csv(
                str(self.path),
                pacsv.ReadOptions(encoding=self.encoding),
                pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert,
            )
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            for _ in self._csv_text.batches(self.columns, ()):  # meets the same row, and says where it is
                pass
            raise UserError(f"{self.name} cannot be read as CSV: {error}") from error

    def read_group(self, group: RowGroup, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The named columns of one row group, at most `rows` rows at a time."""
        import pyarrow.parquet as pq

        # Buffering ahead would hold whole columns of the file in memory.
        options = {"metadata": self._footers[group.file], "pre_buffer": False, "buffer_size": 1 << 16}
        with pq.ParquetFile(self.files[group.file], **options) as file:
            yield from file.iter_batches(rows, row_groups=[group.number], columns=list(columns), use_threads=False)

    def group_of(self, row: np.ndarray) -> np.ndarray:
        """Which row group holds each row, int64 [N]."""
        starts = np.array([group.first for group in self.groups])
        return np.searchsorted(starts, row, side="right") - 1

    def missing(self, columns: Sequence[str]) -> list[str]:
        """Those of `columns` that the table lacks."""
        known = set(self.columns)
        return [name for name in columns if name not in known]

    def check_delimiter(self) -> None:
        """Refuse a CSV file whose header is one column with another delimiter inside.

        Raises:
            UserError: naming the delimiter.
        """
        if self.kind == "csv" and len(self.columns) == 1:
            for other in (";", "\t", "|", ","):
                if self.columns[0].count(other) > 1:
                    given = '"\\t"' if other == "\t" else f"'{other}'"
                    raise UserError(
                        f"{self.name}: the header is one column with {other!r} inside, {self.columns[0][:60]!r}: pass"
                        f" data.delimiter={given}."
                    )

    def hint(self, column: str) -> str:
        """The nearest column."""
        return nearest(column, self.columns)


def kind_of(kind: pa.DataType) -> str:
    """ "number", "text", "date", "empty", or the type's own name for what no feature can be."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_null(kind):
        return "empty"
    return "date" if types.is_temporal(kind) else str(kind)
