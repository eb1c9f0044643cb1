"""Least squares beside the Bayesian model."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from tests.unit.decisions.mix_example import example
from tests.unit.decisions.posterior_example import carried, fitted_mix, sales, spends

from wanamaker.decisions.frequentist import _STRENGTHS, _solve, compare_with_least_squares, ridge_strength
from wanamaker.predictions import MixPredictions


@pytest.fixture(scope="module")
def mix() -> MixPredictions:
    return fitted_mix(prior_sd=5.0)


def test_least_squares_with_the_true_curves_agrees_with_a_flat_prior(mix: MixPredictions) -> None:
    frame = compare_with_least_squares(mix).contributions
    ours = frame[frame["method"] == "Bayesian"].set_index("channel")
    theirs = frame[frame["method"] == "OLS, fitted curves"].set_index("channel")
    np.testing.assert_allclose(theirs["contribution"], ours["contribution"], rtol=0.03)
    width = (theirs["high_90"] - theirs["low_90"]) / (ours["high_90"] - ours["low_90"])
    np.testing.assert_allclose(width, 1, atol=0.15)
    raw = frame[frame["method"] == "OLS, raw media"].set_index("channel")
    assert (raw["contribution"] < 0.6 * ours["contribution"]).all(), "without saturation much goes to the intercept"


def test_ordinary_least_squares_is_that_of_scikit_learn() -> None:
    """One series, media as they are: every number can be had from a regression written out by hand."""
    spend = spends(geos=1)
    mix = fitted_mix(spend, sales(spend))
    frame = compare_with_least_squares(mix).contributions
    T = 110
    angle = 2 * np.pi * 7 * np.arange(T) / 365.25
    columns = [np.arange(T) / (T - 1), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))]
    media = mix.media / mix.response.media_scale
    x, train = np.column_stack([*columns, media]), np.arange(T) < 94
    fit = LinearRegression().fit(x[train], mix.kpi[train])
    expected = fit.coef_[5:] * media[train].sum(axis=0)
    raw = frame[frame["method"] == "OLS, raw media"]
    np.testing.assert_allclose(raw["contribution"], expected, rtol=1e-6)
    residual = mix.kpi[train] - fit.predict(x[train])
    whole = np.column_stack([np.ones(94), x[train]])
    covariance = np.linalg.inv(whole.T @ whole) * (residual @ residual / (94 - 10))
    reach = 1.66320 * np.sqrt(np.diag(covariance))[6:] * media[train].sum(axis=0)  # t with 84 degrees of freedom
    np.testing.assert_allclose(raw["high_90"] - raw["contribution"], reach, rtol=1e-4)


def test_ridge_is_that_of_scikit_learn_and_its_strength_looks_forward_only() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    y = x @ np.array([1.0, 0, 0, 2, 0]) + rng.standard_normal(60)
    np.testing.assert_allclose(
        _solve(x.T @ x, x.T @ y, 7.0), Ridge(alpha=7.0, fit_intercept=False).fit(x, y).coef_, rtol=1e-8
    )
    gram, moment = np.einsum("tp,tq->tpq", x, x), x * y[:, None]
    chosen = ridge_strength(gram, moment, np.ones(60, int))
    noise = ridge_strength(gram, x * rng.standard_normal(60)[:, None], np.ones(60, int))
    assert chosen < 0.3 < noise
    assert noise <= _STRENGTHS[-1]


def test_intervals_of_ridge_cover() -> None:
    inside = []
    for seed in range(8):
        spend = spends(seed, geos=3)
        mix = fitted_mix(spend, sales(spend, seed), seed=seed)
        frame = compare_with_least_squares(mix, bootstrap=150).contributions
        ridge = frame[frame["method"] == "ridge, fitted curves"]
        level = 20_000 * np.linspace(0.7, 1.5, 3)
        truth = (0.2 * carried(spend)[0][:, :94] * level[:, None, None]).sum(axis=(0, 1))
        inside += ((ridge["low_90"] <= truth) & (truth <= ridge["high_90"])).tolist()
    assert np.mean(inside) > 0.6


def test_scores_by_split(mix: MixPredictions) -> None:
    scores = compare_with_least_squares(mix).scores.set_index(["method", "split"])
    train = mix.split == 0
    mean = mix.draws.mean(axis=0)
    error, y = (mix.kpi - mean)[~train], mix.kpi[~train]
    row = scores.loc[("Bayesian", "held out")]
    assert row["rows"] == 64
    assert row["r2"] == pytest.approx(1 - (error**2).sum() / ((y - y.mean()) ** 2).sum())
    assert row["mape"] == pytest.approx(np.mean(np.abs(error) / y))
    assert scores.loc[("OLS, fitted curves", "train"), "r2"] > scores.loc[("OLS, raw media", "train"), "r2"]
    assert len(scores) == 10


def test_held_out_rows_do_not_enter(mix: MixPredictions) -> None:
    changed = replace(mix, kpi=np.where(mix.split == 0, mix.kpi, 5 * mix.kpi))
    before, after = (compare_with_least_squares(m).contributions for m in (mix, changed))
    np.testing.assert_allclose(before["contribution"], after["contribution"])
    np.testing.assert_allclose(before["low_90"], after["low_90"])


def test_log_link_has_scores_and_says_why_no_contributions() -> None:
    result = compare_with_least_squares(fitted_mix(link="log"))
    assert len(result.contributions) == 0
    assert "log link" in result.notes[-1]
    assert (result.scores["r2"] > 0.9).all()


def test_too_few_rows_and_media_that_stand_still() -> None:
    result = compare_with_least_squares(fitted_mix(spends(geos=1, periods=20, channels=8), held_out=8))
    assert any("OLS, raw media: 13 columns cannot be told apart by 12 rows" in note for note in result.notes)
    spend = spends(0)
    spend[:, :, 1] = 400.0
    frame = compare_with_least_squares(fitted_mix(spend)).contributions
    still = frame[(frame["method"] == "OLS, raw media") & (frame["channel"] == "Search")].iloc[0]
    assert np.isnan(still["contribution"])


def test_prices_and_promotions_are_columns() -> None:
    """A model without a posterior can be compared as well, and its drivers explain what media do not."""
    result = compare_with_least_squares(example(spread=0.0, periods=120))
    scores = result.scores.set_index(["method", "split"])["r2"]
    assert scores["OLS, fitted curves", "held out"] > 0.95
    assert set(result.contributions["channel"]) == {"TV", "Search", "Social"}
