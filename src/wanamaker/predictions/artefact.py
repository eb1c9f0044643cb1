"""How prediction artefacts are written, described and read again.

A file carries its own description in the Parquet metadata, under the keys ``wanamaker.kind`` (which type wrote it),
``wanamaker.schema_version`` and ``wanamaker.header`` (JSON: everything that is not a column). `read_predictions` looks
at the kind and returns the right type, so an artefact can be read without knowing which family made it. Arrays that are
not per row go into a file beside it (`write_arrays`), of the same name with the ending ``.npz``.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from wanamaker.errors import UserError

if TYPE_CHECKING:  # both cost half a second to import, and the menu of experiments does not need them
    import pyarrow as pa

_META_KIND = b"wanamaker.kind"
_META_VERSION = b"wanamaker.schema_version"
_META_HEADER = b"wanamaker.header"

KINDS: dict[str, type] = {}
Artefact = TypeVar("Artefact")


def prediction_kind(cls: type) -> type:
    """Register an artefact type under its ``kind``; the type has ``kind``, ``schema_version`` and ``from_table``.

    ``from_table(table, header, path)`` rebuilds it; further arrays lie beside the Parquet file ``path``.
    """
    if cls.kind in KINDS:
        raise ValueError(f"prediction kind {cls.kind!r} is already taken by {KINDS[cls.kind].__name__}.")
    KINDS[cls.kind] = cls
    return cls


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it becomes ``path`` only if the block succeeds.

    A reader therefore sees the old file or the new one, never half of one. The parent folder is created.

    Raises:
        UserError: the folder cannot be written or the disk is full. The earlier file, if any, is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(_write_problem(path, error)) from error
    finally:
        # After a success the file has moved. The clean-up must not hide the first error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_problem(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Cannot write {path}: {error.strerror}. Free some space or set paths.output_dir elsewhere."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Cannot write {path}: {error.strerror}. Make the folder writable or set paths.output_dir elsewhere."
    return f"Cannot write {path}: {error}. Check the folder, or set paths.output_dir elsewhere."


def write_table(table: pa.Table, path: Path, *, kind: str, schema_version: int, header: Mapping[str, Any]) -> Path:
    """Write ``table`` atomically as Parquet, with the description that `read_predictions` needs."""
    import pyarrow.parquet as pq

    described = describe(table, kind=kind, schema_version=schema_version, header=header)
    with atomic_path(path) as temporary:
        pq.write_table(described, temporary, compression="zstd")
    return Path(path)


def describe(table: pa.Table, *, kind: str, schema_version: int, header: Mapping[str, Any]) -> pa.Table:
    """The table with the description that `read_predictions` needs."""
    metadata = {
        **(table.schema.metadata or {}),
        _META_KIND: kind.encode(),
        _META_VERSION: str(schema_version).encode(),
        _META_HEADER: json.dumps(header).encode(),
    }
    return table.replace_schema_metadata(metadata)


def parts_of(cls: type[Artefact], path: Path | str) -> Iterator[Artefact]:
    """What `read_predictions` would read from a file that this run wrote, a row group at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        header = json.loads(file.schema_arrow.metadata[_META_HEADER])
        for number in range(file.num_row_groups):
            yield cls.from_table(file.read_row_group(number), header, Path(path))


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write named arrays atomically as one compressed ``.npz`` file without pickled objects."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return Path(path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"Cannot read {path} ({error}). Run evaluate.py again to rewrite it.") from error


def read_predictions(path: Path | str) -> Any:
    """Read any artefact written by this module.

    Args:
        path: the Parquet file, or a folder that holds exactly one artefact.

    Returns:
        The type registered for the file's kind, for example `Detections`.

    Raises:
        UserError: nothing there, not Parquet, written by something else, or by a newer version of Wanamaker.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.is_dir():
        found = sorted(p for p in path.glob("*.parquet") if not p.name.startswith("."))
        if len(found) != 1:
            names = ", ".join(p.name for p in found) or "none"
            raise UserError(f"Expected one predictions file in {path}, found {len(found)} ({names}). Name the file.")
        path = found[0]
    if not path.is_file():
        raise UserError(f"No predictions at {path}. Run evaluate.py first, or check the path.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"Cannot read {path} as Parquet ({error}). Run evaluate.py again to rewrite it.") from error
    metadata = table.schema.metadata or {}
    kind = metadata.get(_META_KIND, b"").decode()
    if kind not in KINDS:
        raise UserError(
            f"{path} holds predictions of kind {kind or 'unknown'!r}; known kinds: {', '.join(sorted(KINDS))}. "
            "Write it with evaluate.py."
        )
    cls = KINDS[kind]
    version = int(metadata[_META_VERSION])
    if version > cls.schema_version:
        raise UserError(
            f"{path} has schema version {version} of {kind!r}; this Wanamaker reads up to {cls.schema_version}. "
            "Upgrade it."
        )
    return cls.from_table(table, json.loads(metadata[_META_HEADER]), path)


def as_array(value: Any, dtype: type) -> np.ndarray:
    """An array from an array or a tensor of any device and precision (NumPy has no bfloat16, hence the cast there)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.element_size() < 4 and value.is_floating_point() else value
        value = value.numpy()
    return np.asarray(value, dtype=dtype)


def read_kind(cls: type[Artefact], path: Path | str, maker: str) -> Artefact:
    """Read an artefact that must be of one type, from its file or the folder that `write` was given.

    Args:
        cls: the type, with `kind` and `file_name`.
        path: file or folder.
        maker: what makes this kind, for the message, such as "a detector".

    Raises:
        UserError: not there, damaged, or predictions of another kind.
    """
    path = Path(path)
    path = path / cls.file_name if path.is_dir() else path
    artefact = read_predictions(path)
    if not isinstance(artefact, cls):
        raise UserError(f"{path} holds {artefact.kind!r}, not {cls.kind!r}. Give the predictions of {maker}.")
    return artefact
