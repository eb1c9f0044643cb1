"""Saturation: how much the next unit of media still adds. Every curve is 0 at 0.

All arguments broadcast against each other, all curves are differentiable in all of them, and media below 0 count as 0.

A power below 1 has an infinite slope at 0. So that no weight ever receives an infinite gradient, each power-like curve
(`gamma_cdf`, `beta_gamma_kernel`, `hill`, `root`) is replaced by its chord between 0 and `ORIGIN` = 1e-6 of its own
scale (of rate * x, x, x / half and x): it stays continuous, monotone and exactly 0 at 0, and the slope at 0 is
f(ORIGIN) / ORIGIN, the mean slope of the first millionth.

Axis letters: J knots of a curve.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wanamaker.nn.incomplete_gamma import regularised_gamma

ORIGIN = 1e-6


def gamma_cdf(x: Tensor, shape: Tensor, rate: Tensor) -> Tensor:
    """P(shape, rate * x): the distribution function of a gamma distribution; "beta-gamma" as a saturation.

    Its slope is proportional to x^(shape - 1) exp(-rate x): the beta-gamma kernel is the *marginal* response of this
    curve. It rises from 0 to 1, S-shaped for shapes above 1 (steepest at (shape - 1) / rate), concave otherwise.

    Args:
        x: media, at least 0.
        shape: above 0.
        rate: above 0, one over the unit of ``x``.

    Returns:
        Values in [0, 1]. Gradients (first and second) in all arguments are exact; the one in ``shape`` does not exist
        in PyTorch and is summed from a series, see `regularised_gamma`.
    """
    return _from_origin(rate * _positive(x), lambda z: regularised_gamma(shape, z))


def beta_gamma_kernel(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """x^alpha exp(-beta x): the literal "beta-gamma" curve of older systems, kept for comparison only.

    It is no saturation: it rises to its peak at x = alpha / beta (`beta_gamma_peak`) and then *falls* towards 0, so
    that more media earn less. Use it only with the peak beyond the data, alpha / beta at least 1.2 times the largest
    media, or take `gamma_cdf`. Other code adds 1e-6 to x, which gives credit to weeks without media; this is exactly 0
    at 0.

    Args:
        x: media, at least 0.
        alpha: above 0.
        beta: above 0, one over the unit of ``x``.

    Returns:
        Values of at least 0, without the constant factor a.
    """
    return _from_origin(_positive(x), lambda z: torch.exp(alpha * z.log() - beta * z))


def beta_gamma_peak(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Where `beta_gamma_kernel` is largest, in units of x, and its value there."""
    peak = alpha / beta
    return peak, torch.exp(alpha * (peak.log() - 1.0))


def hill(x: Tensor, half: Tensor, slope: Tensor) -> Tensor:
    """x^slope / (x^slope + half^slope), computed in logarithms.

    Args:
        x: media, at least 0.
        half: above 0, unit of ``x``: where the curve is 1/2.
        slope: above 0; S-shaped above 1, concave otherwise.

    Returns:
        Values in [0, 1); exactly 0, with finite gradients, at 0.

    Source: Jin et al. (2017), equation 5.
    """
    return _from_origin(_positive(x) / half, lambda ratio: torch.sigmoid(slope * ratio.log()))


def logistic_saturation(x: Tensor, rate: Tensor) -> Tensor:
    """(1 - exp(-rate x)) / (1 + exp(-rate x)): concave, from 0 to 1.

    Args:
        x: media, at least 0.
        rate: above 0, one over the unit of ``x``; the slope at 0 is rate / 2.
    """
    return torch.tanh(0.5 * rate * _positive(x))


def tanh_saturation(x: Tensor, scale: Tensor) -> Tensor:
    """tanh(x / scale): concave, from 0 to 1; `logistic_saturation` told by a scale instead of a rate.

    Args:
        x: media, at least 0.
        scale: above 0, unit of ``x``; the slope at 0 is 1 / scale.
    """
    return torch.tanh(_positive(x) / scale)


def michaelis_menten(x: Tensor, half: Tensor) -> Tensor:
    """x / (x + half): concave, from 0 to 1; `hill` with slope 1.

    Args:
        x: media, at least 0.
        half: above 0, unit of ``x``: where the curve is 1/2.
    """
    x = _positive(x)
    return x / (x + half)


def root(x: Tensor, power: Tensor) -> Tensor:
    """x^power: concave and without a ceiling.

    Args:
        x: media, at least 0, in a unit of their own size (its value grows with the unit to the power).
        power: in (0, 1].
    """
    return _from_origin(_positive(x), lambda z: torch.exp(power * z.log()))


def concave_spline_basis(x: Tensor, knots: Tensor) -> Tensor:
    """Quadratic splines whose sums with weights of at least 0 are all monotone and concave.

    Column j rises with slope 1 / n_j up to knot j - 1 (0 for the first), then ever more slowly up to knot j, and is 1
    from there on (n_j is the mean of the two knots). Sums of these with weights >= 0 are exactly the curves, 0 at 0,
    whose slope is continuous, never rises, is linear between the knots and 0 beyond the last. Put the last knot well
    beyond the data where the curve must not be flat there.

    Args:
        x: [...], media, at least 0.
        knots: [..., J], above 0 and ascending, unit of ``x``; axes before J broadcast against those of ``x``.

    Returns:
        [..., J], each column 0 at 0, monotone, concave, with a continuous slope, and at most 1.

    Raises:
        ValueError: knots do not ascend or are not above 0.
    """
    left = torch.cat([torch.zeros_like(knots[..., :1]), knots[..., :-1]], dim=-1)
    width = knots - left
    if not bool((width > 0).all()):
        raise ValueError(f"concave_spline_basis: knots {knots.tolist()} must be above 0 and ascend.")
    x = _positive(x).unsqueeze(-1)
    # Where, not clamp and minimum: those halve or drop the slope exactly at a knot and at 0.
    part = torch.where(x < knots, (x - left) / width, 1.0)
    return torch.where(x < left, x, left + width * (part - 0.5 * part**2)) / (0.5 * (left + knots))


def _positive(x: Tensor) -> Tensor:
    """0 for negative x. Unlike a clamp it has slope 1 at 0, where weeks without media lie."""
    return torch.where(x < 0, 0.0, x)


def _from_origin(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function(x)``, and its chord where x is below `ORIGIN`; x is at least 0."""
    safe = x.clamp(min=ORIGIN)
    return x / safe * function(safe)  # the quotient is 1 from ORIGIN on, and its two gradients cancel
