"""Propensity: who is on the list, which rows judge, thresholds, money and intervals."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.conftest import ROOT

from wanamaker.decisions.propensity import plan_propensity, score_frame
from wanamaker.decisions.propensity_options import PropensityOptions
from wanamaker.decisions.propensity_profit import profit_curve
from wanamaker.decisions.propensity_reasons import reason_frame, reasons_in_words, strongest
from wanamaker.decisions.propensity_resample import interval, resampled
from wanamaker.decisions.propensity_scores import judge, metric_frame
from wanamaker.decisions.propensity_survival import segment_survival, survival_frame
from wanamaker.decisions.propensity_thresholds import threshold_frame
from wanamaker.errors import UserError
from wanamaker.metrics.propensity_classification import auc

sys.path.insert(0, str(ROOT / "tests" / "unit" / "decisions"))
from propensity_example import example


def options(**given: Any) -> PropensityOptions:
    return PropensityOptions(**{"draws": 20, **given})


def test_customers_are_in_order_and_those_above_the_base_rate_are_contacted() -> None:
    p = example(800)
    plan = plan_propensity(p, options())
    frame = score_frame(plan)
    assert len(frame) == 800
    assert frame["id"].is_unique
    assert (np.diff(frame["churn"]) <= 0).all()
    assert plan.judging == ("test",)
    assert plan.learning == ("val",)
    limit = plan.thresholds[0]
    assert limit is not None
    assert limit.rule == "base_rate"
    assert limit.value == pytest.approx(plan.learned[0].base_rate)
    np.testing.assert_array_equal(frame["contact"], frame["churn"] >= limit.value)
    own = frame.set_index("id").loc["c00007"]
    assert own["ltv"] == pytest.approx(p.score[7, 2])
    assert own["churn_within_60"] == pytest.approx(1 - p.survival[7, 1])
    assert (frame["churn_low"] <= frame["churn"]).all()


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"top": 0.1}, 80),
        ({"top": 30}, 30),
        ({"top": 30, "rank_by": "ltv"}, 30),
        ({"threshold": 1.0}, 0),
        ({"threshold": {"churn": 0.0}, "top": 5}, 5),
    ],
)
def test_top_and_thresholds(given: dict, count: int) -> None:
    plan = plan_propensity(example(800), options(**given))
    assert plan.contact.sum() == count
    assert plan.contact[:count].all()
    assert plan.lead == (2 if given.get("rank_by") else 0)


@pytest.mark.parametrize("rule", ["profit", "base_rate", "constant", "otsu", "yen", "isodata", "kmeans"])
def test_every_rule_decides(rule: str) -> None:
    plan = plan_propensity(example(600), options(threshold=rule, value=60, cost=20))
    limit = plan.thresholds[0]
    assert limit is not None
    assert limit.rule == rule
    np.testing.assert_array_equal(plan.contact, plan.customers.score[:, 0].astype(float) >= limit.value)


def test_net_value_decides_where_money_is_given() -> None:
    plan = plan_propensity(example(1_200), options(value={"churn": 60, "ltv": 0.1}, cost=25))
    p = plan.customers
    assert plan.net is not None
    np.testing.assert_allclose(plan.net, 60.0 * p.score[:, 0] + 0.1 * p.score[:, 2] - 25, atol=1e-4)
    np.testing.assert_array_equal(plan.contact, plan.net > 0)
    assert (np.diff(plan.net) <= 0).all()
    assert plan.unit == "EUR"
    frame = score_frame(plan)
    assert (frame["net_low"] <= frame["net_value"] + 1e-6).all()
    assert (frame["net_value"] <= frame["net_high"] + 1e-6).all()


def test_what_is_lost_turns_the_interval_round() -> None:
    frame = score_frame(plan_propensity(example(200), options(value={"churn": -60, "ltv": 1.0})))
    assert (frame["net_low"] <= frame["net_value"] + 1e-6).all()
    assert (frame["net_value"] <= frame["net_high"] + 1e-6).all()


def test_profit_is_that_of_the_rows_contacted() -> None:
    p = example(2_000, tasks=("conversion", "ltv"))
    plan = plan_propensity(p, options(value=50, cost=20))
    curve = profit_curve(plan)
    assert curve is not None
    test = p.split == 2
    took = p.score[test, 0].astype(float) * 50 - 20 > 0
    brought = 1000 * float((took * (50 * p.label[test, 0] - 20)).mean())
    assert curve.profit.value == pytest.approx(brought)
    assert curve.profit.low < brought < curve.profit.high
    assert curve.everyone.value == pytest.approx(1000 * float((50 * p.label[test, 0] - 20).mean()))
    assert curve.observed[-1] == pytest.approx(curve.everyone.value)
    assert curve.observed[round(curve.chosen * 200)] == pytest.approx(brought, rel=0.05)
    frame = threshold_frame(plan.question, "conversion", plan.rules[0], plan.judged[0], plan.customers.score[:, 0])
    even = frame[frame["rule"] == "break_even"].iloc[0]
    assert even["threshold"] == pytest.approx(0.4)
    assert even["profit_per_1000"] == pytest.approx(brought, rel=1e-6)
    assert even["precision"] == pytest.approx(p.label[test, 0][took].mean())
    assert even["recall"] == pytest.approx(p.label[test, 0][took].sum() / p.label[test, 0].sum())


def test_the_latest_position_of_each_customer_is_on_the_list() -> None:
    p = example(100, prefixes=4, tasks=("conversion",))
    for given in (p, replace(p, moment=np.full(400, np.datetime64("NaT"), "datetime64[s]"))):
        plan = plan_propensity(given, options())
        assert len(plan.customers) == 100
        assert plan.repeated == 300
        assert (plan.customers.events == 4).all()
        assert len(plan.judged[0]) == 100, "every position of the 25 test customers judges"
        assert len(np.unique(plan.judged[0].customer)) == 25


def test_censored_customers_weigh_on_those_watched() -> None:
    p = example(4_000, tasks=("churn",))
    rows = plan_propensity(p, options()).judged[0]
    assert rows.lost > 0
    assert rows.survival is not None
    assert len(rows) + rows.lost == len(rows.survival.place)
    assert rows.weight.sum() == pytest.approx(len(rows.survival.place), rel=0.02)
    assert rows.base_rate == pytest.approx(rows.score.mean(), abs=0.04), "the example is calibrated"


def test_scores_of_every_kind_of_task() -> None:
    p = example(1_600, tasks=("churn", "conversion", "ltv", "orders"))
    plan = plan_propensity(p, options())
    scores = judge(plan)
    test = p.split == 2
    assert scores[1]["auc"].value == pytest.approx(auc(p.label[test, 1], p.score[test, 1]))
    assert scores[1]["auc"].low < scores[1]["auc"].value < scores[1]["auc"].high
    assert 0.9 < scores[2]["total"].value < 1.2
    assert scores[0]["concordance"].value > 0.7
    frame = metric_frame(plan, scores)
    assert set(frame["task"]) == {"churn", "conversion", "ltv", "orders"}
    assert frame["value"].notna().all()
    again = metric_frame(plan, judge(plan))
    assert frame.equals(again), "the seed decides"


def test_rows_that_judge() -> None:
    p = example(400)
    assert plan_propensity(p, options(evaluate_on="val")).judging == ("val",)
    assert plan_propensity(p, options(evaluate_on="val")).learning == ("train",)
    assert plan_propensity(p.select(p.split == 0), options()).learning == ("train",), "nothing else is there"
    new = plan_propensity(example(50, labelled=False), options())
    assert new.judging == ()
    assert not any(len(rows) for rows in new.judged)
    limit = new.thresholds[0]
    assert limit is not None
    assert limit.rule == "mean"


def test_intervals_draw_customers_with_all_their_rows() -> None:
    customer = np.repeat(np.arange(50), 4)
    values = np.repeat(np.random.default_rng(1).normal(size=50), 4)
    for rows, shrink in resampled(customer, 5, 0):
        assert shrink == 1
        assert (np.bincount(customer[rows], minlength=50) % 4 == 0).all()
    value, low, high = interval(lambda r: values[r].mean(), customer, 400, 0, 0.9)
    assert high - low == pytest.approx(2 * 1.645 * values.std() / np.sqrt(50), rel=0.15)
    assert low < value < high


def test_large_tables_are_drawn_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanamaker.decisions.propensity_resample._MOST", 500)
    values = np.random.default_rng(1).normal(size=5_000)
    assert {len(rows) for rows, _ in resampled(np.arange(5_000), 3, 0)} == {500}
    _, low, high = interval(lambda r: values[r].mean(), np.arange(5_000), 400, 0, 0.9)
    assert high - low == pytest.approx(2 * 1.645 / np.sqrt(5_000), rel=0.15)


def test_survival_by_segment() -> None:
    p = example(3_000, tasks=("churn",))
    fifths = segment_survival(plan_propensity(p, options()), 0)
    ends = [s.predicted[-1] for s in fifths]
    assert len(fifths) == 5
    assert ends == sorted(ends, reverse=True)
    assert all(abs(s.at_edges[-1] - s.predicted[-1]) < 0.12 for s in fifths)
    plans = segment_survival(plan_propensity(p, options(segment_by="plan")), 0)
    assert [s.name for s in plans] == ["month to month", "one year", "two years"]
    assert sum(s.rows for s in plans) == 750
    frame = survival_frame(plan_propensity(p, options()))
    assert len(frame) == 5 * 4
    assert survival_frame(plan_propensity(example(20, tasks=("ltv",)), options())).empty


def test_reasons_in_words() -> None:
    p = example(3, reasons=2)
    p = replace(
        p,
        reason=np.array([[[0, 1]] * 3, [[1, -1]] * 3, [[-1, -1]] * 3]),
        push=np.array([[[0.9, -0.5]] * 3, [[0.1, 0]] * 3, [[0, 0]] * 3], np.float32),
    )
    both = "plan raises (odds x2.5); tenure lowers (odds x0.61)"
    assert list(reasons_in_words(p, 0)) == [both, "tenure raises (odds x1.11)", ""]
    assert reasons_in_words(p, 2)[1] == "tenure raises (amount x1.11)"
    numbers = replace(p, kinds=("hazard", "binary", "regression"))
    assert reasons_in_words(numbers, 2)[0] == "plan raises (+0.9); tenure lowers (-0.5)"
    frame = reason_frame(p)
    assert list(frame["feature"][:2]) == ["plan", "tenure"]
    assert frame["mean_push"][0] == pytest.approx(0.3)
    assert strongest(p, 0) == ("plan", pytest.approx(0.9 / 1.5, rel=1e-5))
    assert strongest(example(3, reasons=0), 0) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": "ostu"}, "decision.threshold='ostu': choose from profit"),
        ({"threshold": {"churn": "nothing"}}, "decision.threshold.churn='nothing'"),
        ({"threshold": {"chrun": 0.5}}, r"decision.threshold names the task 'chrun'.*did you mean 'churn'"),
        ({"threshold": "profit"}, "needs decision.value of churn above 0"),
        ({"threshold": {"ltv": "otsu"}}, "ltv is an amount: give a number, or base_rate"),
        ({"rank_by": "spend"}, "decision.rank_by names the task 'spend'"),
        ({"rank_by": "net_value"}, "needs decision.value"),
        ({"top": 1.5}, "decision.top=1.5: a whole number of customers, or a share"),
        ({"top": 0}, "decision.top=0"),
        ({"value": {"churn": "much"}}, "decision.value.churn='much' is not a number"),
        ({"value": {"chum": 5}}, "decision.value names the task 'chum'"),
        ({"value": 0}, "a contact that brings nothing never pays"),
        ({"value": {"churn": -5}}, "names no task that is worth something"),
        ({"threshold": 2}, "decision.threshold=2: churn is a probability; give a number from 0 to 1"),
        ({"threshold": {"ltv": -1}}, "ltv is an amount of 0 or more"),
        ({"cost": 5}, "without decision.value"),
        ({"cost": -1, "value": 3}, "money per contact, 0 or more"),
        ({"segment_by": "region"}, "decision.segment_by names the trait"),
        ({"target": "none"}, "there are customers in train, val, test"),
        ({"evaluate_on": "none"}, "no row of these splits has a known outcome"),
        ({"target": "tset"}, "decision.target names 'tset'"),
        ({"level": 1}, "decision.level=1"),
        ({"draws": 1}, "decision.draws=1"),
    ],
)
def test_mistakes(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_propensity(example(40), PropensityOptions(**given))
