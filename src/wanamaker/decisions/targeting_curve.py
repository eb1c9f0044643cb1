"""The cost curve: what the audience brings as the budget grows, judged by doubly robust scores of held-out rows.

With more budget customers step along their hulls (`wanamaker.decisions.targeting_budget.hull_steps`); each step moves a
row from one arm to another, and what that brings is the difference of the row's scores. So one pass over the sorted
steps gives the whole curve, the Qini curve for several arms with costs (Sverdrup, Wu, Athey and Wager, "Qini curves for
multi-armed treatment rules", 2023). Bands: rows are put into at most 1,000 random groups, which are drawn again with
replacement; for sums over rows that has the spread of drawing the rows themselves.

Axis letters: N rows, A offers, P points of spend, G groups, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan
from wanamaker.decisions.targeting_budget import hull_steps

if TYPE_CHECKING:
    import pandas as pd

MODEL, SINGLE_RANKED, SINGLE, RANDOM = "model", "best offer, best first", "best offer at random", "any offer at random"
_GROUPS = 1000


@dataclass(frozen=True)
class CostLine:
    """One way to spend.

    Attributes:
        value, low, high: [P], net value per 1,000 customers; NaN beyond what this way can spend.
        beyond, beyond_low, beyond_high: [P], how much more than the best offer at random for the same spend, or for all
            that it can spend.
        end: spend per 1,000 customers where it has nothing more to spend on.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    beyond: np.ndarray
    beyond_low: np.ndarray
    beyond_high: np.ndarray
    end: float


@dataclass(frozen=True)
class CostCurve:
    """Net value against spend.

    Attributes:
        spend: [P], ascending from 0, expected money per 1,000 customers; customers contacted if offers cost nothing.
        lines: `MODEL`, `SINGLE_RANKED`, `SINGLE` and `RANDOM`.
        contacts: whether spend counts customers.
        level: of the bands.
    """

    spend: np.ndarray
    lines: dict[str, CostLine]
    contacts: bool
    level: float


def cost_curve(plan: TargetingPlan, points: int = 101) -> CostCurve | None:
    """The curve on the rows that judge; None where there are none, or no offer is worth anything to anyone.

    Limits on customers and caps are left out: the budget alone grows.
    """
    judged, offers = plan.judged, plan.judged_offers
    if judged is None or offers is None or not (offers.allowed & (offers.net > 0)).any():
        return None
    options, weight = plan.policy.options, judged.predictions.weight
    contacts = not offers.cost.any()
    cost = np.ones_like(offers.cost) if contacts else offers.cost
    N, _A = cost.shape
    value = np.where(offers.allowed, offers.net, -np.inf)
    only = np.full_like(value, -np.inf)
    only[:, plan.policy.best - 1] = offers.net[:, plan.policy.best - 1]

    rng = np.random.default_rng(options.seed)
    G = min(N, _GROUPS)
    group = rng.permutation(N) % G
    draws = np.vstack([np.ones(G), rng.multinomial(G, np.full(G, 1 / G), size=options.draws)])  # the first is all rows
    customers = draws @ np.bincount(group, weights=weight, minlength=G) / 1000  # [D]

    def mean(per_row: np.ndarray) -> np.ndarray:  # [D], per 1,000 customers
        return draws @ np.bincount(group, weights=weight * per_row, minlength=G) / customers

    steps = {name: hull_steps(v, cost) for name, v in ((MODEL, value), (SINGLE_RANKED, only))}
    per_thousand = 1000 / weight.sum()
    ends = {name: float((s.cost * weight[s.customer]).sum() * per_thousand) for name, s in steps.items()}
    best = plan.policy.best
    single = mean(cost[:, best - 1]), mean(judged.gain[:, best])
    anyone = mean(cost.mean(axis=1)), mean(judged.gain[:, 1:].mean(axis=1))
    spend = np.linspace(0, max(*ends.values(), single[0][0], anyone[0][0]), points)

    paths: dict[str, tuple[np.ndarray, float]] = {}
    for name, s in steps.items():
        spent = np.cumsum(s.cost * weight[s.customer]) * per_thousand
        point = np.minimum(np.searchsorted(spend, spent * (1 - 1e-12)), points - 1)
        cell = group[s.customer] * points + point
        gain = judged.gain[s.customer, s.after] - judged.gain[s.customer, s.before]
        sums = [
            np.cumsum(draws @ np.bincount(cell, weights=w, minlength=G * points).reshape(G, points), axis=1)
            for w in (s.cost * weight[s.customer], gain * weight[s.customer])
        ]
        x, y = (array / customers[:, None] for array in sums)
        drawn = np.stack([np.interp(spend, *_rising(a, b)) for a, b in zip(x, y, strict=True)])
        paths[name] = drawn, ends[name]
    paths |= {name: _at_random(*drawn, spend) for name, drawn in ((SINGLE, single), (RANDOM, anyone))}
    straight = paths[SINGLE][0]
    lines = {name: _line(drawn, drawn - straight, spend, end, options.level) for name, (drawn, end) in paths.items()}
    return CostCurve(spend, lines, contacts, options.level)


def _at_random(cost: np.ndarray, gain: np.ndarray, spend: np.ndarray) -> tuple[np.ndarray, float]:
    """Value [D, P] of customers drawn at random, straight up to where everyone is treated, and the spend there."""
    end = float(cost[0])
    return np.outer(gain / np.maximum(cost, 1e-300), np.minimum(spend, end)), end


def _rising(spend: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of distinct spend; of several the last, where all that it buys has been bought."""
    last = np.append(np.diff(spend) > 0, True)
    return spend[last], value[last]


def _line(drawn: np.ndarray, beyond: np.ndarray, spend: np.ndarray, end: float, level: float) -> CostLine:
    past = spend > end * (1 + 1e-9) + (spend[1] - spend[0]) * (1 - 1e-9)
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    columns = [drawn[0], *np.quantile(drawn[1:], quantiles, axis=0), beyond[0]]
    columns += list(np.quantile(beyond[1:], quantiles, axis=0))
    return CostLine(*(np.where(past, np.nan, column) for column in columns), end=end)


def curve_table(curve: CostCurve) -> pd.DataFrame:
    """The curve as rows: way, spend and net value per 1,000 customers with bounds, and beyond the best offer at "
    "random."""
    import pandas as pd

    frames = []
    for name, line in curve.lines.items():
        columns = {"way": name, "contacts_per_1000" if curve.contacts else "spend_per_1000": curve.spend}
        columns |= {f: getattr(line, f) for f in ("value", "low", "high", "beyond", "beyond_low", "beyond_high")}
        frames.append(pd.DataFrame(columns).dropna(subset=["value"]))
    return pd.concat(frames, ignore_index=True)
