"""The truth of simulated panels: what is said about contributions, returns and prices is what the panel does."""

from dataclasses import replace

import numpy as np
import pytest

from wanamaker.data.simulate.media_channel import ADSTOCKS, Adstock, Saturation
from wanamaker.data.simulate.media_market import build_market
from wanamaker.data.simulate.media_panel import SimulatedPanel, simulate_media_panel
from wanamaker.data.simulate.media_presets import CHANNELS, PRESETS, panel_simulation
from wanamaker.data.simulate.media_response import carry_over, kernel, saturate
from wanamaker.data.simulate.media_truth import PanelTruth
from wanamaker.errors import UserError

SATURATIONS = [
    Saturation("hill", half=0.7, slope=1.8),
    Saturation("hill", half=1.5, slope=0.8),
    Saturation("gamma_cdf", shape=2.2, rate=1.5),
    Saturation("gamma_cdf", shape=0.7, rate=0.9),
    Saturation("exponential", scale=1.3),
    Saturation("root", power=0.6),
    Saturation("linear"),
]
CONCAVE = [False, True, False, True, True, True, True]

MIXED = {"pre_period": 5, "promotion": {"per_year": 6}, "price": {"elasticity": -1.6, "cross": 0.5}}


@pytest.fixture(scope="module", params=["identity", "log"])
def panel(request: pytest.FixtureRequest) -> SimulatedPanel:
    noise = {"family": "lognormal"} if request.param == "log" else {}
    return simulate_media_panel(panel_simulation("geo", {**MIXED, "link": request.param, "noise": noise}))


@pytest.fixture(scope="module")
def truth(panel: SimulatedPanel) -> PanelTruth:
    return panel.truth


# -- contributions and returns -----------------------------------------------------------------------------------------


def test_contribution_is_what_removal_takes_away(truth: PanelTruth) -> None:
    for number, name in enumerate(truth.channels):
        without = truth.exposure.copy()
        without[..., number] = 0
        missing = truth.expected - truth.expected_kpi(exposure=without)
        np.testing.assert_allclose(truth.contribution[..., number], missing, rtol=1e-9, atol=1e-9 * truth.level.max())
        assert (truth.contribution[..., number] >= 0).all(), name


def test_parts_add_up_to_the_expected_kpi(truth: PanelTruth) -> None:
    T = len(truth.dates)
    eta = sum(truth.parts.values())[:, :T] + truth.eta_contribution.sum(axis=-1)
    expected = np.exp(eta) if truth.options.link == "log" else eta
    np.testing.assert_allclose(truth.expected, expected, rtol=1e-12)
    together = truth.contribution.sum(axis=-1)
    if truth.options.link == "identity":
        np.testing.assert_allclose(together, truth.contribution_all, rtol=1e-9)
    else:  # each channel's removal also takes what it lifts of the others
        assert (together >= truth.contribution_all * (1 - 1e-12)).all()
        logs = np.log(truth.expected) - np.log(truth.expected - truth.contribution_all)
        np.testing.assert_allclose(truth.eta_contribution.sum(axis=-1), logs, rtol=1e-9)


def test_roi_is_the_one_that_was_chosen(truth: PanelTruth) -> None:
    chosen = [channel.roi for channel in truth.options.channels]
    np.testing.assert_allclose(truth.roi[truth.paid], np.array(chosen)[truth.paid], rtol=1e-11)
    assert np.isnan(truth.roi[~truth.paid]).all()
    gained, paid = (values[:, truth.observed].sum(axis=(0, 1)) for values in (truth.contribution, truth.spend))
    np.testing.assert_allclose(truth.roi[truth.paid], (gained / np.maximum(paid, 1e-9))[truth.paid], rtol=1e-12)
    spread = np.nanstd(np.log(truth.roi_series[:, truth.paid]), axis=0)
    assert (spread > 0.05).all(), "series differ"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_media_bring_a_realistic_share_of_the_kpi(preset: str) -> None:
    panel = simulate_media_panel(PRESETS[preset])
    truth = panel.truth
    wanted = truth.options.media_share
    assert 0.7 * wanted < truth.media_share < 1.15 * wanted
    assert 0.1 <= truth.media_share <= 0.45
    np.testing.assert_allclose(truth.roi[truth.paid], [c.roi for c in truth.options.channels if not c.organic])
    signal = truth.expected[:, truth.observed].var(axis=1)
    np.testing.assert_allclose(signal / truth.noise_sd**2, truth.options.noise.snr, rtol=1e-9)
    left = (panel.kpi - truth.expected)[:, truth.observed]
    assert 0.85 < np.sqrt((left**2).mean() / (truth.noise_sd**2).mean()) < 1.15
    assert abs(left.mean()) < 4 * truth.noise_sd.max() / np.sqrt(left.size)


def test_marginal_roi_is_the_slope_of_the_expected_kpi(truth: PanelTruth) -> None:
    for number in np.flatnonzero(truth.paid):
        more = truth.spend.copy()
        more[..., number] *= 1.01
        gained = (truth.expected_kpi(spend=more) - truth.expected)[:, truth.observed].sum()
        assert truth.mroi[number] == pytest.approx(gained / (0.01 * truth.spend_total[number]), rel=1e-6)
    assert (truth.mroi[truth.paid] < truth.roi[truth.paid]).mean() > 0.7, "most channels are past their best"


def test_actual_spend_gives_the_actual_expectation(truth: PanelTruth) -> None:
    np.testing.assert_allclose(truth.expected_kpi(spend=truth.spend), truth.expected, rtol=1e-12)
    plans = np.stack([truth.spend, 1.5 * truth.spend, np.zeros_like(truth.spend)])
    answers = truth.expected_kpi(spend=plans)
    assert answers.shape == (3, *truth.expected.shape)
    np.testing.assert_allclose(answers[1], truth.expected_kpi(spend=plans[1]), rtol=1e-12)
    assert (answers[1] >= answers[0]).all()
    assert (answers[0] >= answers[2]).all()


def test_money_moved_to_the_better_margin_brings_more(truth: PanelTruth) -> None:
    """`expected_kpi` can judge a plan: the true marginal returns say where the true optimum lies."""
    margin = np.where(truth.paid, truth.mroi, np.nan)
    best, worst = int(np.nanargmax(margin)), int(np.nanargmin(margin))
    moved = 0.01 * truth.spend_total[worst]
    plan = truth.spend.copy()
    plan[:, truth.observed, worst] *= 0.99
    plan[:, truth.observed, best] *= 1 + moved / truth.spend_total[best]
    gained = (truth.expected_kpi(spend=plan) - truth.expected)[:, truth.observed].sum()
    assert gained == pytest.approx(moved * (margin[best] - margin[worst]), rel=0.1)


def test_incremental_counts_the_tail(truth: PanelTruth) -> None:
    window, total = 13, truth.incremental(13)
    without = truth.spend.copy()
    without[:, -window:] = 0
    inside = (truth.expected - truth.expected_kpi(spend=without)).sum()
    assert total > inside > 0
    # Without a cut in time nothing is lost: the whole panel's spend, tail included, brings more than in the panel.
    assert truth.incremental(len(truth.dates), "tv") > truth.contribution[..., 0].sum()
    tv = truth.incremental(window, "tv")
    assert 0 < tv < total
    with pytest.raises(ValueError, match="window of 0"):
        truth.incremental(0)


def test_questions_that_make_no_sense_are_refused(truth: PanelTruth) -> None:
    with pytest.raises(ValueError, match="organic channels"):
        truth.expected_kpi(spend=np.ones_like(truth.spend))
    with pytest.raises(ValueError, match="not both"):
        truth.expected_kpi(spend=truth.spend, exposure=truth.exposure)
    with pytest.raises(ValueError, match="shape"):
        truth.expected_kpi(spend=truth.spend[:, 1:])
    with pytest.raises(ValueError, match=">= 0"):
        truth.expected_kpi(spend=-truth.spend)


# -- prices ------------------------------------------------------------------------------------------------------------


def test_elasticity_by_finite_differences(truth: PanelTruth) -> None:
    price, T = truth.price[:, : len(truth.dates)], len(truth.dates)
    step = 1e-6
    up, down = (truth.expected_kpi(price=price * np.exp(sign * step)) for sign in (1, -1))
    found = (np.log(up) - np.log(down)) / (2 * step)
    np.testing.assert_allclose(found, truth.price_elasticity, rtol=1e-5, atol=1e-7)
    if truth.options.link == "log":
        np.testing.assert_allclose(found, np.repeat(truth.elasticity[:, None], T, axis=1), rtol=1e-5)
    whole = (np.log(up[:, truth.observed].sum(axis=1)) - np.log(down[:, truth.observed].sum(axis=1))) / (2 * step)
    np.testing.assert_allclose(whole, truth.mean_elasticity, rtol=1e-5)
    competitor = truth.competitor_price[:, :T]
    raised = truth.expected_kpi(competitor_price=competitor * 1.05)
    assert (raised > truth.expected).all()


def test_a_discount_raises_the_kpi_by_its_effect(truth: PanelTruth) -> None:
    T = len(truth.dates)
    more = truth.expected_kpi(discount=truth.discount[:, :T] + 0.1)
    lift = truth.promotion_effect[0] * 0.1
    if truth.options.link == "log":
        np.testing.assert_allclose(more, truth.expected * np.exp(lift), rtol=1e-9)
    else:
        np.testing.assert_allclose(more - truth.expected, np.repeat(truth.level[:, None] * lift, T, axis=1), rtol=1e-9)


def test_an_s_shaped_price_is_steepest_at_the_reference() -> None:
    options = panel_simulation("category", {"price": {"shape": "s_shaped", "width": 0.2}})
    truth = simulate_media_panel(options).truth
    T = len(truth.dates)
    grid = np.linspace(0.5, 2.0, 61)
    prices = grid[:, None, None] * np.repeat(truth.reference_price[:, None], T, axis=1)
    sold = truth.expected_kpi(price=prices)
    assert (np.diff(sold, axis=0) < 0).all(), "demand falls at every price"
    slope = np.diff(np.log(sold[..., 0]), axis=0) / np.diff(np.log(grid))[:, None]
    middle = np.abs(slope[np.abs(grid[:-1] - 1).argmin()])
    np.testing.assert_allclose(middle, -truth.elasticity, rtol=0.02)
    assert (np.abs(slope[0]) < 0.2 * middle).all()
    assert (np.abs(slope[-1]) < 0.2 * middle).all()


# -- curves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ADSTOCKS)
@pytest.mark.parametrize("taps", [1, 8, 27])
def test_adstock_is_normalised(kind: str, taps: int) -> None:
    weights = kernel(Adstock(kind, decay=0.6, delay=2.0, shape=1.7, scale=3.0), taps)
    assert weights.shape == (taps,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    pulse = np.zeros((2, 60, 1))
    pulse[0, 20] = 3.0
    spread = carry_over(pulse, weights[None])
    np.testing.assert_allclose(spread[0, 20 : 20 + taps, 0], 3.0 * weights, atol=1e-15)
    assert not spread[0, :20].any()
    assert not spread[1].any(), "no series sees another's media"


def test_saturation_starts_at_0_and_never_falls() -> None:
    x = np.linspace(0, 12, 4001)[:, None] * np.ones(len(SATURATIONS))
    y = saturate(x, SATURATIONS)
    assert not y[0].any()
    steps = np.diff(y, axis=0)
    assert (steps >= 0).all()
    assert (steps[:400] > 0).all()
    concave = (np.diff(steps, axis=0) <= 1e-12).all(axis=0)
    assert concave.tolist() == CONCAVE


def test_the_models_layers_say_the_same() -> None:
    """Two independent implementations: `wanamaker.nn` and the simulator."""
    torch = pytest.importorskip("torch")
    layers = pytest.importorskip("wanamaker.nn.adstock")
    curves = pytest.importorskip("wanamaker.nn.saturation")

    def number(value: float) -> "torch.Tensor":
        return torch.tensor(value, dtype=torch.float64)

    theirs = {
        "geometric": layers.geometric_kernel(number(0.6), 11),
        "delayed": layers.delayed_kernel(number(0.6), number(2.0), 11),
        "binomial": layers.binomial_kernel(number(0.6), 11),
        "weibull_pdf": layers.weibull_pdf_kernel(number(1.7), number(3.0), 11),
        "weibull_cdf": layers.weibull_cdf_kernel(number(1.7), number(3.0), 11),
    }
    for kind, weights in theirs.items():
        mine = kernel(Adstock(kind, decay=0.6, delay=2.0, shape=1.7, scale=3.0), 11)
        np.testing.assert_allclose(weights.numpy(), mine, rtol=1e-9, err_msg=kind)
    media = np.random.default_rng(0).random((3, 40, 2))
    kernels = np.stack([kernel(Adstock("delayed"), 11), kernel(Adstock("binomial"), 11)])
    found = layers.adstock(torch.from_numpy(media), torch.from_numpy(kernels), method="direct")
    np.testing.assert_allclose(found.numpy(), carry_over(media, kernels), rtol=1e-10)
    x = np.linspace(0.01, 6, 50)
    grid = torch.from_numpy(x)
    pairs = (
        (curves.hill(grid, number(0.7), number(1.8)), SATURATIONS[0]),
        (curves.gamma_cdf(grid, number(2.2), number(1.5)), SATURATIONS[2]),
        (curves.gamma_cdf(grid, number(0.7), number(0.9)), SATURATIONS[3]),
        (curves.root(grid, number(0.6)), SATURATIONS[5]),
    )
    for values, rule in pairs:
        np.testing.assert_allclose(values.numpy(), saturate(x[:, None], [rule])[:, 0], rtol=1e-8, err_msg=rule.kind)


def test_saturating_first_is_another_order() -> None:
    options = panel_simulation("tiny")
    tv, search = options.channels
    first = simulate_media_panel(options).truth
    after = simulate_media_panel(replace(options, channels=(replace(tv, adstock_first=False), search))).truth
    assert after.roi == pytest.approx(first.roi)
    assert not np.allclose(after.contribution[..., 0], first.contribution[..., 0], rtol=0.02)
    x = after.exposure / after.media_scale[:, None]
    by_hand = carry_over(saturate(x, [tv.saturation, search.saturation]), after.kernel)[..., 0]
    np.testing.assert_allclose(after.contribution[..., 0], after.amplitude[:, :1] * by_hand, rtol=1e-12)


# -- the market --------------------------------------------------------------------------------------------------------


def test_a_proxy_of_hidden_demand_correlates_as_asked() -> None:
    options = panel_simulation("geo", {"periods": 400, "demand": {"proxy": 0.8, "sd": 0.1}})
    market = build_market(options)
    found = np.corrcoef(market.search_interest.ravel(), market.demand.ravel())[0, 1]
    assert found == pytest.approx(0.8, abs=0.08)
    assert market.demand.std() == pytest.approx(0.1, rel=0.25)


def test_categories_share_their_elasticity() -> None:
    options = panel_simulation("category", {"categories": 20, "subcategories": 400, "periods": 20})
    market = build_market(options)
    logs = np.log(-market.elasticity)
    assert logs.std() == pytest.approx(options.price.spread, rel=0.3)
    between = np.array([logs[market.category == c].mean() for c in range(20)]).std()
    within = np.mean([logs[market.category == c].std() for c in range(20)])
    assert 0.4 < between / within < 2.0
    assert np.bincount(market.category).tolist() == [20] * 20


def test_spend_of_a_national_channel_is_allotted_by_size() -> None:
    options = panel_simulation("geo", {"channels": {"tv": {"national": True}}})
    truth = simulate_media_panel(options).truth
    market = build_market(options)
    tv = truth.spend[..., truth.channels.index("tv")]
    total = tv.sum(axis=0)
    np.testing.assert_allclose(tv, market.size[:, None] * total, atol=0.011)
    search = truth.spend[..., truth.channels.index("search")]
    assert np.corrcoef(search)[0, 1:].max() < 0.99


def test_contacts_count_by_their_frequency() -> None:
    """The KPI without noise is what reach x Hill(frequency) makes of the columns of the file."""
    options = panel_simulation("reach", {"geos": 2, "periods": 60, "pre_period": 0})
    panel = simulate_media_panel(options)
    truth, c = panel.truth, panel.truth.channels.index("video")
    channel = options.channels[c]
    reach, often = (panel.frame[f"video_{k}"].to_numpy().reshape(2, 60) for k in ("reach", "frequency"))
    np.testing.assert_allclose(reach * often, truth.exposure[..., c], rtol=1e-9)
    hill = reach * often**channel.frequency_slope / (often**channel.frequency_slope + channel.frequency_half**2.5)
    counted = truth.exposure[..., c] * truth.contact_weight[..., c]
    on = reach > 0
    assert np.ptp(counted[on] / hill[on]) < 1e-9 * (counted[on] / hill[on]).mean()  # proportional
    assert truth.contact_weight[..., c][on].std() > 0.1
    assert (truth.contact_weight[..., truth.channels.index("tv")] == 1).all()
    people = panel.frame["population"].to_numpy().reshape(2, 60)
    assert (reach <= people).all()
    assert (reach <= np.ceil(truth.exposure[..., c])).all()
    with pytest.raises(UserError, match="frequency_half"):
        panel_simulation("reach", {"channels": {"tv": {"frequency_half": 2.0}}})
    with pytest.raises(UserError, match="budget_feedback"):
        simulate_media_panel(panel_simulation("reach", {"endogeneity": {"budget_feedback": 1.0}}))


def test_reach_and_frequency_make_up_the_contacts() -> None:
    panel = simulate_media_panel(panel_simulation("geo"))
    frame, truth = panel.frame, panel.truth
    contacts = (frame["video_reach"] * frame["video_frequency"]).to_numpy().reshape(truth.exposure.shape[:2])
    np.testing.assert_allclose(contacts, truth.exposure[..., truth.channels.index("video")], rtol=1e-12)
    assert (frame["video_reach"] <= frame["population"]).all()
    seen = frame["video_frequency"] > 0
    assert (frame.loc[seen, "video_frequency"] >= 1).all()
    assert seen.any()
    assert not seen.all()


def test_every_ready_channel_stands_in_the_large_preset() -> None:
    assert {channel.name for channel in PRESETS["large"].channels} == set(CHANNELS)
    assert {c.adstock.kind for c in CHANNELS.values()} >= {"geometric", "delayed", "binomial", "weibull_pdf"}
