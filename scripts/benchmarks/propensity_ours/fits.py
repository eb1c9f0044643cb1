"""Fits of ours and of the peers, each in a process of its own; what is there already is not fitted again.

Axis letters: N rows, R repeats, K folds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mix_peers.run import Limits
from propensity_peers.task import Task
from uplift_peers.run import supervise

FOLDER = Path(__file__).resolve().parent
JOB = FOLDER / "job.py"
TRUTH_JOB = FOLDER / "truth_job.py"
PEERS_FIT = FOLDER.parent / "propensity_peers" / "fit.py"
CHOSEN = "ours, chosen on training rows"


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


def run_peers(plan: Plan, task: Path, learners: Iterable[str]) -> None:
    """Fit peers to all folds of a task."""
    for name in learners if plan.python else ():
        path = plan.result(task.name, name)
        if path.exists() and not plan.again:
            continue
        command = [plan.python, str(PEERS_FIT), "--task", str(task), "--learners", name, "--out", str(path.parent)]
        _run(plan, command, path, task.name)


def run_ours(plan: Plan, task: Path, recipe: list[str]) -> None:
    """Train every variant on all folds of a task.

    Args:
        recipe: overrides that make train.py's configuration learn the task.
    """
    for variant, changes in plan.variants.items():
        path = plan.result(task.name, f"ours-{variant}")
        if path.exists() and not plan.again:
            continue
        job = {"name": path.stem, "task": str(task), "out": str(path.parent), "overrides": [*recipe, *changes]}
        _run(plan, [sys.executable, str(JOB), json.dumps(job)], path, task.name)


def run_truth(plan: Plan, task: str, name: str, overrides: list[str]) -> Path:
    """Train on a simulated log and score the test rows against its truth; the file of the result."""
    path = plan.result(task, name)
    if plan.again or not path.exists():
        job = {"name": name, "out": str(path.parent), "overrides": overrides}
        _run(plan, [sys.executable, str(TRUTH_JOB), json.dumps(job)], path, task)
    return path


def _run(plan: Plan, command: list[str], path: Path, task: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    end = supervise(command, plan.limits)
    if not path.exists():
        failure = {"learner": path.stem, "task": task, "failed": end.failed or "no result", "log": end.log}
        path.write_text(json.dumps(failure | {"cpu_seconds": end.cpu}, indent=1))
    failed = json.loads(path.read_text()).get("failed")
    print(task, path.stem, f"FAILED: {failed}" if failed else f"done, {end.cpu:.0f} CPU-s", flush=True)


def results_of(plan: Plan, task: str) -> dict[str, dict[str, Any]]:
    """Results of a task by learner, failures included."""
    files = sorted((plan.out / "results" / task).glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in files}


def predictions_of(plan: Plan, task: str) -> dict[str, np.ndarray]:
    """Predictions [R, N] of every learner that ended, and of the choice among our variants."""
    found = {
        learner: np.load(plan.result(task, learner).with_suffix(".npy"))
        for learner, result in results_of(plan, task).items()
        if "failed" not in result
    }
    chosen = _chosen(plan, task, found)
    return found if chosen is None else found | {CHOSEN: chosen}


def _chosen(plan: Plan, task: str, found: dict[str, np.ndarray]) -> np.ndarray | None:
    """Of each fold the variant with the least loss on its training rows, cross-fitted; None with fewer than two."""
    results = results_of(plan, task)
    names = [name for name in (f"ours-{variant}" for variant in plan.variants) if name in found]
    if len(names) < 2:
        return None
    losses = np.array([results[name]["validated_loss"] for name in names])  # [variants, R, K]
    fold = Task.read(plan.task(task)).fold  # [R, N]
    best = np.take_along_axis(losses.argmin(0), fold.astype(np.int64), axis=1)
    return np.take_along_axis(np.stack([found[name] for name in names]), best[None], axis=0)[0]


def failures(plan: Plan, task: str) -> list[str]:
    """Lines about learners that are in no table."""
    return [
        f"{learner}: {result['failed']}" for learner, result in results_of(plan, task).items() if "failed" in result
    ]
