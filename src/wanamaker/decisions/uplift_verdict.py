"""Is targeting worth it here? Policies compared on held-out rows, and one sentence of advice by stated rules.

All values are doubly robust estimates of net money per 1,000 customers beyond giving nobody anything; differences are
paired by row. Where the audience is limited, policies are compared within the limits: the best single offer goes to
customers drawn at random, in expectation over the draw.

Axis letters: N rows, K arms (number 0 is the control).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.targeting import TargetingPlan
from wanamaker.metrics.doubly_robust import Estimate, autoc, average_effect
from wanamaker.metrics.policy_value import policy_difference, policy_value
from wanamaker.metrics.uplift_calibration import calibration_error, calibration_line
from wanamaker.metrics.uplift_curves import qini_raw, qini_sklift, uplift_at_k
from wanamaker.metrics.uplift_power import minimum_detectable_effect

if TYPE_CHECKING:
    import pandas as pd

NOBODY, SINGLE, BUYERS, MODEL = "nobody", "single", "buyers", "model"
FAR = 20  # times the rows at hand: a test larger than that is not worth proposing

RULES = (
    "Target with the model, if it brings more than the best single offer and more than nobody, both differences with "
    "their whole interval above 0.",
    "Else send the best single offer, if it brings more than nobody with its whole interval above 0.",
    "Else target with the model, if it brings more than nobody with its whole interval above 0.",
    "Else send nothing, if neither brings more than nobody on average, or so little that the test to show it would "
    f"need more than {FAR} times the customers at hand.",
    "Else there is not enough evidence: test more customers.",
)


@dataclass(frozen=True)
class PolicyResult:
    """A policy on the rows that judge; money per 1,000 customers.

    Attributes:
        name: for people.
        kind: `NOBODY`, `SINGLE` (one offer), `BUYERS` (best offer to those expected to buy most), `MODEL`.
        offer: the only offer it gives; "" for others.
        share: of customers that get an offer.
        cost: expected money.
        value: net money beyond nobody, with its standard error.
        beyond: `value` less that of the best single offer, with its standard error.
        best: whether it is the best single offer.
    """

    name: str
    kind: str
    offer: str
    share: float
    cost: float
    value: Estimate
    beyond: Estimate
    best: bool = False


@dataclass(frozen=True)
class OfferScores:
    """How well the effects of one offer on the first outcome that has a value are known; its unit.

    Attributes:
        offer: name.
        average: effect, with its standard error.
        detectable: the smallest average effect that these rows would show.
        autoc: of the ranking by predicted effect, with its standard error; 0 for a ranking that knows nothing.
        qini: scikit-uplift's, for a binary outcome; for others the mean height above random, units of the outcome.
        at_30: difference of means among the 30 % with the highest predictions, both arms ranked together.
        correlation: of the predicted effect with the outcome expected without offer.
        calibration: mean distance of predicted and observed effects over ten bins, corrected for noise.
        slope: of observed over predicted effects; 1 is calibrated.
    """

    offer: str
    average: Estimate
    detectable: float
    autoc: Estimate
    qini: float
    at_30: float
    correlation: float
    calibration: float
    slope: Estimate


@dataclass(frozen=True)
class Verdict:
    """Whether targeting is worth it.

    Attributes:
        policies: compared, nobody first and the model last; within the limits, where there are some.
        offers: one per offer.
        advice: "model", "single", "nothing" or "more".
        rule: number in `RULES` of the rule that decided.
        more: customers of the next test: to tell the advised from what it is compared with; 0 where it is clear.
        against_buyers: net value of the model less that of the best offer to those who would buy most, per 1,000.
        detectable: smallest difference between the model and the best single offer that these rows would show.
        rows: N.
        level: of intervals.
    """

    policies: tuple[PolicyResult, ...]
    offers: tuple[OfferScores, ...]
    advice: str
    rule: int
    more: float
    against_buyers: Estimate
    detectable: float
    rows: int
    level: float

    @property
    def single(self) -> PolicyResult:
        """The best single offer."""
        return next(p for p in self.policies if p.best)

    @property
    def model(self) -> PolicyResult:
        """The model's policy."""
        return next(p for p in self.policies if p.kind == MODEL)

    def bounds(self, estimate: Estimate) -> tuple[float, float]:
        """Interval of an estimate at `level`."""
        half = NormalDist().inv_cdf((1 + self.level) / 2) * estimate.standard_error
        return estimate.value - half, estimate.value + half


def uplift_verdict(plan: TargetingPlan) -> Verdict | None:
    """Compare the policies; None where no row has known outcomes."""
    judged, offers, policy = plan.judged, plan.judged_offers, plan.policy
    if judged is None or offers is None:
        return None
    options, weight, N = policy.options, judged.predictions.weight, len(judged)
    K = len(plan.arms)
    fraction = np.append(0.0, _fractions(plan))
    best = policy.best

    def single(arm: int) -> np.ndarray:
        drawn = np.zeros((N, K))
        drawn[:, 0], drawn[:, arm] = 1 - fraction[arm], fraction[arm]
        return drawn

    by_model = policy.assign(offers, plan.scale).arm

    def to_whom(arm: int) -> str:
        return f"to a random {fraction[arm]:.0%}" if fraction[arm] < 1 else "to everyone"

    entries = [("Nobody gets anything", NOBODY, 0, np.zeros(N, np.int64))]
    entries += [(f"{plan.arms[k]} {to_whom(k)}", SINGLE, k, single(k)) for k in range(1, K)]
    entries.append((f"{plan.arms[best]} to those who would buy most", BUYERS, best, _buyers(plan, by_model, best)))
    entries.append(("The model's choice", MODEL, 0, by_model))
    reference = next(drawn for _, kind, k, drawn in entries if kind == SINGLE and k == best)
    policies = []
    for name, kind, k, drawn in entries:
        value = policy_value(drawn, judged.gain, weight=weight)
        beyond = policy_difference(drawn, reference, judged.gain, weight=weight)
        chances = drawn if drawn.ndim == 2 else (drawn[:, None] == np.arange(K)).astype(float)
        cost = (chances[:, 1:] * offers.cost).sum(axis=1)
        policies.append(
            PolicyResult(
                name,
                kind,
                plan.arms[k] if k else "",
                float(weight @ (1 - chances[:, 0]) / weight.sum()),
                1000 * float(weight @ cost / weight.sum()),
                _thousand(value),
                _thousand(beyond),
                kind == SINGLE and k == best,
            )
        )
    scores = tuple(_offer_scores(plan, a) for a in range(K - 1))
    buyers = next(drawn for _, kind, _, drawn in entries if kind == BUYERS)
    against = _thousand(policy_difference(by_model, buyers, judged.gain, weight=weight))
    verdict = Verdict(tuple(policies), scores, "", 0, 0.0, against, 0.0, N, options.level)
    return _decide(verdict, options.power)


def _decide(verdict: Verdict, power: float) -> Verdict:
    """Apply `RULES`."""
    single, model, fields = verdict.single, verdict.model, dict(vars(verdict))
    z = NormalDist().inv_cdf((1 + verdict.level) / 2) + NormalDist().inv_cdf(power)
    fields["detectable"] = z * model.beyond.standard_error

    def pays(estimate: Estimate) -> bool:
        return verdict.bounds(estimate)[0] > 0

    def needed(estimate: Estimate) -> float:
        """Customers on top of these that would show the estimated difference."""
        if estimate.value <= 0:
            return float("inf")
        return max(0.0, verdict.rows * ((z * estimate.standard_error / estimate.value) ** 2 - 1))

    if pays(model.beyond) and pays(model.value):
        advice, rule, more = "model", 0, 0.0
    elif pays(single.value):
        advice, rule, more = "single", 1, needed(model.beyond)
    elif pays(model.value):
        advice, rule, more = "model", 2, needed(model.beyond)
    else:
        more = min(needed(model.value), needed(single.value))
        advice, rule = ("nothing", 3) if more > FAR * verdict.rows else ("more", 4)
    return Verdict(**{**fields, "advice": advice, "rule": rule, "more": more})


def _thousand(estimate: Estimate) -> Estimate:
    return Estimate(1000 * estimate.value, 1000 * estimate.standard_error)


def _fractions(plan: TargetingPlan) -> np.ndarray:
    """[A], the share of customers who can get each offer within the limits, were it the only one."""
    options, N = plan.policy.options, len(plan.customers)
    share = np.ones(len(plan.arms) - 1)
    if options.max_clients is not None:
        share = np.minimum(share, options.max_clients / N)
    if options.caps:
        share = np.minimum(share, [options.caps.get(arm, np.inf) / N for arm in plan.arms[1:]])
    if options.budget is not None:
        cost = plan.offers.cost.sum(axis=0)
        share = np.minimum(share, np.divide(options.budget, cost, out=np.ones_like(cost), where=cost > 0))
    return share


def _buyers(plan: TargetingPlan, by_model: np.ndarray, best: int) -> np.ndarray:
    """The best single offer to those of whom most is expected without any: as many as the model picks, in the "
    "limits."""
    judged, offers, options = plan.judged, plan.judged_offers, plan.policy.options
    assert judged is not None
    assert offers is not None
    worth = judged.predictions.mean[:, 0].astype(np.float64) @ np.abs(plan.policy.money.value)
    order = np.argsort(-worth, kind="stable")[: int((by_model > 0).sum())]
    if options.caps and plan.arms[best] in options.caps:
        order = order[: int(options.caps[plan.arms[best]] * plan.scale)]
    if options.budget is not None:
        order = order[np.cumsum(offers.cost[order, best - 1]) <= options.budget * plan.scale]
    arm = np.zeros(len(judged), np.int64)
    arm[order] = best
    return arm


def _offer_scores(plan: TargetingPlan, a: int) -> OfferScores:
    judged, main, options = plan.judged, plan.policy.money.main, plan.policy.options
    assert judged is not None
    p = judged.predictions
    good = float(np.sign(plan.policy.money.value[main]))
    effect = good * p.effect[:, a, main].astype(np.float64)
    observed = good * (judged.main[:, a + 1] - judged.main[:, 0])
    two = (p.treatment == 0) | (p.treatment == a + 1)
    treated, outcome = (p.treatment[two] == a + 1).astype(np.int64), good * p.outcome[two, main]
    binary = p.kinds[main] == "binary" and good > 0
    arms = [outcome[treated == 1], outcome[treated == 0]]
    detectable = minimum_detectable_effect(
        len(arms[0]),
        len(arms[1]),
        sd=(float(arms[0].std()), float(arms[1].std())),
        level=options.level,
        power=options.power,
    )
    expected = p.mean[:, 0, main].astype(np.float64)
    moves = effect.std() > 0 and expected.std() > 0
    return OfferScores(
        plan.arms[a + 1],
        average_effect(observed, p.weight),
        detectable,
        autoc(effect, observed, p.weight),
        (qini_sklift if binary else qini_raw)(effect[two], treated, outcome, weight=p.weight[two]),
        uplift_at_k(effect[two], treated, outcome, 0.3, weight=p.weight[two], ties="shared"),
        float(np.corrcoef(effect, expected)[0, 1]) if moves else float("nan"),
        calibration_error(effect, observed, weight=p.weight).absolute,
        calibration_line(effect, observed, p.weight).slope,
    )


def policy_table(verdict: Verdict) -> pd.DataFrame:
    """One row per policy; money per 1,000 customers."""
    import pandas as pd

    rows = []
    for p in verdict.policies:
        (low, high), (beyond_low, beyond_high) = verdict.bounds(p.value), verdict.bounds(p.beyond)
        rows.append(
            {
                "policy": p.name,
                "kind": p.kind,
                "offer": p.offer,
                "best_single": p.best,
                "treated_share": p.share,
                "cost_per_1000": p.cost,
                "net_value_per_1000": p.value.value,
                "standard_error": p.value.standard_error,
                "low": low,
                "high": high,
                "beyond_best_single": p.beyond.value,
                "beyond_standard_error": p.beyond.standard_error,
                "beyond_low": beyond_low,
                "beyond_high": beyond_high,
            }
        )
    return pd.DataFrame(rows)


def score_table(verdict: Verdict) -> pd.DataFrame:
    """One row per offer: how well its effects are known."""
    import pandas as pd

    rows = []
    for s in verdict.offers:
        average_low, average_high = verdict.bounds(s.average)
        autoc_low, autoc_high = verdict.bounds(s.autoc)
        rows.append(
            {
                "offer": s.offer,
                "average_effect": s.average.value,
                "average_low": average_low,
                "average_high": average_high,
                "minimum_detectable_effect": s.detectable,
                "autoc": s.autoc.value,
                "autoc_low": autoc_low,
                "autoc_high": autoc_high,
                "qini": s.qini,
                "uplift_at_30": s.at_30,
                "correlation_with_outcome": s.correlation,
                "calibration_error": s.calibration,
                "calibration_slope": s.slope.value,
                "calibration_slope_se": s.slope.standard_error,
            }
        )
    return pd.DataFrame(rows)
