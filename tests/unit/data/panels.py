"""Small panels made by hand, whose every number says where it stands."""

import numpy as np

from wanamaker.data.media_panel import Level, MediaPanel, PanelSchema


def make_panel(
    G: int = 3,
    T: int = 40,
    C: int = 2,
    *,
    period: str = "W-SUN",
    periods_per_year: float = 52.18,
    first: str = "2020-01-05",
    lead_in: int = 0,
    frequency: bool = False,
    seed: int = 0,
) -> MediaPanel:
    """Weekly panel; media[g, t, c] = 1 + c + 10 * t + 1000 * g, and lead-in -1 for the last period before, -2, ..."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    g, t, c = np.meshgrid(np.arange(G), np.arange(T), np.arange(C), indexing="ij")
    media = (1 + c + 10 * t + 1000 * g).astype(np.float32)
    before = np.broadcast_to(-np.arange(lead_in, 0, -1, dtype=np.float32)[None, :, None], (G, lead_in, C)).copy()
    schema = PanelSchema(
        series=tuple(f"geo{i}" for i in range(G)),
        levels={"region": Level(("east", "west"), tuple(i % 2 for i in range(G)))},
        kpi="sales",
        media=tuple(f"channel{i}" for i in range(C)),
        paid=(True,) * C,
        period=period,
        periods_per_year=periods_per_year,
        price=("own",),
        price_direction=(-1,),
        own_price=(0,) * G,
        promotion=("deal",),
        promotion_direction=(1,),
        control=("rain", "nps"),
        control_direction=(0, 1),
    )
    dates = pd.date_range(first, periods=T, freq=period).to_numpy().astype("datetime64[D]")
    return MediaPanel(
        schema=schema,
        dates=dates,
        kpi=rng.gamma(5, 20, (G, T)).astype(np.float32),
        media=media,
        spend=media,
        lead_in=before,
        price=rng.uniform(1, 2, (G, T, 1)).astype(np.float32),
        promotion=rng.integers(0, 2, (G, T, 1)).astype(np.float32),
        control=rng.normal(size=(G, T, 2)).astype(np.float32),
        contact_frequency=np.where(c == 0, 2, 1).astype(np.float32) if frequency else None,
        lead_in_frequency=np.broadcast_to(np.array([3.0] + [1.0] * (C - 1), np.float32), before.shape).copy()
        if frequency
        else None,
    )
