"""Where to begin when curves are S-shaped and a search from one point may end in a poor local optimum; and how good the
best conceivable plan can be at most.

Axis letters: S draws, G series, H periods, C channels, N variables, K steps of money.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from wanamaker.decisions.budget_variables import Variables, index_channel
from wanamaker.decisions.curves import HermiteCurves
from wanamaker.decisions.response import PlanWindow, ResponseSurface
from wanamaker.predictions import MixResponse


def is_concave(response: MixResponse, channels: list[int]) -> bool:
    """Whether the expected KPI is a concave function of the money of these channels, in every draw.

    A sum of concave curves is. Under a log link the KPI is an exponential of that sum, which need not be.
    """
    if response.link != "identity" or (response.amplitude[:, :, channels] < 0).any():
        return False
    return all(
        HermiteCurves(response.grid[c], response.curve[:, c], response.slope[:, c]).is_concave() for c in channels
    )


def concave_bound(response: MixResponse, channels: list[int]) -> MixResponse | None:
    """The response with each curve replaced by its concave envelope: no plan brings more than it says.

    None under a log link, whose exponential is not concave in the parts, and where an amplitude is negative.
    """
    if response.link != "identity" or (response.amplitude < 0).any():
        return None
    envelopes = [
        HermiteCurves(response.grid[c], response.curve[:, c], response.slope[:, c]).concave_envelope()
        for c in range(len(response.channels))
    ]
    return replace(
        response,
        grid=np.stack([e.grid for e in envelopes]),
        curve=np.stack([e.values for e in envelopes], axis=1),
        slope=np.stack([e.slopes for e in envelopes], axis=1),
    )


def naive_plans(
    window: PlanWindow, variables: Variables, total: float, roi: np.ndarray, even: bool
) -> dict[str, np.ndarray]:
    """Plans [G, H, C] that need no optimiser, of ``total`` money, before any limit but the total is looked at.

    Args:
        window: with the current plan.
        variables: what is free.
        total: money, fixed cells included.
        roi: [C], money per money under the current plan.
        even: also one that is the same in every period, which only a plan with free periods may be.
    """
    free = variables.index >= 0
    left = max(0.0, total - float(variables.fixed.sum()))
    current = np.where(free, window.spend, 0.0)
    per_channel = current.sum(axis=(0, 1))
    open_channels = np.unique(index_channel(variables.index, variables.count))
    pattern = np.where(free, current, 0.0)
    for c in open_channels:
        if per_channel[c] == 0:  # opened by a bound in money: as the variables spread it
            pattern[:, :, c] = np.where(free[:, :, c], 1.0, 0.0)
    shares = pattern / np.maximum(pattern.sum(axis=(0, 1)), 1e-300)
    flat = np.where(free, current.sum(axis=1, keepdims=True), 0.0)
    flat = np.where(flat.sum(axis=(0, 1)) > 0, flat, pattern)
    flat = flat / np.maximum(flat.sum(axis=(0, 1)), 1e-300)

    def made(weights: np.ndarray, spread: np.ndarray) -> np.ndarray:
        weights = np.where(np.isin(np.arange(len(weights)), open_channels), weights, 0.0)
        weights = weights if weights.sum() > 0 else np.isin(np.arange(len(weights)), open_channels).astype(float)
        return variables.fixed + left * weights / weights.sum() * spread

    plans = {
        "scaled history": made(per_channel, shares),
        "equal": made(np.ones(len(per_channel)), shares),
        "proportional to ROI": made(np.maximum(roi, 0.0), shares),
    }
    if even:
        plans["proportional to current, even over time"] = made(per_channel, flat)
    return plans


def search_starts(
    surface: ResponseSurface,
    variables: Variables,
    upper: np.ndarray,
    total: float,
    rng: np.random.Generator,
    count: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Starting plans [G, H, C] beyond the naive ones, best guesses first.

    Args:
        surface: of the varying channels.
        variables: what is free.
        upper: [N] upper bounds in money.
        total: money, fixed cells included.
        rng: of the random ones.
        count: of the random ones.
    """
    free = variables.index >= 0
    left = max(0.0, total - float(variables.fixed.sum()))
    yield "dynamic programming", _dynamic_programme(surface, variables, upper, left)
    window = surface.window
    pattern = np.where(free, np.maximum(window.spend, 1e-3 * window.spend.mean()), 0.0)
    per_channel = pattern.sum(axis=(0, 1))
    H = window.num_periods
    if variables.count > len(surface.channels) * len(surface.response.series) and H > 3:
        # Where periods are free, S-shaped curves may pay for bursts.
        for every in (2, 4):
            on = (np.arange(H) % every == 0).astype(float)[None, :, None]
            burst = pattern * on
            burst = burst * per_channel / np.maximum(burst.sum(axis=(0, 1)), 1e-300)
            yield f"bursts every {every} periods", variables.fixed + left * burst / burst.sum()
    shares = pattern / np.maximum(per_channel, 1e-300)
    for number in range(count):
        weights = np.zeros(len(per_channel))
        weights[surface.channels] = rng.dirichlet(np.full(len(surface.channels), 0.7))
        weights = np.where(per_channel > 0, weights, 0.0)
        if weights.sum() > 0:
            yield f"random {number + 1}", variables.fixed + left * weights / weights.sum() * shares


def _dynamic_programme(
    surface: ResponseSurface, variables: Variables, upper: np.ndarray, left: float, steps: int = 120
) -> np.ndarray:
    """The best plan in steps of money per channel and series, patterns over time kept: the exact optimum of the grid.

    Channels add up in the linear predictor, so a table of what each brings at each step is enough for a knapsack
    (Bellman 1957). Under a log link the parts count at the KPI of the current plan, a good guess rather than exact.
    """
    window, response = surface.window, surface.response
    G, _H, C = window.spend.shape
    free = variables.index >= 0
    pattern = np.where(free, window.spend, 0.0)
    by_series = G > 1 and _series_free(variables)
    axes = (1,) if by_series else (0, 1)
    sums = pattern.sum(axis=axes, keepdims=True)
    pattern = np.where(free & (sums == 0), 1.0, pattern)
    sums = pattern.sum(axis=axes, keepdims=True)
    shape = np.divide(pattern, sums, out=np.zeros_like(pattern), where=sums > 0)
    movable = (sums > 0)[:, 0] if by_series else (sums > 0)[0, 0][None]  # [G or 1, C]
    steps = steps if movable.sum() <= 300 else 60
    step = left / steps
    worth = np.exp(surface.eta(window.spend)).mean(axis=0)[:, :, None] if response.link == "log" else 1.0
    table = np.zeros((steps + 1, *movable.shape))
    for k in range(steps + 1):
        parts = surface.parts(variables.fixed + k * step * shape).mean(axis=0)  # [G, P, channels]
        made = np.zeros((G, C))
        made[:, surface.channels] = (parts * worth).sum(axis=1)
        table[k] = made if by_series else made.sum(axis=0)[None]
    slots = np.argwhere(movable)
    limit = np.full(movable.shape, np.inf)
    if variables.count == len(slots):
        limit[tuple(slots.T)] = [upper[_variable(variables, by_series, g, c)] for g, c in slots]
    best, choices = np.full(steps + 1, -np.inf), []
    best[0] = 0.0
    for g, c in slots:
        most = int(min(steps, np.floor(limit[g, c] / step + 1e-9))) if step > 0 else 0
        gain = table[: most + 1, g, c] - table[0, g, c]
        padded = np.concatenate([np.full(most, -np.inf), best])
        windows = np.lib.stride_tricks.sliding_window_view(padded, most + 1)[:, ::-1]  # [k, spent here]
        options = windows + gain
        choice = options.argmax(axis=1)
        choices.append(choice)
        best = options[np.arange(steps + 1), choice]
    plan, k = variables.fixed.copy(), int(np.argmax(best))
    for (g, c), choice in zip(slots[::-1], choices[::-1], strict=True):
        spent = int(choice[k])
        where = (slice(g, g + 1) if by_series else slice(None), slice(None), slice(c, c + 1))
        plan[where] += spent * step * shape[where]
        k -= spent
    return plan


def _series_of(variables: Variables) -> np.ndarray:
    return np.nonzero(variables.index >= 0)[0]


def _series_free(variables: Variables) -> bool:
    """Whether no variable spans several series."""
    low = np.full(variables.count, np.iinfo(np.int64).max)
    high = np.full(variables.count, -1)
    mine, series = variables.index[variables.index >= 0], _series_of(variables)
    np.minimum.at(low, mine, series)
    np.maximum.at(high, mine, series)
    return bool((low == high).all())


def _variable(variables: Variables, by_series: bool, g: int, c: int) -> int:
    cells = variables.index[g, :, c] if by_series else variables.index[:, :, c]
    return int(cells[cells >= 0][0])
