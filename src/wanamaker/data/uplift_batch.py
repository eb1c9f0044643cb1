"""The table of an experiment as uplift models read it: who got which offer, and what came of it.

Arrays hold the units of the file. Scaling is the model's business, because a checkpoint must carry its scales.

Axis letters: B batch rows, F numeric features, J categorical features, K arms (number 0 is the control), Y outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

OUTCOME_KINDS = ("binary", "continuous", "zero_inflated")


@dataclass(frozen=True)
class Outcome:
    """What a campaign is meant to move.

    Attributes:
        name: of the column.
        kind: "binary" (0 or 1), "continuous", or "zero_inflated" (0 for most, a positive amount for the others).
        unit: for tables and figures, such as "USD"; "" for a binary outcome.
    """

    name: str
    kind: str
    unit: str = ""


@dataclass(frozen=True)
class UpliftSchema:
    """Names of an experiment: everything a model must know to be built, and to be rebuilt from a checkpoint.

    Attributes:
        id: name of the column that tells customers apart.
        treatment: name of the column that tells the arm.
        arms: K names; the first is the control.
        outcomes: Y outcomes; effects are learnt for each, and the first is the one that the monitor watches.
        numeric: F names.
        categorical: J names.
        categories: [J], the values seen in training, sorted; value j is number j + 1 in a batch. 0 is every value that
            was not seen. A missing value is the category "" where training had some, else unseen.
        probabilities: [K], of the randomisation, where it is known; () where it has to be estimated.
    """

    id: str
    treatment: str
    arms: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    probabilities: tuple[float, ...] = ()

    @property
    def num_arms(self) -> int:
        """K."""
        return len(self.arms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UpliftSchema:
        """The inverse of `to_dict`, also after a trip through JSON or YAML."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        outcomes = tuple(Outcome(**outcome) for outcome in values["outcomes"])
        categories = tuple(tuple(names) for names in values["categories"])
        return cls(**{**known, "outcomes": outcomes, "categories": categories})


class UpliftBatch(NamedTuple):
    """Rows of the table.

    Attributes:
        row: int64 [B], place in the table: unique, the same on every rank.
        key: int64 [B], hash of the identifier (not negative): decides the fold, wherever a customer's row stands.
        numeric: float32 [B, F], units of the file; NaN where missing.
        categorical: int64 [B, J], see `UpliftSchema.categories`.
        treatment: int64 [B], number of the arm; -1 where it is not known (customers yet to be treated).
        outcome: float32 [B, Y]; NaN where not known.
        weight: float32 [B], how many customers the row stands for; 1 but for a weight column.
    """

    row: Tensor
    key: Tensor
    numeric: Tensor
    categorical: Tensor
    treatment: Tensor
    outcome: Tensor
    weight: Tensor


@dataclass(frozen=True)
class FeatureStats:
    """Numeric features over the training rows.

    Attributes:
        mean, sd: F numbers each, of the values that are not missing; sd is 1 for a constant.
        missing: F shares.
        quantiles: [F][Q + 1] ascending, at 0, 1/Q, ..., 1.
        outcome_mean, outcome_sd: [K][Y], of each arm; 0 and 1 where an arm has no row.
        arm_share: K shares.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    missing: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    outcome_mean: tuple[tuple[float, ...], ...]
    outcome_sd: tuple[tuple[float, ...], ...]
    arm_share: tuple[float, ...]
