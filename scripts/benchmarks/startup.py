"""How long a user waits before something happens.

    python scripts/benchmarks/startup.py --repeats 3

Prints the median wall time of whole commands: the menu and `--help` (must stay within 4 s on 2 cores) and the main job
under `debug=fdr`, which runs one training step, one validation step and one test step and is therefore an upper bound
of the time to the first step (must stay within 15 s). The main job reads COCO's folder layout; where COCO is not on
disk a small folder of rendered shelf photos in the same layout stands in for it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall time of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WANAMAKER_LOG_DIR": f"{folder}/logs"}
        if not (Path(environment.get("WANAMAKER_DATA_DIR", ROOT / "data")) / "coco" / "annotations").exists():
            data = Path(folder) / "data"
            render = ["scripts/render_shelf.py", "--out", str(data / "coco"), "--layout", "coco2017"]
            seconds([sys.executable, *render, "--train", "32", "--val", "16", "--test", "0"], environment)
            environment["WANAMAKER_DATA_DIR"] = str(data)
            options = ["data.num_classes=8", "data.categories=null"]
            print("COCO is not on disk: rendered shelf photos in COCO's layout stand in for it.")
        else:
            options = []
        commands = {
            "menu (python train.py)": (["train.py"], 4.0),
            "python train.py --help": (["train.py", "--help"], 4.0),
            "faster_rcnn_coco debug=fdr, whole command": (
                [
                    "train.py",
                    "experiment=faster_rcnn_coco",
                    "debug=fdr",
                    "model.net.weights=none",
                    "model.net.norm=sync",
                    "model.net.trainable_layers=null",
                    *options,
                ],
                15.0,
            ),
        }
        print(f"{'command':45s} {'median s':>9s} {'limit s':>8s}   of {repeats}")
        for name, (command, limit) in commands.items():
            times = [seconds([sys.executable, *command], environment) for _ in range(repeats)]
            print(f"{name:45s} {statistics.median(times):9.1f} {limit:8.0f}")


if __name__ == "__main__":
    main()
