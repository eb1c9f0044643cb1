"""A compiled backbone: the losses and gradients of the eager one, one compilation a canvas, eager in evaluation."""

import copy
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wanamaker.data.detection_sampler import DetectionBatchSampler, DetectionCanvas
from wanamaker.families.faster_rcnn import module
from wanamaker.families.faster_rcnn.net import FasterRCNNNet, faster_rcnn

SMALL = {"fpn_channels": 16, "head_width": 16, "returned_layers": [1, 2], "anchor_sizes": [16, 32, 64]}


def scene(height: int, width: int) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(height)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    boxes = [torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 40.0]])] * 2
    return images, torch.tensor([[height, width]] * 2), boxes, [torch.tensor([1, 2])] * 2, torch.tensor([3, 4])


def losses_and_gradient(net: FasterRCNNNet, *batch) -> tuple[Tensor, Tensor]:
    net.zero_grad()
    losses = torch.stack(list(net(*batch).values()))
    losses.sum().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def compilations() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++ on a CPU")
def test_training_is_that_of_the_eager_net_and_evaluation_compiles_nothing() -> None:
    torch.manual_seed(0)
    compiled = faster_rcnn("resnet18_fpn", 3, norm="group", compile_backbone=True, **SMALL)
    eager = copy.deepcopy(compiled)
    eager.compiled = False
    assert list(compiled.state_dict()) == list(eager.state_dict())

    before = compilations()
    for number, (height, width) in enumerate(((64, 96), (96, 64), (64, 96)), start=1):
        batch = scene(height, width)
        (ours, our_gradient), (wanted, gradient) = (losses_and_gradient(n, *batch) for n in (compiled, eager))
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
        assert (our_gradient - gradient).norm() < 2e-3 * gradient.norm()
        assert compilations() - before == min(number, 2), "one a canvas"

    images, sizes, *_ = scene(96, 96)
    for net in (compiled, eager):
        net.eval()
    ours, wanted = compiled.detect(images, sizes), eager.detect(images, sizes)
    torch.testing.assert_close(ours, wanted)
    assert compilations() - before == 2, "evaluation is eager"


@pytest.mark.parametrize(("fit", "told"), [("batch", "Set data.canvas=dataset for a few."), ("dataset", "")])
def test_tells_what_there_is_to_compile(fit: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heights, widths = np.random.default_rng(0).integers(200, 700, (2, 60))
    sampler = DetectionBatchSampler(DetectionCanvas(heights, widths, 600, fit), 4, short_sides=[200])
    said: list[str] = []
    monkeypatch.setattr(module, "rank_zero_info", said.append)
    net = faster_rcnn("resnet18_fpn", 3, norm="group", compile_backbone=True, **SMALL)
    detector = module.FasterRCNNModule(net, partial(torch.optim.SGD, lr=0.1))
    loader = SimpleNamespace(batch_sampler=sampler)
    detector._trainer = SimpleNamespace(train_dataloader=loader, current_epoch=0)

    detector.on_train_start()
    number = len(sampler.canvases(0))
    assert said == [f"The backbone is compiled for each canvas: {number} in this epoch. {told}".strip()]
    net.compiled = False
    detector.on_train_start()
    assert len(said) == 1
