"""Ready campaigns of the simulator, and how single options of one are changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanamaker.data.simulate.media_fields import changed, changed_parts, placed, preset_named
from wanamaker.data.simulate.uplift_options import Arm, Columns, UpliftSimulation

ARMS = {
    arm.name: arm
    for arm in (
        Arm("notice", "notice", effect=0.5, on_conversion=0.3, cost_per_contact=0.05),
        Arm(
            "percent",
            "percent",
            effect=0.8,
            on_conversion=0.7,
            on_basket=0.15,
            persuadable=0.35,
            sleeping=0.08,
            discount=0.1,
            cost_per_contact=0.05,
        ),
        Arm(
            "coupon",
            "coupon",
            effect=1.0,
            on_conversion=0.9,
            on_basket=-0.1,
            persuadable=0.25,
            sleeping=0.15,
            cost_per_contact=0.05,
            cost_per_redemption=5.0,
        ),
        Arm("placebo", "placebo", effect=0.0, cost_per_contact=0.05),
    )
}
"""Offers as they usually work; an option `arms` may name them."""

_OFFERS = (ARMS["notice"], ARMS["percent"], ARMS["coupon"])
_STRONG = Arm("offer", "notice", effect=1.2, persuadable=0.4, sleeping=0.15, cost_per_contact=0.1)

PRESETS = {
    "tiny": UpliftSimulation(
        rows=2_000,
        arms=(_STRONG,),
        visit_rate=0.3,
        conversion_rate=0.4,
        columns=Columns(informative=4, irrelevant=2, skewed=1, categorical=1, levels=3, rare=0.01),
    ),
    "two_arms": UpliftSimulation(arms=(_STRONG,)),
    "offers": UpliftSimulation(rows=60_000, arms=_OFFERS),
    "confounded": UpliftSimulation(arms=(_STRONG,), confounding=1.0),
    "placebo": UpliftSimulation(arms=(_STRONG, ARMS["placebo"]), rows=30_000),
    # Nothing to be found: every offer is a placebo, while outcomes follow the features as ever.
    "null": UpliftSimulation(arms=(ARMS["placebo"],)),
    "large": UpliftSimulation(rows=10_000_000, shards=20, arms=_OFFERS),
}
"""Complete campaigns; all but `confounded` are randomised."""


def uplift_simulation(
    preset: str = "two_arms", overrides: Mapping[str, Any] | None = None, place: str = "simulation"
) -> UpliftSimulation:
    """A preset with single options changed.

    Args:
        preset: A name in `PRESETS`.
        overrides: Options of `UpliftSimulation` by name, nested as they are there; null keeps the preset's value.
            `arms` maps the name of an arm to what changes in it ({coupon: {effect: 0.4}}), or lists all offers there
            shall be: names of `ARMS`, or mappings with a `name` and what differs from the arm of that name in the
            preset or in `ARMS` (from the defaults of `Arm` otherwise).
        place: Where the overrides stand, for messages.

    Raises:
        UserError: an unknown preset or option, a value out of range, with its place and the choices.
    """
    start = preset_named(PRESETS, preset, place)
    values = {name: value for name, value in (overrides or {}).items() if value is not None}
    with placed(place):
        arms = changed_parts(start.arms, ARMS, Arm(), values.pop("arms", None), f"{place}.arms", "offer")
        return changed(start, values, place, arms=arms)
