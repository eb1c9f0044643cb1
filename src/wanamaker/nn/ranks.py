"""Sums over all ranks inside a loss."""

import torch.distributed as dist
from torch import Tensor


def over_ranks(value: Tensor) -> Tensor:
    """Sum of a local quantity over all ranks, with the gradient that DDP's average needs.

    DDP averages gradients. The value is the sum; the local gradient is taken `world size` times, so that the average
    over ranks is the gradient of a function of the sum.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    scaled = value * dist.get_world_size()
    return scaled + (total - scaled.detach())
