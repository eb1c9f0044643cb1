"""Which ground-truth box each anchor or region belongs to, batched over images.

The rules are torchvision's ``Matcher``. Ground truth is padded to one tensor; padding rows have label 0.

Axes: B image, M ground-truth box, N candidate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .boxes import has_area, pairwise_iou
from .sampling import IGNORED

#: Overlap matrices are built for as many images at once as fit in this number of entries (0.5 GB of temporaries).
MAX_OVERLAP_ENTRIES = 2**24


class Targets(NamedTuple):
    """Padded ground truth. boxes: float32 [B, M, 4] canvas px; labels: int64 [B, M], 0 = padding; M >= 1."""

    boxes: Tensor
    labels: Tensor


class Match(NamedTuple):
    """labels: int64 [B, N] (class, 0 background, -1 ignored); index: int64 [B, N] of the best ground-truth box."""

    labels: Tensor
    index: Tensor


def pad_targets(boxes: list[Tensor], labels: list[Tensor]) -> Targets:
    """One tensor per field from per-image lists; at least one row, so that nothing downstream is empty."""
    padded_boxes = pad_sequence([b.float() for b in boxes], batch_first=True)
    padded_labels = pad_sequence(list(labels), batch_first=True)
    if padded_labels.shape[1] == 0:
        num_images = len(boxes)
        return Targets(padded_boxes.new_zeros(num_images, 1, 4), padded_labels.new_zeros(num_images, 1))
    # A box without area is no target: log(0) would make the loss infinite.
    return Targets(padded_boxes, torch.where(has_area(padded_boxes, 1e-6), padded_labels, 0))


def match(targets: Targets, candidates: Tensor, high: float, low: float, keep_best: bool) -> Match:
    """Assign every candidate its best ground-truth box.

    Args:
        targets: padded ground truth.
        candidates: xyxy [B, N, 4], or [1, N, 4] when shared.
        high: overlap from which a candidate is foreground.
        low: overlap below which it is background; between the two it is ignored.
        keep_best: also make the best candidates of each ground-truth box foreground, whatever their overlap
            (ties included). Unlike torchvision, not when the overlap is zero.
    """
    shared = candidates.shape[0] == 1
    entries = max(1, targets.boxes.shape[1] * candidates.shape[1])
    group = max(1, MAX_OVERLAP_ENTRIES // entries)
    parts = [
        _match_group(
            Targets(targets.boxes[i : i + group], targets.labels[i : i + group]),
            candidates if shared else candidates[i : i + group],
            high,
            low,
            keep_best,
        )
        for i in range(0, len(targets.boxes), group)
    ]
    if len(parts) == 1:
        return parts[0]
    return Match(torch.cat([p.labels for p in parts]), torch.cat([p.index for p in parts]))


def _match_group(targets: Targets, candidates: Tensor, high: float, low: float, keep_best: bool) -> Match:
    overlap = pairwise_iou(targets.boxes, candidates)  # [B, M, N]
    overlap = torch.where((targets.labels > 0)[..., None], overlap, -1.0)
    best, index = overlap.max(dim=1)  # [B, N]
    foreground = best >= high
    if keep_best:
        best_of_box = overlap.amax(dim=2, keepdim=True)  # [B, M, 1]
        foreground |= ((overlap == best_of_box) & (best_of_box > 0)).any(dim=1)
    labels = targets.labels.gather(1, index)
    labels = torch.where(foreground, labels, torch.where(best < low, 0, IGNORED))
    return Match(labels, index)


def gather_boxes(boxes: Tensor, index: Tensor) -> Tensor:
    """``boxes`` [B, M, 4] (or [1, M, 4]) at ``index`` int64 [B, N] -> [B, N, 4]."""
    return boxes.expand(index.shape[0], -1, -1).gather(1, index[..., None].expand(-1, -1, 4))
