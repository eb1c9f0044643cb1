"""Numeric columns as ranks in the training distribution, beside what `FeatureEncoder` makes of them.

A rank says how many rows have less: it spreads out what a long tail crowds together, and sets a spike (the many zeros
of a count) apart from everything above it.

Axis letters: B batch rows, F numeric columns, Q quantile steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wanamaker.nn.tabular import FeatureEncoder

_STEPS = 64  # quantile steps that ranks are read from
_SPREAD = 12**0.5  # one over the standard deviation of a uniform variable


class RankedFeatureEncoder(FeatureEncoder):
    """`FeatureEncoder` with the standardised mid-rank of every numeric column after its other parameterless columns.

    The mid-rank of a value is the mean of the share of training rows below it and of the share not above it, linear
    between two quantiles. A missing value has the rank of the column's mean.
    """

    def __init__(self, numeric: int, categories: Sequence[int] = (), **options: object) -> None:
        super().__init__(numeric, categories, **options)  # type: ignore[arg-type]
        self.register_buffer("steps", torch.zeros(numeric, _STEPS + 1))
        self.width += numeric

    @torch.no_grad()
    def fit(
        self,
        mean: Sequence[float],
        sd: Sequence[float],
        missing: Sequence[float],
        quantiles: Sequence[Sequence[float]],
    ) -> None:
        """As `FeatureEncoder.fit`."""
        super().fit(mean, sd, missing, quantiles)
        if self.numeric:
            steps = torch.tensor([list(row) for row in quantiles], dtype=torch.float64)
            at = torch.linspace(0, steps.shape[1] - 1, _STEPS + 1, dtype=torch.float64)
            below, above = steps[:, at.floor().long()], steps[:, at.ceil().long()]
            self.steps.copy_(torch.lerp(below, above, (at - at.floor()).expand_as(below)))

    @torch.no_grad()
    def fixed(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """As `FeatureEncoder.fixed`, and the ranks."""
        before = super().fixed(numeric, categorical)
        if not self.numeric:
            return before
        filled = torch.where(numeric.isnan(), self.fill, numeric).T.contiguous()  # [F, B]
        return torch.cat([before, ((self.rank_of(filled) - 0.5) * _SPREAD).T], dim=1)

    def rank_of(self, values: Tensor) -> Tensor:
        """Mid-ranks in [0, 1] of values [F, B]."""
        last = self.steps.shape[1] - 1
        left = torch.searchsorted(self.steps, values)  # steps below the value
        right = torch.searchsorted(self.steps, values, right=True)  # steps not above it
        lower, upper = (right - 1).clamp(0, last), left.clamp(0, last)
        low, high = self.steps.gather(1, lower), self.steps.gather(1, upper)
        between = (values - low) / (high - low).clamp(min=1e-30)
        inside = (lower + between.clamp(0, 1)).clamp(max=last) / last
        tied = (left + right - 1) / (2 * last)
        return torch.where(right > left, tied, inside)
