"""Who gets which offer within a budget: the multiple-choice knapsack.

Each customer gets at most one offer. With nothing but a budget, the best use of any amount of money moves each customer
along the upper concave hull of its offers' (cost, value), the steepest steps of all customers first: that path is the
whole frontier of the linear relaxation (Sinha and Zoltners, "The multiple-choice knapsack problem", Operations Research
27(3), 1979), and only the last step may not fit as a whole. Caps per offer and a maximum number of customers are priced
(`wanamaker.decisions.targeting_prices`). Every answer carries an upper bound that no audience can exceed.

Axis letters: N customers, A offers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wanamaker.decisions.targeting_prices import Limits, fill, prices

_GAP = 1e-4  # of the bound: more than this between the answer and the bound is worth a second try


class Steps(NamedTuple):
    """Steps along the customers' hulls, those that bring most per money first; a customer's steps keep their order.

    Attributes:
        customer: int64 [E].
        before, after: int64 [E], the offer's number + 1; 0 is none.
        cost, value: [E], what the step adds; the value is above 0.
        slope: [E], value per money, descending; infinite where the step costs nothing.
    """

    customer: np.ndarray
    before: np.ndarray
    after: np.ndarray
    cost: np.ndarray
    value: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True)
class Assignment:
    """Who gets what.

    Attributes:
        arm: int64 [N], the offer's number + 1; 0 is none.
        value: money in all.
        cost: money in all.
        bound: money that no audience within the limits can exceed.
        price: of one more unit of budget: what the next money would bring; 0 where the budget does not bind.
    """

    arm: np.ndarray
    value: float
    cost: float
    bound: float
    price: float


def hull_steps(value: np.ndarray, cost: np.ndarray) -> Steps:
    """The steps of every customer's upper concave hull from (0, 0), sorted.

    Args:
        value: [N, A], net value; offers at or below 0 are never taken.
        cost: [N, A], money, 0 or more.
    """
    N, A = value.shape
    parts: list[tuple[np.ndarray, ...]] = []
    rows = np.arange(N)
    here = np.zeros(N, np.int64)
    at_cost, at_value, last = np.zeros(N), np.zeros(N), np.full(N, np.inf)
    for _ in range(A):
        gain = value[rows] - at_value[:, None]
        extra = cost[rows] - at_cost[:, None]
        useful = (gain > 0) & (extra >= 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(useful, np.where(extra > 0, gain / extra, np.inf), -1.0)
        # Among equal slopes the cheaper, so that a step is as small as can be; among free offers the best.
        steepest = slope.max(axis=1)
        tied = slope == steepest[:, None]
        rank = np.where(np.isinf(steepest)[:, None], -gain, extra)
        step = np.where(tied, rank, np.inf).argmin(axis=1)
        keep = steepest > 0
        rows, step, here, last = rows[keep], step[keep], here[keep], last[keep]
        if not len(rows):
            break
        pick = np.arange(len(keep))[keep]
        # Rounding must not put a customer's later step before an earlier one.
        last = np.minimum(last, steepest[keep])
        parts.append((rows, here, step + 1, extra[pick, step], gain[pick, step], last))
        here, at_cost, at_value = step + 1, cost[rows, step], value[rows, step]
    if not parts:
        empty = np.zeros(0)
        return Steps(*(np.zeros(0, np.int64),) * 3, empty, empty, empty)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(-columns[5], kind="stable")
    return Steps(*(column[order] for column in columns))


def assign_offers(
    value: np.ndarray,
    cost: np.ndarray,
    budget: float | None = None,
    max_clients: int | None = None,
    caps: np.ndarray | None = None,
) -> Assignment:
    """The audience of the highest value.

    With a budget alone, more budget never brings less. With caps or a maximum number as well the answer is within
    ``bound - value`` of the best; the bound comes from prices of all limits.

    Args:
        value: [N, A], money that each offer brings; -inf, or 0 and below, forbids.
        cost: [N, A], money, 0 or more.
        budget: money; None is no limit.
        max_clients: None is no limit.
        caps: [A] customers per offer, inf for none; None is no limit.
    """
    value, cost = np.asarray(value, np.float64), np.asarray(cost, np.float64)
    N, A = value.shape
    caps = np.full(A, np.inf) if caps is None else np.asarray(caps, np.float64)
    limits = Limits(np.inf if budget is None else float(budget), float(max_clients or np.inf), caps)
    best = np.where(value > 0, value, -np.inf)
    free_choice = np.where((best > 0).any(axis=1), best.argmax(axis=1) + 1, 0) if A else np.zeros(N, np.int64)
    if limits.hold(free_choice, cost):
        return _assignment(free_choice, value, cost, None, 0.0)
    if not limits.counted(N):
        return _within_budget(value, cost, limits.budget)
    if np.isinf(limits.budget) and np.isinf(caps).all():
        arm = np.zeros(N, np.int64)
        top = np.argsort(-best.max(axis=1), kind="stable")[: int(limits.clients)]
        arm[top] = free_choice[top]
        return _assignment(arm, value, cost, None, 0.0)
    keep = np.flatnonzero(free_choice)
    found = prices(best[keep], cost[keep], limits)
    arm = np.zeros(N, np.int64)
    arm[keep] = fill(best[keep], cost[keep], found, limits)
    answer = _assignment(arm, value, cost, found.bound, found.money)
    if answer.bound - answer.value <= _GAP * abs(answer.bound):
        return answer
    # Many equal customers stand exactly where the prices are indifferent. Told apart by a hair they do not.
    hair = best[keep] * (1 + _GAP * np.random.default_rng(0).uniform(-1, 1, (len(keep), A)))
    arm = np.zeros(N, np.int64)
    arm[keep] = fill(hair, cost[keep], prices(hair, cost[keep], limits), limits)
    other = _assignment(arm, value, cost, found.bound, found.money)
    return max(answer, other, key=lambda a: a.value)


def _within_budget(value: np.ndarray, cost: np.ndarray, budget: float) -> Assignment:
    """Steps by what they bring per money; one that does not fit is skipped, with its customer's later ones."""
    steps = hull_steps(value, cost)
    arm = np.zeros(len(value), np.int64)
    spent = np.cumsum(steps.cost)
    count = int(np.searchsorted(spent, budget * (1 + 1e-12), side="right"))
    _take(arm, steps, np.arange(count))
    left = budget - (spent[count - 1] if count else 0.0)
    reached = float(steps.value[:count].sum())
    price = float(steps.slope[count]) if count < len(steps.slope) else 0.0
    bound = reached + price * left
    rest = np.arange(count, len(steps.cost))
    barred_from = np.full(len(value), len(steps.cost))  # a customer's steps from here on build on one that was skipped
    while True:
        dear = rest[steps.cost[rest] > left][::-1]
        barred_from[steps.customer[dear]] = np.minimum(dear, barred_from[steps.customer[dear]])
        rest = rest[rest < barred_from[steps.customer[rest]]]
        if not len(rest):
            break
        spent = np.cumsum(steps.cost[rest])
        count = max(1, int(np.searchsorted(spent, left, side="right")))
        _take(arm, steps, rest[:count])
        left -= float(spent[count - 1])
        rest = rest[count:]
    return _assignment(arm, value, cost, bound, price)


def _take(arm: np.ndarray, steps: Steps, taken: np.ndarray) -> None:
    arm[steps.customer[taken]] = steps.after[taken]  # ascending: a customer's last step wins


def _assignment(arm: np.ndarray, value: np.ndarray, cost: np.ndarray, bound: float | None, price: float) -> Assignment:
    rows = np.flatnonzero(arm)
    total = float(value[rows, arm[rows] - 1].sum())
    return Assignment(arm, total, float(cost[rows, arm[rows] - 1].sum()), total if bound is None else bound, price)
