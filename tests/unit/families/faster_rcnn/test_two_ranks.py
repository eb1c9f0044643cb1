"""Two processes with half the batch each take the step that one process takes with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detector_scenes import make_scene
from torch.nn.parallel import DistributedDataParallel

from wanamaker.families.faster_rcnn import faster_rcnn
from wanamaker.nn.sync_batch_norm import SyncBatchNorm2d

#: Uneven on purpose: the first rank has most boxes and the second an image without any.
NUM_BOXES = [5, 3, 0, 1]


def build(norm: str) -> torch.nn.Module:
    torch.manual_seed(7)
    return faster_rcnn("resnet18_fpn", num_classes=3, norm=norm)


def gradients(net: torch.nn.Module, scene) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    losses = net(*scene)
    sum(losses.values()).backward()
    named = net.module.named_parameters() if isinstance(net, DistributedDataParallel) else net.named_parameters()
    return {name: p.grad for name, p in named}, torch.stack(list(losses.values())).detach()


def run_rank(rank: int, norm: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        torch.manual_seed(100 + rank)  # the global generators of the ranks differ and must not matter
        scene = make_scene(NUM_BOXES).part(slice(2 * rank, 2 * rank + 2))
        net = build(norm)
        torch.manual_seed(100 + rank)
        found, losses = gradients(DistributedDataParallel(net), scene)
        dist.all_reduce(losses)
        if rank == 0:
            torch.save({"gradients": found, "losses": losses / 2, "state": net.state_dict()}, f"{folder}/result.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("norm", ["sync", "group"])
def test_gradients_of_two_ranks_equal_one(norm, tmp_path):
    mp.spawn(run_rank, (norm, str(tmp_path)), nprocs=2)
    together = torch.load(tmp_path / "result.pt")
    net = build(norm)
    alone, losses = gradients(net, make_scene(NUM_BOXES))
    torch.testing.assert_close(together["losses"], losses, rtol=1e-5, atol=1e-6)
    largest = max(float(g.abs().max()) for g in alone.values())
    assert largest > 1e-2
    for name, gradient in alone.items():
        torch.testing.assert_close(
            together["gradients"][name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name, value in net.state_dict().items():  # running statistics too
        torch.testing.assert_close(together["state"][name], value, rtol=1e-5, atol=1e-6)


def run_norm_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        whole = torch.load(f"{folder}/input.pt")
        share = slice(0, 5) if rank == 0 else slice(5, 6)  # uneven shares
        x = whole["x"][share].clone().requires_grad_()
        norm = SyncBatchNorm2d(4)
        norm.load_state_dict(whole["state"])
        y = norm(x)
        (y * whole["weight"][share]).sum().backward()
        result = {"y": y.detach(), "x": x.grad, "w": norm.weight.grad, "b": norm.bias.grad, "s": norm.state_dict()}
        torch.save(result, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_sync_batch_norm_equals_batch_norm_of_the_whole_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = 50 + 3 * torch.randn(6, 4, 5, 3, generator=generator)
    weight = torch.randn(x.shape, generator=generator)
    norm = torch.nn.BatchNorm2d(4)
    norm.weight.data = torch.randn(4, generator=generator)
    torch.save({"x": x, "weight": weight, "state": norm.state_dict()}, tmp_path / "input.pt")
    mp.spawn(run_norm_rank, (str(tmp_path),), nprocs=2)
    x.requires_grad_()
    y = norm(x)
    (y * weight).sum().backward()
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([r["y"] for r in ranks]), y.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat([r["x"] for r in ranks]), x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ranks[0]["w"] + ranks[1]["w"], norm.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ranks[0]["b"] + ranks[1]["b"], norm.bias.grad, rtol=1e-4, atol=1e-4)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(ranks[0]["s"][name], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ranks[1]["s"][name], value, rtol=1e-5, atol=1e-5)


def test_sync_batch_norm_is_batch_norm_without_a_process_group():
    ours, theirs = SyncBatchNorm2d(4), torch.nn.BatchNorm2d(4)
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-6, atol=1e-6)
