"""What a prior of an effect is about is exactly what the fitted effect then is.

Axis letters: N draws, G series, C channels, P fixed columns, Q all columns.
"""

import numpy as np
import pytest
import torch
from mix_case import built, panel_case, points
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.checks import check_shares
from wanamaker.families.bayesian_mmm.effects import MEDIA_SHARE, effect_prior
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.posterior_draws import estimands

MAIL = ["lognormal", 0.05, 0.5]


def shared_coefficients(model: MixModel, effect: Tensor, series: int) -> Tensor:
    """[N, G, Q] of series that do not differ."""
    P = len(model.columns.fixed)
    return torch.cat([effect.new_zeros(len(effect), P), effect], -1).unsqueeze(1).expand(-1, series, -1)


@pytest.mark.parametrize("saturate_first", [False, True])
@pytest.mark.parametrize("kind", ["contribution", "roi", "mroi"])
def test_the_estimand_is_the_parameter(kind: str, saturate_first: bool) -> None:
    panel = panel_case()
    model, data = built(panel, effect={"kind": kind}, saturate_first=saturate_first)
    u = points(model)
    theta = model.flat.constrain(u)
    pieces = model.pieces(theta, data)
    found = estimands(model, u, shared_coefficients(model, pieces.effect, 4), data, chunk=2)
    C = len(panel.schema.media)
    share = found["contribution"] / model.kpi_sum
    value = share if kind == "contribution" else torch.where(torch.tensor(panel.schema.paid), found[kind], share)
    torch.testing.assert_close(value, theta["effect"], rtol=1e-12, atol=0)  # organic: always a contribution
    # by hand: KPI units over the rows learnt from, and money
    total = (pieces.columns[:, :, :C] * pieces.effect[:, None, :C, None] * data.weight[:, None]).sum((1, 3))
    torch.testing.assert_close(found["contribution"], total, rtol=1e-12, atol=0)
    learnt = data.mask.numpy() > 0
    assert float(model.kpi_sum) == pytest.approx(float(panel.kpi[learnt].sum(dtype=np.float64)), rel=1e-12)
    spend = torch.from_numpy(panel.spend.astype(np.float64)[learnt].sum(0))
    paid = torch.tensor(panel.schema.paid)
    roi = (total * panel.schema.kpi_value / spend)[:, paid]
    torch.testing.assert_close(found["roi"][:, paid], roi, rtol=1e-12, atol=0)
    assert torch.isnan(found["roi"][:, ~paid]).all()
    assert torch.isnan(found["mroi"][:, ~paid]).all()
    torch.testing.assert_close(found["baseline_share"][:, 0], 1 - total.sum(-1) / model.kpi_sum)


def test_marginal_return_is_the_slope() -> None:
    model, data = built(panel_case(organic=False), effect={"kind": "mroi"})
    u = points(model)
    theta = model.flat.constrain(u)
    effect = model.pieces(theta, data).effect[:, :2]
    history = data.history.clone().requires_grad_()
    for n in range(len(u)):
        one = {name: value[n : n + 1] for name, value in theta.items()}
        kpi = (model.media.columns(one, history, model.taps)[0] * effect[n, :, None] * data.weight[:, None]).sum((0, 2))
        for c in range(2):
            (slope,) = torch.autograd.grad(kpi[c], history, retain_graph=True)
            marginal = (slope * history).sum() * model.schema.kpi_value / model.spend_sum[c]
            assert marginal.item() == pytest.approx(float(theta["effect"][n, c]), rel=0.02)


def test_coefficients_are_taken_as_they_are() -> None:
    model, data = built(panel_case(), effect={"kind": "coefficient"})
    theta = model.flat.constrain(points(model))
    torch.testing.assert_close(model.pieces(theta, data).effect[:, :3], theta["effect"])


def test_totals_of_a_log_link_are_of_first_order() -> None:
    model, data = built(panel_case(drivers=False), link="log")
    u = points(model)
    u[:, model.flat.names({}).index("effect[0]") :] -= 6.0  # small effects: first order is all there is
    theta = model.flat.constrain(u)
    found = estimands(model, u, shared_coefficients(model, model.pieces(theta, data).effect, 4), data, chunk=8)
    torch.testing.assert_close(found["contribution"] / model.kpi_sum, theta["effect"], rtol=0.02, atol=0)


def test_a_part_of_the_series_stands_for_all() -> None:
    model, data = built(panel_case(series=6))
    theta = model.flat.constrain(points(model))
    whole = model.pieces(theta, data).effect
    torch.testing.assert_close(model.pieces(theta, data.select(torch.tensor([4, 1])), data).effect, whole)
    base = data.select(torch.tensor([0, 2, 5]))
    model.base_factor = 2.0
    some = model.pieces(theta, data.select(torch.tensor([3])), base).effect
    torch.testing.assert_close(some[:, 3:], whole[:, 3:])  # drivers have no totals
    torch.testing.assert_close(some, whole, rtol=0.5, atol=0)


def test_medians_follow_the_money() -> None:
    panel = panel_case()
    model, _ = built(panel, effect={"spend_informed": True})
    median = next(s for s in model.flat.sites if s.name == "effect").first
    spend = model.spend_sum
    assert float(median[0] / median[1]) == pytest.approx(float(spend[0] / spend[1]), rel=1e-9)
    assert float(median[2]) == pytest.approx(MEDIA_SHARE / 3)  # organic: an equal part
    assert float(median.sum()) == pytest.approx(MEDIA_SHARE)
    model, _ = built(panel)
    median = next(s for s in model.flat.sites if s.name == "effect").first
    torch.testing.assert_close(median, torch.full((3,), MEDIA_SHARE / 3).double())


def test_priors_by_channel() -> None:
    given = {"default": ["lognormal", 0.1, 1.0], "search": ["lognormal", 0.3, 0.2]}
    model, _ = built(panel_case(), effect={"prior": given})
    found = next(s for s in model.flat.sites if s.name == "effect")
    assert found.first.tolist() == [0.1, 0.3, 0.1]
    assert found.second.tolist() == [1.0, 0.2, 1.0]


def test_organic_channels_have_a_contribution_beside_returns() -> None:
    model, _ = built(panel_case(), effect={"kind": "roi"})
    found = next(s for s in model.flat.sites if s.name == "effect")
    assert found.first.tolist() == [1.2, 1.2, pytest.approx(MEDIA_SHARE / 3)]
    model, _ = built(panel_case(), effect={"kind": "mroi", "prior": {"default": ["lognormal", 2, 1], "mail": MAIL}})
    found = next(s for s in model.flat.sites if s.name == "effect")
    assert found.first.tolist() == [2, 2, MAIL[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "roas"}, "model.net.effect.kind='roas': choose from contribution, roi, mroi, coefficient"),
        ({"kid": "roi"}, "model.net.effect: unknown kid; there are kind, prior, spend_informed"),
        ({"spend_informed": "yes"}, "model.net.effect.spend_informed='yes': give true or false"),
    ],
)
def test_mistakes_are_told(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        effect_prior(options, panel_case().schema)


def test_a_prior_of_an_unknown_channel_is_told() -> None:
    with pytest.raises(UserError, match=r"model.net.effect.prior: radio is none of tv, search, mail"):
        MixModel(effect={"prior": {"default": ["lognormal", 1, 1], "radio": ["lognormal", 1, 1]}}).build(
            panel_case().schema
        )


def test_a_share_above_all_of_the_kpi_is_told() -> None:
    high = {"default": ["lognormal", 0.1, 1.0], "search": ["lognormal", 30.0, 0.5]}
    model, _ = built(panel_case(), effect={"prior": high})
    with pytest.raises(UserError, match=r"median of search is 30, .* Write 0\.3 for 30 %"):
        check_shares(model)
    for options in ({"kind": "roi", "prior": ["lognormal", 30.0, 0.5]}, {"kind": "coefficient", "prior": high}, {}):
        check_shares(built(panel_case(), effect=options)[0])
