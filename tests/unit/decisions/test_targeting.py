"""The audience: who gets what, sorted and then limited, sure enough, and shrunk on training rows only."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from uplift_example import example

from wanamaker.decisions.targeting import audience_table, offer_table, plan_targeting
from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.decisions.targeting_policy import read_question
from wanamaker.errors import UserError
from wanamaker.predictions import UpliftPredictions

COSTS = {"coupon": {"per_contact": 0.1, "per_redemption": {"conversion": 4}}, "notice": 0.3}
BASE = {"value": {"conversion": 3, "spend": 0.4}, "costs": COSTS}


def options(**given: object) -> TargetingOptions:
    return TargetingOptions(**{**BASE, **given})  # type: ignore[arg-type]


def test_the_best_are_kept_whatever_their_place_in_the_table() -> None:
    p = example(3_000).predictions
    everyone = audience_table(plan_targeting(p, options(shrinkage=0)))
    assert (np.diff(everyone["net_value"]) <= 0).all()
    few = audience_table(plan_targeting(p, options(shrinkage=0, max_clients=100)))
    assert len(few) == 100
    assert few.equals(everyone.head(100)), "sorted first, then cut"
    assert few["id"].is_unique
    assert (few["low"] <= few["effect"]).all()
    assert (few["net_low"] < few["net_value"]).all()
    turned = p.select(np.arange(len(p)))
    turned = replace(turned, **{n: getattr(turned, n)[::-1] for n in ("id", "effect", "low", "high", "mean")})
    again = audience_table(plan_targeting(turned, options(shrinkage=0, max_clients=100)))
    assert set(again["id"]) == set(few["id"])


def test_limits_are_kept_and_more_is_never_less() -> None:
    p = example(3_000).predictions
    last = 0.0
    for budget in (50, 150, 400, 1_000):
        plan = plan_targeting(p, options(budget=budget, max_clients=1_500, caps={"coupon": 200}))
        table = audience_table(plan)
        assert table["cost"].sum() <= budget * (1 + 1e-9)
        assert len(table) <= 1_500
        assert (table["offer"] == "coupon").sum() <= 200
        assert plan.assignment.value >= last * (1 - 1e-6)
        last = plan.assignment.value
    offers = offer_table(plan)
    assert offers["customers"].sum() == len(table)
    assert offers["cost"].sum() == pytest.approx(table["cost"].sum())
    assert offers["net_value"].sum() == pytest.approx(plan.assignment.value)


def test_tolerance_and_abstention() -> None:
    p = example(2_000).predictions
    plain = audience_table(plan_targeting(p, options(shrinkage=0)))
    picky = audience_table(plan_targeting(p, options(shrinkage=0, tolerance=1.0)))
    assert 0 < len(picky) < len(plain)
    assert picky["net_value"].min() > 1.0
    effect = audience_table(plan_targeting(p, options(shrinkage=0, tolerance=0.06, tolerance_of="effect")))
    assert effect["effect"].min() > 0.06
    assert effect["net_value"].min() > 0, "never at a loss"
    sure = audience_table(plan_targeting(p, options(shrinkage=0, abstain=0.05)))
    assert 0 < len(sure) < len(plain)
    assert sure["net_low"].min() > -1e-6, "0.05 is the low end of the 90 % interval"
    assert len(audience_table(plan_targeting(p, options(shrinkage=0, abstain=0.5)))) == len(plain)
    assert audience_table(plan_targeting(p, options(tolerance=1e6))).empty


def test_shrinkage_goes_to_the_best_single_offer_unless_the_evidence_is_there() -> None:
    useless = [example(4_000, skill=0.0, calibrated=False, seed=seed).predictions for seed in range(6)]
    assert np.mean([plan_targeting(p, options()).policy.shrinkage for p in useless]) >= 0.8
    skilled = plan_targeting(example(40_000, seed=1).predictions, options())
    assert skilled.policy.shrinkage <= 0.3
    p = example(2_000).predictions
    single = plan_targeting(p, options(shrinkage=1))
    assert set(single.assignment.arm) == {single.policy.best}
    assert np.allclose(single.offers.net, single.policy.mean)


def test_nothing_is_learnt_from_the_rows_that_judge() -> None:
    p = example(4_000).predictions
    test = p.split == 2
    outcome = p.outcome.copy()
    outcome[test] = 1 - outcome[test]
    plans = [plan_targeting(q, options()) for q in (p, replace(p, outcome=outcome))]
    assert plans[0].policy.learnt_from == ("train",)
    assert plans[0].judged is not None
    assert plans[0].judged.splits == ("test",)
    for name in ("shrinkage", "best", "path"):
        assert getattr(plans[0].policy, name) == getattr(plans[1].policy, name)
    assert np.array_equal(plans[0].assignment.arm, plans[1].assignment.arm)


def test_rows_that_judge_and_rows_to_choose_from() -> None:
    p = example(2_000, untreated=0.3).predictions
    new = plan_targeting(p, options(target="none"))
    assert len(new.customers) == (p.split == 3).sum()
    assert new.judged is not None
    assert len(new.judged) == (p.split == 2).sum()
    cross = plan_targeting(p, options(evaluate_on="train", shrinkage=0))
    assert any("same train rows that judge" in note for note in cross.policy.notes)
    only_test = plan_targeting(p.select(p.split == 2), options())
    assert only_test.policy.learnt_from == ()
    assert any("no training rows" in note for note in only_test.policy.notes)
    unknown = plan_targeting(p.select(p.split == 3), options())
    assert unknown.judged is None
    assert (unknown.assignment.arm > 0).any()
    with pytest.raises(UserError, match=r"decision.evaluate_on=\['val'\]: no row.*train, test"):
        plan_targeting(p, options(evaluate_on="val"))
    with pytest.raises(UserError, match=r"decision.target=\['val'\]: no customer"):
        plan_targeting(p, options(target="val"))
    with pytest.raises(UserError, match="got 'notice'"):
        plan_targeting(p.select((p.split == 2) & (p.treatment != 2)), options())


def test_the_written_predictions_give_the_same_audience(tmp_path: object) -> None:
    p = example(500).predictions
    back = UpliftPredictions.read(p.write(tmp_path))  # type: ignore[arg-type]
    tables = [audience_table(plan_targeting(q, options())) for q in (back, p)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": 0}, "decision.budget=0: a budget is money above 0"),
        ({"max_clients": 0}, "decision.max_clients=0: a whole number, 1 or more"),
        ({"max_clients": 1.5}, "decision.max_clients=1.5"),
        ({"caps": {"coupon": -1}}, "decision.caps.coupon=-1"),
        ({"caps": 5}, "decision.caps=5: write a mapping"),
        ({"tolerance_of": "gross"}, "choose from net, effect"),
        ({"abstain": 0.9}, "lower quantile"),
        ({"shrinkage": 2}, "decision.shrinkage=2: a number from 0 to 1, or auto"),
        ({"shrinkage": "much"}, "decision.shrinkage='much'"),
        ({"level": 1.0}, "decision.level=1 must lie between"),
        ({"draws": 1}, "decision.draws=1"),
        ({"target": "holdout"}, "decision.target names 'holdout'"),
        ({"evaluate_on": []}, "decision.evaluate_on is empty"),
        ({"evaluate_on": ["all", "tset"]}, "decision.evaluate_on names 'tset'"),
        ({"tolerance": -5}, "decision.tolerance=-5: a net value of 0 or more"),
    ],
)
def test_mistakes_in_the_options(given: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        options(**given)


def test_a_cap_on_an_unknown_offer() -> None:
    with pytest.raises(UserError, match=r"decision.caps names the offer 'letter'.*coupon, notice"):
        plan_targeting(example(60).predictions, options(caps={"letter": 3}))


def test_a_budget_where_nothing_costs_anything() -> None:
    with pytest.raises(UserError, match=r"decision.budget=100 limits nobody.*coupon: 0.5, notice: 0.5"):
        plan_targeting(example(60).predictions, options(budget=100, costs=None))


def test_the_question_is_read_without_a_row() -> None:
    """As it is before anything is predicted."""
    nobody = example(60).predictions.select(np.zeros(0, np.int64))
    assert read_question(nobody, options()).main == plan_targeting(example(60).predictions, options()).policy.money.main
    with pytest.raises(UserError, match=r"decision.value=null: there are 3 outcomes"):
        read_question(nobody, TargetingOptions())
    with pytest.raises(UserError, match=r"decision.caps names the offer 'letter'"):
        read_question(nobody, options(caps={"letter": 3}))


def test_whoever_stands_first_is_not_preferred_where_all_are_worth_the_same() -> None:
    p = example(2_000).predictions
    plan = plan_targeting(p, options(shrinkage=1, max_clients=200))
    chosen = np.flatnonzero(plan.assignment.arm)
    assert len(chosen) == 200
    assert chosen.mean() > 500, "not the first rows"
    own = plan.policy.money.gross(p)[:, plan.policy.best - 1]
    assert own[chosen].min() >= np.sort(own)[-201], "but those of whom the model expects most"
