"""When and how much is spent: flights as media planners draw them, and four ways in which spend chases demand.

The mechanisms are those of Heusch, "A Synthetic Benchmark Dataset with Endogenous Marketing Spend for Validating
Marketing Mix Models" (arXiv:2608.21130): reactive budgets, anticipation of promotions, bursts in strong weeks and
bids that chase performance. The formulas here are our own, with one strength each, 0 being off, and independent:

    spend[g,t,c] = budget[g,c] * plan[g,t,c] * anticipation[g,t,c] * bidding[g,t,c] * feedback[g,t,c]

    anticipation = 1 + k * a_c * mean_{h=1..horizon} max(0, z(known[g,t+h]))
    bidding      = clip(exp(k * b_c * shock[g,t]), 1/cap, cap)
    feedback     = clip(1 + k * f_c * (mean(sales[g, last window]) / mean(sales[g, all before]) - 1), 1/cap, cap)
    bursts       : campaigns start at the largest  k * z(demand over the campaign) + Gumbel noise

with k the strength, a_c, b_c, f_c the channel's share in it, z() standardised over time, `known` the calendar and the
promotions, `shock` hidden demand of the same period, `demand` known and hidden together, `sales` as observed, noise
included. Anticipation therefore follows what the panel shows; the other three follow what it does not show. Feedback
is decided every `review` periods and holds until the next decision. With all four off no demand enters: spend is a
function of the calendar and of draws of its own.

Axis letters: G series, T periods, N periods with the tail behind the panel, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wanamaker.data.simulate.media_channel import Channel, Flight
from wanamaker.data.simulate.media_market import Market
from wanamaker.data.simulate.media_options import PERIODS, Endogeneity, PanelSimulation
from wanamaker.data.simulate.media_random import Stream


def planned_flights(options: PanelSimulation, market: Market) -> np.ndarray:
    """Flights before any reaction but the placing of campaigns, float64 [G, T, C], mean 1 over the observed periods.

    A national channel has the same flight in every series. Channels correlate through a variation they have in
    common.
    """
    G, T = options.num_series, options.periods
    together = Stream(options.seed, "flight").normal(1, T)
    calendar = (market.season + market.holiday)[:, :T]
    chase = _burst_score(options, market)
    flights = np.empty((G, T, len(options.channels)))
    for number, channel in enumerate(options.channels):
        draw = Stream(options.seed, f"flight/{channel.name}")
        rules = channel.flight
        known = _company(calendar, market.size) if channel.national else calendar
        path = np.exp(rules.variation * _variation(options, channel, together, draw) + rules.seasonality * known)
        path = path * _on_air(options, channel, chase, draw)
        flights[..., number] = path / _positive(path[:, options.pre_period :].mean(axis=1, keepdims=True))
    return flights


def _company(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The mean over series, by size, [1, T]: what a decision for all of them looks at."""
    return (size[:, None] * values).sum(axis=0, keepdims=True)


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 1.0)


def _variation(options: PanelSimulation, channel: Channel, together: np.ndarray, draw: Stream) -> np.ndarray:
    """Standardised AR(1) around the plan, [G, T]: shared with other channels, of the channel, of each series."""
    G, T = options.num_series, options.periods
    rho = channel.flight.persistence
    own = draw.autoregression(rho, 1, T)
    single = draw.autoregression(rho, G, T)
    shared = np.empty_like(own)
    shared[:, 0] = together[:, 0]
    for t in range(1, T):  # the common steps, with this channel's persistence
        shared[:, t] = rho * shared[:, t - 1] + np.sqrt(1 - rho * rho) * together[:, t]
    national = np.sqrt(options.correlation) * shared + np.sqrt(1 - options.correlation) * own
    local = 0.0 if channel.national or G == 1 else channel.geo_variation
    return np.sqrt(1 - local) * national + np.sqrt(local) * single


def _on_air(options: PanelSimulation, channel: Channel, chase: np.ndarray, draw: Stream) -> np.ndarray:
    """0 where the channel is silent, and the shape of campaigns; [G or 1, T]."""
    rules, T = channel.flight, options.periods
    series = 1 if channel.national else options.num_series
    # Plans differ between series only as far as the channel varies by series at all.
    local = series > 1 and channel.geo_variation > 0
    if rules.kind == "bursts":
        shape = _campaigns(options, rules, chase, draw)
        takes_part = draw.uniform(series, T) > (0.5 * channel.geo_variation if local else 0.0)
        # Decided once per campaign: at its first period.
        first = np.maximum.accumulate(np.where((shape > 0) & (np.roll(shape, 1) == 0), np.arange(T), 0))
        shape = np.where(takes_part[:, first], shape, 0.0)
        return np.maximum(shape, rules.floor) if rules.floor else shape
    air = np.ones((series, T))
    if rules.kind == "pulsed":
        air = _stretches(rules.on, rules.off, series if local else 1, T, draw)
    if rules.dark_share:
        lit = 2.0 * (1 - rules.dark_share) / rules.dark_share
        air = air * _stretches(max(1.0, lit), 2.0, series if local else 1, T, draw)
    return air


def _stretches(on: float, off: float, series: int, T: int, draw: Stream) -> np.ndarray:
    """1 and 0 in turn, [series, T]; lengths are uniform around their means."""
    lengths = draw.uniform(series, 2 * T + 2)
    offsets = draw.uniform(series)
    air = np.zeros((series, T))
    for s in range(series):
        at, number = -int(offsets[s] * (on + off)), 0
        while at < T:
            mean = off if number % 2 else on
            length = max(1, int(1 + lengths[s, number] * (2 * mean - 1)))
            if number % 2 == 0 and at + length > 0:
                air[s, max(0, at) : at + length] = 1.0
            at, number = at + length, number + 1
    return air


def _burst_score(options: PanelSimulation, market: Market) -> np.ndarray:
    """Company-wide demand, known and hidden, standardised, times the strength of `bursts`; [T], 0 where off."""
    strength = options.endogeneity.bursts
    if not strength:
        return np.zeros(options.periods)
    demand = _company(market.known + market.hidden, market.size)[0, : options.periods]
    return strength * (demand - demand.mean()) / (demand.std() or 1.0)


def _campaigns(options: PanelSimulation, rules: Flight, chase: np.ndarray, draw: Stream) -> np.ndarray:
    """Campaigns that start strong and fade, [T], 0 between them; never two at the same time."""
    T, length = options.periods, rules.length
    count = max(1, round(rules.campaigns * T / PERIODS[options.period]))
    noise, strengths = draw.gumbel(T), np.exp(0.3 * draw.normal(T))
    running = np.array([chase[t : t + length].mean() for t in range(T)])
    score = running + noise
    shape = np.zeros(T)
    free = np.ones(T, dtype=bool)
    for _ in range(count):
        if not free.any():
            break
        start = int(np.argmax(np.where(free, score, -np.inf)))
        days = np.arange(start, min(T, start + length))
        shape[days] = strengths[start] * 0.85 ** (4.0 * (days - start) / length)
        # At least one silent period between two campaigns, so that they stay two.
        free[max(0, start - length) : start + length + 1] = False
    return shape


def exogenous_reactions(options: PanelSimulation, market: Market) -> np.ndarray:
    """Anticipation times bidding, float64 [G, T, C]; exactly 1 where both are off."""
    rules, T = options.endogeneity, options.periods
    factor = np.ones((options.num_series, T, len(options.channels)))
    for number, channel in enumerate(options.channels):
        if channel.organic:
            continue
        if rules.anticipation and channel.anticipation:
            factor[..., number] *= 1 + rules.anticipation * channel.anticipation * _peaks_ahead(
                _company(market.known, market.size) if channel.national else market.known, T, rules.horizon
            )
        if rules.bidding and channel.bidding:
            shock = _company(market.demand, market.size) if channel.national else market.demand
            bids = np.exp(rules.bidding * channel.bidding * shock[:, :T])
            factor[..., number] *= np.clip(bids, 1 / rules.cap, rules.cap)
    return factor


def _peaks_ahead(known: np.ndarray, T: int, horizon: int) -> np.ndarray:
    """Mean height of the known peaks in the next periods, in standard deviations; [G or 1, T].

    Beyond the last period that the simulation has, nothing is known.
    """
    spread = known[:, :T].std(axis=1, keepdims=True)
    height = np.maximum(0.0, (known - known[:, :T].mean(axis=1, keepdims=True)) / _positive(spread))
    height = np.concatenate([height, np.zeros((len(height), horizon))], axis=1)
    return np.mean([height[:, h : h + T] for h in range(1, horizon + 1)], axis=0)


Sales = Callable[[np.ndarray, int, int], np.ndarray]
"""(spend [G, t, C] up to period `stop`, start, stop) -> observed KPI [G, stop - start]."""


def with_feedback(spend: np.ndarray, options: PanelSimulation, size: np.ndarray, sales: Sales) -> np.ndarray:
    """Let the budget follow sales, [G, T, C]: what is spent moves sales, which move what is spent next.

    Args:
        spend: Without feedback, [G, T, C].
        options: Of the simulation.
        size: [G], share of each series; national budgets look at all series together.
        sales: Observed KPI of periods under the spend decided so far.
    """
    rules = options.endogeneity
    if not rules.budget_feedback:
        return spend
    result = spend.copy()
    seen = np.empty(spend.shape[:2])
    for start in range(0, spend.shape[1], rules.review):
        stop = min(spend.shape[1], start + rules.review)
        if start > rules.window:  # the first decisions have nothing to compare with
            result[:, start:stop] *= _budget_factor(seen[:, :start], options, rules)[:, None]
        seen[:, start:stop] = sales(result[:, :stop], start, stop)
    return result


def _budget_factor(seen: np.ndarray, options: PanelSimulation, rules: Endogeneity) -> np.ndarray:
    """Multiplier of the budget until the next decision, [G, C]."""
    recent, before = seen[:, -rules.window :].mean(axis=1), seen.mean(axis=1)
    local = recent / before - 1
    company = np.full_like(local, recent.sum() / before.sum() - 1)
    columns = [
        np.ones_like(local)
        if channel.organic
        else np.clip(
            1 + rules.budget_feedback * channel.feedback * (company if channel.national else local),
            1 / rules.cap,
            rules.cap,
        )
        for channel in options.channels
    ]
    return np.stack(columns, axis=-1)
