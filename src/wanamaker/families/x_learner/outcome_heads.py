"""How expected outcomes leave the outcome net: one head per kind of outcome, each unbiased for the MEAN.

Axis letters: B batch rows, K arms, Y outcomes, Q raw outputs of all heads; a leading ... may hold members.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

RAW = {"binary": 1, "continuous": 1, "zero_inflated": 2}
_LOG_LIMIT = 8.0
"""A positive amount is kept within a factor of exp(8) of the usual one."""
_TINY = 1e-6


class OutcomeHeads(nn.Module):
    """Raw outputs to expected outcomes, and their losses.

    - binary: logit; cross-entropy.
    - continuous: standardised value; half the squared error, which is the Gaussian likelihood with variance 1.
    - zero_inflated: logit of a positive amount, and the log of its mean. The amount's loss is the gamma likelihood
      a / m + log m, minimal at the mean whatever the true distribution is (a quasi-likelihood; Wedderburn 1974).
      A lognormal head would need its variance to be right: half a unit too much raises the mean by 28 %.

    Args:
        kinds: Y of `RAW`.
        num_arms: K.
    """

    def __init__(self, kinds: Sequence[str], num_arms: int) -> None:
        super().__init__()
        self.kinds, self.num_arms = tuple(kinds), num_arms
        self.width = sum(RAW[kind] for kind in kinds)
        self.all_binary = set(kinds) == {"binary"}
        self.register_buffer("location", torch.zeros(len(kinds)))
        self.register_buffer("scale", torch.ones(len(kinds)))
        self.register_buffer("start", torch.zeros(num_arms, self.width))

    @torch.no_grad()
    def fit(self, mean: Sequence[Sequence[float]], sd: Sequence[Sequence[float]], share: Sequence[float]) -> None:
        """Scales and starting values from the arms' moments, so that training begins at the arms' means.

        Args:
            mean, sd: [K][Y], in the outcome's units.
            share: K shares of the rows.
        """
        means, sds = torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64)  # [K, Y]
        shares = torch.tensor(share, dtype=torch.float64)[:, None]
        pooled = (shares * means).sum(0)
        square = (shares * (sds**2 + means**2)).sum(0)
        q = 0
        for y, kind in enumerate(self.kinds):
            of_arm = means[:, y]
            if kind == "binary":
                self.start[:, q] = torch.logit(of_arm, eps=1e-4)
            elif kind == "continuous":
                self.location[y] = pooled[y]
                self.scale[y] = (square[y] - pooled[y] ** 2).clamp(min=0).sqrt() or 1.0
                self.start[:, q] = (of_arm - self.location[y]) / self.scale[y]
            else:
                # Two moments, zeros included, give the usual amount where amounts vary as an exponential does.
                amount = square[y] / (2 * pooled[y]) if pooled[y] > 0 else torch.tensor(1.0)
                self.scale[y] = amount
                self.start[:, q] = torch.logit((of_arm / amount).clamp(1e-4, 0.95))
            q += RAW[kind]

    def loss(self, raw: Tensor, outcome: Tensor) -> Tensor:
        """Negative log likelihood of each outcome, up to constants; 0 where the outcome is not known.

        Args:
            raw: [..., B, Q], of the arm that the row had.
            outcome: [B, Y]; NaN where not known.

        Returns:
            [..., B, Y].
        """
        known = ~outcome.isnan()
        target = torch.where(known, outcome, 0.0)
        losses, q = [], 0
        for y, kind in enumerate(self.kinds):
            value, wanted = raw[..., q], target[:, y].expand(raw.shape[:-1])
            if kind == "binary":
                loss = binary_cross_entropy_with_logits(value, wanted, reduction="none")
            elif kind == "continuous":
                loss = 0.5 * (value - (wanted - self.location[y]) / self.scale[y]).square()
            else:
                log_mean = raw[..., q + 1].clamp(-_LOG_LIMIT, _LOG_LIMIT)
                bought = wanted > 0
                amount = (wanted / self.scale[y]) * (-log_mean).exp() + log_mean
                loss = binary_cross_entropy_with_logits(value, bought.float(), reduction="none")
                loss = loss + torch.where(bought, amount, 0.0)
            losses.append(torch.where(known[:, y], loss, 0.0))
            q += RAW[kind]
        return torch.stack(losses, dim=-1)

    def natural(self, raw: Tensor) -> Tensor:
        """Raw outputs on the scale on which an ensemble is averaged: probabilities, values, amounts; [..., Q]."""
        if self.all_binary:
            return raw.sigmoid()
        parts, q = [], 0
        for kind in self.kinds:
            parts.append(raw[..., q] if kind == "continuous" else raw[..., q].sigmoid())
            if kind == "zero_inflated":
                parts.append(raw[..., q + 1].clamp(-_LOG_LIMIT, _LOG_LIMIT).exp())
            q += RAW[kind]
        return torch.stack(parts, dim=-1)

    def raw(self, natural: Tensor) -> Tensor:
        """The inverse of `natural`: to score the average of an ensemble with `loss`."""
        parts, q = [], 0
        for kind in self.kinds:
            value = natural[..., q]
            parts.append(value if kind == "continuous" else torch.logit(value, eps=_TINY))
            if kind == "zero_inflated":
                parts.append(natural[..., q + 1].log())
            q += RAW[kind]
        return torch.stack(parts, dim=-1)

    def mean(self, natural: Tensor) -> Tensor:
        """Expected outcomes in their units, [..., Y]."""
        if self.all_binary:
            return natural
        parts, q = [], 0
        for y, kind in enumerate(self.kinds):
            if kind == "continuous":
                parts.append(self.location[y] + self.scale[y] * natural[..., q])
            elif kind == "binary":
                parts.append(natural[..., q])
            else:
                parts.append(self.scale[y] * natural[..., q] * natural[..., q + 1])
            q += RAW[kind]
        return torch.stack(parts, dim=-1)
