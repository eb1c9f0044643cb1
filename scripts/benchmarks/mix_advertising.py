"""The file of System 1 (mmm/advertising_weekly_composite): the Bayesian mix against least squares, on the same split.

    python scripts/benchmarks/mix_advertising.py
    python scripts/benchmarks/mix_advertising.py --experiment bayesian_mmm_advertising model.inference.engine=hmc

176 rows are learnt and the last 24 tested, as System 1 had it. Least squares has an intercept and the four media as
they are, which gives R2 .905 and MAPE 11.8 % on those 24. The file is the cross-sectional Advertising table of ISLR
under invented dates: the script prints the autocorrelation of its rows, which is none but in the invented channel. A
model of time can gain nothing here from carry-over, trend or season, and any it reports is noise; only the shape of
the response is there to be found. Options of train.py may follow.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TEST = 24


def table() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """KPI [N], media [N, C] and their names, in the order of the file; the empty rows at its end are left out."""
    import pandas as pd

    path = Path(os.environ["WANAMAKER_DATA_DIR"]) / "mmm" / "advertising_weekly_composite" / "MMM_Data.csv"
    frame = pd.read_csv(path).dropna(subset=["Sales"])
    names = ("TV", "Radio", "Newspaper", "Social Media")
    return frame["Sales"].to_numpy(float), frame[list(names)].to_numpy(float), names


def scores(kpi: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """R2 and MAPE."""
    r2 = 1 - np.square(kpi - prediction).sum() / np.square(kpi - kpi.mean()).sum()
    return float(r2), float(np.abs(prediction / kpi - 1).mean())


def least_squares(kpi: np.ndarray, media: np.ndarray) -> np.ndarray:
    """Predictions of all rows [N] by an intercept and the media, from all rows but the last `TEST`."""
    design = np.column_stack([np.ones(len(kpi)), media])
    coefficients, *_ = np.linalg.lstsq(design[:-TEST], kpi[:-TEST], rcond=None)
    return design @ coefficients


def train(experiment: str, folder: Path, options: list[str]) -> Any:
    """Predictions of a run of train.py."""
    from wanamaker.predictions import MixPredictions

    environment = os.environ | {"WANAMAKER_LOG_DIR": str(folder), "WANAMAKER_RUN_ID": "advertising"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    command = [sys.executable, "train.py", f"experiment={experiment}", "stages=[fit,test,predict]", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (found,) = folder.glob("*/runs/advertising/predictions")
    return MixPredictions.read(found)


def main() -> None:
    """Parse, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="bayesian_mmm_advertising")
    arguments, options = parser.parse_known_args()
    kpi, media, names = table()
    lag_one = {
        name: np.corrcoef(x[:-1], x[1:])[0, 1] for name, x in (("Sales", kpi), *zip(names, media.T, strict=True))
    }
    print(
        "Warning: these rows are no time series (ISLR's cross-section under invented dates). Correlation with the row "
        "before: " + ", ".join(f"{name} {value:+.3f}" for name, value in lag_one.items()) + "."
    )
    with tempfile.TemporaryDirectory() as folder:
        predictions = train(arguments.experiment, Path(folder), options)
    order = np.argsort(predictions.date)
    draws = predictions.draws[:, order].astype(float)
    if not np.allclose(predictions.kpi[order], kpi):
        raise SystemExit("The recipe reads other rows than this script.")
    rows = {"least squares, 4 media": least_squares(kpi, media), arguments.experiment: draws.mean(0)}
    print(f"{'':28s} {'R2':>6s} {'MAPE':>7s}   {'R2, learnt':>10s} {'MAPE':>7s}")
    for name, prediction in rows.items():
        tested, learnt = scores(kpi[-TEST:], prediction[-TEST:]), scores(kpi[:-TEST], prediction[:-TEST])
        print(f"{name:28s} {tested[0]:6.3f} {tested[1]:7.1%}   {learnt[0]:10.3f} {learnt[1]:7.1%}")


if __name__ == "__main__":
    main()
