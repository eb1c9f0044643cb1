"""Train a recipe of the uplift family on a task's rows, in a process of its own, and write what the peers write.

    python job.py '{"name": ..., "task": ..., "out": ..., "overrides": [...], "all_rows": false}'

`overrides` are those of train.py's command line, experiment=NAME first. <out>/<name>.npy holds effects [n, A, Y] of the
task's test rows (of all rows with `all_rows`), <name>-interval.npy their limits [2, n, A, Y], <name>.json the cost and
the scores that training rows gave the model by cross-fitting (`validated`): what settings may be chosen by.

CPU-seconds of the fit begin with the table on disk: reading, gates and statistics are part of it, unlike for the peers,
who are given arrays.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def composed(overrides: list[str], out: Path) -> Any:
    """The configuration that train.py would compose, with its files under `out`."""
    from hydra import compose, initialize_config_dir

    from wanamaker.runtime import schema

    root = FOLDER.parents[2]
    os.environ.setdefault("WANAMAKER_ROOT", str(root))
    os.environ["WANAMAKER_RUN_ID"] = out.name
    schema.register()
    # As train.py, which lets options be named that the recipe leaves at their defaults.
    named = [f"++{override}" if "." in override.split("=")[0] else override for override in overrides]
    with initialize_config_dir(str(root / "configs"), version_base="1.3"):
        config = compose("train", [*named, f"paths.output_dir='{out}'", "logger=none"])
    config.experiment = overrides[0].split("=")[1]  # by itself it asks a running Hydra application
    return config


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fit, validate and predict as the job says; the result."""
    import numpy as np
    import torch
    from lightning.pytorch import seed_everything
    from mix_peers.measure import Clock
    from uplift_peers.run import own_peak

    from uplift_ours.collect import CollectEffects, forward_rate
    from wanamaker.runtime.build import build
    from wanamaker.runtime.console import quieten

    torch.set_num_threads(1)
    out, name = Path(job["out"]), job["name"]
    spent = resource.getrusage(resource.RUSAGE_SELF)
    config = composed(job["overrides"], out / "runs" / name)
    quieten()
    seed_everything(config.seed, workers=True, verbose=False)
    before = own_peak()
    clock = Clock()
    parts = build(config)
    parts.trainer.fit(parts.model, datamodule=parts.data)
    fit = clock.read()
    epochs = parts.trainer.current_epoch
    after_fit = own_peak()
    parts.trainer.validate(parts.model, datamodule=parts.data, verbose=False)
    validated = {key: float(value) for key, value in parts.trainer.callback_metrics.items()}
    split = None if job.get("all_rows") else "test"
    about = json.loads((Path(job["task"]) / "task.json").read_text())
    collect = CollectEffects(split, about["outcomes"])
    parts.trainer.callbacks.append(collect)
    clock = Clock()
    parts.trainer.predict(parts.model, datamodule=parts.data, return_predictions=False)
    predict = clock.read()
    result = {
        "learner": name,
        "task": Path(job["task"]).name,
        "rows": [int(parts.data.num_train_rows), collect.seen],
        "fit_seconds": fit[0],
        "fit_cpu_seconds": fit[1],
        "predict_seconds": predict[0],
        "predict_cpu_seconds": predict[1],
        "import_cpu_seconds": spent.ru_utime + spent.ru_stime,
        "rss_before_bytes": before,
        "rss_after_fit_bytes": after_fit,
        "peak_rss_bytes": own_peak(),
        "epochs": epochs,
        "validated": validated,
        "overrides": job["overrides"],
    }
    if job.get("all_rows"):
        result["forward_rows_per_second"] = forward_rate(parts)
    found = collect.joined()
    np.save(out / f"{name}.npy", found.effect)
    np.save(out / f"{name}-interval.npy", np.stack([found.low, found.high]))
    np.save(out / f"{name}-treatment.npy", found.treatment.astype(np.int8))
    return result


def main() -> None:
    """Read the job, run it, write."""
    job = json.loads(sys.argv[1])
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(FOLDER.parent)
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    result = run(job)
    (out / f"{job['name']}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
