"""Which customers are learnt from and which are kept for the judgement.

A table in memory is split by a seeded permutation within strata (arm and whether the first outcome happened), so that
rare outcomes lie in every part alike. A streamed table, and one whose identifiers repeat, is split by a hash of the
identifier: a customer is never in two parts, whatever the order of the rows.

Axis letters: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.sampler import seeded_permutation, stable_seed
from wanamaker.errors import UserError

SPLITS = ("train", "val", "test", "none")  # codes of rows; none: not labelled, or of an arm that is left out
TRAIN, VAL, TEST, NONE = range(4)
_WAYS = ("random", "hash", "column")
_DEFAULTS = {"val": 0.0, "test": 0.3, "by": "random", "seed": 0, "stratify": True, "column": None}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def parse_experiment_split(split: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options `{val, test, by, seed, stratify, column}` with defaults filled in.

    Raises:
        UserError: naming the option.
    """
    options = options_of("data.split", split, _DEFAULTS)
    check_split(options, _WAYS)
    check_sum(options)
    if isinstance(options["seed"], bool) or not isinstance(options["seed"], int):
        raise UserError(f"data.split.seed={options['seed']!r} must be a whole number.")
    if not isinstance(options["stratify"], bool):
        raise UserError(f"data.split.stratify={options['stratify']!r} must be true or false.")
    return options


def check_split(options: Mapping[str, Any], ways: tuple[str, ...]) -> None:
    """Check `by`, `column`, `val` and `test`, which every split of a table has.

    Args:
        options: of the split.
        ways: what `by` may be.

    Raises:
        UserError: naming the option.
    """
    if options["by"] not in ways:
        raise UserError(f"data.split.by={options['by']!r}; choose from {', '.join(ways)}.")
    if (options["by"] == "column") != (options["column"] is not None):
        raise UserError(
            f"data.split.by={options['by']} and data.split.column={options['column']!r}: a column that holds train, val"
            " and test goes with by: column."
        )
    for name in ("val", "test"):
        share = options[name]
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"data.split.{name}={share!r} must be a share between 0 and 1.")


def check_sum(options: Mapping[str, Any]) -> None:
    """Check that something is left to train on, as far as `val` and `test` say it.

    Raises:
        UserError: naming both.
    """
    if options["val"] + options["test"] > 1:
        raise UserError(
            f"data.split.val={options['val']} and data.split.test={options['test']} exceed 1 together; lower one."
        )


def mixed(numbers: np.ndarray) -> np.ndarray:
    """A well-spread uint64 [N] of each whole number: SplitMix64 (Steele et al., 2014), the same on every machine."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.int64).view(np.uint64) + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def split_randomly(strata: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Codes of the rows, uint8 [N]; shares hold in every stratum up to one row.

    Args:
        strata: int64 [N].
        options: from `parse_experiment_split`.
    """
    order = seeded_permutation(len(strata), stable_seed(options["seed"], len(strata)))
    if options["stratify"]:
        order = order[np.argsort(strata[order], kind="stable")]
    codes = np.full(len(strata), TRAIN, np.uint8)
    test = _every(len(order), options["test"])
    codes[order[test]] = TEST
    rest = order[~test]
    if options["val"]:
        codes[rest[_every(len(rest), options["val"] / (1 - options["test"]))]] = VAL
    return codes


def _every(count: int, share: float) -> np.ndarray:
    """bool [count]: a share of the places, evenly spaced; of rows in random order within strata, a stratified draw."""
    steps = np.floor(np.arange(count + 1) * share + 0.5 + 1e-9)
    return np.diff(steps) > 0


def split_by_hash(key: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Codes of the rows, uint8 [N], by the customer alone.

    Args:
        key: int64 [N], see `UpliftBatch.key`.
        options: from `parse_experiment_split`.
    """
    seed = np.int64(stable_seed(options["seed"], 1))
    place = mixed(key ^ seed) / np.float64(2**64)
    codes = np.full(len(key), TRAIN, np.uint8)
    codes[place < options["val"] + options["test"]] = VAL
    codes[place < options["test"]] = TEST
    return codes


def split_by_column(code: np.ndarray, values: list[str], column: str, source: str) -> np.ndarray:
    """Codes of the rows, uint8 [N], as a column says.

    Args:
        code: int [N], index into `values`.
        values: of the column; "" and "none" leave the row out.
        column: its name, for messages.
        source: name of the file, for messages.

    Raises:
        UserError: a value that is no part of a split.
    """
    for value in values:
        if value not in (*SPLITS, ""):
            raise UserError(
                f"column {column!r} of {source} (data.split.column) holds {value!r}, which is none of train, val, test,"
                f" none. {nearest(value, SPLITS)}"
            )
    table = np.array([SPLITS.index(value or "none") for value in values] or [NONE], np.uint8)
    return table[code]
