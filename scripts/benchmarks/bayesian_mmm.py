"""The Bayesian mix on panels with known truth: how right, how sure, how fast, how large, and how it is misled.

    python scripts/benchmarks/bayesian_mmm.py truth --panels PANELS --peers RESULTS --out OURS
    python scripts/benchmarks/bayesian_mmm.py truth --panels PANELS --run-peers peers/bin/python --out OURS
    python scripts/benchmarks/bayesian_mmm.py scale --geos 100,1000,5000 --out OURS
    python scripts/benchmarks/bayesian_mmm.py endogeneity --presets national,geo --seeds 1,2,3 --out OURS

`PANELS` is a folder that `mix_peers/simulate.py` wrote, `RESULTS` the JSON files of `mix_peers/run.py` (Meridian needs
an environment of its own: run it there, and give its results with `--peers` beside `--run-peers` for the others).
Every fit is a process of its own on one thread (but for endogeneity, where nothing is timed); what was fitted already
is read from `OUT` (`--again` fits it anew). Options are those of the recipes `bayesian_mmm_recovery_*`. CPU-seconds do
not count imports. Nothing is chosen by the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
MECHANISMS = ("budget_feedback", "anticipation", "bursts", "bidding")
# Options of `Inference`: engines of the truth table, and of the scale table.
ENGINES = {"svi": {"engine": "svi", "seed": 1}, "hmc": {"engine": "hmc", "seed": 1}}
LARGE: dict[str, Any] = {
    "engine": "svi",
    "mode_steps": 200,
    "svi_steps": 100,
    "particles": 2,
    "khat_draws": 1000,
    "svi_draws": 400,
    "seed": 1,
}


def fit_once(job: dict[str, Any], out: Path, again: bool = False, apart: bool = True) -> dict[str, Any]:
    """The result of a job, fitted unless it is there already; `apart`: in a process of its own."""
    path = out / f"{job['name']}.json"
    if (again or not path.exists()) and not apart:
        from mix_ours.job import result_of

        path.write_text(json.dumps(result_of(job), indent=1))
    elif again or not path.exists():
        command = [sys.executable, str(FOLDER / "mix_ours" / "job.py"), json.dumps(job), str(path)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{job['name']} failed:\n{done.stdout}{done.stderr}")
    return json.loads(path.read_text())


def truth(arguments: argparse.Namespace) -> None:
    """Fit every panel with every engine, beside the peers."""
    from mix_ours.tables import truth_table

    folders = [arguments.panels / name for name in arguments.names.split(",")]
    rows = []
    if arguments.run_peers:
        run = [arguments.run_peers, str(FOLDER / "mix_peers" / "run.py"), "--tools", arguments.tools]
        subprocess.run([*run, "--out", str(arguments.peers), "--panels", *map(str, folders)], check=True)
    for folder in folders:
        for engine in arguments.engines.split(","):
            job = {"name": f"{engine}-{folder.name}", "kind": "folder", "folder": str(folder)}
            rows.append(fit_once(job | {"inference": ENGINES[engine]}, arguments.out, arguments.again))
        if arguments.peers:
            # A result of the peers carries the name of its panel.
            found = [json.loads(path.read_text()) for path in sorted(arguments.peers.glob("*.json"))]
            rows += [result for result in found if result.get("data") == folder.name]
    known = {f.name: json.loads((f / "truth.json").read_text())["contribution"] for f in folders}
    print(truth_table(rows, known))


def scale(arguments: argparse.Namespace) -> None:
    """Fit panels of growing size."""
    from mix_ours.tables import scale_table

    rows = []
    for geos in map(int, arguments.geos.split(",")):
        job: dict[str, Any] = {"name": f"scale-{geos}", "kind": "large", "geos": geos, "inference": LARGE}
        if arguments.batch_size:
            job |= {"name": f"scale-{geos}-batch{arguments.batch_size}", "batch_size": arguments.batch_size}
        rows.append(fit_once(job, arguments.out, arguments.again))
    print(scale_table(rows))


def endogeneity(arguments: argparse.Namespace) -> None:
    """Fit panels whose spend chases demand, without and with a proxy of demand among the controls."""
    from mix_ours.tables import endogeneity_table

    settings = {"off": (), **{name: (name,) for name in MECHANISMS}, "all": MECHANISMS}
    rows = []
    for seed in arguments.seeds.split(","):
        for preset in arguments.presets.split(","):
            for setting, active in settings.items():
                for defended in (False, True):
                    name = f"endogeneity-{preset}-{setting}-{'proxy' if defended else 'none'}-{seed}"
                    strengths = dict.fromkeys(active, 1.0)
                    job = {
                        "name": name,
                        "kind": "house",
                        "cache": str(arguments.out / "panels"),
                        "preset": preset,
                        "simulation": {
                            "seed": int(seed),
                            "endogeneity": strengths,
                            "demand": {"proxy": arguments.proxy},
                        },
                        "ignored": [] if defended else ["search_interest"],
                        "inference": ENGINES[arguments.engine],
                    }
                    about = {"preset": preset, "setting": setting, "defended": defended, "seed": int(seed)}
                    rows.append(fit_once(job, arguments.out, arguments.again, apart=False) | about)
                    print(name, flush=True, file=sys.stderr)
    print(endogeneity_table(rows))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("truth", "scale", "endogeneity"))
    parser.add_argument("--out", type=Path, required=True, help="folder of our results")
    parser.add_argument("--again", action="store_true", help="fit again what is there")
    known = "small-recovery,small-1,small-2,small-3,medium-recovery,medium-1,medium-2,medium-3"
    parser.add_argument("--panels", type=Path, help="truth: folder of panel folders")
    parser.add_argument("--names", default=known, help="truth: which of them")
    parser.add_argument("--engines", default="svi,hmc", help="truth")
    parser.add_argument("--peers", type=Path, help="truth: folder of the peers' results")
    parser.add_argument("--run-peers", help="truth: interpreter of the peers' environment; writes into --peers")
    parser.add_argument("--tools", default="pymc,numpyro", help="truth: peers to run")
    parser.add_argument("--geos", default="100,1000,5000", help="scale")
    parser.add_argument("--batch-size", type=int, help="scale: series per step of the guide")
    parser.add_argument("--presets", default="national,geo", help="endogeneity")
    parser.add_argument("--seeds", default="1,2,3", help="endogeneity")
    parser.add_argument("--engine", default="svi", choices=ENGINES, help="endogeneity")
    parser.add_argument("--proxy", type=float, default=0.8, help="endogeneity: its correlation with hidden demand")
    arguments = parser.parse_args()
    if arguments.what == "truth" and arguments.panels is None:
        parser.error("truth needs --panels")
    if arguments.run_peers and not arguments.peers:
        parser.error("--run-peers needs --peers, the folder of its results")
    arguments.out.mkdir(parents=True, exist_ok=True)
    {"truth": truth, "scale": scale, "endogeneity": endogeneity}[arguments.what](arguments)


if __name__ == "__main__":
    main()
