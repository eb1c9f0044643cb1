"""Second reading of a panel: its numbers, checked and written into the arrays of the panel batch by batch.

Axis letters: G series, T periods, C media channels, N rows of the file, n rows of a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wanamaker.data.panel_check import ColumnRule, column_rules, failures, is_national, value_finding
from wanamaker.data.panel_keys import PanelKeys
from wanamaker.data.panel_report import PanelFinding, text_finding
from wanamaker.data.panel_roles import Driver, PanelRoles
from wanamaker.data.panel_source import NotNumbers, PanelSource, as_numbers


@dataclass(frozen=True)
class _Slot:
    """Where the numbers of a column go: one [G * T] line of an array; logarithms are undone on the way."""

    line: np.ndarray
    exp: bool = False

    def put(self, cell: np.ndarray | slice, values: np.ndarray) -> None:
        with np.errstate(over="ignore"):  # told as an error
            self.line[cell] = np.exp(values) if self.exp else values


class PanelArrays:
    """The float32 arrays of a panel, all its periods (those before its start included), to be written to.

    Args:
        roles: which columns go where.
        keys: series and calendar.
        shares: channel -> how its national money is divided over the series; its spend needs an array of its own.

    Attributes:
        kpi: float32 [G, T].
        media, spend: float32 [G, T, C]; one array where every channel has undivided money only.
        frequency: float32 [G, T, C] or None.
        price, promotion, control: float32 [G, T, ...].
        population: float32 [G, T] or None.
    """

    def __init__(self, roles: PanelRoles, keys: PanelKeys, shares: Mapping[str, str]) -> None:
        G, T = keys.rows.shape
        self.roles, self.keys, self.shares = roles, keys, shares
        money_only = all(channel.spend == channel.media for channel in roles.channels) and not shares
        self.kpi = _unknown(G, T)
        self.media = _unknown(G, T, len(roles.channels))
        self.spend = self.media if money_only else _unknown(G, T, len(roles.channels))
        self.frequency = None
        if any(channel.frequency for channel in roles.channels):
            self.frequency = np.ones((G, T, len(roles.channels)), np.float32)
        self.price = _unknown(G, T, len(roles.price))
        self.promotion = _unknown(G, T, len(roles.promotion))
        self.control = _unknown(G, T, len(roles.control))
        self.population = _unknown(G, T) if roles.population else None
        self._slots: dict[str, list[_Slot]] = {}
        self._choices: list[_Choice] = []
        self._declare()

    def _declare(self) -> None:
        roles = self.roles
        self._slot(roles.kpi, self.kpi, exp=roles.kpi_log)
        for c, channel in enumerate(roles.channels):
            self._slot(channel.media, self.media[..., c])
            if channel.spend is None:
                self.spend[..., c] = 0.0
            elif self.spend is not self.media:
                self._slot(channel.spend, self.spend[..., c])
            if channel.frequency:
                self._slot(channel.frequency, self.frequency[..., c])
        for kind in ("price", "promotion", "control"):
            for i, driver in enumerate(getattr(roles, kind)):
                line, logs = getattr(self, kind)[..., i], kind == "price" and roles.price_log
                if driver.column is not None:
                    self._slot(driver.column, line, exp=logs)
                else:
                    self._choices.append(_Choice.of(driver, self.keys, _line(line), logs))
        if roles.population:
            self._slot(roles.population, self.population)

    def _slot(self, column: str, view: np.ndarray, exp: bool = False) -> None:
        self._slots.setdefault(column, []).append(_Slot(_line(view), exp))

    def put(self, columns: Mapping[str, np.ndarray], cell: np.ndarray) -> None:
        """Write rows: values [n] per column at `cell` [n]."""
        for name, values in columns.items():
            for slot in self._slots.get(name, ()):
                slot.put(cell, values)
        series = cell // self.kpi.shape[1] if self._choices else None
        for choice in self._choices:
            if all(name in columns for name in choice.driver.sources):
                choice.put(columns, cell, series)

    def put_merged(self, names: Sequence[str], values: np.ndarray) -> None:
        """Write columns [G or 1, T, K] that were merged from another table."""
        G, T = self.kpi.shape
        columns = {name: np.broadcast_to(values[..., k], (G, T)).reshape(-1) for k, name in enumerate(names)}
        self.put(columns, np.arange(G * T))

    def needs(self, column: str) -> np.ndarray | None:
        """Series that read a column, bool [G]; None: all."""
        if column in self._slots:
            return None
        needed = np.zeros(len(self.kpi), bool)
        for choice in self._choices:
            needed |= choice.needs(column)
        return None if needed.all() else needed

    def choice_findings(self) -> list[PanelFinding]:
        """Series whose key has no column in a driver with one column per value."""
        return [finding for choice in self._choices for finding in choice.findings(self.keys)]

    # -- rows that the file does not have ------------------------------------------------------------------------------

    def fill_gaps(self) -> list[PanelFinding]:
        """Give missing rows their inputs: national values; else the last price and control, no media, no promotion."""
        observed = self.keys.rows >= 0
        if observed.all():
            return []
        names = {
            "media": [channel.media for channel in self.roles.channels],
            "spend": [channel.spend or "" for channel in self.roles.channels],
            **{kind: [d.name for d in getattr(self.roles, kind)] for kind in ("price", "promotion", "control")},
        }
        zeros, carried = [], []
        for kind, columns in names.items():
            array = getattr(self, kind)
            for i, column in enumerate(columns):
                view = array[..., i]
                missing = ~observed & np.isnan(view)
                if missing.any() and is_national(view, observed):
                    known = np.where(observed & ~np.isnan(view), view, -np.inf).max(axis=0)
                    view[missing] = np.broadcast_to(np.where(np.isfinite(known), known, np.nan), view.shape)[missing]
                    missing &= np.isnan(view)
                if not missing.any():
                    continue
                if kind in ("price", "control"):
                    view[missing] = _carried(view)[missing]
                    carried.append(column)
                else:
                    view[missing] = 0.0
                    zeros.append(column)
        findings = []
        for found, text in ((zeros, "0"), (carried, "the last known value")):
            if found:
                where = f"missing rows have {text} for {', '.join(map(repr, dict.fromkeys(found)))}"
                findings.append(PanelFinding("warning", "inputs of masked rows", where))
        return findings

    # -- one amount for all series -------------------------------------------------------------------------------------

    def divide(self) -> list[PanelFinding]:
        """Divide the money of shared channels over the series, so that it sums to the national amount."""
        findings = []
        observed = self.keys.rows >= 0
        G = len(self.kpi)
        for c, channel in enumerate(self.roles.channels):
            if channel.name not in self.shares:
                continue
            spend = self.spend[..., c]
            known = np.isfinite(spend)
            if not is_national(spend):
                low = np.where(known, spend, np.inf).min(axis=0)
                t = int(np.argmax(np.where(known, spend, -np.inf).max(axis=0) > low))
                g = int(np.argmax(known[:, t] & (spend[:, t] > low[t])))
                where = f"column {channel.spend!r} of channel {channel.name!r}"
                if observed[g, t]:
                    where += f", series {self.keys.series[g]!r} on {self.keys.calendar.dates()[t]}: {spend[g, t]:g}"
                findings.append(
                    PanelFinding(
                        "error",
                        "shared channel with own amounts",
                        f"{where}, other series {low[t]:g}",
                        "Only one national amount, the same on every series, can be divided.",
                        "Leave `shared` out: each series has its own money.",
                    )
                )
                continue
            if self.shares[channel.name] == "population":
                size = self.population_per_series().astype(np.float64)
                weight = size / size.sum()
            else:
                weight = np.full(G, 1 / G)
            spend *= weight[:, None].astype(np.float32)
        return findings

    def population_per_series(self) -> np.ndarray | None:
        """float32 [G], mean of the known values."""
        if self.population is None:
            return None
        known = np.isfinite(self.population)
        total = np.where(known, self.population, 0.0).sum(axis=1, dtype=np.float64)
        return (total / np.maximum(known.sum(axis=1), 1)).astype(np.float32)

    def population_findings(self) -> list[PanelFinding]:
        """Populations that change."""
        if self.population is None:
            return []
        mean = self.population_per_series()[:, None]
        moved = np.nan_to_num(np.abs(self.population - mean)) > 1e-5 * mean
        if not moved.any():
            return []
        g = int(np.argmax(moved.any(axis=1)))
        where = f"column {self.roles.population!r} changes in series {self.keys.series[g]!r}; the mean is used"
        return [PanelFinding("warning", "population that changes", where, count=int(moved.any(axis=1).sum()))]


@dataclass(frozen=True)
class _Choice:
    """A driver with one column per value of a series key.

    Attributes:
        driver: with `columns`.
        which: [G], place of each series' own column; -1 where its value has none.
        line: [G * T], where the driver goes.
        exp: whether the columns hold logarithms.
    """

    driver: Driver
    which: np.ndarray
    line: np.ndarray
    exp: bool

    @classmethod
    def of(cls, driver: Driver, keys: PanelKeys, line: np.ndarray, exp: bool) -> _Choice:
        place = {value: i for i, value in enumerate(driver.columns)}
        which = np.array([place.get(value, -1) for value in keys.values[driver.key]])
        return cls(driver, which, line, exp)

    def needs(self, column: str) -> np.ndarray:
        own = np.isin(self.which, [i for i, name in enumerate(self.driver.sources) if name == column])
        return ~own & (column in self.driver.sources) if self.driver.others_of else own

    def put(self, columns: Mapping[str, np.ndarray], cell: np.ndarray, series: np.ndarray) -> None:
        which = self.which[series]
        values = np.stack([columns[name] for name in self.driver.sources])  # [K, n]
        own = np.where(which >= 0, values[which, np.arange(len(cell))], np.nan)
        if self.driver.others_of:
            with np.errstate(divide="ignore", invalid="ignore"):  # prices of 0 are told as an error
                logs = values if self.exp else np.log(values)
                # The own price may be anything (it is another driver's business), so it is left out, not subtracted.
                logs[which, np.arange(len(cell))] = 0.0
                mean = np.exp(logs.sum(axis=0) / (len(values) - 1))
            self.line[cell] = np.where(which >= 0, mean, np.nan)
        else:
            self.line[cell] = np.exp(own) if self.exp else own

    def findings(self, keys: PanelKeys) -> list[PanelFinding]:
        lost = np.flatnonzero(self.which < 0)
        if not len(lost):
            return []
        value = keys.values[self.driver.key][lost[0]]
        where = f"{self.driver.name!r} has no column for {self.driver.key} {value!r} (series {keys.series[lost[0]]!r})"
        remedy = f"Add {value}: <column> to its `columns`; there are {', '.join(self.driver.columns)}."
        return [PanelFinding("error", "value without a column", where, "", remedy, len(lost))]


@dataclass
class _Faults:
    """Cells that break the rules of their column: how many of each kind, and the first.

    Attributes:
        cells: (column, check) -> count, row and value.
        texts: column -> count, row and text.
    """

    cells: dict[tuple[str, str], tuple[int, int, float]] = field(default_factory=dict)
    texts: dict[str, tuple[int, int, object]] = field(default_factory=dict)

    def examine(self, rule: ColumnRule, values: np.ndarray, rows: np.ndarray) -> None:
        import pandas as pd

        for _, check, row, value in failures(pd.DataFrame({rule.column: values}, index=rows), [rule]):
            count, *first = self.cells.get((rule.column, check), (0, int(row), float(value)))
            self.cells[rule.column, check] = (count + 1, *first)

    def text(self, column: str, row: int, text: object, count: int) -> None:
        before, *first = self.texts.get(column, (0, row, text))
        self.texts[column] = (before + count, *first)


def read_numbers(
    source: PanelSource, roles: PanelRoles, keys: PanelKeys, arrays: PanelArrays, skip: Collection[str] = ()
) -> list[PanelFinding]:
    """Write the number columns of a file into `arrays`.

    Args:
        source: the file.
        roles: of its columns.
        keys: where each row belongs.
        arrays: are written to.
        skip: columns that do not come from this file.

    Returns:
        What is wrong with single cells, a finding per column and kind.
    """
    rules = [rule for rule in column_rules(roles) if rule.column not in skip]
    try:
        faults = _pass(source, roles, keys, arrays, rules, as_text=False)
    except NotNumbers:  # once more, as text, to say where; whatever was written is written again
        faults = _pass(source, roles, keys, arrays, rules, as_text=True)
    findings = arrays.choice_findings()
    by_column = {rule.column: rule for rule in rules}

    def place(row: int) -> str:
        return keys.place(source, row)

    for column, (count, row, text) in faults.texts.items():
        findings.append(text_finding(column, roles.role_of(column), place(row), text, count))
    for (column, check), (count, row, value) in faults.cells.items():
        findings.append(value_finding(by_column[column], check, place(row), value, count))
    unknown = np.isnan(arrays.kpi) & (keys.rows >= 0)
    if unknown.any() and roles.kpi not in faults.texts:
        row = int(keys.rows[unknown].min())
        where = f"column {roles.kpi!r}, {place(row)}"
        consequence = "Rows without it are neither trained on nor scored."
        findings.append(PanelFinding("warning", "KPI not observed", where, consequence, "", int(unknown.sum())))
    return findings + arrays.population_findings()


def _pass(
    source: PanelSource,
    roles: PanelRoles,
    keys: PanelKeys,
    arrays: PanelArrays,
    rules: Sequence[ColumnRule],
    as_text: bool,
) -> _Faults:
    faults, row = _Faults(), 0
    needs = {rule.column: arrays.needs(rule.column) for rule in rules}
    T = keys.calendar.count
    for batch in source.batches((), [rule.column for rule in rules], as_text):
        cell = keys.cell[row : row + batch.num_rows]
        kept = np.flatnonzero(cell >= 0)
        cell = cell[kept]
        columns = {}
        for rule in rules:
            column = batch.column(rule.column)
            values, bad = as_numbers(column, source.decimal)
            is_text = np.zeros(len(values), bool)
            is_text[bad] = True
            if rule.column in roles.fill:
                values = np.where(np.isnan(values) & ~is_text, roles.fill[rule.column], values)
            values, is_text = values[kept], is_text[kept]
            if is_text.any():
                first = int(kept[is_text.argmax()])
                faults.text(rule.column, row + first, column[first].as_py(), int(is_text.sum()))
            need = needs[rule.column]
            seen = ~is_text if need is None else ~is_text & need[cell // T]
            if not rule.clears(values[seen]):
                faults.examine(rule, values[seen], row + kept[seen])
            columns[rule.column] = values
        arrays.put(columns, cell)
        row += batch.num_rows
    return faults


def _unknown(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


def _line(view: np.ndarray) -> np.ndarray:
    """[G, T] view as [G * T], without a copy."""
    line = view.reshape(-1)
    assert np.shares_memory(line, view) or line.size == 0
    return line


def _carried(values: np.ndarray) -> np.ndarray:
    """[G, T] with each NaN replaced by the last known value of its series, or else the next."""
    T = values.shape[1]
    known = ~np.isnan(values)
    last = np.maximum.accumulate(np.where(known, np.arange(T), -1), axis=1)
    following = np.minimum.accumulate(np.where(known, np.arange(T), T)[:, ::-1], axis=1)[:, ::-1]
    at = np.where(last >= 0, last, following)
    return np.where(at < T, np.take_along_axis(values, at.clip(0, T - 1), axis=1), np.nan)
