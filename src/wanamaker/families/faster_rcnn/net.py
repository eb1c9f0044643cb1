"""The detector: torchvision's parts behind a forward pass on padded uint8 canvases.

    net = faster_rcnn("resnet18_fpn", num_classes=3, weights="none")
    losses = net(images, sizes, boxes, labels, seeds)   # training: four losses
    found = net.detect(images, sizes)                   # boxes, labels, scores per image

Needs neither Lightning nor Hydra.

Axes: B image of the batch, N box, A anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wanamaker.data.detection_batch import check_targets
from wanamaker.nn.pretrained import pretrained_weights_wanted

from . import matching, regions
from .architectures import Sizes, build_detector, check_share, resolve_sizes
from .architectures import architecture as find_architecture
from .freezing import freeze as freeze_parameters
from .losses import LossSums, anchor_losses, region_losses
from .norms import FoldableFrozenBatchNorm2d, fold_frozen_norms, hold_frozen_statistics, set_frozen_eps
from .proposals import AnchorCache, Proposals, flatten_levels, propose
from .sampling import ANCHOR_STREAM, REGION_STREAM, random_keys, sample_balanced, sampled_mask
from .weight_files import WeightFile
from .weights import PendingHead, WeightReport, check_choice, load_weights, place_head, read_weights

#: Numbers the ground-truth boxes among the candidates, apart from the proposals, whatever their count.
_GROUND_TRUTH_INDEX = 2**20

#: Canvases that a backbone is compiled for; six short sides in two orientations and mixed are 18.
_MAX_COMPILATIONS = 64

#: Default norms; norms.py says why.
_PRETRAINED_NORM, _SCRATCH_NORM = "frozen", "sync"


class _FirstStage(NamedTuple):
    """features: level name -> map; logits, deltas: float32 [B, A], [B, A, 4]; anchors: float32 [A, 4]."""

    features: dict[str, Tensor]
    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    proposals: Proposals


class FasterRCNNNet(nn.Module):
    """Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017). Build it with :func:`faster_rcnn`.

    State-dict keys are torchvision's (``backbone``, ``rpn``, ``roi_heads``).

    Attributes:
        architecture, num_classes, norm, sizes: as built.
        weight_report: what the starting weights matched; ``str()`` it.
        class_names: the names the head was mapped to, or None.
        channels_last: whether feature maps are laid out as NHWC.
        compiled: whether body and pyramid are compiled for training, once for each size of canvas, when it comes up.
    """

    def __init__(self, name: str, num_classes: int, norm: str, sizes: Sizes, **thresholds: float) -> None:
        super().__init__()
        detector = build_detector(name, num_classes + 1, norm, sizes, **thresholds)
        self.backbone, self.rpn, self.roi_heads = detector.backbone, detector.rpn, detector.roi_heads
        self.architecture, self.num_classes, self.norm, self.sizes = name, num_classes, norm, sizes
        self.weight_report = WeightReport()
        self.class_names: list[str] | None = None
        self.channels_last = self.compiled = False
        self.pending_head: PendingHead | None = None
        self._anchors = AnchorCache(self.rpn.anchor_generator)
        mean, std = detector.transform.image_mean, detector.transform.image_std
        # (x / 255 - mean) / std = x * scale + shift; not in the state dict, whose keys are torchvision's.
        self.register_buffer("_scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)), persistent=False)
        self.register_buffer("_shift", -torch.tensor(mean).div(torch.tensor(std)).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> FasterRCNNNet:
        """As ``nn.Module.train``; norms of frozen layers stay in evaluation mode."""
        super().train(mode)
        hold_frozen_statistics(self)
        return self

    @property
    def frozen_eps(self) -> float | None:
        """Variance offset of the frozen norms; None without any."""
        return next((m.eps for m in self.modules() if isinstance(m, FoldableFrozenBatchNorm2d)), None)

    @frozen_eps.setter
    def frozen_eps(self, eps: float) -> None:
        set_frozen_eps(self, eps)

    def load_start(self, file: WeightFile) -> WeightReport:
        """Copy what fits from ``file``; the report stays in ``weight_report``."""
        self.weight_report, self.pending_head = load_weights(self, file, self.norm)
        return self.weight_report

    def name_classes(self, class_names: Sequence[str]) -> WeightReport:
        """Say what the head's classes are called; rows of equally named classes of the starting weights are kept.

        Args:
            class_names: ``num_classes`` names, label 1 first.

        Raises:
            ValueError: another number of names, or a name twice.
        """
        names = [str(name) for name in class_names]
        if len(names) != self.num_classes or len(set(names)) != len(names):
            raise ValueError(
                f"the data has {len(set(names))} different classes ({', '.join(names[:5])}...), "
                f"but the net was built with num_classes={self.num_classes}; set num_classes to the data's"
            )
        if self.pending_head is not None:
            self.weight_report = place_head(self, self.pending_head, names, self.weight_report)
            self.pending_head = None
        self.class_names = names
        return self.weight_report

    def forward(
        self, images: Tensor, sizes: Tensor, boxes: list[Tensor], labels: list[Tensor], seeds: Tensor
    ) -> dict[str, Tensor]:
        """The four losses of a training batch. Under a process group every rank must call it.

        Args:
            images: uint8 [B, 3, H, W], zero-padded to a canvas with H and W multiples of 32.
            sizes: int64 [B, 2] (h, w) of each image inside the canvas.
            boxes: per image float32 [N, 4] xyxy in canvas px; [0, 4] for none.
            labels: per image int64 [N], 1..``num_classes``.
            seeds: int64 [B]; decide which anchors and regions of each image are sampled.

        Returns:
            ``loss_objectness``, ``loss_rpn_box``, ``loss_classifier``, ``loss_box``: float32 scalars. On one rank
            torchvision's definition; on several, their mean over the ranks is that of the global batch.

        Raises:
            ValueError: a canvas, box or label that cannot be trained on.
        """
        if images.device.type == "cpu":  # on a GPU a look at values would stall it: `DetectionBatch.to` has looked
            check_targets(boxes, labels, self.num_classes)
        targets = matching.pad_targets(boxes, labels)
        first = self._first_stage(images, sizes)
        anchor_part = self._anchor_losses(first, targets, seeds)
        candidates, matched, sampled = self._sample_regions(first.proposals, targets, seeds)
        outputs = regions.run_head(self.roi_heads, first.features, images.shape[-2:], candidates, sampled)
        rows = torch.ones_like(outputs.image, dtype=torch.bool)
        region_part = region_losses(outputs, rows, targets, matched, self.roi_heads.box_coder.weights)
        return _joined(anchor_part, region_part).means_over_ranks()

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Detections of each image.

        Args:
            images: uint8 [B, 3, H, W] canvas; sizes: int64 [B, 2].

        Returns:
            per image ``boxes`` float32 [D, 4] xyxy in canvas px, ``labels`` int64 [D], ``scores`` float32 [D],
            best first.
        """
        first = self._first_stage(images, sizes)
        outputs = regions.run_head(self.roi_heads, first.features, images.shape[-2:], *first.proposals)
        return regions.detections(self.roi_heads, outputs, torch.ones_like(outputs.image, dtype=torch.bool), sizes)

    @torch.no_grad()
    def losses_and_detections(
        self, images: Tensor, sizes: Tensor, boxes: list[Tensor], labels: list[Tensor], seeds: Tensor
    ) -> tuple[LossSums, list[dict[str, Tensor]]]:
        """Validation losses and detections from one pass, in evaluation mode.

        The losses are the training losses on the proposals that detection uses; as sums and counts, so that a mean
        over batches of any size is exact.

        Args:
            as :meth:`forward`.

        Returns:
            the sums and counts of this rank's images, and what :meth:`detect` returns.
        """
        if images.device.type == "cpu":
            check_targets(boxes, labels, self.num_classes)
        targets = matching.pad_targets(boxes, labels)
        first = self._first_stage(images, sizes)
        anchor_part = self._anchor_losses(first, targets, seeds)
        candidates, matched, sampled = self._sample_regions(first.proposals, targets, seeds)
        num_proposals = first.proposals.mask.shape[1]
        needed = sampled.clone()
        needed[:, :num_proposals] |= first.proposals.mask
        outputs = regions.run_head(self.roi_heads, first.features, images.shape[-2:], candidates, needed)
        rows = sampled[outputs.image, outputs.candidate]
        region_part = region_losses(outputs, rows, targets, matched, self.roi_heads.box_coder.weights)
        found = regions.detections(self.roi_heads, outputs, outputs.candidate < num_proposals, sizes)
        return _joined(anchor_part, region_part), found

    def _first_stage(self, images: Tensor, sizes: Tensor) -> _FirstStage:
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[-2] % 32 or images.shape[-1] % 32:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; give [B, 3, H, W], H and W multiples of 32 (pad with zeros)"
            )
        features = self._features(self._normalise(images, sizes))
        levels = list(features.values())
        logit_maps, delta_maps = self.rpn.head(levels)
        logits = flatten_levels(logit_maps, 1).squeeze(-1).float()
        deltas = flatten_levels(delta_maps, 4).float()
        anchors = self._anchors(tuple(images.shape[-2:]), levels)
        level_sizes = [level[0].numel() for level in logit_maps]
        proposals = propose(self.rpn, logits.detach(), deltas.detach(), anchors, level_sizes, sizes)
        return _FirstStage(features, logits, deltas, anchors, proposals)

    def _features(self, pixels: Tensor) -> dict[str, Tensor]:
        """Feature maps by level; compiled, where that is wanted, in training alone."""
        there = self.backbone._compiled_call_impl is not None  # which a copy of the net has not
        if not self.compiled or not (self.training or there):
            return self.backbone(pixels)
        if not there:
            from torch import _dynamo  # takes seconds to import

            # Sizes are constants of the compiled code: as variables they are still guarded by value (torch 2.14), and
            # nothing is shared. Past its own limit of 8 the compiler would go on uncompiled but for a line in the log.
            _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, _MAX_COMPILATIONS)
            self.backbone.compile(dynamic=False)  # in place: the state dict keeps its keys
        with nullcontext() if self.training else torch.compiler.set_stance("force_eager"):
            return self.backbone(pixels)

    def _normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """uint8 canvas -> normalised float; padding becomes 0, as torchvision pads after normalising."""
        height, width = images.shape[-2:]
        inside_y = torch.arange(height, device=images.device) < sizes[:, :1]  # [B, H]
        inside_x = torch.arange(width, device=images.device) < sizes[:, 1:]  # [B, W]
        inside = (inside_y[:, None, :, None] & inside_x[:, None, None, :]).to(self._scale.dtype)
        pixels = torch.addcmul(self._shift, images.to(self._scale.dtype), self._scale).mul_(inside)
        device = images.device.type
        if torch.is_autocast_enabled(device):
            pixels = pixels.to(torch.get_autocast_dtype(device))
        return pixels.contiguous(memory_format=torch.channels_last) if self.channels_last else pixels

    def _anchor_losses(self, first: _FirstStage, targets: matching.Targets, seeds: Tensor) -> LossSums:
        with torch.no_grad():
            rpn, sampler = self.rpn, self.rpn.fg_bg_sampler
            limits = rpn.proposal_matcher
            matched = matching.match(
                targets, first.anchors[None], limits.high_threshold, limits.low_threshold, keep_best=True
            )
            labels = matched.labels.clamp(max=1)
            index = torch.arange(labels.shape[1], device=labels.device)
            keys = random_keys(seeds, index, ANCHOR_STREAM)
            sample = sample_balanced(labels, keys, sampler.batch_size_per_image, sampler.positive_fraction)
        return anchor_losses(first.logits, first.deltas, first.anchors, targets, matched, sample)

    @torch.no_grad()
    def _sample_regions(
        self, proposals: Proposals, targets: matching.Targets, seeds: Tensor
    ) -> tuple[Tensor, matching.Match, Tensor]:
        """Candidates (proposals, then ground truth) [B, P + M, 4], their match, and which are sampled [B, P + M]."""
        candidates = torch.cat([proposals.boxes, targets.boxes], dim=1)
        usable = torch.cat([proposals.mask, targets.labels > 0], dim=1)
        limits, sampler = self.roi_heads.proposal_matcher, self.roi_heads.fg_bg_sampler
        matched = matching.match(targets, candidates, limits.high_threshold, limits.low_threshold, keep_best=False)
        labels = torch.where(usable, matched.labels, matching.IGNORED)
        num_proposals, num_boxes = proposals.boxes.shape[1], targets.boxes.shape[1]
        index = torch.arange(num_proposals + num_boxes, device=candidates.device)
        index[num_proposals:] += _GROUND_TRUTH_INDEX - num_proposals
        keys = random_keys(seeds, index, REGION_STREAM)
        sample = sample_balanced(labels, keys, sampler.batch_size_per_image, sampler.positive_fraction)
        return candidates, matched, sampled_mask(sample, labels.shape[1])


def _joined(anchor_part: LossSums, region_part: LossSums) -> LossSums:
    return LossSums(anchor_part.sums | region_part.sums, anchor_part.counts | region_part.counts)


def faster_rcnn(
    architecture: str,
    num_classes: int,
    weights: str = "none",
    weights_path: str | Path | None = None,
    norm: str | None = None,
    trainable_layers: int | None = None,
    freeze: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections_per_image: int = 100,
    channels_last: bool = False,
    compile_backbone: bool = False,
    fpn_channels: int | None = None,
    head_width: int | None = None,
    returned_layers: Sequence[int] | None = None,
    anchor_sizes: Sequence[int] | None = None,
    rpn_pre_nms_train: int | None = None,
    rpn_pre_nms_test: int | None = None,
    rpn_post_nms_train: int | None = None,
    rpn_post_nms_test: int | None = None,
    rpn_score_threshold: float | None = None,
    rpn_nms_threshold: float | None = None,
    anchors_per_image: int | None = None,
    regions_per_image: int | None = None,
) -> FasterRCNNNet:
    """Build a detector and give it its starting weights.

    Args:
        architecture: ``resnet50_fpn``, ``resnet50_fpn_v2``, ``mobilenet_v3_large_320_fpn`` or ``resnet18_fpn``.
        num_classes: classes of the data, background NOT counted.
        weights: ``none`` (random), ``imagenet`` (body only), ``coco`` (all of it, from torchvision) or ``local``.
        weights_path: the file of ``local``: a checkpoint of ours or a torchvision state dict.
        norm: ``frozen``, ``batch``, ``sync`` or ``group`` (reasons in norms.py); None means ``frozen`` with weights
            and ``sync`` without.
        trainable_layers: how many stages of the body learn, from the last: 0..5, MobileNet 0..6; None means 3 with
            weights and all without.
        freeze: prefixes of parameter names to freeze besides, such as ``backbone`` or ``roi_heads.box_head``.
        class_names: names of the classes; with ``coco`` or a checkpoint of ours, head rows of equal names are kept.
            The module passes those of the data when this is None.
        score_threshold: detections below this score are dropped, in [0, 1].
        nms_threshold: overlap of equal classes above which the weaker detection is dropped, in [0, 1].
        detections_per_image: the best this many are returned.
        channels_last: lay feature maps out as NHWC; faster in half precision on GPUs.
        compile_backbone: ``torch.compile`` the body and pyramid for training: minutes at the first batch of each
            canvas, then faster. Evaluation stays eager, because its canvases are many.
        fpn_channels, head_width, returned_layers, anchor_sizes, rpn_pre_nms_train, rpn_pre_nms_test,
        rpn_post_nms_train, rpn_post_nms_test, rpn_score_threshold, rpn_nms_threshold, anchors_per_image,
        regions_per_image: see :class:`~wanamaker.families.faster_rcnn.architectures.Sizes`; None keeps the
            architecture's value.

    Returns:
        the net, in training mode, on the CPU.

    Raises:
        ValueError: an unknown choice or a combination that cannot work.
        wanamaker.errors.UserError: a weight file that is missing, damaged or of another model.
    """
    sizes = resolve_sizes(
        architecture,
        {
            "fpn_channels": fpn_channels,
            "head_width": head_width,
            "returned_layers": returned_layers,
            "anchor_sizes": anchor_sizes,
            "rpn_pre_nms_train": rpn_pre_nms_train,
            "rpn_pre_nms_test": rpn_pre_nms_test,
            "rpn_post_nms_train": rpn_post_nms_train,
            "rpn_post_nms_test": rpn_post_nms_test,
            "rpn_score_threshold": rpn_score_threshold,
            "rpn_nms_threshold": rpn_nms_threshold,
            "anchors_per_image": anchors_per_image,
            "regions_per_image": regions_per_image,
        },
    )
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: give the number of classes without background, at least 1")
    if detections_per_image < 1:
        raise ValueError(f"detections_per_image={detections_per_image}: must be at least 1")
    check_share("score_threshold", score_threshold)
    check_share("nms_threshold", nms_threshold)
    check_choice(architecture, weights, weights_path)
    pretrained = weights != "none"
    norm = norm or (_PRETRAINED_NORM if pretrained else _SCRATCH_NORM)
    num_stages = find_architecture(architecture).num_stages
    if not pretrained and norm == "frozen":
        raise ValueError(
            "norm=frozen with weights=none: frozen random statistics are the identity and the loss explodes; "
            "choose norm=sync, batch or group"
        )
    if not pretrained and trainable_layers not in (None, num_stages):
        raise ValueError(
            f"trainable_layers={trainable_layers} with weights=none would freeze random layers; "
            "leave it out, or start from weights=imagenet, coco or local"
        )
    net = FasterRCNNNet(
        architecture,
        num_classes,
        norm,
        sizes,
        box_score_thresh=score_threshold,
        box_nms_thresh=nms_threshold,
        box_detections_per_img=detections_per_image,
    )
    default_eps = find_architecture(architecture).coco_frozen_eps
    if weights == "coco" and default_eps is not None:
        net.frozen_eps = default_eps  # also when a checkpoint replaces the weights: it was trained with it
    if pretrained and pretrained_weights_wanted():
        net.load_start(read_weights(architecture, weights, weights_path))
    if class_names is not None:
        net.name_classes(class_names)
    fold_frozen_norms(net)
    if channels_last:
        net.channels_last = True
        net.to(memory_format=torch.channels_last)
    freeze_parameters(net, architecture, num_stages if not pretrained else _or(trainable_layers, 3), freeze)
    net.train()
    net.compiled = compile_backbone
    return net


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
