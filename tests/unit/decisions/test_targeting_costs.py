"""Values and costs of offers: what the user writes, and what it is worth."""

import numpy as np
import pytest
from uplift_example import example

from wanamaker.decisions.targeting_costs import money_of
from wanamaker.errors import UserError

P = example(600).predictions
FREE = {"coupon": 0, "notice": 0}


def test_net_value_is_effects_less_the_cost_of_all_who_redeem() -> None:
    costs = {
        "coupon": {"per_contact": 0.1, "per_redemption": {"conversion": 4}, "percent": {"spend": 0.1}},
        "notice": 0.3,
    }
    money = money_of(P, {"conversion": 3, "spend": 0.4}, costs)
    mean = P.mean.astype(float)
    coupon = 0.1 + 4 * mean[:, 1, 1] + 0.1 * mean[:, 1, 2]
    assert money.cost(P) == pytest.approx(np.column_stack([coupon, np.full(600, 0.3)]))
    effect = P.effect.astype(float)
    assert money.gross(P) == pytest.approx(3 * effect[..., 1] + 0.4 * effect[..., 2])
    assert (money.unit, money.main, money.free) == ("EUR", 1, False)
    assert money.needs(1)
    assert not money.needs(0)
    assert "visit" in money.notes[0], "what is worth nothing is said"
    # Scores are linear in the same way: with the expected outcomes for scores they give the expected money.
    scores = [None, mean[..., 1], mean[..., 2]]
    net = money.net_scores(scores)
    assert money.cost_scores(scores)[:, 1:] == pytest.approx(money.cost(P), rel=1e-5)
    truth = (mean[:, 1:] - mean[:, :1]) @ money.value - money.cost(P)
    assert net[:, 1:] - net[:, :1] == pytest.approx(truth, abs=1e-5)


def test_defaults() -> None:
    one = example(60, outcomes=("spend",)).predictions
    money = money_of(one, None, None)
    assert (money.value.tolist(), money.unit, money.free) == ([1.0], "EUR", True)
    assert any("counts as 1" in note for note in money.notes)
    assert any("decision.costs" in note for note in money.notes)
    assert money_of(one, 0.4, FREE).value.tolist() == [0.4]
    visits = example(60, outcomes=("visit",)).predictions
    assert money_of(visits, None, FREE).unit == "visit"
    assert money_of(visits, {"visit": 1.0}, FREE).unit == "visit"
    assert money_of(visits, {"visit": 2.0}, FREE).unit == "money"
    assert money_of(visits, {"visit": 2.0}, FREE, "GBP").unit == "GBP"


def test_bad_outcomes_lose_money() -> None:
    """An outcome such as churn has a negative value; its interval turns round."""
    money = money_of(P, {"visit": -2.0}, FREE)
    assert money.gross(P) == pytest.approx(-2 * P.effect[..., 0].astype(float))
    assert money.spread(P) == pytest.approx(2 * (P.high - P.effect)[..., 0], abs=1e-5)


@pytest.mark.parametrize(
    ("value", "costs", "words"),
    [
        (None, FREE, r"decision.value=null: there are 3 outcomes.*decision.value=\{visit: 1.0, conversion: 1.0, spend"),
        (2.0, FREE, "decision.value=2.0: there are 3 outcomes"),
        ({"spent": 1}, FREE, r"outcome 'spent' \(did you mean 'spend'\?\); the model knows visit, conversion, spend"),
        ({"spend": 0}, FREE, "at least one must be worth something"),
        ({"spend": "x"}, FREE, "decision.value.spend='x' is not a number"),
        ({"spend": 1}, {"coupon": 1}, r"lacks 'notice'.*Write decision.costs=\{coupon: 1, notice: 0.0\}"),
        ({"spend": 1}, {**FREE, "cuopon": 1}, r"the arm 'cuopon' \(did you mean 'coupon'\?\).*take it out"),
        ({"spend": 1}, {**FREE, "none": 1}, "'none' is the control"),
        ({"spend": 1}, {**FREE, "coupon": -1}, "decision.costs.coupon=-1: a cost is money paid"),
        ({"spend": 1}, {**FREE, "coupon": {"each": 1}}, "the part 'each'.*per_contact, per_redemption, percent"),
        ({"spend": 1}, {**FREE, "coupon": {"percent": 0.1}}, "name the outcome it goes with"),
        ({"spend": 1}, {**FREE, "coupon": {"percent": {"sales": 0.1}}}, "names the outcome 'sales'"),
        ({"spend": 1}, {**FREE, "coupon": {"percent": {"spend": 10}}}, "Write 0.1 for 10 per cent"),
        ({"spend": 1}, {**FREE, "coupon": {"percent": {"visit": 0.1}}}, r"per_redemption: \{visit: 0.1\}"),
        ({"spend": 1}, {**FREE, "coupon": {"per_redemption": {"spend": 1}}}, "'spend' is an amount"),
    ],
)
def test_mistakes(value: object, costs: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        money_of(P, value, costs)
