"""Scores and error statistics of a mix model's rows, on the original scale of the KPI.

The scores have the definitions of the metrics that training logs, so a value that the run knows (`test/wmape`) and one
worked out here are the same number.

Axis letters: N rows, G series, K parts, S draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.metrics.forecast import season_length, seasonal_naive_scale
from wanamaker.predictions.mix import SPLITS, MixPredictions
from wanamaker.reporting.mix_rows import RowSummary, draw_blocks

if TYPE_CHECKING:
    import pandas as pd

SCORES = {
    "r2": "R2",
    "wmape": "wMAPE",
    "mape": "MAPE",
    "smape": "sMAPE",
    "mase": "MASE",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "bias",
    "direction_accuracy": "direction accuracy",
    "pearson": "correlation",
}
PERCENT = ("wMAPE", "MAPE", "sMAPE", "bias", "direction accuracy")  # shares, shown in per cent
_MOST_CELLS = 400_000_000  # rows x parts x draws x repeats of the permutation importance
_SHAPIRO_MOST = 5_000


def naive_scale(predictions: MixPredictions) -> np.ndarray:
    """`seasonal_naive_scale` of the training rows, float64 [G]: the denominator of MASE."""
    response = predictions.response
    training = predictions.split == SPLITS.index("train")
    dates, time = np.unique(predictions.date, return_inverse=True)
    line = np.full((len(response.series), len(dates)), np.nan)
    line[predictions.series[training], time[training]] = predictions.kpi[training]
    return seasonal_naive_scale(line, np.isfinite(line), season_length(response.periods_per_year))


def scores(y: np.ndarray, p: np.ndarray, series: np.ndarray, time: np.ndarray, scale: np.ndarray) -> dict[str, float]:
    """The scores of `SCORES`, pooled over rows; NaN where one is not defined.

    Args:
        y: [n], observed, without NaN.
        p: [n], predicted.
        series, time: int [n], rows in order of series and time.
        scale: of `naive_scale`.
    """
    if len(y) == 0:
        return dict.fromkeys(SCORES, float("nan"))
    error = p - y
    size = np.abs(error)
    spread = float(((y - y.mean()) ** 2).sum()) if np.ptp(y) > 0 else 0.0
    both = np.abs(y) + np.abs(p)
    usable = scale[series] > 0
    return {
        "r2": 1 - _quotient((error**2).sum(), spread),
        "wmape": _quotient(size.sum(), np.abs(y).sum()),
        "mape": float(np.mean(size[y != 0] / np.abs(y[y != 0]))) if (y != 0).any() else float("nan"),
        "smape": float(np.divide(2 * size, both, out=np.zeros_like(size), where=both > 0).mean()),
        "mase": float((size[usable] / scale[series[usable]]).mean()) if usable.any() else float("nan"),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(size.mean()),
        "bias": _quotient(error.sum(), y.sum()),
        "direction_accuracy": _direction(y, p, series, time),
        "pearson": float(np.corrcoef(y, p)[0, 1]) if spread > 0 and np.ptp(p) > 0 else float("nan"),
    }


def _quotient(above: float, below: float) -> float:
    return float(above) / float(below) if below != 0 else float("nan")


def _direction(y: np.ndarray, p: np.ndarray, series: np.ndarray, time: np.ndarray) -> float:
    """Share of changes from the period before that have the predicted sign (Blaskowitz & Herwartz 2011)."""
    change = np.diff(y)
    counts = (np.diff(series) == 0) & (np.diff(time) == 1) & (change != 0)
    hit = np.sign(p[1:] - y[:-1]) == np.sign(change)
    return float(hit[counts].mean()) if counts.any() else float("nan")


def series_score_table(predictions: MixPredictions, summary: RowSummary) -> pd.DataFrame:
    """Scores per series, largest first: series, rows, kpi, then `SCORES`.

    Over the rows that were held out, where there are any, else over all that count in a split.
    """
    import pandas as pd

    seen = np.isfinite(predictions.kpi) & (predictions.split != SPLITS.index("none"))
    later = seen & np.isin(predictions.split, [SPLITS.index("val"), SPLITS.index("test")])
    use = np.flatnonzero(later if later.any() else seen)
    scale, time = naive_scale(predictions), np.unique(predictions.date, return_inverse=True)[1]
    names = predictions.response.series
    y, p, series, time = predictions.kpi[use], summary.mean[use], predictions.series[use], time[use]
    edges = np.searchsorted(series, np.arange(len(names) + 1))  # rows ascend, so those of a series lie together
    table = []
    for g, name in enumerate(names):
        mine = slice(edges[g], edges[g + 1])
        if edges[g + 1] > edges[g]:
            found = scores(y[mine], p[mine], series[mine], time[mine], scale)
            table.append({"series": name, "rows": len(y[mine]), "kpi": float(y[mine].sum())} | found)
    frame = pd.DataFrame(table, columns=["series", "rows", "kpi", *SCORES])
    return frame.sort_values("kpi", ascending=False, kind="stable", ignore_index=True)


def score_table(predictions: MixPredictions, summary: RowSummary, metrics: Mapping[str, float]) -> pd.DataFrame:
    """Scores per split: split, rows, coverage, then `SCORES`.

    A score that the run has logged (`test/wmape`) is taken from there, the others are worked out from the rows.
    """
    import pandas as pd

    scale, time = naive_scale(predictions), np.unique(predictions.date, return_inverse=True)[1]
    observed = np.isfinite(predictions.kpi)
    table = []
    for code, split in enumerate(SPLITS[:3]):
        rows = (predictions.split == code) & observed
        if not rows.any():
            continue
        found = scores(predictions.kpi[rows], summary.mean[rows], predictions.series[rows], time[rows], scale)
        found = {name: _logged(metrics, split, name, value) for name, value in found.items()}
        inside = (predictions.kpi >= summary.low) & (predictions.kpi <= summary.high)
        table.append({"split": split, "rows": int(rows.sum()), "coverage_90": float(inside[rows].mean()), **found})
    return pd.DataFrame(table, columns=["split", "rows", "coverage_90", *SCORES])


def _logged(metrics: Mapping[str, float], split: str, name: str, value: float) -> float:
    logged = metrics.get(f"{split}/{name}")
    return float(logged) if logged is not None and np.isfinite(float(logged)) else value


@dataclass(frozen=True)
class ErrorStatistics:
    """What is remarkable about the errors.

    Attributes:
        residual, fitted, standardised: [n], of the rows used; KPI units, KPI units, standard deviations of the series.
        autocorrelation: [lags], from lag 1, within series.
        bound: |autocorrelation| below this is chance in 95 of 100 cases.
        durbin_watson: 2 where errors do not follow each other, towards 0 where they do.
        normality: p value of Shapiro & Wilk 1965 (a sample where there are more than 5,000 rows).
        skew, kurtosis: of the standardised errors; excess kurtosis.
        growth: rank correlation of |error| / noise of the model with the fitted value, and its p value: beyond what
            the model assumes, do errors depend on the level (heteroscedasticity)?
        link: of the model.
    """

    residual: np.ndarray
    fitted: np.ndarray
    standardised: np.ndarray
    autocorrelation: np.ndarray
    bound: float
    durbin_watson: float
    normality: float
    skew: float
    kurtosis: float
    growth: tuple[float, float]
    link: str


def error_statistics(predictions: MixPredictions, summary: RowSummary, max_lag: int = 16) -> ErrorStatistics | None:
    """Statistics of the errors of all observed rows; None where fewer than 8 are.

    Source: Durbin & Watson 1950; numerator and denominator summed over series, so no step leads from one into another.
    """
    from scipy import stats

    rows = np.isfinite(summary.residual) & (predictions.split != SPLITS.index("none"))
    if rows.sum() < 8:
        return None
    residual, fitted, series = summary.residual[rows], summary.mean[rows], predictions.series[rows]
    G = len(predictions.response.series)
    count = np.maximum(np.bincount(series, minlength=G), 1)
    power = np.bincount(series, weights=residual**2, minlength=G)
    mean = np.bincount(series, weights=residual, minlength=G) / count
    sd = np.sqrt(np.maximum(power / count - mean**2, 0))
    standardised = (residual - mean[series]) / np.where(sd > 0, sd, 1)[series]
    lags = min(max_lag, int(count.max()) // 3)
    auto = np.array([_follows(residual / np.where(sd > 0, sd, 1)[series], series, lag) for lag in range(1, lags + 1)])
    within = np.diff(series) == 0
    watson = _quotient((np.diff(residual)[within] ** 2).sum(), (residual**2).sum())
    rng = np.random.default_rng(0)
    some = standardised if rows.sum() <= _SHAPIRO_MOST else rng.choice(standardised, _SHAPIRO_MOST, replace=False)
    normal = float(stats.shapiro(some).pvalue) if np.ptp(some) > 0 else float("nan")
    against = np.abs(residual) / np.where(summary.noise[rows] > 0, summary.noise[rows], 1)
    rank = stats.spearmanr(against, fitted) if np.ptp(fitted) > 0 and np.ptp(against) > 0 else (np.nan, np.nan)
    return ErrorStatistics(
        residual=residual,
        fitted=fitted,
        standardised=standardised,
        autocorrelation=auto,
        bound=1.96 / np.sqrt(len(residual)),
        durbin_watson=watson,
        normality=normal,
        skew=float(stats.skew(standardised)),
        kurtosis=float(stats.kurtosis(standardised)),
        growth=(float(rank[0]), float(rank[1])),
        link=predictions.response.link,
    )


def _follows(values: np.ndarray, series: np.ndarray, lag: int) -> float:
    same = series[lag:] == series[:-lag]
    return _quotient((values[lag:] * values[:-lag])[same].sum(), (values**2).sum())


def error_words(statistics: ErrorStatistics) -> str:
    """The statistics in plain words, as a list."""
    s = statistics
    if s.normality < 0.05 and max(abs(s.skew), abs(s.kurtosis) / 2) > 0.5:
        what = (
            "large errors are more frequent than the normal distribution has them"
            if s.kurtosis > 0
            else "they are lopsided"
        )
        normal = f"Errors are not normal (Shapiro-Wilk p = {s.normality:.2g}): {what}. Intervals are then approximate."
    elif s.normality < 0.05:
        normal = (
            f"Errors differ measurably from the normal distribution (Shapiro-Wilk p = {s.normality:.2g}), but little."
        )
    else:
        normal = f"Nothing speaks against normal errors (Shapiro-Wilk p = {s.normality:.2g})."
    watson = f"Durbin-Watson {s.durbin_watson:.2f}; 2 is none"
    if s.durbin_watson < 1.5:
        follows = (
            f"Errors follow each other ({watson}): after a period that sold more than predicted comes another. "
            "Something that lasts is missing from the model (trend, season, a campaign), and intervals are too narrow."
        )
    elif s.durbin_watson > 2.5:
        follows = f"Errors alternate ({watson}): high after low. Look for sales that are only booked a period late."
    else:
        follows = f"Errors do not follow each other ({watson})."
    rho, p = s.growth
    assumed = "as large at every level" if s.link == "identity" else "in proportion to the level"
    if p < 0.05 and abs(rho) > 0.15:
        remedy = " A model of the logarithm (link: log) may fit better." if s.link == "identity" and rho > 0 else ""
        high, low = ("narrow", "wide") if rho > 0 else ("wide", "narrow")
        grows = (
            f"Errors {'grow' if rho > 0 else 'shrink'} with the level more than the model assumes, which is {assumed} "
            f"(rank correlation {rho:.2f}): its intervals are too {high} for large values and too {low} for small ones."
            f"{remedy}"
        )
    else:
        grows = f"Errors are {assumed}, as the model assumes (rank correlation {rho:.2f})."
    return f"- {normal}\n- {follows}\n- {grows}"


def permutation_importance(predictions: MixPredictions, *, repeats: int = 5, seed: int = 0) -> pd.DataFrame:
    """How much R2 falls when a part's values are shuffled over the periods of each series.

    Source: Breiman 2001, "Random forests", section 10, on the parts of the model in place of its inputs: a part is the
    answer of one shape function, and shuffling it breaks its tie to time while its size stays.

    Args:
        predictions: of a mix model; rows with an observed KPI count.
        repeats: shuffles per part.
        seed: of the shuffles.

    Returns:
        part, kind, importance (mean fall of R2), sd over the repeats; largest first. Where a table is very large a
        random choice of series stands for all.
    """
    import pandas as pd

    rows = np.flatnonzero(np.isfinite(predictions.kpi) & (predictions.split != SPLITS.index("none")))
    S, _, K = predictions.parts.shape
    rng = np.random.default_rng(seed)
    if len(rows) * K * S * repeats > _MOST_CELLS:
        names = rng.permutation(len(predictions.response.series))
        held = np.cumsum(np.bincount(predictions.series[rows], minlength=len(names))[names])
        enough = int(np.searchsorted(held, _MOST_CELLS // (K * S * repeats))) + 1
        rows = rows[np.isin(predictions.series[rows], names[:enough])]
    y, series = predictions.kpi[rows], predictions.series[rows]
    spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    chosen = predictions.select(rows)
    mean = np.empty(len(rows))
    for block, draws in draw_blocks(chosen):
        mean[block] = draws.mean(axis=0)
    error = float(((y - mean) ** 2).sum())
    parts = chosen.parts
    log = chosen.response.link == "log"
    eta = [parts[s].sum(axis=1, dtype=np.float64) for s in range(S)] if log else []
    found = []
    for k, (name, kind) in enumerate(zip(chosen.part_names, chosen.part_kinds, strict=True)):
        falls = []
        centre = parts[:, :, k].mean(axis=0, dtype=np.float64)
        moves = bool((np.diff(parts[:, :, k], axis=1) != 0)[:, np.diff(series) == 0].any())
        for _ in range(repeats if moves and spread > 0 else 0):
            order = np.lexsort((rng.random(len(rows)), series))  # rows lie by series, so this shuffles within each
            if log:
                shuffled = np.zeros(len(rows))
                for s in range(S):
                    shuffled += np.exp(eta[s] + parts[s, order, k] - parts[s, :, k]) / S
            else:
                shuffled = mean + centre[order] - centre
            falls.append((float(((y - shuffled) ** 2).sum()) - error) / spread)
        found.append(
            {
                "part": name,
                "kind": kind,
                "importance": float(np.mean(falls)) if falls else 0.0,
                "sd": float(np.std(falls, ddof=1)) if len(falls) > 1 else 0.0,
            }
        )
    return pd.DataFrame(found).sort_values("importance", ascending=False, ignore_index=True)
