"""What the effect nets regress on: the pseudo-outcomes of the S, T, X, DR and R learners.

With delta = mu_k - mu_0 and the residual r = y - mu_T of the arm T that a row had, all of them are delta plus r times a
factor, so that heavy tails are cut once, in r:

| net | target | weight | source |
|---|---|---|---|
| x1 | delta + r = y - mu_0 | 1 on rows of arm k | Künzel et al. 2019 |
| x0 | delta - r = mu_k - y | 1 on rows of the control | the same |
| dr | delta + 1[k] r / e_k - 1[0] r / e_0 | 1 | Kennedy 2020 |
| r | delta + 1[k] r / (1 - g) - 1[0] r / g | (1 - g)^2 on k, g^2 on 0 | Nie & Wager 2021 |

with g = e_k / (e_k + e_0), the probability of offer k among its own rows and the control's. The S and T learners have
no effect net: their effect is delta. Nor has `proportional`, whose offers move everybody's odds (or amounts) alike, so
that it ranks customers by their expected outcome: where that is all there is, it is hard to beat (Fernández-Loría and
Provost 2022, JMLR 23(59)).

Axis letters: B batch rows, K arms, A = K - 1 offers, Y outcomes, M members, C effect nets, E estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NETS: dict[str, tuple[str, ...]] = {
    "s": (),
    "t": (),
    "x": ("x0", "x1"),
    "dr": ("dr",),
    "r": ("r",),
    "proportional": (),
    "stack": ("x0", "x1", "dr", "r"),
}
ESTIMATES: dict[str, tuple[str, ...]] = {
    "s": ("difference",),
    "t": ("difference",),
    "x": ("x",),
    "dr": ("dr",),
    "r": ("r",),
    "proportional": ("proportional",),
    "stack": ("x", "dr", "r", "difference", "proportional", "constant"),
}


class Targets(NamedTuple):
    """Regression targets of the effect nets.

    Attributes:
        value: [C, B, A, Y], units of the outcome; finite everywhere.
        weight: [C, B, A, Y]; 0 where a row says nothing about an offer.
    """

    value: Tensor
    weight: Tensor


def difference(mean: Tensor) -> Tensor:
    """delta [..., A, Y] from expected outcomes [..., K, Y]: positive where the offer raises the outcome."""
    return mean[..., 1:, :] - mean[..., :1, :]


def residual(mean: Tensor, treatment: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor]:
    """r [B, Y], 0 where it is not known, and whether it is, bool [B, Y].

    Args:
        mean: [B, K, Y]. treatment: int64 [B], -1 where not known. outcome: [B, Y], NaN where not known.
    """
    known = (treatment >= 0)[:, None] & ~outcome.isnan()
    index = treatment.clamp(min=0)[:, None, None].expand(-1, 1, mean.shape[-1])
    expected = mean.gather(1, index)[:, 0]
    return torch.where(known, outcome - expected, 0.0), known


def share_of_offer(propensity: Tensor) -> Tensor:
    """g [B, A]."""
    return propensity[:, 1:] / (propensity[:, 1:] + propensity[:, :1])


def targets(
    nets: tuple[str, ...], mean: Tensor, propensity: Tensor, treatment: Tensor, rest: Tensor, known: Tensor
) -> Targets:
    """Pseudo-outcomes of each net.

    Args:
        nets: C of the table above.
        mean: [B, K, Y], of members that did not see the row.
        propensity: [B, K], clipped.
        treatment: int64 [B].
        rest: [B, Y], residuals, winsorised or not.
        known: bool [B, Y].
    """
    delta = difference(mean)  # [B, A, Y]
    offers = torch.arange(1, mean.shape[1], device=mean.device)
    treated = (treatment[:, None] == offers)[..., None] & known[:, None]  # [B, A, Y]
    control = ((treatment == 0)[:, None] & known)[:, None].expand_as(delta)
    g = share_of_offer(propensity)[..., None]
    e, e_0 = propensity[:, 1:, None], propensity[:, :1, None]
    rest = rest[:, None]  # [B, 1, Y]
    values, weights = [], []
    for net in nets:
        if net == "x1":
            value, weight = delta + rest, treated.float()
        elif net == "x0":
            value, weight = delta - rest, control.float()
        elif net == "dr":
            value = delta + treated * rest / e - control * rest / e_0
            weight = known[:, None].expand_as(delta).float()
        else:
            value = delta + treated * rest / (1 - g) - control * rest / g
            weight = treated * (1 - g).square() + control * g.square()
        values.append(value)
        weights.append(weight)
    return Targets(torch.stack(values), torch.stack(weights))


def dr_effect(mean: Tensor, propensity: Tensor, treatment: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor]:
    """Doubly robust scores of the effects [B, A, Y], not winsorised, and which are known, bool [B, Y].

    Their mean over any group of rows is the group's average effect, without bias if the expected outcomes or the
    probabilities are right.
    """
    rest, known = residual(mean, treatment, outcome)
    return targets(("dr",), mean, propensity, treatment, rest, known).value[0], known


def estimates(
    names: tuple[str, ...],
    nets: tuple[str, ...],
    of_net: Tensor,
    member_mean: Tensor,
    mean: Tensor,
    propensity: Tensor,
    average: Tensor,
    proportional: Callable[[Tensor], Tensor],
) -> Tensor:
    """Each member's estimates of the effects.

    The targets of x0 and x1 hold an expected outcome as it is, so that its error goes into them whole; in those of dr
    and r it cancels to first order. All members regress on the same averaged outcomes, and their spread would not show
    that error: a member of x is moved by how far its own expected outcomes are from the average, which leaves the
    members' mean where it is.

    Args:
        names: E of `ESTIMATES`.
        nets: C of `NETS`.
        of_net: [C, M, B, A, Y].
        member_mean: [M, B, K, Y], expected outcomes of the members.
        mean: [B, K, Y], their average.
        propensity: [B, K].
        average: [A, Y], effects averaged over all rows.
        proportional: `EffectNet.proportional`.

    Returns:
        [E, M, B, A, Y].
    """
    found = dict(zip(nets, of_net, strict=True))
    if "x" in names:
        # Künzel et al., eq. 9: the arm with more rows has the better outcome model, whose imputations count for more.
        g = share_of_offer(propensity)[..., None]
        own = member_mean - mean
        moved = g * own[..., 1:, :] - (1 - g) * own[..., :1, :]
        found["x"] = g * found["x0"] + (1 - g) * found["x1"] + moved
    if {"difference", "constant"} & set(names):
        found["difference"] = difference(member_mean)
        found["constant"] = average.expand_as(found["difference"])
    if "proportional" in names:
        found["proportional"] = proportional(member_mean[:, :, 0])
    return stacked([found[name] for name in names])


def stacked(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """`torch.stack`, which copies, but for a single part."""
    return parts[0].unsqueeze(dim) if len(parts) == 1 else torch.stack(list(parts), dim)
