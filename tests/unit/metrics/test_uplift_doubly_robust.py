"""Doubly robust scores, and TOC and RATE with their standard errors: by hand, and against the spread of simulations."""

import math

import numpy as np
import pytest

from wanamaker.metrics.doubly_robust import (
    autoc,
    average_effect,
    dr_effects,
    dr_loss,
    dr_scores,
    rate,
    toc,
)
from wanamaker.metrics.uplift_bootstrap import bootstrap_interval


def test_scores_by_hand() -> None:
    mean = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    propensity = np.array([[0.5, 0.25, 0.25], [0.98, 0.01, 0.01]])
    scores = dr_scores(np.array([0, 2]), np.array([2.0, 5.0]), mean, propensity)
    assert scores.tolist() == [[3.0, 2.0, 3.0], [1.0, 2.0, 3.0 + 2 / 0.02]]
    assert dr_scores(np.array([0, 2]), np.array([2.0, 5.0]), mean, propensity, clip=0.0)[1, 2] == pytest.approx(203)
    assert dr_effects(scores)[0].tolist() == [-1.0, 0.0]
    assert mean[0].tolist() == [1.0, 2.0, 3.0], "the means given are left alone"


@pytest.mark.parametrize("wrong", ["means", "probabilities"])
def test_either_the_means_or_the_probabilities_may_be_wrong(wrong: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.random(200_000)
    chance = 0.2 + 0.6 * x
    treatment = (rng.random(len(x)) < chance).astype(int)
    outcome = x + treatment * 0.5 + rng.normal(size=len(x))
    mean, propensity = np.stack([x, x + 0.5], axis=1), np.stack([1 - chance, chance], axis=1)
    if wrong == "means":
        mean = np.zeros_like(mean)
    else:
        propensity = np.full_like(propensity, 0.5)
    effect = average_effect(dr_effects(dr_scores(treatment, outcome, mean, propensity))[:, 0])
    assert abs(effect.value - 0.5) < 4 * effect.standard_error < 0.05
    naive = outcome[treatment == 1].mean() - outcome[treatment == 0].mean()
    assert naive > 0.65


def test_toc_and_rates_by_hand() -> None:
    score, effect = np.array([3.0, 2.0, 2.0, 1.0]), np.array([8.0, 1.0, 3.0, 0.0])
    curve = toc(score, effect)
    assert curve.share.tolist() == [0.25, 0.75, 1.0]
    assert curve.value.tolist() == pytest.approx([8 - 3, 12 / 3 - 3, 0])
    # TOC(u) = 5 to 1/4; then (2 + 2 (u - 1/4)) / u - 3 = 1.5 / u - 1 to 3/4; then 3 / u - 3.
    area = 5 / 4 + 1.5 * math.log(3) - 0.5 + 3 * math.log(4 / 3) - 3 / 4
    assert autoc(score, effect).value == pytest.approx(area)
    qini = 5 * (1 / 16) / 2 + 1.5 * 0.5 - (9 / 16 - 1 / 16) / 2 + 3 / 4 - 3 * (1 - 9 / 16) / 2
    assert rate(score, effect, "qini").value == pytest.approx(qini)


def test_a_ranking_that_tells_nothing_is_zero() -> None:
    effect = np.random.default_rng(0).normal(size=50)
    for weighting in ("autoc", "qini"):
        flat = rate(np.zeros(50), effect, weighting)
        assert flat.value == pytest.approx(0.0, abs=1e-12)
        assert flat.standard_error == pytest.approx(0.0, abs=1e-12)


def test_weights_repeat_rows_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    score, effect = rng.integers(0, 20, 300) / 10, rng.normal(size=300)
    weight = rng.integers(0, 3, 300)
    order = rng.permutation(300)
    for weighting in ("autoc", "qini"):
        weighted = rate(score, effect, weighting, weight)
        repeated = rate(np.repeat(score, weight), np.repeat(effect, weight), weighting)
        assert weighted.value == pytest.approx(repeated.value, rel=1e-9)
        shuffled = rate(score[order], effect[order], weighting, weight[order])
        assert shuffled == pytest.approx(weighted, rel=1e-9)
    curve, again = toc(score, effect, weight), toc(np.repeat(score, weight), np.repeat(effect, weight))
    assert curve.value[curve.share > 0] == pytest.approx(again.value, abs=1e-9)


@pytest.mark.parametrize("weighting", ["autoc", "qini"])
@pytest.mark.parametrize("levels", [None, 6])
def test_a_placebo_arm_is_covered_as_often_as_promised(weighting: str, levels: int | None) -> None:
    """No effect at all, a fair coin, a model of the outcome that is off: 90 % intervals hold 0 in 90 % of tables."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(600):
        x = rng.random(400)
        treatment = rng.integers(0, 2, 400)
        outcome = (rng.random(400) < 0.1 + 0.5 * x).astype(float)
        mean = np.stack([0.3 + 0.1 * x] * 2, axis=1)
        effect = dr_effects(dr_scores(treatment, outcome, mean, np.full((400, 2), 0.5)))[:, 0]
        found.append(rate(x if levels is None else np.floor(x * levels), effect, weighting))
    value, error = np.array(found).T
    assert 0.87 < (np.abs(value) < 1.645 * error).mean() < 0.93
    assert abs(value.mean()) < 3 * value.std() / math.sqrt(600)
    assert np.sqrt((error**2).mean()) == pytest.approx(value.std(), rel=0.08)


@pytest.mark.parametrize(("weighting", "truth"), [("autoc", 1 / 4), ("qini", 1 / 12)])
def test_a_real_ranking_is_covered_as_often_as_promised(weighting: str, truth: float) -> None:
    """The effect is the score, uniform: AUTOC is integral (1 - u) (-log u - 1) du = 1/4, Qini 1/12. The level is 2."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(600):
        x = rng.random(300)
        found.append(rate(x, 2 + x + rng.normal(scale=0.5, size=300), weighting))
    value, error = np.array(found).T
    assert abs(value.mean() - truth) < 3 * value.std() / math.sqrt(600) + 0.002
    assert np.sqrt((error**2).mean()) == pytest.approx(value.std(), rel=0.08)
    assert 0.87 < (np.abs(value - truth) < 1.645 * error).mean() < 0.93


def test_standard_error_is_that_of_the_multiplier_bootstrap() -> None:
    """Multinomial weights on the rows, as Yadlowsky et al. resample."""
    rng = np.random.default_rng(4)
    x = rng.random(800)
    effect = 1 + x + rng.normal(size=800)
    resampled = bootstrap_interval(lambda score, seen: autoc(score, seen).value, [x, effect], draws=400)
    assert autoc(x, effect).standard_error == pytest.approx(resampled.standard_error, rel=0.12)


def test_standard_error_of_the_toc_matches_its_spread() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(500):
        x = np.arange(200) / 200
        curve = toc(x, x + rng.normal(size=200))
        found.append((curve.value[[19, 99, 199]], curve.standard_error[[19, 99, 199]]))
    value, error = np.array(found).transpose(1, 0, 2)
    assert value.mean(axis=0) == pytest.approx([0.45, 0.25, 0.0], abs=0.02)
    assert error.mean(axis=0)[:2] == pytest.approx(value.std(axis=0)[:2], rel=0.15)
    assert (error[:, 2] == 0).all()


def test_dr_loss_prefers_the_true_effect() -> None:
    rng = np.random.default_rng(6)
    truth = rng.normal(size=5000)
    seen = truth + rng.normal(scale=3, size=5000)
    assert dr_loss(truth, seen) < min(dr_loss(truth * 0, seen), dr_loss(2 * truth, seen))
    assert dr_loss(np.array([1.0, 2.0]), np.array([3.0, 2.0]), np.array([1.0, 3.0])) == 1.0


def test_mistakes_are_named() -> None:
    half = np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="A row has arm -1, but there are probabilities for arms 0 to 1"):
        dr_scores(np.array([0, -1]), np.zeros(2), half, half)
    with pytest.raises(ValueError, match="1 of 2 outcomes are not known; leave these rows out"):
        dr_scores(np.array([0, 1]), np.array([0.0, np.nan]), half, half)
    with pytest.raises(ValueError, match="1 of 2 rows got an arm of probability 0"):
        dr_scores(np.array([0, 1]), np.zeros(2), half, np.array([[1.0, 0.0], [1.0, 0.0]]), clip=0.0)
    with pytest.raises(ValueError, match="disagree"):
        dr_scores(np.zeros(3, int), np.zeros(2), half, half)
    with pytest.raises(ValueError, match="weighting='area' is not known; give one of autoc, qini"):
        rate(np.zeros(2), np.zeros(2), "area")
