"""`UpliftPredictions`: what each offer would do for each customer, as targeting and its verdict read it.

Axis letters: N customers, K arms (number 0 is the control), A = K - 1 offers, Y outcomes.
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
class UpliftPredictions(RowPredictions):
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
    maker: ClassVar[str] = "an uplift model"
    per_row: ClassVar[tuple[str, ...]] = (
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
    shared: ClassVar[tuple[str, ...]] = ("arms", "outcomes", "kinds", "units", "randomised", "level")
    same_model: ClassVar[tuple[str, ...]] = ("arms", "outcomes")
    finite: ClassVar[tuple[str, ...]] = ("mean", "propensity", "effect", "low", "high")
    few_values: ClassVar[tuple[str, ...]] = (
        "split",
        "treatment",
        "outcome.list.element",
        "weight",
        "cost",
        "propensity.list.element",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Y = len(self.outcomes)
        if (len(self.kinds), len(self.units)) != (Y, Y):
            raise ValueError("UpliftPredictions: outcomes, their kinds and their units disagree in number.")

    @classmethod
    def axes(cls, header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        K, Y = len(header["arms"]), len(header["outcomes"])
        sizes: dict[str, tuple[int, ...]] = {"outcome": (Y,), "mean": (K, Y), "propensity": (K,)}
        return sizes | dict.fromkeys(("effect", "low", "high"), (K - 1, Y))

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
