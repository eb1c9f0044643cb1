"""Simulated data in the cache: where they lie, whether they are whole, and files that grow table by table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wanamaker.data.simulate.cache_lock import made_once

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class KeptSimulation:
    """A kind of simulated data that is made once for each set of options, into a folder that is complete or absent.

    The folder's name carries every option (`folder_name` of the options): two processes that want the same data make
    them once, and another option makes another folder.

    Attributes:
        place: Folder of the cache in which such folders lie.
        thing: What it is called in messages, such as "panel".
        files: Names that are there when a folder is whole.
        write: (folder, options) -> None; fills a folder that is there, or raises a `UserError` where the options cannot
            be met.
    """

    place: str
    thing: str
    files: tuple[str, ...]
    write: Callable[[Path, Any], None]

    def folder(self, cache_dir: Path | str, options: Any) -> Path:
        """Where the data of these options lie, or will."""
        return Path(cache_dir) / self.place / options.folder_name

    def is_complete(self, folder: Path) -> bool:
        """Whether the data are there. The rename that makes the folder comes last, so that they are whole."""
        return all((folder / name).is_file() for name in self.files)

    def ensure(self, cache_dir: Path | str, options: Any) -> Path:
        """The folder with these data, made now if it is not there yet.

        Safe to call from several processes, see `made_once`.

        Raises:
            UserError: the folder cannot be written, or the options cannot be met; nothing is left behind.
        """
        target = self.folder(cache_dir, options)
        return made_once(
            target,
            self.is_complete,
            lambda folder: self.write(folder, options),
            f"simulated {self.thing}",
            f"simulates the {self.thing}",
        )


class ParquetFiles:
    """A context of Parquet files in a folder, each of which begins with the first table that is written to it.

    Args:
        folder: that is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> ParquetFiles:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, name: str, table: pa.Table) -> None:
        """Append rows to ``<folder>/<name>``."""
        import pyarrow.parquet as pq

        if name not in self._writers:
            self._writers[name] = self._stack.enter_context(pq.ParquetWriter(self.folder / name, table.schema))
        self._writers[name].write_table(table)
