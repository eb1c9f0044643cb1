"""Options as frozen dataclasses whose fields know their range, and mappings that become such options.

A wrong value is refused wherever it enters, with its place, what is allowed and the nearest name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from wanamaker.errors import UserError

T = TypeVar("T")


def number(default: float | None, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A real number in [low, high]; `open_low` leaves out `low` itself; None is allowed where it is the default."""
    rule = {"kind": "number", "low": low, "high": high, "open_low": open_low, "optional": default is None}
    return field(default=default, metadata=rule)


def whole(default: int, low: int = 0, high: float = math.inf) -> Any:
    """A whole number in [low, high]."""
    return field(default=default, metadata={"kind": "whole", "low": low, "high": high})


def flag(default: bool) -> Any:
    """True or false."""
    return field(default=default, metadata={"kind": "flag"})


def choice(default: str, names: Sequence[str]) -> Any:
    """One of some words."""
    return field(default=default, metadata={"kind": "choice", "names": tuple(names)})


def text(default: str) -> Any:
    """Any words, not none."""
    return field(default=default, metadata={"kind": "text"})


PART = {"kind": "part"}
"""Of a field that holds options of its own."""


def refuse(place: str, value: Any, remedy: str) -> UserError:
    """The one form of a message about an option."""
    return UserError(f"{place}={value!r}: {remedy}")


def nearest(name: str, known: Sequence[str]) -> str:
    """' Did you mean ...?' or nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def checked(value: Any, rule: Mapping[str, Any], place: str) -> Any:
    """The value as its field holds it.

    Raises:
        UserError: naming place, value and what is allowed.
    """
    kind = rule["kind"]
    if kind in ("number", "whole"):
        return _checked_number(value, rule, place)
    if kind == "flag" and not isinstance(value, bool):
        raise refuse(place, value, "give true or false.")
    if kind == "text" and not (isinstance(value, str) and value.strip()):
        raise refuse(place, value, "give a name.")
    if kind == "choice" and value not in rule["names"]:
        raise refuse(place, value, f"choose one of {', '.join(rule['names'])}.{nearest(value, rule['names'])}")
    return value


def _checked_number(value: Any, rule: Mapping[str, Any], place: str) -> float | int | None:
    if value is None and rule.get("optional"):
        return None
    low, high, is_whole = rule["low"], rule["high"], rule["kind"] == "whole"
    allowed = (
        f"give {'a whole number' if is_whole else 'a number'}"
        + (f" {'above' if rule.get('open_low') else 'from'} {low:g}" if low > -math.inf else "")
        + (f" up to {high:g}" if high < math.inf else "")
        + "."
    )
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse(place, value, allowed)
    below = value <= low if rule.get("open_low") else value < low
    if below or value > high or (is_whole and value != int(value)):
        raise refuse(place, value, allowed)
    return int(value) if is_whole else float(value)


def check_fields(options: Any) -> None:
    """Check every field of a frozen dataclass, and store whole numbers and floats as such; for `__post_init__`."""
    for known in fields(options):
        place = f"{type(options).__name__}.{known.name}"
        object.__setattr__(options, known.name, checked(getattr(options, known.name), known.metadata, place))


def changed(options: T, overrides: Mapping[str, Any], place: str, **ready: Any) -> T:
    """`options` with single values replaced; null keeps what is there.

    Args:
        options: A dataclass made of the fields above.
        overrides: Name to value; to a mapping where the field holds options of its own.
        place: Where the mapping stands, for messages.
        **ready: Further fields with values that are checked already.

    Raises:
        UserError: a name that does not exist, a value out of range; with place and the nearest name.
    """
    if not isinstance(overrides, Mapping):
        raise refuse(place, overrides, "give a mapping of option to value.")
    known = {one.name: one for one in fields(options)}  # type: ignore[arg-type]
    values: dict[str, Any] = dict(ready)
    for name, value in overrides.items():
        if name not in known:
            hint = nearest(name, list(known))
            raise UserError(f"{place}.{name} does not exist; choose from {', '.join(known)}.{hint}")
        now = getattr(options, name)
        if value is None:
            continue
        if is_dataclass(now):
            values[name] = changed(now, value, f"{place}.{name}")
        else:
            values[name] = checked(value, known[name].metadata, f"{place}.{name}")
    return replace(options, **values) if values else options  # type: ignore[type-var]


def day_of(name: str, value: str, example: str) -> np.datetime64:
    """The day that an option names.

    Raises:
        UserError: it is none.
    """
    try:
        found = np.datetime64(value, "D")
    except ValueError as error:
        raise refuse(name, value, f"write a day, such as {example}.") from error
    if np.isnat(found):
        raise refuse(name, value, f"write a day, such as {example}.")
    return found


def folder_of(size: str, options: Any, **version: int) -> str:
    """A folder's name that begins with a size, and changes with every option and with the simulator.

    Args:
        size: for who looks for it, such as "300x240".
        options: a dataclass.
        **version: what else decides the numbers.
    """
    content = json.dumps({**asdict(options), **version}, sort_keys=True)
    return f"{size}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def preset_named(presets: Mapping[str, T], preset: str, place: str = "simulation") -> T:
    """A complete set of options by its name.

    Args:
        presets: by name.
        preset: the name.
        place: where what changes in it stands, for messages: the preset's name stands beside it.

    Raises:
        UserError: there is none, with the choices.
    """
    if preset not in presets:
        known, beside = ", ".join(presets), place.removesuffix("simulation")
        raise UserError(
            f"{beside}preset={preset!r} does not exist; choose one of {known}.{nearest(preset, list(presets))}"
        )
    return presets[preset]


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Say where options stand that disagree: the dataclass that finds it does not know."""
    try:
        yield
    except UserError as error:
        said = str(error)
        raise error if said.startswith(place) else UserError(f"{place}.{said}") from error


def changed_preset(presets: Mapping[str, T], preset: str, overrides: Mapping[str, Any] | None, place: str) -> T:
    """A preset with single options changed; null keeps the preset's value.

    Raises:
        UserError: an unknown preset or option, a value out of range, with its place and the choices.
    """
    start = preset_named(presets, preset, place)
    with placed(place):
        return changed(start, overrides or {}, place)


def restored(kind: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `dataclasses.asdict`, also after a trip through JSON."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            value = restored(hint, value)  # type: ignore[arg-type]
        elif isinstance(value, list | tuple):
            of = get_args(hint)[0]
            value = tuple(restored(of, one) if is_dataclass(of) else one for one in value)
        found[name] = value
    return kind(**found)


def changed_parts(
    start: Sequence[T], known: Mapping[str, T], plain: T, wanted: Any, place: str, word: str
) -> tuple[T, ...]:
    """Named parts of a preset, such as channels or offers, with what a user wants of them.

    Args:
        start: the preset's.
        known: others that may be asked for by name.
        plain: what a part with a new name begins as.
        wanted: nothing; a mapping of name to changes in the preset's parts; or a list of all parts there shall be,
            names or mappings with a `name` and what differs from the part of that name.
        place: where it stands, for messages.
        word: what a part is called, such as "channel".

    Raises:
        UserError: an unknown name or option, with its place and the choices.
    """
    if wanted is None or wanted == {}:
        return tuple(start)
    if wanted == []:
        raise refuse(place, wanted, f"name at least one {word}, or leave it null to keep those of the preset.")
    known = {**known, **{part.name: part for part in start}}
    if isinstance(wanted, Mapping):
        mine = [part.name for part in start]
        if unknown := [name for name in wanted if name not in mine]:
            raise UserError(
                f"{place}.{unknown[0]} is no {word} of this preset ({', '.join(mine)}).{nearest(unknown[0], mine)} A"
                f" list instead of a mapping says which {word}s there are."
            )
        return tuple(changed(part, wanted.get(part.name) or {}, f"{place}.{part.name}") for part in start)
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise refuse(place, wanted, f"give a mapping of {word} name to changes, or a list of {word}s.")
    result = []
    for number, entry in enumerate(wanted):
        spot = f"{place}[{number}]"
        changes = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(changes, Mapping) or not changes.get("name"):
            raise refuse(spot, entry, f"give the name of a known {word}, or a mapping with a name.")
        if isinstance(entry, str) and entry not in known:
            raise UserError(
                f"{spot}={entry!r} is unknown; choose from {', '.join(known)}.{nearest(entry, list(known))}"
            )
        result.append(changed(known.get(changes["name"], plain), changes, spot))
    return tuple(result)
