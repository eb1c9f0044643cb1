"""The rows of a mix model summarised for people: mean and predictive interval, totals over time, spans of the splits.

Everything goes over the rows in blocks, because rows times draws times parts need not fit into memory twice.

Axis letters: N rows, S draws, A groups of rows, T periods, Q quantile points of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wanamaker.errors import UserError
from wanamaker.predictions.mix import SPLITS, MixPredictions

LEVEL = 90  # per cent, of every interval in the report
_NUMBERS_AT_ONCE = 8_000_000
_KEY_SEPARATOR = " | "


@dataclass(frozen=True)
class RowSummary:
    """What the model says about each row.

    Attributes:
        mean: float64 [N], mean prediction over the draws, KPI units.
        low, high: float64 [N], 90 % predictive interval: uncertainty of the mean (draws) and noise around it.
        residual: float64 [N], observed - mean; NaN where nothing was observed.
        noise: float64 [N], standard deviation of the noise, mean over draws, KPI units.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    residual: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class Line:
    """A KPI over time, one value per period: of one series, or the sum of several.

    Attributes:
        name: for people.
        series: numbers of its series.
        date: datetime64[D] [T].
        split: int64 [T], index into `SPLITS`; of the majority of its rows.
        observed, mean, low, high: float64 [T], KPI units. The sum of several series is over rows with an observed KPI
            (all rows where a period has none), so that both sides count the same.
        rows: bool [N], the rows that count.
    """

    name: str
    series: np.ndarray
    rows: np.ndarray
    date: np.ndarray
    split: np.ndarray
    observed: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draw_blocks(predictions: MixPredictions) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows in blocks with the mean of the KPI per draw, float64 [S, n], KPI units."""
    S, N, K = predictions.parts.shape
    size = max(1, _NUMBERS_AT_ONCE // max(S * K, 1))
    for first in range(0, N, size):
        rows = slice(first, min(first + size, N))
        eta = predictions.parts[:, rows].sum(axis=-1, dtype=np.float64)
        yield rows, np.exp(eta, out=eta) if predictions.response.link == "log" else eta


def summarise_rows(predictions: MixPredictions) -> RowSummary:
    """Mean, 90 % predictive interval and residual of every row."""
    N = len(predictions)
    response = predictions.response
    mean, low, high, noise = np.empty(N), np.empty(N), np.empty(N), np.empty(N)
    relative = noise_ratio(predictions)
    for rows, draws in draw_blocks(predictions):
        series = predictions.series[rows]
        sd = relative[:, series] * draws if response.link == "log" else response.noise_sd[:, series]
        mean[rows], noise[rows] = draws.mean(axis=0), sd.mean(axis=0)
        low[rows], high[rows] = predictive_interval(draws, sd, response.link)
    return RowSummary(mean, low, high, predictions.kpi - mean, noise)


def noise_ratio(predictions: MixPredictions) -> np.ndarray:
    """Noise relative to the mean, float64 [S, G]; 0 for the identity link, whose noise is the same at every level.

    `MixResponse.noise_sd` of a log-link model holds at a series' mean level, taken over its training rows.
    """
    response = predictions.response
    S, G = response.noise_sd.shape
    if response.link != "log":
        return np.zeros((S, G))
    level, count = np.zeros((S, G)), np.zeros(G)
    training = predictions.split == SPLITS.index("train")
    training = training if training.any() else np.ones(len(predictions), bool)
    for rows, draws in draw_blocks(predictions):
        inside, series = training[rows], predictions.series[rows]
        count += np.bincount(series[inside], minlength=G)
        for s in range(S):
            level[s] += np.bincount(series[inside], weights=draws[s, inside], minlength=G)
    level /= np.maximum(count, 1)
    return np.divide(response.noise_sd, level, out=np.zeros((S, G)), where=level > 0)


def predictive_interval(mean: np.ndarray, sd: np.ndarray, link: str) -> tuple[np.ndarray, np.ndarray]:
    """Central 90 % interval [A] of the mixture over draws of Normal(mean, sd), log-normal of the same mean and sd for
    the log link; ``mean`` and ``sd`` are [S, A]."""
    from scipy.stats import norm

    S, A = mean.shape
    Q = int(np.clip(320 // S, 5, 320))
    # S * Q evenly spaced quantiles of the noise, dealt to the draws so that each has Q spread over the whole range.
    place = np.random.default_rng(0).permutation(S)[:, None]
    z = norm.ppf((np.arange(Q) * S + place + 0.5) / (S * Q))[:, :, None]  # [S, Q, 1]
    low, high = np.empty(A), np.empty(A)
    size = max(1, _NUMBERS_AT_ONCE // (S * Q))
    tails = [(100 - LEVEL) / 2, (100 + LEVEL) / 2]
    for first in range(0, A, size):
        at = slice(first, min(first + size, A))
        m, d = mean[:, None, at], sd[:, None, at]
        if link == "log":
            sigma2 = np.log1p((d / m) ** 2)
            points = m * np.exp(np.sqrt(sigma2) * z - sigma2 / 2)
        else:
            points = m + d * z
        low[at], high[at] = np.percentile(points.reshape(S * Q, -1), tails, axis=0)
    return low, high


def choose_lines(
    predictions: MixPredictions, level: str | int = "series", top: int = 6
) -> list[tuple[str, np.ndarray]]:
    """Which sums to show: everything, then the largest groups of a level, then the rest of them together.

    Args:
        predictions: of a mix model.
        level: "series", or a number k: series whose names (compound keys, "a | b") agree in their first k parts are
            one group.
        top: groups shown on their own.

    Returns:
        Names and the numbers of their series.

    Raises:
        UserError: there is no such level.
    """
    names = predictions.response.series
    depth = max(len(name.split(_KEY_SEPARATOR)) for name in names)
    if level == "series":
        keys = list(names)
    elif isinstance(level, int) and not isinstance(level, bool) and 1 <= level <= depth:
        keys = [_KEY_SEPARATOR.join(name.split(_KEY_SEPARATOR)[:level]) for name in names]
    else:
        numbers = f" or a number from 1 to {depth} (so many parts of the name are one group)" if depth > 1 else ""
        raise UserError(
            f"decision.level={level!r}: there is no such level of the series, which are named like {names[0]!r}. "
            f"Use series{numbers}."
        )
    groups: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    if len(groups) == 1:
        return [(next(iter(groups)), np.arange(len(names)))]
    size = np.bincount(predictions.series, weights=np.nan_to_num(predictions.kpi), minlength=len(names))
    ranked = sorted(groups, key=lambda key: -float(size[groups[key]].sum()))
    shown = ranked[:top] if len(ranked) > top + 1 else ranked
    lines = [(f"All {len(names):,} series together", np.arange(len(names)))]
    lines += [(key, np.array(groups[key])) for key in shown]
    if rest := ranked[len(shown) :]:
        lines.append((f"The other {len(rest):,}", np.sort(np.concatenate([groups[key] for key in rest]))))
    return lines


def lines_over_time(predictions: MixPredictions, lines: list[tuple[str, np.ndarray]]) -> list[Line]:
    """Observed and predicted KPI per period of each line, in one pass over the rows."""
    response = predictions.response
    S, G = response.noise_sd.shape
    dates, time = np.unique(predictions.date, return_inverse=True)
    T = len(dates)
    observed = np.isfinite(predictions.kpi)
    member = np.zeros((len(lines), G), bool)
    for number, (_, series) in enumerate(lines):
        member[number, series] = True
    used = _counted(predictions, member, time, T, observed)
    mean, variance = np.zeros((len(lines), S, T)), np.zeros((len(lines), S, T))
    relative = noise_ratio(predictions)
    for rows, draws in draw_blocks(predictions):
        series = predictions.series[rows]
        sd = relative[:, series] * draws if response.link == "log" else response.noise_sd[:, series]
        for number in range(len(lines)):
            chosen = used[number, rows]
            at = time[rows][chosen]
            for s in range(S):
                mean[number, s] += np.bincount(at, weights=draws[s, chosen], minlength=T)
                variance[number, s] += np.bincount(at, weights=sd[s, chosen] ** 2, minlength=T)
    result = []
    for number, (name, series) in enumerate(lines):
        chosen = used[number]
        here = np.bincount(time[chosen], minlength=T) > 0
        total = np.bincount(time[chosen], weights=predictions.kpi[chosen], minlength=T)
        votes = [np.bincount(time[chosen], weights=predictions.split[chosen] == k, minlength=T) for k in range(4)]
        low, high = predictive_interval(mean[number][:, here], np.sqrt(variance[number][:, here]), response.link)
        result.append(
            Line(
                name=name,
                series=series,
                rows=chosen,
                date=dates[here],
                split=np.argmax(votes, axis=0)[here],
                observed=total[here],
                mean=mean[number].mean(axis=0)[here],
                low=low,
                high=high,
            )
        )
    return result


def _counted(
    predictions: MixPredictions, member: np.ndarray, time: np.ndarray, T: int, observed: np.ndarray
) -> np.ndarray:
    """Rows that count for each line, bool [lines, N]: the observed ones, and all of a period that has none."""
    mine = member[:, predictions.series]
    used = mine & observed
    for number in range(len(mine)):
        some = np.bincount(time[used[number]], minlength=T) > 0
        used[number] |= mine[number] & ~some[time]
    return used


def split_spans(date: np.ndarray, split: np.ndarray) -> list[tuple[np.datetime64, np.datetime64, str]]:
    """Stretches of one split: first day, first day of what follows, name. ``date`` [T] ascends."""
    if len(date) == 0:
        return []
    step = np.diff(date).min() if len(date) > 1 else np.timedelta64(1, "D")
    edges = [0, *(np.flatnonzero(np.diff(split)) + 1).tolist(), len(date)]
    ends = np.append(date, date[-1] + step)
    return [(date[a], ends[b], SPLITS[int(split[a])]) for a, b in pairwise(edges)]
