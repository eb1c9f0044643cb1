"""Elasticities: by how many per cent the KPI changes when a price, a promotion or a channel's media change by 1 %.

Of prices and promotions at any value, by the exact derivative of the curve:

    log link       e = d eta / d log value                          (eta: the linear predictor)
    identity link  e = (d eta / d log value) / E[kpi at that value]

Aggregated over series, e is weighted with the KPI each sells at that value: the elasticity of the total when all prices
move by 1 % together. Axis letters: S draws, G series, C channels, N rows, V values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.driver_curves import driver_part
from wanamaker.decisions.intervals import interval_columns
from wanamaker.decisions.media_return import by_draws, returns_window
from wanamaker.decisions.response import ResponseSurface
from wanamaker.predictions.mix import MixPredictions, MixResponse

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SeriesMeans:
    """What the elasticity at a value needs to know of a series in a window.

    Attributes:
        value: float64 [G], mean of the driver; NaN where it is never known.
        rest: float64 [S, G], link-scale sum of everything but the driver: sum of eta (identity link), log of the sum
            of exp(eta) (log link).
        periods: int64 [G], rows counted.
    """

    value: np.ndarray
    rest: np.ndarray
    periods: np.ndarray

    def kpi(self, part: np.ndarray, link: str) -> np.ndarray:
        """KPI [S, G, ...] of the window when the driver's part is ``part`` [S, G, ...] in every period."""
        wide = (..., *(None,) * (part.ndim - 2))
        if link == "log":
            return np.exp(self.rest[wide] + part)
        return self.rest[wide] + self.periods[wide] * part


def series_means(predictions: MixPredictions, drivers: np.ndarray, rows: np.ndarray) -> SeriesMeans:
    """Sums over a window with one driver per series left out.

    Args:
        predictions: of a mix model.
        drivers: int64 [G], number of the driver of each series; -1 leaves the series out.
        rows: mask [N].
    """
    response = predictions.response
    G = len(response.series)
    S = response.num_draws
    mine = drivers[predictions.series]
    value = np.full(len(predictions), np.nan)
    have = rows & (mine >= 0)
    value[have] = predictions.driver[have, mine[have]]
    use = have & np.isfinite(value)
    part_of = {name: k for k, name in enumerate(predictions.part_names)}
    column = np.array([part_of.get(name, -1) for name in response.drivers] or [-1])[np.maximum(mine, 0)]
    at = np.flatnonzero(use)
    series, periods = predictions.series[at], np.bincount(predictions.series[at], minlength=G)
    rest = np.zeros((S, G))
    for s in range(S):
        own = np.where(column[at] >= 0, predictions.parts[s, at, np.maximum(column[at], 0)], 0.0)
        eta = predictions.parts[s, at].sum(axis=1, dtype=np.float64) - own
        weights = np.exp(eta) if response.link == "log" else eta
        rest[s] = np.bincount(series, weights=weights, minlength=G)
    if response.link == "log":
        with np.errstate(divide="ignore"):  # a series without a row sells nothing: log 0
            rest = np.log(rest)
    total = np.bincount(series, weights=value[at], minlength=G)
    mean = np.divide(total, periods, out=np.full(G, np.nan), where=periods > 0)
    return SeriesMeans(mean, rest, periods)


@dataclass(frozen=True)
class Elasticities:
    """Elasticities of the KPI with respect to one driver per series.

    Attributes:
        series: names, [G]; only series that have the driver and rows in the window.
        driver: names, [G].
        own: bool [G], whether it is the series' own price.
        value: float64 [G, V], where they were taken, units of the file.
        draws: float64 [S, G, V].
        kpi: float64 [S, G, V], KPI of the window at that value, the weights of the total.
    """

    series: tuple[str, ...]
    driver: tuple[str, ...]
    own: np.ndarray
    value: np.ndarray
    draws: np.ndarray
    kpi: np.ndarray

    def total(self) -> np.ndarray:
        """Elasticity of the sum of all series, [S, V]: each weighted with its KPI."""
        return (self.draws * self.kpi).sum(axis=1) / self.kpi.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """One row per series and value, and the total at the end: series, driver, own, value, elasticity, kpi."""
        import pandas as pd

        G, V = self.value.shape
        columns: dict[str, Any] = {
            "series": np.repeat(np.array(self.series, dtype=object), V),
            "driver": np.repeat(np.array(self.driver, dtype=object), V),
            "own": np.repeat(self.own, V),
            "value": self.value.reshape(-1),
        }
        columns |= {n: v.reshape(-1) for n, v in interval_columns("elasticity", self.draws).items()}
        columns["kpi"] = self.kpi.mean(axis=0).reshape(-1)
        frame = pd.DataFrame(columns)
        if G < 2:
            return frame
        drivers = sorted(set(self.driver))
        last: dict[str, Any] = {"series": "all", "driver": drivers[0] if len(drivers) == 1 else "own price"}
        last |= {
            "own": bool(self.own.all()),
            "value": self.value.mean(axis=0),
            "kpi": self.kpi.mean(axis=0).sum(axis=0),
        }
        last |= interval_columns("elasticity", self.total())
        return pd.concat([frame, pd.DataFrame(last, index=range(V))], ignore_index=True)


def driver_elasticity(
    predictions: MixPredictions,
    driver: str | None = None,
    *,
    at: Sequence[float] | np.ndarray | None = None,
    relative: bool = False,
    rows: np.ndarray | None = None,
) -> Elasticities:
    """Elasticities of the KPI with respect to a price or promotion.

    Args:
        predictions: of a mix model.
        driver: its name; None is each series' own price.
        at: values [V], or [G, V] for every series of the model, units of the file; None is each series' mean.
        relative: ``at`` are multiples of each series' mean.
        rows: mask [N] of the window whose KPI weighs the series; None is all.
    """
    response = predictions.response
    numbers = response.own_price if driver is None else np.full(len(response.series), response.drivers.index(driver))
    rows = np.ones(len(predictions), bool) if rows is None else rows
    means = series_means(predictions, numbers, rows)
    have = np.flatnonzero((means.periods > 0) & (numbers >= 0))
    values = means.value[:, None]
    if at is not None:
        given = np.atleast_2d(np.asarray(at, np.float64))
        values = given * values if relative else np.broadcast_to(given, (len(values), given.shape[1]))
    draws, kpi = elasticity_at(response, numbers, means, values, have)
    return Elasticities(
        tuple(response.series[g] for g in have),
        tuple(response.drivers[numbers[g]] for g in have),
        numbers[have] == response.own_price[have],
        values[have],
        draws,
        kpi,
    )


def elasticity_at(
    response: MixResponse, drivers: np.ndarray, means: SeriesMeans, values: np.ndarray, have: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Elasticities and KPI, each [S, len(have), V], at ``values`` [G, V] of the drivers [G]."""
    S, V = response.num_draws, values.shape[1]
    part, slope = np.zeros((S, len(response.series), V)), np.zeros((S, len(response.series), V))
    for d in np.unique(drivers[have]):
        mine = have[drivers[have] == d]
        part[:, mine], slope[:, mine] = driver_part(response, int(d), values[mine], mine[:, None])
    kpi = means.kpi(part, response.link)[:, have]
    per_log = (slope * values)[:, have]
    if response.link == "log":
        return per_log, kpi
    return means.periods[have][:, None] * per_log / kpi, kpi


def media_elasticity(
    predictions: MixPredictions, *, start: Any = None, end: Any = None, periods: int | None = None
) -> pd.DataFrame:
    """By how many per cent the window's KPI grows with 1 % more media of a channel in all of its periods.

    By exact gradients; what carries over beyond the window counts. Organic channels have one too.

    Args:
        predictions: of every row of a panel.
        start, end, periods: as in `media_return.media_returns`.

    Returns:
        One row per channel: channel, paid, elasticity with intervals.
    """
    import pandas as pd

    response = predictions.response
    window = returns_window(predictions, start=start, end=end, periods=periods)
    media = window.spend * window.media_per_money + window.fixed_media
    # In kind: a unit of media is a unit of money, so that organic channels and gifts have a gradient too.
    in_kind = replace(window, spend=media, media_per_money=np.ones_like(media), fixed_media=np.zeros_like(media))
    draws = np.zeros((response.num_draws, len(response.channels)))
    for s, (part, few) in enumerate(by_draws(response, in_kind, at_once=1)):
        surface = ResponseSurface(part, few)
        _, pullback = surface.value_and_pullback(few.spend)
        sold = surface.kpi(few.spend)[0, :, : window.num_periods].sum() * response.kpi_value
        draws[s] = (pullback(np.ones(1)) * few.spend).sum(axis=(0, 1)) / sold
    names = {"channel": list(response.channels), "paid": response.paid}
    return pd.DataFrame(names | interval_columns("elasticity", draws))
