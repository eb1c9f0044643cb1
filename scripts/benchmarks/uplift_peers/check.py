"""Scikit-uplift's Qini on scores that lie in files.

    python scripts/benchmarks/uplift_peers/check.py cases.json found.json

cases.json: pairs of a task's folder and an .npy file of effects [n, A, Y] of its test rows; found.json: for each the
Qini of the first offer on the first outcome. Tasks have one offer.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np


def main() -> None:
    """Read, score and write."""
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    warnings.simplefilter("ignore")
    from sklift.metrics import qini_auc_score

    from uplift_peers.task import Task

    found, tasks = [], {}
    for folder, scores in json.loads(Path(sys.argv[1]).read_text()):
        task = tasks.setdefault(folder, Task.read(Path(folder)))
        held = ~task.train
        score = np.load(scores)[:, 0, 0]
        found.append(float(qini_auc_score(task.outcome[held, 0], score, task.arm[held])))
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
