"""Does spend follow demand? Two tests per channel, on training rows, all series together.

``past``
    Correlation of the spend of a period with the mean residual of the periods before it: sales beyond what the whole
    model explains, media included. Budgets that follow sales show it; so do bids that chase persistent demand, which
    the residual of the weeks before gives away.
``same``
    Correlation of the spend with the model's own season, trend, controls and holidays in the same period: spend that
    is planned into the strong weeks.

For `past` the spend is cleared of trend and yearly season first, because a plan by the calendar is not a reaction.
p-values come from surrogates: spend paths with the same spectrum and random phases (Theiler et al. 1992, "Testing for
nonlinearity in time series: the method of surrogate data"), the same phases for all series, so that neither inertia
nor series moving together counts as evidence. They are adjusted by Holm's method over the channels. All paid channels
together are tested as one more, because a company's budget follows sales more clearly than each of its channels.

What no test can see: bids that chase demand of the same period only, without a trace in the periods before. Without a
proxy of demand, contrast between regions or an experiment, that looks exactly like media that work.

Axis letters: G series, T periods, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.predictions.mix import SPLITS, MixPredictions

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.02
"""Adjusted p below which spend is said to follow demand. On simulated panels whose spend follows nothing, 1 to 4 of 100
raise an alarm of `past` then, and up to 9 of 100 where there is one series only and its hidden demand is persistent."""
LEAST = {"past": 0.1, "same": 0.4}
"""Smallest correlation that is worth an alarm."""
TOGETHER = "all paid channels together"
WINDOW = 4
"""Periods before, whose mean residual `past` looks at."""
FEWEST_PERIODS = 24
_DAYS = 365.25
_MOST_SERIES = 400


@dataclass(frozen=True)
class EndogeneityTests:
    """What the tests found.

    Attributes:
        table: channel (or `TOGETHER`), test ("past", "same"), correlation, p_value (one-sided: spend rises with
            demand), p_holm, periods, alarm.
        notes: what could not be tested, in sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def endogeneity_tests(predictions: MixPredictions, *, surrogates: int = 4999, seed: int = 0) -> EndogeneityTests:
    """Test every paid channel.

    Args:
        predictions: of a mix model.
        surrogates: spend paths per channel.
        seed: of their phases.
    """
    import pandas as pd

    response = predictions.response
    columns = ["channel", "test", "correlation", "p_value", "p_holm", "periods", "alarm"]
    grid = _Grid(predictions)
    T = len(grid.dates)
    if T < FEWEST_PERIODS:
        words = f"{T} training periods are too few to test whether spend follows demand ({FEWEST_PERIODS} needed)."
        return EndogeneityTests(pd.DataFrame(columns=columns), (words,))
    rng = np.random.default_rng(seed)
    phases = _phases(surrogates, T, rng)
    past = _before(grid.residual, grid.seen)
    calendar = _calendar(grid.dates)
    rows, notes, relative = [], list(grid.notes), {}
    for c in np.flatnonzero(response.paid):
        spend = grid.spend[:, :, c]
        if (spend.std(axis=1) > 0).any():
            relative[response.channels[c]] = spend / np.maximum(spend.mean(axis=1, keepdims=True), 1e-300)
        else:
            notes.append(f"The spend of {response.channels[c]} never varies, so nothing can be tested.")
    if len(relative) > 1:
        relative[TOGETHER] = sum(relative.values()) / len(relative)
    for name, spend in relative.items():
        cleared = spend - spend @ calendar @ np.linalg.pinv(calendar)
        for test, path, other in (("past", cleared, past), ("same", spend, grid.base)):
            found = _test(path, other, phases)
            if found is not None:
                rows.append({"channel": name, "test": test, "periods": T, **found})
    frame = pd.DataFrame(rows, columns=[name for name in columns if name not in ("p_holm", "alarm")])
    frame["p_holm"] = frame.groupby("test")["p_value"].transform(lambda p: holm(p.to_numpy(float)))
    least = frame["test"].map(LEAST).astype(float)
    frame["alarm"] = (frame["p_holm"] < ALPHA) & (frame["correlation"] >= least)
    return EndogeneityTests(frame[columns], tuple(notes))


class _Grid:
    """Training rows as [G, T], relative to each series' mean KPI where they are KPI."""

    def __init__(self, predictions: MixPredictions) -> None:
        response = predictions.response
        train = predictions.split == SPLITS.index("train")
        self.notes: list[str] = []
        self.dates, time = np.unique(predictions.date[train], return_inverse=True)
        series, at = np.unique(predictions.series[train], return_inverse=True)
        G, T, C = len(series), len(self.dates), len(response.channels)
        rows = np.flatnonzero(train)
        mean = predictions.draws.mean(axis=0)[rows]
        parts = predictions.parts.mean(axis=0, dtype=np.float64)[rows]
        base = [k for k, kind in enumerate(predictions.part_kinds) if kind in ("trend", "season", "control")]
        self.spend, self.base = np.zeros((G, T, C)), np.zeros((G, T))
        self.residual, self.seen = np.zeros((G, T)), np.zeros((G, T), bool)
        self.spend[at, time] = predictions.spend[rows]
        self.base[at, time] = parts[:, base].sum(axis=1)
        kpi = predictions.kpi[rows]
        good = np.isfinite(kpi)
        error = np.where(good, kpi - mean, 0.0)
        if response.link == "log":
            error = np.where(good & (kpi > 0), np.log(np.where(good & (kpi > 0), kpi, 1.0) / mean), 0.0)
        self.residual[at, time], self.seen[at, time] = error, good
        if G > _MOST_SERIES:  # the largest say it too, and surrogates of all would take minutes
            size = np.bincount(at, weights=np.where(good, kpi, 0), minlength=G)
            keep = np.sort(np.argsort(-size)[:_MOST_SERIES])
            self.notes.append(f"Spend that follows demand was looked for in the {_MOST_SERIES} largest series.")
            for name in ("spend", "base", "residual", "seen"):
                setattr(self, name, getattr(self, name)[keep])
        for values in (self.residual, self.base):
            values -= values.mean(axis=1, keepdims=True)
            values /= np.maximum(values.std(axis=1, keepdims=True), 1e-12)


def _before(residual: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean of the last `WINDOW` residuals before each period, [G, T]; the first period has none and gets 0."""
    total, count = np.zeros_like(residual), np.zeros(residual.shape)
    for lag in range(1, WINDOW + 1):
        total[:, lag:] += np.where(seen, residual, 0)[:, :-lag]
        count[:, lag:] += seen[:, :-lag]
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def _calendar(dates: np.ndarray) -> np.ndarray:
    """Columns [T, 6]: level, trend, two yearly harmonics."""
    angle = 2 * np.pi * (dates - dates[0]).astype(float) / _DAYS
    time = np.linspace(-1, 1, len(dates))
    return np.stack([np.ones(len(dates)), time, *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))], axis=1)


def _phases(count: int, T: int, rng: np.random.Generator) -> np.ndarray:
    """Unit complex numbers [count, T // 2 + 1] that turn a spectrum into that of a surrogate; level is left alone."""
    angle = rng.uniform(0, 2 * np.pi, (count, T // 2 + 1))
    turn = np.exp(1j * angle)
    turn[:, 0] = 1
    if T % 2 == 0:  # the highest frequency of an even length must stay real
        turn[:, -1] = np.where(angle[:, -1] < np.pi, 1, -1)
    return turn


def _test(path: np.ndarray, other: np.ndarray, phases: np.ndarray) -> dict[str, float] | None:
    """Pooled correlation of paths and others [G, T], and the share of surrogates that reach it; None without spread."""
    path = path - path.mean(axis=1, keepdims=True)
    other = other - other.mean(axis=1, keepdims=True)
    size = float(np.sqrt(np.square(path).sum() * np.square(other).sum()))
    if not size > 1e-12:
        return None
    r = float((path * other).sum()) / size
    # sum over time of surrogate times other, by Parseval: all surrogates of all series from one spectrum.
    T = path.shape[1]
    cross = (np.fft.rfft(path, axis=1) * np.conj(np.fft.rfft(other, axis=1))).sum(axis=0)
    weight = np.full(len(cross), 2.0)
    weight[0] = 1.0
    if T % 2 == 0:
        weight[-1] = 1.0
    drawn = (phases @ (weight * cross)).real / T / size
    return {"correlation": r, "p_value": float((1 + np.sum(drawn >= r)) / (1 + len(phases)))}


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate((n - np.arange(n)) * p_values[order])
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
