"""The four normalisations a detector can have, and why one would choose each.

- ``frozen``: statistics and scale of pretrained batch normalisation, never changed. The choice with pretrained
  weights: the few large images of a detection batch give poor statistics. With random weights it is the identity
  and the activations explode.
- ``batch``: batch normalisation per rank. Learns fastest from random weights, but two ranks are not one rank with
  twice the batch.
- ``sync``: batch normalisation over the images of all ranks. As ``batch`` on one rank, and two ranks equal one.
- ``group``: group normalisation (Wu and He 2018); independent of the batch, no communication.

State dicts of ``frozen``, ``batch`` and ``sync`` have the same keys and load into each other without a complaint,
so the chosen norm is stored beside the weights and compared on loading.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from wanamaker.nn.sync_batch_norm import SyncBatchNorm2d

NORMS = ("frozen", "batch", "sync", "group")

#: Norms whose state dicts hold running statistics.
WITH_STATISTICS = ("frozen", "batch", "sync")


def group_norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups of at least 4 channels, for any channel count of the supported bodies."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and channels // g >= 4)
    return nn.GroupNorm(groups, channels)


class FoldableFrozenBatchNorm2d(FrozenBatchNorm2d):
    """``FrozenBatchNorm2d`` that can hand its affine map to the convolution before it (:func:`fold_frozen_norms`)."""

    folded = False

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, each float32 [C]: y = x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        return x if self.folded else super().forward(x)


class _FoldedConv2d(nn.Conv2d):
    """A convolution that applies the frozen norm after it through its own weight and bias."""

    _norm: tuple[FoldableFrozenBatchNorm2d]

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self._norm[0].affine()
        weight = self.weight * scale[:, None, None, None]
        if torch.is_autocast_enabled(x.device.type):
            shift = shift.to(torch.get_autocast_dtype(x.device.type))
        return F.conv2d(x, weight, shift, self.stride, self.padding, self.dilation, self.groups)


def fold_frozen_norms(module: nn.Module) -> int:
    """Merge each frozen norm into the convolution right before it; parameters and state-dict keys stay.

    A frozen norm is a fixed scale and shift per channel. Scaling the weight costs a few thousand products; scaling
    the feature map costs two passes over it forward and one backward.

    Returns:
        How many norms were folded.
    """
    folded = 0
    for parent in module.modules():
        for conv, norm in pairwise(parent.children()):
            if type(conv) is nn.Conv2d and conv.bias is None and isinstance(norm, FoldableFrozenBatchNorm2d):
                conv.__class__ = _FoldedConv2d
                # A tuple hides the norm from module registration: it stays in its own place in the state dict.
                conv._norm = (norm,)
                norm.folded = True
                folded += 1
    return folded


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    """The constructor (channels -> module) of a norm.

    Raises:
        ValueError: an unknown name.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "frozen": FoldableFrozenBatchNorm2d,
        "batch": nn.BatchNorm2d,
        "sync": SyncBatchNorm2d,
        "group": group_norm,
    }
    if norm not in layers:
        raise ValueError(f"norm={norm!r}: choose one of {', '.join(NORMS)}")
    return layers[norm]


def set_frozen_eps(module: nn.Module, eps: float) -> None:
    """Set the variance offset of every frozen norm (torchvision's first COCO weights were trained with 0)."""
    for part in module.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.eps = eps


def hold_frozen_statistics(module: nn.Module) -> None:
    """Put norms whose parameters are all frozen into evaluation mode, so that their statistics stay too."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            parameters = list(part.parameters(recurse=False))
            if parameters and not any(p.requires_grad for p in parameters):
                part.eval()
