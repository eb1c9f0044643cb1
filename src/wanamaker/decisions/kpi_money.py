"""What a unit of the KPI is worth when prices change, and what it costs to make.

Axis letters: G series.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wanamaker.decisions.decomposition import nearest_index
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixResponse

KPI_IS = ("units", "revenue")
_UNIT_WORDS = {
    *("unit", "units", "piece", "pieces", "pack", "packs", "item", "items", "bottle", "bottles", "case", "cases"),
    *("order", "orders", "ticket", "tickets", "litre", "litres", "liter", "liters", "kg", "ounce", "ounces", "oz"),
}


def check_kpi_is(kpi_is: str | None, place: str = "decision") -> None:
    """Raise UserError for a word that is neither None nor one of `KPI_IS`; `place` is that of the option."""
    if kpi_is is not None and kpi_is not in KPI_IS:
        raise UserError(f"{place}.kpi_is={kpi_is!r}: choose from {', '.join(KPI_IS)}.")


def kpi_kind(response: MixResponse, kpi_is: str | None, place: str = "decision") -> str:
    """Whether the KPI counts "units" or is "revenue": under a new price, units are worth another amount of money.

    Args:
        response: names and units.
        kpi_is: what the user says; None tells by the unit of the KPI.
        place: of the option, for messages.

    Raises:
        UserError: another word, or it cannot be told.
    """
    check_kpi_is(kpi_is, place)
    if kpi_is is not None:
        return kpi_is
    unit = response.kpi_unit.strip().casefold()
    if set(unit.split()) & set(response.money_unit.casefold().split()):  # EUR and EUR, INR and INR crore
        return "revenue"
    if unit in _UNIT_WORDS:
        return "units"
    raise UserError(
        f"Prices change, and it cannot be told whether the KPI {response.kpi!r} in {response.kpi_unit!r} counts units "
        f"or is revenue (money is {response.money_unit!r}). Say {place}.kpi_is=units or {place}.kpi_is=revenue."
    )


def mean_own_price(driver: np.ndarray, response: MixResponse) -> np.ndarray:
    """Mean own price of each series [G] over a window of drivers [G, H, D]; NaN where it has or knows none."""
    if driver.shape[2] == 0:
        return np.full(len(driver), np.nan)
    own = np.take_along_axis(driver, np.maximum(response.own_price, 0)[:, None, None], axis=2)[:, :, 0]
    known = np.isfinite(own) & (response.own_price >= 0)[:, None]
    count = known.sum(axis=1)
    return np.divide(np.where(known, own, 0).sum(axis=1), count, out=np.full(len(own), np.nan), where=count > 0)


def unit_costs(
    unit_cost: Any, response: MixResponse, current_price: np.ndarray, place: str = "decision.unit_cost"
) -> np.ndarray:
    """Cost of one unit of the KPI per series, [G], money.

    Args:
        unit_cost: a number for all; per cent of the current price as text ("60%"); or a mapping of series to either,
            with an entry `default` for those it does not name. `{margin: 0.4}` is 60 % of the current price.
        response: names.
        current_price: [G]; NaN where a series has no price of its own.
        place: of the option, for messages.

    Raises:
        UserError: an unknown series, one without cost, or a cost that is no number of 0 or more.
    """
    G = len(response.series)
    if isinstance(unit_cost, Mapping) and "margin" in unit_cost and "margin" not in response.series:
        if len(unit_cost) > 1:
            raise UserError(f"{place}: margin stands alone; give costs per series as a share, such as 60%.")
        share = unit_cost["margin"]
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise UserError(f"{place}.margin={share!r}: give margin as a share of the price, above 0, up to 1.")
        return (1 - float(share)) * current_price
    if not isinstance(unit_cost, Mapping):
        return np.array([_cost(unit_cost, price, place) for price in current_price])
    for name in unit_cost:
        if name != "default":
            nearest_index(str(name), response.series, "series", place)
    costs = np.full(G, np.nan)
    for g, name in enumerate(response.series):
        given = unit_cost.get(name, unit_cost.get("default"))
        if given is None and np.isfinite(current_price[g]):
            raise UserError(f"{place} has no cost for series {name!r}: add it, or an entry default.")
        if given is not None:
            costs[g] = _cost(given, current_price[g], f"{place}.{name}")
    return costs


def _cost(value: Any, price: float, place: str) -> float:
    share = re.match(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$", value) if isinstance(value, str) else None
    if share:
        return float(share.group(1)) / 100 * price
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
        raise UserError(f"{place}={value!r}: give money per unit, 0 or more, or per cent of the price such as 60%.")
    return float(value)
