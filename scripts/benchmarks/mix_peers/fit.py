"""Fit one of the other tools to one panel, in a process of its own, and write what it found and what it cost.

    python scripts/benchmarks/mix_peers/fit.py --tool pymc --data panels/medium-1 --seed 1 --out result.json

`--data` is a folder written by `data.py` or `simulate.py`. CPU-seconds are those of the fit from the panel in memory
to draws of the contributions, compilation included; importing the tool is counted apart. Meridian and the other two
cannot be installed together (see README.md): run it with the environment of the tool.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

MODULES = {"meridian": "fit_meridian", "pymc": "fit_pymc", "numpyro": "fit_numpyro"}
# One thread per process, so that CPU-seconds are work and not threads that wait for each other.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
XLA = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def main() -> None:
    """Parse, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", required=True, choices=MODULES)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("XLA_FLAGS", XLA)
    # Not this folder: its modules must not stand before installed packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from mix_peers.data import read_panel
    from mix_peers.measure import Clock, peak_rss_bytes, summarise

    panel = read_panel(arguments.data)
    clock = Clock()
    tool = importlib.import_module(f"mix_peers.{MODULES[arguments.tool]}")
    _, imported = clock.read()
    clock = Clock()
    fit = tool.fit(panel, arguments.chains, arguments.warmup, arguments.draws, arguments.seed)
    seconds, cpu = clock.read()
    result = {
        "tool": arguments.tool,
        "version": fit.version,
        "data": arguments.data.name,
        "chains": arguments.chains,
        "warmup": arguments.warmup,
        "draws": arguments.draws,
        "seed": arguments.seed,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "import_cpu_seconds": imported,
        "peak_rss_bytes": peak_rss_bytes(),
        "channels": list(panel.channels),
    }
    result |= summarise(fit, panel.spend.sum((0, 1)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
