"""Learnable numbers with a Gaussian prior, for a whole ensemble at once.

Every parameter of the mix is written as ``mean + scale * u`` with a standard normal prior on ``u``, so that one
learning rate suits all of them and the penalty of each is the same half square.

An ensemble draws from the posterior, approximately, by *randomised* maximum a posteriori: member m minimises its own
objective, in which the rows are reweighted by a block bootstrap and each prior is centred on a draw from itself
(anchored ensembles: Pearce et al. 2020, arXiv 1810.05546; exact for linear Gaussian models). Where the data say little
the members therefore spread as widely as the prior, where the data say much they agree.

Axis letters: M ensemble members.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Prior(nn.Module):
    """A tensor [M, *shape] with the prior N(mean, scale^2), independent per entry.

    Args:
        members: M.
        shape: of one member's values.
        mean: number, or tensor that broadcasts to `shape`.
        scale: above 0; number, or tensor that broadcasts to `shape`.
        anchored: centre each member's prior on a draw from it (used when M > 1); False keeps all centres at the mean.
    """

    def __init__(
        self,
        members: int,
        shape: Sequence[int],
        mean: float | Tensor = 0.0,
        scale: float | Tensor = 1.0,
        anchored: bool = True,
    ) -> None:
        super().__init__()
        size = (members, *shape)
        anchor = torch.randn(size) if anchored and members > 1 else torch.zeros(size)
        self.register_buffer("anchor", anchor)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).clone())
        self.u = nn.Parameter(anchor.clone())

    def forward(self) -> Tensor:
        """Values [M, *shape]."""
        return self.mean + self.scale * self.u

    def penalty(self) -> Tensor:
        """Negative log prior, summed over members and entries, without constants."""
        return 0.5 * (self.u - self.anchor).square().sum()


class DecayedNets(nn.Module):
    """Small nets whose weights are pulled towards where they started: the prior of what has no natural units.

    Args:
        nets: of a leading dimension of members, started at random, so that each member has its own anchor.
        scale: standard deviation of the prior around the start.
    """

    def __init__(self, nets: nn.Module, scale: float) -> None:
        super().__init__()
        self.nets = nets
        self.scale = scale
        self._names = []
        for name, parameter in nets.named_parameters():
            self.register_buffer(f"start_{name.replace('.', '_')}", parameter.detach().clone())
            self._names.append(name)

    def forward(self, *args: Tensor) -> Tensor:
        """What the nets give."""
        return self.nets(*args)

    def penalty(self) -> Tensor:
        """Negative log prior, summed over members and weights."""
        parameters = dict(self.nets.named_parameters())
        total = sum(
            (parameters[name] - getattr(self, f"start_{name.replace('.', '_')}")).square().sum() for name in self._names
        )
        return 0.5 * total / self.scale**2


def total_penalty(module: nn.Module) -> Tensor:
    """Sum of the penalties of all parts of a module that have one: `Prior`, `DecayedNets`, `Pooled`."""
    parts = [part for part in module.modules() if part is not module or isinstance(part, Prior | DecayedNets)]
    terms = [part.penalty() for part in parts if hasattr(part, "penalty")]
    return torch.stack(terms).sum()
