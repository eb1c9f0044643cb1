"""Power and detectable effects against simulated experiments and against each other."""

import math

import numpy as np
import pytest

from wanamaker.metrics.uplift_power import customers_needed, minimum_detectable_effect, power


def test_textbook_numbers() -> None:
    """Two arms of 63 show half a standard deviation with power 0.8 (Cohen 1988: 64 with the t distribution)."""
    assert minimum_detectable_effect(63, 63, sd=1.0) == pytest.approx(0.5, abs=0.001)
    assert customers_needed(0.5, sd=1.0) == 126
    assert customers_needed(-0.5, sd=1.0) == 126
    # Two rates of 10 % and 12 %: 3,839 an arm (unpooled variances).
    assert customers_needed(0.02, rate=0.10) == pytest.approx(2 * 3839, abs=2)


@pytest.mark.parametrize("outcome", [{"rate": 0.1}, {"rate": 0.97}, {"sd": 3.0}, {"sd": (4.0, 1.0)}])
def test_the_three_agree(outcome: dict) -> None:
    effect = minimum_detectable_effect(2000, 1000, **outcome, level=0.9, power=0.75)
    # The far side of a two-sided test adds next to nothing.
    assert power(effect, 2000, 1000, **outcome, level=0.9) == pytest.approx(0.75, abs=1e-3)
    needed = customers_needed(effect, **outcome, share_treated=2 / 3, level=0.9, power=0.75)
    assert needed == pytest.approx(3000, abs=1)


def test_power_is_the_share_of_experiments_that_show_it() -> None:
    rng = np.random.default_rng(0)
    treated, control = rng.binomial(800, 0.15, 4000) / 800, rng.binomial(400, 0.1, 4000) / 400
    error = np.sqrt(treated * (1 - treated) / 800 + control * (1 - control) / 400)
    shown = np.abs(treated - control) > 1.96 * error
    assert power(0.05, 800, 400, rate=0.1) == pytest.approx(shown.mean(), abs=0.03)
    assert power(0.0, 800, 400, rate=0.1) == pytest.approx(0.05)
    assert power(-0.05, 800, 400, sd=1.0) == pytest.approx(power(0.05, 800, 400, sd=1.0))


def test_limits() -> None:
    assert power(0.5, 10, 10, sd=0.0) == 1.0
    assert math.isnan(minimum_detectable_effect(3, 3, rate=0.9)), "everybody would have to respond, and more"
    assert minimum_detectable_effect(1e12, 1e12, sd=1.0) < 1e-5


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"rate=0\.1, sd=1\.0; give the rate of a binary outcome, or the sd"):
        power(0.1, 10, 10, rate=0.1, sd=1.0)
    with pytest.raises(ValueError, match=r"rate=10 and effect=1 leave \[0, 1\]; both are shares, not percent"):
        power(1, 10, 10, rate=10)
    with pytest.raises(ValueError, match="0 treated and 10 control customers"):
        minimum_detectable_effect(0, 10, rate=0.1)
    with pytest.raises(ValueError, match="level=95; give a share"):
        power(0.1, 10, 10, rate=0.1, level=95)
    with pytest.raises(ValueError, match="effect=0 is shown by no number of customers"):
        customers_needed(0, rate=0.1)
