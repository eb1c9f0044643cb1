"""Fit learners to every fold of a task and write what they predict out of fold, and what it cost.

    python scripts/benchmarks/propensity_peers/fit.py --task tasks/telco --learners logistic --out results/telco

<out>/<learner>.npy holds predictions [R, N], each row's by the fit that did not see it; <learner>.json the CPU-seconds
of fitting and predicting all folds. Learners are those of `learners.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

DISTRIBUTIONS = ("lightgbm", "scikit-learn", "scipy", "numpy")


def main() -> None:
    """Parse, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, type=Path)
    parser.add_argument("--learners", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the trees")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    warnings.simplefilter("ignore")  # about names of columns that arrays do not have

    import numpy as np
    from mix_peers.measure import Clock

    from propensity_peers.learners import LEARNERS
    from propensity_peers.task import Task

    task = Task.read(arguments.task)
    repeats, folds = task.shape
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.learners.split(","):
        result = {"learner": name, "task": task.about.name}
        found = np.full(task.fold.shape, np.nan)
        clock = Clock()
        try:
            for repeat in range(repeats):
                for fold in range(folds):
                    held = task.fold[repeat] == fold
                    parts = np.flatnonzero(~held), np.flatnonzero(held)
                    found[repeat, held] = LEARNERS[name](task, *parts, arguments.seed)
        except Exception as error:  # a package that refuses a task is a finding, and the others shall go on
            result["failed"] = f"{type(error).__name__}: {error}"
        else:
            np.save(arguments.out / f"{name}.npy", found)
        result["cpu_seconds"] = clock.read()[1]
        result["versions"] = {package: version(package) for package in DISTRIBUTIONS}
        (arguments.out / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(name, result.get("failed", f"{result['cpu_seconds']:.1f} CPU-s"), flush=True)


if __name__ == "__main__":
    main()
