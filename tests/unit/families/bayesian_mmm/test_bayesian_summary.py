"""What a fit says beyond its curves: all draws of parameters and estimands, the prior's, replicated data.

Axis letters: S draws, G series, T periods, C channels, P fixed columns, Q all columns.
"""

import functools
import math

import numpy as np
import pytest
import torch
from mix_case import built, panel_case, points, some_rows

from wanamaker.families.bayesian_mmm.fit import STATS, PosteriorFit
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.posterior_draws import draw_all, estimands, prior_coefficients
from wanamaker.families.bayesian_mmm.posterior_summary import posterior_of
from wanamaker.predictions import MixPosterior

CHAINS, DRAWS = 3, 40


def finished(**options) -> tuple[PosteriorFit, object]:
    """A fit whose chains were written by hand."""
    model, data = built(panel_case(), **options)
    fit = PosteriorFit(model, Inference(engine="hmc", chains=CHAINS, draws=DRAWS)).allocate()
    fit.chain_draws = points(model, CHAINS * DRAWS, spread=0.2).unflatten(0, (CHAINS, DRAWS))
    fit.stats = {name: torch.zeros(CHAINS, DRAWS, dtype=torch.float64) for name in STATS}
    fit.stats["diverging"][1, 3] = 1.0
    fit.progress = fit.total_steps
    return fit, data


@functools.cache
def made() -> tuple[PosteriorFit, object, MixPosterior]:
    fit, data = finished()
    panel = panel_case()
    return fit, data, posterior_of(fit, data, panel, some_rows(panel), (12.0, 30.0))


def test_every_draw_is_there_once() -> None:
    fit, data, found = made()
    assert (found.engine, found.finished, found.seconds, found.cpu_seconds) == ("hmc", True, 12.0, 30.0)
    theta = fit.model.flat.constrain(fit.chain_draws)
    for name in ("half_life", "half_saturation", "slope", "effect", "media_spread"):
        np.testing.assert_allclose(found.parameters[name], theta[name].numpy())
        assert found.dims[name] == ("channel",)
    np.testing.assert_allclose(found.parameters["noise"], theta["noise"][..., 0].numpy())
    assert found.dims["noise"] == ()
    u = fit.chain_draws.flatten(0, 1)
    own, _ = draw_all(fit.model, u, data, fit.options.seed, fit.chunk(data))
    for name, value in estimands(fit.model, u, own, data, 50).items():
        given = found.parameters[name].reshape(CHAINS * DRAWS, -1)
        np.testing.assert_allclose(given, value.numpy(), equal_nan=True)
    assert found.parameters["baseline_share"].shape == (CHAINS, DRAWS)
    assert np.isnan(found.parameters["roi"][..., 2]).all()
    assert found.stats["diverging"].dtype == bool
    assert found.stats["diverging"].sum() == 1
    assert found.log_likelihood.shape == (CHAINS, DRAWS, 4)
    for name, axes in found.dims.items():
        shape = tuple(len(found.coords[axis]) for axis in axes)
        assert found.parameters[name].shape == (CHAINS, DRAWS, *shape)
        assert found.prior[name].shape == (500, *shape)


def test_prior_of_the_contributions_is_what_was_asked_for() -> None:
    fit, _, found = made()
    effect = next(s for s in fit.model.flat.sites if s.name == "effect")
    total = np.median(found.prior["contribution"], axis=0) / found.kpi_sum
    np.testing.assert_allclose(total, effect.first.numpy(), rtol=0.25)  # pooled series differ, and 500 draws
    np.testing.assert_allclose(np.median(found.prior["effect"], axis=0), effect.first.numpy(), rtol=0.2)


def test_coefficients_of_the_prior_have_its_spread() -> None:
    fit, data, _ = made()
    model, S = fit.model, 3000
    u = points(model, 1).expand(S, -1)
    found = prior_coefficients(model, u, data, seed=3)
    theta = model.flat.constrain(u[:1])
    pieces = model.pieces(theta, data)
    P = len(model.columns.fixed)
    sd = torch.cat([model.shared_sd, torch.zeros(model.num_known)])
    category = model.shared(theta, pieces.effect, data).sd[0, P:]
    expected = (sd.square() + category.square() + pieces.spread[0].square()).sqrt()
    torch.testing.assert_close(found.std(0), expected.expand(4, -1), rtol=0.08, atol=0)
    mean = torch.cat([torch.zeros(P), pieces.effect[0]])
    assert ((found.mean(0) - mean).abs() < 4.5 * expected / S**0.5).all()


def test_replicates_are_data_like_the_observed() -> None:
    _, data, found = made()
    G, T = data.y.shape
    assert found.replicated.shape[1:] == (G, T)
    assert len(found.replicated) == len(found.replicated_draw) == CHAINS * DRAWS
    assert np.array_equal(np.sort(found.replicated_draw), np.arange(CHAINS * DRAWS))
    assert found.prior_replicated.shape == (100, G, T)
    panel = panel_case()
    np.testing.assert_array_equal(found.observed, panel.kpi.astype(np.float64))
    np.testing.assert_array_equal(found.train, some_rows(panel))
    # exact draws of the coefficients follow the data whatever the parameters are
    level = found.replicated.mean((0, 2)) / np.where(found.train, found.observed, np.nan).mean(1, where=found.train)
    np.testing.assert_allclose(level, 1.0, atol=0.1)


def test_a_guide_has_one_chain_and_no_statistics() -> None:
    fit, data = finished(collapse="none")
    fit.options = Inference(engine="svi", mode_steps=1, svi_steps=1)
    fit.chain_draws, fit.guide_draws, fit.progress, fit.khat = None, points(fit.model, 30), 2, 0.4
    panel = panel_case()
    found = posterior_of(fit, data, panel, some_rows(panel), (1.0, 1.0))
    assert (found.engine, found.khat, found.stats) == ("svi", 0.4, {})
    assert found.parameters["noise"].shape == (1, 30)
    assert "deviation" not in found.parameters
    fit.progress = 1
    early = posterior_of(fit, data, panel, some_rows(panel), (1.0, 1.0))
    assert not early.finished
    assert math.isnan(early.khat)


@pytest.mark.parametrize("collapse", ["all", "series"])
def test_exact_draws_scatter_about_their_mean(collapse: str) -> None:
    model, data = built(panel_case(), collapse=collapse)
    u = points(model, 1).expand(2000, -1)
    mean, _ = draw_all(model, u[:1], data, None, 10)
    draws, common = draw_all(model, u, data, 5, 2000)
    again, _ = draw_all(model, u, data, 5, 2000)
    assert torch.equal(draws, again)
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - mean[0]).abs() < 4.5 * error + 1e-9).all()
    assert (common.std(0) > 0).any() == (collapse == "all")
