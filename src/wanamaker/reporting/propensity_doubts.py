"""What must be known before propensity scores are used: few cases, no labels, drift, one feature that knows it all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_options import PROBABILITIES
from wanamaker.decisions.propensity_profit import ProfitCurve
from wanamaker.decisions.propensity_reasons import strongest
from wanamaker.decisions.propensity_rows import TaskRows
from wanamaker.decisions.propensity_scores import TaskScores
from wanamaker.reporting.mix_style import percent
from wanamaker.reporting.propensity_words import (
    ROUGHLY,
    SUSPECT,
    WRONG,
    better_than_chance,
    calibration_verdict,
    interval,
)

_FEW = 50  # cases: of fewer, every number about them is vague
_TOO_GOOD = 0.98  # AUC that a feature which knows the outcome gives, and honest ones seldom
_STRONG, _GOOD = 0.5, 0.9  # share of all pushes by one feature, at an AUC from which on that is odd
_FAR = 3.0  # standard errors
_LOST = 0.5  # share of customers whose observation ended before the last edge
_UNSEEN = 0.05  # share of customers with a value that training had not
_TOTAL_OFF = 0.1


def doubts(
    plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None, allowed: Sequence[str] = ()
) -> list[str]:
    """Sentences, the gravest first.

    Args:
        plan, scores, profit: what is on the page.
        allowed: findings of the data's checks that were let through (`data.allow`), among them names of features.
    """
    found = []
    known = [task for task in scores if task.known]
    if not any(len(rows) for rows in plan.judged):
        found.append(
            "No outcome is known for these customers: the scores are the model's word and could not be checked here."
        )
    if plan.judging == ("train",):
        found.append(
            "There are no test or validation rows with outcomes, so the scores are judged on training rows. Unless "
            "they come from models that did not see these rows, all of it looks better than it is."
        )
    found += _allowed(plan, allowed)
    found += _too_good(plan, known)
    for task in scores:
        found += _about(plan, task)
    for task in known:
        if not better_than_chance(task):
            found.append(f"The ranking by {task.rows.name} is not shown to be better than chance.")
    if plan.learning == plan.judging and any(plan.rules) and any(len(rows) for rows in plan.judged):
        found.append(
            "Thresholds were found on the same rows that judge them, so what they bring is somewhat flattered. "
            "Validation rows besides the test rows would cure that."
        )
    found += _list(plan, profit)
    found += _unseen(plan)
    if plan.repeated:
        found.append(
            f"Customers have several positions; the list holds the latest of each, and {plan.repeated:,} earlier ones "
            "are left out. Every position counts in the scores; intervals draw customers with all of theirs, but those "
            "by tenth in the figures take each position for a customer."
        )
    found += plan.question.notes
    limit = plan.thresholds[plan.lead]
    if limit is not None and limit.note:
        found.append(limit.note)
    return found


def _about(plan: PropensityPlan, task: TaskScores) -> list[str]:
    """Of one task: too few cases, calibration, drift, a total that is off, censoring, intervals."""
    rows, found = task.rows, []
    if len(rows) and not task.known:
        found.append(
            f"All {len(rows):,} known outcomes of {rows.name} among the rows that judge are {rows.label[0]:g}: nothing "
            "can be said about its scores."
        )
    if not task.known:
        return found
    if rows.is_probability:
        least = min(rows.positives, len(rows) - rows.positives)
        if least < _FEW:
            what = "with" if least == rows.positives else "without"
            found.append(
                f"Only {least} of the {len(rows):,} rows that judge are {what} {rows.name}: take what is said about it "
                "as rough, and look at the intervals."
            )
        verdict = calibration_verdict(task)
        if verdict == WRONG or (verdict in (ROUGHLY, SUSPECT) and rows.task != plan.lead):
            gap = task["predicted"].value - task["observed"].value
            way = f" They are too {'high' if gap > 0 else 'low'} on average." if abs(gap) > 0.01 else ""
            found.append(
                f"Probabilities of {rows.name} {verdict} (error {percent(task['calibration_error'].value)}); the order "
                f"of customers is not touched by that.{way}"
            )
    elif "total" in task.scores and np.isfinite(task["total"].value):
        total = task["total"]
        if abs(total.value - 1) > _TOTAL_OFF and not total.low <= 1 <= total.high:
            found.append(
                f"Predictions of {rows.name} add up to {total.value:.2f} times what came ({interval(plan, total)}): "
                "plan with the ranking rather than with the sum."
            )
    found += _drift(plan, rows)
    watched = len(rows.survival.place) if rows.survival is not None else 0
    if watched and rows.lost / watched > _LOST:
        found.append(
            f"For {percent(rows.lost / watched, 0)} of the customers that judge {rows.name}, observation ended before "
            f"{plan.predictions.edges[rows.task][-1]:g} {rows.unit}: what is said about that time rests on the others."
        )
    return found


def _drift(plan: PropensityPlan, rows: TaskRows) -> list[str]:
    """Whether predictions miss by more, or the other way, here than where thresholds and calibration were found."""
    before = plan.learned[rows.task]
    if plan.learning == plan.judging or plan.learning == ("train",) or len(before) < 2 or len(rows) < 2:
        return []
    gaps, errors = [], []
    for part in (before, rows):
        gap = part.label - part.score
        mean = float(np.average(gap, weights=part.weight))
        gaps.append(mean)
        errors.append(float((part.weight**2 @ (gap - mean) ** 2) / part.weight.sum() ** 2))
    if abs(gaps[1] - gaps[0]) <= _FAR * np.sqrt(sum(errors)):
        return []
    shown = [f"{100 * gap:+.1f} points" if rows.is_probability else f"{gap:+,.4g} {rows.unit}".rstrip() for gap in gaps]
    return [
        f"Drift: observed less predicted {rows.name} was {shown[0]} on {plan.learning[0]} rows and is {shown[1]} on "
        f"{' and '.join(plan.judging)} rows. Customers, or the times, have changed: calibrate again on recent data."
    ]


def _allowed(plan: PropensityPlan, allowed: Sequence[str]) -> list[str]:
    known = {*plan.predictions.features, *plan.predictions.trait_names}
    names = [name for name in allowed if name in known or not known]
    if not names:
        return []
    which, is_ = (names[0], "is") if len(names) == 1 else (", ".join(names), "are")
    return [
        f"{which} {'was' if is_ == 'is' else 'were'} let through (data.allow) although the check for leaks may name "
        f"{'it' if is_ == 'is' else 'them'}. If {which} {is_} only known once the outcome is, all of this looks far "
        "better than it will be in use."
    ]


def _too_good(plan: PropensityPlan, known: list[TaskScores]) -> list[str]:
    found = []
    for task in known:
        if not task.rows.is_probability:
            continue
        area, top = task["auc"].value, strongest(plan.customers, task.rows.task)
        if area >= _TOO_GOOD:
            found.append(
                f"An AUC of {area:.3f} for {task.rows.name} is suspiciously good: look for a feature that is only "
                "known once it has happened."
            )
        if top is not None and top[1] >= _STRONG and area >= _GOOD:
            found.append(
                f"{top[0]} alone makes up {percent(top[1], 0)} of what moves the scores for {task.rows.name}. Make "
                "sure that it is known before the moment of prediction; if it leaks the outcome, leave it out."
            )
    return found


def _list(plan: PropensityPlan, profit: ProfitCurve | None) -> list[str]:
    """About whom to contact."""
    p, found = plan.customers, []
    count, t = int(plan.contact.sum()), plan.lead
    if not count:
        found.append("The list is empty: nobody reaches the threshold.")
    elif count == len(p) and count > 1:
        found.append("The list holds everybody: the threshold does not choose.")
    known = p.label[:, t] > 0 if p.kinds[t] == "hazard" else np.isfinite(p.label[:, t])
    settled = int((plan.contact & known).sum())
    if settled:
        found.append(
            f"For {settled:,} of the {count:,} on the list, what came of {p.tasks[t]} is already in the data: for a "
            "campaign, score today's customers, or choose splits with decision.target."
        )
    if profit is not None and count and profit.everyone.value > profit.profit.value:
        found.append("Contacting everybody would have brought more on the customers that judge than this list.")
    width = float(np.mean(p.high[:, t].astype(np.float64) - p.low[:, t]))
    spread = float(p.score[:, t].astype(np.float64).std())
    if len(p) > 1 and width > 2 * spread:
        found.append(
            f"Intervals of {p.tasks[t]} are as wide as customers differ (mean width {_size(plan, width)}, standard "
            f"deviation of scores {_size(plan, spread)}): do not read much into the order of neighbours."
        )
    return found


def _size(plan: PropensityPlan, value: float) -> str:
    chance = plan.customers.kinds[plan.lead] in PROBABILITIES
    return f"{100 * value:.1f} points" if chance else f"{value:,.3g} {plan.customers.units[plan.lead]}".rstrip()


def _unseen(plan: PropensityPlan) -> list[str]:
    p = plan.customers
    share = (p.traits == 0).mean(axis=0) if len(p) else np.zeros(0)
    return [
        f"{percent(share[j], 0)} of the customers have a {name} that training had not: their scores rest on the rest."
        for j, name in enumerate(p.trait_names)
        if share[j] > _UNSEEN
    ]
