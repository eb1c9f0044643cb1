"""One small free-form network per feature, all features and ensemble members in one computation.

Axis letters: M ensemble members, F features, B batch rows, N = M x F nets, U units of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from wanamaker.nn.net_bank import net_bank
from wanamaker.nn.row_hash import GOLDEN, mixed

FIRST_LAYERS = ("plain", "exu")
MODULES = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}

# Kinks are spread over the range where standardised features lie.
_SPREAD = 2.5
# Output weights start this small: a model begins with no effects and learns those the data ask for.
_OUTPUT_SCALE = 0.01
_BITS = 24


class FeatureNets(nn.Module):
    """M x F perceptrons, each from one feature to one number.

    Shape functions of a neural additive model. Nothing ties them to 0 or centres them: the model does that.

    Args:
        members: M.
        features: F; may be 0.
        hidden: units per hidden layer.
        first: "plain" units, or "exu": ReLU-1((x - b) e^W) with W ~ N(4, 0.5), for functions that jump. ExU units react
            within 2 % of a feature's standard deviation: never use them for media.
        activation: of the hidden layers but an ExU one: "gelu", "silu", "relu" or "tanh".
        dropout: probability with which a hidden unit is dropped, per row, in training.
        feature_dropout: probability with which the whole output of a net is dropped, per row, in training.

    Dropped units and outputs are decided by a hash of the row's seed and the unit, so that a row meets the same ones
    whichever rank, batch position or restart it is trained in.

    Initial weights come from torch's global generator; outputs start near 0 with a gradient in every parameter.

    Source: Agarwal et al. (2021), "Neural additive models: interpretable machine learning with neural nets".

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        members: int,
        features: int,
        hidden: Sequence[int] = (32, 16),
        first: str = "plain",
        activation: str = "gelu",
        dropout: float = 0.0,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if members < 1 or features < 0 or not hidden or min(hidden) < 1:
            raise ValueError(
                f"FeatureNets(members={members}, features={features}, hidden={tuple(hidden)}): needs at least one "
                "member and one hidden layer of at least one unit."
            )
        if first not in FIRST_LAYERS:
            raise ValueError(f"FeatureNets: first={first!r}; choose from {', '.join(FIRST_LAYERS)}.")
        for name, value in (("dropout", dropout), ("feature_dropout", feature_dropout)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"FeatureNets: {name}={value}; a probability in [0, 1).")
        if activation not in MODULES:
            raise ValueError(f"FeatureNets: activation={activation!r}; choose from {', '.join(MODULES)}.")
        self.members, self.features, self.hidden = members, features, tuple(hidden)
        self.first, self.activation = first, activation
        self.dropout, self.feature_dropout = dropout, feature_dropout
        nets = members * features
        widths = [1, *hidden, 1]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(nets, after, before)) for before, after in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(nets, width, 1)) for width in widths[1:])
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator."""
        if self.first == "exu":
            self.weights[0].normal_(4.0, 0.5)
            self.biases[0].normal_(0.0, 0.5)  # the centres b
        else:
            sign = torch.randint(0, 2, self.weights[0].shape).to(self.weights[0]) * 2 - 1
            self.weights[0].uniform_(0.5, 1.5).mul_(sign)
            # A unit bends where its pre-activation is 0: at -bias / weight.
            self.biases[0].uniform_(-_SPREAD, _SPREAD).mul_(self.weights[0])
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            bound = math.sqrt(6.0 / weight.shape[2])  # He et al. (2015)
            weight.uniform_(-bound, bound)
            bias.uniform_(-0.1, 0.1)
        self.weights[-1].normal_(0.0, _OUTPUT_SCALE / math.sqrt(self.hidden[-1]))
        self.biases[-1].zero_()

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Outputs of every member and feature.

        Args:
            x: [B, F].
            seeds: int64 [B], one per row, such as a hash of run seed, epoch and row number. Needed in training with
                dropout of either kind; unused otherwise.

        Returns:
            [M, B, F].

        Raises:
            ValueError: ``x`` is not [B, F], or seeds are missing or not one integer per row.
        """
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"FeatureNets: x is {tuple(x.shape)}, expected [B, {self.features}].")
        rows = len(x)
        drops = self.training and (self.dropout > 0 or self.feature_dropout > 0)
        if drops and (seeds is None or seeds.shape != (rows,) or seeds.dtype != torch.int64):
            found = None if seeds is None else (str(seeds.dtype), tuple(seeds.shape))
            raise ValueError(
                f"FeatureNets: seeds={found}; training with dropout needs one int64 seed per row ({rows}), so that a "
                "row meets the same dropout on every rank."
            )
        weights, biases = list(self.weights), list(self.biases)
        activations = [self.activation] * len(self.hidden)
        if self.first == "exu":
            # (x - b) e^W as a plain unit with weight e^W and bias -b e^W.
            weights[0] = weights[0].exp()
            biases[0] = -biases[0] * weights[0]
            activations[0] = "relu1"
        unit_mask = None
        if drops and self.dropout > 0:
            unit_mask = lambda layer, values: _drop(values, seeds, self.dropout, layer + 1)  # noqa: E731
        inputs = x.T.expand(self.members, -1, -1).reshape(self.members * self.features, rows)  # [N, B]
        out = net_bank(inputs, weights, biases, activations, unit_mask)
        if drops and self.feature_dropout > 0:
            out = _drop(out, seeds, self.feature_dropout, 0)
        return out.reshape(self.members, self.features, rows).transpose(1, 2)  # [M, B, F]

    def unbatched(self) -> list[nn.Sequential]:
        """Copies of the M x F nets as ordinary modules from [B, 1] to [B, 1], member by member.

        What a plain implementation would loop over: the reference of tests and benchmarks.

        Raises:
            ValueError: the nets have ExU units or dropout, which ordinary modules do not have.
        """
        if self.first != "plain" or self.dropout or self.feature_dropout:
            raise ValueError("FeatureNets.unbatched: only for first='plain' without dropout.")
        nets = []
        for n in range(self.members * self.features):
            layers: list[nn.Module] = []
            for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                linear = nn.Linear(weight.shape[2], weight.shape[1], device=weight.device, dtype=weight.dtype)
                linear.weight.data.copy_(weight[n])
                linear.bias.data.copy_(bias[n, :, 0])
                layers += [linear, MODULES[self.activation]()] if k < len(self.hidden) else [linear]
            nets.append(nn.Sequential(*layers))
        return nets


def _drop(values: Tensor, seeds: Tensor, probability: float, stream: int) -> Tensor:
    """Zeros where the hash of (row seed, stream, place) says so, the rest scaled up; rows are the last axis."""
    places = torch.arange(values[..., 0].numel(), device=values.device).reshape(*values.shape[:-1], 1)
    row_keys = mixed(seeds * GOLDEN + stream)
    bits = mixed(row_keys + (places + 1) * GOLDEN) & ((1 << _BITS) - 1)
    kept = bits >= round(probability * (1 << _BITS))
    return values * kept / (1.0 - probability)
