"""Trend columns of a panel: a straight line, bent at knots, or with a smooth curve on top.

The smooth curve is a Gaussian process with squared exponential covariance,

    k(t, t') = exp(-(t - t')^2 / (2 l^2)),      l the lengthscale in years,

written in the eigenfunctions of the Laplacian on [-L, L], around the centre of the training window (Solin & Särkkä
2020, "Hilbert space methods for reduced-rank Gaussian process regression", Statistics and Computing 30; in the form of
Riutort-Mayol et al. 2022, "Practical Hilbert space approximate Bayesian Gaussian processes for probabilistic
programming", Statistics and Computing 33):

    column_j(t) = sqrt(s(w_j)) sin(w_j (t + L)) / sqrt(L),      w_j = j pi / (2 L),
    s(w) = sqrt(2 pi) l exp(-(l w)^2 / 2),

so that coefficients drawn independently from N(0, sd) make a process of standard deviation sd, whatever l and L are.
At L years from the centre the eigenfunctions are 0, and the columns stay 0 beyond it: far from the training window a
forecast falls back to the straight line.

The squared exponential and not a Matern kernel, because a trend is what is left when everything quick has a column of
its own: rougher kernels compete with media for the ups and downs of single weeks.

Axis letters: T periods, R trend columns.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

DAYS_PER_YEAR = 365.25
_DEFAULTS: dict[str, Any] = {"knots": 0, "hsgp": None}
_HSGP: dict[str, Any] = {"lengthscale": 1.0, "basis": 8, "boundary": None}
# Riutort-Mayol et al. 2022, squared exponential: c >= 3.2 l / S and c >= 1.2; m >= 1.75 c S / l, where the window is
# 2 S long, L = c S, and m counts the basis functions.
_BOUNDARY_PER_LENGTHSCALE, _LEAST_BOUNDARY, _BASIS_PER_RATIO = 3.2, 1.2, 1.75
# With m large, the process is the free one less its mirror image beyond the boundary: at the ends of the window the
# variance lacks exp(-2 ((c - 1) S / l)^2), which is 1 % at c = 1 + 1.5 l / S.
_BEYOND_PER_LENGTHSCALE = 1.5
_USUAL_BOUNDARY = 1.5  # leaves the periods that follow training inside the boundary


def parse_trend(trend: Any) -> dict[str, Any] | None:
    """Check the trend options of a data config, as far as possible without dates.

    Args:
        trend: null, `linear`, or a mapping; the first column is always a straight line.
            knots: how many bends, evenly in the training window; or a list of dates.
            hsgp: null, or `{lengthscale: 1.0, basis: 8, boundary: null}`, a smooth curve as above. `lengthscale` in
                years: changes that take longer than that are trend, quicker ones are not. `basis`: number of columns.
                `boundary`: L over half the training window; null takes 1.5, or more where the lengthscale needs more
                for a covariance that is right within 2 % in the whole window.

    Returns:
        `knots` and `hsgp`; None for no trend.

    Raises:
        UserError: an unknown key, a value of the wrong kind, or knots and a curve together.
    """
    if trend is None:
        return None
    if isinstance(trend, str):
        if trend != "linear":
            raise UserError(
                f"data.trend={trend!r}; choose null, linear, {{knots: 4}}, or {{hsgp: {{lengthscale: 1.0}}}}."
            )
        trend = {}
    options = options_of("data.trend", trend, _DEFAULTS)
    knots = options["knots"]
    if isinstance(knots, bool) or not (isinstance(knots, int | Sequence)) or isinstance(knots, str):
        raise UserError(f"data.trend.knots={knots!r}; give a number of knots, or a list of dates.")
    if isinstance(knots, int) and knots < 0:
        raise UserError(f"data.trend.knots={knots} is negative; 0 is a straight line.")
    if options["hsgp"] is not None:
        if knots:
            raise UserError(
                f"data.trend has knots={knots} and hsgp: both bend the line, and could not be told apart; set"
                " data.trend.knots=0 or data.trend.hsgp=null."
            )
        options["hsgp"] = _checked(options_of("data.trend.hsgp", options["hsgp"], _HSGP))
    return options


def _checked(hsgp: dict[str, Any]) -> dict[str, Any]:
    lengthscale, basis, boundary = hsgp["lengthscale"], hsgp["basis"], hsgp["boundary"]
    if not _number(lengthscale) or lengthscale <= 0:
        raise UserError(f"data.trend.hsgp.lengthscale={lengthscale!r}; give years, more than 0, such as 1.0.")
    if isinstance(basis, bool) or not isinstance(basis, int) or basis < 1:
        raise UserError(f"data.trend.hsgp.basis={basis!r}; give a number of columns, such as 8.")
    if boundary is not None and (not _number(boundary) or boundary < _LEAST_BOUNDARY):
        raise UserError(
            f"data.trend.hsgp.boundary={boundary!r}; give how far the boundary lies from the centre of the training"
            f" window, in half windows, {_LEAST_BOUNDARY} or more, or null for as far as the lengthscale needs."
        )
    return hsgp


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fit_trend(options: Mapping[str, Any], first: np.datetime64, last: np.datetime64) -> dict[str, Any]:
    """Plain values from which `trend_columns` computes the trend of any date.

    Args:
        options: From `parse_trend`.
        first: First day of the training window.
        last: First day after it.

    Returns:
        `centre` (ISO date), `knots` (ISO dates), and with a curve `hsgp`: `lengthscale`, `basis` and `half_width`, L
        in years.

    Raises:
        UserError: a knot outside the window, or fewer basis functions than the lengthscale needs.
    """
    centre = first + (last - first) // 2
    fitted: dict[str, Any] = {"centre": str(centre), "knots": _knots(options["knots"], first, last)}
    if options["hsgp"] is not None:
        half_window = float((last - first).astype(np.int64)) / 2 / DAYS_PER_YEAR
        fitted["hsgp"] = _fit_curve(options["hsgp"], half_window)
    return fitted


def _fit_curve(hsgp: Mapping[str, Any], half_window: float) -> dict[str, Any]:
    """`half_window`: S, years."""
    lengthscale, basis, boundary = float(hsgp["lengthscale"]), hsgp["basis"], hsgp["boundary"]
    ratio = lengthscale / half_window
    needed = max(_LEAST_BOUNDARY, 1 + _BEYOND_PER_LENGTHSCALE * ratio)
    if boundary is None:
        boundary = max(_USUAL_BOUNDARY, needed, _BOUNDARY_PER_LENGTHSCALE * ratio)
    elif boundary < needed:
        left = math.sqrt(1 - math.exp(-2 * ((boundary - 1) / ratio) ** 2))
        log.warning(
            "data.trend.hsgp.boundary=%g: at the ends of the training window (%.2f years long) the trend's standard"
            " deviation is %.0f %% of what it is meant to be; a lengthscale of %g years needs a boundary of %.2f"
            " (null chooses it).",
            *(boundary, 2 * half_window, 100 * left, lengthscale, needed),
        )
    half_width = boundary * half_window
    least = math.ceil(_BASIS_PER_RATIO * half_width / lengthscale)
    if basis < least:
        shortest = math.ceil(100 * _BASIS_PER_RATIO * half_width / basis) / 100
        raise UserError(
            f"data.trend.hsgp.basis={basis} columns cannot follow a lengthscale of {lengthscale:g} years over a"
            f" training window of {2 * half_window:.2f} years (boundary {boundary:.2f}): Riutort-Mayol et al. (2022)"
            f" ask for {least} or more. Set data.trend.hsgp.basis={least}, or a longer lengthscale, from about"
            f" {shortest:g} years."
        )
    return {"lengthscale": lengthscale, "basis": basis, "half_width": half_width}


def trend_columns(fitted: Mapping[str, Any], middle: np.ndarray) -> dict[str, np.ndarray]:
    """Trend columns by name, float64 [T] each; the first is the straight line.

    Args:
        fitted: From `fit_trend`, possibly after a trip through YAML or JSON.
        middle: [T], middle of each period, days since 1970-01-01.
    """
    years = (middle - _day(fitted["centre"])) / DAYS_PER_YEAR
    columns = {"trend": years}
    for number, knot in enumerate(fitted["knots"], start=1):
        columns[f"trend_knot_{number}"] = np.maximum(middle - _day(knot), 0) / DAYS_PER_YEAR
    if curve := fitted.get("hsgp"):
        lengthscale, half_width = curve["lengthscale"], curve["half_width"]
        inside = np.clip(years, -half_width, half_width)
        for j in range(1, curve["basis"] + 1):
            frequency = j * math.pi / (2 * half_width)  # radians per year
            density = math.sqrt(2 * math.pi) * lengthscale * math.exp(-((lengthscale * frequency) ** 2) / 2)
            columns[f"trend_gp_{j}"] = math.sqrt(density / half_width) * np.sin(frequency * (inside + half_width))
    return columns


def _day(date: str) -> int:
    return int(np.datetime64(date, "D").astype(np.int64))


def _knots(wanted: Any, first: np.datetime64, last: np.datetime64) -> list[str]:
    """ISO dates of the bends: evenly inside the training window, or as given."""
    if isinstance(wanted, int):
        span = (last - first).astype(np.int64)
        return [str(first + round(int(span) * (i + 1) / (wanted + 1))) for i in range(wanted)]
    knots = []
    for value in wanted:
        try:
            knot = np.datetime64(str(value), "D")
        except ValueError as error:
            raise UserError(f"data.trend.knots: {value!r} is no date; write 2021-06-30.") from error
        if not first < knot < last:
            raise UserError(
                f"data.trend.knots: {knot} is outside the training window {first} to {last}: nothing could be learnt"
                " about it. Leave it out, or give the number of knots and they are placed inside."
            )
        knots.append(str(knot))
    return sorted(knots)
