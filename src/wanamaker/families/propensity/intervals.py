"""Intervals of scores from the members' spread: how well a score is known, not how much outcomes vary.

With a bootstrap every member learns from another sample of the customers, so that their standard deviation is that of
a score over samples. Without one, cross-fitted members are a jackknife: each group of them leaves out one fold, and
the variance of the score is (K - 1) / K times the sum of the groups' squared deviations (the delete-a-group jackknife;
Shao & Tu 1995, section 2.3), with the quantile of Student's t with K - 1 degrees of freedom. Members without folds and
without a bootstrap differ by their start alone, and their spread says too little. One member has no spread at all: the
interval is the score itself.

Axis letters: M = R x K members (R replicas of K folds), P positions, T tasks.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .heads import Heads


def interval(
    heads: Heads, members: Tensor, score: Tensor, level: float, scale: float, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Lower and upper ends around the calibrated scores, [P, T] each; symmetric in log odds or in the log of an amount.

    Args:
        heads: of the tasks.
        members: [M, P, T], each member's score before calibration.
        score: [P, T], calibrated.
        level: such as 0.9.
        scale: factor on the standard deviation.
        groups: K, where member m left out fold m modulo K and nothing else tells their samples apart; else 1.
    """
    if len(members) < 2:
        return score, score
    linked = heads.link(members)
    if groups > 1:
        of_group = linked.reshape(-1, groups, *linked.shape[1:]).mean(0)
        spread = of_group.std(0, correction=0) * (groups - 1) ** 0.5
    else:
        spread = linked.std(0)
    half = quantile(level, groups - 1) * scale * spread
    centre = heads.link(score)
    low, high = heads.unlink(centre - half), heads.unlink(centre + half)
    return torch.minimum(low, score), torch.maximum(high, score)


@cache
def quantile(level: float, freedom: int) -> float:
    """How many standard deviations an interval reaches to each side; ``freedom``: degrees, 0 for a normal."""
    from scipy import stats

    return float(stats.t.ppf(0.5 + level / 2, freedom) if freedom else stats.norm.ppf(0.5 + level / 2))
