"""Propensity in sentences: how good the scores are, whom to contact, what must be known before using them."""

from __future__ import annotations

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.decisions.propensity_options import BASE_RATE, PROBABILITIES
from wanamaker.decisions.propensity_profit import Profit, ProfitCurve
from wanamaker.decisions.propensity_rows import TaskRows
from wanamaker.decisions.propensity_scores import FAIR, SMALL, TOP, Score, TaskScores
from wanamaker.reporting.mix_style import percent
from wanamaker.reporting.page import Tile, number
from wanamaker.reporting.propensity_figures import RULE_WORDS, judged_words

FACE_VALUE, UNSURE = "can be taken at face value", "are not shown to be wrong, but there are too few cases to tell"
ROUGHLY, SUSPECT, WRONG = "are roughly right", "may be off", "cannot be taken at face value"
_TILES = 8

DEFINITIONS = (
    "- Score: of something that happens or not, its probability; of an amount, what is expected on average.\n"
    "- Interval of a score: how well the score itself is known. A probability of 30 %, however well known, still comes "
    "true for three customers of ten.\n"
    "- Lift: how many times as many cases as among customers drawn at random. Gain: share of all cases reached.\n"
    "- AUC: of a customer with it and one without, how often the one with it has the higher score. One half is chance, "
    "1 is perfect.\n"
    "- Precision: of the customers flagged, the share that has it. Recall: of those who have it, the share flagged. "
    "Average precision: mean precision over all recalls; chance gives the base rate.\n"
    "- Calibration error: mean distance of predicted and observed rate over ten groups. Some of it is chance: the "
    "report says how much a model that is right would show on as many customers.\n"
    "- Brier score: mean squared distance of probability and outcome; 0 is perfect, smaller is better. Log loss: the "
    "same idea, dearer for being sure and wrong.\n"
    "- Censored: observation ended before it could happen. Such customers count while they were watched, and those "
    "watched longer stand for them after that. Concordance: of two customers, how often the one to whom it happens "
    "first had the higher risk.\n"
    "- Gini: how well amounts are ranked, 0 is chance, 1 is hindsight. Total: predicted over actual sum; 1 is right. "
    "Kendall's tau-b: agreement of two rankings, from -1 to 1.\n"
    "- Net value: value of what is expected to happen less the cost of contacts. It takes every case for one that the "
    "contact wins: a score says who will leave, not whom a letter keeps. An experiment with "
    "decision=targeting tells that.\n"
    "- Thresholds. Base rate: likelier than the average customer. One half: likelier than not. Pays its cost: "
    "probability times value is the cost. Most profit: what would have earned most on the customers it was found on. "
    "Otsu, Yen, ISODATA and k-means split the scores into two heaps, whether or not there are two."
)


def interval(plan: PropensityPlan, score: Score | Profit, unit: str = "", scale: float = 1.0) -> str:
    """ "90 % interval a to b"; "" where there is none."""
    if not (np.isfinite(score.low) and np.isfinite(score.high)):
        return ""
    level = percent(plan.question.options.level, 0)
    return f"{level} interval {number(scale * score.low)} to {number(scale * score.high, unit)}"


def who(plan: PropensityPlan, rows: TaskRows) -> str:
    """ "1,409 test customers", or "5,200 moments of 1,409 test customers"."""
    customers = len(np.unique(rows.customer))
    words = f"{customers:,} {judged_words(plan.judging)}"
    return words if customers == len(rows) else f"{len(rows):,} moments of {words}"


def calibration_verdict(task: TaskScores) -> str:
    """`FACE_VALUE`, `UNSURE`, `ROUGHLY`, `SUSPECT` or `WRONG`: how far off, beyond what chance would show?"""
    error, chance = task["calibration_error"].value, task["calibration_error_by_chance"]
    rare = min(task.rows.base_rate, 1 - task.rows.base_rate)
    small, fair = (min(most, part * rare) for most, part in (SMALL, FAIR))
    if error <= chance.high:
        return UNSURE if chance.value > fair else FACE_VALUE
    beyond = np.sqrt(error**2 - chance.value**2)
    if beyond < small:
        return FACE_VALUE
    if beyond < fair:
        return ROUGHLY
    # One model in twenty that is right gets here: only what chance hardly ever shows is called wrong.
    return WRONG if error > chance.value + 2 * (chance.high - chance.value) else SUSPECT


def better_than_chance(task: TaskScores) -> bool:
    """Whether the ranking is shown to know something."""
    score = task.scores.get("auc") or task.scores.get("gini") or task.scores["kendall_tau_b"]
    return bool(score.low > (0.5 if "auc" in task.scores else 0.0))


def advice(plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None) -> str:
    """One sentence: the finding."""
    count, N, lead = int(plan.contact.sum()), len(plan.customers), scores[plan.lead]
    name = lead.rows.name
    if not lead.known and profit is None:
        return (
            f"{N:,} {'customer' if N == 1 else 'customers'} scored, and no outcomes yet to say how good the scores are"
        )
    if profit is not None:
        won = f"{number(profit.profit.value, plan.unit)} per 1,000 customers"
        if not count:
            return "Contact nobody: no customer is expected to bring more than a contact costs"
        if profit.profit.low <= 0:
            return f"Contacting {count:,} of {N:,} customers is not shown to pay"
        which = f"all {N:,}" if count == N else f"{count:,} of {N:,}"
        return f"Contact {which} customers: worth {won} after cost"
    if not better_than_chance(lead):
        return f"The scores for {name} are not shown to be better than chance"
    if "top_tenth_share" not in lead.scores:
        return f"{N:,} customers are ranked by {name}, Kendall's tau-b {lead['kendall_tau_b'].value:.2f}"
    share = lead["top_tenth_share"].value
    if lead.rows.is_probability:
        return (
            f"The tenth of customers with the highest scores holds {percent(share, 0)} of all {name}, "
            f"{share / TOP:.1f} times a random tenth"
        )
    return f"The tenth of customers with the highest predictions brings {percent(share, 0)} of all {name}"


def lead(plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None) -> list[str]:
    """The first paragraphs: who is scored, how good it is, whom to contact."""
    task = scores[plan.lead]
    said = [_expected(plan)]
    if task.known:
        said.append(_ranking(plan, task, profit is not None))
        if task.rows.is_probability:
            said.append(_face_value(task))
        elif "total" in task.scores:
            said.append(_total(plan, task))
    said.append(_contacts(plan, profit))
    return said


def _expected(plan: PropensityPlan) -> str:
    p = plan.customers
    parts = []
    for t, name in enumerate(p.tasks):
        mean = float(np.average(p.score[:, t], weights=p.weight if p.weight.sum() > 0 else None))
        if p.kinds[t] in PROBABILITIES:
            by = f" within {p.edges[t][-1]:g} {p.units[t]}".rstrip() if p.edges[t] else ""
            parts.append(f"{name}{by} of {percent(mean)}")
        else:
            parts.append(f"{number(mean, p.units[t])} of {name} each")
    words = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return f"{len(p):,} {'customer is' if len(p) == 1 else 'customers are'} scored. The model expects {words}."


def _ranking(plan: PropensityPlan, task: TaskScores, share_too: bool) -> str:
    rows = task.rows
    text = f"Checked on {who(plan, rows)}: "
    if rows.is_probability:
        share = task["top_tenth_share"].value
        top = f"{percent(min(1.0, share * rows.base_rate / TOP), 0)} of the tenth with the highest scores"
        text += f"{rows.name} came true for {percent(rows.base_rate)} of all and {top}"
        text += (
            f", who hold {percent(share, 0)} of all cases, {share / TOP:.1f} times a random tenth" if share_too else ""
        )
        auc = task["auc"]
        return (
            f"{text}. Of one with it and one without, the one with it has the higher score in {percent(auc.value)} of "
            f"cases (AUC; {interval(plan, auc, scale=100) or 'too few for an interval'})."
        )
    text += f"the mean was {number(rows.base_rate, rows.unit)}. "
    if "gini" in task.scores:
        return text + f"Ranked by the prediction, the Gini is {task['gini'].value:.2f} of hindsight's 1."
    return text + f"Kendall's tau-b of prediction and outcome is {task['kendall_tau_b'].value:.2f}."


def _face_value(task: TaskScores) -> str:
    error, chance = task["calibration_error"].value, task["calibration_error_by_chance"]
    return (
        f"Probabilities {calibration_verdict(task)}: they are {_points(error)} off on average (a model that is right "
        f"would be {_points(chance.value)} off by chance)."
    )


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return f"{text} percentage point{'' if text == '1.0' else 's'}"


def _total(plan: PropensityPlan, task: TaskScores) -> str:
    total = task["total"]
    if not np.isfinite(total.value):
        return "The actual total is 0, so nothing can be said about that of the predictions."
    off = total.value - 1
    size = "" if abs(off) < 0.005 else f", {percent(abs(off), 0)} too {'high' if off > 0 else 'low'}"
    return f"The predictions add up to {total.value:.2f} times what came{size} ({interval(plan, total)})."


def _contacts(plan: PropensityPlan, profit: ProfitCurve | None) -> str:
    count, N = int(plan.contact.sum()), len(plan.customers)
    text = f"To contact: {count:,} ({percent(count / N, 0)}), {_rule(plan)}."
    if plan.net is not None and count:
        text += (
            f" That costs {number(count * plan.question.options.cost, plan.unit)} and is expected to bring "
            f"{number(plan.net[plan.contact].sum(), plan.unit)} beyond its cost."
        )
    if profit is not None and count:
        text += (
            f" On the customers that judge it would have brought {number(profit.profit.value, plan.unit)} per 1,000 "
            f"({interval(plan, profit.profit)}), contacting everybody {number(profit.everyone.value, plan.unit)}."
        )
    return text


def _rule(plan: PropensityPlan) -> str:
    """Who is on the list."""
    question, limit, parts = plan.question, plan.thresholds[plan.lead], []
    name = plan.customers.tasks[plan.lead]
    if limit is not None:
        shown = _limit(plan, limit.value)
        chance = plan.customers.kinds[plan.lead] in PROBABILITIES
        rule = RULE_WORDS[limit.rule] if chance or limit.rule != BASE_RATE else "the mean"
        parts.append(f"those with a score for {name} of {shown} or more ({rule})")
    elif question.by_net:
        parts.append("those who are expected to bring more than a contact costs")
    if question.options.top is not None:
        top = question.options.top
        what = (
            f"the first {percent(top, 0) if top < 1 else f'{top:,.0f}'} by {'net value' if question.by_net else name}"
        )
        parts.append(f"at most {what}" if parts else what)
    return ", ".join(parts)


def _limit(plan: PropensityPlan, value: float) -> str:
    t = plan.lead
    if not np.isfinite(value):
        return "more than any"
    return percent(value) if plan.customers.kinds[t] in PROBABILITIES else number(value, plan.customers.units[t])


def tiles(plan: PropensityPlan, scores: tuple[TaskScores, ...], profit: ProfitCurve | None) -> list[Tile]:
    """Key figures."""
    count, N = int(plan.contact.sum()), len(plan.customers)
    found = [
        Tile(f"{N:,}", "customer scored" if N == 1 else "customers scored"),
        Tile(f"{count:,}", "to contact", f"{percent(count / N, 0)} of them"),
    ]
    if profit is not None:
        won = profit.profit
        found.append(Tile(number(won.value, plan.unit), "net value per 1,000", interval(plan, won)))
    for task in sorted((s for s in scores if s.known), key=lambda s: s.rows.task != plan.lead):
        rows = task.rows
        if "top_tenth_share" in task.scores:
            share = task["top_tenth_share"]
            what = "cases" if rows.is_probability else "the total"
            area = f", AUC {task['auc'].value:.3f}" if rows.is_probability else ""
            note = interval(plan, share, "%", 100) + area
            found.append(Tile(percent(share.value, 0), f"of {what} in the top tenth: {rows.name}", note))
        if rows.is_probability and rows.task == plan.lead:
            error, chance = (task[f"calibration_error{end}"].value for end in ("", "_by_chance"))
            found.append(
                Tile(_short_points(error), f"calibration error: {rows.name}", f"by chance {_short_points(chance)}")
            )
        elif not rows.is_probability and np.isfinite(task["total"].value):
            total = task["total"]
            found.append(Tile(f"{total.value:.2f}", f"predicted over actual: {rows.name}", interval(plan, total)))
    return found[:_TILES]


def _short_points(share: float) -> str:
    return f"{100 * share:.1f} points"
