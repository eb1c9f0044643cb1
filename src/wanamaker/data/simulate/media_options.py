"""What decides every number of a simulated marketing panel: `PanelSimulation` and the options it is made of.

Relative sizes mean the same under both links: 0.1 is a tenth of a series' level (identity) or 0.1 on the log scale.
Times are counted in periods, weeks or days.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from wanamaker.data.simulate.media_channel import Channel
from wanamaker.data.simulate.media_fields import PART, check_fields, choice, folder_of, number, refuse, text, whole

VERSION = 1
"""Raise this when the same options give other numbers: it is part of the folder's name."""

LINKS = ("identity", "log")
NOISES = ("gaussian", "student_t", "lognormal", "negative_binomial", "poisson")
PRICE_SHAPES = ("constant", "s_shaped")
PERIODS = {"week": 365.25 / 7, "day": 365.25}
"""Periods in a year."""

RESERVED = frozenset(
    [
        "date",
        "geo",
        "category",
        "subcategory",
        "population",
        "price",
        "competitor_price",
        "discount",
        "in_store_display",
        "search_interest",
        "temperature",
        "competitor_activity",
        "consumer_confidence",
        "web_outage",
        "black_friday",
        "christmas",
        "summer_sale",
    ]
)
"""Names of columns that a panel may have; neither a channel nor the KPI can take one."""


COLUMNS = ("spend", "impressions", "reach", "frequency")
"""What a channel's columns are called, after its name."""


@dataclass(frozen=True)
class Endogeneity:
    """Four independent ways in which spend chases demand; each a strength, 0 is off. See `media_spend`.

    Attributes:
        budget_feedback: Relative change of the budget per relative change of recent sales.
        anticipation: Relative rise of spend before a known peak one standard deviation high.
        bursts: Campaigns are placed on weeks of high demand; 0 at random, 1 somewhat, 5 almost always.
        bidding: Elasticity of spend to the hidden demand of the same period.
        review: Periods between two decisions on the budget.
        window: Periods of sales that a decision looks at.
        horizon: Periods ahead that anticipation sees.
        cap: Largest multiplier of feedback and bidding; 1 / cap is the smallest.
    """

    budget_feedback: float = number(0.0, 0, 100)
    anticipation: float = number(0.0, 0, 100)
    bursts: float = number(0.0, 0, 100)
    bidding: float = number(0.0, 0, 100)
    review: int = whole(4, 1)
    window: int = whole(4, 1)
    horizon: int = whole(3, 1)
    cap: float = number(5.0, 1, open_low=True)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Demand:
    """Demand that no column of the panel shows.

    Attributes:
        sd: Standard deviation.
        persistence: Autocorrelation from one period to the next.
        series_share: Share of its variance that belongs to single series.
        proxy: Correlation of a control column `search_interest` with it; 0 leaves the column out.
    """

    sd: float = number(0.05, 0, 1)
    persistence: float = number(0.6, 0, 0.98)
    series_share: float = number(0.5, 0, 1)
    proxy: float = number(0.0, 0, 1)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Season:
    """The calendar.

    Attributes:
        yearly: Size of the yearly wave (standard deviation).
        harmonics: Of the yearly wave.
        weekly: Size of the weekly pattern (standard deviation); days only.
        variation: Relative differences between series.
        holidays: Effect of the strongest holiday; 0 leaves the columns out.
        growth: Of sales per year, relative to the level.
        wander: Standard deviation of a slow wave on top of the growth.
        spikes: One-off events per year that no column shows.
        spike_size: Mean effect of one.
    """

    yearly: float = number(0.12, 0, 1)
    harmonics: int = whole(2, 1, 6)
    weekly: float = number(0.0, 0, 1)
    variation: float = number(0.2, 0, 1)
    holidays: float = number(0.3, 0, 2)
    growth: float = number(0.04, -1, 1)
    wander: float = number(0.02, 0, 1)
    spikes: float = number(0.0, 0, 366)
    spike_size: float = number(0.25, 0, 2)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Price:
    """The regular price, before discounts.

    Attributes:
        elasticity: Of the KPI at the reference price, 0 or below; 0 leaves the price out of the panel.
        shape: `constant`, or `s_shaped`: demand levels off both far above and far below the reference price.
        width: Log price at which `s_shaped` has lost about half its steepness.
        spread: Standard deviation of the log elasticity between series; half its variance belongs to the category.
        reference: Money; series differ around it.
        variation: Standard deviation of the log price over time.
        change_every: Mean number of periods between two changes.
        cross: Elasticity to a competitor's price, 0 or above; 0 leaves it out.
    """

    elasticity: float = number(0.0, -10, 0)
    shape: str = choice("constant", PRICE_SHAPES)
    width: float = number(0.25, 0, open_low=True)
    spread: float = number(0.15, 0, 1)
    reference: float = number(20.0, 0, open_low=True)
    variation: float = number(0.08, 0, 0.5)
    change_every: float = number(8.0, 1)
    cross: float = number(0.0, 0, 10)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cross and not self.elasticity:
            raise refuse("Price.cross", self.cross, "a competitor's price needs an own price; set price.elasticity.")


@dataclass(frozen=True)
class Promotion:
    """Price cuts and displays.

    Attributes:
        per_year: Promotions per series and year; 0 leaves the columns out.
        length: Periods of one.
        depth: Mean share taken off the price.
        effect: Of a discount of 100 %: a discount of 20 % gives a fifth of it.
        display: Effect of a display, which half the promotions have.
        shared: Share of promotions that all series hold at the same time.
    """

    per_year: float = number(0.0, 0, 100)
    length: int = whole(1, 1)
    depth: float = number(0.2, 0, 0.6, open_low=True)
    effect: float = number(1.5, 0, 10)
    display: float = number(0.1, 0, 2)
    shared: float = number(0.5, 0, 1)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Noise:
    """What is left between the expected and the observed KPI; its mean is 0 in every family.

    Attributes:
        family: gaussian, student_t and lognormal for amounts; negative_binomial and poisson for counts.
        snr: Variance of the expected KPI over time, per series, over the variance of the noise; null for poisson,
            whose noise has no free size.
        degrees: Of freedom of student_t.
    """

    family: str = choice("gaussian", NOISES)
    snr: float | None = field(
        default=12.0, metadata={"kind": "number", "low": 0.0, "high": 1e12, "open_low": True, "optional": True}
    )
    degrees: float = number(4.0, 2, 1000, open_low=True)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.family == "poisson":
            object.__setattr__(self, "snr", None)
        elif self.snr is None:
            raise refuse("noise.snr", None, f"{self.family} noise needs a number above 0, such as 12.")


@dataclass(frozen=True)
class PanelSimulation:
    """A panel of geos and/or product sub-categories over time.

    Attributes:
        seed: Seeds everything.
        periods: T, rows per series, `pre_period` included.
        period: `week` (Mondays) or `day`.
        start: First date.
        pre_period: First periods that have media and no KPI.
        max_lag: Longest carry-over; L = max_lag + 1 taps.
        geos: 1 is the nation, with no geo column.
        categories, subcategories: 0 is no product hierarchy; sub-categories are dealt out to the categories.
        kpi, kpi_unit, money_unit: Words.
        kpi_value: Money that a unit of the KPI is worth.
        link: `identity` adds effects, `log` multiplies them.
        level: KPI per period of all series together, without media and at rest.
        size_spread: Standard deviation of the log size of series.
        media_share: Share of the expected KPI that media bring, about; budgets follow from it and the ROIs.
        correlation: Of the variation of spend between channels.
        heterogeneity: Standard deviation of the log effect of a medium between series.
        group_heterogeneity: Likewise between categories.
        controls: Columns with an effect, 0 to 4.
        control_effect: Standard deviation of that effect.
        incremental_periods: Last periods whose spend is judged in `PanelTruth.incremental`.
        demand, season, price, promotion, noise, endogeneity, channels: See there.
    """

    seed: int = whole(0)
    periods: int = whole(156, 8, 100_000)
    period: str = choice("week", tuple(PERIODS))
    start: str = text("2021-01-04")
    pre_period: int = whole(0)
    max_lag: int = whole(13, 0, 400)
    geos: int = whole(1, 1, 100_000)
    categories: int = whole(0)
    subcategories: int = whole(0)
    kpi: str = text("revenue")
    kpi_unit: str = text("EUR")
    money_unit: str = text("EUR")
    kpi_value: float = number(1.0, 0, open_low=True)
    link: str = choice("identity", LINKS)
    level: float = number(2_000_000.0, 0, open_low=True)
    size_spread: float = number(0.6, 0, 3)
    media_share: float = number(0.25, 0, 0.8, open_low=True)
    correlation: float = number(0.2, 0, 0.99)
    heterogeneity: float = number(0.15, 0, 1)
    group_heterogeneity: float = number(0.1, 0, 1)
    controls: int = whole(2, 0, 4)
    control_effect: float = number(0.03, 0, 1)
    incremental_periods: int = whole(13, 1)
    demand: Demand = field(default_factory=Demand, metadata=PART)
    season: Season = field(default_factory=Season, metadata=PART)
    price: Price = field(default_factory=Price, metadata=PART)
    promotion: Promotion = field(default_factory=Promotion, metadata=PART)
    noise: Noise = field(default_factory=Noise, metadata=PART)
    endogeneity: Endogeneity = field(default_factory=Endogeneity, metadata=PART)
    channels: tuple[Channel, ...] = field(default=(), metadata={"kind": "channels"})

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_time()
        if bool(self.categories) != bool(self.subcategories) or self.categories > self.subcategories:
            remedy = "give at least as many sub-categories as categories, or 0 of both."
            raise refuse("subcategories", self.subcategories, f"with categories={self.categories}; {remedy}")
        # Paid channels first, as the panel reader has them.
        object.__setattr__(self, "channels", tuple(sorted(self.channels, key=lambda channel: channel.organic)))
        names = [channel.name for channel in self.channels]
        if not names:
            raise refuse("channels", [], "give at least one.")
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise refuse("channels", doubles, "each name once.")
        if taken := sorted(RESERVED & {*names, self.kpi}):
            raise refuse("channels" if taken[0] in names else "kpi", taken[0], "a column has this name; take another.")
        if self.kpi in {f"{name}_{what}" for name in names for what in COLUMNS}:
            raise refuse("kpi", self.kpi, "a column of a channel has this name; take another.")
        if self.link == "identity" and self.noise.family == "lognormal":
            raise refuse("noise.family", "lognormal", "multiplicative noise goes with link=log; choose gaussian.")
        self._check_endogeneity()

    def _check_time(self) -> None:
        try:
            start = datetime.date.fromisoformat(self.start)
        except ValueError as error:
            raise refuse("start", self.start, "give a date such as 2021-01-04.") from error
        if not 1900 <= start.year <= 2100:
            raise refuse("start", self.start, "give a date from 1900 to 2100, such as 2021-01-04.")
        if self.period == "week" and start.weekday() != 0:
            monday = start - datetime.timedelta(days=start.weekday())
            raise refuse("start", self.start, f"weeks begin on Mondays; give {monday}.")
        if self.season.weekly and self.period == "week":
            raise refuse("season.weekly", self.season.weekly, "only days have a weekly pattern; set period: day.")
        if self.pre_period + 8 > self.periods:
            raise refuse("pre_period", self.pre_period, f"leaves fewer than 8 of {self.periods} periods with a KPI.")
        if self.incremental_periods > self.periods - self.pre_period:
            remedy = f"give at most {self.periods - self.pre_period}, the periods with a KPI."
            raise refuse("incremental_periods", self.incremental_periods, remedy)

    def _check_endogeneity(self) -> None:
        """A strength that could move nothing is a mistake, not a wish."""
        strengths = self.endogeneity
        paid = [channel for channel in self.channels if not channel.organic]
        able = {
            "budget_feedback": (any(c.feedback for c in paid), "no channel has feedback above 0"),
            "anticipation": (
                any(c.anticipation for c in paid)
                and (self.season.yearly > 0 or self.season.holidays > 0 or self.promotion.per_year > 0),
                "no channel has anticipation above 0, or no season, holiday or promotion is there to be anticipated",
            ),
            "bursts": (any(c.flight.kind == "bursts" for c in paid), "no channel has flight.kind: bursts"),
            "bidding": (
                any(c.bidding for c in paid) and self.demand.sd > 0,
                "no channel has bidding above 0, or demand.sd is 0",
            ),
        }
        for name, (possible, why) in able.items():
            if getattr(strengths, name) and not possible:
                raise refuse(f"endogeneity.{name}", getattr(strengths, name), f"{why}; it would change nothing.")

    @property
    def num_series(self) -> int:
        """G."""
        return self.geos * max(1, self.subcategories)

    @property
    def taps(self) -> int:
        """L."""
        return self.max_lag + 1

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the simulator."""
        return folder_of(f"{self.num_series}x{self.periods}x{len(self.channels)}", self, version=VERSION)
