"""Shape functions of prices, promotions and controls: monotone where a direction is known, free where it is not.

Axis letters: M members, B rows, G series, D drivers, R reference points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wanamaker.families.nam.pooling import Pooled
from wanamaker.families.nam.priors import DecayedNets
from wanamaker.nn.feature_nets import FeatureNets
from wanamaker.nn.monotone import MonotoneNets

NUM_REFERENCE = 33


class Drivers(nn.Module):
    """D one-dimensional shapes, each times an effect per series.

    A driver with a direction has a strictly monotone, universal net (not only convex ones) times a positive effect
    with that sign; its z = 0 is the reference price or "no promotion", where it is exactly zero. A driver without
    direction is a pooled line plus a free net.

    Args:
        members: M.
        names: D names.
        directions: [D], -1, 0 or +1.
        num_series, levels, pooling: see `Pooled`.
        effect: prior (median, spread of the logarithm) of the slope of a monotone driver.
        linear: prior standard deviation of the slope of a free driver.
        free: options of `FeatureNets` (hidden, first, activation, dropout, feature_dropout), and `net_scale`, the
            prior standard deviation of weights around their start.
        monotone_hidden: widths of the monotone nets.
        centre: subtract the mean over the training distribution from the free drivers (controls), so that the
            intercept alone carries the level; otherwise they are 0 at z = 0.
    """

    def __init__(
        self,
        members: int,
        names: Sequence[str],
        directions: Sequence[int],
        num_series: int,
        levels: Mapping[str, Any],
        effect: tuple[float, float],
        linear: float,
        free: Mapping[str, Any],
        monotone_hidden: Sequence[int],
        pooling: Mapping[str, Any],
        centre: bool,
    ) -> None:
        super().__init__()
        self.members, self.names, self.centre = members, list(names), centre
        bound = [d for d, way in enumerate(directions) if way != 0]
        loose = [d for d, way in enumerate(directions) if way == 0]
        self.register_buffer("bound", torch.tensor(bound, dtype=torch.long))
        self.register_buffer("loose", torch.tensor(loose, dtype=torch.long))
        self.register_buffer("sign", torch.tensor([float(directions[d]) for d in bound]))
        self.register_buffer("reference", torch.zeros(NUM_REFERENCE, len(loose)))
        options = {key: value for key, value in free.items() if key != "net_scale"}
        net_scale = float(free.get("net_scale", 0.3))
        if bound:
            self.monotone = DecayedNets(MonotoneNets(members, len(bound), tuple(monotone_hidden)), net_scale)
            self.log_effect = Pooled(
                members, [names[d] for d in bound], num_series, levels, math.log(effect[0]), effect[1], **pooling
            )
        if loose:
            self.free = DecayedNets(FeatureNets(members, len(loose), **options), net_scale)
            # Prices and promotions leave the model as one curve times an amplitude: their line is common to all series.
            pooled = pooling if centre else {"mode": "none"}
            self.slope = Pooled(members, [names[d] for d in loose], num_series, levels, 0.0, linear, **pooled)

    def set_reference(self, values: Tensor) -> None:
        """Training values of z [N, D], whose quantiles centre the free drivers."""
        if len(self.loose) == 0 or not self.centre:
            return
        ranks = torch.linspace(0.5 / NUM_REFERENCE, 1 - 0.5 / NUM_REFERENCE, NUM_REFERENCE)
        ordered = values[:, self.loose.cpu()].sort(dim=0).values
        index = (ranks * (len(ordered) - 1)).round().long()
        self.reference.copy_(ordered[index])

    def shapes(self, z: Tensor, seeds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unit shapes of the monotone drivers [M, B, bound] and nets of the free ones [M, B, loose].

        Args:
            z: [B, D].
            seeds: int64 [B], for the dropout of a training step; None is without dropout.
        """
        rising = free = z.new_zeros(self.members, z.shape[0], 0)
        if len(self.bound):
            rising = self.sign * self.monotone(z[:, self.bound])
        if len(self.loose):
            anchor = self.reference if self.centre else self.reference[:1]
            free = self._nets(z[:, self.loose], seeds) - self._nets(anchor, None).mean(dim=1, keepdim=True)
        return rising, free

    def _nets(self, z: Tensor, seeds: Tensor | None) -> Tensor:
        """The free nets, with dropout only where there are seeds for it."""
        nets = self.free.nets
        mode = nets.training
        nets.training = mode and seeds is not None
        try:
            return self.free(z) if seeds is None else self.free(z, seeds)
        finally:
            nets.training = mode

    def amplitude(self) -> Tensor:
        """[M, G, D]: the effect of monotone drivers; 1 for free ones, whose line and net are not one product."""
        parts = []
        if len(self.bound):
            parts.append((self.bound, self.log_effect().clamp(max=6.0).exp()))
        if len(self.loose):
            parts.append((self.loose, torch.ones_like(self.slope())))
        shape = (*parts[0][1].shape[:2], len(self.names))
        value = parts[0][1].new_zeros(shape)
        for index, part in parts:
            value = value.index_copy(2, index, part)
        return value

    def forward(self, z: Tensor, series: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Parts [M, B, D] of z [B, D] in series [B]; `seeds` as for `shapes`."""
        value = z.new_zeros(self.members, z.shape[0], len(self.names))
        rising, free = self.shapes(z, seeds)
        if len(self.bound):
            value = value.index_copy(2, self.bound, self.log_effect().clamp(max=6.0).exp()[:, series] * rising)
        if len(self.loose):
            line = self.slope()[:, series] * z[:, self.loose]  # controls are standardised: centred already
            value = value.index_copy(2, self.loose, line + free)
        return value

    def observe(self, z: Tensor, parts: Tensor, series: Tensor, information: Tensor, momentum: float) -> None:
        """Pass on how much the rows say: a slope is multiplied by z, a logarithm of an effect by the part itself."""
        if len(self.bound):
            self.log_effect.observe(series, parts[..., self.bound], information, momentum)
        if len(self.loose):
            self.slope.observe(series, z[None, :, self.loose], information, momentum)

    def output_penalty(self, z: Tensor) -> Tensor:
        """Mean square of the free nets over the rows (Agarwal et al. 2021, section 3), per member [M]."""
        free = self.shapes(z)[1]
        return free.square().mean(dim=(1, 2)) if free.numel() else free.new_zeros(self.members)
