"""The total that earns a wanted return: the largest budget whose best plan still returns the target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.budget_constraints import make_constraints
from wanamaker.errors import UserError

if TYPE_CHECKING:
    from wanamaker.decisions.budget import BudgetPlan, _Task

_POINTS = 12


def solve_target_roi(task: _Task, search_limit: float = 10.0) -> BudgetPlan:
    """The plan of the largest total at which expected gain / money is at least the target.

    What the best plan of a total brings is, for concave curves, a concave function of the total, so its return crosses
    the target once from above; S-shaped curves are looked at on a grid of totals first. The crossing is then found by
    Newton's method on gain - target x total, whose derivative is the price of the budget less the target, kept between
    the two totals that enclose it.

    Raises:
        UserError: no total within the limits returns as much; the best there is, is named.
    """
    from wanamaker.decisions.budget import solve_total

    target, unit = task.options.target_roi, task.response.money_unit
    assert target is not None
    current = float(task.window.spend.sum())
    if current <= 0:
        raise UserError(
            "The current plan spends nothing, so there is no scale to look for a total: give decision.total."
        )
    least, most = _range(task, search_limit * current)

    def surplus(total: float, warm: np.ndarray | None, rough: bool) -> tuple[float, BudgetPlan]:
        found = solve_total(task, total, warm=warm, rough=rough)
        return float(found.best.gain.mean()) - target * found.total, found

    totals = np.unique(np.geomspace(max(least, 1e-3 * current), most, _POINTS))
    values, warm = [], None
    for total in totals[::-1]:  # from the largest: the first crossing met is the wanted one
        value, found = surplus(float(total), warm, rough=True)
        warm = found.best.plan
        values.append((float(total), value, found))
        if value >= 0:
            break
    total, value, found = values[-1]
    if value < 0:
        roi = [float(f.best.gain.mean()) / t for t, _, f in values]
        best = int(np.argmax(roi))
        raise UserError(
            f"decision.target_roi={target:g} cannot be reached: the best return within the limits is {roi[best]:.4g} "
            f"{unit} per {unit}, at a total of {values[best][0]:,.2f} {unit}. Lower the target, or loosen the lower "
            "bounds (decision.bounds, decision.spread)."
        )
    if len(values) == 1:  # even the largest plan returns more
        if most >= search_limit * current * (1 - 1e-9):
            raise UserError(
                f"decision.target_roi={target:g}: even {search_limit:g} times the current spend ({most:,.2f} {unit}) "
                "returns more, far beyond the data. Raise the target, or bound the plan (decision.bounds)."
            )
        return solve_total(task, total)
    low, high = total, values[-2][0]
    guess, plan = low, found.best.plan
    answer = found
    for _ in range(40):
        value, answer = surplus(guess, plan, rough=False)
        plan = answer.best.plan
        if abs(value) <= 1e-7 * target * guess:
            break
        low, high = (guess, high) if value > 0 else (low, guess)
        slope = answer.budget_price - target
        newton = guess - value / slope if slope < 0 else np.nan
        guess = newton if low < newton < high else 0.5 * (low + high)
        if high - low <= 1e-9 * high:
            break
    final = solve_total(task, answer.total)
    return final if final.score["plan"] >= answer.score["plan"] else replace(final, best=answer.best)


def _range(task: _Task, cap: float) -> tuple[float, float]:
    """The smallest and largest total that the limits allow, the largest not above ``cap``."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    constraints = make_constraints(task.response, task.window, task.variables, task.options, None)
    rows = []
    if len(constraints.row_lower):
        rows = [LinearConstraint(constraints.matrix, constraints.row_lower, constraints.row_upper)]
    fixed, ones = float(task.variables.fixed.sum()), np.ones(task.variables.count)
    everything = LinearConstraint(ones[None], -np.inf, cap - fixed)
    bounds = Bounds(constraints.lower, constraints.upper)
    ends = [milp(sign * ones, constraints=[*rows, everything], bounds=bounds) for sign in (1, -1)]
    if any(end.x is None for end in ends):
        raise UserError(
            f"decision: no plan of up to {cap:,.2f} {task.response.money_unit} keeps all limits. Loosen "
            "decision.bounds, decision.groups or decision.linear; decision.total names what contradicts."
        )
    return float(ends[0].x.sum()) + fixed, float(ends[1].x.sum()) + fixed
