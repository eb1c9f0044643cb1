"""Response, ROI and marginal ROI of each channel over a range of investments: money on both axes.

A channel's investment is varied by scaling its spend in every period and series of the window alike, all else as it
was; value, ROI and marginal ROI are those of `decisions.media_return`, so the curve at today's investment is the row of
its table. Axis letters: S draws, C channels, V points of a curve.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import nearest_index
from wanamaker.decisions.intervals import interval_columns, ratio
from wanamaker.decisions.media_return import STEP, by_draws, only_channel, returns_window
from wanamaker.decisions.response import PlanWindow, ResponseSurface
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixPredictions, MixResponse

if TYPE_CHECKING:
    import pandas as pd

_TOLERATED = 0.1  # of the money: flights that go a little above one old peak are no extrapolation


@dataclass(frozen=True)
class RoiCurve:
    """Curves of one channel.

    Attributes:
        channel: its name.
        investment: float64 [V], money in the window, ascending from 0.
        value: float64 [S, V], money that the investment brings, carry-over beyond the window included.
        extra: float64 [S, V], money that 1 % more would bring beyond that (at 0: 1 % of the current investment).
        step: float64 [V], that 1 %, money.
        current: investment in the window as it was.
        historical: investment beyond which the curve is an extrapolation: more than a tenth of the money would then lie
            in periods above the highest spend that their series ever saw.
        money_unit: of all money.
    """

    channel: str
    investment: np.ndarray
    value: np.ndarray
    extra: np.ndarray
    step: np.ndarray
    current: float
    historical: float
    money_unit: str

    @property
    def roi(self) -> np.ndarray:
        """[S, V]; NaN at 0."""
        return ratio(self.value, self.investment)

    @property
    def marginal_roi(self) -> np.ndarray:
        """[S, V]."""
        return ratio(self.extra, self.step)

    @property
    def extrapolated(self) -> np.ndarray:
        """bool [V]."""
        return self.investment > self.historical * (1 + 1e-9)

    def to_frame(self) -> pd.DataFrame:
        """One row per point: channel, investment, value, roi, marginal_roi with intervals, current, extrapolated."""
        import pandas as pd

        columns: dict[str, Any] = {"channel": self.channel, "investment": self.investment}
        for name, draws in (("value", self.value), ("roi", self.roi), ("marginal_roi", self.marginal_roi)):
            columns |= interval_columns(name, draws)
        return pd.DataFrame(columns).assign(
            is_current=np.isclose(self.investment, self.current, rtol=1e-9),
            extrapolated=self.extrapolated,
            unit=self.money_unit,
        )


def roi_curves(
    predictions: MixPredictions,
    channels: Iterable[str] | None = None,
    *,
    start: Any = None,
    end: Any = None,
    periods: int | None = None,
    reach: float = 2.0,
    points: int = 41,
) -> list[RoiCurve]:
    """Curves of the paid channels that had any spend in the data.

    Args:
        predictions: of every row of a panel.
        channels: names; None is every paid channel.
        start, end, periods: the window, as in `media_return.media_returns`.
        reach: the curves go to this multiple of the current investment, or past the historical one if that is more.
        points: V; the current investment is among them.

    Raises:
        UserError: an unknown, organic or never used channel, or a range that is none.
    """
    response = predictions.response
    if not (np.isfinite(reach) and reach > 0):
        raise UserError(f"reach={reach}: give a multiple of the current investment above 0, such as 2.")
    if points < 3:
        raise UserError(f"points={points}: a curve needs at least 3 points.")
    window = returns_window(predictions, start=start, end=end, periods=periods)
    if channels is None:
        numbers = [c for c in range(len(response.channels)) if response.paid[c] and window.max_spend[:, c].any()]
    else:
        numbers = [nearest_index(name, response.channels, "channel") for name in channels]
        for c in numbers:
            if not response.paid[c] or not window.max_spend[:, c].any():
                why = "is organic" if not response.paid[c] else "had no spend in the data"
                raise UserError(f"Channel {response.channels[c]!r} {why}: it has no ROI curve. Leave it out.")
    return [_curve(response, window, c, reach, points) for c in numbers]


def _curve(response: MixResponse, window: PlanWindow, c: int, reach: float, points: int) -> RoiCurve:
    now = float(window.spend[:, :, c].sum())
    pattern = window.spend[:, :, c] / now if now > 0 else _even(window, c)
    historical = _historical(pattern, window.max_spend[:, c])
    investment = np.unique(np.append(np.linspace(0, max(reach * now, 1.2 * historical), points), now))
    step = STEP * np.where(investment > 0, investment, now if now > 0 else historical)
    values, extra = [], []
    for part, few in by_draws(response, window):
        one, alone = only_channel(part, few, c)
        if now == 0:  # nothing was bought, so nothing says what it cost in these periods: the usual cost
            cost = response.cost_per_media[:, c]
            per_money = np.divide(1.0, cost, out=np.zeros_like(cost), where=cost > 0)
            alone = replace(alone, media_per_money=np.broadcast_to(per_money[:, None, None], alone.spend.shape))
        surface = ResponseSurface(one, alone)
        nothing = surface.value(np.zeros_like(alone.spend))
        at = np.stack([surface.value(x * pattern[:, :, None]) for x in investment], axis=1)
        more = np.stack(
            [surface.value((x + d) * pattern[:, :, None]) for x, d in zip(investment, step, strict=True)], 1
        )
        values.append(at - nothing[:, None])
        extra.append(more - at)
    return RoiCurve(
        response.channels[c],
        investment,
        np.concatenate(values),
        np.concatenate(extra),
        step,
        now,
        historical,
        response.money_unit,
    )


def _historical(pattern: np.ndarray, highest: np.ndarray) -> float:
    """The investment with `_TOLERATED` of its money above the ``highest`` spend [G], spread as ``pattern`` [G, H]."""
    from scipy.optimize import brentq

    def above(investment: float) -> float:
        return float(np.maximum(pattern - highest[:, None] / investment, 0).sum()) - _TOLERATED

    used = pattern > 0
    first = float((np.broadcast_to(highest[:, None], pattern.shape)[used] / pattern[used]).min())
    if above(first) >= 0:  # series that were never in this channel get money from the first unit on
        return first
    last = first
    while above(last) < 0:
        last *= 2
    return float(brentq(above, first, last, rtol=1e-9))


def _even(window: PlanWindow, c: int) -> np.ndarray:
    """Where nothing was spent: evenly over the periods, over the series as their highest spend."""
    weight = window.max_spend[:, c]
    return np.repeat((weight / weight.sum() / window.num_periods)[:, None], window.num_periods, axis=1)
