"""Intervals of scores from the members' spread: how well a score is known, not how much outcomes vary.

Members differ by their start, by the fold they are kept from and, with a bootstrap, by the customers they learn from.
With one member there is no spread, and the interval is the score itself.

Axis letters: M members, P positions, T tasks.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from .heads import Heads


def interval(heads: Heads, members: Tensor, score: Tensor, level: float, scale: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends around the calibrated scores, [P, T] each; symmetric in log odds or in the log of an amount.

    Args:
        heads: of the tasks.
        members: [M, P, T], each member's score before calibration.
        score: [P, T], calibrated.
        level: such as 0.9.
        scale: factor on the members' standard deviation: a single member's spread is not that of their mean, which
            varies less, and regularisation hides what members cannot show.
    """
    if len(members) < 2:
        return score, score
    half = NormalDist().inv_cdf(0.5 + level / 2) * scale * heads.link(members).std(0)
    centre = heads.link(score)
    low, high = heads.unlink(centre - half), heads.unlink(centre + half)
    return torch.minimum(low, score), torch.maximum(high, score)
