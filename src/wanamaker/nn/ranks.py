"""Sums over all ranks inside a loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def over_ranks(value: Tensor) -> Tensor:
    """Sum of a local quantity over all ranks, with the gradient that DDP's average needs.

    Every rank computes one loss from sums and from its own share. The gradient of a sum is itself summed over the
    ranks, so that the average which DDP takes is the exact gradient of the loss, also where a sum goes into what is
    local again and that into another sum. Backward is a collective call: a value that depends on parameters on one
    rank must do so on all, also where a rank's share is empty.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    return _Sum.apply(value)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
