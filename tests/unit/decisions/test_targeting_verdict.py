"""Is targeting worth it: values against the truth, and advice by the stated rules."""

from dataclasses import replace

import numpy as np
import pytest
from uplift_example import example

from wanamaker.decisions.targeting import plan_targeting
from wanamaker.decisions.targeting_curve import MODEL, SINGLE, cost_curve, curve_table
from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.decisions.uplift_verdict import policy_table, score_table, uplift_verdict

COSTS = {"coupon": {"per_contact": 0.1, "per_redemption": {"conversion": 4}}, "notice": 0.3}
BASE = {"value": {"conversion": 3, "spend": 0.4}, "costs": COSTS}


def options(**given: object) -> TargetingOptions:
    return TargetingOptions(**{**BASE, **given})  # type: ignore[arg-type]


def test_values_against_the_truth() -> None:
    sample = example(30_000, seed=4)
    plan = plan_targeting(sample.predictions, options())
    verdict = uplift_verdict(plan)
    assert verdict is not None
    assert plan.judged is not None
    test = sample.predictions.split == 2
    money = plan.policy.money
    net = sample.effect[test] @ money.value - money.cost(plan.judged.predictions)
    truth = {f"{name} to everyone": 1000 * net[:, a].mean() for a, name in enumerate(("coupon", "notice"))}
    arm = plan.assignment.arm[test]
    truth["The model's choice"] = 1000 * np.where(arm > 0, net[np.arange(len(net)), arm - 1], 0).mean()
    for policy in verdict.policies:
        if policy.name in truth:
            assert abs(policy.value.value - truth[policy.name]) < 3 * policy.value.standard_error
    nobody = verdict.policies[0]
    assert nobody.value == (0.0, 0.0)
    assert nobody.cost == 0
    assert verdict.model.beyond.value == pytest.approx(verdict.model.value.value - verdict.single.value.value)
    paired, apart = (
        verdict.model.beyond.standard_error,
        np.hypot(verdict.model.value.standard_error, verdict.single.value.standard_error),
    )
    assert paired < 0.8 * apart, "differences are paired by row"
    assert (verdict.advice, verdict.rule) == ("model", 0)
    buyers = next(p for p in verdict.policies if p.kind == "buyers")
    assert verdict.against_buyers.value == pytest.approx(verdict.model.value.value - buyers.value.value)
    assert 0 < verdict.detectable < verdict.model.beyond.value
    for score in verdict.offers:
        assert verdict.bounds(score.autoc)[0] > 0
        assert 0 < score.detectable < score.average.value
    assert verdict.offers[0].correlation < -0.5, "the coupon moves those who seldom buy"
    assert policy_table(verdict)["best_single"].sum() == 1
    assert len(score_table(verdict)) == 2


def test_a_placebo_is_not_sent() -> None:
    verdict = uplift_verdict(plan_targeting(example(20_000, placebo=True, seed=1).predictions, options()))
    assert verdict is not None
    assert (verdict.advice, verdict.rule) == ("nothing", 3)
    wide = replace(verdict, level=0.99)
    for score in verdict.offers:
        low, high = wide.bounds(score.autoc)
        assert low < 0 < high


def test_one_offer_that_does_everyone_good_is_sent_to_everyone() -> None:
    p = example(20_000, skill=0.0, seed=3).predictions
    plan = plan_targeting(p, options(costs={"coupon": 0.02, "notice": 0.4}))
    verdict = uplift_verdict(plan)
    assert verdict is not None
    assert (verdict.advice, verdict.rule, verdict.single.offer) == ("single", 1, "coupon")


def test_too_few_customers_to_tell() -> None:
    verdict = uplift_verdict(plan_targeting(example(900, seed=1).predictions, options(shrinkage=0)))
    assert verdict is not None
    assert (verdict.advice, verdict.rule) == ("more", 4)
    assert 0 < verdict.more < 20 * verdict.rows
    # As many customers as that would show the same difference with the power asked for.
    better = max((verdict.model, verdict.single), key=lambda p: p.value.value / p.value.standard_error).value
    shown = better.value / (better.standard_error * np.sqrt(verdict.rows / (verdict.rows + verdict.more)))
    assert shown == pytest.approx(1.645 + 0.842, abs=0.01)


def test_within_limits_everyone_gets_the_same_money() -> None:
    plan = plan_targeting(example(20_000, seed=4).predictions, options(budget=2_000, max_clients=6_000))
    verdict = uplift_verdict(plan)
    assert verdict is not None
    allowed = 1000 * 2_000 / 20_000
    for policy in verdict.policies:
        assert policy.cost <= allowed * 1.02
        assert policy.share <= 0.301
    assert verdict.model.cost == pytest.approx(allowed, rel=0.02)
    assert verdict.single.name == "notice to a random 30%"
    assert verdict.advice == "model"


def test_no_outcomes_no_verdict() -> None:
    p = example(400, untreated=0.5).predictions
    plan = plan_targeting(p.select(p.split == 3), options())
    assert uplift_verdict(plan) is None
    assert cost_curve(plan) is None


def test_the_curve_ends_where_the_policies_are() -> None:
    plan = plan_targeting(example(20_000, seed=4).predictions, options())
    curve, verdict = cost_curve(plan), uplift_verdict(plan)
    assert curve is not None
    assert verdict is not None
    model, single = curve.lines[MODEL], curve.lines[SINGLE]
    assert model.end == pytest.approx(verdict.model.cost)
    last = np.flatnonzero(np.isfinite(model.value))[-1]
    assert model.value[last] == pytest.approx(verdict.model.value.value)
    assert single.end == pytest.approx(verdict.single.cost)
    slope = verdict.single.value.value / verdict.single.cost
    assert single.value[1] == pytest.approx(slope * curve.spend[1])
    inside = slice(1, last + 1)
    assert (model.low[inside] < model.value[inside]).all()
    assert (model.value[inside] < model.high[inside]).all()
    half = (model.high[last] - model.low[last]) / 2
    assert half == pytest.approx(1.645 * verdict.model.value.standard_error, rel=0.25), "bootstrap and formula agree"
    assert model.beyond[10] > 0
    assert model.beyond_low[10] > 0
    table = curve_table(curve)
    assert set(table["way"]) == set(curve.lines)
    assert not table.isna().any().any()


def test_free_offers_are_counted_in_customers() -> None:
    plan = plan_targeting(example(3_000).predictions, options(costs=None, shrinkage=0))
    curve = cost_curve(plan)
    assert curve is not None
    assert curve.contacts
    assert curve.spend[-1] == pytest.approx(1000)


def test_weights_are_customers() -> None:
    """A row of weight 2 judges as two rows do."""
    p = example(1_000, seed=6).predictions
    heavy = replace(p, weight=np.where(p.split == 2, 1 + p.row % 2, 1.0))
    rows = np.repeat(np.arange(1_000), heavy.weight.astype(int))
    twice = replace(p.select(rows[:0]), **{n: getattr(p, n)[rows] for n in PER_ROW} | {"row": np.arange(len(rows))})
    one, two = (uplift_verdict(plan_targeting(q, options(shrinkage=0))) for q in (heavy, twice))
    assert one is not None
    assert two is not None
    assert one.single.value.value == pytest.approx(two.single.value.value)
    assert one.model.beyond.value == pytest.approx(two.model.beyond.value)
    assert one.offers[0].autoc.value == pytest.approx(two.offers[0].autoc.value)


PER_ROW = ("id", "split", "treatment", "outcome", "weight", "cost", "mean", "propensity", "effect", "low", "high")
