"""Batch normalisation over the images of all ranks, on CPU (gloo) as well as on GPU.

torch's own ``SyncBatchNorm`` refuses CPU tensors (and DDP refuses a CPU module that contains one), so a two-process
CPU run could not be compared with a one-process run. Here the CPU path adds up (sum, sum of squares, count) over the
ranks; the GPU path is torch's kernel.

The CPU path also runs on one rank. Its sums are float64, so one rank and two get the same float32 statistics to the
last bit; torch's float32 sums differ in the last digits, which is enough to move a value across the kink of a ReLU.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn.modules._functions import SyncBatchNorm as _SyncBatchNormGPU


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class _SyncBatchNormCPU(Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, the moments taken over every rank's batch."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, invstd, count)
        scale = weight * invstd
        shift = bias - mean * scale
        return torch.addcmul(_per_channel(shift), x, _per_channel(scale)).to(x.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd, count = ctx.saved_tensors
        grad32 = grad.float()
        centred = x.float() - _per_channel(mean)
        sums = torch.stack([grad32.sum((0, 2, 3)), (grad32 * centred).sum((0, 2, 3))])  # [2, C]
        grad_bias, grad_weight = sums[0].clone(), sums[1] * invstd
        if _several_ranks():
            dist.all_reduce(sums)
        mean_grad, mean_grad_centred = sums / count
        # d y / d x of a normalised batch: remove the part of the gradient that moves mean and variance.
        inner = torch.addcmul(
            grad32 - _per_channel(mean_grad), centred, _per_channel(-invstd * invstd * mean_grad_centred)
        )
        return (inner * _per_channel(weight * invstd)).to(x.dtype), grad_weight, grad_bias, None, None, None


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over all ranks, on CPU tensors with gloo as on GPU tensors with NCCL.

    Same parameters, buffers and state-dict keys as ``nn.BatchNorm2d``. On one rank, and in evaluation, it computes
    what ``nn.BatchNorm2d`` computes. A rank may hold any number of elements, also none.

    Shape: [B, C, H, W] in and out.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` [B, C, H, W]; in training the moments are those of the global batch.

        Raises:
            ValueError: fewer than two values per channel over all ranks.
        """
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if x.device.type == "cpu":
            return self._forward_cpu(x)
        if not _several_ranks():
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, True, self._step(), self.eps
            )
        return _SyncBatchNormGPU.apply(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self._step(),
            dist.group.WORLD,
            dist.get_world_size(),
        )

    def _forward_cpu(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        with torch.no_grad():
            values = x.detach().float()
            stats = torch.cat(
                [
                    values.sum((0, 2, 3), dtype=torch.float64),
                    (values * values).sum((0, 2, 3), dtype=torch.float64),
                    torch.tensor([x.numel() // channels], dtype=torch.float64),
                ]
            )
            if _several_ranks():
                dist.all_reduce(stats)
            total, squares, count = stats[:channels], stats[channels:-1], stats[-1]
            if count < 2:
                raise ValueError(
                    f"SyncBatchNorm2d in training got {int(count)} values per channel over all ranks; "
                    "it needs at least 2 (more images, or a larger canvas)"
                )
            mean = total / count
            var = (squares / count - mean * mean).clamp(min=0.0)
            momentum = self._step()
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), momentum)
            invstd = (var + self.eps).rsqrt()
        return _SyncBatchNormCPU.apply(x, self.weight, self.bias, mean.float(), invstd.float(), count.float())

    def _step(self) -> float:
        """Count this training batch; its weight in the running average."""
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
