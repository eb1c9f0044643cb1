"""Nested options of `NamNet`, checked where they enter: what is wrong with them would show as late as in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wanamaker.errors import UserError, nearest
from wanamaker.families.nam.pooling import MODES
from wanamaker.nn.feature_nets import FIRST_LAYERS
from wanamaker.nn.feature_nets import MODULES as ACTIVATIONS

PRIORS: dict[str, tuple[float, float]] = {
    # (median, standard deviation of the logarithm)
    "half_life": (1.0, 0.7),  # periods
    "half_saturation": (0.5, 0.6),  # of the largest media in training
    "shape": (1.0, 0.3),  # 1 is concave, more is S-shaped
    "effect": (0.05, 1.0),  # of a channel at its usual level: share of the mean KPI
    "price": (1.5, 0.7),  # elasticity with a log link
    "promotion": (0.1, 1.0),  # of the largest promotion seen
    "monotone_control": (0.05, 1.0),
    "noise": (0.1, 1.0),
    # (mean, standard deviation)
    "intercept": (0.8, 0.5),
    "trend": (0.0, 0.3),  # per year
    "season": (0.0, 0.15),
    "control": (0.0, 0.15),  # per standard deviation
}
_OF_MEAN = ("intercept", "trend", "season", "control")
FREE = {
    "hidden": (16, 16),
    "first": "plain",
    "activation": "gelu",
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "net_scale": 0.3,
}
POOLING = {"mode": "partial", "spread": 0.2, "weights": None, "series": True}


def is_number(value: object) -> bool:
    """Whether a value is a finite number; true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def priors_of(given: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """`given` over `PRIORS`.

    Raises:
        UserError: an unknown name, or no pair of a centre and a standard deviation above 0.
    """
    merged = _merged(PRIORS, given, "priors")
    for name, value in merged.items():
        pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
        centre = "mean" if name in _OF_MEAN else "median"
        if not pair or value[1] <= 0 or (centre == "median" and value[0] <= 0):
            what = "[mean, standard deviation]" if centre == "mean" else "[median, standard deviation of the logarithm]"
            above = "the standard deviation" if centre == "mean" else "both"
            raise UserError(
                f"model.net.priors.{name}={_shown(value)}: give two numbers {what}, {above} above 0, such as "
                f"{list(PRIORS[name])}."
            )
    return {name: tuple(value) for name, value in merged.items()}


def free_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """`given` over `FREE`.

    Raises:
        UserError: an unknown name, or a value out of range.
    """
    merged = _merged(FREE, given, "free")
    check_widths("free.hidden", merged["hidden"], 1)
    for key, known in (("first", FIRST_LAYERS), ("activation", tuple(ACTIVATIONS))):
        _check_word(f"free.{key}", merged[key], known)
    for key in ("dropout", "feature_dropout"):
        if not is_number(merged[key]) or not 0 <= merged[key] < 1:
            raise UserError(f"model.net.free.{key}={_shown(merged[key])}: give a probability, at least 0 and below 1.")
    _check_above_zero("free.net_scale", merged["net_scale"])
    return merged


def pooling_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """`given` over `POOLING`.

    Raises:
        UserError: an unknown name, a value out of range, or weights that the mode has no use for.
    """
    merged = _merged(POOLING, given, "pooling")
    _check_word("pooling.mode", merged["mode"], MODES)
    _check_above_zero("pooling.spread", merged["spread"])
    if not isinstance(merged["series"], bool):
        raise UserError(f"model.net.pooling.series={_shown(merged['series'])}: give true or false.")
    weights, mode = merged["weights"], merged["mode"]
    if weights is None:
        return merged
    if mode != "fixed":
        raise UserError(
            f"model.net.pooling.weights={weights} has no effect with mode={mode}: add mode: fixed, or leave it out."
        )
    if not isinstance(weights, Mapping) or not all(is_number(w) and w >= 0 for w in weights.values()):
        raise UserError(
            f"model.net.pooling.weights={weights}: give a number of at least 0 for each level, such as "
            "{category: 0.7, sub: 0.3}."
        )
    return merged


def check_widths(key: str, value: Any, least: int) -> None:
    """Refuse what is no list of widths.

    Raises:
        UserError: naming the smallest width.
    """
    whole = isinstance(value, list | tuple) and all(isinstance(w, int) and not isinstance(w, bool) for w in value)
    if not whole or not value or min(value) < least:
        shown = list(value) if isinstance(value, tuple) else _shown(value)
        raise UserError(
            f"model.net.{key}={shown}: give a list of whole numbers, the units of each hidden layer, at least {least}, "
            "such as [16, 16]."
        )


def _check_word(key: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        hint = nearest(value, known) if isinstance(value, str) else f" Choose from: {', '.join(known)}."
        raise UserError(f"model.net.{key}={_shown(value)}: there is no such choice.{hint}")


def _check_above_zero(key: str, value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise UserError(f"model.net.{key}={_shown(value)}: give a number above 0.")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"model.net.{key}={given!r}: give a mapping of {', '.join(defaults)}.")
    unknown = sorted(set(given or {}) - set(defaults), key=str)
    if unknown:
        raise UserError(
            f"model.net.{key}: {', '.join(map(str, unknown))} is unknown; choose from {', '.join(defaults)}."
        )
    return {**defaults, **(given or {})}
