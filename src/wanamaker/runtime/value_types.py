"""Values of a recipe against the annotations of the target they are meant for.

Hydra hands on whatever was typed: `group_by_aspect=no` is a word, and every word counts as true; `batch_size=abc` ends
in a TypeError somewhere. What a signature says of a value is enough to tell before anything is built.
"""

import collections.abc as abc
import os
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

_LISTS = (abc.Sequence, abc.Iterable, abc.Collection, list, tuple, set, frozenset)
_MAPPINGS = (abc.Mapping, abc.MutableMapping, dict)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", Path: "a path"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}


@cache
def hints_of(target: str) -> dict[str, Any]:
    """Annotations of a target's arguments; none where they name what only a type checker imports."""
    found = get_object(target)
    try:
        return get_type_hints(found.__init__ if isinstance(found, type) else found, include_extras=False)
    except (NameError, TypeError, AttributeError):
        return {}


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value of a recipe can be meant for an annotation; what the annotation leaves open is accepted.

    Stricter than Python: true is no number and a word is no list of letters. Milder: a list serves as a tuple, and a
    word as a path.

    Args:
        hint: An annotation, its names resolved.
        value: A plain value: None, bool, int, float, str, list or dict.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return True
    if origin in (Union, types.UnionType):
        return any(accepts(choice, value) for choice in arguments)
    if origin is Annotated:
        return accepts(arguments[0], value)
    if origin is Literal:
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in arguments)
    if hint in (None, types.NoneType):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint in (Path, os.PathLike) or origin is os.PathLike:
        return isinstance(value, str)
    kind = origin or hint
    if kind in _LISTS:
        return isinstance(value, list) and _accepts_items(kind, arguments, value)
    if kind in _MAPPINGS:
        return isinstance(value, dict) and all(accepts(arguments[1], v) for v in value.values() if len(arguments) == 2)
    if kind is abc.Callable:
        return False  # what can be called has a `_target_`, and is no plain value
    # Of any other class there may be a way from a word or a mapping, and none from a number.
    return not isinstance(hint, type) or isinstance(value, str | list | dict)


def _accepts_items(kind: Any, arguments: tuple[Any, ...], value: list[Any]) -> bool:
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, arguments, value))
    return not arguments or all(accepts(arguments[0], item) for item in value)


def innermost(hint: Any, value: Any, place: str) -> tuple[Any, Any, str]:
    """Where within a value that is not accepted the mistake stands.

    Returns:
        The annotation, the value and the place of the smallest part that is wrong.
    """
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for choice in choices:
        kind, arguments = get_origin(choice) or choice, get_args(choice)
        if isinstance(value, dict) and kind in _MAPPINGS and len(arguments) == 2:
            parts = [(arguments[1], part, f"{place}.{key}") for key, part in value.items()]
        elif isinstance(value, list) and kind in _LISTS and kind is not tuple and arguments:
            parts = [(arguments[0], part, f"{place}[{i}]") for i, part in enumerate(value)]
        else:
            continue
        for part in parts:
            if not accepts(*part[:2]):
                return innermost(*part)
    return hint, value, place


def words(hint: Any) -> str:
    """What an annotation asks for: "a whole number or null"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        choices = [choice for choice in arguments if not (choice is int and float in arguments)]
        named = dict.fromkeys(filter(None, (words(c) for c in sorted(choices, key=lambda c: c is types.NoneType))))
        *most, last = named
        return f"{', '.join(most)} or {last}" if most else last
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if hint in (None, types.NoneType):
        return "null"
    if hint in _WORDS:
        return _WORDS[hint]
    kind = origin or hint
    if kind in _LISTS:
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)} {_PLURALS.get(arguments[0], 'values')}"
        return f"a list of {_PLURALS.get(arguments[0], 'values')}" if arguments else "a list"
    if kind in _MAPPINGS:
        return "a mapping {NAME: VALUE}"
    return "" if not isinstance(hint, type) else f"a {hint.__name__}"


def has_target(value: Any) -> bool:
    """Whether something in a value is still to be built."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(has_target, value.values()))
    return isinstance(value, list) and any(map(has_target, value))
