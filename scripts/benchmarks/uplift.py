"""Uplift beside its peers: Hillstrom's experiment, campaigns whose effects are known, and speed.

    python scripts/benchmarks/uplift.py hillstrom --out OUT --python peers/bin/python --data hillstrom.csv
    python scripts/benchmarks/uplift.py simulated --out OUT --python peers/bin/python --presets two_arms,offers
    python scripts/benchmarks/uplift.py speed --out OUT --python peers/bin/python --sizes 64000,1000000,10000000

`uplift_peers/README.md` says how the peers' environment is made. Every fit is a process of its own on one thread with
limits on CPU-seconds and memory; what was fitted already is read from OUT (`--again` fits it anew), and without
`--python` the peers' results are only read. `--variants FILE` is a JSON object of names and lists of overrides of the
recipe; with several a row "chosen on training rows" takes, task by task, the one with the least cross-fitted loss on
the training rows, and nothing else may be chosen by. `--variants none` leaves ours out.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def numbers(text: str) -> list[int]:
    """Whole numbers from "0-9" or "0,3,5"."""
    if "-" in text:
        first, last = map(int, text.split("-"))
        return list(range(first, last + 1))
    return [int(part) for part in text.split(",")]


def variants(text: str | None) -> dict[str, list[str]]:
    """Our variants: the recipe as it is, none, or those of a file."""
    if text is None:
        return {"recipe": []}
    return {} if text == "none" else json.loads(Path(text).read_text())


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hillstrom", "simulated", "speed"))
    parser.add_argument("--out", type=Path, required=True, help="folder of tasks and results")
    parser.add_argument("--python", help="interpreter of the peers' environment")
    parser.add_argument("--variants", help="JSON file, or none")
    parser.add_argument("--again", action="store_true", help="fit again what is there")
    parser.add_argument("--limit", type=float, default=900.0, help="CPU-seconds of a process")
    parser.add_argument("--wall", type=float, default=7200.0, help="seconds")
    parser.add_argument("--memory", type=float, default=12.0, help="GB")
    parser.add_argument("--seeds", type=numbers, help="hillstrom: of the splits, 0-9; simulated: campaigns, 0-2")
    home = Path(os.environ.get("WANAMAKER_DATA_DIR", "data"))
    parser.add_argument("--data", type=Path, default=home / "uplift" / "hillstrom" / "hillstrom.csv", help="hillstrom")
    parser.add_argument("--contrasts", default="womens,mens,any,three,sales", help="hillstrom")
    parser.add_argument("--presets", default="two_arms,offers,confounded,placebo", help="simulated")
    parser.add_argument("--outcomes", default="visit,spend", help="simulated")
    parser.add_argument("--rows", type=int, help="simulated: rows of a campaign, else the preset's")
    parser.add_argument("--sizes", default="64000,1000000,10000000", help="speed")
    parser.add_argument("--recipes", default="x_learner_large", help="speed: ours, x_learner_large,x_learner_simulated")
    parser.add_argument("--epochs", type=int, help="speed: most epochs of each of our stages, else the recipe's")
    parser.add_argument("--peers", help="speed: learners of uplift_peers/fit.py")
    arguments = parser.parse_args()
    from mix_peers.run import Limits
    from uplift_ours.fits import Plan

    out = arguments.out.resolve()
    limits = Limits(arguments.limit, arguments.wall, arguments.memory * 1e9)
    plan = Plan(out, arguments.python, variants(arguments.variants), limits, arguments.again)
    if arguments.what == "hillstrom":
        from uplift_ours.hillstrom import hillstrom

        print(hillstrom(plan, arguments.data, arguments.seeds or list(range(10)), arguments.contrasts.split(",")))
    elif arguments.what == "simulated":
        from uplift_ours.simulated import simulated

        outcomes = tuple(arguments.outcomes.split(","))
        seeds = arguments.seeds or [0, 1, 2]
        print(simulated(plan, arguments.presets.split(","), seeds, outcomes, arguments.rows))
    else:
        from uplift_ours.speed import PEERS, speed

        peers = arguments.peers.split(",") if arguments.peers else list(PEERS)
        seed = arguments.seeds[0] if arguments.seeds else 0
        sizes = [int(size) for size in arguments.sizes.split(",")]
        print(speed(plan, sizes, arguments.recipes.split(","), arguments.epochs, peers, seed))


if __name__ == "__main__":
    main()
