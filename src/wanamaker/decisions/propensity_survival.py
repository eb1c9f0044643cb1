"""Survival by segment: what was observed (Kaplan and Meier, JASA 53, 1958) against the mean predicted curve.

Axis letters: M rows that judge, D edges of a hazard, G points in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity import PropensityPlan
from wanamaker.metrics.survival import kaplan_meier

if TYPE_CHECKING:
    import pandas as pd

_MOST = 6  # segments in one figure
_FEWEST = 10  # customers: of fewer a curve says nothing
_POINTS = 200


@dataclass(frozen=True)
class SegmentSurvival:
    """One segment.

    Attributes:
        name: for people. rows: customers.
        time: [G], from 0 to the last edge.
        observed, low, high: [G], share for whom it has not happened by then, with its interval.
        predicted: [D], at the edges.
        at_edges: [D], `observed` there.
    """

    name: str
    rows: int
    time: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    predicted: np.ndarray
    at_edges: np.ndarray


def segment_survival(plan: PropensityPlan, t: int) -> tuple[SegmentSurvival, ...]:
    """The largest segments of a hazard's rows; none where nothing was observed."""
    rows, options = plan.judged[t].survival, plan.question.options
    if rows is None:
        return ()
    p, found = plan.predictions, []
    for name, mask in _segments(plan, t):
        if mask.sum() < min(_FEWEST, len(mask)):
            continue
        curve = kaplan_meier(rows.time[mask], rows.event[mask], rows.weight[mask])
        # Nobody says anything about times after the last one watched.
        end = min(float(rows.edges[-1]), float(rows.time[mask].max()))
        own = curve.time[curve.time <= end]
        time = np.unique(np.concatenate([[0.0], own if len(own) <= _POINTS else np.linspace(0, end, _POINTS), [end]]))
        low, high = curve.interval(time, options.level)
        found.append(
            SegmentSurvival(
                name,
                int(mask.sum()),
                time,
                curve.at(time),
                low,
                high,
                np.average(p.survival_of(t)[rows.place[mask]].astype(np.float64), axis=0, weights=rows.weight[mask]),
                np.where(rows.edges <= end, curve.at(rows.edges), np.nan),
            )
        )
    return tuple(found)


def _segments(plan: PropensityPlan, t: int) -> list[tuple[str, np.ndarray]]:
    """Name and bool [M] of each segment."""
    rows, trait = plan.judged[t].survival, plan.question.options.segment_by
    assert rows is not None
    if trait is not None:
        values = plan.predictions.trait(trait)[rows.place]
        names, counts = np.unique(values.astype(str), return_counts=True)
        kept = names[np.argsort(-counts, kind="stable")][:_MOST]
        return [(name or "(blank)", values.astype(str) == name) for name in kept]
    risk = 1 - rows.survival[:, -1]
    order = np.argsort(risk, kind="stable")
    fifth = np.empty(len(risk), np.int64)
    fifth[order] = np.arange(len(risk)) * 5 // len(risk)
    words = ("lowest risk", "second fifth", "middle fifth", "fourth fifth", "highest risk")
    return [(word, fifth == k) for k, word in enumerate(words) if (fifth == k).any()]


def survival_frame(plan: PropensityPlan) -> pd.DataFrame:
    """One row per hazard, segment and edge: observed (NaN where nobody was watched so long) and predicted survival."""
    import pandas as pd

    rows = []
    for t, task in enumerate(plan.predictions.tasks):
        for s in segment_survival(plan, t):
            for d, edge in enumerate(plan.predictions.edges[t]):
                rows.append(
                    {
                        "task": task,
                        "segment": s.name,
                        "customers": s.rows,
                        "time": edge,
                        "observed": s.at_edges[d],
                        "predicted": s.predicted[d],
                    }
                )
    return pd.DataFrame(rows, columns=["task", "segment", "customers", "time", "observed", "predicted"])
