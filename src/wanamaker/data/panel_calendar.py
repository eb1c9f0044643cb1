"""Columns that follow from the date alone: Fourier seasonality, holidays, events and the trend.

Two steps, so that a model carries its calendar with it. `fit_calendar` turns the user's options and the training
window into plain values (text, numbers, lists): the centre of the trend, its knots, which holidays there are.
`calendar_columns` turns those plain values and *any* dates into columns: of the training file, a later file, or weeks
to come. Neither sees anything but dates, and of dates only the training window decides what the columns mean.

Everything is first a value per day and then brought to the period: Fourier terms are the mean over its days, holidays
and events the number of days. A month with 31 days and a week across New Year need no special case.

Axis letters: T periods, S season columns, R trend columns.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_trend import DAYS_PER_YEAR, fit_trend, parse_trend, trend_columns
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

CYCLES = {"yearly": 1.0, "monthly": 12.0, "weekly": DAYS_PER_YEAR / 7}
"""Cycles per year of the seasonalities on offer."""


@dataclass(frozen=True)
class CalendarOptions:
    """The user's wishes, checked as far as they can be without data; see `parse_calendar`.

    Attributes:
        fourier: harmonics per cycle of `CYCLES`.
        holidays: country, subdivision, groups; None for none.
        events: path, date, name, date_format, groups; None for none.
        trend: as `parse_trend` returns it; None for no trend.
    """

    fourier: Mapping[str, int]
    holidays: Mapping[str, Any] | None
    events: Mapping[str, Any] | None
    trend: Mapping[str, Any] | None


@dataclass(frozen=True)
class CalendarColumns:
    """Calendar columns of some periods.

    Attributes:
        season_names: S names.
        season: float32 [T, S]; Fourier terms in -1..1, holidays and events in days per period.
        trend_names: R names.
        trend: float32 [T, R]; years from the centre of the training window, then years past each knot, or the columns
            of a smooth curve: see `panel_trend`.
    """

    season_names: tuple[str, ...]
    season: np.ndarray
    trend_names: tuple[str, ...]
    trend: np.ndarray


def parse_calendar(seasonality: Any, holidays: Any, events: Any, trend: Any) -> CalendarOptions:
    """Check the calendar options of a data config.

    Args:
        seasonality: null, or harmonics per cycle: `{yearly: 3, monthly: 1, weekly: 3}`.
        holidays: null, a country code (`US`), or `{country, subdivision: null, groups: null}`. `groups` says which
            columns there are: null counts all holidays in one, `each` makes one per holiday, a list one per name
            (parts of names do), a mapping one per key from the names it lists.
        events: null, or `{path, date: date, name: null, date_format: null, groups: null}`: a CSV file with a row per
            day of an event; `groups` as for holidays, over the values of the column `name`.
        trend: null, `linear`, `{knots: 4}` or `{hsgp: {lengthscale: 1.0}}`: see `parse_trend`.

    Raises:
        UserError: an unknown key or a value of the wrong kind.
    """
    fourier = options_of("data.seasonality", seasonality, dict.fromkeys(CYCLES, 0))
    for cycle, harmonics in fourier.items():
        if isinstance(harmonics, bool) or not isinstance(harmonics, int) or harmonics < 0:
            raise UserError(f"data.seasonality.{cycle}={harmonics!r} is no number of harmonics; give 0, 1, 2, ...")
    if isinstance(holidays, str):
        holidays = {"country": holidays}
    options = CalendarOptions(
        {cycle: harmonics for cycle, harmonics in fourier.items() if harmonics},
        None if holidays is None else options_of("data.holidays", holidays, _HOLIDAYS, ("country",)),
        None if events is None else options_of("data.events", events, _EVENTS, ("path",)),
        parse_trend(trend),
    )
    for place, chosen in (("data.holidays", options.holidays), ("data.events", options.events)):
        if chosen is not None:
            _check_groups(f"{place}.groups", chosen["groups"])
    if options.events is not None and options.events["groups"] is not None and options.events["name"] is None:
        raise UserError(
            "data.events.groups needs data.events.name, the column with the name of the event; name it, or set"
            " data.events.groups=null for one column that counts all."
        )
    return options


def check_calendar_files(options: CalendarOptions) -> None:
    """Read what the options name: the country's holidays and the file of events; nothing of the panel.

    Raises:
        UserError: an unknown country or subdivision, a missing file or column, a date that does not parse.
    """
    if options.holidays is not None:
        _holiday_days(options.holidays, [2024])
    if options.events is not None:
        _read_events(options.events)


def fit_calendar(options: CalendarOptions, period: str, periods_per_year: float, window: np.ndarray) -> dict[str, Any]:
    """The calendar of a model: plain values from the options and the training window.

    Args:
        options: From `parse_calendar`.
        period: Pandas offset of the panel.
        periods_per_year: Of the panel.
        window: datetime64[D], starts of the training periods, ascending.

    Raises:
        UserError: harmonics that the period cannot show, a holiday or event name that does not exist, a trend that
            does not fit the training window.
    """
    first, last = window[0], _ends(period, window[-1:])[0]
    for cycle, harmonics in options.fourier.items():
        length = periods_per_year / CYCLES[cycle]  # periods per cycle; two per wave is where sine and cosine merge
        most = max(0, int(np.ceil(length / 2)) - 1)
        if harmonics > most:
            raise UserError(
                f"data.seasonality.{cycle}={harmonics}: one cycle has {length:.3g} periods of this calendar ({period}),"
                f" which can show {most} harmonics; set data.seasonality.{cycle}={most}."
            )
        if (last - first).astype(int) < DAYS_PER_YEAR / CYCLES[cycle]:
            log.warning(
                "data.seasonality.%s: the training window %s to %s is shorter than one cycle, so that its season cannot"
                " be told from trend and media.",
                *(cycle, first, last),
            )
    calendar: dict[str, Any] = {"period": period, "fourier": dict(options.fourier), "learnt_to": str(window[-1])}
    if options.holidays is not None:
        years = range(_year(first) - 1, _year(last) + 3)
        days = _holiday_days(options.holidays, years)
        columns = _group("data.holidays", "holiday", options.holidays["groups"], days, first, last)
        calendar["holidays"] = {
            "country": options.holidays["country"],
            "subdivision": options.holidays["subdivision"],
            "columns": columns,
        }
    if options.events is not None:
        days = _read_events(options.events)
        columns = _group("data.events", "event", options.events["groups"], days, first, last)
        calendar["events"] = {
            column: sorted({day for name in (days if names is None else names) for day in days[name]})
            for column, names in columns.items()
        }
    if options.trend is not None:
        _check_bends(options.trend, len(window))
        calendar["trend"] = fit_trend(options.trend, first, last)
    return calendar


def _check_bends(trend: Mapping[str, Any], periods: int) -> None:
    """Refuse a trend of more columns than periods: it would be every period's own level."""
    asked = {"knots": trend["knots"], "hsgp.basis": (trend["hsgp"] or {}).get("basis", 0)}
    for name, number in asked.items():
        if isinstance(number, int) and number >= periods:
            raise UserError(
                f"data.trend.{name}={number}, but the training window has {periods} periods: give fewer, such as 4."
            )


def calendar_columns(calendar: Mapping[str, Any], dates: np.ndarray) -> CalendarColumns:
    """Columns of a fitted calendar for any dates.

    Args:
        calendar: From `fit_calendar`, possibly after a trip through YAML or JSON.
        dates: datetime64[D] [T], starts of periods, in any order.
    """
    dates = np.asarray(dates, dtype="datetime64[D]")
    ends = _ends(calendar["period"], dates)
    lengths = (ends - dates).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    # Every day of every period, period after period.
    days = np.repeat(dates.astype(np.int64) - offsets, lengths) + np.arange(lengths.sum())

    def per_period(daily: np.ndarray) -> np.ndarray:
        return np.add.reduceat(daily, offsets) if len(daily) else np.zeros(0)

    season: dict[str, np.ndarray] = {}
    for cycle in CYCLES:
        for k in range(1, calendar["fourier"].get(cycle, 0) + 1):
            angle = 2 * np.pi * k * _phase(cycle, days)
            season[f"{cycle}_sin_{k}"] = per_period(np.sin(angle)) / lengths
            season[f"{cycle}_cos_{k}"] = per_period(np.cos(angle)) / lengths
    if chosen := calendar.get("holidays"):
        years = range(_year(dates.min()), _year(ends.max()) + 1) if len(dates) else ()
        found = _holiday_days(chosen, years)
        # In the order of names, not of the mapping: a trip through YAML may sort it.
        for column, names in sorted(chosen["columns"].items()):
            marked = [day for name in (found if names is None else names) for day in found.get(name, ())]
            season[column] = per_period(_marks(days, marked))
    for column, marked in sorted(calendar.get("events", {}).items()):
        season[column] = per_period(_marks(days, marked))
    trend: dict[str, np.ndarray] = {}
    if chosen := calendar.get("trend"):
        trend = trend_columns(chosen, dates.astype(np.int64) + lengths / 2)
    return CalendarColumns(tuple(season), _stack(season, len(dates)), tuple(trend), _stack(trend, len(dates)))


def _stack(columns: Mapping[str, np.ndarray], periods: int) -> np.ndarray:
    if not columns:
        return np.zeros((periods, 0), np.float32)
    return np.stack(list(columns.values()), axis=1).astype(np.float32)  # [T, columns]


def _ends(period: str, dates: np.ndarray) -> np.ndarray:
    """First day after each period, datetime64[D] [T]."""
    import pandas as pd

    starts = pd.DatetimeIndex(np.asarray(dates, "datetime64[D]"))
    offset = pd.tseries.frequencies.to_offset(period)
    off = [date for date in starts if not offset.is_on_offset(date)]
    if off:
        raise UserError(
            f"{off[0].date()} does not begin a period of the calendar {period}; give the dates on which its periods"
            " begin."
        )
    return (starts + offset).to_numpy().astype("datetime64[D]")


def _phase(cycle: str, days: np.ndarray) -> np.ndarray:
    """Place of each day (its noon) in the cycle, 0..1; months count by the calendar, years as 365.25 days."""
    if cycle == "monthly":
        dates = days.astype("datetime64[D]")
        month = dates.astype("datetime64[M]")
        start = month.astype("datetime64[D]")
        length = ((month + 1).astype("datetime64[D]") - start).astype(np.int64)
        return ((dates - start).astype(np.int64) + 0.5) / length
    return (days + 0.5) / (DAYS_PER_YEAR / CYCLES[cycle])


def _marks(days: np.ndarray, marked: Iterable[str]) -> np.ndarray:
    """1 for each of `days` that is among the ISO dates `marked`, else 0."""
    return np.isin(days, [_day(day) for day in marked]).astype(np.float64)


def _day(date: str) -> int:
    return int(np.datetime64(date, "D").astype(np.int64))


def _year(date: np.datetime64) -> int:
    return int(str(np.datetime64(date, "Y")))


# -- holidays and events -----------------------------------------------------------------------------------------------

_HOLIDAYS: dict[str, Any] = {"country": None, "subdivision": None, "groups": None}
_EVENTS: dict[str, Any] = {"path": None, "date": "date", "name": None, "date_format": None, "groups": None}


def _holiday_days(chosen: Mapping[str, Any], years: Iterable[int]) -> dict[str, list[str]]:
    """ISO dates per name of a country's public holidays (package `holidays`, no network)."""
    import holidays

    country, subdivision = chosen["country"], chosen["subdivision"]
    supported = holidays.list_supported_countries()
    if not isinstance(country, str) or country not in supported:
        meant = difflib.get_close_matches(str(country).upper(), supported, n=1, cutoff=0.5)
        hint = f" Did you mean {meant[0]}?" if meant else ""
        raise UserError(
            f"data.holidays.country={country!r} is no country code with holidays, such as US, IN, DE.{hint}"
        )
    if subdivision is not None and str(subdivision) not in supported[country]:
        known = ", ".join(supported[country]) or "none"
        raise UserError(f"data.holidays.subdivision={subdivision!r}; {country} has {known}.")
    found: dict[str, list[str]] = {}
    days = holidays.country_holidays(country, subdiv=subdivision, years=list(years), language="en_US")
    for day, text in sorted(days.items()):
        for name in text.split("; "):
            # "(observed)", "(estimated)", "(substituted from ...)": how the date came about, not what is celebrated.
            name = re.sub(r"\s*\([^()]*\b(observed|estimated|substituted)\b[^()]*\)", "", name)
            found.setdefault(name, []).append(str(day))
    return found


def _read_events(chosen: Mapping[str, Any]) -> dict[str, list[str]]:
    """ISO dates per name from a CSV file of events."""
    import pandas as pd

    path = Path(chosen["path"])
    if not path.is_file():
        raise UserError(f"data.events.path={path} is not on disk; name a CSV file with a row per day of an event.")
    table = pd.read_csv(path, dtype=str)
    for key in ("date", "name"):
        column = chosen[key]
        if column is not None and column not in table.columns:
            raise UserError(
                f"data.events.{key}={column!r} is no column of {path}, which has {', '.join(table.columns)}."
            )
    dates = pd.to_datetime(table[chosen["date"]], format=chosen["date_format"] or "mixed", errors="coerce")
    if dates.isna().any():
        row = int(dates.isna().argmax())
        raise UserError(
            f"{path}, row {row + 2}: {chosen['date']}={table[chosen['date']].iloc[row]!r} is no date; mend it, or say"
            " how dates are written with data.events.date_format, such as %d/%m/%Y."
        )
    names = ["event"] * len(table) if chosen["name"] is None else table[chosen["name"]].fillna("event").str.strip()
    found: dict[str, list[str]] = {}
    for name, date in zip(names, dates, strict=True):
        found.setdefault(name, []).append(str(date.date()))
    return found


def _group(
    place: str, word: str, groups: Any, days: Mapping[str, Sequence[str]], first: np.datetime64, last: np.datetime64
) -> dict[str, list[str] | None]:
    """Names behind each column; None stands for all. Columns without a day in the training window are left out."""

    def in_window(names: Iterable[str]) -> bool:
        return any(str(first) <= day < str(last) for name in names for day in days[name])

    if groups is None:
        wanted: dict[str, list[str]] = {}
    elif groups == "each":
        wanted = {name: [name] for name in days}
    else:
        listed = groups if isinstance(groups, Mapping) else {name: [name] for name in groups}
        wanted = {group: _matching(place, group, names, days) for group, names in listed.items()}
    columns: dict[str, list[str] | None] = {}
    unseen = []
    if groups is None:
        if in_window(days):
            columns[word] = None
        else:
            unseen.append("every day")
    for group, names in wanted.items():
        if in_window(names):
            columns[f"{word}_{_slug(group)}"] = names
        else:
            unseen.append(group)
    if unseen and groups != "each":
        log.warning(
            "%s: %s lies outside the training window %s to %s and is left out: nothing could be learnt about it.",
            *(place, ", ".join(unseen), first, last),
        )
    return columns


def _matching(place: str, group: str, names: str | Sequence[str], days: Mapping[str, Any]) -> list[str]:
    """Full names that contain one of `names`, whatever the case."""
    found: list[str] = []
    for part in [names] if isinstance(names, str) else names:
        hits = [name for name in days if part.lower() in name.lower()]
        if not hits:
            near = difflib.get_close_matches(part, days, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(days)[:12])}."
            raise UserError(f"{place}.groups: {part!r} (in {group!r}) is the name of none. {hint}")
        found += [name for name in hits if name not in found]
    return found


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _check_groups(place: str, groups: Any) -> None:
    if groups is None or groups == "each":
        return
    if isinstance(groups, str) or not isinstance(groups, Mapping | Sequence) or not groups:
        raise UserError(f"{place}={groups!r}; choose null, each, a list of names, or {{column: [names]}}.")
