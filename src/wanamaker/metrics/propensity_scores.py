"""`PropensityScores`: the scores of a propensity model over any number of ranks, each position counted once.

Names are ``<task>/<score>``, as ``churn/auc``; definitions in `propensity_tasks`.

Axis letters: P positions of a batch, N rows, T tasks, D edges of all hazard tasks one after the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from wanamaker.metrics.propensity_histogram import TaskSums, join_sums, scores_of_sums, sums_of_rows
from wanamaker.metrics.propensity_tasks import SCORES, PropensityRows, TaskLike, rows_of_tasks, scores_of_task
from wanamaker.metrics.rank_zero import on_rank_zero

_FOLD_ROWS = 1 << 18


class PropensityScores(Metric):
    """The scores above.

    Call `update` per batch, `compute` on **every** rank at the end of the epoch (it is a collective), and `reset` when
    the next evaluation starts. A row that came more than once (padding of a last batch, two ranks) counts once, and the
    result depends neither on batches nor on ranks, to the last bit; with more than ``max_rows`` rows they are summed up
    by `propensity_histogram`, and must then be given once. Nothing is a tensor, or saved in a checkpoint.

    Args:
        tasks: T of `data.propensity_batch.Task`; their name, kind and edges are read.
        max_rows: rows of all ranks together that are kept, and gathered on rank 0.
    """

    is_differentiable = False

    def __init__(self, tasks: Sequence[TaskLike], max_rows: int = 5_000_000) -> None:
        super().__init__(compute_with_cache=False, sync_on_compute=False)
        for task in tasks:
            if task.kind not in SCORES:
                raise ValueError(f"PropensityScores: {task.name} is of kind {task.kind!r}; take {', '.join(SCORES)}.")
        self.tasks, self.max_rows = tuple(tasks), max_rows
        self._parts: list[PropensityRows] = []
        self._sums: list[TaskSums] | None = None  # once there are too many rows
        self._warned: set[str] = set()

    def update(
        self,
        row: Tensor,
        label: Tensor,
        time: Tensor | None,
        score: Tensor,
        survival: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Add P positions; labels that are NaN are left out, task by task.

        Args:
            row: int [P], unique per position and the same on every rank.
            label: [P, T]. time: [P, T]; None where no task is a hazard.
            score: [P, T], as in `predictions.propensity.PropensityPredictions`.
            survival: [P, D], of the hazard tasks one after the other; None where there is none.
            weight: [P]; None is 1 each.

        Raises:
            ValueError: shapes disagree with each other or with the tasks.
        """
        P, T, D = len(row), len(self.tasks), sum(len(task.edges) for task in self.tasks if task.kind == "hazard")
        time = torch.full((P, T), float("nan")) if time is None and D == 0 else time
        survival = torch.zeros(P, 0) if survival is None and D == 0 else survival
        weight = torch.ones(P) if weight is None else weight
        given = (row, label, time, score, survival, weight)
        expected = ((P,), (P, T), (P, T), (P, T), (P, D), (P,))
        for name, tensor, shape in zip(PropensityRows._fields, given, expected, strict=True):
            if tensor is None or tuple(tensor.shape) != shape:
                raise ValueError(
                    f"PropensityScores of {', '.join(task.name for task in self.tasks)}: {name} has the shape "
                    f"{None if tensor is None else tuple(tensor.shape)}, expected {shape}."
                )
        arrays = [_array(tensor) for tensor in given if tensor is not None]
        known = ~np.isnan(arrays[1]).all(axis=1)
        self._parts.append(PropensityRows(*(array[known] for array in arrays)))
        if self._num_rows() > (self.max_rows if self._sums is None else _FOLD_ROWS):
            self._fold()

    def compute(self) -> dict[str, float]:
        """Scores of the rows of all ranks; every rank gets the same dict. A collective.

        Raises:
            ValueError: one row came with two labels (row numbers that are not unique); on all ranks.
        """
        if on_rank_zero((self._num_rows(), self._sums is not None), self._too_many):
            scores, notes = on_rank_zero(self._fold(), self._of_sums)
        else:
            # One joined part per rank: both the message and, from here on, the state.
            self._parts = [self._joined(self._parts)]
            scores, notes = on_rank_zero(self._parts[0], self._of_rows)
        for kind, text in notes.items():
            if kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(text)
        return scores

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._parts, self._sums = [], None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: scores of one batch are no estimate, and would be a collective at every step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("PropensityScores has no per-batch value: call update() and compute().")

    def _num_rows(self) -> int:
        return sum(len(part.row) for part in self._parts)

    def _too_many(self, parts: list[tuple[int, bool]]) -> bool:
        return any(folded for _rows, folded in parts) or sum(rows for rows, _folded in parts) > self.max_rows

    def _fold(self) -> list[TaskSums]:
        """Sum up the rows kept so far; those to come go the same way."""
        rows = self._joined(self._parts)
        if self._sums is None:
            rows = _each_once(rows)
        parts = [] if self._sums is None else [self._sums]
        for start in range(0, max(len(rows.row), 1), _FOLD_ROWS):
            parts.append(
                sums_of_rows(self.tasks, PropensityRows(*(array[start : start + _FOLD_ROWS] for array in rows)))
            )
        self._parts, self._sums = [], join_sums(parts)
        return self._sums

    def _joined(self, parts: Sequence[PropensityRows]) -> PropensityRows:
        if len(parts) == 1:
            return parts[0]
        T, D = len(self.tasks), sum(len(task.edges) for task in self.tasks if task.kind == "hazard")
        wide, empty = np.zeros((0, T), np.float32), np.zeros(0, np.float32)
        start = PropensityRows(np.zeros(0, np.int64), wide, wide, wide, np.zeros((0, D), np.float32), empty)
        return PropensityRows(*(np.concatenate(arrays) for arrays in zip(start, *parts, strict=True)))

    def _of_rows(self, parts: list[PropensityRows]) -> tuple[dict[str, float], dict[str, str]]:
        rows = rows_of_tasks(self.tasks, _each_once(self._joined(parts)))
        return self._named([scores_of_task(task, own) for task, own in rows])

    def _of_sums(self, parts: list[list[TaskSums]]) -> tuple[dict[str, float], dict[str, str]]:
        sums = join_sums(parts)
        return self._named([scores_of_sums(task, own) for task, own in zip(self.tasks, sums, strict=True)])

    def _named(self, found: list[tuple[dict[str, float], dict[str, str]]]) -> tuple[dict[str, float], dict[str, str]]:
        scores = {
            f"{task.name}/{name}": value
            for task, (own, _notes) in zip(self.tasks, found, strict=True)
            for name, value in own.items()
        }
        return scores, {kind: text for _own, notes in found for kind, text in notes.items()}


def _each_once(rows: PropensityRows) -> PropensityRows:
    """Rows by ascending number, each once.

    Raises:
        ValueError: a row came with two labels.
    """
    if (np.diff(rows.row) > 0).all():
        return rows
    _, first, inverse = np.unique(rows.row, return_index=True, return_inverse=True)
    for name in ("label", "time"):
        values = getattr(rows, name)
        again = values[first][inverse]
        if (differs := ((values != again) & ~(np.isnan(values) & np.isnan(again))).any(axis=1)).any():
            number = int(rows.row[differs][0])
            raise ValueError(
                f"PropensityScores: row {number} came with {name} {values[rows.row == number].tolist()}. Row numbers "
                "must be unique in the data."
            )
    return PropensityRows(*(array[first] for array in rows))


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if not tensor.dtype.is_floating_point:
        return tensor.to(torch.int64).numpy()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
