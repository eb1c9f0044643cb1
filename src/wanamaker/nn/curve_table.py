"""Saturation curves as tables for cubic Hermite interpolation.

Axis letters: S draws or members, C channels, J knots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MEDIA_REACH = 3.0
"""Curves go to this multiple of the largest scaled media, beyond which a plan is mere belief."""
NUM_KNOTS = 129


def media_knots(dtype: torch.dtype) -> Tensor:
    """[J], spaced quadratically from 0: curves bend near zero."""
    return MEDIA_REACH * torch.linspace(0, 1, NUM_KNOTS, dtype=dtype).square()


def tabulated(curve: Callable[[Tensor], Tensor], draws: int, channels: int, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Values and exact derivatives [S, C, J] of monotone curves at the knots.

    Args:
        curve: [S, J, C] -> [S, J, C], of scaled media.
        draws: S.
        channels: C.
        knots: [J], from 0.
    """
    with torch.enable_grad():
        x = knots[None, :, None].expand(draws, -1, channels).clone().requires_grad_(True)
        value = curve(x)
        slope = torch.autograd.grad(value.sum(), x)[0].clone()
    value = value.detach()
    # Where a power is below 1 the derivative at exactly 0 is infinite: the first piece's chord stands for it there.
    first = (value[:, 1] - value[:, 0]) / (knots[1] - knots[0])
    slope[:, 0] = torch.where(torch.isfinite(slope[:, 0]), slope[:, 0], first)
    slope[:, 0] = torch.minimum(slope[:, 0], 3 * first)  # a cubic piece falls beyond three times its chord
    return value.transpose(1, 2), slope.clamp(min=0).transpose(1, 2)
