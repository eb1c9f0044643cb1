"""The limits on the variables of a plan, from options in words to sparse rows.

Axis letters: G series, H periods, C channels, N free variables, M rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.budget_options import BudgetOptions, amount, number, pair, positions
from wanamaker.decisions.budget_variables import Variables, index_channel
from wanamaker.decisions.response import PlanWindow
from wanamaker.errors import UserError
from wanamaker.predictions import MixResponse

if TYPE_CHECKING:  # a quarter of a second to import
    import scipy.sparse as sp

TOTAL = "total budget"


@dataclass(frozen=True)
class Constraints:
    """Limits on the money of the variables: lower <= money <= upper and row_lower <= matrix @ money <= row_upper.

    Attributes:
        lower, upper: float64 [N]; upper may be infinite.
        lower_name, upper_name: object [N], what sets each bound, "" for plain non-negativity.
        matrix: sparse [M, N].
        row_lower, row_upper: float64 [M], may be infinite.
        row_name: M names; rows of one limit (a change limit has one per pair of periods) share theirs.
        row_unit: M units of the row's sum.
        row_fixed: float64 [M], what the fixed cells add to the row's sum (already taken off the limits).
    """

    lower: np.ndarray
    upper: np.ndarray
    lower_name: np.ndarray
    upper_name: np.ndarray
    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_name: tuple[str, ...]
    row_unit: tuple[str, ...]
    row_fixed: np.ndarray

    def total_row(self) -> int | None:
        """Number of the row that fixes the budget."""
        return self.row_name.index(TOTAL) if TOTAL in self.row_name else None

    def with_total(self, total: float) -> Constraints:
        """The same with another budget (`total` counts fixed cells too)."""
        row = self.total_row()
        if row is None:
            raise ValueError("these constraints have no total")
        low, high = self.row_lower.copy(), self.row_upper.copy()
        low[row] = high[row] = total - self.row_fixed[row]
        return replace(self, row_lower=low, row_upper=high)


class _Rows:
    """Rows under construction; one that touches a single variable becomes a bound of it."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        N = variables.count
        self.lower, self.upper = np.zeros(N), np.full(N, np.inf)
        self.lower_name, self.upper_name = np.full(N, "", object), np.full(N, "", object)
        self.entries: list[tuple[np.ndarray, np.ndarray]] = []
        self.limits: list[tuple[float, float, str, str, float]] = []

    def bound(self, which: np.ndarray, low: Any, high: Any, name: str) -> None:
        """Tighten bounds of variables ``which``; ``low`` and ``high`` broadcast, None is no bound."""
        if low is not None:
            low = np.broadcast_to(low, which.shape)
            tighter = low > self.lower[which]
            self.lower[which[tighter]], self.lower_name[which[tighter]] = low[tighter], name
        if high is not None:
            high = np.broadcast_to(high, which.shape)
            tighter = high < self.upper[which]
            self.upper[which[tighter]], self.upper_name[which[tighter]] = high[tighter], name

    def add(self, cells: np.ndarray, low: float | None, high: float | None, name: str, unit: str) -> None:
        """A limit on ``(cells * plan).sum()`` for coefficients ``cells`` [G, H, C]."""
        fixed = float((cells * self.variables.fixed).sum())
        row = self.variables.pull(cells)
        which = np.flatnonzero(row)
        low, high = (-np.inf if low is None else low - fixed), (np.inf if high is None else high - fixed)
        if len(which) == 0:
            slack = 1e-9 * max(1.0, abs(fixed))
            if low > slack or high < -slack:
                wanted = f"at least {low + fixed:,.2f}" if low > slack else f"at most {high + fixed:,.2f}"
                raise UserError(
                    f"decision: {name} must be {wanted} {unit}, but all that it sums over is fixed (organic, held, or "
                    f"without spend in the window) at {fixed:,.2f}. Change the limit, or what is held."
                )
        elif len(which) == 1 and name != TOTAL:
            sides = sorted([low / row[which[0]], high / row[which[0]]])
            self.bound(which, sides[0], sides[1], name)
        else:
            self.entries.append((which, row[which]))
            self.limits.append((low, high, name, unit, fixed))

    def sparse(self, which: np.ndarray, values: np.ndarray, low: float, high: float, name: str, unit: str) -> None:
        """A row given by its variables."""
        self.entries.append((which, values))
        self.limits.append((low, high, name, unit, 0.0))

    def finish(self) -> Constraints:
        import scipy.sparse as sp

        counts = [len(which) for which, _ in self.entries]
        columns = np.concatenate([w for w, _ in self.entries]) if counts else np.zeros(0, np.int64)
        values = np.concatenate([v for _, v in self.entries]) if counts else np.zeros(0)
        pointer = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        matrix = sp.csr_array((values, columns, pointer), shape=(len(counts), self.variables.count))
        low, high, names, units, fixed = zip(*self.limits, strict=True) if self.limits else ((), (), (), (), ())
        return Constraints(
            self.lower,
            self.upper,
            self.lower_name,
            self.upper_name,
            matrix,
            np.array(low, float),
            np.array(high, float),
            tuple(names),
            tuple(units),
            np.array(fixed, float),
        )


def make_constraints(
    response: MixResponse, window: PlanWindow, variables: Variables, options: BudgetOptions, total: float | None
) -> Constraints:
    """All limits of ``options``; ``total`` is the budget, None where it is to be found.

    Raises:
        UserError: an unknown channel or series, or a value that cannot be.
    """
    rows = _Rows(variables)
    unit = response.money_unit
    if total is not None:
        rows.add(np.ones(window.spend.shape), total, total, TOTAL, unit)
    _channel_bounds(rows, response, window, options, total)
    _cell_bounds(rows, response, window, options)
    for entry in options.groups:
        _group(rows, response, window, entry)
    for entry in options.linear:
        _linear(rows, response, window, entry)
    _changes(rows, response, options)
    return rows.finish()


def _named(entries: Mapping[str, Any], response: MixResponse, place: str) -> dict[int, tuple[Any, bool]]:
    """Per paid channel its entry, and whether it was named rather than taken from "default"."""
    channels = list(response.channels)
    named = {name: value for name, value in entries.items() if name != "default"}
    for name, c in zip(named, positions(list(named), channels, place, "channel"), strict=True):
        if not response.paid[c]:
            raise UserError(f"{place} names {name!r}, which is organic: it has no money to plan. Leave it out.")
    found = {}
    for c in np.flatnonzero(response.paid):
        if channels[c] in named:
            found[int(c)] = (named[channels[c]], True)
        elif entries.get("default") is not None:
            found[int(c)] = (entries["default"], False)
    return found


def _channel_bounds(
    rows: _Rows, response: MixResponse, window: PlanWindow, options: BudgetOptions, total: float | None
) -> None:
    named = _named(options.bounds, response, "decision.bounds")
    current = window.spend.sum(axis=(0, 1))
    fixed = rows.variables.fixed.sum(axis=(0, 1))
    free = np.isin(np.arange(len(current)), index_channel(rows.variables.index, rows.variables.count))
    movable = float(current[free].sum() - fixed[free].sum())
    scaled = total is not None and not options.flexible and movable > 0
    factor = max(0.0, (total - fixed.sum()) / movable) if scaled else 1.0
    for c in np.flatnonzero(free):
        cells = np.zeros(window.spend.shape)
        cells[:, :, c] = 1.0
        channel = response.channels[c]
        if int(c) in named:
            low, high = pair(named[int(c)][0], current[c], f"decision.bounds.{channel}")
            rows.add(cells, low, high, f"bounds of {channel}", response.money_unit)
        elif options.spread is not None and current[c] > 0:
            share = factor * current[c]
            rows.add(cells, share / options.spread, share * options.spread, f"spread of {channel}", response.money_unit)
    for c, (value, own) in named.items():
        if own and not free[c]:
            low, high = pair(value, current[c], f"decision.bounds.{response.channels[c]}")
            if (low is not None and low > current[c] + 1e-9) or (high is not None and high < current[c] - 1e-9):
                raise UserError(
                    f"decision.bounds.{response.channels[c]}={value} excludes its money {current[c]:,.2f} "
                    f"{response.money_unit}, which is fixed (held, or nothing was spent in the window). "
                    "Take it out of decision.hold, or give it an upper bound in money."
                )


def _cell_bounds(rows: _Rows, response: MixResponse, window: PlanWindow, options: BudgetOptions) -> None:
    variables = rows.variables
    lower, upper = np.zeros(window.spend.shape), np.full(window.spend.shape, np.inf)
    for c, (value, _) in _named(options.cell_bounds, response, "decision.cell_bounds").items():
        place = f"decision.cell_bounds.{response.channels[c]}"
        # Amounts are linear in the current plan: 0 and 1 tell the constant and the slope.
        (low0, high0), (low1, high1) = pair(value, 0.0, place), pair(value, 1.0, place)
        now = window.spend[:, :, c]
        if low0 is not None and low1 is not None:
            lower[:, :, c] = low0 + (low1 - low0) * now
        if high0 is not None and high1 is not None:
            upper[:, :, c] = high0 + (high1 - high0) * now
    names = np.array([f"cell bounds of {name}" for name in response.channels], object)
    for which, limit, kind in ((lower, None, "lower"), (upper, options.history_limit, "upper")):
        tight, label = which, names
        for step in range(2 if kind == "upper" and limit is not None else 1):
            if step == 1:
                tight = np.broadcast_to((limit * window.max_spend)[:, None], which.shape)
                label = np.array([f"history limit of {name}" for name in response.channels], object)
            alive = (variables.index >= 0) & (variables.weight > 0)
            values = tight[alive] / variables.weight[alive]
            best = np.zeros(variables.count) if kind == "lower" else np.full(variables.count, np.inf)
            (np.maximum if kind == "lower" else np.minimum).at(best, variables.index[alive], values)
            channel = index_channel(variables.index, variables.count)
            for c in np.unique(channel):
                mine = np.flatnonzero(channel == c)
                if kind == "lower":
                    rows.bound(mine, best[mine], None, label[c])
                else:
                    rows.bound(mine, None, best[mine], label[c])


def _group(rows: _Rows, response: MixResponse, window: PlanWindow, entry: Mapping[str, Any]) -> None:
    place = f"decision.groups {entry['name']!r}"
    for key in ("channels", "series"):
        if entry.get(key) is not None and entry[key] in ([], (), ""):
            raise UserError(f"{place} limits nothing: its {key} are empty. Name some, or leave {key} out for all.")
    cells = np.zeros(window.spend.shape)
    chosen = entry.get("channels")
    channels = (
        np.flatnonzero(response.paid) if chosen is None else positions(chosen, response.channels, place, "channel")
    )
    chosen = entry.get("series")
    series = range(len(response.series)) if chosen is None else positions(chosen, response.series, place, "series")
    cells[np.ix_(list(series), range(cells.shape[1]), list(channels))] = 1.0
    current = float((cells * window.spend).sum())
    low, high = pair([entry.get("min"), entry.get("max")], current, place)
    if low is not None or high is not None:
        rows.add(cells, low, high, f"group {entry['name']}", response.money_unit)
    shares: list[float] = []
    for side in ("min_share", "max_share"):
        share = entry.get(side)
        if share is None:
            continue
        if isinstance(share, str) and share.strip().endswith("%"):
            share = amount(share, 1.0, f"{place}.{side}")
        share = number(share, f"{place}.{side}")
        if not 0 <= share <= 1:
            raise UserError(f"{place}.{side}={share:g}: a share of the total lies in [0, 1], or 0% to 100%.")
        if shares and share < shares[0]:
            raise UserError(f"{place}: min_share {shares[0]:g} is above max_share {share:g}. Swap them.")
        shares.append(share)
        low, high = (0.0, None) if side == "min_share" else (None, 0.0)
        words = f"at {'least' if side == 'min_share' else 'most'} {share:.4g} of the total"
        rows.add(cells - share, low, high, f"group {entry['name']}: {words}", response.money_unit)


def _linear(rows: _Rows, response: MixResponse, window: PlanWindow, entry: Mapping[str, Any]) -> None:
    place = f"decision.linear {entry['name']!r}"
    if not isinstance(entry.get("coefficients"), Mapping) or not entry["coefficients"]:
        raise UserError(f"{place}: give coefficients as a mapping from channel to number.")
    cells = np.zeros(window.spend.shape)
    for c, (value, _) in _named(entry["coefficients"], response, f"{place}.coefficients").items():
        here = f"{place}.coefficients.{response.channels[c]}"
        if isinstance(value, Mapping):
            cells[:, :, c] = number(value.get("default", 0.0), here)
            named = [name for name in value if name != "default"]
            for name, g in zip(named, positions(named, response.series, here, "series"), strict=True):
                cells[g, :, c] = number(value[name], here)
        else:
            cells[:, :, c] = number(value, here)
    current = float((cells * window.spend).sum())
    low, high = (_signed(entry.get(side), current, f"{place}.{side}") for side in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise UserError(f"{place}: min {low:g} is above max {high:g}. Swap them.")
    rows.add(cells, low, high, f"linear {entry['name']}", str(entry.get("unit") or "coefficient x money"))


def _signed(value: Any, current: float, place: str) -> float | None:
    """As `amount`, but a linear sum may be negative."""
    if value is None or not isinstance(value, str):
        return None if value is None else number(value, place)
    return amount(value, 1.0, place) * current


def _changes(rows: _Rows, response: MixResponse, options: BudgetOptions) -> None:
    """Pairs of rows per neighbouring periods: how much more and how much less than the earlier one."""
    variables = rows.variables
    G, H, _ = variables.index.shape
    for c, (value, _) in _named(options.change, response, "decision.change").items():
        place = f"decision.change.{response.channels[c]}"
        absolute, relative = amount(value, 0.0, place), amount(value, 1.0, place)
        relative = relative - absolute
        name = f"change of {response.channels[c]}"
        for series in [np.arange(G)] if options.change_of == "channel" else [np.array([g]) for g in range(G)]:
            sums = []
            for h in range(H):
                which = variables.index[series, h, c]
                alive = which >= 0
                row = np.bincount(which[alive], variables.weight[series, h, c][alive], minlength=1)
                keys = np.flatnonzero(row)
                sums.append((keys, row[keys], float(variables.fixed[series, h, c].sum())))
            for (one, w1, f1), (two, w2, f2) in pairwise(sums):
                if len(one) + len(two) == 0:
                    continue
                for factor, sign in ((1 + relative, 1.0), (1 - relative, -1.0)):
                    # sign * (later - factor * earlier) <= absolute
                    which = np.concatenate([two, one])
                    values = sign * np.concatenate([w2, -factor * w1])
                    limit = absolute - sign * (f2 - factor * f1)
                    rows.sparse(which, values, -np.inf, limit, name, response.money_unit)
