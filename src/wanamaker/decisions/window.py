"""The window of a plan: a stretch of the calendar, and everything about it that no plan changes.

Axis letters: S draws, G series, C media channels, D drivers (prices and promotions), L adstock taps, H periods of the
window, P = H + L - 1 periods in which its media work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions, MixResponse

COSTS = ("average", "period")


@dataclass(frozen=True)
class PlanWindow:
    """A stretch of the calendar to plan for, and everything about it that a plan does not change.

    Attributes:
        dates: datetime64[D] [H], starts of the periods.
        base: float64 [S, G, P], the linear predictor without media; prices, promotions and controls as they were.
        history: float64 [G, L - 1, C], media before the window, oldest first, media units.
        spend: float64 [G, H, C], money of the current plan: what was spent in these periods; 0 where organic.
        media_per_money: float64 [G, H, C], media units that one unit of money buys; 0 where nothing can be bought.
        fixed_media: float64 [G, H, C], media units that no money buys: organic channels.
        tail_media: float64 [G, L - 1, C], media after the window, the same for every plan.
        driver: float64 [G, H, D], prices and promotions, units of the file.
        max_spend: float64 [G, C], the highest spend of a period in all rows given, money.
        frequency: float64 [G, L - 1 + P, C], contacts per person of history, window and tail, which a plan for money
            does not change; None where no channel is given as reach and frequency.
    """

    dates: np.ndarray
    base: np.ndarray
    history: np.ndarray
    spend: np.ndarray
    media_per_money: np.ndarray
    fixed_media: np.ndarray
    tail_media: np.ndarray
    driver: np.ndarray
    max_spend: np.ndarray
    frequency: np.ndarray | None = None

    @property
    def num_periods(self) -> int:
        """H."""
        return len(self.dates)


def plan_window(
    predictions: MixPredictions,
    periods: int | None = None,
    *,
    start: Any = None,
    end: Any = None,
    cost: str = "average",
) -> PlanWindow:
    """The window to plan for: the last periods of the data, or those between two dates.

    Args:
        predictions: of every row of a panel.
        periods: H; None is a year, or all there is where that is less. Not together with both dates.
        start, end: first and last day (anything `numpy.datetime64` reads); with one of them, `periods` counts from it.
        cost: what media cost, per channel and series: "average" takes the cost over the whole training window, so
            that a plan does not chase weeks that happened to be cheap; "period" takes each period's own cost, which
            makes the current plan the model's own fit exactly.

    Raises:
        UserError: predictions of another kind, no such periods, or rows missing.
    """
    if not isinstance(predictions, MixPredictions):
        raise UserError(
            f"A plan needs the predictions of a mix model, not {type(predictions).__name__}. "
            "Choose a checkpoint of a mix model, or another decision."
        )
    if cost not in COSTS:
        raise UserError(f"cost={cost!r}: choose from {', '.join(COSTS)}.")
    response = predictions.response
    dates, index = _calendar(predictions)
    first, last = _range(dates, response, periods, start, end)
    G, L = len(response.series), response.adstock.shape[-1]
    inside = _rows(index, dates, response, first, last)

    lead = max(0, L - 1 - first)  # periods of the history that lie before the panel
    if lead and predictions.row[predictions.series == 0][0] != 0:
        raise UserError(
            f"The predictions begin at {dates[0]}, but the panel does not: the media of the {L - 1} periods before "
            f"{dates[first]} are needed. Predict the whole panel, or choose a later start."
        )
    before_rows = _rows(index, dates, response, max(0, first - L + 1), first)
    begin = predictions.lead_in.shape[1] - lead
    history = np.concatenate([predictions.lead_in[:, begin:], predictions.media[before_rows]], axis=1)

    # The year before stands in for what lies beyond the data; the window's mean where there is no such year.
    year = max(1, round(response.periods_per_year))
    tail = np.arange(last, last + L - 1)
    tail = np.where(tail < len(dates), tail, tail - year * (1 + (tail - len(dates)) // year))
    known = (tail >= 0) & (index[:, np.maximum(tail, 0)] >= 0).all(axis=0)
    tail_rows = index[:, np.where(known, tail, first)]
    media, base = predictions.media[inside], _base(predictions, inside)
    tail_media = np.where(known[:, None], predictions.media[tail_rows], media.mean(axis=1, keepdims=True))
    tail_base = np.where(known, _base(predictions, tail_rows), base.mean(axis=2, keepdims=True))
    frequency = None
    if response.frequency_channels:
        own = predictions.frequency[inside]
        earlier = [predictions.lead_in_frequency[:, begin:], predictions.frequency[before_rows]]
        # Where nothing ran, what a plan adds comes at the usual frequency, and so does what is beyond the data.
        usual = np.where(response.usual_frequency > 0, response.usual_frequency, 1.0)
        later = np.where(known[:, None], predictions.frequency[tail_rows], usual)
        frequency = np.concatenate([*earlier, np.where(media > 0, own, usual), later], axis=1)

    spend = np.where(response.paid, predictions.spend[inside], 0.0)
    price = np.broadcast_to(response.cost_per_media[:, None], spend.shape)
    media_per_money = np.divide(1.0, price, out=np.zeros(spend.shape), where=(price > 0) & response.paid)
    fixed = np.where(response.paid, 0.0, media)
    if cost == "period":
        bought = response.paid & (spend > 0) & (media > 0)
        media_per_money = np.divide(media, spend, out=media_per_money, where=bought)
        fixed = np.where(bought | (media <= 0), 0.0, media)
    max_spend = np.zeros((G, len(response.channels)))
    np.maximum.at(max_spend, predictions.series, np.where(response.paid, predictions.spend, 0.0))
    window = PlanWindow(
        dates=dates[first:last],
        base=np.concatenate([base, tail_base], axis=2),
        history=history,
        spend=spend,
        media_per_money=media_per_money,
        fixed_media=fixed,
        tail_media=tail_media,
        driver=predictions.driver[inside],
        max_spend=max_spend,
        frequency=frequency,
    )
    _check_numbers(window, response)
    return window


def _calendar(predictions: MixPredictions) -> tuple[np.ndarray, np.ndarray]:
    """The dates [T] and the row of each series and date [G, T], -1 where there is none."""
    dates, time = np.unique(predictions.date.astype("datetime64[D]"), return_inverse=True)
    index = np.full((len(predictions.response.series), len(dates)), -1, np.int64)
    index[predictions.series, time] = np.arange(len(predictions))
    return dates, index


def _range(dates: np.ndarray, response: MixResponse, periods: int | None, start: Any, end: Any) -> tuple[int, int]:
    """First and last + 1 position of the window."""
    if len(dates) == 0:
        raise UserError("The predictions have no rows. Predict the whole panel.")
    span = f"{dates[0]} to {dates[-1]}"
    if periods is not None and (isinstance(periods, bool) or not isinstance(periods, int | np.integer) or periods < 1):
        raise UserError(f"decision.periods={periods!r}: give a whole number of periods, 1 or more.")
    first, last = (_position(dates, name, value) for name, value in (("start", start), ("end", end)))
    if first is not None and last is not None:
        if periods is not None:
            raise UserError(f"decision.periods={periods} with start and end: give two of the three.")
        last += 1
    else:
        count = min(max(1, round(response.periods_per_year)), len(dates)) if periods is None else int(periods)
        if first is not None:
            last = min(first + count, len(dates)) if periods is None else first + count
        else:
            last = len(dates) if last is None else last + 1
            first = max(0, last - count) if periods is None else last - count
    if not 0 <= first < last <= len(dates):
        asked = {"periods": periods, "start": start, "end": end}
        given = ", ".join(f"decision.{name}={value}" for name, value in asked.items() if value is not None)
        raise UserError(
            f"{given}: this asks for a window that the data do not have: they are {len(dates)} periods, {span}. Ask "
            "for fewer periods or other dates."
        )
    return first, last


def _position(dates: np.ndarray, name: str, value: Any) -> int | None:
    """The period that a day lies in."""
    if value is None:
        return None
    try:
        day = np.datetime64(str(value), "D")
    except ValueError as error:
        raise UserError(f"decision.{name}={value!r} is not a date; write it as 2024-12-31.") from error
    position = int(np.searchsorted(dates, day, side="right")) - 1
    width = dates[-1] - dates[-2] if len(dates) > 1 else np.timedelta64(1, "D")
    if np.isnat(day) or position < 0 or day >= dates[-1] + width:
        raise UserError(
            f"decision.{name}={value}: the data run from {dates[0]} to {dates[-1]}. Choose a day in between."
        )
    return position


def _rows(index: np.ndarray, dates: np.ndarray, response: MixResponse, first: int, last: int) -> np.ndarray:
    """Rows [G, last - first] of a stretch of the calendar."""
    rows = index[:, first:last]
    if (rows < 0).any():
        g, t = np.argwhere(rows < 0)[0]
        raise UserError(
            f"The predictions have no row for series {response.series[g]!r} on {dates[first + t]}, which the window or "
            "the media carried into it need. Predict the whole panel."
        )
    return rows


def _base(predictions: MixPredictions, rows: np.ndarray) -> np.ndarray:
    """Linear predictor [S, G, K] without media at rows [G, K]."""
    others = [k for k, kind in enumerate(predictions.part_kinds) if kind != "media"]
    return predictions.parts[:, rows][..., others].sum(axis=-1, dtype=np.float64)


def _check_numbers(window: PlanWindow, response: MixResponse) -> None:
    """Refuse what would turn every plan into NaN."""
    for name in ("spend", "fixed_media", "media_per_money"):
        values = getattr(window, name)
        wrong = ~np.isfinite(values) | (values < 0)
        if wrong.any():
            g, h, c = np.argwhere(wrong)[0]
            what = "spend" if name == "spend" else "media"
            raise UserError(
                f"{what} of {response.channels[c]} is {values[g, h, c]} for series {response.series[g]!r} on "
                f"{window.dates[h]}: a plan needs numbers of 0 or more. Mend the data and run evaluate.py again."
            )
    for name in ("history", "tail_media"):
        if not np.isfinite(getattr(window, name)).all():
            raise UserError("Media before or after the window are not all numbers. Mend the data, evaluate again.")
