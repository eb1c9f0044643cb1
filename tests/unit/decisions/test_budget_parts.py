"""Projection, scores, envelopes and the solver, each alone."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize

from wanamaker.decisions.budget_feasible import Polytope
from wanamaker.decisions.budget_objective import Objective
from wanamaker.decisions.budget_solver import maximise, optimality_gap
from wanamaker.decisions.curves import HermiteCurves


def polytope(matrix, low, high, upper: float = np.inf) -> Polytope:  # type: ignore[no-untyped-def]
    matrix = sp.csr_array(np.asarray(matrix, float))
    M, N = matrix.shape
    return Polytope(
        np.zeros(N), np.full(N, upper), matrix, np.asarray(low, float), np.asarray(high, float), np.ones(M), np.ones(N)
    )


def test_projection_equals_a_quadratic_programme() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        matrix = rng.standard_normal((3, 12))
        inside = rng.uniform(0, 1, 12)
        sums = matrix @ inside
        space = polytope(matrix, [sums[0], sums[1] - 0.3, -np.inf], [sums[0], np.inf, sums[2] + 0.1], upper=1.2)
        point = rng.standard_normal(12) * 2
        found = space.project(point)
        assert space.violation(found) < 1e-9
        limits = [
            {"type": "eq", "fun": lambda z, m=matrix, s=sums: m[0] @ z - s[0]},
            {"type": "ineq", "fun": lambda z, m=matrix, s=sums: m[1] @ z - s[1] + 0.3},
            {"type": "ineq", "fun": lambda z, m=matrix, s=sums: s[2] + 0.1 - m[2] @ z},
        ]
        reference = minimize(
            lambda z, p=point: 0.5 * ((z - p) ** 2).sum(),
            inside,
            constraints=limits,
            bounds=[(0, 1.2)] * 12,
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(found, reference.x, atol=1e-5)


def test_a_point_inside_stays_and_an_empty_set_shows() -> None:
    space = polytope(np.ones((1, 3)), [1.0], [2.0])
    np.testing.assert_array_equal(space.project(np.full(3, 0.5)), np.full(3, 0.5))
    assert polytope(np.ones((1, 3)), [4.0], [4.0], upper=1.0).violation(np.ones(3)) == pytest.approx(1.0)


def test_the_solver_on_a_problem_with_a_known_answer() -> None:
    """max sum a_i log(1 + x_i), sum x = B: water-filling x_i = max(0, a_i / price - 1)."""
    a = np.array([3.0, 2.0, 1.0, 0.1])
    space = polytope(np.ones((1, 4)), [5.0], [5.0])
    found = maximise(lambda x: (float(a @ np.log1p(x)), a / (1 + x)), space, np.full(4, 1.25), tolerance=1e-8)
    price = 6.0 / 8.0  # three open: (3 + 2 + 1) / price - 3 = 5
    np.testing.assert_allclose(found.x, [3 / price - 1, 2 / price - 1, 1 / price - 1, 0], atol=1e-6)
    assert found.multiplier[0] == pytest.approx(price, rel=1e-6)
    assert found.converged
    assert found.kkt_residual < 1e-6
    assert optimality_gap(space, found) < 1e-5
    stopped = maximise(
        lambda x: (float(a @ np.log1p(x)), a / (1 + x)), space, np.array([0, 0, 0, 5.0]), max_evaluations=3
    )
    assert not stopped.converged, "a search that is cut short says so"
    assert optimality_gap(space, stopped) > found.value - stopped.value > 0


@pytest.mark.parametrize("kind", ["mean", "cvar", "chance", "mean_sd"])
@pytest.mark.parametrize("width", [0.0, 0.3])
def test_scores_and_their_derivatives(kind: str, width: float) -> None:
    values = np.random.default_rng(1).standard_normal(20)
    objective = Objective(kind, worst=0.23, risk=0.7, beat=0.1, width=width)
    score, weights = objective(values)
    if kind == "chance" and width == 0:
        assert score == (values > 0.1).mean()
        return
    steps = np.eye(20) * 1e-6
    numeric = [(objective(values + step)[0] - objective(values - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(weights, numeric, atol=1e-6)
    if kind != "chance":
        assert weights.sum() == pytest.approx(1.0), "one more unit everywhere is one more unit"
    if kind == "cvar":
        order = np.sort(values)
        exact = (order[:4].sum() + 0.6 * order[4]) / 4.6
        assert Objective("cvar", worst=0.23)(values)[0] == pytest.approx(exact)
        assert Objective("cvar", worst=0.23, width=1e-4)(values)[0] == pytest.approx(exact, abs=1e-3)
        assert Objective("cvar", worst=1.0)(values)[0] == pytest.approx(values.mean())


def test_the_envelope_is_concave_above_and_touches() -> None:
    grid = np.linspace(0, 6, 61)
    curves = HermiteCurves(
        grid,
        np.stack([grid**3 / (1 + grid**3), 1 - np.exp(-grid)]),
        np.stack([3 * grid**2 / (1 + grid**3) ** 2, np.exp(-grid)]),
    )
    envelope = curves.concave_envelope()
    x = np.linspace(0, 8, 4001)[None]
    (value, _), (above, slope) = curves(x), envelope(x)
    assert (above >= value - 1e-5).all()
    assert (np.diff(slope, axis=1) <= 5e-3).all()
    tangent = 2 ** (1 / 3)  # x f'(x) = f(x) for x^3 / (1 + x^3)
    beyond = x[0] > tangent + 0.05
    np.testing.assert_allclose(above[0, beyond & (x[0] < 6)], value[0, beyond & (x[0] < 6)], atol=1e-4)
    foot = x[0] < tangent
    np.testing.assert_allclose(above[0, foot], x[0, foot] * (2 / 3) / tangent, atol=2e-3)
    np.testing.assert_allclose(above[1], value[1], atol=1e-5)
