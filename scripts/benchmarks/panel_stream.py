"""Reading a long panel: rows per second and memory of `read_panel`, against plain pandas in the same run.

    python scripts/benchmarks/panel_stream.py                  # 1,000,000 rows x 20 number columns, CSV and Parquet
    python scripts/benchmarks/panel_stream.py --rows 200000 --repeats 1
    python scripts/benchmarks/panel_stream.py --rows 4000000 --only parquet

The target: one million rows are read without ever being in memory twice: the peak above the start stays well below
twice the arrays of the finished panel.

The data are seeded: 2,000 series x 500 days (or what --rows asks for, 500 days each), 8 channels with spend and
impressions, an own price, a promotion and a control, in an order that has nothing to do with series or date. Each way
reads in a process of its own, --repeats times; medians are printed. "Peak" is the largest resident size of the process
minus that before reading (the libraries are imported and have read a small file by then). `read_panel` also finds the
calendar, sorts, checks every cell and looks for leaks; "unchecked" is the same without the checks of the whole panel.
pandas only reads: `read_csv` and `read_parquet` with the same columns, and nothing is checked or arranged.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

WAYS = ("ours", "ours_unchecked", "pandas")
PERIODS = 500
CHANNELS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="csv,parquet", help="comma-separated, of csv, parquet")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), args.rows, args.seed)
        print(f"{args.rows:,} rows x {len(number_columns())} number columns, medians of {args.repeats}")
        print(f"{'file':<9}{'way':<16}{'seconds':>9}{'rows/s':>12}{'peak MB':>9}{'result MB':>11}{'peak / result':>15}")
        for kind in args.only.split(","):
            size = files[kind].stat().st_size / 1e6
            for way in WAYS:
                runs = [measure(way, files[kind]) for _ in range(args.repeats)]
                seconds, peak, result = (
                    statistics.median(run[key] for run in runs) for key in ("seconds", "peak", "result")
                )
                print(
                    f"{kind:<9}{way:<16}{seconds:>9.2f}{args.rows / seconds:>12,.0f}{peak:>9.0f}{result:>11.0f}"
                    f"{peak / result:>15.2f}"
                )
            print(f"{'':<9}the file has {size:,.0f} MB")


def number_columns() -> list[str]:
    media = [f"{what}_{c}" for c in range(CHANNELS) for what in ("spend", "impressions")]
    return ["sales", *media, "price", "promo", "weather"]


def roles() -> dict:
    return {
        "date": "date",
        "kpi": "sales",
        "series": ["store"],
        "media": {f"c{c}": {"spend": f"spend_{c}", "exposure": f"impressions_{c}"} for c in range(CHANNELS)},
        "price": {"own": "price"},
        "promotion": ["promo"],
        "control": ["weather"],
    }


def write_files(folder: Path, rows: int, seed: int) -> dict[str, Path]:
    """The same table as CSV and as Parquet, written part by part; and a small one to warm up."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    files = {}
    for name, count in (("small", PERIODS * 4), ("panel", rows)):
        order = rng.permutation(count)
        csv, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
        sinks = None
        for start in range(0, count, 100_000):
            part = order[start : start + 100_000]
            days = np.datetime64("2023-01-01") + part % PERIODS
            columns = {
                "date": days.astype("datetime64[D]").astype(str),
                "store": [f"s{g:05d}" for g in part // PERIODS],
            }
            columns |= {name: np.round(rng.gamma(2.0, 50.0, len(part)), 2) for name in number_columns()}
            table = pa.table(columns)
            if sinks is None:
                sinks = pacsv.CSVWriter(csv, table.schema), pq.ParquetWriter(parquet, table.schema)
            for sink in sinks:
                sink.write_table(table)
        for sink in sinks:
            sink.close()
        if name == "panel":
            files = {"csv": csv, "parquet": parquet}
    return files


def measure(way: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", way, "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def work(way: str, file: Path) -> None:
    logging.disable(logging.WARNING)
    read(way, file.with_stem("small"))  # imports, thread pools, allocators
    before = resident()
    high = Watch()
    start = time.perf_counter()
    result = read(way, file)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": (high.stop() - before) / 1e6, "result": result / 1e6}))


def read(way: str, file: Path) -> int:
    """Read the file; bytes of what is handed over."""
    columns = ["date", "store", *number_columns()]
    if way == "pandas":
        import pandas as pd

        frame = pd.read_csv(file, usecols=columns) if file.suffix == ".csv" else pd.read_parquet(file, columns=columns)
        return int(frame.memory_usage(deep=True).sum())
    from wanamaker.data import panel_table

    if way == "ours_unchecked":
        panel_table.check_panel = lambda *_, **__: panel_table.PanelReport("")
    panel = panel_table.read_panel(file, roles())
    arrays = (panel.kpi, panel.media, panel.spend, panel.price, panel.promotion, panel.control)
    return sum(array.nbytes for array in arrays)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    import psutil

    return psutil.Process().memory_info().rss


class Watch(threading.Thread):
    """The largest resident size from its making on, looked at every millisecond; at the end, what the kernel saw."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.high, self.done = resident(), threading.Event()
        self.kernel = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.001):
            self.high = max(self.high, resident())

    def stop(self) -> int:
        self.done.set()
        self.join()
        kernel = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # the kernel's number is exact, but also knows the time before; it counts if it has grown
        return max(self.high, kernel * 1024 if kernel > self.kernel else 0)


if __name__ == "__main__":
    main()
