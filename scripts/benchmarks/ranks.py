"""Two ranks against one: how much faster, and whether it is the same training.

    python scripts/benchmarks/ranks.py speed  --repeats 3   # efficiency and memory, short runs in turn
    python scripts/benchmarks/ranks.py quality               # one full training each: AP, steps, minutes

`speed` trains a few hundred steps with one rank of one thread and with two ranks of one thread each at the same global
batch, alternating, and prints images per second (median), the efficiency (two ranks over twice one rank; at least 0.9
wanted) and peak memory. `quality` trains the whole recipe on both and prints the difference in validation AP (at
most 0.005 wanted) and AP50 on the validation photos after how many minutes. Any option of train.py may follow.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["trainer.max_epochs=1", "data.num_train=640", "data.num_val=16", "data.num_test=16", "callbacks.best=null"]


def train(experiment: str, ranks: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """One run of `ranks` single-threaded ranks; its metrics.json with the wall time added."""
    run_id = f"ranks{ranks}-{time.monotonic_ns()}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANAMAKER_LOG_DIR": str(folder), "WANAMAKER_RUN_ID": run_id}
    command = [sys.executable, "train.py", f"experiment={experiment}", "trainer=ddp_cpu", f"trainer.devices={ranks}"]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (found,) = folder.glob(f"*/runs/{run_id}/metrics.json")
    return json.loads(found.read_text()) | {"wall_s": time.perf_counter() - started}


def speed(experiment: str, repeats: int, options: list[str]) -> None:
    """Alternate short runs and print medians."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    memory: dict[int, float] = {1: 0.0, 2: 0.0}
    idle: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        train(experiment, 1, Path(folder), [*SHORT, *options])  # draws the photos; not counted
        for _ in range(repeats):
            for ranks in (1, 2):
                metrics = train(experiment, ranks, Path(folder), [*SHORT, *options])["metrics"]
                rates[ranks].append(metrics["train/samples_per_s"])
                memory[ranks] = max(memory[ranks], metrics["train/peak_memory_gb"])
                idle[ranks].append(metrics["train/data_idle_share"])
    print(f"{'ranks':>5s} {'images/s':>9s} {'idle share':>10s} {'peak GB a rank':>14s}   median of {repeats}")
    for ranks in (1, 2):
        shown = statistics.median(rates[ranks]), statistics.median(idle[ranks]), memory[ranks]
        print(f"{ranks:5d} {shown[0]:9.2f} {shown[1]:10.3f} {shown[2]:14.2f}")
    pairs = [two / (2 * one) for one, two in zip(rates[1], rates[2], strict=True)]
    print(f"efficiency of two ranks: {statistics.median(pairs):.3f} (pairs: {', '.join(f'{p:.3f}' for p in pairs)})")


def quality(experiment: str, options: list[str]) -> None:
    """Train the whole recipe on two ranks and on one."""
    with tempfile.TemporaryDirectory() as folder:
        done = {ranks: train(experiment, ranks, Path(folder), options) for ranks in (2, 1)}
    print(f"{'ranks':>5s} {'steps':>6s} {'val/ap':>8s} {'val/ap50':>8s} {'test/ap50':>9s} {'minutes':>8s}")
    for ranks, result in done.items():
        metrics = result["metrics"]
        print(
            f"{ranks:5d} {result['optimizer_steps']:6d} {metrics['val/ap']:8.4f} {metrics['val/ap50']:8.4f} "
            f"{metrics['test/ap50']:9.4f} {result['wall_s'] / 60:8.1f}"
        )
    difference = abs(done[1]["metrics"]["val/ap"] - done[2]["metrics"]["val/ap"])
    print(f"difference in val/ap: {difference:.4f}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "quality"))
    parser.add_argument("--experiment", default="faster_rcnn_shelf")
    parser.add_argument("--repeats", type=int, default=3)
    given, options = parser.parse_known_args()
    if given.what == "speed":
        speed(given.experiment, given.repeats, options)
    else:
        quality(given.experiment, options)


if __name__ == "__main__":
    main()
