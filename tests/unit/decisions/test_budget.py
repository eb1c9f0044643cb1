"""The optimiser against known optima: by bisection on the shadow price, by brute force, by finite differences."""

import dataclasses

import numpy as np
import pytest
from mix_example import example
from scipy.optimize import brentq

from wanamaker.decisions.budget import REFERENCE, BudgetPlan, optimise_budget, thin_draws
from wanamaker.decisions.budget_options import BudgetOptions
from wanamaker.decisions.budget_tables import (
    beyond_history,
    cell_table,
    channel_table,
    comparison_table,
    constraint_table,
    gain_steps,
    move_table,
    robust_gain,
)
from wanamaker.decisions.response import plan_window
from wanamaker.predictions import MixPredictions

FULL = ("channel", "series", "period")


def instant(**options) -> MixPredictions:  # type: ignore[no-untyped-def]
    """Without carry-over and with one draw, every cell stands alone: optima are known in closed form."""
    return example(taps=1, draws=1, spread=0.0, **options)


def closed_form(predictions: MixPredictions, total: float, upper: float = np.inf) -> tuple[np.ndarray, float]:
    """The best plan of 1 - exp(-x) curves by bisection on the price: a e^(-x) / scale = price in every open cell."""
    window, response = plan_window(predictions), predictions.response
    size = np.broadcast_to(response.amplitude[0][:, None], window.spend.shape)
    scale = np.broadcast_to(response.media_scale[:, None], window.spend.shape)

    def plan(price: float) -> np.ndarray:
        return np.clip(scale * np.log(np.maximum(size / scale / price, 1e-300)), 0, upper)

    price = brentq(lambda p: plan(p).sum() - total, 1e-9, (size / scale).max(), xtol=1e-14, rtol=1e-14)
    return (size * (1 - np.exp(-plan(price) / scale))).sum(), price


def test_the_known_optimum_of_a_concave_problem() -> None:
    predictions = instant(channels=4, geos=3)
    total = float(plan_window(predictions).spend.sum())
    best, price = closed_form(predictions, total)
    found = optimise_budget(predictions, BudgetOptions(resolution=FULL))
    assert found.variables.count == 4 * 3 * 52
    assert found.best.gain[0] == pytest.approx(best, rel=1e-4), "0.1 % is promised"
    assert found.budget_price == pytest.approx(price, rel=1e-3)
    assert found.best.total == pytest.approx(total, rel=1e-12)
    assert (found.gap_kind, found.solution.converged, found.certified) == ("concave", True, True)
    assert found.gap >= best - found.best.gain[0] - 1e-6 * best, "the proof holds"
    assert found.solution.kkt_residual < 1e-4


def test_the_known_optimum_under_cell_bounds() -> None:
    predictions = instant(channels=3, geos=2)
    total = float(plan_window(predictions).spend.sum())
    best, price = closed_form(predictions, total, upper=40.0)
    options = BudgetOptions(resolution=FULL, cell_bounds={"default": [0, 40]})
    found = optimise_budget(predictions, options)
    assert found.best.plan.max() == pytest.approx(40.0)
    assert found.best.gain[0] == pytest.approx(best, rel=1e-4)
    assert found.budget_price == pytest.approx(price, rel=1e-3)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_no_random_plan_beats_it(link: str) -> None:
    predictions = example(link=link, kpi_value=20.0 if link == "log" else 1.0)
    found = optimise_budget(predictions, BudgetOptions())
    rng = np.random.default_rng(3)
    from wanamaker.decisions.response import ResponseSurface

    surface = ResponseSurface(found.response, found.window)
    shape = found.window.spend / found.window.spend.sum(axis=(0, 1))
    near = found.best.plan.sum(axis=(0, 1)) / found.total
    tried = [
        surface.value(shape * found.total * weights).mean()
        for weights in [*rng.dirichlet(np.ones(3), 200), *rng.dirichlet(500 * near, 200)]
    ]
    assert surface.value(found.best.plan).mean() >= max(tried) * (1 - 1e-9)


def test_an_s_curve_whose_equal_split_is_a_poor_local_optimum() -> None:
    """Two channels alike: the equal split is a stationary point, one channel alone is far better."""
    predictions = instant(channels=2, geos=1, shape="s")
    response = predictions.response
    alike = dataclasses.replace(
        response,
        amplitude=np.full_like(response.amplitude, 100.0),
        media_scale=np.full_like(response.media_scale, 50.0),
    )
    media = np.full_like(predictions.media, 20.0)  # x = 0.4, on the flat foot of x^3 / (1 + x^3)
    predictions = dataclasses.replace(predictions, response=alike, media=media, spend=media.copy())
    grid = np.linspace(0, 1, 20_001)
    money = 52 * 40.0

    def brings(share: np.ndarray) -> np.ndarray:
        x = share * money / 52 / 50.0
        return 52 * 100.0 * x**3 / (1 + x**3)

    brute = (brings(grid) + brings(1 - grid)).max()
    equal = 2 * brings(np.array([0.5]))[0]
    assert brute > 2.5 * equal
    found = optimise_budget(predictions, BudgetOptions())
    assert found.best.gain[0] == pytest.approx(brute, rel=1e-3)
    assert found.naive["equal"].gain[0] == pytest.approx(equal, rel=1e-3)
    assert len(found.starts) > 5
    assert found.gap_kind == "envelope"
    assert found.gap >= 0


def test_s_curves_of_several_channels_against_brute_force() -> None:
    predictions = instant(channels=3, geos=1, shape="s", seed=4)
    found = optimise_budget(predictions, BudgetOptions())
    from wanamaker.decisions.response import ResponseSurface

    surface = ResponseSurface(found.response, found.window)
    shape = found.window.spend / found.window.spend.sum(axis=(0, 1))
    ticks = np.arange(61) / 60
    table = np.zeros((61, 3))
    for k, share in enumerate(ticks):  # channels add up: one table each is enough for every combination
        parts = surface.parts(shape * found.total * share)[0].sum(axis=(0, 1))
        table[k] = parts
    best = max(table[i, 0] + table[j, 1] + table[60 - i - j, 2] for i in range(61) for j in range(61 - i))
    assert found.best.gain[0] >= best * (1 - 1e-3)


def test_shadow_prices_are_what_the_optimum_gains() -> None:
    predictions = example(channels=4, geos=2)
    base = {
        "resolution": ("channel", "series"),
        "total": 14_000.0,
        "bounds": {"TV": [3_000, 3_500], "Search": [7_500, None]},
        "groups": [{"name": "north", "series": ["geo 0"], "max": 4_500}],
        "linear": [
            {"name": "CO2", "coefficients": {"Social": 0.2, "Radio": {"geo 1": 0.5, "default": 0.3}}, "max": 1_000}
        ],
        "tolerance": 1e-7,
    }

    def solved(**changed) -> BudgetPlan:  # type: ignore[no-untyped-def]
        return optimise_budget(predictions, BudgetOptions(**(base | changed)))

    found = solved()
    prices = constraint_table(found).set_index("limit")["shadow_price"]
    moved = {
        "total budget": lambda step: {"total": 14_000 + step},
        "bounds of TV": lambda step: {"bounds": {**base["bounds"], "TV": [3_000 + step, 3_500]}},
        "bounds of Search": lambda step: {"bounds": {**base["bounds"], "Search": [7_500 + step, None]}},
        "group north": lambda step: {"groups": [{**base["groups"][0], "max": 4_500 + step}]},
        "linear CO2": lambda step: {"linear": [{**base["linear"][0], "max": 1_000 + step}]},
    }
    binding = 0
    for name, change in moved.items():
        up, down = (solved(**change(step)).score["plan"] for step in (5.0, -5.0))
        assert prices[name] == pytest.approx((up - down) / 10.0, rel=0.01, abs=2e-4), name
        binding += abs(prices[name]) > 1e-3
    assert binding >= 4, "limits that bind are tested"
    assert prices["bounds of Search"] <= 0, "a minimum costs"


def test_carry_over_out_of_the_window_counts() -> None:
    """With a long memory, money in the last periods pays after the window: leaving it out would starve them."""
    predictions = example(channels=2, geos=1, taps=9, draws=1, spread=0.0)
    found = optimise_budget(predictions, BudgetOptions(resolution=FULL, periods=20))
    last, middle = found.best.plan[0, -2:].mean(), found.best.plan[0, 8:12].mean()
    assert last > 0.6 * middle


@pytest.mark.parametrize("objective", ["cvar", "mean_sd", "chance"])
def test_goals_that_look_at_risk(objective: str) -> None:
    predictions = example(draws=40, spread=0.4, channels=4)
    plain = optimise_budget(predictions, BudgetOptions(resolution=("channel", "series")))
    target = float(np.quantile(plain.best.gain, 0.4))
    beat = target if objective == "chance" else None
    options = BudgetOptions(objective=objective, worst=0.2, beat=beat, resolution=("channel", "series"))
    found = optimise_budget(predictions, options)

    def score(gain: np.ndarray) -> float:
        if objective == "cvar":
            return float(np.sort(gain)[:8].mean())
        return float(gain.mean() - gain.std()) if objective == "mean_sd" else float((gain > target).mean())

    assert found.score["plan"] == pytest.approx(score(found.best.gain))
    assert score(found.best.gain) >= score(plain.best.gain) - 1e-9
    assert found.best.gain.mean() <= plain.best.gain.mean() * (1 + 1e-9)
    if objective == "cvar":
        assert found.certified
        assert found.budget_price > 0


def test_a_target_return_finds_its_total() -> None:
    predictions = example()
    found = optimise_budget(predictions, BudgetOptions(target_roi=2.5))
    assert found.best.gain.mean() / found.total == pytest.approx(2.5, rel=1e-5)
    marginal = optimise_budget(predictions, BudgetOptions(target_mroi=1.5))
    assert marginal.budget_price == pytest.approx(1.5, rel=1e-3)
    more = optimise_budget(predictions, BudgetOptions(total=marginal.total + 50))
    assert (more.score["plan"] - marginal.score["plan"]) / 50 == pytest.approx(1.5, rel=0.01)
    assert marginal.naive[REFERENCE].total == pytest.approx(marginal.total), "naive plans cost the same"


def test_every_limit_is_kept_to_the_cent() -> None:
    predictions = example(channels=4, geos=3, organic=1)
    window = plan_window(predictions)
    options = BudgetOptions(
        total=11_000,
        resolution=FULL,
        bounds={"TV": ["60%", "90%"], "default": [100, None]},
        change={"Search": "15%", "TV": 60},
        history_limit=1.2,
        groups=[{"name": "south", "series": ["geo 2"], "max_share": 0.3}, {"channels": ["TV", "Social"], "min": "40%"}],
    )
    plan = optimise_budget(predictions, options).best.plan
    current = window.spend.sum(axis=(0, 1))
    assert plan.sum() == pytest.approx(11_000, abs=1e-6)
    assert 0.6 * current[0] - 1e-6 <= plan[..., 0].sum() <= 0.9 * current[0] + 1e-6
    weekly = plan.sum(axis=0)
    assert (np.abs(np.diff(weekly[:, 1])) <= 0.15 * weekly[:-1, 1] + 1e-6).all()
    assert (np.abs(np.diff(weekly[:, 0])) <= 60 + 1e-6).all()
    assert (plan <= 1.2 * window.max_spend[:, None] + 1e-6).all()
    assert plan[2].sum() <= 0.3 * 11_000 + 1e-6
    assert plan[..., [0, 2]].sum() >= 0.4 * (current[0] + current[2]) - 1e-6
    assert not plan[..., 3].any(), "organic"
    assert (plan >= 0).all()


def test_what_is_held_or_never_spent_stays() -> None:
    predictions = example(channels=4)
    spend, media = predictions.spend.copy(), predictions.media.copy()
    spend[:, 3] = media[:, 3] = 0
    predictions = dataclasses.replace(predictions, spend=spend, media=media)
    found = optimise_budget(predictions, BudgetOptions(hold=["TV"], resolution=FULL))
    np.testing.assert_array_equal(found.best.plan[..., 0], found.window.spend[..., 0])
    assert not found.best.plan[..., 3].any()
    assert list(channel_table(found)["role"]) == ["fixed", "planned", "planned", "fixed"]
    opened = optimise_budget(predictions, BudgetOptions(bounds={"Radio": [500, 2_000]}))
    assert 500 - 1e-6 <= opened.best.plan[..., 3].sum() <= 2_000 + 1e-6
    assert opened.best.plan[0, :, 3].std() < 1e-9, "spread evenly over the periods"


def test_resolution_keeps_the_pattern_of_what_is_not_free() -> None:
    predictions = example()
    found = optimise_budget(predictions, BudgetOptions(resolution="channel"))
    ratio = found.best.plan.sum(axis=(0, 1)) / found.window.spend.sum(axis=(0, 1))
    np.testing.assert_allclose(found.best.plan, found.window.spend * ratio, rtol=1e-9)
    by_series = optimise_budget(predictions, BudgetOptions(resolution=["series"]))
    ratio = by_series.best.plan.sum(axis=1, keepdims=True) / by_series.window.spend.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(by_series.best.plan, by_series.window.spend * ratio, rtol=1e-9)
    full = optimise_budget(predictions, BudgetOptions(resolution=FULL))
    scores = [p.score["plan"] for p in (found, by_series, full)]
    assert scores == sorted(scores), "more freedom never brings less"


def test_a_current_plan_that_breaks_the_limits_is_still_what_is_compared_with() -> None:
    predictions = example()
    low = {"TV": ["150%", None]}
    found = optimise_budget(predictions, BudgetOptions(bounds=low))
    assert found.naive[REFERENCE].adjusted
    np.testing.assert_allclose(found.reference.plan, found.window.spend, rtol=1e-12)
    np.testing.assert_allclose(found.reference.gain, found.current.gain)
    assert not found.already_optimal


def test_an_optimal_start_is_said_to_be_optimal() -> None:
    predictions = example()
    first = optimise_budget(predictions, BudgetOptions(tolerance=1e-7))
    factor = first.best.plan.sum(axis=(0, 1)) / first.window.spend.sum(axis=(0, 1))
    best = dataclasses.replace(predictions, spend=predictions.spend * factor, media=predictions.media * factor)
    # The history grows with the spend, so one more round of the same is needed.
    for _ in range(6):
        again = optimise_budget(best, BudgetOptions(tolerance=1e-7))
        factor = again.best.plan.sum(axis=(0, 1)) / again.window.spend.sum(axis=(0, 1))
        best = dataclasses.replace(best, spend=best.spend * factor, media=best.media * factor)
    again = optimise_budget(best, BudgetOptions())
    assert again.already_optimal
    assert again.solution.kkt_residual < 1e-4
    assert again.certified
    assert not first.already_optimal


def test_the_unit_of_money_does_not_matter() -> None:
    plain = optimise_budget(example(), BudgetOptions(resolution=["series"]))
    cents = optimise_budget(example(cost=1e6, kpi_value=1e6), BudgetOptions(resolution=["series"]))
    np.testing.assert_allclose(cents.best.plan / 1e6, plain.best.plan, rtol=1e-4)
    assert cents.budget_price == pytest.approx(plain.budget_price, rel=1e-4)


def test_one_draw_and_many_are_the_same_question() -> None:
    many = example(draws=6, spread=0.0)
    one = thin_draws(many, 1)
    assert one.response.num_draws == 1
    a, b = (optimise_budget(p, BudgetOptions()) for p in (many, one))
    np.testing.assert_allclose(a.best.plan, b.best.plan, rtol=1e-6)
    table = comparison_table(b)
    assert table["value_low_90"].isna().all(), "one draw has no interval"


def test_tables_say_what_the_plan_is() -> None:
    predictions = example(channels=4, organic=1, draws=30)
    found = optimise_budget(predictions, BudgetOptions(total=30_000, resolution=FULL))
    cells = cell_table(found)
    assert len(cells) == 2 * 52 * 3
    assert cells["planned_spend"].sum() == pytest.approx(30_000)
    assert list(cells.columns[:3]) == ["series", "date", "channel"]
    flagged = cells[cells["beyond_history"]]
    assert len(flagged) == beyond_history(found).sum() > 0, "a total this large goes beyond history"
    assert (flagged["against_history"] > 1).all()
    channels = channel_table(found)
    assert channels["planned_spend"].sum() == pytest.approx(30_000)
    open_ones = channels[channels["role"] == "planned"]
    np.testing.assert_allclose(open_ones["planned_marginal_roi"], found.budget_price, rtol=0.02)
    comparison = comparison_table(found).set_index("plan")
    assert comparison.loc["optimised", "value"] == pytest.approx(found.best.gain.mean())
    assert (comparison["optimised_brings_more"].drop(["optimised", "current"]) >= -1e-6).all()
    assert comparison.loc["scaled history", "spend"] == pytest.approx(30_000)
    moves = move_table(found)
    assert (moves["brings"] > 0).all()
    assert robust_gain(found, moves).shape == (30,)
    steps = gain_steps(found)
    assert [name for name, _ in steps] == ["between channels", "between series", "between periods"]
    gain = (found.best.gain - found.reference.gain).mean()
    assert sum(value for _, value in steps) == pytest.approx(gain)
