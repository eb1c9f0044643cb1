"""Validation losses averaged over anchors and regions, not over batches or ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from .losses import NAMES, LossSums

_COUNTS = ("anchors", "regions")


class LossMeans(Metric):
    """The four losses of an evaluation: sums over all ranks divided by counts over all ranks.

    So the value does not depend on the batch size or the number of ranks, and a rank without a batch adds nothing.
    """

    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        # float64: hundreds of thousands of terms.
        self.add_state("sums", torch.zeros(len(NAMES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(_COUNTS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: LossSums | None) -> None:
        """Add a batch; ``None`` adds nothing, but marks this rank as heard."""
        if losses is None:
            return
        self.sums += torch.stack([losses.sums[name].double() for name in NAMES])
        self.counts += torch.stack([losses.counts[name].double() for name in _COUNTS])

    def compute(self) -> dict[str, Tensor]:
        """``loss`` (the sum of the four) and each loss by name; NaN without any sample."""
        counts = dict(zip(_COUNTS, self.counts, strict=True))
        means = {name: total / counts[NAMES[name]] for name, total in zip(NAMES, self.sums, strict=True)}
        return {"loss": torch.stack(list(means.values())).sum(), **means}
