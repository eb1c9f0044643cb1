"""Three windows of time: what is known of customers, what was done to them, and what came of it, in this order.

Days are numbers since 1970-01-01.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.panel_dates import day_text, parse_day
from wanamaker.errors import UserError

WINDOWS = ("feature", "treatment", "outcome")


@dataclass(frozen=True)
class Window:
    """Days from `first` to `last`, both of them included."""

    first: int
    last: int

    @property
    def days(self) -> int:
        """How many."""
        return self.last - self.first + 1

    def holds(self, day: np.ndarray) -> np.ndarray:
        """Whether days [N] lie inside, bool [N]."""
        return (day >= self.first) & (day <= self.last)

    def __str__(self) -> str:
        return f"{day_text(self.first)} to {day_text(self.last)}"


@dataclass(frozen=True)
class Windows:
    """The three windows; each ends before the next begins, and days may lie between them.

    With a feature window alone, customers can be scored, and nothing be learnt.
    """

    feature: Window
    treatment: Window | None = None
    outcome: Window | None = None

    @property
    def present(self) -> dict[str, Window]:
        """By name, in the order of time."""
        return {name: getattr(self, name) for name in WINDOWS if getattr(self, name) is not None}

    @property
    def cut(self) -> int:
        """The day after the feature window: recency and tenure count from it, and no feature knows it."""
        return self.feature.last + 1


def parse_windows(given: Mapping[str, Any] | None) -> Windows | None:
    """The windows of a recipe, `{feature: [2023-01-15, 2023-02-14], treatment: [...], outcome: [...]}`; None: thirds.

    The feature window alone is enough to score customers.

    Raises:
        UserError: a window that is missing, unknown, backwards, or overlaps another.
    """
    if given is None:
        return None
    place = "data.windows"
    if not isinstance(given, Mapping) or set(given) not in ({"feature"}, set(WINDOWS)):
        raise UserError(
            f"{place}={given!r}; give feature, treatment and outcome, or null for equal thirds, or feature alone to "
            "score customers."
        )
    found = {}
    for name in (name for name in WINDOWS if name in given):
        ends = given[name]
        if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2:
            raise UserError(f"{place}.{name}={ends!r}; give its first and its last day, [2023-01-15, 2023-02-14].")
        first, last = (parse_day(f"{place}.{name}", end) for end in ends)
        if last < first:
            raise UserError(
                f"{place}.{name} ends on {day_text(last)}, before it begins on {day_text(first)}; swap them."
            )
        found[name] = Window(first, last)
    windows = Windows(**found)
    for earlier, later in itertools.pairwise(found):
        one, other = found[earlier], found[later]
        if other.first <= one.last:
            raise UserError(
                f"{place}.{later} ({other}) begins before {earlier} ({one}) is over: what came later would be known "
                f"before. Begin it on {day_text(one.last + 1)} or after."
            )
    return windows


def fit_windows(windows: Windows | None, first: int, last: int) -> Windows:
    """The windows as they lie in data from day `first` to day `last`.

    Equal thirds of whole days; the days that are left over, one or two, go to the first.

    Raises:
        UserError: a window outside the data, or data of fewer than three days.
    """
    if windows is None:
        days = last - first + 1
        if days < 3:
            raise UserError(
                f"The transactions span {days} day{'s' if days > 1 else ''} ({day_text(first)} to {day_text(last)}): "
                "three windows need three days at least. Bring a longer period."
            )
        outcome, treatment = last - days // 3 + 1, last - 2 * (days // 3) + 1
        return Windows(Window(first, treatment - 1), Window(treatment, outcome - 1), Window(outcome, last))
    for name, window in windows.present.items():
        if window.first < first or window.last > last:
            raise UserError(
                f"data.windows.{name} ({window}) lies outside the data, {day_text(first)} to {day_text(last)}: days "
                "without data would look like days without purchases. Move it inside."
            )
    return windows
