"""What the posterior predicts against what happened."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.decisions.posterior_example import fitted_mix, sales, spends

from wanamaker.decisions.predictive_checks import (
    coverage_table,
    discrepancy_table,
    leave_one_series_out,
    predictive_quantiles,
    prior_predictive_table,
    prior_words,
)
from wanamaker.predictions import MixPosterior


@pytest.fixture(scope="module")
def posterior() -> MixPosterior:
    return fitted_mix(spends(geos=6), organic=1).posterior


def test_intervals_hold_what_they_promise_for_every_number_of_replicates(posterior: MixPosterior) -> None:
    """New data from the same distribution lie inside as often as they should, with 20 replicates as with thousands."""
    rng = np.random.default_rng(0)
    for count in (20, 400):
        drawn = rng.standard_normal((count, 6, 110)).astype(np.float32)
        fresh = replace(
            posterior,
            replicated=drawn,
            replicated_draw=np.zeros(count, np.int64),
            observed=rng.standard_normal((6, 110)),
        )
        table = coverage_table(fresh).groupby("level")["inside"].mean()
        assert table[50] == pytest.approx(0.5, abs=0.06)
        assert table[90] == pytest.approx(0.9, abs=0.04)


def test_coverage_of_the_true_model(posterior: MixPosterior) -> None:
    table = coverage_table(posterior)
    assert table["split"].unique().tolist() == ["train", "held out"]
    assert table["rows"].tolist() == [564] * 4 + [96] * 4
    train = table[table["split"] == "train"].set_index("level")["inside"]
    for level in (50, 80, 90, 95):
        assert train[level] == pytest.approx(level / 100, abs=0.06)


def test_coverage_sees_intervals_that_are_too_narrow(posterior: MixPosterior) -> None:
    middle = posterior.replicated.mean(axis=0)
    narrow = replace(posterior, replicated=middle + 0.2 * (posterior.replicated - middle))
    table = coverage_table(narrow).set_index(["split", "level"])["inside"]
    assert table["train", 90] < 0.5


def test_quantiles_and_gaps(posterior: MixPosterior) -> None:
    low, high = predictive_quantiles(posterior, (90,))[90]
    assert low.shape == (6, 110)
    assert (low < high).all()
    gaps = replace(posterior, observed=np.where(np.arange(110) < 50, np.nan, posterior.observed))
    assert coverage_table(gaps)["rows"].tolist() == [264] * 4 + [96] * 4
    assert np.isfinite(discrepancy_table(gaps)["p_value"]).all()


def test_discrepancies_of_the_true_model_are_no_surprise(posterior: MixPosterior) -> None:
    table = discrepancy_table(posterior)
    assert len(table) == 4 * 7
    assert not table.loc[table["series"] == "all", "extreme"].any()
    row = table[(table["series"] == "geo 2") & (table["statistic"] == "mean")].iloc[0]
    assert row["observed"] == pytest.approx(posterior.observed[2][posterior.train[2]].mean())


def test_errors_that_follow_each_other_are_found() -> None:
    rng = np.random.default_rng(1)
    spend = spends(geos=6)
    wander = np.zeros((6, 110))
    for t in range(1, 110):
        wander[:, t] = 0.85 * wander[:, t - 1] + 0.03 * rng.standard_normal(6)
    table = discrepancy_table(fitted_mix(spend, sales(spend, demand=wander)).posterior)
    row = table[(table["series"] == "all") & table["statistic"].str.contains("autocorrelation")].iloc[0]
    assert row["observed"] > 0.3
    assert row["p_value"] == 0
    assert row["extreme"]


def test_a_fit_that_follows_its_data_closely_is_no_fault(posterior: MixPosterior) -> None:
    """Errors that alternate more than those of the replicates are what fitting leaves behind."""
    centre = posterior.replicated.mean(axis=0)
    flip = np.where(np.arange(110) % 2 == 0, 1.0, -1.0) * 0.03 * centre.mean()
    table = discrepancy_table(replace(posterior, observed=(centre + flip).astype(np.float64)))
    row = table[(table["series"] == "all") & table["statistic"].str.contains("autocorrelation")].iloc[0]
    assert row["p_value"] == 1
    assert not row["extreme"]


def test_leave_one_series_out(posterior: MixPosterior) -> None:
    result = leave_one_series_out(posterior)
    assert result.reason == ""
    assert result.series["series"].tolist() == list(posterior.series)
    assert result.elpd == pytest.approx(result.series["elpd"].sum())
    assert result.p_loo > 0
    assert 0 <= result.bad <= 6
    # A series that none of the draws expected costs more than the others.
    worse = posterior.log_likelihood.copy()
    worse[..., 3] -= 500 + 20 * np.random.default_rng(0).standard_normal(worse.shape[:2])
    odd = leave_one_series_out(replace(posterior, log_likelihood=worse))
    assert odd.series["elpd"].idxmin() == 3
    assert odd.series["pareto_k"].idxmax() == 3


def test_few_series_cannot_be_left_out() -> None:
    result = leave_one_series_out(fitted_mix(spends(geos=2)).posterior)
    assert "2 series are too few" in result.reason
    assert np.isnan(result.elpd)
    assert len(result.series) == 0


def test_the_prior_and_the_data(posterior: MixPosterior) -> None:
    table = prior_predictive_table(posterior)
    assert table["series"].tolist() == list(posterior.series)
    assert ((table["place"] > 0.01) & (table["place"] < 0.99)).all()
    assert "for possible" in prior_words(table)
    far = prior_predictive_table(replace(posterior, prior_replicated=posterior.prior_replicated * 1e-3))
    assert (far["place"] == 1).all()
    assert "contradicts the data" in prior_words(far)
