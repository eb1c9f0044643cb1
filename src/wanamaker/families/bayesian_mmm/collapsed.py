"""The likelihood of a panel with every linear Gaussian coefficient integrated out.

For series g, with fixed columns F [T, P] and columns of known sign M [T, C + D] (saturated media and directed drivers),

    y_g = F (s * w + level deviations) + M b + [F, M] (tau * z_g) + noise,   w, z, deviations ~ N(0, 1),

b the positive effects, tau = (spread of fixed columns, eta * b). Given the non-linear parameters everything but `b` is
Gaussian. Only products of columns over time enter: Gamma_g = [F, M]'[F, M] [Q, Q] and [F, M]'y, so that the cost per
series after them does not depend on the number of periods. With K_g = I + D Gamma D / sigma^2 = L L' (D = diag tau),

    p(y_g | w, theta) follows from Woodbury's identity; the shared coefficients then follow from sums over series.

Source: Woodbury (1950); the collapsed hierarchical regression of Lindley & Smith (1972), here with the Gram trick.

Axis letters: N draws, G series, T periods, P fixed columns, M columns of known sign, Q = P + M, W = columns of all
shared coefficients seen by one series, V = all shared coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

_LOG_2PI = log(2 * pi)


@dataclass(frozen=True)
class Gram:
    """Products of columns over the rows that are learnt from.

    Attributes:
        full: [N, G, Q, Q].
        with_y: [N, G, Q].
        yy: [G].
        count: [G], rows.
    """

    full: Tensor
    with_y: Tensor
    yy: Tensor
    count: Tensor


@dataclass(frozen=True)
class FixedGram:
    """Products that do not depend on parameters: of the fixed columns and the KPI.

    Attributes:
        ff: [G, P, P]. fy: [G, P]. yy: [G].
    """

    ff: Tensor
    fy: Tensor
    yy: Tensor


def fixed_gram(fixed: Tensor, y: Tensor, mask: Tensor) -> FixedGram:
    """Products of fixed columns [G, T, P] and the KPI [G, T] over the rows of `mask`."""
    f = fixed * mask.unsqueeze(-1)
    return FixedGram(f.mT @ f, (f.mT @ y.unsqueeze(-1)).squeeze(-1), (y * y * mask).sum(-1))


def gram(columns: Tensor, fixed: Tensor, y: Tensor, mask: Tensor, constant: FixedGram) -> Gram:
    """All products.

    Args:
        columns: [N, G, M, T], columns of known sign; rows that are not learnt from are ignored.
        fixed: [G, T, P].
        y, mask: [G, T].
        constant: of `fixed_gram`.
    """
    N, G = columns.shape[:2]
    columns = columns * mask.unsqueeze(-2)
    mm = columns @ columns.mT  # [N, G, M, M]
    other = torch.cat([fixed, y.unsqueeze(-1)], dim=-1)  # [G, T, P + 1]
    mo = columns @ other  # [N, G, M, P + 1]
    mf, my = mo[..., :-1], mo[..., -1]
    P = fixed.shape[-1]
    ff = constant.ff.expand(N, G, P, P)
    full = torch.cat([torch.cat([ff, mf.mT], dim=-1), torch.cat([mf, mm], dim=-1)], dim=-2)
    return Gram(full, torch.cat([constant.fy.expand(N, G, P), my], dim=-1), constant.yy, mask.sum(-1))


def joined(parts: Sequence[Gram]) -> Gram:
    """Products of all series from those of parts of them, in order."""
    if len(parts) == 1:
        return parts[0]
    return Gram(
        torch.cat([part.full for part in parts], dim=1),
        torch.cat([part.with_y for part in parts], dim=1),
        torch.cat([part.yy for part in parts]),
        torch.cat([part.count for part in parts]),
    )


@dataclass(frozen=True)
class Shared:
    """Coefficients that several series share, to be integrated out with the rest.

    Attributes:
        sd: [N, W], prior standard deviation of each column's coefficient, as one series sees them: first P fixed
            columns, then per hierarchy level the Q columns.
        column: int64 [W], number in 0..Q-1 of the column each multiplies.
        place: int64 [G, W], number in 0..V-1 of the shared coefficient.
        size: V.
    """

    sd: Tensor
    column: Tensor
    place: Tensor
    size: int


@dataclass(frozen=True)
class Solved:
    """The likelihood, and what is needed to draw the coefficients that were integrated out.

    Attributes:
        log_likelihood: [N].
        per_series: [N, G], of each series given shared coefficients of 0 (of those in `known`).
        factor: [N, G, Q, Q], L. weight: [N, G, Q], D / sigma.
        residual: [N, G, Q], L^-1 D [F, M]'r / sigma^2 of the residual r before shared coefficients.
        shared_factor: [N, V, V] or None. shared_mean: [N, V] or None: posterior of the shared coefficients.
        cross: [N, G, Q, W] or None, L^-1 D [F, M]'X / sigma^2.
    """

    log_likelihood: Tensor
    per_series: Tensor
    factor: Tensor
    weight: Tensor
    residual: Tensor
    shared_factor: Tensor | None = None
    shared_mean: Tensor | None = None
    cross: Tensor | None = None


def same(total: Tensor) -> Tensor:
    """Itself: the sum over the ranks where there is one."""
    return total


def collapsed(
    products: Gram,
    known: Tensor,
    spread: Tensor,
    sigma: Tensor,
    shared: Shared | None,
    reduce: Callable[[Tensor], Tensor] = same,
) -> Solved:
    """Integrate out the coefficients.

    Args:
        products: of the columns.
        known: [N, Q] or [N, G, Q], coefficients that are given: 0 for what is integrated out, b for media.
        spread: [N, Q], standard deviation of the series' deviations; 0 for a column without.
        sigma: [N, G], noise.
        shared: coefficients shared by series; None where `known` holds them.
        reduce: sums over ranks that hold other series.
    """
    known = known.unsqueeze(-2) if known.ndim == 2 else known  # [N, G or 1, Q]
    fitted = (products.full @ known.unsqueeze(-1)).squeeze(-1)  # Gamma b
    cross_y = products.with_y - fitted  # [F, M]'r
    square = products.yy - (known * (products.with_y + cross_y)).sum(-1)  # r'r
    precision = sigma.square().reciprocal()
    weight = spread.unsqueeze(-2) / sigma.unsqueeze(-1)  # [N, G, Q]
    eye = torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device)
    inner = weight.unsqueeze(-1) * products.full * weight.unsqueeze(-2) + eye
    factor = _root(inner)
    over_sigma = sigma.unsqueeze(-1).reciprocal()
    right = (weight * cross_y * over_sigma).unsqueeze(-1)
    if shared is not None:
        seen = products.full[..., shared.column] * (shared.sd.unsqueeze(-2).unsqueeze(-2))  # Gamma_{:, X}
        right = torch.cat([right, weight.unsqueeze(-1) * seen * over_sigma.unsqueeze(-1)], dim=-1)
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    u = solved[..., 0]
    per_series = -0.5 * (
        square * precision - u.square().sum(-1) + products.count * (2 * sigma.log() + _LOG_2PI)
    ) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    if shared is None:
        return Solved(reduce(per_series.sum(-1)), per_series, factor, weight, u)
    U = solved[..., 1:]  # [N, G, Q, W]
    own = shared.sd.unsqueeze(-2) * cross_y[..., shared.column]  # [N, G, W]
    b = own * precision.unsqueeze(-1) - (U.mT @ u.unsqueeze(-1)).squeeze(-1)
    own2 = seen[..., shared.column, :] * shared.sd.unsqueeze(-2).unsqueeze(-1)
    block = own2 * precision.unsqueeze(-1).unsqueeze(-1) - U.mT @ U  # X' V^-1 X [N, G, W, W]
    total, moment = (reduce(part) for part in _assembled(block, b, shared))
    size_eye = torch.eye(shared.size, dtype=total.dtype, device=total.device)
    outer = _root(total + size_eye)
    v = torch.linalg.solve_triangular(outer, moment.unsqueeze(-1), upper=False)
    gain = 0.5 * v.square().sum((-2, -1)) - outer.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    mean = torch.linalg.solve_triangular(outer.mT, v, upper=True).squeeze(-1)
    return Solved(reduce(per_series.sum(-1)) + gain, per_series, factor, weight, u, outer, mean, U)


def _root(matrix: Tensor) -> Tensor:
    """Cholesky factors; NaN where there is none, so that one wild chain is rejected and does not stop the others."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)


def _assembled(block: Tensor, moment: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    """Sums over series of what each says about the shared coefficients, [N, V, V] and [N, V]."""
    V = shared.size
    if shared.place.shape[1] == V:  # every series sees every coefficient, in order
        return block.sum(1), moment.sum(1)
    N = block.shape[0]
    flat = (shared.place.unsqueeze(-1) * V + shared.place.unsqueeze(-2)).reshape(-1)
    total = block.new_zeros(N, V * V).index_add(1, flat, block.reshape(N, -1)).reshape(N, V, V)
    return total, block.new_zeros(N, V).index_add(1, shared.place.reshape(-1), moment.reshape(N, -1))


def draw_coefficients(
    solved: Solved, shared: Shared | None, noise_shared: Tensor | None, noise_series: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Exact draws of the coefficients that were integrated out, in units of their prior standard deviation.

    Args:
        solved: of `collapsed`.
        shared: as given there.
        noise_shared: standard normal [N, V].
        noise_series: standard normal [N, G, Q].

    Returns:
        Shared coefficients [N, V] (None where none are) and deviations of the series [N, G, Q].
    """
    right = solved.residual
    w = None
    if shared is not None:
        step = torch.linalg.solve_triangular(solved.shared_factor.mT, noise_shared.unsqueeze(-1), upper=True)
        w = solved.shared_mean + step.squeeze(-1)
        seen = w[:, shared.place]  # [N, G, W]
        right = right - (solved.cross @ seen.unsqueeze(-1)).squeeze(-1)
    z = torch.linalg.solve_triangular(solved.factor.mT, (right + noise_series).unsqueeze(-1), upper=True)
    return w, z.squeeze(-1)
