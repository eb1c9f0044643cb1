"""The collapsed likelihood against dense normal distributions, and its draws against the dense posterior.

Axis letters: N draws, G series, T periods, P fixed columns, M columns of known sign, Q = P + M, V shared coefficients.
"""

import pytest
import torch
from mix_case import normal
from torch import Tensor
from torch.distributions import MultivariateNormal

from wanamaker.families.bayesian_mmm.collapsed import Shared, collapsed, draw_coefficients, fixed_gram, gram

P, M = 3, 2
Q = P + M


class Case:
    """Random columns, missing rows, other noise in every series; `shared`: "none", "one" level or "category"."""

    def __init__(self, series: int, shared: str, draws: int = 2, periods: int = 14) -> None:
        G, T, N = series, periods, draws
        self.fixed, self.y = normal(G, T, P, seed=1), 2 * normal(G, T, seed=2)
        self.columns = normal(N, G, M, T, seed=3).abs()
        self.mask = (normal(G, T, seed=4) > -1).double()
        self.known = torch.cat([torch.zeros(N, P), normal(N, M, seed=5)], -1)
        self.spread = 0.5 * normal(N, Q, seed=6).abs()
        self.spread[:, 1] = 0.0  # a column without deviations
        self.sigma = 0.3 + normal(N, G, seed=7).abs()
        self.shared = None
        if shared != "none":
            column, place, size = torch.arange(P), torch.arange(P).expand(G, P), P
            if shared == "category":
                group = torch.arange(G) % 2
                column = torch.cat([column, torch.arange(Q)])
                place = torch.cat([place, P + group[:, None] * Q + torch.arange(Q)], -1)
                size = P + 2 * Q
            self.shared = Shared(0.2 + normal(N, len(column), seed=8).abs(), column, place, size)

    def solve(self, **changed: Tensor):
        values = {"columns": self.columns, "known": self.known, "spread": self.spread, "sigma": self.sigma} | changed
        constant = fixed_gram(self.fixed, self.y, self.mask)
        products = gram(values["columns"], self.fixed, self.y, self.mask, constant)
        return collapsed(products, values["known"], values["spread"], values["sigma"], self.shared)

    def design(self, n: int) -> tuple[Tensor, Tensor, Tensor, list[slice]]:
        """Rows that count, of draw n: residual [R], columns of all coefficients [R, V + G Q], noise [R], places."""
        V = 0 if self.shared is None else self.shared.size
        residual, wide, noise, places, start = [], [], [], [], 0
        for g in range(len(self.y)):
            keep = self.mask[g] > 0
            X = torch.cat([self.fixed[g], self.columns[n, g].T], -1)[keep]
            row = torch.zeros(len(X), V + len(self.y) * Q, dtype=torch.float64)
            if self.shared is not None:
                for w, (column, place) in enumerate(zip(self.shared.column, self.shared.place[g], strict=True)):
                    row[:, place] += X[:, column] * self.shared.sd[n, w]
            row[:, V + g * Q : V + (g + 1) * Q] = X * self.spread[n]
            known = self.known[n, g] if self.known.ndim == 3 else self.known[n]
            residual.append(self.y[g][keep] - X @ known)
            wide.append(row)
            noise.append(self.sigma[n, g].expand(len(X)))
            places.append(slice(start, start + len(X)))
            start += len(X)
        return torch.cat(residual), torch.cat(wide), torch.cat(noise), places


KINDS = [(1, "none"), (1, "one"), (3, "none"), (3, "one"), (5, "category")]


@pytest.mark.parametrize(("series", "shared"), KINDS)
def test_likelihood_is_that_of_a_dense_normal(series: int, shared: str) -> None:
    case = Case(series, shared)
    found = case.solve()
    for n in range(2):
        r, X, sd, places = case.design(n)
        covariance = X @ X.T + sd.square().diag()
        dense = MultivariateNormal(torch.zeros(len(r)).double(), covariance).log_prob(r)
        torch.testing.assert_close(found.log_likelihood[n], dense, rtol=0, atol=1e-8)
        V = 0 if case.shared is None else case.shared.size
        for g, rows in enumerate(places):  # given shared coefficients of 0
            own = X[rows, V:] @ X[rows, V:].T + sd[rows].square().diag()
            alone = MultivariateNormal(torch.zeros(len(own)).double(), own).log_prob(r[rows])
            torch.testing.assert_close(found.per_series[n, g], alone, rtol=0, atol=1e-8)


def test_known_coefficients_may_differ_by_series() -> None:
    case = Case(3, "none")
    case.known = normal(2, 3, Q, seed=11)
    found = case.solve()
    for n in range(2):
        r, X, sd, _ = case.design(n)
        dense = MultivariateNormal(torch.zeros(len(r)).double(), X @ X.T + sd.square().diag()).log_prob(r)
        torch.testing.assert_close(found.log_likelihood[n], dense, rtol=0, atol=1e-8)


def posterior(case: Case, n: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of all coefficients, in units of their prior standard deviation."""
    r, X, sd, _ = case.design(n)
    scaled = X / sd[:, None]
    covariance = torch.linalg.inv(scaled.T @ scaled + torch.eye(X.shape[1]).double())
    return covariance @ scaled.T @ (r / sd), covariance


@pytest.mark.parametrize(("series", "shared"), KINDS)
def test_mean_of_the_coefficients_is_exact(series: int, shared: str) -> None:
    case = Case(series, shared)
    solved = case.solve()
    V = 0 if case.shared is None else case.shared.size
    w, z = draw_coefficients(solved, case.shared, torch.zeros(2, V).double(), torch.zeros(2, series, Q).double())
    for n in range(2):
        mean, _ = posterior(case, n)
        found = z[n].flatten() if w is None else torch.cat([w[n], z[n].flatten()])
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("series", "shared"), [(2, "none"), (2, "one"), (3, "category")])
def test_draws_have_the_posterior_covariance(series: int, shared: str) -> None:
    # A draw is an affine function of its noise: the images of the unit vectors give the covariance exactly.
    case = Case(series, shared, draws=1)
    V = 0 if case.shared is None else case.shared.size
    size = V + series * Q
    case.columns = case.columns.expand(size + 1, -1, -1, -1)
    case.known, case.sigma = case.known.expand(size + 1, -1), case.sigma.expand(size + 1, -1)
    case.spread = case.spread.expand(size + 1, -1)
    if case.shared is not None:
        case.shared = Shared(case.shared.sd.expand(size + 1, -1), case.shared.column, case.shared.place, V)
    noise = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    w, z = draw_coefficients(case.solve(), case.shared, noise[:, :V], noise[:, V:].unflatten(-1, (series, Q)))
    found = z.flatten(1) if w is None else torch.cat([w, z.flatten(1)], -1)
    factor = found[1:] - found[0]
    torch.testing.assert_close(factor.T @ factor, posterior(case, 0)[1], rtol=0, atol=1e-9)


def test_random_draws_scatter_as_the_posterior() -> None:
    case, S = Case(3, "category", draws=1), 20_000
    solved, shared = case.solve(), case.shared
    wide = type(solved)(**{k: None if v is None else v.expand(S, *v.shape[1:]) for k, v in vars(solved).items()})
    w, z = draw_coefficients(wide, shared, normal(S, shared.size, seed=20), normal(S, 3, Q, seed=21))
    draws = torch.cat([w, z.flatten(1)], -1)
    mean, covariance = posterior(case, 0)
    sd = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean) / sd * S**0.5).abs().max() < 4.5
    assert ((draws.T.cov() - covariance) / sd / sd[:, None]).abs().max() < 4.5 * (2 / S) ** 0.5


@pytest.mark.parametrize(("series", "shared"), [(2, "one"), (3, "category")])
def test_gradients(series: int, shared: str) -> None:
    case = Case(series, shared, draws=1, periods=9)

    def value(columns: Tensor, known: Tensor, spread: Tensor, log_sigma: Tensor, sd: Tensor) -> Tensor:
        case.shared = Shared(sd, case.shared.column, case.shared.place, case.shared.size)
        return case.solve(columns=columns, known=known, spread=spread, sigma=log_sigma.exp()).log_likelihood

    given = (case.columns, case.known, case.spread + 0.1, case.sigma.log(), case.shared.sd)
    assert torch.autograd.gradcheck(value, tuple(x.clone().requires_grad_() for x in given))


def test_a_wild_draw_does_not_stop_the_others() -> None:
    case = Case(2, "one")
    case.sigma[0] = torch.nan
    found = case.solve().log_likelihood
    assert torch.isnan(found[0])
    assert torch.isfinite(found[1])
