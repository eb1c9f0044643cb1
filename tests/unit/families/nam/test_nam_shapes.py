"""Carry-over, saturation, pooling and bootstrap: the parts a mix is put together from."""

import numpy as np
import pytest
import torch

from wanamaker.data.media_panel import Level
from wanamaker.errors import UserError
from wanamaker.families.nam.bootstrap import block_weights
from wanamaker.families.nam.media import MediaBlock, per_channel
from wanamaker.families.nam.options import PRIORS
from wanamaker.families.nam.pooling import Pooled
from wanamaker.families.nam.priors import total_penalty
from wanamaker.families.nam.shapes import ADSTOCKS, SATURATIONS, BetaGammaKernel

LEVELS = {"category": Level(("a", "b"), (0, 0, 1)), "series": Level(("x", "y", "z"), (0, 1, 2))}


def block(adstock: object = "geometric", saturation: object = "gamma_cdf", members: int = 3) -> MediaBlock:
    torch.manual_seed(0)
    return MediaBlock(members, ["tv", "search"], 3, LEVELS, adstock, saturation, PRIORS, {"mode": "partial"})


@pytest.mark.parametrize("kind", ADSTOCKS)
def test_kernels_are_weights_and_learn(kind):
    media = block(adstock=kind)
    kernel = media.kernel(9)
    assert kernel.shape == (3, 2, 9)
    torch.testing.assert_close(kernel.sum(-1), torch.ones(3, 2))
    assert (kernel >= 0).all()
    if kind == "none":
        assert (kernel[..., 0] == 1).all()
        return
    (kernel * torch.arange(9)).sum().backward()
    gradients = [p.grad for p in media.adstocks.parameters()]
    assert gradients
    assert all(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("kind", SATURATIONS)
def test_saturation_starts_at_zero_rises_and_learns(kind):
    media = block(saturation=kind)
    x = torch.linspace(0, 1.5 * 3, 301)[None, :, None].expand(3, -1, 2)  # well beyond the data, whose largest is 1
    value = media.curve(x)
    assert value[:, 0].abs().max() == 0
    rise = value.diff(dim=1)
    assert (rise >= -1e-6).all()
    assert (rise[:, :66] > 0).all()  # strictly, over the data
    if kind != "linear":
        assert (value <= 1 + 1e-5).all()
        value[:, 30].sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in media.saturations.parameters())


def test_legacy_kernel_keeps_its_peak_beyond_the_data():
    kernel = BetaGammaKernel(4, 2, (0.5, 0.6), (1.0, 0.3))
    with torch.no_grad():
        kernel.alpha_logit.u.normal_(0, 5)
        kernel.log_excess.u.normal_(0, 5)
    assert (kernel.peak() >= 1.2).all()
    x = torch.linspace(0, 1, 50)[None, :, None].expand(4, -1, 2)
    assert (kernel(x).diff(dim=1) >= 0).all()


def test_channels_may_differ_in_kind():
    media = block(adstock={"default": "geometric", "tv": "delayed"}, saturation={"tv": "hill", "search": "gamma_cdf"})
    assert set(media.adstocks) == {"delayed", "geometric"}
    assert set(media.saturations) == {"hill", "gamma_cdf"}
    alone = block(adstock="geometric", saturation="gamma_cdf")
    assert media.kernel(5).shape == alone.kernel(5).shape
    with pytest.raises(UserError, match="names a channel 'radio'"):
        per_channel({"radio": "hill", "default": "hill"}, ["tv"], SATURATIONS, "saturation")
    with pytest.raises(UserError, match="says nothing of search"):
        per_channel({"tv": "hill"}, ["tv", "search"], SATURATIONS, "saturation")
    with pytest.raises(UserError, match="'logistic' is unknown; choose from"):
        per_channel("logistic", ["tv"], SATURATIONS, "saturation")


def test_effect_is_what_a_channel_adds_at_its_usual_level():
    media = block()
    media.reference.copy_(torch.tensor([0.3, 0.6]))
    usual = media.reference.expand(1, 1, 2)
    for series in range(3):
        kernel_free = media.amplitude()[:, series] * media.curve(usual.expand(3, 1, 2))[:, 0]
        torch.testing.assert_close(kernel_free, media.log_effect().exp()[:, series])


def test_nothing_spent_nothing_gained():
    media = block()
    windows = torch.rand(6, 9, 2)
    windows[:, :, 1] = 0
    parts = media(windows, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert parts.shape == (3, 6, 2)
    assert (parts[..., 0] > 0).all()
    assert (parts[..., 1] == 0).all()


def test_pooling_partial_fixed_and_none():
    torch.manual_seed(1)
    partial = Pooled(2, ["w"], 3, LEVELS, 1.0, 0.5)
    assert partial().shape == (2, 3, 1)
    assert partial.level_names == ["category", "series"]
    none = Pooled(2, ["w"], 3, LEVELS, 1.0, 0.5, mode="none")()
    assert (none[:, 0] == none[:, 2]).all()
    fixed = Pooled(2, ["w"], 3, LEVELS, 1.0, 0.5, mode="fixed", weights={"category": 0.7, "series": 0.3})
    category, series = fixed.own[0]()[..., 0], fixed.own[1]()[..., 0]
    expected = 0.7 * category[:, [0, 0, 1]] + 0.3 * series
    torch.testing.assert_close(fixed()[..., 0], expected)
    with pytest.raises(UserError, match="sum to 1"):
        Pooled(2, ["w"], 3, LEVELS, 1.0, 0.5, mode="fixed", weights={"category": 0.7, "series": 0.2})
    with pytest.raises(UserError, match="choose from partial, fixed, none"):
        Pooled(2, ["w"], 3, LEVELS, 1.0, 0.5, mode="full")


def test_pooling_learns_how_much_groups_differ():
    """Groups that differ get a large tau and keep their values; alike groups are drawn together."""
    torch.manual_seed(0)
    count = 12
    levels = {"geo": Level(tuple(f"g{i}" for i in range(count)), tuple(range(count)))}
    spread = {}
    for name, sd in (("alike", 0.0), ("different", 1.0)):
        truth = torch.randn(count, generator=torch.Generator().manual_seed(3)) * sd
        rows = truth[:, None] + 0.5 * torch.randn(count, 8, generator=torch.Generator().manual_seed(4))
        pooled = Pooled(1, ["w"], count, levels, 0.0, 1.0)
        holder = torch.nn.ModuleList([pooled])
        optimizer = torch.optim.Adam(pooled.parameters(), lr=0.05)
        for _ in range(400):
            value = pooled()[0, :, 0]
            known = torch.full((1, count), 8 / 0.25)  # eight rows of variance 0.25
            pooled.observe(torch.arange(count), torch.ones(1, count, 1), known, 0.0)
            loss = (rows - value[:, None]).square().sum() / (2 * 0.25) + total_penalty(holder)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spread[name] = (pooled()[0, :, 0].std() / rows.mean(1).std()).item(), pooled.log_tau[0]().exp().item()
    assert spread["different"][0] > 0.9
    assert spread["alike"][0] < 0.6
    assert spread["different"][1] > 2 * spread["alike"][1]


@pytest.mark.parametrize("kind", ["bayesian", "multinomial", "none"])
def test_bootstrap_weights(kind):
    periods = np.zeros(50, dtype=bool)
    periods[5:45] = True
    weights = block_weights(200, periods, 4, kind, torch.Generator().manual_seed(0))
    assert (weights[:, ~torch.from_numpy(periods)] == 0).all()
    torch.testing.assert_close(weights[:, periods].mean(1), torch.ones(200))
    again = block_weights(200, periods, 4, kind, torch.Generator().manual_seed(0))
    assert torch.equal(weights, again)
    inside = weights[:, 5:45]
    if kind == "none":
        assert (inside == 1).all()
        return
    # Neighbours in one block share their weight, so about three of four steps are zero; members differ.
    steady = (inside.diff(dim=1) == 0).float().mean()
    assert 0.7 < steady < 0.9
    assert inside.std(dim=0).min() > 0.5
    assert (block_weights(1, periods, 4, kind, torch.Generator())[0, 5:45] == 1).all()


def test_bootstrap_refuses():
    for options in (("jackknife", 4), ("bayesian", 0)):
        with pytest.raises(UserError, match=r"model\.bootstrap"):
            block_weights(2, np.ones(5, bool), options[1], options[0], torch.Generator())
