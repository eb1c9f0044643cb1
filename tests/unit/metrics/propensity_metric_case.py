"""Customers with labels of four tasks, what a model says of them, and metrics that have seen some of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from wanamaker.data.propensity_batch import Task
from wanamaker.metrics.propensity_scores import PropensityScores

TASKS = (
    Task("churn", "hazard", "days", (30.0, 60.0, 90.0)),
    Task("buy", "binary"),
    Task("ltv", "value", "USD"),
    Task("orders", "regression"),
)
ROWS = 400


class Customers(NamedTuple):
    label: torch.Tensor  # [N, 4]
    time: torch.Tensor  # [N, 4]
    score: torch.Tensor  # [N, 4]
    survival: torch.Tensor  # [N, 3]
    weight: torch.Tensor  # [N]


def customers(rows: int = ROWS, seed: int = 0, coarse: bool = True) -> Customers:
    """Labels that depend on what the scores know; every seventh label of "buy" is not known.

    Args:
        coarse: scores have two decimals and times are whole days, so that there are ties.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    lived, watched = rng.exponential(80 * np.exp(-0.5 * x)), rng.uniform(10, 140, rows)
    survival = np.exp(-np.exp(0.5 * x + 0.3 * rng.normal(size=rows))[:, None] / 80 * np.array([30, 60, 90]))
    buy = 1 / (1 + np.exp(1 - x))
    amount = np.where(rng.random(rows) < 0.6, 0, np.exp(rng.normal(size=rows) + x) * 10)
    label = np.stack([lived <= watched, rng.random(rows) < buy, amount, x + rng.normal(size=rows)], axis=1)
    label[::7, 1] = np.nan
    score = np.stack([1 - survival[:, -1], buy, 5 * np.exp(x + 0.5), 0.9 * x], axis=1)
    time = np.full((rows, 4), np.nan)
    time[:, 0] = np.minimum(lived, watched) + 0.01
    if coarse:
        survival, score, time = survival.round(2), score.round(2), np.ceil(time)
        score[:, 0] = 1 - survival[:, -1]
    weight = rng.integers(1, 4, rows)
    return Customers(*(torch.tensor(array, dtype=torch.float32) for array in (label, time, score, survival, weight)))


def fed(
    rows: list[int], max_rows: int = 5_000_000, batch: int = 64, case: Customers | None = None, weights: bool = True
) -> PropensityScores:
    """A metric that has seen the rows, in batches."""
    case = case or customers()
    metric = PropensityScores(TASKS, max_rows)
    for part in torch.tensor(rows, dtype=torch.int64).split(batch):
        *columns, weight = (tensor[part] for tensor in case)
        metric.update(part, *columns, weight if weights else None)
    return metric
