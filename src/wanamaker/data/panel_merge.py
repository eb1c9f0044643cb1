"""Tables of another calendar beside the panel: monthly media totals, monthly scores.

    merge:
      - path: MediaInvestment.csv
        year: Year                     or date: Date (with date_format)
        month: Month
        columns: {TV: tv, SEM: sem}    column of this file: name by which the roles know it
        how: total
        every: MS                      length of its periods; months unless said otherwise (any day names its period)
        by: [geo]                      series keys that this file has, too; left out: one national number
        scale: 1.0e7                   factor to the panel's unit (crore to rupees)
      - {path: MonthlyNPSscore.csv, date: Date, date_format: "%m/%d/%Y", columns: {NPS: nps}, how: value}

`total`: an amount of the whole month. Each day of the month gets an equal part and a period the sum of its days, so
that the periods of a month sum to its total whatever the calendar; a week that straddles two months takes the days of
each. A month that is partly inside the panel gives the part of its days there (the rest is told in a warning); a period
with a day of which the file knows no total is an empty cell: an error, or the value that `roles.fill` names (0).

`value`: a level (a score, a price index) that holds from the first day of its month until the next row says otherwise;
a period takes the mean over its days. Days before the first row are left out of the mean, a period wholly before it is
an empty cell. Carrying past the end of the last month is told in a warning.

A national number is the same for every series. Where it is the money of a channel, it is divided over the series, so
that the spend of the panel sums to the file's (see `shared` in `wanamaker.data.panel_roles`).

Axis letters: M rows of the merged file, K its columns, T periods of the panel, G series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.panel_check import column_rules, failures, value_finding
from wanamaker.data.panel_dates import (
    NO_DAY,
    Calendar,
    calendar_from,
    check_role,
    day_text,
    parse_dates,
    parse_period,
    why_not,
)
from wanamaker.data.panel_report import PanelFinding, text_finding
from wanamaker.data.panel_roles import DateRole, PanelRoles, nearest
from wanamaker.data.panel_source import PanelSource, as_numbers, as_text
from wanamaker.errors import UserError

HOWS = ("total", "value")


@dataclass(frozen=True)
class MergeFile:
    """One table to merge; see the module text."""

    path: str
    columns: Mapping[str, str]
    how: str
    date: str | None = None
    date_format: str | None = None
    year: str | None = None
    month: str | None = None
    every: str = "MS"
    by: tuple[str, ...] = ()
    scale: float = 1.0

    @classmethod
    def from_config(cls, entry: Mapping[str, Any] | MergeFile, place: str, roles: PanelRoles) -> MergeFile:
        """Read one entry of `merge`.

        Raises:
            UserError: a key is unknown or missing, or a column has no role.
        """
        if isinstance(entry, cls):
            return entry
        known = sorted(f.name for f in fields(cls))
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{place}={entry!r} must be a mapping with path, columns, how and date (or year and month)."
            )
        for key in entry:
            if key not in known:
                raise UserError(f"{place} has no entry {key!r}. {nearest(key, known)}")
        for key in ("path", "columns", "how"):
            if not entry.get(key):
                raise UserError(f"{place}.{key} is missing.")
        given = {key: value for key, value in entry.items() if value is not None}
        if given["how"] not in HOWS:
            raise UserError(f"{place}.how={given['how']!r}; choose from {', '.join(HOWS)}.")
        if ("date" in given) == ("year" in given) or ("year" in given) != ("month" in given):
            raise UserError(f"{place} needs either `date`, or `year` and `month`.")
        if not isinstance(given["columns"], Mapping):
            raise UserError(f"{place}.columns={given['columns']!r} must map the file's columns to names of the roles.")
        given["columns"] = {str(column): str(name) for column, name in given["columns"].items()}
        for name in given["columns"].values():
            if name == roles.kpi:
                raise UserError(f"{place}.columns names the KPI {name!r}; the KPI belongs in the panel's own file.")
            if name not in roles.input_columns:
                raise UserError(
                    f"{place}.columns names {name!r}, which has no role. {nearest(name, roles.input_columns)}"
                )
        given["by"] = (given["by"],) if isinstance(given.get("by"), str) else tuple(given.get("by", ()))
        for key in given["by"]:
            if key not in roles.series:
                raise UserError(f"{place}.by names {key!r}, which is no series key. {nearest(key, roles.series)}")
        given["every"] = parse_period(f"{place}.every", given.get("every", "MS"))
        if "year" in given and given["every"] != "MS":
            raise UserError(f"{place}: year and month name a month, but every={given['every']!r}; use `date`.")
        scale = given.get("scale", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
            raise UserError(f"{place}.scale={scale!r} must be a number above 0.")
        return cls(**given | {"path": str(given["path"])})


@dataclass(frozen=True)
class Merged:
    """A merged table on the panel's calendar.

    Attributes:
        columns: K names, as the roles know them.
        values: float64 [G, T, K], or [1, T, K] for national numbers; NaN where the file does not say.
        findings: what is wrong with the table or its fit to the panel.
    """

    columns: tuple[str, ...]
    values: np.ndarray
    findings: tuple[PanelFinding, ...]


def spread_totals(totals: np.ndarray, own: Calendar, panel: Calendar) -> np.ndarray:
    """Totals of one calendar on another: equal parts per day, summed over the days of each period.

    Args:
        totals: [M, K], one row for each period of `own`, NaN where unknown.
        own: calendar of the totals, M periods.
        panel: calendar to spread onto, T periods.

    Returns:
        float64 [T, K]; NaN where a day of the period has no known total.
    """
    edges, days = own.dates(extra=1).astype(np.int64), _days(panel)
    at = np.searchsorted(edges, days, side="right") - 1
    known = (at >= 0) & (at < len(totals))
    daily = np.where(known[:, None], totals[at.clip(0, len(totals) - 1)], np.nan)
    daily = daily / np.diff(edges)[at.clip(0, len(totals) - 1)][:, None]
    return np.add.reduceat(daily, _starts(panel), axis=0)


def carry_values(values: np.ndarray, own: Calendar, panel: Calendar) -> np.ndarray:
    """Levels of one calendar on another: in force until the next, averaged over the known days of each period.

    Args:
        values: [M, K], one row for each period of `own`, NaN where it has no row.
        own: calendar of the levels.
        panel: calendar to carry to.

    Returns:
        float64 [T, K]; NaN for periods wholly before the first level.
    """
    rows = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    latest = np.maximum.accumulate(rows, axis=0)  # [M, K], number of the last row that says something
    carried = np.where(latest >= 0, np.take_along_axis(values, latest.clip(0), axis=0), np.nan)
    at = np.searchsorted(own.dates().astype(np.int64), _days(panel), side="right") - 1
    daily = np.where((at >= 0)[:, None], carried[at.clip(0)], np.nan)
    known = np.isfinite(daily)
    count = np.add.reduceat(known.astype(np.float64), _starts(panel), axis=0)
    total = np.add.reduceat(np.where(known, daily, 0.0), _starts(panel), axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _days(calendar: Calendar) -> np.ndarray:
    """All days of a calendar, as numbers."""
    edges = calendar.dates(extra=1).astype(np.int64)
    return np.arange(edges[0], edges[-1])


def _starts(calendar: Calendar) -> np.ndarray:
    edges = calendar.dates().astype(np.int64)
    return edges - edges[0]


def merge_table(
    merge: MergeFile,
    roles: PanelRoles,
    panel: Calendar,
    series: Sequence[str],
    keys: Mapping[str, Sequence[str]],
) -> Merged:
    """Read a table and bring it onto the panel's calendar.

    Args:
        merge: the table.
        roles: whose names `merge.columns` uses; `roles.fill` also stands for months without a row.
        panel: the panel's calendar, T periods.
        series: G names, for messages.
        keys: series key -> its value for each series [G].

    Raises:
        UserError: the file or one of its columns is missing.
    """
    source = PanelSource(merge.path)
    short = Path(merge.path).name
    text_columns = [column for column in (merge.date, merge.year, merge.month, *merge.by) if column]
    if missing := source.require([*text_columns, *merge.columns], {}):
        raise UserError("\n  ".join([f"{source.name} cannot be merged:", *missing]))
    texts, values, findings = _read(merge, roles, source, text_columns)
    days = _row_days(merge, source, texts, findings)
    names = tuple(merge.columns.values())
    wanted = list(zip(*(keys[key] for key in merge.by), strict=True)) if merge.by else [()]
    place = {group: i for i, group in enumerate(dict.fromkeys(wanted))}
    groups = list(zip(*(texts[key] for key in merge.by), strict=True)) if merge.by else [()] * len(days)
    used = [row for row, group in enumerate(groups) if days[row] != NO_DAY and group in place]
    if not used:
        whose = f" for the series keys {list(merge.by)}" if merge.by and len(days) else ""
        text = f"{short} has no row with a date{whose}"
        findings.append(PanelFinding("error", "nothing to merge", text, "", "Check its date and key columns."))
        return Merged(names, np.full((1, panel.count, len(names)), np.nan), tuple(findings))
    own = calendar_from(merge.every, int(days[used].min()), int(days[used].max()))
    table = np.full((len(place), own.count, len(names)), np.nan)
    filled = np.full((len(place), own.count), -1)
    periods = own.within(days.astype(np.int64))
    for row in used:
        cell = place[groups[row]], int(periods[row])
        if filled[cell] >= 0:
            where = f"{short}, rows {source.file_row(filled[cell])} and {source.file_row(row)} ({day_text(days[row])})"
            findings.append(
                PanelFinding("error", "duplicate period", where, "One of the two would be lost.", "Keep one row.")
            )
        filled[cell] = row
        table[cell] = values[row]
    out = _onto(merge, roles, own, panel, table)
    findings += _edges(merge, own, panel, table, out, short)
    if merge.by:
        silent = [g for g, group in enumerate(wanted) if (filled[place[group]] < 0).all()]
        if silent:
            text = f"{short} has no row for series {series[silent[0]]!r}"
            findings.append(PanelFinding("error", "series not merged", text, "", "Add its rows.", len(silent)))
        out = out[[place[group] for group in wanted]]
    return Merged(names, out, tuple(findings))


def _read(
    merge: MergeFile, roles: PanelRoles, source: PanelSource, text_columns: list[str]
) -> tuple[dict[str, list[str]], np.ndarray, list[PanelFinding]]:
    """The text columns, the numbers [M, K] in the panel's unit, and what is wrong with single cells."""
    import pandas as pd

    rules = {rule.column: rule for rule in column_rules(roles)}
    texts: dict[str, list[str]] = {name: [] for name in text_columns}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in merge.columns}
    not_numbers: dict[str, list[tuple[int, object]]] = {name: [] for name in merge.columns}
    row = 0
    for batch in source.batches(text_columns, list(merge.columns), as_text=True):
        for name in text_columns:
            texts[name] += [text.strip() for text in as_text(batch.column(name)).to_pylist()]
        for name in merge.columns:
            numbers, bad = as_numbers(batch.column(name))
            not_numbers[name] += [(row + int(b), batch.column(name)[int(b)].as_py()) for b in bad]
            parts[name].append(numbers)
        row += batch.num_rows
    findings: list[PanelFinding] = []
    columns = []
    for name, target in merge.columns.items():
        values = np.concatenate(parts[name]) if parts[name] else np.empty(0)
        known_bad = [at for at, _ in not_numbers[name]]
        if known_bad:
            at, text = not_numbers[name][0]
            where = f"row {source.file_row(at)} of {source.name}"
            findings.append(text_finding(name, target, where, text, len(known_bad)))
        if target in roles.fill:
            values = np.where(np.isnan(values), roles.fill[target], values)
        values[known_bad] = 1.0  # told already
        rule = replace(rules[target], column=name)
        cases = failures(pd.DataFrame({name: values}), [rule])
        for check in dict.fromkeys(case[1] for case in cases):
            of_kind = [case for case in cases if case[1] == check]
            where = f"row {source.file_row(of_kind[0][2])} of {source.name}"
            findings.append(value_finding(rule, check, where, of_kind[0][3], len(of_kind)))
        values[known_bad] = np.nan
        columns.append(values * merge.scale)
    return texts, np.stack(columns, axis=1), findings


def _row_days(
    merge: MergeFile, source: PanelSource, texts: Mapping[str, list[str]], findings: list[PanelFinding]
) -> np.ndarray:
    """Day numbers int32 [M] of the rows; unreadable dates are added to the findings."""
    if merge.date:
        role, dates = check_role(DateRole(merge.date), merge.date_format), texts[merge.date]
    else:
        role = DateRole(f"{merge.year}, {merge.month}", "%Y-%m")
        dates = [f"{_whole(y)}-{_whole(m)}" for y, m in zip(texts[merge.year], texts[merge.month], strict=True)]
    days = parse_dates(dates, role)
    bad = np.flatnonzero(days == NO_DAY)
    if len(bad):
        where = f"column {role.column!r} of {source.name}, row {source.file_row(int(bad[0]))}: {dates[bad[0]]!r}"
        remedy = why_not(dates[bad[0]], role) if merge.date else "Write the year as 2015 and the month as 1 to 12."
        findings.append(PanelFinding("error", "date that does not parse", where, "", remedy, len(bad)))
    return days


def _whole(text: str) -> str:
    return text.removesuffix(".0")


def _onto(merge: MergeFile, roles: PanelRoles, own: Calendar, panel: Calendar, table: np.ndarray) -> np.ndarray:
    """A table [N, M, K] on the panel's calendar, [N, T, K]; `roles.fill` where the file has no row."""
    fill = np.array([roles.fill.get(name, np.nan) for name in merge.columns.values()])
    if merge.how == "value":
        out = np.stack([carry_values(rows, own, panel) for rows in table])
        return np.where(np.isnan(out), fill, out)
    # Months of the panel that the file leaves out, with the declared amount
    last = int(panel.dates(extra=1)[-1].astype(np.int64)) - 1
    end = int(own.dates(extra=1)[-1].astype(np.int64)) - 1
    wide = calendar_from(own.period, min(own.first, panel.first), max(end, last))
    offset = int(wide.within(np.array([own.first]))[0])
    padded = np.full((len(table), wide.count, table.shape[-1]), np.nan)
    padded[:, offset : offset + own.count] = table
    padded = np.where(np.isnan(padded), fill, padded)
    return np.stack([spread_totals(rows, wide, panel) for rows in padded])


def _edges(
    merge: MergeFile, own: Calendar, panel: Calendar, table: np.ndarray, out: np.ndarray, short: str
) -> list[PanelFinding]:
    """What the file does not say about the panel, and what it says about other times."""
    findings = []
    dates = panel.dates()
    own_end = own.dates(extra=1)[-1]
    for k, (column, name) in enumerate(merge.columns.items()):
        missing = np.argwhere(np.isnan(out[..., k]))
        if len(missing):
            t = int(missing[:, 1].min())
            findings.append(
                PanelFinding(
                    "error",
                    "period without a merged row",
                    f"column {column!r} of {short} does not cover the period of {dates[t]} (it has {own.dates()[0]} to"
                    f" {own_end - 1})",
                    "Its amount in that period would be unknown." if merge.how == "total" else "No value is known yet.",
                    f"Add the rows, narrow the panel (start, end), or declare roles.fill: {{{name}: 0}} if it was 0.",
                    len({int(place) for place in missing[:, 1]}),
                )
            )
        elif merge.how == "total":
            known, inside = float(np.nansum(table[..., k])), float(out[..., k].sum())
            if abs(known - inside) > 1e-9 * max(abs(known), 1e-300) and known > inside:
                text = (
                    f"{known - inside:g} of {known:g} in column {column!r} of {short} belongs to days outside the panel"
                )
                findings.append(PanelFinding("warning", "merged total outside the panel", text))
    late = np.flatnonzero(dates >= own_end)
    if merge.how == "value" and len(late):
        text = f"the values of {short} end on {own_end - 1} and are carried to {dates[-1]}"
        findings.append(PanelFinding("warning", "value carried past its last date", text, count=len(late)))
    return findings
