"""Scores of forecasts on the original scale, over any number of ranks, each row counted once.

Every score is pooled over the rows of all series. Fractions are fractions: 0.1 is 10 %. With error e = prediction -
target over N rows whose target is known:

- ``r2``: 1 - sum e^2 / sum (y - mean y)^2.
- ``mape``: mean |e| / |y| over the rows with y != 0; the others are left out, and a warning says how many.
- ``smape``: mean 2 |e| / (|y| + |prediction|), 0 where both are 0; from 0 to 2 (Makridakis 1993).
- ``wmape``: sum |e| / sum |y|.
- ``mase``: mean |e| / q, q being the series' mean |y_t - y_{t-m}| *in the training window*, m the season (Hyndman &
  Koehler 2006); below 1 is better than the seasonal naive was in training. Series without a positive q are left out,
  with a warning.
- ``rmse``, ``mae``: root of the mean e^2, mean |e|; units of the KPI.
- ``bias``: sum e / sum y, the share by which the total is over-forecast.
- ``direction_accuracy``: share of rows whose change since the period before has the predicted sign: prediction_t less
  y_{t-1} against y_t less y_{t-1} (mean directional accuracy, Blaskowitz & Herwartz 2011). Only rows whose period
  before is there too; no change has no direction and is left out.
- ``pearson``: correlation of prediction and target.

A score that is not defined (no rows, no variation, no scale) is NaN, never 0.

Axis letters: B batch rows, N rows, G series, T periods.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from wanamaker.metrics.rank_zero import on_rank_zero

SCORES = ("r2", "mape", "smape", "wmape", "mase", "rmse", "mae", "bias", "direction_accuracy", "pearson")


class _Rows(NamedTuple):
    row: np.ndarray  # int64 [N]
    series: np.ndarray  # int64 [N]
    time: np.ndarray  # int64 [N]
    prediction: np.ndarray  # float64 [N]
    target: np.ndarray  # float64 [N]


class ForecastMetrics(Metric):
    """The scores of `forecast_scores` over all ranks.

    Call `update` per batch, `compute` on **every** rank at the end of the epoch (it is a collective), and `reset` when
    the next evaluation starts. A row that came more than once (padding of a last batch, two ranks) counts once. The
    result depends neither on batches nor on ranks, to the last bit. There are no tensor states: nothing is moved, cast
    by half precision, or saved in a checkpoint.
    """

    is_differentiable = False

    def __init__(self) -> None:
        # The base class's cache and sync are off: a rank with a cached value would return at once and leave the others
        # waiting, and its gather is one collective per tensor.
        super().__init__(compute_with_cache=False, sync_on_compute=False)
        self._parts: list[_Rows] = []
        self._naive_scale: np.ndarray | None = None
        self._warned: set[str] = set()

    def set_naive_scale(self, naive_scale: np.ndarray | Tensor) -> None:
        """Give the scales that MASE divides by; without them MASE is NaN.

        Args:
            naive_scale: [G], KPI units, from the training window only: `seasonal_naive_scale`.
        """
        values = naive_scale.detach().cpu().numpy() if isinstance(naive_scale, Tensor) else naive_scale
        self._naive_scale = np.asarray(values, np.float64)

    def update(self, prediction: Tensor, target: Tensor, row: Tensor, series: Tensor, time: Tensor) -> None:
        """Add B rows, in KPI units; targets that are NaN are left out.

        Args:
            prediction, target: floating [B].
            row: int [B], unique per row of the panel and the same on every rank.
            series, time: int [B].

        Raises:
            ValueError: the shapes disagree, or numbers that should be integers are not.
        """
        tensors = {"prediction": prediction, "target": target, "row": row, "series": series, "time": time}
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if prediction.ndim != 1 or len(set(shapes.values())) > 1:
            raise ValueError(f"ForecastMetrics: one value per row is expected, shapes are {shapes}.")
        for name in ("row", "series", "time"):
            if tensors[name].dtype.is_floating_point:
                raise ValueError(f"ForecastMetrics: {name} is {tensors[name].dtype}; give integers.")
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        known = ~np.isnan(arrays["target"])
        self._parts.append(_Rows(**{name: array[known] for name, array in arrays.items()}))

    def compute(self) -> dict[str, float]:
        """Scores of the rows of all ranks, each row once; every rank gets the same dict. A collective.

        Returns:
            `SCORES` to floats.

        Raises:
            ValueError: one row came with two targets (row numbers that are not unique); on all ranks.
        """
        # One joined part per rank: both the message and, from here on, the state.
        self._parts = [_joined(self._parts)]
        scores, notes = on_rank_zero((self._parts[0], self._naive_scale), _scores_of_ranks)
        for kind, text in notes.items():
            if kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(text)
        return scores

    def reset(self) -> None:
        """Forget all rows; the naive scale stays. Call it when an evaluation starts."""
        super().reset()
        self._parts = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: scores of one batch are no estimate, and would be a collective at every step.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("ForecastMetrics has no per-batch value: call update() and compute().")


def forecast_scores(
    prediction: np.ndarray,
    target: np.ndarray,
    series: np.ndarray,
    time: np.ndarray,
    naive_scale: np.ndarray | None = None,
) -> dict[str, float]:
    """All scores of N rows; definitions at the top of this module.

    Args:
        prediction, target: [N], KPI units. Rows with a NaN target are left out; a prediction that is not finite makes
            every score NaN.
        series, time: int [N]; a series has a period at most once.
        naive_scale: [G], from `seasonal_naive_scale`; None leaves MASE NaN.

    Returns:
        `SCORES` to floats.

    Raises:
        ValueError: a series has a period twice, or a series number is beyond the naive scale.
    """
    arrays = [np.asarray(a, np.float64) for a in (prediction, target)]
    arrays += [np.asarray(a, np.int64) for a in (series, time)]
    known = ~np.isnan(arrays[1])
    scores, notes = _scores(*(array[known] for array in arrays), naive_scale)
    for text in notes.values():
        warnings.warn(text)
    return scores


def season_length(periods_per_year: float) -> int:
    """Periods of the season a naive forecast repeats: a week of days, or a year of weeks, months or quarters."""
    return 7 if periods_per_year > 100 else max(1, round(periods_per_year))


def seasonal_naive_scale(kpi: np.ndarray, train_mask: np.ndarray, season: int) -> np.ndarray:
    """Per series the mean |y_t - y_{t-m}| of the training window: what MASE divides by.

    One lag for all series: the season, where the window, from the first period observed in any series to the last,
    holds at least one and a half of it; else 1, a change from period to period. (With less, few and only early periods
    would have a partner.)

    Args:
        kpi: [G, T]; NaN where not observed.
        train_mask: bool [G, T]; a pair counts where both of its periods are training rows.
        season: m in periods, at least 1; 52 for weeks, 7 for days with a weekly rhythm: see `season_length`.

    Returns:
        float64 [G], KPI units; NaN for a series without two observations that far apart.

    Raises:
        ValueError: ``season`` is below 1.
    """
    if season < 1:
        raise ValueError(f"seasonal_naive_scale: season={season}; give a number of periods, at least 1.")
    known = np.where(train_mask, np.asarray(kpi, np.float64), np.nan)
    inside = np.flatnonzero(np.isfinite(known).any(axis=0))
    lag = season if len(inside) and inside[-1] - inside[0] + 1 >= 1.5 * season else 1
    steps = np.abs(known[:, lag:] - known[:, :-lag])  # [G, T - lag]
    count = np.isfinite(steps).sum(axis=1)
    return np.where(count > 0, np.nansum(steps, axis=1) / np.maximum(count, 1), np.nan)


def _array(tensor: Tensor) -> np.ndarray:
    dtype = torch.float64 if tensor.dtype.is_floating_point else torch.int64
    return tensor.detach().cpu().to(dtype).numpy()


def _joined(parts: list[_Rows]) -> _Rows:
    empty = _Rows(*(np.zeros(0, np.int64) for _ in range(3)), *(np.zeros(0) for _ in range(2)))
    return _Rows(*(np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True)))


def _scores_of_ranks(parts: list[tuple[_Rows, np.ndarray | None]]) -> tuple[dict[str, float], dict[str, str]]:
    rows = _joined([part for part, _scale in parts])
    _, first, inverse = np.unique(rows.row, return_index=True, return_inverse=True)
    target = rows.target[first]
    if (differs := rows.target != target[inverse]).any():
        number = int(rows.row[differs][0])
        raise ValueError(
            f"ForecastMetrics: row {number} came with the targets {rows.target[rows.row == number].tolist()}. Row "
            "numbers must be unique in a panel: series * T + time."
        )
    scale = next((scale for _part, scale in parts if scale is not None), None)
    return _scores(rows.prediction[first], target, rows.series[first], rows.time[first], scale)


def _scores(
    prediction: np.ndarray, target: np.ndarray, series: np.ndarray, time: np.ndarray, naive_scale: np.ndarray | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores of rows with known targets, and what a reader must be told, by kind."""
    notes: dict[str, str] = {}
    if len(target) == 0 or not np.isfinite(prediction).all():
        return dict.fromkeys(SCORES, float("nan")), notes
    error = prediction - target
    size = np.abs(error)
    centred = target - target.mean()
    nonzero = target != 0
    if not nonzero.all():
        notes["mape"] = (
            f"MAPE leaves out {int((~nonzero).sum())} of {len(target)} rows whose KPI is 0 (an error relative to 0 is "
            "not defined); wMAPE has them all."
        )
    both = np.abs(target) + np.abs(prediction)
    scores = {
        "r2": 1.0 - _ratio((error**2).sum(), (centred**2).sum() if np.ptp(target) > 0 else 0.0),
        "mape": _mean(size[nonzero] / np.abs(target[nonzero])),
        "smape": float(np.divide(2 * size, both, out=np.zeros_like(size), where=both > 0).mean()),
        "wmape": _ratio(size.sum(), np.abs(target).sum()),
        "mase": _mase(size, series, naive_scale, notes),
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(size.mean()),
        "bias": _ratio(error.sum(), target.sum()),
        "direction_accuracy": _direction_accuracy(prediction, target, series, time),
        "pearson": _pearson(prediction - prediction.mean(), centred),
    }
    return {name: scores[name] for name in SCORES}, notes


def _mase(size: np.ndarray, series: np.ndarray, naive_scale: np.ndarray | None, notes: dict[str, str]) -> float:
    if naive_scale is None:
        return float("nan")
    if series.max() >= len(naive_scale):
        raise ValueError(
            f"The naive scale has {len(naive_scale)} series, but a row belongs to series {int(series.max())}. Compute "
            "it from the same panel."
        )
    scale = np.asarray(naive_scale, np.float64)[series]
    usable = scale > 0
    if not usable.all():
        left_out = np.unique(series[~usable])
        notes["mase"] = (
            f"MASE leaves out {len(left_out)} series ({', '.join(map(str, left_out[:5].tolist()))}"
            f"{', ...' if len(left_out) > 5 else ''}): their training window is constant or too short for a naive "
            "scale."
        )
    return _mean(size[usable] / scale[usable])


def _direction_accuracy(prediction: np.ndarray, target: np.ndarray, series: np.ndarray, time: np.ndarray) -> float:
    order = np.lexsort((time, series))
    prediction, target, series, time = (array[order] for array in (prediction, target, series, time))
    same = np.diff(series) == 0
    if (repeated := same & (np.diff(time) == 0)).any():
        i = int(np.flatnonzero(repeated)[0])
        raise ValueError(f"Series {int(series[i])} has period {int(time[i])} twice; each row must be given once.")
    change = np.diff(target)
    predicted = prediction[1:] - target[:-1]
    counts = same & (np.diff(time) == 1) & (change != 0)
    return _mean(np.sign(predicted[counts]) == np.sign(change[counts]))


def _pearson(prediction: np.ndarray, target: np.ndarray) -> float:
    if np.ptp(prediction) == 0 or np.ptp(target) == 0:
        return float("nan")
    return _ratio((prediction * target).sum(), np.sqrt((prediction**2).sum()) * np.sqrt((target**2).sum()))


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator != 0 else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
