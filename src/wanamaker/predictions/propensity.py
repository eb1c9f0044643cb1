"""`PropensityPredictions`: probabilities and values per customer, with intervals, survival and reasons.

Axis letters: N positions (a customer at a moment), T tasks, D survival points of all hazard tasks one after the other,
J traits, R reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.predictions.artefact import prediction_kind, read_kind, write_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SPLITS = ("train", "val", "test", "none")
_PER_ROW = (
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
_WHOLE = ("row", "id", "moment", "split", "weight", "events")


@prediction_kind
@dataclass(frozen=True)
class PropensityPredictions:
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

    def __post_init__(self) -> None:
        N, T = len(self.row), len(self.tasks)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_WHOLE, (N,))
        shapes |= dict.fromkeys(("label", "time", "score", "low", "high", "raw"), (N, T))
        shapes |= {"survival": (N, sum(map(len, self.edges))), "traits": (N, len(self.trait_names))}
        shapes |= dict.fromkeys(("reason", "push"), (N, T, self.reason.shape[-1]))
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"PropensityPredictions.{name} has shape {getattr(self, name).shape}, expected {shape}."
                )
        if {len(self.kinds), len(self.units), len(self.horizons), len(self.edges)} != {T}:
            raise ValueError("PropensityPredictions: tasks, kinds, units, horizons and edges disagree in number.")
        if N > 1 and not (np.diff(self.row) > 0).all():
            raise ValueError("PropensityPredictions.row must ascend, each row once; join parts with concat.")
        for name in ("score", "low", "high", "survival", "push"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(
                    f"PropensityPredictions.{name} is not all finite. The weights have probably diverged: look at the "
                    "training loss, lower the learning rate."
                )

    def __len__(self) -> int:
        return len(self.row)

    def to(self, *_device: Any, **_options: Any) -> PropensityPredictions:
        """Itself, because arrays live on the CPU: Lightning moves what `predict_step` returns, and looks for this."""
        return self

    @classmethod
    def concat(cls, parts: Iterable[PropensityPredictions]) -> PropensityPredictions:
        """Join parts (batches, ranks); a row that several parts have is taken from the first.

        Raises:
            ValueError: no part, or parts of different models.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Nothing to join: concat needs at least one part (did the loader yield no batch?).")
        first = parts[0]
        if any((p.tasks, p.edges, p.features) != (first.tasks, first.edges, first.features) for p in parts):
            raise ValueError("Parts of different models cannot be joined.")
        _, keep = np.unique(np.concatenate([p.row for p in parts]), return_index=True)
        joined = {name: np.concatenate([getattr(p, name) for p in parts])[keep] for name in _PER_ROW}
        return cls(**joined, **first._shared())

    def select(self, keep: np.ndarray) -> PropensityPredictions:
        """The rows at ``keep`` (mask or ascending indices)."""
        return PropensityPredictions(**{name: getattr(self, name)[keep] for name in _PER_ROW}, **self._shared())

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

    def _shared(self) -> dict[str, Any]:
        names = ("tasks", "kinds", "units", "horizons", "edges", "features", "trait_names", "trait_values", "level")
        return {name: getattr(self, name) for name in names}

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

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/propensity.parquet`` atomically."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name in _PER_ROW:
            value = getattr(self, name)
            if value.ndim == 1:
                columns[name] = pa.array(value.tolist() if value.dtype == object else value)
                continue
            width = int(np.prod(value.shape[1:]))
            if width:  # a list of no numbers has no place in a Parquet file
                flat = np.ascontiguousarray(value).reshape(-1)
                columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
        header = {**self._shared(), "reasons": self.reason.shape[-1]}
        path = Path(folder) / self.file_name
        return write_table(pa.table(columns), path, kind=self.kind, schema_version=self.schema_version, header=header)

    @classmethod
    def read(cls, path: Path | str) -> PropensityPredictions:
        """Read what `write` wrote, from the Parquet file or its folder.

        Raises:
            UserError: not there, damaged, or predictions of another kind.
        """
        return read_kind(cls, path, "a propensity model")

    @classmethod
    def from_table(cls, table: pa.Table, header: Mapping[str, Any], path: Path) -> PropensityPredictions:
        """Rebuild from the rows and the header; `read_predictions` calls this."""
        header = dict(header)
        N, T, R = len(table), len(header["tasks"]), header.pop("reasons")
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("label", "time", "score", "low", "high", "raw"), (N, T))
        shapes |= {"survival": (N, sum(map(len, header["edges"]))), "traits": (N, len(header["trait_names"]))}
        shapes |= dict.fromkeys(("reason", "push"), (N, T, R))
        kinds = {"reason": np.int64, "traits": np.int64}
        columns: dict[str, np.ndarray] = {}
        for name in _PER_ROW:
            if name not in table.column_names:
                columns[name] = np.zeros(shapes[name], kinds.get(name, np.float32))
                continue
            column = table.column(name).combine_chunks()
            if name in shapes:
                columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(shapes[name])
            else:
                columns[name] = column.to_numpy(zero_copy_only=False)
        nested = {name: tuple(map(tuple, header.pop(name))) for name in ("edges", "trait_values")}
        shared = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items()}
        return cls(**columns, **shared, **nested)
