"""Fits in process: cut and resumed bit by bit, planted effects found, and Pyro's own sampler agreeing.

Axis letters: S draws, G series, C channels, T periods, D unconstrained numbers.
"""

import functools
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from mix_case import TAPS, built, panel_case, points
from torch import Tensor

from wanamaker.data.media_panel import MediaPanel
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.fit import STATS, PosteriorFit
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.module import BayesianMixModule
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import draw_all, estimands


class Run:
    """The steps of the module, without a trainer."""

    def __init__(self, model: MixModel, data: PanelTensors, options: Inference) -> None:
        self.fit, self.data = PosteriorFit(model, options).allocate(), data
        self.optimizer = torch.optim.Adam(self.fit.guide.parameters(), lr=0.05, betas=(0.9, 0.99))

    def until(self, done: Callable[[PosteriorFit], bool]) -> PosteriorFit:
        fit, o = self.fit, self.fit.options
        while fit.stage != "done" and not done(fit):
            if fit.stage in ("mode", "svi"):
                self.optimizer.zero_grad()
                fit.loss(self.data).backward()
                for group in self.optimizer.param_groups:
                    group["lr"] = 0.05 * fit.learning_rate()
                self.optimizer.step()
            elif fit.stage == "hmc":
                fit.sample_step(self.data)
            else:
                fit.nuts(self.data)
            fit.progress += 1
            if fit.progress == o.mode_steps:
                fit.begin_svi(self.data)
                self.optimizer.state.clear()
            elif fit.progress == o.guide_steps:
                fit.finish_guide(self.data)
        return fit

    def finish(self) -> PosteriorFit:
        return self.until(lambda fit: False)


SHORT = Inference(
    engine="hmc", mode_steps=5, svi_steps=5, khat_draws=200, svi_draws=20, chains=4, warmup=10, draws=6, thin=2,
    particles=2,
)  # fmt: skip
ALL = SHORT.guide_steps + SHORT.warmup + SHORT.draws


@functools.cache
def small() -> tuple[MixModel, PanelTensors]:
    return built(panel_case(series=2, periods=30, levels=False, organic=False, drivers=False))


@functools.cache
def straight() -> PosteriorFit:
    return Run(*small(), SHORT).finish()


@pytest.mark.parametrize("cut", [2, 5, 7, 10, 14, 20, 23, ALL])
def test_a_cut_fit_goes_on_bit_by_bit(cut: int) -> None:
    first = Run(*small(), SHORT)
    first.until(lambda fit: fit.progress == cut)
    kept = {"guide": first.fit.guide.state_dict(), "adam": first.optimizer.state_dict(), "fit": first.fit.to_dict()}
    stream = io.BytesIO()
    torch.save(kept, stream)
    stream.seek(0)
    read = torch.load(stream, weights_only=True)
    second = Run(*small(), SHORT)
    second.fit.guide.load_state_dict(read["guide"])
    second.optimizer.load_state_dict(read["adam"])
    second.fit.from_dict(read["fit"])
    assert second.fit.stage == first.fit.stage
    assert torch.equal(second.fit.draws(), first.fit.draws())
    found, expected = second.finish(), straight()
    assert torch.equal(found.chain_draws, expected.chain_draws)
    assert torch.equal(found.guide_draws, expected.guide_draws)
    assert found.khat == expected.khat
    assert all(torch.equal(found.stats[name], expected.stats[name]) for name in STATS)


def test_stages_follow_each_other() -> None:
    fit = PosteriorFit(small()[0], SHORT).allocate()
    stages = []
    for fit.progress in range(ALL + 1):
        stages.append(fit.stage)
    assert stages == ["mode"] * 5 + ["svi"] * 5 + ["hmc"] * 16 + ["done"]
    assert fit.total_steps == ALL
    expected = straight()
    assert expected.engine == "hmc"
    assert expected.draws().shape == (4, 3, small()[0].flat.dim)
    assert torch.isfinite(expected.draws()).all()
    assert (expected.stats["n_steps"] >= 2).all()  # of two transitions, one kept
    flat, places = expected.some_draws(5)
    assert places.tolist() == [0, 3, 6, 8, 11] or len(set(places.tolist())) == 5
    assert torch.equal(flat, expected.draws().flatten(0, 1)[places])


@pytest.mark.parametrize("limit", [1e9, 1e-9])
def test_auto_keeps_the_guide_where_it_may(limit: float) -> None:
    options = replace(SHORT, engine="auto", khat_limit=limit)
    run = Run(*small(), options)
    fit = run.until(lambda fit: fit.progress == options.guide_steps)
    assert fit.stage == ("done" if limit > 1 else "hmc")
    assert fit.engine == "svi"
    assert fit.draws().shape == (1, 20, small()[0].flat.dim)


@pytest.mark.parametrize("change", [{"engine": "svi"}, {"engine": "auto", "khat_limit": 1e9}])
def test_chains_that_were_cut_short_are_no_draws(change: dict) -> None:
    """Whoever is content with the guide in the middle of the sampling gets the guide, and not what chains there are."""
    first = Run(*small(), SHORT)
    cut = first.until(lambda fit: fit.progress == ALL - 3)
    second = Run(*small(), replace(SHORT, **change)).fit
    second.from_dict(cut.to_dict())
    assert (second.stage, second.engine) == ("done", "svi")
    assert torch.equal(second.draws()[0], cut.guide_draws)


def test_a_checkpoint_of_another_model_is_told() -> None:
    fit = PosteriorFit(small()[0], SHORT).allocate()
    with pytest.raises(UserError, match=r"The checkpoint's posterior has 3 parameters, this model \d+"):
        fit.from_dict(fit.to_dict() | {"dim": 3})


def test_the_guide_becomes_the_posterior_by_importance() -> None:
    model, data = small()
    fit = Run(model, data, replace(SHORT, mode_steps=80, svi_steps=80, svi_draws=400, khat_draws=2000)).until(
        lambda fit: fit.progress == 160
    )
    assert fit.khat < 0.7
    # weights, not chance: a test function's mean under the resampled draws is that under the weights
    u = fit.guide.draw(fit.noise(2000, stream=1)).detach()
    with torch.no_grad():
        ratio = model.log_density(u, data) - fit.guide.log_prob(u)
    weights = ratio.softmax(0)
    mean = (weights[:, None] * u).sum(0)
    sd = (weights[:, None] * (u - mean).square()).sum(0).sqrt()
    assert ((fit.guide_draws.mean(0) - mean).abs() < 0.15 * sd).all()


# -- planted effects -----------------------------------------------------------------------------------------------


def planted(likelihood: str) -> tuple[MediaPanel, np.ndarray]:
    """One series with known effects and noise of the likelihood's own kind; the effects' totals [C], KPI units."""
    panel = panel_case(series=1, periods=110, levels=False, organic=False, drivers=False)
    draw = np.random.default_rng(7)
    T = panel.num_periods
    media = np.concatenate([np.zeros((2, 2)), panel.lead_in[0], panel.media[0]])[-(T + TAPS - 1) :]
    x = media / panel.media[0].max(0)
    kernel = 0.5 ** np.arange(TAPS)  # half-life 1
    x = sum(kernel[lag] / kernel.sum() * x[TAPS - 1 - lag : TAPS - 1 - lag + T] for lag in range(TAPS))
    saturated = x / (x + np.array([0.15, 0.3]))
    strength = np.array([0.6, 0.3])
    if likelihood == "student_t":
        level, totals = 1000.0, 1000.0 * (saturated * strength).sum(0)
        noise = 0.02 * draw.standard_t(3.0, T)
        noise[[20, 50, 80]] = [0.6, -0.5, 0.7]  # what a normal likelihood would chase
        panel.kpi[0] = level * (0.8 + saturated @ strength + noise)
        return panel, totals
    mean = 400.0 * np.exp(saturated @ strength)
    rate = mean * draw.gamma(1 / 0.001, 0.001, T)
    panel.kpi[0] = draw.poisson(rate)
    return panel, (mean[:, None] * -np.expm1(-saturated * strength)).sum(0)


@pytest.mark.parametrize("likelihood", ["student_t", "negative_binomial"])
def test_planted_effects_are_found(likelihood: str) -> None:
    panel, truth = planted(likelihood)
    link = "log" if likelihood == "negative_binomial" else "identity"
    learnt = np.ones(panel.kpi.shape, bool)
    model, data = built(panel, learnt, likelihood=likelihood, link=link, saturation="michaelis_menten")
    options = Inference(
        engine="svi", guide="multivariate", mode_steps=400, svi_steps=150, khat_draws=400, svi_draws=200
    )
    fit = Run(model, data, options).finish()
    u = fit.draws()[0]
    own, _ = draw_all(model, u, data, 0, 50)
    found = estimands(model, u, own, data, 50)["contribution"]
    low, high = found.quantile(0.01, 0).numpy(), found.quantile(0.99, 0).numpy()
    np.testing.assert_allclose(found.mean(0).numpy(), truth, rtol=0.3)
    assert ((low < truth) & (truth < high)).all()
    theta = model.flat.constrain(u)
    if likelihood == "student_t":
        assert float(theta["noise"].mean()) == pytest.approx(0.02, rel=0.5)
        assert float(theta["dof"].mean()) < 6
    else:
        assert float(theta["dispersion"].mean()) < 0.01


# -- Pyro's NUTS ---------------------------------------------------------------------------------------------------


def test_nuts_agrees_with_hmc() -> None:
    panel = panel_case(series=1, periods=60, levels=False, organic=False, drivers=False)
    model, data = built(panel, adstock="none", saturation="none", taps=1)
    base = Inference(
        guide="multivariate", mode_steps=80, svi_steps=40, khat_draws=400, chains=16, warmup=60, draws=60,
        nuts_chains=1, nuts_warmup=50, nuts_draws=200,
    )  # fmt: skip
    draws: dict[str, Tensor] = {}
    for engine in ("hmc", "nuts"):
        fit = Run(model, data, replace(base, engine=engine)).finish()
        assert fit.engine == engine
        assert set(fit.stats) == set(STATS)
        assert float(fit.stats["diverging"].mean()) < 0.02
        draws[engine] = fit.draws().flatten(0, 1)
    mean, sd = draws["hmc"].mean(0), draws["hmc"].std(0)
    assert ((draws["nuts"].mean(0) - mean).abs() < 0.2 * sd).all()
    torch.testing.assert_close(draws["nuts"].std(0), sd, rtol=0.25, atol=0)
    assert fit.total_steps == base.guide_steps + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "mcmc"}, "model.inference.engine='mcmc': choose from auto, svi, hmc, nuts"),
        ({"guide": "full"}, "model.inference.guide='full': choose from skewed"),
        ({"mode_steps": 0}, "model.inference.mode_steps=0: give a whole number of at least 1"),
        ({"svi_steps": 1.5}, "model.inference.svi_steps=1.5"),
        ({"particles": 3}, "model.inference.particles=3: give an even number"),
        ({"draws": 10, "thin": 3}, "model.inference.thin=3 does not divide draws=10"),
        ({"svi_rate": 0.0}, "model.inference.svi_rate=0.0: give a number above 0"),
        ({"khat_draws": 100}, "model.inference.khat_draws=100: give a whole number of at least 200"),
        ({"chains": 1}, "model.inference.chains=1"),
        ({"svi_rate": float("inf")}, "model.inference.svi_rate=inf: give a number above 0"),
        ({"khat_limit": "low"}, "model.inference.khat_limit='low': give a number above 0"),
        ({"nuts_draws": 3}, "model.inference.nuts_draws=3: give a whole number of at least 4"),
        ({"seed": -1}, "model.inference.seed=-1: give a whole number of at least 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_told(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Inference(**options)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), "1"])
def test_a_clip_that_would_stop_or_turn_the_guide(clip) -> None:
    with pytest.raises(UserError, match=r"model.gradient_clip=.*give a number above 0"):
        BayesianMixModule(MixModel(), torch.optim.Adam, gradient_clip=clip)


def test_draws_before_the_end() -> None:
    model, data = small()
    fit = PosteriorFit(model, SHORT).allocate()
    assert fit.draws().shape == (1, 4, model.flat.dim)
    torch.testing.assert_close(fit.draws()[0, 0], model.flat.median())
    fit.progress = 6
    assert fit.draws().shape == (1, 64, model.flat.dim)
    value, gradient = fit.value_and_grad(data)(points(model))
    assert value.shape == (3,)
    assert gradient.shape == (3, model.flat.dim)
