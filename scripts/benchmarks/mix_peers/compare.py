"""Results of `fit.py` beside the truth: one row per tool and panel.

    python scripts/benchmarks/mix_peers/compare.py results/*.json --panels panels

MAPE: mean over channels of |estimated / true total contribution - 1|. "90 %": how many 5-95 % intervals hold the
truth. "width": mean length of those intervals over the truth. "ESS/s": smallest effective sample size over the
contributions, per CPU-second of the fit. A file that has "failed" instead of numbers is shown with that text.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def judge(result: dict[str, Any], truth: np.ndarray) -> dict[str, float]:
    """Error and coverage of a result against the true contributions [C]."""
    mean, low, high = (np.array(result[f"contribution_{name}"]) for name in ("mean", "q05", "q95"))
    error = np.abs(mean / truth - 1)
    return {
        "mape": float(error.mean()),
        "worst": float(error.max()),
        "covered": int(((low <= truth) & (truth <= high)).sum()),
        "width": float(((high - low) / truth).mean()),
        "ess_per_cpu_second": result["contribution_ess_min"] / result["cpu_seconds"],
    }


def row(result: dict[str, Any], truth: np.ndarray) -> str:
    """One line of the table."""
    head = f"{result['data']:16s} {result['tool']:9s}"
    if "failed" in result:
        return f"{head} {result['failed']}"
    found = judge(result, truth)
    return (
        f"{head} {found['mape']:6.1%} {found['worst']:6.1%} {found['covered']:3d}/{len(truth):<2d} "
        f"{found['width']:6.2f} "
        f"{result['cpu_seconds']:7.1f} {result['seconds']:7.1f} {result['peak_rss_bytes'] / 1e9:5.2f} "
        f"{result['num_parameters']:5d} {result['rhat_max']:6.3f} {result['ess_bulk_min']:6.0f} "
        f"{result['contribution_rhat_max']:6.3f} {result['contribution_ess_min']:6.0f} "
        f"{found['ess_per_cpu_second']:7.2f} {result['divergences']:4d}"
    )


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--panels", required=True, type=Path, help="folder of the folders with truth.json")
    arguments = parser.parse_args()
    print(
        f"{'data':16s} {'tool':9s} {'MAPE':>6s} {'worst':>6s} {'90 %':>6s} {'width':>6s} {'CPU-s':>7s} {'wall-s':>7s} "
        f"{'GB':>5s} {'par.':>5s} {'R-hat':>6s} {'ESS':>6s} {'c.Rhat':>6s} {'c.ESS':>6s} {'ESS/s':>7s} {'div.':>4s}"
    )
    results = [json.loads(path.read_text()) for path in arguments.results]
    for result in sorted(results, key=lambda result: (result["data"], result["tool"])):
        truth = json.loads((arguments.panels / result["data"] / "truth.json").read_text())
        print(row(result, np.array(truth["contribution"])))


if __name__ == "__main__":
    main()
