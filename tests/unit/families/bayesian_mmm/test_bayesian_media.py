"""Saturated, adstocked media of the Bayesian mix against `wanamaker.nn`, for every shape and both orders.

Axis letters: N draws, G series, C channels, T periods, L taps.
"""

import numpy as np
import pytest
import torch
from mix_case import TAPS, built, normal, panel_case, points, some_rows
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.media import MediaCurves
from wanamaker.families.bayesian_mmm.priors import FlatSites, site
from wanamaker.families.bayesian_mmm.shapes import ADSTOCKS, SATURATIONS
from wanamaker.nn import adstock as kernels
from wanamaker.nn import saturation as curves

N, G, C, T = 3, 2, 3, 24
CHANNELS = ("tv", "search", "mail")


def reference_kernel(name: str, p: dict[str, Tensor]) -> Tensor:
    """[N, C, L]."""
    if name == "none":
        return torch.eye(1, TAPS, dtype=torch.float64).expand(N, C, TAPS)
    if name == "geometric":
        return kernels.geometric_kernel(0.5 ** (1 / p["half_life"]), TAPS)
    if name == "delayed":
        return kernels.delayed_kernel(0.5 ** (1 / p["half_life"]), p["delay"], TAPS)
    if name == "binomial":
        return kernels.binomial_kernel(p["tail"], TAPS)
    return getattr(kernels, f"{name}_kernel")(p["peakedness"], p["reach"], TAPS)


def reference_curve(name: str, x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """x [N, G, T, C]."""
    p = {k: v[:, None, None] for k, v in p.items()}
    if name == "none":
        return x
    if name == "hill":
        return curves.hill(x, p["half_saturation"], p["slope"])
    if name == "logistic":  # half of its ceiling at `half`
        return curves.logistic_saturation(x, torch.tensor(3.0).double().log() / p["half_saturation"])
    if name == "tanh":
        return curves.tanh_saturation(x, p["scale"])
    if name == "michaelis_menten":
        return curves.michaelis_menten(x, p["half_saturation"])
    if name == "root":
        return curves.root(x, p["power"])
    return curves.gamma_cdf(x, p["shape"], p["rate"])


def history_of(seed: int = 1) -> Tensor:
    """Scaled media [G, T + L - 1, C], off in a third of the periods."""
    return normal(G, T + TAPS - 1, C, seed=seed).abs() * (normal(G, T + TAPS - 1, C, seed=seed + 1) > -0.4)


def parameters(media: MediaCurves, seed: int = 3) -> dict[str, Tensor]:
    """Natural values from the default priors, [N, K] each."""
    made = [site(n, prior, [CHANNELS[c] for c in where]) for n, (prior, where) in media.default_priors().items()]
    flat = FlatSites([*made, site("effect", ["lognormal", 1.0, 1.0], CHANNELS)])
    return flat.constrain(flat.sample(N, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("saturation", SATURATIONS)
@pytest.mark.parametrize("adstock", ADSTOCKS)
def test_columns_equal_the_library(adstock: str, saturation: str, first: bool) -> None:
    media = MediaCurves(CHANNELS, adstock, saturation, first)
    theta, history = parameters(media), history_of()
    theta = {name: value.requires_grad_() for name, value in theta.items()}
    found = media.columns(theta, history, TAPS)
    assert found.shape == (N, G, C, T)
    kernel = reference_kernel(adstock, theta).unsqueeze(1)
    torch.testing.assert_close(media.kernel(theta, TAPS).sum(-1), torch.ones(N, C).double())
    for method in ("fft", "direct"):
        x = history.expand(N, -1, -1, -1)
        if first:
            x = reference_curve(saturation, x, theta)
        x = kernels.adstock(x[..., TAPS - 1 :, :], kernel, x[..., : TAPS - 1, :], method)
        expected = x if first else reference_curve(saturation, x, theta)
        torch.testing.assert_close(found, expected.mT, rtol=0, atol=1e-6)
    used = [value for name, value in theta.items() if name != "effect"]
    if used:
        for gradient in torch.autograd.grad(found.sum(), used):
            assert torch.isfinite(gradient).all()
            assert (gradient != 0).any()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("saturation", SATURATIONS)
def test_nothing_comes_of_nothing(saturation: str, first: bool) -> None:
    media = MediaCurves(CHANNELS, "geometric", saturation, first)
    theta = {name: value.requires_grad_() for name, value in parameters(media).items()}
    history = history_of()
    history[:, :, 1] = 0.0
    history[:, -2 * TAPS :, 0] = 0.0
    found = media.columns(theta, history, TAPS)
    assert (found[:, :, 1] < 1e-60).all()  # 0 but for what the logarithm of 0 is held at
    assert (found[:, :, 0, -TAPS - 1 :] < 1e-60).all()
    used = [value for name, value in theta.items() if name != "effect"]
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found.sum(), used))


def test_channels_may_have_their_own_shapes_and_order() -> None:
    adstock = {"default": "geometric", "search": "none", "mail": "delayed"}
    saturation = {"default": "hill", "mail": "michaelis_menten"}
    media = MediaCurves(CHANNELS, adstock, saturation, {"default": False, "mail": True})
    theta = parameters(media)
    assert {n: where for n, (_, where) in media.default_priors().items()} == {
        "half_life": [0, 2], "delay": [2], "half_saturation": [0, 1, 2], "slope": [0, 1]
    }  # fmt: skip
    found = media.columns(theta, history_of(), TAPS)
    for c, name in enumerate(CHANNELS):
        alone = MediaCurves((name,), adstock.get(name, "geometric"), saturation.get(name, "hill"), name == "mail")
        own = {k: v[:, [media.where[k].index(c)]] for k, v in theta.items() if k != "effect" and c in media.where[k]}
        expected = alone.columns(own | {"effect": theta["effect"]}, history_of()[..., [c]], TAPS)
        torch.testing.assert_close(found[:, :, c], expected[:, :, 0], rtol=0, atol=1e-12)


def test_media_of_before_the_first_period_count() -> None:
    panel = panel_case(drivers=False)
    model, data = built(panel)
    assert data.history.shape[1] == panel.num_periods + TAPS - 1
    scale = model.scales.media_scale.double()[:, None]
    before = torch.cat([torch.zeros(4, 1, 3).double(), torch.from_numpy(panel.lead_in).double()], 1)  # one is unknown
    torch.testing.assert_close(data.history[:, : TAPS - 1], before / scale)
    torch.testing.assert_close(data.history[:, TAPS - 1 :], torch.from_numpy(panel.media).double() / scale)
    theta = model.flat.constrain(points(model))
    without = data.history.clone()
    without[:, : TAPS - 1] = 0
    change = (model.media.columns(theta, data.history, TAPS) - model.media.columns(theta, without, TAPS)).abs()
    assert (change[..., : TAPS - 1] > 0).any()
    assert (change[..., TAPS - 1 :] == 0).all()


@pytest.mark.parametrize("taps", [1, 2, 5, 13])
def test_any_number_of_taps(taps: int) -> None:
    media = MediaCurves(CHANNELS, "geometric", "hill", {"default": False, "tv": True})
    theta, history = parameters(media), normal(G, T + taps - 1, C, seed=9).abs()
    found = media.columns(theta, history, taps)
    kernel = kernels.geometric_kernel(0.5 ** (1 / theta["half_life"]), taps).unsqueeze(1)
    x = history.expand(N, -1, -1, -1)
    late = kernels.adstock(x[..., taps - 1 :, :], kernel, x[..., : taps - 1, :], "direct")
    late = reference_curve("hill", late, theta)
    x = reference_curve("hill", x, theta)
    early = kernels.adstock(x[..., taps - 1 :, :], kernel, x[..., : taps - 1, :], "direct")
    torch.testing.assert_close(found[:, :, 0], early[..., 0], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[:, :, 1:], late[..., 1:].mT, rtol=0, atol=1e-9)


def test_priors_in_media_units_move_with_the_usual_media() -> None:
    model, _ = built(panel_case(drivers=False), saturation={"default": "hill", "mail": "gamma_cdf"})
    usual = model.usual_media
    assert ((usual > 0) & (usual < 1)).all()
    sites = {s.name: s for s in model.flat.sites}
    torch.testing.assert_close(sites["half_saturation"].first, usual[:2])  # median 1 of the usual media
    torch.testing.assert_close(sites["rate"].first, 1 / usual[2:])
    torch.testing.assert_close(sites["slope"].first, torch.full((2,), 1.1).double())


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match=r"model.net.adstock='weibul' \(channel tv\): choose from none, geometric"):
        MediaCurves(CHANNELS, "weibul", "hill", False)
    with pytest.raises(UserError, match=r"model.net.saturation: radio is no channel; there are tv, search, mail"):
        MediaCurves(CHANNELS, "none", {"default": "hill", "radio": "none"}, False)
    with pytest.raises(UserError, match=r"model.net.saturation=None \(channel search\)"):
        MediaCurves(CHANNELS, "none", {"tv": "hill"}, False)
    with pytest.raises(UserError, match="saturate_first: radio is no channel"):
        MediaCurves(CHANNELS, "none", "hill", {"radio": True})


def test_contacts_count_by_their_frequency() -> None:
    """Meridian's reach x Hill(frequency), adstocked, up to the worth of a contact at the usual frequency."""
    panel = panel_case(drivers=False, frequency=True)
    model, data = built(panel, frequency="hill", saturation={"default": "hill", "tv": "none"})
    assert model.media.by_frequency == [0]  # the others are not given as reach and frequency
    learnt = some_rows(panel)
    window = slice(0, np.flatnonzero(learnt.any(0))[-1] + 1)
    on = panel.media[:, window, 0] > 0
    usual = panel.contact_frequency[:, window, 0][on].mean()
    assert float(model.usual_frequency) == pytest.approx(usual, rel=1e-6)
    theta = model.flat.constrain(points(model))
    found = model.media.columns(theta, data.history, TAPS, frequency=data.frequency)[:, :, 0]  # [N, G, T]
    half, slope = (theta[f"frequency_{k}"].reshape(-1, 1, 1) for k in ("half", "slope"))
    reach = data.history[..., 0] / data.frequency[..., 0]
    per_contact = curves.hill(torch.tensor(usual).double(), half, slope) / usual
    effective = (reach * curves.hill(data.frequency[..., 0], half, slope) / per_contact).unsqueeze(-1)
    kernel = model.media.kernel(theta, TAPS)[:, :1].unsqueeze(1)
    expected = kernels.adstock(effective[:, :, TAPS - 1 :], kernel, effective[:, :, : TAPS - 1], "direct")[..., 0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    u = points(model).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(u, data).sum(), u)
    assert torch.isfinite(gradient).all()
    by_name = model.flat.split(gradient)
    assert (by_name["frequency_half"] != 0).all()
    assert (by_name["frequency_slope"] != 0).all()


def test_a_frequency_nobody_gave() -> None:
    with pytest.raises(UserError, match=r"channel search.*data\.roles\.media\.search"):
        built(panel_case(frequency=True), frequency={"search": "hill"})
    with pytest.raises(UserError, match="choose from contacts, hill"):
        built(panel_case(frequency=True), frequency="beta")
    model, data = built(panel_case())  # "hill", of no channel here
    assert model.media.by_frequency == []
    assert data.frequency.shape[-1] == 0
