"""What a plan is judged by: one number from the money that S draws say it brings, with its derivative.

Axis letters: S draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Objective:
    """A score of values [S] that rises with each of them (but "mean_sd", which also dislikes their spread).

    Attributes:
        kind: "mean", "cvar", "chance" or "mean_sd".
        worst: share of the draws that "cvar" averages.
        risk: standard deviations that "mean_sd" takes off.
        beat: [S] money that "chance" has to beat.
        width: money over which "cvar" and "chance" are smoothed; 0 is the exact score, which has no derivative.
    """

    kind: str = "mean"
    worst: float = 0.1
    risk: float = 1.0
    beat: np.ndarray | float = 0.0
    width: float = 0.0

    def smoothed(self, width: float) -> Objective:
        """The same with another smoothing."""
        return replace(self, width=width)

    @property
    def concave(self) -> bool:
        """Whether the score is a concave function of the values; a chance never is, nor is mean - sd (it can fall)."""
        return self.kind in ("mean", "cvar")

    def __call__(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """The score, and its derivative [S] with respect to the values."""
        S = len(values)
        if self.kind == "mean" or (S == 1 and self.kind != "chance"):
            return float(values.mean()), np.full(S, 1 / S)
        if self.kind == "mean_sd":
            centred = values - values.mean()
            sd = np.sqrt((centred**2).mean() + 1e-24 * max(1.0, float(np.abs(values).max())) ** 2)
            return float(values.mean() - self.risk * sd), (1 - self.risk * centred / sd) / S
        if self.kind == "chance":
            margin = values - self.beat
            if self.width == 0:
                return float((margin > 0).mean()), np.zeros(S)
            # The logistic curve is the usual smooth step; written so that neither side overflows.
            step = 0.5 * (1 + np.tanh(margin / (2 * self.width)))
            return float(step.mean()), step * (1 - step) / (self.width * S)
        return self._cvar(values)

    def _cvar(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean of the worst draws: max over t of t - mean(softplus(t - v)) / worst (Rockafellar & Uryasev 2000, eq. 4).

        The maximum over t is found by bisection, so that by the envelope theorem the derivative is the weights at it.
        """
        S = len(values)
        if self.width == 0:
            order = np.argsort(values, kind="stable")
            weights = np.zeros(S)
            share = np.clip(self.worst * S - np.arange(S), 0, 1) / (self.worst * S)
            weights[order] = share
            return float(weights @ values), weights
        low, high = values.min() - 60 * self.width, values.max() + 60 * self.width
        for _ in range(200):
            t = 0.5 * (low + high)
            if (0.5 * (1 + np.tanh((t - values) / (2 * self.width)))).mean() > self.worst:
                high = t
            else:
                low = t
            if high - low <= 1e-15 * max(1.0, abs(t)):
                break
        tail = 0.5 * (1 + np.tanh((t - values) / (2 * self.width)))
        score = t - self.width * np.logaddexp(0, (t - values) / self.width).mean() / self.worst
        return float(score), tail / tail.sum()
