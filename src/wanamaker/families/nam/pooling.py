"""Effects per series that borrow strength from each other along the hierarchy.

Axis letters: M members, G series, W effects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wanamaker.data.media_panel import Level
from wanamaker.errors import UserError
from wanamaker.families.nam.priors import Prior
from wanamaker.nn.ranks import over_ranks

MODES = ("partial", "fixed", "none")


class Pooled(nn.Module):
    """Values [M, G, W] of W effects in G series.

    `partial`: a common value plus deviations of each level's groups,

        value_g = mu + sum_l tau_l * z_l[group of g in level l],   z ~ N(0, 1),  log tau_l ~ N(log spread, 0.7^2),

    with mu and every tau learned. tau is learned from its marginal likelihood, not jointly with z (the joint mode
    never pools: it prefers a large tau and small z): `penalty` adds 1/2 log(1 + tau^2 I) per group, where the
    information I of the rows about the group's value is measured by `observe` as training goes on (Laplace's
    approximation with the levels taken one by one; exact for one level of a Gaussian linear model). `fixed`: the stated
    weights of independent values per group, `sum_l w_l * v_l[group]` (System 2's 70/30 mix of category and
    sub-category). `none`: one value for all series.

    Args:
        members: M.
        names: the W effects, for messages.
        num_series: G.
        levels: groupings of the series by name, coarse to fine.
        mean: prior mean, number or [W].
        scale: prior standard deviation of mu, number or [W].
        spread: prior median of tau, in units of the value.
        mode: of `MODES`.
        weights: level -> weight, for `fixed`; all levels named, sum 1.
    """

    def __init__(
        self,
        members: int,
        names: Sequence[str],
        num_series: int,
        levels: Mapping[str, Level],
        mean: float | Tensor,
        scale: float | Tensor,
        spread: float = 0.2,
        mode: str = "partial",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"model.net.pooling.mode={mode!r}: choose from {', '.join(MODES)}.")
        self.num_series, self.mode = num_series, mode
        # A level of one group says nothing that the common value does not say.
        used = {name: level for name, level in levels.items() if len(level.groups) > 1}
        self.level_names = [] if mode == "none" or num_series == 1 else list(used)
        width = len(names)
        for number, name in enumerate(self.level_names):  # numbered: a column's name may hold any character
            self.register_buffer(f"group_{number}", torch.tensor(used[name].of_series))
        counts = [len(used[name].groups) for name in self.level_names]
        if mode == "fixed" and self.level_names:
            self.weights = self._checked(weights)
            self.log_tau = nn.ModuleList()  # nothing is learned about how much groups differ
            self.own = nn.ModuleList([Prior(members, (count, width), mean, scale) for count in counts])
            return
        self.common = Prior(members, (1, width), mean, scale)
        self.deviation = nn.ModuleList([Prior(members, (count, width)) for count in counts])
        # Not anchored: a member whose tau happened to start large would pool less for no reason in the data.
        self.log_tau = nn.ModuleList(
            [Prior(members, (1, width), math.log(spread), 0.7, anchored=False) for _ in counts]
        )
        for number, count in enumerate(counts):
            self.register_buffer(f"information_{number}", torch.zeros(members, count, width))

    def _checked(self, weights: Mapping[str, float] | None) -> list[float]:
        if not weights or set(weights) != set(self.level_names) or abs(sum(weights.values()) - 1) > 1e-6:
            raise UserError(
                f"model.net.pooling.weights={dict(weights or {})}: the fixed mix needs one weight for each level "
                f"({', '.join(self.level_names)}) and they must sum to 1, such as 0.7 and 0.3."
            )
        return [float(weights[name]) for name in self.level_names]

    @torch.no_grad()
    def observe(self, series: Tensor, sensitivity: Tensor, information: Tensor, momentum: float) -> None:
        """Update what is known about each group's value from a batch.

        Args:
            series: [B].
            sensitivity: derivative of the linear predictor with respect to the value, [M or 1, B, W].
            information: of the rows about their linear predictor (inverse variance in the Gaussian case), times the
                rows of the data set per row of the batch over all ranks: [M, B].
            momentum: weight of what was known before, in [0, 1).
        """
        if not self.log_tau:
            return
        per_row = sensitivity.square() * information[..., None]  # [M, B, W]
        per_series = per_row.new_zeros(per_row.shape[0], self.num_series, per_row.shape[2])
        per_series = over_ranks(per_series.index_add(1, series, per_row))
        for number in range(len(self.log_tau)):
            group = getattr(self, f"group_{number}")
            known = getattr(self, f"information_{number}")
            now = torch.zeros_like(known).index_add(1, group, per_series)
            known.mul_(momentum).add_(now, alpha=1 - momentum)

    def penalty(self) -> Tensor:
        """The part of tau's marginal likelihood that the priors of `Prior` do not have, summed over members."""
        total = torch.zeros((), device=next(self.parameters()).device)
        for number, tau in enumerate(self.log_tau):
            known = getattr(self, f"information_{number}")
            total = total + 0.5 * torch.log1p((2 * tau()).exp() * known).sum()
        return total

    def forward(self) -> Tensor:
        """Values [M, G, W]."""
        groups = [getattr(self, f"group_{number}") for number in range(len(self.level_names))]
        if self.mode == "fixed" and groups:
            own = zip(self.weights, self.own, groups, strict=True)
            return sum(weight * values()[:, group] for weight, values, group in own)
        value = self.common().expand(-1, self.num_series, -1)
        for tau, deviation, group in zip(self.log_tau, self.deviation, groups, strict=True):
            value = value + (tau().exp() * deviation())[:, group]
        return value
