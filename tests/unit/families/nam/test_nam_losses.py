"""Likelihoods against torch.distributions, on the original scale."""

import pytest
import torch
from torch import distributions as td

from wanamaker.errors import UserError
from wanamaker.families.nam import losses

ETA = torch.tensor([[-0.4, 0.1, 0.6]])
LOG_NOISE = torch.tensor([[-1.2, -0.5, 0.2]])
SCALE = torch.tensor([40.0, 10.0, 5.0])
COUNT = torch.tensor([31.0, 0.0, 12.0])


def density(loss, kpi, link):
    return -loss(ETA, LOG_NOISE, kpi, SCALE, link)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_gaussian_and_student(link):
    mean = ETA.exp() if link == "log" else ETA
    kpi = torch.tensor([0.7, -0.2, 1.4])
    torch.testing.assert_close(density(losses.Gaussian(), kpi, link), td.Normal(mean, LOG_NOISE.exp()).log_prob(kpi))
    torch.testing.assert_close(
        density(losses.StudentT(4.0), kpi, link), td.StudentT(4.0, mean, LOG_NOISE.exp()).log_prob(kpi)
    )


def test_lognormal_and_its_mean():
    loss, kpi = losses.LogNormal(), torch.tensor([0.7, 0.2, 1.4])
    own = td.LogNormal(ETA, LOG_NOISE.exp())
    torch.testing.assert_close(density(loss, kpi, "log"), own.log_prob(kpi))
    mean = (ETA + loss.log_mean_shift(LOG_NOISE)).exp()
    torch.testing.assert_close(mean, own.mean)
    torch.testing.assert_close(loss.noise_sd(LOG_NOISE, own.mean, SCALE), own.stddev)


def test_counts():
    kpi = COUNT / SCALE
    rate = ETA.exp() * SCALE
    torch.testing.assert_close(density(losses.Poisson(), kpi, "log"), td.Poisson(rate).log_prob(COUNT))
    size = torch.exp(-2 * LOG_NOISE)
    own = td.NegativeBinomial(size, probs=rate / (rate + size))
    torch.testing.assert_close(density(losses.NegativeBinomial(), kpi, "log"), own.log_prob(COUNT))
    torch.testing.assert_close(losses.NegativeBinomial().noise_sd(LOG_NOISE, ETA.exp(), SCALE) * SCALE, own.stddev)
    torch.testing.assert_close(losses.Poisson().noise_sd(LOG_NOISE, ETA.exp(), SCALE) * SCALE, td.Poisson(rate).stddev)


@pytest.mark.parametrize("loss", [losses.Poisson, losses.NegativeBinomial, losses.LogNormal])
def test_a_positive_mean_needs_the_log_link(loss):
    with pytest.raises(UserError, match=r"needs model\.net\.link=log"):
        loss().check("identity")
    loss().check("log")


def test_student_needs_a_variance():
    with pytest.raises(UserError, match="must be above 2"):
        losses.StudentT(2.0)
