"""Likelihoods of the KPI, as negative log densities per row in units of the scaled KPI.

Axis letters: M members, B rows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from wanamaker.errors import UserError

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Likelihood(nn.Module):
    """What the losses share in use: `link` they need, and whether `predicts_log_mean` must be corrected.

    Calling one gives the negative log density [M, B] of

        eta: linear predictor [M, B]; log_noise [M, B]; kpi: scaled, [B]; scale: KPI units of 1, [B].
    """

    links: tuple[str, ...] = ("identity", "log")

    def check(self, link: str) -> None:
        """Refuse a link that this likelihood has no use for.

        Raises:
            UserError: naming the link to set.
        """
        if link not in self.links:
            raise UserError(
                f"model.loss={type(self).__name__} needs model.net.link={self.links[0]}, not {link!r}: its mean must "
                "be positive."
            )

    def check_kpi(self, kpi: np.ndarray, name: str) -> None:
        """Refuse a KPI that has no density, here none.

        Args:
            kpi: every observed value.
            name: of the KPI.

        Raises:
            UserError: naming such a value and a likelihood that takes it.
        """

    def log_mean_shift(self, log_noise: Tensor) -> Tensor:
        """What is added to eta so that exp(eta) is the mean [M, B]; 0 but for the lognormal."""
        return torch.zeros_like(log_noise)

    def information(self, eta: Tensor, log_noise: Tensor, scale: Tensor, link: str) -> Tensor:
        """Fisher information of a row about its linear predictor, [M, B]: of normal noise on the KPI by default."""
        steepness = self.mean(eta, link).square() if link == "log" else 1.0
        return steepness * torch.exp(-2 * log_noise)

    @staticmethod
    def mean(eta: Tensor, link: str) -> Tensor:
        """Scaled mean."""
        return eta.clamp(max=20.0).exp() if link == "log" else eta


class Gaussian(Likelihood):
    """Normal noise around the mean, in units of the KPI."""

    def forward(self, eta: Tensor, log_noise: Tensor, kpi: Tensor, scale: Tensor, link: str) -> Tensor:
        error = (kpi - self.mean(eta, link)) * torch.exp(-log_noise)
        return 0.5 * error.square() + log_noise + _HALF_LOG_TWO_PI

    def noise_sd(self, log_noise: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Standard deviation of the scaled KPI."""
        return log_noise.exp()


class StudentT(Likelihood):
    """Noise with heavy tails: single strange weeks bend nothing.

    Args:
        degrees: of freedom, above 2.
    """

    def __init__(self, degrees: float = 5.0) -> None:
        super().__init__()
        if not 2 < degrees <= 1e6:
            raise UserError(
                f"model.loss.degrees={degrees}: must be above 2, or the noise has no variance; from some hundred on it "
                "is Gaussian (model.loss._target_=wanamaker.families.nam.losses.Gaussian)."
            )
        self.degrees = degrees

    def forward(self, eta: Tensor, log_noise: Tensor, kpi: Tensor, scale: Tensor, link: str) -> Tensor:
        nu = self.degrees
        error = (kpi - self.mean(eta, link)) * torch.exp(-log_noise)
        constant = math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2) + 0.5 * math.log(nu * math.pi)
        return 0.5 * (nu + 1) * torch.log1p(error.square() / nu) + log_noise + constant

    def information(self, eta: Tensor, log_noise: Tensor, scale: Tensor, link: str) -> Tensor:
        return super().information(eta, log_noise, scale, link) * (self.degrees + 1) / (self.degrees + 3)

    def noise_sd(self, log_noise: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return log_noise.exp() * math.sqrt(self.degrees / (self.degrees - 2))


class LogNormal(Likelihood):
    """Normal noise on the logarithm: for positive KPIs that vary by per cent, as unit sales do. Needs the log link.

    exp(eta) is the median; the mean, which decisions add up, is larger by exp(noise^2 / 2).
    """

    links = ("log",)

    def check_kpi(self, kpi: np.ndarray, name: str) -> None:
        wrong = kpi[kpi <= 0]
        if len(wrong):
            raise UserError(
                f"model.loss=LogNormal: the KPI {name!r} is {wrong[0]:g} in {_rows(wrong)}, and it must be above 0 in "
                "all. Choose model.loss._target_=wanamaker.families.nam.losses.Gaussian (or NegativeBinomial, for "
                "counts), or take these periods out with data.mask."
            )

    def forward(self, eta: Tensor, log_noise: Tensor, kpi: Tensor, scale: Tensor, link: str) -> Tensor:
        log_kpi = kpi.log()
        error = (log_kpi - eta) * torch.exp(-log_noise)
        return 0.5 * error.square() + log_noise + _HALF_LOG_TWO_PI + log_kpi

    def information(self, eta: Tensor, log_noise: Tensor, scale: Tensor, link: str) -> Tensor:
        return torch.exp(-2 * log_noise)

    def log_mean_shift(self, log_noise: Tensor) -> Tensor:
        return 0.5 * torch.exp(2 * log_noise)

    def noise_sd(self, log_noise: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return mean * torch.sqrt(torch.expm1(torch.exp(2 * log_noise)))


class Poisson(Likelihood):
    """Counts whose variance is their mean. Needs the log link; the KPI must be whole and not negative."""

    links = ("log",)

    def check_kpi(self, kpi: np.ndarray, name: str) -> None:
        _check_counts(kpi, name, "Poisson")

    def forward(self, eta: Tensor, log_noise: Tensor, kpi: Tensor, scale: Tensor, link: str) -> Tensor:
        count, log_rate = kpi * scale, eta + scale.log()
        # The noise scale means nothing here; its prior keeps it where it is.
        return log_rate.exp() - count * log_rate + torch.lgamma(count + 1)

    def information(self, eta: Tensor, log_noise: Tensor, scale: Tensor, link: str) -> Tensor:
        return self.mean(eta, link) * scale

    def noise_sd(self, log_noise: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return torch.sqrt(mean / scale)


class NegativeBinomial(Likelihood):
    """Counts with variance mean + mean^2 * noise^2: the noise is the relative standard deviation beyond Poisson."""

    links = ("log",)

    def check_kpi(self, kpi: np.ndarray, name: str) -> None:
        _check_counts(kpi, name, "NegativeBinomial")

    def forward(self, eta: Tensor, log_noise: Tensor, kpi: Tensor, scale: Tensor, link: str) -> Tensor:
        count, log_rate = kpi * scale, eta + scale.log()
        size = torch.exp(-2 * log_noise)  # "r"
        log_total = torch.logaddexp(log_rate, size.log())
        return (
            torch.lgamma(size)
            + torch.lgamma(count + 1)
            - torch.lgamma(count + size)
            - size * (size.log() - log_total)
            - count * (log_rate - log_total)
        )

    def information(self, eta: Tensor, log_noise: Tensor, scale: Tensor, link: str) -> Tensor:
        rate = self.mean(eta, link) * scale
        return rate / (1 + rate * torch.exp(2 * log_noise))

    def noise_sd(self, log_noise: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return torch.sqrt(mean / scale + (mean * log_noise.exp()).square())


def _check_counts(kpi: np.ndarray, name: str, loss: str) -> None:
    # Counts that were kept as logarithms come back with the file's rounding.
    wrong = kpi[(kpi < 0) | (np.abs(kpi - np.round(kpi)) > 1e-4 * np.maximum(10.0, np.abs(kpi)))]
    if len(wrong):
        raise UserError(
            f"model.loss={loss} is for counts, and the KPI {name!r} is {wrong[0]:g} in {_rows(wrong)}. Choose "
            "model.loss._target_=wanamaker.families.nam.losses.LogNormal (or Gaussian, where it may be 0 or below)."
        )


def _rows(wrong: np.ndarray) -> str:
    return "one row" if len(wrong) == 1 else f"one of {len(wrong)} such rows"
