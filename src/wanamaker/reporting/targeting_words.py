"""Targeting in sentences: the advice, what the audience brings, what must be known before using it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan
from wanamaker.decisions.uplift_verdict import MODEL, PolicyResult, Verdict
from wanamaker.metrics.doubly_robust import Estimate
from wanamaker.reporting.mix_style import percent
from wanamaker.reporting.page import Tile, number

_COST_OFF = 0.2  # share by which costs in the data and expected costs may differ

DEFINITIONS = (
    "- Effect: how much an outcome changes because a customer gets the offer. It can never be seen for one customer, "
    "who either gets it or not; it can be checked for groups.\n"
    "- Net value: effects on the outcomes times what they are worth, less what the offer costs. A discount that is "
    "redeemed also costs money for customers who would have bought anyway.\n"
    "- Doubly robust estimate: what a policy would have brought, from customers who happened to get what the policy "
    "would give them, steadied by the model's expectations. Right if either the probabilities of the offers or these "
    "expectations are right.\n"
    "- Gain curve: extra outcome if the offer goes to the first so many customers of the ranking. Qini curve: the "
    "same, counted among the treated. Qini score: area above the random line; scikit-uplift's divides by that of "
    "hindsight for outcomes that happen or not, and it is the mean height in the unit of the outcome for amounts.\n"
    "- AUTOC: how much larger the effect is among those ranked high than among all, averaged over all cuts. 0 is a "
    "ranking that knows nothing.\n"
    "- Uplift at 30 %: difference of the outcome with and without offer among the 30 % ranked highest.\n"
    "- Calibration: whether customers with a predicted effect of 5 have an effect of 5. The slope is 1 if differences "
    "between customers are predicted in their true size, below 1 if they are overstated. The error is the mean "
    "distance, with what is due to chance taken off; it can come out slightly below 0.\n"
    "- Smallest detectable effect: smaller effects would be missed too often by as many customers.\n"
    "- Correlation with the outcome: if near 1, those who buy most anyway are also those whom the offer moves most, "
    "and a simple ranking by expected outcome does as well as this model.\n"
    "- Shrinkage: how far each customer's net value is drawn towards the mean of the offer. 1 sends everybody the best "
    "single offer, 0 trusts every difference that the model sees."
)


def money(value: float, unit: str) -> str:
    """Money with its unit; cents that are less than a millionth are 0."""
    return number(0.0 if abs(value) < 1e-6 else value, unit)


def interval(verdict: Verdict, estimate: Estimate, unit: str = "") -> str:
    """ "90 % interval a to b"."""
    low, high = verdict.bounds(estimate)
    return f"{percent(verdict.level, 0)} interval {number(low)} to {number(high, unit)}"


def advice(plan: TargetingPlan, verdict: Verdict | None) -> str:
    """One sentence: what to do."""
    if verdict is None:
        count = int((plan.assignment.arm > 0).sum())
        return f"An audience of {count:,} customers, and no outcomes yet to say whether it is worth it"
    unit, single, model = plan.unit, verdict.single, verdict.model
    if verdict.advice == "model" and verdict.rule == 0:
        return (
            f"Target with the model: it brings {money(model.beyond.value, unit)} more per 1,000 customers than "
            f"{single.name}"
        )
    if verdict.advice == "model":
        return (
            f"Target with the model: it brings {money(model.value.value, unit)} per 1,000 customers, and no single "
            "offer is shown to pay"
        )
    if verdict.advice == "single":
        return f"Send {single.name}: choosing customers by the model is not shown to bring more"
    if verdict.advice == "nothing":
        return "Send nothing: no offer, and no choice of customers, is shown to bring more than it costs"
    return f"Not enough evidence: test {_round_up(verdict.more)} more customers before you decide"


def lead(plan: TargetingPlan, verdict: Verdict | None) -> list[str]:
    """The first paragraphs: the evidence, and the audience."""
    unit, sentences = plan.unit, []
    if verdict is not None:
        single, model = verdict.single, verdict.model
        both = f"{_brings(verdict, model, unit)}, {_brings(verdict, single, unit)}"
        text = f"On {verdict.rows:,} customers whose outcomes the model did not learn from, {both}."
        if model.beyond.standard_error > 0:
            more = "more" if model.beyond.value >= 0 else "less"
            text += (
                f" On the same customers the model brings {money(abs(model.beyond.value), unit)} {more} "
                f"({interval(verdict, model.beyond, unit)})."
            )
        else:
            text += " The model chooses just that for everyone."
        sentences.append(text)
        if verdict.advice in ("single", "model") and 0 < verdict.more < math.inf:
            sentences.append(
                f"If the difference is as large as it looks, a test of {_round_up(verdict.more)} more customers would "
                "show it."
            )
        if verdict.advice == "more":
            sentences.append(
                "Neither the model nor the best single offer is shown to bring more than nothing: if the better of "
                f"them brings what it seems to, a test of {_round_up(verdict.more)} more customers would show it."
            )
    arm = plan.assignment.arm
    count = int((arm > 0).sum())
    by_offer = ", ".join(
        f"{int((arm == a + 1).sum()):,} {name}" for a, name in enumerate(plan.arms[1:]) if (arm == a + 1).any()
    )
    text = f"The audience: {count:,} of {len(arm):,} customers get an offer"
    text += f" ({by_offer})" if by_offer else ""
    sentences.append(
        f"{text}. It is expected to cost {money(plan.assignment.cost, unit)} and to bring "
        f"{money(plan.assignment.value, unit)} after that cost."
    )
    return sentences


def _brings(verdict: Verdict, policy: PolicyResult, unit: str) -> str:
    name = "the model's choice" if policy.kind == MODEL else policy.name
    value = f"{money(policy.value.value, unit)} per 1,000 customers"
    return f"{name} brings {value} ({interval(verdict, policy.value, unit)})"


def _round_up(count: float) -> str:
    """Two digits, upwards: 12345 is "13,000"."""
    if not math.isfinite(count) or count <= 0:
        return "no"
    step = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return f"{math.ceil(count / step) * step:,}"


def tiles(plan: TargetingPlan, verdict: Verdict | None) -> list[Tile]:
    """Key figures."""
    unit, arm = plan.unit, plan.assignment.arm
    count = int((arm > 0).sum())
    found = [
        Tile(f"{count:,}", "customers in the audience", f"{percent(count / len(arm), 0)} of {len(arm):,}"),
        Tile(
            money(plan.assignment.value, unit),
            "expected net value",
            f"at a cost of {money(plan.assignment.cost, unit)}",
        ),
    ]
    if verdict is not None:
        model, single = verdict.model, verdict.single
        found += [
            Tile(money(model.value.value, unit), "model, per 1,000 customers", interval(verdict, model.value)),
            Tile(
                money(single.value.value, unit), f"{single.offer}, per 1,000 customers", interval(verdict, single.value)
            ),
            Tile(money(model.beyond.value, unit), "model against best offer", interval(verdict, model.beyond)),
        ]
    return found


def warnings(plan: TargetingPlan, verdict: Verdict | None) -> list[str]:
    """What must be known before the audience is used."""
    found = list(plan.policy.notes)
    options, judged = plan.policy.options, plan.judged
    if verdict is None:
        found.append(
            "No row has a known arm and known outcomes: what follows is the model's word and could not be checked."
        )
        return found
    assert judged is not None
    if not judged.predictions.randomised:
        found.append(
            "The offers were not drawn at random, but their probabilities estimated: effects may be due to whatever "
            "decided who got an offer and is not among the features. A randomised test is the only cure."
        )
    count = int((plan.assignment.arm > 0).sum())
    if verdict.advice in ("single", "nothing", "more") and count:
        same = verdict.advice == "single" and plan.policy.shrinkage == 1
        if not same:
            cure = "decision.shrinkage=1 makes the list follow the advice." if verdict.advice == "single" else ""
            found.append(
                "The list in audience follows the model's net values, not the advice above: use it for a test with a "
                f"control group rather than as a plan. {cure}".strip()
            )
    if not count:
        found.append("The audience is empty: no offer is worth more than the tolerance to any customer.")
    flat = [s.offer for s in verdict.offers if verdict.bounds(s.autoc)[0] <= 0]
    if flat:
        found.append(
            f"The ranking of customers for {_listed(flat)} is not shown to be better than chance (AUTOC interval "
            "reaches 0)."
        )
    buyers = verdict.against_buyers
    if buyers.value < 0:
        found.append(
            f"{plan.arms[plan.policy.best]} to those who would buy most anyway brings "
            f"{money(-buyers.value, plan.unit)} more per 1,000 customers here than the model's choice (model less "
            f"that: {interval(verdict, buyers)}). A ranking by the expected outcome may be all that is needed."
        )
    z = _half(verdict)
    off = [s.offer for s in verdict.offers if abs(s.slope.value - 1) > z * s.slope.standard_error]
    if off:
        found.append(
            f"Predicted differences between customers are not in their true size for {_listed(off)} (calibration slope "
            "away from 1): take net values of single customers with care."
        )
    if plan.assignment.bound - plan.assignment.value > 1e-3 * abs(plan.assignment.bound):
        found.append(
            "Another audience within the limits may bring up to "
            f"{money(plan.assignment.bound - plan.assignment.value, plan.unit)} more: the limits are so tight that "
            "whole customers do not fill them."
        )
    if options.max_clients is not None or options.caps:
        found.append("The cost curve lets the budget alone grow; the limits on numbers of customers are not in it.")
    found += _costs_in_data(plan)
    return found


def _half(verdict: Verdict) -> float:
    low, high = verdict.bounds(Estimate(0.0, 1.0))
    return (high - low) / 2


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _costs_in_data(plan: TargetingPlan) -> list[str]:
    """Offers whose observed cost is far from what the options say."""
    judged, offers = plan.judged, plan.judged_offers
    assert judged is not None
    assert offers is not None
    p, found = judged.predictions, []
    for a, name in enumerate(plan.arms[1:]):
        got = (p.treatment == a + 1) & np.isfinite(p.cost)
        if not got.any():
            continue
        observed, expected = float(p.cost[got].mean()), float(offers.cost[got, a].mean())
        if abs(observed - expected) > _COST_OFF * max(observed, expected):
            found.append(
                f"The data say that {name} cost {money(observed, plan.unit)} per customer, decision.costs makes it "
                f"{money(expected, plan.unit)}. The latter is used."
            )
    return found
