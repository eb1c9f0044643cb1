"""Dates of a panel's rows, and the calendar of equal periods they lie on.

A date names the first day of its period. Periods are days ("D"), weeks named by their first day ("W-SUN", ...) or
months ("MS").
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.panel_roles import DateRole
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
PERIODS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0}
NO_DAY = np.iinfo(np.int32).min  # an int32 day that stands for "no date"
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s?(?:Z|UTC|[+-]\d{2}:?\d{2})?)?")
_ISO_MONTH = re.compile(r"(\d{4})-(\d{2})")
_ISO_WEEK = re.compile(r"(\d{4})-?W(\d{2})")
_GUESSES = (
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"), "'%d.%m.%Y'"),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{2}"), "'%d.%m.%y'"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), "'%d/%m/%Y' or '%m/%d/%Y'"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{2}"), "'%d/%m/%y' or '%m/%d/%y'"),
    (re.compile(r"\d{1,2}-\d{1,2}-\d{4}"), "'%d-%m-%Y' or '%m-%d-%Y'"),
    (re.compile(r"\d{4}/\d{2}/\d{2}"), "'%Y/%m/%d'"),
    (re.compile(r"(19|20)\d{6}"), "'%Y%m%d'"),
    (re.compile(r"(19|20)\d{4}"), "'%Y%m'"),
)


@dataclass(frozen=True)
class Calendar:
    """Equal periods without a gap.

    Attributes:
        period: "D", "W-..." or "MS".
        first: day number (since 1970-01-01) of the first period.
        count: T.
    """

    period: str
    first: int
    count: int

    @property
    def periods_per_year(self) -> float:
        """365.25, 52.18 or 12."""
        return PERIODS_PER_YEAR[self.period[0]]

    def dates(self, extra: int = 0) -> np.ndarray:
        """datetime64[D] [T + extra], first day of each period (and of those after it)."""
        steps = np.arange(self.count + extra)
        start = np.datetime64(self.first, "D")
        if self.period == "MS":
            return (start.astype("datetime64[M]") + steps).astype("datetime64[D]")
        return start + steps * (1 if self.period == "D" else 7)

    def place(self, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of the period (int64 [N], may lie outside 0..T-1) and whether a day is a period's first (bool [N])."""
        if self.period == "MS":
            months, on = _months(days)
            return months - _months(np.array([self.first]))[0][0], on
        length = 1 if self.period == "D" else 7
        offset = days.astype(np.int64) - self.first
        return offset // length, offset % length == 0

    def within(self, days: np.ndarray) -> np.ndarray:
        """Number of the period that a day lies in, int64 [N]."""
        return self.place(days)[0]


def _months(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dates = days.astype("int64").astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    return months.astype(np.int64), months.astype("datetime64[D]") == dates


def month_starts(days: np.ndarray) -> np.ndarray:
    """Day numbers of the first of each day's month."""
    return _months(days)[0].astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def is_date_type(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds dates or times (and is not text that must be read)."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def day_text(day: int) -> str:
    """2020-03-01."""
    return str(np.datetime64(int(day), "D"))


def parse_period(place: str, period: str) -> str:
    """A period of the three kinds.

    Raises:
        UserError: another pandas offset, with the nearest that can be used.
    """
    text = str(period).upper()
    if text in ("D", "MS") or (text.startswith("W-") and text[2:] in WEEKDAYS):
        return text
    hint = {"W": "weeks need their first day, such as 'W-MON'", "M": "months are 'MS'", "ME": "months are 'MS'"}
    raise UserError(
        f"{place}={period!r} is not a period a panel can have: {hint.get(text, 'sum the rows to one of them first')}."
        " Choose 'D', 'W-MON' ... 'W-SUN' or 'MS'."
    )


def check_role(role: DateRole, date_format: str | None) -> DateRole:
    """The role with the format that is passed beside it; its origin and format make sense.

    Raises:
        UserError: origin or step are wrong, or the format cannot name a day.
    """
    if date_format is not None:
        if role.origin is not None:
            raise UserError("date_format reads dates, roles.date.origin reads numbers of periods; give one of them.")
        role = DateRole(role.column, date_format)
    if role.origin is not None:
        step = parse_period("roles.date.step", str(role.step))
        origin = parse_day("roles.date.origin", role.origin)
        first = Calendar(step, _first_day(step, origin), 1)
        if not first.place(np.array([origin]))[1][0]:
            near = str(first.dates()[0])
            raise UserError(
                f"roles.date.origin={role.origin} is not the first day of a period of step {step}; nearest before it is"
                f" {near}."
            )
        role = DateRole(role.column, None, day_text(origin), step, role.first)
    if role.format and re.search("%[WU]", role.format) and not re.search("%[waAu]", role.format):
        raise UserError(
            f"The date format {role.format!r} names a week but no day in it, which reads as 1 January. Write ISO weeks"
            " (2020-W09) or the first day of the week instead."
        )
    return role


def _first_day(period: str, day: int) -> int:
    """First day of the period that a day lies in."""
    if period == "MS":
        return int(np.datetime64(day, "D").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))
    if period == "D":
        return day
    return day - (day + 3 - WEEKDAYS.index(period[2:])) % 7  # day 0 was a Thursday


def calendar_from(period: str, first: int, last: int) -> Calendar:
    """The calendar of `period` from the period of day `first` to that of day `last`."""
    calendar = Calendar(period, _first_day(period, first), 1)
    return Calendar(period, calendar.first, int(calendar.within(np.array([last]))[0]) + 1)


def parse_day(place: str, text: object) -> int:
    """An ISO date of a configuration, as a day number.

    Raises:
        UserError: it is none.
    """
    day = _iso(str(text).strip())
    if day is None:
        raise UserError(f"{place}={text!r} is not a date; write it as 2020-01-31.")
    return day


def parse_dates(texts: Sequence[str], role: DateRole) -> np.ndarray:
    """Day numbers int32 [N] of texts; `NO_DAY` where one does not parse (times of day and zones are left out)."""
    return np.array([_parse(text.strip(), role) for text in texts], np.int32)


def _parse(text: str, role: DateRole) -> int:
    if not text:
        return NO_DAY
    if role.origin is not None:
        return _numbered(text, role)
    if role.format is not None:
        try:
            return _number(datetime.datetime.strptime(text, role.format).date())
        except ValueError:
            return NO_DAY
    day = _iso(text)
    return NO_DAY if day is None else day


def _numbered(text: str, role: DateRole) -> int:
    if not re.fullmatch(r"-?\d{1,6}", text):
        return NO_DAY
    offset = int(text) - role.first
    origin = np.datetime64(role.origin, "D")
    if role.step == "MS":
        return int((origin.astype("datetime64[M]") + offset).astype("datetime64[D]").astype(np.int64))
    return int(origin.astype(np.int64)) + offset * (1 if role.step == "D" else 7)


def _iso(text: str) -> int | None:
    try:
        if match := _ISO.fullmatch(text):
            return _number(datetime.date(*map(int, match.groups())))
        if match := _ISO_MONTH.fullmatch(text):
            return _number(datetime.date(int(match[1]), int(match[2]), 1))
        if match := _ISO_WEEK.fullmatch(text):
            return _number(datetime.date.fromisocalendar(int(match[1]), int(match[2]), 1))
    except ValueError:  # 2020-02-30
        return None
    return None


def _number(date: datetime.date) -> int:
    return date.toordinal() - 719163  # the ordinal of 1970-01-01


def why_not(text: str, role: DateRole) -> str:
    """What to do about a text that is no date."""
    if not text.strip():
        return "Fill in the date or take the row out."
    if role.origin is not None:
        return "The column numbers the periods: write a whole number."
    if role.format is not None:
        today = datetime.date(2020, 1, 31).strftime(role.format)
        return f"The declared format {role.format!r} reads dates such as {today!r}."
    for pattern, guess in _GUESSES:
        if pattern.fullmatch(text.strip()):
            return f"Declare its format, in roles.date.format or date_format: {guess}."
    if re.fullmatch(r"-?\d{1,6}", text.strip()):
        return "Say what the numbers count: roles.date: {column: ..., origin: <first day of number 1>, step: W-MON}."
    return "Write ISO dates (2020-01-31), or declare roles.date.format."


def infer_period(days: np.ndarray, series: np.ndarray) -> tuple[str, bool]:
    """The period of the dates of some series, from the step that is most common within a series.

    Args:
        days: day numbers [N], any order, duplicates allowed.
        series: number of each row's series [N].

    Returns:
        The period, and whether dates are the last days of months and mean the whole month.

    Raises:
        UserError: one date only, or steps that are neither days, weeks nor months.
    """
    keys = np.unique((series.astype(np.int64) << 32) + (days.astype(np.int64) + (1 << 31)))
    days = (keys & 0xFFFFFFFF) - (1 << 31)
    steps = np.diff(days)[np.diff(keys >> 32) == 0]
    if len(steps) == 0:
        raise UserError(
            f"No series has two dates ({day_text(days[0])} is one), so the length of a period cannot be seen: say it"
            " with `frequency` (data.period): 'D', 'W-MON' ... 'W-SUN' or 'MS'."
        )
    values, counts = np.unique(steps, return_counts=True)
    step = int(values[counts.argmax()])
    if step == 1:
        return "D", False
    if step == 7:
        weekday = np.bincount((days + 3) % 7, minlength=7).argmax()
        return f"W-{WEEKDAYS[weekday]}", False
    if 28 <= step <= 31:
        share = [float(np.mean(_months(days + shift)[1])) for shift in (0, 1)]
        if max(share) > 0.5:
            return "MS", share[1] > share[0]
        raise UserError(
            f"Most dates of a series are {step} days apart but not the first of a month ({day_text(days[0])} is the"
            " first): for months, write the first day of each; four weeks are no period a panel can have."
        )
    raise UserError(
        f"Most dates of a series are {step} days apart ({day_text(days[0])} is the first): a panel has days, weeks or"
        " months. Sum the rows to one of them, or declare `frequency` (data.period) if rows are missing on purpose."
    )
