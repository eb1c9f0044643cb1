"""A panel of stores and brands whose cross prices are the own prices of its other series."""

from __future__ import annotations

import dataclasses

import numpy as np
from tests.unit.decisions.mix_example import example

from wanamaker.decisions.response import driver_parts
from wanamaker.predictions import MixPredictions


def shelf(
    stores: int = 2,
    brands: int = 3,
    *,
    own: float = -2.5,
    cross: float = 0.6,
    draws: int = 4,
    periods: int = 40,
    geometric: bool = True,
    spread: float = 0.0,
) -> MixPredictions:
    """Log-link predictions of stores x brands, driven by their own price and by the prices of the other brands.

    Args:
        stores, brands: G = stores * brands; names are "store 0 | brand 1".
        own, cross: elasticities.
        draws, periods: S, T.
        geometric: the cross price is the geometric mean of the other brands of the store; else it is a competitor's
            price that belongs to no series.
        spread: standard deviation of the own elasticity over the draws.
    """
    rng = np.random.default_rng(5)
    G, S, T = stores * brands, draws, periods
    plain = example(draws=S, link="log", geos=G, channels=1, periods=T, spread=0.0)
    price = np.exp(rng.normal(0, 0.15, (stores, brands, T)) + np.log([2.0, 3.0, 2.5, 4.0][:brands])[:, None])
    log = np.log(price)
    others = np.exp((log.sum(axis=1, keepdims=True) - log) / (brands - 1))
    if not geometric:
        others = np.exp(rng.normal(1, 0.2, others.shape))
    driver = np.stack([price.reshape(G, T), others.reshape(G, T)], axis=-1)
    grid = np.stack([np.linspace(-3, 3, 13)] * 2)
    steep = np.stack([own + spread * rng.standard_normal(S), np.full(S, cross)], axis=1)[:, :, None]
    reference = driver.mean(axis=1)
    response = dataclasses.replace(
        plain.response,
        series=tuple(f"store {s} | brand {b}" for s in range(stores) for b in range(brands)),
        drivers=("price", "others"),
        driver_kind=("price", "price"),
        driver_transform=("log_ratio", "log_ratio"),
        driver_reference=reference,
        driver_grid=grid,
        driver_curve=steep * grid,
        driver_slope=np.broadcast_to(steep, (S, 2, 13)).copy(),
        driver_amplitude=np.ones((S, G, 2)),
        driver_min=driver.min(axis=1),
        driver_max=driver.max(axis=1),
        own_price=np.zeros(G, np.int64),
    )
    parts = plain.parts.copy()
    parts[..., 2:4] = driver_parts(response, driver).reshape(S, G * T, 2)
    kinds = ("baseline", "season", "price", "price", "media")
    names = ("intercept", "season", "price", "others", *plain.part_names[4:])
    return dataclasses.replace(
        plain,
        parts=parts,
        part_kinds=kinds,
        part_names=names,
        response=response,
        driver=driver.astype(np.float32).astype(np.float64).reshape(G * T, 2),
    )
