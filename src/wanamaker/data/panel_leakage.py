"""Inputs from which the KPI can be read: a copy of it, the same sales in another unit, a total or share made of it.

A strong driver and a leak differ in how exactly the KPI follows. An input is a leak when one of these holds, where all
correlations are within series (each series centred and scaled by itself) and must hold in levels *and* in differences
between neighbouring periods, so that a common trend or season alone never convicts:

* copy: abs(correlation) > 0.995 in levels and > 0.7 in differences, of the values or of their logarithms, also after a
  shift by one period (the KPI of the next or the previous period);
* unit: in logarithms, prices held fixed, the KPI is proportional to the input: correlation > 0.95 in levels and > 0.9
  in differences, both slopes between 0.8 and 1.25. Units beside revenue look like this (ElecKart: 0.98, 0.97, slopes
  1.03); of 21 public mix data sets the strongest honest driver has 0.89, 0.89 and slopes of 1.2 and 1.9;
* total: the mean over the series of a group (a level of the hierarchy, or all series) is a copy of the KPI's total over
  the group (correlation > 0.9995, 0.995), or the input is the same on the whole group and that total in another unit
  (0.98, 0.95);
* share: the input is a copy of the KPI divided by its total over a group.

Axis letters: G series, T periods, N observed cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COPY, COPY_STEPS = 0.995, 0.7
UNIT, UNIT_STEPS = 0.95, 0.9
UNIT_SLOPE = (0.8, 1.25)
# Summing over series averages their noise away, so that an honest national driver follows a total closely.
TOTAL, TOTAL_STEPS = 0.9995, 0.995
UNIT_TOTAL, UNIT_TOTAL_STEPS = 0.98, 0.95
MAX_CELLS = 1 << 16  # a leak is a property of the column: so many cells tell it
MIN_CELLS = 8  # with fewer, only an exact copy is called one
MIN_UNIT_CELLS = 20


@dataclass(frozen=True)
class Leak:
    """An input that tells the KPI.

    Attributes:
        name: of the input.
        how: what it is to the KPI, whose name belongs at "{kpi}".
    """

    name: str
    how: str


@dataclass(frozen=True)
class _Fit:
    """Agreement of two variables within series: correlation and slope, in levels and in differences."""

    level: float
    steps: float
    level_slope: float = np.nan
    steps_slope: float = np.nan
    cells: int = 0

    @property
    def copy(self) -> bool:
        if self.cells < MIN_CELLS:
            return self.cells >= 4 and min(abs(self.level), abs(self.steps)) > 1 - 1e-6
        return abs(self.level) > COPY and abs(self.steps) > COPY_STEPS

    @property
    def unit(self) -> bool:
        low, high = UNIT_SLOPE
        slopes = low < self.level_slope < high and low < self.steps_slope < high
        return self.cells >= MIN_UNIT_CELLS and self.level > UNIT and self.steps > UNIT_STEPS and slopes


def sample_series(shape: tuple[int, int]) -> np.ndarray:
    """Numbers of the series to look at: all, or evenly many so that about `MAX_CELLS` cells are seen."""
    G, T = shape
    count = min(G, max(1, MAX_CELLS // max(T, 1)))
    return np.unique(np.linspace(0, G - 1, count).round().astype(np.int64))


def find_leaks(
    kpi: np.ndarray,
    inputs: Iterable[tuple[str, np.ndarray]],
    prices: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
) -> list[Leak]:
    """Inputs that tell the KPI; the first reason of each.

    Args:
        kpi: [G, T], NaN where it was not observed.
        inputs: names and [G, T] values.
        prices: those of the inputs that are prices, which the unit test holds fixed.
        groups: level -> number of each series' group [G].
    """
    kept = sample_series(kpi.shape)
    y = kpi[kept].astype(np.float64)
    log_y = _log(y)
    log_prices = {name: _log(values[kept].astype(np.float64)) for name, values in prices.items()}
    totals = _totals(kpi, groups)
    leaks = []
    for name, values in inputs:
        x = np.where(np.isfinite(y) & np.isfinite(values[kept]), values[kept], np.nan).astype(np.float64)
        others = [log_price for price, log_price in log_prices.items() if price != name]
        how = _own(x, y, log_y, values[kept], others) or _grouped(x, y, totals, kept)
        if how:
            leaks.append(Leak(name, how))
    return leaks


def _own(x: np.ndarray, y: np.ndarray, log_y: np.ndarray, shown: np.ndarray, prices: list[np.ndarray]) -> str | None:
    log_x = _log(x)
    for a, b in ((x, y), (log_x, log_y), (log_x, y), (x, log_y)):
        fit = _fit(a, b)
        if fit.copy:
            return (
                f"is a copy of the KPI {{kpi}} (correlation {fit.level:.4f} in levels, {fit.steps:.4f} in differences)"
            )
    for shift, word in ((-1, "previous"), (1, "next")):
        moved = np.roll(shown.astype(np.float64), shift, axis=1)  # moved[:, t] = shown[:, t - shift]
        moved[:, -1 if shift == -1 else 0] = np.nan
        fit = _fit(moved, y)
        # A shifted copy is exact; a smooth KPI is honestly like itself one period later.
        if fit.copy and abs(fit.steps) > COPY:
            return f"is a copy of the KPI {{kpi}} of the {word} period (correlation {fit.level:.4f})"
    for held in ([], prices) if prices else ([],):
        fit = _fit(log_x, log_y, held)
        if fit.unit:
            fixed = "with prices held fixed, " if held else ""
            return (
                f"is the KPI {{kpi}} in another unit: {fixed}the KPI is proportional to it (correlation of logarithms"
                f" {fit.level:.3f} in levels, {fit.steps:.3f} in differences; slopes {fit.level_slope:.2f},"
                f" {fit.steps_slope:.2f})"
            )
    return None


def _totals(kpi: np.ndarray, groups: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each grouping that has a group of several series: group of each series [G], and total per group [K, T]."""
    G = len(kpi)
    totals = {}
    finest_first = {**dict(reversed(groups.items())), "all series": np.zeros(G, np.int64)}
    for name, of_series in finest_first.items():
        if len(np.unique(of_series)) < G:
            totals[name] = (of_series, _sum(np.nan_to_num(kpi), of_series, int(of_series.max()) + 1))
    return totals


def _sum(values: np.ndarray, of_series: np.ndarray, count: int) -> np.ndarray:
    """Sum of [G, T] over the series of each group, float64 [K, T]."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, of_series, values)
    return total


def _grouped(x: np.ndarray, y: np.ndarray, totals: Mapping, kept: np.ndarray) -> str | None:
    seen = np.isfinite(y)
    for name, (of_series, total) in totals.items():
        over = "over all series" if name == "all series" else f"over each group of {name!r}"
        several = np.bincount(of_series, minlength=len(total)) > 1
        of_kept = of_series[kept]
        counts = _sum(seen.astype(np.float64), of_kept, len(total))
        known = several[:, None] & (counts > 0)
        mean = np.where(known, _sum(np.nan_to_num(x), of_kept, len(total)) / np.maximum(counts, 1), np.nan)
        total = np.where(known, total, np.nan)
        for a, b in ((mean, total), (_log(mean), _log(total)), (_log(mean), total), (mean, _log(total))):
            fit = _fit(a, b)
            if fit.copy and abs(fit.level) > TOTAL and abs(fit.steps) > TOTAL_STEPS:
                return f"is made of the KPI's total {over} (correlation {fit.level:.4f}, KPI {{kpi}})"
        fit = _fit(_log(mean), _log(total))
        close = fit.unit and fit.level > UNIT_TOTAL and fit.steps > UNIT_TOTAL_STEPS
        if close and np.nanmax(np.abs(x - mean[of_kept]) / np.maximum(np.abs(x), 1e-12), initial=0.0) < 1e-4:
            return f"is the total of the KPI {{kpi}} {over} in another unit (correlation of logarithms {fit.level:.3f})"
        share = y / np.where(total > 0, total, np.nan)[of_kept]
        for a, b in ((x, share), (_log(x), _log(share))):
            fit = _fit(a, b)
            if fit.copy:
                return f"is the share of the KPI {{kpi}} in its total {over} (correlation {fit.level:.4f})"
    return None


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm where positive, NaN elsewhere; all NaN if less than half of the known values are positive."""
    known = np.isfinite(values)
    positive = known & (values > 0)
    if positive.sum() * 2 < known.sum():
        return np.full(values.shape, np.nan)
    return np.log(values, where=positive, out=np.full(values.shape, np.nan))


def _fit(x: np.ndarray, y: np.ndarray, held: Sequence[np.ndarray] = ()) -> _Fit:
    """How x [G, T] follows y [G, T] within series, with `held` [G, T] regressed out of both."""
    level = _correlation(x, y, held)
    if level is None or not abs(level[0]) > min(COPY, UNIT):
        return _Fit(np.nan if level is None else level[0], np.nan)
    steps = _correlation(np.diff(x, axis=1), np.diff(y, axis=1), [np.diff(values, axis=1) for values in held])
    if steps is None:
        return _Fit(level[0], np.nan)
    return _Fit(level[0], steps[0], level[1], steps[1], level[2])


def _correlation(x: np.ndarray, y: np.ndarray, held: Sequence[np.ndarray]) -> tuple[float, float, int] | None:
    """Correlation and slope of y on x within series, and the number of cells; None where it does not exist."""
    known = np.isfinite(x) & np.isfinite(y)
    for values in held:
        known &= np.isfinite(values)
    counts = known.sum(axis=1)
    known &= (counts >= 3)[:, None]
    N = int(known.sum())
    series = np.broadcast_to(np.arange(len(x))[:, None], x.shape)[known]
    if N < 3 or N - len(np.unique(series)) - len(held) < (MIN_UNIT_CELLS if held else 1):
        return None
    a, b = _centre(x[known], series), _centre(y[known], series)
    if held:
        fixed = np.stack([_centre(values[known], series) for values in held], axis=1)
        a, b = (v - fixed @ np.linalg.lstsq(fixed, v, rcond=None)[0] for v in (a, b))
    slope = (a @ b) / max(a @ a, 1e-300)
    sd_a, sd_b = _deviation(a, series), _deviation(b, series)
    moving = ((sd_a > 0) & (sd_b > 0))[series]
    if not moving.any():
        return None
    product = a[moving] * b[moving] / (sd_a * sd_b)[series[moving]]
    return float(product.mean()), float(slope), int(moving.sum())


def _centre(values: np.ndarray, series: np.ndarray) -> np.ndarray:
    count = np.bincount(series)
    mean = np.bincount(series, values) / np.maximum(count, 1)
    centred = values - mean[series]
    # what rounding leaves of a constant is no movement
    return np.where(np.abs(centred) > 1e-6 * np.abs(mean[series]), centred, 0.0)


def _deviation(values: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Root mean square of each series' values [G]; 0 for series without any."""
    return np.sqrt(np.bincount(series, values**2) / np.maximum(np.bincount(series), 1))
