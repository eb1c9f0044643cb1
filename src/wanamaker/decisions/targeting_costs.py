"""What an offer brings and costs, in money: values of outcomes, costs per contact, per redemption and in per cent.

Both are linear in the outcomes. An offer a is worth ``sum_y value_y Y_y(a) - contact_a - sum_y rate_ay Y_y(a)``, where
Y(a) are a customer's outcomes under it. So the same weights turn expected outcomes into expected money, and doubly
robust scores of outcomes into doubly robust scores of money. A redemption is paid for everybody who redeems, also for
those who would have bought anyway: that is why ``rate`` multiplies the outcome under the offer and not the effect.

Axis letters: N customers, K arms (number 0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.decisions.budget_options import nearest, number
from wanamaker.errors import UserError
from wanamaker.predictions import UpliftPredictions

_PARTS = ("per_contact", "per_redemption", "percent")


@dataclass(frozen=True)
class Money:
    """Value of outcomes and cost of offers.

    Attributes:
        value: [Y], money per unit of the outcome.
        contact: [A], money per customer who gets the offer.
        rate: [A, Y], money per unit of the outcome under the offer: of a redemption, or the share of an amount.
        unit: of money, for tables and figures.
        notes: what the reader has to be told about how these numbers came about.
    """

    value: np.ndarray
    contact: np.ndarray
    rate: np.ndarray
    unit: str
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> int:
        """Number of the first outcome that has a value."""
        return int(np.flatnonzero(self.value)[0])

    @property
    def free(self) -> bool:
        """Whether no offer costs anything."""
        return not self.contact.any() and not self.rate.any()

    def cost(self, predictions: UpliftPredictions) -> np.ndarray:
        """Expected cost [N, A] of each offer: money, never negative.

        Expected outcomes below 0 (a linear outcome model can give them) count as 0.
        """
        if not self.rate.any():
            return np.broadcast_to(self.contact, (len(predictions), len(self.contact))).copy()
        under = np.maximum(predictions.mean[:, 1:].astype(np.float64), 0.0)  # [N, A, Y]
        return self.contact + np.einsum("nay,ay->na", under, self.rate)

    def gross(self, predictions: UpliftPredictions) -> np.ndarray:
        """Expected value [N, A] of each offer's effects, before its cost: money."""
        return predictions.effect.astype(np.float64) @ self.value

    def spread(self, predictions: UpliftPredictions) -> np.ndarray:
        """Distance [N, A] from `gross` down to its lower bound at the level of the intervals: money.

        Several outcomes move together at worst, so their distances add up: an upper bound.
        """
        effect = predictions.effect.astype(np.float64)
        down = np.where(self.value > 0, effect - predictions.low, predictions.high - effect)
        return np.maximum(down, 0.0) @ np.abs(self.value)

    def net_scores(self, scores: Sequence[np.ndarray | None]) -> np.ndarray:
        """Scores [N, K] of the net money of each arm, from the scores [N, K] of each outcome (None: not needed)."""
        return self._weigh(scores, np.vstack([self.value, self.value - self.rate]), -1.0)

    def cost_scores(self, scores: Sequence[np.ndarray | None]) -> np.ndarray:
        """Scores [N, K] of the cost of each arm, as `net_scores`; the control costs nothing."""
        return self._weigh(scores, np.vstack([np.zeros_like(self.value), self.rate]), 1.0)

    def needs(self, outcome: int) -> bool:
        """Whether the outcome enters value or cost."""
        return bool(self.value[outcome] != 0 or self.rate[:, outcome].any())

    def _weigh(self, scores: Sequence[np.ndarray | None], weight: np.ndarray, sign: float) -> np.ndarray:
        given = next(s for s in scores if s is not None)
        total = np.tile(sign * np.concatenate([[0.0], self.contact]), (len(given), 1))
        for y, score in enumerate(scores):
            if self.needs(y):
                assert score is not None, "a score for every outcome that is needed"
                total += weight[:, y] * score
        return total


def money_of(predictions: UpliftPredictions, value: Any, costs: Any, unit: str | None = None) -> Money:
    """Read `decision.value` and `decision.costs` against the names of the predictions.

    Args:
        predictions: name arms, outcomes, their kinds and units.
        value, costs, unit: see `wanamaker.decisions.targeting_options.TargetingOptions`.

    Raises:
        UserError: an outcome without value where it must have one; an arm without cost, or a cost without arm; a cost
            per redemption of an amount, or a share of something that is no amount.
    """
    notes: list[str] = []
    values = _values(predictions, value, notes)
    offers, Y = predictions.arms[1:], len(predictions.outcomes)
    contact, rate = np.zeros(len(offers)), np.zeros((len(offers), Y))
    if costs is None:
        observed = (
            " The data hold a cost column: its means per offer would be a start." if _has_cost(predictions) else ""
        )
        notes.append(f"No costs are given (decision.costs): every offer counts as free.{observed}")
    else:
        _check_arms(predictions, costs)
        for a, offer in enumerate(offers):
            contact[a], rate[a] = _cost_of(costs[offer], f"decision.costs.{offer}", predictions)
    return Money(values, contact, rate, unit or _unit(predictions, values, value), tuple(notes))


def _values(predictions: UpliftPredictions, value: Any, notes: list[str]) -> np.ndarray:
    outcomes = predictions.outcomes
    example = ", ".join(f"{name}: 1.0" for name in outcomes)
    if value is None or isinstance(value, int | float):
        if len(outcomes) > 1:
            raise UserError(
                f"decision.value={'null' if value is None else value}: there are {len(outcomes)} outcomes, so say what "
                f"a unit of each is worth in money, such as decision.value={{{example}}}; an outcome left out is "
                "worth 0."
            )
        if value is None:
            notes.append(f"No value is given (decision.value): one unit of {outcomes[0]} counts as 1.")
        value = {outcomes[0]: 1.0 if value is None else value}
    for name in value:
        if name not in outcomes:
            raise UserError(
                f"decision.value names the outcome {name!r}{nearest(name, outcomes)}; the model knows "
                f"{', '.join(outcomes)}."
            )
    values = np.array([number(value.get(name, 0.0), f"decision.value.{name}") for name in outcomes])
    if not values.any():
        raise UserError("decision.value gives every outcome the value 0: at least one must be worth something.")
    left_out = [name for name in outcomes if name not in value]
    if left_out:
        notes.append(f"Worth nothing, because decision.value leaves it out: {', '.join(left_out)}.")
    return values


def _check_arms(predictions: UpliftPredictions, costs: Any) -> None:
    control, offers = predictions.arms[0], predictions.arms[1:]
    for name in costs:
        if name not in predictions.arms:
            raise UserError(
                f"decision.costs names the arm {name!r}{nearest(name, offers)}, which the model does not know; it "
                f"knows {', '.join(offers)}. Correct the name or take it out of decision.costs."
            )
    missing = [offer for offer in offers if offer not in costs]
    if missing:
        given = ", ".join(f"{name}: {entry}" for name, entry in costs.items())
        added = ", ".join(f"{name}: 0.0" for name in missing)
        raise UserError(
            f"decision.costs lacks {', '.join(map(repr, missing))}: every offer of the data needs a cost, 0 where it "
            f"is free. Write decision.costs={{{', '.join(part for part in (given, added) if part)}}}."
        )
    if costs.get(control) not in (None, 0, 0.0):
        raise UserError(
            f"decision.costs.{control}={costs[control]!r}: {control!r} is the control, and what offers bring is "
            "measured against it. Take it out, and give the offers their cost beyond it."
        )


def _cost_of(entry: Any, place: str, predictions: UpliftPredictions) -> tuple[float, np.ndarray]:
    """Money per contact, and per unit of each outcome [Y]."""
    rate = np.zeros(len(predictions.outcomes))
    if not isinstance(entry, Mapping):
        return _amount(entry, place), rate
    for key in entry:
        if key not in _PARTS:
            raise UserError(f"{place} has the part {key!r}{nearest(key, _PARTS)}; it knows {', '.join(_PARTS)}.")
    for part in ("per_redemption", "percent"):
        given = {} if entry.get(part) is None else entry[part]
        if not isinstance(given, Mapping):
            raise UserError(
                f"{place}.{part}={given!r}: name the outcome it goes with, such as "
                f"{{{predictions.outcomes[0]}: {given}}}."
            )
        for name, cost in given.items():
            if name not in predictions.outcomes:
                raise UserError(
                    f"{place}.{part} names the outcome {name!r}{nearest(name, predictions.outcomes)}; the model knows "
                    f"{', '.join(predictions.outcomes)}."
                )
            y, where = predictions.outcomes.index(name), f"{place}.{part}.{name}"
            binary = predictions.kinds[y] == "binary"
            rate[y] += _amount(cost, where)
            if part == "per_redemption" and not binary:
                raise UserError(
                    f"{where}={cost}: {name!r} is an amount, it does not happen or not. A share of it is written as "
                    f"percent: {{{name}: 0.1}}; a redemption needs a binary outcome."
                )
            if part == "percent" and binary:
                raise UserError(
                    f"{where}={cost}: {name!r} is not an amount but happens or not. Money each time it happens is "
                    f"written as per_redemption: {{{name}: {cost}}}."
                )
            if part == "percent" and cost > 1:
                raise UserError(f"{where}={cost}: a share from 0 to 1. Write {cost / 100:g} for {cost:g} per cent.")
    return _amount(0.0 if entry.get("per_contact") is None else entry["per_contact"], f"{place}.per_contact"), rate


def _amount(value: Any, place: str) -> float:
    cost = number(value, place)
    if cost < 0:
        raise UserError(
            f"{place}={cost:g}: a cost is money paid, 0 or more. What an offer brings goes in decision.value."
        )
    return cost


def _has_cost(predictions: UpliftPredictions) -> bool:
    return bool(np.isfinite(predictions.cost).any())


def _unit(predictions: UpliftPredictions, values: np.ndarray, given: Any) -> str:
    """The word for money where the user gives none; the outcome itself where one unit of it counts as 1."""
    worth = np.flatnonzero(values)
    if given is None or (len(worth) == 1 and values[worth[0]] == 1):
        return predictions.units[worth[0]] or predictions.outcomes[worth[0]]
    known = [unit for unit, worth in zip(predictions.units, values, strict=True) if unit and worth]
    return known[0] if known else "money"
