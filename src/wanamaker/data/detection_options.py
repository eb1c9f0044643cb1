"""Options of detection data modules that need more than a type to be right."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wanamaker.errors import UserError

_SPLIT_KEYS = ("images", "annotations", "subset")


class CocoSplit(NamedTuple):
    """Where a split lies; `subset` is [start, stop] over the images in file order, or None for all."""

    images: Path
    annotations: Path
    subset: list[int] | None


def parse_split(name: str, spec: Mapping[str, Any]) -> CocoSplit:
    for key in spec:
        if key not in _SPLIT_KEYS:
            near = difflib.get_close_matches(str(key), _SPLIT_KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(_SPLIT_KEYS)}."
            raise UserError(f"data.{name}.{key} is no key of a split{hint}")
    for key in ("images", "annotations"):
        if not spec.get(key):
            raise UserError(f"data.{name}.{key} is missing; a split needs the image folder and the annotation file.")
    subset = spec.get("subset")
    return CocoSplit(Path(spec["images"]), Path(spec["annotations"]), None if subset is None else list(subset))


def parse_sides(short_side: int | Sequence[int], max_side: int, name: str = "short_side") -> list[int]:
    sides = [short_side] if isinstance(short_side, int) else list(short_side)
    if not sides or any(not isinstance(side, int) or not 16 <= side <= max_side for side in sides):
        raise UserError(
            f"data.{name}={short_side}: give whole pixels from 16 to data.max_side={max_side}, or a list of them."
        )
    return sides


def parse_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise UserError(f"data.{name}={value} is unknown; choose one of {', '.join(allowed)}.")
    return value
