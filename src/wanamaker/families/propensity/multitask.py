"""What tasks share: one net for all, a mixture of experts, or experts shared and of their own.

Every part is packed: M members that share nothing, so that one may be kept from seeing what the others saw.

Axis letters: M members, P positions, U units, X experts, T tasks, Q raw outputs of all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError
from wanamaker.nn.packed import PackedMLP
from wanamaker.nn.row_hash import dropped, stream

from .adapted import AdaptedMLP

STRUCTURES = ("shared", "separate", "mmoe", "ple")


class Block(nn.Module):
    """Layers that end in an activation, [M, P, U] to [M, P, hidden[-1]].

    Args:
        members, inputs, hidden, dropout, layer_norm: of `PackedMLP`.
        number: tells the dropout of the blocks of a net apart.
    """

    def __init__(
        self, members: int, inputs: int, hidden: Sequence[int], dropout: float, layer_norm: bool, number: int
    ) -> None:
        super().__init__()
        self.layers = PackedMLP(members, inputs, hidden[-1], hidden[:-1], dropout, layer_norm)
        self.dropout, self.number, self.width = dropout, number, hidden[-1]

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """x: [P, U] or [M, P, U]; seeds: int64 [P], needed in training with dropout."""
        own = None if seeds is None else stream(seeds, self.number)
        values = nn.functional.silu(self.layers(x, own))
        if self.training and self.dropout > 0:
            values = dropped(values, own, self.dropout, len(self.layers.weights))
        return values


class Experts(nn.Module):
    """X blocks per member over the same inputs, [M, P, X, U]."""

    def __init__(
        self,
        members: int,
        experts: int,
        inputs: int,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
        number: int,
    ) -> None:
        super().__init__()
        self.experts = experts
        self.blocks = Block(members * experts, inputs, hidden, dropout, layer_norm, number)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """x: [P, U] or [M, P, U]."""
        repeated = x if x.ndim == 2 else x.repeat_interleave(self.experts, dim=0)
        values = self.blocks(repeated, seeds)  # [M X, P, U]
        return values.reshape(-1, self.experts, *values.shape[1:]).transpose(1, 2)


class Gate(nn.Module):
    """A mixture of experts whose shares depend on the inputs: softmax of a linear map, which starts at equal shares."""

    def __init__(self, members: int, inputs: int, experts: int) -> None:
        super().__init__()
        self.linear = PackedMLP(members, inputs, experts, (), zero_output=True)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        """[M, P, U] from x [(M,) P, inputs] and experts' values [M, P, X, U]."""
        return (self.linear(x).softmax(-1)[..., None] * values).sum(2)


class Mixture(nn.Module):
    """MMoE: one set of experts, a gate per task (Ma et al. 2018, KDD, eq. 6-8)."""

    def __init__(
        self,
        members: int,
        tasks: int,
        experts: int,
        inputs: int,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        self.experts = Experts(members, experts, inputs, hidden, dropout, layer_norm, 1)
        self.gates = nn.ModuleList(Gate(members, inputs, experts) for _ in range(tasks))
        self.width = hidden[-1]

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> list[Tensor]:
        """T of [M, P, U]."""
        values = self.experts(x, seeds)
        return [gate(x, values) for gate in self.gates]


class Extraction(nn.Module):
    """One level of PLE: shared experts and experts of each task; a task's gate sees its own and the shared ones, and
    the shared gate sees all (Tang et al. 2020, RecSys, eq. 2-6)."""

    def __init__(
        self,
        members: int,
        tasks: int,
        experts: int,
        inputs: int,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
        level: int,
        last: bool,
    ) -> None:
        super().__init__()
        first = 1 + level * (tasks + 1)
        self.experts = nn.ModuleList(
            Experts(members, experts, inputs, hidden, dropout, layer_norm, first + k) for k in range(tasks + 1)
        )
        seen = [2 * experts] * tasks + ([] if last else [(tasks + 1) * experts])
        self.gates = nn.ModuleList(Gate(members, inputs, count) for count in seen)

    def forward(self, inputs: list[Tensor], seeds: Tensor | None = None) -> list[Tensor]:
        """Of the tasks and (but for the last level) of the shared part, [M, P, U] each; as the inputs are."""
        values = [experts(x, seeds) for experts, x in zip(self.experts, inputs, strict=True)]
        T = len(values) - 1
        seen = [torch.cat([own, values[-1]], dim=2) for own in values[:T]]
        if len(self.gates) > T:
            seen.append(torch.cat(values, dim=2))
        return [gate(x, own) for gate, x, own in zip(self.gates, inputs, seen, strict=False)]


class Layered(nn.Module):
    """PLE: several extractions one after the other."""

    def __init__(
        self,
        members: int,
        tasks: int,
        experts: int,
        levels: int,
        inputs: int,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden[-1]] * levels
        self.levels = nn.ModuleList(
            Extraction(members, tasks, experts, widths[k], hidden, dropout, layer_norm, k, k == levels - 1)
            for k in range(levels)
        )
        self.tasks, self.width = tasks, hidden[-1]

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> list[Tensor]:
        """T of [M, P, U]."""
        values = [x] * (self.tasks + 1)
        for level in self.levels:
            values = level(values, seeds)
        return values


class TaskNet(nn.Module):
    """Inputs to the raw outputs of all tasks, which start at 0.

    Args:
        members: M.
        inputs: U.
        outputs: T numbers of raw outputs.
        structure: "shared": one bottom for all tasks. "separate": a net per task. "mmoe": see `Mixture`. "ple": see
            `Layered`.
        hidden: units of the bottom or of each expert; may be empty (linear) where tasks share or are separate.
        tower_hidden: units of each task's own layers; empty for a linear map.
        experts: of "mmoe", or of each task and shared of "ple". levels: of "ple".
        dropout, layer_norm: of `PackedMLP`.
        adapted_folds: K, where the members of a fold share weights (see `AdaptedMLP`); 0 where they share nothing.

    Raises:
        UserError: an option out of range.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: Sequence[int],
        structure: str = "shared",
        hidden: Sequence[int] = (64,),
        tower_hidden: Sequence[int] = (),
        experts: int = 4,
        levels: int = 1,
        dropout: float = 0.0,
        layer_norm: bool = False,
        adapted_folds: int = 0,
    ) -> None:
        super().__init__()
        if structure not in STRUCTURES:
            raise UserError(f"model.net.structure={structure!r}: choose from {', '.join(STRUCTURES)}.")
        mixes = structure in ("mmoe", "ple")
        if (mixes or (tower_hidden and structure == "shared")) and not hidden:
            raise UserError(
                f"model.net.hidden is empty: structure={structure} with towers needs units, such as hidden: [64]."
            )
        for name, value in (("experts", experts), ("levels", levels)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"model.net.{name}={value!r}: give a whole number of at least 1.")
        if adapted_folds and (mixes or not hidden or layer_norm):
            raise UserError(
                "model.net.adapted goes with structure shared or separate, hidden layers, and without layer_norm."
            )
        T, self.outputs = len(outputs), list(outputs)
        options = {"dropout": dropout, "layer_norm": layer_norm}
        self.structure, self.bottom = structure, None
        if structure == "shared" and tower_hidden and not adapted_folds:
            self.bottom = Block(members, inputs, hidden, dropout, layer_norm, 1)
        elif structure == "mmoe":
            self.bottom = Mixture(members, T, experts, inputs, hidden, **options)
        elif structure == "ple":
            self.bottom = Layered(members, T, experts, levels, inputs, hidden, **options)
        if self.bottom is None:
            layers, width = [*hidden, *tower_hidden], inputs
            sizes = [sum(outputs)] if structure == "shared" else self.outputs
        else:
            layers, width, sizes = list(tower_hidden), self.bottom.width, self.outputs
        if adapted_folds:
            replicas = members // adapted_folds
            made = [AdaptedMLP(adapted_folds, replicas, width, size, layers, dropout) for size in sizes]
        else:
            made = [PackedMLP(members, width, size, layers, dropout, layer_norm, zero_output=True) for size in sizes]
        self.towers = nn.ModuleList(made)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[M, P, Q], of x [P, U] or [M, P, U]; seeds: int64 [P], needed in training with dropout."""
        values = x if self.bottom is None else self.bottom(x, seeds)
        made = []
        for number, tower in enumerate(self.towers):
            own = values[number] if isinstance(values, list) else values
            made.append(tower(own, None if seeds is None else stream(seeds, 1_000 + number)))
        return torch.cat(made, dim=-1)
