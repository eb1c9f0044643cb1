"""The supported detectors, put together from torchvision's parts.

The result is torchvision's own ``FasterRCNN``, so state dicts are interchangeable with torchvision's files; only
the norm layers, the widths of the small model and its number of pyramid levels are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from torch import nn
from torchvision.models import (
    MobileNet_V3_Large_Weights,
    ResNet18_Weights,
    ResNet50_Weights,
    WeightsEnum,
    mobilenet_v3_large,
    resnet18,
    resnet50,
)
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from .norms import norm_layer


@dataclass(frozen=True)
class Sizes:
    """Widths and limits of a detector. Defaults are torchvision's for ResNet-50.

    Attributes:
        fpn_channels: channels of every pyramid level.
        head_width: units of the second-stage hidden layers.
        returned_layers: ResNet stages (1..4, strides 4..32) that feed the pyramid.
        anchor_sizes: anchor side in canvas px, one per pyramid level, the pooled extra level included.
        rpn_pre_nms_train, rpn_pre_nms_test: candidates per level before suppression.
        rpn_post_nms_train, rpn_post_nms_test: proposals per image after suppression.
        rpn_score_threshold: proposals below this objectness are dropped.
        rpn_nms_threshold: overlap above which the weaker proposal is dropped.
        anchors_per_image: anchors sampled for the RPN loss.
        regions_per_image: regions sampled for the second-stage loss.
    """

    fpn_channels: int = 256
    head_width: int = 1024
    returned_layers: tuple[int, ...] = (1, 2, 3, 4)
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    rpn_pre_nms_train: int = 2000
    rpn_pre_nms_test: int = 1000
    rpn_post_nms_train: int = 2000
    rpn_post_nms_test: int = 1000
    rpn_score_threshold: float = 0.0
    rpn_nms_threshold: float = 0.7
    anchors_per_image: int = 256
    regions_per_image: int = 512


@dataclass(frozen=True)
class Architecture:
    """A body with its torchvision weights and default sizes."""

    body: str
    imagenet: WeightsEnum
    coco: WeightsEnum | None
    sizes: Sizes
    num_stages: int = 5
    #: variance offset of frozen norms under the COCO weights; None leaves the default
    coco_frozen_eps: float | None = None


ARCHITECTURES = {
    "resnet50_fpn": Architecture(
        body="resnet50",
        imagenet=ResNet50_Weights.IMAGENET1K_V1,
        coco=FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
        sizes=Sizes(),
        coco_frozen_eps=0.0,
    ),
    "resnet50_fpn_v2": Architecture(
        body="resnet50",
        imagenet=ResNet50_Weights.IMAGENET1K_V1,
        coco=FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        sizes=Sizes(),
    ),
    "mobilenet_v3_large_320_fpn": Architecture(
        body="mobilenet_v3_large",
        imagenet=MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        coco=FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        sizes=Sizes(rpn_pre_nms_test=150, rpn_post_nms_test=150, rpn_score_threshold=0.05),
        num_stages=6,
    ),
    # Made for two CPU cores and images of 128 to 320 px: torchvision's heads cost more than its ResNet-18 there.
    "resnet18_fpn": Architecture(
        body="resnet18",
        imagenet=ResNet18_Weights.IMAGENET1K_V1,
        coco=None,
        sizes=Sizes(
            fpn_channels=64,
            head_width=128,
            returned_layers=(2, 3, 4),
            anchor_sizes=(16, 32, 64, 128),
            rpn_pre_nms_train=200,
            rpn_pre_nms_test=200,
            rpn_post_nms_train=100,
            rpn_post_nms_test=100,
            anchors_per_image=128,
            regions_per_image=64,
        ),
    ),
}


def architecture(name: str) -> Architecture:
    """Look up an architecture.

    Raises:
        ValueError: an unknown name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture={name!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def resolve_sizes(name: str, changes: dict[str, object]) -> Sizes:
    """The architecture's sizes with those ``changes`` that are not None.

    Raises:
        ValueError: levels and anchors that do not fit each other, a count below 1, or a threshold outside [0, 1].
    """
    given = {key: tuple(v) if isinstance(v, Sequence) else v for key, v in changes.items() if v is not None}
    sizes = replace(architecture(name).sizes, **given)
    if not name.startswith("resnet") and "returned_layers" in given:
        raise ValueError(f"returned_layers={sizes.returned_layers}: only ResNet bodies can choose their levels")
    if name.startswith("resnet"):
        layers = sizes.returned_layers
        if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= {1, 2, 3, 4}:
            raise ValueError(f"returned_layers={layers}: give ascending stages out of 1, 2, 3, 4")
        if len(sizes.anchor_sizes) != len(layers) + 1:
            raise ValueError(
                f"anchor_sizes={sizes.anchor_sizes}: returned_layers={layers} make {len(layers) + 1} pyramid levels "
                "(each layer and one pooled), give one anchor size per level"
            )
    for key, value in asdict(sizes).items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{key}={value}: must be at least 1")
    check_share("rpn_score_threshold", sizes.rpn_score_threshold)
    check_share("rpn_nms_threshold", sizes.rpn_nms_threshold)
    return sizes


def check_share(name: str, value: float) -> None:
    """Raise ValueError for a threshold of scores or overlaps outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: scores and overlaps lie between 0 and 1")


def build_detector(name: str, num_outputs: int, norm: str, sizes: Sizes, **thresholds: float) -> FasterRCNN:
    """torchvision's ``FasterRCNN`` with random weights.

    Args:
        name: key of :data:`ARCHITECTURES`.
        num_outputs: classes including background.
        norm: see norms.py; applied to the body, and to pyramid and head where the architecture normalises them.
        sizes: widths and limits.
        thresholds: ``box_score_thresh``, ``box_nms_thresh``, ``box_detections_per_img`` of torchvision.
    """
    layer = norm_layer(norm)
    spec = architecture(name)
    is_v2 = name == "resnet50_fpn_v2"
    if spec.body == "mobilenet_v3_large":
        backbone = _mobilenet_backbone(layer, sizes)
        anchors = AnchorGenerator((sizes.anchor_sizes,) * 3, ((0.5, 1.0, 2.0),) * 3)
    else:
        backbone = _resnet_backbone(spec.body, layer, sizes, layer if is_v2 else None)
        per_level = tuple((size,) for size in sizes.anchor_sizes)
        anchors = AnchorGenerator(per_level, ((0.5, 1.0, 2.0),) * len(per_level))
    channels = backbone.out_channels
    if is_v2:
        head: nn.Module = FastRCNNConvFCHead((channels, 7, 7), [channels] * 4, [sizes.head_width], norm_layer=layer)
    else:
        head = TwoMLPHead(channels * 7 * 7, sizes.head_width)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=2 if is_v2 else 1),
        rpn_pre_nms_top_n_train=sizes.rpn_pre_nms_train,
        rpn_pre_nms_top_n_test=sizes.rpn_pre_nms_test,
        rpn_post_nms_top_n_train=sizes.rpn_post_nms_train,
        rpn_post_nms_top_n_test=sizes.rpn_post_nms_test,
        rpn_nms_thresh=sizes.rpn_nms_threshold,
        rpn_score_thresh=sizes.rpn_score_threshold,
        rpn_batch_size_per_image=sizes.anchors_per_image,
        box_batch_size_per_image=sizes.regions_per_image,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=head,
        box_predictor=FastRCNNPredictor(sizes.head_width, num_outputs),
        **thresholds,
    )


def _resnet_backbone(
    body: str, layer: Callable[[int], nn.Module], sizes: Sizes, fpn_norm: Callable[[int], nn.Module] | None
) -> BackboneWithFPN:
    resnet = {"resnet18": resnet18, "resnet50": resnet50}[body](weights=None, norm_layer=layer)
    first = resnet.inplanes // 8
    return BackboneWithFPN(
        resnet,
        return_layers={f"layer{k}": str(i) for i, k in enumerate(sizes.returned_layers)},
        in_channels_list=[first * 2 ** (k - 1) for k in sizes.returned_layers],
        out_channels=sizes.fpn_channels,
        norm_layer=fpn_norm,
    )


def _mobilenet_backbone(layer: Callable[[int], nn.Module], sizes: Sizes) -> BackboneWithFPN:
    features = mobilenet_v3_large(weights=None, norm_layer=layer).features
    # The last strided block and the closing 1x1 convolution, as in torchvision's detector.
    last_strided = max(i for i, block in enumerate(features) if getattr(block, "_is_cn", False))
    chosen = [last_strided, len(features) - 1]
    return BackboneWithFPN(
        features,
        return_layers={str(index): str(i) for i, index in enumerate(chosen)},
        in_channels_list=[features[index].out_channels for index in chosen],
        out_channels=sizes.fpn_channels,
    )
