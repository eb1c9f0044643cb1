"""Starting weights: what is loaded, what is reported, what is refused. Nothing is downloaded."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from detector_scenes import make_scene

from wanamaker.errors import UserError
from wanamaker.families.faster_rcnn import faster_rcnn
from wanamaker.families.faster_rcnn.architectures import ARCHITECTURES
from wanamaker.families.faster_rcnn.weight_files import current_keys

NAMES = ["box", "can", "jar"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub folder and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def small(**options):
    torch.manual_seed(0)
    return faster_rcnn("resnet18_fpn", **{"num_classes": 3, "norm": "batch", **options})


def checkpoint_of(net, path, names=NAMES, **meta):
    """What FasterRCNNModule writes, as far as it matters here."""
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    about = {"class_names": list(names), "norm": net.norm, "frozen_eps": net.frozen_eps, **meta}
    torch.save({"state_dict": state, "faster_rcnn": about, "epoch": 3}, path)
    return path


def put_in_hub(hub, weights, state):
    torch.save(state, hub / weights.url.rsplit("/", 1)[-1])


def test_random_weights_report_says_so():
    assert str(small().weight_report) == "Weights: random (weights=none)"


@pytest.mark.parametrize("weights", ["imagenet", "coco"])
def test_offline_error_names_file_folder_and_remedy(hub, weights):
    with pytest.raises(UserError) as caught:
        faster_rcnn("resnet50_fpn", 3, weights=weights)
    spec = ARCHITECTURES["resnet50_fpn"]
    name = (spec.imagenet if weights == "imagenet" else spec.coco).url.rsplit("/", 1)[-1]
    for part in (name, str(hub), "TORCH_HOME", "weights_path=FILE", "weights=none", f"weights={weights}"):
        assert part in str(caught.value)


def test_imagenet_body_is_loaded_and_the_rest_is_new(hub):
    torch.manual_seed(5)
    source = torchvision.models.resnet18(weights=None).state_dict()
    put_in_hub(hub, ARCHITECTURES["resnet18_fpn"].imagenet, source)
    net = faster_rcnn("resnet18_fpn", 3, weights="imagenet")
    assert net.norm == "frozen"
    assert torch.equal(net.backbone.body.layer3[0].conv1.weight, source["layer3.0.conv1.weight"])
    report = net.weight_report
    assert all(key.startswith("backbone.body.") for key in report.matched)
    assert all(key.startswith(("backbone.fpn.", "rpn.", "roi_heads.")) for key in report.missing)
    assert not report.unexpected
    assert not report.mismatched
    assert not net.backbone.body.conv1.weight.requires_grad
    assert "weights=imagenet" in str(report)


def test_imagenet_mobilenet_keys_fit(hub):
    source = torchvision.models.mobilenet_v3_large(weights=None).state_dict()
    put_in_hub(hub, ARCHITECTURES["mobilenet_v3_large_320_fpn"].imagenet, source)
    report = faster_rcnn("mobilenet_v3_large_320_fpn", 3, weights="imagenet").weight_report
    assert not report.unexpected
    assert all(not key.startswith("backbone.body.") for key in report.missing)


def test_coco_head_rows_go_to_the_classes_of_the_same_name(hub):
    """The file has the key style of torchvision's real one, and 91 rows with gaps."""
    torch.manual_seed(5)
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    old_style = {}
    for key, value in model.state_dict().items():
        if "num_batches_tracked" in key:
            continue
        parts = key.split(".")
        if parts[:3] == ["rpn", "head", "conv"]:
            parts = [*parts[:3], parts[-1]]
        elif parts[:2] == ["backbone", "fpn"]:
            parts = [*parts[:4], parts[-1]]
        old_style[".".join(parts)] = value
    spec = ARCHITECTURES["resnet50_fpn"]
    put_in_hub(hub, spec.coco, old_style)
    net = faster_rcnn("resnet50_fpn", 3, weights="coco", class_names=["zebra", "shelf", "person"])
    report = net.weight_report
    assert report.kept_classes == ["zebra", "person"]
    assert report.new_classes == ["shelf"]
    assert not report.missing
    assert not report.unexpected
    assert not report.mismatched
    categories = spec.coco.meta["categories"]
    head, source = net.roi_heads.box_predictor, model.roi_heads.box_predictor
    for row, name in enumerate(["__background__", "zebra", None, "person"]):
        if name:
            there = categories.index(name)
            assert torch.equal(head.cls_score.weight[row], source.cls_score.weight[there])
            assert torch.equal(head.bbox_pred.bias.view(-1, 4)[row], source.bbox_pred.bias.view(-1, 4)[there])
    assert not torch.equal(head.cls_score.weight[2], source.cls_score.weight[2])
    assert net.frozen_eps == 0.0  # torchvision's first COCO weights were trained without an offset
    # The same file passed as a local one is recognised.
    path = hub / spec.coco.url.rsplit("/", 1)[-1]
    local = faster_rcnn("resnet50_fpn", 3, weights="local", weights_path=path, class_names=["zebra", "shelf", "person"])
    assert local.weight_report.kept_classes == ["zebra", "person"]
    assert local.frozen_eps == 0.0


def test_checkpoint_with_more_classes_keeps_the_old_ones(tmp_path):
    old = small()
    path = checkpoint_of(old, tmp_path / "old.ckpt")
    torch.manual_seed(9)
    net = faster_rcnn("resnet18_fpn", 4, weights="local", weights_path=path, norm="frozen")
    net.name_classes(["jar", "tube", "box", "can"])
    rows, source = net.roi_heads.box_predictor.cls_score.weight, old.roi_heads.box_predictor.cls_score.weight
    assert torch.equal(rows[[0, 1, 3, 4]], source[[0, 3, 1, 2]])
    assert net.weight_report.new_classes == ["tube"]
    assert str(path) in str(net.weight_report)
    assert "3 classes kept by name, 1 new" in str(net.weight_report)


@pytest.mark.parametrize("kind", ["ours", "plain", "reference"])
def test_the_same_model_comes_back_whole(tmp_path, kind):
    old = small().eval()
    path = tmp_path / "weights.pth"
    if kind == "ours":
        checkpoint_of(old, path)
    else:
        state = old.state_dict()
        torch.save(state if kind == "plain" else {"model": state, "epoch": 1}, path)
    torch.manual_seed(9)
    net = faster_rcnn("resnet18_fpn", 3, weights="local", weights_path=path, norm="batch", class_names=NAMES).eval()
    scene = make_scene([2])
    for one, other in zip(net.detect(scene.images, scene.sizes), old.detect(scene.images, scene.sizes), strict=True):
        torch.testing.assert_close(one, other)
    assert not net.weight_report.missing
    assert not net.weight_report.mismatched


def test_report_names_what_does_not_fit(tmp_path):
    path = tmp_path / "weights.pth"
    state = small(head_width=64).state_dict()
    state["roi_heads.mask.weight"] = torch.zeros(2)
    del state["rpn.head.cls_logits.bias"]
    torch.save(state, path)
    report = small(weights="local", weights_path=path).weight_report
    assert report.missing == ["rpn.head.cls_logits.bias"]
    assert report.unexpected == ["roi_heads.mask.weight"]
    assert ("roi_heads.box_head.fc7.bias", (64,), (128,)) in report.mismatched
    assert "roi_heads.box_head.fc6.weight (64, 3136) in the file, (128, 3136) here" in str(report)
    assert "backbone.body.conv1.weight" in report.matched


def test_foreign_model_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"other.pth holds another model.*encoder.weight"):
        small(weights="local", weights_path=path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b""), "truncated or damaged|not a file of tensors"),
        (lambda p: p.write_text("hello"), "not a file of tensors|truncated or damaged"),
        (lambda p: torch.save([torch.zeros(2)], p), "holds a list"),
        (lambda p: torch.save({"epoch": 3}, p), "no tensors found"),
        (lambda p: torch.save({"a": make_scene}, p), "could run code"),
    ],
)
def test_files_that_cannot_be_weights_are_refused_by_name(tmp_path, make, message):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(UserError, match=message) as caught:
        small(weights="local", weights_path=path)
    assert str(path) in str(caught.value)


def test_truncated_file_is_refused_by_name(tmp_path):
    path = checkpoint_of(small(), tmp_path / "cut.ckpt")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cut.ckpt.*(truncated|damaged)"):
        small(weights="local", weights_path=path)


def test_norms_that_do_not_fit_are_refused(tmp_path):
    """Frozen statistics that the file lacks would be the identity, and the loss would explode."""
    path = checkpoint_of(small(norm="group"), tmp_path / "group.ckpt")
    with pytest.raises(UserError, match=r"norm=frozen: .*group.ckpt was trained with group; choose norm=group"):
        small(weights="local", weights_path=path, norm="frozen")
    path = checkpoint_of(small(norm="sync"), tmp_path / "sync.ckpt")
    with pytest.raises(UserError, match=r"norm=group: .*trained with sync; choose norm=frozen, batch, sync"):
        small(weights="local", weights_path=path, norm="group")
    assert small(weights="local", weights_path=path, norm="frozen").weight_report.matched


def test_current_keys_leaves_new_style_alone():
    state = small().state_dict()
    assert current_keys(state).keys() == state.keys()
