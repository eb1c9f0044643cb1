"""One process at a time makes a folder of the cache; the others wait for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


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
