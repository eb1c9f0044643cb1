"""Train a recipe on a simulated log, in a process of its own, and score its test rows against the truth.

    python truth_job.py '{"name": ..., "out": ..., "overrides": [...]}'

Axis letters: n test rows, T tasks, D edges.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

BINS = 10


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fit, test and predict as the job says; the result."""
    import torch
    from mix_peers.measure import Clock

    from propensity_ours.collect import CollectScores
    from propensity_ours.job import fitted
    from wanamaker.runtime.console import quieten

    torch.set_num_threads(1)
    quieten()
    clock = Clock()
    parts = fitted(job["overrides"], Path(job["out"]) / "runs" / job["name"])
    loop = {"datamodule": parts.data, "ckpt_path": "best", "weights_only": False}
    tested = parts.trainer.test(parts.model, verbose=False, **loop)[0]
    collect = CollectScores("test")
    parts.trainer.callbacks.append(collect)
    parts.trainer.predict(parts.model, return_predictions=False, **loop)
    row, _, score, low, high = collect.table()
    truth = parts.data.truth_of(row)
    tasks = parts.data.schema.tasks
    found = {task.name: _scores(task.kind, score[:, t], truth[task.name]) for t, task in enumerate(tasks)}
    for name, scores in found.items():
        scores["loss"] = float(tested[f"test/{name}/loss"])
    for t, task in enumerate(tasks):
        true = truth[task.name][:, -1] if task.kind == "hazard" else truth[task.name]
        found[task.name]["coverage"] = float(((low[:, t] <= true) & (true <= high[:, t])).mean())
    return {"learner": job["name"], "tasks": found, "cpu_seconds": clock.read()[1], "overrides": job["overrides"]}


def _scores(kind: str, score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How near scores [n] are to the truth [n], of a hazard [n, D] that it has happened by each edge."""
    from wanamaker.metrics.propensity_value import normalised_gini

    truth = truth[:, -1] if kind == "hazard" else truth
    score = score.astype(np.float64)
    scale = float(truth.mean()) if kind in ("value", "regression") else 1.0
    bins = np.array_split(np.argsort(score, kind="stable"), BINS)
    gaps = [abs(score[part].mean() - truth[part].mean()) for part in bins]
    return {
        "rank": normalised_gini(truth, score),
        "rmse": float(np.sqrt(np.square(score - truth).mean())) / scale,
        "calibration": float(np.mean(gaps)) / scale,
        "total": float(score.sum() / truth.sum()),
    }


def main() -> None:
    """Read the job, run it, write."""
    job = json.loads(sys.argv[1])
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    result = run(job)
    (out / f"{job['name']}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
