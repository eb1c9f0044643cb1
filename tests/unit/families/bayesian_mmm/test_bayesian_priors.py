"""Priors by name: densities are Pyro's, draws have the right distribution, mistakes are told.

Axis letters: N draws, D unconstrained numbers, K entries of a parameter.
"""

import math

import pyro
import pytest
import torch
from mix_case import normal
from pyro.infer.autoguide import AutoNormal
from scipy import stats
from torch.distributions import biject_to

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.priors import KINDS, FlatSites, site

PRIORS = {
    "lognormal": [["lognormal", 1.5, 0.4], ["lognormal", 0.2, 1.3]],
    "halfnormal": [["halfnormal", 0.5], ["halfnormal", 3.0]],
    "normal": [["normal", -2.0, 0.7], ["normal", 1.0, 5.0]],
    "logitnormal": [["logitnormal", 0.3, 1.0], ["logitnormal", 0.9, 0.4]],
    "beta": [["beta", 2.0, 5.0], ["beta", 0.8, 1.5]],
}
EXACT = {
    "lognormal": lambda median, sigma: stats.lognorm(sigma, scale=median),
    "halfnormal": lambda scale: stats.halfnorm(scale=scale),
    "normal": stats.norm,
    "logitnormal": lambda median, sigma: None,
    "beta": stats.beta,
}


def two(kind: str):
    """A parameter with two entries."""
    return site("x", dict(zip("ab", PRIORS[kind], strict=True)), ["a", "b"], "letter")


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_pyros_with_the_jacobian(kind: str) -> None:
    made = two(kind)
    u = 1.5 * normal(6, 2)
    prior = made.distribution()
    transform = biject_to(prior.support)
    value = transform(u)
    torch.testing.assert_close(made.constrain(u), value)  # Pyro's own transform
    torch.testing.assert_close(made.unconstrain(value), u)
    jacobian = transform.log_abs_det_jacobian(u, value)
    jacobian = jacobian if jacobian.ndim == 1 else jacobian.sum(-1)
    torch.testing.assert_close(made.log_prior(u), prior.log_prob(value) + jacobian, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind: str) -> None:
    u = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    for given in PRIORS[kind]:
        density = site("x", given, [""]).log_prior(u.unsqueeze(-1)).exp()
        assert float(torch.trapezoid(density, u)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_prior(kind: str) -> None:
    made = two(kind)
    value = made.constrain(made.sample(4000, torch.Generator().manual_seed(3)))
    for k, given in enumerate(PRIORS[kind]):
        draws, exact = value[:, k].numpy(), EXACT[kind](*given[1:])
        if exact is None:
            draws, exact = value[:, k].logit().numpy(), stats.norm(math.log(given[1] / (1 - given[1])), given[2])
        assert stats.kstest(draws, exact.cdf).pvalue > 1e-3
    again = made.constrain(made.sample(4000, torch.Generator().manual_seed(3)))
    assert torch.equal(value, again)


@pytest.mark.parametrize("kind", KINDS)
def test_median_lies_near_the_middle(kind: str) -> None:
    made = two(kind)
    below = (made.sample(4000, torch.Generator().manual_seed(5)) < made.median()).double().mean(0)
    assert ((below - 0.5).abs() < (0.12 if kind == "beta" else 0.03)).all()


REFUSED = [
    ("lognormal", "write \\[kind, numbers\\]"),
    ([], "write \\[kind, numbers\\]"),
    (["gamma", 1.0, 1.0], "x=\\['gamma', 1.0, 1.0\\].*kind one of lognormal"),
    (["lognormal", 1.0], "lognormal takes 2 number"),
    (["halfnormal", 1.0, 2.0], "halfnormal takes 1 number"),
    (["normal", "a", 1.0], "normal takes 2 number"),
    (["normal", True, 1.0], "normal takes 2 number"),
    (["lognormal", 0.0, 1.0], "0.0 must be above 0"),
    (["lognormal", 1.0, math.inf], "inf is no number of a prior"),
    (["lognormal", 1.0, -1.0], "-1.0 must be above 0"),
    (["halfnormal", math.nan], "nan must be above 0"),
    (["normal", 0.0, 0.0], "0.0 must be above 0"),
    (["beta", 1.0, 0.0], "0.0 must be above 0"),
    (["logitnormal", 1.5, 1.0], "a median in \\(0, 1\\)"),
    ({"tv": ["normal", 0.0, 1.0], "radio": ["normal", 0.0, 1.0]}, "radio is none of tv, search"),
    ({"tv": ["normal", 0.0, 1.0]}, "search is not given, and there is no default"),
    ({"default": ["normal", 0.0, 1.0], "tv": ["lognormal", 1.0, 1.0]}, "mixes the kinds lognormal, normal"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[str(given) for given, _ in REFUSED])
def test_mistakes_are_told(given, message: str) -> None:
    with pytest.raises(UserError, match=r"model.net.priors.x") as caught:
        site("x", given, ["tv", "search"])
    caught.match(message)


@pytest.mark.parametrize(
    ("default", "given", "message"),
    [
        (["lognormal", 1.0, 0.8], ["normal", 1.0, 1.0], "it lies above 0, and normal allows more"),
        (["logitnormal", 0.4, 1.0], ["lognormal", 1.0, 1.0], "it lies between 0 and 1, and lognormal allows more"),
        (["lognormal", 1.0, 0.8], {"tv": ["lognormal", 1.0, 1.0], "default": 3}, "write \\[kind, numbers\\]"),
    ],
)
def test_a_prior_of_values_that_the_parameter_cannot_take(default: list, given, message: str) -> None:
    with pytest.raises(UserError, match=message):
        site("x", given, ["tv", "search"], default=default)


@pytest.mark.parametrize("given", [["beta", 1.0, 3.0], ["halfnormal", 1.0], ["logitnormal", 0.4, 1.0]])
def test_a_prior_of_some_of_the_values_is_taken(given: list) -> None:
    assert site("x", given, ["tv"], default=["lognormal", 1.0, 0.8]).kind == given[0]
    assert site("x", given, ["tv"], default=["normal", 1.0, 0.8]).kind == given[0]


def test_a_part_of_a_single_number_is_told() -> None:
    with pytest.raises(UserError, match="noise: tv is no part of it, it is one number"):
        site("noise", {"tv": ["lognormal", 1.0, 1.0]}, [""])


def flat() -> FlatSites:
    return FlatSites(
        [
            two("lognormal"),
            site("none", ["normal", 0.0, 1.0], []),
            site("share", ["beta", 2.0, 3.0], [""]),
            site("rate", ["halfnormal", 2.0], ["a", "b", "c"], "letter"),
            site("tail", ["logitnormal", 0.4, 1.0], [""]),
        ]
    )


def test_flat_sites_round_trip() -> None:
    sites = flat()
    u = normal(5, sites.dim)
    assert sites.dim == 7
    values = sites.constrain(u)
    assert {name: tuple(v.shape) for name, v in values.items()} == {
        "x": (5, 2), "share": (5, 1), "rate": (5, 3), "tail": (5, 1)
    }  # fmt: skip
    torch.testing.assert_close(sites.unconstrain(values), u)
    torch.testing.assert_close(sites.log_prior(u), sum(s.log_prior(sites.split(u)[s.name]) for s in sites.sites))
    torch.testing.assert_close(sites.log_prior(u[0]), sites.log_prior(u)[0])
    assert sites.median().shape == (7,)
    assert sites.sample(9, torch.Generator().manual_seed(0)).shape == (9, 7)
    labels = {"letter": ("a", "b", "c")}
    names = FlatSites(sites.sites[1:]).names(labels)
    assert names == ["share", "rate[a]", "rate[b]", "rate[c]", "tail"]


def test_order_is_that_of_pyros_guides() -> None:
    sites = flat()

    def model() -> None:
        for s in sites.sites:
            pyro.sample(s.name, s.distribution())

    guide = AutoNormal(model)
    guide()
    order = [(name, found["value"].numel()) for name, found in guide.prototype_trace.iter_stochastic_nodes()]
    assert order == [(s.name, s.size) for s in sites.sites]
    trace = pyro.poutine.trace(model).get_trace()
    values = {name: trace.nodes[name]["value"] for name, _ in order}
    u = sites.unconstrain(values)
    transforms = [biject_to(s.distribution().support) for s in sites.sites]
    jacobian = sum(
        t.log_abs_det_jacobian(part, values[s.name]).sum()
        for s, t, part in zip(sites.sites, transforms, sites.split(u).values(), strict=True)
    )
    torch.testing.assert_close(sites.log_prior(u), trace.log_prob_sum() + jacobian)
