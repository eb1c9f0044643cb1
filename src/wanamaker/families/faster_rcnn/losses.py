"""The four losses of Faster R-CNN as sums and counts, so that ranks and batches can be added up exactly.

torchvision divides each loss by the number of sampled anchors (or regions) of the batch. Two ranks that each
divide by their own number do not give the gradient of one rank with both batches, so sums and counts stay apart
until the counts of all ranks are known.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .boxes import encode
from .matching import Match, Targets, gather_boxes
from .regions import RegionOutputs
from .sampling import Sample

#: torchvision's transition point between the quadratic and the linear part.
BETA = 1 / 9

#: loss name -> which count divides it
NAMES = {
    "loss_objectness": "anchors",
    "loss_rpn_box": "anchors",
    "loss_classifier": "regions",
    "loss_box": "regions",
}


class LossSums(NamedTuple):
    """``sums``: loss name -> float32 scalar, summed over samples; ``counts``: "anchors" / "regions" -> scalar."""

    sums: dict[str, Tensor]
    counts: dict[str, Tensor]

    def means(self) -> dict[str, Tensor]:
        """Each sum over its count; what torchvision returns on one rank."""
        return {name: total / self.counts[NAMES[name]].clamp(min=1) for name, total in self.sums.items()}

    def means_over_ranks(self) -> dict[str, Tensor]:
        """Losses whose average over the ranks, and so DDP's average gradient, is that of the global batch.

        Without a process group, or with one rank, equal to :meth:`means`. All ranks must call it.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return self.means()
        names = sorted(self.counts)
        total = torch.stack([self.counts[name].float() for name in names])
        dist.all_reduce(total)
        share = dist.get_world_size() / total.clamp(min=1)
        factor = dict(zip(names, share.unbind(), strict=True))
        return {name: value * factor[NAMES[name]] for name, value in self.sums.items()}


def anchor_losses(
    logits: Tensor, deltas: Tensor, anchors: Tensor, targets: Targets, matched: Match, sample: Sample
) -> LossSums:
    """Objectness and box losses of the RPN over the sampled anchors.

    Args:
        logits: float32 [B, A]; deltas: float32 [B, A, 4]; anchors: float32 [A, 4].
        targets, matched, sample: ground truth, its assignment to the anchors, and the draw.
    """
    index = torch.cat([sample.positive, sample.negative], dim=1)
    mask = torch.cat([sample.positive_mask, sample.negative_mask], dim=1)
    truth = torch.zeros_like(mask, dtype=torch.float32)
    truth[:, : sample.positive.shape[1]] = 1.0
    entropy = F.binary_cross_entropy_with_logits(logits.gather(1, index), truth, reduction="none")
    wanted = encode(
        gather_boxes(targets.boxes, matched.index.gather(1, sample.positive)),
        gather_boxes(anchors[None], sample.positive),
        (1.0, 1.0, 1.0, 1.0),
    )
    box = _box_loss(gather_boxes(deltas, sample.positive), wanted, sample.positive_mask)
    sums = {"loss_objectness": torch.where(mask, entropy, 0.0).sum(), "loss_rpn_box": box}
    return LossSums(sums, {"anchors": mask.sum()})


def region_losses(
    outputs: RegionOutputs,
    rows: Tensor,
    targets: Targets,
    matched: Match,
    weights: tuple[float, float, float, float],
) -> LossSums:
    """Class and box losses of the second stage.

    Args:
        outputs: second-stage outputs of R regions.
        rows: bool [R], the regions that were sampled.
        targets, matched: ground truth and its assignment to the candidates.
        weights: of the box coder.
    """
    labels = matched.labels[outputs.image, outputs.candidate]
    entropy = F.cross_entropy(outputs.class_logits, labels.clamp(min=0), reduction="none")
    wanted = encode(
        targets.boxes[outputs.image, matched.index[outputs.image, outputs.candidate]], outputs.boxes, weights
    )
    # The box of the true class; class 0 of background rows is gathered too and masked out.
    own = labels.clamp(min=0)[:, None, None].expand(-1, 1, 4)
    box = _box_loss(outputs.deltas.gather(1, own).squeeze(1), wanted, rows & (labels > 0))
    sums = {"loss_classifier": torch.where(rows, entropy, 0.0).sum(), "loss_box": box}
    return LossSums(sums, {"regions": rows.sum()})


def _box_loss(deltas: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Summed smooth L1 where ``mask``; the rest may hold infinities and must not reach a gradient."""
    mask = mask[..., None]
    return F.smooth_l1_loss(torch.where(mask, deltas, 0.0), torch.where(mask, wanted, 0.0), beta=BETA, reduction="sum")
