"""Run `fit.py`, each time in a process of its own, with limits on CPU-seconds, time and memory (Linux).

    python scripts/benchmarks/uplift_peers/run.py --python peers/bin/python --out results --apart \
        --learners econml-xgb_default-x,causalml-xgb_default-x --tasks tasks/large-*

Results lie in <out>/<task>/. A fit that ends with an error leaves a file with "failed"; so does one that goes beyond a
limit, with the CPU-seconds and the memory it had used by then. What was fitted already is not fitted again but with
--again. Options of fit.py may follow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mix_peers.run import Limits, used

FIT = Path(__file__).resolve().parent / "fit.py"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
LIMITS = Limits(cpu=900.0, wall=3600.0, memory=12e9)


def own_peak() -> int:
    """Largest resident set of this process so far, bytes.

    Not of getrusage, where a process that was started by a large one begins with that one's size.
    """
    return used(os.getpid())[1]


@dataclass(frozen=True)
class End:
    """How a process ended.

    Args:
        failed: "" where it did what it should, else why not.
        cpu: seconds, as last seen while it ran.
        peak: resident bytes, likewise.
        log: its last lines.
    """

    failed: str
    cpu: float
    peak: int
    log: list[str] = field(default_factory=list)


def supervise(command: list[str], limits: Limits, environment: dict[str, str] | None = None) -> End:
    """Run a command on one thread until it ends, or goes beyond a limit and is killed."""
    cpu, peak, stopped = 0.0, 0, ""
    with tempfile.TemporaryFile("w+") as log:
        variables = os.environ | THREADS | (environment or {})
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=variables)
        started = time.monotonic()
        try:
            while process.poll() is None and not stopped:
                time.sleep(0.2)
                now = used(process.pid)
                cpu, peak, wall = max(cpu, now[0]), max(peak, now[1]), time.monotonic() - started
                if cpu > limits.cpu or wall > limits.wall:
                    stopped = f"did not finish in {wall:.0f} s"
                elif peak > limits.memory:
                    stopped = f"more than {limits.memory / 1e9:g} GB after {wall:.0f} s"
        finally:
            if process.poll() is None:
                process.kill()
        status = process.wait()
        log.seek(0)
        lines = log.read().strip().splitlines()[-5:]
    message = stopped or (f"exit status {status}" if status else "")
    return End(f"{message} ({cpu:.0f} CPU-s, {peak / 1e9:.1f} GB)" if message else "", cpu, peak, lines)


def fit_peers(
    python: str,
    task: Path,
    learners: list[str],
    out: Path,
    limits: Limits = LIMITS,
    options: tuple[str, ...] = (),
    again: bool = False,
) -> list[str]:
    """Fit several learners to a task in one process, those that are not there yet.

    Args:
        python: interpreter of the peers' environment.
        task: folder of a `Task`.
        learners: see `fit.py`.
        out: folder of the results of this task.
        limits: for all learners together.
        options: further arguments of fit.py.
        again: whether to fit again what is there.

    Returns:
        The names of those that failed now.
    """
    wanted = [name for name in learners if again or not (out / f"{name}.json").exists()]
    if not wanted:
        return []
    for name in wanted:
        (out / f"{name}.json").unlink(missing_ok=True)
    command = [python, str(FIT), "--task", str(task), "--learners", ",".join(wanted), "--out", str(out), *options]
    end = supervise(command, limits)
    out.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if (out / f"{name}.json").exists():
            continue
        failure = {"learner": name, "task": task.name, "failed": end.failed, "log": end.log}
        failure |= {"cpu_seconds": end.cpu, "peak_rss_bytes": end.peak}
        (out / f"{name}.json").write_text(json.dumps(failure, indent=1))
    return [name for name in wanted if "failed" in json.loads((out / f"{name}.json").read_text())]


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", required=True, nargs="+", type=Path)
    parser.add_argument("--learners", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--apart", action="store_true", help="a process for each learner")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--limit", type=float, default=LIMITS.cpu, help="CPU-seconds of a process")
    parser.add_argument("--wall", type=float, default=LIMITS.wall, help="seconds")
    parser.add_argument("--memory", type=float, default=LIMITS.memory / 1e9, help="GB")
    arguments, options = parser.parse_known_args()
    limits = Limits(arguments.limit, arguments.wall, arguments.memory * 1e9)
    names = arguments.learners.split(",")
    for task in arguments.tasks:
        for some in [[name] for name in names] if arguments.apart else [names]:
            out = arguments.out / task.name
            failed = fit_peers(arguments.python, task, some, out, limits, tuple(options), arguments.again)
            print(out, ",".join(some), f"FAILED: {', '.join(failed)}" if failed else "done", flush=True)


if __name__ == "__main__":
    main()
