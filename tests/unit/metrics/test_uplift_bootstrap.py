"""Bootstrap intervals and paired comparisons."""

import math

import numpy as np
import pytest

from wanamaker.metrics.uplift_bootstrap import bootstrap_interval, paired_comparison, two_sided_p
from wanamaker.metrics.uplift_curves import qini_sklift


def test_interval_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap_interval(np.mean, [values], draws=1000, level=0.9)
    error = values.std() / 20
    assert found.value == values.mean()
    assert found.standard_error == pytest.approx(error, rel=0.08)
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.645 * error, found.value + 1.645 * error), abs=0.02
    )
    assert found == bootstrap_interval(np.mean, [values], draws=1000, level=0.9), "the same seed, the same interval"
    assert found != bootstrap_interval(np.mean, [values], draws=1000, level=0.9, seed=1)


def test_strata_keep_their_sizes_and_rows_stay_together() -> None:
    arm = np.array([1, 0, 1, 0, 0, 2] * 5)
    value = arm * 100 + np.arange(30)

    def statistic(arm: np.ndarray, value: np.ndarray) -> float:
        assert np.bincount(arm).tolist() == [15, 10, 5]
        assert (value // 100 == arm).all()
        return float(value.mean())

    assert bootstrap_interval(statistic, [arm, value], draws=20, stratify=arm).standard_error > 0


def test_a_pair_is_told_apart_though_each_is_uncertain() -> None:
    rng = np.random.default_rng(1)
    treated, x = rng.integers(0, 2, 1000), rng.normal(size=1000)
    y = (rng.random(1000) < np.clip(0.3 + 0.2 * treated * x, 0, 1)).astype(int)
    good, worse = x, x + 0.5 * rng.normal(size=1000)
    found = paired_comparison(qini_sklift, good, worse, [treated, y], draws=60, stratify=treated)
    assert found.first == qini_sklift(good, treated, y)
    assert found.difference.value == pytest.approx(found.first - found.second)
    alone = [
        bootstrap_interval(qini_sklift, [score, treated, y], draws=60, stratify=treated) for score in (good, worse)
    ]
    apart = math.hypot(*(interval.standard_error for interval in alone))
    assert found.difference.standard_error < 0.8 * apart
    same = paired_comparison(qini_sklift, good, good, [treated, y], draws=5)
    assert same.difference[:4] == (0.0, 0.0, 0.0, 0.0)
    assert math.isnan(same.p_value)


def test_undefined_draws_are_counted() -> None:
    found = bootstrap_interval(lambda v: v.mean() if v.max() > 8 else math.nan, [np.arange(10.0)], draws=100)
    assert 20 < found.undefined < 60
    assert found.low > 2
    never = bootstrap_interval(lambda v: math.nan, [np.arange(10.0)], draws=10)
    assert never.undefined == 10
    assert math.isnan(never.low)


def test_p_value() -> None:
    assert two_sided_p(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert two_sided_p(-1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert two_sided_p(0.0, 1.0) == 1.0


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got lengths \[2, 3\], draws=200, level=0\.9"):
        bootstrap_interval(np.mean, [np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match="draws=1"):
        bootstrap_interval(np.mean, [np.zeros(2)], draws=1)
