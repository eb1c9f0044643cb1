"""How long the neural mix trains on the size of the prior system's data.

    python scripts/benchmarks/nam_speed.py                     # 4,381 rows x 37 features x 200 epochs
    python scripts/benchmarks/nam_speed.py --members 16
    python scripts/benchmarks/nam_speed.py --rows 1000000 --epochs 1 --batch-size 8192

Writes a table of 13 series and 37 features (19 channels, 2 prices, 16 controls: the prior system's mix of features) and
runs `train.py` on it as a user would. Printed: seconds of the whole command and of its training alone, rows per second,
peak memory, and the ratio to the ten minutes that the prior system states for 200 epochs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
STATED_SECONDS = 600.0
CHANNELS, PRICES, CONTROLS = 19, 2, 16

DATA = """
defaults:
  - media_panel
  - _self_
path: {path}
roles:
  date: date
  kpi: sales
  series: [product]
  media: [{media}]
  price:
    own: {{column: price_0, direction: own}}
    rival: {{column: price_1, direction: cross}}
  control: [{controls}]
seasonality: {{yearly: 1}}
split: {{val: 14, test: 14}}
max_lag: 5
"""


def write_table(path: Path, rows: int, series: int) -> int:
    """A table of random features with a KPI that depends on them; returns its number of rows."""
    draw = np.random.default_rng(0)
    periods = rows // series
    count = series * periods
    media = draw.gamma(1.0, 100.0, (count, CHANNELS)) * (draw.random((count, CHANNELS)) > 0.3)
    price = 2.0 + draw.random((count, PRICES))
    control = draw.normal(size=(count, CONTROLS))
    sales = 1000 + media @ draw.uniform(0, 1, CHANNELS) - 200 * np.log(price[:, 0]) + 20 * control[:, 0]
    dates = pd.Timestamp("2015-01-01") + pd.to_timedelta(np.tile(np.arange(periods), series), "D")
    frame = pd.DataFrame({"date": dates, "product": np.repeat([f"p{g:05d}" for g in range(series)], periods)})
    frame["sales"] = sales + draw.normal(0, 50, count)
    for name, values in (("media", media), ("price", price), ("control", control)):
        frame = pd.concat(
            [frame, pd.DataFrame(values, columns=[f"{name}_{i}" for i in range(values.shape[1])])], axis=1
        )
    frame.to_parquet(path, index=False)
    return count


def main() -> None:
    """Write, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4381)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    given, options = parser.parse_known_args()
    whole, fits = [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        table = Path(folder) / "table.parquet"
        rows = write_table(table, given.rows, 13 if given.rows < 100_000 else given.rows // 400)
        media = ", ".join(f"media_{i}" for i in range(CHANNELS))
        controls = ", ".join(f"control_{i}" for i in range(CONTROLS))
        (Path(folder) / "data" / "speed.yaml").write_text(DATA.format(path=table, media=media, controls=controls))
        for number in range(given.repeats):
            command = [sys.executable, "train.py", "--config-dir", folder, "experiment=nam_panel", "data=speed"]
            command += [f"data.batch_size={given.batch_size}", "data.passes_per_epoch=1", f"run_id=speed{number}"]
            command += [f"trainer.max_epochs={given.epochs}", "trainer.check_val_every_n_epoch=50", "stages=[fit]"]
            command += [f"model.net.members={given.members}", "trainer=ddp_cpu", f"trainer.devices={given.ranks}"]
            environment = os.environ | {"WANAMAKER_LOG_DIR": folder, "OMP_NUM_THREADS": str(given.threads)}
            started = time.perf_counter()
            done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
            whole.append(time.perf_counter() - started)
            (found,) = Path(folder).glob(f"*/runs/speed{number}/metrics.json")
            summary = json.loads(found.read_text())
            fits.append((summary["seconds"], summary["metrics"].get("train/peak_memory_gb", float("nan"))))
    seconds, memory = float(np.median([s for s, _ in fits])), max(m for _, m in fits)
    features, command = CHANNELS + PRICES + CONTROLS, float(np.median(whole))
    print(f"{rows:,} rows x {features} features x {given.epochs} epochs; median of {given.repeats}")
    print(f"{given.members} member(s), batch {given.batch_size}, {given.ranks} rank(s) of {given.threads} thread(s)")
    print(f"training {seconds:.1f} s = {rows * given.epochs / seconds:,.0f} rows/s, peak memory {memory:.2f} GB")
    print(f"whole command {command:.1f} s; the ten stated minutes are {STATED_SECONDS / command:.1f} times that")


if __name__ == "__main__":
    main()
