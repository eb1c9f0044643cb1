"""As-of dates of a recipe as moments, and how they lie in a log.

Moments are microseconds since 1970 on the clock of the log: a date is its midnight, the first instant of that day.

Axis letters: A as-of dates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.event_tasks import DAY, is_days
from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

MOST_MOMENTS = 10_000  # as-of dates, each of which asks every customer again
_ISO = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ].*)?)?)?")  # 20240131 would be a year


@dataclass(frozen=True)
class LogSpan:
    """When the events of a log happened.

    Attributes:
        first, last: of the earliest and the latest event, microseconds since 1970.
        end: to which the log is complete; the midnight after the latest event where nothing else was said.
        tick: of its clock: a day where all events lie on midnights (dates), else one microsecond.
    """

    first: int
    last: int
    end: int
    tick: int

    def __str__(self) -> str:
        return f"{moment_text(self.first)} to {moment_text(self.last)}"


def moment_text(moment: int) -> str:
    """2020-01-31, or 2020-01-31 12:30:00 where it is not midnight."""
    text = str(np.datetime64(int(moment), "us"))[:19].replace("T", " ")
    return text.removesuffix(" 00:00:00")


def parse_moment(place: str, value: Any) -> int:
    """An ISO date or time of a configuration, without a zone.

    Raises:
        UserError: it is none.
    """
    try:
        if not _ISO.fullmatch(str(value).strip()):
            raise ValueError(value)
        moment = np.datetime64(str(value).strip().replace(" ", "T"), "us")
    except ValueError:
        moment = np.datetime64("NaT")
    if np.isnat(moment):
        raise UserError(f"{place}={value!r} is no date; write it as 2020-01-31 or 2020-01-31 12:00.")
    return int(moment.astype(np.int64))


def parse_as_of(as_of: Any) -> dict[str, Any]:
    """What a recipe says of as-of dates.

    Returns:
        `{"dates": [...]}` (moments), `{"first", "last", "every"}` (moments and days) or, of null, `{}`.

    Raises:
        UserError: neither a date, a list of dates nor `{first, last, every}`.
    """
    if as_of is None:
        return {}
    if isinstance(as_of, Mapping):
        given = options_of("data.as_of", as_of, {"first": None, "last": None, "every": None}, ("first",))
        every = given["every"]
        if not is_days(every) or every * DAY < 1:
            raise UserError(f"data.as_of.every={every!r}; give the days from one as-of date to the next, such as 28.")
        last = None if given["last"] is None else parse_moment("data.as_of.last", given["last"])
        first = parse_moment("data.as_of.first", given["first"])
        if last is not None and last < first:
            raise UserError(f"data.as_of.last={given['last']!r} lies before first={given['first']!r}; swap them.")
        return {"first": first, "last": last, "every": every}
    dates = as_of if isinstance(as_of, Sequence) and not isinstance(as_of, str) else [as_of]
    if not dates:
        raise UserError("data.as_of is an empty list; give a date, such as 2020-01-31.")
    return {"dates": sorted({parse_moment("data.as_of", date) for date in dates})}


def moments_in(as_of: Mapping[str, Any], span: LogSpan, ahead: float) -> np.ndarray:
    """As-of dates, int64 [A], ascending.

    Args:
        as_of: from `parse_as_of`; nothing means the end of the log, for which there are no labels yet.
        span: of the log.
        ahead: days from a moment to the end of the longest label window: where `last` is open, it is the last moment
            whose windows the log holds in full.

    Raises:
        UserError: a date outside the log.
    """
    if not as_of:
        return np.array([span.end])
    if "dates" in as_of:
        moments = np.array(as_of["dates"], np.int64)
    else:
        last = span.end - int(ahead * DAY) if as_of["last"] is None else as_of["last"]
        step = round(as_of["every"] * DAY)
        if (last - as_of["first"]) // step >= MOST_MOMENTS:
            raise UserError(
                f"data.as_of.every={as_of['every']:g} (days) makes more than {MOST_MOMENTS:,} as-of dates up to"
                f" {moment_text(last)}, at each of which every customer is asked; choose a longer one, such as 28."
            )
        moments = np.arange(as_of["first"], last + 1, step, dtype=np.int64)
        if not len(moments):
            raise UserError(
                f"data.as_of.first={moment_text(as_of['first'])}: the tasks look {ahead:g} days ahead and the log ends"
                f" on {moment_text(span.end)}, so that no window is complete from there on; begin on"
                f" {moment_text(last)} or before, or shorten the tasks' within."
            )
    for moment in moments:
        if moment <= span.first:
            raise UserError(
                f"data.as_of={moment_text(moment)}: all events of the log happened then or later (it reaches from"
                f" {span}), so that nothing is known of anybody; choose a later date."
            )
        if moment > span.end:
            raise UserError(
                f"data.as_of={moment_text(moment)} lies after the end of the log, which reaches from {span}; choose"
                f" {moment_text(span.end)} or before, or say how far the log is complete with data.log_end."
            )
    return moments
