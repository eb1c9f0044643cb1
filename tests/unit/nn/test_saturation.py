"""Saturation curves against SciPy and their formulas; gradients against finite differences; behaviour at 0."""

import numpy as np
import pytest
import torch
from scipy.special import gammainc
from torch.autograd import gradcheck, gradgradcheck

from wanamaker.nn.saturation import (
    ORIGIN,
    beta_gamma_kernel,
    beta_gamma_peak,
    concave_spline_basis,
    gamma_cdf,
    hill,
    logistic_saturation,
    michaelis_menten,
    root,
    tanh_saturation,
)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


X = torch.linspace(1e-3, 8, 60, dtype=torch.float64)
SHAPES = tensor(0.2, 0.5, 1.0, 1.7, 4.0, 12.0).unsqueeze(1)
RATES = tensor(0.3, 1.0, 2.5).reshape(3, 1, 1)

# Name: (curve, parameters that pytest varies nothing of, the formula in NumPy).
CURVES = {
    "gamma_cdf": (gamma_cdf, (1.7, 0.8), lambda x, a, r: gammainc(a, r * x)),
    "gamma_cdf, concave": (gamma_cdf, (0.4, 0.8), lambda x, a, r: gammainc(a, r * x)),
    "beta_gamma": (beta_gamma_kernel, (0.8, 0.3), lambda x, a, b: x**a * np.exp(-b * x)),
    "hill": (hill, (2.0, 1.6), lambda x, k, s: x**s / (x**s + k**s)),
    "hill, concave": (hill, (2.0, 0.5), lambda x, k, s: x**s / (x**s + k**s)),
    "logistic": (logistic_saturation, (0.7,), lambda x, r: (1 - np.exp(-r * x)) / (1 + np.exp(-r * x))),
    "tanh": (tanh_saturation, (3.0,), lambda x, s: np.tanh(x / s)),
    "michaelis_menten": (michaelis_menten, (2.0,), lambda x, k: x / (x + k)),
    "root": (root, (0.4,), lambda x, p: x**p),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_their_formulas(name: str) -> None:
    curve, parameters, formula = CURVES[name]
    np.testing.assert_allclose(curve(X, *tensor(*parameters)), formula(X.numpy(), *parameters), rtol=1e-9)


@pytest.mark.parametrize("name", CURVES)
def test_gradients_of_curves(name: str) -> None:
    curve, parameters, _ = CURVES[name]
    arguments = (X[::7].clone(), *tensor(*parameters))
    arguments = tuple(a.clone().requires_grad_() for a in arguments)
    assert gradcheck(curve, arguments)
    assert gradgradcheck(curve, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CURVES)
def test_zero_media_have_exactly_no_effect_and_finite_gradients(name: str, dtype: torch.dtype) -> None:
    curve, parameters, _ = CURVES[name]
    x = torch.tensor([0.0, -1e-9, -3.0, 0.0], dtype=dtype, requires_grad=True)
    arguments = [torch.tensor(p, dtype=dtype, requires_grad=True) for p in parameters]
    y = curve(x, *arguments)
    assert (y == 0).all()
    y.sum().backward()
    for leaf in (x, *arguments):
        assert leaf.grad.isfinite().all()
    assert (x.grad[[0, 3]] > 0).all(), "the first unit of media must be seen to have an effect"
    assert all(p.grad == 0 for p in arguments)


@pytest.mark.parametrize("name", [name for name in CURVES if name != "beta_gamma"])
def test_curves_never_fall_and_are_continuous_at_the_origin(name: str) -> None:
    curve, parameters, _ = CURVES[name]
    x = torch.cat([torch.linspace(0, 5 * ORIGIN, 500, dtype=torch.float64), torch.logspace(-5, 3, 4000).double()])
    y = curve(x, *tensor(*parameters))
    assert (y.diff() >= 0).all()
    assert (y[1:500].diff() > 0).all()
    assert y[:500].diff().max() <= 5 * y[499] / 499, "a jump where the chord ends"


def test_gamma_cdf_is_scipys() -> None:
    values = gamma_cdf(X, SHAPES, RATES)
    expected = gammainc(SHAPES.numpy(), (RATES * X).numpy())
    np.testing.assert_allclose(values, expected, atol=1e-6)
    single = gamma_cdf(X.float(), SHAPES.float(), RATES.float())
    np.testing.assert_allclose(single, expected, atol=1e-6)


def test_gradient_of_gamma_cdf_in_the_shape_is_exact() -> None:
    shapes = SHAPES.expand(3, 6, 60).clone().requires_grad_()
    gamma_cdf(X, shapes, RATES).sum().backward()
    step = 1e-5
    z, a = (RATES * X).numpy(), SHAPES.numpy()
    # Richardson: the error of the central difference is of fourth order in the step.
    near = (gammainc(a + step, z) - gammainc(a - step, z)) / (2 * step)
    far = (gammainc(a + 2 * step, z) - gammainc(a - 2 * step, z)) / (4 * step)
    np.testing.assert_allclose(shapes.grad, (4 * near - far) / 3, atol=1e-9)


def test_gradient_in_the_shape_in_float32_and_in_the_far_tail() -> None:
    double = SHAPES.expand(6, 60).clone().requires_grad_()
    single = double.detach().float().requires_grad_()
    gamma_cdf(X, double, tensor(1.0)).sum().backward()
    gamma_cdf(X.float(), single, torch.ones(1)).sum().backward()
    np.testing.assert_allclose(single.grad, double.grad, atol=3e-6)
    for dtype in (torch.float32, torch.float64):
        shape = torch.tensor([0.1, 1.0, 20.0, 60.0], dtype=dtype, requires_grad=True)
        x = torch.tensor([1e-30, 1e-7, 30.0, 500.0, 1e8], dtype=dtype).unsqueeze(1)
        gamma_cdf(x, shape, torch.ones(1, dtype=dtype)).sum().backward()
        assert shape.grad.isfinite().all()
    assert gamma_cdf(torch.zeros(0), torch.ones(1, requires_grad=True), torch.ones(1)).shape == (0,)


def test_slope_of_gamma_cdf_at_zero() -> None:
    """Shape above 1: none. 1: the rate. Below 1 it is infinite; ours is that of the chord up to rate * x = ORIGIN."""
    x = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    gamma_cdf(x, tensor(0.5, 1.0, 1.5, 3.0), tensor(2.0)).sum().backward()
    assert x.grad[0] == pytest.approx(2.0 * gammainc(0.5, ORIGIN) / ORIGIN)
    assert x.grad[1] == pytest.approx(2.0, rel=1e-5)
    assert 0 < x.grad[3] < x.grad[2] < 3e-3


def test_the_legacy_kernel_has_its_peak_where_it_says_and_falls_beyond() -> None:
    alpha, beta = tensor(0.974), tensor(0.744)
    peak, value = beta_gamma_peak(alpha, beta)
    assert peak.item() == pytest.approx(1.309, abs=1e-3)  # the prior system's saturation fell from here on
    x = torch.linspace(0, 20, 20001, dtype=torch.float64)
    y = beta_gamma_kernel(x, alpha, beta)
    assert x[y.argmax()].item() == pytest.approx(peak.item(), abs=1e-3)
    assert y.max().item() == pytest.approx(value.item(), rel=1e-6)
    assert (y[x > peak + 1e-3].diff() < 0).all()
    assert (y[x < peak].diff() > 0).all()


def test_logistic_is_tanh_by_another_parameter_and_hill_with_slope_one_is_michaelis_menten() -> None:
    torch.testing.assert_close(logistic_saturation(X, tensor(0.5)), tanh_saturation(X, tensor(4.0)))
    torch.testing.assert_close(hill(X, tensor(2.0), tensor(1.0)), michaelis_menten(X, tensor(2.0)))


KNOTS = tensor(0.5, 1.0, 2.5, 4.0)


def test_spline_columns_are_monotone_concave_and_bounded_far_beyond_the_last_knot() -> None:
    x = torch.linspace(0, 40, 40001, dtype=torch.float64, requires_grad=True)
    basis = concave_spline_basis(x, KNOTS)
    assert basis.shape == (40001, 4)
    assert (basis[0] == 0).all()
    assert (basis.diff(dim=0) >= -1e-14).all()
    assert (basis.diff(n=2, dim=0) <= 1e-12).all()
    assert (basis <= 1 + 1e-12).all()
    torch.testing.assert_close(basis[x > 4.0], torch.ones(36000, 4, dtype=torch.float64))
    for column in range(4):  # a continuous slope that never rises, by autograd as by differences
        (slope,) = torch.autograd.grad(basis[:, column].sum(), x, retain_graph=True)
        assert (slope.diff() <= 1e-12).all()
        assert slope.diff().abs().max() < 1e-3 * 8.1
        numeric = basis[:, column].detach().diff() / 1e-3
        torch.testing.assert_close(slope[:-1], numeric, atol=5e-3, rtol=0)
    assert slope[0].item() == pytest.approx(2 / (2.5 + 4.0))


def test_spline_spans_the_concave_curves_with_linear_slopes() -> None:
    """A concave curve whose slope is flat, then drops: the usual hinge basis cannot make it."""
    x = torch.linspace(0, 5, 200, dtype=torch.float64)
    knots = torch.linspace(0.25, 5.0, 20, dtype=torch.float64)
    target = torch.minimum(x, torch.full_like(x, 2.0)) + 0.5 * torch.log1p(x)
    from scipy.optimize import nnls

    def worst(basis: np.ndarray) -> float:
        weights, _ = nnls(basis, target.numpy())
        return np.abs(basis @ weights - target.numpy()).max()

    ours = worst(concave_spline_basis(x, knots).numpy())
    part = (x.unsqueeze(1) / knots).clamp(max=1).numpy()
    assert ours < 0.05
    assert worst(2 * part - part**2) > 3 * ours


def test_spline_knots_per_channel_and_gradients() -> None:
    knots = torch.stack([KNOTS, 2 * KNOTS])
    x = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)
    basis = concave_spline_basis(x, knots)
    torch.testing.assert_close(basis[:, 1], concave_spline_basis(x[:, 1], 2 * KNOTS))
    assert gradcheck(lambda values: concave_spline_basis(values, knots), (x,))


@pytest.mark.parametrize("knots", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_knots_that_do_not_ascend_are_refused(knots: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be above 0 and ascend"):
        concave_spline_basis(X, tensor(*knots))
