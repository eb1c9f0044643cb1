"""Fits of ours and of the peers, each in a process of its own; what is there already is not fitted again."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mix_peers.run import Limits
from uplift_peers.run import fit_peers, supervise
from uplift_peers.task import Task

JOB = Path(__file__).resolve().parent / "job.py"


@dataclass(frozen=True)
class Plan:
    """What to fit and where.

    Args:
        out: folder of tasks and results.
        python: interpreter of the peers' environment; None reads the results that are there.
        variants: name -> overrides of the recipe; none leaves ours out.
        limits: of a process.
        again: whether to fit again what is there.
    """

    out: Path
    python: str | None
    variants: dict[str, list[str]]
    limits: Limits
    again: bool = False

    def task(self, name: str) -> Path:
        """Folder of a task."""
        return self.out / "tasks" / name

    def result(self, task: str, learner: str) -> Path:
        """File of a result, JSON."""
        return self.out / "results" / task / f"{learner}.json"


def run_peers(plan: Plan, task: Path, learners: list[str], options: tuple[str, ...] = (), apart: bool = False) -> None:
    """Fit peers to a task, `apart` in a process for each."""
    if plan.python is None:
        return
    for some in [[name] for name in learners] if apart else [learners]:
        failed = fit_peers(plan.python, task, some, plan.out / "results" / task.name, plan.limits, options, plan.again)
        print(task.name, ",".join(some), f"FAILED: {', '.join(failed)}" if failed else "done", flush=True)


def run_ours(plan: Plan, task: Path, overrides: list[str], all_rows: bool = False) -> None:
    """Train every variant on a task.

    Args:
        overrides: that make the recipe read the task's rows.
        all_rows: whether to predict the training rows as well.
    """
    for variant, changes in plan.variants.items():
        path = plan.result(task.name, f"ours-{variant}")
        if path.exists() and not plan.again:
            continue
        path.unlink(missing_ok=True)
        job = {"name": path.stem, "task": str(task), "out": str(path.parent), "overrides": [*overrides, *changes]}
        end = supervise([sys.executable, str(JOB), json.dumps(job | {"all_rows": all_rows})], plan.limits)
        if not end.failed:
            _check_rows(task, path, all_rows)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            failure = {"learner": path.stem, "task": task.name, "failed": end.failed, "log": end.log}
            path.write_text(json.dumps(failure | {"cpu_seconds": end.cpu, "peak_rss_bytes": end.peak}, indent=1))
        print(task.name, path.stem, f"FAILED: {end.failed}" if end.failed else "done", flush=True)


def _check_rows(task: Path, path: Path, all_rows: bool) -> None:
    """Ours must have predicted the very rows that the peers did."""
    known = Task.read(task)
    expected = known.arm if all_rows else known.arm[~known.train]
    found = np.load(path.with_name(f"{path.stem}-treatment.npy"))
    if not np.array_equal(found, expected):
        path.unlink()
        raise SystemExit(f"{path.stem} predicted {len(found)} rows of {task.name}, which are not its {len(expected)}.")


def results_of(plan: Plan, task: str) -> dict[str, dict[str, Any]]:
    """Results of a task by learner, failures included."""
    files = sorted((plan.out / "results" / task).glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in files}


def left_out(plan: Plan, tasks: list[str]) -> list[str]:
    """Lines about learners that are not in a table over these tasks, because they failed or lack some."""
    done: dict[str, int] = {}
    lines = []
    for task in tasks:
        for learner, result in results_of(plan, task).items():
            done[learner] = done.get(learner, 0) + ("failed" not in result)
            if "failed" in result:
                lines.append(f"{task} {learner}: {result['failed']}")
    few = [f"{learner} ({count} of {len(tasks)})" for learner, count in done.items() if count < len(tasks)]
    return lines + ([f"Left out: {', '.join(few)}"] if few else [])


def effects_of(plan: Plan, task: str, learner: str) -> np.ndarray:
    """Effects [n, A, Y] of a learner."""
    return np.load(plan.result(task, learner).with_suffix(".npy"))


def chosen_variant(plan: Plan, task: str) -> str | None:
    """Our variant with the least cross-fitted loss on the task's training rows; None with fewer than two."""
    found = results_of(plan, task)
    losses = {
        name: result["validated"]["val/dr_loss"]
        for name, result in found.items()
        if name.startswith("ours-") and name[5:] in plan.variants and "failed" not in result
    }
    return min(losses, key=losses.__getitem__) if len(losses) > 1 else None
