"""Features that know what they are to foretell, found before anything is learnt.

A feature leaks if it alone

- tells whether a task's label is above 0 better than `leak_auc` (area under the ROC curve; of a categorical feature,
  and of a numeric one in bins, by the rates of the other half of the rows, so that a name cannot learn its own row), or
- tells it by whether it is there at all, or
- explains a value, a regression or the time of a hazard better than `leak_r2`, as it is or as a logarithm, or
- is 0 or empty for most customers, and goes with the event without exception where it is not.

How the limit was set, on two public tables (all rows): the best honest feature of Telco churn has an AUC of .740
(tenure; Contract .736), of UCI's shoppers .703 (ExitRates), whereas the shoppers' PageValues, which rests on
transactions, has .863. Two tables are few, and a weaker leak passes. In event logs honest features can be stronger
(days since the last purchase foretell a lapse); raise the limit there, or allow them by name.

Axis letters: N rows, F numeric features, J categorical features, T tasks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wanamaker.data.experiment_balance import rank_auc, rates_of_others
from wanamaker.data.panel_options import options_of
from wanamaker.data.panel_roles import nearest
from wanamaker.data.propensity_batch import PropensitySchema
from wanamaker.data.sampler import seeded_permutation
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

CHECKS: dict[str, float] = {"rows": 20_000, "leak_auc": 0.82, "leak_r2": 0.9}
_FEW = 10  # customers with an event, or without one, below which nothing is said
_BINS = 32
_IMPLIED_ROWS = 30  # rows of which each has the event
_IMPLIED_LOG = 25.0  # and which would have by chance once in e^25


@dataclass(frozen=True)
class Leak:
    """A feature that knows too much.

    Attributes:
        feature: its name.
        task: which it gives away.
        text: in what way.
        score: AUC or R2; NaN where neither was the reason.
    """

    feature: str
    task: str
    text: str
    score: float


def parse_checks(checks: Mapping[str, Any] | None, defaults: Mapping[str, float] = CHECKS) -> dict[str, float]:
    """Thresholds over their defaults.

    Raises:
        UserError: an unknown name, or no number that makes sense.
    """
    options = options_of("data.checks", checks, defaults)
    for name, value in options.items():
        number = not isinstance(value, bool) and isinstance(value, int | float)
        if name == "rows" and not (number and math.isfinite(value) and value >= 1 and value == int(value)):
            raise UserError(f"data.checks.rows={value!r} must be a whole number of rows, 1 or more.")
        if name != "rows" and not (number and 0 < value <= 1):
            raise UserError(
                f"data.checks.{name}={value!r} must lie above 0 and not above 1; 1 lets everything through."
            )
    return options


def check_allow(allow: Collection[Any], columns: Collection[str], words: Collection[str] = ()) -> tuple[str, ...]:
    """Names that are let through.

    Args:
        allow: `data.allow`.
        columns: features, or all columns of a table.
        words: that mean something else there, such as "repeated".

    Raises:
        UserError: a name that is neither.
    """
    if isinstance(allow, str):  # before its letters are taken for names
        raise UserError(f"data.allow={allow!r} must be a list of features, such as [{allow}].")
    for name in allow:
        if str(name) not in {*columns, *words}:
            known = [*words, *columns]
            raise UserError(f"data.allow names {name!r}, which is no column. {nearest(str(name), known)}")
    return tuple(map(str, allow))


def find_leaks(
    schema: PropensitySchema,
    numeric: np.ndarray,
    categorical: np.ndarray,
    label: np.ndarray,
    time: np.ndarray,
    checks: Mapping[str, float],
) -> tuple[Leak, ...]:
    """Look at each feature of some training rows alone; the worst finding of each.

    Args:
        schema: names; those of events are not looked at.
        numeric: [N, F], NaN where missing. categorical: int [N, J]. label, time: [N, T], NaN where not known.
        checks: from `parse_checks`; of more than `rows` rows a seeded draw is looked at.
    """
    # A random order: halves of neighbours would share what neighbours share.
    chosen = seeded_permutation(len(label), 0)[: int(checks["rows"])]
    label, time = label[chosen].astype(np.float64), time[chosen].astype(np.float64)
    leaks = []
    for name, values, named in _features(schema, numeric[chosen], categorical[chosen]):
        found = [
            leak
            for t, task in enumerate(schema.tasks)
            for leak in _leaks_of(name, values, named, task.name, task.kind, label[:, t], time[:, t], checks)
        ]
        if found:
            leaks.append(max(found, key=lambda leak: np.nan_to_num(leak.score)))
    return tuple(leaks)


def settle_leaks(leaks: Sequence[Leak], allow: Collection[str], source: str) -> None:
    """Raise one `UserError` with all leaks that are not allowed; log the others.

    Args:
        leaks: from `find_leaks`.
        allow: features that are let through.
        source: name of the file.
    """
    report_leaks(leaks, allow, source)
    refuse_leaks(leaks, allow, source)


def report_leaks(leaks: Sequence[Leak], allow: Collection[str], source: str) -> None:
    """Log the leaks that are allowed; arguments as in `settle_leaks`."""
    for leak in leaks:
        if leak.feature in allow:
            log.warning("%s: leak (allowed): feature %r %s.", source, leak.feature, leak.text)


def refuse_leaks(leaks: Sequence[Leak], allow: Collection[str], source: str) -> None:
    """Raise one `UserError` with all leaks that are not allowed; arguments as in `settle_leaks`."""
    stops = [leak for leak in leaks if leak.feature not in allow]
    if not stops:
        return
    names = ", ".join(dict.fromkeys(leak.feature for leak in stops))
    found = "; ".join(f"feature {leak.feature!r} {leak.text}" for leak in stops)
    raise UserError(
        f"{source}: leak: {found}: suspiciously well, as if computed from the outcome. What is not known at the moment"
        f" of the prediction must go: data.roles.drop=[{names}]. If it is known then, data.allow=[{names}] lets it"
        " through."
    )


def _features(
    schema: PropensitySchema, numeric: np.ndarray, categorical: np.ndarray
) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Name, values [N] and whether they are names."""
    for f, name in enumerate(schema.numeric):
        yield name, numeric[:, f].astype(np.float64), False
    for j, name in enumerate(schema.categorical):
        yield name, categorical[:, j].astype(np.int64), True


def _leaks_of(
    name: str,
    values: np.ndarray,
    named: bool,
    task: str,
    kind: str,
    label: np.ndarray,
    time: np.ndarray,
    checks: Mapping[str, float],
) -> Iterator[Leak]:
    known = np.isfinite(label)
    values, target, time = values[known], label[known], time[known]
    happened = target > 0
    if kind != "regression" and _FEW <= happened.sum() <= len(target) - _FEW:
        auc = _auc(values, named, happened)
        if auc > checks["leak_auc"]:
            yield Leak(name, task, f"alone tells {task!r} with an AUC of {auc:.3f} (limit {checks['leak_auc']:g})", auc)
        elif count := _implied(values, named, happened):
            text = f"is 0 or empty but for {count} customers, and {task!r} happened to every one of them"
            yield Leak(name, task, text.replace("is 0 or empty but for", "has a value that") if named else text, np.nan)
    if named:
        return
    if kind in ("value", "regression"):
        r2 = _explained(values, target)
        what = f"alone explains {task!r}"
    elif kind == "hazard":
        r2 = _explained(values[happened], time[happened])
        what = f"alone explains when {task!r} happened"
    else:
        return
    if r2 > checks["leak_r2"]:
        yield Leak(name, task, f"{what} with an R2 of {r2:.3f} (limit {checks['leak_r2']:g})", r2)


def _auc(values: np.ndarray, named: bool, happened: np.ndarray) -> float:
    """How well a feature alone tells who the event happens to; .5 for chance."""
    target = happened.astype(np.float64)
    if named:
        return rank_auc(rates_of_others(values, target), happened)
    there = np.isfinite(values)
    if not there.any():
        return 0.5
    # An empty cell counts as the lowest value, and in bins as one of its own.
    filled = np.where(there, values, values[there].min() - 1)
    rising = rank_auc(filled, happened)
    edges = np.unique(np.quantile(values[there], np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.where(there, np.searchsorted(edges, filled, side="right") + 1, 0)
    return max(rising, 1 - rising, rank_auc(rates_of_others(bins, target), happened))


def _implied(values: np.ndarray, named: bool, happened: np.ndarray) -> int:
    """Customers of a rare value all of whom have the event, far beyond chance; 0 for none."""
    base = happened.mean()
    if named:
        count = np.bincount(values)
        hits = np.bincount(values, weights=happened)
        sizes = count[(hits == count) & (count > 0)]
        size = int(sizes.max(initial=0))
    else:
        there = np.isfinite(values) & (values != 0)
        size = int(there.sum()) if there.mean() < 0.5 and happened[there].all() else 0
    return size if size >= _IMPLIED_ROWS and -size * np.log(max(base, 1e-12)) > _IMPLIED_LOG else 0


def _explained(values: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that a straight line explains, of the numbers or of their logarithms."""
    there = np.isfinite(values) & np.isfinite(target)
    if there.sum() <= 2 * _FEW:
        return 0.0
    x, y = values[there], target[there]
    pairs = [(x, y)]
    if y.min() >= 0 and x.min() >= 0:
        pairs += [(np.log1p(x), np.log1p(y))]
    found = [np.corrcoef(a, b)[0, 1] ** 2 for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(max(found, default=0.0))
