"""How small an effect an experiment of two arms can show, and how many customers it takes.

An effect is shown when the difference of the arms' means is beyond ``z`` standard errors, z = 1.96 at a level of 0.95,
and the power is the probability of that, in the normal approximation of a two-sided test. For rates the standard error
has each arm's own variance p (1 - p), the treated arm's at the rate that it would have with the effect.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def power(
    effect: float,
    num_treated: float,
    num_control: float,
    *,
    rate: float | None = None,
    sd: float | tuple[float, float] | None = None,
    level: float = 0.95,
) -> float:
    """Probability that an experiment shows an effect of this size.

    Args:
        effect: difference of the means, units of the outcome; for a rate 0.01 is one point.
        num_treated, num_control: customers of each arm.
        rate: share of the control arm that responds, for a binary outcome.
        sd: standard deviation of the outcome, for others; a pair is (treated, control).
        level: 1 less the probability of showing an effect that is not there.

    Raises:
        ValueError: not exactly one of ``rate`` and ``sd``, or a number outside its range.
    """
    z = _limit(level)
    error = _standard_error(effect, num_treated, num_control, rate, sd)
    if error == 0:
        return 1.0 if effect else 1.0 - level
    return _NORMAL.cdf(effect / error - z) + _NORMAL.cdf(-effect / error - z)


def minimum_detectable_effect(
    num_treated: float,
    num_control: float,
    *,
    rate: float | None = None,
    sd: float | tuple[float, float] | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    """The smallest positive effect that is shown with the given power; arguments as in `power`.

    Returns:
        Units of the outcome; NaN if even a response of everybody would not be shown.
    """
    z = _limit(level) + _quantile("power", power)
    without = _standard_error(0.0, num_treated, num_control, rate, sd)
    if rate is None:
        return z * without
    # effect^2 = z^2 ((p + effect) (1 - p - effect) / n_t + p (1 - p) / n_c): a quadratic with one positive root.
    share = z**2 / num_treated
    a, b, c = 1 + share, -share * (1 - 2 * rate), -((z * without) ** 2)
    effect = (-b + math.sqrt(b**2 - 4 * a * c)) / (2 * a)
    return effect if rate + effect <= 1 else float("nan")


def customers_needed(
    effect: float,
    *,
    rate: float | None = None,
    sd: float | tuple[float, float] | None = None,
    share_treated: float = 0.5,
    level: float = 0.95,
    power: float = 0.8,
) -> int:
    """Customers of both arms together that show ``effect`` with the given power; other arguments as in `power`."""
    if not 0 < share_treated < 1:
        raise ValueError(f"customers_needed: share_treated={share_treated}; give a share in (0, 1).")
    if effect == 0:
        raise ValueError("customers_needed: effect=0 is shown by no number of customers; give the least that pays.")
    z = _limit(level) + _quantile("power", power)
    error = _standard_error(effect, share_treated, 1 - share_treated, rate, sd)  # of one customer
    return math.ceil((z * error / effect) ** 2)


def _standard_error(
    effect: float,
    num_treated: float,
    num_control: float,
    rate: float | None,
    sd: float | tuple[float, float] | None,
) -> float:
    if (rate is None) == (sd is None):
        raise ValueError(f"power: rate={rate}, sd={sd}; give the rate of a binary outcome, or the sd of another one.")
    if not (num_treated > 0 and num_control > 0):
        raise ValueError(f"power: {num_treated} treated and {num_control} control customers; both arms need some.")
    if rate is not None:
        if not (0 <= rate <= 1 and 0 <= rate + effect <= 1):
            raise ValueError(f"power: rate={rate} and effect={effect} leave [0, 1]; both are shares, not percent.")
        variances = (rate + effect) * (1 - rate - effect), rate * (1 - rate)
    else:
        treated, control = sd if isinstance(sd, tuple) else (sd, sd)
        if not (treated >= 0 and control >= 0):
            raise ValueError(f"power: sd={sd} must not be negative.")
        variances = treated**2, control**2
    return math.sqrt(variances[0] / num_treated + variances[1] / num_control)


def _limit(level: float) -> float:
    return _quantile("level", (1 + level) / 2 if 0 < level < 1 else level)


def _quantile(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(f"power: {name}={share}; give a share in (0, 1).")
    return _NORMAL.inv_cdf(share)
