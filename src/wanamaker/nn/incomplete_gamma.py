"""The regularised incomplete gamma function with the derivatives that PyTorch lacks.

``torch.special.gammainc`` has no derivative in its first argument, and ``torch._standard_gamma_grad``, from which one
can be had, is private and off by up to 3e-4 of the value. All derivatives here come from one power series of positive
terms (Abramowitz & Stegun 6.5.29),

    P(a, z) = g S,   g = z^a e^-z / Gamma(a + 1),   S = sum_n t_n,   t_0 = 1,   t_n = t_{n-1} z / (a + n),

differentiated term by term: with c_n = sum_{k<=n} 1 / (a + k) and q_n = sum_{k<=n} 1 / (a + k)^2,

    S' = -sum t_n c_n,   S'' = sum t_n (c_n^2 + q_n),   l = log z - digamma(a + 1),
    dP/da = g (l S + S'),   d2P/da2 = g ((l^2 - trigamma(a + 1)) S + 2 l S' + S'').
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Beyond a + 12 sqrt(a) + 40 the upper tail is below 1e-17: P is 1 and its derivatives in `a` are 0.
_TAIL, _TAIL_SQRT = 40.0, 12.0
# Terms summed between two looks at whether the series has converged (a look makes a GPU wait).
_TERMS_PER_LOOK = 16


def regularised_gamma(a: Tensor, z: Tensor) -> Tensor:
    """P(a, z), the regularised lower incomplete gamma function.

    Differentiable twice in both arguments: once more than a fit by gradients needs, so that slopes can be penalised
    and curvatures (Laplace) computed.

    Args:
        a: above 0; accurate to rounding for a up to 100 or so, which is far beyond any saturation.
        z: above 0; broadcasts with ``a``.
    """
    a, z = torch.broadcast_tensors(a, z)
    return _RegularisedGamma.apply(a, z)


def _density(a: Tensor, z: Tensor) -> Tensor:
    """dP/dz, composed of differentiable functions."""
    return torch.exp((a - 1.0) * z.log() - z - torch.lgamma(a))


class _RegularisedGamma(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(a, z)
        return torch.special.gammainc(a, z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, z = ctx.saved_tensors
        in_a = grad * _ShapeSlope.apply(a, z) if ctx.needs_input_grad[0] else None
        in_z = grad * _density(a, z) if ctx.needs_input_grad[1] else None
        return in_a, in_z


class _ShapeSlope(Function):
    """dP/da."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(a, z)
        return _shape_derivative(a, z, order=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, z = ctx.saved_tensors
        in_a = grad * _ShapeCurvature.apply(a, z) if ctx.needs_input_grad[0] else None
        in_z = grad * _density(a, z) * (z.log() - torch.digamma(a)) if ctx.needs_input_grad[1] else None
        return in_a, in_z


class _ShapeCurvature(Function):
    """d2P/da2; its own derivatives are not provided."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, z: Tensor) -> Tensor:
        return _shape_derivative(a, z, order=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        raise NotImplementedError("regularised_gamma: third derivatives that involve the shape are not provided.")


def _shape_derivative(a: Tensor, z: Tensor, order: int) -> Tensor:
    """dP/da or d2P/da2 by the series above, elementwise."""
    limit = a + _TAIL_SQRT * a.sqrt() + _TAIL
    inside = z < limit
    z = torch.minimum(z, limit)
    term = torch.ones_like(z)
    total, first, second = term.clone(), torch.zeros_like(z), torch.zeros_like(z)
    harmonic, squares = torch.zeros_like(z), torch.zeros_like(z)
    precision = torch.finfo(z.dtype).eps
    n = 0
    while z.numel():
        for _ in range(_TERMS_PER_LOOK):
            n += 1
            inverse = (a + n).reciprocal_()
            term = term * z * inverse
            harmonic = harmonic + inverse
            total = total + term
            first = first - term * harmonic
            if order == 2:
                squares = squares + inverse**2
                second = second + term * (harmonic**2 + squares)
        # From here on terms fall faster than by half, so the rest is below the last term times its weight.
        if bool(((z < 0.5 * (a + n)) & (term * (1.0 + harmonic) ** 2 <= precision * total) | z.isnan()).all()):
            break
    scale = torch.exp(a * z.log() - z - torch.lgamma(a + 1.0))
    slope = z.log() - torch.digamma(a + 1.0)
    if order == 1:
        result = scale * (slope * total + first)
    else:
        curvature = slope**2 - torch.special.polygamma(1, a + 1.0)
        result = scale * (curvature * total + 2.0 * slope * first + second)
    return result * inside
