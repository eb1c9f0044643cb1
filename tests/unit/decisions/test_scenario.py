"""Scenarios: against panels evaluated by hand, in plain words and numbers, and every mistake named."""

import dataclasses

import numpy as np
import pytest
import yaml
from tests.conftest import ROOT
from tests.unit.decisions.mix_example import example
from tests.unit.decisions.mix_prices import shelf

from wanamaker.decisions.kpi_money import kpi_kind, unit_costs
from wanamaker.decisions.response import plan_window, window_kpi
from wanamaker.decisions.scenario import compare_scenarios
from wanamaker.decisions.scenario_changes import read_scenario
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions

LINKS = pytest.mark.parametrize("link", ["identity", "log"])
PRESETS = yaml.safe_load((ROOT / "configs" / "decision" / "scenario.yaml").read_text(encoding="utf-8"))["presets"]


def table(predictions: MixPredictions, scenarios: dict, **options: object):
    return compare_scenarios(predictions, scenarios, **options).to_frame().set_index("scenario")


@LINKS
def test_what_changes_nothing_differs_by_exactly_nothing(link: str) -> None:
    predictions = example(link=link, organic=1, cost=2.0)
    frame = table(
        predictions,
        {
            "one": {"media": {"all": {"times": 1.0}}, "price": {"own": {"change": "0%"}}, "display": {"change": 0}},
            "baseline": {},
        },
    )
    numbers = frame[[c for c in frame if "change" in c and c not in ("changes",) and "return" not in c]]
    assert (numbers == 0).all(axis=None)
    assert frame["return_on_change"].isna().all()
    assert (frame["probability_better"] == 0.5).all()
    assert frame.loc["baseline", "changes"] == "nothing"


@LINKS
def test_media_against_the_evaluator_with_money_in_and_out(link: str) -> None:
    predictions = example(link=link, cost=2.0, kpi_value=3.0)
    window = plan_window(predictions, 20, cost="period")
    frame = table(predictions, {"up": {"media": {"TV": {"times": 1.5}, "Search": {"change": 4.0}}}}, periods=20)
    spend = window.spend.copy()
    spend[:, :, 0] *= 1.5
    spend[:, :, 1] += 4.0
    base, new = (window_kpi(predictions.response, window, s) for s in (window.spend, spend))
    change = (new - base).sum(axis=(1, 2))
    up = frame.loc["up"]
    assert up["kpi_baseline"] == pytest.approx(base[:, :, :20].sum(axis=(1, 2)).mean())
    assert up["kpi_change"] == pytest.approx(change.mean())
    assert up["kpi_change_low_90"] == pytest.approx(np.percentile(change, 5))
    assert up["kpi_change_after"] == pytest.approx((new - base)[:, :, 20:].sum(axis=(1, 2)).mean())
    assert up["spend_change"] == pytest.approx((spend - window.spend).sum())
    assert up["value_change"] == pytest.approx(3 * change.mean())
    assert up["profit_change"] == pytest.approx(3 * change.mean() - up["spend_change"])
    assert up["return_on_change"] == pytest.approx(3 * change.mean() / up["spend_change"])
    assert up["probability_better"] == np.mean(3 * change > up["spend_change"])
    assert up["profit_baseline"] == pytest.approx(up["value_baseline"] - up["spend_baseline"])


def test_the_baseline_is_the_models_prediction_and_not_the_sales() -> None:
    predictions = example()
    wrong = dataclasses.replace(predictions, kpi=predictions.kpi * 7)
    options = {"scenarios": {"up": {"media": {"TV": {"times": 2}}}}}
    right, other = (compare_scenarios(p, **options).to_frame() for p in (predictions, wrong))
    assert right.equals(other)


@LINKS
def test_price_and_promotion_move_the_kpi_by_their_parts(link: str) -> None:
    predictions = example(link=link, spread=0.0, kpi_value=2.0)
    frame = table(
        predictions,
        {"cut": {"price": {"own": {"change": "-15%"}}}, "show": {"promotion": {"display": {"set": 1}}}},
        periods=30,
        kpi_is="units",
        unit_cost=1.0,
    )
    rows = predictions.date >= np.unique(predictions.date)[30]
    eta = predictions.parts[0, rows].sum(axis=1, dtype=np.float64)
    price, series = predictions.driver[rows, 0], predictions.series[rows]
    level = predictions.response.driver_amplitude[0, series, 0]
    base = np.exp(eta) if link == "log" else eta
    part = -1.5 * np.log(0.85) * level
    cut = np.exp(eta + part) if link == "log" else eta + part
    assert frame.loc["cut", "kpi_change"] == pytest.approx((cut - base).sum(), rel=1e-4)
    worth = (cut * (0.85 * price - 1)).sum() - (base * (price - 1)).sum()
    assert frame.loc["cut", "profit_change"] == pytest.approx(worth, rel=1e-3)
    assert frame.loc["cut", "kpi_change_after"] == 0
    shown = 0.2 * (1 - predictions.driver[rows, 1]) * level
    show = np.exp(eta + shown) if link == "log" else eta + shown
    assert frame.loc["show", "kpi_change"] == pytest.approx((show - base).sum(), rel=1e-4)
    assert "not deducted" in frame.loc["show", "notes"]


def test_revenue_is_worth_itself_when_prices_change() -> None:
    predictions = example(link="log", spread=0.0)
    response = dataclasses.replace(predictions.response, kpi_unit="EUR")
    predictions = dataclasses.replace(predictions, response=response)
    cut = table(predictions, {"cut": {"price": {"own": {"times": 0.85}}}}).loc["cut"]
    assert cut["value_change"] == pytest.approx(cut["kpi_change"])
    assert cut["kpi_change_share"] == pytest.approx(0.85**-1.5 - 1, rel=1e-3)


def test_limits_by_series_dates_order_and_total() -> None:
    predictions = example(cost=2.0)
    result = compare_scenarios(
        predictions,
        {
            "late": {"media": {"TV": {"times": 3, "start": "2024-01-03"}}, "series": ["geo 1"], "end": "2024-02-01"},
            "twice": {"media": {"TV": [{"times": 2}, {"change": 1, "series": "geo 0"}]}},
            "total": {"media": {"Search": {"total": 5000}}},
            "start": {"media": {"TV": {"set": 10, "start": "2024-01-01", "end": "2024-01-07"}}},
        },
        periods=20,
    )
    window, (late, twice, total, week) = result.window, result.outcomes
    moved = late.plan.spend[:, :, 0] > window.spend[:, :, 0]
    assert not moved[0].any()
    assert not moved[:, window.dates < np.datetime64("2024-01-01")].any(), "the week that holds 3 January counts"
    assert not moved[:, window.dates > np.datetime64("2024-02-01")].any()
    np.testing.assert_allclose(twice.plan.spend[0, :, 0], 2 * window.spend[0, :, 0] + 1)
    np.testing.assert_allclose(twice.plan.spend[1, :, 0], 2 * window.spend[1, :, 0])
    assert total.plan.spend[:, :, 1].sum() == pytest.approx(5000)
    np.testing.assert_allclose(np.ptp(total.plan.spend[:, :, 1] / np.maximum(window.spend[:, :, 1], 1e-9)), 0, atol=5)
    assert (week.plan.spend[:, :, 0] == 10).sum() == 2
    assert result.by_series()["spend_change"].iloc[0] == 0
    assert result.by_input().query("scenario == 'total'")["with_scenario"].iloc[0] == pytest.approx(5000)
    periods = result.by_period()
    assert len(periods) == 4 * 24
    total_change = result.to_frame()["kpi_change"]
    np.testing.assert_allclose(periods.groupby("scenario", sort=False)["kpi_change"].sum(), total_change)
    assert periods["date"].diff().dropna().max().days == 7


def test_organic_media_change_in_their_own_units_and_cost_nothing() -> None:
    frame = table(example(organic=1), {"more": {"media": {"Social": {"times": 2}}}})
    assert frame.loc["more", "kpi_change"] > 0
    assert frame.loc["more", "spend_change"] == 0


def test_what_the_data_never_saw_is_flagged() -> None:
    frame = table(
        example(organic=1, channels=4),
        {
            "huge": {"media": {"TV": {"times": 5}, "Radio": {"times": 3}}},
            "cheap": {"price": {"own": {"times": 0.5}}},
            "less": {"media": {"TV": {"times": 0.5}}},
        },
    )
    assert frame["extrapolates"].tolist() == [True, True, False]
    assert "TV above the most seen in training" in frame.loc["huge", "notes"]
    assert "Radio above" in frame.loc["huge", "notes"]
    assert "price outside the range seen" in frame.loc["cheap", "notes"]


def test_sibling_prices_follow_where_the_panel_shows_that_they_do() -> None:
    predictions = shelf(own=-2.5, cross=0.6)
    one = table(predictions, {"cut": {"price": {"own": {"times": 0.8}}}}, periods=30, unit_cost=0.5).loc["cut"]
    # All prices move by 0.8, so own and cross effects act together.
    assert one["kpi_change_share"] == pytest.approx(0.8 ** (-2.5 + 0.6) - 1, rel=1e-4)
    assert "6 cross prices that consist of the changed prices moved with them" in one["notes"]
    held = table(shelf(geometric=False), {"cut": {"price": {"own": {"times": 0.8}}}}, unit_cost=0.5).loc["cut"]
    assert held["kpi_change_share"] == pytest.approx(0.8**-2.5 - 1, rel=1e-4)
    assert "Cross prices were held fixed" in held["notes"]


def test_missing_prices_change_nothing_where_they_are_missing() -> None:
    predictions = example(link="log", spread=0.0)
    driver = predictions.driver.copy()
    driver[55, 0] = np.nan
    predictions = dataclasses.replace(predictions, driver=driver)
    result = compare_scenarios(predictions, {"cut": {"price": {"own": {"times": 0.9}}}}, periods=10)
    change = result.outcomes[0].period_change
    assert np.isfinite(change).all()
    assert np.isfinite(result.to_frame()["profit_change"]).all()


def test_presets_fit_are_skipped_aloud_or_refused() -> None:
    predictions = example(channels=4, organic=1)
    result = compare_scenarios(predictions, {}, presets=PRESETS, names={"discount": "display"})
    assert [o.scenario.name for o in result.outcomes] == [
        "baseline", "more_media", "less_media", "price_reduction", "premium_positioning", "festival_push"
    ]  # fmt: skip
    ((name, reason),) = result.left_out
    assert name == "aggressive_digital"
    assert "there is no channel 'Digital'" in reason
    assert "decision.names" in reason
    names = {"Digital": ["Social", "TV"], "SEM": "search", "discount": "display"}
    all_of_them = compare_scenarios(predictions, {}, presets=PRESETS, names=names)
    assert not all_of_them.left_out
    (plan,) = (o.plan for o in all_of_them.outcomes if o.scenario.name == "aggressive_digital")
    np.testing.assert_allclose(plan.spend[:, :, [0, 2]], 2 * all_of_them.window.spend[:, :, [0, 2]])
    np.testing.assert_allclose(plan.spend[:, :, 1], 1.5 * all_of_them.window.spend[:, :, 1])
    with pytest.raises(UserError, match="there is no channel 'Digital'"):
        compare_scenarios(predictions, {}, presets=PRESETS, use_presets=["aggressive_digital"])
    with pytest.raises(UserError, match=r"no preset 'festival'\. Did you mean 'festival_push'"):
        compare_scenarios(predictions, {}, presets=PRESETS, use_presets="festival")
    own = {"price_reduction": {"media": {"TV": {"times": 2}}}}
    mine = compare_scenarios(predictions, own, presets=PRESETS, use_presets=["price_reduction", "baseline"])
    assert [o.scenario.changes[0].name for o in mine.outcomes if o.scenario.changes] == ["TV"]
    with pytest.raises(UserError, match=r"no scenario to compute.*Presets that do not fit"):
        compare_scenarios(example(), {}, presets={"a": {"media": {"Digital": {"times": 2}}}})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "scenario s is empty"),
        ({"media": {"tv spots": {"times": 2}}}, "media.tv spots: there is no channel 'tv spots'. There are TV, Search"),
        ({"media": {"Serch": {"times": 2}}}, "Did you mean 'Search'"),
        (
            {"mdia": {"TV": {"times": 2}}},
            "no section, channel, price or promotion 'mdia'. Did you mean 'media'",
        ),
        ({"media": {"TV": 1.2}}, "media.TV=1.2 does not say how it changes: write {times: 1.2}"),
        ({"media": {"TV": {"times": 2, "set": 3}}}, "times=2 and set=3 contradict each other"),
        ({"media": {"TV": {"tims": 2}}}, "there is no 'tims' here. Did you mean 'times'"),
        ({"media": {"TV": {"series": "geo 0"}}}, "says neither times, change, set nor total"),
        ({"media": {"TV": {"times": "15%"}}}, "times='15%' must be a number"),
        ({"media": {"TV": {"change": "-15 pct"}}}, "must be a number, or per cent as text such as -15%"),
        ({"media": {"TV": {"times": -0.15}}}, "times=-0.15 is below 0. To take something away write {change: -15%}"),
        ({"media": {"TV": {"change": "-150%"}}}, "takes away more than there is"),
        ({"media": {"TV": {"change": -1000}}}, "-1,000 EUR in every period makes TV -"),
        ({"media": {"TV": {"set": -1}}}, "it cannot fall below 0"),
        ({"media": {"all": {"total": 100}}}, "a total belongs to one channel"),
        ({"price": {"own": {"total": 100}}}, "for paid channels only"),
        ({"price": {"own": {"change": -100}}}, "a price must stay above 0"),
        ({"price": {"cost": {"times": 2}}}, "there is no price 'cost'"),
        ({"control": {"weather": {"set": 1}}}, "the model has no curve for controls"),
        ({"display": {"set": 1, "start": "2030-01-01"}}, "start=2030-01-01 lies outside the window"),
        ({"display": {"set": 1, "start": "x"}}, "start='x' is no date"),
        ({"display": {"set": 1, "start": "2024-01-09", "end": "2024-01-02"}}, "lies before start"),
        ({"display": {"set": 1}, "series": "geo 7"}, "there is no series 'geo 7'"),
        ({"display": {"set": 1}, "series": 3}, "there is no series '3'"),
        ({"display": {"set": 1}, "series": []}, "series is empty, so nothing would change"),
        ({"media": "TV"}, "media='TV' names no media"),
        (3, "3 is no scenario"),
    ],
)
def test_mistakes_name_value_place_and_remedy(words: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        compare_scenarios(example(), {"s": words}, periods=20)
    assert message in str(error.value)
    assert "scenario s" in str(error.value)


def test_changes_in_words() -> None:
    response = example(organic=1).response
    words = {"media": {"tv": {"change": "+5 %"}, "Social": {"change": -2}}, "price": {"own": {"set": 9.5}}}
    said = [change.said for change in read_scenario("s", words, response).changes]
    assert said == ["+5 %", "-2 media units in every period", "= 9.5 EUR in every period"]


def test_what_a_unit_is_and_costs() -> None:
    response = example().response
    assert kpi_kind(response, None) == "units"
    crore = dataclasses.replace(response, kpi_unit="INR", money_unit="INR crore")
    assert kpi_kind(crore, None) == "revenue"
    with pytest.raises(UserError, match="cannot be told whether the KPI 'sales' in 'conversions' counts units"):
        kpi_kind(dataclasses.replace(response, kpi_unit="conversions"), None)
    with pytest.raises(UserError, match=r"decision\.kpi_is='money': choose from units, revenue"):
        kpi_kind(response, "money")
    price = np.array([10.0, 20.0])
    np.testing.assert_allclose(unit_costs(3, response, price), [3, 3])
    np.testing.assert_allclose(unit_costs("60%", response, price), [6, 12])
    np.testing.assert_allclose(unit_costs({"margin": 0.3}, response, price), [7, 14])
    np.testing.assert_allclose(unit_costs({"geo 0": 1, "default": "50%"}, response, price), [1, 10])
    for wrong, message in (
        ({"geo 9": 1}, "there is no series 'geo 9'"),
        ({"geo 0": 1}, "no cost for series 'geo 1'"),
        ("cheap", "decision.unit_cost='cheap'"),
        (-1, "decision.unit_cost=-1"),
        ({"margin": 30}, "margin=30"),
    ):
        with pytest.raises(UserError, match=message):
            unit_costs(wrong, response, price)


def test_presets_that_cannot_be_valued_do_not_stand_in_the_way() -> None:
    """A price preset needs to know whether the KPI counts units; a scenario on media does not."""
    predictions = example(channels=4)
    odd = dataclasses.replace(predictions, response=dataclasses.replace(predictions.response, kpi_unit="conversions"))
    own = {"up": {"media": {"TV": {"times": 1.1}}}}
    result = compare_scenarios(odd, own, presets=PRESETS, names={"discount": "display"})
    assert {"price_reduction", "premium_positioning"} <= {name for name, _ in result.left_out}
    assert any("kpi_is" in reason for _, reason in result.left_out)
    assert "up" in [o.scenario.name for o in result.outcomes]
    with pytest.raises(UserError, match="kpi_is"):
        compare_scenarios(odd, own, presets=PRESETS, use_presets=["price_reduction"], names={"discount": "display"})


@pytest.mark.parametrize(
    ("scenarios", "options", "message"),
    [
        ({"baseline": {"media": {"TV": {"times": 2}}}}, {}, "decision.scenarios.baseline changes something"),
        ({"s": {"media": {"TV": {"times": 2}}}}, {"kpi_is": "unit"}, "decision.kpi_is='unit': choose from units"),
        ({"s": {"media": {"TV": {"times": 2}}}}, {"names": {"Digital": None}}, "decision.names.Digital=None: give"),
        ({"s": {"media": {"TV": {"times": 2}}}}, {"names": {"Digital": []}}, "decision.names.Digital=.*: give"),
    ],
)
def test_mistakes_around_the_scenarios(scenarios: dict, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_scenarios(example(), scenarios, **options)
