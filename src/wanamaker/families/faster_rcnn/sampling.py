"""Which anchors and regions enter the loss: a pure function of each image's seed.

torchvision draws from the global generator, so the samples of an image depend on the images before it, on the
rank and on the device. Here every candidate gets a random key from a counter-based hash of (seed, stream, index)
and the candidates with the largest keys are taken: uniform without replacement, the same on 1 and 2 ranks, on CPU
and GPU, in any batch; and, unlike ``torch.Generator``, batched and free of host-device synchronisation.

Axes: B image, N candidate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Labels: 0 background, above 0 foreground, below 0 neither (never sampled).
IGNORED = -1

#: Streams keep the two draws of one image independent.
ANCHOR_STREAM, REGION_STREAM = 1, 2


class Sample(NamedTuple):
    """Indices of sampled candidates; entries where the mask is False are filler.

    positive: int64 [B, P]; positive_mask: bool [B, P]; negative: int64 [B, Q]; negative_mask: bool [B, Q].
    """

    positive: Tensor
    positive_mask: Tensor
    negative: Tensor
    negative_mask: Tensor


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) on wrapping int64."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def random_keys(seeds: Tensor, index: Tensor, stream: int) -> Tensor:
    """Independent uniform integers in [0, 2**63) for every (seed, stream, index).

    Args:
        seeds: int64 [B].
        index: int64 [N], the number of each candidate.
        stream: a small constant that separates uses of the same seed.

    Returns:
        int64 [B, N].
    """
    state = _mix(seeds + stream * 0x1E3779B97F4A7C15)[:, None]
    return _mix(state + index * -0x61C8864680B583EB) & 0x7FFFFFFFFFFFFFFF


def sample_balanced(labels: Tensor, keys: Tensor, size: int, positive_fraction: float) -> Sample:
    """Up to ``size`` candidates per image, at most ``positive_fraction`` of them foreground.

    The counts are those of torchvision's ``BalancedPositiveNegativeSampler``: foreground is capped at
    ``int(size * positive_fraction)`` and background fills the rest.

    Args:
        labels: int64 [B, N]; 0 background, above 0 foreground, below 0 ignored.
        keys: int64 [B, N] from :func:`random_keys`.
        size: candidates per image.
        positive_fraction: in [0, 1].
    """
    num = labels.shape[1]
    max_positive = min(int(size * positive_fraction), num)
    positive_keys, positive = torch.where(labels > 0, keys, -1).topk(max_positive, dim=1)
    negative_keys, negative = torch.where(labels == 0, keys, -1).topk(min(size, num), dim=1)
    positive_mask = positive_keys >= 0
    room = size - positive_mask.sum(dim=1, keepdim=True)  # [B, 1]
    rank = torch.arange(negative.shape[1], device=labels.device)
    return Sample(positive, positive_mask, negative, (negative_keys >= 0) & (rank < room))


def sampled_mask(sample: Sample, num: int) -> Tensor:
    """bool [B, ``num``]: True where a candidate was sampled."""
    mask = torch.zeros(sample.positive.shape[0], num + 1, dtype=torch.bool, device=sample.positive.device)
    for index, valid in ((sample.positive, sample.positive_mask), (sample.negative, sample.negative_mask)):
        mask.scatter_(1, torch.where(valid, index, num), True)  # filler lands in the extra column
    return mask[:, :num]
