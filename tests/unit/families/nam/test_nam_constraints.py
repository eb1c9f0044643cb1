"""Every constraint bites where it is broken, is silent where it holds, and is the same on two ranks."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from panel_example import all_rows, batch_of, panel_example

from wanamaker.errors import UserError
from wanamaker.families.nam import NamNet
from wanamaker.families.nam.constraints import (
    ContributionShare,
    ElasticityBounds,
    MinimumRoi,
    OutputPenalty,
    Smoothness,
    price_elasticity,
)


def built(link: str = "identity"):
    panel = panel_example()
    torch.manual_seed(0)
    net = NamNet(members=2, link=link).build(panel.schema)
    net.fit_scales(panel, all_rows(panel))
    return net, batch_of(panel)


def roi(net: NamNet, batch) -> torch.Tensor:
    """ROI of tv per member."""
    output = net(batch)
    part = output.parts[..., net.part_names.index("tv")]
    if net.link == "log":
        part = output.eta.exp() * (1 - torch.exp(-part))
    spend = (batch.media[:, 0, 0] * net.scales.cost_per_media[batch.series, 0]).sum()
    return (part * net.scales.kpi_scale[batch.series]).sum(1) / spend


def share(net: NamNet, batch, name: str) -> torch.Tensor:
    output = net(batch)
    scale = net.scales.kpi_scale[batch.series]
    return (output.parts[..., net.part_names.index(name)] * scale).sum(1) / (output.eta * scale).sum(1)


def pull(net: NamNet, batch, constraint, steps: int = 150) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        loss = constraint(net, batch, net(batch)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("link", ["identity", "log"])
def test_minimum_roi_bites(link):
    net, batch = built(link)
    low = float(roi(net, batch).detach().max()) * 3
    constraint = MinimumRoi({"tv": {"min": low}})
    penalty = constraint(net, batch, net(batch))
    assert penalty.shape == (2,)
    expected = 10 * (low - roi(net, batch)).square()
    torch.testing.assert_close(penalty, expected, rtol=1e-3, atol=1e-5)
    pull(net, batch, constraint)
    assert (roi(net, batch) > 0.95 * low).all()
    assert (MinimumRoi({"tv": {"min": 1e-6, "max": 1e6}})(net, batch, net(batch)) == 0).all()


def test_contribution_share_bites():
    net, batch = built()
    constraint = ContributionShare({"search": [0.2, 0.3]}, media_total=[None, 0.5])
    assert (constraint(net, batch, net(batch)) > 0).all()
    pull(net, batch, constraint, 300)
    found = share(net, batch, "search")
    assert ((found > 0.18) & (found < 0.32)).all()


@pytest.mark.parametrize("link", ["identity", "log"])
def test_elasticity_bounds_bite(link):
    net, batch = built(link)
    constraint = ElasticityBounds({"own": [-3.0, -2.5], "rival": [0.1, 0.2]})
    assert (constraint(net, batch, net(batch)) > 0).all()
    pull(net, batch, constraint, 450)
    found = price_elasticity(net, 9).detach()
    assert -3.2 < found[..., 0].mean() < -2.3
    assert 0.05 < found[..., 1].mean() < 0.3


def test_elasticity_is_the_derivative():
    net, _ = built("log")
    found = price_elasticity(net, 3).detach()  # [M, N, G, P]
    low, high = net.scales.price_range
    middle = (low * high).sqrt()
    values = []
    for factor in (0.999, 1.001):
        z = net.scales.price(middle * factor, torch.arange(4))
        values.append(net.drivers["price"](z, torch.arange(4)).detach())
    slope = (values[1] - values[0]) / (np.log(1.001) - np.log(0.999))
    torch.testing.assert_close(found[:, 1], slope, rtol=0.02, atol=0.02)


def test_smoothness_and_output_penalties_bite():
    net, batch = built()
    with torch.no_grad():  # a wild free net
        for parameter in net.drivers["control"].free.parameters():
            parameter.mul_(4.0)
    for constraint in (Smoothness(), OutputPenalty()):
        before = constraint(net, batch, net(batch)).sum()
        pull(net, batch, constraint, 60)
        after = constraint(net, batch, net(batch)).sum()
        assert after < 0.5 * before


def test_unknown_names_are_told():
    net, batch = built()
    with pytest.raises(UserError, match="did you mean 'search'"):
        MinimumRoi({"serch": [1.2, None]})(net, batch, net(batch))
    with pytest.raises(UserError, match="mail is organic"):
        MinimumRoi({"mail": [1.2, None]})(net, batch, net(batch))
    with pytest.raises(UserError, match="not below the upper"):
        MinimumRoi({"tv": [2.0, 1.0]})


def penalty_gradients(net, batch) -> dict[str, torch.Tensor]:
    constraints = [
        MinimumRoi({"tv": [30.0, None]}),
        ContributionShare({"search": [0.5, None]}, media_total=[0.9, None]),
    ]
    output = net(batch)
    sum(c(net, batch, output).sum() for c in constraints).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        net, _ = built()
        part = batch_of(panel_example(), np.arange(rank, 160, 2))
        found = penalty_gradients(net, part)
        for gradient in found.values():  # what DDP does
            dist.all_reduce(gradient)
            gradient /= 2
        if rank == 0:
            torch.save(found, f"{folder}/gradients.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_are_pulled_as_one(tmp_path):
    mp.spawn(run_rank, (str(tmp_path),), nprocs=2)
    together = torch.load(tmp_path / "gradients.pt")
    net, batch = built()
    alone = penalty_gradients(net, batch)
    assert together.keys() == alone.keys()
    largest = max(float(g.abs().max()) for g in alone.values())
    assert largest > 1e-2
    for name, gradient in alone.items():
        torch.testing.assert_close(
            together[name], gradient, rtol=1e-4, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )
