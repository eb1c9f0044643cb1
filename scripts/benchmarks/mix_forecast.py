"""Walk-forward forecasts of eleckart: the neural mix against ridge regression with the same features and naive ones.

    python scripts/benchmarks/mix_forecast.py              # settings are chosen here: weeks before any test week
    python scripts/benchmarks/mix_forecast.py --split test # once, at the end: the five folds of the recipe

A fold trains on its first weeks, leaves four for validation and tests the four after them. The validation weeks of
later folds are test weeks of earlier ones, so `val` lays further folds over the weeks before the first test week and
scores their eight weeks. Everything that learns has seen the training weeks of the fold and nothing else; prices,
discounts, delivery times, events and media of the forecast weeks are known to the mix and to ridge, the KPI is not.

- neural mix: `train.py experiment=nam_eleckart`, mean over the members (`median` with --centre median).
- ridge: a constant per series (not penalised) and log price, discount, controls, calendar columns and, as System 2
  had them, log1p of media with fixed decays; on the KPI over its mean in training and on its logarithm. The penalty
  is the best of 25 on the last weeks of training, from three earlier origins; so is the form of "ridge, chosen".
  "per series" adds every slope times every series.
- naive: the last value, the mean of the last four weeks, and the last four weeks repeated (the season that one year
  of weeks allows is the month). Those of training know what the models know; "+ val" have seen the KPI of the
  validation weeks too, which the models have not.

wMAPE is the sum of absolute errors over the sum of the KPI; R2 is over all rows of the folds. Options of train.py may
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

ROOT = Path(__file__).resolve().parents[2]
# Decay and number of lags of each channel in System 2.
CARRY = {
    "TV": (0.7, 4),
    "Sponsorship": (0.8, 5),
    "ContentMarketing": (0.6, 3),
    "Digital": (0.5, 3),
    "SEM": (0.3, 2),
    "Affiliates": (0.4, 2),
    "OnlineMarketing": (0.4, 3),
    "Radio": (0.6, 3),
    "Other": (0.0, 0),
}
PENALTIES = np.logspace(-2, 4, 25)
# Nine folds from week 12 on: the last five are those of configs/data/eleckart.yaml, the first end before their tests.
LAYOUT = ["data.split.folds=9", "data.split.window=12"]
FOLDS = {"val": range(2, 4), "test": range(4, 9)}


def train(fold: int, experiment: str, options: list[str], folder: Path) -> tuple[Any, Any]:
    """Predictions of one fold, and the data module of the same configuration."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from wanamaker.predictions import MixPredictions

    run_id = f"fold-{fold}"
    environment = os.environ | {"WANAMAKER_LOG_DIR": str(folder), "WANAMAKER_RUN_ID": run_id}
    environment.setdefault("OMP_NUM_THREADS", "1")
    command = [sys.executable, "train.py", f"experiment={experiment}", "stages=[fit,predict]", *LAYOUT]
    command += [f"data.split.fold={fold}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    (found,) = folder.glob(f"*/runs/{run_id}")
    data = instantiate(OmegaConf.load(found / ".hydra" / "config.yaml").data, _convert_="all")
    data.setup("fit")
    return MixPredictions.read(found / "predictions"), data


def features(data: Any) -> np.ndarray:
    """What the mix sees, as ridge sees it: [G, T, number of features]."""
    panel = data.panel
    G, T = panel.kpi.shape
    columns = []
    for c, channel in enumerate(panel.schema.media):
        decay, lags = CARRY[channel]
        media = panel.media[..., c].astype(np.float64)
        carried = np.zeros_like(media)
        for lag in range(lags + 1):
            carried[:, lag:] += decay**lag * media[:, : T - lag]
        columns.append(np.log1p(carried))
    calendar = np.concatenate([data.season, data.trend], axis=1)
    blocks = [np.stack(columns, -1), np.log(panel.price), panel.promotion, panel.control]
    return np.concatenate([*blocks, np.broadcast_to(calendar, (G, *calendar.shape))], axis=-1).astype(np.float64)


def ridge(kpi: np.ndarray, x: np.ndarray, train: np.ndarray, penalty: float, log: bool, per_series: bool) -> np.ndarray:
    """Fitted and forecast KPI [G, T] from the training rows.

    Args:
        kpi: [G, T].
        x: features [G, T, N].
        train: bool [G, T].
        penalty: on the squares of the slopes of standardised features.
        log: explain the logarithm.
        per_series: slopes of each series beside the common ones.
    """
    G = len(kpi)
    known = np.where(train, kpi, np.nan).astype(np.float64)
    scale = np.nanmean(known, axis=1, keepdims=True)
    sd = x[train].std(0)
    z = (x - x[train].mean(0)) / np.where(sd > 0, sd, 1.0)
    if per_series:
        own = np.eye(G)[:, None, :, None] * z[:, :, None, :]  # [G, T, G, N]
        z = np.concatenate([z, own.reshape(*z.shape[:2], -1)], axis=-1)
    y = np.log(known / scale) if log else known / scale
    # Centred within each series: a constant per series that no penalty holds.
    z = z - np.nanmean(np.where(train[..., None], z, np.nan), axis=1, keepdims=True)
    level = np.nanmean(y, axis=1, keepdims=True)
    rows = z[train]
    slopes = np.linalg.solve(rows.T @ rows + penalty * np.eye(rows.shape[1]), rows.T @ (y - level)[train])
    fitted = z @ slopes + level
    return (np.exp(fitted) if log else fitted) * scale


def chosen_ridge(data: Any, per_series: bool) -> dict[bool, tuple[float, float, np.ndarray]]:
    """Per form (on the logarithm or not): inner error, penalty and forecast [G, T]."""
    kpi, x, known = data.panel.kpi, features(data), data.train_mask
    stop, length = int(np.flatnonzero(known.any(0))[-1]) + 1, data.split_options["test"]
    week = np.arange(known.shape[1])
    found = {}
    for log in (False, True):
        errors = np.zeros(len(PENALTIES))
        for origin in (stop - length, stop - 2 * length, stop - 3 * length):
            inner = known & (week < origin)
            later = known & (week >= origin) & (week < origin + length) & inner.any(1, keepdims=True)
            have = inner.any(1)  # a series that begins later has nothing to learn from yet
            for i, penalty in enumerate(PENALTIES):
                fitted = ridge(kpi[have], x[have], inner[have], penalty, log, per_series)
                errors[i] += np.abs(fitted - kpi[have])[later[have]].sum()
        best = int(errors.argmin())
        found[log] = errors[best], PENALTIES[best], ridge(kpi, x, known, PENALTIES[best], log, per_series)
    return found


def naives(kpi: np.ndarray, origin: int) -> dict[str, np.ndarray]:
    """Forecasts [G, T] from the observed weeks before `origin`."""
    T = kpi.shape[1]
    seen = [row[:origin][np.isfinite(row[:origin])].astype(np.float64)[-4:] for row in kpi]
    ahead = np.arange(T) - origin
    return {
        "last value": np.stack([np.full(T, row[-1]) for row in seen]),
        "mean of 4 weeks": np.stack([np.full(T, row.mean()) for row in seen]),
        "seasonal (4 weeks)": np.stack([row[ahead % len(row)] for row in seen]),
    }


def forecasts(data: Any, predictions: Any, centre: str) -> dict[str, np.ndarray]:
    """Every method's forecast [G, T] of a fold."""
    kpi, chosen = data.panel.kpi, data.folds[data.fold]
    ours = np.full(kpi.size, np.nan)
    ours[predictions.row] = getattr(np, centre)(predictions.draws, axis=0)
    out = {"neural mix": ours.reshape(kpi.shape)}
    for per_series in (False, True):
        found = chosen_ridge(data, per_series)
        words = ", per series" if per_series else ""
        for log, (_, _, fitted) in found.items():
            out[f"ridge{words}, {'log' if log else 'linear'}"] = fitted
        out[f"ridge{words}, chosen"] = min(found.values(), key=lambda form: form[0])[2]
    out |= {f"naive: {name}": value for name, value in naives(kpi, chosen.train[1]).items()}
    before_test = naives(kpi, chosen.test[0])
    weeks = np.arange(kpi.shape[1]) >= chosen.test[0]
    # Validation weeks themselves are forecast from the end of training by either.
    out |= {
        f"naive + val: {name}": np.where(weeks, value, out[f"naive: {name}"]) for name, value in before_test.items()
    }
    return out


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=tuple(FOLDS), default="val")
    parser.add_argument("--experiment", default="nam_eleckart")
    parser.add_argument("--centre", choices=("mean", "median"), default="mean", help="over the members")
    parser.add_argument("--detail", action="store_true", help="also the errors per series and per week")
    arguments, options = parser.parse_known_args()
    started = time.perf_counter()
    rows: dict[str, list[np.ndarray]] = {}
    truth, series, weeks, names = [], [], [], ()
    with tempfile.TemporaryDirectory() as folder:
        for fold in FOLDS[arguments.split]:
            predictions, data = train(fold, arguments.experiment, options, Path(folder))
            chosen = data.folds[data.fold]
            start, stop = chosen.test if arguments.split == "test" else (chosen.val[0], chosen.test[1])
            observed = np.isfinite(data.panel.kpi[:, start:stop])
            for name, value in forecasts(data, predictions, arguments.centre).items():
                rows.setdefault(name, []).append(value[:, start:stop][observed])
            truth.append(data.panel.kpi[:, start:stop][observed].astype(np.float64))
            g, t = np.nonzero(observed)
            series.append(g)
            weeks.append(t + start)
            names = data.panel.schema.series
            span = f"{data.panel.dates[start]} to {data.panel.dates[stop - 1]}"
            print(f"fold {fold}: trained to {data.panel.dates[chosen.train[1] - 1]}, scored {span}", file=sys.stderr)
    report(rows, truth, arguments.split, time.perf_counter() - started)
    if arguments.detail:
        detail(rows, truth, series, weeks, names)


def report(rows: dict[str, list[np.ndarray]], truth: list[np.ndarray], split: str, seconds: float) -> None:
    """Print wMAPE per fold and pooled, R2, and the neural mix's error over each other's."""
    every = np.concatenate(truth)
    total = {name: np.abs(np.concatenate(values) - every).sum() for name, values in rows.items()}
    heads = "".join(f"  fold {i}" for i in range(len(truth)))
    print(f"{'wMAPE of ' + split + ' weeks':32s}{heads}  pooled      R2   bias  mix / this")
    for name, values in rows.items():
        folds = "".join(f"{np.abs(v - y).sum() / y.sum():8.3f}" for v, y in zip(values, truth, strict=True))
        value = np.concatenate(values)
        r2 = 1 - ((value - every) ** 2).sum() / ((every - every.mean()) ** 2).sum()
        bias = value.sum() / every.sum() - 1
        ratio = total["neural mix"] / total[name]
        print(f"{name:32s}{folds}{total[name] / every.sum():8.4f}{r2:8.3f}{bias:+7.1%}{ratio:9.3f}")
    print(f"{len(every)} rows, {len(truth)} folds, {seconds:.0f} s")


def detail(
    rows: dict[str, list[np.ndarray]],
    truth: list[np.ndarray],
    series: list[np.ndarray],
    weeks: list[np.ndarray],
    names: tuple[str, ...],
) -> None:
    """Print where the errors are: series and weeks, of the neural mix and of three others."""
    every, shown = np.concatenate(truth), ["neural mix", "ridge, chosen", "naive: mean of 4 weeks"]
    errors = {name: np.abs(np.concatenate(rows[name]) - every) for name in shown}
    keys = {"series": np.concatenate(series), "week": np.concatenate(weeks)}
    for title, key in keys.items():
        print(f"\n{title:20s} part of KPI   part of error   " + "   ".join(shown))
        for i in np.unique(key):
            at = key == i
            label = names[i] if title == "series" else f"{i + 1}"
            ours = errors["neural mix"][at].sum() / errors["neural mix"].sum()
            own = "   ".join(f"{error[at].sum() / every[at].sum():10.3f}" for error in errors.values())
            print(f"{label:20s}{every[at].sum() / every.sum():11.1%} {ours:14.1%}   {own}")


if __name__ == "__main__":
    main()
