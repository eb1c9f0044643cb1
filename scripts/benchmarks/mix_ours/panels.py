"""Panels with known truth, ready to fit: those of the peers, large ones made here, and the house's simulator.

Axis letters: G geos, T weeks, C channels, L taps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mix_ours.fitting import Learnt
from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.panel_calendar import calendar_columns, fit_calendar, parse_calendar
from wanamaker.data.simulated_panel import SimulatedPanelDataModule

SEASON = {"yearly": 2, "monthly": 0}
ALL_WEEKS = {"scheme": "holdout", "val": 0, "test": 0}


def learnt_of(module: MediaPanelDataModule) -> Learnt:
    """What a data module holds once it is set up to fit."""
    module.prepare_data()
    module.setup("fit")
    return Learnt(module.panel, module.schema, module.season, module.trend, module.train_mask, module.taps)


def folder_panel(folder: Path) -> tuple[Learnt, np.ndarray]:
    """A panel folder of `mix_peers`, read as the recipes `bayesian_mmm_recovery_*` read theirs, all weeks learnt.

    Returns:
        The panel, and the true total contribution [C].
    """
    about = json.loads((folder / "panel.json").read_text())
    module = MediaPanelDataModule(
        path=str(folder / "panel.parquet"),
        roles={
            "date": "date",
            "kpi": "kpi",
            "series": ["geo"],
            "media": {name: {"spend": name} for name in about["channels"]},
            "control": about["controls"],
        },
        seasonality=SEASON,
        trend="linear",
        split=ALL_WEEKS,
        max_lag=12,
        batch_unit="series",
    )
    return learnt_of(module), np.array(json.loads((folder / "truth.json").read_text())["contribution"])


def house_panel(
    cache: Path, preset: str, simulation: dict[str, Any], ignored: tuple[str, ...] = ()
) -> tuple[Learnt, np.ndarray]:
    """A panel of the house's simulator, all weeks with a KPI learnt.

    Args:
        cache: folder of simulated panels.
        preset: such as "national" or "geo".
        simulation: what to change in it.
        ignored: control columns that the model does not get to see.

    Returns:
        The panel, and the true total contribution [C] in the panel's order of channels.
    """
    module = SimulatedPanelDataModule(
        cache_dir=str(cache),
        preset=preset,
        simulation=simulation,
        seasonality={"yearly": 2},
        trend="linear",
        split=ALL_WEEKS,
        max_lag=13,
        batch_unit="series",
    )
    module.prepare_data()
    truth = module.truth
    if ignored:  # the same file, read without these columns
        roles = module.roles
        kept = tuple(driver for driver in roles.control if driver.name not in ignored)
        module.roles = type(roles)(**{**vars(roles), "control": kept})
    learnt = learnt_of(module)
    names = [channel.name for channel in truth.options.channels]
    return learnt, truth.contribution_total[[names.index(name) for name in learnt.schema.media]]


def large_panel(geos: int, seed: int, weeks: int = 156, channels: int = 8) -> tuple[Learnt, np.ndarray]:
    """A panel of many geos: flighted media, geometric adstock, Hill curves, a year, a trend and noise.

    Effects differ by about a tenth between geos, sizes by half. Spend does not react to demand.

    Returns:
        The panel, and the true total contribution [C].
    """
    rng, C, lead = np.random.default_rng([7, seed]), channels, 12
    shape = (geos, weeks + lead, C)
    # Flights: a slow wave per geo and channel cut off at zero, and another level every week.
    phase, pace = rng.uniform(0, 2 * np.pi, (geos, 1, C)), rng.uniform(2 * np.pi / 30, 2 * np.pi / 9, (geos, 1, C))
    wave = np.sin(pace * np.arange(shape[1])[:, None] + phase) + rng.uniform(-0.4, 0.8, C)
    spend = np.clip(wave, 0, None) * np.exp(0.3 * rng.standard_normal(shape))
    size = np.exp(0.5 * rng.standard_normal((geos, 1)))
    spend *= size[..., None] * np.exp(rng.uniform(np.log(100), np.log(1000), C))
    spend = spend.astype(np.float32)
    decay, half, slope = rng.uniform(0.1, 0.6, C), rng.uniform(0.2, 0.8, C), rng.uniform(0.7, 1.8, C)
    share = rng.dirichlet(np.full(C, 4.0)) * 0.35
    kernel = decay ** np.arange(lead + 1)[:, None]
    kernel /= kernel.sum(0)
    scaled = spend / spend[:, lead:].max(1, keepdims=True)
    stock = sum(kernel[lag] * scaled[:, lead - lag : lead - lag + weeks] for lag in range(lead + 1))
    curve = stock**slope / (stock**slope + half**slope)
    media = share * curve / curve.mean((0, 1)) * np.exp(0.1 * rng.standard_normal((geos, 1, C)))
    week = np.arange(weeks)
    drift = rng.normal(0.05, 0.03, (geos, 1)) * (week / weeks - 0.5)
    base = 0.65 + drift + rng.normal(0.08, 0.02, (geos, 1)) * np.sin(2 * np.pi * week / 52.18 + 0.4)
    level = 1000.0 * size
    kpi = level * (base + media.sum(-1) + 0.08 * rng.standard_normal((geos, weeks)))
    truth = (level[..., None] * media).sum((0, 1))
    dates = np.datetime64("2021-01-03") + 7 * week
    names = tuple(f"channel_{c + 1}" for c in range(C))
    schema = PanelSchema(
        series=tuple(f"geo_{g:05d}" for g in range(geos)),
        levels={},
        kpi="kpi",
        media=names,
        paid=(True,) * C,
        period="W-SUN",
        periods_per_year=52.18,
    )
    empty = np.zeros((geos, weeks, 0), np.float32)
    now = spend[:, lead:]
    panel = MediaPanel(schema, dates, kpi.astype(np.float32), now, now, spend[:, :lead], empty, empty, empty)
    calendar = fit_calendar(parse_calendar(SEASON, None, None, "linear"), schema.period, 52.18, dates)
    columns = calendar_columns(calendar, dates)
    schema = schema.with_calendar(columns.season_names, columns.trend_names, calendar)
    mask = np.ones((geos, weeks), bool)
    return Learnt(panel, schema, columns.season, columns.trend, mask, lead + 1), truth
