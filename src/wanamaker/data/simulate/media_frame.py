"""A simulated panel as a file would show it: one row per series and period, and which column is what.

Axis letters: G series, T periods, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wanamaker.data.simulate.media_market import CONTROLS, HOLIDAYS, Market
from wanamaker.data.simulate.media_options import PanelSimulation


def series_names(options: PanelSimulation, market: Market) -> tuple[str, ...]:
    """G names: the key columns joined by " | ", or "all"."""
    keys = _keys(options, market)
    return tuple(" | ".join(parts) for parts in zip(*keys.values(), strict=True)) if keys else ("all",)


def _keys(options: PanelSimulation, market: Market) -> dict[str, list[str]]:
    """Columns that name a series, with a value for each."""
    keys = {}
    if options.geos > 1:
        width = len(str(options.geos))
        keys["geo"] = [f"geo_{number + 1:0{width}d}" for number in market.geo]
    if options.subcategories:
        width = len(str(options.subcategories))
        keys["subcategory"] = [f"subcategory_{number + 1:0{width}d}" for number in market.subcategory]
    return keys


def _has_holidays(options: PanelSimulation) -> bool:
    return options.season.holidays > 0


def panel_frame(
    options: PanelSimulation,
    market: Market,
    kpi: np.ndarray,
    spend: np.ndarray,
    exposure: np.ndarray,
    frequency: np.ndarray,
) -> Any:
    """A pandas DataFrame [G * T rows], series by series; the KPI of the pre-period is missing."""
    import pandas as pd

    G, T = kpi.shape

    def per_series(values: Any) -> np.ndarray:
        return np.repeat(np.asarray(values), T)

    columns: dict[str, np.ndarray] = {"date": np.tile(market.dates[:T].astype("datetime64[s]"), G)}
    columns |= {name: per_series(values) for name, values in _keys(options, market).items()}
    if options.subcategories:
        width = len(str(options.categories))
        columns["category"] = per_series([f"category_{number + 1:0{width}d}" for number in market.category])
    if not options.subcategories:
        columns["population"] = per_series(market.population)
    shown = kpi.copy()
    shown[:, : options.pre_period] = np.nan
    columns[options.kpi] = shown.reshape(-1)
    for number, channel in enumerate(options.channels):
        if not channel.organic:
            columns[f"{channel.name}_spend"] = spend[..., number].reshape(-1)
        if channel.reach_frequency:
            times = frequency[..., number]
            reach = np.where(times > 0, exposure[..., number] / np.where(times > 0, times, 1.0), 0.0)
            columns[f"{channel.name}_reach"] = np.round(reach).reshape(-1)
            columns[f"{channel.name}_frequency"] = times.reshape(-1)
        elif channel.organic or channel.cost_per_thousand:
            columns[f"{channel.name}_impressions"] = exposure[..., number].reshape(-1)
    if options.price.elasticity:
        columns["price"] = market.price[:, :T].reshape(-1)
    if options.price.cross:
        columns["competitor_price"] = market.competitor_price[:, :T].reshape(-1)
    if options.promotion.per_year:
        columns["discount"] = market.discount[:, :T].reshape(-1)
        columns["in_store_display"] = market.display[:, :T].reshape(-1)
    for number, (name, _) in enumerate(CONTROLS[: options.controls]):
        columns[name] = market.control_columns[:, :T, number].reshape(-1)
    if options.demand.proxy:
        columns["search_interest"] = market.search_interest[:, :T].reshape(-1)
    if _has_holidays(options):
        for number, (name, _) in enumerate(HOLIDAYS):
            columns[name] = np.tile(np.round(market.holiday_columns[:T, number], 6), G)
    return pd.DataFrame(columns)


def panel_roles(options: PanelSimulation) -> dict[str, Any]:
    """The roles of the columns of `panel_frame`, as a data configuration writes them."""
    keys = [name for name, there in (("geo", options.geos > 1), ("subcategory", options.subcategories > 0)) if there]
    roles: dict[str, Any] = {
        "date": "date",
        "kpi": options.kpi,
        "kpi_unit": options.kpi_unit,
        "money_unit": options.money_unit,
        "kpi_value": options.kpi_value,
        "series": keys,
        "hierarchy": {"category": "category"} if options.subcategories else {},
        "media": {},
        "organic": {},
        "price": {},
        "promotion": {},
        "control": {},
    }
    if not options.subcategories:
        roles["population"] = "population"
    for channel in options.channels:
        columns: dict[str, Any] = {} if channel.organic else {"spend": f"{channel.name}_spend"}
        if channel.reach_frequency:
            columns |= {"reach": f"{channel.name}_reach", "frequency": f"{channel.name}_frequency"}
        elif channel.organic or channel.cost_per_thousand:
            columns["exposure"] = f"{channel.name}_impressions"
        roles["organic" if channel.organic else "media"][channel.name] = columns
    if options.price.elasticity:
        roles["price"]["price"] = {"column": "price", "direction": "own"}
    if options.price.cross:
        roles["price"]["competitor_price"] = {"column": "competitor_price", "direction": "cross"}
    if options.promotion.per_year:
        roles["promotion"] = {name: {"column": name, "direction": "up"} for name in ("discount", "in_store_display")}
    for name, _ in CONTROLS[: options.controls]:
        roles["control"][name] = {"column": name, "direction": "any"}
    if options.demand.proxy:
        roles["control"]["search_interest"] = {"column": "search_interest", "direction": "any"}
    if _has_holidays(options):
        for name, _ in HOLIDAYS:
            roles["control"][name] = {"column": name, "direction": "any"}
    return roles
