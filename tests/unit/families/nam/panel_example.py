"""A small panel with everything in it, made by hand."""

import numpy as np
import torch

from wanamaker.data.media_panel import Level, MediaBatch, MediaPanel, PanelSchema

TAPS = 5


def panel_example(series: int = 4, periods: int = 40, seed: int = 0) -> MediaPanel:
    """`series` in two categories: two paid channels and an organic one, two prices, a promotion, two controls."""
    draw = np.random.default_rng(seed)
    names = tuple(f"s{g}" for g in range(series))
    categories = tuple(g % 2 for g in range(series))
    schema = PanelSchema(
        series=names,
        levels={"category": Level(("a", "b"), categories)},
        kpi="sales",
        kpi_unit="EUR",
        money_unit="EUR",
        media=("tv", "search", "mail"),
        paid=(True, True, False),
        period="W-SUN",
        periods_per_year=52.18,
        price=("own", "rival"),
        price_direction=(-1, 1),
        own_price=(0,) * series,
        promotion=("discount",),
        promotion_direction=(1,),
        control=("weather", "delivery"),
        control_direction=(0, -1),
    )
    schema = schema.with_calendar(("sin", "cos"), ("years",), {})
    shape = (series, periods)
    media = draw.gamma(1.0, 100.0, (*shape, 3)) * (draw.random((*shape, 3)) > 0.3)
    spend = media * np.array([2.0, 0.5, 0.0])
    return MediaPanel(
        schema=schema,
        dates=np.datetime64("2024-01-07") + 7 * np.arange(periods),
        kpi=(1000 + 300 * draw.random(shape)).astype(np.float32),
        media=media.astype(np.float32),
        spend=spend.astype(np.float32),
        lead_in=np.zeros((series, 0, 3), np.float32),
        price=(2.0 + draw.random((*shape, 2))).astype(np.float32),
        promotion=(draw.random((*shape, 1)) * (draw.random((*shape, 1)) > 0.6)).astype(np.float32),
        control=draw.normal(10.0, 3.0, (*shape, 2)).astype(np.float32),
    )


def batch_of(panel: MediaPanel, rows: np.ndarray | None = None) -> MediaBatch:
    """Rows (default: all) as the data module would cut them."""
    G, T = panel.kpi.shape
    rows = np.arange(G * T) if rows is None else rows
    g, t = rows // T, rows % T
    padded = np.concatenate([np.zeros((G, TAPS - 1, panel.media.shape[2]), np.float32), panel.media], axis=1)
    windows = np.stack([padded[g, t + TAPS - 1 - lag] for lag in range(TAPS)], axis=1)
    angle = 2 * np.pi * t / 52.18
    arrays = {
        "row": rows,
        "series": g,
        "time": t,
        "kpi": panel.kpi[g, t],
        "media": windows,
        "price": panel.price[g, t],
        "promotion": panel.promotion[g, t],
        "control": panel.control[g, t],
        "season": np.stack([np.sin(angle), np.cos(angle)], 1).astype(np.float32),
        "trend": ((t - T / 2) / 52.18).astype(np.float32)[:, None],
        "frequency": np.ones((len(rows), TAPS, 0), np.float32),
    }
    return MediaBatch(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()})


def all_rows(panel: MediaPanel) -> np.ndarray:
    """A training mask [G, T] of everything."""
    return np.ones(panel.kpi.shape, dtype=bool)
