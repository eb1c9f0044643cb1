"""Lift tests in the likelihood: the exact joint density, the units, and the mistakes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.experiments import lift_means
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import draw_all

G, T, TAPS = 3, 40, 5
TEST = {
    "channel": "tv",
    "start": "2021-03-01",
    "end": "2021-03-28",
    "series": ["a", "c"],
    "factor": 0.0,
    "lift": 30.0,
    "interval": [20.0, 40.0],
}


def panel() -> MediaPanel:
    rng = np.random.default_rng(3)
    media = (rng.gamma(1.5, 10.0, (G, T, 2)) * (rng.random((G, T, 2)) < 0.7)).astype(np.float32)
    schema = PanelSchema(
        series=("a", "b", "c"), levels={}, kpi="sales", media=("tv", "search"), paid=(True, True), period="W-SUN",
        periods_per_year=52.18, season=("s1",), trend=("trend",),
    )  # fmt: skip
    kpi = 100 + 0.8 * media.sum(-1) + rng.normal(0, 5, (G, T))
    empty = np.zeros((G, T, 0), np.float32)
    return MediaPanel(
        schema=schema, dates=np.datetime64("2021-01-04") + 7 * np.arange(T), kpi=kpi.astype(np.float32), media=media,
        spend=media, lead_in=np.zeros((G, 0, 2), np.float32), price=empty, promotion=empty, control=empty,
    )  # fmt: skip


def built(*tests: dict[str, Any], **options: Any) -> tuple[MixModel, PanelTensors]:
    made = panel()
    model = MixModel(experiments=tests, **options).build(made.schema)
    learnt = np.ones((G, T), bool)
    learnt[:, -4:] = False
    model.fit_scales(made, learnt)
    season = np.sin(np.arange(T) / 8)[:, None]
    trend = np.linspace(-0.4, 0.4, T)[:, None]
    return model, model.tensors(made, season, trend, learnt, TAPS)


def theta_of(model: MixModel, count: int = 2) -> torch.Tensor:
    noise = torch.randn(count, model.flat.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return model.flat.median() + 0.2 * noise


@pytest.mark.parametrize("collapse", ["all", "series"])
def test_density_given_the_panel_is_that_of_the_coefficients_posterior(collapse: str) -> None:
    """Mean and covariance of two tests that share a series, against many exact draws of the coefficients."""
    one = TEST | {"lift": 110.0, "interval": [104.0, 116.0]}
    other = one | {"channel": "search", "series": ["c", "b"], "name": "two", "factor": 0.5}
    other |= {"lift": 32.0, "interval": [22.0, 42.0]}
    model, data = built(one, other, collapse=collapse)
    plain, plain_data = built(collapse=collapse)
    u = theta_of(model, 1)
    found = float(model.log_density(u, data) - plain.log_density(u, plain_data))
    many = u.expand(20_000, -1)
    own, _ = draw_all(plain, many, plain_data, seed=0, chunk=5000)  # given the panel alone
    theta = model.flat.constrain(u)
    lift, slopes = lift_means(model, theta, data, own[:1])
    gains = torch.einsum("egq,sgq->se", slopes[0], own)
    assert torch.allclose(gains[0], lift[0])
    tests = [bound.test for bound in model.bound_experiments]
    assert bool((gains.std(0) > 2).all()), "the coefficients' spread matters"
    noise = torch.diag(torch.tensor([t.se**2 for t in tests]))
    expected = torch.distributions.MultivariateNormal(gains.mean(0), torch.cov(gains.T) + noise)
    value = float(expected.log_prob(torch.tensor([t.lift for t in tests], dtype=torch.float64)))
    assert found == pytest.approx(value, abs=0.05)


@pytest.mark.parametrize("collapse", ["all", "series"])
def test_draws_agree_with_the_tests(collapse: str) -> None:
    """Coefficients given panel and tests, against reweighting those given the panel by the tests' likelihood."""
    one = TEST | {"lift": 118.0, "interval": [108.0, 128.0]}
    other = one | {"channel": "search", "series": ["c", "b"], "name": "two", "factor": 0.5}
    other |= {"lift": 30.0, "interval": [22.0, 42.0]}
    model, data = built(one, other, collapse=collapse)
    plain, plain_data = built(collapse=collapse)
    u = theta_of(model, 1)
    theta = model.flat.constrain(u)
    many = u.expand(40_000, -1)
    before, _ = draw_all(plain, many, plain_data, seed=0, chunk=5000)
    after, _ = draw_all(model, many, data, seed=1, chunk=5000)
    _, slopes = lift_means(model, theta, data, before[:1])
    gains = torch.einsum("egq,sgq->se", slopes[0], before)
    tests = [bound.test for bound in model.bound_experiments]
    gap = (gains - torch.tensor([t.lift for t in tests])) / torch.tensor([t.se for t in tests])
    weight = (-0.5 * gap.square().sum(-1)).softmax(0)
    expected = torch.einsum("s,se->e", weight, gains)
    found = torch.einsum("egq,sgq->se", slopes[0], after)
    spread = torch.einsum("s,se->e", weight, (gains - expected).square()).sqrt()
    assert torch.allclose(found.mean(0), expected, atol=float(0.06 * spread.max()))
    assert torch.allclose(found.std(0), spread, rtol=0.06)
    middle, _ = draw_all(model, u, data, seed=None, chunk=1)
    centre = torch.einsum("egq,sgq->se", slopes[0], middle)[0]
    assert torch.allclose(centre, found.mean(0), atol=float(0.05 * spread.max()))


def test_a_lift_is_what_the_media_would_take_with_them() -> None:
    """Units: the lift of switching off everything from the first period on is the total contribution."""
    from wanamaker.families.bayesian_mmm.posterior_draws import estimands

    test = TEST | {"start": "2021-01-04", "end": "2021-10-10", "series": None}
    model, data = built(test)
    u = theta_of(model)
    own, _ = draw_all(model, u, data, seed=0, chunk=8)
    gain, _ = lift_means(model, model.flat.constrain(u), data, own)
    everything = data.mask.clone().fill_(1.0)
    whole = replace(data, weight=everything * data.kpi_scale[:, None])
    total = estimands(model, u, own, whole, 8)["contribution"][:, 0]
    assert torch.allclose(gain[:, 0], total, rtol=1e-9)


def test_the_posterior_shows_the_lift_beside_the_measured_one() -> None:
    from wanamaker.families.bayesian_mmm.posterior_draws import lifts

    model, data = built(TEST)
    u = theta_of(model)
    own, _ = draw_all(model, u, data, seed=0, chunk=8)
    assert torch.equal(lifts(model, u, own, data, 1)["lift"], lift_means(model, model.flat.constrain(u), data, own)[0])
    plain, plain_data = built()
    assert lifts(plain, u, own, plain_data, 1) == {}


def test_log_link_counts_what_would_be_lost() -> None:
    model, data = built(TEST, link="log")
    u = theta_of(model)
    own, _ = draw_all(model, u, data, seed=0, chunk=8)
    theta = model.flat.constrain(u)
    gain, slopes = lift_means(model, theta, data, own)
    step = 1e-5 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0), dtype=own.dtype)
    moved, _ = lift_means(model, theta, data, own + step)
    assert torch.allclose(moved - gain, torch.einsum("negq,ngq->ne", slopes, step), rtol=1e-3, atol=1e-9)
    assert bool((gain > 0).all())
    assert bool(torch.isfinite(model.log_density(u, data)).all())


@pytest.mark.parametrize("collapse", ["all", "series", "none"])
def test_gradient_is_exact_and_a_test_moves_the_posterior(collapse: str) -> None:
    model, data = built(TEST, collapse=collapse)
    u = theta_of(model, 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: model.log_density(v, data), (u,), atol=1e-4)
    more, _ = built(TEST | {"lift": 3000.0, "interval": [2990.0, 3010.0]}, collapse=collapse)
    more_data = data
    more.bound_experiments = [
        bound.__class__(**{**bound.__dict__, "test": test})
        for bound, test in zip(model.bound_experiments, more.experiments, strict=True)
    ]
    place = model.flat.names({"channel": ("tv", "search")}).index("effect[tv]")
    slope = torch.autograd.grad(model.log_density(u, data).sum(), u)[0][0, place]
    steeper = torch.autograd.grad(more.log_density(u, more_data).sum(), u)[0][0, place]
    assert steeper > slope, "a large lift pulls the effect up"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channel": "radio"}, "radio"),
        ({"series": ["x"]}, "not in the panel"),
        ({"start": "2019-01-01", "end": "2019-02-01"}, "outside the panel"),
        ({"start": "2031-01-01", "end": "2031-02-01"}, "outside the panel"),
        ({"start": "2021-05-01", "end": "2021-04-01"}, "ascend"),
        ({"interval": [40.0, 50.0]}, "hold the lift"),
        ({"factor": None}, "factor"),
        ({"media": 5.0}, "not both"),
        ({"factor": 1.0}, "themselves"),
        ({"lift": None}, "lacks lift"),
        ({"start": "March"}, "no date"),
        ({"lifts": 3}, "unknown lifts"),
        ({"start": "2021-03"}, "'2021-03' is no date"),
        ({"end": "2031-02-01"}, "ends 2031-02-01, after the panel's last day"),
        ({"until": "2031-02-01"}, "counts KPI until 2031-02-01, after the panel's last day"),
        ({"series": "a"}, "write a list of series"),
        ({"series": []}, "write a list of series"),
        ({"series": ["a", "a"]}, "name each series once"),
        ({"factor": float("nan")}, "factor=nan: give a number"),
        ({"factor": "half"}, "factor='half': give a number"),
        ({"factor": None, "media": float("inf")}, "media=inf: give a number"),
        ({"factor": 2.0}, "the wrong sign"),
        ({"lift": float("nan")}, "lift=nan: give a number"),
        ({"interval": [1.0]}, "the two ends"),
        ({"interval": "wide"}, "the two ends"),
        ({"interval": [0.0, float("inf")]}, "interval=inf: give a number"),
        ({"level": 90}, "level=90: give the probability"),
        ({"level": 0}, "level=0: give the probability"),
    ],
)
def test_mistakes_are_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        built(TEST | change)


def test_two_tests_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="same name"):
        built(TEST, TEST)
