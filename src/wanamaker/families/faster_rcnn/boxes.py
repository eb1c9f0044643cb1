"""Box arithmetic in float32: deltas to boxes and back, clipping, overlaps.

Same formulas as torchvision's ``BoxCoder`` and ``box_iou``, but batched, free of host-device copies, and never
below float32: under bfloat16 autocast torchvision decodes proposals in bfloat16, whose spacing above 512 px is
4 px.

Axes: B image, M ground-truth box, N candidate box.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: exp() of a size delta is capped here, as in torchvision (a box grows at most 62.5-fold).
MAX_SIZE_DELTA = math.log(1000.0 / 16)


def encode(boxes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Deltas that turn ``references`` into ``boxes``.

    Args:
        boxes: target boxes xyxy, float32 [..., 4].
        references: anchors or proposals xyxy, float32 [..., 4], positive width and height.
        weights: factors of (dx, dy, dw, dh).

    Returns:
        float32 [..., 4]. A target without area gives infinite entries; the caller masks them.
    """
    ref_w, ref_h = references[..., 2] - references[..., 0], references[..., 3] - references[..., 1]
    ref_x, ref_y = references[..., 0] + 0.5 * ref_w, references[..., 1] + 0.5 * ref_h
    box_w, box_h = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    box_x, box_y = boxes[..., 0] + 0.5 * box_w, boxes[..., 1] + 0.5 * box_h
    wx, wy, ww, wh = weights
    return torch.stack(
        (
            wx * (box_x - ref_x) / ref_w,
            wy * (box_y - ref_y) / ref_h,
            ww * torch.log(box_w / ref_w),
            wh * torch.log(box_h / ref_h),
        ),
        dim=-1,
    )


def decode(deltas: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes xyxy, float32 [..., 4], that ``deltas`` [..., 4] make of ``references`` [..., 4]."""
    deltas, references = deltas.float(), references.float()
    ref_w, ref_h = references[..., 2] - references[..., 0], references[..., 3] - references[..., 1]
    ref_x, ref_y = references[..., 0] + 0.5 * ref_w, references[..., 1] + 0.5 * ref_h
    wx, wy, ww, wh = weights
    x, y = deltas[..., 0] / wx * ref_w + ref_x, deltas[..., 1] / wy * ref_h + ref_y
    half_w = 0.5 * torch.exp((deltas[..., 2] / ww).clamp(max=MAX_SIZE_DELTA)) * ref_w
    half_h = 0.5 * torch.exp((deltas[..., 3] / wh).clamp(max=MAX_SIZE_DELTA)) * ref_h
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """``boxes`` [B, N, 4] cut to images of ``sizes`` int64 [B, 2] (h, w)."""
    limits = sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)  # [B, 1, 4] (w, h, w, h)
    return torch.minimum(boxes.clamp(min=0.0), limits)


def has_area(boxes: Tensor, min_side: float) -> Tensor:
    """bool [...]: both sides of ``boxes`` [..., 4] are at least ``min_side`` px (False for NaN)."""
    return (boxes[..., 2] - boxes[..., 0] >= min_side) & (boxes[..., 3] - boxes[..., 1] >= min_side)


def pairwise_iou(boxes: Tensor, candidates: Tensor) -> Tensor:
    """Intersection over union, float32 [B, M, N].

    Args:
        boxes: xyxy [B, M, 4].
        candidates: xyxy [B, N, 4], or [1, N, 4] when shared by all images.
    """
    a, b = boxes[:, :, None], candidates[:, None]
    width = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    height = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    intersection = width.mul_(height)
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return intersection / (area_a + area_b - intersection)
