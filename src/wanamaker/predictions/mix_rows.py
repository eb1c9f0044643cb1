"""What both mix models write alike: observed columns of rows, and the history before the panel.

Axis letters: N rows, G series, T periods, C channels, L taps, H periods before the first.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class PanelArrays(Protocol):
    """The arrays of a panel that rows are looked up in: [T], [G, T], [G, T, .] and [G, H, C]."""

    dates: np.ndarray
    kpi: np.ndarray
    spend: np.ndarray
    promotion: np.ndarray
    price: np.ndarray
    lead_in: np.ndarray
    lead_in_frequency: np.ndarray | None


def observed_rows(
    row: np.ndarray, series: np.ndarray, time: np.ndarray, media: np.ndarray, panel: PanelArrays, split_of: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """The columns of `MixPredictions` that come from the panel.

    Args:
        row, series, time: int64 [N].
        media: [N, C], of the rows' own periods.
        panel: what the rows are from.
        split_of: codes [G, T] of `wanamaker.predictions.mix.SPLITS`.

    Returns:
        The order of the rows [N], ascending by `row`, and the columns in that order.
    """
    order = np.argsort(row, kind="stable")
    row, series, time = row[order], series[order], time[order]
    driver = np.concatenate([panel.promotion[series, time], panel.price[series, time]], axis=1)
    return order, {
        "row": row,
        "series": series,
        "date": panel.dates[time].astype("datetime64[D]"),
        "split": split_of[series, time],
        "kpi": panel.kpi[series, time].astype(np.float64),
        "media": media[order].astype(np.float64),
        "spend": panel.spend[series, time].astype(np.float64),
        "driver": driver.astype(np.float64),
    }


def padded_lead_in(panel: PanelArrays, taps: int) -> np.ndarray:
    """Media before the first period [G, L - 1, C], oldest first; zeros where the file begins later."""
    return _last(panel.lead_in, taps - 1, 0.0)


def padded_frequency(panel: PanelArrays, taps: int) -> np.ndarray:
    """Contacts per person of `padded_lead_in`; 1 where there is no contact."""
    frequency = np.where((panel.lead_in > 0) & (panel.lead_in_frequency > 0), panel.lead_in_frequency, 1.0)
    return _last(frequency, taps - 1, 1.0)


def _last(values: np.ndarray, periods: int, before: float) -> np.ndarray:
    """The last periods of [G, H, C], completed where there are fewer."""
    G, known, C = values.shape
    out = np.full((G, periods, C), before)
    if least := min(known, periods):
        out[:, -least:] = values[:, -least:]
    return out


class PanelNames(Protocol):
    """Names and units of a panel, as `wanamaker.data.media_panel.PanelSchema` has them."""

    series: tuple[str, ...]
    media: tuple[str, ...]
    promotion: tuple[str, ...]
    price: tuple[str, ...]
    own_price: tuple[int, ...]
    paid: tuple[bool, ...]
    national: tuple[bool, ...]
    kpi: str
    kpi_unit: str
    money_unit: str
    price_unit: str
    kpi_value: float
    period: str
    periods_per_year: float


def response_words(names: PanelNames) -> dict[str, Any]:
    """What a `MixResponse` has from the panel alone: names, units, calendar, which channels cost, own prices."""
    G, C, offset = len(names.series), len(names.media), len(names.promotion)
    own = [offset + p if p >= 0 else -1 for p in (names.own_price or [-1] * G)]
    plain = ("kpi", "kpi_unit", "money_unit", "period")
    return {name: getattr(names, name) for name in plain} | {
        "series": names.series,
        "channels": names.media,
        "drivers": (*names.promotion, *names.price),
        "price_unit": names.price_unit or names.money_unit,
        "kpi_value": float(names.kpi_value),
        "periods_per_year": float(names.periods_per_year),
        "paid": np.array(names.paid, dtype=bool),
        "national": np.array(names.national or [False] * C, dtype=bool),
        "own_price": np.array(own, dtype=np.int64),
    }
