"""The market of a simulated panel without media: sizes, calendar, hidden demand, prices, promotions, controls.

Axis letters: G series, N periods of the panel and the tail behind it, F controls.
All effects are relative: a tenth of the level (identity link) or 0.1 on the log scale.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from wanamaker.data.simulate.media_options import PERIODS, PanelSimulation
from wanamaker.data.simulate.media_random import Stream

HOLIDAYS = (("black_friday", 1.0), ("christmas", 0.8), ("summer_sale", 0.45))
"""Names and effects relative to the strongest."""

CONTROLS = (("temperature", 11.0), ("competitor_activity", 100.0), ("consumer_confidence", 100.0), ("web_outage", 0.0))
"""Names of the exogenous controls (degrees, index, index, hours a period), and the value that has no effect."""


@dataclass(frozen=True)
class Market:
    """Everything but media.

    Attributes:
        dates: datetime64[D] [N].
        geo, subcategory, category: int [G], number of each series' group, or -1 where there is no such level.
        size: [G], share of each series in the level; sums to 1.
        population: [G].
        trend, season, holiday, demand, spike, control: [G, N], relative effects.
        promotion: [G, N], relative effect of discounts and displays.
        holiday_columns: [N, HOLIDAYS], share of the period that is holiday.
        control_columns: [G, N, F].
        control_effects: [F], effect of one unit of the column, counted from the value without effect in `CONTROLS`.
        search_interest: [G, N], the proxy of hidden demand (without an effect of its own).
        discount, display: [G, N], share taken off, and 0 or 1.
        price, reference_price: [G, N] and [G], money; the regular price, before discounts.
        competitor_price, reference_competitor: likewise.
        elasticity, cross_elasticity: [G], at the reference price.
    """

    dates: np.ndarray
    geo: np.ndarray
    subcategory: np.ndarray
    category: np.ndarray
    size: np.ndarray
    population: np.ndarray
    trend: np.ndarray
    season: np.ndarray
    holiday: np.ndarray
    demand: np.ndarray
    spike: np.ndarray
    control: np.ndarray
    promotion: np.ndarray
    holiday_columns: np.ndarray
    control_columns: np.ndarray
    control_effects: np.ndarray
    search_interest: np.ndarray
    discount: np.ndarray
    display: np.ndarray
    price: np.ndarray
    reference_price: np.ndarray
    competitor_price: np.ndarray
    reference_competitor: np.ndarray
    elasticity: np.ndarray
    cross_elasticity: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """What a planner knows long before: season, holidays and promotions, [G, N]."""
        return self.season + self.holiday + self.promotion

    @property
    def hidden(self) -> np.ndarray:
        """What no column shows: demand shocks and one-off events, [G, N]."""
        return self.demand + self.spike


def build_market(options: PanelSimulation) -> Market:
    """Draw the market of a simulation."""
    G, N = options.num_series, options.periods + options.max_lag
    step = 7 if options.period == "week" else 1
    dates = np.datetime64(options.start, "D") + step * np.arange(N)
    geo, subcategory, category = _series(options)

    draw = Stream(options.seed, "size")
    weight = np.exp(options.size_spread * draw.normal(G))
    people = np.round(1e6 * G * weight / weight.sum())
    size = people * np.exp(0.1 * (draw.normal(G) if G > 1 else np.zeros(G)))

    year = np.arange(N) / PERIODS[options.period]
    season, holiday, holiday_columns = _calendar(options, dates, G)
    control_columns, control_effects = _controls(options, dates, G)
    promotion, discount, display = _promotions(options, G, N)
    demand = _demand(options, G, N)
    price = _prices(options, category, N)
    return Market(
        dates=dates,
        geo=geo,
        subcategory=subcategory,
        category=category,
        size=size / size.sum(),
        population=people,
        trend=_trend(options, year, G),
        season=season,
        holiday=holiday,
        demand=demand,
        spike=_spikes(options, G, N),
        control=((control_columns - [rest for _, rest in CONTROLS[: options.controls]]) * control_effects).sum(axis=-1),
        promotion=promotion,
        holiday_columns=holiday_columns,
        control_columns=control_columns,
        control_effects=control_effects,
        search_interest=_search_interest(options, demand),
        discount=discount,
        display=display,
        **price,
    )


def _series(options: PanelSimulation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of geo, sub-category and category per series; geos outside, products inside."""
    products = max(1, options.subcategories)
    number = np.arange(options.num_series)
    geo = number // products if options.geos > 1 else np.full(len(number), -1)
    if not options.subcategories:
        nothing = np.full(len(number), -1)
        return geo, nothing, nothing
    subcategory = number % products
    return geo, subcategory, subcategory * options.categories // options.subcategories


def _calendar(options: PanelSimulation, dates: np.ndarray, G: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rules, draw = options.season, Stream(options.seed, "season")
    of_year = dates.astype("datetime64[Y]").astype("datetime64[D]")
    angle = 2 * np.pi * (dates - of_year).astype(np.float64) / 365.25
    orders = np.arange(1, rules.harmonics + 1)
    # Two waves of one frequency, with the higher ones weaker; sales peak late in the year, as most do.
    waves = np.stack([np.cos(orders * (angle[:, None] - 5.9)), np.sin(orders * (angle[:, None] - 5.9))], axis=-1)
    common = np.stack([1.0 / orders, 0.5 * draw.normal(rules.harmonics) / orders], axis=-1)
    own = common + rules.variation * draw.normal(G, rules.harmonics, 2) / orders[:, None]
    if G == 1:
        own = common[None]
    own = own / np.sqrt((common**2).sum() / 2) * rules.yearly
    season = (own[:, None] * waves[None]).sum(axis=(-1, -2))
    if rules.weekly:
        week = np.array([-0.6, -0.9, -0.6, -0.1, 0.8, 1.3, 0.1])[None] + rules.variation * draw.normal(G, 7)
        week = rules.weekly * (week - week.mean(axis=1, keepdims=True)) / 0.78
        season = season + week[:, (dates.astype(np.int64) + 3) % 7]

    columns = _holiday_columns(dates, 7 if options.period == "week" else 1)
    strength = rules.holidays * np.array([effect for _, effect in HOLIDAYS])
    if not rules.holidays:
        return season, np.zeros_like(season), columns
    own_strength = strength * np.exp(rules.variation * Stream(options.seed, "holiday").normal(G, len(HOLIDAYS)))
    own_strength = own_strength if G > 1 else np.broadcast_to(strength, own_strength.shape)
    return season, (own_strength[:, None] * columns[None]).sum(axis=-1), columns


def _holiday_columns(dates: np.ndarray, days: int) -> np.ndarray:
    """Share of each period's days that lie in the event; an event as long as a week counts as 1 week."""
    columns = np.zeros((len(dates), len(HOLIDAYS)))
    for row, start in enumerate(dates.tolist()):
        for day in (start + datetime.timedelta(days=n) for n in range(days)):
            for number, inside in enumerate((_black_friday(day), _christmas(day), _summer_sale(day))):
                columns[row, number] += inside
    return np.minimum(1.0, columns / min(days, 5))


def _black_friday(day: datetime.date) -> bool:
    """From the Wednesday before to the Monday after the fourth Friday of November."""
    first = datetime.date(day.year, 11, 1)
    friday = first + datetime.timedelta(days=(4 - first.weekday()) % 7 + 21)
    return -2 <= (day - friday).days <= 3


def _christmas(day: datetime.date) -> bool:
    return day.month == 12 and 12 <= day.day <= 24


def _summer_sale(day: datetime.date) -> bool:
    return day.month == 7 and 8 <= day.day <= 21


def _trend(options: PanelSimulation, year: np.ndarray, G: int) -> np.ndarray:
    draw = Stream(options.seed, "trend")
    length = year[-1] if year[-1] else 1.0
    # Two slow cosines that end flat; never faster than one swing in half the panel.
    slow = np.stack([np.cos(np.pi * order * year / length) for order in (1, 2)])
    share = draw.normal(2)
    wander = (share[:, None] * slow).sum(axis=0) / np.sqrt(max(1e-12, (share**2).sum() / 2))
    growth = options.season.growth * np.exp(0.3 * draw.normal(G, 1) * (G > 1))
    return growth * (year - year[0]) + options.season.wander * (wander - wander[0])


def _demand(options: PanelSimulation, G: int, N: int) -> np.ndarray:
    """Shocks common to all series and of each, together of standard deviation `sd`; relative, mean 0."""
    rules, draw = options.demand, Stream(options.seed, "demand")
    common = draw.autoregression(rules.persistence, 1, N)
    own = draw.autoregression(rules.persistence, G, N)
    share = rules.series_share if G > 1 else 0.0
    return rules.sd * (np.sqrt(1 - share) * common + np.sqrt(share) * own)


def _search_interest(options: PanelSimulation, demand: np.ndarray) -> np.ndarray:
    """An index around 100 that correlates with hidden demand as asked for."""
    rho, sd = options.demand.proxy, options.demand.sd
    noise = Stream(options.seed, "search_interest").normal(*demand.shape)
    return np.round(100 + 10 * (rho * demand / (sd if sd else 1.0) + np.sqrt(1 - rho * rho) * noise), 2)


def _spikes(options: PanelSimulation, G: int, N: int) -> np.ndarray:
    rules, draw = options.season, Stream(options.seed, "spike")
    chance = min(1.0, rules.spikes / PERIODS[options.period])
    happens = draw.uniform(G, N) < chance
    return happens * rules.spike_size * np.exp(0.4 * draw.normal(G, N) - 0.08)


def _controls(options: PanelSimulation, dates: np.ndarray, G: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns in their own units, and the effect of one unit: `control_effect` per standard deviation."""
    N, count = len(dates), options.controls
    columns, effects = np.zeros((G, N, count)), np.zeros(count)
    angle = 2 * np.pi * (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64) / 365.25
    for number, (name, rest) in enumerate(CONTROLS[:count]):
        draw = Stream(options.seed, f"control/{name}")
        if name == "temperature":
            columns[..., number] = rest - 9 * np.cos(angle - 0.3) + 1.5 * draw.normal(G, 1) + 3.0 * draw.normal(G, N)
            unit, sign = 7.0, 1.0
        elif name == "web_outage":
            columns[..., number] = 10 * (draw.uniform(G, N) < 0.03) * draw.uniform(G, N)
            unit, sign = 2.0, -1.0
        else:
            persistence, sign = (0.5, -1.0) if name == "competitor_activity" else (0.97, 1.0)
            own = np.sqrt(0.5) * (draw.autoregression(persistence, 1, N) + draw.autoregression(persistence, G, N))
            columns[..., number] = rest + 8 * own
            unit = 8.0
        columns[..., number] = np.round(columns[..., number], 2)
        effects[number] = sign * options.control_effect / unit
    return columns, effects


def _promotions(options: PanelSimulation, G: int, N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relative effect, discount and display; promotions that all series hold lie on the same periods."""
    rules, draw = options.promotion, Stream(options.seed, "promotion")
    starts_per_period = rules.per_year / PERIODS[options.period]
    shared, own = draw.uniform(1, N), draw.uniform(G, N)
    begins = (shared < starts_per_period * rules.shared) | (own < starts_per_period * (1 - rules.shared))
    depth = np.round(rules.depth * (0.5 + draw.uniform(G, N)) * 20) / 20  # whole 5 %, as shops have it
    with_display = draw.uniform(G, N) < 0.5
    discount, display = np.zeros((G, N)), np.zeros((G, N))
    for later in range(rules.length):
        on = begins[:, : N - later]
        discount[:, later:] = np.where(on, np.maximum(0.05, depth[:, : N - later]), discount[:, later:])
        display[:, later:] = np.where(on, with_display[:, : N - later], display[:, later:])
    return rules.effect * discount + rules.display * display, discount, display


def _prices(options: PanelSimulation, category: np.ndarray, N: int) -> dict[str, np.ndarray]:
    rules, G = options.price, len(category)
    draw = Stream(options.seed, "price")
    groups = draw.normal(max(1, options.categories))[np.maximum(category, 0)]
    spread = rules.spread * (np.sqrt(0.5) * groups + np.sqrt(0.5) * draw.normal(G)) * (G > 1)
    reference = np.round(rules.reference * np.exp(0.4 * draw.normal(G) * (G > 1)), 2)
    competitor = np.round(reference * np.exp(0.1 * draw.normal(G)), 2)
    return {
        "price": _price_path(draw, reference, rules.variation, rules.change_every, N),
        "reference_price": reference,
        "competitor_price": _price_path(draw, competitor, rules.variation, rules.change_every, N),
        "reference_competitor": competitor,
        "elasticity": rules.elasticity * np.exp(spread - rules.spread**2 / 2 * (G > 1)),
        "cross_elasticity": np.full(G, rules.cross),
    }


def _price_path(draw: Stream, reference: np.ndarray, variation: float, every: float, N: int) -> np.ndarray:
    """Money [G, N]: constant for a while, then another price around the reference; cents."""
    G = len(reference)
    steps, moves = draw.normal(G, N), draw.uniform(G, N) < 1.0 / every
    moves[:, 0] = True
    latest = np.maximum.accumulate(np.where(moves, np.arange(N), 0), axis=1)
    return np.round(reference[:, None] * np.exp(variation * np.take_along_axis(steps, latest, axis=1)), 2)
