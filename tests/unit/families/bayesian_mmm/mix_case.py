"""A small panel with everything in it, and models built on it.

Axis letters: G series, T periods, C channels, P fixed columns, Q all columns, N draws.
"""

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import Level, MediaBatch, MediaPanel, PanelSchema
from wanamaker.data.panel_dataset import PanelDataset
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors

TAPS = 5
KNOWN_BEFORE = 3  # periods of media before the first


def panel_case(
    series: int = 4,
    periods: int = 40,
    seed: int = 0,
    *,
    levels: bool = True,
    drivers: bool = True,
    organic: bool = True,
    counts: bool = False,
    frequency: bool = False,
) -> MediaPanel:
    """`series` in two categories, channels that are often off, a lead-in, drivers of known and of either direction."""
    draw = np.random.default_rng(seed)
    media = ("tv", "search", "mail") if organic else ("tv", "search")
    extra = {
        "price": ("own", "rival"),
        "price_direction": (-1, 0),
        "own_price": (0,) * series,
        "promotion": ("discount", "display"),
        "promotion_direction": (1, 0),
        "control": ("weather", "delivery"),
        "control_direction": (0, -1),
    }
    schema = PanelSchema(
        series=tuple(f"s{g}" for g in range(series)),
        levels={"category": Level(("a", "b"), tuple(g % 2 for g in range(series)))} if levels else {},
        kpi="sales",
        media=media,
        paid=(True, True, False)[: len(media)],
        period="W-SUN",
        periods_per_year=52.18,
        kpi_value=2.0,
        frequency=tuple(name == "tv" for name in media) if frequency else (),
        **(extra if drivers else {}),
    ).with_calendar(("sin", "cos"), ("years",), {})
    C, shape = len(media), (series, periods)
    size = np.linspace(1.0, 3.0, series)[:, None]
    amount = draw.gamma(1.0, 100.0, (*shape, C)) * (draw.random((*shape, C)) > 0.3) * size[..., None]
    before = draw.gamma(1.0, 100.0, (series, KNOWN_BEFORE, C)) * size[..., None]
    kpi = 1000 * size * np.exp(0.15 * draw.normal(size=shape) + 0.1 * np.tanh(amount[..., 0] / 150 / size))
    often = 1.0 + draw.gamma(2.0, 1.0, amount.shape) * (np.arange(C) == 0) if frequency else None
    earlier = 1.0 + draw.gamma(2.0, 1.0, before.shape) * (np.arange(C) == 0) if frequency else None
    wide = (lambda n: n) if drivers else (lambda n: 0)
    return MediaPanel(
        schema=schema,
        dates=np.datetime64("2024-01-07") + 7 * np.arange(periods),
        kpi=(draw.poisson(kpi / 50) if counts else kpi).astype(np.float32),
        media=(amount if often is None else amount / often).astype(np.float32),
        spend=(amount * np.array([2.0, 0.5, 0.0])[:C]).astype(np.float32),
        lead_in=before.astype(np.float32),
        price=(2.0 + draw.random((*shape, wide(2)))).astype(np.float32),
        promotion=(draw.random((*shape, wide(2))) * (draw.random((*shape, wide(2))) > 0.6)).astype(np.float32),
        control=draw.normal(10.0, 3.0, (*shape, wide(2))).astype(np.float32),
        contact_frequency=None if often is None else often.astype(np.float32),
        lead_in_frequency=None if earlier is None else earlier.astype(np.float32),
    )


def calendar(panel: MediaPanel) -> tuple[np.ndarray, np.ndarray]:
    """Season [T, 2] and trend [T, 1]."""
    time = np.arange(panel.num_periods)
    angle = 2 * np.pi * time / 52.18
    season = np.stack([np.sin(angle), np.cos(angle)], 1).astype(np.float32)
    return season, ((time - time.mean()) / 52.18).astype(np.float32)[:, None]


def some_rows(panel: MediaPanel, seed: int = 1) -> np.ndarray:
    """A training mask [G, T]: most of the first nine tenths, with gaps."""
    mask = np.random.default_rng(seed).random(panel.kpi.shape) > 0.1
    mask[:, int(0.9 * panel.num_periods) :] = False
    return mask


def built(
    panel: MediaPanel, learnt: np.ndarray | None = None, taps: int = TAPS, **options
) -> tuple[MixModel, PanelTensors]:
    """A model with its scales, and the panel as it reads it."""
    learnt = some_rows(panel) if learnt is None else learnt
    model = MixModel(**options).build(panel.schema)
    model.fit_scales(panel, learnt)
    return model, model.tensors(panel, *calendar(panel), learnt, taps)


def points(model: MixModel, count: int = 3, seed: int = 0, spread: float = 0.5) -> Tensor:
    """Unconstrained parameters [N, D] about the prior's medians."""
    noise = torch.randn(count, model.flat.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return model.flat.median() + spread * noise


def batch_of(panel: MediaPanel, rows: np.ndarray | None = None) -> MediaBatch:
    """Rows (default: all) as the data module cuts them."""
    rows = np.arange(panel.kpi.size) if rows is None else rows
    return PanelDataset(panel, *calendar(panel), rows, TAPS).__getitems__(np.arange(len(rows)))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
