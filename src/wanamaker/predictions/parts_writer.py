"""Parts of an artefact written one after the other, so that predictions larger than memory need not be held.

The artefact's type has `file_name`, `concat`, `select`, `table` (described, see `artefact.describe`), and rows whose
number `row` ascends within a part, each once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.predictions.artefact import atomic_path, parts_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq

GROUP_ROWS = 1 << 17
"""Rows that are gathered before they are written: of a row group."""


class _Run:
    """Parts whose rows ascend from one to the next, on their way into a file of their own.

    Attributes:
        path: of the file.
        last: number of the last row so far; None before the first part.
        num_held: rows that are not on disk yet.
    """

    def __init__(self, kind: type, path: Path, dictionary: list[str]) -> None:
        self.kind, self.path, self.dictionary = kind, path, dictionary
        self.last: int | None = None
        self.num_held = 0
        self._held: list[Any] = []
        self._file: pq.ParquetWriter | None = None

    def add(self, part: Any) -> None:
        self._held.append(part)
        self.num_held += len(part)
        self.last = int(part.row[-1]) if len(part) else self.last

    def write(self, files: ExitStack) -> None:
        """Put what is held into the file, as a row group; `files` closes it."""
        import pyarrow.parquet as pq

        part, self._held, self.num_held = self.kind.concat(self._held), [], 0
        table = part.table()
        if self._file is None:
            options = {"compression": "zstd", "use_dictionary": self.dictionary}
            self._file = files.enter_context(pq.ParquetWriter(self.path, table.schema, **options))
        if len(part):
            self._file.write_table(table)


class PartsWriter:
    """A context in which parts are added to one Parquet file, which appears when it is left without an error.

    Parts may overlap or come in any order, as they do from loader processes that take turns, or from ranks. Those that
    ascend lie in one file on the way; where there are several such files they are merged on leaving, a row group of
    each at a time. Of a row that comes twice one copy is kept.

    Args:
        kind: the artefact's type.
        folder: of the file.
        dictionary: columns with few different values.

    Raises:
        UserError: on leaving, the folder cannot be written or the disk is full.
    """

    def __init__(self, kind: type, folder: Path | str, dictionary: tuple[str, ...] = ()) -> None:
        self.kind, self.path, self.dictionary = kind, Path(folder) / kind.file_name, list(dictionary)
        self._runs: list[_Run] = []
        self._empty: Any = None
        self._stack, self._leftovers, self._files = ExitStack(), ExitStack(), ExitStack()

    def __enter__(self) -> PartsWriter:
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        self._stack.enter_context(self._leftovers)
        self._stack.enter_context(self._files)  # last, so that files are closed before they are removed
        return self

    @property
    def num_held(self) -> int:
        """Rows that are not on disk yet."""
        return sum(run.num_held for run in self._runs)

    def add(self, part: Any) -> None:
        """Add rows; some of those that are held go to disk as soon as they are `GROUP_ROWS`."""
        if not len(part):
            self._empty = part
            return
        self._run_for(int(part.row[0])).add(part)
        if self.num_held >= GROUP_ROWS:
            max(self._runs, key=lambda run: run.num_held).write(self._files)

    def _run_for(self, row: int) -> _Run:
        """Where a part goes that begins with this row: behind the nearest row before it, else into a new file."""
        behind = [run for run in self._runs if run.last < row]
        return max(behind, key=lambda run: run.last) if behind else self._new_run()

    def _new_run(self) -> _Run:
        path = self._temporary
        if self._runs:
            path = path.with_name(f"{path.name}.{len(self._runs)}")
            self._leftovers.callback(path.unlink, missing_ok=True)
        self._runs.append(_Run(self.kind, path, self.dictionary))
        return self._runs[-1]

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self._runs and self._empty is not None:
                self._new_run().add(self._empty)
            for run in self._runs:
                if run.num_held or run.last is None:
                    run.write(self._files)
            self._files.close()
            if len(self._runs) > 1:
                self._merge()

    def _merge(self) -> None:
        """Put all files into the first one's place."""
        target = self._temporary.with_name(f"{self._temporary.name}.merged")
        self._leftovers.callback(target.unlink, missing_ok=True)
        merged = _Run(self.kind, target, self.dictionary)
        with ExitStack() as files:
            for part in _in_order(self.kind, [run.path for run in self._runs]):
                merged.add(part)
                if merged.num_held >= GROUP_ROWS:
                    merged.write(files)
            if merged.num_held:
                merged.write(files)
        os.replace(target, self._temporary)


def _in_order(kind: type, paths: list[Path]) -> Iterator[Any]:
    """The rows of files that each ascend, ascending, each once; a row group of each file is held."""
    runs = [parts_of(kind, path) for path in paths]
    heads = [next(run, None) for run in runs]
    while known := [head for head in heads if head is not None]:
        last = min(int(head.row[-1]) for head in known)  # up to here nothing can come any more
        taken = []
        for number, head in enumerate(heads):
            if head is None:
                continue
            stop = int(np.searchsorted(head.row, last, side="right"))
            if stop:
                taken.append(head.select(np.arange(stop)))
            heads[number] = head.select(np.arange(stop, len(head))) if stop < len(head) else next(runs[number], None)
        yield kind.concat(taken)
