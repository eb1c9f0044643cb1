"""A budget plan as tables: per channel, per cell, against naive plans, limits with prices, moves, extrapolation.

Money columns are in the money unit of the response, "value" is money that the KPI is worth. What a plan or a channel
brings counts window and carry-over after it. Intervals are those of `decisions.intervals`.

Axis letters: S draws, G series, H periods, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.budget import REFERENCE, BudgetPlan
from wanamaker.decisions.budget_variables import index_channel
from wanamaker.decisions.intervals import interval_columns, probability_above, ratio
from wanamaker.decisions.response import ResponseSurface, channel_incremental, value_and_gradient

if TYPE_CHECKING:  # pandas costs half a second to import
    import pandas as pd

_BINDING = 1e-6  # slack, relative, below which a limit counts as reached


def channel_table(plan: BudgetPlan) -> pd.DataFrame:
    """One row per channel: money now and planned, what it brings, ROI and marginal ROI, extrapolation.

    ROI is the value lost without the channel's money, per money; marginal ROI what one more unit of money brings when
    all the channel's cells grow alike.
    """
    import pandas as pd

    response, window = plan.response, plan.window
    money = [window.spend.sum(axis=(0, 1)), plan.best.plan.sum(axis=(0, 1))]
    value = [
        response.kpi_value * channel_incremental(response, window, spend).sum(axis=1)
        for spend in (window.spend, plan.best.plan)
    ]
    free = np.isin(np.arange(len(response.channels)), index_channel(plan.variables.index, plan.variables.count))
    role = np.where(~response.paid, "organic", np.where(free, "planned", "fixed"))
    high = plan.best.plan / np.where(window.max_spend > 0, window.max_spend, np.nan)[:, None]
    beyond = beyond_history(plan)
    columns = {
        "channel": np.array(response.channels, object),
        "role": role.astype(object),
        "current_spend": money[0],
        "planned_spend": money[1],
        "change": money[1] - money[0],
        "change_share": ratio(money[1] - money[0], money[0]),
    }
    for name, spend, brings in zip(("current", "planned"), money, value, strict=True):
        columns |= interval_columns(f"{name}_value", brings)
        columns |= interval_columns(f"{name}_roi", ratio(brings, np.where(spend > 0, spend, 0.0)))
    for name, spend in (("current", window.spend), ("planned", plan.best.plan)):
        columns |= interval_columns(f"{name}_marginal_roi", _marginal(plan, spend))
    columns |= {
        "cells_beyond_history": beyond.sum(axis=(0, 1)),
        "highest_against_history": np.nan_to_num(high, nan=0.0).max(axis=(0, 1)),
    }
    return pd.DataFrame(columns)


def _marginal(plan: BudgetPlan, spend: np.ndarray) -> np.ndarray:
    """Marginal ROI [S, C] of each channel when its pattern grows as it is; NaN where it spends nothing."""
    response, window = plan.response, plan.window
    channels = spend.sum(axis=(0, 1))
    shares = spend / np.where(channels > 0, channels, np.nan)
    if response.num_draws == 1:
        _, gradient = value_and_gradient(response, window, spend)
        made = np.where(shares > 0, gradient * shares, 0.0).sum(axis=(0, 1))[None]
        return np.where(channels > 0, made, np.nan)
    surface = ResponseSurface(response, window)
    marginal = np.full((response.num_draws, len(response.channels)), np.nan)
    for c in np.flatnonzero(channels > 0):
        # A central difference of 0.1 % costs two evaluations for all draws; a gradient per draw would cost S of them.
        step = 1e-3 * channels[c]
        up, down = spend.copy(), spend.copy()
        up[:, :, c] *= 1 + 1e-3
        down[:, :, c] *= 1 - 1e-3
        marginal[:, c] = (surface.value(up) - surface.value(down)) / (2 * step)
    return marginal


def beyond_history(plan: BudgetPlan) -> np.ndarray:
    """Cells [G, H, C] whose planned money is above the highest ever spent there in one period."""
    limit = plan.window.max_spend[:, None]
    return plan.best.plan > limit * (1 + 1e-9) + 1e-9


def cell_table(plan: BudgetPlan) -> pd.DataFrame:
    """The plan: one row per series, period and paid channel."""
    import pandas as pd

    response, window = plan.response, plan.window
    G, H, C = window.spend.shape
    g, h, c = (a.reshape(-1) for a in np.meshgrid(np.arange(G), np.arange(H), np.arange(C), indexing="ij"))
    paid = response.paid[c]
    g, h, c = g[paid], h[paid], c[paid]
    planned, current = plan.best.plan[g, h, c], window.spend[g, h, c]
    return pd.DataFrame(
        {
            "series": np.array(response.series, object)[g],
            "date": window.dates[h].astype("datetime64[s]"),
            "channel": np.array(response.channels, object)[c],
            "current_spend": current,
            "planned_spend": planned,
            "change": planned - current,
            "highest_in_history": window.max_spend[g, c],
            "against_history": ratio(planned, window.max_spend[g, c]),
            "beyond_history": beyond_history(plan)[g, h, c],
        }
    )


def comparison_table(plan: BudgetPlan) -> pd.DataFrame:
    """One row per plan: what it brings, and how much more the optimised plan brings than it, with its chance."""
    import pandas as pd

    plans = {"optimised": plan.best, "current": plan.current}
    if plan.naive[REFERENCE].adjusted and abs(plan.total - plan.current.total) > 1e-9 * plan.total:
        plans["current, scaled to the total"] = plan.reference
    plans |= plan.naive
    rows = []
    for name, candidate in plans.items():
        more = plan.beyond(candidate)
        row = {"plan": name, "spend": candidate.total, "adjusted_to_limits": candidate.adjusted}
        row |= interval_columns("value", candidate.gain) | interval_columns(
            "roi", candidate.gain / candidate.total if candidate.total > 0 else candidate.gain * np.nan
        )
        row["score"] = plan.score.get("plan" if name == "optimised" else name, np.nan)
        row |= interval_columns("optimised_brings_more", more if name != "optimised" else more * np.nan)
        row["optimised_better"] = np.nan if name == "optimised" else float(probability_above(more))
        rows.append(row)
    frame = pd.DataFrame(rows)
    words = ("plan", "adjusted_to_limits")
    return frame.astype({name: np.float64 for name in frame.columns if name not in words})


def constraint_table(plan: BudgetPlan) -> pd.DataFrame:
    """One row per limit: its value, whether it binds, and its shadow price.

    The shadow price is what one more unit of the limit would add to the score, the other limits unchanged: above 0
    for an upper limit that binds, below 0 for a lower one, 0 for one that does not bind. A limit of many parts (cells,
    pairs of periods) has one row with the number of parts that bind and the steepest of their prices.
    """
    import pandas as pd

    limits, solution, variables = plan.constraints, plan.solution, plan.variables
    money = solution.x * variables.scale
    sums = limits.matrix @ money
    scaled = limits.matrix * variables.scale[None, :]
    length = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).reshape(-1))
    price = solution.multiplier / np.where(length > 0, length, 1.0)
    rows: list[dict] = []
    for name in dict.fromkeys(limits.row_name):
        mine = np.flatnonzero(np.array(limits.row_name, object) == name)
        fixed = limits.row_fixed[mine]
        rows.append(
            _limit(
                name,
                limits.row_unit[mine[0]],
                sums[mine],
                limits.row_lower[mine],
                limits.row_upper[mine],
                fixed,
                price[mine],
            )
        )
    reduced = (solution.gradient - (limits.matrix.T @ (price)) * variables.scale) / variables.scale
    for names, limit, is_lower in ((limits.lower_name, limits.lower, True), (limits.upper_name, limits.upper, False)):
        for name in dict.fromkeys(n for n in names if n):
            mine = np.flatnonzero(names == name)
            at = np.isclose(money[mine], limit[mine], rtol=_BINDING, atol=_BINDING * variables.scale[mine])
            cost = np.where(at, np.minimum(reduced[mine], 0) if is_lower else np.maximum(reduced[mine], 0), 0.0)
            low = limit[mine] if is_lower else np.full(len(mine), -np.inf)
            high = limit[mine] if not is_lower else np.full(len(mine), np.inf)
            rows.append(_limit(name, plan.response.money_unit, money[mine], low, high, np.zeros(len(mine)), cost))
    frame = pd.DataFrame(
        rows, columns=["limit", "parts", "unit", "lowest", "value", "highest", "binding_parts", "shadow_price"]
    )
    frame["price_unit"] = [f"{plan.score_unit} per {unit}" for unit in frame["unit"]]
    return frame


def _limit(
    name: str, unit: str, value: np.ndarray, low: np.ndarray, high: np.ndarray, fixed: np.ndarray, price: np.ndarray
) -> dict:
    near = _BINDING * np.maximum(1.0, np.abs(value))
    binding = (value <= low + near) | (value >= high - near)
    price = np.where(binding, price, 0.0)
    steepest = int(np.argmax(np.abs(price)))
    single = len(value) == 1

    def end(limit: np.ndarray) -> float:
        total = float((limit + fixed).sum()) if single else np.nan
        return total if np.isfinite(total) else np.nan

    return {
        "limit": name,
        "parts": len(value),
        "unit": unit,
        "lowest": end(low),
        "value": float((value + fixed).sum()) if single else np.nan,
        "highest": end(high),
        "binding_parts": int(binding.sum()),
        "shadow_price": float(price[steepest]),
    }


def move_table(plan: BudgetPlan) -> pd.DataFrame:
    """The plan as moves of money from channel to channel, each judged on its own.

    A move takes the reference (the current plan scaled to the total) and changes the two channels only, towards what
    the plan gives them, in its pattern over series and time. What it brings has an interval, and a probability to
    help; from `options.robust` on it counts as robust.
    """
    import pandas as pd

    reference = plan.reference.plan
    surface = ResponseSurface(plan.response, plan.window)
    before = surface.value(reference)
    rows = []
    for donor, receiver, money in _pairs(plan, reference):
        moved = _moved(plan, reference, [(donor, receiver, money)])
        gain = surface.value(moved) - before
        chance = float(probability_above(gain))
        rows.append(
            {
                "from": plan.response.channels[donor],
                "to": plan.response.channels[receiver],
                "money": money,
                **interval_columns("brings", gain),
                "helps": chance,
                "robust": bool(chance >= plan.options.robust) and plan.response.num_draws > 1,
            }
        )
    columns = ["from", "to", "money", *interval_columns("brings", before), "helps", "robust"]
    return pd.DataFrame(rows, columns=columns)


def robust_gain(plan: BudgetPlan, moves: pd.DataFrame) -> np.ndarray | None:
    """Money [S] that the robust moves bring together, None where there are none."""
    chosen = moves[moves["robust"].astype(bool)]
    if len(chosen) == 0:
        return None
    reference = plan.reference.plan
    names = list(plan.response.channels)
    steps = [
        (names.index(a), names.index(b), m)
        for a, b, m in zip(chosen["from"], chosen["to"], chosen["money"], strict=True)
    ]
    surface = ResponseSurface(plan.response, plan.window)
    return surface.value(_moved(plan, reference, steps)) - surface.value(reference)


def _pairs(plan: BudgetPlan, reference: np.ndarray) -> list[tuple[int, int, float]]:
    """Donors and receivers matched largest first, at most C - 1 moves; below 0.1 % of the total is left out."""
    change = (plan.best.plan - reference).sum(axis=(0, 1))
    small = 1e-3 * plan.total
    left = {int(c): float(change[c]) for c in np.argsort(-np.abs(change)) if abs(change[c]) > small}
    pairs = []
    while True:
        donors = [c for c, v in left.items() if v < -small]
        receivers = [c for c, v in left.items() if v > small]
        if not donors or not receivers:
            return pairs
        donor, receiver = min(donors, key=left.__getitem__), max(receivers, key=left.__getitem__)
        money = min(-left[donor], left[receiver])
        pairs.append((donor, receiver, money))
        left[donor] += money
        left[receiver] -= money


def _moved(plan: BudgetPlan, reference: np.ndarray, moves: list[tuple[int, int, float]]) -> np.ndarray:
    """The reference with some of the way to the plan gone, in the channels of the moves."""
    change = (plan.best.plan - reference).sum(axis=(0, 1))
    way = np.zeros(len(change))
    for donor, receiver, money in moves:
        way[donor] += money / -change[donor]
        way[receiver] += money / change[receiver]
    return reference + way * (plan.best.plan - reference)


def gain_steps(plan: BudgetPlan) -> list[tuple[str, float]]:
    """Mean gain over the reference in steps: money between channels, then between series, then between periods."""
    reference, best = plan.reference.plan, plan.best.plan
    surface = ResponseSurface(plan.response, plan.window)

    def filled(axes: tuple[int, ...]) -> np.ndarray:
        wanted, had = best.sum(axis=axes, keepdims=True), reference.sum(axis=axes, keepdims=True)
        grown = reference * np.divide(wanted, had, out=np.zeros_like(wanted), where=had > 0)
        return np.where(had > 0, grown, wanted / np.prod([best.shape[a] for a in axes]))

    stages = [("between channels", filled((0, 1)))]
    if "series" in plan.options.resolution and best.shape[0] > 1:
        stages.append(("between series", filled((1,))))
    if "period" in plan.options.resolution:
        stages.append(("between periods", best))
    before, steps = surface.value(reference).mean(), []
    for name, stage in stages:
        after = surface.value(stage if name != stages[-1][0] else best).mean()
        steps.append((name, float(after - before)))
        before = after
    return steps
