"""Calibration of effects against doubly robust scores: isotonic, and cross-fitted over folds.

After van der Laan et al. (2023, "Causal isotonic calibration for heterogeneous treatment effects", arXiv 2302.14011):
effects are mapped by the increasing function that fits the scores best. Rows are first put into bins, so that the
function's ends rest on more than a few noisy rows, and the function is interpolated between its blocks.

Axis letters: N rows, F folds, G knots.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MIN_SLOPE = 1e-3
"""Added to the fitted function, so that customers whom it does not tell apart keep their order."""


def isotonic_knots(effect: np.ndarray, score: np.ndarray, weight: np.ndarray, knots: int) -> np.ndarray:
    """Knots of the increasing function, [2, G]: effects, ascending, and what they are mapped to.

    Args:
        effect, score, weight: float64 [N]; the scores are noisy and unbiased for the true effects.
        knots: G, bins to begin with; where neighbouring blocks are merged the last knot is repeated.
    """
    order = np.argsort(effect, kind="stable")
    parts = [part for part in np.array_split(order, knots) if len(part) and weight[part].sum() > 0]
    blocks: list[list[float]] = []  # weight, sum of effects, sum of scores
    for part in parts:
        w = weight[part]
        blocks.append([w.sum(), (w * effect[part]).sum(), (w * score[part]).sum()])
        # Pool adjacent violators; bins with one and the same effect are one block, too.
        while len(blocks) > 1 and (
            blocks[-2][2] / blocks[-2][0] >= blocks[-1][2] / blocks[-1][0]
            or blocks[-2][1] / blocks[-2][0] >= blocks[-1][1] / blocks[-1][0]
        ):
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    made = np.array([[b[1] / b[0], b[2] / b[0]] for b in blocks]).T if blocks else np.zeros((2, 1))
    return np.concatenate([made, np.repeat(made[:, -1:], knots - made.shape[1], axis=1)], axis=1)


def cross_fitted_knots(
    effect: np.ndarray, score: np.ndarray, weight: np.ndarray, fold: np.ndarray, folds: int, knots: int
) -> np.ndarray:
    """Knots [F, 2, G]; those of a fold are fitted on the rows of the others."""
    made = []
    for number in range(folds):
        rest = fold != number
        made.append(isotonic_knots(effect[rest], score[rest], weight[rest], knots))
    return np.stack(made)


def calibrated(effect: Tensor, knots: Tensor) -> Tensor:
    """Mapped effects: linear between the knots, with the slope `MIN_SLOPE` beyond and beside.

    Args:
        effect: [..., n]; knots: [..., 2, G], a function for each of the leading places.
    """
    x, y = knots[..., 0, :].contiguous(), knots[..., 1, :]
    place = torch.searchsorted(x, effect.contiguous()).clamp_(1, x.shape[-1] - 1)
    before = place - 1
    left, low = x.gather(-1, before), y.gather(-1, before)
    share = ((effect - left) / (x.gather(-1, place) - left).clamp_(min=1e-12)).clamp_(0, 1)
    # Beyond the last knot it may be repeated: there both values are the same.
    return low + share * (y.gather(-1, place) - low) + MIN_SLOPE * (effect - x.mean(-1, keepdim=True))


def calibrate_rows(effect: Tensor, knots: Tensor, fold: Tensor, seen: Tensor) -> Tensor:
    """Calibrated effects of rows: by the function of their fold where training saw them, by the mean of all elsewhere.

    Args:
        effect: [N]. knots: [F, 2, G]. fold: int64 [N]. seen: bool [N].
    """
    new = (~seen).nonzero()[:, 0]
    mean = calibrated(effect[new].expand(len(knots), -1), knots).mean(0)
    if len(new) == len(effect):
        return mean
    mapped = calibrated(effect[:, None], knots[fold])[:, 0]
    mapped[new] = mean
    return mapped
