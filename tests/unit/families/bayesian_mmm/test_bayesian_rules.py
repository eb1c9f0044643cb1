"""The rules of stochastic variational inference under data-parallel training, one by one, as this family keeps them.

1 no global parameters; 2 parameters before data; 3 explicit minibatches; 4 a series keeps its own effects; 5 scaling;
6 no short batches; 7 random numbers; 8 no parameters of single ranks; 9 torch optimisers; 10 one lower bound for every
guide; 11 plain modules; 12 validation; 13 chunks; 14 two processes (test_bayesian_ranks.py).

Axis letters: N draws, D unconstrained numbers, G series, Q columns.
"""

import re
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from mix_case import built, normal, panel_case, points
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

from wanamaker.data.media_panel import MediaPanel
from wanamaker.data.series_sampler import SeriesBatchSampler
from wanamaker.families.bayesian_mmm.fit import PosteriorFit
from wanamaker.families.bayesian_mmm.guide import GaussianGuide
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import draw_all, estimands, series_likelihoods

RECIPES = sorted((Path(__file__).parents[4] / "configs" / "experiment").glob("bayesian_mmm*.yaml"))


@pytest.fixture(autouse=True)
def _clean_pyro():
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield


def fit_of(model: MixModel, **options) -> PosteriorFit:
    return PosteriorFit(
        model, Inference(**({"mode_steps": 1, "svi_steps": 1, "guide": "multivariate"} | options))
    ).allocate()


def test_rules_1_and_11_nothing_is_kept_in_pyro() -> None:
    model, data = built(panel_case(series=2, levels=False))
    fit = fit_of(model, particles=2)
    for fit.progress in (0, 1):
        fit.loss(data).backward()
    pyro.poutine.trace(model.pyro_model).get_trace(data)
    assert list(pyro.get_param_store().keys()) == []
    assert not any(isinstance(module, PyroModule) for module in fit.modules())
    assert isinstance(fit, nn.Module)
    assert all(isinstance(p, nn.Parameter) for p in fit.guide.parameters())


def test_rule_2_parameters_are_there_before_any_step() -> None:
    model, data = built(panel_case())
    fit = fit_of(model)
    shapes = {name: p.shape for name, p in fit.named_parameters()}
    assert shapes["guide.shift"] == (model.flat.dim,)
    fit.loss(data)
    assert {name: p.shape for name, p in fit.named_parameters()} == shapes
    other = PosteriorFit(MixModel().build(panel_case().schema), fit.options).allocate()
    with torch.no_grad():
        fit.guide.shift.add_(1.0)
    other.load_state_dict(fit.state_dict())
    other.model.adopt_scales(fit.state_dict(), "model.")
    assert torch.equal(other.guide.shift, fit.guide.shift)
    torch.testing.assert_close(other.model.flat.median(), model.flat.median(), rtol=0, atol=0)


@pytest.mark.parametrize("collapse", ["series", "none"])
def test_rule_3_a_batch_is_what_its_numbers_say(collapse: str) -> None:
    model, data = built(panel_case(series=6), collapse=collapse)
    theta = model.flat.constrain(points(model))
    whole = model.series_log_likelihood(theta, data)
    for batch in ([4, 1], [5], [0, 1, 2, 3, 4, 5], [3, 0, 5]):
        torch.manual_seed(len(batch))
        part = model.series_log_likelihood(theta, data.select(torch.tensor(batch)), data)
        torch.testing.assert_close(part, whole[:, batch])


def with_geo_effects(series: int = 24, periods: int = 60) -> tuple[MediaPanel, np.ndarray]:
    """A panel whose series respond to tv with factors of their own [G], and those factors."""
    panel = panel_case(series, periods, levels=False, drivers=False, organic=False)
    draw = np.random.default_rng(3)
    factor = 1 + 0.35 * draw.normal(size=series)
    size = np.linspace(1.0, 3.0, series)[:, None]
    tv, search = (panel.media[..., c] / panel.media[..., c].max(1, keepdims=True) for c in range(2))
    relative = 0.8 + 0.05 * draw.normal(size=(series, 1)) + 0.5 * factor[:, None] * tv + 0.2 * search
    panel.kpi[:] = 1000 * size * (relative + 0.01 * draw.normal(size=(series, periods)))
    return panel, factor


@pytest.mark.parametrize("collapse", ["series", "none"])
def test_rule_4_series_keep_their_effects_under_minibatches(collapse: str) -> None:
    panel, factor = with_geo_effects()
    learnt = np.ones(panel.kpi.shape, bool)
    shapes = {"adstock": "none", "saturation": "none", "collapse": collapse, "effect": {"kind": "coefficient"}}
    model, data = built(panel, learnt, taps=1, **shapes)
    steps = 300 if collapse == "series" else 600
    fit = fit_of(model, guide="normal", mode_steps=steps, svi_steps=1)
    optimizer = torch.optim.Adam(fit.guide.parameters(), lr=0.1, betas=(0.9, 0.99))
    sampler = SeriesBatchSampler(24, 8, passes=steps // 3)
    for batch in sampler:
        optimizer.zero_grad()
        fit.loss(data.select(torch.tensor(batch)), 24 / 8, data).backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * fit.learning_rate()
        optimizer.step()
        fit.progress += 1
    u = fit.guide.location().detach().unsqueeze(0)
    own, _ = draw_all(model, u, data, None, 8)
    P = len(model.columns.fixed)
    found = (own[0, :, P] * data.kpi_scale).numpy() / np.linspace(1.0, 3.0, 24)
    assert np.corrcoef(found, factor)[0, 1] > 0.99
    assert np.corrcoef(np.roll(found, 1), factor)[0, 1] < 0.5


@pytest.mark.parametrize("likelihood", ["normal", "student_t"])
@pytest.mark.parametrize("stage", ["mode", "svi"])
def test_rule_5_minibatch_gradients_average_to_the_whole(likelihood: str, stage: str) -> None:
    collapse = "series" if likelihood == "normal" else "none"
    model, data = built(panel_case(series=6), collapse=collapse, likelihood=likelihood)
    fit = fit_of(model, particles=2)
    fit.guide.anchor(points(model, 1)[0], 0.1 * torch.eye(model.flat.dim).double())
    fit.progress = ["mode", "svi"].index(stage)

    def gradient(batch: list[int], scale: float) -> tuple[Tensor, Tensor]:
        fit.guide.zero_grad()
        loss = fit.loss(data.select(torch.tensor(batch)), scale, data)
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in fit.guide.parameters()])

    whole = gradient([0, 1, 2, 3, 4, 5], 1.0)
    batches = [gradient(batch, 3.0) for batch in ([4, 1], [0, 5], [3, 2])]
    for k in range(2):
        mean = torch.stack([b[k] for b in batches]).mean(0)
        torch.testing.assert_close(mean, whole[k], rtol=1e-9, atol=1e-7)
    assert any((b[1] - whole[1]).abs().max() > 1.0 for b in batches)


def test_rule_6_batches_are_full_and_every_rank_has_as_many() -> None:
    ranks = [list(SeriesBatchSampler(7, 3, rank=r, world_size=2, passes=4)) for r in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 8
    for one, other in zip(*ranks, strict=True):
        assert len({*one, *other}) == len(one) + len(other) == 3


def test_rule_7_noise_is_a_function_of_seed_and_step() -> None:
    model, _ = built(panel_case(series=2, levels=False))
    first, second, third = fit_of(model, seed=3), fit_of(model, seed=3), fit_of(model, seed=4)
    torch.manual_seed(0)
    noise = first.noise(6)
    torch.manual_seed(1)
    assert torch.equal(noise, second.noise(6))
    assert torch.equal(noise[:3], -noise[3:])  # antithetic pairs
    second.progress = 1
    for other in (second.noise(6), third.noise(6), first.noise(6, stream=1)):
        assert (other != noise).all()
    first.loss(built(panel_case(series=2, levels=False))[1])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first.noise(6)
    model.flat.sample(3, torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(3), expected)  # the global generator is left alone


def test_rule_8_no_parameters_belong_to_a_rank() -> None:
    dims = {c: [built(panel_case(series=g), collapse=c)[0].flat.dim for g in (4, 8)] for c in ("all", "series", "none")}
    assert dims["all"][0] == dims["all"][1]
    assert dims["series"][0] == dims["series"][1]
    model, data = built(panel_case(series=8), collapse="none")
    assert dims["none"][1] - dims["none"][0] == 4 * model.num_columns
    # where deviations are parameters, all ranks hold them all, and a batch moves those of its own series only
    u = points(model, 1).requires_grad_()
    likelihood = model.log_likelihood(model.flat.constrain(u), data.select(torch.tensor([6, 2])), data)
    (gradient,) = torch.autograd.grad(likelihood.sum(), u)
    moved = model.flat.split(gradient)["deviation"].unflatten(-1, (8, -1))[0].abs().sum(-1) > 0
    assert torch.nonzero(moved).flatten().tolist() == [2, 6]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_rule_9_recipes_have_torch_optimisers(recipe: Path) -> None:
    text = recipe.read_text()
    assert "pyro.optim" not in text
    inherits = re.search(r"  - (/experiment/)?bayesian_mmm_", text)
    assert "_target_: torch.optim." in text or inherits


def test_rule_10_particles_may_be_vectorised() -> None:
    model, data = built(panel_case(series=2, levels=False))
    guide = GaussianGuide(model.flat.dim)
    guide.anchor(points(model, 1)[0], 0.1 * torch.eye(model.flat.dim).double())
    theirs = guide.to_pyro(model.pyro_model, data)
    bounds = []
    for vectorised in (False, True):
        pyro.set_rng_seed(2)
        bound = Trace_ELBO(num_particles=200, vectorize_particles=vectorised, max_plate_nesting=0)
        bounds.append(bound.loss(model.pyro_model, theirs, data))
    u = guide.draw(normal(4000, model.flat.dim))
    terms = guide.log_prob(u) - model.log_density(u, data)
    error = terms.std().item() / 200**0.5
    assert bounds == pytest.approx([float(terms.mean().detach())] * 2, abs=5 * error)


def test_rule_12_the_pyro_model_is_valid() -> None:
    for collapse in ("all", "none"):
        model, data = built(panel_case(), collapse=collapse)
        trace = pyro.poutine.trace(model.pyro_model).get_trace(data)
        trace.compute_log_prob()  # with validation on: supports and shapes
        assert {s.name for s in model.flat.sites} == set(trace.stochastic_nodes)
        assert trace.observation_nodes == ["kpi"]
        assert not any(hasattr(nn.Module(), name) for name in trace.stochastic_nodes)  # AutoNormal keeps them as such


def test_rule_13_reports_do_not_depend_on_chunks() -> None:
    model, data = built(panel_case())
    u = points(model, 12)
    whole, parts = (draw_all(model, u, data, None, chunk) for chunk in (100, 3))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-12)
    for one, other in zip(*(estimands(model, u, whole[0], data, c).values() for c in (100, 2)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0, equal_nan=True)
    one, other = (series_likelihoods(model, u, whole[1], data, c) for c in (100, 2))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    fit, little = fit_of(model), fit_of(model, chunk_bytes=2**20)
    assert little.chunk(data) < 12 < fit.chunk(data)
    for one, other in zip(fit.value_and_grad(data)(u), little.value_and_grad(data)(u), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)


def test_blocks_of_series_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = built(panel_case(series=6))
    u = points(model)
    whole = model.log_density(u, data)
    monkeypatch.setattr("wanamaker.families.bayesian_mmm.panel_tensors.BLOCK_BYTES", 1)
    fresh: PanelTensors = data.select(slice(None))
    assert len(fresh.blocks) == 6
    torch.testing.assert_close(model.log_density(u, fresh), whole, rtol=1e-12, atol=1e-9)
