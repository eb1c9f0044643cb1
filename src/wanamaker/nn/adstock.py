"""Adstock: how the effect of media is spread over the periods that follow, and the ways to compute it.

A *kernel* holds the weights of the last L periods, newest first: index 0 is the period itself. The parameters of a
kernel are tensors of any shape [...], its weights [..., L]. `normalise=True` makes them sum to 1, so that adstocked
media keep the unit and the total of the media, and the half-point of a saturation that follows stays identified.

All kernels are differentiable in all their parameters, with finite gradients on the closed domains named below; the
parameters are not checked (that would make a GPU wait at every step): keep them in their domain by construction, for
example a decay as a sigmoid.

Axis letters: B batch rows, T periods, C media channels, L adstock taps (newest first), H periods of a lead-in.
"""

from __future__ import annotations

import torch
from torch import Tensor

METHODS = ("fft", "direct", "scan")

# Below these a decay is held: the derivative of decay^small is unbounded at 0, and 1/decay is infinite.
_SMALLEST_DECAY = 1e-6
# Weibull hazards are cut at exp(80): beyond, a weight is 0 in any floating type.
_LARGEST_LOG_HAZARD = 80.0


def geometric_kernel(decay: Tensor, taps: int, *, normalise: bool = True) -> Tensor:
    """Weights decay^l: the share ``decay`` of an effect is carried into the next period.

    Args:
        decay: [...], in [0, 1]. At 0 all weight is on the period itself, at 1 it is the same on every tap.
        taps: L, at least 1. Choose it so that decay^L, the part that is cut off, is below 0.01 or so.
        normalise: divide by the sum.

    Returns:
        [..., L], newest first.

    Source: Broadbent (1979), truncated; Jin et al. (2017), "Bayesian methods for media mix modeling with carryover and
    shape effects", equation 1 with w_l = alpha^l.
    """
    lags = _lags(decay, taps)
    weights = decay.unsqueeze(-1) ** lags  # the derivative of 0 ** 0 is 0 here, as it must be
    return weights / weights.sum(-1, keepdim=True) if normalise else weights


def delayed_kernel(decay: Tensor, delay: Tensor, taps: int, *, normalise: bool = True) -> Tensor:
    """Weights decay^((l - delay)^2): a bell around the peak ``delay``.

    Args:
        decay: [...], in [0, 1]; below 1e-6 it counts as 1e-6 and passes no gradient.
        delay: [...], periods until the effect is largest, in [0, L - 1].
        taps: L, at least 1.
        normalise: divide by the sum.

    Returns:
        [..., L], newest first.

    Source: Jin et al. (2017), equation 2.
    """
    decay, delay = torch.broadcast_tensors(decay, delay)
    lags = _lags(decay, taps)
    distance = (lags - delay.unsqueeze(-1)) ** 2
    log_weights = distance * decay.clamp(min=_SMALLEST_DECAY).log().unsqueeze(-1)
    return _weights(log_weights, normalise)


def binomial_kernel(decay: Tensor, taps: int, *, normalise: bool = True) -> Tensor:
    """Weights (1 - l / L)^(1 / decay - 1): they reach 0 at lag L, convex for decay < 1/2, concave above.

    Args:
        decay: [...], in [0, 1]; 0.5 is a straight line, 1 the same weight on every tap. Below 1e-6 it counts as 1e-6
            and passes no gradient.
        taps: L, at least 1.
        normalise: divide by the sum.

    Returns:
        [..., L], newest first.

    Source: Google Meridian, `adstock_decay_spec="binomial"`, and PyMC-Marketing's `binomial_adstock`.
    """
    lags = _lags(decay, taps)
    power = 1.0 / decay.clamp(min=_SMALLEST_DECAY) - 1.0
    return _weights(power.unsqueeze(-1) * torch.log1p(-lags / taps), normalise)


def weibull_pdf_kernel(shape: Tensor, scale: Tensor, taps: int, *, normalise: bool = True) -> Tensor:
    """Weights f(l + 1), the density of a Weibull distribution: a peak that may lie after the period itself.

    Robyn and PyMC-Marketing stretch these weights to [0, 1] by their least and largest; that forces the last or first
    tap to exactly 0 and has no derivative where two taps tie, so here they are only normalised.

    Args:
        shape: [...], above 0; the peak lies after the period itself for shapes above 1.
        scale: [...], above 0, in periods: 63 % of the mass lies within it. Keep (L / scale)^shape below 5e34.
        taps: L, at least 1.
        normalise: divide by the sum.

    Returns:
        [..., L], newest first.

    Source: Robyn, `adstock_weibull(type="pdf")`: the density at 1..L.
    """
    shape, scale = torch.broadcast_tensors(shape, scale)
    shape, scale = shape.unsqueeze(-1), scale.unsqueeze(-1)
    log_time = (_lags(shape[..., 0], taps) + 1.0).log() - scale.log()
    hazard = (shape * log_time).clamp(max=_LARGEST_LOG_HAZARD).exp()
    return _weights(shape.log() - scale.log() + (shape - 1.0) * log_time - hazard, normalise)


def weibull_cdf_kernel(shape: Tensor, scale: Tensor, taps: int, *, normalise: bool = True) -> Tensor:
    """Weights prod_{i=1..l} (1 - F(i)), F the Weibull distribution: a decay whose rate itself changes with the lag.

    Args:
        shape: [...], above 0; below 1 a long tail, above 1 a plateau that then falls.
        scale: [...], above 0, in periods. Keep (L / scale)^shape below 5e34.
        taps: L, at least 1.
        normalise: divide by the sum.

    Returns:
        [..., L], newest first; the first weight is the largest.

    Source: Robyn, `adstock_weibull(type="cdf")`; PyMC-Marketing, `weibull_adstock(type=WeibullType.CDF)`.
    """
    shape, scale = torch.broadcast_tensors(shape, scale)
    shape, scale = shape.unsqueeze(-1), scale.unsqueeze(-1)
    lags = _lags(shape[..., 0], taps)
    # log(1 - F(i)) = -(i / scale)^shape; there is no factor for the period itself.
    log_time = lags.clamp(min=1.0).log() - scale.log()
    hazard = (shape * log_time).clamp(max=_LARGEST_LOG_HAZARD).exp() * (lags > 0)
    return _weights(-hazard.cumsum(-1), normalise)


def adstock_windows(windows: Tensor, kernel: Tensor) -> Tensor:
    """Adstocked media of rows that bring their own history.

    Args:
        windows: [B, L, C], newest first: ``windows[:, 0]`` is the row's own period.
        kernel: [..., C, L], one kernel per channel; leading axes (ensemble members, draws) are kept.

    Returns:
        [..., B, C], in the unit of the media.

    Raises:
        ValueError: the numbers of channels or taps disagree.
    """
    if windows.ndim != 3 or kernel.shape[-2:] != (windows.shape[2], windows.shape[1]):
        raise ValueError(
            f"adstock_windows: windows {tuple(windows.shape)} must be [B, L, C] and the kernel {tuple(kernel.shape)} "
            "[..., C, L] with the same L and C."
        )
    with torch.autocast(windows.device.type, enabled=False):  # three digits are not enough for money
        return torch.einsum("blc,...cl->...bc", windows, kernel)


def adstock(media: Tensor, kernel: Tensor, lead_in: Tensor | None = None, method: str = "fft") -> Tensor:
    """Adstocked media of whole series.

    The methods give the same numbers (to 1e-6 in float64; a test holds them to it) and differ in cost: "fft" is the
    quickest for long series and many taps, "direct" makes L multiply-adds, "scan" doubles a geometric kernel in
    log2(L) steps. In float32 "fft" is exact to about 1e-7 of the largest value of a series rather than of each value;
    where no media ran within L periods its result is exactly 0 all the same.

    Args:
        media: [..., T, C], oldest first. Axes before T (series, draws) broadcast with those of the kernel.
        kernel: [..., C, L], newest first.
        lead_in: [..., H, C], the H periods before the first, oldest first; the last L - 1 are used. Periods that are
            not given count as 0.
        method: "fft", "direct", or "scan" for a geometric kernel (normalised or not), whose decay is read from its
            first two weights and receives the gradient.

    Returns:
        [..., T, C], in the unit of the media.

    Raises:
        ValueError: an unknown method, shapes that disagree, or "scan" with a kernel that is not geometric.
    """
    if method not in METHODS:
        raise ValueError(f"adstock: method={method!r}; choose from {', '.join(METHODS)}.")
    if media.ndim < 2 or kernel.ndim < 2 or kernel.shape[-2] != media.shape[-1]:
        raise ValueError(
            f"adstock: media {tuple(media.shape)} must be [..., T, C] and the kernel {tuple(kernel.shape)} [..., C, L] "
            "with the same C."
        )
    padded = _with_history(media, kernel.shape[-1] - 1, lead_in)
    if method == "scan":
        return _scan(padded, kernel)
    return _direct(padded, kernel) if method == "direct" else _fft(padded, kernel)


def _lags(parameter: Tensor, taps: int) -> Tensor:
    if taps < 1:
        raise ValueError(f"taps={taps}: an adstock kernel has at least one weight, that of the period itself.")
    return torch.arange(taps, dtype=parameter.dtype, device=parameter.device)


def _weights(log_weights: Tensor, normalise: bool) -> Tensor:
    # Normalised from logarithms: a kernel whose weights would all underflow still sums to 1.
    return log_weights.softmax(-1) if normalise else log_weights.exp()


def _with_history(media: Tensor, needed: int, lead_in: Tensor | None) -> Tensor:
    """[..., needed + T, C]: the periods before the first, oldest first, zeros where unknown."""
    history = media.new_zeros((*media.shape[:-2], needed, media.shape[-1]))
    if lead_in is not None:
        if lead_in.ndim != media.ndim or lead_in.shape[-1] != media.shape[-1]:
            raise ValueError(
                f"adstock: lead_in {tuple(lead_in.shape)} must be [..., H, C] with the channels and leading axes of "
                f"media {tuple(media.shape)}."
            )
        known = min(needed, lead_in.shape[-2])
        if known:
            last = lead_in[..., lead_in.shape[-2] - known :, :].to(media.dtype)
            last = last.expand(*media.shape[:-2], *last.shape[-2:])
            history = torch.cat([history[..., : needed - known, :], last], dim=-2)
    return torch.cat([history, media], dim=-2)


def _direct(padded: Tensor, kernel: Tensor) -> Tensor:
    taps = kernel.shape[-1]
    periods = padded.shape[-2] - taps + 1
    total: Tensor | None = None
    for lag in range(taps):
        first = taps - 1 - lag
        part = padded[..., first : first + periods, :] * kernel[..., lag].unsqueeze(-2)
        total = part if total is None else total + part
    assert total is not None
    return total  # [..., T, C]


def _fft(padded: Tensor, kernel: Tensor) -> Tensor:
    taps, length = kernel.shape[-1], padded.shape[-2]
    # Results from tap L - 1 on are free of wrap-around at any length not below the padded one.
    size = _fast_length(length)
    spectrum = torch.fft.rfft(padded.transpose(-1, -2), n=size) * torch.fft.rfft(kernel, n=size)
    result = torch.fft.irfft(spectrum, n=size)[..., taps - 1 : length].transpose(-1, -2)
    # Rounding leaves about 1e-7 where nothing ran, and a steep saturation would give that credit.
    with torch.no_grad():
        running = torch.nn.functional.pad((padded != 0).cumsum(-2), (0, 0, 1, 0))
        active = running[..., taps:, :] > running[..., : length - taps + 1, :]
    return result * active


def _scan(padded: Tensor, kernel: Tensor) -> Tensor:
    """Sums of n terms x[t] + d x[t-1] + ... are doubled: S_2n[t] = S_n[t] + d^n S_n[t-n]; no term is subtracted."""
    taps = kernel.shape[-1]
    first = kernel[..., 0]
    decay = kernel[..., 1] / first if taps > 1 else torch.zeros_like(first)
    with torch.no_grad():
        expected = first.unsqueeze(-1) * geometric_kernel(decay, taps, normalise=False)
        if not torch.allclose(kernel, expected, rtol=1e-4, atol=1e-6):
            raise ValueError(
                "adstock: method='scan' needs a geometric kernel (geometric_kernel); give other kernels to 'fft' or "
                "'direct'."
            )
    decay, first = decay.unsqueeze(-2), first.unsqueeze(-2)  # [..., 1, C]
    partial = padded  # sum of `length` terms at every period
    length = 1
    for bit in bin(taps)[3:]:
        partial = partial + decay**length * _shifted(partial, length)
        length *= 2
        if bit == "1":
            partial = padded + decay * _shifted(partial, 1)
            length += 1
    return first * partial[..., taps - 1 :, :]


def _shifted(values: Tensor, periods: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, periods, 0))[..., : values.shape[-2], :]


def _fast_length(length: int) -> int:
    """The next number without a prime factor above 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
