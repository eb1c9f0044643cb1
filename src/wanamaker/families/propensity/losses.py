"""Negative log likelihoods of what happened, per position and without a mean.

Axis letters: P positions, D intervals; a leading ... may hold members.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def binary_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy, [..., P], of logits [..., P] and labels 0 or 1 [P]."""
    return binary_cross_entropy_with_logits(logit, label.expand_as(logit), reduction="none")


def observed_intervals(edges: Tensor, label: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Which intervals a customer is known to have survived, and in which one it happened.

    Interval d is (edges[d - 1], edges[d]]. One in which observation ended counts for neither: whoever left it
    undecided says nothing about it. That loses a little of what was seen, and biases nothing if observation ends for
    reasons of its own.

    Args:
        edges: [D], ascending. label: [P], 1 if it was seen to happen at ``time``. time: [P].

    Returns:
        Two of [P, D], 0 or 1, which never are 1 together.
    """
    at, happened = time[:, None], (label > 0)[:, None]
    before = torch.cat([edges.new_zeros(1), edges[:-1]])
    event = happened & (at > before) & (at <= edges)
    survived = torch.where(happened, at > edges, at >= edges)
    return survived.to(edges.dtype), event.to(edges.dtype)


def hazard_loss(logits: Tensor, edges: Tensor, label: Tensor, time: Tensor) -> Tensor:
    """Negative log likelihood of discrete-time survival, [..., P].

    Each interval that a customer is known to have entered and left is a trial of its own: log(1 - h) for one survived,
    log h for the one in which it happened (Singer & Willett 1993; Gensheimer & Narasimhan 2019, "A scalable
    discrete-time survival model for neural networks", eq. 3).

    Args:
        logits: [..., P, D], of the hazards. edges, label, time: see `observed_intervals`.
    """
    survived, event = observed_intervals(edges, label, time)
    return (survived * softplus(logits) + event * softplus(-logits)).sum(-1)


def ziln_loss(logit: Tensor, mean: Tensor, sd: Tensor, amount: Tensor, log_amount: Tensor) -> Tensor:
    """Negative log likelihood of a zero-inflated lognormal, [..., P] (Wang, Liu & Miao 2019, arXiv 1912.07753, eq. 4).

    The density is that of the standardised logarithm, so that the loss does not depend on the currency.

    Args:
        logit: [..., P], of an amount above 0. mean, sd: [..., P], of its standardised logarithm.
        amount: [P], at least 0. log_amount: [P], its standardised logarithm; not looked at where the amount is 0.
    """
    bought = amount > 0
    density = 0.5 * ((torch.where(bought, log_amount, 0.0) - mean) / sd).square() + sd.log() + HALF_LOG_2PI
    return binary_loss(logit, bought.to(logit.dtype)) + torch.where(bought, density, 0.0)


def gaussian_loss(value: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared error of standardised values, [..., P]: a Gaussian of variance 1, without its constant."""
    return 0.5 * (value - wanted).square()
