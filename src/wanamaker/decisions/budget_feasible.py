"""Plans that keep every limit: the nearest one to a given plan, and who is to blame where there is none.

Everything here is in scaled variables (money divided by the typical money of the variable) with rows of length 1.

Axis letters: N variables, M rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.budget_constraints import Constraints
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import scipy.sparse as sp

EXACT = 1e-9  # violation, in scaled variables, below which a plan keeps the limits


@dataclass(frozen=True)
class Polytope:
    """lower <= x <= upper and row_lower <= matrix @ x <= row_upper, scaled."""

    lower: np.ndarray
    upper: np.ndarray
    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_length: np.ndarray  # [M], length of each row before scaling, in money
    scale: np.ndarray  # [N], money per unit of x

    @classmethod
    def of(cls, constraints: Constraints, scale: np.ndarray) -> Polytope:
        """Constraints in money, scaled."""
        import scipy.sparse as sp

        matrix = (constraints.matrix * scale[None, :]).tocsr()
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1))
        length = np.where(length > 0, length, 1.0)
        return cls(
            constraints.lower / scale,
            constraints.upper / scale,
            sp.csr_array(sp.diags_array(1 / length) @ matrix) if len(length) else matrix,
            constraints.row_lower / length,
            constraints.row_upper / length,
            length,
            scale,
        )

    def violation(self, x: np.ndarray) -> float:
        """Largest violation of any limit, scaled."""
        worst = max(0.0, float((self.lower - x).max(initial=0)), float((x - self.upper).max(initial=0)))
        sums = self.matrix @ x
        rows = np.maximum(self.row_lower - sums, sums - self.row_upper)
        return max(worst, float(rows.max(initial=0)))

    def project(self, x: np.ndarray) -> np.ndarray:
        """The nearest point (Euclidean) that keeps the limits, by its dual: a smooth problem in M multipliers.

        The dual is solved by L-BFGS-B and finished by semismooth Newton steps, which are exact once the right bounds
        are active. What cannot be reached shows in `violation` of the result.
        """
        from scipy.optimize import minimize

        M = len(self.row_lower)
        start = np.clip(x, self.lower, self.upper)
        if M == 0 or self.violation(start) <= 0:
            return start
        transpose = self.matrix.T.tocsr()
        has_high, has_low = np.isfinite(self.row_upper), np.isfinite(self.row_lower)
        high, low = np.where(has_high, self.row_upper, 0.0), np.where(has_low, self.row_lower, 0.0)

        def primal(y: np.ndarray) -> np.ndarray:
            return np.clip(x - transpose @ y, self.lower, self.upper)

        def dual(pq: np.ndarray) -> tuple[float, np.ndarray]:
            p, q = pq[:M], pq[M:]
            z = primal(p - q)
            sums = self.matrix @ z
            value = 0.5 * ((z - x) ** 2).sum() + (p - q) @ sums - p @ high + q @ low
            return -value, np.concatenate([high - sums, sums - low])

        bounds = np.zeros((2 * M, 2))
        bounds[:, 1] = np.where(np.concatenate([has_high, has_low]), np.inf, 0.0)
        found = minimize(
            dual,
            np.zeros(2 * M),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-11, "maxcor": 20},
        )
        return self._newton(x, transpose, found.x[:M] - found.x[M:])

    def _newton(self, x: np.ndarray, transpose: sp.csr_array, y: np.ndarray) -> np.ndarray:
        """Semismooth Newton on the dual from multipliers ``y``; a step that does not lower the violation ends it."""
        import scipy.sparse as sp
        from scipy.sparse.linalg import spsolve

        z = np.clip(x - transpose @ y, self.lower, self.upper)
        worst = self.violation(z)
        for _ in range(30):
            if worst <= 1e-13:
                break
            sums = self.matrix @ z
            over, under = sums - self.row_upper, self.row_lower - sums
            active = np.flatnonzero((over > 0) | (under > 0) | (np.abs(y) > 1e-14))
            target = np.where(np.abs(over) <= np.abs(under), over, -under)[active]
            free = (z > self.lower) & (z < self.upper)
            part = self.matrix[active] @ sp.diags_array(free.astype(float))
            # The ridge makes rows without a free variable, and repeated rows, harmless.
            gram = (part @ part.T + 1e-12 * sp.eye_array(len(active))).tocsc()
            moved = y.copy()
            moved[active] += spsolve(gram, target)
            moved = np.where(np.isneginf(self.row_lower), np.maximum(moved, 0), moved)
            moved = np.where(np.isposinf(self.row_upper), np.minimum(moved, 0), moved)
            candidate = np.clip(x - transpose @ moved, self.lower, self.upper)
            now = self.violation(candidate)
            if not now < worst:
                break
            y, z, worst = moved, candidate, now
        return z


def feasible_start(polytope: Polytope, constraints: Constraints, x: np.ndarray, unit: str) -> np.ndarray:
    """The plan nearest to ``x`` that keeps every limit.

    Raises:
        UserError: there is none; it names the limits that contradict, and for the budget their sums.
    """
    _check_sums(constraints, unit)
    start = polytope.project(x)
    if polytope.violation(start) <= EXACT:
        return start
    point = _linear_program(polytope, np.ones(len(polytope.row_lower), bool), np.ones(len(x), bool))
    if point is None:
        raise UserError(_conflict(polytope, constraints, unit))
    return polytope.project(point)


def _check_sums(constraints: Constraints, unit: str) -> None:
    """The commonest mistakes, in words of their own."""
    crossed = constraints.lower > constraints.upper * (1 + 1e-12) + 1e-9
    if crossed.any():
        i = int(np.flatnonzero(crossed)[0])
        raise UserError(
            f"decision: {constraints.lower_name[i] or 'no money'} wants at least {constraints.lower[i]:,.2f} {unit}, "
            f"but {constraints.upper_name[i]} allows at most {constraints.upper[i]:,.2f} {unit} for the same money. "
            "Lower the first or raise the second."
        )
    row = constraints.total_row()
    if row is None:
        return
    fixed, free = constraints.row_fixed[row], constraints.row_lower[row]
    total = fixed + free
    held = f" (of which {fixed:,.2f} is fixed: held channels)" if fixed > 0 else ""
    for limit, bounds, names, verb, remedy in (
        (1, constraints.lower, constraints.lower_name, "below", "Raise the budget or lower the lower bounds"),
        (-1, constraints.upper, constraints.upper_name, "above", "Lower the budget or raise the upper bounds"),
    ):
        least = float(bounds.sum())
        # Bounds that stand as rows (a channel over many variables) count too, where they do not overlap with others.
        sums = constraints.row_lower if limit == 1 else constraints.row_upper
        covered = np.zeros(len(bounds))
        added, who = 0.0, {str(n) for n in names if n}
        for k, name in enumerate(constraints.row_name):
            if not name.startswith(("bounds of", "spread of")) or not np.isfinite(sums[k]):
                continue
            mine = constraints.matrix[[k]].indices
            if np.isfinite(bounds[mine]).all():
                tighter = sums[k] - bounds[mine].sum()
                added += max(0.0, tighter) if limit == 1 else min(0.0, tighter)
            else:
                added += sums[k]
            covered[mine] = 1
            who.add(name)
        if not np.isfinite(least):
            open_ones = ~np.isfinite(bounds)
            if (open_ones & (covered == 0)).any():
                continue
            least = float(bounds[~open_ones].sum())
        least += added
        if limit * (least - free) > 1e-9 * max(1.0, abs(least)):
            some = ", ".join(sorted(who)[:6]) + (", ..." if len(who) > 6 else "")
            side = "lower" if limit == 1 else "upper"
            raise UserError(
                f"decision.total={total:,.2f} {unit} is {verb} the sum of the {side} bounds, "
                f"{least + fixed:,.2f} {unit}{held}, from {some or 'the fixed cells'}. {remedy} "
                "(decision.bounds, decision.cell_bounds, decision.spread)."
            )


def _linear_program(polytope: Polytope, rows: np.ndarray, bounds: np.ndarray) -> np.ndarray | None:
    """Any point that keeps the chosen rows and bounds, or None where there is none (HiGHS)."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    N = len(polytope.lower)
    lower, upper = np.where(bounds, polytope.lower, 0.0), np.where(bounds, polytope.upper, np.inf)
    limits = []
    if rows.any():
        which = np.flatnonzero(rows)
        limits = [LinearConstraint(polytope.matrix[which], polytope.row_lower[which], polytope.row_upper[which])]
    found = milp(np.zeros(N), constraints=limits, bounds=Bounds(lower, upper))
    return found.x if found.x is not None else None


def _conflict(polytope: Polytope, constraints: Constraints, unit: str) -> str:
    """A smallest set of limits that cannot hold together: each is dropped in turn, for good if it was not needed."""
    names = list(dict.fromkeys([*constraints.row_name, *constraints.lower_name, *constraints.upper_name]))
    names = [name for name in names if name]
    rows = np.ones(len(polytope.row_lower), bool)
    row_name = np.array(constraints.row_name, object)
    named = (constraints.lower_name != "") | (constraints.upper_name != "")
    bounds = np.ones(len(polytope.lower), bool)
    needed = []
    for name in names:
        fewer_rows = rows & (row_name != name)
        fewer_bounds = bounds & ~(named & ((constraints.lower_name == name) | (constraints.upper_name == name)))
        if _linear_program(polytope, fewer_rows, fewer_bounds) is None:
            rows, bounds = fewer_rows, fewer_bounds
        else:
            needed.append(name)
    shown = []
    for name in needed[:8]:
        which = np.flatnonzero(row_name == name)
        if "of the total" in name:
            shown.append(name)
        elif len(which) == 1:
            k, fixed = which[0], constraints.row_fixed[which[0]]
            low, high = constraints.row_lower[k] + fixed, constraints.row_upper[k] + fixed
            what = f"exactly {low:,.2f}" if low == high else _range_words(low, high)
            shown.append(f"{name} ({what} {constraints.row_unit[k]})")
        else:
            mine = (constraints.lower_name == name) | (constraints.upper_name == name)
            low, high = constraints.lower[mine].sum(), constraints.upper[mine].sum()
            shown.append(f"{name} ({_range_words(low, high)} {unit})" if mine.any() else name)
    more = f" and {len(needed) - 8} more" if len(needed) > 8 else ""
    return (
        f"decision: no plan keeps all limits; these contradict each other: {'; '.join(shown)}{more}. "
        "Loosen or drop one of them."
    )


def _range_words(low: float, high: float) -> str:
    if np.isneginf(low) or (low == 0 and np.isfinite(high)):
        return f"at most {high:,.2f}"
    return f"at least {low:,.2f}" if np.isposinf(high) else f"{low:,.2f} to {high:,.2f}"
