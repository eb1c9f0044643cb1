"""Which customers are learnt from and which are kept for the judgement.

| by | test and validation rows |
|---|---|
| random | a seeded draw, stratified by whether the first task's label is above 0 |
| hash | by a hash of the identifier: a customer stays where it is as the table grows |
| time | the latest rows are test, those before them validation; rows of one moment stay together |
| column | as a column says: train, val, test or none |

With `folds: K` the test rows are fold `fold` of K, and `test` counts for nothing: of the usable rows in the order of
the table, scikit-learn's `StratifiedKFold(K, shuffle=True, random_state=seed + repeat).split(rows, label > 0)`, so that
other libraries can be measured on the same rows (`StratifiedGroupKFold` by customer where identifiers repeat). Where
identifiers repeat, `by: random` splits by hash: a customer is never in two parts.

With `val: 0` there are no validation rows; training rows serve in their place.

Axis letters: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.event_tasks import MOST_DAYS, is_days
from wanamaker.data.experiment_split import (
    NONE,
    TEST,
    TRAIN,
    VAL,
    check_split,
    check_sum,
    split_by_hash,
    split_randomly,
)
from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

WAYS = ("random", "hash", "time", "column")
_DEFAULTS = {
    "val": 0.0,
    "test": 0.3,
    "by": "random",
    "seed": 0,
    "stratify": True,
    "column": None,
    "embargo": 0,
    "folds": None,
    "fold": 0,
    "repeat": 0,
}
_DAY = 86_400  # seconds


@dataclass(frozen=True)
class SplitFacts:
    """What a split looks at.

    Attributes:
        usable: bool [N], rows with a label; the others are "none".
        positive: bool [N], the first task's label is above 0; all False for a regression.
        key: int64 [N], hash of the identifier; None where no option needs it.
        moment: datetime64[s] [N]; None likewise.
        column: uint8 [N], codes that `split.column` says; None likewise.
        repeated: identifiers may repeat.
    """

    usable: np.ndarray
    positive: np.ndarray
    key: np.ndarray | None = None
    moment: np.ndarray | None = None
    column: np.ndarray | None = None
    repeated: bool = False


def parse_split(split: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options `{val, test, by, seed, stratify, column, embargo, folds, fold, repeat}` with defaults filled in.

    Raises:
        UserError: naming the option.
    """
    options = options_of("data.split", split, _DEFAULTS)
    check_split(options, WAYS)
    if options["folds"] is None:
        check_sum(options)
    for name, least in (("seed", 0), ("fold", 0), ("repeat", 0), ("folds", 2)):
        value = options[name]
        if name == "folds" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"data.split.{name}={value!r} must be a whole number, {least} or more.")
    embargo = options["embargo"]
    if not is_days(embargo, zero=True):
        raise UserError(f"data.split.embargo={embargo!r} must be a number of days, 0 or more, at most {MOST_DAYS:,}.")
    if not isinstance(options["stratify"], bool):
        raise UserError(f"data.split.stratify={options['stratify']!r} must be true or false.")
    if embargo and options["by"] != "time":
        raise UserError(f"data.split.embargo={embargo} belongs to by: time, not to by: {options['by']}.")
    if options["folds"] is None:
        for name in ("fold", "repeat"):
            if options[name]:
                raise UserError(f"data.split.{name}={options[name]} belongs to data.split.folds, which is null.")
    elif options["fold"] >= options["folds"]:
        raise UserError(
            f"data.split.fold={options['fold']}: of {options['folds']} folds the last is number {options['folds'] - 1}."
        )
    elif options["by"] not in ("random", "hash"):
        raise UserError(
            f"data.split.folds={options['folds']} draws rows at random, which by: {options['by']} does not;"
            " drop one of the two."
        )
    return options


def split_rows(facts: SplitFacts, options: Mapping[str, Any]) -> np.ndarray:
    """Codes of the rows, uint8 [N], index into `experiment_split.SPLITS`.

    Args:
        facts: of all rows.
        options: from `parse_split`.

    Raises:
        UserError: too few rows for the folds, or a moment that is missing.
    """
    codes = np.full(len(facts.usable), NONE, np.uint8)
    chosen = np.flatnonzero(facts.usable)
    if facts.column is not None:
        codes[chosen] = facts.column[chosen]
    elif options["folds"] is not None:
        codes[chosen] = _by_fold(facts, chosen, options)
    elif options["by"] == "time":
        codes[chosen] = _by_time(facts.moment[chosen], options)
    elif options["by"] == "hash" or facts.repeated:
        codes[chosen] = split_by_hash(facts.key[chosen], options)
    else:
        codes[chosen] = split_randomly(facts.positive[chosen].astype(np.int64), options)
    return codes


def _by_fold(facts: SplitFacts, chosen: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    label, folds = facts.positive[chosen], options["folds"]
    fewest = min(int(label.sum()), int((~label).sum())) if label.any() else len(label)
    if fewest < folds:
        raise UserError(
            f"data.split.folds={folds}, but the rarer outcome of the first task has {fewest} rows: every fold needs"
            " one; use fewer folds."
        )
    kind = StratifiedGroupKFold if facts.repeated else StratifiedKFold
    cut = kind(folds, shuffle=True, random_state=options["seed"] + options["repeat"])
    parts = cut.split(np.zeros(len(label)), label, facts.key[chosen] if facts.repeated else None)
    rest, test = next(part for fold, part in enumerate(parts) if fold == options["fold"])
    codes = np.full(len(label), TRAIN, np.uint8)
    codes[test] = TEST
    left = {**options, "test": 0.0}
    if options["val"] and facts.repeated:
        codes[rest] = split_by_hash(facts.key[chosen][rest], left)
    elif options["val"]:
        codes[rest] = split_randomly(label[rest].astype(np.int64), left)
    return codes


def _by_time(moment: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Codes of rows with a moment. A row belongs to training if `embargo` days later validation has not begun yet."""
    codes = np.full(len(moment), TRAIN, np.uint8)
    if not len(moment):
        return codes
    seconds = moment.astype("datetime64[s]").astype(np.int64)
    ordered = np.sort(seconds)
    gap = round(options["embargo"] * _DAY)
    for code, share in ((VAL, options["val"] + options["test"]), (TEST, options["test"])):
        place = len(ordered) - round(share * len(ordered))
        if share == 0 or place >= len(ordered):
            continue
        start = ordered[place]
        codes[(seconds < start) & (seconds + gap > start)] = NONE
        codes[seconds >= start] = code
    return codes
