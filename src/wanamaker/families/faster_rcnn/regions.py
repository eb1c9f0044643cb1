"""Region features and the second-stage head, and from its outputs to detections.

Axes: B image, N candidate region, R pooled region (over all images), K classes including background.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms

from .boxes import clip, decode, has_area
from .pooling import pool_regions


class RegionOutputs(NamedTuple):
    """Second-stage outputs. Rows are grouped by pyramid level, not by image.

    image: int64 [R]; candidate: int64 [R] column of the candidate; boxes: float32 [R, 4];
    class_logits: float32 [R, K]; deltas: float32 [R, K, 4].
    """

    image: Tensor
    candidate: Tensor
    boxes: Tensor
    class_logits: Tensor
    deltas: Tensor


def run_head(
    heads: RoIHeads, features: dict[str, Tensor], canvas: tuple[int, int], boxes: Tensor, mask: Tensor
) -> RegionOutputs:
    """Pool and classify the candidates where ``mask`` is True.

    The level of a region follows equation 1 of the FPN paper (Lin et al. 2017), as in torchvision. Regions are
    sorted by level first, so pooling writes contiguous blocks and a GPU is asked once, not once per level, how
    many there are.

    Args:
        heads: torchvision's container of pooler, head and predictor.
        features: pyramid levels by name.
        canvas: (height, width) the features were computed on.
        boxes: float32 [B, N, 4] canvas px.
        mask: bool [B, N].
    """
    pool = heads.box_roi_pool
    levels = [features[name] for name in pool.featmap_names if name in features]
    scales = [2.0 ** round(math.log2(level.shape[-2] / canvas[0])) for level in levels]
    lowest, highest = (int(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    side = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).clamp(min=0).sqrt()
    level_of = torch.floor(pool.canonical_level + torch.log2(side / pool.canonical_scale) + 1e-6)
    level_of = level_of.clamp(lowest, highest) - lowest
    group = torch.where(mask, level_of.long(), len(levels))  # [B, N], unused regions last
    order = group.flatten().argsort(stable=True)
    numbers = torch.arange(len(levels), device=group.device)
    counts = (group[None] == numbers[:, None, None]).sum(dim=2).tolist()  # [level][image]
    per_level = [sum(row) for row in counts]
    order = order[: sum(per_level)]
    image = torch.div(order, boxes.shape[1], rounding_mode="floor")
    regions = boxes.flatten(0, 1)[order]  # [R, 4]
    rois = torch.cat([image[:, None].to(regions.dtype), regions], dim=1)
    pooled = [
        pool_regions(level, part, row, pool.output_size[0], scale, pool.sampling_ratio)
        for level, scale, part, row in zip(levels, scales, rois.split(per_level), counts, strict=True)
    ]
    class_logits, deltas = heads.box_predictor(heads.box_head(torch.cat(pooled)))
    return RegionOutputs(
        image,
        order - image * boxes.shape[1],
        regions,
        class_logits.float(),
        deltas.float().view(-1, class_logits.shape[1], 4),
    )


@torch.no_grad()
def detections(heads: RoIHeads, outputs: RegionOutputs, usable: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
    """Boxes, labels and scores per image: threshold, then suppression per class, then the best few.

    Only the (region, class) pairs above the score threshold are decoded.

    Args:
        heads: holds the thresholds.
        outputs: second-stage outputs.
        usable: bool [R], the regions that may become detections.
        sizes: int64 [B, 2] (h, w); boxes are clipped to them.

    Returns:
        per image ``boxes`` float32 [D, 4] canvas px, ``labels`` int64 [D] in 1..K-1, ``scores`` float32 [D],
        best first.
    """
    scores = outputs.class_logits.softmax(dim=-1)
    scores = torch.where(usable[:, None], scores, 0.0)
    region, label = (scores[:, 1:] > heads.score_thresh).nonzero(as_tuple=True)
    label = label + 1
    image = outputs.image[region]
    boxes = decode(outputs.deltas[region, label], outputs.boxes[region], heads.box_coder.weights)
    boxes = clip(boxes[:, None], sizes[image])[:, 0]
    score = scores[region, label]
    large_enough = has_area(boxes, 1e-2)
    found = []
    for i in range(len(sizes)):
        rows = ((image == i) & large_enough).nonzero().squeeze(1)
        keep = batched_nms(boxes[rows], score[rows], label[rows], heads.nms_thresh)[: heads.detections_per_img]
        rows = rows[keep]
        found.append({"boxes": boxes[rows], "labels": label[rows], "scores": score[rows]})
    return found
