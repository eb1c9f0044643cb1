"""Verdicts on draws: converged, use with care, refused, each for its reason."""

from dataclasses import replace

import arviz as az
import numpy as np
import pytest
from tests.unit.decisions.posterior_example import fitted_mix

from wanamaker.decisions.posterior_checks import check_posterior
from wanamaker.predictions import MixPosterior


@pytest.fixture(scope="module")
def sampled() -> MixPosterior:
    """Exact draws, so that the checks have nothing to find."""
    return fitted_mix(draws=300, seed=2, organic=1).posterior


def moved(posterior: MixPosterior, change: object) -> MixPosterior:
    return replace(
        posterior, parameters={**posterior.parameters, "effect": change(posterior.parameters["effect"].copy())}
    )


def test_independent_draws_are_good(sampled: MixPosterior) -> None:
    checks = check_posterior(sampled)
    assert checks.level == "good", checks.verdict
    assert checks.verdict.startswith("converged: R-hat 1.00")
    assert "no divergences" in checks.verdict
    assert checks.reasons == ()
    assert checks.r_hat < 1.01
    assert checks.ess > 400


def test_numbers_are_those_of_arviz(sampled: MixPosterior) -> None:
    table = check_posterior(sampled).table
    row = table[(table["parameter"] == "effect") & (table["of"] == "Search")].iloc[0]
    draws = sampled.parameters["effect"][..., 1]
    assert row["r_hat"] == pytest.approx(float(az.rhat(draws)))
    assert row["ess_bulk"] == pytest.approx(float(az.ess(draws)))
    assert row["ess_tail"] == pytest.approx(float(az.ess(draws, method="tail")))
    assert row["mcse"] == pytest.approx(float(az.mcse(draws)))
    assert row["mean"] == pytest.approx(draws.mean())
    assert not ((table["parameter"] == "roi") & (table["of"] == "Radio")).any(), "an organic channel has no ROI"
    assert table["estimand"].iloc[0]


def test_a_chain_that_went_elsewhere(sampled: MixPosterior) -> None:
    def shift(effect: np.ndarray) -> np.ndarray:
        effect[0, :, 2] += 5 * effect[..., 2].std()
        return effect

    checks = check_posterior(moved(sampled, shift))
    assert checks.level == "refused"
    assert "R-hat" in checks.verdict
    assert "effect of Social" in checks.verdict
    assert checks.worst(3)["of"].iloc[0] == "Social"


def test_chains_that_creep(sampled: MixPosterior) -> None:
    def creep(effect: np.ndarray) -> np.ndarray:
        path = np.random.default_rng(0).standard_normal(effect.shape[:2])
        for t in range(1, path.shape[1]):
            path[:, t] += 0.9 * path[:, t - 1]
        effect[..., 0] = path
        return effect

    checks = check_posterior(moved(sampled, creep))
    assert checks.level != "good"
    assert checks.ess < 400
    assert "few independent draws" in checks.verdict
    assert "effect of TV" in checks.verdict


@pytest.mark.parametrize(("count", "level"), [(3, "caution"), (200, "refused")])
def test_divergences(sampled: MixPosterior, count: int, level: str) -> None:
    diverging = np.zeros((4, 300), bool)
    diverging.reshape(-1)[:count] = True
    checks = check_posterior(replace(sampled, stats={**sampled.stats, "diverging": diverging}))
    assert checks.level == level
    assert checks.divergences == count
    assert f"{count} of 1,200 transitions diverged" in checks.verdict


def test_energy_and_single_chains(sampled: MixPosterior) -> None:
    energy = np.cumsum(np.random.default_rng(0).standard_normal((4, 300)), axis=1)
    checks = check_posterior(replace(sampled, stats={**sampled.stats, "energy": energy}))
    assert checks.level == "caution"
    assert "BFMI" in checks.verdict
    checks = check_posterior(fitted_mix(chains=1, draws=1000, seed=3).posterior)
    assert checks.level == "caution"
    assert "one chain only" in checks.verdict
    assert np.isfinite(checks.r_hat)


def test_unfinished_and_short_fits(sampled: MixPosterior) -> None:
    checks = check_posterior(replace(sampled, finished=False))
    assert checks.level == "refused"
    assert "cut short" in checks.verdict
    assert "too few to check" in check_posterior(fitted_mix(chains=2, draws=4).posterior).verdict


@pytest.mark.parametrize(
    ("khat", "level", "words"),
    [
        (0.31, "good", "k-hat 0.31"),
        (0.64, "caution", "use with care: k-hat 0.64 of the low-rank guide"),
        (1.3, "refused", "refused: k-hat 1.30"),
        (np.nan, "refused", "no k-hat"),
    ],
)
def test_guides_are_judged_by_their_k_hat(khat: float, level: str, words: str) -> None:
    checks = check_posterior(fitted_mix(engine="svi", khat=khat, draws=100).posterior)
    assert checks.level == level
    assert words in checks.verdict
    assert checks.table["r_hat"].isna().all()
    assert np.isnan(checks.ess)
    assert checks.table["mcse_share"].to_numpy() == pytest.approx(0.1), "1 / sqrt(draws) of independent draws"


def test_draws_that_were_resampled_count_once() -> None:
    posterior = fitted_mix(engine="svi", khat=0.3, draws=100).posterior
    twice = {name: np.repeat(values[:, :50], 2, axis=1) for name, values in posterior.parameters.items()}
    table = check_posterior(replace(posterior, parameters=twice)).table
    assert table["mcse_share"].to_numpy() == pytest.approx(1 / np.sqrt(50))


def test_large_parameters_are_checked_in_part(sampled: MixPosterior) -> None:
    many = tuple(f"m{i}" for i in range(450))
    posterior = replace(
        sampled,
        parameters={**sampled.parameters, "many": np.random.default_rng(0).standard_normal((4, 300, 450))},
        prior={**sampled.prior, "many": np.zeros((400, 450))},
        dims={**sampled.dims, "many": ("place",)},
        coords={**sampled.coords, "place": many},
    )
    checks = check_posterior(posterior)
    assert checks.left_out == 50
    assert (checks.table["parameter"] == "many").sum() == 400
