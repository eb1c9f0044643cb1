"""The true response to media and prices: carry-over, saturation, demand curves. Written apart from `wanamaker.nn`.

Axis letters: G series, N periods, C channels, L taps (newest first).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wanamaker.data.simulate.media_channel import Adstock, Channel, Saturation
from wanamaker.data.simulate.media_options import Price


def kernel(rule: Adstock, taps: int) -> np.ndarray:
    """Share of the effect that comes l periods later, l = 0..L-1; sums to 1. float64 [L].

    Before normalising, with d = decay:

    * geometric    d^l
    * delayed      d^((l - delay)^2)                                   (Jin et al. 2017, eq. 2)
    * binomial     (1 - l/L)^(1/d - 1)                                 (Meridian's binomial adstock)
    * weibull_pdf  density of Weibull(shape, scale) at l + 1           (Robyn; periods counted from 1)
    * weibull_cdf  product over j = 1..l of 1 - CDF(j): what survives  (Robyn)
    * none         1 at l = 0
    """
    lag = np.arange(taps, dtype=np.float64)
    if rule.kind == "geometric":
        weight = rule.decay**lag
    elif rule.kind == "delayed":
        weight = rule.decay ** ((lag - rule.delay) ** 2)
    elif rule.kind == "binomial":
        weight = (1.0 - lag / taps) ** (1.0 / rule.decay - 1.0)
    elif rule.kind == "weibull_pdf":
        z = (lag + 1.0) / rule.scale
        weight = z ** (rule.shape - 1.0) * np.exp(-(z**rule.shape))
    elif rule.kind == "weibull_cdf":
        survives = np.exp(-((lag[1:] / rule.scale) ** rule.shape))
        weight = np.concatenate([[1.0], np.cumprod(survives)])
    else:
        weight = (lag == 0).astype(np.float64)
    return weight / weight.sum()


def carry_over(x: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """sum_l kernel[l] * x[t-l], with nothing before the first period; [..., N, C] and [C, L] -> [..., N, C]."""
    total = kernels[:, 0] * x
    for lag in range(1, min(kernels.shape[1], x.shape[-2])):
        total[..., lag:, :] += kernels[:, lag] * x[..., :-lag, :]
    return total


def saturate(x: np.ndarray, rules: Sequence[Saturation]) -> np.ndarray:
    """f_c(x) per channel: never falls, f(0) = 0; [..., C] -> [..., C].

    hill x^s / (x^s + half^s); gamma_cdf P(shape, rate x); exponential 1 - exp(-x / scale); root x^power; linear x.
    """
    from scipy.special import gammainc

    result = np.empty_like(x)
    for number, rule in enumerate(rules):
        one = x[..., number]
        if rule.kind == "hill":
            powered = (one / rule.half) ** rule.slope
            value = powered / (1.0 + powered)
        elif rule.kind == "gamma_cdf":
            value = gammainc(rule.shape, rule.rate * one)
        elif rule.kind == "exponential":
            value = -np.expm1(-one / rule.scale)
        elif rule.kind == "root":
            value = one**rule.power
        else:
            value = one
        result[..., number] = value
    return result


def contact_weight(frequency: np.ndarray, contacts: np.ndarray, channels: Sequence[Channel]) -> np.ndarray:
    """What a contact is worth at the frequency it comes with, [G, T, C]; 1 where it does not matter.

    A person reached f times responds with f^s / (f^s + half^s); a contact has the f-th part of it, told in units of
    what it is at the channel's mean frequency. Meridian's reach and frequency: reach x Hill(frequency).
    """
    weight = np.ones_like(contacts)
    for number, channel in enumerate(channels):
        if channel.frequency_half:
            on = contacts[..., number] > 0
            times = np.where(on, frequency[..., number], 1.0)
            usual = times[on].mean()
            worth = [
                f ** (channel.frequency_slope - 1)
                / (f**channel.frequency_slope + channel.frequency_half**channel.frequency_slope)
                for f in (times, usual)
            ]
            weight[..., number] = np.where(on, worth[0] / worth[1], 1.0)
    return weight


def media_curves(x: np.ndarray, channels: Sequence[Channel], kernels: np.ndarray) -> np.ndarray:
    """Carry-over and saturation in each channel's order, before the amplitude; scaled exposure [..., N, C]."""
    rules = [channel.saturation for channel in channels]
    first = np.array([channel.adstock_first for channel in channels])
    result = saturate(carry_over(x, kernels), rules)
    if first.all():
        return result
    return np.where(first, result, carry_over(saturate(x, rules), kernels))


def price_effect(ratio: np.ndarray, elasticity: np.ndarray, rule: Price) -> np.ndarray:
    """Relative effect of a price; `ratio` is price over reference, `elasticity` that at the reference.

    constant: elasticity * log ratio. s_shaped: elasticity * width * tanh(log ratio / width), which has the same slope
    at the reference and levels off on both sides.
    """
    z = np.log(ratio)
    return elasticity * (z if rule.shape == "constant" else rule.width * np.tanh(z / rule.width))


def price_slope(ratio: np.ndarray, elasticity: np.ndarray, rule: Price) -> np.ndarray:
    """Derivative of `price_effect` by the log price."""
    if rule.shape == "constant":
        return elasticity * np.ones_like(ratio)
    return elasticity / np.cosh(np.log(ratio) / rule.width) ** 2
