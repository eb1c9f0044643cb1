"""Perceptrons that share weights within a fold and differ by adapters (TabM; Gorishniy et al. 2024, arXiv 2410.24210).

Members of one fold learn from the same rows, so that they may share; those of different folds share nothing.

Axis letters: K folds, R replicas, M = K x R members (member r K + k is of fold k), P positions, U units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wanamaker.nn.row_hash import dropped


class AdaptedMLP(nn.Module):
    """M perceptrons whose hidden layers are y = s * (W (r * x)) + b: W of the fold, the vectors of the member.

    The first r is a random sign for each member and input, so that members see the inputs differently; all other
    vectors start at 1. The last layer is the member's own. Sharing regularises, and the members' mean is better than a
    mean of perceptrons of their own; their spread is that of one fit and says little about how well it is known.

    Args:
        folds: K. replicas: R.
        inputs, outputs, hidden, dropout: as of `PackedMLP`; at least one hidden layer. The output starts at 0.
    """

    def __init__(
        self, folds: int, replicas: int, inputs: int, outputs: int, hidden: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.folds, self.replicas, self.dropout = folds, replicas, dropout
        M, widths = folds * replicas, [inputs, *hidden]
        pairs = list(zip(widths[:-1], hidden, strict=True))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(folds, before, after)) for before, after in pairs)
        self.input_gains = nn.ParameterList(nn.Parameter(torch.ones(M, 1, before)) for before, _ in pairs)
        self.output_gains = nn.ParameterList(nn.Parameter(torch.ones(M, 1, after)) for _, after in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(M, 1, after)) for after in hidden)
        self.last_weights = nn.Parameter(torch.zeros(M, hidden[-1], outputs))
        self.last_biases = nn.Parameter(torch.zeros(M, 1, outputs))
        with torch.no_grad():
            for weight, bias in zip(self.weights, self.biases, strict=True):
                bound = 1.0 / math.sqrt(weight.shape[1])
                weight.uniform_(-bound, bound)
                bias.uniform_(-bound, bound)
            first = self.input_gains[0]
            first.copy_(torch.randint(0, 2, first.shape) * 2.0 - 1.0)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[M, P, outputs], of x [P, inputs] or [M, P, inputs]; seeds: int64 [P], needed in training with dropout."""
        K, R = self.folds, self.replicas
        values = x
        layers = zip(self.weights, self.input_gains, self.output_gains, self.biases, strict=True)
        for number, (weight, gain_in, gain_out, bias) in enumerate(layers):
            values = values * gain_in  # [M, P, U]
            P = values.shape[1]
            joined = values.reshape(R, K, P, -1).transpose(0, 1).reshape(K, R * P, -1)
            mapped = torch.bmm(joined, weight).reshape(K, R, P, -1).transpose(0, 1).reshape(R * K, P, -1)
            values = nn.functional.silu(mapped * gain_out + bias)
            if self.training and self.dropout > 0:
                values = dropped(values, seeds, self.dropout, number)
        return torch.baddbmm(self.last_biases, values, self.last_weights)
