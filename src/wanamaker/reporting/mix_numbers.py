"""Everything a mix report shows, worked out once from the predictions.

Axis letters: N rows, S draws, G series, C media channels, D drivers, V points of a curve, T periods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wanamaker.decisions.decomposition import Contributions, choose_rows, decompose
from wanamaker.decisions.elasticity import Elasticities, driver_elasticity
from wanamaker.decisions.frequency import FrequencyCurve, frequency_curves
from wanamaker.decisions.intervals import interval_columns
from wanamaker.decisions.media_return import MediaReturns, media_returns
from wanamaker.decisions.roi_curves import RoiCurve, roi_curves
from wanamaker.predictions.mix import PART_KINDS, SPLITS, MixPredictions
from wanamaker.reporting.mix_curve_figures import half_lives
from wanamaker.reporting.mix_rows import Line, RowSummary, choose_lines, lines_over_time, summarise_rows
from wanamaker.reporting.mix_scores import (
    ErrorStatistics,
    error_statistics,
    permutation_importance,
    score_table,
    series_score_table,
)

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 31
_MARGIN = 0.15  # of the range seen: how far price curves go beyond it
_PERIODS = {"D": "day", "B": "day", "W": "week", "M": "month", "MS": "month", "ME": "month", "Q": "quarter"}
_PERIODS |= {"QS": "quarter", "QE": "quarter", "Y": "year", "YS": "year", "YE": "year", "h": "hour"}


class PriceCurve(NamedTuple):
    """How the KPI of all series answers when a price moves in all of them by the same per cent."""

    name: str
    values: Elasticities  # at V multiples of each series' mean
    x: np.ndarray  # [V], of the axis
    reference: float
    seen: tuple[float, float]
    label: str


class PromotionCurve(NamedTuple):
    """How the KPI of all series answers to a promotion; the first x is no promotion."""

    name: str
    x: np.ndarray  # [V]
    total: np.ndarray  # [S, V], KPI
    seen: tuple[float, float]


@dataclass(frozen=True)
class MixNumbers:
    """The numbers of a report; tables and figures only show them."""

    predictions: MixPredictions
    start: np.datetime64
    end: np.datetime64
    rows: RowSummary
    lines: list[Line]
    line_parts: list[Contributions]  # by period, for each line
    total: Contributions
    returns: MediaReturns | None  # None where the model has no media
    curves: list[RoiCurve]
    curve_periods: int
    frequencies: list[FrequencyCurve]
    prices: list[PriceCurve]
    promotions: list[PromotionCurve]
    own_elasticity: pd.DataFrame | None
    scores: pd.DataFrame
    series_scores: pd.DataFrame
    errors: ErrorStatistics | None
    importance: pd.DataFrame

    @property
    def period(self) -> str:
        """What a period is called."""
        return period_word(self.predictions.response.period)

    def channels(self, *, by_series: bool = False) -> pd.DataFrame:
        """The returns as `MediaReturns.to_frame` gives them; without a row where there are no media."""
        import pandas as pd

        if self.returns is not None:
            return self.returns.to_frame(by_series=by_series)
        names = [f"{c}{b}" for c in ("roi", "marginal_roi") for b in ("", "_low_90", "_high_90")]
        return pd.DataFrame(columns=["channel", *names])

    @property
    def in_money(self) -> bool:
        """Whether it is known what the KPI is worth in money."""
        response = self.predictions.response
        return response.kpi_value != 1 or response.kpi_unit.casefold() == response.money_unit.casefold()

    @property
    def break_even(self) -> float | None:
        """The ROI at which a channel brings back what it cost; None where that cannot be said."""
        return 1.0 if self.in_money else None

    @property
    def pays_in(self) -> str:
        """Unit of what comes back, where it is not money; else empty."""
        return "" if self.in_money else self.predictions.response.kpi_unit


def work_out(
    predictions: MixPredictions,
    metrics: Mapping[str, float],
    *,
    level: str | int = "series",
    top: int = 6,
    start: Any = None,
    end: Any = None,
    curve_periods: int | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> MixNumbers:
    """Work out everything.

    Args:
        predictions: of a mix model.
        metrics: that the run has logged, by full name.
        level, top: as in `mix_rows.choose_lines`.
        start, end: window of contributions and returns; None is from the first to the last period that counts in a
            split.
        curve_periods: the window of the curves: so many periods up to ``end``; None is a year.
        repeats, seed: of the permutation importance.

    Raises:
        UserError: an unknown level, or a window that the data do not have.
    """
    lines = choose_lines(predictions, level, top)  # first: a mistake ends here
    choose_rows(predictions, start=start, end=end)
    response = predictions.response
    counts = predictions.split != SPLITS.index("none")
    dates = predictions.date[counts] if counts.any() else predictions.date
    first = dates.min() if start is None else np.datetime64(str(start), "D")
    last = dates.max() if end is None else np.datetime64(str(end), "D")
    window = choose_rows(predictions, start=first, end=last)
    rows = summarise_rows(predictions)
    over_time = lines_over_time(predictions, lines)
    held = len(np.unique(predictions.date[window]))
    length = min(held, max(1, round(response.periods_per_year)) if curve_periods is None else int(curve_periods))
    last_period = predictions.date[window].max()
    media = bool(response.channels)
    return MixNumbers(
        predictions=predictions,
        start=predictions.date[window].min(),
        end=last_period,
        rows=rows,
        lines=over_time,
        line_parts=[decompose(predictions, by=("period",), rows=line.rows) for line in over_time],
        total=decompose(predictions, rows=window),
        returns=media_returns(predictions, start=predictions.date[window].min(), end=last_period) if media else None,
        curves=roi_curves(predictions, end=last_period, periods=length, points=_POINTS) if media else [],
        curve_periods=length,
        frequencies=frequency_curves(predictions, window),
        prices=price_curves(predictions, window),
        promotions=promotion_curves(predictions, window),
        own_elasticity=_own(predictions, window),
        scores=score_table(predictions, rows, metrics),
        series_scores=series_score_table(predictions, rows),
        errors=error_statistics(predictions, rows),
        importance=permutation_importance(predictions, repeats=repeats, seed=seed),
    )


def period_word(offset: str) -> str:
    """ "week" for the pandas offset "W-SUN"."""
    return _PERIODS.get(offset.split("-")[0], "period")


def part_order(contributions: Contributions) -> list[int]:
    """Parts as people read them: the base first, then promotions and prices, then media, each largest first."""
    size = contributions.draws.mean(axis=0).sum(axis=0)
    return sorted(
        range(len(contributions.names)), key=lambda k: (PART_KINDS.index(contributions.kinds[k]), -float(size[k]))
    )


def price_curves(predictions: MixPredictions, window: np.ndarray) -> list[PriceCurve]:
    """Curves of the own price, then of the other prices, over what was seen in training and a little beyond."""
    response = predictions.response
    own = response.own_price
    prices = [d for d, kind in enumerate(response.driver_kind) if kind == "price"]
    chosen: list[tuple[str, np.ndarray, str | None]] = []
    if (own >= 0).any():
        names = {response.drivers[d] for d in own if d >= 0}
        chosen.append((names.pop() if len(names) == 1 else "own price", own, None))
    several = len(set(own[own >= 0].tolist())) > 1
    for d in prices:
        if several or d not in own:
            chosen.append((response.drivers[d], np.full(len(own), d), response.drivers[d]))
    return [
        curve
        for name, numbers, driver in chosen
        if (curve := _price_curve(predictions, window, name, numbers, driver)) is not None
    ]


def _price_curve(
    predictions: MixPredictions, window: np.ndarray, name: str, numbers: np.ndarray, driver: str | None
) -> PriceCurve | None:
    response = predictions.response
    now = driver_elasticity(predictions, driver, rows=window)
    if not now.series:
        return None
    position = {series: g for g, series in enumerate(response.series)}
    at = np.array([position[series] for series in now.series])
    mean, weight = now.value[:, 0], now.kpi.mean(axis=0)[:, 0]
    good = np.isfinite(mean) & (mean > 0)
    if not good.any():
        return None
    at, mean, weight, d = at[good], mean[good], np.maximum(weight[good], 0), numbers[at[good]]
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1 / len(weight))
    # A sale or a wrong price in one small series would stretch the axis of all.
    low = _weighted_quantile(response.driver_min[at, d] / mean, weight, 0.1)
    high = _weighted_quantile(response.driver_max[at, d] / mean, weight, 0.9)
    reference = float(weight @ (response.driver_reference[at, d] / mean))
    room = _MARGIN * max(high - low, 0.1)
    steps = np.unique(np.append(np.linspace(max(low - room, 0.05), high + room, _POINTS), reference))
    values = driver_elasticity(predictions, driver, at=steps, relative=True, rows=window)
    alike = np.ptp(mean) <= 0.02 * mean.mean()
    scale = float(weight @ mean) if alike else 100.0
    label = f"price, {response.price_unit}" if alike else "price, % of each series' mean"
    return PriceCurve(name, values, steps * scale, reference * scale, (low * scale, high * scale), label)


def _weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """The value that ``share`` of the weight stays at or below; weights sum to 1."""
    order = np.argsort(values, kind="stable")
    at = int(np.searchsorted(np.cumsum(weight[order]), share))
    return float(values[order][min(at, len(values) - 1)])


def promotion_curves(predictions: MixPredictions, window: np.ndarray) -> list[PromotionCurve]:
    """Curves of the promotions, from none to a little more than was seen in training."""
    response = predictions.response
    curves = []
    for d, kind in enumerate(response.driver_kind):
        low, high = float(response.driver_min[:, d].min()), float(response.driver_max[:, d].max())
        if kind != "promotion" or not np.isfinite([low, high]).all() or high == low == 0:
            continue
        none = float(response.driver_reference[:, d].mean()) if response.driver_transform[d] == "log_ratio" else 0.0
        top = high + _MARGIN * (high - min(low, none)) if high > 1 or high - low > 1 else high
        x = np.append(none, np.linspace(min(low, none), top, _POINTS))
        values = driver_elasticity(predictions, response.drivers[d], at=x, rows=window)
        if values.series:
            curves.append(PromotionCurve(response.drivers[d], x, values.kpi.sum(axis=1), (low, high)))
    return curves


def _own(predictions: MixPredictions, window: np.ndarray) -> pd.DataFrame | None:
    if not (predictions.response.own_price >= 0).any():
        return None
    frame = driver_elasticity(predictions, rows=window).to_frame()
    return frame if len(frame) else None


def carry_over_table(predictions: MixPredictions) -> pd.DataFrame:
    """Per channel: share of the effect in the period of the spend, and periods until half of it has come."""
    import pandas as pd

    response = predictions.response
    share = response.adstock / np.maximum(response.adstock.sum(axis=2, keepdims=True), 1e-300)
    columns: dict[str, Any] = {"channel": list(response.channels)}
    columns |= interval_columns("same_period_share", share[:, :, 0])
    columns |= interval_columns("half_life", half_lives(response.adstock))
    columns["unit"] = f"{period_word(response.period)}s"
    return pd.DataFrame(columns)


def curve_tables(numbers: MixNumbers) -> dict[str, pd.DataFrame]:
    """The points of the price and promotion curves, all series together."""
    import pandas as pd

    prices, promotions = [], []
    for curve in numbers.prices:
        total = curve.values.kpi.sum(axis=1)
        at = int(np.argmin(np.abs(curve.x - curve.reference)))
        columns: dict[str, Any] = {"driver": curve.name, "axis": curve.label, "x": curve.x}
        columns |= interval_columns("kpi_change", total / total[:, at : at + 1] - 1)
        columns |= interval_columns("elasticity", curve.values.total())
        columns["extrapolated"] = (curve.x < curve.seen[0]) | (curve.x > curve.seen[1])
        prices.append(pd.DataFrame(columns))
    for promotion in numbers.promotions:
        columns = {"driver": promotion.name, "x": promotion.x[1:]}
        columns |= interval_columns("kpi_change", (promotion.total / promotion.total[:, :1] - 1)[:, 1:])
        columns["extrapolated"] = (promotion.x[1:] < promotion.seen[0]) | (promotion.x[1:] > promotion.seen[1])
        promotions.append(pd.DataFrame(columns))
    tables = {"price_curves": prices, "promotion_curves": promotions}
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items() if frames}
