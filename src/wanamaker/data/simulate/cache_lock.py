"""One process at a time makes a folder of the cache; the others wait for it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from wanamaker.errors import UserError

REMEDY = "Point paths.cache_dir (or WANAMAKER_CACHE_DIR) to a folder with room that you can write."


@contextlib.contextmanager
def only_one(target: Path, doing: str) -> Iterator[bool]:
    """Hold the lock of a folder; yields whether there is one (some network file systems and Windows have none).

    Args:
        target: the folder to be made; the lock is a file beside it.
        doing: what another process is then said to do, such as "simulates the panel".
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with open(target.parent / f".{target.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process {doing} {target}; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True


def made_once(
    target: Path,
    complete: Callable[[Path], bool],
    write: Callable[[Path], None],
    thing: str,
    doing: str,
) -> Path:
    """A folder of the cache, made now if it is not there yet.

    Safe to call from several processes: the others wait for the first. Where the file system knows no locks each
    makes its own, and the first to finish wins.

    Args:
        target: the folder.
        complete: whether all of it is there.
        write: fills a folder that is there; it becomes `target` by a rename, so that a reader finds it whole.
        thing: what it is, for messages, such as "simulated panel".
        doing: what another process is then said to do, such as "simulates the panel".

    Raises:
        UserError: the folder cannot be written; nothing is left behind.
    """
    if complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(target, doing) as alone:
            if not complete(target):
                if alone:  # what a killed process left
                    for leftover in target.parent.glob(f".{target.name}.part-*"):
                        shutil.rmtree(leftover, ignore_errors=True)
                _make(target, complete, write)
    except OSError as error:
        raise UserError(f"Cannot write the {thing} {target}: {error.strerror or error}. {REMEDY}") from error
    return target


def _make(target: Path, complete: Callable[[Path], bool], write: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
    try:
        write(partial)
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        try:
            partial.rename(target)
        except OSError:
            if not complete(target):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
