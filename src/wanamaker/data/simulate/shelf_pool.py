"""Runs the jobs of the `shelf` simulator in several processes, in order, behind a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from wanamaker.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

_CHUNK = 16
_FEW = 48
"""Fewer jobs than this for a process cost less than starting it."""


def in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int | None, title: str
) -> Generator[Result, None, None]:
    """Results of all jobs, in their order.

    Args:
        work: A function of a module, so that a new process can import it.
        jobs: Arguments.
        processes: At most this many; None: the cores that this process may use.
        title: For the progress bar, or one line on stderr where there is no terminal.

    Raises:
        UserError: when a process was killed from outside, as a machine short of memory does.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = max(1, min(processes, len(jobs) // _FEW))
    if processes == 1:
        yield from _shown(map(work, jobs), len(jobs), title)
        return
    # Not fork: this process may hold threads and locks of torch.
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_follow_parent)
    try:
        yield from _shown(_in_order(executor, work, jobs, 4 * processes), len(jobs), title)
    except BrokenProcessPool as error:
        raise UserError(
            f"{title}: one of {processes} processes was ended from outside. Was the memory used up?"
            " A smaller image_size needs less."
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(
    executor: ProcessPoolExecutor, work: Callable[[Job], Result], jobs: Sequence[Job], ahead: int
) -> Iterator[Result]:
    """Results in order, with `ahead` chunks handed out. Unlike `Executor.map` it never cancels: Python 3.11 then hangs
    at exit when a process was killed."""
    chunks = iter([jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)])
    with _no_main_module():  # handing out starts the processes
        waiting = deque(executor.submit(_work_chunk, work, chunk) for chunk in itertools.islice(chunks, ahead))
    while waiting:
        yield from waiting.popleft().result()
        waiting.extend(executor.submit(_work_chunk, work, chunk) for chunk in itertools.islice(chunks, 1))


def _work_chunk(work: Callable[[Job], Result], chunk: Sequence[Job]) -> list[Result]:
    return [work(job) for job in chunk]


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep new processes from running the user's script again: what they need stands in this package.

    A script that is not written for that would draw, and wait for the lock that its parent holds.
    """
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__dict__["__spec__"] = None
    try:
        yield
    finally:
        del main.__dict__["__spec__"]
        main.__dict__.update(hidden)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _shown(results: Iterator[Result], count: int, title: str) -> Iterator[Result]:
    if not sys.stderr.isatty():
        if count >= 4 * _FEW:
            print(title, file=sys.stderr, flush=True)
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(results, description=title, total=count, console=Console(stderr=True), transient=True)
