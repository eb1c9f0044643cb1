"""The guide is a distribution, Pyro's where Pyro has it, and its lower bound is Pyro's.

Axis letters: N draws, D unconstrained numbers.
"""

import functools
import math

import pyro
import pytest
import torch
from mix_case import built, normal, panel_case, points
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.distributions import MultivariateNormal, biject_to

from wanamaker.families.bayesian_mmm.fit import PosteriorFit
from wanamaker.families.bayesian_mmm.guide import FORMS, GaussianGuide, laplace_root, pareto_k
from wanamaker.families.bayesian_mmm.inference import Inference

D = 6
NORMAL = [form for form in FORMS if form != "skewed"]


def learnt(form: str, dim: int = D, size: float = 0.3) -> GaussianGuide:
    """A guide somewhere in its space, anchored at a correlated normal."""
    guide = GaussianGuide(dim, form, rank=2)
    root = torch.linalg.cholesky(normal(dim, dim, seed=1) @ normal(dim, dim, seed=1).T / dim + torch.eye(dim).double())
    guide.anchor(normal(dim, seed=2), root)
    with torch.no_grad():
        for k, parameter in enumerate((guide.shift, guide.log_scale, guide.mix, guide.skew)):
            parameter.add_(size * normal(*parameter.shape, seed=10 + k))
    return guide


@pytest.mark.parametrize("form", FORMS)
def test_density_is_that_of_the_draws(form: str) -> None:
    guide = learnt(form)
    if form == "low_rank":  # more noise than numbers: its covariance is told instead
        covariance = guide.scale_tril() @ guide.scale_tril().T
        factor = guide.draw(torch.eye(D + 2).double()) - guide.draw(torch.zeros(1, D + 2).double())
        torch.testing.assert_close(factor.T @ factor, covariance)
        u = guide.draw(normal(5, D + 2))
        expected = MultivariateNormal(guide.location(), covariance).log_prob(u)
        torch.testing.assert_close(guide.log_prob(u), expected)
        return
    noise = normal(5, D)
    u = guide.draw(noise)
    slopes = torch.stack([torch.autograd.functional.jacobian(lambda e: guide.draw(e[None])[0], row) for row in noise])
    base = -0.5 * noise.square().sum(-1) - 0.5 * D * math.log(2 * math.pi)
    torch.testing.assert_close(guide.log_prob(u), base - slopes.det().abs().log())
    torch.testing.assert_close(guide.location(), guide.draw(torch.zeros(1, D).double())[0])


@pytest.mark.parametrize("form", FORMS)
def test_anchored_guide_is_the_laplace_approximation(form: str) -> None:
    root = torch.linalg.cholesky(normal(D, D, seed=1) @ normal(D, D, seed=1).T + torch.eye(D).double())
    guide = learnt(form)
    guide.anchor(normal(D, seed=3), root)
    torch.testing.assert_close(guide.location().detach(), normal(D, seed=3))
    if form in ("multivariate", "skewed"):
        torch.testing.assert_close(guide.scale_tril().detach(), root)
        u = normal(4, D)
        torch.testing.assert_close(
            guide.log_prob(u), MultivariateNormal(normal(D, seed=3), scale_tril=root).log_prob(u)
        )
    else:  # conditional standard deviations
        sd = torch.linalg.inv(root @ root.T).diagonal().rsqrt()
        torch.testing.assert_close(guide.basis, sd.diag())


def test_skew_bends_one_way() -> None:
    guide = GaussianGuide(1, "skewed")
    with torch.no_grad():
        guide.skew.fill_(0.2)
    u = guide.draw(normal(4001, 1)).detach()
    assert float(u.mean()) > float(u.median()) + 0.05
    grid = torch.linspace(-30, 60, 40_001, dtype=torch.float64)
    density = guide.log_prob(grid[:, None]).exp().detach()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_path_derivative_has_the_gradient_of_the_density(form: str) -> None:
    """Of log q(draw), in u alone: nothing flows through the guide's own parameters but by the draw."""
    guide = learnt(form)
    noise = normal(3, guide.noise_size)
    names = [n for n, p in guide.named_parameters() if p.numel()]
    parameters = [p for p in guide.parameters() if p.numel()]
    u = guide.draw(noise)
    found = torch.autograd.grad(guide.log_prob(u, detached=True).sum(), parameters)
    u = guide.draw(noise)
    fixed = u.detach().requires_grad_()
    (force,) = torch.autograd.grad(guide.log_prob(fixed).sum(), fixed)
    expected = torch.autograd.grad((guide.draw(noise) * force).sum(), parameters)
    for name, one, other in zip(names, found, expected, strict=True):
        torch.testing.assert_close(one, other, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(guide.log_prob(u, detached=True), guide.log_prob(u))


@functools.cache
def small():
    """One series and one channel."""
    return built(panel_case(series=1, periods=30, levels=False, drivers=False, organic=False))


def unconstrained(model, trace) -> tuple[Tensor, Tensor]:
    """u [D] of a Pyro trace, and the log of the Jacobian of natural values."""
    values = {s.name: trace.nodes[s.name]["value"] for s in model.flat.sites}
    u = model.flat.unconstrain(values)
    jacobian = sum(
        biject_to(s.distribution().support).log_abs_det_jacobian(part, values[s.name]).sum()
        for s, part in zip(model.flat.sites, model.flat.split(u).values(), strict=True)
    )
    return u, jacobian


@pytest.mark.parametrize("form", NORMAL)
def test_pyros_guide_is_the_same_distribution(form: str) -> None:
    model, data = small()
    guide = learnt(form, model.flat.dim, 0.2)
    theirs = guide.to_pyro(model.pyro_model, data)
    pyro.set_rng_seed(3)
    for _ in range(4):
        trace = pyro.poutine.trace(theirs).get_trace(data)
        u, jacobian = unconstrained(model, trace)
        torch.testing.assert_close(trace.log_prob_sum() + jacobian, guide.log_prob(u[None])[0], rtol=1e-8, atol=1e-8)


def test_pyro_has_no_skewed_guide() -> None:
    with pytest.raises(ValueError, match="Pyro has no autoguide of the form skewed"):
        learnt("skewed").to_pyro(lambda: None)


def in_svi(guide: GaussianGuide, particles: int) -> PosteriorFit:
    model, _ = small()
    fit = PosteriorFit(model, Inference(particles=particles, guide=guide.form, mode_steps=1, svi_steps=5))
    fit.guide, fit.progress = guide, 1
    return fit


def test_lower_bound_is_pyros_draw_by_draw() -> None:
    model, data = small()
    guide = GaussianGuide(model.flat.dim, "multivariate")
    guide.anchor(points(model, 1)[0], 0.1 * torch.eye(model.flat.dim).double())
    theirs = guide.to_pyro(model.pyro_model, data)
    fit = in_svi(guide, 2)
    for seed in range(3):
        pyro.set_rng_seed(seed)
        bound = Trace_ELBO().differentiable_loss(model.pyro_model, theirs, data)
        gradient = torch.autograd.grad(bound, [theirs.loc])[0]
        pyro.set_rng_seed(seed)
        noise = dist.Normal(torch.zeros(model.flat.dim).double(), 1.0).sample()
        fit.noise = lambda count, stream=0, e=noise: e.expand(count, -1)
        loss = fit.loss(data)
        torch.testing.assert_close(loss, bound, rtol=1e-10, atol=1e-8)
        # Pyro's gradient has the score of the guide in it, whose mean is 0: without, ours
        u = guide.draw(noise[None])
        score = torch.autograd.grad(guide.log_prob(u.detach()).sum(), guide.shift)[0]
        ours = torch.autograd.grad(loss, guide.shift)[0]
        torch.testing.assert_close(gradient @ guide.basis, ours + score, rtol=1e-8, atol=1e-6)


def test_gradient_is_pyros_on_average() -> None:
    model, data = small()
    guide = GaussianGuide(model.flat.dim, "multivariate")
    guide.anchor(points(model, 1, spread=0.1)[0], 0.1 * torch.eye(model.flat.dim).double())
    loss_gradients, pyro_gradients = [], []
    for seed in range(60):
        fit = in_svi(guide, 64)
        noise = normal(64, guide.noise_size, seed=seed)
        fit.noise = lambda count, stream=0, e=noise: e
        parameters = [guide.shift, guide.log_scale]
        loss_gradients.append(torch.cat(torch.autograd.grad(fit.loss(data), parameters)))
        u = guide.draw(noise)  # Trace_ELBO of a reparametrised guide: no detaching
        bound = (guide.log_prob(u) - model.log_density(u, data)).mean()
        pyro_gradients.append(torch.cat(torch.autograd.grad(bound, parameters)))
    ours, theirs = torch.stack(loss_gradients), torch.stack(pyro_gradients)
    error = (ours - theirs).std(0) / 60**0.5
    assert (((ours - theirs).mean(0)).abs() <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_laplace_of_a_gaussian_is_exact(chunk: int) -> None:
    A = normal(D, D, seed=5)
    precision = A @ A.T + 0.5 * torch.eye(D).double()
    mode = normal(D, seed=6)
    root = laplace_root(lambda u: -(u - mode) @ precision, mode, chunk=chunk)
    torch.testing.assert_close(root @ root.T, torch.linalg.inv(precision), rtol=1e-7, atol=1e-8)
    assert (root.triu(1) == 0).all()


def test_laplace_of_a_flat_direction_keeps_the_prior() -> None:
    precision = torch.tensor([4.0, 1e-3, -2.0]).double().diag()
    root = laplace_root(lambda u: -u @ precision, torch.zeros(3).double())
    torch.testing.assert_close((root @ root.T).diagonal(), torch.tensor([0.25, 1 / 0.3, 0.5]).double())


def test_pareto_k_knows_good_from_bad() -> None:
    x = normal(4000)
    wide = -0.5 * (x / 1.2).square() + 0.5 * x.square()  # the target is wider than the guide
    narrow = -0.5 * (x / 0.9).square() + 0.5 * x.square()
    assert pareto_k(narrow)[0] < 0.4 < pareto_k(3 * wide)[0]
    k, weights = pareto_k(narrow)
    assert float(weights.exp().sum()) == pytest.approx(1.0)
    outside = narrow.clone()
    outside[::5] = torch.nan
    k, weights = pareto_k(outside)
    assert math.isfinite(k)
    assert float(weights[::5].exp().sum()) == pytest.approx(0.0, abs=1e-12)
