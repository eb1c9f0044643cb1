"""Numbers of a recipe that count something: units, members, pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wanamaker.data.experiment_survey import QUANTILES
from wanamaker.errors import UserError
from wanamaker.nn.tabular import LOG


def check_counts(place: str, values: Mapping[str, tuple[Any, int]]) -> None:
    """Make sure that options are whole numbers.

    Args:
        place: of the options, such as "model.net".
        values: option -> (value, least).

    Raises:
        UserError: naming one that is not.
    """
    for name, (value, least) in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{place}.{name}={value!r}: give a whole number of at least {least}.")


def check_units(place: str, values: Sequence[Any]) -> None:
    """Make sure that layers have units, such as `hidden: [64, 32]`.

    Raises:
        UserError: no list, or a layer without units.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{place}={values!r}: list the units of each layer, such as [64, 32].")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{place}={list(values)!r}: each layer needs a whole number of units of at least 1.")


def check_inputs(place: str, pieces: Any, log: Any, embed_above: Any, embedding: Any) -> None:
    """Make sure that the options of a `FeatureEncoder` can be such.

    Raises:
        UserError: naming one that is not.
    """
    check_counts(place, {"pieces": (pieces, 0), "embed_above": (embed_above, 0), "embedding": (embedding, 1)})
    if pieces > QUANTILES:
        raise UserError(f"{place}.pieces={pieces}: a column has {QUANTILES} pieces at most; 8 to 32 are usual.")
    if log not in LOG:
        raise UserError(f"{place}.log={log!r}: choose from {', '.join(LOG)}.")
