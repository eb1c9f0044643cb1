"""A budget plan in sentences: what to do, what it brings, how sure that is, and how it is known to be the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.budget import REFERENCE, BudgetPlan
from wanamaker.decisions.budget_tables import beyond_history
from wanamaker.decisions.intervals import probability_above, ratio
from wanamaker.reporting.mix_style import percent
from wanamaker.reporting.page import Tile, number

if TYPE_CHECKING:
    import pandas as pd

_FAR = 3.0  # times the current budget, or a part of it, from which on a plan is far from what was seen

OBJECTIVE_WORDS = {
    "mean": "the expected value",
    "cvar": "the mean of the worst {worst:.0%} of the draws",
    "chance": "the probability to bring more than {beat}",
    "mean_sd": "the expected value less {risk:g} standard deviations",
}


def money(value: float, plan: BudgetPlan) -> str:
    """Money with its unit, for people; what is nothing next to the budget is 0."""
    return number(_rounded(float(value), plan), plan.response.money_unit)


def _rounded(value: float, plan: BudgetPlan) -> float:
    return 0.0 if abs(value) < 1e-9 * max(plan.total, abs(float(plan.best.gain.mean()))) else value


def interval(draws: np.ndarray, plan: BudgetPlan) -> str:
    """ " (90\u00a0% interval a to b)", or nothing for one draw."""
    if len(draws) == 1:
        return ""
    low, high = np.percentile(draws, [5, 95])
    return f" (90\u00a0% interval {number(_rounded(low, plan))} to {money(high, plan)})"


def share_words(gain: float, of: float) -> str:
    """ "+2.1 %"; the space does not break."""
    return percent(gain / of, sign=True) if of else "–"


def _percent(share: float) -> str:
    return "less than 1\u00a0%" if 0 < share < 0.005 else percent(share, 0)


def headline(plan: BudgetPlan, moves: pd.DataFrame) -> str:
    """What to do, in one line."""
    reference = plan.reference
    if plan.already_optimal:
        return f"Keep the current split: no plan for {money(plan.total, plan)} brings more"
    gain = float((plan.best.gain - reference.gain).mean())
    expected = f"expected {share_words(gain, float(reference.gain.mean()))} {plan.response.kpi} from paid media"
    if len(moves):
        first = moves.iloc[0]
        more = f", and {len(moves) - 1} more move{'s' if len(moves) > 2 else ''}" if len(moves) > 1 else ""
        return f"Move {money(first['money'], plan)} from {first['from']} to {first['to']}{more}: {expected}"
    where = " and ".join(w for w in ("series", "period") if w in plan.options.resolution) or "channels"
    return f"Keep the channels' money and shift it between {where.replace('period', 'weeks')}: {expected}"


def lead(plan: BudgetPlan, robust: np.ndarray | None) -> list[str]:
    """The first paragraphs: what it brings against what, the price of the budget, the proof."""
    window, reference, rival = plan.window, plan.reference, plan.best_naive
    dates = f"{plan.window.num_periods} periods like {window.dates[0]} to {window.dates[-1]}"
    more = plan.beyond(reference)
    scaled = "" if abs(plan.total - plan.current.total) <= 1e-9 * plan.total else " scaled to the same money"
    sentences = [
        f"For {money(plan.total, plan)} over {dates}, the plan is expected to bring "
        f"{money(plan.best.gain.mean(), plan)} of {_value_words(plan)} beyond no paid media: "
        f"{_more(more.mean(), plan)} than the current plan{scaled}{interval(more, plan)}."
    ]
    if more.mean() < 0:
        sentences[0] += " That is what the limits cost: the current plan breaks them."
    if rival != REFERENCE:
        beyond = plan.beyond(plan.naive[rival])
        worth = f"brings {money(beyond.mean(), plan)} more than it{interval(beyond, plan)}"
        same = abs(beyond.mean()) < 1e-6 * abs(plan.best.gain.mean())
        sentences[0] += (
            f" The best plan that needs no optimiser is '{rival}'; the plan "
            f"{'is the same, for the limits leave no better' if same else worth}."
        )
    if plan.response.num_draws > 1:
        chance = float(((more > 0) + 0.5 * (more == 0)).mean())
        sentences[0] += f" It beats the current plan{scaled} with a probability of {_percent(chance)}."
    unit = plan.response.money_unit
    if plan.score_unit == "probability":
        price = f"1,000 {unit} more would raise the probability by {1000 * plan.budget_price:.2g}."
    else:
        price = f"One more {unit} of budget would bring {plan.budget_price:.3g} {unit}."
    if plan.options.flexible:
        price = f"{_target_words(plan)} {price}"
    sentences.append(f"{price} {proof(plan)}")
    if robust is not None:
        sentences.append(
            f"The robust moves alone (each helps with a probability of at least {_percent(plan.options.robust)}) bring "
            f"{money(robust.mean(), plan)} of that{interval(robust, plan)}."
        )
    return sentences


def _more(value: float, plan: BudgetPlan) -> str:
    return f"{money(abs(value), plan)} {'more' if value >= 0 else 'less'}"


def _value_words(plan: BudgetPlan) -> str:
    response = plan.response
    if response.kpi_value == 1.0:
        return response.kpi
    return f"{response.kpi} (a unit is worth {number(response.kpi_value, response.money_unit)})"


def _target_words(plan: BudgetPlan) -> str:
    o, unit = plan.options, plan.response.money_unit
    if o.target_roi is not None:
        roi = plan.best.gain.mean() / plan.total
        return f"This is the largest budget that returns {o.target_roi:g} {unit} per {unit} (it returns {roi:.4g})."
    return f"The budget ends where one more {unit} brings {o.target_mroi:g} {unit}."


def proof(plan: BudgetPlan) -> str:
    """How it is known that there is no better plan."""
    residual = f"KKT residual {plan.solution.kkt_residual:.1e}"
    scale = max(abs(plan.score["plan"]), 1e-300)
    if plan.gap_kind == "concave" and np.isfinite(plan.gap):
        return (
            f"Proof: all response curves are concave, so no plan within the limits can be better by more than "
            f"{_score(plan.gap, plan)} ({plan.gap / scale:.2g} of the value; {residual})."
        )
    if plan.gap_kind == "envelope" and np.isfinite(plan.gap):
        if plan.certified:
            return (
                f"Proof: some response curves are S-shaped, but even with their concave envelopes no plan within the "
                f"limits can be better by more than {_score(plan.gap, plan)} ({plan.gap / scale:.2g} of the value; "
                f"{residual})."
            )
        return (
            f"Some response curves are S-shaped, so there may be several local optima: this one is the best from "
            f"{len(plan.starts)} starts ({residual}), and no plan can be better by more than {_score(plan.gap, plan)} "
            f"({percent(plan.gap / scale)} of the value)."
        )
    return (
        f"The plan is a local optimum ({residual}), the best from {len(plan.starts)} starts; curves or goal are not "
        "concave, so there is no bound on what another plan might bring."
    )


def _score(value: float, plan: BudgetPlan) -> str:
    return f"{value:.2g}" if plan.score_unit == "probability" else money(value, plan)


def warnings(plan: BudgetPlan) -> list[str]:
    """What must be known before the plan is used."""
    found, unit, response = [], plan.response.money_unit, plan.response
    if not plan.solution.converged:
        found.append(
            f"The search stopped before the optimum (KKT residual {plan.solution.kkt_residual:.1e} after "
            f"{plan.solution.evaluations:,} evaluations): the plan keeps all limits and beats the naive ones as shown, "
            "but a better one may exist. Loosen limits that hardly differ, or raise decision.tolerance."
        )
    more = plan.beyond(plan.reference)
    chance = float(probability_above(more))
    if response.num_draws > 1 and chance < plan.options.robust and not plan.already_optimal and more.mean() > 0:
        found.append(
            f"It is open whether the plan beats the current split: it does so in {percent(chance, 0)} of the model's "
            "draws. Take it for a test rather than a plan, or ask for a safer one with decision.objective=cvar."
        )
    share = ratio(plan.total, plan.current.total)
    if share < 1 / _FAR or share > _FAR:
        found.append(
            f"The budget is {percent(float(share), 1 if share < 0.1 else 0)} of what the current plan costs "
            f"({money(plan.current.total, plan)}). The model has seen next to nothing of that size: what its curves "
            "say there is their shape, not evidence. decision.total is the money of the whole window and all series."
        )
    beyond = beyond_history(plan)
    if beyond.any():
        against = plan.best.plan / np.where(plan.window.max_spend > 0, plan.window.max_spend, np.nan)[:, None]
        g, h, c = np.unravel_index(np.nanargmax(np.where(beyond, against, -1)), against.shape)
        names = ", ".join(response.channels[i] for i in np.flatnonzero(beyond.any(axis=(0, 1)))[:6])
        count = int(beyond.sum())
        share = _percent(count / (plan.best.plan > 0).sum())
        cells = f"{count:,} cell{'s' if count > 1 else ''} ({share} of those with money"
        found.append(
            f"{cells}; {names}) {'are' if count > 1 else 'is'} above the highest money ever spent there in one period: "
            "the model extrapolates. "
            f"Furthest is {response.channels[c]} in {response.series[g]} in the period of {plan.window.dates[h]}, "
            f"{against[g, h, c]:.2f} times the highest. "
            "decision.history_limit=1 keeps the plan within history."
        )
    if response.num_draws == 1:
        found.append("The model gives one answer and no uncertainty: there are no intervals and no probabilities here.")
    if response.kpi_value == 1.0 and response.kpi_unit.lower() != unit.lower():
        found.append(
            f"One unit of {response.kpi} ({response.kpi_unit}) counts as 1 {unit}. If it is worth something else, set "
            "kpi_value in the data's roles: returns and shadow prices are off by that factor until then (the best "
            "split is not)."
        )
    if plan.naive[REFERENCE].adjusted:
        found.append(
            "The current plan, scaled to the total, breaks the limits. The headline compares with it all the same; "
            "'scaled history' among the naive plans is the nearest plan that keeps the limits."
        )
    return found


def tiles(plan: BudgetPlan) -> list[Tile]:
    """Key figures."""
    reference, rival = plan.reference, plan.naive[plan.best_naive]
    more, beyond = plan.beyond(reference), plan.beyond(rival)
    base = float(reference.gain.mean())
    current = plan.current.total
    against = f"{share_words(plan.total - current, current)} against the current plan" if current > 0 else ""
    return [
        Tile(money(plan.total, plan), "budget", "" if abs(plan.total - current) < 1e-6 * current else against),
        Tile(money(plan.best.gain.mean(), plan), "value it brings", interval(plan.best.gain, plan).strip(" ()")),
        Tile(share_words(more.mean(), base), "against the current split", money(more.mean(), plan)),
        Tile(money(beyond.mean(), plan), "against the best naive plan", plan.best_naive),
        Tile(
            f"{plan.budget_price:.3g}" + ("" if plan.score_unit == "probability" else f" {plan.score_unit}"),
            f"what one more {plan.response.money_unit} of budget adds",
            "probability" if plan.score_unit == "probability" else "shadow price",
        ),
    ]
