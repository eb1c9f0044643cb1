"""What training positions say about scales: `PropensityStats` from arrays.

Axis letters: N rows, F numeric features, T tasks, Q quantile steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wanamaker.data.customer_table_survival import kaplan_meier
from wanamaker.data.experiment_survey import QUANTILES
from wanamaker.data.propensity_batch import Task

_LARGEST = 0.999


@dataclass(frozen=True)
class LabelStats:
    """What the training labels say; see `PropensityStats` for the fields."""

    label_mean: tuple[float, ...]
    label_sd: tuple[float, ...]
    positive_share: tuple[float, ...]
    hazard: tuple[tuple[float, ...], ...]
    largest: tuple[float, ...]


def label_stats(tasks: Sequence[Task], label: np.ndarray, time: np.ndarray) -> LabelStats:
    """Statistics of some labels.

    Args:
        tasks: T of them.
        label, time: [N, T], NaN where not known.
    """
    means, sds, shares, hazards, largest = [], [], [], [], []
    for t, task in enumerate(tasks):
        known = np.isfinite(label[:, t])
        values = label[known, t].astype(np.float64)
        counted = np.log(values[values > 0]) if task.kind == "value" else values
        means.append(float(counted.mean()) if len(counted) else 0.0)
        sd = float(counted.std()) if len(counted) else 0.0
        sds.append(sd if sd > 0 else 1.0)
        shares.append(float((values > 0).mean()) if len(values) else float("nan"))
        largest.append(float(np.quantile(values, _LARGEST)) if len(values) else float("nan"))
        hazards.append(hazard_of(time[known, t], values, task.edges) if task.kind == "hazard" else ())
    return LabelStats(tuple(means), tuple(sds), tuple(shares), tuple(hazards), tuple(largest))


def hazard_of(time: np.ndarray, event: np.ndarray, edges: Sequence[float]) -> tuple[float, ...]:
    """Kaplan-Meier probability of each interval's event for those at risk when it begins; 0 where nobody is.

    Args:
        time, event: [N], of customers whose label is known.
        edges: ends of the intervals.
    """
    times, survival = kaplan_meier(time.astype(np.float64), event)
    curve = np.array([1.0, *survival])
    left = curve[np.searchsorted(times, np.array([0.0, *edges]), side="right")]
    at_risk = left[:-1] > 0
    return tuple(np.where(at_risk, 1 - left[1:] / np.where(at_risk, left[:-1], 1), 0.0).tolist())


def quantiles_of(values: np.ndarray) -> tuple[float, ...]:
    """Of the finite values, at 0, 1/Q, ..., 1; zeros where there are none.

    Args:
        values: [N].
    """
    values = values[np.isfinite(values)]
    at = np.linspace(0, 1, QUANTILES + 1)
    return tuple(np.quantile(values, at).tolist()) if len(values) else (0.0,) * len(at)
