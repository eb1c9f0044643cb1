"""Strictly increasing one-dimensional networks, many in one computation: price curves and free-form responses.

Axis letters: M ensemble members, P features, B batch rows, U units of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from wanamaker.nn.net_bank import net_bank

# Smallest slope of a curve, output units per input unit. It keeps a curve invertible in floating point.
MIN_SLOPE = 1e-3

# Kinks are spread over the range where standardised features lie.
_SPREAD = 2.5
# Share of the initial slope that is the linear term's.
_LINEAR_SHARE = 0.3


class MonotoneNets(nn.Module):
    """M x P networks from one number to one number, each strictly increasing and 0 at 0.

    A net is f(x) = s x + g(x) - g(0) with a slope s > 0 of its own and a perceptron g whose weights enter as absolute
    values. A third of its units are convex (ELU), a third concave (-ELU(-x)), a third saturate on both sides; with one
    kind of unit alone, sums and compositions of increasing convex functions would again be convex. Any increasing
    continuous function can be approximated (theorem 1 of the source; the linear term adds to that, and keeps a net
    alive and increasing where all its units are flat). Beyond the data curves go on linearly, rising.

    For a decreasing curve give it the negated input, never a negated layer: two of those would rise again.

    Args:
        members: M.
        features: P; may be 0.
        hidden: units per hidden layer, each at least 3.

    Initial weights come from torch's global generator. At the start every net has a mean slope of 1 over [-2, 2], each
    with its own bends, and every parameter has a gradient. Inputs should be standardised or logarithms of ratios: of
    size 1, with 0 where the curve is anchored (a reference price, no discount).

    Source: Runje & Shankaranarayana (2023), "Constrained monotonic neural networks", section 4.

    Raises:
        ValueError: a count or width out of range.
    """

    def __init__(self, members: int, features: int, hidden: Sequence[int] = (16, 16)) -> None:
        super().__init__()
        if members < 1 or features < 0 or not hidden or min(hidden) < 3:
            raise ValueError(
                f"MonotoneNets(members={members}, features={features}, hidden={tuple(hidden)}): needs at least one "
                "member, and hidden layers of at least 3 units, one of each kind."
            )
        self.members, self.features, self.hidden = members, features, tuple(hidden)
        nets = members * features
        widths = [1, *hidden, 1]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(nets, after, before)) for before, after in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(nets, width, 1)) for width in hidden)
        self.slope = nn.Parameter(torch.empty(nets, 1))  # through softplus
        # Concave units are ELU units between two changes of sign, which the weights take over.
        for layer, width in enumerate(hidden):
            self.register_buffer(f"sign_{layer}", _signs(width), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator."""
        first, *inner = self.weights
        first.uniform_(0.5, 1.5)
        # A unit bends where its pre-activation is 0: at -bias / weight.
        self.biases[0].uniform_(-_SPREAD, _SPREAD).mul_(first)
        for weight in inner:
            fan_in = weight.shape[2]
            weight.uniform_(0.5 / fan_in, 1.5 / fan_in)
        for bias in self.biases[1:]:
            bias.uniform_(-1.0, 1.0)
        self.slope.fill_(_inverse_softplus(_LINEAR_SHARE - MIN_SLOPE))
        if self.features:
            ends = torch.tensor([[-2.0], [2.0]]).expand(2, self.features).to(first)
            linear = 4.0 * _LINEAR_SHARE
            rise = self(ends).diff(dim=1).reshape(-1, 1, 1) - linear
            inner[-1].mul_((4.0 - linear) / rise)

    def forward(self, x: Tensor) -> Tensor:
        """f of every member and feature.

        Args:
            x: [B, P].

        Returns:
            [M, B, P], exactly 0 where ``x`` is 0.

        Raises:
            ValueError: ``x`` is not [B, P].
        """
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"MonotoneNets: x is {tuple(x.shape)}, expected [B, {self.features}].")
        rows = len(x)
        # The anchor rides along as one more row.
        inputs = functional.pad(x, (0, 0, 1, 0)).T.to(self.slope.dtype)  # [P, 1 + B]
        inputs = inputs.expand(self.members, -1, -1).reshape(self.members * self.features, rows + 1)
        signs = [self.get_buffer(f"sign_{layer}") for layer in range(len(self.hidden))]
        weights = [weight.abs() for weight in self.weights]
        for layer, sign in enumerate(signs):
            weights[layer] = weights[layer] * sign[:, None]
            weights[layer + 1] = weights[layer + 1] * sign
        biases = [bias * sign[:, None] for bias, sign in zip(self.biases, signs, strict=True)]
        biases.append(torch.zeros_like(self.slope).unsqueeze(-1))
        values = net_bank(inputs, weights, biases, ["mixed"] * len(self.hidden))
        values = values + (functional.softplus(self.slope) + MIN_SLOPE) * inputs
        anchored = (values[:, 1:] - values[:, :1]).reshape(self.members, self.features, rows).transpose(1, 2)
        # Matrix products round rows differently, so f(0) could be 1e-8. Its value is taken off, its gradient kept.
        return anchored - torch.where(x == 0, anchored.detach(), 0.0)


def _signs(width: int) -> Tensor:
    """+1 for convex and for bounded units (an odd function has no need of signs), -1 for the concave."""
    third = width // 3
    return torch.cat([torch.ones(width - 2 * third), -torch.ones(third), torch.ones(third)])


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value))
