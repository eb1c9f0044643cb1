"""Splits of a panel by time: a hold-out at the end, or walk-forward folds. Never by row.

A split is three runs of whole periods, so that no date lies on two sides, whatever the number of series:

    history only | train | gap | val | gap | test | later (of an earlier fold)

Walk-forward folds are laid from the end of the panel backwards, `step` periods apart; with the default step, the length
of the test, every period is tested at most once. `expanding` folds all begin at the first period, `sliding` folds train
on the last `window` periods only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.panel_options import options_of
from wanamaker.errors import UserError

SPLITS = ("train", "val", "test", "none")
"""Codes of `split_codes`, in the order that predictions use too."""
SCHEMES = ("holdout", "expanding", "sliding")
_STAGE_NEEDS = {"fit": "train", "validate": "val", "test": "test"}

_DEFAULTS: dict[str, Any] = {
    "scheme": "holdout",
    "val": None,
    "test": None,
    "gap": 0,
    "folds": None,
    "fold": None,
    "window": None,
    "step": None,
}


@dataclass(frozen=True)
class TimeSplit:
    """Runs of periods [start, stop), numbered from the first period of the panel; empty where start == stop."""

    train: tuple[int, int]
    val: tuple[int, int]
    test: tuple[int, int]

    def codes(self, periods: int) -> np.ndarray:
        """Index into `SPLITS` per period, int64 [T]."""
        codes = np.full(periods, SPLITS.index("none"), np.int64)
        for code, (start, stop) in enumerate((self.train, self.val, self.test)):
            codes[start:stop] = code
        return codes


def parse_split(split: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the `split` of a data config as far as possible without dates.

    Args:
        split: Keys, all optional:
            scheme: `holdout`, `expanding` or `sliding`.
            val, test: number of periods; or a fraction of all periods, such as 0.15; or (hold-out only) the date of
                the first period. null or 0 for none. `test` is the end of the panel, `val` lies before it.
            gap: periods left out between training and what follows, and between val and test (embargo).
            folds: number of walk-forward folds; null for as many as fit.
            fold: which of them this run trains, 0 is the earliest; null is the last.
            window: training periods of a sliding fold (required); the fewest of an expanding one (null: half of all);
                with holdout, train on the last `window` periods before val only.
            step: periods from one fold to the next; null is the length of `test`.

    Raises:
        UserError: an unknown key, or a value of the wrong kind.
    """
    options = options_of("data.split", split, _DEFAULTS)
    scheme = options["scheme"]
    if scheme not in SCHEMES:
        raise UserError(f"data.split.scheme={scheme!r}; choose from {', '.join(SCHEMES)}.")
    for key in ("val", "test"):
        options[key] = _length(key, options[key])
        if scheme != "holdout" and isinstance(options[key], np.datetime64):
            raise UserError(
                f"data.split.{key}={options[key]} is a date; the folds of scheme={scheme} move, so give a number of"
                " periods or a fraction."
            )
    for key, least in (("gap", 0), ("folds", 1), ("fold", 0), ("window", 1), ("step", 1)):
        value = options[key]
        if value is None and key != "gap":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"data.split.{key}={value!r}; give a number of periods or folds, {least} or more.")
    if scheme == "holdout":
        for key in ("folds", "fold", "step"):
            if options[key] is not None:
                raise UserError(
                    f"data.split.{key}={options[key]} needs walk-forward folds; set data.split.scheme=expanding or"
                    " sliding, or leave it out."
                )
    else:
        if not options["test"]:
            raise UserError(f"data.split.test is missing: the folds of scheme={scheme} each test that many periods.")
        if scheme == "sliding" and options["window"] is None:
            raise UserError("data.split.window is missing: a sliding fold trains on that many periods.")
        if None not in (options["folds"], options["fold"]) and options["fold"] >= options["folds"]:
            raise UserError(
                f"data.split.fold={options['fold']}, but data.split.folds={options['folds']}: folds count from 0 to"
                f" {options['folds'] - 1}."
            )
    return options


def _length(key: str, value: Any) -> int | float | np.datetime64:
    """A number of periods, a fraction, or the date of the first period."""
    if value is None:
        return 0
    if isinstance(value, bool):
        raise UserError(f"data.split.{key}={value}; give a number of periods, a fraction or a date.")
    if isinstance(value, int):
        if value < 0:
            raise UserError(f"data.split.{key}={value} is negative; give a number of periods, 0 for none.")
        return value
    if isinstance(value, float):
        if not 0 <= value < 1:
            raise UserError(f"data.split.{key}={value}: a fraction lies between 0 and 1; periods are whole numbers.")
        return value
    try:
        return np.datetime64(str(value), "D")
    except ValueError as error:
        raise UserError(
            f"data.split.{key}={value!r} is neither a number of periods, a fraction nor a date; write 8, 0.15 or"
            " 2021-06-30."
        ) from error


def split_periods(options: Mapping[str, Any], dates: np.ndarray, period: str) -> list[TimeSplit]:
    """The split of a panel: one for a hold-out, one per fold for walk-forward, earliest first.

    Args:
        options: From `parse_split`.
        dates: datetime64[D] [T], starts of the periods.
        period: Pandas offset of the panel, for messages.

    Raises:
        UserError: a date outside the panel, no period left to train on, or folds that do not fit.
    """
    periods = len(dates)
    where = f"the panel has {periods} periods ({period}, {dates[0]} to {dates[-1]})"
    if options["scheme"] == "holdout":
        return [_holdout(options, dates, where)]
    val, test = (_count(options[key], periods) for key in ("val", "test"))
    gap, window, step = options["gap"], options["window"], options["step"] or test
    # A gap on either side of val; without val there is only one border.
    after = val + test + gap * (2 if val else 1)
    least = window if window is not None else max(1, periods // 2)
    room = periods - after - least
    fit = room // step + 1 if room >= 0 else 0
    folds = options["folds"] if options["folds"] is not None else fit
    if folds > fit or fit == 0:
        raise UserError(_no_room(options, (least, val, test, after - val - test, step), max(folds, 1), fit, where))
    splits = []
    for number in range(folds):
        test_start = periods - test - (folds - 1 - number) * step
        val_start = test_start - (gap + val if val else 0)
        train_stop = val_start - gap
        train_start = train_stop - window if options["scheme"] == "sliding" else 0
        splits.append(
            TimeSplit((train_start, train_stop), (val_start, val_start + val), (test_start, test_start + test))
        )
    return splits


def _no_room(options: Mapping[str, Any], lengths: tuple[int, ...], folds: int, fit: int, where: str) -> str:
    least, val, test, gap, step = lengths
    needed = least + val + test + gap + (folds - 1) * step
    parts = f"{least} to train + {val} val + {test} test" + (f" + {gap} gap" if gap else "")
    parts += f" + {folds - 1} steps of {step}" if folds > 1 else ""
    remedy = f"{fit} would fit: set data.split.folds={fit}, or" if fit else "Not one fold fits:"
    return (
        f"The folds of data.split (scheme={options['scheme']}) need {needed} periods ({parts}), but {where}. {remedy}"
        " lower data.split.window, val, test, gap or step. All of them count periods of the panel, not days."
    )


def choose_split(options: Mapping[str, Any], splits: list[TimeSplit]) -> tuple[int, TimeSplit]:
    """Number and runs of the split this run trains.

    Raises:
        UserError: there is no such fold.
    """
    fold = len(splits) - 1 if options["fold"] is None else options["fold"]
    if fold >= len(splits):
        raise UserError(
            f"data.split.fold={fold}, but the panel has room for {len(splits)} folds, 0 to {len(splits) - 1}; choose"
            " one of them, or make the folds shorter (data.split.test, step, window)."
        )
    return fold, splits[fold]


def _holdout(options: Mapping[str, Any], dates: np.ndarray, where: str) -> TimeSplit:
    periods, gap, window = len(dates), options["gap"], options["window"]
    test_start = _start("test", options["test"], periods, dates, where)
    end = test_start - (gap if test_start < periods else 0)  # where val ends
    val_start = _start("val", options["val"], end, dates, where)
    train_stop = val_start - (gap if val_start < end else 0)
    train_start = 0 if window is None else train_stop - window
    if train_stop < 1 or train_start < 0 or val_start > end:
        asked = f"val={options['val']}, test={options['test']}, gap={gap}" + (f", window={window}" if window else "")
        raise UserError(
            f"data.split ({asked}) leaves too few periods to train on: {where}. Counts are periods of the panel, not"
            " days; lower them."
        )
    return TimeSplit((train_start, train_stop), (val_start, max(val_start, end)), (test_start, periods))


def _start(key: str, length: int | float | np.datetime64, stop: int, dates: np.ndarray, where: str) -> int:
    """First period of a run that ends before `stop`."""
    if not isinstance(length, np.datetime64):
        return stop - _count(length, len(dates))
    if not dates[0] < length <= dates[-1]:
        raise UserError(
            f"data.split.{key}={length} is outside the panel: {where}. Choose a date after the first period and not"
            " after the last."
        )
    return int(np.searchsorted(dates, length))


def _count(length: int | float, periods: int) -> int:
    """Periods of a count or a fraction; a fraction is at least one period."""
    return length if isinstance(length, int) else max(1, round(length * periods)) if length else 0


def require_rows(
    stage: str, chosen: TimeSplit, split_of: np.ndarray, dates: np.ndarray, kpi: str, series: Sequence[str]
) -> None:
    """Refuse a stage whose rows are not there.

    Args:
        stage: fit, validate, test or predict, which needs none.
        chosen: The split of this run.
        split_of: int64 [G, T], index into `SPLITS` of every row; `none` where the KPI was not observed.
        dates: datetime64[D] [T].
        kpi: Name of the KPI.
        series: G names.

    Raises:
        UserError: an empty split, one without an observed KPI, or a series without one in training.
    """
    name = _STAGE_NEEDS.get(stage)
    if name is None:
        return
    wanted = [name] if name != "train" or chosen.val[0] == chosen.val[1] else ["train", "val"]
    for split in wanted:
        start, stop = getattr(chosen, split)
        if start == stop:
            raise UserError(
                f"data.split.{split} is empty, but stage {stage} needs it; give a number of periods, such as"
                f" data.split.{split}=8."
            )
        if not (split_of == SPLITS.index(split)).any():
            raise UserError(
                f"The {split} split, {dates[start]} to {dates[stop - 1]}, has no row with an observed {kpi}; move"
                " data.split, take these periods out of data.mask,"
                + (" or bring their KPI." if stage == "fit" else " or only predict: stages=[predict].")
            )
    absent = np.flatnonzero(~(split_of == SPLITS.index("train")).any(axis=1)) if name == "train" else []
    if len(absent):
        names = [series[g] for g in absent]
        start, stop = chosen.train
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UserError(
            f"{len(names)} of {len(series)} series have no observed {kpi} in the training window {dates[start]} to"
            f" {dates[stop - 1]}: {listed}. Nothing can be learnt about them: leave them out with"
            f" data.exclude_series=['{names[0]}', ...], or train on more periods."
        )
