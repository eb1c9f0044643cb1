"""`UpliftPredictions`: what each offer would do for each customer, as targeting and its verdict read it.

Axis letters: N customers, K arms (number 0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.predictions.artefact import describe, prediction_kind, read_kind
from wanamaker.predictions.parts_writer import PartsWriter

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SPLITS = ("train", "val", "test", "none")
_PER_ROW = (
    "row",
    "id",
    "split",
    "treatment",
    "outcome",
    "weight",
    "cost",
    "mean",
    "propensity",
    "effect",
    "low",
    "high",
)
# Columns with few different values, which Parquet writes as a dictionary; for the others it would try in vain.
_FEW_VALUES = ("split", "treatment", "outcome.list.element", "weight", "cost", "propensity.list.element")


@prediction_kind
@dataclass(frozen=True)
class UpliftPredictions:
    """Expected outcomes and effects per customer, with what was observed.

    For rows the model learnt from, everything is predicted by members that never saw the row (cross-fitting).

    Attributes:
        row: int64 [N], place in the table; ascending, each once.
        id: [N], str or int64, the customer.
        split: int64 [N], index into `SPLITS`.
        treatment: int64 [N], number of the arm; -1 where it is not known.
        outcome: float64 [N, Y]; NaN where not known.
        weight: float64 [N].
        cost: float64 [N], observed cost of the row, money; NaN where not known.
        mean: float32 [N, K, Y], expected outcome under each arm, of the outcome (nuisance) model.
        propensity: float32 [N, K], probability of each arm, known or estimated and clipped.
        effect: float32 [N, A, Y], calibrated effect of each offer against the control, units of the outcome.
        low, high: float32 [N, A, Y], interval of the effect at `level`.
        arms: K names; the first is the control.
        outcomes: Y names. kinds: Y of "binary", "continuous", "zero_inflated". units: Y words.
        randomised: whether the probabilities of the arms are known.
        level: of the intervals, such as 0.9.
    """

    row: np.ndarray
    id: np.ndarray
    split: np.ndarray
    treatment: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray
    cost: np.ndarray
    mean: np.ndarray
    propensity: np.ndarray
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    arms: tuple[str, ...]
    outcomes: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    randomised: bool = True
    level: float = 0.9

    kind: ClassVar[str] = "uplift"
    schema_version: ClassVar[int] = 1
    file_name: ClassVar[str] = "uplift.parquet"

    def __post_init__(self) -> None:
        N, K, Y = len(self.row), len(self.arms), len(self.outcomes)
        shapes = dict.fromkeys(("row", "id", "split", "treatment", "weight", "cost"), (N,))
        shapes |= {"outcome": (N, Y), "mean": (N, K, Y), "propensity": (N, K)}
        shapes |= dict.fromkeys(("effect", "low", "high"), (N, K - 1, Y))
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"UpliftPredictions.{name} has shape {getattr(self, name).shape}, expected {shape}.")
        if (len(self.kinds), len(self.units)) != (Y, Y):
            raise ValueError("UpliftPredictions: outcomes, their kinds and their units disagree in number.")
        if N > 1 and not (np.diff(self.row) > 0).all():
            raise ValueError("UpliftPredictions.row must ascend, each row once; join parts with concat.")
        for name in ("mean", "propensity", "effect", "low", "high"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(
                    f"UpliftPredictions.{name} is not all finite. The weights have probably diverged: look at the "
                    "training loss, lower the learning rate."
                )

    def __len__(self) -> int:
        return len(self.row)

    def to(self, *_device: Any, **_options: Any) -> UpliftPredictions:
        """Itself, because arrays live on the CPU: Lightning moves what `predict_step` returns, and looks for this."""
        return self

    @classmethod
    def concat(cls, parts: Iterable[UpliftPredictions]) -> UpliftPredictions:
        """Join parts (batches, ranks); a row that several parts have is taken from the first.

        Raises:
            ValueError: no part, or parts of different models.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Nothing to join: concat needs at least one part (did the loader yield no batch?).")
        first = parts[0]
        if any((p.arms, p.outcomes) != (first.arms, first.outcomes) for p in parts):
            raise ValueError("Parts of different models cannot be joined.")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_ROW}
        if not (np.diff(joined["row"]) > 0).all():
            _, keep = np.unique(joined["row"], return_index=True)
            joined = {name: column[keep] for name, column in joined.items()}
        return cls(**joined, **first._shared())

    def select(self, keep: np.ndarray) -> UpliftPredictions:
        """The rows at ``keep`` (mask or ascending indices)."""
        return UpliftPredictions(**{name: getattr(self, name)[keep] for name in _PER_ROW}, **self._shared())

    def _shared(self) -> dict[str, Any]:
        names = ("arms", "outcomes", "kinds", "units", "randomised", "level")
        return {name: getattr(self, name) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """One row per customer: identifier, split, arm, outcomes, expected outcomes, effects with intervals."""
        import pandas as pd

        arms = np.array([*self.arms, ""], dtype=object)  # -1 is the last
        columns: dict[str, Any] = {
            "id": self.id,
            "split": np.array(SPLITS, dtype=object)[self.split],
            "treatment": arms[self.treatment],
        }
        for y, outcome in enumerate(self.outcomes):
            columns[outcome] = self.outcome[:, y]
            columns |= {f"{outcome} if {arm}": self.mean[:, k, y] for k, arm in enumerate(self.arms)}
            for a, arm in enumerate(self.arms[1:]):
                columns[f"effect of {arm} on {outcome}"] = self.effect[:, a, y]
                columns[f"effect of {arm} on {outcome}: low"] = self.low[:, a, y]
                columns[f"effect of {arm} on {outcome}: high"] = self.high[:, a, y]
        return pd.DataFrame(columns)

    def table(self) -> pa.Table:
        """A row per customer, described by the header; arrays of a customer are lists of fixed length."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name in _PER_ROW:
            value = getattr(self, name)
            if value.ndim == 1:
                columns[name] = pa.array(value.tolist() if value.dtype == object else value)
                continue
            flat = np.ascontiguousarray(value).reshape(-1)
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), flat.size // max(1, len(value)) or 1)
        header = {name: list(v) if isinstance(v, tuple) else v for name, v in self._shared().items()}
        return describe(pa.table(columns), kind=self.kind, schema_version=self.schema_version, header=header)

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/uplift.parquet`` atomically."""
        with self.writer(folder) as writer:
            writer.add(self)
        return writer.path

    @classmethod
    def writer(cls, folder: Path | str) -> PartsWriter:
        """A context to which parts are added in turn; ``<folder>/uplift.parquet`` is there when it is left."""
        return PartsWriter(cls, folder, dictionary=_FEW_VALUES)

    @classmethod
    def read(cls, path: Path | str) -> UpliftPredictions:
        """Read what `write` wrote, from the Parquet file or its folder.

        Raises:
            UserError: not there, damaged, or predictions of another kind.
        """
        return read_kind(cls, path, "an uplift model")

    @classmethod
    def from_table(cls, table: pa.Table, header: Mapping[str, Any], path: Path) -> UpliftPredictions:
        """Rebuild from the rows and the header; `read_predictions` calls this."""
        N, K, Y = len(table), len(header["arms"]), len(header["outcomes"])
        shapes = {"outcome": (N, Y), "mean": (N, K, Y), "propensity": (N, K)}
        shapes |= dict.fromkeys(("effect", "low", "high"), (N, K - 1, Y))
        columns: dict[str, np.ndarray] = {}
        for name in _PER_ROW:
            column = table.column(name).combine_chunks()
            if name in shapes:
                columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(shapes[name])
            else:
                columns[name] = column.to_numpy(zero_copy_only=False)
        shared = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items()}
        return cls(**columns, **shared)
