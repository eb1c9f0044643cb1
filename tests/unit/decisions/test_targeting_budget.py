"""The knapsack of targeting: against brute force, within its limits, and never worse with more money."""

from itertools import product

import numpy as np
import pytest

from wanamaker.decisions.targeting_budget import Assignment, assign_offers, hull_steps


def problem(seed: int, customers: int = 6, offers: int = 2, *, free: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    value = rng.normal(1.0, 1.5, (customers, offers))
    cost = rng.uniform(0, 2, (customers, offers)) * (rng.uniform(size=(customers, offers)) > 0.3 * free)
    return value, cost


def brute(value: np.ndarray, cost: np.ndarray, budget: float, clients: float, caps: np.ndarray) -> float:
    N, A = value.shape
    rows, best = np.arange(N), 0.0
    value0 = np.column_stack([np.zeros(N), np.where(value > 0, value, -1e9)])
    cost0 = np.column_stack([np.zeros(N), cost])
    for arm in product(range(A + 1), repeat=N):
        picked = np.array(arm)
        counts = np.bincount(picked, minlength=A + 1)[1:]
        if cost0[rows, picked].sum() <= budget and counts.sum() <= clients and (counts <= caps).all():
            best = max(best, value0[rows, picked].sum())
    return best


def keeps(found: Assignment, cost: np.ndarray, budget: float, clients: float, caps: np.ndarray) -> None:
    rows = np.flatnonzero(found.arm)
    assert cost[rows, found.arm[rows] - 1].sum() <= budget * (1 + 1e-9)
    assert len(rows) <= clients
    assert (np.bincount(found.arm, minlength=cost.shape[1] + 1)[1:] <= caps).all()


@pytest.mark.parametrize("seed", range(12))
def test_budget_against_brute_force(seed: int) -> None:
    value, cost = problem(seed, free=seed % 2 == 0)
    none = np.full(2, np.inf)
    largest = np.max(value, initial=0)
    for budget in (0.3, 1.0, 2.5, 100.0):
        found, truth = assign_offers(value, cost, budget=budget), brute(value, cost, budget, np.inf, none)
        keeps(found, cost, budget, np.inf, none)
        assert found.value <= truth + 1e-9
        assert truth <= found.bound + 1e-9, "the bound is one"
        assert found.bound - found.value <= largest + 1e-9, "all that is lost is one step"
    steps = hull_steps(value, cost)
    for count in range(len(steps.cost)):  # where the last step fits as a whole, the greedy answer is the best
        budget = float(steps.cost[: count + 1].sum())
        if budget:
            found = assign_offers(value, cost, budget=budget + 1e-9)
            assert found.value == pytest.approx(brute(value, cost, budget + 1e-9, np.inf, none))


@pytest.mark.parametrize("seed", range(12))
def test_all_limits_against_brute_force(seed: int) -> None:
    value, cost = problem(100 + seed)
    caps = np.array([2.0, np.inf]) if seed % 3 else np.array([1.0, 2.0])
    for budget, clients in ((np.inf, 3), (2.0, 3), (2.5, None), (np.inf, None), (1.0, 2)):
        found = assign_offers(value, cost, None if np.isinf(budget) else budget, clients, caps)
        truth = brute(value, cost, budget, clients or np.inf, caps)
        keeps(found, cost, budget, clients or np.inf, caps)
        assert found.value <= truth + 1e-9 <= found.bound + 2e-6 * abs(found.bound) + 2e-9
        limits = np.isfinite([budget, *caps]).sum() + (clients is not None)
        assert truth - found.value <= limits * value.max() + 1e-9, "all that is lost is a customer per limit"
        if np.isinf(budget):
            assert found.value == pytest.approx(truth, abs=1e-6), "counts alone: the relaxation has no gap"


@pytest.mark.parametrize("seed", range(6))
def test_more_money_never_brings_less(seed: int) -> None:
    value, cost = problem(seed, customers=60, offers=3, free=True)
    values = [assign_offers(value, cost, budget=budget).value for budget in np.linspace(0.01, cost.sum(), 150)]
    assert (np.diff(values) >= -1e-9).all()
    best = np.maximum(value, 0).max(axis=1).sum()
    assert values[-1] == pytest.approx(best), "all the money in the world: everyone's best offer"


def test_limits_at_size() -> None:
    """Twenty thousand customers: near what no audience can exceed, also if all are equal."""
    value, cost = problem(3, customers=20_000, offers=4)
    equal = np.tile([[2.0, 3.0, 1.0, 0.5]], (20_000, 1)), np.tile([[1.0, 2.0, 0.5, 0.0]], (20_000, 1))
    for worth, money in ((value, cost), equal):
        caps, last = np.array([3000, 2000, np.inf, 4000]), -np.inf
        for budget in (1000.0, 3000.0, 6000.0, 20_000.0):
            found = assign_offers(worth, money, budget, 9000, caps)
            keeps(found, money, budget, 9000, caps)
            short = 1e-3 if worth is equal[0] else 1e-4
            assert found.bound * (1 + 1e-6) >= found.value >= found.bound * (1 - short)
            assert found.value >= last * (1 - 1e-3)
            last = found.value


def test_steps_are_concave_and_complete() -> None:
    value, cost = problem(5, customers=500, offers=4, free=True)
    steps = hull_steps(value, cost)
    assert (np.diff(steps.slope[np.isfinite(steps.slope)]) <= 0).all()
    at = np.zeros(500, int)
    for customer, before, after in zip(steps.customer, steps.before, steps.after, strict=True):
        assert at[customer] == before, "a customer's steps follow each other"
        at[customer] = after
    best = np.where((value > 0).any(axis=1), value.argmax(axis=1) + 1, 0)
    assert (at == best).all(), "the path ends at everyone's best offer"
    dominated = hull_steps(np.array([[1.0, 1.1, 3.0]]), np.array([[1.0, 2.0, 3.0]]))
    assert dominated.after.tolist() == [1, 3] or dominated.after.tolist() == [3], "under the hull: never"


def test_nothing_worth_it() -> None:
    found = assign_offers(np.full((5, 2), -1.0), np.ones((5, 2)), budget=3.0, max_clients=2)
    assert not found.arm.any()
    assert (found.value, found.cost, found.bound) == (0.0, 0.0, 0.0)
    forbidden = assign_offers(np.array([[-np.inf, 2.0], [1.0, -np.inf]]), np.ones((2, 2)), max_clients=1)
    assert forbidden.arm.tolist() == [2, 0]
