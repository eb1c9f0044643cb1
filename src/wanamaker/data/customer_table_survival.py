"""Kaplan-Meier survival as a feature: how many of the training customers were still there at a customer's age.

Axis letters: N rows, K steps of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wanamaker.data.column_names import column_name
from wanamaker.data.panel_options import options_of
from wanamaker.data.propensity_batch import SurvivalFeature

STEPS = 256  # of a curve, above which steps between are left out


def parse_survival(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Option `survival: {time, event, positive}`, or None.

    Raises:
        UserError: naming the option.
    """
    if value is None:
        return None
    given = options_of("data.survival", value, {"time": None, "event": None, "positive": None}, ("time", "event"))
    for name in ("time", "event"):
        given[name] = column_name(f"data.survival.{name}", given[name])
    return given


def kaplan_meier(time: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times at which something happened, ascending, and the survival from then on [K] (Kaplan & Meier, 1958).

    Args:
        time: [N], of the event or of the end of observation.
        event: [N], 1 where it happened.
    """
    times, place = np.unique(time, return_inverse=True)
    happened = np.bincount(place, weights=event, minlength=len(times))
    left = np.bincount(place, minlength=len(times))
    at_risk = left[::-1].cumsum()[::-1]
    survival = np.cumprod(1 - happened / np.maximum(at_risk, 1))
    steps = happened > 0
    return times[steps], survival[steps]


def survival_feature(column: str, time: np.ndarray, event: np.ndarray) -> SurvivalFeature:
    """The curve of some rows; rows without time or event count for nothing.

    Args:
        column: of the time.
        time, event: [N].
    """
    known = np.isfinite(time) & np.isfinite(event)
    times, survival = kaplan_meier(time[known], event[known])
    if len(times) > STEPS:
        kept = np.unique(np.linspace(0, len(times) - 1, STEPS).round().astype(int))
        times, survival = times[kept], survival[kept]
    return SurvivalFeature(f"survival({column})", column, tuple(times.tolist()), tuple(survival.tolist()))


def survival_at(feature: SurvivalFeature, time: np.ndarray) -> np.ndarray:
    """Survival at each time [N]; 1 before the first step, NaN where the time is missing."""
    curve = np.array([1.0, *feature.survival])
    found = curve[np.searchsorted(np.array(feature.times), np.nan_to_num(time), side="right")]
    return np.where(np.isnan(time), np.nan, found)
