"""The same question answered by least squares: what plain regression says beside the Bayesian model, and how surely.

For row (g, t), with level[g] the series' mean KPI on training rows,

    kpi[g,t] / level[g] = intercept[g] + trend + two yearly harmonics + drivers + controls + sum_c beta_c x[g,t,c] + e,

fitted by ordinary least squares (intervals exact for independent normal errors) and by ridge regression (strength by
cross-validation forward in time, 90 % intervals from a moving-block bootstrap over periods, all series of a period
together). x is the media divided by their scale, or, as a second variant, carried over and saturated with the curves
of the Bayesian model at their posterior mean, which hands least squares the hardest part of the answer. With a log
link log(kpi) takes the place of kpi / level, and there are scores but no contributions: they would not add up.

Axis letters: n rows, P columns, C channels, G series, T periods, B bootstrap samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.predictions.mix import SPLITS, MixPredictions

if TYPE_CHECKING:
    import pandas as pd

VARIANTS = ("raw media", "fitted curves")
BAYESIAN = "Bayesian"
_STRENGTHS = np.logspace(-5, 2, 36)  # of the penalty, per row, on columns of standard deviation 1
_FOLDS = 4
_HARMONICS = 2
_DAYS = 365.25


@dataclass(frozen=True)
class LeastSquares:
    """What `compare_with_least_squares` found.

    Attributes:
        contributions: method, channel, contribution (KPI units, total of observed training rows), low_90, high_90; NaN
            where a method cannot say. Without a row for the log link.
        scores: method, split ("train", "held out"), rows, r2, mape.
        notes: what the reader must know, in sentences.
    """

    contributions: pd.DataFrame
    scores: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Design:
    """Columns [n, P] of all rows within series (training means taken off), target alike, and what undoes it."""

    x: np.ndarray
    y: np.ndarray
    offset: np.ndarray  # [n], mean of the target of the row's series
    train: np.ndarray  # bool [n]
    period: np.ndarray  # int64 [n]
    media: slice
    height: np.ndarray  # [C], sum of x * level over training rows: contribution per unit of the coefficient
    used: np.ndarray  # bool [P], columns that vary
    intercepts: int  # series with training rows


def compare_with_least_squares(predictions: MixPredictions, *, bootstrap: int = 300, seed: int = 0) -> LeastSquares:
    """Fit least squares on the same training rows and put it beside the Bayesian answer.

    Args:
        predictions: of a mix model, all rows of its panel.
        bootstrap: samples for the intervals of ridge regression.
        seed: of the bootstrap.
    """
    import pandas as pd

    response = predictions.response
    seen = np.isfinite(predictions.kpi)
    if response.link == "log":
        seen = seen & (predictions.kpi > 0)
    train = seen & (predictions.split == SPLITS.index("train"))
    notes: list[str] = []
    scores = [*_scores(BAYESIAN, predictions, predictions.draws.mean(axis=0), seen, train)]
    contributions = [_bayesian(predictions, train)]
    level = _level(predictions, train)
    for variant in VARIANTS:
        design = _design(predictions, variant, train, level)
        for method, fit in ((f"OLS, {variant}", _ols), (f"ridge, {variant}", _ridge)):
            result = fit(design, bootstrap, np.random.default_rng(seed))
            if result is None:
                notes.append(
                    f"{method}: {int(design.used.sum())} columns cannot be told apart by {int(train.sum())} rows, "
                    "so there is no single answer."
                )
                continue
            beta, low, high = result
            mean = design.offset + design.x @ beta
            mean = np.exp(mean) if response.link == "log" else mean * level[predictions.series]
            scores += _scores(method, predictions, mean, seen, train)
            if response.link == "identity":
                contributions.append(_contributions(method, response.channels, design, beta, low, high))
    if response.link == "log":
        notes.append(
            "The model multiplies effects (log link), so least squares was fitted to the logarithm: scores can be "
            "compared, contributions of the two cannot."
        )
        contributions = []
    frame = pd.concat(contributions, ignore_index=True) if contributions else _no_contributions()
    return LeastSquares(frame, pd.DataFrame(scores), tuple(notes))


def _no_contributions() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: [] for name in ("method", "channel", "contribution", "low_90", "high_90")})


def _level(predictions: MixPredictions, train: np.ndarray) -> np.ndarray:
    """What each series' KPI is divided by, [G]: its mean on training rows, 1 for the log link."""
    G = len(predictions.response.series)
    if predictions.response.link == "log":
        return np.ones(G)
    at = predictions.series[train]
    total = np.bincount(at, weights=np.abs(predictions.kpi[train]), minlength=G)
    level = total / np.maximum(np.bincount(at, minlength=G), 1)
    return np.where(level > 0, level, 1.0)


def _design(predictions: MixPredictions, variant: str, train: np.ndarray, level: np.ndarray) -> _Design:
    response = predictions.response
    at, G = predictions.series, len(response.series)
    periods, period = np.unique(predictions.date, return_inverse=True)
    share = period / max(len(periods) - 1, 1)
    angle = 2 * np.pi * (predictions.date - periods[0]).astype(float) / _DAYS
    columns = [share - 0.5]
    for k in range(1, _HARMONICS + 1):
        columns += [np.sin(k * angle), np.cos(k * angle)]
    columns += [_driver(predictions, d) for d in range(len(response.drivers))]
    unit = level[at]
    mean = predictions.parts.mean(axis=0, dtype=np.float64)
    columns += [mean[:, k] / unit for k, kind in enumerate(predictions.part_kinds) if kind == "control"]
    first = len(columns)
    columns += [_medium(predictions, variant, c, mean) for c in range(len(response.channels))]
    x = np.stack(columns, axis=1)
    raw = np.log(np.where(predictions.kpi > 0, predictions.kpi, 1.0)) if response.link == "log" else predictions.kpi
    y = np.where(train, raw / unit, 0.0)
    count = np.maximum(np.bincount(at[train], minlength=G), 1)
    height = np.where(train[:, None], x[:, first:] * unit[:, None], 0).sum(axis=0)
    centred = np.empty_like(x)
    for p in range(x.shape[1]):
        centred[:, p] = x[:, p] - (np.bincount(at[train], weights=x[train, p], minlength=G) / count)[at]
    offset = (np.bincount(at[train], weights=y[train], minlength=G) / count)[at]
    spread = centred[train].std(axis=0) if train.any() else np.zeros(x.shape[1])
    used = spread > 1e-9 * np.maximum(np.abs(x[train]).mean(axis=0) if train.any() else 1.0, 1e-12)
    return _Design(
        centred, y - offset, offset, train, period, slice(first, x.shape[1]), height, used, len(np.unique(at[train]))
    )


def _driver(predictions: MixPredictions, number: int) -> np.ndarray:
    response = predictions.response
    value = predictions.driver[:, number]
    reference = response.driver_reference[predictions.series, number]
    transform = response.driver_transform[number]
    if transform == "log_ratio":
        return np.log(np.maximum(value, 1e-12) / reference)
    return value / reference if transform == "scaled" else value - reference


def _medium(predictions: MixPredictions, variant: str, number: int, mean: np.ndarray) -> np.ndarray:
    """A channel's column [n]: scaled media, or its part at the posterior mean per unit of mean amplitude."""
    response = predictions.response
    if variant == "raw media":
        return predictions.media[:, number] / response.media_scale[predictions.series, number]
    amplitude = response.amplitude[:, :, number].mean(axis=0)[predictions.series]
    parts = [
        k
        for k, (name, kind) in enumerate(zip(predictions.part_names, predictions.part_kinds, strict=True))
        if kind == "media" and name == response.channels[number]
    ]
    part = mean[:, parts].sum(axis=1)
    return np.divide(part, amplitude, out=np.zeros_like(part), where=np.abs(amplitude) > 0)


Fit = tuple[np.ndarray, np.ndarray, np.ndarray]


def _ols(design: _Design, _bootstrap: int, _rng: np.random.Generator) -> Fit | None:
    """Coefficients [P] with exact 90 % intervals; None where they are not unique."""
    from scipy.stats import t

    x, y = design.x[design.train][:, design.used], design.y[design.train]
    n, P = x.shape
    free = n - P - design.intercepts
    scale = x.std(axis=0)
    if free <= 0 or np.linalg.matrix_rank(x / scale) < P:
        return None
    beta = np.linalg.lstsq(x / scale, y, rcond=None)[0] / scale
    residual = y - x @ beta
    covariance = np.linalg.inv((x / scale).T @ (x / scale)) * (residual @ residual / free)
    reach = t.ppf(0.95, free) * np.sqrt(np.diag(covariance)) / scale
    return tuple(_whole(design, v) for v in (beta, beta - reach, beta + reach))  # type: ignore[return-value]


def _ridge(design: _Design, bootstrap: int, rng: np.random.Generator) -> Fit | None:
    """Coefficients [P] at the strength that predicts the following periods best, with bootstrap 90 % intervals."""
    x, y = design.x[design.train][:, design.used], design.y[design.train]
    if len(x) < 2 or x.shape[1] == 0:
        return None
    scale = x.std(axis=0)
    x = x / scale
    _, period = np.unique(design.period[design.train], return_inverse=True)
    T, P = int(period.max()) + 1, x.shape[1]
    gram, moment, count = np.zeros((T, P, P)), np.zeros((T, P)), np.bincount(period, minlength=T)
    order = np.argsort(period, kind="stable")
    for t, rows in enumerate(np.split(order, np.cumsum(count)[:-1])):
        gram[t], moment[t] = x[rows].T @ x[rows], x[rows].T @ y[rows]
    strength = ridge_strength(gram, moment, count)
    beta = _solve(gram.sum(axis=0), moment.sum(axis=0), strength * count.sum()) / scale
    length = int(np.clip(round(1.5 * T ** (1 / 3)), 2, T))
    drawn = np.empty((bootstrap, P))
    for b in range(bootstrap):
        starts = rng.integers(0, T - length + 1, -(-T // length))
        picked = (starts[:, None] + np.arange(length)).reshape(-1)[:T]
        weight = np.bincount(picked, minlength=T).astype(float)
        drawn[b] = _solve(
            np.tensordot(weight, gram, axes=1), weight @ moment, strength * max(float(weight @ count), 1.0)
        )
    low, high = np.percentile(drawn / scale, [5, 95], axis=0)
    return tuple(_whole(design, v) for v in (beta, low, high))  # type: ignore[return-value]


def ridge_strength(gram: np.ndarray, moment: np.ndarray, count: np.ndarray) -> float:
    """The penalty per row with the smallest squared error on periods after those it was fitted on.

    Args:
        gram, moment, count: x'x [T, P, P], x'y [T, P] and rows [T] of every period.
    """
    from sklearn.model_selection import TimeSeriesSplit

    T = len(count)
    if T < 3:
        return float(_STRENGTHS[-1])
    error = np.zeros(len(_STRENGTHS))
    for fitted, scored in TimeSeriesSplit(n_splits=min(_FOLDS, T - 1)).split(np.arange(T)):
        g, m = gram[fitted].sum(axis=0), moment[fitted].sum(axis=0)
        g2, m2 = gram[scored].sum(axis=0), moment[scored].sum(axis=0)
        for k, strength in enumerate(_STRENGTHS):
            beta = _solve(g, m, strength * max(count[fitted].sum(), 1))
            error[k] += beta @ g2 @ beta - 2 * beta @ m2  # squared error, up to what no beta changes
    return float(_STRENGTHS[int(np.argmin(error))])


def _solve(gram: np.ndarray, moment: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)


def _whole(design: _Design, values: np.ndarray) -> np.ndarray:
    """Values of all columns [P], 0 for those that do not vary."""
    result = np.zeros(len(design.used))
    result[design.used] = values
    return result


def _contributions(
    method: str, channels: tuple[str, ...], design: _Design, beta: np.ndarray, low: np.ndarray, high: np.ndarray
) -> pd.DataFrame:
    import pandas as pd

    known = design.used[design.media]
    ends = np.stack([design.height * low[design.media], design.height * high[design.media]])
    return pd.DataFrame(
        {
            "method": method,
            "channel": list(channels),
            "contribution": np.where(known, design.height * beta[design.media], np.nan),
            "low_90": np.where(known, ends.min(axis=0), np.nan),
            "high_90": np.where(known, ends.max(axis=0), np.nan),
        }
    )


def _bayesian(predictions: MixPredictions, train: np.ndarray) -> pd.DataFrame:
    """Contributions of the model itself: of its posterior where there is one, else of the draws of its parts."""
    import pandas as pd

    channels = predictions.response.channels
    if predictions.posterior is not None:
        draws = predictions.posterior.flat("contribution")
    else:
        at = [predictions.part_names.index(name) for name in channels]
        draws = predictions.parts[:, train][:, :, at].sum(axis=1, dtype=np.float64)
    low, high = np.percentile(draws, [5, 95], axis=0)
    return pd.DataFrame(
        {
            "method": BAYESIAN,
            "channel": list(channels),
            "contribution": draws.mean(axis=0),
            "low_90": low,
            "high_90": high,
        }
    )


def _scores(
    method: str, predictions: MixPredictions, mean: np.ndarray, seen: np.ndarray, train: np.ndarray
) -> list[dict[str, object]]:
    rows = []
    for split, mask in (("train", train), ("held out", seen & ~train)):
        if not mask.any():
            continue
        y, error = predictions.kpi[mask], predictions.kpi[mask] - mean[mask]
        spread = float(np.square(y - y.mean()).sum())
        positive = y > 0
        rows.append(
            {
                "method": method,
                "split": split,
                "rows": int(mask.sum()),
                "r2": 1 - float(error @ error) / spread if spread > 0 else float("nan"),
                "mape": float(np.mean(np.abs(error[positive]) / y[positive])) if positive.any() else float("nan"),
            }
        )
    return rows
