"""Ready panels of the simulator, and how single options of one are changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wanamaker.data.simulate.media_channel import Adstock, Channel, Flight, Saturation
from wanamaker.data.simulate.media_fields import changed, changed_parts, placed, preset_named
from wanamaker.data.simulate.media_options import Demand, Noise, PanelSimulation, Price, Promotion, Season


def _hill(half: float, slope: float = 1.0) -> Saturation:
    return Saturation("hill", half=half, slope=slope)


def _gamma(shape: float, rate: float) -> Saturation:
    return Saturation("gamma_cdf", shape=shape, rate=rate)


CHANNELS = {
    channel.name: channel
    for channel in (
        Channel(
            "tv",
            roi=1.5,
            weight=3.0,
            adstock=Adstock("geometric", decay=0.7),
            saturation=_gamma(1.4, 1.6),
            flight=Flight("bursts", variation=0.2, campaigns=6, length=4, seasonality=1.0),
            cost_per_thousand=14.0,
            national=True,
        ),
        Channel(
            "search",
            roi=3.6,
            weight=2.0,
            adstock=Adstock("geometric", decay=0.2),
            saturation=_hill(1.6),
            flight=Flight("always_on", variation=0.3, seasonality=1.0),
            cost_per_thousand=25.0,
            bidding=1.0,
        ),
        Channel(
            "social",
            roi=2.4,
            weight=1.6,
            adstock=Adstock("geometric", decay=0.4),
            saturation=_gamma(0.9, 0.9),
            flight=Flight("always_on", variation=0.35, dark_share=0.1),
            cost_per_thousand=8.0,
            bidding=0.6,
        ),
        Channel(
            "video",
            roi=1.9,
            weight=1.5,
            adstock=Adstock("weibull_pdf", shape=2.0, scale=3.0),
            saturation=_hill(1.2, 1.5),
            flight=Flight("pulsed", variation=0.3, on=7, off=4),
            cost_per_thousand=11.0,
        ),
        Channel(
            "display",
            roi=1.2,
            weight=0.8,
            adstock=Adstock("binomial", decay=0.3),
            saturation=Saturation("exponential", scale=1.3),
            flight=Flight("always_on", variation=0.4, dark_share=0.25),
            cost_per_thousand=4.0,
            bidding=0.6,
        ),
        Channel(
            "outdoor",
            roi=1.1,
            weight=0.7,
            adstock=Adstock("delayed", decay=0.7, delay=1.5),
            saturation=_gamma(1.2, 1.2),
            flight=Flight("bursts", variation=0.2, campaigns=4, length=3),
            cost_per_thousand=6.0,
        ),
        Channel(
            "audio",
            roi=1.6,
            weight=0.6,
            adstock=Adstock("geometric", decay=0.5),
            saturation=_hill(1.0, 1.2),
            flight=Flight("pulsed", variation=0.3, on=5, off=6),
            cost_per_thousand=9.0,
        ),
        Channel(
            "shopping",
            roi=3.2,
            weight=1.4,
            adstock=Adstock("geometric", decay=0.15),
            saturation=_hill(1.8),
            flight=Flight("seasonal", variation=0.3, seasonality=1.5),
            cost_per_thousand=20.0,
            bidding=1.0,
        ),
        Channel(
            "affiliates",
            roi=2.8,
            weight=0.7,
            adstock=Adstock("geometric", decay=0.25),
            saturation=Saturation("root", power=0.7),
            flight=Flight("seasonal", variation=0.25, seasonality=1.0),
        ),
        Channel(
            "influencer",
            roi=1.7,
            weight=0.6,
            adstock=Adstock("weibull_cdf", shape=0.9, scale=2.0),
            saturation=Saturation("exponential", scale=1.0),
            flight=Flight("bursts", variation=0.4, campaigns=8, length=2),
        ),
        Channel(
            "print",
            roi=0.8,
            weight=0.5,
            adstock=Adstock("geometric", decay=0.45),
            saturation=_hill(1.0),
            flight=Flight("pulsed", variation=0.2, on=4, off=5),
            national=True,
        ),
        Channel(
            "email",
            weight=0.5,
            adstock=Adstock("geometric", decay=0.3),
            saturation=_hill(1.5),
            flight=Flight("always_on", variation=0.3, dark_share=0.05),
            organic=True,
        ),
    )
}
"""Media as they usually behave; an option `channels` may name them."""


def _channels(*names: str, **changes: Any) -> tuple[Channel, ...]:
    return tuple(replace(CHANNELS[name], **changes) for name in names)


def _pulsed(**weights: float) -> tuple[Channel, ...]:
    """Channels that go on and off, each in a rhythm of its own."""
    return tuple(
        replace(
            CHANNELS[name],
            weight=weight,
            national=False,
            flight=Flight("pulsed", variation=0.4, on=5 + number, off=4 + number % 3),
        )
        for number, (name, weight) in enumerate(weights.items())
    )


_GEO = (*_channels("tv", "search", "social"), replace(CHANNELS["video"], reach_frequency=True))

PRESETS = {
    "tiny": PanelSimulation(
        periods=60,
        geos=2,
        max_lag=6,
        level=40_000,
        controls=1,
        incremental_periods=8,
        channels=(
            replace(CHANNELS["tv"], national=False, weight=1.0, flight=Flight("pulsed", on=4, off=3)),
            replace(CHANNELS["search"], weight=1.0),
        ),
        season=Season(harmonics=1, holidays=0.0),
        noise=Noise(snr=15.0),
    ),
    "national": PanelSimulation(channels=_channels("tv", "search", "social", "video", "display")),
    "geo": PanelSimulation(
        geos=8,
        level=6_000_000,
        channels=(*_GEO, *_channels("display", "email")),
    ),
    # Enough information that the truth can be known: every channel goes on and off, media bring two fifths of sales,
    # hidden demand is small. Least squares that knows the true curves is off by some 3 % per channel here, and by 25 %
    # in `geo`, where channels are always on: what no method can tell apart, none should be asked to.
    "flighted": PanelSimulation(
        geos=8,
        level=6_000_000,
        media_share=0.4,
        channels=_pulsed(tv=2.0, search=1.5, social=1.5, video=1.2, display=1.2, outdoor=1.0),
        demand=Demand(sd=0.01),
        season=Season(wander=0.0),
    ),
    # The same, and the audience says how often a contact reached it: some frequency is best, and campaigns miss it.
    "reach": PanelSimulation(
        geos=8,
        level=6_000_000,
        media_share=0.4,
        channels=tuple(
            replace(
                c,
                cost_per_thousand=3.0 * c.cost_per_thousand,  # contacts come 2 to 6 times to a person
                reach_frequency=True,
                frequency_variation=0.35,
                frequency_half=3.0,
                frequency_slope=2.5,
            )
            if c.name in ("video", "social")
            else c
            for c in _pulsed(tv=2.0, search=1.5, social=1.5, video=1.2, display=1.2, outdoor=1.0)
        ),
        demand=Demand(sd=0.01),
        season=Season(wander=0.0),
    ),
    "category": PanelSimulation(
        periods=104,
        categories=5,
        subcategories=14,
        kpi="units",
        kpi_unit="units",
        kpi_value=22.0,
        link="log",
        level=90_000,
        size_spread=0.8,
        heterogeneity=0.2,
        group_heterogeneity=0.2,
        channels=(*_channels("tv", national=True), *_channels("search", "social", "affiliates", "display")),
        demand=Demand(sd=0.05),
        price=Price(elasticity=-2.0, spread=0.25, cross=0.4),
        promotion=Promotion(per_year=8, length=1),
        noise=Noise("lognormal", snr=8.0),
        controls=1,
    ),
    "daily": PanelSimulation(
        periods=730,
        period="day",
        start="2021-01-01",
        max_lag=28,
        level=300_000,
        incremental_periods=91,
        channels=tuple(
            replace(
                CHANNELS[name],
                adstock=Adstock("geometric", decay=decay),
                flight=replace(
                    CHANNELS[name].flight, on=40, off=25, length=25, persistence=0.8, seasonality=0.7, dark_share=0.0
                ),
            )
            for name, decay in (("tv", 0.88), ("search", 0.3), ("social", 0.6), ("video", 0.8))
        ),
        season=Season(weekly=0.12),
        demand=Demand(persistence=0.85),
    ),
    "large": PanelSimulation(geos=50, level=30_000_000, channels=tuple(CHANNELS.values())),
}
"""Complete panels; every one has all four mechanisms of endogenous spend switched off."""


def panel_simulation(
    preset: str = "geo", overrides: Mapping[str, Any] | None = None, place: str = "simulation"
) -> PanelSimulation:
    """A preset with single options changed.

    Args:
        preset: A name in `PRESETS`.
        overrides: Options of `PanelSimulation` by name, nested as they are there; null keeps the preset's value.
            `channels` maps the name of a channel to what changes in it ({tv: {roi: 2.0}}; {tv: null} keeps it as it
            is), or lists all channels there shall be: names of `CHANNELS`, or mappings with a `name` and what differs
            from the channel of that name in the preset or in `CHANNELS` (from the defaults of `Channel` otherwise).
        place: Where the overrides stand, for messages.

    Raises:
        UserError: an unknown preset or option, a value out of range, with its place and the choices.
    """
    start = preset_named(PRESETS, preset, place)
    values = {name: value for name, value in (overrides or {}).items() if value is not None}
    channels = changed_parts(
        start.channels, CHANNELS, Channel(), values.pop("channels", None), f"{place}.channels", "channel"
    )
    # One step, because the options are checked together: channels and a strength may only go with each other.
    with placed(place):
        return changed(start, values, place, channels=channels)
