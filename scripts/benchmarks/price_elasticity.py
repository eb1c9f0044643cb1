"""Own-price elasticities and held-out weeks of Dominick's orange juice: the neural mix against log-log least squares.

    python scripts/benchmarks/price_elasticity.py              # scored on the validation weeks
    python scripts/benchmarks/price_elasticity.py --split test # once, at the end

Both learn from the same training weeks. The baseline is, for each brand, ordinary least squares of log units on the
log own price, deal and feature with a constant per store (`own`), or on all eleven log prices (`all prices`). Errors
are of log units (RMSE), and of units (wMAPE) with each method's median as its prediction. Options of train.py may
follow.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
BRANDS = range(1, 12)
# Log-log least squares on all weeks, as the study of the field has them: what the elasticities are held against.
PUBLISHED = np.array([-2.2, -1.5, -2.5, -3.0, -2.2, -1.9, -2.0, -2.0, -3.0, -2.8, -1.0])


def train(options: list[str], folder: Path) -> tuple[Any, float]:
    """Predictions of a run of `nam_orange_juice`, and its seconds."""
    from wanamaker.predictions import MixPredictions

    environment = os.environ | {"WANAMAKER_LOG_DIR": str(folder), "WANAMAKER_RUN_ID": "juice"}
    command = [sys.executable, "train.py", "experiment=nam_orange_juice", "stages=[fit,predict]", *options]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found = folder / "nam_orange_juice" / "runs" / "juice" / "predictions"
    return MixPredictions.read(found), time.perf_counter() - started


def own_elasticities(predictions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Elasticity at the reference price per brand, mean over its stores, and half the width of its 90 % interval."""
    response = predictions.response
    d = response.drivers.index("own")
    knot = int(np.argmin(np.abs(response.driver_grid[d])))
    value = response.driver_amplitude[:, :, d] * response.driver_slope[:, d, knot][:, None]  # [S, G]
    brand = np.array([int(name.rpartition("|")[2]) for name in response.series])
    per_brand = np.stack([value[:, brand == b].mean(1) for b in BRANDS], axis=1)  # [S, brands]
    low, high = np.quantile(per_brand, [0.05, 0.95], axis=0)
    return per_brand.mean(0), (high - low) / 2


def least_squares(table: pd.DataFrame, train: np.ndarray, own_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Own-price elasticity per brand, and the fitted log units of every row."""
    prices = np.log(table[[f"price{b}" for b in BRANDS]].to_numpy())
    elasticity, fitted = [], np.zeros(len(table))
    for b in BRANDS:
        rows = (table["brand"] == b).to_numpy()
        columns = prices[rows][:, [b - 1]] if own_only else prices[rows]
        design = np.column_stack([columns, table.loc[rows, ["deal", "feat"]]])
        log_units, store = table.loc[rows, "logmove"].to_numpy(), table.loc[rows, "store"].to_numpy()
        known = train[rows]
        means = pd.DataFrame(np.column_stack([design, log_units])[known]).groupby(store[known]).mean()
        centre = means.loc[store].to_numpy()
        coefficient, *_ = np.linalg.lstsq(
            (design - centre[:, :-1])[known], (log_units - centre[:, -1])[known], rcond=None
        )
        elasticity.append(coefficient[0 if own_only else b - 1])
        fitted[rows] = (design - centre[:, :-1]) @ coefficient + centre[:, -1]
    return np.array(elasticity), fitted


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        predictions, seconds = train(options, Path(folder))
    from wanamaker.predictions.mix import SPLITS

    table = pd.read_csv(Path(os.environ["WANAMAKER_DATA_DIR"]) / "retail" / "orange_juice" / "oj_panel.csv.gz")
    names = np.array(predictions.response.series, dtype=object)[predictions.series]
    week = (predictions.date - np.datetime64("1989-09-14")).astype(int) // 7 + 1
    keys = pd.DataFrame(
        {
            "store": [int(n.partition("|")[0]) for n in names],
            "brand": [int(n.rpartition("|")[2]) for n in names],
            "week": week,
            "split": np.array(SPLITS)[predictions.split],
            "ours": np.log(predictions.draws).mean(0),
        }
    )
    table = table.merge(keys, on=["store", "brand", "week"], validate="one_to_one")
    table = table[table["split"] != "none"].reset_index(drop=True)
    known = (table["split"] == "train").to_numpy()
    # Predictions are means; the median of each series lies lower by what its training weeks say.
    gap = (table["logmove"] - table["ours"])[known].groupby([table["store"], table["brand"]]).mean().rename("gap")
    table = table.merge(gap, on=["store", "brand"], how="left")
    fitted = {"neural mix": (table["ours"] + table["gap"]).to_numpy()}
    found = {"neural mix": own_elasticities(predictions)[0]}
    half = own_elasticities(predictions)[1]
    for name, own_only in (("least squares, own price", True), ("least squares, all prices", False)):
        found[name], fitted[name] = least_squares(table, known, own_only)
    rows = (table["split"] == arguments.split).to_numpy()
    truth = table.loc[rows, "logmove"].to_numpy()
    print(f"{'':26s} {'RMSE log':>9s} {'wMAPE':>7s}   own-price elasticity of brands 1..11   ({arguments.split} weeks)")
    for name, values in fitted.items():
        error = values[rows] - truth
        units = np.abs(np.exp(values[rows]) - np.exp(truth)).sum() / np.exp(truth).sum()
        print(
            f"{name:26s} {np.sqrt((error**2).mean()):9.4f} {units:7.4f}   {' '.join(f'{e:5.2f}' for e in found[name])}"
        )
    print(f"{'half of its 90 % interval':44s}   {' '.join(f'{h:5.2f}' for h in half)}   ({seconds:.0f} s)")
    ours = found["neural mix"]
    for name, others in (("published", PUBLISHED), *((name, found[name]) for name in list(found)[1:])):
        print(
            f"against {name:26s} median {np.median(ours):.2f} and {np.median(others):.2f}; "
            f"median deviation per brand {np.median(np.abs(ours / others - 1)):.0%}"
        )
    print(f"all negative: {'yes' if (ours < 0).all() else 'NO'}")


if __name__ == "__main__":
    main()
