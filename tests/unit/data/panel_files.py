"""Small panels for tests: a frame with honest drivers, its roles, and reading of what is written to a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wanamaker.data.media_panel import MediaPanel
from wanamaker.data.panel_table import read_panel

ROLES: dict[str, Any] = {
    "date": "date",
    "kpi": "sales",
    "series": ["geo"],
    "media": ["tv", "radio"],
    "price": {"own": "price"},
}


def panel_frame(periods: int = 30, geos: tuple[str, ...] = ("north", "south"), freq: str = "W-MON", seed: int = 0):
    """Sales from two channels and a price, one row per geo and period."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2021-01-04" if freq != "MS" else "2021-01-01", periods=periods, freq=freq)
    N = periods * len(geos)
    tv, radio, price = rng.gamma(2, 50, N).round(2), rng.gamma(2, 20, N).round(2), rng.uniform(2, 4, N).round(2)
    sales = (rng.normal(700, 60, N) + tv - 60 * price).round(1)
    return pd.DataFrame(
        {
            "date": np.tile(dates.strftime("%Y-%m-%d"), len(geos)),
            "geo": np.repeat(geos, periods),
            "tv": tv,
            "radio": radio,
            "price": price,
            "sales": sales,
        }
    )


def write(folder: Path, frame: pd.DataFrame, name: str = "panel.csv") -> Path:
    path = folder / name
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def read(folder: Path, frame: pd.DataFrame, roles: dict[str, Any] | None = None, **options: Any) -> MediaPanel:
    """What a file with this content is read as; `changed` roles replace those of `ROLES`."""
    return read_panel(write(folder, frame, options.pop("name", "panel.csv")), {**ROLES, **(roles or {})}, **options)


def grid(frame: pd.DataFrame, column: str) -> np.ndarray:
    """[G, T] of a column, by pandas."""
    return frame.pivot(index="geo", columns="date", values=column).to_numpy(np.float32)
