"""How spend comes about: flights, and four ways of chasing demand, each switched by its own strength."""

from typing import Any

import numpy as np
import pytest

from wanamaker.data.simulate.media_market import build_market
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_panel import SimulatedPanel, simulate_media_panel
from wanamaker.data.simulate.media_presets import panel_simulation
from wanamaker.data.simulate.media_spend import exogenous_reactions, planned_flights

MECHANISMS = ("budget_feedback", "anticipation", "bursts", "bidding")
NAMES = ("tv", "search", "social", "video", "display")
TV, SEARCH, VIDEO = 0, 1, 3


def options(**strengths: float) -> PanelSimulation:
    """Long enough that a correlation by chance is small."""
    endogeneity = {"review": 1, "window": 2, **strengths}
    demand = {"sd": 0.1, "persistence": 0.9}
    return panel_simulation("national", {"periods": 780, "demand": demand, "endogeneity": endogeneity})


@pytest.fixture(scope="module")
def panels() -> dict[str, SimulatedPanel]:
    strengths = {"budget_feedback": 4.0, "anticipation": 2.0, "bursts": 3.0, "bidding": 4.0}
    made = {name: simulate_media_panel(options(**{name: value})) for name, value in strengths.items()}
    return {"none": simulate_media_panel(options()), **made}


def hidden_correlation(panel: SimulatedPanel, on_air: bool = False) -> np.ndarray:
    """Of spend with hidden demand, after the calendar is taken out of both; [C].

    With `on_air`, of the log of spend where there is some: when a channel is dark is then left out.
    """
    truth, T = panel.truth, len(panel.truth.dates)
    known = np.stack([truth.parts[name][0, :T] for name in ("season", "holiday", "trend")], axis=1)
    found = []
    for spend in truth.spend[0].T:
        use = spend > 0 if on_air else np.ones(T, dtype=bool)
        basis = np.column_stack([np.ones(T), known, known[:, 0] ** 2])[use]
        both = np.column_stack([np.log(spend[use]) if on_air else spend, truth.parts["demand"][0, :T][use]])
        rest = both - basis @ np.linalg.lstsq(basis, both, rcond=None)[0]
        found.append(np.corrcoef(rest.T)[0, 1])
    return np.array(found)


def test_hidden_demand_moves_spend_only_where_switched_on(panels: dict[str, SimulatedPanel]) -> None:
    found = {name: hidden_correlation(panel) for name, panel in panels.items()}
    assert np.abs(found["none"]).max() < 0.2
    np.testing.assert_allclose(found["anticipation"], found["none"], atol=0.08)
    feedback, rest = (hidden_correlation(panels[name], on_air=True) for name in ("budget_feedback", "none"))
    assert np.abs(rest).max() < 0.25
    assert (feedback > rest + 0.2).all()
    assert found["bursts"][TV] > found["none"][TV] + 0.1
    np.testing.assert_allclose(found["bursts"][1:], found["none"][1:], atol=0.02)
    assert found["bidding"][SEARCH] > found["none"][SEARCH] + 0.4
    assert abs(found["bidding"][TV] - found["none"][TV]) < 0.05, "tv does not bid"


def test_anticipation_comes_before_the_known_peaks(panels: dict[str, SimulatedPanel]) -> None:
    market = build_market(options())
    T = options().periods
    ahead = market.known[0, 1 : T + 1]

    def correlation(panel: SimulatedPanel) -> float:
        return float(np.corrcoef(panel.truth.spend[0, :, SEARCH], ahead)[0, 1])

    assert correlation(panels["anticipation"]) > correlation(panels["none"]) + 0.2


def test_without_mechanisms_demand_leaves_no_trace_in_spend() -> None:
    calm = panel_simulation("geo", {"demand": {"sd": 0.0}})
    wild = panel_simulation("geo", {"demand": {"sd": 0.3, "persistence": 0.2}, "season": {"spikes": 4}})
    first, second = (simulate_media_panel(one).truth for one in (calm, wild))
    np.testing.assert_array_equal(first.spend, second.spend)
    np.testing.assert_array_equal(first.exposure, second.exposure)
    assert not np.allclose(first.expected, second.expected, rtol=0.05)


@pytest.mark.parametrize("mechanism", ["budget_feedback", "bursts", "bidding"])
def test_with_a_mechanism_demand_does(mechanism: str) -> None:
    strength = {"endogeneity": {mechanism: 2.0}}
    calm = panel_simulation("geo", {"demand": {"sd": 0.01}, **strength})
    wild = panel_simulation("geo", {"demand": {"sd": 0.2}, **strength})
    first, second = (simulate_media_panel(one).truth for one in (calm, wild))
    assert not np.allclose(first.spend, second.spend, rtol=0.05)


def test_strengths_are_continuous_at_0() -> None:
    rest = simulate_media_panel(panel_simulation("geo")).truth.spend
    for mechanism in MECHANISMS:
        little = panel_simulation("geo", {"endogeneity": {mechanism: 1e-9}})
        np.testing.assert_allclose(simulate_media_panel(little).truth.spend, rest, atol=0.011, err_msg=mechanism)


def test_budgets_hold_whatever_chases_demand(panels: dict[str, SimulatedPanel]) -> None:
    for name, panel in panels.items():
        np.testing.assert_allclose(panel.truth.spend_total, panels["none"].truth.spend_total, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(panel.truth.roi, [c.roi for c in panel.truth.options.channels], rtol=1e-11)


def test_bids_are_the_exponential_of_hidden_demand() -> None:
    chosen = options(bidding=3.0)
    market = build_market(chosen)
    factor = exogenous_reactions(chosen, market)
    np.testing.assert_allclose(factor[0, :, SEARCH], np.clip(np.exp(3.0 * market.demand[0, :780]), 0.2, 5.0))
    assert (factor[..., TV] == 1).all()
    assert (factor[..., VIDEO] == 1).all()


def test_feedback_follows_the_sales_that_were_reported() -> None:
    """The recorded panel fulfils the rule: each decision is what the KPI before it asks for."""
    chosen = panel_simulation("national", {"endogeneity": {"budget_feedback": 1.5, "review": 4, "window": 6}})
    panel = simulate_media_panel(chosen)
    rest = simulate_media_panel(panel_simulation("national"))
    T, kpi = chosen.periods, panel.kpi[0]
    ratio = panel.truth.spend[0, :, SEARCH] / rest.truth.spend[0, :, SEARCH]
    expected = np.ones(T)
    for start in range(8, T, 4):
        expected[start : start + 4] = 1 + 1.5 * (kpi[start - 6 : start].mean() / kpi[:start].mean() - 1)
    np.testing.assert_allclose(ratio / ratio[0], expected, rtol=1e-4)


def test_plans_have_mean_1_and_the_shape_that_was_asked_for() -> None:
    chosen = panel_simulation("large", {"periods": 312})
    plan = planned_flights(chosen, build_market(chosen))
    kinds = {c.name: (n, c.flight) for n, c in enumerate(chosen.channels)}
    on = plan > 0
    used = plan.sum(axis=1) > 0
    np.testing.assert_allclose(plan.mean(axis=1)[used], 1.0)
    assert on[..., kinds["search"][0]].all()
    number, flight = kinds["tv"]
    assert on[0, :, number].mean() == pytest.approx(flight.campaigns * flight.length * 7 / 365.25, rel=0.1)
    assert (on[:1, :, number] == on[..., number]).all(), "a national plan is the same everywhere"
    number, flight = kinds["video"]
    assert on[..., number].mean() == pytest.approx(flight.on / (flight.on + flight.off), abs=0.08)
    number, flight = kinds["display"]
    assert on[..., number].mean() == pytest.approx(1 - flight.dark_share, abs=0.06)
    number, _ = kinds["outdoor"]
    assert (on[0, :, number] != on[1, :, number]).any(), "local campaigns leave out some series"


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_channels_correlate_as_asked(correlation: float) -> None:
    flights: dict[str, Any] = {"kind": "always_on", "dark_share": 0.0, "seasonality": 0.0, "persistence": 0.3}
    channels = [{"name": name, "flight": flights} for name in NAMES]
    chosen = panel_simulation("national", {"periods": 1000, "channels": channels, "correlation": correlation})
    plan = np.log(planned_flights(chosen, build_market(chosen))[0])
    found = np.corrcoef(plan.T)[np.triu_indices(len(NAMES), 1)].mean()
    assert found == pytest.approx(correlation, abs=0.07)
