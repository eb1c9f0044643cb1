"""What a user may ask of targeting, checked as far as that goes without the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from wanamaker.decisions.budget_options import number
from wanamaker.errors import UserError

SPLIT_NAMES = ("train", "val", "test", "none")
TOLERANCE_OF = ("net", "effect")


@dataclass(frozen=True)
class TargetingOptions:
    """The question.

    Attributes:
        value: {outcome: money per unit}; outcomes not named are worth nothing. None: 1 per unit, if there is one.
        money_unit: word for tables and figures; None takes the unit of the first outcome that has one and a value.
        costs: {offer: money per contact, or {per_contact, per_redemption: {outcome: money}, percent: {outcome: share}}}
            for every offer; None: offers cost nothing.
        budget: expected money that the audience may cost; None is no limit.
        max_clients: customers in the audience; None is no limit.
        caps: {offer: customers}; offers not named have no cap.
        tolerance: an offer goes only to customers for whom it brings more than this ...
        tolerance_of: ... in "net" value (money), or in the "effect" on the first outcome that has a value (its unit).
        abstain: only where this quantile of the net value, such as 0.1, is above the tolerance too; None: the mean.
        shrinkage: 0 trusts each customer's own prediction, 1 only the mean of each offer, "auto" asks the training
            rows.
        evaluate_on: splits whose outcomes judge the policy; None: test rows, else validation, else training rows.
        target: splits whose customers make the audience, or "all".
        level: of the intervals, in (0, 1).
        power: probability to find an effect, of the minimum detectable effect and of the size of the next test.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: an option out of its range.
    """

    value: Mapping[str, float] | float | None = None
    money_unit: str | None = None
    costs: Mapping[str, Any] | None = None
    budget: float | None = None
    max_clients: int | None = None
    caps: Mapping[str, Any] | None = None
    tolerance: float = 0.0
    tolerance_of: str = "net"
    abstain: float | None = None
    shrinkage: float | str = "auto"
    evaluate_on: str | Sequence[str] | None = None
    target: str | Sequence[str] = "all"
    level: float = 0.9
    power: float = 0.8
    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tolerance", "level", "power"):
            object.__setattr__(self, name, number(getattr(self, name), f"decision.{name}"))
        if self.budget is not None and number(self.budget, "decision.budget") <= 0:
            raise UserError(f"decision.budget={self.budget:g}: a budget is money above 0; null is no limit.")
        if self.max_clients is not None:
            whole_number(self.max_clients, "decision.max_clients", 1)
        if self.tolerance < 0 and self.tolerance_of == "net":
            raise UserError(
                f"decision.tolerance={self.tolerance:g}: a net value of 0 or more; an offer that brings less than it "
                "costs is never given. Give decision.value what such a contact is worth, or leave the tolerance at 0."
            )
        for name in ("value", "costs", "caps"):
            mapping = getattr(self, name)
            if mapping is None or (name == "value" and isinstance(mapping, int | float)):
                continue
            if not isinstance(mapping, Mapping):
                raise UserError(f"decision.{name}={mapping!r}: write a mapping, such as {_EXAMPLES[name]}.")
            object.__setattr__(self, name, {str(key): entry for key, entry in mapping.items()})
        for offer, cap in (self.caps or {}).items():
            whole_number(cap, f"decision.caps.{offer}", 0)
        if self.tolerance_of not in TOLERANCE_OF:
            raise UserError(f"decision.tolerance_of={self.tolerance_of!r}: choose from {', '.join(TOLERANCE_OF)}.")
        if self.abstain is not None and not 0 < number(self.abstain, "decision.abstain") <= 0.5:
            raise UserError(
                f"decision.abstain={self.abstain:g}: a lower quantile in (0, 0.5], such as 0.1; null decides by the "
                "mean."
            )
        if self.shrinkage != "auto" and not 0 <= number(self.shrinkage, "decision.shrinkage") <= 1:
            raise UserError(f"decision.shrinkage={self.shrinkage!r}: a number from 0 to 1, or auto.")
        for name in ("level", "power"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"decision.{name}={getattr(self, name):g} must lie between 0 and 1.")
        whole_number(self.draws, "decision.draws", 2)
        whole_number(self.seed, "decision.seed", 0)
        object.__setattr__(self, "target", split_names(self.target, "target"))
        if self.evaluate_on is not None:
            object.__setattr__(self, "evaluate_on", split_names(self.evaluate_on, "evaluate_on"))

    @property
    def limited(self) -> bool:
        """Whether the number of customers or the money is limited."""
        return self.budget is not None or self.max_clients is not None or bool(self.caps)

    def to_dict(self) -> dict[str, Any]:
        """What is set, to be shown."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) not in (None, (), {})}


_EXAMPLES = {
    "value": "{conversion: 20, spend: 0.4}",
    "costs": "{coupon: {per_contact: 0.1, per_redemption: {conversion: 5}}}",
    "caps": "{coupon: 10000}",
}


def whole_number(value: Any, place: str, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{place}={value!r}: a whole number, {least} or more.")


def split_names(value: str | Sequence[str], name: str) -> tuple[str, ...]:
    """Names of splits, in their usual order; "all" is every one.

    Raises:
        UserError: no name, or one that is no split.
    """
    names = (value,) if isinstance(value, str) else tuple(value)
    for split in names:
        if split not in ("all", *SPLIT_NAMES):
            raise UserError(f"decision.{name} names {split!r}; choose from all, {', '.join(SPLIT_NAMES)}.")
    if not names:
        raise UserError(f"decision.{name} is empty; choose from all, {', '.join(SPLIT_NAMES)}.")
    return tuple(split for split in SPLIT_NAMES if split in names or "all" in names)
