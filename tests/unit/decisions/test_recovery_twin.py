"""Recovery twins of a model whose posterior is exact: its intervals must hold, and those of a broken one must not."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.decisions.posterior_example import fitted_mix, sales, spends

from wanamaker.decisions.recovery_twin import Refit, coverage_of, held, rank_histogram, recovery_twin
from wanamaker.errors import UserError
from wanamaker.predictions import MixPosterior

TWINS = 10


def refit(original: MixPosterior, spend: np.ndarray, number: int) -> Refit:
    kpi = original.replicated[number].astype(np.float64)
    found = fitted_mix(spend, kpi, seed=100 + number, chains=2).posterior
    assert found is not None
    return Refit(number, f"run {number}", found)


def changed(twin: Refit, **changes: np.ndarray) -> Refit:
    posterior = replace(twin.posterior, parameters={**twin.posterior.parameters, **changes})
    return Refit(twin.replicate, twin.name, posterior)


@pytest.fixture(scope="module")
def original() -> MixPosterior:
    posterior = fitted_mix(spends(2), sales(spends(2), 2), seed=2).posterior
    assert posterior is not None
    return posterior


@pytest.fixture(scope="module")
def twins(original: MixPosterior) -> list[Refit]:
    return [refit(original, spends(2), number) for number in range(TWINS)]


def test_intervals_of_an_exact_posterior_hold(original: MixPosterior, twins: list[Refit]) -> None:
    found = recovery_twin(original, twins)
    assert found.verdict == "hold"
    contributions = found.of("contribution")
    assert len(contributions) == TWINS * 4
    count = int(held(contributions, 90).sum())
    assert found.sentence == f"Intervals hold: {count} of 40 channels x twins in their 90 % interval"
    assert found.power > 0.9
    assert found.channels["held_90"].sum() == count == found.runs["held_90"].sum()
    draw = original.replicated_draw[3]
    mine = contributions[contributions["replicate"] == 3]
    np.testing.assert_allclose(mine["truth"], original.flat("contribution")[draw])
    # ROI is the contribution over money: the same ranks
    np.testing.assert_array_equal(found.of("roi")["rank"], contributions["rank"])


@pytest.mark.parametrize(("factor", "verdict"), [(0.3, "too narrow"), (6.0, "too wide")])
def test_intervals_of_the_wrong_width_are_refused(
    original: MixPosterior, twins: list[Refit], factor: float, verdict: str
) -> None:
    broken = []
    for twin in twins:
        draws = twin.posterior.parameters["contribution"]
        middle = draws.mean((0, 1))
        broken.append(changed(twin, contribution=middle + factor * (draws - middle)))
    found = recovery_twin(original, broken)
    assert found.verdict == verdict
    assert found.sentence.startswith(f"Intervals are {verdict}: ")
    assert (found.coverage[found.coverage["quantity"] == "contribution"]["p_holm"] < 0.05).any()


def test_a_channel_that_is_always_too_high_is_biased(original: MixPosterior, twins: list[Refit]) -> None:
    lift = np.array([0.0, 0.8, 0.0, 0.0]) * original.parameters["contribution"].mean((0, 1))
    off = [changed(twin, contribution=twin.posterior.parameters["contribution"] + lift) for twin in twins]
    channels = recovery_twin(original, off).channels.set_index("channel")
    assert channels["biased"].tolist() == [False, True, False, False]
    assert channels.loc["Search", "bias_low_90"] > 0.5
    assert channels.loc["Search", "z"] > 1


def test_few_twins_give_no_green_verdict(original: MixPosterior, twins: list[Refit]) -> None:
    found = recovery_twin(original, twins[:2])
    assert found.verdict == "too few"
    assert found.sentence.startswith("Too few twins to tell: ")


def test_a_refit_that_was_cut_short_is_listed_and_not_counted(original: MixPosterior, twins: list[Refit]) -> None:
    cut = Refit(1, "run 1", replace(twins[1].posterior, finished=False))
    found = recovery_twin(original, [twins[0], cut, *twins[2:]])
    assert len(found.of("contribution")) == (TWINS - 1) * 4
    assert found.runs.set_index("run").loc["run 1", "intervals"] == 0
    with pytest.raises(UserError, match="all 1 refits were cut short"):
        recovery_twin(original, [cut])


def test_refits_of_something_else_are_refused(original: MixPosterior, twins: list[Refit]) -> None:
    with pytest.raises(UserError, match="run 0 and again both refit replicate 0"):
        recovery_twin(original, [twins[0], Refit(0, "again", twins[0].posterior)])
    with pytest.raises(UserError, match="fitted to another KPI than replicate 4"):
        recovery_twin(original, [Refit(4, "run x", twins[0].posterior)])
    with pytest.raises(UserError, match="fitted to another KPI than replicate 900"):
        recovery_twin(original, [Refit(900, "run x", twins[0].posterior)])
    fewer = fitted_mix(spends(2, channels=3), seed=2).posterior
    assert fewer is not None
    with pytest.raises(UserError, match=r"differ in channels \(Radio\)"):
        recovery_twin(original, [Refit(0, "run x", fewer)])


def test_the_test_and_the_band_are_those_of_the_binomial(original: MixPosterior, twins: list[Refit]) -> None:
    from scipy.stats import binomtest

    frame = recovery_twin(original, twins).of("mroi")
    table = coverage_of(frame, "mroi").set_index("level")
    for level in (50, 80, 90):
        count = int(held(frame, level).sum())
        assert table.loc[level, "p_value"] == pytest.approx(binomtest(count, len(frame), level / 100).pvalue)
    assert (table["p_holm"] >= table["p_value"]).all()
    assert table["p_holm"].max() <= 1
    counts, low, high = rank_histogram(np.array([0.0, 0.1, 0.99, 1.0, 0.5]), 2)
    assert counts.tolist() == [2, 3]
    assert (low, high) == (0, 5)
