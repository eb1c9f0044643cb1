"""Scores of a propensity model from sums, for more positions than can be brought together on one rank.

Scores and amounts are rounded to so many binary digits, times to a 256th of their interval, and rows are added to the
sums of their cell; ranks send their sums. A cell then stands for its rows with the mean of its score: totals are exact,
rankings are exact but for rows whose scores are rounded to the same number, who share their place, squared errors but
for the spread within a cell, and times but for those of one slot, who count as of the same time.

Axis letters: N rows, T tasks, G cells, D edges of a hazard task, L slots of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.propensity_tasks import (
    PropensityRows,
    TaskLike,
    TaskRows,
    hazard_scores,
    probabilities,
    rows_of_tasks,
    scores_of_task,
)
from wanamaker.metrics.survival import (
    agreeing_pairs,
    at_edges,
    check_times,
    fate_is_known,
    known_by_of,
    mean_over_time,
    still_watched,
)
from wanamaker.metrics.uplift_groups import rounded_scores

BITS = {"binary": 10, "hazard": 8, "value": 7, "regression": 7}  # fewer where cells are pairs: with a slot, an amount
SLOTS = 256
NAN = float("nan")


class Cells(NamedTuple):
    """Sums of rows by cell.

    Attributes:
        key: int64 [G, 3], ascending, each once.
        sums: float64 [G, any], the first is of weights.
    """

    key: np.ndarray
    sums: np.ndarray


class TaskSums(NamedTuple):
    """What the scores of a task need of any number of rows; sums of parts add up.

    Attributes:
        rows: how many.
        finite: whether all predictions were; else the other sums are of nothing.
        scores: cells of a score (rounded), a label (rounded) and, of a hazard, the slot of the time; sums of w,
            w score, w label and w^2. Of a hazard, scores of customers of unknown fate at the last edge are not kept.
        pairs: of a hazard, for each edge, cells of those at risk in its interval: survival (rounded), slot, and whether
            they had the event in it; sums of w and w survival.
        squares: float64 [L, 2, 1 + 2D], of a hazard, by slot and event: sums of w, w S, w S^2.
    """

    rows: int
    finite: bool
    scores: Cells
    pairs: tuple[Cells, ...]
    squares: np.ndarray


def sums_of_rows(tasks: Sequence[TaskLike], rows: PropensityRows) -> list[TaskSums]:
    """Sums of each task's rows of known label."""
    return [_task_sums(task, own) for task, own in rows_of_tasks(tasks, rows)]


def join_sums(parts: Sequence[list[TaskSums]]) -> list[TaskSums]:
    """The sums of all parts' rows together, task by task."""
    if len(parts) == 1:
        return parts[0]
    return [
        TaskSums(
            rows=sum(part.rows for part in of_task),
            finite=all(part.finite for part in of_task),
            scores=_join([part.scores for part in of_task]),
            pairs=tuple(_join(list(cells)) for cells in zip(*(part.pairs for part in of_task), strict=True)),
            squares=np.sum([part.squares for part in of_task], axis=0),
        )
        for of_task in zip(*parts, strict=True)
    ]


def scores_of_sums(task: TaskLike, sums: TaskSums) -> tuple[dict[str, float], dict[str, str]]:
    """As `propensity_tasks.scores_of_task`."""
    if not sums.finite:
        return scores_of_task(task, TaskRows(*(np.full(1, NAN) for _ in range(3)), np.zeros((1, 0)), np.ones(1)))
    key, (weight, score, label, square) = sums.scores.key, sums.scores.sums.T
    rows = TaskRows(
        label=_mean_of_code(key[:, 1], label, weight),
        time=np.full(len(key), NAN),
        score=_mean_of_code(key[:, 0], score, weight),
        survival=np.zeros((len(key), 0)),
        weight=weight,
        square=square,
    )
    if task.kind != "hazard" or not weight.sum() > 0:
        return scores_of_task(task, rows)
    rows = rows._replace(time=_slot_times(task.edges)[key[:, 2]])
    return hazard_scores(task, rows, _concordance(sums.pairs), _integrated_brier(task.edges, sums.squares))


def _task_sums(task: TaskLike, rows: TaskRows) -> TaskSums:
    hazard, probability = task.kind == "hazard", task.kind in ("binary", "hazard")
    finite = bool(np.isfinite(rows.score).all() and np.isfinite(rows.survival).all())
    own = slice(None) if finite else slice(0)
    label, time, score, survival, weight = (np.asarray(array[own], np.float64) for array in rows[:5])
    if probability:
        score, survival = probabilities(task, score), probabilities(task, survival)
    slot, bits = np.zeros(len(label), np.int64), BITS[task.kind]
    if hazard and len(label):
        check_times(task.name, time, label)
        time = at_edges(time, np.asarray(task.edges, np.float64))
        slot = _slots(task.edges, time)
        score = np.where((label == 1) | (time >= task.edges[-1]), score, 0.0)
    columns = (weight, weight * score, weight * label, weight**2)
    return TaskSums(
        rows=len(rows.label),
        finite=finite,
        scores=_cells((_code(score, bits), _code(label, bits), slot), columns),
        pairs=tuple(_at_risk(d, slot, label == 1, survival[:, d], weight) for d in range(survival.shape[1])),
        squares=_squares(slot, label == 1, survival, weight, len(task.edges) * (SLOTS + 1) + 1),
    )


def _slots(edges: Sequence[float], time: np.ndarray) -> np.ndarray:
    """Slot of a time: 256 parts of an interval, and its end, which is a slot of its own; the last is beyond all."""
    border = np.concatenate([[0.0], edges])
    d = np.searchsorted(border[1:], time, side="left")
    within = d < len(edges)
    low, high = border[d], border[np.minimum(d + 1, len(edges))]
    share = np.divide(time - low, high - low, out=np.zeros(len(time)), where=within)
    part = np.where(time == high, SLOTS, np.minimum((share * SLOTS).astype(np.int64), SLOTS - 1))
    return np.where(within, d * (SLOTS + 1) + part, len(edges) * (SLOTS + 1))


def _slot_times(edges: Sequence[float]) -> np.ndarray:
    """A time of each slot [L], in order: the middle of its part, the end of an interval, beyond the last."""
    border = np.concatenate([[0.0], edges])
    part = np.append((np.arange(SLOTS) + 0.5) / SLOTS, 1.0)
    times = border[:-1, None] + np.diff(border)[:, None] * part
    times[:, -1] = border[1:]
    return np.append(times, border[-1] * 2)


def _at_risk(d: int, slot: np.ndarray, event: np.ndarray, survival: np.ndarray, weight: np.ndarray) -> Cells:
    """Cells of those without the event at the start of interval d; all who pass its end are in one slot."""
    risk = slot >= d * (SLOTS + 1)
    after = (d + 1) * (SLOTS + 1)
    slot, survival, weight = np.minimum(slot[risk], after), survival[risk], weight[risk]
    case = event[risk] & (slot < after)
    # Digits are kept of the probability that it happens: it is the small number.
    code = _code(1 - survival, BITS["hazard"])
    return _cells((code, slot, case.astype(np.int64)), (weight, weight * survival))


def _squares(
    slot: np.ndarray, event: np.ndarray, survival: np.ndarray, weight: np.ndarray, num_slots: int
) -> np.ndarray:
    D = survival.shape[1]
    if D == 0:
        return np.zeros((0, 2, 1))
    place = slot * 2 + event
    columns = [weight, *(weight * survival.T), *(weight * survival.T**2)]
    sums = [np.bincount(place, column, 2 * num_slots) for column in columns]
    return np.stack(sums, axis=1).reshape(num_slots, 2, 1 + 2 * D)


def _concordance(pairs: Sequence[Cells]) -> float:
    agree = of = 0.0
    for key, sums in pairs:
        case = key[:, 2] == 1
        if case.any():
            survival = _mean_of_code(key[:, 0], sums[:, 1], sums[:, 0])
            found = agreeing_pairs(key[:, 1], survival, case, sums[:, 0])
            agree, of = agree + found[0], of + found[1]
    return agree / of if of > 0 else NAN


def _integrated_brier(edges: Sequence[float], squares: np.ndarray) -> float:
    """`survival.integrated_brier` of sums by slot and event."""
    D = len(edges)
    present = squares[..., 0] > 0  # [L, 2]
    time, event = (array[present] for array in np.broadcast_arrays(_slot_times(edges)[:, None], np.arange(2.0)))
    weight, first, second = squares[present][:, 0], squares[present][:, 1 : 1 + D], squares[present][:, 1 + D :]
    watched = still_watched(time, event, weight)
    score = np.full(D, NAN)
    for d, edge in enumerate(edges):
        label, share = known_by_of(time, event, weight, edge, watched)
        if fate_is_known(time, event, edge):
            # The error is S where it has happened, 1 - S where it has not; `share / weight` is what a row stands for.
            square = np.where(label == 1, second[:, d], weight - 2 * first[:, d] + second[:, d])
            score[d] = (share / weight * square).sum() / weight.sum()
    return mean_over_time(score, np.asarray(edges, np.float64))


def _code(values: np.ndarray, bits: int) -> np.ndarray:
    """An integer per rounded number; not in order where numbers are below 0."""
    return rounded_scores(values, bits).astype(np.float32).view(np.int32).astype(np.int64)


def _mean_of_code(code: np.ndarray, total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each cell the mean of all cells of its code, so that cells of one code are tied; 0 for cells of no weight."""
    place = np.unique(code, return_inverse=True)[1]
    sums, weights = np.bincount(place, total), np.bincount(place, weight)
    return np.divide(sums, weights, out=np.zeros(len(sums)), where=weights > 0)[place]


def _cells(key: tuple[np.ndarray, ...], columns: tuple[np.ndarray, ...]) -> Cells:
    return _sum_cells(np.stack(key, axis=1), np.stack(columns, axis=1))


def _sum_cells(key: np.ndarray, sums: np.ndarray) -> Cells:
    if len(key) == 0:
        return Cells(key, sums)
    order = np.lexsort(key.T[::-1])
    key = key[order]
    starts = np.flatnonzero(np.append(True, (np.diff(key, axis=0) != 0).any(axis=1)))
    return Cells(key[starts], np.add.reduceat(sums[order], starts, axis=0))


def _join(parts: Sequence[Cells]) -> Cells:
    return _sum_cells(np.concatenate([part.key for part in parts]), np.concatenate([part.sums for part in parts]))
