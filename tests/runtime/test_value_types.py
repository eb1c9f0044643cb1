"""Values against annotations, and that every recipe of the house keeps to them."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT
from wanamaker.runtime import value_types
from wanamaker.runtime.checks import nodes_with_target

RIGHT = [
    (int, 3),
    (float, 3),
    (float, 0.5),
    (int | None, None),
    (bool, False),
    (str | Path, "a"),
    (os.PathLike, "a"),
    (Sequence[int], [1, 2]),
    (tuple[float, float], [1, 2.5]),
    (tuple[int, ...], [1, 2, 3]),
    (Mapping[str, float], {"a": 1}),
    (dict, {}),
    (Literal["min", "max"], "min"),
    (int | Sequence[int], 5),
    (Callable[..., int] | None, None),
    (timedelta, {"minutes": 1}),
    (Any, True),
]
WRONG = [
    (int, True, "a whole number"),
    (int, 0.5, "a whole number"),
    (int, "abc", "a whole number"),
    (float, "1.2.3", "a number"),
    (bool, "no", "true or false"),
    (bool, 1, "true or false"),
    (int | None, "abc", "a whole number or null"),
    (None | str, 3, "a word or null"),
    (int | float, "x", "a number"),
    (Sequence[str], "abc", "a list of words"),
    (Sequence[int] | None, [1, "a"], "a list of whole numbers or null"),
    (tuple[float, float], [1.0], "a list of 2 numbers"),
    (Mapping[str, float], {"a": "b"}, "a mapping {NAME: VALUE}"),
    (Mapping[str, float], [1], "a mapping {NAME: VALUE}"),
    (Literal["min", "max"], "up", "one of min, max"),
    (Callable[..., int], 3, ""),
    (timedelta, 3, "a timedelta"),
    (str, None, "a word"),
]


@pytest.mark.parametrize(("hint", "value"), RIGHT)
def test_right(hint: Any, value: Any) -> None:
    assert value_types.accepts(hint, value)


@pytest.mark.parametrize(("hint", "value", "told"), WRONG)
def test_wrong_and_what_is_asked_for(hint: Any, value: Any, told: str) -> None:
    assert not value_types.accepts(hint, value)
    assert value_types.words(hint) == told


@pytest.mark.parametrize(
    ("hint", "value", "place", "told"),
    [
        (Mapping[str, int], {"a": 1, "b": 1.5}, "x.b", "a whole number"),
        (Mapping[str, Sequence[float]] | None, {"a": [1, "b"]}, "x.a[1]", "a number"),
        (Sequence[Mapping[str, str]], [{"a": "b"}, {"a": 3}], "x[1].a", "a word"),
        (int | Sequence[int], "abc", "x", "a whole number or a list of whole numbers"),
        (tuple[float, float], [1], "x", "a list of 2 numbers"),
    ],
)
def test_the_innermost_place(hint: Any, value: Any, place: str, told: str) -> None:
    wrong, _, where = value_types.innermost(hint, value, "x")
    assert (where, value_types.words(wrong)) == (place, told)


def test_of_a_target() -> None:
    hints = value_types.hints_of("wanamaker.data.shelf.ShelfDataModule")
    assert value_types.accepts(hints["short_side"], [192, 224])
    assert not value_types.accepts(hints["group_by_aspect"], "no")
    assert value_types.hints_of("lightning.pytorch.Trainer")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_every_recipe_keeps_to_the_annotations(file: Path) -> None:
    for path, node in nodes_with_target(OmegaConf.load(file), ""):
        hints = value_types.hints_of(str(node["_target_"]))
        for key, value in OmegaConf.to_container(node, resolve=False).items():
            later = isinstance(value, str) and ("${" in value or value == "???")
            if key in hints and not later and not value_types.has_target(value):
                assert value_types.accepts(hints[key], value), f"{path}.{key}={value}: {value_types.words(hints[key])}"
