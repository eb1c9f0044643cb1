"""How often a medium should reach a person: what a contact is worth by the frequency it comes with.

The same contacts can reach many people seldom or few people often. For a channel with a curve over frequency
(reach x f^s / (f^s + h^s)), what a contact brings is highest at one frequency, h (s - 1)^(1/s) where s is above 1, and
at the lowest otherwise; what happens at other frequencies is lost.

Axis letters: S draws, N rows, V points of a curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.intervals import interval_columns
from wanamaker.predictions import MixPredictions

if TYPE_CHECKING:
    import pandas as pd

POINTS = 121
_LEAST, _REACH = 1.0, 1.5
"""A person who is reached at all is reached once; curves go to this multiple of the highest frequency seen."""


@dataclass(frozen=True)
class FrequencyCurve:
    """One channel.

    Attributes:
        channel: name.
        frequency: [V], contacts per person and period.
        worth: [S, V], what a contact brings, relative to what contacts brought on average as they came.
        best: the frequency at which the mean of `worth` is highest.
        best_draws: [S], the best of each draw, within the curve.
        now: mean frequency of the contacts as they came.
        seen: lowest and highest frequency in the data, 1 % of the contacts left out at either end.
        gain: [S], what the same contacts would bring at `best`, relative to as they came, less 1.
    """

    channel: str
    frequency: np.ndarray
    worth: np.ndarray
    best: float
    best_draws: np.ndarray
    now: float
    seen: tuple[float, float]
    gain: np.ndarray

    @property
    def extrapolated(self) -> bool:
        """Whether the best frequency lies outside what was seen."""
        return not self.seen[0] <= self.best <= self.seen[1]


def frequency_curves(predictions: MixPredictions, rows: np.ndarray | None = None) -> list[FrequencyCurve]:
    """Curves of the channels whose contacts count by their frequency; [] where there are none.

    Args:
        predictions: of a mix model.
        rows: bool [N], where contacts are counted; None is everywhere.
    """
    response, curves = predictions.response, []
    for number in response.frequency_channels:
        contacts = np.where(True if rows is None else rows, predictions.media[:, number], 0.0)
        on = contacts > 0
        if not on.any():
            continue
        weight, often = contacts[on], predictions.frequency[on, number]
        seen = _weighted_quantiles(often, weight, (0.01, 0.99))
        grid = np.linspace(min(_LEAST, seen[0]), max(_REACH * seen[1], 2.0 * _LEAST), POINTS)
        as_they_came = np.average(response.contact_value(number, often), axis=1, weights=weight)  # [S]
        worth = response.contact_value(number, grid) / as_they_came[:, None]
        place = int(worth.mean(axis=0).argmax())
        curves.append(
            FrequencyCurve(
                channel=response.channels[number],
                frequency=grid,
                worth=worth,
                best=float(grid[place]),
                best_draws=grid[worth.argmax(axis=1)],
                now=float(np.average(often, weights=weight)),
                seen=seen,
                gain=worth[:, place] - 1.0,
            )
        )
    return curves


def _weighted_quantiles(values: np.ndarray, weight: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    order = np.argsort(values)
    cumulated = weight[order].cumsum() / weight.sum()
    low, high = (values[order][min(int(np.searchsorted(cumulated, s)), len(order) - 1)] for s in shares)
    return float(low), float(high)


def frequency_table(curves: list[FrequencyCurve]) -> pd.DataFrame:
    """A row per channel: frequency now, the best with its interval, and what the same contacts would gain there."""
    import pandas as pd

    rows = []
    for curve in curves:
        best = {name: float(value) for name, value in interval_columns("best", curve.best_draws).items()}
        gain = {name: float(value) for name, value in interval_columns("gain", curve.gain).items()}
        rows.append(
            {
                "channel": curve.channel,
                "frequency": curve.now,
                "seen_low": curve.seen[0],
                "seen_high": curve.seen[1],
                "best_frequency": curve.best,
                **{name.replace("best", "best_frequency"): v for name, v in best.items() if name != "best"},
                **gain,
                "extrapolated": curve.extrapolated,
            }
        )
    return pd.DataFrame(rows)
