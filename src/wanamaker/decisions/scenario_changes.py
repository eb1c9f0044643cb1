"""What a scenario changes, read from plain words and numbers.

A scenario maps sections to names to one explicit change each:

    media: {TV: {times: 1.2}, all: {change: -10%}}      channels; `all` is every paid one
    frequency: {video: {set: 3}}                        contacts per person, of as many contacts as before
    price: {own: {times: 0.85}}                         `own` is each series' own price; or the name of a price
    promotion: {display: {set: 1}}                      promotions by name; or directly `display: {set: 1}`
    series: [north]   start: 2024-01-01   end: 2024-03-31     of the whole scenario, or inside one change

    times: 1.2      multiplied by 1.2
    change: -15%    fifteen per cent less (text with a per cent sign)
    change: -0.15   0.15 less, in the unit of the file per period and series: money for paid channels and prices
    set: 0.3        equal to 0.3, in the same unit
    total: 500000   media only: money of all chosen series and periods together, spread as the current spend is

`scenario_plan.apply` makes the changes to a window of the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.decisions.decomposition import nearest_index, read_date, suggestion
from wanamaker.errors import UserError
from wanamaker.predictions.mix import MixResponse

SECTIONS = ("media", "frequency", "price", "promotion", "control")
OPERATIONS = ("times", "change", "set", "total")
LIMITS = ("series", "start", "end")
_PER_CENT = re.compile(r"^\s*([+-]?\s*\d+(?:\.\d+)?)\s*%\s*$")


class MissingName(UserError):
    """A scenario names a channel, price or promotion that the panel does not have."""


@dataclass(frozen=True)
class Change:
    """One change of a scenario.

    Attributes:
        place: where it was written, for messages: "scenario tv_up: media.TV".
        kind: "media", "frequency", or "driver" for prices and promotions.
        numbers: of the channels or drivers; for a series' own price empty.
        name: as written.
        operation: "times", "add", "set" or "total".
        amount: of it; a per cent change is a "times".
        said: the change in words.
        series: numbers of the series, None for all.
        start, end: days, None for the window's.
    """

    place: str
    kind: str
    numbers: tuple[int, ...]
    name: str
    operation: str
    amount: float
    said: str
    series: tuple[int, ...] | None
    start: np.datetime64 | None
    end: np.datetime64 | None


@dataclass(frozen=True)
class Scenario:
    """A named set of changes; none at all is the baseline."""

    name: str
    changes: tuple[Change, ...]
    note: str = ""

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.changes

    def moves_own_price(self, response: MixResponse) -> bool:
        """Whether a series' own price is among what changes."""
        own = set(response.own_price[response.own_price >= 0].tolist())
        return any(c.kind == "driver" and (not c.numbers or own & set(c.numbers)) for c in self.changes)


def read_scenario(
    name: str,
    words: Any,
    response: MixResponse,
    *,
    names: Mapping[str, str | Sequence[str]] | None = None,
    allow_empty: bool = False,
) -> Scenario:
    """Check a scenario against the names of a model.

    Args:
        name: of the scenario.
        words: mapping as described above.
        response: of the model.
        names: from a name in the scenario to the panel's name or names for it.
        allow_empty: take a scenario that changes nothing, the baseline.

    Raises:
        UserError: anything that cannot be understood; `MissingName` when only a name is not of this panel.
    """
    here = f"scenario {name}"
    if not isinstance(words, Mapping):
        raise UserError(f"{here}: {words!r} is no scenario; write it as {{media: {{TV: {{times: 1.2}}}}}}.")
    limits = {key: words[key] for key in LIMITS if words.get(key) is not None}
    note = str(words.get("note") or "")
    changes: list[Change] = []
    for section, content in words.items():
        if section in (*LIMITS, "note"):
            continue
        if section in SECTIONS:
            if not isinstance(content, Mapping):
                raise UserError(
                    f"{here}: {section}={content!r} names no {section}; write {{{section}: {{NAME: {{times: 1.2}}}}}}."
                )
            for target, what in content.items():
                changes += _changes(
                    f"{here}: {section}.{target}", str(section), str(target), what, response, limits, names
                )
        else:  # a channel or driver without its section
            kind = _section_of(str(section), response, names)
            if kind is None:
                known = [*SECTIONS, *response.channels, *response.drivers]
                raise MissingName(
                    f"{here}: there is no section, channel, price or promotion {section!r}."
                    f"{suggestion(str(section), known)}"
                )
            changes += _changes(f"{here}: {section}", kind, str(section), content, response, limits, names)
    if not changes and not allow_empty:
        raise UserError(f"{here} is empty: say what it changes, such as {{media: {{TV: {{times: 1.2}}}}}}.")
    return Scenario(name, tuple(changes), note)


def _section_of(name: str, response: MixResponse, names: Mapping[str, Any] | None) -> str | None:
    target = _panel_names(name, names)[0]
    if _match(target, response.channels) is not None:
        return "media"
    driver = _match(target, response.drivers)
    return None if driver is None else response.driver_kind[driver]


def _changes(
    place: str,
    section: str,
    name: str,
    what: Any,
    response: MixResponse,
    limits: Mapping[str, Any],
    names: Mapping[str, Any] | None,
) -> list[Change]:
    numbers = _numbers(place, section, name, response, names)
    kind = section if section in ("media", "frequency") else "driver"
    return [_one(place, kind, section, numbers, name, item, response, limits) for item in _items(place, what)]


def _items(place: str, what: Any) -> list[Mapping[str, Any]]:
    items = list(what) if isinstance(what, list | tuple) else [what]
    for item in items:
        if not isinstance(item, Mapping):
            raise UserError(
                f"{place}={item!r} does not say how it changes: write {{times: 1.2}} for a multiple, {{change: -15%}} "
                "for per cent, {change: -0.15} for an amount, or {set: 0.3} for a level."
            )
    if not items:
        raise UserError(f"{place} is empty: say how it changes, such as {{times: 1.2}}.")
    return items


def _numbers(
    place: str, section: str, name: str, response: MixResponse, names: Mapping[str, Any] | None
) -> tuple[int, ...]:
    """Channels or drivers meant; () for each series' own price."""
    if section == "media":
        known: Sequence[str] = response.channels
        every = tuple(np.flatnonzero(response.paid).tolist())
    elif section == "frequency":
        of_kind = response.frequency_channels
        known, every = [response.channels[c] for c in of_kind], tuple(of_kind)
        if not known:
            raise MissingName(
                f"{place}: in this model every contact counts alike, whatever the frequency. Train it with reach and "
                "frequency in data.roles and model.net.frequency=hill."
            )
    else:
        of_kind = [d for d, kind in enumerate(response.driver_kind) if kind == section]
        known, every = [response.drivers[d] for d in of_kind], tuple(of_kind)
        if section == "control" and not of_kind:
            raise UserError(
                f"{place}: the model has no curve for controls, so nothing can be said about changing them. "
                f"It has curves for {', '.join([*response.channels, *response.drivers])}."
            )
        if section == "price" and name == "own" and name not in known:
            if (response.own_price < 0).all():
                raise MissingName(
                    f"{place}: no series of this panel has a price of its own. Prices: {known or 'none'}."
                )
            return ()
    found = []
    for target in _panel_names(name, names):
        if target == "all" and _match(target, known) is None:
            if not every:
                raise MissingName(f"{place}: the panel has no {section} at all.")
            return every
        number = _match(target, known)
        if number is None:
            extra = " An entry in decision.names maps a preset's name onto yours." if names is not None else ""
            words = {"media": "channel", "frequency": "channel with a curve over frequency"}
            word = words.get(section, section)
            raise MissingName(f"{place}: there is no {word} {target!r}.{suggestion(target, known)}{extra}")
        found.append(number if section == "media" else of_kind[number])
    return tuple(found)


def known_names(targets: Sequence[str], response: MixResponse, place: str) -> None:
    """Make sure that the panel has what `names` lead to.

    Raises:
        UserError: naming the nearest channel, price or promotion.
    """
    known = [*response.channels, *response.drivers]
    for target in targets:
        if str(target) not in ("all", "own", *SECTIONS) and _match(str(target), known) is None:
            raise UserError(f"{place}: this panel has no {target!r}.{suggestion(str(target), known)}")


def _panel_names(name: str, names: Mapping[str, Any] | None) -> list[str]:
    mapped = (names or {}).get(name, name)
    return [mapped] if isinstance(mapped, str) else [str(m) for m in mapped]


def _match(name: str, known: Sequence[str]) -> int | None:
    """Number of a name; letters' case, spaces and underscores do not matter where only one name fits."""
    if name in known:
        return list(known).index(name)
    plain = [re.sub(r"[\W_]+", "", k).casefold() for k in known]
    wanted = re.sub(r"[\W_]+", "", name).casefold()
    return plain.index(wanted) if plain.count(wanted) == 1 else None


def _one(
    place: str,
    kind: str,
    section: str,
    numbers: tuple[int, ...],
    name: str,
    item: Mapping[str, Any],
    response: MixResponse,
    limits: Mapping[str, Any],
) -> Change:
    unknown = [key for key in item if key not in (*OPERATIONS, *LIMITS)]
    if unknown:
        raise UserError(f"{place}: there is no {unknown[0]!r} here.{suggestion(unknown[0], (*OPERATIONS, *LIMITS))}")
    given = [key for key in OPERATIONS if key in item]
    if len(given) > 1:
        said = " and ".join(f"{key}={item[key]}" for key in given)
        raise UserError(f"{place}: {said} contradict each other; give one, or a list of changes to make in order.")
    if not given:
        raise UserError(f"{place}: says neither {', '.join(OPERATIONS[:-1])} nor {OPERATIONS[-1]}.")
    unit = "contacts per person" if kind == "frequency" else _unit(kind, section, numbers, response)
    operation, amount, said = _amount(place, given[0], item[given[0]], unit)
    if operation == "total" and (kind != "media" or not all(response.paid[c] for c in numbers)):
        raise UserError(f"{place}: total is money spread over periods and series, for paid channels only. Use set.")
    if operation == "total" and len(numbers) > 1:
        raise UserError(f"{place}: a total belongs to one channel; give each its own.")
    chosen = {**limits, **{key: item[key] for key in LIMITS if item.get(key) is not None}}
    series = None
    if "series" in chosen:
        wanted = chosen["series"] if isinstance(chosen["series"], list | tuple) else [chosen["series"]]
        if not wanted:
            raise UserError(f"{place}: series is empty, so nothing would change. Name some, or leave it out for all.")
        series = tuple(nearest_index(str(s), response.series, "series", place) for s in wanted)
        said += f" in {', '.join(response.series[g] for g in series[:5])}" + (" and others" if len(series) > 5 else "")
    start, end = (read_date(chosen[k], f"{place}.{k}") if k in chosen else None for k in ("start", "end"))
    said += f" from {start}" if start is not None else ""
    said += f" to {end}" if end is not None else ""
    if start is not None and end is not None and end < start:
        raise UserError(f"{place}: end={end} lies before start={start}.")
    return Change(place, kind, numbers, name, operation, amount, said, series, start, end)


def _unit(kind: str, section: str, numbers: tuple[int, ...], response: MixResponse) -> str:
    if kind == "media":
        paid = [bool(response.paid[c]) for c in numbers]
        return response.money_unit if all(paid) else "media units"
    return response.price_unit if section == "price" else ""


def _amount(place: str, key: str, value: Any, unit: str) -> tuple[str, float, str]:
    """Operation, amount and words."""
    share = _PER_CENT.match(value) if isinstance(value, str) else None
    if share and key == "change":
        number = float(share.group(1).replace(" ", "")) / 100
        if number < -1:
            raise UserError(f"{place}: change={value} takes away more than there is; -100% is nothing left.")
        return "times", 1 + number, f"{100 * number:+g} %"
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        hint = "a number, or per cent as text such as -15%" if key == "change" else "a number"
        raise UserError(f"{place}: {key}={value!r} must be {hint}.")
    number, unit = float(value), f" {unit}" if unit else ""
    if key in ("times", "total") and number < 0:
        raise UserError(f"{place}: {key}={value} is below 0. To take something away write {{change: -15%}}.")
    said = {
        "times": f"x {number:g}",
        "change": f"{number:+,.6g}{unit} in every period",
        "set": f"= {number:,.6g}{unit} in every period",
        "total": f"= {number:,.6g}{unit} in total",
    }[key]
    return "add" if key == "change" else key, number, said
