"""The net on its own: shapes, empty and odd batches, precision, freezing."""

import copy

import pytest
import torch
from detector_scenes import Scene, make_scene

from wanamaker.families.faster_rcnn import faster_rcnn
from wanamaker.families.faster_rcnn.losses import NAMES
from wanamaker.nn.pretrained import without_pretrained_weights


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return faster_rcnn("resnet18_fpn", num_classes=3, norm="group")


def losses_of(net, scene: Scene) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in net(*scene).items()}


def with_seeds(scene: Scene, seed: int) -> Scene:
    return scene._replace(seeds=scene.seeds + seed)


@pytest.mark.parametrize("num_boxes", [[0], [1], [0, 0, 0], [4, 0], [2, 3]])
def test_every_parameter_gets_a_finite_gradient(net, num_boxes):
    net.zero_grad()
    losses = net(*make_scene(num_boxes))
    assert list(losses) == list(NAMES)
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if not any(num_boxes):
        assert losses["loss_box"] == losses["loss_rpn_box"] == 0


def test_samples_depend_on_the_seeds_and_not_on_the_global_generator(net):
    scene = make_scene([3, 1])
    torch.manual_seed(1)
    first = losses_of(net, scene)
    torch.manual_seed(2)
    assert losses_of(net, scene) == first
    assert losses_of(net, with_seeds(scene, 1)) != first


def test_an_image_contributes_the_same_in_any_batch(net):
    """Sums over the batch equal sums over its images: nothing depends on the neighbours or their padding."""
    net.eval()
    scene = make_scene([5, 0, 2])
    together, found = net.losses_and_detections(*scene)
    alone = [net.losses_and_detections(*scene.part(slice(i, i + 1))) for i in range(3)]
    for name, value in together.sums.items():
        torch.testing.assert_close(value, sum(part.sums[name] for part, _ in alone), rtol=1e-5, atol=1e-5)
    for name, value in together.counts.items():
        assert value == sum(part.counts[name] for part, _ in alone)
    for one, (_, [other]) in zip(found, alone, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-6)
    net.train()


def test_validation_pass_detects_what_detect_detects(net):
    net.eval()
    scene = make_scene([2, 1])
    losses, found = net.losses_and_detections(*scene)
    assert all(value.isfinite() for value in losses.means().values())
    for one, other in zip(found, net.detect(scene.images, scene.sizes), strict=True):
        assert one["labels"].shape == other["labels"].shape
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-5, atol=1e-6)
    net.train()


def test_evaluation_leaves_running_statistics_alone():
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm="batch").eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.losses_and_detections(*make_scene([1, 0]))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_detections_lie_in_the_image_and_best_first(net):
    net.eval()
    with torch.no_grad():
        net.roi_heads.box_predictor.cls_score.weight.mul_(20)
    scene = make_scene([1, 2])
    for one, (height, width) in zip(net.detect(scene.images, scene.sizes), scene.sizes.tolist(), strict=True):
        assert one["boxes"].dtype == one["scores"].dtype == torch.float32
        assert len(one["boxes"]) <= 100
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"][:, 2] <= width).all()
        assert (one["boxes"][:, 3] <= height).all()
        assert (one["scores"].diff() <= 0).all()
        assert set(one["labels"].tolist()) <= {1, 2, 3}
    with torch.no_grad():
        net.roi_heads.box_predictor.cls_score.weight.div_(20)
    net.train()


def test_no_proposal_above_the_threshold_is_no_error():
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm="group", rpn_score_threshold=0.999)
    scene = make_scene([0, 0])
    sum(net(*scene).values()).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert [len(one["boxes"]) for one in net.eval().detect(scene.images, scene.sizes)] == [0, 0]


def test_boxes_stay_float32_under_bfloat16(net, monkeypatch):
    """torchvision decodes in the autocast type: 4 px steps beyond 512 px."""
    from wanamaker.families.faster_rcnn import net as net_module

    seen = {}
    original = net_module.propose

    def spy(*args, **kwargs):
        seen["proposals"] = original(*args, **kwargs)
        return seen["proposals"]

    monkeypatch.setattr(net_module, "propose", spy)
    net.eval()
    scene = make_scene([2, 1], side=640)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        features = net.backbone(net._normalise(scene.images, scene.sizes))
        losses, found = net.losses_and_detections(*scene)
    net.train()
    assert all(level.dtype == torch.bfloat16 for level in features.values())
    boxes = seen["proposals"].boxes
    assert boxes.dtype == torch.float32
    large = boxes[(boxes > 512) & (boxes % 1 != 0)]
    assert len(large) > 10  # coordinates between whole pixels exist
    assert all(one["boxes"].dtype == one["scores"].dtype == torch.float32 for one in found)
    assert all(value.dtype == torch.float32 for value in losses.means().values())


def test_training_under_bfloat16_is_close_to_float32(net):
    scene = make_scene([2, 1])
    exact = losses_of(net, scene)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(*scene)
    sum(rough.values()).backward()
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name].detach(), value, rtol=0.1, atol=0.02)


def test_channels_last_computes_the_same():
    torch.manual_seed(0)
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm="group")
    torch.manual_seed(0)
    other = faster_rcnn("resnet18_fpn", num_classes=3, norm="group", channels_last=True)
    scene = make_scene([2, 1])
    for name, value in losses_of(net, scene).items():
        torch.testing.assert_close(other(*scene)[name].detach(), value, rtol=1e-4, atol=1e-5)


def test_a_copy_is_independent_and_computes_the_same(net):
    scene = make_scene([2])
    twin = copy.deepcopy(net)
    assert losses_of(twin, scene) == losses_of(net, scene)
    assert twin.rpn.anchor_generator is twin._anchors._generator


def test_a_box_without_area_is_refused(net):
    scene = make_scene([2, 2])
    scene.boxes[1][0, 2] = scene.boxes[1][0, 0]
    with pytest.raises(ValueError, match=r"image 1 of the batch: box .* has no area"):
        net(*scene)


@pytest.mark.parametrize("label", [0, 4])
def test_a_label_without_a_class_is_refused(net, label):
    scene = make_scene([2, 2])
    scene.labels[0][1] = label
    with pytest.raises(ValueError, match=f"image 0 of the batch: label {label} is outside 1..3"):
        net(*scene)


def test_shapes_are_checked(net):
    scene = make_scene([1])
    with pytest.raises(ValueError, match=r"give \[N, 4\]"):
        net(*scene._replace(boxes=[torch.zeros(0)], labels=[torch.zeros(0, dtype=torch.int64)]))
    with pytest.raises(ValueError, match="multiples of 32"):
        net(*scene._replace(images=scene.images[:, :, :100]))


def test_frozen_stages_and_prefixes_have_no_gradient():
    with without_pretrained_weights():
        net = faster_rcnn("resnet18_fpn", 3, weights="imagenet", norm="batch", trainable_layers=2, freeze=["rpn.head"])
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert any(name.startswith("backbone.body.layer3") for name in trained)
    assert not any(name.startswith(("backbone.body.layer2", "backbone.body.conv1", "rpn")) for name in trained)
    frozen = {
        k: v.clone()
        for k, v in net.state_dict().items()
        if k not in trained and "layer3" not in k and "layer4" not in k
    }
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    sum(net(*make_scene([1, 2])).values()).backward()
    optimizer.step()
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in frozen.items())  # running statistics of frozen stages included


@pytest.mark.parametrize(
    ("architecture", "layers", "last_frozen", "first_trained"),
    [
        ("resnet18_fpn", 0, "backbone.body.layer4", "backbone.fpn"),
        ("resnet50_fpn", 3, "backbone.body.layer1", "backbone.body.layer2"),
        ("resnet50_fpn_v2", 5, None, "backbone.body.conv1"),
        ("mobilenet_v3_large_320_fpn", 3, "backbone.body.6", "backbone.body.7"),
        ("mobilenet_v3_large_320_fpn", 6, None, "backbone.body.0"),
    ],
)
def test_stages_are_counted_as_torchvision_counts_them(architecture, layers, last_frozen, first_trained):
    with without_pretrained_weights(), torch.device("meta"):
        net = faster_rcnn(architecture, 3, weights="imagenet", norm="batch", trainable_layers=layers)
    state = {name: p.requires_grad for name, p in net.named_parameters()}
    assert all(on for name, on in state.items() if name.startswith(first_trained + "."))
    if last_frozen:
        assert not any(on for name, on in state.items() if name.startswith(last_frozen + "."))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet34_fpn"}, "choose one of resnet50_fpn"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"norm": "layer"}, "norm='layer'"),
        ({"norm": "frozen"}, "norm=frozen with weights=none"),
        ({"trainable_layers": 2}, "trainable_layers=2 with weights=none"),
        ({"weights": "coco"}, "no COCO weights for architecture=resnet18_fpn"),
        ({"weights": "local"}, "weights_path goes with weights=local"),
        ({"weights": "yes"}, "weights='yes'"),
        ({"anchor_sizes": [16, 32]}, "4 pyramid levels"),
        ({"returned_layers": [4, 2]}, "ascending"),
        ({"regions_per_image": 0}, "regions_per_image=0"),
        ({"freeze": ["backbone.boddy"]}, "fits no parameter"),
        ({"freeze": ["backbone", "rpn", "roi_heads"]}, "nothing is left to train"),
        ({"class_names": ["a", "b"]}, "num_classes=3"),
    ],
)
def test_options_that_cannot_work_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        faster_rcnn(**{"architecture": "resnet18_fpn", "num_classes": 3, **options})
