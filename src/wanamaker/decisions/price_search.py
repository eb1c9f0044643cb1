"""The search for the best prices: a dense grid, ever finer grids around its best points, and sweeps over linked series.

Axis letters: S draws, n priced series, V prices on a grid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.driver_curves import driver_part
from wanamaker.decisions.price_problem import PriceProblem

_GRID = 401
_ZOOM = 33
_ZOOMS = 5  # each narrows the bracket sixteen times: 1e-8 of the range in the end
_BEST = 3  # of the grid's peaks are looked at closely
_CLOSE = 0.05  # of the range of values: a peak that is lower by this on the grid may be the highest between its points
_COARSE = 101  # points while prices are set together; a best price of one series is of the dense grid
_STILL = 1e-6  # a price that moves less, in the logarithm, stays
_SWEEPS = 60
_CELLS = 2e7  # floats at once


def log_grid(low: np.ndarray, high: np.ndarray, points: int) -> np.ndarray:
    """[n, points], evenly spaced in the logarithm; the ends are exact."""
    grid = np.exp(np.linspace(np.log(low), np.log(high), points, axis=-1))
    grid[..., 0], grid[..., -1] = low, high
    return grid


def _search(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, points: int = _GRID) -> float:
    """The price in [low, high] that maximises ``function`` (prices [V] to values [V])."""
    grid = log_grid(np.array(low), np.array(high), points)
    values = function(grid)
    best_price, best_value = float(grid[values.argmax()]), -np.inf
    for peak in _peaks(values):
        bracket = grid[max(peak - 1, 0)], grid[min(peak + 1, points - 1)]
        for _ in range(_ZOOMS):
            fine = log_grid(np.array(bracket[0]), np.array(bracket[1]), _ZOOM)
            heights = function(fine)
            top = int(heights.argmax())
            if heights[top] > best_value:
                best_price, best_value = float(fine[top]), float(heights[top])
            bracket = fine[max(top - 1, 0)], fine[min(top + 1, _ZOOM - 1)]
    return best_price


def _peaks(values: np.ndarray) -> np.ndarray:
    """Positions of the highest local maxima, the ends included, that a closer look could still make the highest."""
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]))
    peaks = peaks[values[peaks] >= values.max() - _CLOSE * np.ptp(values)]
    return peaks[np.argsort(-values[peaks], kind="stable")][:_BEST]


def best_alone(problem: PriceProblem, cross: np.ndarray) -> np.ndarray:
    """Best price [n] of each series with cross parts [S, n] fixed."""
    best = np.empty(len(problem.series))
    for i in range(len(best)):
        at = np.array([i])

        def mean(prices: np.ndarray, at: np.ndarray = at) -> np.ndarray:
            kpi = problem.kpi(problem.own_part(prices[None], at)[0] + cross[:, at, None], at)
            return problem.money(kpi, prices, at)[:, 0].mean(axis=0)

        best[i] = _search(mean, problem.low[i], problem.high[i])
    return best


def best_together(problem: PriceProblem, start: np.ndarray) -> tuple[np.ndarray, bool]:
    """Prices [n] for the largest total: one after the other, again where a linked price has moved, until none does.

    Returns:
        The prices, and whether none moved in the end.
    """
    price, n = start.copy(), len(start)
    touching, of = _neighbours(problem)
    state = _State(price, problem.own_part(price)[0], problem.cross_parts(price))
    waiting, steps = deque(range(n)), 0
    queued = np.ones(n, bool)
    while waiting and steps < _SWEEPS * n:
        i = waiting.popleft()
        queued[i], steps = False, steps + 1
        total = _total_of_one(problem, state, i, touching[i], of)
        found = _search(lambda prices, f=total: f(prices).mean(axis=0), problem.low[i], problem.high[i], _COARSE)
        values = total(np.array([found, price[i]])).mean(axis=0)
        if values[0] <= values[1] or abs(np.log(found / price[i])) < _STILL:
            continue
        price[i] = found
        state.own[:, i] = problem.own_part(price[i : i + 1], np.array([i]))[0][:, 0]
        near = {problem.crosses[k].of for k in touching[i]}
        for k in touching[i]:
            cross = problem.crosses[k]
            state.cross[k] = problem.cross_part(cross, np.exp(np.log(price[list(cross.members)]).mean()))
            near.update(cross.members)
        near.update(m for k in of[i] for m in problem.crosses[k].members)
        for j in sorted(near - {i}):
            if not queued[j]:
                queued[j] = True
                waiting.append(j)
    return price, not waiting


def _neighbours(problem: PriceProblem) -> tuple[list[list[int]], list[list[int]]]:
    """Numbers of the crosses that each price is part of, and of those that each series answers to."""
    touching: list[list[int]] = [[] for _ in problem.series]
    of: list[list[int]] = [[] for _ in problem.series]
    for k, cross in enumerate(problem.crosses):
        of[cross.of].append(k)
        for member in cross.members:
            touching[member].append(k)
    return touching, of


@dataclass
class _State:
    """Where a search stands: prices [n], own parts [S, n], and the part [S] of each cross price."""

    price: np.ndarray
    own: np.ndarray
    cross: list[np.ndarray]


def _total_of_one(
    problem: PriceProblem, state: _State, i: int, touching: list[int], of: list[list[int]]
) -> Callable[[np.ndarray], np.ndarray]:
    """The total of each draw [S, V] as a function of one price [V].

    Of the series itself, and of those whose cross prices it is part of; the rest does not change.
    """
    at, nothing = np.array([i]), np.zeros(len(state.own))
    own_cross = sum((state.cross[k] for k in of[i]), nothing)
    others = np.array(sorted({problem.crosses[k].of for k in touching}), np.int64)
    place = {int(j): position for position, j in enumerate(others)}
    moving = set(touching)
    fixed = np.empty((len(nothing), len(others)))
    for j, position in place.items():
        fixed[:, position] = state.own[:, j] + sum((state.cross[k] for k in of[j] if k not in moving), nothing)
    by_driver: dict[int, list[int]] = {}
    for k in touching:
        by_driver.setdefault(problem.crosses[k].driver, []).append(k)
    groups = []
    log = np.log(state.price)
    for driver, numbers in by_driver.items():
        crosses = [problem.crosses[k] for k in numbers]
        size = np.array([len(cross.members) for cross in crosses])[:, None]
        rest = np.array([log[list(cross.members)].sum() - log[i] for cross in crosses])[:, None]
        groups.append((driver, np.array([place[cross.of] for cross in crosses]), rest, size))

    def total(prices: np.ndarray) -> np.ndarray:
        kpi = problem.kpi(problem.own_part(prices[None], at)[0] + own_cross[:, None, None], at)
        value = problem.money(kpi, prices, at)[:, 0]
        if len(others):
            part = np.repeat(fixed[:, :, None], len(prices), axis=2)
            for driver, position, rest, size in groups:
                level = np.exp((rest + np.log(prices)) / size)  # [J, V]
                series = problem.series[others[position]][:, None]
                np.add.at(part, (slice(None), position), driver_part(problem.response, driver, level, series)[0])
            kpi = problem.kpi(part, others)
            value = value + problem.money(kpi, state.price[others][:, None], others).sum(axis=1)
        return value

    return total


def total_objective(problem: PriceProblem, price: np.ndarray) -> float:
    kpi = problem.kpi(problem.own_part(price)[0] + problem.cross_total(price))
    return float(problem.money(kpi, price).sum(axis=1).mean())


def best_per_draw(problem: PriceProblem, price: np.ndarray) -> np.ndarray:
    """Best price of each draw alone, [S, n], other prices as in ``price``; siblings count where they are linked."""
    if problem.crosses:
        touching, of = _neighbours(problem)
        state = _State(price, problem.own_part(price)[0], problem.cross_parts(price))
        columns = []
        for i in range(len(price)):
            grid = log_grid(problem.low[i], problem.high[i], _GRID)
            columns.append(grid[_total_of_one(problem, state, i, touching[i], of)(grid).argmax(axis=1)])
        return np.stack(columns, axis=1)
    S, n = problem.rest.shape
    cross = problem.cross_total(price)
    best = np.empty((S, n))
    at_once = max(1, int(_CELLS / (S * _GRID)))
    for first in range(0, n, at_once):
        at = np.arange(first, min(n, first + at_once))
        grid = log_grid(problem.low[at], problem.high[at], _GRID)
        kpi = problem.kpi(problem.own_part(grid, at)[0] + cross[:, at, None], at)
        top = problem.money(kpi, grid, at).argmax(axis=2)  # [S, n]
        which = np.arange(len(at))
        low, high = grid[which, np.maximum(top - 1, 0)], grid[which, np.minimum(top + 1, _GRID - 1)]
        for _ in range(_ZOOMS):
            fine = log_grid(low, high, _ZOOM)  # [S, n, V]
            kpi = problem.kpi(problem.own_part(fine, at, per_draw=True)[0] + cross[:, at, None], at)
            top = problem.money(kpi, fine, at).argmax(axis=2)[..., None]
            best[:, at] = np.take_along_axis(fine, top, axis=2)[..., 0]
            low = np.take_along_axis(fine, np.maximum(top - 1, 0), axis=2)[..., 0]
            high = np.take_along_axis(fine, np.minimum(top + 1, _ZOOM - 1), axis=2)[..., 0]
    return best
