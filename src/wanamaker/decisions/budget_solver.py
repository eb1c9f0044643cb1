"""Maximise a smooth function over a polytope: augmented Lagrangian around L-BFGS-B, with certificates.

Variables are scaled so that 1 is typical money, and the objective so that a typical derivative is 1: neither the unit
of money nor that of the KPI changes the path. Rows keep their limits by the augmented Lagrangian of Hestenes, Powell
and Rockafellar (Nocedal & Wright 2006, ch. 17.4); bounds are kept exactly by the inner solver; the last step projects
onto all limits, so that a plan keeps them to the cent.

Axis letters: N variables, M rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.budget_feasible import Polytope

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Solution:
    """A point that keeps every limit, and how well it is known to be a local optimum.

    Attributes:
        x: [N], scaled.
        value: of the function there.
        gradient: [N], of the function there, per unit of x.
        multiplier: [M], what one more unit of each (scaled) row limit would add to the value; of either sign where
            the row is an equality.
        kkt_residual: largest distance that a projected step of the reduced gradient, with a typical derivative as
            unit, would move any scaled variable; 0 at an optimum.
        evaluations: of the function.
        converged: whether the residual is within the tolerance.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    multiplier: np.ndarray
    kkt_residual: float
    evaluations: int
    converged: bool


def maximise(
    function: Function,
    polytope: Polytope,
    start: np.ndarray,
    *,
    tolerance: float = 1e-5,
    max_evaluations: int = 2000,
    multiplier: np.ndarray | None = None,
) -> Solution:
    """A local maximum from ``start``, which keeps the limits.

    Args:
        function: value and gradient [N].
        polytope: the limits.
        start: [N].
        tolerance: of the KKT residual.
        max_evaluations: of the function, in all.
        multiplier: [M] a guess, as in `Solution.multiplier`.
    """
    from scipy.optimize import minimize

    x = start.copy()
    value, gradient = function(x)
    unit = _typical(gradient, value)
    matrix, transpose = polytope.matrix, polytope.matrix.T.tocsr()
    low, high = polytope.row_lower, polytope.row_upper
    y = _first_multiplier(polytope, x, gradient / unit) if multiplier is None else multiplier / unit
    stretch = _stretch(function, x, gradient)
    penalty, evaluations, inner = 10.0, 2, 1e-1
    bounds = np.stack([polytope.lower, polytope.upper], axis=1) / stretch[:, None]

    def lagrangian(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations
        evaluations += 1
        f, g = function(z * stretch)
        if not len(low):
            return -f / unit, -g / unit * stretch
        shifted = matrix @ (z * stretch) + y / penalty
        gap = shifted - np.clip(shifted, low, high)
        return -f / unit + 0.5 * penalty * gap @ gap, (-g / unit + penalty * (transpose @ gap)) * stretch

    broken, residual = np.inf, np.inf
    for _ in range(60):
        left = max_evaluations - evaluations
        if left <= 0:
            break
        found = minimize(
            lagrangian,
            x / stretch,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxcor": 20, "maxiter": left, "maxfun": left, "gtol": inner * 0.5, "ftol": 0.0, "maxls": 40},
        )
        x = np.clip(found.x * stretch, polytope.lower, polytope.upper)
        before = broken
        if len(low):
            shifted = matrix @ x + y / penalty
            y = penalty * (shifted - np.clip(shifted, low, high))
            sums = matrix @ x
            broken = float(np.maximum(0, np.maximum(low - sums, sums - high)).max(initial=0))
        else:
            broken = 0.0
        residual = _residual(polytope, x, found.jac / stretch)
        if broken <= tolerance and residual <= tolerance:
            break
        if broken > 0.25 * before and broken > tolerance:
            penalty *= 5.0
        inner = max(inner * 0.1, tolerance * 0.5)
    x = polytope.project(x)
    value, gradient = function(x)
    y = _refined_multiplier(polytope, x, gradient / unit, y)
    residual = _residual(polytope, x, -gradient / unit + transpose @ y)
    return Solution(x, value, gradient, y * unit, residual, evaluations + 1, residual <= 10 * tolerance)


def optimality_gap(polytope: Polytope, solution: Solution) -> float:
    """How much more than ``solution`` any plan within the limits can reach if the function is concave: a bound.

    A concave function lies below its tangent plane, whose maximum over the limits is a linear program (the duality gap
    of Frank and Wolfe 1956; Jaggi 2013, eq. 2). Infinite where the limits leave the plan unbounded, NaN where the
    program could not be solved.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    unit = _typical(solution.gradient, 1.0)
    rows = (
        [LinearConstraint(polytope.matrix, polytope.row_lower, polytope.row_upper)] if len(polytope.row_lower) else []
    )
    found = milp(-solution.gradient / unit, constraints=rows, bounds=Bounds(polytope.lower, polytope.upper))
    if found.status == 3:
        return np.inf
    if found.x is None:
        return np.nan
    return max(0.0, float(solution.gradient @ (found.x - solution.x)))


def _stretch(function: Function, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Steps [N] in which the function curves about equally in every variable: 1 / sqrt(row sum of the Hessian).

    One more gradient gives the row sums, which stand in for the diagonal: carry-over couples neighbouring periods with
    one sign. Kept within 1/10 and 10, and 1 where nothing curves.
    """
    step = 1e-3
    bend = np.abs(function(x + step)[1] - gradient) / step
    typical = float(np.median(bend[bend > 0])) if (bend > 0).any() else 0.0
    if typical <= 0:
        return np.ones(len(x))
    return np.clip(1 / np.sqrt(np.maximum(bend / typical, 1e-4)), 0.1, 10.0)


def _typical(gradient: np.ndarray, value: float) -> float:
    """The size of a typical derivative; of the value where all derivatives vanish."""
    size = float(np.sqrt((gradient**2).mean()))
    return size if size > 0 and np.isfinite(size) else max(abs(value), 1.0) / len(gradient)


def _residual(polytope: Polytope, x: np.ndarray, descent: np.ndarray) -> float:
    """Length of the longest component of a projected gradient step; ``descent`` is the derivative to be lowered."""
    return float(np.abs(x - np.clip(x - descent, polytope.lower, polytope.upper)).max(initial=0))


def _first_multiplier(polytope: Polytope, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Multipliers that explain the gradient best, by least squares over variables away from their bounds."""
    return _least_squares(polytope, x, gradient, np.full(len(polytope.row_lower), np.nan))


def _refined_multiplier(polytope: Polytope, x: np.ndarray, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The better of ``y`` and the least-squares multipliers, by the KKT residual at ``x``."""
    if not len(y):
        return y
    other = _least_squares(polytope, x, gradient, y)
    transpose = polytope.matrix.T
    residuals = [_residual(polytope, x, -gradient + transpose @ candidate) for candidate in (y, other)]
    return other if residuals[1] < residuals[0] else y


def _least_squares(polytope: Polytope, x: np.ndarray, gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
    import scipy.sparse as sp
    from scipy.sparse.linalg import lsqr

    found = np.zeros(len(polytope.row_lower))
    if not len(found):
        return found
    sums = polytope.matrix @ x
    near = 1e-7 * np.maximum(1.0, np.abs(sums))
    at_high, at_low = sums >= polytope.row_upper - near, sums <= polytope.row_lower + near
    active = np.flatnonzero((at_high | at_low) & ~(y == 0))
    free = (x > polytope.lower + 1e-7) & (x < polytope.upper - 1e-7)
    if not len(active) or not free.any():
        return found if np.isnan(y).all() else y
    part = polytope.matrix[active] @ sp.diags_array(free.astype(float))
    found[active] = lsqr(part.T.tocsr(), gradient * free, atol=1e-14, btol=1e-14, iter_lim=500)[0]
    # Pushing against an upper limit is worth something, against a lower limit it costs.
    found = np.where(at_high & ~at_low, np.maximum(found, 0), found)
    return np.where(at_low & ~at_high, np.minimum(found, 0), found)
