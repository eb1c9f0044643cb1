"""What a user may ask of propensity scores, checked as far as that goes without the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from wanamaker.decisions.budget_options import number, positions
from wanamaker.decisions.targeting_options import split_names, whole_number
from wanamaker.errors import UserError
from wanamaker.predictions import PropensityPredictions

PROFIT, BASE_RATE, CONSTANT = "profit", "base_rate", "constant"
RULES = (PROFIT, BASE_RATE, CONSTANT, "otsu", "yen", "isodata", "kmeans")
AMOUNT_RULES = (PROFIT, BASE_RATE)  # the others split scores between 0 and 1
NET = "net_value"
PROBABILITIES = ("binary", "hazard")


@dataclass(frozen=True)
class PropensityOptions:
    """The question.

    Attributes:
        target: splits whose customers are scored, or "all".
        evaluate_on: splits whose outcomes judge; None: test rows, else validation, else training rows.
        rank_by: task by whose score customers are sorted, or "net_value"; None: net value where `value` is given, else
            the first task.
        threshold: from which score of `rank_by` on a customer is contacted: a rule of `RULES` or a number; or {task:
            rule or number}. None: where contacting pays by what is expected, if `value` is given; else from the mean
            on, unless `top` alone decides.
        top: contact at most the first so many customers; below 1 the share of them.
        value: money that a contact brings per unit of a task's outcome: {churn: 120} for each customer who would have
            left, {ltv: 0.1} for each unit of the amount. A number alone is that of the first task.
        cost: money per contact.
        money_unit: word for tables and figures; None takes the unit of the first amount that has a value.
        segment_by: trait (categorical feature) whose values survival is compared by; None: fifths of predicted risk.
        level: of the intervals of scores, in (0, 1).
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: an option out of its range.
    """

    target: str | Sequence[str] = "all"
    evaluate_on: str | Sequence[str] | None = None
    rank_by: str | None = None
    threshold: Any = None
    top: float | None = None
    value: Any = None
    cost: float = 0.0
    money_unit: str | None = None
    segment_by: str | None = None
    level: float = 0.9
    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", split_names(self.target, "target"))
        if self.evaluate_on is not None:
            object.__setattr__(self, "evaluate_on", split_names(self.evaluate_on, "evaluate_on"))
        thresholds = self.threshold if isinstance(self.threshold, Mapping) else {None: self.threshold}
        for task, rule in thresholds.items():
            place = "decision.threshold" + (f".{task}" if task is not None else "")
            if isinstance(rule, str) and rule not in RULES:
                raise UserError(f"{place}={rule!r}: choose from {', '.join(RULES)}, or give a number.")
            if rule is not None and not isinstance(rule, str):
                number(rule, place)
        if self.top is not None and not (
            0 < number(self.top, "decision.top") < 1 or (self.top >= 1 and self.top == int(self.top))
        ):
            raise UserError(
                f"decision.top={self.top:g}: a whole number of customers, or a share of them between 0 and 1."
            )
        if isinstance(self.value, Mapping):
            for task, money in self.value.items():
                number(money, f"decision.value.{task}")
            if not any(money > 0 for money in self.value.values()):
                raise UserError(
                    f"decision.value={dict(self.value)!r} names no task that is worth something; null leaves money out."
                )
        elif self.value is not None and number(self.value, "decision.value") <= 0:
            raise UserError(
                f"decision.value={self.value:g}: a contact that brings nothing never pays; null leaves money out."
            )
        if number(self.cost, "decision.cost") < 0:
            raise UserError(f"decision.cost={self.cost:g}: money per contact, 0 or more.")
        if self.cost and self.value is None:
            raise UserError(
                f"decision.cost={self.cost:g} without decision.value: say what a contact brings too, such as "
                "decision.value={churn: 120}."
            )
        if not 0 < number(self.level, "decision.level") < 1:
            raise UserError(f"decision.level={self.level:g} must lie between 0 and 1.")
        whole_number(self.draws, "decision.draws", 2)
        whole_number(self.seed, "decision.seed", 0)

    def to_dict(self) -> dict[str, Any]:
        """What is set, to be shown."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) not in (None, (), {})}


@dataclass(frozen=True)
class Question:
    """The options, in terms of the predictions at hand.

    Attributes:
        options: as given.
        money: {index of a task: money per unit of its outcome}; empty where money is left out.
        lead: index of the task by whose score customers are sorted, and whose threshold decides.
        by_net: whether they are sorted by net value instead.
        thresholds: {index of a task: rule or number}, those that were given.
        unit: of money.
        notes: what the reader has to be told about how this came about.
    """

    options: PropensityOptions
    money: Mapping[int, float]
    lead: int
    by_net: bool
    thresholds: Mapping[int, str | float]
    unit: str
    notes: tuple[str, ...] = ()


def ask(predictions: PropensityPredictions, options: PropensityOptions) -> Question:
    """Fit the options to the predictions.

    Raises:
        UserError: a task or a trait that the predictions have not, or a rule that does not suit its task.
    """
    tasks = predictions.tasks
    value = options.value if isinstance(options.value, Mapping) else {}
    if options.value is not None and not value:
        value = {tasks[0]: options.value}
    money = {_task(predictions, t, "decision.value"): float(m) for t, m in value.items() if m}
    by_net = options.rank_by == NET or (options.rank_by is None and bool(money))
    if by_net and not money:
        raise UserError("decision.rank_by=net_value needs decision.value, such as decision.value={churn: 120}.")
    named = options.rank_by if options.rank_by not in (None, NET) else None
    lead = _task(predictions, named, "decision.rank_by") if named else min(money, default=0)
    given = options.threshold if isinstance(options.threshold, Mapping) else {tasks[lead]: options.threshold}
    thresholds = {
        _task(predictions, task, "decision.threshold"): rule for task, rule in given.items() if rule is not None
    }
    for t, rule in thresholds.items():
        place = f"decision.threshold={rule!r}"
        if predictions.kinds[t] not in PROBABILITIES and isinstance(rule, str) and rule not in AMOUNT_RULES:
            raise UserError(f"{place} is for probabilities; {tasks[t]} is an amount: give a number, or base_rate.")
        if predictions.kinds[t] in PROBABILITIES and not isinstance(rule, str) and not 0 <= rule <= 1:
            raise UserError(f"{place}: {tasks[t]} is a probability; give a number from 0 to 1, such as 0.3.")
        if predictions.kinds[t] == "value" and not isinstance(rule, str) and rule < 0:
            raise UserError(
                f"{place}: {tasks[t]} is an amount of 0 or more, so that nobody is below; give one above 0."
            )
        if rule == PROFIT and not money.get(t, 0) > 0:
            raise UserError(f"{place} needs decision.value of {tasks[t]} above 0, and decision.cost.")
    if options.segment_by is not None:
        positions(options.segment_by, predictions.trait_names, "decision.segment_by", "trait (categorical feature)")
        if "hazard" not in predictions.kinds:
            raise UserError(
                f"decision.segment_by={options.segment_by} compares survival, which no task of the model is about"
                f" ({', '.join(tasks)}): leave it out."
            )
    notes = []
    unit = options.money_unit or next((predictions.units[t] for t in money if _is_amount(predictions, t)), "")
    if money and not unit:
        unit = "money"
        notes.append("The unit of money is not known; decision.money_unit=EUR names it.")
    return Question(options, money, lead, by_net, thresholds, unit, tuple(notes))


def _is_amount(predictions: PropensityPredictions, t: int) -> bool:
    return predictions.kinds[t] not in PROBABILITIES and bool(predictions.units[t])


def _task(predictions: PropensityPredictions, name: Any, place: str) -> int:
    return positions(name, predictions.tasks, place, "task")[0]
