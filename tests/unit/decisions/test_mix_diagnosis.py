"""A diagnosis that names things: alarms on planted faults, silence on clean data."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.decisions.posterior_example import TAPS, fitted_mix, sales, spends

from wanamaker.data.simulate.media_panel import simulate_media_panel
from wanamaker.data.simulate.media_presets import panel_simulation
from wanamaker.decisions.mix_diagnosis import MixDiagnosis, diagnose, information_ledger, overlap
from wanamaker.decisions.spend_endogeneity import TOGETHER, endogeneity_tests, holm


def kinds(diagnosis: MixDiagnosis) -> set[tuple[str, tuple[str, ...]]]:
    return {(finding.kind, finding.channels) for finding in diagnosis.findings}


@pytest.mark.parametrize("seed", range(5))
def test_silence_on_clean_data(seed: int) -> None:
    diagnosis = diagnose(fitted_mix(spends(seed), seed=seed), surrogates=999)
    assert diagnosis.findings == ()
    assert len(diagnosis.to_frame()) == 0
    assert len(diagnosis.pairs) == 6


def test_two_channels_that_cannot_be_told_apart() -> None:
    spend = spends(1)
    spend[:, :, 2] = spend[:, :, 0] * np.exp(0.05 * np.random.default_rng(0).standard_normal(spend.shape[:2]))
    diagnosis = diagnose(fitted_mix(spend), surrogates=99)
    (finding,) = diagnosis.findings
    assert (finding.kind, finding.channels, finding.severity) == ("pair", ("TV", "Social"), "high")
    assert finding.numbers["contribution_correlation"] < -0.9
    assert finding.numbers["media_correlation"] > 0.95
    assert "TV and Social cannot be told apart" in finding.what
    assert "Read their sum" in finding.what
    assert "experiment on TV or Social" in finding.remedy


def test_media_that_move_together_without_a_trade() -> None:
    """The draws of a guide without correlations show none, but the media do; and the diagnosis says what it misses."""
    spend = spends(1)
    spend[:, :, 1] = spend[:, :, 0] * np.exp(0.05 * np.random.default_rng(0).standard_normal(spend.shape[:2]))
    mix = fitted_mix(spend, engine="svi", khat=0.3)
    blind = mix.posterior.parameters["contribution"].copy()
    rng = np.random.default_rng(0)
    for c in range(4):
        blind[0, :, c] = rng.permutation(blind[0, :, c])
    posterior = replace(mix.posterior, parameters={**mix.posterior.parameters, "contribution": blind}, guide="normal")
    diagnosis = diagnose(replace(mix, posterior=posterior), surrogates=99)
    (finding,) = [f for f in diagnosis.findings if f.kind == "pair"]
    assert finding.severity == "medium"
    assert "rise and fall together" in finding.what
    assert "takes its parameters for independent" in diagnosis.notes[0]


def test_a_channel_that_looks_like_the_base() -> None:
    spend = spends(2)
    spend[:, :, 1] = 1000 * np.exp(0.02 * np.random.default_rng(0).standard_normal(spend.shape[:2]))
    diagnosis = diagnose(fitted_mix(spend), surrogates=99)
    assert kinds(diagnosis) == {("intercept", ("Search",))}
    (finding,) = diagnosis.findings
    assert finding.numbers["variation"] < 0.05
    assert finding.numbers["base_correlation"] < -0.9
    assert "Switch Search off" in finding.remedy


def test_a_channel_of_which_only_the_prior_is_known() -> None:
    """One week of spend in one region says nothing about a channel whose prior is narrow already."""
    spend = spends(3)
    spend[:, :, 3] = 0
    spend[0, 97, 3] = 10.0
    mix = fitted_mix(spend, prior_sd=0.01)
    diagnosis = diagnose(mix, surrogates=99)
    only = [f for f in diagnosis.findings if f.kind == "prior"]
    assert [f.channels for f in only] == [("Radio",)]
    assert "mostly its prior" in only[0].what
    ledger = diagnosis.ledger.set_index("channel")
    assert ledger.loc["Radio", "sd_ratio"] > 0.9
    assert ledger.loc["Radio", "nats"] < 0.1
    assert ledger.loc["Radio", "overlap"] > 0.8
    assert (ledger.drop("Radio")["nats"] > 0.2).all()


def test_information_is_that_of_normal_distributions() -> None:
    posterior = fitted_mix().posterior
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal(200_000), 1 + 0.5 * rng.standard_normal(200_000)
    planted = replace(
        posterior,
        prior={
            name: np.broadcast_to(before[:, None], (200_000, 4))
            if posterior.dims[name] == ("channel",)
            else np.zeros((200_000, *v.shape[1:]))
            for name, v in posterior.prior.items()
        },
        parameters={
            name: np.broadcast_to(after.reshape(4, -1, 1), (4, 50_000, 4))
            if posterior.dims[name] == ("channel",)
            else np.zeros((4, 50_000, *v.shape[2:]))
            for name, v in posterior.parameters.items()
        },
        stats={},
        log_likelihood=np.zeros((4, 50_000, 4)),
    )
    row = information_ledger(planted, np.ones(4, bool)).iloc[0]
    assert row["sd_ratio"] == pytest.approx(0.5, abs=0.01)
    assert row["shift"] == pytest.approx(1.0, abs=0.02)
    assert row["nats"] == pytest.approx(np.log(2) + (0.25 + 1 - 1) / 2, abs=0.02)
    assert overlap(before, before[::-1]) == pytest.approx(1)
    assert overlap(before, before + 20) == 0


def test_positive_quantities_are_compared_on_the_logarithm() -> None:
    """A stray draw below 0 must not hand the verdict to the long tail of the prior."""
    rng = np.random.default_rng(0)
    posterior = fitted_mix().posterior
    ledger = []
    for stray in (0.0, -0.01):
        before, after = np.exp(rng.standard_normal(400)), np.exp(0.97 * rng.standard_normal(600))
        before[0] = before[0] if stray == 0 else stray
        roi0, roi = posterior.prior["roi"].copy(), posterior.parameters["roi"].copy()
        roi0[:, 0], roi[..., 0] = before, after.reshape(4, 150)
        planted = replace(
            posterior, prior={**posterior.prior, "roi": roi0}, parameters={**posterior.parameters, "roi": roi}
        )
        ledger.append(information_ledger(planted, np.ones(4, bool)).iloc[0])
    for row in ledger:
        assert row["sd_ratio"] == pytest.approx(1.0, abs=0.1)
        assert row["mostly_prior"]


def chasing(seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Spend of the first channel and KPI, where the budget follows hidden demand of the weeks before."""
    rng = np.random.default_rng(seed + 1000)  # spends and sales draw from streams of their own
    spend = spends(seed)
    G, N, _ = spend.shape
    demand = np.zeros((G, N))
    for t in range(1, N):
        demand[:, t] = 0.8 * demand[:, t - 1] + 0.6 * rng.standard_normal(G)
    recent = sum(np.roll(demand, lag, axis=1) for lag in (1, 2, 3, 4)) / 4
    recent[:, :4] = 0
    spend[:, :, 0] = 1000 * np.exp(strength * recent + 0.3 * rng.standard_normal((G, N)))
    return spend, sales(spend, seed, demand=0.08 * demand[:, TAPS - 1 :])


@pytest.mark.parametrize("seed", range(3))
def test_spend_that_follows_demand(seed: int) -> None:
    spend, kpi = chasing(seed, 0.6)
    diagnosis = diagnose(fitted_mix(spend, kpi, seed=seed), surrogates=999)
    found = [f for f in diagnosis.findings if f.kind == "demand" and f.severity == "high"]
    assert [f.channels for f in found] == [("TV",)]
    assert "usually too high" in found[0].what
    assert "control" in found[0].remedy
    spend, kpi = chasing(seed, 0.0)
    clean = endogeneity_tests(fitted_mix(spend, kpi, seed=seed), surrogates=999).table
    assert not clean.loc[clean["test"] == "past", "alarm"].any(), "demand that persists is not chased by itself"


@pytest.mark.parametrize(("feedback", "least", "most"), [(0.0, 0, 1), (3.0, 3, 6)])
def test_feedback_in_the_simulator(feedback: float, least: int, most: int) -> None:
    alarms = 0
    for seed in range(6):
        wish = {"seed": seed, "link": "identity", "endogeneity": {"budget_feedback": feedback}}
        panel = simulate_media_panel(panel_simulation("geo", wish | {"price": {"elasticity": 0}}))
        mix = fitted_mix(panel.truth.spend[:, :, panel.truth.paid], panel.kpi[:, TAPS - 1 :], draws=40, seed=seed)
        table = endogeneity_tests(mix, surrogates=999).table
        alarms += bool(table.loc[table["test"] == "past", "alarm"].any())
    assert least <= alarms <= most


def test_spend_planned_into_the_season() -> None:
    spend = spends(4)
    time = np.arange(spend.shape[1]) - TAPS + 1
    rng = np.random.default_rng(0)
    strong = np.sin(2 * np.pi * time / 52.18) + 0.2 * rng.standard_normal(spend.shape[:2])
    spend[:, :, 1] = 1000 * np.exp(0.8 * strong)
    diagnosis = diagnose(fitted_mix(spend, sales(spend, 4)), surrogates=999)
    table = diagnosis.demand.table
    row = table[(table["channel"] == "Search") & (table["test"] == "same")].iloc[0]
    assert row["correlation"] > 0.7
    others = table[~table["channel"].isin(["Search", TOGETHER])]
    assert not others["alarm"].any()


def test_what_cannot_be_tested_is_said() -> None:
    short = diagnose(fitted_mix(spends(geos=2, periods=30), held_out=10), surrogates=49)
    assert "20 training periods are too few" in short.notes[-1]
    spend = spends(0)
    spend[:, :, 2] = 500.0
    assert "The spend of Social never varies" in endogeneity_tests(fitted_mix(spend), surrogates=49).notes[0]
    assert len(endogeneity_tests(fitted_mix(organic=4), surrogates=49).table) == 0
    with pytest.raises(ValueError, match="needs predictions with a posterior"):
        diagnose(replace(fitted_mix(), posterior=None))


def test_surrogates_keep_the_level_of_the_test() -> None:
    """With a common, persistent path in all series and no link to demand, p-values are those of chance."""
    p_values = []
    for seed in range(30):
        table = endogeneity_tests(fitted_mix(spends(seed, geos=3, periods=80), draws=20, seed=seed), surrogates=99)
        p_values += table.table.loc[table.table["test"] == "past", "p_value"].tolist()
    assert np.mean(np.array(p_values) < 0.1) < 0.17
    assert 0.3 < np.mean(p_values) < 0.7


def test_holm() -> None:
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    assert len(holm(np.zeros(0))) == 0
