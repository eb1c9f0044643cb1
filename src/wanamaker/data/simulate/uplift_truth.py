"""What is true of simulated customers, beside the table and never in it: truth.parquet (a row per customer, in the
order of the table, keyed by its identifier) and truth.json (options, averages).

Axis letters: n customers asked for, K arms (0 is the control), A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.simulate.media_fields import restored
from wanamaker.data.simulate.uplift_options import ID, OUTCOMES, PIECE_ROWS, VERSION, UpliftSimulation
from wanamaker.data.simulate.uplift_table import FIRST_ID, Piece, costs

if TYPE_CHECKING:
    import pyarrow as pa

TRUTH, SUMMARY = "truth.parquet", "truth.json"


def truth_table(piece: Piece, options: UpliftSimulation) -> pa.Table:
    """The truth of a piece: `<outcome> if <arm>`, `effect of <arm> on <outcome>`, `probability of <arm>`, and
    `response to <arm>`, which is 1 for a persuadable and below 0 for a sleeping dog."""
    import pyarrow as pa

    mean, arms = piece.truth.mean, options.arm_names
    columns: dict[str, pa.Array] = {ID: pa.array(piece.id)}
    for y, outcome in enumerate(OUTCOMES):
        for k, arm in enumerate(arms):
            columns[f"{outcome} if {arm}"] = pa.array(mean[:, k, y].astype(np.float32))
        for k, arm in enumerate(arms[1:], start=1):
            effect = mean[:, k, y] - mean[:, 0, y]
            columns[f"effect of {arm} on {outcome}"] = pa.array(effect.astype(np.float32))
    for k, arm in enumerate(arms):
        columns[f"probability of {arm}"] = pa.array(piece.truth.propensity[:, k].astype(np.float32))
    for a, arm in enumerate(arms[1:]):
        columns[f"response to {arm}"] = pa.array(piece.truth.response[:, a].astype(np.float32))
    return pa.table(columns)


class TruthSummary:
    """Averages over all customers, added up piece by piece.

    Args:
        options: of the simulation.
    """

    def __init__(self, options: UpliftSimulation) -> None:
        self.options = options
        self._rows = 0
        self._mean = np.zeros((len(options.arm_names), len(OUTCOMES)))  # [K, Y]
        self._propensity = np.zeros(len(options.arm_names))
        self._sleeping = np.zeros(len(options.arms))

    def add(self, piece: Piece) -> None:
        """Count the customers of a piece."""
        self._rows += len(piece.id)
        self._mean += piece.truth.mean.sum(axis=0)
        self._propensity += piece.truth.propensity.sum(axis=0)
        self._sleeping += (piece.truth.response < 0).sum(axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Options and averages, as plain values."""
        mean, arms = self._mean / self._rows, {}
        contact, redemption, discount = costs(self.options)
        for k, name in enumerate(self.options.arm_names):
            arms[name] = {
                "mean": dict(zip(OUTCOMES, mean[k].tolist(), strict=True)),
                "probability": float(self._propensity[k] / self._rows),
                "cost": float(contact[k] + redemption[k] * mean[k, 1] + discount[k] * mean[k, 2]),
            }
            if k:
                arms[name]["effect"] = dict(zip(OUTCOMES, (mean[k] - mean[0]).tolist(), strict=True))
                arms[name]["share that responds the other way round"] = float(self._sleeping[k - 1] / self._rows)
        return {"version": VERSION, "options": asdict(self.options), "rows": self._rows, "arms": arms}


def write_summary(folder: Path, summary: TruthSummary) -> None:
    """Write truth.json."""
    (folder / SUMMARY).write_text(json.dumps(summary.to_dict(), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class UpliftTruth:
    """The truth of a simulated table, read from its files as it is asked for.

    Attributes:
        folder: where they lie.
        options: of the simulation.
        arms: for each arm its average outcomes, effect, probability and cost per customer (see truth.json).
    """

    folder: Path
    options: UpliftSimulation
    arms: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> UpliftTruth:
        """From truth.json, with truth.parquet beside it."""
        content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return cls(folder, restored(UpliftSimulation, content["options"]), content["arms"])

    def mean(self, identifiers: np.ndarray) -> np.ndarray:
        """Expected outcomes under each arm, float64 [n, K, Y]."""
        names = [f"{outcome} if {arm}" for arm in self.options.arm_names for outcome in OUTCOMES]
        return self._columns(names, identifiers).reshape(-1, len(self.options.arm_names), len(OUTCOMES))

    def effect(self, identifiers: np.ndarray) -> np.ndarray:
        """What each offer changes against the control, float64 [n, A, Y]."""
        names = [f"effect of {arm.name} on {outcome}" for arm in self.options.arms for outcome in OUTCOMES]
        return self._columns(names, identifiers).reshape(-1, len(self.options.arms), len(OUTCOMES))

    def propensity(self, identifiers: np.ndarray) -> np.ndarray:
        """Probability of each arm, float64 [n, K]."""
        return self._columns([f"probability of {arm}" for arm in self.options.arm_names], identifiers)

    def response(self, identifiers: np.ndarray) -> np.ndarray:
        """1 for a persuadable, minus the backlash for a sleeping dog, near 0 for others, float64 [n, A]."""
        return self._columns([f"response to {arm.name}" for arm in self.options.arms], identifiers)

    def _columns(self, names: list[str], identifiers: np.ndarray) -> np.ndarray:
        """Columns of some customers in their order, float64 [n, columns]; only their pieces are read."""
        place = np.asarray(identifiers, np.int64) - FIRST_ID
        outside = (place < 0) | (place >= self.options.rows)
        if outside.any():
            raise KeyError(f"{identifiers[int(np.argmax(outside))]} is no customer of {self.folder}")
        values = np.empty((len(place), len(names)))
        piece = place // PIECE_ROWS
        for number in np.unique(piece):
            rows = np.flatnonzero(piece == number)
            table = _read_piece(self.folder / TRUTH, int(number), tuple(names))
            values[rows] = table[place[rows] % PIECE_ROWS]
        return values


@lru_cache(maxsize=8)
def _read_piece(path: Path, number: int, names: tuple[str, ...]) -> np.ndarray:
    """Columns of one piece, float32 [rows, columns]."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        table = file.read_row_group(number, columns=list(names))
    return np.stack([table.column(name).to_numpy() for name in names], axis=1)
