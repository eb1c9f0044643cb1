"""Does the posterior reproduce the data: predictive intervals, discrepancies, leave-one-series-out, the prior.

Axis letters: G series, T periods, R replicates.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.predictions.posterior import MixPosterior

if TYPE_CHECKING:
    import pandas as pd

COVERAGE_LEVELS = (50, 80, 90, 95)
LOO_SERIES = 5
"""Fewer series than this say nothing about the next one."""
PARETO_GOOD = 0.7
_EXTREME = 0.025
_AUTOCORRELATION = "lag-1 autocorrelation of the residual"
_SERIES_AT_ONCE = 256  # quantiles copy what they sort


@dataclass(frozen=True)
class LooResult:
    """Leave-one-series-out by Pareto-smoothed importance sampling (Vehtari, Gelman, Gabry 2017, arXiv:1507.04544).

    Attributes:
        reason: why there is none; empty where there is one.
        elpd, se: expected log predictive density of a series' training rows, summed over series, and its standard
            error; NaN without.
        p_loo: effective number of parameters.
        series: per series: series, elpd, pareto_k; without a row where there is none.
    """

    reason: str
    elpd: float
    se: float
    p_loo: float
    series: pd.DataFrame

    @property
    def bad(self) -> int:
        """Series without which the posterior would be another, so that their number here cannot be trusted."""
        return int((self.series["pareto_k"] > PARETO_GOOD).sum())


def leave_one_series_out(posterior: MixPosterior) -> LooResult:
    """PSIS-LOO over series, of the log-likelihood with series effects integrated out."""
    import pandas as pd

    names = posterior.series
    nan = float("nan")
    none = pd.DataFrame({"series": [], "elpd": [], "pareto_k": []})
    used = posterior.train.any(axis=1)
    if used.sum() < LOO_SERIES:
        words = f"{int(used.sum())} series are too few to say how the next one would be predicted ({LOO_SERIES} needed)"
        return LooResult(words, nan, nan, nan, none)
    if not np.isfinite(posterior.log_likelihood).all():
        return LooResult("the log-likelihood is not finite in some draws", nan, nan, nan, none)
    import arviz as az

    if np.ptp(posterior.log_likelihood[..., used]) == 0:
        return LooResult("the log-likelihood is the same in all draws", nan, nan, nan, none)
    data = posterior.inference_data().isel(series=np.flatnonzero(used), groups=["log_likelihood"])
    # How many independent draws they are worth; ArviZ' own guess would take in parameters that are NaN or held fixed.
    total = posterior.log_likelihood[..., used].sum(axis=-1)
    worth = 1.0 if posterior.engine == "svi" else float(az.ess(total, method="mean")) / total.size
    worth = float(np.clip(worth, 0.01, 1.0)) if np.isfinite(worth) else 1.0
    with warnings.catch_warnings():  # large k are reported by name
        warnings.simplefilter("ignore", UserWarning)
        loo = az.loo(data, var_name="kpi", pointwise=True, reff=worth)
    frame = pd.DataFrame(
        {
            "series": np.array(names, dtype=object)[used],
            "elpd": np.asarray(loo.loo_i.values),
            "pareto_k": np.asarray(loo.pareto_k.values),
        }
    )
    return LooResult("", float(loo.elpd_loo), float(loo.se), float(loo.p_loo), frame)


def predictive_quantiles(posterior: MixPosterior, levels: tuple[int, ...] = (50, 90)) -> dict[int, np.ndarray]:
    """Bounds [2, G, T] of the central predictive intervals by level in per cent, KPI units.

    With R replicates the q-quantile is the q * (R + 1)-th of them, so that the share of new values inside an interval
    is right on average for every R; intervals that ask for more replicates than there are reach to the outermost ones.
    """
    shares = [s for level in levels for s in (0.5 - level / 200, 0.5 + level / 200)]
    made = posterior.replicated
    bounds = np.empty((len(shares), *made.shape[1:]))
    for first in range(0, made.shape[1], _SERIES_AT_ONCE):
        at = slice(first, first + _SERIES_AT_ONCE)
        bounds[:, at] = np.quantile(made[:, at], shares, axis=0, method="weibull")
    return {level: bounds[2 * i : 2 * i + 2] for i, level in enumerate(levels)}


def coverage_table(posterior: MixPosterior) -> pd.DataFrame:
    """Share of observed values inside the central intervals, in training and in held-out rows.

    Returns:
        One row per split ("train", "held out") that has observed rows and level: split, level (per cent), rows,
        inside (share).
    """
    import pandas as pd

    rows = []
    seen = np.isfinite(posterior.observed)
    bounds = predictive_quantiles(posterior, COVERAGE_LEVELS)
    for split, mask in (("train", seen & posterior.train), ("held out", seen & ~posterior.train)):
        if not mask.any():
            continue
        y = posterior.observed[mask]
        for level, (low, high) in bounds.items():
            inside = float(np.mean((y >= low[mask]) & (y <= high[mask])))
            rows.append({"split": split, "level": level, "rows": int(mask.sum()), "inside": inside})
    return pd.DataFrame(rows)


def discrepancy_table(posterior: MixPosterior) -> pd.DataFrame:
    """Bayesian p-values: how often a replicate shows as much of something as the data do, on training rows.

    The statistics are mean, standard deviation and largest value of each series' KPI, and the lag-1 autocorrelation of
    its residual around the predictive mean. For all series together they are averaged over series in units of each
    series' observed standard deviation. A mean that was fitted to the data follows them closer than it follows its
    replicates, so that of the autocorrelation only what the data have too much of counts as extreme.

    Returns:
        One row per series and statistic, "all" first (of a single series nothing else): series, statistic, observed,
        replicated (mean), low_90, high_90, p_value (share of replicates above the observed), extreme (below 0.025; but
        for the autocorrelation also above 0.975).
    """
    import pandas as pd

    mask = posterior.train & np.isfinite(posterior.observed)
    used = np.flatnonzero(mask.sum(axis=1) >= 3)
    centre = posterior.replicated.mean(axis=0, dtype=np.float64)
    names = ("mean", "standard deviation", "largest value", _AUTOCORRELATION)
    seen = {name: np.full(len(used), np.nan) for name in names}
    made = {name: np.full((len(posterior.replicated), len(used)), np.nan) for name in names}
    scale = np.ones(len(used))
    for number, g in enumerate(used):
        at = mask[g]
        both = np.concatenate([posterior.observed[g : g + 1], posterior.replicated[:, g].astype(np.float64)])
        scale[number] = posterior.observed[g, at].std() or 1.0
        values = (
            both[:, at].mean(axis=1),
            both[:, at].std(axis=1),
            both[:, at].max(axis=1),
            _autocorrelation(both - centre[g], at),
        )
        for name, value in zip(names, values, strict=True):
            seen[name][number], made[name][:, number] = value[0], value[1:]
    rows = []
    for name in names:
        size = np.ones(len(used)) if name == _AUTOCORRELATION else scale
        if len(used):
            rows.append(_discrepancy("all", name, (seen[name] / size).mean(), (made[name] / size).mean(axis=1)))
    for number, g in enumerate(used if len(posterior.series) > 1 else []):  # one series is all series
        for name in names:
            rows.append(_discrepancy(posterior.series[g], name, seen[name][number], made[name][:, number]))
    columns = ["series", "statistic", "observed", "replicated", "low_90", "high_90", "p_value", "extreme"]
    return pd.DataFrame(rows, columns=columns)


def _discrepancy(series: str, statistic: str, observed: float, made: np.ndarray) -> dict[str, object]:
    made = made[np.isfinite(made)]
    known = np.isfinite(observed) and len(made) > 0
    p = float(np.mean(made > observed) + 0.5 * np.mean(made == observed)) if known else float("nan")
    low, high = np.percentile(made, [5, 95]) if len(made) else (np.nan, np.nan)
    return {
        "series": series,
        "statistic": statistic,
        "observed": float(observed),
        "replicated": float(made.mean()) if len(made) else float("nan"),
        "low_90": low,
        "high_90": high,
        "p_value": p,
        "extreme": bool(p < _EXTREME or (p > 1 - _EXTREME and statistic != _AUTOCORRELATION)),
    }


def _autocorrelation(residual: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lag-1 autocorrelation [n] of rows [n, T] over neighbouring periods that both count."""
    pairs = mask[1:] & mask[:-1]
    if not pairs.any():
        return np.full(len(residual), np.nan)
    centred = residual - residual[:, mask].mean(axis=1, keepdims=True)
    above = (centred[:, 1:] * centred[:, :-1])[:, pairs].mean(axis=1)
    below = np.square(centred[:, mask]).mean(axis=1)
    return np.divide(above, below, out=np.full(len(residual), np.nan), where=below > 0)


def prior_predictive_table(posterior: MixPosterior) -> pd.DataFrame:
    """Where the observed KPI lies in what the prior alone would have expected, per series.

    Returns:
        series, observed (mean per period of training rows), prior_mean, prior_low_90, prior_high_90 of that mean,
        place (share of prior replicates below the observed mean), inside (share of training values inside the prior's
        90 % interval), below_zero (share of the prior's values below 0).
    """
    import pandas as pd

    prior = posterior.prior_replicated
    mask = posterior.train & np.isfinite(posterior.observed)
    rows = []
    for g in np.flatnonzero(mask.any(axis=1)):
        at = mask[g]
        made = prior[:, g, at].astype(np.float64)
        y = posterior.observed[g, at]
        means = made.mean(axis=1)
        low, high = np.quantile(made, [0.05, 0.95], axis=0, method="weibull")
        rows.append(
            {
                "series": posterior.series[g],
                "observed": float(y.mean()),
                "prior_mean": float(means.mean()),
                "prior_low_90": float(np.percentile(means, 5)),
                "prior_high_90": float(np.percentile(means, 95)),
                "place": float(np.mean(means < y.mean())),
                "inside": float(np.mean((y >= low) & (y <= high))),
                "below_zero": float(np.mean(made < 0)),
            }
        )
    return pd.DataFrame(rows)


def prior_words(frame: pd.DataFrame) -> str:
    """One sentence about `prior_predictive_table`."""
    if frame.empty:
        return "No series has training rows to compare the prior with."
    outside = frame[(frame["place"] < 0.01) | (frame["place"] > 0.99)]
    if len(outside):
        names = ", ".join(outside["series"].head(4)) + (f" and {len(outside) - 4} more" if len(outside) > 4 else "")
        return (
            f"Before it saw the data the model held the level of {names} for nearly impossible: its prior contradicts "
            "the data, look at the scale of the KPI."
        )
    width = float(
        ((frame["prior_high_90"] - frame["prior_low_90"]) / frame["observed"].abs().clip(lower=1e-9)).median()
    )
    return (
        "Before it saw the data the model held the observed level of every series for possible: its 90 % interval was "
        f"{width:.1f} times the level wide, and {100 * float(frame['below_zero'].mean()):.0f} % of its values were "
        "below 0."
    )
