"""Demand and money at a price: what the price optimiser searches over.

Every own price is held at one level over the window. Then a series' demand needs two numbers of the window only: with
the log link, kpi = exp(rest + part(price)) with rest = log(sum over periods of exp(eta without the price)); with the
identity link, kpi = rest + periods * part(price). A demand below 0 counts as 0.

Axis letters: S draws, n priced series, V prices on a grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.decisions.decomposition import nearest_index
from wanamaker.decisions.driver_curves import driver_part
from wanamaker.decisions.price_links import PriceLink
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixPredictions, MixResponse

OBJECTIVES = ("profit", "revenue")


@dataclass(frozen=True)
class CrossPrice:
    """Driver ``driver`` of priced series ``of`` is the geometric mean of the prices of ``members``."""

    of: int
    driver: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class PriceProblem:
    """Demand of the priced series of a window.

    Attributes:
        response: the curves.
        series: int64 [n], numbers of the priced series.
        driver: int64 [n], their own prices.
        rest: float64 [S, n], as above.
        periods: int64 [n], periods with a known price.
        current: float64 [n], mean price of the window.
        cost: float64 [n], money per unit.
        low, high: float64 [n], bounds of the prices.
        crosses: cross prices that are made of own prices of priced series; their parts are not in `rest`.
        units: whether the KPI counts units (else it is revenue).
        objective: of `OBJECTIVES`.
    """

    response: MixResponse
    series: np.ndarray
    driver: np.ndarray
    rest: np.ndarray
    periods: np.ndarray
    current: np.ndarray
    cost: np.ndarray
    low: np.ndarray
    high: np.ndarray
    crosses: tuple[CrossPrice, ...]
    units: bool
    objective: str

    def own_part(self, price: np.ndarray, at: np.ndarray | None = None, *, per_draw: bool = False) -> tuple:
        """Part of eta and its derivative, [S, n, ...], at ``price`` [n, ...] (or [S, n] per draw) of series ``at``."""
        at = np.arange(len(self.series)) if at is None else at
        S, extra = self.response.num_draws, price.ndim - (2 if per_draw else 1)
        shape = (S, *(price.shape[1:] if per_draw else price.shape))
        part, slope = np.empty(shape), np.empty(shape)
        for d in np.unique(self.driver[at]):
            mine = np.flatnonzero(self.driver[at] == d)
            series = self.series[at][mine].reshape(-1, *(1,) * extra)
            values = price[:, mine] if per_draw else price[mine]
            part[:, mine], slope[:, mine] = driver_part(self.response, int(d), values, series, per_draw=per_draw)
        return part, slope

    def cross_parts(self, price: np.ndarray) -> list[np.ndarray]:
        """Part [S] of each of `crosses` at ``price`` [n]."""
        log = np.log(price)
        return [self.cross_part(cross, np.exp(log[list(cross.members)].mean())) for cross in self.crosses]

    def cross_part(self, cross: CrossPrice, value: np.ndarray | float) -> np.ndarray:
        """Part [S, ...] of one cross price at ``value`` [...]."""
        return driver_part(self.response, cross.driver, np.asarray(value), self.series[cross.of])[0]

    def cross_total(self, price: np.ndarray) -> np.ndarray:
        """All cross parts of each series, [S, n]."""
        total = np.zeros(self.rest.shape)
        for cross, part in zip(self.crosses, self.cross_parts(price), strict=True):
            total[:, cross.of] += part
        return total

    def kpi(self, part: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """KPI [S, n, ...] of the window when prices make ``part`` [S, n, ...] of series ``at``."""
        at = np.arange(len(self.series)) if at is None else at
        wide = (..., *(None,) * (part.ndim - 2))
        if self.response.link == "log":
            return np.exp(self.rest[:, at][wide] + part)
        return np.maximum(self.rest[:, at][wide] + self.periods[at][wide] * part, 0.0)

    def sold(self, kpi: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Units, of the KPI at a price of the same or broadcasting shape."""
        return kpi if self.units else kpi / price

    def money(self, kpi: np.ndarray, price: np.ndarray, at: np.ndarray | None = None, what: str = "") -> np.ndarray:
        """Revenue or profit (``what``; by default the objective), in the shape of ``kpi`` [S, n, ...]."""
        revenue = kpi * price if self.units else kpi
        if (what or self.objective) == "revenue":
            return revenue
        cost = self.cost if at is None else self.cost[at]
        return revenue - self.sold(kpi, price) * cost[(..., *(None,) * (kpi.ndim - 2))]

    def slope(self, price: np.ndarray) -> np.ndarray:
        """Derivative of the mean objective of each series by log price, as a part of its revenue: 0 at an optimum, [n].

        Effects on other series are left out.
        """
        part, steep = self.own_part(price)
        cross = self.cross_total(price)
        kpi = self.kpi(part + cross)
        rise = steep * price * (kpi if self.response.link == "log" else self.periods)  # d kpi / d log price
        cost = self.cost if self.objective == "profit" else np.zeros_like(self.cost)
        if self.units:
            change = kpi * price + (price - cost) * rise
            revenue = kpi * price
        else:
            change = rise * (1 - cost / price) + kpi * cost / price
            revenue = kpi
        return change.mean(axis=0) / revenue.mean(axis=0)


def price_problem(
    predictions: MixPredictions,
    rows: np.ndarray,
    *,
    series: np.ndarray,
    current: np.ndarray,
    cost: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    links: Sequence[PriceLink],
    units: bool,
    objective: str,
) -> PriceProblem:
    """Gather what the demand of some series needs.

    Args:
        predictions: of a mix model.
        rows: mask [N] of the window.
        series: numbers [n] of the series to price.
        current, cost, low, high: [n].
        links: cross prices; those that consist of priced series only are followed, others stay as they are.
        units, objective: as in `PriceProblem`.
    """
    response = predictions.response
    place = {int(g): i for i, g in enumerate(series)}
    crosses = tuple(
        CrossPrice(place[link.series], link.driver, tuple(place[h] for h in link.of))
        for link in links
        if link.series in place and all(h in place for h in link.of)
    )
    part_of = {name: k for k, name in enumerate(predictions.part_names)}
    S, n = response.num_draws, len(series)
    rest, periods = np.zeros((S, n)), np.zeros(n, np.int64)
    driver = response.own_price[series]
    for i, g in enumerate(series):
        own = predictions.driver[:, driver[i]]
        at = np.flatnonzero(rows & (predictions.series == g) & np.isfinite(own))
        periods[i] = len(at)
        drop = [driver[i], *(cross.driver for cross in crosses if cross.of == i)]
        drop = [part_of[response.drivers[d]] for d in drop if response.drivers[d] in part_of]
        block = predictions.parts[:, at].astype(np.float64)
        eta = block.sum(axis=2) - block[:, :, drop].sum(axis=2)
        if response.link == "log":
            top = eta.max(axis=1)
            rest[:, i] = top + np.log(np.exp(eta - top[:, None]).sum(axis=1))
        else:
            rest[:, i] = eta.sum(axis=1)
    return PriceProblem(
        response, np.asarray(series), driver, rest, periods, current, cost, low, high, crosses, units, objective
    )


def price_bounds(
    bounds: Any, beyond: float, response: MixResponse, series: np.ndarray, place: str = "decision.bounds"
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest price to consider, [n] each.

    Args:
        bounds: None for the range of the training data; [low, high] for all; or a mapping of series to that, with an
            entry `default` for those it does not name (without one: the range of the data).
        beyond: how far to go past the range of the data, as a share of its ends; not applied to given bounds.
        response: names and ranges.
        series: numbers [n].
        place: of the option, for messages.

    Raises:
        UserError: an unknown series, or bounds that are none.
    """
    if isinstance(beyond, bool) or not isinstance(beyond, int | float) or not 0 <= beyond < 1:
        raise UserError(f"decision.beyond={beyond!r}: give a share of 0 or more and below 1, such as 0.1.")
    own = response.own_price[series]
    low = response.driver_min[series, own] * (1 - beyond)
    high = response.driver_max[series, own] * (1 + beyond)
    given = bounds if isinstance(bounds, Mapping) else {} if bounds is None else {"default": bounds}
    for name in given:
        if name != "default":
            nearest_index(str(name), response.series, "series", place)
    for i, g in enumerate(series):
        pair = given.get(response.series[g], given.get("default"))
        if pair is None:
            continue
        numbers = isinstance(pair, list | tuple) and len(pair) == 2
        numbers = numbers and all(isinstance(v, int | float) and not isinstance(v, bool) for v in pair)
        if not numbers or not 0 < pair[0] < pair[1] < np.inf:
            raise UserError(
                f"{place}: {pair!r} for series {response.series[g]!r} must be [low, high] with 0 < low < high."
            )
        low[i], high[i] = pair
    return low, high
