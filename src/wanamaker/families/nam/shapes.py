"""Carry-over and saturation of the media channels, with their parameters and priors.

Each choice is a small module over the channels that use it; channels of one model may use different ones.

Axis letters: M members, B rows, C channels, L taps, J spline knots.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wanamaker.families.nam.priors import Prior
from wanamaker.nn import adstock as kernels
from wanamaker.nn import saturation as curves


class GeometricAdstock(nn.Module):
    """decay^l with decay = 2^(-1 / half-life); the half-life in periods has a lognormal prior."""

    def __init__(self, members: int, channels: int, half_life: tuple[float, float]) -> None:
        super().__init__()
        self.log_half_life = Prior(members, (channels,), math.log(half_life[0]), half_life[1])

    def decay(self) -> Tensor:
        """[M, C] in (0, 1)."""
        return torch.exp2(-torch.exp(-self.log_half_life().clamp(-4.0, 6.0)))

    def kernel(self, taps: int) -> Tensor:
        """Weights [M, C, L], newest first, sum 1."""
        return kernels.geometric_kernel(self.decay(), taps)


class DelayedAdstock(GeometricAdstock):
    """decay^((l - delay)^2), peaking `delay` periods after the spend; at most half of the taps."""

    def __init__(self, members: int, channels: int, half_life: tuple[float, float]) -> None:
        super().__init__(members, channels, half_life)
        self.delay_logit = Prior(members, (channels,), -1.5, 1.0)

    def kernel(self, taps: int) -> Tensor:
        delay = 0.5 * (taps - 1) * torch.sigmoid(self.delay_logit())
        return kernels.delayed_kernel(self.decay(), delay, taps)


class BinomialAdstock(nn.Module):
    """(1 - l / L)^(1 / alpha - 1), reaching zero at the last tap (Meridian's second form); alpha in (0, 1)."""

    def __init__(self, members: int, channels: int, half_life: tuple[float, float]) -> None:
        super().__init__()
        # The exponent 1 / alpha - 1 halves the weight after about L ln 2 / exponent periods.
        self.log_half_life = Prior(members, (channels,), math.log(half_life[0]), half_life[1])

    def kernel(self, taps: int) -> Tensor:
        exponent = math.log(2) * taps * torch.exp(-self.log_half_life().clamp(-4.0, 6.0))
        return kernels.binomial_kernel(1 / (1 + exponent), taps)


class WeibullAdstock(nn.Module):
    """Weibull density (peaked) or survival function (flat, then falling) as weights."""

    def __init__(self, members: int, channels: int, half_life: tuple[float, float], form: str) -> None:
        super().__init__()
        self.form = form
        # Shape 1 is the geometric decay; above 1 the effect peaks later.
        self.log_shape = Prior(members, (channels,), math.log(1.2), 0.4)
        self.log_scale = Prior(members, (channels,), math.log(2 * half_life[0]), half_life[1])

    def kernel(self, taps: int) -> Tensor:
        make = kernels.weibull_pdf_kernel if self.form == "pdf" else kernels.weibull_cdf_kernel
        return make(self.log_shape().exp(), self.log_scale().clamp(-3.0, 5.0).exp(), taps)


class GammaCdf(nn.Module):
    """P(shape, rate x): the beta-gamma curve x^(shape-1) exp(-rate x) is its *marginal* response.

    Monotone and bounded; S-shaped where shape > 1, concave otherwise. `half` is where it reaches about one half.
    """

    def __init__(self, members: int, channels: int, half: tuple[float, float], shape: tuple[float, float]) -> None:
        super().__init__()
        self.log_half = Prior(members, (channels,), math.log(half[0]), half[1])
        self.log_shape = Prior(members, (channels,), math.log(shape[0]), shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C] -> [M, B, C] in [0, 1)."""
        shape = self.log_shape().clamp(-1.6, 2.0).exp()
        # Wilson and Hilferty's median of a gamma variable; good to a percent for shape above 0.3.
        median = shape * (1 - 1 / (9 * shape)).clamp(min=0.05).pow(3)
        rate = median / self.log_half().clamp(-5.0, 4.0).exp()
        return curves.gamma_cdf(x, shape[:, None], rate[:, None])


class HillCurve(nn.Module):
    """x^slope / (half^slope + x^slope)."""

    def __init__(self, members: int, channels: int, half: tuple[float, float], shape: tuple[float, float]) -> None:
        super().__init__()
        self.log_half = Prior(members, (channels,), math.log(half[0]), half[1])
        self.log_slope = Prior(members, (channels,), math.log(shape[0]), shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C] -> [M, B, C] in [0, 1)."""
        half, slope = self.log_half().clamp(-5.0, 4.0).exp(), self.log_slope().clamp(-1.6, 2.0).exp()
        return curves.hill(x, half[:, None], slope[:, None])


class ConcaveSpline(nn.Module):
    """A positive sum of concave, rising pieces: any concave saturation, and no S-shape."""

    KNOTS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6, 2.5)

    def __init__(self, members: int, channels: int, half: tuple[float, float], shape: tuple[float, float]) -> None:
        super().__init__()
        self.register_buffer("knots", torch.tensor(self.KNOTS) * (half[0] / 0.5))
        # Each piece may be the whole curve: a sparse, positive mixture.
        self.raw = Prior(members, (channels, len(self.KNOTS)), -1.0, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C] -> [M, B, C] in [0, 1]."""
        weight = torch.softmax(self.raw(), dim=-1)  # [M, C, J]
        return (curves.concave_spline_basis(x, self.knots) * weight[:, None]).sum(-1)


class BetaGammaKernel(nn.Module):
    """x^alpha exp(-beta x), System 2's kernel, for parity with old models only: beyond its peak it *falls*.

    The peak alpha / beta is kept at 1.2 times the largest media seen in training or beyond, so that the curve rises
    over the data; beyond the peak, where the kernel would fall, the curve stays flat.
    """

    def __init__(self, members: int, channels: int, half: tuple[float, float], shape: tuple[float, float]) -> None:
        super().__init__()
        self.alpha_logit = Prior(members, (channels,), 1.0, 1.0)
        self.log_excess = Prior(members, (channels,), math.log(half[0]), half[1])

    def peak(self) -> Tensor:
        """[M, C], in scaled media: 1 is the training maximum."""
        return 1.2 + self.log_excess().exp()

    def forward(self, x: Tensor) -> Tensor:
        """[M, B, C] -> [M, B, C], 1 at the peak."""
        alpha, peak = torch.sigmoid(self.alpha_logit())[:, None], self.peak()[:, None]
        beta = alpha / peak
        top = curves.beta_gamma_kernel(peak, alpha, beta)
        return curves.beta_gamma_kernel(torch.minimum(x, peak), alpha, beta) / top


ADSTOCKS = ("geometric", "delayed", "binomial", "weibull_pdf", "weibull_cdf", "none")
SATURATIONS = ("gamma_cdf", "hill", "concave_spline", "beta_gamma", "linear")


def make_adstock(kind: str, members: int, channels: int, half_life: tuple[float, float]) -> nn.Module | None:
    """The adstock of a name; None is no carry-over."""
    if kind in ("weibull_pdf", "weibull_cdf"):
        return WeibullAdstock(members, channels, half_life, kind.removeprefix("weibull_"))
    classes = {"geometric": GeometricAdstock, "delayed": DelayedAdstock, "binomial": BinomialAdstock}
    return classes[kind](members, channels, half_life) if kind in classes else None


def make_saturation(
    kind: str, members: int, channels: int, half: tuple[float, float], shape: tuple[float, float]
) -> nn.Module | None:
    """The saturation of a name; None is linear."""
    classes = {
        "gamma_cdf": GammaCdf,
        "hill": HillCurve,
        "concave_spline": ConcaveSpline,
        "beta_gamma": BetaGammaKernel,
    }
    return classes[kind](members, channels, half, shape) if kind in classes else None
