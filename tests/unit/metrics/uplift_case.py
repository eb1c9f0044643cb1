"""A simulated experiment of three arms, what a model says of its customers, and metrics that have seen some of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from wanamaker.metrics.uplift_scores import UpliftScores

ARMS = ("none", "Mail", "Call")
ROWS = 500


class Experiment(NamedTuple):
    treatment: torch.Tensor  # [N]
    outcome: torch.Tensor  # [N, 1]
    mean: torch.Tensor  # [N, 3, 1]
    propensity: torch.Tensor  # [N, 3]
    effect: torch.Tensor  # [N, 2, 1]
    weight: torch.Tensor  # [N]


def experiment(rows: int = ROWS, arms: int = 3, seed: int = 0) -> Experiment:
    """Effects rounded to two decimals, so that many customers share one; three rows without an outcome or an arm."""
    rng = np.random.default_rng(seed)
    x = rng.random(rows)
    effects = np.stack([0 * x, 0.3 * x, 0.05 + 0.2 * (1 - x)], axis=1)[:, :arms]
    treatment = rng.integers(0, arms, rows)
    outcome = (rng.random(rows) < 0.2 + 0.2 * x + effects[np.arange(rows), treatment]).astype(np.float32)
    outcome[7], treatment[[11, 13]] = np.nan, -1
    mean = (0.2 + 0.2 * x)[:, None] + 0.9 * effects
    effect = (effects[:, 1:] + 0.05 * rng.normal(size=(rows, arms - 1))).round(2)
    floats = (outcome[:, None], mean[..., None], np.full((rows, arms), 1 / arms), effect[..., None], np.ones(rows))
    return Experiment(torch.as_tensor(treatment), *(torch.tensor(array, dtype=torch.float32) for array in floats))


def fed(rows: list[int], max_rows: int = 2_000_000, batch: int = 64, case: Experiment | None = None) -> UpliftScores:
    """A metric that has seen the rows, in batches."""
    case = case or experiment()
    metric = UpliftScores(ARMS, binary=True, max_rows=max_rows)
    for part in torch.tensor(rows, dtype=torch.int64).split(batch):
        metric.update(part, *(tensor[part] for tensor in case))
    return metric
