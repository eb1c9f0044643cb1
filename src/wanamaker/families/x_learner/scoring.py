"""The held-out loss of effects against doubly robust scores, from sums that ranks can add up.

`val/dr_loss` is sum (phi - tau)^2 / sum (phi - mean phi)^2: 1 for one and the same effect for everybody, less where the
effects tell customers apart. It only moves in the third digit, because a score phi is mostly noise; its minimum is at
the true effects all the same, and it is comparable between outcomes.

Axis letters: B batch rows, A offers, Y outcomes, E estimates.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from wanamaker.nn.ranks import over_ranks


class DrLoss:
    """Sums over rows: of weights, scores, their squares, and of all products of estimates and scores."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def update(self, estimates: Tensor, score: Tensor, weight: Tensor) -> None:
        """Add rows.

        Args:
            estimates: [E, B, A, Y]. score: [B, A, Y], finite. weight: [B, Y]; 0 for what is not known.
        """
        both = torch.cat([estimates.double(), score.double()[None], torch.ones_like(score).double()[None]])
        weights = weight.double()[:, None].expand(-1, score.shape[1], -1)
        sums = torch.einsum("ebay,fbay,bay->efay", both, both, weights)  # [E + 2, E + 2, A, Y]
        self._sums = sums if self._sums is None else self._sums + sums

    def total(self, shape: tuple[int, int, int], device: torch.device) -> np.ndarray:
        """Sums over all ranks, float64 [E + 2, E + 2, A, Y]; a collective. ``shape``: E, A, Y."""
        E, A, Y = shape
        empty = torch.zeros(E + 2, E + 2, A, Y, dtype=torch.float64)
        sums = empty if self._sums is None else self._sums
        result = over_ranks(sums.to(device)).cpu().numpy()
        self._sums = None
        return result


def relative_loss(sums: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """The loss described above of a mixture of estimates, [A, Y]; NaN where no score is known.

    Args:
        sums: [E + 2, E + 2, A, Y]. mixture: [E, A, Y].
    """
    E = len(mixture)
    square = sums[E, E] - 2 * np.einsum("eay,eay->ay", mixture, sums[:E, E])
    square = square + np.einsum("eay,efay,fay->ay", mixture, sums[:E, :E], mixture)
    count = sums[E + 1, E + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = sums[E, E] - sums[E, E + 1] ** 2 / count
        return np.where((count > 0) & (spread > 0), square / spread, np.nan)


def best_mixture(sums: np.ndarray) -> np.ndarray:
    """Weights of the estimates, not negative, of sum 1, with the least loss: [E, A, Y].

    The optimum is that of its own support, so that all supports (63 for six estimates) are tried: exact, and the same
    everywhere.
    """
    E, _, A, Y = (len(sums) - 2, None, *sums.shape[2:])
    found = np.full((E, A, Y), 1.0 / E)
    for a in range(A):
        for y in range(Y):
            gram, cross = sums[:E, :E, a, y], sums[:E, E, a, y]
            best = np.inf
            for size in range(1, E + 1):
                for support in map(list, combinations(range(E), size)):
                    weight = _on_support(gram[np.ix_(support, support)], cross[support])
                    if (weight < -1e-9).any():
                        continue
                    loss = weight @ gram[np.ix_(support, support)] @ weight - 2 * weight @ cross[support]
                    if loss < best - 1e-12 * abs(best if np.isfinite(best) else 0.0):
                        best = loss
                        found[:, a, y] = 0.0
                        found[support, a, y] = weight.clip(0) / weight.clip(0).sum()
    return found


def _on_support(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Minimum of w G w - 2 w c under sum w = 1, by its Karush-Kuhn-Tucker equations."""
    n = len(cross)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n], system[:n, n], system[n, :n] = gram, 1.0, 1.0
    return np.linalg.lstsq(system, np.append(cross, 1.0), rcond=None)[0][:n]
