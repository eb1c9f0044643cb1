"""Many independent perceptrons over the same rows, evaluated as one computation.

Axis letters: M members, B batch rows, U units of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from wanamaker.nn.row_hash import dropped


class PackedMLP(nn.Module):
    """M perceptrons that share nothing, so that one may be kept from seeing what the others saw.

    Args:
        members: M.
        inputs, outputs: of each.
        hidden: units per hidden layer; empty for linear members.
        dropout: probability with which a hidden unit is dropped, per row, in training; decided by `row_hash`, hence
            the same whichever rank or batch position a row is trained in.
        layer_norm: normalise each hidden layer before its activation.
        zero_output: start with the output 0 everywhere; otherwise the last layer starts like the others.

    Initial weights come from torch's global generator, another draw for each member.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (32, 32),
        dropout: float = 0.0,
        layer_norm: bool = False,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        if members < 1 or inputs < 1 or outputs < 1 or any(width < 1 for width in hidden):
            raise ValueError(
                f"PackedMLP(members={members}, inputs={inputs}, outputs={outputs}, hidden={tuple(hidden)}): every "
                "number must be at least 1."
            )
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"PackedMLP: dropout={dropout}; a probability in [0, 1).")
        self.members, self.inputs, self.outputs, self.dropout = members, inputs, outputs, dropout
        self.zero_output = zero_output
        widths = [inputs, *hidden, outputs]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(members, before, after)) for before, after in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(members, 1, width)) for width in widths[1:])
        self.gains = nn.ParameterList(nn.Parameter(torch.empty(members, 1, w)) for w in hidden if layer_norm)
        self.shifts = nn.ParameterList(nn.Parameter(torch.empty(members, 1, w)) for w in hidden if layer_norm)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1.0 / math.sqrt(weight.shape[1])
            weight.uniform_(-bound, bound)
            bias.uniform_(-bound, bound)
        if self.zero_output:
            self.weights[-1].zero_()
            self.biases[-1].zero_()
        for gain, shift in zip(self.gains, self.shifts, strict=True):
            gain.fill_(1.0)
            shift.zero_()

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """Outputs of every member.

        Args:
            x: [B, inputs], the same for all members, or [M, B, inputs].
            seeds: int64 [B]; needed in training with dropout, unused otherwise.

        Returns:
            [M, B, outputs].

        Raises:
            ValueError: seeds are missing or not one integer per row.
        """
        rows = x.shape[-2]
        drops = self.training and self.dropout > 0
        if drops and (seeds is None or seeds.shape != (rows,) or seeds.dtype != torch.int64):
            raise ValueError(
                f"PackedMLP: training with dropout needs one int64 seed per row ({rows}), so that a row meets the "
                "same dropout on every rank."
            )
        values = x.expand(self.members, -1, -1) if x.ndim == 2 else x
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)  # [M, B, U]
            if layer == last:
                break
            if len(self.gains):
                values = nn.functional.layer_norm(values, values.shape[-1:]) * self.gains[layer] + self.shifts[layer]
            # Nobody else holds these values, but autograd may.
            values = nn.functional.silu(values, inplace=not values.requires_grad)
            if drops:
                values = dropped(values, seeds, self.dropout, layer)
        return values
