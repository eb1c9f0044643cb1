"""The budget optimiser: the plan that makes the most of a budget, how sure that is, and proof that it is the best.

It reads `MixPredictions` and nothing else, so it cannot tell a neural from a Bayesian mix model; a model with one
answer is the case of one draw. Money goes in and money comes out: what a plan *brings* is the value of the KPI beyond
what it would be without paid media in the window, carry-over after the window included.

Axis letters: S draws, G series, H periods, C channels, N variables, M rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from wanamaker.decisions.budget_constraints import Constraints, make_constraints
from wanamaker.decisions.budget_feasible import Polytope, feasible_start
from wanamaker.decisions.budget_objective import Objective
from wanamaker.decisions.budget_options import BudgetOptions
from wanamaker.decisions.budget_solver import Solution, maximise, optimality_gap
from wanamaker.decisions.budget_starts import concave_bound, is_concave, naive_plans, search_starts
from wanamaker.decisions.budget_variables import Variables, index_channel, make_variables
from wanamaker.decisions.response import PlanWindow, ResponseSurface, channel_incremental, plan_window
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions, MixResponse

REFERENCE = "scaled history"  # of the naive plans: the current plan times one factor
_SEARCH_LIMIT = 10.0  # times the current plan: how far a free total is looked for
_SAME = 1e-6  # relative gain below which two plans are equally good
_MANY = 5_000  # variables from which a search is satisfied with less: a proof that nothing worth having is left
_ENOUGH = 1e-5  # that proof: the relative gap


@dataclass(frozen=True)
class Candidate:
    """A plan and what it brings.

    Attributes:
        plan: [G, H, C] money.
        gain: [S] money that it brings beyond no paid media.
        adjusted: whether limits made it differ from its definition.
    """

    plan: np.ndarray
    gain: np.ndarray
    adjusted: bool = False

    @property
    def total(self) -> float:
        """Money of the whole plan."""
        return float(self.plan.sum())


@dataclass(frozen=True)
class BudgetPlan:
    """The answer.

    Attributes:
        options: the question.
        response, window: what it was asked of (draws thinned to `options.max_draws`).
        variables, constraints: what was free and what limited it.
        total: money of the plan.
        best: the plan.
        current: the current plan, as it was (it may break the limits and cost something else).
        reference: the current plan with its free cells scaled to the total (it may break the limits).
        naive: plans of the same total that need no optimiser, made to keep the limits.
        score: of the objective, in its own unit, for the plan and for each naive one.
        score_unit: money, or "probability".
        solution: of the solver.
        budget_price: what one more unit of budget adds to the score.
        gap: score that no plan within the limits can exceed by, less that of the plan; NaN where nothing is known.
        gap_kind: "concave" (proof), "envelope" (bound from the concave envelopes of S-shaped curves) or "".
        start: name of the start that led to it.
        starts: score reached from each start that was followed.
    """

    options: BudgetOptions
    response: MixResponse
    window: PlanWindow
    variables: Variables
    constraints: Constraints
    total: float
    best: Candidate
    current: Candidate
    reference: Candidate
    naive: Mapping[str, Candidate]
    score: Mapping[str, float]
    score_unit: str
    solution: Solution
    budget_price: float
    gap: float
    gap_kind: str
    start: str
    starts: Mapping[str, float]

    @property
    def best_naive(self) -> str:
        """Name of the naive plan with the highest score."""
        return max(self.naive, key=lambda name: self.score[name])

    def beyond(self, other: Candidate) -> np.ndarray:
        """Money [S] that the plan brings more than another; what rounding leaves of equal plans is 0."""
        more = self.best.gain - other.gain
        return np.where(np.abs(more) <= 1e-9 * np.abs(self.best.gain).max(), 0.0, more)

    @property
    def already_optimal(self) -> bool:
        """Whether the current plan, scaled to the total, is as good as the plan found."""
        if self.naive[REFERENCE].adjusted:
            return False
        return self.score["plan"] - self.score[REFERENCE] <= _SAME * max(abs(self.score["plan"]), 1e-300)

    @property
    def certified(self) -> bool:
        """Whether the plan is known to be within 0.1 % of the best conceivable one."""
        return bool(self.gap <= 1e-3 * max(abs(self.score["plan"]), 1e-300))


class _Task:
    """One question being answered: the surface, the variables, and the score as a function of scaled variables."""

    def __init__(self, response: MixResponse, window: PlanWindow, options: BudgetOptions) -> None:
        self.response, self.window, self.options = response, window, options
        self.variables = make_variables(response, window, options)
        vary = np.zeros(len(response.channels), bool)
        vary[np.unique(index_channel(self.variables.index, self.variables.count))] = True
        self.surface = ResponseSurface(response, window, vary)
        self.channels = [int(c) for c in np.flatnonzero(vary)]
        self.nothing = ResponseSurface(response, window).value(np.zeros(window.spend.shape))
        self.per_money = 0.0  # taken off per unit of money, where a marginal return is the target
        self.evaluations = 0

    def gain(self, plan: np.ndarray) -> np.ndarray:
        """Money [S] beyond no paid media."""
        return self.surface.value(plan) - self.nothing

    def function(self, objective: Objective, surface: ResponseSurface | None = None) -> Callable:
        """Score and gradient of scaled variables [N]."""
        surface = surface or self.surface
        variables, cost = self.variables, self.per_money

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            self.evaluations += 1
            money = x * variables.scale
            values, pullback = surface.value_and_pullback(variables.plan(money))
            score, weights = objective(values - self.nothing)
            gradient = variables.pull(pullback(weights)) * variables.scale
            return score - cost * money.sum(), gradient - cost * variables.scale

        return evaluate

    def objective(self, reference: np.ndarray) -> Objective:
        """The objective of the options; ``reference`` is the plan that a chance without target has to beat."""
        o = self.options
        beat = (self.gain(reference) if o.beat is None else o.beat) if o.objective == "chance" else 0.0
        return Objective(o.objective, o.worst, o.risk, beat)


def optimise_budget(predictions: MixPredictions, options: BudgetOptions | None = None) -> BudgetPlan:
    """Find the best plan.

    Args:
        predictions: of every row of a panel, by any mix model.
        options: the question; None is the best split of the current money over channels.

    Raises:
        UserError: predictions of another kind, limits that contradict, names that do not exist, a target that cannot be
            reached, or a search that failed.
    """
    options = options or BudgetOptions()
    predictions = thin_draws(predictions, options.max_draws) if isinstance(predictions, MixPredictions) else predictions
    window = plan_window(predictions, options.periods, start=options.start, end=options.end, cost=options.cost)
    task = _Task(predictions.response, window, options)
    if window.spend.sum() <= 0 and options.total is None and not options.flexible:
        raise UserError(
            "The current plan spends nothing in the window, so there is no current total: give decision.total."
        )
    if options.target_roi is not None:
        from wanamaker.decisions.budget_target import solve_target_roi

        return solve_target_roi(task)
    if options.target_mroi is not None:
        return _solve_marginal(task, options.target_mroi)
    total = float(window.spend.sum()) if options.total is None else options.total
    return solve_total(task, total)


def solve_total(task: _Task, total: float, *, warm: np.ndarray | None = None, rough: bool = False) -> BudgetPlan:
    """The best plan of ``total`` money; ``warm`` is a plan [G, H, C] to begin from instead of the usual starts."""
    constraints = make_constraints(task.response, task.window, task.variables, task.options, total)
    return _solve(task, constraints, total, warm=warm, rough=rough)


def _solve_marginal(task: _Task, target: float) -> BudgetPlan:
    """Spend until one more unit of money brings only ``target``: score less ``target`` per money, total free."""
    current = float(task.window.spend.sum())
    if current <= 0:
        raise UserError(
            "The current plan spends nothing, so there is no scale to look for a total: give decision.total."
        )
    constraints = make_constraints(task.response, task.window, task.variables, task.options, None)
    cap = _SEARCH_LIMIT * np.maximum(task.variables.scale, current / task.variables.count)
    capped = np.minimum(constraints.upper, np.maximum(cap, constraints.lower))
    searched = np.where(constraints.upper > capped, "search limit", constraints.upper_name)
    task.per_money = target
    limited = replace(constraints, upper=capped, upper_name=searched)
    found = _solve(task, limited, current)
    x = found.solution.x * task.variables.scale
    if ((searched == "search limit") & (x >= capped * (1 - 1e-6))).any():
        i = int(np.flatnonzero((searched == "search limit") & (x >= capped * (1 - 1e-6)))[0])
        channel = task.response.channels[index_channel(task.variables.index, task.variables.count)[i]]
        raise UserError(
            f"decision.target_mroi={target:g}: {channel} brings more than that even at {_SEARCH_LIMIT:g} times what it "
            "spends now, far beyond the data. Raise the target, or bound the plan (decision.bounds, decision.spread)."
        )
    # With its total now fixed, the naive plans cost the same, and the price of the budget comes out as a check.
    task.per_money = 0.0
    return solve_total(task, found.total, warm=found.best.plan)


def _solve(
    task: _Task, constraints: Constraints, total: float, *, warm: np.ndarray | None = None, rough: bool = False
) -> BudgetPlan:
    options, variables, unit = task.options, task.variables, task.response.money_unit
    polytope = Polytope.of(constraints, variables.scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        spend = task.window.spend.sum(axis=(0, 1))
        kpi_value = task.response.kpi_value
        brings = kpi_value * channel_incremental(task.response, task.window).mean(axis=0).sum(axis=0)
        roi = np.where(spend > 0, brings / spend, 0.0)
    raw = naive_plans(task.window, variables, total, roi, "period" in options.resolution)
    scaled = {name: variables.collect(plan) / variables.scale for name, plan in raw.items()}
    first = feasible_start(polytope, constraints, scaled[REFERENCE], unit)
    points = {name: first if name == REFERENCE else polytope.project(x) for name, x in scaled.items()}
    objective = task.objective(raw[REFERENCE])
    concave = objective.concave and is_concave(task.response, task.channels)
    spread = _spread(task, variables.plan(first * variables.scale), objective)
    if warm is not None:
        points = {"warm": polytope.project(variables.collect(warm) / variables.scale)} | points
        solution, start, reached = _climb(task, polytope, {"warm": points.pop("warm")}, objective, spread, rough)
    else:
        starts = {REFERENCE: first} if concave else dict(points)
        if not concave:
            rng = np.random.default_rng(options.seed)
            upper = constraints.upper
            random = min(options.starts, 2) if variables.count >= _MANY else options.starts
            for name, plan in search_starts(task.surface, variables, upper, total, rng, random):
                starts[name] = polytope.project(variables.collect(plan) / variables.scale)
        if concave and objective.kind == "mean" and variables.count >= _MANY:
            solution, start, reached = _climb_concave(task, polytope, first, objective)
        else:
            solution, start, reached = _climb(task, polytope, starts, objective, spread, rough)

    best = _candidate(task, solution.x)
    exact = objective.smoothed(0.0)
    naive = {
        name: replace(_candidate(task, x), adjusted=bool(np.abs(x - scaled[name]).max() > 1e-6))
        for name, x in points.items()
    }
    score = {"plan": exact(best.gain)[0]} | {name: exact(c.gain)[0] for name, c in naive.items()}
    if task.per_money == 0:
        # A naive plan that a local search missed would be a better answer: never give less than the naive ones.
        better = max(naive, key=lambda name: score[name])
        if score[better] > score["plan"] * (1 + _SAME) + 1e-12 and objective.kind != "chance":
            solution, start, more = _climb(task, polytope, {better: points[better]}, objective, spread, rough)
            reached = {**reached, **more}
            best = _candidate(task, solution.x)
            score["plan"] = exact(best.gain)[0]
    gap, kind = (np.nan, "") if rough else _gap(task, polytope, solution, objective, concave)
    row = constraints.total_row()
    price = task.per_money if row is None else float(solution.multiplier[row] / polytope.row_length[row])
    return BudgetPlan(
        options=options,
        response=task.response,
        window=task.window,
        variables=variables,
        constraints=constraints,
        total=best.total,
        best=best,
        current=Candidate(task.window.spend, task.gain(task.window.spend)),
        reference=Candidate(raw[REFERENCE], task.gain(raw[REFERENCE])),
        naive=naive,
        score=score,
        score_unit="probability" if options.objective == "chance" else unit,
        solution=solution,
        budget_price=price,
        gap=gap,
        gap_kind=kind,
        start=start,
        starts=reached,
    )


def _candidate(task: _Task, x: np.ndarray) -> Candidate:
    plan = task.variables.plan(x * task.variables.scale)
    return Candidate(plan, task.gain(plan))


def _spread(task: _Task, plan: np.ndarray, objective: Objective) -> float:
    """How far apart the draws are, in money: the unit of the smoothing."""
    values = task.gain(plan) - (objective.beat if objective.kind == "chance" else 0.0)
    sd = float(values.std())
    if sd <= 1e-9 * float(np.abs(task.gain(plan)).max(initial=1e-300)):
        sd = 0.01 * float(np.abs(task.gain(plan)).mean())
    return max(sd, 1e-300)


def _widths(objective: Objective, spread: float) -> list[float]:
    """Smoothing from coarse to fine."""
    if objective.kind == "cvar":
        return [0.3 * spread, 0.05 * spread, 0.01 * spread]
    return [spread, 0.3 * spread, 0.1 * spread] if objective.kind == "chance" else [0.0]


def _climb(
    task: _Task,
    polytope: Polytope,
    starts: Mapping[str, np.ndarray],
    objective: Objective,
    spread: float,
    rough: bool,
) -> tuple[Solution, str, dict[str, float]]:
    """The best local optimum from several starts: a short climb from each, a full one from the best two.

    With very many variables the climbs are shorter and only the best start is followed.
    """
    many = polytope.lower.size >= _MANY
    tolerance = 1e-3 if rough else max(task.options.tolerance, 1e-4) if many else task.options.tolerance
    widths = _widths(objective, spread)
    order, reached = list(starts), {}
    points = dict(starts)
    if len(starts) > 1:
        for name, x in starts.items():
            short = maximise(
                task.function(objective.smoothed(widths[0])),
                polytope,
                x,
                tolerance=1e-2,
                max_evaluations=30 if many else 120,
            )
            points[name], reached[name] = short.x, short.value
        order = _distinct(sorted(starts, key=lambda name: -reached[name]), points)[: 1 if many else 2]
    best: Solution | None = None
    chosen = order[0]
    for name in order:
        x, solution = points[name], None
        for width in widths:
            solution = maximise(
                task.function(objective.smoothed(width)),
                polytope,
                x,
                tolerance=tolerance,
                max_evaluations=2_000 if many else 6_000,
                multiplier=None if solution is None else solution.multiplier,
            )
            x = solution.x
        assert solution is not None
        reached[name] = solution.value
        if best is None or solution.value > best.value:
            best, chosen = solution, name
    assert best is not None
    return best, chosen, reached


def _climb_concave(
    task: _Task, polytope: Polytope, start: np.ndarray, objective: Objective
) -> tuple[Solution, str, dict[str, float]]:
    """One climb of a large concave problem: to a coarse tolerance, and on only if the proof is not good enough."""
    function = task.function(objective)
    solution = maximise(function, polytope, start, tolerance=max(1e-4, task.options.tolerance))
    if not optimality_gap(polytope, solution) <= _ENOUGH * abs(solution.value):
        solution = maximise(
            function, polytope, solution.x, tolerance=task.options.tolerance, multiplier=solution.multiplier
        )
    return solution, REFERENCE, {REFERENCE: solution.value}


def _distinct(names: list[str], points: Mapping[str, np.ndarray]) -> list[str]:
    """Names whose points differ from all earlier ones."""
    kept: list[str] = []
    for name in names:
        if all(np.abs(points[name] - points[other]).max() > 1e-2 for other in kept):
            kept.append(name)
    return kept


def _gap(task: _Task, polytope: Polytope, solution: Solution, objective: Objective, concave: bool) -> tuple[float, str]:
    """How much better any plan could be at most, and why that is known."""
    if concave:
        return optimality_gap(polytope, solution), "concave"
    if not objective.concave:
        return np.nan, ""
    envelope = concave_bound(task.response, task.channels)
    if envelope is None:
        return np.nan, ""
    surface = ResponseSurface(envelope, task.window, np.isin(np.arange(len(task.response.channels)), task.channels))
    width = _widths(objective, _spread(task, task.variables.plan(solution.x * task.variables.scale), objective))[-1]
    upper = maximise(
        task.function(objective.smoothed(width), surface), polytope, solution.x, tolerance=1e-4, max_evaluations=1000
    )
    return max(0.0, upper.value + optimality_gap(polytope, upper) - solution.value), "envelope"


def thin_draws(predictions: MixPredictions, most: int) -> MixPredictions:
    """The same with at most ``most`` draws, evenly spaced over all."""
    S = predictions.response.num_draws
    if most >= S:
        return predictions
    keep = np.unique(np.linspace(0, S - 1, most).round().astype(int))
    names = ("adstock", "curve", "slope", "amplitude", "driver_curve", "driver_slope", "driver_amplitude", "noise_sd")
    response = replace(predictions.response, **{name: getattr(predictions.response, name)[keep] for name in names})
    return replace(predictions, parts=predictions.parts[keep], response=response)
