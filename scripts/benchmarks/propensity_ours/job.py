"""Train a recipe of the propensity family on every fold of a task, in a process of its own, and write what peers write.

    python job.py '{"name": ..., "task": ..., "out": ..., "overrides": [...]}'

`overrides` are those of train.py's command line, experiment=NAME first. <out>/<name>.npy holds predictions [R, N] of
the first task out of fold, <name>.json the cost, the epochs and the loss on training rows of each fold, judged by
members that did not see them: what settings may be chosen by. CPU-seconds begin with the table on disk, unlike those of
the peers.

Axis letters: N rows, R repeats, K folds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def fitted(overrides: list[str], out: Path) -> Any:
    """Fit train.py's configuration; model, data and trainer."""
    from lightning.pytorch import seed_everything
    from uplift_ours.job import composed

    from wanamaker.runtime.build import build

    config = composed(overrides, out)
    seed_everything(config.seed, workers=True, verbose=False)
    parts = build(config)
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fit and predict as the job says; the result."""
    import numpy as np
    import torch
    from mix_peers.measure import Clock
    from propensity_peers.task import Task

    from propensity_ours.collect import CollectScores
    from wanamaker.runtime.console import quieten

    torch.set_num_threads(1)
    quieten()
    task, out, name = Task.read(Path(job["task"])), Path(job["out"]), job["name"]
    repeats, folds = task.shape
    found = np.full(task.fold.shape, np.nan)
    validated = np.zeros((repeats, folds))
    epochs = []
    clock = Clock()
    for repeat in range(repeats):
        for fold in range(folds):
            cut = [f"data.split.folds={folds}", f"data.split.fold={fold}", f"data.split.repeat={repeat}"]
            parts = fitted([*job["overrides"], *cut, "data.split.seed=0"], out / "runs" / f"{name}-{repeat}-{fold}")
            epochs.append(parts.trainer.current_epoch)
            validated[repeat, fold] = float(parts.trainer.checkpoint_callback.best_model_score)
            collect = CollectScores("test")
            parts.trainer.callbacks.append(collect)
            loop = {"datamodule": parts.data, "return_predictions": False}
            parts.trainer.predict(parts.model, ckpt_path="best", weights_only=False, **loop)
            held = task.fold[repeat] == fold
            ids, score = collect.joined()
            order, place = np.argsort(ids), np.flatnonzero(held)[np.argsort(task.id[held])]
            if not np.array_equal(ids[order], task.id[place]):
                raise SystemExit(f"Fold {fold} of repeat {repeat}: {len(ids)} rows, not the {held.sum()} expected.")
            found[repeat, place] = score[order]
    cost = clock.read()[1]
    np.save(out / f"{name}.npy", found)
    return {
        "learner": name,
        "task": task.about.name,
        "cpu_seconds": cost,
        "epochs": epochs,
        "validated_loss": validated.tolist(),
        "overrides": job["overrides"],
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
