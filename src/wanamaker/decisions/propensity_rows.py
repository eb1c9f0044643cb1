"""Positions whose outcomes are known: what judges the scores of each task.

A hazard is judged twice. Its whole curve by those whose time is known, censored or not. Its probability by the last
edge as a binary outcome, where customers whose observation ended before that edge say nothing and the others are
weighted to stand for them too (`metrics.survival.known_by`).

Axis letters: N positions of the predictions, M positions that judge a task, D edges of a hazard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.propensity_options import PROBABILITIES
from wanamaker.errors import UserError
from wanamaker.metrics.survival import known_by
from wanamaker.predictions import PropensityPredictions
from wanamaker.predictions.propensity import SPLITS


@dataclass(frozen=True)
class SurvivalRows:
    """Positions that judge the curve of a hazard.

    Attributes:
        place: int64 [M], index into the predictions.
        time: [M], when it happened or observation ended, the task's unit.
        event: bool [M], whether it happened.
        survival: [M, D] predicted at the edges.
        edges: [D].
        weight: [M].
    """

    place: np.ndarray
    time: np.ndarray
    event: np.ndarray
    survival: np.ndarray
    edges: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class TaskRows:
    """Positions that judge one task.

    Attributes:
        task: its index. name, kind, unit: of the task.
        place: int64 [M], index into the predictions.
        customer: int64 [M], number of the customer, to be drawn together.
        label: [M]; 0 or 1 of a probability, of a hazard by its last edge; else the amount.
        score: [M].
        weight: [M]; of a hazard times its censoring weight.
        survival: of a hazard.
        lost: positions whose observation ended before the last edge.
    """

    task: int
    name: str
    kind: str
    unit: str
    place: np.ndarray
    customer: np.ndarray
    label: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    survival: SurvivalRows | None = None
    lost: int = 0

    def __len__(self) -> int:
        return len(self.label)

    @property
    def is_probability(self) -> bool:
        """Whether the label is 0 or 1."""
        return self.kind in PROBABILITIES

    @property
    def base_rate(self) -> float:
        """Weighted mean of the label."""
        return float(self.weight @ self.label / self.weight.sum())

    @property
    def positives(self) -> int:
        """Labels above 0."""
        return int((self.label > 0).sum())

    @property
    def usable(self) -> bool:
        """Whether a ranking can be judged: labels are not all the same."""
        return len(self) > 1 and bool((self.label != self.label[0]).any())

    def take(self, rows: np.ndarray) -> TaskRows:
        """The positions at ``rows``, without the survival curve."""
        arrays = {name: getattr(self, name)[rows] for name in ("place", "customer", "label", "score", "weight")}
        return TaskRows(self.task, self.name, self.kind, self.unit, **arrays)


def task_rows(predictions: PropensityPredictions, splits: Sequence[str]) -> tuple[TaskRows, ...]:
    """The positions of some splits that judge each task; a task without any has none."""
    chosen = np.isin(predictions.split, [SPLITS.index(name) for name in splits]) & (predictions.weight > 0)
    _, customer = np.unique(predictions.id, return_inverse=True)
    return tuple(_rows_of(predictions, t, chosen, customer) for t in range(len(predictions.tasks)))


def _rows_of(p: PropensityPredictions, t: int, chosen: np.ndarray, customer: np.ndarray) -> TaskRows:
    label, weight, survival, lost = p.label[:, t].astype(np.float64), p.weight.astype(np.float64), None, 0
    known = chosen & np.isfinite(label)
    if p.kinds[t] == "hazard":
        time, known = p.time[:, t], known & np.isfinite(p.time[:, t])
        event, horizon = label > 0, p.edges[t][-1]
        place = np.flatnonzero(known)
        survival = SurvivalRows(
            place,
            time[place].astype(np.float64),
            event[place],
            p.survival_of(t)[place].astype(np.float64),
            np.asarray(p.edges[t], np.float64),
            weight[place],
        )
        label, weight = np.full(len(p), np.nan), np.zeros(len(p))
        if len(place):
            label[place], weight[place] = known_by(survival.time, survival.event, horizon, survival.weight)
        lost = int((weight[place] == 0).sum())
        known = weight > 0
    place = np.flatnonzero(known)
    return TaskRows(
        t,
        p.tasks[t],
        p.kinds[t],
        p.units[t],
        place,
        customer[place],
        label[place],
        p.score[place, t].astype(np.float64),
        weight[place],
        survival if survival is not None and len(survival.place) else None,
        lost,
    )


def splits_with_labels(predictions: PropensityPredictions) -> tuple[str, ...]:
    """Splits in which a position has a known outcome."""
    known = predictions.split[np.isfinite(predictions.label).any(axis=1) & (predictions.weight > 0)]
    return tuple(name for n, name in enumerate(SPLITS) if (known == n).any())


def splits_to_judge(predictions: PropensityPredictions, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The splits whose outcomes judge: those asked for, else test rows, else validation, else training rows.

    Raises:
        UserError: the splits asked for have no known outcome.
    """
    present = splits_with_labels(predictions)
    if wanted is not None:
        found = tuple(name for name in wanted if name in present)
        if not found:
            raise UserError(
                f"decision.evaluate_on={list(wanted)}: no row of these splits has a known outcome; there are such rows "
                f"in {', '.join(present) or 'no split'}."
            )
        return found
    for name in ("test", "val", "none", "train"):
        if name in present:
            return (name,)
    return ()


def splits_to_learn(predictions: PropensityPredictions, judging: Sequence[str]) -> tuple[str, ...]:
    """The splits that thresholds are found on: validation rows, else training rows, else those that judge."""
    present = splits_with_labels(predictions)
    for name in ("val", "train"):
        if name in present and name not in judging:
            return (name,)
    return tuple(judging)
