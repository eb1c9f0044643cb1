"""Our forward pass computes what torchvision computes, given the same sampled anchors and regions."""

import pytest
import torch
from detector_scenes import Scene, make_scene
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from wanamaker.families.faster_rcnn import FasterRCNNNet, faster_rcnn
from wanamaker.families.faster_rcnn.net import _GROUND_TRUTH_INDEX
from wanamaker.families.faster_rcnn.sampling import (
    ANCHOR_STREAM,
    REGION_STREAM,
    random_keys,
    sample_balanced,
    sampled_mask,
)


class OurDraws:
    """Stands in for torchvision's sampler and makes the draws that our net makes."""

    def __init__(self, original, seeds: Tensor, stream: int, num_boxes: list[int]) -> None:
        self.size, self.fraction = original.batch_size_per_image, original.positive_fraction
        self.seeds, self.stream, self.num_boxes = seeds, stream, num_boxes

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positives, negatives = [], []
        for seed, labels, count in zip(self.seeds, matched, self.num_boxes, strict=True):
            labels = labels.long()[None]
            index = torch.arange(labels.shape[1])
            if self.stream == REGION_STREAM and count:
                index[-count:] = _GROUND_TRUTH_INDEX + torch.arange(count)
            sample = sample_balanced(labels, random_keys(seed[None], index, self.stream), self.size, self.fraction)
            mask = sampled_mask(sample, labels.shape[1])[0]
            positives.append((mask & (labels[0] > 0)).to(torch.uint8))
            negatives.append((mask & (labels[0] == 0)).to(torch.uint8))
        return positives, negatives


def torchvision_pass(net: FasterRCNNNet, scene: Scene) -> tuple[list, dict[str, Tensor]]:
    """torchvision's RPN and RoI heads on the same weights; detections in evaluation, losses in training."""
    images = net._normalise(scene.images, scene.sizes)
    shapes = [tuple(size) for size in scene.sizes.tolist()]
    targets = [{"boxes": b, "labels": k} for b, k in zip(scene.boxes, scene.labels, strict=True)]
    counts = [len(b) for b in scene.boxes]
    original = net.rpn.fg_bg_sampler, net.roi_heads.fg_bg_sampler
    net.rpn.fg_bg_sampler = OurDraws(original[0], scene.seeds, ANCHOR_STREAM, counts)
    net.roi_heads.fg_bg_sampler = OurDraws(original[1], scene.seeds, REGION_STREAM, counts)
    try:
        features = net.backbone(images)
        proposals, first = net.rpn(ImageList(images, shapes), features, targets if net.training else None)
        found, second = net.roi_heads(features, proposals, shapes, targets if net.training else None)
    finally:
        net.rpn.fg_bg_sampler, net.roi_heads.fg_bg_sampler = original
    return found, {**first, **second}


OUR_NAME = {
    "loss_objectness": "loss_objectness",
    "loss_rpn_box_reg": "loss_rpn_box",
    "loss_classifier": "loss_classifier",
    "loss_box_reg": "loss_box",
}

ARCHITECTURES = ["resnet18_fpn", "resnet50_fpn", "resnet50_fpn_v2", "mobilenet_v3_large_320_fpn"]


def test_normalised_canvas_equals_torchvisions_transform():
    net = faster_rcnn("resnet18_fpn", num_classes=3)
    scene = make_scene([0, 0, 0])
    parts = [i[:, :h, :w].float() / 255 for i, (h, w) in zip(scene.images, scene.sizes.tolist(), strict=True)]
    transform = GeneralizedRCNNTransform(1, 128, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected = transform.batch_images([transform.normalize(part) for part in parts])
    ours = net._normalise(scene.images, scene.sizes)
    height, width = expected.shape[-2:]
    torch.testing.assert_close(ours[:, :, :height, :width], expected, rtol=1e-6, atol=1e-6)
    assert not ours[:, :, height:].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_equal_torchvision(architecture):
    torch.manual_seed(3)
    net = faster_rcnn(architecture, num_classes=3, norm="batch", regions_per_image=32, rpn_post_nms_train=60)
    scene = make_scene([2, 0, 3])
    state = {k: v.clone() for k, v in net.state_dict().items()}
    theirs = torchvision_pass(net, scene)[1]
    net.load_state_dict(state)
    ours = net(*scene)
    for their_name, name in OUR_NAME.items():
        torch.testing.assert_close(ours[name], theirs[their_name], rtol=1e-6, atol=1e-6)


def test_gradients_equal_torchvision():
    torch.manual_seed(3)
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm="group")
    scene = make_scene([2, 0, 3])
    sum(torchvision_pass(net, scene)[1].values()).backward()
    theirs = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    sum(net(*scene).values()).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_detections_equal_torchvision(architecture):
    torch.manual_seed(3)
    net = faster_rcnn(architecture, num_classes=3, norm="batch").eval()
    with torch.no_grad():  # spread the scores of random weights around the threshold
        net.roi_heads.box_predictor.cls_score.weight.mul_(30)
    scene = make_scene([2, 0, 3])
    with torch.no_grad():
        theirs = torchvision_pass(net, scene)[0]
    ours = net.detect(scene.images, scene.sizes)
    assert sum(len(one["boxes"]) for one in ours) > 0
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our["scores"], their["scores"], rtol=1e-4, atol=1e-6)
        # Of two nearly tied boxes either may suppress the other: compare as sets, and allow a few such pairs.
        boxes = (our["boxes"][:, None] - their["boxes"]).abs().amax(dim=2) < 1e-3
        scores = (our["scores"][:, None] - their["scores"]).abs() < 1e-4
        same = boxes & scores & (our["labels"][:, None] == their["labels"])
        assert len(our["boxes"]) - int(same.any(dim=1).sum()) <= 3
        assert len(their["boxes"]) - int(same.any(dim=0).sum()) <= 3


def test_parameters_and_keys_are_torchvisions():
    import torchvision

    for architecture, make in {
        "resnet50_fpn": torchvision.models.detection.fasterrcnn_resnet50_fpn,
        "resnet50_fpn_v2": torchvision.models.detection.fasterrcnn_resnet50_fpn_v2,
        "mobilenet_v3_large_320_fpn": torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    }.items():
        with torch.device("meta"):
            theirs = make(weights=None, weights_backbone=None, num_classes=91).state_dict()
        ours = faster_rcnn(architecture, num_classes=90, norm="batch").state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
