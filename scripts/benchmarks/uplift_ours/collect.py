"""Effects out of a prediction loop, without keeping whole predictions of ten million customers.

Axis letters: n rows, A offers, Y outcomes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback

from wanamaker.predictions.uplift import SPLITS, UpliftPredictions
from wanamaker.runtime.build import Parts


class Effects(NamedTuple):
    """Of some rows, ascending: treatment [n], effect, low and high [n, A, Y]."""

    row: np.ndarray
    treatment: np.ndarray
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class CollectEffects(Callback):
    """Keeps the effects of the rows of a split, or of all that have an arm.

    Args:
        split: of `SPLITS`; None keeps all but "none".
        outcomes: Y names, of which the model may have learnt more.
    """

    split: str | None
    outcomes: list[str]
    seen: int = 0
    parts: list[Effects] = field(default_factory=list)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: UpliftPredictions, *_rest: Any) -> None:
        wanted = range(3) if self.split is None else [SPLITS.index(self.split)]
        keep = np.isin(outputs.split, wanted)
        self.seen += len(outputs)
        places = [outputs.outcomes.index(name) for name in self.outcomes]
        effects = (getattr(outputs, name)[keep][..., places] for name in ("effect", "low", "high"))
        self.parts.append(Effects(outputs.row[keep], outputs.treatment[keep], *effects))

    def joined(self) -> Effects:
        """All of them, each row once."""
        _, first = np.unique(np.concatenate([part.row for part in self.parts]), return_index=True)
        return Effects(*(np.concatenate([getattr(p, name) for p in self.parts])[first] for name in Effects._fields))


def forward_rate(parts: Parts, batches: int = 8) -> float:
    """Customers per CPU-second of the net alone, on batches that are in memory already."""
    loader = iter(parts.data.predict_dataloader())
    held = [batch for batch, _ in zip(loader, range(batches), strict=False)]
    net = parts.model.net.eval()
    with torch.inference_mode():
        net(held[0])
        started = time.process_time()
        for batch in held:
            net(batch)
        seconds = time.process_time() - started
    return sum(len(batch.row) for batch in held) / seconds
