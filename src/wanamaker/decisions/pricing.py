"""The price that brings the most profit or revenue, per series, with its uncertainty and its limits.

The objective is the mean over the draws. It is searched on a dense grid between the bounds, so that a demand curve with
several humps cannot trap the search, and then in ever finer grids around the best points. Where cross prices are made
of the own prices of other series in the panel (`price_links`), all prices are set together for the largest total, one
series at a time until none moves, from the current prices and from each series' own best; otherwise each series is on
its own and other prices stay as they were.

Axis letters: S draws, n priced series, V prices on a grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import choose_rows, nearest_index
from wanamaker.decisions.driver_curves import own_price_values
from wanamaker.decisions.intervals import interval_columns, probability_above, ratio
from wanamaker.decisions.kpi_money import kpi_kind, unit_costs
from wanamaker.decisions.price_links import PriceLink, has_cross_prices, price_links
from wanamaker.decisions.price_problem import OBJECTIVES, PriceProblem, price_bounds, price_problem
from wanamaker.decisions.price_search import best_alone, best_per_draw, best_together, log_grid, total_objective
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixPredictions

if TYPE_CHECKING:
    import pandas as pd

SIBLINGS = ("joint", "held")


@dataclass(frozen=True)
class PricePlan:
    """Best prices and what they bring over the window.

    Attributes:
        problem: demand and bounds.
        price: float64 [n], recommended.
        price_draws: float64 [S, n], best for each draw, other prices as recommended: how sure the price is.
        links: "joint", or why prices of other series stay fixed.
        joint: whether cross prices moved with own prices.
        notes: [n], what to know about a series; "" where nothing.
    """

    problem: PriceProblem
    price: np.ndarray
    price_draws: np.ndarray
    links: str
    joint: bool
    notes: tuple[str, ...]

    def outcome(self, price: np.ndarray) -> dict[str, np.ndarray]:
        """KPI, revenue and profit, [S, n], with all own prices at ``price`` [n]."""
        problem = self.problem
        kpi = problem.kpi(problem.own_part(price)[0] + problem.cross_total(price))
        return {"kpi": kpi} | {what: problem.money(kpi, price, what=what) for what in ("revenue", "profit")}

    def at_bound(self) -> np.ndarray:
        """[n]: "low", "high" or ""."""
        low = np.isclose(self.price, self.problem.low, rtol=1e-5)
        high = np.isclose(self.price, self.problem.high, rtol=1e-5)
        return np.where(low, "low", np.where(high, "high", ""))

    def extrapolates(self) -> np.ndarray:
        """bool [n], whether the recommended price lies outside what the training data hold."""
        response, series, own = self.problem.response, self.problem.series, self.problem.driver
        least, most = response.driver_min[series, own], response.driver_max[series, own]
        return (self.price < least * (1 - 1e-6)) | (self.price > most * (1 + 1e-6))

    def to_frame(self) -> pd.DataFrame:
        """One row per series.

        Columns: series; price_current, price_best with intervals, price_change; low, high (bounds); unit_cost;
        kpi_current, kpi_best; revenue_current, revenue_best; profit_current, profit_best (profit only where that is
        the objective); gain (of the objective) with intervals, gain_share; probability_better; elasticity_current,
        elasticity_best; slope (of the objective by log price, as a part of revenue: 0 inside the bounds unless
        siblings count); at_bound, extrapolates, note.
        """
        import pandas as pd

        problem = self.problem
        now, best = self.outcome(problem.current), self.outcome(self.price)
        gain = best[problem.objective] - now[problem.objective]
        columns: dict[str, Any] = {"series": [problem.response.series[g] for g in problem.series]}
        columns["price_current"] = problem.current
        columns |= interval_columns("price_best", self.price_draws) | {"price_best": self.price}
        columns["price_change"] = self.price / problem.current - 1
        columns |= {"low": problem.low, "high": problem.high}
        if problem.objective == "profit":
            columns["unit_cost"] = problem.cost
        for what in ("kpi", "revenue", *(["profit"] if problem.objective == "profit" else [])):
            columns |= {f"{what}_current": now[what].mean(axis=0), f"{what}_best": best[what].mean(axis=0)}
        columns |= interval_columns("gain", gain)
        columns["gain_share"] = ratio(gain.mean(axis=0), np.abs(now[problem.objective].mean(axis=0)))
        columns["probability_better"] = probability_above(gain)
        for name, price in (("current", problem.current), ("best", self.price)):
            columns |= interval_columns(f"elasticity_{name}", self.elasticity(price))
        columns |= {"slope": problem.slope(self.price), "at_bound": self.at_bound()}
        return pd.DataFrame(columns | {"extrapolates": self.extrapolates(), "note": list(self.notes)})

    def total(self) -> pd.DataFrame:
        """One row for all series together: gain with intervals, probability_better, KPI, revenue and profit."""
        import pandas as pd

        objective = self.problem.objective
        now, best = self.outcome(self.problem.current), self.outcome(self.price)
        gain = (best[objective] - now[objective]).sum(axis=1)
        row: dict[str, Any] = {"objective": objective}
        for what in ("kpi", "revenue", *(["profit"] if objective == "profit" else [])):
            row |= {f"{what}_{n}": o[what].sum(axis=1).mean() for n, o in (("current", now), ("best", best))}
        row |= {name: float(value) for name, value in interval_columns("gain", gain).items()}
        row["gain_share"] = row["gain"] / abs(row[f"{objective}_current"]) if row[f"{objective}_current"] else np.nan
        return pd.DataFrame([row | {"probability_better": float(probability_above(gain))}])

    def elasticity(self, price: np.ndarray) -> np.ndarray:
        """Own-price elasticity of the KPI [S, n] at ``price`` [n]."""
        problem = self.problem
        part, slope = problem.own_part(price)
        if problem.response.link == "log":
            return slope * price
        return ratio(problem.periods * slope * price, problem.kpi(part + problem.cross_total(price)))

    def curves(self, points: int = 61) -> pd.DataFrame:
        """Objective and KPI over the bounds, one series' price a time, the others as recommended.

        Columns: series, price, kpi and the objective with intervals (of the series alone).
        """
        import pandas as pd

        problem = self.problem
        grid = log_grid(problem.low, problem.high, points)
        cross = problem.cross_total(self.price)
        frames = []
        for i, g in enumerate(problem.series):
            at = np.array([i])
            kpi = problem.kpi(problem.own_part(grid[at], at)[0] + cross[:, at, None], at)
            money = problem.money(kpi, grid[at], at)
            columns: dict[str, Any] = {"series": problem.response.series[g], "price": grid[i]}
            columns |= interval_columns("kpi", kpi[:, 0]) | interval_columns(problem.objective, money[:, 0])
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)


def optimise_prices(
    predictions: MixPredictions,
    *,
    objective: str = "profit",
    unit_cost: Any = None,
    kpi_is: str | None = None,
    bounds: Any = None,
    beyond: float = 0.1,
    series: Iterable[str] | str | None = None,
    siblings: str = "joint",
    start: Any = None,
    end: Any = None,
    periods: int | None = None,
) -> PricePlan:
    """Find the best own price of every series.

    Args:
        predictions: of a mix model.
        objective: "profit" or "revenue".
        unit_cost: of a unit, as in `kpi_money.unit_costs`; needed for profit.
        kpi_is: "units" or "revenue"; None tells by the KPI's unit.
        bounds, beyond: as in `price_problem.price_bounds`.
        series: names of those to price; None is all that have a price of their own. Others keep theirs.
        siblings: "joint" lets cross prices made of own prices in the panel follow, and maximises the total; "held"
            leaves them and takes each series alone.
        start, end: first and last day of the window whose demand counts.
        periods: instead of both, the last so many periods; None is a year, or what there is.

    Raises:
        UserError: no series with an own price, an unknown series, a missing cost, or a wrong option.
    """
    if objective not in OBJECTIVES:
        raise UserError(f"decision.objective={objective!r}: choose from {', '.join(OBJECTIVES)}.")
    if siblings not in SIBLINGS:
        raise UserError(f"decision.siblings={siblings!r}: choose from {', '.join(SIBLINGS)}.")
    response = predictions.response
    rows = choose_rows(predictions, start=start, end=end)
    rows &= predictions.date >= _first_date(predictions, rows, periods, response.periods_per_year, start, end)
    price = own_price_values(response, predictions.driver, predictions.series)
    known = rows & (price > 0)
    G = len(response.series)
    count = np.bincount(predictions.series[known], minlength=G)
    total = np.bincount(predictions.series[known], weights=price[known], minlength=G)
    current = np.divide(total, count, out=np.full(G, np.nan), where=count > 0)
    chosen = _chosen(series, response.series, response.own_price, count)
    if objective == "profit" and unit_cost is None:
        raise UserError(
            "The most profitable price depends on what a unit costs: give decision.unit_cost, a number, a share of the "
            "price such as 60%, {margin: 0.4} or {series: cost}; or choose decision.objective=revenue."
        )
    units = kpi_kind(response, kpi_is) == "units"
    cost = unit_costs(0.0 if unit_cost is None else unit_cost, response, current)
    low, high = price_bounds(bounds, beyond, response, chosen)
    links = price_links(predictions) if siblings == "joint" else []
    problem = price_problem(
        predictions,
        rows,
        series=chosen,
        current=current[chosen],
        cost=cost[chosen],
        low=low,
        high=high,
        links=links,
        units=units,
        objective=objective,
    )
    alone = best_alone(problem, problem.cross_total(problem.current))
    best, settled = alone, True
    if problem.crosses:
        ends = [best_together(problem, at) for at in (np.clip(problem.current, low, high), alone)]
        best, settled = max(ends, key=lambda end: total_objective(problem, end[0]))
    plan = PricePlan(problem, best, best_per_draw(problem, best), "", bool(problem.crosses), ("",) * len(chosen))
    words = _link_words(problem, links, siblings)
    if not settled:
        words += " The search was stopped before every price had settled: a little more may be possible."
    return replace(plan, links=words, notes=_notes(plan))


def _chosen(wanted: Any, names: tuple[str, ...], own: np.ndarray, count: np.ndarray) -> np.ndarray:
    if wanted is None:
        chosen = np.flatnonzero((own >= 0) & (count > 0))
        if len(chosen) == 0:
            raise UserError(
                "No series of this panel has a price of its own in the window: declare one in the data's roles "
                "(price: {name: {column: ..., direction: own}}) and train again."
            )
        return chosen
    listed = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    if not listed:
        raise UserError(
            "decision.series is empty: name series, or leave it out for all that have a price of their own."
        )
    chosen = np.array([nearest_index(name, names, "series", "decision.series") for name in dict.fromkeys(listed)])
    for g in chosen:
        if own[g] < 0 or count[g] == 0:
            raise UserError(f"decision.series: {names[g]!r} has no price of its own in the window. Leave it out.")
    return chosen


def _first_date(
    predictions: MixPredictions, rows: np.ndarray, periods: int | None, per_year: float, start: Any, end: Any
) -> np.datetime64:
    """First date of the last ``periods`` in ``rows``."""
    dates = np.unique(predictions.date[rows])
    if periods is None:
        return dates[0] if start is not None else dates[-min(len(dates), max(1, round(per_year)))]
    if isinstance(periods, bool) or not isinstance(periods, int) or not 1 <= periods <= len(dates):
        raise UserError(f"decision.periods={periods!r}: give a whole number from 1 to {len(dates)}.")
    if start is not None and end is not None:
        raise UserError(f"decision.periods={periods} with start and end: give two of the three.")
    return dates[0] if start is not None else dates[-periods]


def _link_words(problem: PriceProblem, links: list[PriceLink], siblings: str) -> str:
    response = problem.response
    if not has_cross_prices(response):
        return "The model has no cross prices: each series is priced on its own."
    if problem.crosses:
        held = len(links) - len(problem.crosses)
        more = f" {held} others consist of prices that are not set here and stay as they were." if held else ""
        return (
            f"All prices were set together: {len(problem.crosses)} cross prices of the model consist of own prices of "
            f"this panel and follow them.{more}"
        )
    why = "as asked (siblings=held)" if siblings == "held" else "none could be recognised as a price set here"
    return f"Cross prices were held as they were, {why}: what a price does to the sales of siblings is not counted."


def _notes(plan: PricePlan) -> tuple[str, ...]:
    problem = plan.problem
    bound, beyond = plan.at_bound(), plan.extrapolates()
    elasticity = plan.elasticity(plan.price).mean(axis=0)
    demand = plan.outcome(plan.price)["kpi"].mean(axis=0)
    notes = []
    for i in range(len(plan.price)):
        said = []
        if bound[i]:
            said.append(f"at its {bound[i]} bound: the best price may lie beyond")
            if bound[i] == "high" and elasticity[i] > -1 and problem.units:
                said.append("demand is inelastic here (above -1), so any higher price looks better to the model")
        if beyond[i]:
            said.append("outside the prices the model has seen")
        if problem.objective == "profit" and problem.current[i] <= problem.cost[i]:
            said.append("the current price does not cover the unit cost")
        if demand[i] <= 0:
            said.append("the model sees no demand at this price")
        notes.append("; ".join(said))
    return tuple(notes)
