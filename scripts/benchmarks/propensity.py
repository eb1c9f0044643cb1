"""Propensity beside its peers: churn and conversion tables, customer value, event logs whose truth is known, and speed.

    python scripts/benchmarks/propensity.py tables --out OUT --python peers/bin/python
    python scripts/benchmarks/propensity.py ltv --out OUT --python peers/bin/python
    python scripts/benchmarks/propensity.py simulated --out OUT
    python scripts/benchmarks/propensity.py speed --out OUT --parts sequence,stream,ranks

`propensity_peers/README.md` says how the peers' environment is made. Every fit is a process of its own on one thread
with limits on CPU-seconds and memory; what was fitted already is read from OUT (`--again` fits it anew), and without
`--python` the peers' results are only read. `--variants FILE` is a JSON object of names and lists of overrides of the
recipe; with several a row "chosen on training rows" takes, fold by fold, the one with the least cross-fitted loss on
the training rows, and nothing else may be chosen by. `--variants none` leaves ours out.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from uplift import numbers, variants


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tables", "ltv", "simulated", "speed"))
    parser.add_argument("--out", type=Path, required=True, help="folder of tasks and results")
    parser.add_argument("--python", help="interpreter of the peers' environment")
    parser.add_argument("--variants", help="JSON file, or none")
    parser.add_argument("--again", action="store_true", help="fit again what is there")
    parser.add_argument("--limit", type=float, default=1800.0, help="CPU-seconds of a process")
    parser.add_argument("--wall", type=float, default=7200.0, help="seconds")
    parser.add_argument("--memory", type=float, default=8.0, help="GB")
    home = Path(os.environ.get("WANAMAKER_DATA_DIR", "data"))
    parser.add_argument("--data", type=Path, default=home / "propensity", help="folder of the public tables")
    parser.add_argument("--tables", default="telco,shoppers,shoppers_page_values", help="tables")
    parser.add_argument("--repeats", type=int, default=3, help="of the five folds; speed: of a measurement")
    parser.add_argument("--presets", default="medium,order,sessions", help="simulated: kinds of logs")
    parser.add_argument("--seeds", type=numbers, default=[0], help="simulated: logs, 0-2")
    parser.add_argument("--customers", type=int, help="simulated: customers of a log, else the preset's")
    parser.add_argument("--parts", default="sequence,stream,ranks", help="speed")
    parser.add_argument("--events", type=int, default=10_000_000, help="speed: of the streamed log")
    arguments = parser.parse_args()
    from mix_peers.run import Limits
    from propensity_ours.fits import Plan

    limits = Limits(arguments.limit, arguments.wall, arguments.memory * 1e9)
    plan = Plan(arguments.out.resolve(), arguments.python, variants(arguments.variants), limits, arguments.again)
    if arguments.what in ("tables", "ltv"):
        from propensity_ours.tables import tables

        names = arguments.tables.split(",") if arguments.what == "tables" else ["cdnow"]
        print(tables(plan, arguments.data, names, arguments.repeats))
    elif arguments.what == "simulated":
        from propensity_ours.simulated import simulated

        print(simulated(plan, arguments.presets.split(","), arguments.seeds, arguments.customers))
    else:
        from propensity_ours.speed import speed

        print(speed(plan, arguments.parts.split(","), arguments.events, arguments.repeats))


if __name__ == "__main__":
    main()
