"""A small mix model with known curves, as any family would hand it over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wanamaker.predictions import MixPredictions, MixResponse

CHANNELS = ("TV", "Search", "Social", "Radio", "Podcast", "Print", "Video", "Display")


def example(
    seed: int = 0,
    draws: int = 8,
    link: str = "identity",
    geos: int = 2,
    channels: int = 3,
    periods: int = 60,
    *,
    taps: int = 5,
    shape: str = "concave",
    organic: int = 0,
    spread: float = 0.15,
    cost: float = 1.0,
    adstock_first: bool = True,
    kpi_value: float = 1.0,
    frequency: bool = False,
) -> MixPredictions:
    """Weekly predictions of `geos` series under `channels` channels, an own price and a promotion.

    Args:
        seed: of everything random.
        draws: S; the first is the truth that the KPI was made from.
        link: "identity" or "log".
        geos, channels, periods: G, C, T.
        taps: L of the geometric adstock, whose decay is 0.3, 0.45, 0.6 in turn.
        shape: "concave" is 1 - exp(-x); "s" is x^3 / (1 + x^3), whose slope at 0 is 0.
        organic: that many of the last channels cost nothing.
        spread: relative standard deviation of the draws' amplitudes; 0 makes all draws equal.
        cost: money per media unit.
        adstock_first: carry-over before saturation, or after it.
        kpi_value: money per unit of the KPI.
        frequency: contacts of the first channel count by how often they reach a person.
    """
    rng = np.random.default_rng(seed)
    S, G, C, T, L = draws, geos, channels, periods, taps
    names = tuple((CHANNELS * (1 + C // len(CHANNELS)))[c] + ("" if c < len(CHANNELS) else f" {c}") for c in range(C))
    paid = np.arange(C) < C - organic
    decay = np.array([0.3, 0.45, 0.6])[np.arange(C) % 3] + 0.02 * spread * rng.standard_normal((S, C))
    adstock = decay[..., None] ** np.arange(L)
    adstock /= adstock.sum(axis=-1, keepdims=True)

    grid = np.broadcast_to(np.linspace(0, 8, 81), (C, 81)).copy()
    if shape == "concave":
        value, slope = 1 - np.exp(-grid), np.exp(-grid)
    else:
        value, slope = grid**3 / (1 + grid**3), 3 * grid**2 / (1 + grid**3) ** 2
    size = rng.uniform(0.5, 2.0, G)
    strength = rng.uniform(0.5, 2.0, C) * (100.0 if link == "identity" else 0.08)
    amplitude = strength * (size[:, None] if link == "identity" else np.ones((G, 1)))
    amplitude = amplitude * np.exp(spread * rng.standard_normal((S, 1, C)))
    media_scale = 50.0 * size[:, None] * rng.uniform(0.6, 1.8, C)

    flight = rng.uniform(0.3, 1.2, (G, T + L - 1, C)) * (rng.random((G, T + L - 1, C)) < 0.9)
    media = flight * media_scale[:, None]
    lead_in, media = media[:, : L - 1], media[:, L - 1 :]

    reference = np.stack([rng.uniform(8, 12, G), np.zeros(G)], axis=1)
    driver = np.stack([reference[:, :1] * rng.uniform(0.85, 1.15, (G, T)), rng.integers(0, 2, (G, T))], axis=-1)
    driver_grid = np.stack([np.linspace(-1, 1, 21), np.linspace(0, 2, 21)])
    elasticity = -1.5 * np.ones(S) * np.exp(spread * rng.standard_normal(S))
    driver_curve = np.stack([elasticity[:, None] * driver_grid[0], np.broadcast_to(0.2 * driver_grid[1], (S, 21))], 1)
    driver_slope = np.stack([np.broadcast_to(elasticity[:, None], (S, 21)), np.full((S, 21), 0.2)], axis=1)
    level = 200.0 * size
    driver_amplitude = np.ones((S, G, 2)) * (level[:, None] if link == "identity" else 1.0)
    response = MixResponse(
        series=tuple(f"geo {g}" for g in range(G)),
        channels=names,
        drivers=("price", "display"),
        link=link,
        kpi="sales",
        kpi_unit="units",
        money_unit="EUR",
        price_unit="EUR",
        national=np.zeros(channels, dtype=bool),
        kpi_value=kpi_value,
        period="W-SUN",
        periods_per_year=365.25 / 7,
        paid=paid,
        adstock=adstock,
        adstock_first=np.full(C, adstock_first),
        media_scale=media_scale,
        cost_per_media=np.where(paid, cost, 0.0) * np.ones((G, 1)),
        grid=grid,
        curve=np.broadcast_to(value, (S, C, 81)).copy(),
        slope=np.broadcast_to(slope, (S, C, 81)).copy(),
        amplitude=amplitude,
        media_max=media.max(axis=1),
        driver_kind=("price", "promotion"),
        driver_transform=("log_ratio", "difference"),
        driver_reference=reference,
        driver_grid=driver_grid,
        driver_curve=driver_curve,
        driver_slope=driver_slope,
        driver_amplitude=driver_amplitude,
        driver_min=driver.min(axis=1),
        driver_max=driver.max(axis=1),
        own_price=np.zeros(G, np.int64),
        noise_sd=np.full((S, G), 5.0),
    )
    often = None
    if frequency:
        first = np.arange(C) == 0
        often = np.where(first, 1.0 + rng.gamma(2.0, 1.5, flight.shape), 1.0)
        half = np.where(first, 3.0 * np.exp(spread * rng.standard_normal((S, 1))), 1.0)
        curve_of = {"frequency_half": half, "frequency_slope": np.where(first, 2.5, 1.0) * np.ones((S, 1))}
        response = replace(response, usual_frequency=np.where(first, 4.0, 0.0), **curve_of)

    week = np.arange(T)
    season = np.sin(2 * np.pi * week / 52.18) * (0.1 * level[:, None] if link == "identity" else 0.1)
    parts = [np.broadcast_to((level if link == "identity" else np.log(level))[:, None], (S, G, T))]
    parts.append(np.broadcast_to(season, (S, G, T)))
    price = elasticity[:, None, None] * np.log(driver[..., 0] / reference[:, :1])
    parts += [price * driver_amplitude[:, :, :1], 0.2 * driver[..., 1] * driver_amplitude[:, :, 1:]]
    long = np.concatenate([lead_in, media], axis=1) / media_scale[:, None]

    def curve(x: np.ndarray) -> np.ndarray:
        return 1 - np.exp(-x) if shape == "concave" else x**3 / (1 + x**3)

    for c in range(C):
        own = np.broadcast_to(long[..., c], (S, G, T + L - 1))
        if frequency and c == 0:  # reach x Hill(frequency), over what it is at the usual 4 contacts
            worth = [f**1.5 / (f**2.5 + half[:, :1, None] ** 2.5) for f in (often[None, ..., 0], 4.0)]
            own = own * worth[0] / worth[1]
        taken = np.stack([own[..., L - 1 - lag : L - 1 - lag + T] for lag in range(L)])  # [L, S, G, T]
        carried = np.einsum("sl,lsgt->sgt", adstock[:, c], taken if adstock_first else curve(taken))
        parts.append(amplitude[:, :, c, None] * (curve(carried) if adstock_first else carried))
    stacked = np.stack(parts, axis=-1).astype(np.float32)  # [S, G, T, K]
    eta = stacked[0].sum(axis=-1)
    kpi = (np.exp(eta) if link == "log" else eta) + 5.0 * rng.standard_normal((G, T))

    split = np.where(week < T - 16, 0, np.where(week < T - 8, 1, 2))
    start = np.datetime64("2023-01-02")
    return MixPredictions(
        row=np.arange(G * T),
        series=np.repeat(np.arange(G), T),
        date=np.tile(start + 7 * week, G).astype("datetime64[D]"),
        split=np.tile(split, G),
        kpi=kpi.reshape(-1).astype(np.float64),
        media=media.reshape(G * T, C),
        spend=(media * np.where(paid, cost, 0.0)).reshape(G * T, C),
        driver=driver.reshape(G * T, 2).astype(np.float64),
        parts=stacked.reshape(S, G * T, -1),
        part_names=("intercept", "season", "price", "display", *names),
        part_kinds=("baseline", "season", "price", "promotion", *["media"] * C),
        response=response,
        lead_in=lead_in,
        frequency=None if often is None else often[:, L - 1 :].reshape(G * T, C),
        lead_in_frequency=None if often is None else often[:, : L - 1],
    )
