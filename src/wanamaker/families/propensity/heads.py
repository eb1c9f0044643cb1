"""From raw outputs to probabilities, survival and amounts: one head per task.

Axis letters: P positions, T tasks, Q raw outputs of all heads, N natural outputs of all heads, D intervals of a hazard;
a leading ... may hold members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from wanamaker.data.propensity_batch import PropensityStats, Task

from .losses import binary_loss, gaussian_loss, hazard_loss, observed_intervals, ziln_loss

EPS = 1e-6
"""Probabilities keep this distance from 0 and 1 where their logarithm is taken."""
TINY_AMOUNT = 1e-6
MEAN_LIMIT, SD_FLOOR, SD_LIMIT = 5.0, 0.1, 2.5
"""Bounds of a value's lognormal, in standard deviations of the training amounts' logarithm. The expectation has the
exponential of the variance: unbounded, a few customers would own the total."""
_SD_START = math.log(math.expm1(1.0 - SD_FLOOR))  # softplus of it is 1 - SD_FLOOR


class Heads(nn.Module):
    """What the T tasks make of their Q raw outputs.

    - binary: one logit.
    - hazard: a logit per interval, of its happening there if it did not before.
    - value: logit of an amount above 0, mean and spread of its standardised logarithm (ZILN).
    - regression: the standardised number.

    On the *natural* scale members are averaged: the probability, the survival at each edge, the expected amount (at
    most ``largest`` of the statistics), the number. So the average of the members' survival is the survival of
    their mixture, and no more confident than they are.

    Args:
        tasks: T of them.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.kinds = tuple(task.kind for task in tasks)
        self.raw_widths = [{"hazard": len(task.edges), "value": 3}.get(task.kind, 1) for task in tasks]
        self.natural_widths = [len(task.edges) if task.kind == "hazard" else 1 for task in tasks]
        self.width, self.natural_width = sum(self.raw_widths), sum(self.natural_widths)
        T = len(self.tasks)
        self.register_buffer("start", torch.zeros(self.width))
        self.register_buffer("location", torch.zeros(T))
        self.register_buffer("scale", torch.ones(T))
        self.register_buffer("bound", torch.full((T,), math.inf))
        for t, task in enumerate(self.tasks):
            self.register_buffer(f"edges_{t}", torch.tensor(task.edges, dtype=torch.float32), persistent=False)

    @torch.no_grad()
    def fit(self, stats: PropensityStats) -> None:
        """Scales, and starting values such that training begins at the base rates."""
        start = []
        for t, kind in enumerate(self.kinds):
            share = torch.tensor([stats.positive_share[t]], dtype=torch.float64).nan_to_num(0.5)
            logit = torch.logit(share, eps=1e-4)
            if kind == "binary":
                start.append(logit)
            elif kind == "hazard":
                start.append(torch.logit(torch.tensor(stats.hazard[t], dtype=torch.float64).nan_to_num(0.01), eps=1e-4))
            elif kind == "value":
                start.append(torch.cat([logit, torch.tensor([0.0, _SD_START], dtype=torch.float64)]))
            else:
                start.append(torch.zeros(1, dtype=torch.float64))
            if kind in ("value", "regression"):
                self.location[t], self.scale[t] = stats.label_mean[t], stats.label_sd[t] or 1.0
            largest = stats.largest[t]
            if kind == "value" and math.isfinite(largest) and largest > 0:
                self.bound[t] = largest
        self.start.copy_(torch.cat(start))

    def edges(self, task: int) -> Tensor:
        """Edges of a hazard task, [D]."""
        return getattr(self, f"edges_{task}")

    def of_raw(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs of each task."""
        return raw.split(self.raw_widths, dim=-1)

    def of_natural(self, natural: Tensor) -> tuple[Tensor, ...]:
        """Natural outputs of each task."""
        return natural.split(self.natural_widths, dim=-1)

    def known(self, label: Tensor, time: Tensor) -> Tensor:
        """Which labels say something, bool [P, T]; label, time: [P, T].

        A hazard that was observed for less than its first interval says nothing.
        """
        known = ~label.isnan()
        for t, kind in enumerate(self.kinds):
            if kind == "hazard":
                survived, event = observed_intervals(self.edges(t), label[:, t], time[:, t])
                known[:, t] &= (survived + event).sum(-1) > 0
        return known

    def loss(self, raw: Tensor, label: Tensor, time: Tensor) -> Tensor:
        """Negative log likelihood of each label, [..., P, T]; 0 where it is not known.

        Args:
            raw: [..., P, Q]. label, time: [P, T], see `PropensityBatch`.
        """
        known = self.known(label, time)
        losses = []
        for t, own in enumerate(self.of_raw(raw)):
            wanted = torch.where(known[:, t], label[:, t], 0.0)
            kind = self.kinds[t]
            if kind == "binary":
                loss = binary_loss(own[..., 0], wanted)
            elif kind == "hazard":
                loss = hazard_loss(own, self.edges(t), wanted, torch.where(known[:, t], time[:, t], 0.0))
            elif kind == "value":
                mean, sd = self._lognormal(own)
                logs = (wanted.clamp(min=TINY_AMOUNT).log() - self.location[t]) / self.scale[t]
                loss = ziln_loss(own[..., 0], mean, sd, wanted, logs)
            else:
                loss = gaussian_loss(own[..., 0], (wanted - self.location[t]) / self.scale[t])
            losses.append(torch.where(known[:, t], loss, 0.0))
        return torch.stack(losses, dim=-1)

    def mixture_loss(self, raw: Tensor, use: Tensor, label: Tensor, time: Tensor) -> Tensor:
        """Negative log likelihood of the members' mixture, [P, T]; 0 where it is not known.

        Of a regression: half the squared error of the members' mean.

        Args:
            raw: [M, P, Q]. use: bool [M, P], the members that may speak about a position.
        """
        losses = self.loss(raw, label, time)  # [M, P, T]
        hidden = torch.where(use, 0.0, -math.inf)[..., None]
        mixed = use.sum(0)[:, None].log() - torch.logsumexp(hidden - losses, dim=0)
        if "regression" not in self.kinds:
            return mixed
        mean = (raw * (use / use.sum(0))[..., None]).sum(0)
        of_mean = self.loss(mean, label, time)
        number = torch.tensor([kind == "regression" for kind in self.kinds], device=raw.device)
        return torch.where(number, of_mean, mixed)

    def natural(self, raw: Tensor) -> Tensor:
        """[..., P, N]: probability; survival at each edge; expected amount; number."""
        parts = []
        for t, own in enumerate(self.of_raw(raw)):
            kind = self.kinds[t]
            if kind == "binary":
                parts.append(own.sigmoid())
            elif kind == "hazard":
                parts.append((-softplus(own)).cumsum(-1).exp())
            elif kind == "value":
                mean, sd = self._lognormal(own)
                scale = self.scale[t]
                logs = nn.functional.logsigmoid(own[..., 0]) + self.location[t] + scale * mean + (scale * sd) ** 2 / 2
                parts.append(logs.clamp(max=self.bound[t].clamp(max=1e30).log()).exp()[..., None])
            else:
                parts.append(self.location[t] + self.scale[t] * own)
        return torch.cat(parts, dim=-1)

    def score(self, natural: Tensor) -> Tensor:
        """[..., P, T]: probability, probability by the last edge, expected amount, number."""
        parts = [
            1.0 - own[..., -1:] if kind == "hazard" else own
            for kind, own in zip(self.kinds, self.of_natural(natural), strict=True)
        ]
        return torch.cat(parts, dim=-1)

    def survival(self, natural: Tensor) -> Tensor:
        """Survival at the edges of all hazard tasks, [..., P, D]."""
        parts = [own for kind, own in zip(self.kinds, self.of_natural(natural), strict=True) if kind == "hazard"]
        return torch.cat(parts, dim=-1) if parts else natural[..., :0]

    def link(self, score: Tensor) -> Tensor:
        """Scores on an additive scale: log odds, log of an amount, the number; [..., T]."""
        parts = []
        for t, kind in enumerate(self.kinds):
            own = score[..., t]
            if kind in ("binary", "hazard"):
                own = torch.logit(own, eps=EPS)
            elif kind == "value":
                own = own.clamp(min=TINY_AMOUNT).log()
            parts.append(own)
        return torch.stack(parts, dim=-1)

    def unlink(self, linked: Tensor) -> Tensor:
        """The inverse of `link`."""
        parts = []
        for t, kind in enumerate(self.kinds):
            own = linked[..., t]
            parts.append(own.sigmoid() if kind in ("binary", "hazard") else own.exp() if kind == "value" else own)
        return torch.stack(parts, dim=-1)

    @staticmethod
    def _lognormal(own: Tensor) -> tuple[Tensor, Tensor]:
        mean = MEAN_LIMIT * (own[..., 1] / MEAN_LIMIT).tanh()  # smooth: a hard bound would end the gradient
        return mean, (SD_FLOOR + softplus(own[..., 2])).clamp(max=SD_LIMIT)
