"""Customers as propensity models read them: a table's columns, the events before a moment, and what came after it.

Arrays hold the units of the file. Scaling is the model's business, because a checkpoint must carry its scales.

A batch scores **positions**: a customer at a moment. Most customers have one. A customer may have several (another
as-of date, or every event of a session): they share one sequence of events and see another number of its first events.

Axis letters: P positions, F numeric features, J categorical features, S sequences, E events of all sequences one after
the other, C categorical columns of an event, D numeric columns of an event, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

TASK_KINDS = ("binary", "hazard", "value", "regression")


@dataclass(frozen=True)
class Task:
    """Something to be foretold about a customer.

    Attributes:
        name: such as "churn"; unique.
        kind: "binary" (does it happen: 0 or 1), "hazard" (when does it happen, where it may not have happened yet when
            observation ended), "value" (an amount that is 0 for most), or "regression" (any number).
        unit: of a value or a regression ("USD"), or of a hazard's time ("days", "months"); "" for a binary task.
        edges: of a hazard: ends of its intervals, ascending, above 0; the last one is the horizon whose probability is
            reported. Interval d is (edges[d - 1], edges[d]], the first begins at 0.
        horizon: days after the moment that a label looks at; None where it is a column of a table.
    """

    name: str
    kind: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    horizon: float | None = None


@dataclass(frozen=True)
class SurvivalFeature:
    """A numeric feature read off a survival curve of the training rows.

    Attributes:
        name: of the feature.
        column: of the time at which the curve is read.
        times: ascending. survival: share that is left from each of them on; 1 before the first.
    """

    name: str
    column: str
    times: tuple[float, ...]
    survival: tuple[float, ...]


@dataclass(frozen=True)
class PropensitySchema:
    """Names: everything a model must know to be built, and to be rebuilt from a checkpoint.

    Attributes:
        id: name of the column that tells customers (or sessions) apart; "" for the number of the row.
        tasks: T of them; the first is the one that the monitor watches.
        numeric: F names.
        categorical: J names.
        categories: [J], the values seen in training, sorted; value j is number j + 1 in a batch. 0 is every value that
            was not seen. A missing value is the category "" where training had some, else unseen.
        event_categorical: C names; the first is the type of the event. Empty for a table without events.
        event_categories: [C], as `categories`.
        event_numeric: D names.
        survival: the curve behind one of the numeric features, without which new customers could not be scored.
    """

    id: str
    tasks: tuple[Task, ...]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    event_categorical: tuple[str, ...] = ()
    event_categories: tuple[tuple[str, ...], ...] = ()
    event_numeric: tuple[str, ...] = ()
    survival: SurvivalFeature | None = None

    @property
    def has_events(self) -> bool:
        """Whether there are sequences."""
        return bool(self.event_categorical)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PropensitySchema:
        """The inverse of `to_dict`, also after a trip through JSON or YAML."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        tasks = tuple(Task(**{**task, "edges": tuple(task["edges"])}) for task in values["tasks"])
        nested = {name: tuple(map(tuple, values[name])) for name in ("categories", "event_categories")}
        if (curve := values.get("survival")) is not None:
            steps = {name: tuple(curve[name]) for name in ("times", "survival")}
            known["survival"] = SurvivalFeature(**{**curve, **steps})
        return cls(**{**known, **nested, "tasks": tasks})


class PropensityBatch(NamedTuple):
    """Positions, and the sequences that they look at.

    A table without events has S = E = C = D = 0, and -1 in `sequence`.

    Attributes:
        row: int64 [P], number of the position: unique in the data, the same on every rank.
        key: int64 [P], hash of the customer's identifier (not negative).
        numeric: float32 [P, F], units of the file; NaN where missing.
        categorical: int64 [P, J], see `PropensitySchema.categories`.
        sequence: int64 [P], index 0..S-1; -1 for a customer without events.
        seen: int64 [P], how many events of the sequence happened before the moment; 0 where there are none.
        since: float32 [P], days from the last of these to the moment; NaN where there are none.
        length: int64 [S], events of each sequence in this batch, at least 1.
        event_categorical: int64 [E, C], see `PropensitySchema.event_categories`.
        event_numeric: float32 [E, D], units of the file; NaN where missing.
        event_gap: float32 [E], days since the event before in the same sequence; NaN for its first.
        label: float32 [P, T]; NaN where not known. binary: 0 or 1. value, regression: the number. hazard: 1 if it was
            seen to happen, 0 if observation ended first.
        time: float32 [P, T], of a hazard: when it happened or observation ended, in the task's unit, above 0; NaN for
            the other kinds and where not known.
        weight: float32 [P]; 1 but for a weight column.
    """

    row: Tensor
    key: Tensor
    numeric: Tensor
    categorical: Tensor
    sequence: Tensor
    seen: Tensor
    since: Tensor
    length: Tensor
    event_categorical: Tensor
    event_numeric: Tensor
    event_gap: Tensor
    label: Tensor
    time: Tensor
    weight: Tensor

    def some(self, which: Tensor | slice) -> PropensityBatch:
        """The positions at ``which``, with all sequences."""
        return self._replace(**{name: getattr(self, name)[which] for name in _PER_POSITION})

    def to(self, device: torch.device | str) -> PropensityBatch:
        """The batch on a device; Lightning calls this. Lengths stay where they are, on the CPU.

        They decide sizes, which Python must know: read from a GPU they would make it wait at every step.
        """
        pinned = torch.device(device).type == "cuda"  # elsewhere a copy that nobody waits for may be read too early
        moved = {n: getattr(self, n).to(device, non_blocking=pinned) for n in self._fields if n != "length"}
        return self._replace(**moved)


_PER_POSITION = ("row", "key", "numeric", "categorical", "sequence", "seen", "since", "label", "time", "weight")


@dataclass(frozen=True)
class PropensityStats:
    """What the training positions say about scales.

    Attributes:
        mean, sd: F numbers each, of the values that are not missing; sd is 1 for a constant.
        missing: F shares.
        quantiles: [F][Q + 1] ascending, at 0, 1/Q, ..., 1.
        event_mean, event_sd, event_missing, event_quantiles: the same of the D numeric columns of events, over the
            events that training sees.
        gap_quantiles: of the days between two events of a customer, at 0, 1/Q, ..., 1; (0.0,) * (Q + 1) without events.
        label_mean, label_sd: T numbers: of a binary or hazard task the share of ones and its sd; of a value the mean
            and sd of the log of amounts above 0; of a regression mean and sd. 0 and 1 where none is known.
        positive_share: T numbers: of labels above 0 among those known; NaN where none is.
        hazard: [T][len(edges)] share of those at risk at the start of an interval for whom it happened in it (the
            Kaplan-Meier estimate of the training positions); () for other kinds.
        largest: T numbers: 99.9 % quantile of the label, a bound for expectations; NaN where not known.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    missing: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    event_mean: tuple[float, ...]
    event_sd: tuple[float, ...]
    event_missing: tuple[float, ...]
    event_quantiles: tuple[tuple[float, ...], ...]
    gap_quantiles: tuple[float, ...]
    label_mean: tuple[float, ...]
    label_sd: tuple[float, ...]
    positive_share: tuple[float, ...]
    hazard: tuple[tuple[float, ...], ...]
    largest: tuple[float, ...]
