"""What a mix model says would happen: a window of periods, and the KPI of any plan for it with exact gradients.

Money goes in and KPI or money comes out. Media of before the window carry into it and are held fixed; what the window's
media carry out of it is counted over a tail of L - 1 periods after it, in which media go on as in the data (or, where
the data end, as a year before).

Axis letters: S draws, G series, C media channels, D drivers (prices and promotions), L adstock taps, H periods of the
window, P = H + L - 1 periods in which its media work, J knots.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wanamaker.decisions.curves import HermiteCurves
from wanamaker.decisions.window import PlanWindow, plan_window
from wanamaker.errors import UserError
from wanamaker.predictions import MixResponse

__all__ = [
    "PlanWindow",
    "ResponseSurface",
    "channel_incremental",
    "driver_parts",
    "incremental",
    "plan_window",
    "value_and_gradient",
    "window_eta",
    "window_kpi",
]


class ResponseSurface:
    """The KPI of plans for one window, prepared for many evaluations.

    Args:
        response: the curves.
        window: of `plan_window`; its base may be another one (other prices, other controls).
        vary: bool [C], the channels whose money will differ from the window's; None is all. Leaving out what stays
            fixed saves its share of every evaluation.
    """

    def __init__(self, response: MixResponse, window: PlanWindow, vary: np.ndarray | None = None) -> None:
        self.response, self.window = response, window
        self.shape = window.spend.shape  # [G, H, C]
        vary = np.ones(self.shape[2], bool) if vary is None else np.asarray(vary, bool)
        self._log = response.link == "log"
        channels = [_Channel(response, window, c) for c in range(self.shape[2])]
        self._varying = [channel for channel in channels if vary[channel.number]]
        self._base = window.base.transpose(1, 0, 2).copy()  # [G, S, P], the layout of all that follows
        for channel in channels:
            if not vary[channel.number]:
                self._base += channel.part(window.spend[:, :, channel.number])[0]
        self.channels = [channel.number for channel in self._varying]

    def eta(self, spend: np.ndarray) -> np.ndarray:
        """Linear predictor [S, G, P] under ``spend`` [G, H, C] in money."""
        total = self._base.copy()
        for channel in self._varying:
            total += channel.part(spend[:, :, channel.number])[0]
        return total.transpose(1, 0, 2)

    def kpi(self, spend: np.ndarray) -> np.ndarray:
        """Expected KPI [S, G, P] in its own units; the last L - 1 periods are the tail after the window."""
        eta = self.eta(spend)
        return np.exp(eta) if self._log else eta

    def value(self, spend: np.ndarray) -> np.ndarray:
        """Money [S] that the KPI of window and tail is worth, all series together."""
        return self.response.kpi_value * self.kpi(spend).sum(axis=(1, 2))

    def value_and_pullback(self, spend: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Values [S] as in `value`, and a function that turns weights [S] into the exact gradient [G, H, C].

        The gradient is that of ``weights @ value`` with respect to the money of every cell (money per money); it is 0
        for channels that do not vary.
        """
        total, steps = self._base.copy(), []
        for channel in self._varying:
            part, backward = channel.part(spend[:, :, channel.number])
            total += part
            steps.append(backward)
        kpi = np.exp(total, out=total) if self._log else total
        values = self.response.kpi_value * kpi.sum(axis=(0, 2))

        def pullback(weights: np.ndarray) -> np.ndarray:
            seed = (self.response.kpi_value * np.asarray(weights, np.float64))[None, :, None]
            seed = seed * kpi if self._log else seed
            gradient = np.zeros(self.shape)
            for channel, backward in zip(self._varying, steps, strict=True):
                gradient[:, :, channel.number] = backward(seed)
            return gradient

        return values, pullback

    def parts(self, spend: np.ndarray) -> np.ndarray:
        """Parts of the linear predictor [S, G, P, C] that each varying channel makes (in order of `channels`)."""
        made = [channel.part(spend[:, :, channel.number])[0] for channel in self._varying]
        return np.stack(made, axis=-1).transpose(1, 0, 2, 3)


class _Channel:
    """One channel in one window: money [G, H] to its part of the linear predictor [G, S, P], and back."""

    def __init__(self, response: MixResponse, window: PlanWindow, number: int) -> None:
        self.number = number
        S, L = response.adstock.shape[0], response.adstock.shape[-1]
        G, H = window.spend.shape[:2]
        P = H + L - 1
        self.size = G, S, P
        self.first = bool(response.adstock_first[number])
        self.curves = HermiteCurves(response.grid[number], response.curve[:, number], response.slope[:, number])
        self.amplitude = response.amplitude[:, :, number].T[:, :, None]  # [G, S, 1]
        scale = response.media_scale[:, number, None]
        self.per_money = window.media_per_money[:, :, number] / scale
        self.fixed = window.fixed_media[:, :, number] / scale
        self.carry = _Carry(response.adstock[:, number], H)
        # What history and tail carry into the P periods is the same for every plan.
        outside = np.zeros((G, 1, P + L - 1))
        outside[:, 0, : L - 1] = window.history[:, :, number] / scale
        outside[:, 0, L - 1 + H :] = window.tail_media[:, :, number] / scale
        self.weight = np.ones((1, 1, 1))  # of a contact, [G, S, H]
        if window.frequency is not None and number in response.frequency_channels:
            value = response.contact_value(number, window.frequency[:, :, number]).transpose(1, 0, 2)
            outside = outside * value
            self.weight = value[:, :, L - 1 : L - 1 + H]
        self.carried = self.carry.onto(outside if self.first else self.curves(outside)[0])

    def part(self, money: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """The part [G, S, P], and a function from its cotangent (broadcast to [G, S, P]) to that of money [G, H]."""
        media = (money * self.per_money + self.fixed)[:, None] * self.weight  # [G, 1 or S, H]
        alike = self.weight.size == 1
        if self.first:
            value, slope = self.curves(self.carried + self.carry.spread(media))

            def backward(seed: np.ndarray) -> np.ndarray:
                upstream = slope * (seed * self.amplitude)
                if alike:
                    return self.carry.gather_sum(upstream) * self.per_money
                return (self.carry.gather(upstream) * self.weight).sum(axis=1) * self.per_money
        else:
            shaped, slope = self.curves(media)  # [G, S, H]
            value = self.carried + self.carry.spread(shaped)

            def backward(seed: np.ndarray) -> np.ndarray:
                upstream = np.broadcast_to(seed * self.amplitude, self.size)
                return (self.carry.gather(upstream) * slope * self.weight).sum(axis=1) * self.per_money

        return value * self.amplitude, backward


class _Carry:
    """Adstock [S, L] as a linear map from H periods onto the P in which they work, and its transpose.

    As one matrix product where the matrices [S, P, H] are small, else tap by tap, which needs no memory of its own
    (daily data, many draws).
    """

    _MOST = 1_000_000  # entries of the matrices

    def __init__(self, adstock: np.ndarray, periods: int) -> None:
        self.adstock, self.periods = adstock, periods
        S, L = adstock.shape
        self.matrix: np.ndarray | None = None
        if S * (periods + L - 1) * periods <= self._MOST:
            self.matrix = np.zeros((S, periods + L - 1, periods))
            for h in range(periods):
                self.matrix[:, h : h + L, h] = adstock

    def onto(self, x: np.ndarray) -> np.ndarray:
        """[G, S or 1, P + L - 1] with L - 1 periods before the first: what works in each of P, [G, S, P]."""
        S, L = self.adstock.shape
        P = x.shape[-1] - L + 1
        out = np.zeros((x.shape[0], S, P))
        for lag in range(L):
            out += self.adstock[:, lag, None] * x[..., L - 1 - lag : L - 1 - lag + P]
        return out

    def spread(self, x: np.ndarray) -> np.ndarray:
        """[G, S or 1, H] to [G, S, P]."""
        (S, L), H = self.adstock.shape, self.periods
        if self.matrix is not None and x.shape[1] == 1:
            return (x[:, 0] @ self.matrix.reshape(-1, H).T).reshape(len(x), S, -1)
        if self.matrix is not None:
            return np.matmul(x.transpose(1, 0, 2), self.matrix.transpose(0, 2, 1)).transpose(1, 0, 2)
        out = np.zeros((len(x), S, H + L - 1))
        for lag in range(L):
            out[..., lag : lag + H] += self.adstock[:, lag, None] * x
        return out

    def gather(self, y: np.ndarray) -> np.ndarray:
        """The transpose: [G, S, P] to [G, S, H]."""
        if self.matrix is not None:
            return np.matmul(y.transpose(1, 0, 2), self.matrix).transpose(1, 0, 2)
        out = np.zeros((*y.shape[:2], self.periods))
        for lag in range(self.adstock.shape[1]):
            out += self.adstock[:, lag, None] * y[..., lag : lag + self.periods]
        return out

    def gather_sum(self, y: np.ndarray) -> np.ndarray:
        """The transpose, summed over draws: [G, S, P] to [G, H]."""
        if self.matrix is not None:
            return y.reshape(len(y), -1) @ self.matrix.reshape(-1, self.periods)
        return self.gather(y).sum(axis=1)


def window_eta(
    response: MixResponse, window: PlanWindow, spend: np.ndarray | None = None, *, driver: np.ndarray | None = None
) -> np.ndarray:
    """Linear predictor [S, G, P] of a plan.

    Args:
        response: the curves.
        window: of `plan_window`.
        spend: [G, H, C] money; None is the current plan.
        driver: [G, H, D] prices and promotions in units of the file; None leaves them as they were.
    """
    spend = window.spend if spend is None else spend
    eta = ResponseSurface(response, window).eta(spend)
    if driver is not None:
        eta = eta.copy()
        change = driver_parts(response, driver) - driver_parts(response, window.driver)
        eta[:, :, : window.num_periods] += change.sum(axis=-1)
    return eta


def window_kpi(
    response: MixResponse, window: PlanWindow, spend: np.ndarray | None = None, *, driver: np.ndarray | None = None
) -> np.ndarray:
    """Expected KPI [S, G, P] of a plan in KPI units; arguments as in `window_eta`."""
    eta = window_eta(response, window, spend, driver=driver)
    return np.exp(eta) if response.link == "log" else eta


def incremental(
    response: MixResponse, window: PlanWindow, spend: np.ndarray | None = None, reference: np.ndarray | None = None
) -> np.ndarray:
    """KPI [S, G, P] that a plan brings beyond a reference plan; by default, beyond no paid media in the window."""
    surface = ResponseSurface(response, window)
    spend = window.spend if spend is None else spend
    reference = np.zeros_like(window.spend) if reference is None else reference
    return surface.kpi(spend) - surface.kpi(reference)


def channel_incremental(response: MixResponse, window: PlanWindow, spend: np.ndarray | None = None) -> np.ndarray:
    """KPI [S, G, C] that would be lost in window and tail without one channel's money, the others as planned."""
    surface = ResponseSurface(response, window)
    spend = window.spend if spend is None else spend
    difference = surface.parts(spend) - surface.parts(np.zeros_like(spend))  # [S, G, P, C]
    if response.link == "identity":
        return difference.sum(axis=2)
    kpi = np.exp(surface.eta(spend))
    return np.einsum("sgp,sgpc->sgc", kpi, -np.expm1(-difference))


def value_and_gradient(
    response: MixResponse, window: PlanWindow, spend: np.ndarray | None = None, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Money [S] that the KPI of window and tail is worth, and the gradient [G, H, C] of its weighted sum over draws.

    Args:
        response, window, spend: as in `window_eta`.
        weights: [S]; None is the mean. The gradient is the marginal ROI of each cell: money per money.
    """
    spend = window.spend if spend is None else spend
    values, pullback = ResponseSurface(response, window).value_and_pullback(spend)
    weights = np.full(len(values), 1 / len(values)) if weights is None else weights
    return values, pullback(weights)


def driver_parts(response: MixResponse, driver: np.ndarray) -> np.ndarray:
    """Parts [S, G, H, D] of the linear predictor at prices and promotions ``driver`` [G, H, D], units of the file.

    Raises:
        UserError: a price that is not above 0.
    """
    S, (G, H, D) = response.num_draws, driver.shape
    parts = np.zeros((S, G, H, D))
    for d, transform in enumerate(response.driver_transform):
        value, reference = driver[:, :, d], response.driver_reference[:, d, None]
        if transform == "log_ratio":
            if (value <= 0).any():
                g, h = np.argwhere(value <= 0)[0]
                raise UserError(
                    f"{response.drivers[d]} is {value[g, h]:g} for series {response.series[g]!r} in period {h}: "
                    "it must stay above 0."
                )
            z = np.log(value / reference)
        else:
            z = value / reference if transform == "scaled" else value - reference
        curves = HermiteCurves(response.driver_grid[d], response.driver_curve[:, d], response.driver_slope[:, d])
        parts[..., d] = curves(z[:, None])[0].transpose(1, 0, 2) * response.driver_amplitude[:, :, d, None]
    return parts
