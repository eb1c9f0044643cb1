"""Fit learners to a task, one after the other, and write what they predict for every row and what it cost.

    python scripts/benchmarks/uplift_peers/fit.py --task tasks/womens-0 --learners plain-linear-t,causalml-xgb_small-x \
        --out results/womens-0

A learner is named tool-base-kind: tool plain (our own few lines, `learners.py`), causalml or econml; base one of
`bases.py`; kind s, t, x, dr, r, mu0 or constant. For each, <learner>.npy holds effects [n, A, Y] of the rows that are
not for training (of all with --all-rows), and <learner>.json the CPU-seconds of fitting and predicting, which do not
count imports. Peak memory is that of the process: give a single learner to know it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

DISTRIBUTIONS = ("lightgbm", "xgboost", "causalml", "econml", "scikit-learn", "numpy")


def main() -> None:
    """Parse, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, type=Path)
    parser.add_argument("--learners", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the trees and the folds")
    parser.add_argument("--all-rows", action="store_true", help="predict the training rows as well")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    warnings.simplefilter("ignore")  # the packages' own, about versions of each other

    import numpy as np
    from mix_peers.measure import Clock, cpu_seconds

    from uplift_peers.bases import base
    from uplift_peers.learners import PLAIN, Rows
    from uplift_peers.packages import PACKAGES
    from uplift_peers.run import own_peak
    from uplift_peers.task import Task

    learners = [name.split("-") for name in arguments.learners.split(",")]
    for tool in {tool for tool, _, _ in learners} - {"plain"}:
        __import__({"causalml": "causalml.inference.meta", "econml": "econml.dr"}[tool])
    imported = cpu_seconds()
    task = Task.read(arguments.task)
    about, train = task.about, task.train
    x_train, arm = task.numeric[train], task.arm[train].astype(np.int64)
    x_new = task.numeric if arguments.all_rows else task.numeric[~train]
    before = own_peak()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for tool, trees, kind in learners:
        name = f"{tool}-{trees}-{kind}"
        learn = PLAIN[kind] if tool == "plain" else PACKAGES[tool, kind]
        result = {"learner": name, "task": about.name, "rows": [int(train.sum()), len(x_new)]}
        effects, spent = [], np.zeros((2, 2))
        try:
            for y, of_kind in enumerate(about.kinds):
                outcome = task.outcome[train, y]
                rows = Rows(x_train, arm, outcome, of_kind == "binary", about.randomised, len(about.arms))
                clock = Clock()
                predict = learn(rows, base(trees, arguments.seed), arguments.seed)
                spent[0] += clock.read()
                clock = Clock()
                effects.append(np.asarray(predict(x_new), np.float64))
                spent[1] += clock.read()
        except Exception as error:  # a package that refuses a task is a finding, and the others shall go on
            result |= {"failed": f"{type(error).__name__}: {error}"}
        else:
            np.save(arguments.out / f"{name}.npy", np.stack(effects, axis=-1))
        result |= {
            "fit_seconds": spent[0, 0],
            "fit_cpu_seconds": spent[0, 1],
            "predict_seconds": spent[1, 0],
            "predict_cpu_seconds": spent[1, 1],
            "import_cpu_seconds": imported,
            "rss_before_bytes": before,
            "peak_rss_bytes": own_peak(),
            "versions": {package: version(package) for package in DISTRIBUTIONS},
        }
        (arguments.out / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(name, result.get("failed", f"{spent[:, 1].sum():.1f} CPU-s"), flush=True)


if __name__ == "__main__":
    main()
