"""From RPN outputs to proposals: top scores per level, decoding, suppression.

torchvision decodes all anchors (a quarter of a million at 800 px) and then keeps a few thousand; here only the
kept ones are decoded. Anchors of a canvas are computed once and shared by all images of a batch.

Axes: B image, A anchor over all levels, K candidates before suppression, P proposals.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, nms

from .boxes import clip, decode, has_area
from .matching import gather_boxes


class Proposals(NamedTuple):
    """boxes: float32 [B, P, 4] canvas px; mask: bool [B, P], False = filler."""

    boxes: Tensor
    mask: Tensor


class AnchorCache:
    """Anchors of a canvas, computed once per (canvas, device) by torchvision's generator."""

    def __init__(self, generator: AnchorGenerator, max_canvases: int = 64) -> None:
        self._generator = generator
        self._max_canvases = max_canvases
        self._anchors: dict[tuple, Tensor] = {}

    def __call__(self, canvas: tuple[int, int], features: list[Tensor]) -> Tensor:
        """float32 [A, 4] xyxy in canvas px, level after level."""
        grids = tuple(tuple(f.shape[-2:]) for f in features)
        device = features[0].device
        key = (canvas, grids, device)
        if key not in self._anchors:
            if len(self._anchors) >= self._max_canvases:
                self._anchors.clear()
            blank = torch.empty((1, 1, *canvas), device=device)
            shapes = [torch.empty((1, 1, *grid), device=device) for grid in grids]
            with torch.no_grad():
                self._anchors[key] = self._generator(ImageList(blank, [canvas]), shapes)[0]
        return self._anchors[key]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_anchors": {}}  # copies and pickles rebuild their own


def flatten_levels(maps: list[Tensor], values: int) -> Tensor:
    """Per-level maps [B, anchors * values, H, W] -> [B, A, values], the order of the anchors."""
    flat = []
    for level in maps:
        num_images, _, height, width = level.shape
        # [B, anchors, values, H, W] -> [B, H, W, anchors, values]
        flat.append(
            level.view(num_images, -1, values, height, width).permute(0, 3, 4, 1, 2).reshape(num_images, -1, values)
        )
    return torch.cat(flat, dim=1)


@torch.no_grad()
def propose(
    rpn: RegionProposalNetwork,
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    level_sizes: list[int],
    sizes: Tensor,
) -> Proposals:
    """The best boxes of the RPN.

    Args:
        rpn: holds the limits and thresholds, and whether those of training apply.
        logits: objectness, float32 [B, A].
        deltas: float32 [B, A, 4].
        anchors: float32 [A, 4].
        level_sizes: anchors per pyramid level, summing to A.
        sizes: int64 [B, 2] (h, w) of the images inside the canvas.
    """
    limit = rpn.pre_nms_top_n()
    picked, kept_sizes, offset = [], [], 0
    for level in logits.split(level_sizes, dim=1):
        kept = min(limit, level.shape[1])
        picked.append(level.topk(kept, dim=1).indices + offset)
        kept_sizes.append(kept)
        offset += level.shape[1]
    index = torch.cat(picked, dim=1)  # [B, K]
    boxes = decode(gather_boxes(deltas, index), gather_boxes(anchors[None], index), (1.0, 1.0, 1.0, 1.0))
    boxes = clip(boxes, sizes)
    scores = logits.gather(1, index).sigmoid()
    usable = has_area(boxes, rpn.min_size) & (scores >= rpn.score_thresh)
    suppress = _suppress_cuda if boxes.is_cuda else _suppress_cpu
    kept_boxes, kept_masks = [], []
    for i in range(len(boxes)):
        keep = suppress(boxes[i], scores[i], usable[i], kept_sizes, rpn.nms_thresh)[: rpn.post_nms_top_n()]
        kept_boxes.append(boxes[i][keep])
        kept_masks.append(usable[i][keep])
    return Proposals(pad_sequence(kept_boxes, batch_first=True), pad_sequence(kept_masks, batch_first=True))


def _suppress_cpu(boxes: Tensor, scores: Tensor, usable: Tensor, level_sizes: list[int], threshold: float) -> Tensor:
    """Level by level: exact, and the quadratic work stays within a level."""
    keep, offset = [], 0
    for size in level_sizes:
        index = usable[offset : offset + size].nonzero().squeeze(1) + offset
        keep.append(index[nms(boxes[index], scores[index], threshold)])
        offset += size
    index = torch.cat(keep)
    return index[scores[index].argsort(descending=True, stable=True)]


def _suppress_cuda(boxes: Tensor, scores: Tensor, usable: Tensor, level_sizes: list[int], threshold: float) -> Tensor:
    """All levels in one kernel. Unusable boxes sort last instead of being filtered, which would synchronise."""
    level = torch.cat([torch.full((n,), i, device=boxes.device) for i, n in enumerate(level_sizes)])
    return batched_nms(boxes, torch.where(usable, scores, -1.0), level, threshold)
