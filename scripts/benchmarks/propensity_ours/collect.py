"""Scores out of a prediction loop.

Axis letters: n rows, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch import Callback

from wanamaker.predictions.propensity import SPLITS, PropensityPredictions


@dataclass
class CollectScores(Callback):
    """Keeps the scores of a split, and who they are of.

    Attributes:
        split: of `SPLITS`.
        parts: row [n], id [n], score, low and high [n, T] of each batch.
    """

    split: str
    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: PropensityPredictions, *_rest: Any) -> None:
        keep = outputs.split == SPLITS.index(self.split)
        names = ("row", "id", "score", "low", "high")
        row, ids, *scores = (getattr(outputs, name)[keep] for name in names)
        self.parts.append((row, ids.astype(str), *scores))

    def table(self) -> tuple[np.ndarray, ...]:
        """Rows ascending [n], their customers [n], scores, low and high [n, T]; each row once."""
        row, *others = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        row, first = np.unique(row, return_index=True)
        return row, *(part[first] for part in others)

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Customers [n] and their scores of the first task [n]."""
        _, ids, score, *_ = self.table()
        return ids, score[:, 0].astype(np.float64)
