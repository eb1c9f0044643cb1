"""A marketing panel with known truth: `simulate_media_panel`.

The order of making: market (sizes, calendar, hidden demand, prices) -> flights -> budgets from the ROIs and the share
of media -> spend, which may chase demand -> amplitudes that make every ROI exact for the money spent -> noise.

Numbers that a panel shows are rounded as in real files (cents, whole contacts) before anything is computed from
them: the truth belongs to what the reader sees, and the last bit of a platform's exponential does not show.

Axis letters: G series, T periods, N periods with the tail, C channels, L taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.simulate.media_fields import refuse
from wanamaker.data.simulate.media_frame import panel_frame, panel_roles, series_names
from wanamaker.data.simulate.media_market import Market, build_market
from wanamaker.data.simulate.media_noise import noise_scale, noise_sd, observe
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_random import Stream
from wanamaker.data.simulate.media_response import contact_weight, kernel, media_curves, price_effect
from wanamaker.data.simulate.media_spend import exogenous_reactions, planned_flights, with_feedback
from wanamaker.data.simulate.media_truth import PanelTruth
from wanamaker.errors import UserError

ROUNDS = 40
"""Of making budgets, spend and sales agree where spend follows sales."""


@dataclass(frozen=True)
class SimulatedPanel:
    """A panel and its truth.

    Attributes:
        frame: One row per series and period, as a file would have it (a pandas DataFrame).
        roles: Which column is what, for the panel reader.
        truth: What really happened.
        kpi: [G, T] before the pre-period is blanked out.
    """

    frame: Any
    roles: dict[str, Any]
    truth: PanelTruth
    kpi: np.ndarray


@dataclass(frozen=True)
class _World:
    """What is fixed before anything is spent.

    Attributes:
        parts: name to [G, N], everything in eta but media.
        level: [G]. kernel: [C, L].
        effect: [G, C], relative size of each series' response, times the level with the identity link.
        unit_cost: [G, T, C], money per exposure; 1 for organic channels.
        share: [G, C], of each series in a channel's budget.
        plan: [G, T, C], mean 1.
        target: [C], KPI that each channel shall bring in the observed periods, before budgets are rounded.
        budget: [C], money per period; contacts for organic channels.
    """

    options: PanelSimulation
    market: Market
    parts: dict[str, np.ndarray]
    level: np.ndarray
    kernel: np.ndarray
    effect: np.ndarray
    unit_cost: np.ndarray
    share: np.ndarray
    plan: np.ndarray
    target: np.ndarray
    budget: np.ndarray

    @property
    def other(self) -> np.ndarray:
        return sum(self.parts.values())

    @property
    def watched(self) -> slice:
        return slice(self.options.pre_period, None)

    def mean(self, media: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Expected KPI of periods for media parts [G, stop - start, C]."""
        eta = self.other[:, start:stop] + media.sum(axis=-1)
        return np.exp(eta) if self.options.link == "log" else eta

    def curves(self, exposure: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Responses before the amplitude, [G, N', C], times the series' effect."""
        return self.effect[:, None] * media_curves(exposure / scale[:, None], self.options.channels, self.kernel)


def simulate_media_panel(options: PanelSimulation) -> SimulatedPanel:
    """Simulate a panel; a pure function of the options, whatever the number of threads.

    The table is the same on every platform. The truth is not rounded: there it may differ in the last bits of an
    exponential.

    Raises:
        UserError: options that cannot be met together: a channel never on the air, noise that cannot be as small or
            would drive the KPI below 0, media that cannot bring what their ROI asks.
    """
    world = _world(options)
    quantiles = Stream(options.seed, "noise").uniform(options.num_series, options.periods)
    money = _settled_spend(world, quantiles)
    spend, exposure, frequency = _shown(world, money)
    scale = _media_scale(world, exposure)
    weight = contact_weight(frequency, exposure, options.channels)
    curves = world.curves(exposure * weight, scale)
    target = _targets(world, spend)
    amplitude = _amplitudes(world, curves, target)
    expected = world.mean(amplitude * curves, 0, options.periods)
    _check_positive(world, expected)
    size = noise_scale(options.noise, expected[:, world.watched])
    kpi = np.round(observe(options.noise, expected, size, quantiles), 2)
    _check_positive(world, kpi)

    market, T = world.market, options.periods
    paid = np.array([not channel.organic for channel in options.channels])
    truth = PanelTruth(
        options=options,
        series=series_names(options, market),
        dates=market.dates[:T],
        parts=world.parts,
        exposure=exposure,
        contact_weight=weight,
        spend=spend,
        unit_cost=np.where(paid & (exposure > 0), spend / np.maximum(exposure, 1e-300), world.unit_cost * paid),
        media_scale=scale,
        amplitude=world.effect * amplitude,
        kernel=world.kernel,
        price=market.price,
        competitor_price=market.competitor_price,
        reference_price=market.reference_price,
        reference_competitor=market.reference_competitor,
        discount=market.discount,
        display=market.display,
        level=world.level,
        elasticity=market.elasticity,
        cross_elasticity=market.cross_elasticity,
        promotion_effect=np.array([options.promotion.effect, options.promotion.display]),
        noise_scale=size,
        noise_sd=noise_sd(options.noise, expected[:, world.watched], size),
        observed=np.arange(T) >= options.pre_period,
    )
    frame = panel_frame(options, market, kpi, spend, exposure, frequency)
    return SimulatedPanel(frame, panel_roles(options), truth, kpi)


# -- what is fixed -----------------------------------------------------------------------------------------------------


def _world(options: PanelSimulation) -> _World:
    market = build_market(options)
    G, T, C = options.num_series, options.periods, len(options.channels)
    level = options.level * market.size
    unit = np.ones(G) if options.link == "log" else level
    groups = np.maximum(market.category, 0)
    effect, share = np.empty((G, C)), np.empty((G, C))
    unit_cost = np.empty((G, T, C))
    for number, channel in enumerate(options.channels):
        draw = Stream(options.seed, f"effect/{channel.name}")
        by_group = options.group_heterogeneity * draw.normal(max(1, options.categories))[groups]
        single = options.heterogeneity * draw.normal(G)
        effect[:, number] = np.exp(single + by_group) if G > 1 else 1.0
        local = 0.2 * channel.geo_variation * draw.normal(G) * (not channel.national and G > 1)
        share[:, number] = market.size * np.exp(local)
        unit_cost[..., number] = _unit_cost(options, market, number)
    parts = _parts(options, market, level, unit)
    # Budgets are set from what is known beforehand, so that hidden demand moves no spend unless it shall.
    known = sum(part for name, part in parts.items() if name not in ("demand", "spike"))[:, options.pre_period : T]
    known = np.exp(known) if options.link == "log" else known
    watched = T - options.pre_period
    weight = np.array([channel.weight for channel in options.channels])
    target = options.media_share / (1 - options.media_share) * known.sum() * weight / weight.sum()
    roi = np.array([channel.roi for channel in options.channels])
    organic = np.array([channel.organic for channel in options.channels])
    contacts = 0.2 * market.population.sum()
    budget = np.where(organic, contacts, target * options.kpi_value / roi / watched)
    return _World(
        options=options,
        market=market,
        parts=parts,
        level=level,
        kernel=np.stack([kernel(channel.adstock, options.taps) for channel in options.channels]),
        effect=effect * unit[:, None],
        unit_cost=unit_cost,
        share=share / share.sum(axis=0),
        plan=planned_flights(options, market),
        target=target,
        budget=budget,
    )


def _parts(options: PanelSimulation, market: Market, level: np.ndarray, unit: np.ndarray) -> dict[str, np.ndarray]:
    """Everything in eta but media, [G, N] each."""
    rest = np.log(level) if options.link == "log" else level
    rule = options.price
    relative = {
        "trend": market.trend,
        "season": market.season,
        "holiday": market.holiday,
        "demand": market.demand,
        "spike": market.spike,
        "control": market.control,
        "promotion": market.promotion,
        "price": price_effect(market.price / market.reference_price[:, None], market.elasticity[:, None], rule),
        "cross_price": price_effect(
            market.competitor_price / market.reference_competitor[:, None], market.cross_elasticity[:, None], rule
        ),
    }
    parts = {"level": np.repeat(rest[:, None], market.trend.shape[1], axis=1)}
    return parts | {name: unit[:, None] * effect for name, effect in relative.items()}


def _unit_cost(options: PanelSimulation, market: Market, number: int) -> np.ndarray:
    """Money per exposure, [1, T]: dearer in the season, when everybody advertises; 1 where money is the exposure."""
    channel, T = options.channels[number], options.periods
    if channel.organic or not channel.cost_per_thousand:
        return np.ones((1, T))
    path = Stream(options.seed, f"cost/{channel.name}").autoregression(0.7, 1, T)
    season = (market.size[:, None] * (market.season + market.holiday)).sum(axis=0)[:T]
    season = (season - season.mean()) / (season.std() or 1.0)
    return channel.cost_per_thousand / 1000 * np.exp(channel.cost_variation * (0.8 * path + 0.6 * season))


# -- spend -------------------------------------------------------------------------------------------------------------


def _settled_spend(world: _World, quantiles: np.ndarray) -> np.ndarray:
    """Money (contacts, for organic channels) per period, not rounded, [G, T, C].

    Budgets hold over the observed periods whatever moves spend within them. Where spend follows sales, both are
    repeated until they agree: sales depend on amplitudes and noise, which depend on the whole path of spend.
    """
    options = world.options
    wanted = world.plan * exogenous_reactions(options, world.market)
    on_air = wanted[:, world.watched].any(axis=(0, 1))
    if not on_air.all():
        names = [channel.name for channel, on in zip(options.channels, on_air, strict=True) if not on]
        raise UserError(
            f"Simulated channels {', '.join(names)} are never on the air in {options.periods} periods; "
            "lower their flight.dark_share, or give more flight.campaigns or periods."
        )
    base = wanted * world.share[:, None] * world.budget
    base = base * _to_budget(world, base)
    if not options.endogeneity.budget_feedback:
        return base
    if curved := [channel.name for channel in options.channels if channel.frequency_half]:
        raise UserError(
            f"Simulated channels {', '.join(curved)} have a frequency_half, and planners who follow sales "
            "(endogeneity.budget_feedback) would have to know it: choose one of the two."
        )
    money, factor = base, np.ones(len(options.channels))
    for _ in range(ROUNDS):
        scale = _media_scale(world, money / world.unit_cost)
        curves = world.curves(money / world.unit_cost, scale)
        amplitude = _amplitudes(world, curves, _targets(world, money))
        size = noise_scale(options.noise, world.mean(amplitude * curves, 0, options.periods)[:, world.watched])
        reported = _Reported(world, scale, amplitude, size, quantiles)
        settled = with_feedback(base * factor, options, world.market.size, reported)
        factor = factor * _to_budget(world, settled)
        moved = np.abs(settled - money).max() / money.max()
        money = settled
        if moved < 1e-12:  # far below a cent, so that the way there leaves no trace
            break
    return money


def _to_budget(world: _World, money: np.ndarray) -> np.ndarray:
    """What to multiply each channel's path with to meet its budget over the observed periods, [C]."""
    periods = world.options.periods - world.options.pre_period
    return world.budget * periods / money[:, world.watched].sum(axis=(0, 1))


def _shown(world: _World, money: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spend, exposure and contact frequency as the panel shows them, [G, T, C] each; 1 where there is no frequency."""
    options = world.options
    organic = np.array([channel.organic for channel in options.channels])
    contacts = np.array([bool(channel.cost_per_thousand) or channel.organic for channel in options.channels])
    exposure = np.where(contacts, np.round(money / world.unit_cost), np.round(money, 2))
    spend = np.where(organic | (exposure <= 0), 0.0, np.round(money, 2))
    exposure = np.where(~organic & (spend <= 0), 0.0, exposure)
    frequency = np.ones_like(exposure)
    for number, channel in enumerate(options.channels):
        if channel.reach_frequency:
            people = world.market.population[:, None]
            # Random contacts: the share of people with at least one of them is 1 - exp(-contacts per person).
            reach = people * -np.expm1(-exposure[..., number] / people)
            if channel.frequency_variation:  # campaigns that aim at the same people more often, or less
                path = Stream(options.seed, f"frequency/{channel.name}").autoregression(0.5, *reach.shape)
                most = np.maximum(np.minimum(people, exposure[..., number]), 1.0)
                reach = np.minimum(reach * np.exp(-channel.frequency_variation * path), most)
            reach = np.ceil(reach)
            times = np.round(exposure[..., number] / np.maximum(reach, 1.0), 4)
            frequency[..., number] = np.where(reach > 0, np.maximum(times, 1.0), 0.0)
            exposure[..., number] = reach * frequency[..., number]
    return spend, exposure, frequency


def _media_scale(world: _World, exposure: np.ndarray) -> np.ndarray:
    """Mean exposure of a series' active periods, [G, C]; that of the company by size where a series has none."""
    watched = exposure[:, world.watched]
    active = (watched > 0).sum(axis=1)
    mean = watched.sum(axis=1) / np.maximum(active, 1)
    company = world.market.size[:, None] * mean.sum(axis=0) / (world.market.size[:, None] * (active > 0)).sum(axis=0)
    return np.where(active > 0, mean, company)


# -- response ----------------------------------------------------------------------------------------------------------


def _targets(world: _World, spend: np.ndarray) -> np.ndarray:
    """KPI that each channel shall bring over the observed periods: its ROI times what was really spent, [C]."""
    channels = world.options.channels
    organic = np.array([channel.organic for channel in channels])
    roi = np.array([channel.roi for channel in channels])
    bought = spend[:, world.watched].sum(axis=(0, 1)) * roi / world.options.kpi_value
    return np.where(organic, world.target, bought)


def _amplitudes(world: _World, curves: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Multipliers [C] of the curves with which each channel's total contribution is its target, exactly.

    With the log link the contribution of a channel is what would be missing without it, sum of
    E[kpi] (1 - exp(-part)); the multipliers follow from repeating a <- a * target / contribution.
    """
    total = curves[:, world.watched].sum(axis=(0, 1))
    if not (total > 0).all():
        raise UserError("A simulated channel has no effect at all in the observed periods; give it more spend.")
    if world.options.link == "identity":
        return target / total
    T = world.options.periods
    amplitude = np.log1p(target / world.mean(0.0 * curves, 0, T)[:, world.watched].sum()) / (
        total / (curves.shape[0] * (T - world.options.pre_period))
    )
    for _ in range(2000):
        parts = amplitude * curves
        expected = world.mean(parts, 0, T)[:, world.watched]
        brought = (expected[..., None] * -np.expm1(-parts[:, world.watched])).sum(axis=(0, 1))
        ratio = target / brought
        if not np.isfinite(ratio).all():
            break
        amplitude = amplitude * ratio
        if np.abs(ratio - 1).max() < 1e-14:
            return amplitude
    if np.isfinite(ratio).all() and np.abs(ratio - 1).max() < 1e-12:
        return amplitude
    raise refuse("media_share", world.options.media_share, "no multiplicative effects reach these ROIs; give less.")


class _Reported:
    """Sales as the planners see them while the panel is being made: called by `with_feedback`."""

    def __init__(
        self, world: _World, scale: np.ndarray, amplitude: np.ndarray, size: np.ndarray, quantiles: np.ndarray
    ) -> None:
        self.world, self.scale, self.amplitude, self.size, self.quantiles = world, scale, amplitude, size, quantiles

    def __call__(self, money: np.ndarray, start: int, stop: int) -> np.ndarray:
        world = self.world
        early = max(0, start - world.kernel.shape[1] + 1)
        exposure = money[:, early:stop] / world.unit_cost[:, early:stop]
        media = (self.amplitude * world.curves(exposure, self.scale))[:, start - early :]
        expected = world.mean(media, start, stop)
        return observe(world.options.noise, expected, self.size, self.quantiles[:, start:stop])


def _check_positive(world: _World, kpi: np.ndarray) -> None:
    if kpi.min() >= 0 and (world.options.noise.family != "lognormal" or kpi.min() > 0):
        return
    series, period = np.unravel_index(int(np.argmin(kpi)), kpi.shape)
    name, date = series_names(world.options, world.market)[series], world.market.dates[period]
    remedy = "choose link=log" if world.options.link == "identity" else "choose noise.family=lognormal"
    raise UserError(
        f"The simulated KPI of {name} on {date} would be {kpi.min():.4g}, below 0: the effects or the noise are too "
        f"large. Raise noise.snr, lower the effects, or {remedy}."
    )
