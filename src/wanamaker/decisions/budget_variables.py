"""The free variables of a plan: which amounts of money are looked for, and how each makes cells of a plan.

Axis letters: G series, H periods, C channels, N free variables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.budget_options import BudgetOptions, pair, positions
from wanamaker.decisions.response import PlanWindow
from wanamaker.errors import UserError
from wanamaker.predictions import MixResponse


@dataclass(frozen=True)
class Variables:
    """How N amounts of money make a plan: each is shared out over its cells by a fixed pattern.

    Attributes:
        index: int64 [G, H, C], variable of each cell, -1 where its money is fixed.
        weight: float64 [G, H, C], share of the variable's money that the cell gets; sums to 1 per variable.
        fixed: float64 [G, H, C], money of the cells that are fixed; 0 elsewhere.
        scale: float64 [N], typical money of each variable, above 0.
        current: float64 [N], money of each variable in the current plan.
    """

    index: np.ndarray
    weight: np.ndarray
    fixed: np.ndarray
    scale: np.ndarray
    current: np.ndarray

    @property
    def count(self) -> int:
        """N."""
        return len(self.scale)

    def plan(self, money: np.ndarray) -> np.ndarray:
        """The plan [G, H, C] that ``money`` [N] makes."""
        spread = np.append(money, 0.0)[self.index]  # -1 takes the appended 0
        return self.fixed + self.weight * spread

    def pull(self, gradient: np.ndarray) -> np.ndarray:
        """A gradient with respect to cells [G, H, C] as one with respect to variables [N]."""
        free = self.index >= 0
        return np.bincount(self.index[free], (gradient * self.weight)[free], minlength=self.count)

    def collect(self, plan: np.ndarray) -> np.ndarray:
        """Money [N] that a plan [G, H, C] gives to the cells of each variable."""
        free = self.index >= 0
        return np.bincount(self.index[free], plan[free], minlength=self.count)


def make_variables(response: MixResponse, window: PlanWindow, options: BudgetOptions) -> Variables:
    """The free variables: one per channel, per series and channel, ... as `options.resolution` says.

    Organic channels, held channels, and channels that spent nothing in the window are fixed; a channel that spent
    nothing gets free by a bound in money, and is then spread evenly over the periods.

    Raises:
        UserError: an unknown channel, or nothing left to plan.
    """
    G, H, C = window.spend.shape
    channels = list(response.channels)
    held = positions(options.hold, channels, "decision.hold", "channel")
    for c in held:
        if not response.paid[c]:
            raise UserError(
                f"decision.hold names {channels[c]!r}, which costs nothing and is fixed anyway: leave it out."
            )
    free = response.paid.copy()
    free[held] = False
    pattern = np.where(response.paid, window.spend, 0.0)
    buys = (window.media_per_money > 0).any(axis=(0, 1))
    for c in np.flatnonzero(free & (pattern.sum(axis=(0, 1)) == 0)):
        entry = options.bounds.get(channels[c])
        opened = entry is not None and pair(entry, 0.0, f"decision.bounds.{channels[c]}")[1] not in (None, 0.0)
        free[c] = opened and buys[c]
        if free[c]:
            share = pattern.sum(axis=(1, 2))
            share = share / share.sum() if share.sum() > 0 else np.full(G, 1 / G)
            typical = max(window.spend.sum() / C, 1.0)
            pattern[:, :, c] = np.broadcast_to(share[:, None] * typical / H, (G, H))
    free &= buys
    if not free.any() and not response.paid.any():
        raise UserError(
            "There is no budget to plan: the model has no paid media. Declare them in the data's roles (media) and "
            "train again, or choose another decision."
        )
    if not free.any():
        raise UserError(
            "There is nothing to plan: every channel is organic, held, or spent nothing in the window. Take channels "
            "out of decision.hold, choose a longer window (decision.periods), or bound a channel in money."
        )
    key = np.zeros((G, H, C), np.int64)
    for dimension, position in (("channel", 2), ("series", 0), ("period", 1)):
        if dimension in options.resolution:
            along = np.arange(key.shape[position])
            shape = [1, 1, 1]
            shape[position] = -1
            along = along.reshape(shape)
            if dimension == "series":  # what every series sees is bought once, and shared out as it was
                along = np.where(response.national, 0, along)
            key = key * key.shape[position] + along
    movable = np.broadcast_to(free, key.shape) & (window.media_per_money > 0)
    sums = np.bincount(key.reshape(-1), np.where(movable, pattern, 0.0).reshape(-1))
    alive = movable & (sums[key] > 0) if "period" not in options.resolution else movable & _ever(pattern)
    kept, index = np.unique(key[alive], return_inverse=True)
    N = len(kept)
    full = np.full(key.shape, -1, np.int64)
    full[alive] = index
    cells = np.bincount(index, minlength=N)
    # A variable without spend of its own (a week off) takes the channel's usual split over series.
    usual = np.broadcast_to(pattern.sum(axis=1, keepdims=True) / H, pattern.shape)
    mine, typical = (np.bincount(index, p[alive], minlength=N) for p in (pattern, usual))
    share = np.where((mine > 0)[index], pattern[alive], usual[alive])
    sums = np.bincount(index, share, minlength=N)
    weight = np.zeros(key.shape)
    weight[alive] = np.where(sums[index] > 0, share / np.where(sums > 0, sums, 1.0)[index], 1 / cells[index])
    current = np.bincount(index, window.spend[alive], minlength=N)
    return Variables(full, weight, np.where(alive, 0.0, window.spend), np.maximum(mine, 0.1 * typical), current)


def _ever(pattern: np.ndarray) -> np.ndarray:
    """Cells of series and channels that spend at some time in the window: [G, 1, C], broadcast."""
    return np.broadcast_to((pattern > 0).any(axis=1, keepdims=True), pattern.shape)


def index_channel(index: np.ndarray, count: int) -> np.ndarray:
    """Channel [N] of each variable."""
    channel = np.zeros(count, np.int64)
    channel[index[index >= 0]] = np.nonzero(index >= 0)[2]
    return channel
