"""Second stage: effects as offsets around the average effect, free or anchored at the expected outcome.

Axis letters: B batch rows, K arms, A = K - 1 offers, Y outcomes, C effect nets, M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.families.x_learner.effects import Targets, residual, stacked, targets
from wanamaker.nn.packed import PackedMLP
from wanamaker.nn.tabular import FeatureEncoder

EFFECT_HEADS = ("free", "anchored")
_TINY = 1e-4
_LOG_LIMIT = 3.0
"""An anchored amount changes at most by a factor of exp(3)."""
WINSOR = 0.999


class EffectOutput(NamedTuple):
    """Attributes:
    effect: [C, M, B, A, Y], units of the outcome.
    offset: [C, M, B, A, Y], what was added to the level, in the head's own scale.
    """

    effect: Tensor
    offset: Tensor


class EffectNet(nn.Module):
    """C x M perceptrons, one output per offer and outcome, that begin at the average effect.

    Heads:
        free: base + scale f(x).
        anchored: for a binary outcome sigmoid(logit mu_0 + base + f(x)) - mu_0, for an amount
            mu_0 (exp(base + f(x)) - 1): bounded, and a constant f already makes effects follow the expected outcome,
            as a discount does that moves everybody's odds alike. A continuous outcome, which has no natural zero, is
            always free.

    Args:
        nets: C names of `effects.NETS`.
        members: M.
        head: of `EFFECT_HEADS`.
        schema, hidden, dropout, layer_norm, encoder: as in `NuisanceNet`.
    """

    def __init__(
        self,
        schema: UpliftSchema,
        nets: tuple[str, ...],
        members: int,
        head: str,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
        encoder: dict[str, Any],
    ) -> None:
        super().__init__()
        C, A, Y = len(nets), schema.num_arms - 1, len(schema.outcomes)
        self.nets, self.members, self.shape = nets, members, (A, Y)
        self.kinds = tuple(outcome.kind for outcome in schema.outcomes)
        self.anchored = tuple(head == "anchored" and kind != "continuous" for kind in self.kinds)
        categories = [len(values) for values in schema.categories]
        if nets:
            self.encoder = FeatureEncoder(len(schema.numeric), categories, members=C * members, **encoder)
            self.mlp = PackedMLP(C * members, self.encoder.width, A * Y, hidden, dropout, layer_norm, zero_output=True)
        self.register_buffer("base", torch.zeros(C, A, Y))
        self.register_buffer("scale", torch.ones(C, A, Y))
        self.register_buffer("average", torch.zeros(A, Y))
        self.register_buffer("common", torch.zeros(A, Y))
        self.register_buffer("limits", torch.full((2, schema.num_arms, Y), float("inf")))
        self.limits[0].neg_()
        self.register_buffer("shift", torch.zeros(schema.num_arms, Y))

    def forward(
        self, batch: UpliftBatch, control_mean: Tensor, seeds: Tensor | None = None, fixed: Tensor | None = None
    ) -> EffectOutput:
        """Effects of every net and member.

        Args:
            batch: B rows.
            control_mean: mu_0 [B, Y], without a gradient.
            seeds: int64 [B], needed in training.
            fixed: what `FeatureEncoder.fixed` made of the batch, where it was asked already.
        """
        A, Y = self.shape
        rows = len(batch.row)
        if not self.nets:
            empty = control_mean.new_zeros(0, self.members, rows, A, Y)
            return EffectOutput(empty, empty)
        fixed = self.encoder.fixed(batch.numeric, batch.categorical) if fixed is None else fixed
        values = self.mlp(self.encoder.embed(fixed, batch.categorical), seeds)
        values = values.reshape(len(self.nets), self.members, rows, A, Y)
        base, scale = self.base[:, None, None], self.scale[:, None, None]
        effects = []
        for y, kind in enumerate(self.kinds):
            offset, mu_0 = values[..., y], control_mean[:, y, None]
            if not self.anchored[y]:
                effects.append(base[..., y] + scale[..., y] * offset)
            elif kind == "binary":
                effects.append((torch.logit(mu_0, eps=_TINY) + base[..., y] + offset).sigmoid() - mu_0)
            else:
                effects.append(mu_0 * ((base[..., y] + offset).clamp(-_LOG_LIMIT, _LOG_LIMIT).exp() - 1))
        return EffectOutput(stacked(effects, dim=-1), values)

    def proportional(self, control_mean: Tensor) -> Tensor:
        """Effects of offers that move everybody's odds, or amounts, alike; [..., A, Y] of mu_0 [..., Y]."""
        mu_0, effects = control_mean.unsqueeze(-2), []
        for y, kind in enumerate(self.kinds):
            own, common = mu_0[..., y], self.common[:, y]
            if kind == "binary":
                effects.append((torch.logit(own, eps=_TINY) + common).sigmoid() - own)
            elif kind == "zero_inflated":
                effects.append(own * (common.exp() - 1))
            else:
                effects.append(common.expand(*own.shape[:-1], -1))
        return torch.stack(effects, dim=-1)

    def targets(self, mean: Tensor, propensity: Tensor, batch: UpliftBatch) -> Targets:
        """Pseudo-outcomes of a batch with winsorised residuals; means of the residuals stay what they were."""
        rest, known = residual(mean, batch.treatment, batch.outcome)
        arm = batch.treatment.clamp(min=0)
        cut = torch.minimum(torch.maximum(rest, self.limits[0][arm]), self.limits[1][arm]) + self.shift[arm]
        return targets(self.nets, mean, propensity, batch.treatment, torch.where(known, cut, 0.0), known)

    def row_loss(self, output: EffectOutput, wanted: Targets, shrink: float) -> Tensor:
        """Squared error in units of the targets' standard deviations plus the penalty; [C, M, B, A, Y].

        Args:
            output: of `forward`. wanted: of `targets`.
            shrink: weight of the squared deviation from the level: larger is closer to one effect for all.
        """
        error = (wanted.value[:, None] - output.effect) / self.scale[:, None, None]
        level = self.mlp.biases[-1].reshape(len(self.nets), self.members, 1, *self.shape)
        return error.square() + shrink * (output.offset - level).square()

    @torch.no_grad()
    def prepare(self, mean: Tensor, propensity: Tensor, batch: UpliftBatch) -> None:
        """Set limits, level and scale from rows whose expected outcomes come from members that did not see them.

        Args:
            mean: [N, K, Y]. propensity: [N, K]. batch: the rows' treatment, outcome and weight.
        """
        mean, propensity = mean.double(), propensity.double()
        outcome, treatment = batch.outcome.double(), batch.treatment
        rest, known = residual(mean, treatment, outcome)
        for k in range(mean.shape[1]):
            for y, kind in enumerate(self.kinds):
                own = rest[known[:, y] & (treatment == k), y]
                # A binary residual is bounded, and cutting the rare ones would cut the outcome itself.
                if kind == "binary" or len(own) < 2:
                    continue
                low, high = (float(own.quantile(q)) for q in (1 - WINSOR, WINSOR))
                self.limits[0, k, y], self.limits[1, k, y] = low, high
                self.shift[k, y] = float((own - own.clamp(low, high)).mean())
        whole = targets(("dr",), mean, propensity, treatment, rest, known)
        self.average.copy_(_moments(whole, batch.weight)[0][0])
        self.common.copy_(_common_change(self.kinds, mean[:, 0], self.average.double(), batch.weight.double()))
        if not self.nets:
            return
        cut = torch.minimum(torch.maximum(rest, self.limits[0][treatment]), self.limits[1][treatment])
        cut = torch.where(known, cut + self.shift[treatment], 0.0)
        level, sd = _moments(targets(self.nets, mean, propensity, treatment, cut, known), batch.weight)
        self.scale.copy_(torch.where(sd > 0, sd, 1.0))
        control = mean[:, 0].mean(0)  # [Y]
        for y, kind in enumerate(self.kinds):
            if not self.anchored[y]:
                self.base[..., y] = level[..., y]
            elif kind == "binary":
                reached = (control[y] + level[..., y]).clamp(0.01 * control[y], 1 - 0.01 * (1 - control[y]))
                self.base[..., y] = torch.logit(reached) - torch.logit(control[y])
            else:
                ratio = 1 + level[..., y] / control[y].clamp(min=1e-12)
                self.base[..., y] = ratio.clamp(min=1e-6).log().clamp(-_LOG_LIMIT / 2, _LOG_LIMIT / 2)


def _common_change(kinds: tuple[str, ...], control: Tensor, average: Tensor, weight: Tensor) -> Tensor:
    """The change of log odds or log amounts, the same for all, whose effects have the right mean; [A, Y].

    Args:
        kinds: Y kinds of outcomes. control: mu_0 [N, Y]. average: [A, Y], the mean effects. weight: [N].
    """
    weight = weight / weight.sum()
    found = average.clone()
    for y, kind in enumerate(kinds):
        own = control[:, y]
        if kind == "zero_inflated":
            ratio = 1 + average[:, y] / (weight @ own).clamp(min=1e-12)
            found[:, y] = ratio.clamp(min=1e-6).log().clamp(-_LOG_LIMIT, _LOG_LIMIT)
        elif kind == "binary":
            logit = torch.logit(own, eps=_TINY)
            low, high = torch.full_like(average[:, y], -10.0), torch.full_like(average[:, y], 10.0)
            for _ in range(60):  # the mean effect rises with the change
                middle = (low + high) / 2
                above = weight @ ((logit[:, None] + middle).sigmoid() - own[:, None]) > average[:, y]
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            found[:, y] = (low + high) / 2
    return found


def _moments(wanted: Targets, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of the targets, each [C, A, Y]."""
    weights = wanted.weight * weight.double()[None, :, None, None]
    total = weights.sum(1).clamp(min=1e-12)
    mean = (weights * wanted.value).sum(1) / total
    variance = (weights * (wanted.value - mean[:, None]).square()).sum(1) / total
    return mean, variance.sqrt()
