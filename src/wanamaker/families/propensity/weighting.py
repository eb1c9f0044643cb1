"""How the losses of several tasks become one.

Axis letters: M members, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError

WEIGHTINGS = ("fixed", "uncertainty")


def check_weights(weights: Mapping[str, Any] | None, names: Sequence[str] | None = None) -> None:
    """Make sure that weights of tasks can be such.

    Args:
        weights: by task.
        names: of the tasks; None where they are not known yet.

    Raises:
        UserError: an unknown task, or a weight that is not above 0.
    """
    for name, value in (weights or {}).items():
        if names is not None and name not in names:
            raise UserError(f"model.net.task_weights names {name!r}: the tasks are {', '.join(names)}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"model.net.task_weights.{name}={value!r}: give a number above 0.")


class TaskWeights(nn.Module):
    """Weights of the tasks' mean losses.

    "uncertainty": exp(-s) loss + s / 2 with a learned s = log(variance) per task and member (Kendall, Gal & Cipolla
    2018, "Multi-task learning using uncertainty to weigh losses", eq. 7-10, with half of s as the price of a variance
    for all kinds): a task whose loss stays large counts less. It starts at the fixed weights.

    Args:
        names: T tasks.
        members: M.
        weighting: of `WEIGHTINGS`.
        fixed: weights by task; 1 for those not named.

    Raises:
        UserError: an unknown task, or a weight that is not above 0.
    """

    def __init__(
        self, names: Sequence[str], members: int, weighting: str = "fixed", fixed: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        fixed = dict(fixed or {})
        check_weights(fixed, names)
        self.weighting = weighting
        weights = torch.tensor([float(fixed.get(name, 1.0)) for name in names])
        self.register_buffer("fixed", weights)
        self.log_variance = nn.Parameter((-weights.log()).repeat(members, 1)) if weighting == "uncertainty" else None

    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        """One loss per member, [M].

        Args:
            losses: [M, T], means. known: bool [M, T], whether there was any label: a task without is left alone.
        """
        if self.log_variance is None:
            return (self.fixed * losses * known).sum(-1)
        return (((-self.log_variance).exp() * losses + 0.5 * self.log_variance) * known).sum(-1)
