"""Whom to treat, with which offer: the audience of the highest net value within the limits.

Axis letters: N customers, A offers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.targeting_budget import Assignment
from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.decisions.targeting_policy import Offers, Policy, learn_policy
from wanamaker.decisions.targeting_scores import ScoredRows, score_rows, splits_to_judge
from wanamaker.errors import UserError
from wanamaker.predictions import UpliftPredictions
from wanamaker.predictions.uplift import SPLITS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TargetingPlan:
    """The audience, and the rows that judge it.

    Attributes:
        policy: how offers are given.
        customers: predictions of those who may get an offer.
        offers: what offers are worth to them.
        assignment: who gets what.
        judged: rows with known outcomes; None where there are none, so that nothing can be checked.
        judged_offers: what offers are worth to these.
    """

    policy: Policy
    customers: UpliftPredictions
    offers: Offers
    assignment: Assignment
    judged: ScoredRows | None
    judged_offers: Offers | None

    @property
    def scale(self) -> float:
        """Judged rows per customer of the audience's pool: limits are shrunk or stretched by this."""
        return 0.0 if self.judged is None else len(self.judged) / len(self.customers)

    @property
    def unit(self) -> str:
        """Of money."""
        return self.policy.money.unit

    @property
    def arms(self) -> tuple[str, ...]:
        """K names; the first is the control."""
        return self.policy.arms


def plan_targeting(predictions: UpliftPredictions, options: TargetingOptions) -> TargetingPlan:
    """Find the audience.

    Raises:
        UserError: the question does not fit the predictions, or names customers that are not there.
    """
    judging = splits_to_judge(predictions, options.evaluate_on)
    policy = learn_policy(predictions, options, judging)
    wanted = np.isin(predictions.split, [SPLITS.index(name) for name in options.target])
    if not wanted.any():
        present = ", ".join(SPLITS[n] for n in np.unique(predictions.split))
        raise UserError(
            f"decision.target={list(options.target)}: no customer is in these splits; there are customers in {present}."
        )
    customers = predictions if wanted.all() else predictions.select(wanted)
    offers = policy.offers(customers)
    judged = score_rows(predictions, policy.money, judging) if judging else None
    judged_offers = None if judged is None else policy.offers(judged.predictions)
    return TargetingPlan(policy, customers, offers, policy.assign(offers), judged, judged_offers)


def audience_table(plan: TargetingPlan) -> pd.DataFrame:
    """One row per customer who gets an offer, the highest net value first.

    Columns: id, offer, effect with low and high (first outcome that has a value, its unit), net_value with net_low and
    net_high, cost (money); with several outcomes effect_<outcome> of each.
    """
    import pandas as pd

    p, arm = plan.customers, plan.assignment.arm
    rows = np.flatnonzero(arm)
    rows = rows[np.argsort(-plan.offers.net[rows, arm[rows] - 1], kind="stable")]
    offer, main = arm[rows] - 1, plan.policy.money.main
    columns = {
        "id": p.id[rows],
        "offer": np.array(plan.arms[1:], dtype=object)[offer],
        "effect": p.effect[rows, offer, main].astype(np.float64),
        "low": p.low[rows, offer, main].astype(np.float64),
        "high": p.high[rows, offer, main].astype(np.float64),
        "net_value": plan.offers.net[rows, offer],
        "net_low": plan.offers.low[rows, offer],
        "net_high": plan.offers.high[rows, offer],
        "cost": plan.offers.cost[rows, offer],
    }
    if len(p.outcomes) > 1:
        columns |= {f"effect_{name}": p.effect[rows, offer, y].astype(np.float64) for y, name in enumerate(p.outcomes)}
    return pd.DataFrame(columns)


def offer_table(plan: TargetingPlan) -> pd.DataFrame:
    """One row per offer: to how many it goes, what it costs and is expected to bring; and to all if sent to all."""
    import pandas as pd

    arm, offers, policy = plan.assignment.arm, plan.offers, plan.policy
    rows = []
    for a, name in enumerate(plan.arms[1:]):
        got = arm == a + 1
        rows.append(
            {
                "offer": name,
                "customers": int(got.sum()),
                "share": float(got.mean()),
                "cost": float(offers.cost[got, a].sum()),
                "net_value": float(offers.net[got, a].sum()),
                "net_value_each": float(offers.net[got, a].mean()) if got.any() else np.nan,
                "allowed": int(offers.allowed[:, a].sum()),
                "mean_net_to_all": float(policy.mean[a]),
                "mean_net_to_all_se": float(policy.mean_se[a]),
                "cost_per_contact_to_all": float(offers.cost[:, a].mean()),
            }
        )
    return pd.DataFrame(rows)
