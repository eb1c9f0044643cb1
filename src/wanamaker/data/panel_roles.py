"""`PanelRoles`: which column of a table is the KPI, a channel's spend, a price, ... and how it is to be read.

date: week                          or {column: week, format: "%d.%m.%Y"}
                                    or {column: week, origin: 2015-06-28, step: W-SUN, first: 1} for numbered periods
kpi: gmv                            kpi_name: sales, where the column has no name for people
series: [store, brand]              [] is one series, named "all"
hierarchy: {category: category}     level: column, from coarse to fine; constant within a series
media: [tv, radio]                  money per period, which is also the exposure
media:
  tv: {spend: tv_cost}
  search: {spend: search_cost, exposure: search_clicks}
  video: {spend: video_cost, reach: video_reach, frequency: video_frequency}
  national_tv: {spend: tv, shared: equal}      one national amount, repeated in the file on every series
organic: [newsletter]               exposure without a cost; or {name: {exposure: ..}} or {name: {reach, frequency}}
price: {own: {column: price, direction: own}}
price:
  own: {columns: {1: price1, 2: price2}, match: brand, direction: own}         each series its own column
  rivals: {columns: {1: price1, 2: price2}, others_of: brand, direction: cross}     geometric mean of the others
promotion: [deal, feature]          or {deal: {column: deal, direction: up}}
control: [temperature]              or {nps: {column: nps, direction: up}}
population: population
fill: {radio: 0}                    what an empty cell of a column means; without it an empty cell is an error
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from wanamaker.errors import UserError

SHARES = ("equal", "population")
_DIRECTIONS = {
    "price": {"own": -1, "cross": 1, "any": 0},
    "promotion": {"up": 1, "down": -1, "any": 0},
    "control": {"up": 1, "down": -1, "any": 0},
}
_DEFAULT_DIRECTION = {"price": "own", "promotion": "up", "control": "any"}


@dataclass(frozen=True)
class DateRole:
    """The column that places a row in time.

    Attributes:
        column: its name.
        format: of the text, as for `datetime.strptime`; None: ISO 8601.
        origin: first day of period number `first`, for columns that number the periods.
        step: pandas offset of numbered periods: "D", "W-SUN" or "MS".
        first: the number that stands for `origin`.
    """

    column: str
    format: str | None = None
    origin: str | None = None
    step: str | None = None
    first: int = 1


@dataclass(frozen=True)
class Channel:
    """A media channel: money, what the audience saw, or both.

    Attributes:
        name: of the channel.
        spend: column of money per period; None for organic channels.
        exposure: column of impressions, clicks, ...; None: the spend is the exposure.
        reach, frequency: columns of people reached and contacts per person; both or none.
        shared: how one national amount, which the file repeats on every series, is divided over the series: "equal"
            or "population"; the exposure stays whole. None: the file has each series' own money.
    """

    name: str
    spend: str | None = None
    exposure: str | None = None
    reach: str | None = None
    frequency: str | None = None
    shared: str | None = None

    @property
    def paid(self) -> bool:
        """Whether the channel costs money."""
        return self.spend is not None

    @property
    def media(self) -> str:
        """The column that the effect depends on: reach, exposure or spend."""
        return self.reach or self.exposure or self.spend or ""


@dataclass(frozen=True)
class Driver:
    """A price, promotion or control.

    Attributes:
        name: of the driver.
        direction: -1 the KPI falls when it rises, +1 it rises, 0 either.
        column: where all series read the same column.
        columns: value of the series key -> column, where each value has a column of its own.
        match: series key; a series reads the column of its own value.
        others_of: series key; a series reads the geometric mean of all columns but its own.
    """

    name: str
    direction: int
    column: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    match: str | None = None
    others_of: str | None = None

    @property
    def key(self) -> str | None:
        """The series key that chooses among `columns`."""
        return self.match or self.others_of

    @property
    def sources(self) -> tuple[str, ...]:
        """All columns it is read from."""
        return (self.column,) if self.column is not None else tuple(self.columns.values())


@dataclass(frozen=True)
class PanelRoles:
    """The declared role of each column that a panel needs.

    Attributes:
        date, kpi: see the module text.
        series: key columns; several are joined by " | ".
        hierarchy: level -> column, coarse to fine.
        channels: paid channels first, then organic ones.
        price, promotion, control: drivers, in order.
        population: column, constant within a series.
        kpi_name: of the KPI in tables and figures; empty: the column.
        kpi_unit, money_unit, price_unit, kpi_value: words and worth of the KPI, as in `PanelSchema`.
        kpi_log, price_log: the file holds natural logarithms; they are undone.
        fill: column -> value of its empty cells.
    """

    date: DateRole
    kpi: str
    series: tuple[str, ...] = ()
    hierarchy: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    price: tuple[Driver, ...] = ()
    promotion: tuple[Driver, ...] = ()
    control: tuple[Driver, ...] = ()
    population: str | None = None
    kpi_name: str = ""
    kpi_unit: str = "units"
    money_unit: str = "money"
    price_unit: str = ""
    kpi_value: float = 1.0
    kpi_log: bool = False
    price_log: bool = False
    fill: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_config(cls, roles: Mapping[str, Any] | PanelRoles) -> PanelRoles:
        """Read the mapping of the module text (YAML).

        Raises:
            UserError: a key is unknown or missing, or an entry does not say what it means.
        """
        if isinstance(roles, PanelRoles):
            return roles
        known = {f.name for f in fields(cls)} - {"channels"} | {"media", "organic", "shared_media"}
        _known_keys("roles", roles, known)
        for needed in ("date", "kpi"):
            if not roles.get(needed):
                raise UserError(f"roles.{needed} is missing: name the column of the {needed}.")
        given = {name: value for name, value in roles.items() if value is not None}
        shared = given.pop("shared_media", None)
        channels = [
            *_channels("media", given.pop("media", ()), shared),
            *_channels("organic", given.pop("organic", ()), None),
        ]
        for kind in _DIRECTIONS:
            given[kind] = _drivers(kind, given.get(kind, ()))
        given["date"] = _date(given["date"])
        given["kpi"] = _text("roles.kpi", given["kpi"])
        given["series"] = _names("roles.series", given.get("series", ()))
        given["hierarchy"] = {
            str(level): _text(f"roles.hierarchy.{level}", column)
            for level, column in _mapping("roles.hierarchy", given.get("hierarchy", {})).items()
        }
        given["fill"] = {
            str(column): _number(f"roles.fill.{column}", value)
            for column, value in _mapping("roles.fill", given.get("fill", {})).items()
        }
        given["kpi_value"] = _number("roles.kpi_value", given.get("kpi_value", 1.0))
        for name in ("kpi_log", "price_log"):  # every word would count as true, "no" as well
            if not isinstance(given.get(name, False), bool):
                raise UserError(f"roles.{name}={given[name]!r} must be true or false.")
        for name in ("kpi_name", "kpi_unit", "money_unit", "price_unit"):
            if not isinstance(given.get(name, ""), str):
                raise UserError(f"roles.{name}={given[name]!r} must be a word for tables and figures.")
        if "population" in given:
            given["population"] = _text("roles.population", given["population"])
        return cls(**given, channels=tuple(channels))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns read as text: date, series keys, hierarchy."""
        return tuple(dict.fromkeys([self.date.column, *self.series, *self.hierarchy.values()]))

    @property
    def drivers(self) -> tuple[Driver, ...]:
        """Prices, promotions and controls."""
        return (*self.price, *self.promotion, *self.control)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns read as numbers, without the KPI."""
        media = [c for channel in self.channels for c in (channel.spend, channel.media, channel.frequency) if c]
        drivers = [c for driver in self.drivers for c in driver.sources]
        return tuple(dict.fromkeys([*media, *drivers, *([self.population] if self.population else [])]))

    @property
    def number_columns(self) -> tuple[str, ...]:
        """Columns read as numbers, the KPI first."""
        return tuple(dict.fromkeys([self.kpi, *self.input_columns]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is needed."""
        return tuple(dict.fromkeys([*self.key_columns, *self.number_columns]))

    def role_of(self, column: str) -> str:
        """In words, what a column was declared to be: "spend of tv"; for messages."""
        if column == self.kpi:
            return "kpi"
        for channel in self.channels:
            for part in ("spend", "exposure", "reach", "frequency"):
                if getattr(channel, part) == column:
                    return f"{part} of {channel.name}"
        for kind in _DIRECTIONS:
            for driver in getattr(self, kind):
                if column in driver.sources:
                    return kind if driver.name == column else f"{kind} {driver.name}"
        if column in self.hierarchy.values():
            return "hierarchy"
        return {self.date.column: "date", self.population: "population"}.get(column, "series key")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not among the known ones: the nearest, or the first few."""
    names = list(dict.fromkeys(str(entry) for entry in known))
    by_fold = {entry.strip().casefold(): entry for entry in names}
    folded = difflib.get_close_matches(str(name).strip().casefold(), by_fold, n=1, cutoff=0.6)
    if folded:
        return f"Did you mean {by_fold[folded[0]]!r}?"
    listed = ", ".join(repr(entry) for entry in names[:12])
    return f"There are {listed}{', ...' if len(names) > 12 else ''}." if names else "There are none."


def _known_keys(place: str, given: Any, known: Iterable[str]) -> None:
    known = sorted(known)
    for key in _mapping(place, given):
        if key not in known:
            raise UserError(f"{place} has no entry {key!r}. {nearest(key, known)}")


def _mapping(place: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{place}={value!r} must be a mapping (name: value).")
    return value


def _text(place: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or str(value) == "":
        raise UserError(f"{place}={value!r} must be the name of a column.")
    return str(value)


def _number(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{place}={value!r} must be a number.")
    return float(value)


def _names(place: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f"{place}={value!r} must be a list of columns, such as [{value}].")
    names = tuple(_text(place, entry) for entry in value)
    if len(set(names)) < len(names):
        raise UserError(f"{place} names {next(n for n in names if names.count(n) > 1)!r} twice; each may stand once.")
    return names


def _date(value: Any) -> DateRole:
    if isinstance(value, DateRole):
        return value
    if not isinstance(value, Mapping):
        return DateRole(_text("roles.date", value))
    _known_keys("roles.date", value, {f.name for f in fields(DateRole)})
    if "column" not in value:
        raise UserError("roles.date.column is missing: name the column of the date.")
    given = {name: entry for name, entry in value.items() if entry is not None}
    if ("origin" in given) != ("step" in given):
        raise UserError(
            "roles.date: `origin` and `step` go together, such as {column: week, origin: 2015-06-28, step: W-SUN}."
        )
    if "origin" in given and "format" in given:
        raise UserError("roles.date: `format` reads dates, `origin` reads numbers of periods; give one of them.")
    given["column"] = _text("roles.date.column", given["column"])
    if "origin" in given:  # YAML reads 2015-06-28 as a date
        given["origin"] = str(given["origin"])
    if not isinstance(given.get("first", 1), int):
        raise UserError(f"roles.date.first={given['first']!r} must be the whole number that stands for the origin.")
    return DateRole(**given)


def _channels(kind: str, value: Any, shared: Any) -> list[Channel]:
    """`media` or `organic`, a list of columns or a mapping."""
    if not isinstance(value, Mapping):
        part = "spend" if kind == "media" else "exposure"
        value = {name: {part: name} for name in _names(f"roles.{kind}", value)}
    parts = ("exposure", "reach", "frequency", *(("spend", "shared") if kind == "media" else ()))
    channels = []
    for name, entry in value.items():
        place = f"roles.{kind}.{name}"
        if isinstance(entry, str):
            entry = {"spend" if kind == "media" else "exposure": entry}
        _known_keys(place, entry, parts)
        given = {
            part: _text(f"{place}.{part}", column) for part, column in entry.items() if column not in (None, False)
        }
        if kind == "media" and shared is not None:
            given.setdefault("shared", shared)
        if given.get("shared", "equal") not in SHARES:
            raise UserError(f"{place}.shared={given['shared']!r}; choose from {', '.join(SHARES)}.")
        if kind == "media" and "spend" not in given:
            raise UserError(
                f"{place} has no spend, so it would have no ROI and no budget: name the column of its money, or move"
                " it to roles.organic if it costs nothing."
            )
        if ("reach" in given) != ("frequency" in given):
            raise UserError(f"{place}: reach and frequency go together; name both columns.")
        if "reach" in given and "exposure" in given:
            raise UserError(f"{place} has an exposure beside reach and frequency; the effect follows one of them.")
        channel = Channel(str(name), **given)
        if not channel.media:
            raise UserError(f"{place} names no column: give `exposure`, or `reach` and `frequency`.")
        channels.append(channel)
    return channels


def _drivers(kind: str, value: Any) -> tuple[Driver, ...]:
    """`price`, `promotion` or `control`, a list of columns or a mapping."""
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple) and value and all(isinstance(entry, Driver) for entry in value):
            return tuple(value)
        value = {name: {"column": name} for name in _names(f"roles.{kind}", value)}
    drivers = []
    for name, entry in value.items():
        place = f"roles.{kind}.{name}"
        if isinstance(entry, str):
            entry = {"column": entry}
        _known_keys(place, entry, {"column", "columns", "match", "others_of", "direction"})
        direction = entry.get("direction") or _DEFAULT_DIRECTION[kind]
        if direction not in _DIRECTIONS[kind]:
            raise UserError(f"{place}.direction={direction!r}; choose from {', '.join(_DIRECTIONS[kind])}.")
        ways = [way for way in ("match", "others_of") if entry.get(way)]
        if (entry.get("column") is None) == (entry.get("columns") is None):
            raise UserError(f"{place}: give either `column`, or `columns` (value: column) with `match` or `others_of`.")
        if len(ways) != (entry.get("columns") is not None):
            raise UserError(f"{place}: `columns` needs one of `match` and `others_of`, the series key that chooses.")
        if "others_of" in ways and kind != "price":
            raise UserError(f"{place}.others_of is for prices: it takes the geometric mean of the others.")
        columns = {
            str(key): _text(f"{place}.columns.{key}", column)
            for key, column in _mapping(f"{place}.columns", entry.get("columns") or {}).items()
        }
        if ways and len(columns) < 2:
            raise UserError(f"{place}.columns has {len(columns)} entries; `{ways[0]}` chooses among 2 or more.")
        drivers.append(
            Driver(
                name=str(name),
                direction=_DIRECTIONS[kind][direction],
                column=None if entry.get("column") is None else _text(f"{place}.column", entry["column"]),
                columns=columns,
                match=entry.get("match"),
                others_of=entry.get("others_of"),
            )
        )
    return tuple(drivers)


def _check(roles: PanelRoles) -> None:
    """What one entry cannot know: names used twice, keys that are no series keys, the KPI among the inputs."""
    keys = set(roles.series)
    for kind in ("series", "channels", "price", "promotion", "control"):
        names = [getattr(entry, "name", entry) for entry in getattr(roles, kind)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            place = "roles.media and roles.organic name" if kind == "channels" else f"roles.{kind} names"
            raise UserError(f"{place} {twice[0]!r} twice; each may stand once.")
    names = [*(channel.name for channel in roles.channels), *(driver.name for driver in roles.drivers)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{twice[0]!r} is the name of two inputs (media, price, promotion, control); rename one.")
    for driver in roles.drivers:
        if driver.key is not None and driver.key not in keys:
            raise UserError(
                f"roles: {driver.name!r} chooses its column by {driver.key!r}, which is not among the series keys"
                f" {list(roles.series)}. {nearest(driver.key, roles.series)}"
            )
    if roles.kpi in roles.input_columns:
        raise UserError(
            f"Column {roles.kpi!r} is the KPI and also {_other_role(roles)}: the model would explain the KPI by itself."
            " Take it out of one of the two."
        )
    if roles.kpi in roles.key_columns:
        raise UserError(f"Column {roles.kpi!r} is the KPI and also the date, a series key or a level; it can be one.")
    unknown = sorted(set(roles.fill) - set(roles.number_columns))
    if unknown:
        raise UserError(
            f"roles.fill names {unknown[0]!r}, which has no role. {nearest(unknown[0], roles.number_columns)}"
        )
    if not roles.kpi_value > 0:
        raise UserError(
            f"roles.kpi_value={roles.kpi_value} must be above 0: the money that one unit of the KPI is worth."
        )
    if "population" in [channel.shared for channel in roles.channels] and roles.population is None:
        raise UserError("A channel is shared by population, but roles.population names no column.")


def _other_role(roles: PanelRoles) -> str:
    for channel in roles.channels:
        if roles.kpi in (channel.spend, channel.media, channel.frequency):
            return f"part of the channel {channel.name!r}"
    for kind in _DIRECTIONS:
        for driver in getattr(roles, kind):
            if roles.kpi in driver.sources:
                return f"the {kind} {driver.name!r}"
    return "the population"
