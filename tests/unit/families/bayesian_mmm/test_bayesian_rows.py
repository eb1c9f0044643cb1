"""Rows that bring their own history say what the density says, and so does what decisions read.

Axis letters: S draws, B rows, G series, T periods, C channels, D drivers, K parts, P fixed columns, Q all columns.
"""

import numpy as np
import pytest
import torch
from mix_case import TAPS, batch_of, built, normal, panel_case, points, some_rows

from wanamaker.decisions.response import ResponseSurface, driver_parts, plan_window, window_kpi
from wanamaker.families.bayesian_mmm.export import predictions_of, response_of
from wanamaker.families.bayesian_mmm.row_likelihoods import row_log_density
from wanamaker.families.bayesian_mmm.rows import mean_shift, part_names, row_parts, row_predictive, series_noise
from wanamaker.predictions import MixPredictions

OPTIONS = [
    {},
    {"link": "log"},
    {"saturate_first": True, "adstock": "delayed"},
    {"saturate_first": {"default": False, "mail": True}, "saturation": {"default": "hill", "tv": "gamma_cdf"}},
    {"link": "log", "likelihood": "student_t", "noise_by_size": True},
    {"link": "log", "likelihood": "negative_binomial"},
    {"media_scale": "global_max", "pooling": False},
    {"frequency": "hill", "adstock": "delayed"},
    {"frequency": {"tv": "contacts"}},
    {"frequency": {"tv": "hill"}, "saturation": {"default": "hill", "tv": "none"}, "link": "log"},
    {"frequency": "hill", "saturate_first": {"default": False, "tv": True}},
]


def names(options: dict) -> str:
    return " ".join(map(str, options.values())) or "default"


def case(options: dict, draws: int = 3):
    panel = panel_case(counts=options.get("likelihood") == "negative_binomial", frequency="frequency" in options)
    model, data = built(panel, **options)
    coefficients = 0.2 * normal(draws, 4, model.num_columns, seed=5)
    P = len(model.columns.fixed)
    coefficients[..., P:] = coefficients[..., P:].abs() + 0.05  # a curve never falls
    return panel, model, data, points(model, draws, spread=0.3), coefficients


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_parts_of_rows_sum_to_the_linear_predictor(options: dict) -> None:
    panel, model, data, u, coefficients = case(options)
    pieces = model.pieces(model.flat.constrain(u), data)
    expected = model.linear_predictor(pieces, coefficients, data)  # [S, G, T]
    found = row_parts(model, u, coefficients, batch_of(panel))
    torch.testing.assert_close(found.eta.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.parts.sum(-1), found.eta)
    if options.get("likelihood") != "negative_binomial":
        torch.testing.assert_close(found.sigma.reshape(expected.shape)[..., 0], pieces.sigma)


def test_every_part_is_its_own() -> None:
    panel, model, data, u, coefficients = case({})
    names, kinds = part_names(model)
    assert names == ("baseline", "trend", "season", "weather", "delivery", "discount", "display", "own", "rival",
                     "tv", "search", "mail")  # fmt: skip
    assert kinds[-3:] == ("media",) * 3
    found = row_parts(model, u, coefficients, batch_of(panel)).parts.reshape(3, 4, -1, len(names))
    columns, P = model.columns, len(model.columns.fixed)
    assert columns.fixed == ("intercept", "years", "sin", "cos", "weather", "display", "rival")
    assert columns.driver == ("delivery", "discount", "own")
    assert columns.driver_sign == (-1, 1, -1)
    fixed = data.fixed * coefficients[:, :, None, :P]
    for name, part in zip(names, found.unbind(-1), strict=True):
        if name in columns.driver:
            d = columns.driver.index(name)
            value = data.driver[..., d] * coefficients[:, :, None, P + 3 + d]
        elif name in panel.schema.media:
            c = panel.schema.media.index(name)
            value = model.pieces(model.flat.constrain(u), data).columns[:, :, c] * coefficients[:, :, None, P + c]
        else:
            members = {"baseline": ["intercept"], "trend": ["years"], "season": ["sin", "cos"]}.get(name, [name])
            value = sum(fixed[..., columns.fixed.index(m)] for m in members)
        torch.testing.assert_close(part, value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_density_of_rows_is_that_of_the_fit(options: dict) -> None:
    panel, model, data, u, coefficients = case(options)
    theta = model.flat.constrain(u)
    pieces = model.pieces(theta, data)
    expected = row_log_density(
        model.likelihood, model.linear_predictor(pieces, coefficients, data), pieces.sigma, theta, data
    )
    batch = batch_of(panel)
    found = row_predictive(model, u, row_parts(model, u, coefficients, batch), batch).reshape(expected.shape)
    if model.link == "log" and model.likelihood != "negative_binomial":
        found = found + data.y  # a density of the KPI, not of its logarithm
    learnt = torch.from_numpy(some_rows(panel))
    torch.testing.assert_close(found[:, learnt], expected[:, learnt], rtol=1e-4, atol=1e-4)


def predicted(options: dict) -> tuple[MixPredictions, object]:
    panel, model, _, u, coefficients = case(options)
    response = response_of(model, u, coefficients, TAPS)
    batch = batch_of(panel)
    order = torch.randperm(len(batch.row), generator=torch.Generator().manual_seed(0))
    shuffled = type(batch)(*(value[order] for value in batch))
    split = np.zeros(panel.kpi.shape, dtype=np.int8)
    return predictions_of(model, u, coefficients, shuffled, panel, split, response, None), (panel, model, u)


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_decisions_compute_the_same_media_parts(options: dict) -> None:
    predictions, (panel, model, u) = predicted(options)
    assert np.array_equal(predictions.row, np.arange(panel.kpi.size))
    T = panel.num_periods
    window = plan_window(predictions, T, cost="period")
    found = ResponseSurface(predictions.response, window).parts(window.spend)[:, :, :T]  # [S, G, T, C]
    expected = predictions.parts[..., -3:].reshape(3, 4, T, 3)
    # relative to the largest part of the series
    scale = np.abs(expected).max(axis=2, keepdims=True)
    assert np.abs(found - expected).max(initial=0) > 0  # two computations, not one
    assert (np.abs(found - expected) <= 1e-3 * scale).all()
    np.testing.assert_allclose(found.sum(2), expected.sum(2), rtol=1e-3)
    drivers = driver_parts(predictions.response, window.driver)
    kinds = np.isin(predictions.part_kinds, ["promotion", "price"])
    assert predictions.response.drivers == ("discount", "display", "own", "rival")
    wanted = predictions.parts[..., kinds].reshape(3, 4, T, 4)
    np.testing.assert_allclose(drivers, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    # the mean of the KPI in its own units
    eta = row_parts(model, u, case(options)[4], batch_of(panel))
    mean = eta.eta + mean_shift(model, eta.sigma)
    mean = (mean.exp() if model.link == "log" else mean).reshape(3, 4, T) * model.scales.kpi_scale.double()[:, None]
    np.testing.assert_allclose(window_kpi(predictions.response, window)[:, :, :T], mean.numpy(), rtol=2e-3)


def test_noise_in_kpi_units() -> None:
    predictions, (_, model, u) = predicted(OPTIONS[4])
    theta = model.flat.constrain(u)
    dof, sigma = theta["dof"].clamp(min=2.1), series_noise(model, u)
    expected = sigma * model.scales.kpi_scale.double() * (dof / (dof - 2)).sqrt()
    np.testing.assert_allclose(predictions.response.noise_sd, expected.numpy())
    counts, (_, model, u) = predicted(OPTIONS[5])
    scale = model.scales.kpi_scale.double()
    variance = scale + model.flat.constrain(u)["dispersion"] * scale.square()
    np.testing.assert_allclose(counts.response.noise_sd, variance.sqrt().numpy())


def test_organic_channels_cost_nothing() -> None:
    predictions, (panel, *_) = predicted({})
    assert predictions.response.paid.tolist() == [True, True, False]
    assert (predictions.response.cost_per_media[:, 2] == 0).all()
    assert (predictions.spend[:, 2] == 0).all()
    assert (predictions.lead_in[:, 0] == 0).all()  # not in the file
    np.testing.assert_array_equal(predictions.lead_in[:, 1:], panel.lead_in)
