"""Policy values and their differences: by hand, and against the truth and the spread of a simulated experiment."""

import math

import numpy as np
import pytest

from wanamaker.metrics.doubly_robust import dr_scores
from wanamaker.metrics.policy_value import Trial, everybody, policy_difference, policy_value

TRIAL = Trial(np.array([0, 1, 1, 0]), np.array([4.0, 8.0, 6.0, 2.0]), np.array([[0.5, 0.5]] * 2 + [[0.8, 0.2]] * 2))


def test_values_by_hand() -> None:
    assigned = np.array([1, 1, 1, 0])
    # Rows 1, 2 and 3 got what they are assigned: 8 / 0.5, 6 / 0.2, 2 / 0.8.
    assert policy_value(assigned, TRIAL, "ipw").value == pytest.approx((16 + 30 + 2.5) / 4)
    assert policy_value(assigned, TRIAL, "snipw").value == pytest.approx((16 + 30 + 2.5) / (2 + 5 + 1.25))
    scores = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    value, error = policy_value(assigned, scores)
    assert value == pytest.approx((2 + 4 + 6 + 7) / 4)
    assert error == pytest.approx(np.std([2, 4, 6, 7]) / 2)
    assert policy_value(assigned, scores, weight=np.array([1, 0, 0, 1])).value == pytest.approx(4.5)
    gain, error = policy_difference(assigned, everybody(1, 4), scores)
    assert (gain, error) == pytest.approx((-0.25, np.std([0, 0, 0, -1]) / 2))


def test_a_policy_may_draw() -> None:
    coin = np.full((4, 2), 0.5)
    scores = np.arange(8.0).reshape(4, 2)
    both = [policy_value(everybody(arm, 4), scores).value for arm in (0, 1)]
    assert policy_value(coin, scores).value == pytest.approx(np.mean(both))
    both = [policy_value(everybody(arm, 4), TRIAL, "ipw").value for arm in (0, 1)]
    assert policy_value(coin, TRIAL, "ipw").value == pytest.approx(np.mean(both))


def test_estimators_meet_the_truth_and_know_their_spread() -> None:
    """Arm 1 helps where x is high, arm 2 brings 0.3 for all: assigning arm 1 above one half is worth 0.625 + 0.65."""
    rng = np.random.default_rng(0)
    found: dict[str, list] = {name: [] for name in ("dr", "ipw", "snipw", "difference", "apart")}
    propensity = np.tile([0.5, 0.3, 0.2], (300, 1))
    for _ in range(400):
        x = rng.random(300)
        treatment = (rng.random(300)[:, None] > np.cumsum(propensity, axis=1)).sum(axis=1)
        effects = np.stack([np.zeros(300), x, np.full(300, 0.3)], axis=1)
        outcome = 0.75 + x + effects[np.arange(300), treatment] + rng.normal(scale=0.4, size=300)
        trial = Trial(treatment, outcome, propensity)
        scores = dr_scores(treatment, outcome, (0.5 + x)[:, None] + effects, propensity)
        policy = np.where(x > 0.5, 1, 2)
        found["dr"].append(policy_value(policy, scores))
        found["ipw"].append(policy_value(policy, trial, "ipw"))
        found["snipw"].append(policy_value(policy, trial, "snipw"))
        found["difference"].append(policy_difference(policy, everybody(2, 300), scores))
        other = policy_value(everybody(2, 300), scores)
        found["apart"].append((0.0, math.hypot(found["dr"][-1].standard_error, other.standard_error)))
    truth = dict.fromkeys(("dr", "ipw", "snipw"), 1.25 + 0.375 + 0.15) | {"difference": 0.375 - 0.15}
    errors = {name: np.array(rows)[:, 1].mean() for name, rows in found.items()}
    for name, expected in truth.items():
        value, error = np.array(found[name]).T
        assert abs(value.mean() - expected) < 3 * value.std() / 20 + 0.003, name
        assert error.mean() == pytest.approx(value.std(), rel=0.1), name
        assert 0.86 < (np.abs(value - expected) < 1.645 * error).mean() < 0.94, name
    assert errors["dr"] < errors["snipw"] < errors["ipw"]
    assert errors["difference"] < 0.9 * errors["apart"]


def test_equal_policies_differ_by_nothing() -> None:
    rng = np.random.default_rng(1)
    policy, scores = rng.integers(0, 3, 50), rng.normal(size=(50, 3))
    assert policy_difference(policy, policy.copy(), scores) == (0.0, 0.0)


def test_nobody_got_what_the_policy_assigns() -> None:
    value, error = policy_value(1 - TRIAL.treatment, TRIAL, "snipw")
    assert math.isnan(value)
    assert math.isnan(error)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"method='ipw' reads a Trial of treatment, outcome, propensity, but got nd"):
        policy_value(np.zeros(2, int), np.zeros((2, 2)), "ipw")
    with pytest.raises(ValueError, match="method='best' is not known; give one of dr, ipw, snipw"):
        policy_value(np.zeros(2, int), np.zeros((2, 2)), "best")
    with pytest.raises(ValueError, match="assigned goes from 0 to 2, but arms go from 0 to 1"):
        policy_value(np.array([0, 2]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"assigned has shape \(3,\); expected \(2,\) or \(2, 2\)"):
        policy_value(np.zeros(3, int), np.zeros((2, 2)))
