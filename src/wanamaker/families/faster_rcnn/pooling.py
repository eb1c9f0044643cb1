"""RoIAlign of one pyramid level; on a CPU with small maps as matrix products.

RoIAlign averages bilinear samples on a regular grid, so the weight of a pixel is a product of a row weight and a
column weight: pooled[r, c, i, j] = sum_yx rows[r, i, y] * columns[r, j, x] * map[c, y, x]. As two matrix products the
forward and, above all, the backward pass avoid torchvision's scattered additions, a sixth of a training step of the
small model. The cost grows with the map's area, so large maps stay with torchvision's kernel.

Axes: B image, R region, C channel, P pooled side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

#: Up to this many pixels of a map the products beat the kernel, with and without a backward pass (one core of an
#: AMD EPYC, 64 regions and 64 channels: 16 x 16 px 10 ms against 62 ms, 48 x 48 px 34 against 65 ms, eight images).
MAX_PIXELS_TRAINING, MAX_PIXELS_INFERENCE = 3072, 256


def pool_regions(level: Tensor, rois: Tensor, counts: list[int], side: int, scale: float, samples: int) -> Tensor:
    """Pool the regions of one level.

    Args:
        level: [B, C, H, W].
        rois: float32 [R, 5], (image, x1, y1, x2, y2) in canvas px, sorted by image.
        counts: regions of each image, summing to R.
        side: P.
        scale: level px per canvas px.
        samples: samples per bin and axis.

    Returns:
        [R, C, P, P], what ``torchvision.ops.roi_align`` with ``aligned=False`` returns.
    """
    limit = MAX_PIXELS_TRAINING if level.requires_grad else MAX_PIXELS_INFERENCE
    if level.device.type != "cpu" or level.shape[-2] * level.shape[-1] > limit:
        return roi_align(level, rois, (side, side), scale, samples)
    channels, height, width = level.shape[1:]
    rows = _axis_weights(rois[:, 2] * scale, rois[:, 4] * scale, height, side, samples).to(level.dtype)
    columns = _axis_weights(rois[:, 1] * scale, rois[:, 3] * scale, width, side, samples).to(level.dtype)
    parts = []
    per_image = zip(level.unbind(0), rows.split(counts), columns.split(counts), counts, strict=True)
    for image, row, column, count in per_image:
        # [r * P, H] @ [H, C * W] -> [r, P * C, W]
        by_row = row.flatten(0, 1) @ image.transpose(0, 1).reshape(height, channels * width)
        by_row = by_row.view(count, side * channels, width)
        parts.append(torch.bmm(by_row, column.transpose(1, 2)))  # [r, P * C, P]
    return torch.cat(parts).view(-1, side, channels, side).transpose(1, 2)


@torch.no_grad()
def _axis_weights(start: Tensor, end: Tensor, length: int, side: int, samples: int) -> Tensor:
    """Weight of every pixel of one axis in every bin, float32 [R, side, length]; torchvision's border rules."""
    extent = (end - start).clamp(min=1.0)
    size = (extent / side)[:, None, None]
    # The same order of operations as torchvision's kernel, for the same rounding.
    offset = (torch.arange(samples) + 0.5) * size / samples  # [R, 1, samples]
    position = start[:, None, None] + torch.arange(side)[:, None] * size + offset
    position = position.flatten(1)  # [R, side * samples]
    inside = (position >= -1.0) & (position <= length)
    position = position.clamp(0.0, length - 1)
    low = position.floor()
    to_high = position - low
    low = low.long()
    weights = position.new_zeros(*position.shape, length)
    # At the last pixel low and high coincide and the weight of high is zero.
    weights.scatter_(2, low[..., None], (1 - to_high)[..., None])
    weights.scatter_add_(2, (low + 1).clamp(max=length - 1)[..., None], to_high[..., None])
    weights *= inside[..., None]
    return weights.view(len(start), side, samples, length).mean(dim=2)
