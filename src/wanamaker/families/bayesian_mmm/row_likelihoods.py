"""Densities of single rows, for the likelihoods whose coefficients cannot be integrated out.

Axis letters: N draws, G series, T periods.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi

import torch
from torch import Tensor

from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors

LIKELIHOODS = ("normal", "student_t", "negative_binomial")
LOG_ZERO = -60.0
"""About what stands for the logarithm of a count of 0 in `PanelTensors.y`."""


def row_log_density(
    likelihood: str, eta: Tensor, sigma: Tensor, theta: Mapping[str, Tensor], data: PanelTensors
) -> Tensor:
    """Log density [N, G, T] of the rows that are learnt from; 0 elsewhere.

    Args:
        likelihood: of `LIKELIHOODS`. normal and student_t are about `data.y`, negative_binomial about counts
            with mean exp(eta) * scale and variance mean + dispersion * mean^2.
        eta: [N, G, T].
        sigma: [N, G].
        theta: has `dof` or `dispersion` [N, 1] where needed.
        data: of the panel.
    """
    if likelihood == "negative_binomial":
        count = torch.where(data.y <= LOG_ZERO / 2, 0.0, data.y.exp() * data.kpi_scale.unsqueeze(-1))
        log_mean = eta + data.kpi_scale.log().unsqueeze(-1)
        return count_log_density(count, log_mean, theta["dispersion"].unsqueeze(-1)) * data.mask
    z = (data.y - eta) / sigma.unsqueeze(-1)
    dof = theta["dof"].unsqueeze(-1) if likelihood == "student_t" else None
    return (standard_log_density(likelihood, z, dof) - sigma.log().unsqueeze(-1)) * data.mask


def standard_log_density(likelihood: str, z: Tensor, dof: Tensor | None) -> Tensor:
    """Log density of standardised noise; `dof` broadcasts with it."""
    if likelihood == "normal":
        return -0.5 * z.square() - 0.5 * log(2 * pi)
    assert dof is not None
    norm = torch.lgamma((dof + 1) / 2) - torch.lgamma(dof / 2) - 0.5 * (dof * pi).log()
    return norm - (dof + 1) / 2 * torch.log1p(z.square() / dof)


def count_log_density(count: Tensor, log_mean: Tensor, dispersion: Tensor) -> Tensor:
    """Negative binomial with variance mean + dispersion * mean^2; arguments broadcast."""
    size = dispersion.reciprocal()
    total = torch.logaddexp(log_mean, size.log())
    norm = torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1)
    return norm + size * (size.log() - total) + count * (log_mean - total)


def sample_rows(
    likelihood: str,
    eta: Tensor,
    sigma: Tensor,
    theta: Mapping[str, Tensor],
    data: PanelTensors,
    link: str,
    generator: torch.Generator,
) -> Tensor:
    """KPI drawn for all rows, [N, G, T], KPI units; arguments as above, `link` of the model."""
    scale = data.kpi_scale.unsqueeze(-1)
    if likelihood == "negative_binomial":
        size = theta["dispersion"].reciprocal().unsqueeze(-1)
        rate = _gamma(size.expand_as(eta), generator) * (eta.exp() * scale / size)
        return torch.poisson(rate.cpu(), generator=generator).to(eta)
    noise = torch.randn(eta.shape, generator=generator, dtype=torch.float64).to(eta)
    if likelihood == "student_t":
        dof = theta["dof"].unsqueeze(-1).expand_as(eta)
        noise = noise * (_gamma(dof / 2, generator) / (dof / 2)).rsqrt()
    value = eta + noise * sigma.unsqueeze(-1)
    return (value.exp() if link == "log" else value) * scale


def _gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    # torch draws gamma variates from the global generator only
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return torch._standard_gamma(shape.cpu().contiguous()).to(shape)
