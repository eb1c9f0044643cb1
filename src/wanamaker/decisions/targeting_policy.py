"""The policy: for any customers, what each offer is worth, whom it may go to, and who gets which within the limits.

Individual predictions are noisy. Shrinkage s moves each customer's net value of an offer towards the offer's mean m:
``s m + (1 - s) net``, so that s = 1 sends everyone the best single offer and s = 0 trusts the model. At 1 the
model's values still break ties: where not everyone can get the offer, it does not go to whoever stands first in the
table. The means, and s
where it is "auto", come from training rows (predicted by members that never saw them), never from rows that judge.

Axis letters: N customers, A offers, K = A + 1 arms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from wanamaker.decisions.targeting_budget import Assignment, assign_offers
from wanamaker.decisions.targeting_costs import Money, money_of
from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.decisions.targeting_scores import ScoredRows, score_rows
from wanamaker.errors import UserError
from wanamaker.metrics.doubly_robust import average_effect
from wanamaker.predictions import UpliftPredictions

SHRINKAGES = tuple(n / 10 for n in range(11))
_ALL_BUT_TIES = 1 - 1e-6


class Offers(NamedTuple):
    """What offers are worth to customers.

    Attributes:
        net: [N, A], net value after shrinkage, money.
        low, high: [N, A], its interval at the level of the predictions.
        cost: [N, A], expected cost, money.
        allowed: bool [N, A], above the tolerance (and sure enough, with `abstain`).
    """

    net: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cost: np.ndarray
    allowed: np.ndarray


@dataclass(frozen=True)
class Policy:
    """How offers are given.

    Attributes:
        money: values and costs.
        options: the question.
        arms: K names.
        mean, mean_se: [A], net value of each offer to everybody, with its standard error: money per customer.
        shrinkage: from 0 to 1.
        best: the offer with the highest `mean`, number of the arm from 1.
        learnt_from: the splits that `mean` and `shrinkage` were learnt from; () for the model's own means.
        path: (shrinkage, net value per customer, standard error) of every shrinkage tried.
        notes: what the reader has to be told.
    """

    money: Money
    options: TargetingOptions
    arms: tuple[str, ...]
    mean: np.ndarray
    mean_se: np.ndarray
    shrinkage: float
    best: int
    learnt_from: tuple[str, ...]
    path: tuple[tuple[float, float, float], ...] = ()
    notes: tuple[str, ...] = ()

    def offers(self, predictions: UpliftPredictions) -> Offers:
        """Net values of N customers; offers that `Offers.allowed` forbids go to nobody."""
        options, s = self.options, min(self.shrinkage, _ALL_BUT_TIES)
        cost = self.money.cost(predictions)
        own = self.money.gross(predictions) - cost
        net = s * self.mean + (1 - s) * own
        z = NormalDist().inv_cdf((1 + predictions.level) / 2)
        down = (1 - s) * self.money.spread(predictions) + s * z * self.mean_se
        up = (1 - s) * replace(self.money, value=-self.money.value).spread(predictions) + s * z * self.mean_se
        threshold = net if options.tolerance_of == "net" else self._main_effect(predictions)
        allowed = threshold > options.tolerance
        if options.tolerance_of == "effect":
            allowed &= net > 0
        if options.abstain is not None:
            sure = net + NormalDist().inv_cdf(options.abstain) / z * down
            allowed &= sure > (options.tolerance if options.tolerance_of == "net" else 0.0)
        return Offers(net, net - down, net + up, cost, allowed)

    def assign(self, offers: Offers, scale: float = 1.0, *, limited: bool = True) -> Assignment:
        """Who gets what.

        Args:
            offers: of N customers.
            scale: budget, caps and the number of customers are times this: N over the customers they are meant for.
            limited: keep them at all.
        """
        options = self.options
        value = np.where(offers.allowed, offers.net, -np.inf)
        if not limited or not options.limited:
            return assign_offers(value, offers.cost)
        caps = None
        if options.caps:
            caps = np.array([options.caps.get(arm, np.inf) for arm in self.arms[1:]], np.float64)
            caps = np.where(np.isfinite(caps), np.floor(caps * scale + 1e-9), np.inf)
        budget = None if options.budget is None else options.budget * scale
        clients = None if options.max_clients is None else max(1, int(options.max_clients * scale + 1e-9))
        return assign_offers(value, offers.cost, budget, clients, caps)

    def _main_effect(self, predictions: UpliftPredictions) -> np.ndarray:
        """Effect [N, A] on the first outcome that has a value; good is positive."""
        main = self.money.main
        return predictions.effect[:, :, main] * np.sign(self.money.value[main])


def read_question(predictions: UpliftPredictions, options: TargetingOptions) -> Money:
    """Read the question against the names of the predictions, whose rows are not looked at: there may be none.

    Raises:
        UserError: values, costs or caps do not fit the predictions.
    """
    money = money_of(predictions, options.value, options.costs, options.money_unit)
    if options.budget is not None and money.free:
        raise UserError(
            f"decision.budget={options.budget:g} limits nobody, because no offer costs anything: say in decision.costs "
            f"what a contact costs, such as {{{', '.join(f'{arm}: 0.5' for arm in predictions.arms[1:])}}}, or limit "
            "the customers with decision.max_clients."
        )
    for name in options.caps or {}:
        if name not in predictions.arms[1:]:
            raise UserError(
                f"decision.caps names the offer {name!r}, which the model does not know; it knows "
                f"{', '.join(predictions.arms[1:])}."
            )
    return money


def learn_policy(predictions: UpliftPredictions, options: TargetingOptions, judging: tuple[str, ...] = ()) -> Policy:
    """Read the question against the predictions, and learn what has to be learnt from training rows.

    Args:
        predictions: all of them.
        options: the question.
        judging: splits that judge the policy; nothing is learnt from their outcomes, unless there are no others.

    Raises:
        UserError: values, costs or caps do not fit the predictions.
    """
    money = read_question(predictions, options)
    rows = score_rows(predictions, money, [name for name in ("train", "val") if name not in judging])
    notes = list(money.notes)
    if rows is None and set(judging) & {"train", "val"}:
        rows = score_rows(predictions, money, judging)
        notes.append(
            f"The best single offer and the shrinkage are learnt from the same {' and '.join(judging)} rows that "
            "judge the policies, because there are no other rows with known outcomes: both look a little better than "
            "they are."
        )
    if rows is None:
        own = money.gross(predictions) - money.cost(predictions)
        moments = [average_effect(own[:, a], predictions.weight) for a in range(own.shape[1])]
        notes.append(
            "There are no training rows with known outcomes among the predictions: the best single offer is the one "
            "that the model itself likes best."
        )
        splits: tuple[str, ...] = ()
    else:
        moments = [rows.mean(rows.gain[:, a]) for a in range(1, len(predictions.arms))]
        splits = rows.splits
    mean, error = (np.array(column) for column in zip(*moments, strict=True))
    given = options.shrinkage
    best = int(mean.argmax()) + 1
    policy = Policy(
        money,
        options,
        predictions.arms,
        mean,
        np.nan_to_num(error),
        0.0 if given == "auto" else float(given),
        best,
        splits,
    )
    if given == "auto" and rows is not None:
        policy = _choose_shrinkage(policy, rows)
    elif given == "auto":
        notes.append("decision.shrinkage=auto needs such rows too: the model's values are taken as they are (0).")
    return replace(policy, notes=tuple(notes))


def _choose_shrinkage(policy: Policy, rows: ScoredRows) -> Policy:
    """The shrinkage of the highest value, if that beats sending everyone the best single offer; else 1.

    It has to beat it by more than one standard error, paired by row: the evidence is asked for once, against the simple
    policy, and not again among policies that differ little.
    """
    gains, path = [], []
    for s in SHRINKAGES:
        candidate = replace(policy, shrinkage=s)
        arm = candidate.assign(candidate.offers(rows.predictions), limited=False).arm
        gains.append(rows.picked(arm))
        path.append((s, *rows.mean(gains[-1])))
    top = max(range(len(SHRINKAGES)), key=lambda n: (path[n][1], n))
    difference, error = rows.mean(gains[top] - gains[-1])
    chosen = top if difference > error else len(SHRINKAGES) - 1
    return replace(policy, shrinkage=SHRINKAGES[chosen], path=tuple(path))
