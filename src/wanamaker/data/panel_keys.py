"""First reading of a panel: dates, series and hierarchy of its rows, and the place of each row in the panel.

Axis letters: G series, T periods, N rows of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.panel_dates import (
    NO_DAY,
    Calendar,
    calendar_from,
    day_text,
    infer_period,
    is_date_type,
    month_starts,
    parse_dates,
    why_not,
)
from wanamaker.data.panel_report import PanelFinding, place_text
from wanamaker.data.panel_roles import DateRole, PanelRoles
from wanamaker.data.panel_source import PanelSource, as_text
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

NATIONAL = "all"  # the one series of a panel without series keys
_JOIN = "\x1f"  # between the parts of a key; " | " in names
_PERIOD_SAMPLE = 64  # series that are looked at to see the length of a period


@dataclass(frozen=True)
class PanelKeys:
    """What the key columns of a file say.

    Attributes:
        calendar: of all rows that are kept, those before the start of the panel included.
        lead: how many of its periods lie before the start.
        series: G names, sorted.
        values: series key -> its value for each series [G].
        levels: hierarchy level -> sorted names of its groups, and the group of each series [G].
        cell: integer [N], g * T + t of each row; -1 for rows outside the window or with a wrong key.
        rows: integer [G, T], number of the row at a cell (the first of several), -1 where there is none.
        findings: what is wrong with the keys.
    """

    calendar: Calendar
    lead: int
    series: list[str]
    values: dict[str, list[str]]
    levels: dict[str, tuple[tuple[str, ...], np.ndarray]]
    cell: np.ndarray
    rows: np.ndarray
    findings: tuple[PanelFinding, ...]

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.cell)

    def place(self, source: PanelSource, row: int) -> str:
        """Row, series and date of a row, in words."""
        cell = int(self.cell[row])
        if cell < 0:
            return place_text(source.file_row(row), None, None)
        g, t = divmod(cell, self.calendar.count)
        return place_text(source.file_row(row), self.series[g], int(self.calendar.dates()[t].astype(np.int64)))


@dataclass
class _Codes:
    """Texts met so far, numbered in the order in which they came."""

    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, column: pa.Array) -> np.ndarray:
        """Number of each text of a column, int32 [n]."""
        import pyarrow as pa

        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        words = column.dictionary.to_pylist()
        numbers = np.array([self.numbers.setdefault(word, len(self.numbers)) for word in words], np.int32)
        return numbers[column.indices.to_numpy(zero_copy_only=False)] if len(words) else np.empty(0, np.int32)


class _Level:
    """The group of each series at one level, and where a series has two."""

    def __init__(self, level: str, column: str) -> None:
        self.level, self.column = level, column
        self.groups = _Codes()
        self.of_series = np.empty(0, np.int32)
        self.changes: tuple[int, int, int] | None = None  # rows, number of the first, its group
        self.empty: tuple[int, int] | None = None  # rows, number of the first

    def add(self, series: np.ndarray, column: pa.Array, num_series: int, start: int) -> None:
        """Rows of a batch; a series of -1 is a row that is left out."""
        kept = series >= 0
        groups = self.groups.of(column)
        self.of_series = np.concatenate([self.of_series, np.full(num_series - len(self.of_series), -1, np.int32)])
        fresh = kept & (self.of_series[series] < 0)
        self.of_series[series[fresh][::-1]] = groups[fresh][::-1]  # the first row of a series decides
        changed = np.flatnonzero(kept & (self.of_series[series] != groups))
        if len(changed):
            count, row, group = self.changes or (0, start + int(changed[0]), int(groups[changed[0]]))
            self.changes = count + len(changed), row, group
        empty = np.flatnonzero(kept & (groups == self.groups.numbers.get("", -1)))
        if len(empty):
            count, row = self.empty or (0, start + int(empty[0]))
            self.empty = count + len(empty), row

    def findings(self, source: PanelSource, names: list[str], series: np.ndarray) -> list[PanelFinding]:
        where, found = f"column {self.column!r} (hierarchy {self.level})", []
        if self.empty:
            text = f"{where}, row {source.file_row(self.empty[1])}"
            found.append(PanelFinding("error", "empty group", text, "", "Name the group of the series.", self.empty[0]))
        elif self.changes:
            count, row, group = self.changes
            words = list(self.groups.numbers)
            before = words[self.of_series[series[row]]]
            text = f"{where}, row {source.file_row(row)}: series {names[series[row]]!r} is {words[group]!r}"
            text += f", before {before!r}"
            found.append(
                PanelFinding(
                    "error",
                    "hierarchy changes within a series",
                    text,
                    "A series can borrow from one group only.",
                    "Keep one group per series, or make the column a series key.",
                    count,
                )
            )
        return found


def read_keys(
    source: PanelSource,
    roles: PanelRoles,
    period: str | None,
    window: tuple[int | None, int | None],
    skip_undated: bool = False,
) -> PanelKeys:
    """Read the key columns of a file.

    Args:
        source: the file.
        roles: with a date role that `check_role` has seen.
        period: of the calendar; None: seen from the dates.
        window: day numbers of the start and end of the panel, None for open.
        skip_undated: leave out rows whose date cell is empty, and say how many.

    Raises:
        UserError: no rows, no readable date, or a period that cannot be seen.
    """
    names, stamps = _Codes(), _Codes()
    levels = [_Level(level, column) for level, column in roles.hierarchy.items()]
    series_parts, day_parts, day_of, row = [], [], np.empty(0, np.int32), 0
    undated: tuple[int, int, str] | None = None  # rows, number of the first, its text
    skipped: tuple[int, int] | None = None  # rows, number of the first
    role = roles.date
    for batch in source.batches(roles.key_columns, ()):
        series = names.of(_joined([as_text(batch.column(name)) for name in roles.series], batch.num_rows))
        column = batch.column(role.column)
        if is_date_type(column.type):
            if role.origin is not None:
                raise UserError(f"Column {role.column!r} holds dates, but roles.date.origin reads numbers of periods.")
            role = DateRole(role.column)
        codes = stamps.of(as_text(column))
        words = list(stamps.numbers)
        day_of = np.concatenate([day_of, parse_dates(words[len(day_of) :], role)])
        days = day_of[codes]
        wrong = days == NO_DAY
        if skip_undated:
            left_out = wrong & np.array([not word.strip() for word in words], bool)[codes]
            places = np.flatnonzero(left_out)
            if len(places):
                skipped = skipped or (0, row + int(places[0]))
                skipped = skipped[0] + len(places), skipped[1]
            wrong &= ~left_out
            series = np.where(left_out, -1, series)
        for level in levels:
            level.add(series, as_text(batch.column(level.column)), len(names.numbers), row)
        bad = np.flatnonzero(wrong)
        if len(bad):
            undated = undated or (0, row + int(bad[0]), words[codes[bad[0]]])
            undated = (undated[0] + len(bad), *undated[1:])
        series_parts.append(series)
        day_parts.append(days)
        row += batch.num_rows
    findings: list[PanelFinding] = []
    if row == 0:
        raise UserError(
            "\n".join(
                [
                    f"{source.name} has a header but no rows: a panel needs one per series and period.",
                    *(finding.render() for finding in findings),
                ]
            )
        )
    if skipped:
        where = f"row {source.file_row(skipped[1])}: no {role.column!r}"
        told = "Left out, as data.on_undated=skip says."
        findings.append(PanelFinding("warning", "rows without a date", where, told, "", skipped[0]))
    if undated:
        where = f"column {role.column!r}, row {source.file_row(undated[1])}: {undated[2]!r}"
        remedy = why_not(undated[2], role)
        if not undated[2].strip():
            remedy += " Rows without a date can be left out with data.on_undated=skip."
        findings.append(PanelFinding("error", "date that does not parse", where, "", remedy, undated[0]))
        if undated[0] == row:
            raise UserError(f"{source.name}: no date can be read.\n{findings[-1].render()}")
    shown = [" | ".join(name.split(_JOIN)) if roles.series else NATIONAL for name in names.numbers]
    findings += _name_findings(source, roles, list(names.numbers), shown, series_parts)
    for level in levels:
        findings += level.findings(source, shown, np.concatenate(series_parts))
    try:
        period, month_ends = _period(roles, period, series_parts, day_parts)
    except UserError as error:
        raise UserError("\n".join([f"{source.name}: {error}", *(finding.render() for finding in findings)])) from error
    if month_ends:
        day_parts = [np.where(days == NO_DAY, NO_DAY, month_starts(days)).astype(np.int32) for days in day_parts]
    calendar, lead = _window(source, period, day_parts, window)
    return _placed(source, roles, names, shown, levels, series_parts, day_parts, calendar, lead, findings)


def _joined(columns: Sequence[pa.Array], count: int) -> pa.Array:
    """The parts of each row's key as one text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not columns:
        return pa.array([NATIONAL] * count, pa.string())
    if len(columns) == 1:
        return columns[0]
    return pc.binary_join_element_wise(*(column.cast(pa.string()) for column in columns), _JOIN)


def _name_findings(
    source: PanelSource, roles: PanelRoles, keys: list[str], shown: list[str], series_parts: list[np.ndarray]
) -> list[PanelFinding]:
    """Keys with an empty part, two keys with one name, and names that differ by case or spaces only."""
    findings = []
    empty = [
        code for code, key in enumerate(keys) if roles.series and not all(part.strip() for part in key.split(_JOIN))
    ]
    if empty:
        row, count, start = -1, 0, 0
        for part in series_parts:
            places = np.flatnonzero(np.isin(part, empty))
            row = start + int(places[0]) if row < 0 and len(places) else row
            count, start = count + len(places), start + len(part)
        if count:  # not only in rows that are left out
            where = f"row {source.file_row(row)}: one of {list(roles.series)} is empty"
            told = "Fill it in or take the row out."
            findings.append(PanelFinding("error", "empty series key", where, "", told, count))
    if len(set(shown)) < len(shown):
        twice = next(name for i, name in enumerate(shown) if name in shown[:i])
        raise UserError(f"Two series keys of {source.name} read {twice!r} when joined by ' | '; rename one.")
    by_name: dict[str, str] = {}
    for name in shown:
        other = by_name.setdefault(" ".join(name.casefold().split()), name)
        if other != name and len(findings) < 5:
            findings.append(
                PanelFinding(
                    "warning",
                    "series that differ by case or spaces only",
                    f"{other!r} and {name!r} are two series",
                    "If they are one, each has half of its rows.",
                    "Write the name the same way everywhere.",
                )
            )
    return findings


def _period(
    roles: PanelRoles, period: str | None, series_parts: list[np.ndarray], day_parts: list[np.ndarray]
) -> tuple[str, bool]:
    """The declared period, or the one that the first series show; and whether dates are ends of months."""
    step = roles.date.step
    if step is not None:
        if period not in (None, step):
            raise UserError(f"frequency={period!r} (data.period), but roles.date.step={step!r}; make them the same.")
        return step, False
    if period is not None:
        return period, False
    chosen = [(part < _PERIOD_SAMPLE) & (days != NO_DAY) for part, days in zip(series_parts, day_parts, strict=True)]
    series = np.concatenate([part[mask] for part, mask in zip(series_parts, chosen, strict=True)])
    days = np.concatenate([part[mask] for part, mask in zip(day_parts, chosen, strict=True)])
    return infer_period(days, series)


def _window(
    source: PanelSource, period: str, day_parts: list[np.ndarray], window: tuple[int | None, int | None]
) -> tuple[Calendar, int]:
    """The calendar of the rows up to the end, and how many of its periods begin before the start."""
    start, end = window
    anchor = calendar_from(period, 0, 0)
    known = np.unique(np.concatenate([np.unique(days) for days in day_parts]))
    known = known[known != NO_DAY]
    on = known[anchor.place(known)[1]]  # a date between two periods is an error and does not stretch the calendar
    low, high = (int(day) for day in ((on if len(on) else known)[[0, -1]]))
    last = high if end is None else min(high, end)
    if last < low or (start is not None and start > last):
        raise UserError(
            f"{source.name} has dates from {day_text(low)} to {day_text(high)}; nothing is left of them between"
            f" start={'open' if start is None else day_text(start)} and end={'open' if end is None else day_text(end)}."
        )
    calendar = calendar_from(period, low, last)
    dates = calendar.dates().astype(np.int64)
    lead = 0 if start is None else int((dates < start).sum())
    if lead == calendar.count:
        raise UserError(
            f"{source.name} has no period that begins between start={day_text(start)} and {day_text(last)}."
        )
    return calendar, lead


def _placed(
    source: PanelSource,
    roles: PanelRoles,
    names: _Codes,
    shown: list[str],
    levels: list[_Level],
    series_parts: list[np.ndarray],
    day_parts: list[np.ndarray],
    calendar: Calendar,
    lead: int,
    findings: list[PanelFinding],
) -> PanelKeys:
    """Each row's cell, row by row of the file; part by part, because a pass over all rows at once costs memory."""
    T = calendar.count
    used = np.zeros(len(shown), bool)
    times, off, row = [], None, 0
    for series, days in zip(series_parts, day_parts, strict=True):
        dated = days != NO_DAY
        time, on = calendar.place(np.where(dated, days, calendar.first))
        wrong = np.flatnonzero(dated & ~on)
        if len(wrong):
            off = off or (0, row + int(wrong[0]), int(days[wrong[0]]), shown[series[wrong[0]]])
            off = (off[0] + len(wrong), *off[1:])
        kept = dated & on & (time >= 0) & (time < T)
        used[series[kept]] = True
        times.append(np.where(kept, time, -1).astype(np.int32))
        row += len(series)
    if off:
        findings.append(_off_calendar(source, calendar, off, row))
    if not used.any():
        lines = [finding.render() for finding in findings]
        raise UserError("\n".join([f"{source.name}: no row lies on the calendar of {calendar.period!r}.", *lines]))
    order = sorted(np.flatnonzero(used), key=lambda code: shown[code])
    G = len(order)
    rank = np.full(len(shown), -1, np.int64)
    rank[order] = np.arange(G)
    small = max(G * T, row) < np.iinfo(np.int32).max
    cell = np.empty(row, np.int32 if small else np.int64)
    rows = np.full(G * T, -1, cell.dtype)
    place, again = 0, None
    for series, time in zip(series_parts, times, strict=True):
        part = np.where(time >= 0, rank[series] * T + time, -1)
        cell[place : place + len(part)] = part
        numbers = np.arange(place, place + len(part), dtype=rows.dtype)
        free = (part >= 0) & (rows[part] < 0)
        rows[part[free][::-1]] = numbers[free][::-1]  # of several rows the first
        twice = np.flatnonzero((part >= 0) & (rows[part] != numbers))
        if len(twice):
            again = again or (0, int(numbers[twice[0]]))
            again = again[0] + len(twice), again[1]
        place += len(part)
    words = list(names.numbers)
    keys = [words[code].split(_JOIN) for code in order]
    found = {}
    for level in levels:
        of_series = level.of_series[order]
        words = list(level.groups.numbers)
        groups = tuple(sorted({words[code] for code in of_series}))
        number = {group: i for i, group in enumerate(groups)}
        found[level.level] = (groups, np.array([number[words[code]] for code in of_series], np.int64))
    result = PanelKeys(
        calendar=calendar,
        lead=lead,
        series=[shown[code] for code in order],
        values={name: [key[i] for key in keys] for i, name in enumerate(roles.series)},
        levels=found,
        cell=cell,
        rows=rows.reshape(G, T),
        findings=(),
    )
    if again:
        count, second = again
        first = int(rows[cell[second]])
        where = f"{result.place(source, second)} has the same date and series as row {source.file_row(first)}"
        findings.append(
            PanelFinding(
                "error",
                "duplicate key",
                where,
                "One of the two would be lost.",
                "Sum the rows of a key, or name the column that tells them apart in roles.series.",
                count,
            )
        )
    return PanelKeys(**{**result.__dict__, "findings": tuple(findings)})


def _off_calendar(
    source: PanelSource, calendar: Calendar, off: tuple[int, int, int, str], num_rows: int
) -> PanelFinding:
    count, row, day, series = off
    near = calendar_from(calendar.period, day, day).dates()[0]
    most = "Most dates lie so: is `frequency` (data.period) right?" if 2 * count > num_rows else "Correct the date, or"
    tail = most if most.endswith("?") else f"{most} bring all rows to one frequency; monthly tables belong in `merge`."
    return PanelFinding(
        "error",
        "mixed frequency",
        f"{place_text(source.file_row(row), series, day)} is not the first day of a period of {calendar.period!r} (that"
        f" is {near})",
        "A lag would mean another time in each series.",
        tail,
        count,
    )
