"""First stage: expected outcomes under each arm and, where it is not known, the probability of each arm.

Axis letters: B batch rows, K arms, Y outcomes, Q raw outputs of the heads, M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.families.x_learner.outcome_heads import OutcomeHeads
from wanamaker.nn.folds import member_mean
from wanamaker.nn.packed import PackedMLP
from wanamaker.nn.tabular import FeatureEncoder

OUTCOME_NETS = ("shared", "separate", "single")


class RawNuisances(NamedTuple):
    """What the members say.

    Attributes:
        raw: [M, B, K, Q].
        arm_logits: [M, B, K]; None where the probabilities are known.
    """

    raw: Tensor
    arm_logits: Tensor | None


class Nuisances(NamedTuple):
    """What the effects are computed from, averaged over members and without a gradient.

    Attributes:
        natural: [B, K, Q], see `OutcomeHeads.natural`.
        mean: [B, K, Y], units of the outcomes.
        member_mean: [M, B, K, Y], of each member.
        propensity: [B, K], clipped.
        arm_probability: [B, K], before clipping.
    """

    natural: Tensor
    mean: Tensor
    member_mean: Tensor
    propensity: Tensor
    arm_probability: Tensor


class NuisanceNet(nn.Module):
    """Members of the outcome model and of the propensity model.

    Args:
        schema: of the experiment.
        members: M.
        outcome_net: "shared": one trunk, heads per arm (TARNet; Shalit et al. 2017); "separate": a net per arm (the
            T-learner); "single": the arm is an input (the S-learner).
        hidden, dropout, layer_norm: of `PackedMLP`.
        clip: least probability of an arm.
        encoder: options of `FeatureEncoder`.
    """

    def __init__(
        self,
        schema: UpliftSchema,
        members: int,
        outcome_net: str,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
        clip: float,
        encoder: dict[str, Any],
    ) -> None:
        super().__init__()
        self.outcome_net, self.clip, self.num_arms = outcome_net, clip, schema.num_arms
        categories = [len(values) for values in schema.categories]
        self.encoder = FeatureEncoder(len(schema.numeric), categories, members=members, **encoder)
        self.heads = OutcomeHeads([outcome.kind for outcome in schema.outcomes], schema.num_arms)
        K, Q, width = schema.num_arms, self.heads.width, self.encoder.width
        self.known = bool(schema.probabilities)

        def packed(nets: int, inputs: int, outputs: int) -> PackedMLP:
            return PackedMLP(nets, inputs, outputs, hidden, dropout, layer_norm, zero_output=True)

        if outcome_net == "shared":
            self.outcome = packed(members, width, K * Q)
        elif outcome_net == "separate":
            self.outcome = packed(members * K, width, Q)
        else:
            self.outcome = packed(members, width + K, Q)
        self.propensity = None if self.known else packed(members, width, K)
        start = torch.tensor(schema.probabilities) if self.known else torch.full((K,), 1.0 / K)
        self.register_buffer("arm_share", start)

    def forward(self, batch: UpliftBatch, seeds: Tensor | None = None, fixed: Tensor | None = None) -> RawNuisances:
        """Outputs of all members; ``seeds`` int64 [B] are needed in training.

        ``fixed`` is what `FeatureEncoder.fixed` made of the batch, where it was asked already.
        """
        fixed = self.encoder.fixed(batch.numeric, batch.categorical) if fixed is None else fixed
        x = self.encoder.embed(fixed, batch.categorical)  # [B, in] or [M, B, in]
        rows, K, Q = len(batch.row), self.num_arms, self.heads.width
        if self.outcome_net == "shared":
            raw = self.outcome(x, seeds).reshape(-1, rows, K, Q)
        elif self.outcome_net == "separate":
            repeated = x if x.ndim == 2 else x.repeat_interleave(K, dim=0)
            raw = self.outcome(repeated, seeds).reshape(-1, K, rows, Q).transpose(1, 2)  # [M, B, K, Q]
        else:
            arms = torch.eye(K, device=x.device).repeat_interleave(rows, dim=0)  # [K B, K]
            arms = arms.expand(*x.shape[:-2], -1, -1)
            inputs = torch.cat([x.repeat(*[1] * (x.ndim - 2), K, 1), arms], dim=-1)  # [(M,) K B, in + K]
            raw = self.outcome(inputs, None if seeds is None else seeds.repeat(K))
            raw = raw.reshape(-1, K, rows, Q).transpose(1, 2)
        logits = None if self.propensity is None else self.propensity(x, seeds) + self.arm_share.log()
        return RawNuisances(raw + self.heads.start, logits)

    def member_loss(self, output: RawNuisances, batch: UpliftBatch) -> tuple[Tensor, Tensor]:
        """Negative log likelihood of each row under each member, outcomes and arm; 0 where the arm is not known.

        Returns:
            Two of [M, B], zeros for the arm where the probabilities are known.
        """
        known = batch.treatment >= 0
        arm = batch.treatment.clamp(min=0)
        outcome = self.heads.loss(_of_arm(output.raw, arm), batch.outcome).sum(-1) * known
        if output.arm_logits is None:
            return outcome, torch.zeros_like(outcome)
        logs = output.arm_logits.log_softmax(-1)  # [M, B, K]
        return outcome, -logs.gather(2, arm.expand(len(logs), -1)[..., None])[..., 0] * known

    @torch.no_grad()
    def average(self, output: RawNuisances, use: Tensor) -> Nuisances:
        """The mean of the members that may be used for each row, bool [M, B]."""
        natural = self.heads.natural(output.raw)
        of_member = self.heads.mean(natural)
        mean = member_mean(of_member, use)
        # Probabilities are their own means.
        natural = mean if self.heads.all_binary else member_mean(natural, use)
        if output.arm_logits is None:
            probability = self.arm_share.expand(len(mean), -1)
            return Nuisances(natural, mean, of_member, probability, probability)
        probability = member_mean(output.arm_logits.softmax(-1), use)
        clipped = probability.clamp(self.clip, 1 - self.clip)
        return Nuisances(natural, mean, of_member, clipped, probability)

    def held_out_loss(self, nuisances: Nuisances, batch: UpliftBatch) -> tuple[Tensor, Tensor]:
        """Negative log likelihood of each row under the averaged members, outcomes and arm: two of [B]."""
        known = batch.treatment >= 0
        arm = batch.treatment.clamp(min=0)
        raw = self.heads.raw(_of_arm(nuisances.natural[None], arm))[0]
        outcome = self.heads.loss(raw, batch.outcome).sum(-1) * known
        if self.known:
            return outcome, torch.zeros_like(outcome)
        chosen = nuisances.arm_probability.gather(1, arm[:, None])[:, 0]
        return outcome, -chosen.clamp(min=1e-12).log() * known


def _of_arm(values: Tensor, arm: Tensor) -> Tensor:
    """Entries [M, B, Q] of the arm of each row, from [M, B, K, Q]."""
    index = arm[None, :, None, None].expand(len(values), -1, 1, values.shape[-1])
    return values.gather(2, index)[:, :, 0]
