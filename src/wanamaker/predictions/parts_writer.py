"""Parts of an artefact written one after the other, so that predictions larger than memory need not be held.

The artefact's type has `file_name`, `concat`, `table` (described, see `artefact.describe`), and rows whose number `row`
ascends within a part, each once.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wanamaker.predictions.artefact import atomic_path, parts_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq

GROUP_ROWS = 1 << 17
"""Rows that are gathered before they are written: of a row group."""


class PartsWriter:
    """A context in which parts are added to one Parquet file, which appears when it is left without an error.

    Parts may overlap or come in any order: then, which is rare, the file is read as a whole and written once more.

    Args:
        kind: the artefact's type.
        folder: of the file.
        dictionary: columns with few different values.

    Raises:
        UserError: on leaving, the folder cannot be written or the disk is full.
    """

    def __init__(self, kind: type, folder: Path | str, dictionary: tuple[str, ...] = ()) -> None:
        self.kind, self.path, self.dictionary = kind, Path(folder) / kind.file_name, list(dictionary)
        self._held: list[Any] = []
        self._last: int | None = None
        self._ascending = True
        self._file: pq.ParquetWriter | None = None
        self._stack = ExitStack()

    def __enter__(self) -> PartsWriter:
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        return self

    def add(self, part: Any) -> None:
        """Add rows; they are on disk as soon as `GROUP_ROWS` have come."""
        self._held.append(part)
        if sum(map(len, self._held)) >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        import pyarrow.parquet as pq

        part, self._held = self.kind.concat(self._held), []
        table = part.table()
        if self._file is None:
            options = {"compression": "zstd", "use_dictionary": self.dictionary}
            self._file = self._stack.enter_context(pq.ParquetWriter(self._temporary, table.schema, **options))
        if len(part):
            self._ascending &= self._last is None or int(part.row[0]) > self._last
            self._last = int(part.row[-1])
            self._file.write_table(table)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._held:
                self._write()
        if not self._ascending:
            self.kind.concat(parts_of(self.kind, self.path)).write(self.path.parent)
