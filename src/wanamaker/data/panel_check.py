"""Checks of a panel: what each found, what follows from it, and what to do; all in one message.

| finding | fatal | what is done about it |
|---|---|---|
| column missing, or its name twice in the header | yes | before anything is read |
| row of another length, text in a number column, infinite value | yes | |
| date that does not parse, empty series key | yes | |
| duplicate key (series and date) | yes | |
| mixed frequency (a date between two periods, a series of another step) | yes | |
| far more gaps than rows (a mistyped year) | yes | |
| gap in the calendar | yes | `on_gap="mask"` keeps the period without its KPI: a warning says how inputs are filled |
| empty input cell | yes | `roles.fill` says what it means |
| negative spend, exposure, reach or frequency; price or population of 0 or below | yes | |
| series whose key has no column in `columns`; shared channel whose series have amounts of their own | yes | |
| merged table: period or series without a row, two rows for a period | yes | `roles.fill` is for missing rows, too |
| hierarchy column that changes within a series | yes | |
| KPI never observed in a series, or constant in all | yes | |
| target leakage (`wanamaker.data.panel_leakage`) | yes | `allow` makes it a warning |
| KPI empty in some rows | no | the rows are not trained on and not scored |
| input that is constant over time | no | its effect cannot be told from the intercept |
| collinear pair, abs(correlation) > 0.99 within series | no | their effects cannot be told apart, only their sum |
| one amount of spend repeated on every series | no | counted once per series until `shared` says otherwise |
| series whose names differ by case or spaces only | no | they stay two |
| population that changes within a series | no | its mean is used |
| merged totals that lie outside the panel, values carried past their last date | no | |

A warning is logged; an error raises `UserError`, which holds the warnings of the same file too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.media_panel import MediaPanel
from wanamaker.data.panel_leakage import find_leaks, sample_series
from wanamaker.data.panel_report import PanelFinding, PanelReport
from wanamaker.data.panel_roles import PanelRoles

if TYPE_CHECKING:
    import pandas as pd
    from pandera.pandas import DataFrameSchema

COLLINEAR = 0.99
MAX_PAIRS = 10
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_LOG = 88.0  # exp of it is still a float32


# -- values of single columns, by pandera ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnRule:
    """What the cells of a number column may be.

    Attributes:
        column: its name in the file.
        role: what it is, in words.
        low: smallest value allowed, None for any.
        above: whether `low` itself is not allowed.
        empty: whether cells may be empty.
        limit: largest size of a value: of float32, or of a logarithm that float32 can undo.
    """

    column: str
    role: str
    low: float | None = None
    above: bool = False
    empty: bool = False
    limit: float = _LARGEST

    def clears(self, values: np.ndarray) -> bool:
        """Whether values [N] can be seen at a glance to hold to the rule: no pass over them by pandera is needed."""
        if self.empty:
            values = values[~np.isnan(values)]
        if len(values) == 0:
            return True
        low, high = values.min(), values.max()  # NaN if one is NaN
        if not max(abs(low), abs(high)) <= self.limit:
            return False
        return self.low is None or low > self.low or (low == self.low and not self.above)


_TELL = {
    "empty": (
        "empty cell",
        "The input of that row would be unknown, and a guess would enter every effect.",
        "Fill the cell in, or declare roles.fill: {{{column}: 0}} if empty means 0.",
    ),
    "infinite": (
        "infinite value",
        "No scale and no gradient would be finite.",
        "Write a number below 3.4e38, or leave the cell empty.",
    ),
    "negative": (
        "negative value",
        "No effect, ROI or budget is defined for less than nothing.",
        "Book refunds in the period of the purchase, or correct the sign.",
    ),
    "not above 0": (
        "price not above 0",
        "Elasticities need the logarithm of the price.",
        "Write the regular price when nothing was sold, or take the row out.",
    ),
}


def column_rules(roles: PanelRoles) -> tuple[ColumnRule, ...]:
    """What each number column may hold, by its role."""
    rules: dict[str, ColumnRule] = {}
    prices = {column for driver in roles.price for column in driver.sources}
    low: dict[str, tuple[float | None, bool]] = {roles.kpi: (None, False)}
    for channel in roles.channels:
        for column in (channel.spend, channel.media, channel.frequency):
            if column:
                low[column] = (0.0, False)
    low |= dict.fromkeys(prices, (None, False) if roles.price_log else (0.0, True))
    if roles.population:
        low[roles.population] = (0.0, True)
    for column in roles.number_columns:
        bound, above = low.get(column, (None, False))
        logs = column in prices if roles.price_log else False
        limit = _LARGEST_LOG if logs or (column == roles.kpi and roles.kpi_log) else _LARGEST
        rules[column] = ColumnRule(column, roles.role_of(column), bound, above, column == roles.kpi, limit)
    return tuple(rules.values())


def table_schema(rules: Iterable[ColumnRule]) -> DataFrameSchema:
    """The rules as a `pandera.DataFrameSchema`: presence, type and range of each column."""
    import pandera.pandas as pandera

    columns = {}
    for rule in rules:
        checks = [pandera.Check.in_range(-rule.limit, rule.limit, error="infinite")]
        if rule.low is not None and rule.above:
            checks.append(pandera.Check.gt(rule.low, error="not above 0"))
        elif rule.low is not None:
            checks.append(pandera.Check.ge(rule.low, error="negative"))
        columns[rule.column] = pandera.Column(float, checks, nullable=rule.empty)
    return pandera.DataFrameSchema(columns)


def failures(frame: pd.DataFrame, rules: Iterable[ColumnRule]) -> list[tuple[str, str, int, float]]:
    """The cells that break a rule: (column, check of `_TELL`, index, value), in order."""
    import pandera.pandas as pandera

    try:
        table_schema(rules).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        kinds = ["empty" if name == "not_nullable" else name for name in cases["check"]]
        return sorted(
            zip(cases["column"], kinds, cases["index"], cases["failure_case"], strict=True), key=lambda c: c[2]
        )
    return []


def value_finding(rule: ColumnRule, check: str, place: str, value: float, count: int) -> PanelFinding:
    """A cell that breaks its rule, in words; `place` names row, series and date."""
    kind, consequence, remedy = _TELL[check]
    if check == "infinite" and np.isfinite(value):
        kind = f"value beyond {rule.limit:.2g}" + (" in a column of logarithms" if rule.limit < _LARGEST else "")
    if check == "negative":
        kind = f"negative {rule.role.split()[0]}"
    if check == "not above 0" and not rule.role.startswith("price"):
        kind, consequence, remedy = "population not above 0", "Shares by population would not exist.", "Correct it."
    shown = "" if check == "empty" else f" is {value:g}"
    role = "" if rule.role == rule.column else f" ({rule.role})"
    where = f"column {rule.column!r}{role}, {place}{shown}"
    return PanelFinding("error", kind, where, consequence, remedy.format(column=rule.column), count)


# -- the panel as a whole ----------------------------------------------------------------------------------------------


def check_panel(
    panel: MediaPanel,
    *,
    allow: Collection[str] = (),
    columns: Mapping[str, str] | None = None,
    source: str = "the panel",
    observed: np.ndarray | None = None,
    divided: Collection[str] = (),
) -> PanelReport:
    """Look at a panel as a whole: constant and collinear inputs, KPI that is missing or leaks, spend counted twice.

    Args:
        panel: any panel, also one that was not read from a file.
        allow: inputs (or columns) that may tell the KPI: their leak is a warning, not an error.
        columns: name of an input -> its column in the file, where they differ.
        source: name of the file, for the report.
        observed: bool [G, T], False where a row was not in the file; None: all were.
        divided: channels whose spend is a national amount that was divided over the series already.

    Returns:
        The report; `settle` raises or logs it.
    """
    columns = columns or {}
    findings = [*_kpi_findings(panel)]
    names, values = _inputs(panel)
    findings += _constant(panel, names, values, columns)
    findings += _collinear(panel, names, values, columns)
    findings += _repeated_spend(panel, columns, observed, divided)
    findings += _leaks(panel, names, values, allow, columns)
    return PanelReport(source, tuple(findings))


def _inputs(panel: MediaPanel) -> tuple[list[str], list[np.ndarray]]:
    """Names and [G, T] views of everything that may explain the KPI; the spend of a channel beside its exposure."""
    schema = panel.schema
    names, values = [], []
    for kind, array in (("media", panel.media), ("price", panel.price), ("promotion", panel.promotion)):
        names += getattr(schema, kind)
        values += [array[..., i] for i in range(array.shape[-1])]
    names += schema.control
    values += [panel.control[..., i] for i in range(panel.control.shape[-1])]
    return names, values


def _called(name: str, columns: Mapping[str, str]) -> str:
    column = columns.get(name, name)
    return f"{name!r}" if column == name else f"{name!r} (column {column!r})"


def _kpi_findings(panel: MediaPanel) -> list[PanelFinding]:
    seen = np.isfinite(panel.kpi)
    schema = panel.schema
    findings = []
    empty = np.flatnonzero(~seen.any(axis=1))
    if len(empty):
        findings.append(
            PanelFinding(
                "error",
                "KPI never observed",
                f"KPI {schema.kpi!r} of series {schema.series[empty[0]]!r} is empty in every period",
                "The series would be explained by the others alone.",
                "Take its rows out, or fill in its KPI.",
                len(empty),
            )
        )
    values = panel.kpi[seen]
    if len(values) > 1 and len(empty) == 0 and values.min() == values.max():
        findings.append(
            PanelFinding(
                "error",
                "constant KPI",
                f"KPI {schema.kpi!r} is {values[0]:g} in all {len(values):,} rows",
                "There is nothing to explain.",
                "Check that roles.kpi names the right column.",
            )
        )
    return findings


def _constant(panel: MediaPanel, names: list[str], values: list[np.ndarray], columns: Mapping) -> list[PanelFinding]:
    if panel.num_periods < 2:
        return []
    findings = []
    for name, array in zip(names, values, strict=True):
        if np.isfinite(array).any() and not (_spread(array) > 0).any():
            known = array[np.isfinite(array)]
            often = f"is {known[0]:g} in every row" if known.min() == known.max() else "does not change in any series"
            findings.append(
                PanelFinding(
                    "warning",
                    "constant input",
                    f"{_called(name, columns)} {often}",
                    "Its effect cannot be told from the intercept, and its curve is a guess.",
                    "Take it out of the roles, or bring periods in which it changes.",
                )
            )
    return findings


def _spread(array: np.ndarray) -> np.ndarray:
    """Largest minus smallest value over time [G], empty cells left out."""
    high = np.where(np.isfinite(array), array, -np.inf).max(axis=1)
    low = np.where(np.isfinite(array), array, np.inf).min(axis=1)
    return np.where(high >= low, high - low, 0.0)


def _collinear(panel: MediaPanel, names: list[str], values: list[np.ndarray], columns: Mapping) -> list[PanelFinding]:
    """Pairs of inputs that move together within series."""
    if panel.num_periods < 3:
        return []
    kept = sample_series(panel.kpi.shape)
    stacked, moving = [], []
    for name, array in zip(names, values, strict=True):
        array = array[kept].astype(np.float64)
        if not np.isfinite(array).all():  # told as an error already
            continue
        centred = array - array.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(centred)
        if norm > 1e-9 * np.linalg.norm(array):
            stacked.append(centred.ravel() / norm)
            moving.append(name)
    if len(moving) < 2:
        return []
    correlation = np.stack(stacked) @ np.stack(stacked).T
    pairs = [(i, j) for i, j in zip(*np.nonzero(np.abs(correlation) > COLLINEAR), strict=True) if i < j]
    return [
        PanelFinding(
            "warning",
            "collinear pair",
            f"{_called(moving[i], columns)} and {_called(moving[j], columns)} correlate by {correlation[i, j]:.3f}"
            " within series",
            "Only their sum can be learned; how it is divided between them is arbitrary.",
            "Merge them into one, or take one out.",
        )
        for i, j in pairs[:MAX_PAIRS]
    ]


def _repeated_spend(
    panel: MediaPanel, columns: Mapping, observed: np.ndarray | None, divided: Collection[str]
) -> list[PanelFinding]:
    """Channels whose spend is the same on every series: a national amount that would be counted once per series."""
    G = panel.num_series
    if G < 2:
        return []
    repeated = [
        name
        for c, name in enumerate(panel.schema.media)
        if panel.schema.paid[c]
        and name not in divided
        and is_national(panel.spend[..., c], observed)
        and (panel.spend[..., c] > 0).any()
    ]
    if not repeated:
        return []
    return [
        PanelFinding(
            "warning",
            "spend repeated on every series",
            f"{', '.join(_called(name, columns) for name in repeated)}: the same amounts in all {G} series",
            f"If they are one national amount, it is counted {G} times: cost too high, ROI {G} times too low.",
            "Declare roles.shared_media: equal (or population), or `shared` for single channels, to divide them.",
        )
    ]


def is_national(values: np.ndarray, observed: np.ndarray | None = None) -> bool:
    """Whether [G, T] values are the same on all series (where observed) in every period."""
    known = np.isfinite(values) if observed is None else observed & np.isfinite(values)
    high = np.where(known, values, -np.inf).max(axis=0)
    low = np.where(known, values, np.inf).min(axis=0)
    return bool((high <= low).all())  # where no series is known, high is -inf and low is inf


def _leaks(
    panel: MediaPanel, names: list[str], values: list[np.ndarray], allow: Collection[str], columns: Mapping
) -> list[PanelFinding]:
    schema = panel.schema
    spends = [
        (f"spend of {name}", panel.spend[..., c])
        for c, name in enumerate(schema.media)
        if schema.paid[c] and panel.spend is not panel.media
    ]
    tested = [*zip(names, values, strict=True), *spends]
    groups = {name: np.array(level.of_series) for name, level in schema.levels.items()}
    findings = []
    for leak in find_leaks(
        panel.kpi, tested, {name: panel.price[..., p] for p, name in enumerate(schema.price)}, groups
    ):
        plain = leak.name.removeprefix("spend of ")
        permitted = {leak.name, plain, columns.get(leak.name), columns.get(plain)} & set(allow)
        consequence = "The model would read the KPI from it: no effect, forecast or score would mean anything."
        remedy = (
            "Take it out of the roles; if it is known before the sales and really a driver, pass "
            f"data.allow=[{leak.name}]."
        )
        if permitted:
            consequence, remedy = "", f"Let through by allow={sorted(map(str, permitted))}."
        where = f"{_called(leak.name, columns)} {leak.how.format(kpi=repr(schema.kpi))}"
        severity = "warning" if permitted else "error"
        findings.append(PanelFinding(severity, "target leakage", where, consequence, remedy))
    return findings
