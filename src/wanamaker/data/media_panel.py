"""The media panel: a KPI, media, prices and controls per series and period, as both mix models read them.

A *series* is one line of KPI values over time: a geo, a product sub-category, a store and brand, or a whole nation.
Arrays hold the units of the file. Scaling is the model's business, because a checkpoint must carry its scales.

Axis letters: G series, T periods, C media channels, P prices, Q promotions, F controls, S season columns, R trend
columns, B batch rows, L adstock taps, H periods before the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """A grouping of the series, over which effects are pooled.

    Attributes:
        groups: names of the groups, sorted.
        of_series: [G], number of each series' group.
    """

    groups: tuple[str, ...]
    of_series: tuple[int, ...]


@dataclass(frozen=True)
class PanelSchema:
    """Names and units of a panel: everything a model must know to be built, and to be rebuilt from a checkpoint.

    Attributes:
        series: G names; the parts of a compound key are joined by " | ".
        levels: per hierarchy column, from coarse to fine; a level as fine as the series themselves is allowed.
        kpi: name of the KPI column.
        kpi_unit: such as "units" or "EUR".
        money_unit: of spend and price, such as "EUR" or "INR crore".
        price_unit: of prices where it is not `money_unit`, such as "INR" beside spend in crore; "" is `money_unit`.
        national: [C], True for a channel that is one national amount seen by every series: a plan cannot give it to
            one series and take it from another. () is none.
        frequency: [C], True for a channel given as reach and frequency. () is none.
        kpi_value: money that one unit of the KPI is worth to the user (1 where the KPI is revenue in `money_unit`).
        period: pandas offset of the calendar: "D", "W-SUN", "MS", ...
        periods_per_year: 365.25, 52.18 or 12.
        media: C channel names, paid and organic.
        paid: [C], False for organic channels: they have an effect, no spend and no ROI.
        price: P names.
        price_direction: [P], -1 the KPI falls with this price (own price), +1 it rises (a competitor's), 0 either.
        own_price: [G], the number of the price at which a series itself sells; -1 where there is none.
        promotion: Q names of discounts, deals, displays; 0 in the file means no promotion.
        promotion_direction: [Q], +1 the KPI rises with it, -1 it falls, 0 either.
        control: F names.
        control_direction: [F], as for promotions.
        season: S names of calendar columns (Fourier terms, holidays, events).
        trend: R names of trend columns; the first is linear in time (`panel_trend` has the others).
        calendar: how `season` and `trend` are computed from a date, so that other dates can follow (plain values).
    """

    series: tuple[str, ...]
    levels: Mapping[str, Level]
    kpi: str
    media: tuple[str, ...]
    paid: tuple[bool, ...]
    period: str
    periods_per_year: float
    kpi_unit: str = "units"
    money_unit: str = "money"
    kpi_value: float = 1.0
    price_unit: str = ""
    national: tuple[bool, ...] = ()
    frequency: tuple[bool, ...] = ()
    price: tuple[str, ...] = ()
    price_direction: tuple[int, ...] = ()
    own_price: tuple[int, ...] = ()
    promotion: tuple[str, ...] = ()
    promotion_direction: tuple[int, ...] = ()
    control: tuple[str, ...] = ()
    control_direction: tuple[int, ...] = ()
    season: tuple[str, ...] = ()
    trend: tuple[str, ...] = ()
    calendar: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PanelSchema:
        """The inverse of `to_dict`, also after a trip through JSON or YAML."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        levels = {
            name: Level(tuple(level["groups"]), tuple(level["of_series"])) for name, level in values["levels"].items()
        }
        return cls(**{**known, "levels": levels})

    def with_calendar(
        self, season: tuple[str, ...], trend: tuple[str, ...], calendar: Mapping[str, Any]
    ) -> PanelSchema:
        """The same with calendar columns."""
        return replace(self, season=season, trend=trend, calendar=calendar)


@dataclass(frozen=True)
class MediaPanel:
    """The numbers of a panel, in the units of the file.

    Attributes:
        schema: names and units.
        dates: datetime64[D] [T], start of each period, without a gap.
        kpi: float32 [G, T]; NaN where the KPI was not observed (the row exists for the media of later rows only).
        media: float32 [G, T, C], what the audience was exposed to, per period: impressions, clicks, or money.
        spend: float32 [G, T, C], money per period; 0 for organic channels. The same array as `media` where the file
            has money only.
        lead_in: float32 [G, H, C], media of the periods before the first, as contacts (reach x frequency) where both
            are given; H may be 0.
        contact_frequency: float32 [G, T, C] or None: contacts per person for channels given as reach and frequency,
            whose `media` is the reach; 1 for the others.
        lead_in_frequency: float32 [G, H, C] or None, that of the lead-in.
        price: float32 [G, T, P], money, above 0.
        promotion: float32 [G, T, Q].
        control: float32 [G, T, F].
        population: float32 [G] or None.
    """

    schema: PanelSchema
    dates: np.ndarray
    kpi: np.ndarray
    media: np.ndarray
    spend: np.ndarray
    lead_in: np.ndarray
    price: np.ndarray
    promotion: np.ndarray
    control: np.ndarray
    contact_frequency: np.ndarray | None = None
    lead_in_frequency: np.ndarray | None = None
    population: np.ndarray | None = None

    def __post_init__(self) -> None:
        G, T = self.kpi.shape
        schema = self.schema
        expected = {
            "dates": (T,),
            "media": (G, T, len(schema.media)),
            "spend": (G, T, len(schema.media)),
            "price": (G, T, len(schema.price)),
            "promotion": (G, T, len(schema.promotion)),
            "control": (G, T, len(schema.control)),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"MediaPanel.{name} has shape {found}; its schema and the KPI say {shape}.")
        if self.lead_in.shape[::2] != (G, len(schema.media)) or len(schema.series) != G:
            raise ValueError(f"MediaPanel.lead_in {self.lead_in.shape} or series ({G}) disagree with the schema.")
        shape = None if self.contact_frequency is None else self.lead_in.shape
        if getattr(self.lead_in_frequency, "shape", None) != shape:
            raise ValueError("MediaPanel: contact_frequency and lead_in_frequency go together, as media and lead_in.")

    @property
    def num_series(self) -> int:
        """G."""
        return self.kpi.shape[0]

    @property
    def num_periods(self) -> int:
        """T."""
        return self.kpi.shape[1]


class MediaBatch(NamedTuple):
    """Rows of a panel with the media history each needs, in the units of the file.

    Attributes:
        row: int64 [B], series * T + time: unique, the same on every rank.
        series: int64 [B], 0..G-1.
        time: int64 [B], 0..T-1.
        kpi: float32 [B].
        media: float32 [B, L, C], newest first: `media[:, 0]` is the row's own period, zeros before the first known.
            Channels given as reach and frequency are reach times frequency (contacts).
        price: float32 [B, P].
        promotion: float32 [B, Q].
        control: float32 [B, F].
        season: float32 [B, S].
        trend: float32 [B, R].
        frequency: float32 [B, L, C], contacts per person of `media`, 1 where there is no contact and for channels that
            are not given as reach and frequency; [B, L, 0] where none is.
    """

    row: Tensor
    series: Tensor
    time: Tensor
    kpi: Tensor
    media: Tensor
    price: Tensor
    promotion: Tensor
    control: Tensor
    season: Tensor
    trend: Tensor
    frequency: Tensor


class SeriesBatch(NamedTuple):
    """Which series a step looks at, for models that hold the whole panel themselves.

    Attributes:
        series: int64 [B], 0..G-1, each at most once. B is 0 where a rank has no part of the global batch.
    """

    series: Tensor
