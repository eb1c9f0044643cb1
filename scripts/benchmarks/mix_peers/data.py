"""Panels as the peers read them: a folder with `panel.parquet`, `panel.json` and, where it is known, `truth.json`.

- panel.parquet: columns date, geo, kpi, one per channel (spend, money), one per control; geos one after the other.
- panel.json: {"channels": [C names], "controls": [K names], "kpi_unit": str}.
- truth.json: {"channels": [C names], "contribution": [C]}: total over all geos and weeks, KPI units.

Axis letters: G geos, T weeks, C channels, K controls.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """A balanced weekly panel.

    Args:
        dates: datetime64 [T].
        geos: names [G].
        channels: names [C].
        controls: names [K].
        kpi: [G, T], KPI units.
        spend: [G, T, C], money.
        control: [G, T, K], any unit.
        truth: true total contribution per channel [C] in KPI units, or None.
    """

    dates: np.ndarray
    geos: tuple[str, ...]
    channels: tuple[str, ...]
    controls: tuple[str, ...]
    kpi: np.ndarray
    spend: np.ndarray
    control: np.ndarray
    truth: np.ndarray | None = None


def write_frame(
    frame: pd.DataFrame,
    folder: Path,
    *,
    channels: list[str],
    controls: list[str],
    kpi_unit: str = "units",
    truth: np.ndarray | None = None,
) -> Path:
    """Write any panel that has columns date, geo, kpi, the channels and the controls.

    Args:
        frame: one row per geo and week; every geo has the same weeks.
        folder: made if it is not there.
        channels: columns of spend.
        controls: columns of controls, possibly none.
        kpi_unit: named in panel.json.
        truth: true total contribution [C] in KPI units, or None.

    Raises:
        ValueError: a column is missing, a value is not finite, or the geos do not have the same weeks.
    """
    wanted = ["date", "geo", "kpi", *channels, *controls]
    if absent := [name for name in wanted if name not in frame]:
        raise ValueError(f"The frame has no columns {absent}; it has {list(frame)}.")
    frame = frame[wanted].sort_values(["geo", "date"], kind="stable").reset_index(drop=True)
    frame["date"] = pd.to_datetime(frame["date"])
    if not np.isfinite(frame[wanted[2:]].to_numpy(np.float64)).all():
        raise ValueError("The frame has missing or infinite values; the peers take none. Drop or fill those weeks.")
    weeks = frame.groupby("geo", sort=False)["date"].agg(lambda dates: tuple(dates))
    if weeks.nunique() != 1:
        raise ValueError("Every geo needs the same weeks; the peers take balanced panels only.")
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "panel.parquet", index=False)
    about = {"channels": list(channels), "controls": list(controls), "kpi_unit": kpi_unit}
    (folder / "panel.json").write_text(json.dumps(about, indent=1))
    if truth is not None:
        known = {"channels": list(channels), "contribution": [float(value) for value in truth]}
        (folder / "truth.json").write_text(json.dumps(known, indent=1))
    return folder


def write_recovery(preset: str, source: Path, folder: Path) -> Path:
    """Write preset "small" or "medium" of mmm/param_recovery.

    Args:
        preset: "small" (1 geo x 104 weeks x 4 channels, 2 controls) or "medium" (8 x 156 x 8, 4 controls).
        source: the folder `mmm/param_recovery`.
        folder: made if it is not there.
    """
    frame = pd.read_csv(source / f"{preset}_business.csv")
    # x1_Search-Ads -> Search-Ads; the c1_effect columns are the answer and stay out.
    names = {name: name.split("_", 1)[1] for name in frame if name.startswith("x")}
    controls = [name for name in frame if name.startswith("c") and not name.endswith("_effect")]
    known = pd.read_csv(source / f"{preset}_business_contrib.csv")
    truth = np.array([known[f"contribution_{name}"].sum() for name in names])
    frame = frame.rename(columns=names | {"y": "kpi"})
    return write_frame(frame, folder, channels=list(names.values()), controls=controls, truth=truth)


def read_panel(folder: Path) -> Panel:
    """Read a folder written by this module.

    Raises:
        FileNotFoundError: it holds no panel.
    """
    frame = pd.read_parquet(folder / "panel.parquet")
    about = json.loads((folder / "panel.json").read_text())
    channels, controls = tuple(about["channels"]), tuple(about["controls"])
    geos = tuple(str(geo) for geo in pd.unique(frame["geo"]))
    dates = np.sort(frame["date"].unique()).astype("datetime64[D]")
    shape = len(geos), len(dates)

    def grid(columns: tuple[str, ...]) -> np.ndarray:
        return frame[list(columns)].to_numpy(np.float64).reshape(*shape, len(columns))

    path = folder / "truth.json"
    truth = np.array(json.loads(path.read_text())["contribution"]) if path.exists() else None
    return Panel(dates, geos, channels, controls, grid(("kpi",))[..., 0], grid(channels), grid(controls), truth)


def trend_and_waves(dates: np.ndarray, harmonics: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Calendar columns: a line from -1 to 1 [T], and sines and cosines of the year [T, 2 * harmonics]."""
    line = np.linspace(-1, 1, len(dates))
    day = (dates - dates.astype("datetime64[Y]")).astype(np.float64) / 365.25
    waves = [f(2 * np.pi * k * day) for k in range(1, harmonics + 1) for f in (np.sin, np.cos)]
    return line, np.stack(waves, axis=1)


def standardised(control: np.ndarray) -> np.ndarray:
    """Controls [G, T, K] with mean 0 and deviation 1 over all rows."""
    return (control - control.mean((0, 1))) / control.std((0, 1))
