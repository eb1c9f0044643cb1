"""A medium of the panel simulator: carry-over, saturation, flights, costs, and how much of demand its spend follows.

Times are counted in periods, weeks or days.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wanamaker.data.simulate.media_fields import PART, check_fields, choice, flag, number, text, whole
from wanamaker.errors import UserError

ADSTOCKS = ("geometric", "delayed", "binomial", "weibull_pdf", "weibull_cdf", "none")
SATURATIONS = ("hill", "gamma_cdf", "exponential", "root", "linear")
FLIGHTS = ("always_on", "pulsed", "bursts", "seasonal")


@dataclass(frozen=True)
class Adstock:
    """How an exposure spreads over later periods; formulas in `media_response.kernel`.

    Attributes:
        kind: One of `ADSTOCKS`.
        decay: Retention of geometric, delayed and binomial, in (0, 1).
        delay: Lag of the peak (delayed).
        shape: Of the Weibull distribution.
        scale: Of the Weibull distribution, in periods.
    """

    kind: str = choice("geometric", ADSTOCKS)
    decay: float = number(0.5, 0, 0.999, open_low=True)
    delay: float = number(1.0, 0)
    shape: float = number(2.0, 0, open_low=True)
    scale: float = number(2.0, 0, open_low=True)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Saturation:
    """What x units of carried-over exposure do; x = 1 is the mean planned exposure of an active period.

    Attributes:
        kind: One of `SATURATIONS`; concave are hill with slope <= 1, gamma_cdf with shape <= 1, exponential, root,
            linear.
        half: x at half the maximum (hill).
        slope: Of hill, above 1 gives an S.
        shape: Of gamma_cdf, above 1 gives an S.
        rate: Of gamma_cdf.
        scale: x at 63 % of the maximum (exponential).
        power: Of root.
    """

    kind: str = choice("hill", SATURATIONS)
    half: float = number(1.0, 0, open_low=True)
    slope: float = number(1.0, 0, 8, open_low=True)
    shape: float = number(1.0, 0, 50, open_low=True)
    rate: float = number(1.0, 0, open_low=True)
    scale: float = number(1.0, 0, open_low=True)
    power: float = number(0.6, 0, 1, open_low=True)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Flight:
    """When a channel is on the air, before demand has any say.

    Attributes:
        kind: `always_on`, `pulsed` (on and off in turn), `bursts` (campaigns), `seasonal` (follows the calendar).
        variation: Standard deviation of log spend around the plan.
        persistence: Autocorrelation of that variation from one period to the next.
        seasonality: Spend goes with exp(seasonality x calendar effect): 1 in proportion to the season of sales.
        dark_share: Share of periods with no spend at all, in stretches of two or so.
        on, off: Mean length of the stretches of `pulsed`.
        campaigns: Per year, of `bursts`.
        length: Of a campaign.
        floor: Spend between campaigns, relative to a campaign's.
    """

    kind: str = choice("always_on", FLIGHTS)
    variation: float = number(0.25, 0, 2)
    persistence: float = number(0.5, 0, 0.98)
    seasonality: float = number(0.0, 0, 10)
    dark_share: float = number(0.0, 0, 0.9)
    on: int = whole(6, 1)
    off: int = whole(4, 1)
    campaigns: float = number(5.0, 0, open_low=True)
    length: int = whole(4, 1)
    floor: float = number(0.0, 0, 1)

    __post_init__ = check_fields


@dataclass(frozen=True)
class Channel:
    """A medium.

    Attributes:
        name: As in the columns of the panel.
        roi: Money of KPI that one unit of money brings within the observed periods; exact in the truth.
        weight: Share of the media contribution, relative to the other channels.
        adstock, saturation, flight: See there.
        adstock_first: False saturates before carrying over.
        cost_per_thousand: Money for a thousand contacts; 0 for a channel of which only spend is known.
        cost_variation: Standard deviation of the log of that cost over time.
        organic: Contacts cost nothing and have no ROI; cost_per_thousand means nothing.
        reach_frequency: The panel shows reach and frequency instead of contacts.
        frequency_variation: Standard deviation of the log of contacts per person around those of random contacts.
        frequency_half: Contacts per person at which a person's response is half its most; 0: each contact counts alike.
        frequency_slope: How sudden that is; above 1 the first contacts bring little, and some frequency is best.
        national: Bought for all series at once and allotted by size: series show the same path.
        geo_variation: Share of the variation of spend that belongs to single series, in [0, 1].
        feedback, anticipation, bidding: How much of each strength in `Endogeneity` this channel has.
    """

    name: str = text("channel")
    roi: float = number(2.0, 0, open_low=True)
    weight: float = number(1.0, 0, open_low=True)
    adstock: Adstock = field(default_factory=Adstock, metadata=PART)
    saturation: Saturation = field(default_factory=Saturation, metadata=PART)
    flight: Flight = field(default_factory=Flight, metadata=PART)
    adstock_first: bool = flag(True)
    cost_per_thousand: float = number(0.0, 0)
    cost_variation: float = number(0.08, 0, 1)
    organic: bool = flag(False)
    reach_frequency: bool = flag(False)
    frequency_variation: float = number(0.0, 0, 2)
    frequency_half: float = number(0.0, 0)
    frequency_slope: float = number(2.0, 0, open_low=True)
    national: bool = flag(False)
    geo_variation: float = number(0.5, 0, 1)
    feedback: float = number(1.0, 0)
    anticipation: float = number(1.0, 0)
    bidding: float = number(0.0, 0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.reach_frequency and not (self.cost_per_thousand or self.organic):
            raise UserError(f"Channel {self.name!r}: reach_frequency=true needs contacts; set its cost_per_thousand.")
        if (self.frequency_half or self.frequency_variation) and not self.reach_frequency:
            raise UserError(
                f"Channel {self.name!r}: frequency_half and frequency_variation are about contacts per person; set its "
                "reach_frequency=true."
            )
        if self.organic and self.bidding:
            raise UserError(f"Channel {self.name!r}: organic=true has no budget to bid with; set its bidding to 0.")
