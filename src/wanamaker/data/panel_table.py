"""`read_panel`: a long table (one row per series and period) as a `MediaPanel`, streamed.

A file is read twice in record batches. The first reading takes dates and series keys alone, which gives the calendar,
the names and every row's place in the panel (8 bytes a row); the second writes the numbers straight into the float32
arrays of the panel. Rows may come in any order, and the table itself is never in memory.

Axis letters: G series, T periods, C media channels, N rows of the file.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wanamaker.data.media_panel import Level, MediaPanel, PanelSchema
from wanamaker.data.panel_check import check_panel
from wanamaker.data.panel_dates import check_role, parse_day, parse_period
from wanamaker.data.panel_keys import PanelKeys, read_keys
from wanamaker.data.panel_merge import MergeFile, merge_table
from wanamaker.data.panel_numbers import PanelArrays, read_numbers
from wanamaker.data.panel_report import PanelFinding, PanelReport
from wanamaker.data.panel_roles import PanelRoles, nearest
from wanamaker.data.panel_source import PanelSource
from wanamaker.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

GAPS = ("error", "mask")
UNDATED = ("error", "skip")


def read_panel(
    path: str | Path | pd.DataFrame,
    roles: PanelRoles | Mapping[str, Any],
    *,
    frequency: str | None = None,
    date_format: str | None = None,
    on_gap: str = "error",
    on_undated: str = "error",
    merge: Sequence[Mapping[str, Any] | MergeFile] = (),
    allow: Collection[str] = (),
    start: str | datetime.date | None = None,
    end: str | datetime.date | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    decimal: str = ".",
) -> MediaPanel:
    """Read a panel, check it, and log what is worth a warning.

    Args:
        path: CSV (also compressed: .csv.gz) or Parquet file, or a frame; one row per series and period, any order.
        roles: which column is what; a mapping is read by `PanelRoles.from_config`.
        frequency: period of the calendar ("D", "W-SUN", "MS"); None: the step between most dates.
        date_format: of the date column, as for `datetime.strptime`; None: ISO 8601, or as `roles.date` says.
        on_gap: what a missing row (a series without a period that others have) means. "error": a mistake. "mask": the
            KPI was not observed; a national column keeps its value of that period, prices and controls keep their last
            one (before the first: their next), media and promotions are 0.
        on_undated: what a row without a date means: "error", a mistake; "skip": it is left out with a warning.
        merge: tables of another calendar, as in `wanamaker.data.panel_merge`.
        allow: inputs that may tell the KPI (see `wanamaker.data.panel_leakage`).
        start: first day of the panel; the media of earlier rows become its `lead_in` (as contacts where a channel is
            given as reach and frequency). None: the first date.
        end: last day of the panel; periods that begin after it are left out.
        encoding: of a CSV file.
        delimiter: between the cells of a CSV file; None: a comma (a tab in a .tsv file).
        decimal: decimal sign of a CSV file.

    Returns:
        The panel. `spend` is the same array as `media` where every channel has money only, and none of it is divided.

    Raises:
        UserError: everything that is wrong with the file, in one message (see `wanamaker.data.panel_check`).
    """
    roles = PanelRoles.from_config(roles)
    if on_gap not in GAPS:
        raise UserError(f"on_gap={on_gap!r}; choose from {', '.join(GAPS)}.")
    if on_undated not in UNDATED:
        raise UserError(f"on_undated={on_undated!r}; choose from {', '.join(UNDATED)}.")
    roles = replace(roles, date=check_role(roles.date, date_format))
    merges = [MergeFile.from_config(entry, f"merge[{i}]", roles) for i, entry in enumerate(merge)]
    source = PanelSource(path, encoding, delimiter, decimal)
    require_columns(source, roles, merges)
    _check_drivers(roles, merges)
    _check_allow(allow, roles)
    window = tuple(None if day is None else parse_day(name, day) for name, day in (("start", start), ("end", end)))
    period = None if frequency is None else parse_period("frequency", frequency)

    keys = read_keys(source, roles, period, window, on_undated == "skip")
    findings = [*keys.findings, *_gaps(source, keys, on_gap)]
    if any(finding.kind == "far too few rows" for finding in findings):
        PanelReport(source.name, tuple(findings)).settle()
    national = _national_totals(merges) if len(keys.series) > 1 else set()
    shares = {c.name: c.shared or "equal" for c in roles.channels if c.shared or c.spend in national}
    arrays = PanelArrays(roles, keys, shares)
    merged = {name for entry in merges for name in entry.columns.values()}
    findings += read_numbers(source, roles, keys, arrays, skip=merged)
    for entry in merges:
        table = merge_table(entry, roles, keys.calendar, keys.series, keys.values)
        findings += table.findings
        arrays.put_merged(table.columns, table.values)
    if on_gap == "mask":
        findings += arrays.fill_gaps()
    findings += arrays.divide()
    panel = _assemble(roles, keys, arrays)
    report = check_panel(
        panel,
        allow=allow,
        columns=_input_columns(roles),
        observed=keys.rows[:, keys.lead :] >= 0,
        divided=shares,
    )
    if any(finding.severity == "error" and f"column {roles.kpi!r}" in finding.where for finding in findings):
        report = PanelReport(
            source.name, tuple(f for f in report.findings if "KPI" not in f.kind)
        )  # it follows from that
    PanelReport(source.name, (*findings, *report.findings)).settle()
    return panel


def require_columns(source: PanelSource, roles: PanelRoles, merges: Sequence[MergeFile] = ()) -> None:
    """Make sure that the header has every declared column, once; reads no rows.

    Raises:
        UserError: with each missing column, its role and the nearest name.
    """
    merged = {name for entry in merges for name in entry.columns.values()}
    lines = source.require([c for c in roles.columns if c not in merged], {c: roles.role_of(c) for c in roles.columns})
    both = sorted(merged & set(source.columns))
    lines += [f"column {name!r} is there and is merged, too; rename one of the two." for name in both]
    if lines:
        raise UserError("\n  ".join([f"{source.name} does not have what the roles declare:", *lines]))


def _check_drivers(roles: PanelRoles, merges: Sequence[MergeFile]) -> None:
    for driver in roles.drivers:
        for entry in merges:
            inside = set(driver.sources) & set(entry.columns.values())
            if inside and inside != set(driver.sources):
                raise UserError(f"{driver.name!r} has columns in two files; all of them must be in one.")


def _check_allow(allow: Collection[str], roles: PanelRoles) -> None:
    if isinstance(allow, str):
        raise UserError(f"data.allow={allow!r} must be a list of inputs, such as [{allow}].")
    known = [*roles.input_columns, *(c.name for c in roles.channels), *(d.name for d in roles.drivers)]
    for name in allow:
        if str(name).removeprefix("spend of ") not in known:
            raise UserError(f"data.allow names {name!r}, which is no input. {nearest(name, known)}")


def _input_columns(roles: PanelRoles) -> dict[str, str]:
    named = {driver.name: driver.column for driver in roles.drivers if driver.column}
    return {channel.name: channel.media for channel in roles.channels} | named


def _national_totals(merges: Sequence[MergeFile]) -> set[str]:
    """Merged amounts of the whole nation: as money they are divided over the series, so that sums hold."""
    return {name for entry in merges if entry.how == "total" and not entry.by for name in entry.columns.values()}


def _gaps(source: PanelSource, keys: PanelKeys, on_gap: str) -> list[PanelFinding]:
    """Periods that a series does not have."""
    missing = keys.rows < 0
    count = int(missing.sum())
    if count == 0:
        return []
    calendar, dates = keys.calendar, keys.calendar.dates()
    if missing.size > 50 * keys.num_rows + 10_000:
        text = f"{keys.num_rows:,} rows for {len(keys.series):,} series x {len(dates):,} periods"
        text += f" ({dates[0]} to {dates[-1]})"
        remedy = "Look for a mistyped year or series key among the rows, or give start and end."
        return [PanelFinding("error", "far too few rows", text, "The panel would be all gaps.", remedy)]
    if on_gap == "mask":
        g, t = (int(v[0]) for v in np.nonzero(missing))
        share = f"{count:,} of {missing.size:,} rows are missing"
        return [
            PanelFinding(
                "warning",
                "gaps in the calendar",
                f"{share}, the first for series {keys.series[g]!r} on {dates[t]}",
                "They are masked: neither trained on nor scored.",
            )
        ]
    holes, sparse = [], []
    for g in np.flatnonzero(missing.any(axis=1)):
        steps = np.diff(np.flatnonzero(~missing[g]))
        (sparse if len(steps) > 2 and steps.min() > 1 else holes).append(int(g))
    findings = []
    if sparse:
        every = np.median(np.diff(np.flatnonzero(~missing[sparse[0]])))
        right = (
            "Is `frequency` (data.period) right?" if len(sparse) == len(keys.series) else "Bring all to one frequency."
        )
        findings.append(
            PanelFinding(
                "error",
                "mixed frequency",
                f"series {keys.series[sparse[0]]!r} has a row every {every:g} periods, the panel one every period"
                f" ({calendar.period})",
                "A lag would mean another time in each series.",
                f"{right} Monthly tables belong in `merge`.",
                len(sparse),
            )
        )
    if holes:
        text = "; ".join(_hole(keys, dates, g) for g in holes[:_LISTED])
        more = f"; and {len(holes) - _LISTED:,} more series" if len(holes) > _LISTED else ""
        findings.append(
            PanelFinding(
                "error",
                "gap in the calendar",
                f"no row for {text}{more}",
                "Adstock would reach over a gap as if it were not there.",
                "Add the rows (spend 0, KPI empty if unknown), set data.start and data.end, or data.on_gap=mask.",
            )
        )
    return findings


_LISTED = 5


def _hole(keys: PanelKeys, dates: np.ndarray, g: int) -> str:
    empty = np.flatnonzero(keys.rows[g] < 0)
    more = f" and {len(empty) - 1:,} more periods" if len(empty) > 1 else ""
    return f"series {keys.series[g]!r} on {dates[empty[0]]}{more}"


def _assemble(roles: PanelRoles, keys: PanelKeys, arrays: PanelArrays) -> MediaPanel:
    """The panel from `start` on; what lies before becomes the lead-in."""
    calendar, lead = keys.calendar, keys.lead
    own = next((p for p, driver in enumerate(roles.price) if driver.direction < 0), -1)  # the first of several
    schema = PanelSchema(
        series=tuple(keys.series),
        levels={
            name: Level(groups, tuple(int(g) for g in of_series)) for name, (groups, of_series) in keys.levels.items()
        },
        kpi=roles.kpi_name or roles.kpi,
        media=tuple(channel.name for channel in roles.channels),
        paid=tuple(channel.paid for channel in roles.channels),
        period=calendar.period,
        periods_per_year=calendar.periods_per_year,
        kpi_unit=roles.kpi_unit,
        money_unit=roles.money_unit,
        price_unit=roles.price_unit,
        kpi_value=roles.kpi_value,
        price=tuple(driver.name for driver in roles.price),
        price_direction=tuple(driver.direction for driver in roles.price),
        own_price=(own,) * len(keys.series),
        promotion=tuple(driver.name for driver in roles.promotion),
        promotion_direction=tuple(driver.direction for driver in roles.promotion),
        control=tuple(driver.name for driver in roles.control),
        control_direction=tuple(driver.direction for driver in roles.control),
        frequency=() if arrays.frequency is None else tuple(bool(channel.frequency) for channel in roles.channels),
    )
    lead_in = arrays.media[:, :lead].copy()
    if arrays.frequency is not None:
        lead_in *= arrays.frequency[:, :lead]
    media = arrays.media[:, lead:]
    return MediaPanel(
        schema=schema,
        dates=calendar.dates()[lead:],
        kpi=arrays.kpi[:, lead:],
        media=media,
        spend=media if arrays.spend is arrays.media else arrays.spend[:, lead:],
        lead_in=lead_in,
        price=arrays.price[:, lead:],
        promotion=arrays.promotion[:, lead:],
        control=arrays.control[:, lead:],
        contact_frequency=None if arrays.frequency is None else arrays.frequency[:, lead:],
        lead_in_frequency=None if arrays.frequency is None else arrays.frequency[:, :lead],
        population=arrays.population_per_series(),
    )
