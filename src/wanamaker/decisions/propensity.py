"""Who is likely to, what they are worth, and whom to contact: scores in order, and the rows that judge them.

Axis letters: N customers, T tasks, R reasons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.propensity_options import BASE_RATE, PROBABILITIES, PropensityOptions, Question, ask
from wanamaker.decisions.propensity_reasons import reasons_in_words
from wanamaker.decisions.propensity_rows import (
    TaskRows,
    splits_to_judge,
    splits_to_learn,
    task_rows,
)
from wanamaker.decisions.propensity_thresholds import every_threshold, task_threshold
from wanamaker.errors import UserError
from wanamaker.metrics.thresholds import Threshold
from wanamaker.predictions import PropensityPredictions
from wanamaker.predictions.propensity import SPLITS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PropensityPlan:
    """Customers in order, and the rows that judge it.

    Attributes:
        question: what was asked.
        predictions: all positions.
        customers: the latest position of each customer, those to contact first at the front: [N].
        repeated: earlier positions of the same customers, which are left out of `customers`.
        net: [N], money that contacting each is expected to bring, its cost taken off; None without `value`.
        contact: bool [N].
        thresholds: T; None where nothing decides (a task that is only sorted by).
        rules: T, what every rule says; none for amounts.
        judging, learning: splits that judge, and those that thresholds were found on.
        judged, learned: T, rows of these splits.
    """

    question: Question
    predictions: PropensityPredictions
    customers: PropensityPredictions
    repeated: int
    net: np.ndarray | None
    contact: np.ndarray
    thresholds: tuple[Threshold | None, ...]
    rules: tuple[tuple[Threshold, ...], ...]
    judging: tuple[str, ...]
    learning: tuple[str, ...]
    judged: tuple[TaskRows, ...]
    learned: tuple[TaskRows, ...]

    @property
    def lead(self) -> int:
        """Index of the task that the page is about."""
        return self.question.lead

    @property
    def unit(self) -> str:
        """Of money."""
        return self.question.unit


def plan_propensity(predictions: PropensityPredictions, options: PropensityOptions) -> PropensityPlan:
    """Sort the customers, find thresholds, choose whom to contact.

    Raises:
        UserError: the question does not fit the predictions, or names customers that are not there.
    """
    question = ask(predictions, options)
    judging = splits_to_judge(predictions, options.evaluate_on)
    learning = splits_to_learn(predictions, judging)
    judged = task_rows(predictions, judging)
    learned = judged if learning == judging else task_rows(predictions, learning)
    wanted = np.isin(predictions.split, [SPLITS.index(name) for name in options.target])
    if not wanted.any():
        present = ", ".join(SPLITS[n] for n in np.unique(predictions.split))
        raise UserError(
            f"decision.target={list(options.target)}: no customer is in these splits; there are customers in {present}."
        )
    latest = latest_positions(predictions, wanted)
    pool = predictions.select(latest)
    thresholds = tuple(_threshold(question, pool, learned[t]) for t in range(len(predictions.tasks)))
    rules = tuple(every_threshold(question, pool, rows) if rows.is_probability else () for rows in learned)
    rank = ranking(question, pool.score)
    order = np.argsort(-rank, kind="stable")
    contact = contacted(question, pool.score[order], thresholds)
    return PropensityPlan(
        question,
        predictions,
        _in_order(pool, order),
        int(wanted.sum()) - len(latest),
        net_value(question, pool.score[order]) if question.money else None,
        contact,
        thresholds,
        rules,
        judging,
        learning,
        judged,
        learned,
    )


def latest_positions(predictions: PropensityPredictions, wanted: np.ndarray) -> np.ndarray:
    """Ascending indices of the last position of each customer: latest moment, then most events, then highest row."""
    rows = np.flatnonzero(wanted)
    moment = np.where(np.isnat(predictions.moment), np.datetime64(0, "s"), predictions.moment)[rows]
    _, customer = np.unique(predictions.id[rows], return_inverse=True)
    order = np.lexsort((predictions.row[rows], predictions.events[rows], moment, customer))
    last = np.append(np.diff(customer[order]) != 0, True)
    return np.sort(rows[order[last]])


def net_value(question: Question, score: np.ndarray) -> np.ndarray:
    """[N], money that contacting each customer is expected to bring, from [N, T] scores (or outcomes)."""
    worth = np.zeros(len(score))
    for t, money in question.money.items():
        worth += money * score[:, t].astype(np.float64)
    return worth - question.options.cost


def ranking(question: Question, score: np.ndarray) -> np.ndarray:
    """[N], what customers are sorted by, highest first, from [N, T] scores."""
    return net_value(question, score) if question.by_net else score[:, question.lead].astype(np.float64)


def contacted(
    question: Question, score: np.ndarray, thresholds: tuple[Threshold | None, ...], pool: int | None = None
) -> np.ndarray:
    """bool [N], who is contacted, from [N, T] scores.

    Args:
        question: what was asked.
        score: of the customers at hand.
        thresholds: T.
        pool: customers of the audience's pool, where the ones at hand stand for them: a number of customers in `top`
            is shrunk or stretched accordingly.
    """
    N, rank = len(score), ranking(question, score)
    decides = thresholds[question.lead]
    if question.lead in question.thresholds and decides is not None:
        good = decides.takes(score[:, question.lead])
    elif question.by_net:
        good = rank > 0
    elif decides is not None:
        good = decides.takes(score[:, question.lead])
    else:
        good = np.ones(N, bool)
    top = question.options.top
    if top is not None:
        count = math.ceil(top * N) if top < 1 else math.floor(top * N / (pool or N))
        first = np.zeros(N, bool)
        first[np.argsort(-rank, kind="stable")[:count]] = True
        good = good & first
    return good


def _threshold(question: Question, pool: PropensityPredictions, rows: TaskRows) -> Threshold | None:
    """What was asked for; else the base rate, unless something else decides about this task."""
    rule = question.thresholds.get(rows.task)
    if rule is None and rows.task == question.lead and (question.by_net or question.options.top is not None):
        return None
    if rule is None and pool.kinds[rows.task] not in PROBABILITIES and rows.task != question.lead:
        return None
    return task_threshold(question, pool, rows, BASE_RATE if rule is None else rule)


def _in_order(pool: PropensityPredictions, order: np.ndarray) -> PropensityPredictions:
    """The customers sorted; their `row` is counted anew, because it must ascend."""
    sorted_ = {name: getattr(pool, name)[order] for name in vars(pool) if isinstance(getattr(pool, name), np.ndarray)}
    shared = {name: value for name, value in vars(pool).items() if name not in sorted_}
    return PropensityPredictions(**{**sorted_, "row": np.arange(len(pool))}, **shared)


def score_frame(plan: PropensityPlan) -> pd.DataFrame:
    """One row per customer, in the order in which to contact them.

    Columns: rank, id, moment (where there is one), split, of each task its score with low and high, of a hazard the
    probability by each earlier edge (`<task>_within_<edge>`), of a task with a threshold `<task>_above`, of a task with
    reasons `<task>_reasons`; net_value (money) with net_low and net_high where `value` is given; contact.
    """
    import pandas as pd

    p = plan.customers
    columns: dict[str, Any] = {"rank": np.arange(1, len(p) + 1), "id": p.id}
    if not np.isnat(p.moment).all():
        columns["moment"] = p.moment
    columns["split"] = np.array(SPLITS, dtype=object)[p.split]
    for t, task in enumerate(p.tasks):
        columns[task] = p.score[:, t].astype(np.float64)
        columns |= {f"{task}_low": p.low[:, t].astype(np.float64), f"{task}_high": p.high[:, t].astype(np.float64)}
        for edge, alive in zip(p.edges[t][:-1], p.survival_of(t).T[:-1], strict=True):
            columns[f"{task}_within_{edge:g}"] = 1 - alive.astype(np.float64)
        limit = plan.thresholds[t]
        if limit is not None:
            columns[f"{task}_above"] = limit.takes(p.score[:, t])
        if p.reason.shape[-1]:
            columns[f"{task}_reasons"] = reasons_in_words(p, t)
    if plan.net is not None:
        columns["net_value"] = plan.net
        ends = [net_value(plan.question, end) for end in (p.low, p.high)]
        if min(plan.question.money.values()) < 0:  # what is lost is least where the score is low
            good = {t: money > 0 for t, money in plan.question.money.items()}
            pick = np.array([good.get(t, True) for t in range(len(p.tasks))])
            ends = [net_value(plan.question, np.where(pick, *pair)) for pair in ((p.low, p.high), (p.high, p.low))]
        columns |= {"net_low": ends[0], "net_high": ends[1]}
    columns["contact"] = plan.contact
    return pd.DataFrame(columns)
