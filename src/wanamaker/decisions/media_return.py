"""What the money of a window brings, per channel: ROI, marginal ROI and cost per unit, with one definition of each.

    incremental KPI   KPI with the window's spend, less KPI without this channel's spend of the window, the others as
                      they were; summed over the window *and* the L - 1 periods after it into which it carries over.
                      What earlier spend carries into the window is not credited to the window.
    ROI               incremental KPI * kpi_value / spend of the same window: money back per money spent. Above 1 the
                      channel returns more than it cost. (Nowhere is it (value - spend) / spend.)
    marginal ROI      extra value of 1 % more of the channel's spend, in every period, per money of that 1 %.
    cost per unit     spend / incremental KPI: money per additional unit of the KPI.

Organic channels cost nothing: they have contributions and no return. A channel without spend has no return either: NaN
and a note, not infinity. Axis letters: S draws, G series, C channels, H periods of the window, P = H + L - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.decisions.decomposition import decompose
from wanamaker.decisions.intervals import interval_columns, ratio
from wanamaker.decisions.response import PlanWindow, ResponseSurface, plan_window
from wanamaker.predictions.mix import MixPredictions, MixResponse

if TYPE_CHECKING:
    import pandas as pd

STEP = 0.01
"""Of the marginal ROI: 1 % more spend."""

_BYTES_AT_ONCE = 2.5e8


@dataclass(frozen=True)
class MediaReturns:
    """Returns per channel in one window; sums over series are `.sum(axis=1)` of numerator and denominator apart.

    Attributes:
        window: the periods.
        incremental: float64 [S, G, C], KPI units, carry-over beyond the window included; 0 for organic channels.
        extra: float64 [S, G, C], KPI units that 1 % more spend would add.
        spend: float64 [G, C], money.
        contribution: float64 [S, G, C], KPI units that land in the window, of the exactly additive split; organic
            channels have one too.
        predicted: float64 [S, G], KPI the model says of the window.
        response: names and units.
    """

    window: PlanWindow
    incremental: np.ndarray
    extra: np.ndarray
    spend: np.ndarray
    contribution: np.ndarray
    predicted: np.ndarray
    response: MixResponse

    def to_frame(self, by_series: bool = False) -> pd.DataFrame:
        """One row per channel (and series): spend, contribution, share of the predicted KPI, and the returns.

        Columns with intervals as `interval_columns` names them: contribution, share, incremental_kpi,
        incremental_value, roi, marginal_roi, cost_per_unit. `note` says why a return is missing.
        """
        import pandas as pd

        frames = []
        groups = [[g] for g in range(self.incremental.shape[1])] if by_series else [list(range(len(self.spend)))]
        for series in groups:
            frame = self._rows(series)
            if by_series:
                frame.insert(0, "series", self.response.series[series[0]])
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def _rows(self, series: list[int]) -> pd.DataFrame:
        import pandas as pd

        incremental, extra = self.incremental[:, series].sum(axis=1), self.extra[:, series].sum(axis=1)
        contribution, spend = self.contribution[:, series].sum(axis=1), self.spend[series].sum(axis=0)
        value = incremental * self.response.kpi_value
        paid = self.response.paid & (spend > 0)
        money = np.where(paid, spend, 0.0)
        gone = np.where(paid, 1.0, np.nan)
        columns: dict[str, Any] = {"channel": list(self.response.channels), "paid": self.response.paid, "spend": spend}
        columns |= interval_columns("contribution", contribution)
        columns |= interval_columns("share", ratio(contribution, self.predicted[:, series].sum(axis=1)[:, None]))
        columns |= interval_columns("incremental_kpi", incremental * gone)
        columns |= interval_columns("incremental_value", value * gone)
        columns |= interval_columns("roi", ratio(value, money))
        columns |= interval_columns("marginal_roi", ratio(extra * self.response.kpi_value, STEP * money))
        # The cost of a unit is the inverse of an uncertain number, whose mean may not exist: its centre is the cost at
        # the mean increment, its bounds are quantiles.
        columns |= interval_columns("cost_per_unit", ratio(money, incremental) * gone)
        columns["cost_per_unit"] = ratio(money, incremental.mean(axis=0)) * gone
        columns["note"] = [self._note(c, spend[c], incremental[:, c]) for c in range(len(spend))]
        return pd.DataFrame(columns)

    def _note(self, channel: int, spend: float, incremental: np.ndarray) -> str:
        if not self.response.paid[channel]:
            return "organic: costs nothing, so it has a contribution and no return"
        if spend == 0:
            return "no spend in this window, so no return can be stated"
        return "" if (incremental != 0).all() else "brings nothing in some draws: no cost per unit there"


def media_returns(
    predictions: MixPredictions, *, start: Any = None, end: Any = None, periods: int | None = None
) -> MediaReturns:
    """Returns of every channel in a window.

    Args:
        predictions: of every row of a panel.
        start: first day; None is the first of the data.
        end: last day; None is the last of the data.
        periods: in place of one of the two.

    Raises:
        UserError: predictions of another kind, or a window that the data do not have.
    """
    window = returns_window(predictions, start=start, end=end, periods=periods)
    response = predictions.response
    incremental, extra = [], []
    for part, few in by_draws(response, window):
        surface = ResponseSurface(part, few)
        eta, made = surface.eta(few.spend), surface.parts(few.spend)
        for spend, sign, out in ((np.zeros_like(few.spend), 1, incremental), ((1 + STEP) * few.spend, -1, extra)):
            change = made - surface.parts(spend)  # [S, G, P, C]
            out.append(sign * _lost(eta, change, response.link))
    inside = np.isin(predictions.date, window.dates)
    parts = decompose(predictions, by=("series",), rows=inside)
    media = [parts.names.index(name) for name in _media_parts(predictions)]
    contribution = np.zeros((response.num_draws, len(response.series), len(response.channels)))
    contribution[:, :, [response.channels.index(parts.names[k]) for k in media]] = parts.draws[:, :, media]
    return MediaReturns(
        window,
        np.concatenate(incremental),
        np.concatenate(extra),
        window.spend.sum(axis=1),
        contribution,
        parts.total,
        response,
    )


def returns_window(
    predictions: MixPredictions, *, start: Any = None, end: Any = None, periods: int | None = None
) -> PlanWindow:
    """The window of `media_returns`: all periods unless told otherwise, each at its own cost.

    With each period's own cost the current plan is the model's fit exactly, so returns are about what happened.
    """
    if periods is None:
        dates = predictions.date
        start, end = dates.min() if start is None else start, dates.max() if end is None else end
    return plan_window(predictions, periods, start=start, end=end, cost="period")


def _media_parts(predictions: MixPredictions) -> list[str]:
    return [n for n, kind in zip(predictions.part_names, predictions.part_kinds, strict=True) if kind == "media"]


def _lost(eta: np.ndarray, change: np.ndarray, link: str) -> np.ndarray:
    """KPI [S, G, C] that goes when ``change`` [S, G, P, C] is taken from the linear predictor, one channel a time."""
    if link == "identity":
        return change.sum(axis=2)
    return np.einsum("sgp,sgpc->sgc", np.exp(eta), -np.expm1(-change))


def by_draws(
    response: MixResponse, window: PlanWindow, at_once: int | None = None
) -> Iterator[tuple[MixResponse, PlanWindow]]:
    """The same curves and window, a few draws at a time: evaluating a long window needs about P * P floats a draw.

    Args:
        response: the curves.
        window: of `plan_window`.
        at_once: draws; None is what fits into a quarter of a gigabyte.
    """
    P = window.base.shape[2]
    if at_once is None:
        spread = len(response.channels) * P * (P + response.adstock.shape[-1])
        surface = 4 * len(response.series) * P * max(1, len(response.channels))
        at_once = max(1, int(_BYTES_AT_ONCE / 8 / max(1, spread + surface)))
    for first in range(0, response.num_draws, at_once):
        chosen = slice(first, first + at_once)
        yield pick(response, draws=chosen), replace(window, base=window.base[chosen])


def pick(response: MixResponse, draws: slice) -> MixResponse:
    """The curves of some draws."""
    names = (
        "adstock",
        "curve",
        "slope",
        "amplitude",
        "driver_curve",
        "driver_slope",
        "driver_amplitude",
        "noise_sd",
    )
    if response.usual_frequency is not None:
        names += ("frequency_half", "frequency_slope")
    return replace(response, **{name: getattr(response, name)[draws] for name in names})


def only_channel(response: MixResponse, window: PlanWindow, channel: int) -> tuple[MixResponse, PlanWindow]:
    """The same problem with one channel left to vary: what the others make is in the window's base."""
    keep = np.zeros(len(response.channels), bool)
    keep[channel] = True
    base = ResponseSurface(response, window, vary=~keep)
    fixed = replace(window, base=window.base + base.parts(window.spend).sum(axis=-1)) if (~keep).any() else window
    one = slice(channel, channel + 1)
    axes = {"paid": 0, "national": 0, "adstock": 1, "adstock_first": 0, "media_scale": 1, "cost_per_media": 1}
    axes |= {"grid": 0, "curve": 1, "slope": 1, "amplitude": 2, "media_max": 1}
    if response.usual_frequency is not None:
        axes |= {"usual_frequency": 0, "frequency_half": 1, "frequency_slope": 1}
    arrays = {name: getattr(response, name)[(slice(None),) * axis + (one,)] for name, axis in axes.items()}
    parts = {
        name: getattr(fixed, name)[..., one]
        for name in ("history", "spend", "media_per_money", "fixed_media", "tail_media", "max_spend", "frequency")
        if getattr(fixed, name) is not None
    }
    return replace(response, channels=response.channels[one], **arrays), replace(fixed, **parts)
