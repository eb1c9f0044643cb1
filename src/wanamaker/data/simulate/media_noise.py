"""What separates the observed from the expected KPI; every family has mean 0 and the size that was asked for.

Axis letters: G series, T periods.
"""

from __future__ import annotations

import numpy as np

from wanamaker.data.simulate.media_fields import refuse
from wanamaker.data.simulate.media_options import Noise

TAIL = 1e-4
"""Student's t is drawn between its quantiles TAIL and 1 - TAIL: one draw shall not decide a whole panel."""


def noise_scale(rule: Noise, expected: np.ndarray) -> np.ndarray:
    """Parameter of the noise per series, [G], from the expected KPI [G, T]; see `PanelTruth.noise_scale`.

    Raises:
        UserError: counts cannot be as exact as `snr` asks: a Poisson variance is the least.
    """
    if rule.snr is None:
        return np.zeros(len(expected))
    variance = expected.var(axis=1) / rule.snr
    if rule.family in ("gaussian", "student_t"):
        return np.sqrt(variance)
    square = (expected**2).mean(axis=1)
    if rule.family == "lognormal":
        return np.sqrt(np.log1p(variance / square))
    excess = variance - expected.mean(axis=1)
    if (excess <= 0).any():
        worst = int(np.argmin(excess))
        limit = float(expected[worst].var() / expected[worst].mean())
        raise refuse(
            "noise.snr",
            rule.snr,
            f"series {worst} sells too little to be counted as exactly; give less than {limit:.3g}, a larger level, or "
            "family: poisson.",
        )
    return excess / square


def noise_sd(rule: Noise, expected: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Root mean square over time of the standard deviation of the noise, KPI units, [G]."""
    if rule.family in ("gaussian", "student_t"):
        return scale
    square = (expected**2).mean(axis=1)
    if rule.family == "lognormal":
        return np.sqrt(square * np.expm1(scale**2))
    return np.sqrt(expected.mean(axis=1) + scale * square)


def observe(rule: Noise, expected: np.ndarray, scale: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Observed KPI, [G, T]; counts are whole.

    Args:
        rule: The family.
        expected: [G, T]; below 0 only in sums whose effects are too large.
        scale: [G], from `noise_scale`.
        quantiles: [G, T], uniform in (0, 1): where in its distribution each observation lies.
    """
    from scipy import special

    size = scale[:, None]
    if rule.family == "gaussian":
        return expected + size * special.ndtri(quantiles)
    if rule.family == "student_t":
        within = np.clip(quantiles, TAIL, 1 - TAIL)
        unit = np.sqrt((rule.degrees - 2) / rule.degrees)
        return expected + size * unit * special.stdtrit(rule.degrees, within)
    if rule.family == "lognormal":
        return expected * np.exp(size * special.ndtri(quantiles) - size**2 / 2)
    from scipy import stats

    mean = np.maximum(expected, 1e-9)
    if rule.family == "poisson":
        return stats.poisson.ppf(quantiles, mean)
    count = np.broadcast_to(1.0 / size, mean.shape)
    return stats.nbinom.ppf(quantiles, count, count / (count + mean))
