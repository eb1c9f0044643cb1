"""`GaussianGuide`: a normal approximation of the posterior of the unconstrained parameters, in whitened coordinates.

    u = origin + basis (shift + scale e),   e ~ N(0, I)

`origin` and `basis` are constants, set from the mode of the posterior and the curvature there, so that what is learnt
is near 0 and of one scale. Three forms are Pyro's `AutoNormal` (a diagonal), `AutoLowRankMultivariateNormal` and
`AutoMultivariateNormal`; `to_pyro` gives the equal Pyro object. The fourth, "skewed", bends each margin of a
multivariate normal by a sinh-arcsinh function (Jones & Pewsey 2009): half-lives and half-points of a mix have skewed
posteriors, which a normal guide cuts off on one side.

    u_i = origin_i + sd_i h(x_i),   x = correlated normal,   h(x) = (sinh(asinh x + a_i) - sinh a_i) / cosh a_i

Axis letters: N draws, D unconstrained numbers, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

FORMS = ("skewed", "multivariate", "low_rank", "normal")
NEAR_MODE, FAR = 0.02, 0.5
"""In posterior standard deviations: a gradient step that needs no more, and a climb after which curvature is anew."""
SKEW_UNIT = 4.0
"""Skews are learnt in this unit: their gradients are small, and Adam moves every number at one pace."""
_LOG_2PI = math.log(2 * math.pi)


class GaussianGuide(nn.Module):
    """A normal distribution over [D].

    Args:
        dim: D.
        form: of `FORMS`.
        rank: R of "low_rank".
    """

    def __init__(self, dim: int, form: str = "multivariate", rank: int = 10) -> None:
        super().__init__()
        self.dim, self.form, self.rank = dim, form, min(rank, dim)
        kind = {"dtype": torch.float64}
        self.register_buffer("origin", torch.zeros(dim, **kind))
        self.register_buffer("basis", torch.eye(dim, **kind))
        self.shift = nn.Parameter(torch.zeros(dim, **kind))
        self.log_scale = nn.Parameter(torch.zeros(dim, **kind))
        wide = {"normal": 0, "low_rank": self.rank}.get(form, dim)
        self.mix = nn.Parameter(torch.zeros(dim, wide, **kind))
        self.skew = nn.Parameter(torch.zeros(dim if form == "skewed" else 0, **kind))

    @property
    def noise_size(self) -> int:
        """Standard normal numbers per draw."""
        return self.dim + (self.rank if self.form == "low_rank" else 0)

    @torch.no_grad()
    def anchor(self, location: Tensor, scale_tril: Tensor) -> None:
        """Start anew from N(location [D], scale_tril scale_tril' [D, D]).

        The forms without correlation take the conditional standard deviations, as a mean-field fit would.
        """
        if self.form in ("normal", "low_rank"):
            precision = torch.cholesky_inverse(scale_tril).diagonal()
            scale_tril = precision.rsqrt().diag()
        self.origin.copy_(location)
        self.basis.copy_(scale_tril)
        for parameter in (self.shift, self.log_scale, self.mix, self.skew):
            parameter.zero_()
        if self.form == "low_rank":  # a saddle point at exactly 0
            generator = torch.Generator().manual_seed(0)
            self.mix.copy_(0.05 * torch.randn(self.mix.shape, generator=generator, dtype=self.mix.dtype))

    def location(self) -> Tensor:
        """Mean [D] (median of each margin of the skewed form)."""
        centre = self.basis @ self.shift
        return self.origin + (self._bend(centre) if self.form == "skewed" else centre)

    def _widths(self) -> Tensor:
        """[D], the unit in which a margin's bend is told: its standard deviation when anchored."""
        return self.basis.square().sum(-1).sqrt()

    def _bend(self, centred: Tensor) -> Tensor:
        """Skewed margins of a normal vector [..., D]."""
        sd = self._widths()
        a = SKEW_UNIT * self.skew
        return sd * (torch.sinh(torch.asinh(centred / sd) + a) - torch.sinh(a)) / torch.cosh(a)

    def _root(self) -> Tensor:
        """Lower triangular factor [D, D] of the whitened covariance."""
        scale = self.log_scale.exp()
        if self.form == "normal":
            return scale.diag()
        if self.form in ("multivariate", "skewed"):
            return self.mix.tril(-1) + scale.diag()
        return torch.linalg.cholesky(self.mix @ self.mix.T + scale.square().diag())

    def scale_tril(self) -> Tensor:
        """Cholesky factor [D, D] of the covariance of u (before it is bent, for the skewed form)."""
        return self.basis @ self._root()  # the product of two lower triangles is one

    def draw(self, noise: Tensor) -> Tensor:
        """Draws [N, D] from standard normal noise [N, `noise_size`], differentiable in the parameters."""
        scale = self.log_scale.exp()
        first = noise[:, : self.dim]
        if self.form in ("multivariate", "skewed"):
            white = first @ (self.mix.tril(-1) + scale.diag()).T
        else:
            white = first * scale
            if self.form == "low_rank":
                white = white + noise[:, self.dim :] @ self.mix.T
        centred = (self.shift + white) @ self.basis.T
        return self.origin + (self._bend(centred) if self.form == "skewed" else centred)

    def log_prob(self, u: Tensor, detached: bool = False) -> Tensor:
        """Log density of u [N, D].

        Args:
            u: unconstrained parameters.
            detached: no gradient through the guide's own parameters: the path derivative, whose noise vanishes as the
                guide approaches the posterior (Roeder, Wu & Duvenaud 2017).
        """
        root, shift, skew = self._root(), self.shift, SKEW_UNIT * self.skew
        if detached:
            root, shift, skew = root.detach(), shift.detach(), skew.detach()
        centred, log_slope = u - self.origin, torch.zeros((), dtype=u.dtype, device=u.device)
        if self.form == "skewed":
            sd = self._widths()
            unbent = torch.asinh(centred / sd * torch.cosh(skew) + torch.sinh(skew)) - skew
            centred = sd * torch.sinh(unbent)
            # h'(x) = cosh(asinh x + a) / (cosh(asinh x) cosh a)
            log_slope = (_log_cosh(unbent + skew) - _log_cosh(unbent) - _log_cosh(skew)).sum(-1)
        white = torch.linalg.solve_triangular(self.basis, centred.T, upper=False)
        z = torch.linalg.solve_triangular(root, white - shift.unsqueeze(-1), upper=False)
        log_det = root.diagonal().log().sum() + self.basis.diagonal().log().sum()
        return -0.5 * z.square().sum(0) - log_det - log_slope - 0.5 * self.dim * _LOG_2PI

    @torch.no_grad()
    def to_pyro(self, model: Callable[..., Any], *args: Any) -> Any:
        """The same distribution as a Pyro autoguide of a Pyro model.

        Args:
            model: whose sites, flattened in order, are u.
            args: to run the model once.

        Returns:
            `AutoNormal`, `AutoLowRankMultivariateNormal` or `AutoMultivariateNormal`.

        Raises:
            ValueError: the skewed form, which Pyro does not have.
        """
        if self.form == "skewed":
            raise ValueError("Pyro has no autoguide of the form skewed; fit a guide of another form.")
        from pyro.infer import autoguide

        location = self.location()
        if self.form == "normal":
            guide = autoguide.AutoNormal(model)
            guide(*args)
            scale, place = self.scale_tril().diagonal(), 0
            for name, found in guide.prototype_trace.iter_stochastic_nodes():
                size = found["value"].numel()
                holder_loc, holder_scale = guide.locs, guide.scales
                getattr(holder_loc, name).copy_(location[place : place + size].reshape(getattr(holder_loc, name).shape))
                setattr(holder_scale, name, scale[place : place + size].reshape(getattr(holder_scale, name).shape))
                place += size
            return guide
        if self.form == "low_rank":
            guide = autoguide.AutoLowRankMultivariateNormal(model, rank=self.rank)
            guide(*args)
            guide.loc.copy_(location)
            scale = self.basis.diagonal() * self.log_scale.exp()
            guide.scale = scale
            # Pyro's covariance is (scale cov_factor)(scale cov_factor)' + diag(scale^2).
            guide.cov_factor.copy_(self.basis @ self.mix / scale.unsqueeze(-1))
            return guide
        guide = autoguide.AutoMultivariateNormal(model)
        guide(*args)
        tril = self.scale_tril()
        guide.loc.copy_(location)
        guide.scale = tril.diagonal().clone()
        guide.scale_tril = tril / tril.diagonal().unsqueeze(-1)
        return guide


def _log_cosh(x: Tensor) -> Tensor:
    size = x.abs()
    return size + torch.log1p(torch.exp(-2 * size)) - math.log(2)


def laplace_root(gradient: Callable[[Tensor], Tensor], mode: Tensor, chunk: int = 64, step: float = 1e-4) -> Tensor:
    """Cholesky factor [D, D] of the inverse of the negative curvature at a mode.

    Curvature by central differences of exact gradients, two per direction and many at once. Directions in which the
    density is nearly flat, or bends the wrong way because the mode is not quite reached, get the width of their prior
    (1 in these units, about).

    Args:
        gradient: [N, D] -> [N, D].
        mode: [D].
        chunk: how many points at once.
        step: of the differences.
    """
    D = len(mode)
    eye = torch.eye(D, dtype=mode.dtype, device=mode.device) * step
    points = torch.cat([mode + eye, mode - eye])
    found = torch.cat([gradient(part) for part in points.split(chunk)])
    curvature = -(found[:D] - found[D:]) / (2 * step)
    curvature = 0.5 * (curvature + curvature.T)
    values, vectors = torch.linalg.eigh(curvature)
    values = torch.where(values > 0.3, values, torch.full_like(values, 0.3).maximum(values.abs()))
    return torch.linalg.cholesky((vectors / values) @ vectors.T)


def refined_mode(
    density: Callable[[Tensor], tuple[Tensor, Tensor]], mode: Tensor, chunk: int = 64, rounds: int = 4
) -> tuple[Tensor, Tensor]:
    """The mode to a small part of a posterior standard deviation, and `laplace_root` there.

    Adam stops where its rate has faded, which with many series is many of their narrow standard deviations away; Newton
    steps with halving finish the climb. The curvature is taken anew where they went far.

    Args:
        density: [N, D] -> [N], [N, D].
        mode: [D], near it.
        chunk: how many points at once.
        rounds: curvatures at most.
    """
    root = laplace_root(lambda u: density(u)[1], mode, chunk)
    for _ in range(rounds - 1):
        start = mode
        value, gradient = (found[0] for found in density(mode.unsqueeze(0)))
        for _ in range(20):
            white = root.T @ gradient
            if float(white.norm()) < NEAR_MODE:
                break
            step, better = root @ white, False
            for halving in range(8):
                moved = mode + step * 0.5**halving
                new_value, new_gradient = (found[0] for found in density(moved.unsqueeze(0)))
                if bool(new_value > value):
                    mode, value, gradient, better = moved, new_value, new_gradient, True
                    break
            if not better:
                break
        went = torch.linalg.solve_triangular(root, (mode - start).unsqueeze(-1), upper=False).norm()
        if float(went) < FAR:
            break
        root = laplace_root(lambda u: density(u)[1], mode, chunk)
    return mode, root


def pareto_k(log_ratio: Tensor) -> tuple[float, Tensor]:
    """PSIS k-hat of log importance ratios [N], and the smoothed, normalised log weights [N].

    Source: Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto smoothed importance sampling", by ArviZ.
    """
    import arviz
    import numpy as np

    ratio = log_ratio.detach().cpu().numpy()
    ratio = np.where(np.isfinite(ratio), ratio, -1e10)  # outside the support: weight 0
    weights, k = arviz.psislw(ratio - ratio.max())
    return float(k), torch.from_numpy(np.asarray(weights))
