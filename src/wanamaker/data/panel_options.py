"""Nested options of a data config: defaults filled in, unknown and missing keys refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from wanamaker.errors import UserError


def options_of(place: str, value: Any, defaults: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """`value` over `defaults`, with unknown and missing keys refused."""
    if value is None:
        return dict(defaults)
    if not isinstance(value, Mapping):
        raise UserError(f"{place}={value!r} is no mapping; its keys are {', '.join(defaults)}.")
    for key in value:
        if key not in defaults:
            near = difflib.get_close_matches(str(key), defaults, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Its keys are {', '.join(defaults)}."
            raise UserError(f"{place}.{key} is no option. {hint}")
    merged = {**defaults, **value}
    for key in required:
        if not merged[key]:
            raise UserError(f"{place}.{key} is missing.")
    return merged
