"""`PropensityPredictions`: probabilities and values per customer, with intervals, survival and reasons.

Axis letters: N positions (a customer at a moment), T tasks, D survival points of all hazard tasks one after the other,
J traits, R reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.predictions.artefact import prediction_kind
from wanamaker.predictions.row_predictions import RowPredictions

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test", "none")


@prediction_kind
@dataclass(frozen=True)
class PropensityPredictions(RowPredictions):
    """What is foretold about each customer, beside what came of it where that is known.

    Attributes:
        row: int64 [N], number of the position; ascending, each once.
        id: [N], str or int64, the customer or session.
        moment: datetime64[s] [N], of the prediction; NaT for a table without dates.
        split: int64 [N], index into `SPLITS`.
        weight: float64 [N].
        events: int64 [N], how many events the model saw of the customer.
        label: float64 [N, T]; NaN where not known. Of a hazard: 1 if it was seen to happen, 0 if observation ended.
        time: float64 [N, T], of a hazard: when it happened or observation ended; NaN for other kinds.
        score: float32 [N, T], calibrated. binary: probability. hazard: probability by the last edge. value, regression:
            expected number.
        low, high: float32 [N, T], interval of the score at `level`: how well it is known, not how much outcomes vary.
        raw: float32 [N, T], the score before calibration.
        survival: float32 [N, D], probability that it has not happened by each edge, of each hazard task.
        traits: int64 [N, J], categorical features: index into `trait_values` + 1, 0 for one that training had not.
        reason: int64 [N, T, R], the features that moved the score most, as an index into `features`; -1 for none.
        push: float32 [N, T, R], how far each moved it: on the log odds of a probability, the log of a value, the number
            of a regression; 0 where there is no reason.
        tasks: T names. kinds: T of `data.propensity_batch.TASK_KINDS`. units: T words. horizons: T numbers of days, NaN
            where there is none. edges: [T] of their hazards' edges, () for others.
        features: names that reasons choose from.
        trait_names: J names. trait_values: [J] of their values.
        level: of the intervals.
    """

    row: np.ndarray
    id: np.ndarray
    moment: np.ndarray
    split: np.ndarray
    weight: np.ndarray
    events: np.ndarray
    label: np.ndarray
    time: np.ndarray
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    raw: np.ndarray
    survival: np.ndarray
    traits: np.ndarray
    reason: np.ndarray
    push: np.ndarray
    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    horizons: tuple[float | None, ...]
    edges: tuple[tuple[float, ...], ...]
    features: tuple[str, ...] = ()
    trait_names: tuple[str, ...] = ()
    trait_values: tuple[tuple[str, ...], ...] = ()
    level: float = 0.9

    kind: ClassVar[str] = "propensity"
    schema_version: ClassVar[int] = 1
    file_name: ClassVar[str] = "propensity.parquet"
    maker: ClassVar[str] = "a propensity model"
    per_row: ClassVar[tuple[str, ...]] = (
        "row",
        "id",
        "moment",
        "split",
        "weight",
        "events",
        "label",
        "time",
        "score",
        "low",
        "high",
        "raw",
        "survival",
        "traits",
        "reason",
        "push",
    )
    shared: ClassVar[tuple[str, ...]] = (
        "tasks",
        "kinds",
        "units",
        "horizons",
        "edges",
        "features",
        "trait_names",
        "trait_values",
        "level",
    )
    same_model: ClassVar[tuple[str, ...]] = ("tasks", "edges", "features")
    finite: ClassVar[tuple[str, ...]] = ("score", "low", "high", "survival", "push")
    whole_numbers: ClassVar[tuple[str, ...]] = ("traits", "reason")
    few_values: ClassVar[tuple[str, ...]] = (
        "moment",
        "split",
        "weight",
        "events",
        "label.list.element",
        "traits.list.element",
        "reason.list.element",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if {len(self.kinds), len(self.units), len(self.horizons), len(self.edges)} != {len(self.tasks)}:
            raise ValueError("PropensityPredictions: tasks, kinds, units, horizons and edges disagree in number.")

    @classmethod
    def axes(cls, header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        T = len(header["tasks"])
        sizes: dict[str, tuple[int, ...]] = dict.fromkeys(("label", "time", "score", "low", "high", "raw"), (T,))
        sizes |= {"survival": (sum(map(len, header["edges"])),), "traits": (len(header["trait_names"]),)}
        return sizes | dict.fromkeys(("reason", "push"), (T, header["reasons"]))

    def header(self) -> dict[str, Any]:
        return {**self._shared(), "reasons": self.reason.shape[-1]}

    @classmethod
    def words(cls, header: Mapping[str, Any]) -> dict[str, Any]:
        nested = {name: tuple(map(tuple, header[name])) for name in ("edges", "trait_values")}
        return super().words(header) | nested

    def task(self, name: str) -> int:
        """Its index 0..T-1."""
        return self.tasks.index(name)

    def survival_of(self, task: int) -> np.ndarray:
        """Survival at the edges of a hazard task, float32 [N, len(edges[task])]."""
        first = sum(map(len, self.edges[:task]))
        return self.survival[:, first : first + len(self.edges[task])]

    def trait(self, name: str) -> np.ndarray:
        """Values of a categorical feature, objects [N]; "(not in training)" for those that training had not."""
        j = self.trait_names.index(name)
        return np.array(["(not in training)", *self.trait_values[j]], dtype=object)[self.traits[:, j]]

    def to_frame(self) -> pd.DataFrame:
        """One row per position: who, when, split, labels, scores with intervals, reasons with their push."""
        import pandas as pd

        columns: dict[str, Any] = {"id": self.id}
        if not np.isnat(self.moment).all():
            columns["moment"] = self.moment
        columns["split"] = np.array(SPLITS, dtype=object)[self.split]
        names = np.array([*self.features, ""], dtype=object)  # -1 is the last
        for t, task in enumerate(self.tasks):
            columns[f"{task}: observed"] = self.label[:, t]
            if self.kinds[t] == "hazard":
                columns[f"{task}: time"] = self.time[:, t]
            columns[task] = self.score[:, t]
            columns |= {f"{task}: low": self.low[:, t], f"{task}: high": self.high[:, t]}
            for r in range(self.reason.shape[-1]):
                columns[f"{task}: reason {r + 1}"] = names[self.reason[:, t, r]]
                columns[f"{task}: push {r + 1}"] = self.push[:, t, r]
        return pd.DataFrame(columns)
