"""Who made the KPI: the model's prediction taken apart into the contributions of its parts.

Two answers, because two questions are asked, and they agree only for the identity link:

``split``
    Parts that add up to the prediction exactly: for waterfalls, stacked charts and shares of sales. For the identity
    link these are the parts themselves. For the log link, E[kpi] = exp(sum of parts), they are the logarithmic-mean
    Divisia split (Ang 2005, "The LMDI approach to decomposition analysis: a practical guide"): the baseline gets
    exp(baseline), part k gets L(y, exp(baseline)) * part_k with the logarithmic mean L(a, b) = (a - b) / ln(a / b).
``removal``
    y - y without the part: what would be missing had the part been at its anchor (no media, the reference price). This
    is the incremental effect that a return on investment is about. For the log link parts act on top of each other, so
    removal effects do not add up to the prediction.

Both are about KPI that *lands* in the window, also from spend before it. What spend *in* a window brings, also after
it, is `decisions.media_return`. Axis letters: N rows, S draws, K parts, A groups of rows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.intervals import interval_columns, ratio
from wanamaker.errors import UserError
from wanamaker.predictions.mix import SPLITS, MixPredictions

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("split", "removal")
BY = ("series", "period", "split")
_ROWS_AT_ONCE = 65_536  # float64 copies of a million rows and forty parts would not fit beside them


@dataclass(frozen=True)
class Contributions:
    """Contributions per group of rows, in KPI units.

    Attributes:
        names: of the parts, [K].
        kinds: of `predictions.mix.PART_KINDS`, [K].
        keys: columns that name the groups, each [A]; empty for one group.
        draws: float64 [S, A, K].
        total: float64 [S, A], the predicted KPI of each group.
        observed: float64 [A], the KPI that was observed; NaN where a row of the group was not.
        method: of `METHODS`.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    keys: dict[str, np.ndarray]
    draws: np.ndarray
    total: np.ndarray
    observed: np.ndarray
    method: str

    def part(self, name: str) -> np.ndarray:
        """Draws [S, A] of one part.

        Raises:
            UserError: there is no such part.
        """
        return self.draws[:, :, nearest_index(name, self.names, "part")]

    def of_kind(self, kind: str) -> np.ndarray:
        """Draws [S, A] of all parts of one kind together."""
        return self.draws[:, :, [k == kind for k in self.kinds]].sum(axis=2)

    def to_frame(self) -> pd.DataFrame:
        """One row per group and part: keys, part, kind, contribution and share of the predicted KPI with intervals."""
        import pandas as pd

        _, A, K = self.draws.shape
        columns = {name: np.repeat(values, K) for name, values in self.keys.items()}
        columns["part"] = np.tile(np.array(self.names, dtype=object), A)
        columns["kind"] = np.tile(np.array(self.kinds, dtype=object), A)
        columns |= {n: v.reshape(-1) for n, v in interval_columns("contribution", self.draws).items()}
        share = ratio(self.draws, self.total[:, :, None])
        columns |= {n: v.reshape(-1) for n, v in interval_columns("share", share).items()}
        return pd.DataFrame(columns).assign(method=self.method)


def nearest_index(name: str, names: Iterable[str], what: str, place: str = "") -> int:
    """Number of ``name`` among ``names``.

    Args:
        name: as the user wrote it.
        names: that exist.
        what: they are, in words: "channel", "series".
        place: where the user wrote it.

    Raises:
        UserError: not among them; the nearest one is suggested.
    """
    names = list(names)
    if name in names:
        return names.index(name)
    where = f"{place}: " if place else ""
    raise UserError(f"{where}there is no {what} {name!r}.{suggestion(name, names)}")


def suggestion(name: str, names: Iterable[str]) -> str:
    """ " Did you mean 'x'?", or what there is to choose from."""
    names = list(names)
    folded = {str(n).casefold(): n for n in reversed(names)}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    if near:
        return f" Did you mean {folded[near[0]]!r}?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f" There are {', '.join(names[:12])}{more}." if names else " There are none."


def check_mix(predictions: object, decision: str) -> MixPredictions:
    """The predictions, if they are those of a mix model.

    Raises:
        UserError: of another kind, or without a row.
    """
    if not isinstance(predictions, MixPredictions):
        kind = getattr(predictions, "kind", type(predictions).__name__)
        raise UserError(
            f"decision={decision} reads the predictions of a marketing-mix model, not {kind!r}. "
            "Choose a checkpoint of such a model (experiment=nam_...), or another decision."
        )
    if len(predictions) == 0:
        raise UserError(f"decision={decision}: the predictions have no row. Run evaluate.py with stages=[predict].")
    return predictions


def read_date(value: object, place: str) -> np.datetime64:
    """A day; a month or a year alone is none, for it would be taken for its first day.

    Raises:
        UserError: ``value`` is no date.
    """
    try:
        if not re.match(r"\d{4}-\d\d-\d\d", str(value)):
            raise ValueError(value)
        return np.datetime64(str(value), "D")
    except ValueError as error:
        raise UserError(f"{place}={value!r} is no date: write it as 2024-01-31.") from error


def choose_rows(
    predictions: MixPredictions,
    *,
    start: object = None,
    end: object = None,
    split: str | Iterable[str] | None = None,
    series: str | Iterable[str] | None = None,
    place: str = "decision",
) -> np.ndarray:
    """The rows of a window as a mask [N].

    Args:
        predictions: of a mix model.
        start, end: first and last day; the periods they lie in belong to the window. None is as far as there are rows.
        split: one or several of `predictions.mix.SPLITS`; None is all.
        series: one or several names; None is all.
        place: of the options, for messages.

    Raises:
        UserError: an unknown split or series, a date that is none or lies outside the panel, or no row left.
    """
    dates = np.unique(predictions.date)
    width = dates[-1] - dates[-2] if len(dates) > 1 else np.timedelta64(1, "D")
    keep = np.ones(len(predictions), bool)
    for name, value in (("start", start), ("end", end)):
        if value is None:
            continue
        day = read_date(value, f"{place}.{name}")
        if not dates[0] <= day < dates[-1] + width:
            raise UserError(
                f"{place}.{name}={day} lies outside the predictions, which go from {dates[0]} to {dates[-1]}. "
                "Choose a day in between."
            )
        period = dates[np.searchsorted(dates, day, side="right") - 1]
        keep &= predictions.date >= period if name == "start" else predictions.date <= period
    if split is not None:
        names = (split,) if isinstance(split, str) else tuple(split)
        keep &= np.isin(predictions.split, [nearest_index(n, SPLITS, "split", f"{place}.split") for n in names])
    if series is not None:
        names, known = (series,) if isinstance(series, str) else tuple(series), predictions.response.series
        keep &= np.isin(predictions.series, [nearest_index(n, known, "series", f"{place}.series") for n in names])
    if not keep.any():
        wanted = {"start": start, "end": end, "split": split, "series": series}
        said = ", ".join(f"{place}.{name}={value}" for name, value in wanted.items() if value is not None)
        raise UserError(f"No row of the predictions ({dates[0]} to {dates[-1]}) is left by {said}. Widen the window.")
    return keep


def decompose(
    predictions: MixPredictions, *, by: Iterable[str] = (), method: str = "split", rows: np.ndarray | None = None
) -> Contributions:
    """Contributions of every part, summed over groups of rows.

    Args:
        predictions: of a mix model.
        by: of `BY`: which rows stay apart; () sums over all.
        method: of `METHODS`.
        rows: mask [N] of `choose_rows`; None is all rows.

    Raises:
        UserError: an unknown `by` or `method`.
    """
    if method not in METHODS:
        raise UserError(f"method={method!r}: choose from {', '.join(METHODS)}.")
    rows = np.ones(len(predictions), bool) if rows is None else np.asarray(rows, bool)
    groups, keys = _groups(predictions, tuple(by), rows)
    names, kinds, columns = _joined_parts(predictions)
    A, S = int(groups.max()) + 1, len(predictions.parts)
    draws, total = np.zeros((S, A, len(names))), np.zeros((S, A))
    chosen = np.flatnonzero(rows)
    for first in range(0, len(chosen), _ROWS_AT_ONCE):
        at = chosen[first : first + _ROWS_AT_ONCE]
        for s in range(S):
            parts = predictions.parts[s, at].astype(np.float64)
            parts = np.stack([parts[:, c].sum(axis=1) for c in columns], axis=1)
            values, mean = _take_apart(parts, kinds, predictions.response.link, method)
            total[s] += np.bincount(groups[at], weights=mean, minlength=A)
            for k in range(len(names)):
                draws[s, :, k] += np.bincount(groups[at], weights=values[:, k], minlength=A)
    observed = np.bincount(groups[chosen], weights=predictions.kpi[chosen], minlength=A)
    return Contributions(names, kinds, keys, draws, total, observed, method)


def _take_apart(parts: np.ndarray, kinds: tuple[str, ...], link: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Contributions [n, K] and the predicted mean [n] of rows with parts [n, K]."""
    eta = parts.sum(axis=1)
    if link == "identity":
        return parts, eta
    mean = np.exp(eta)
    if method == "removal":
        return -mean[:, None] * np.expm1(-parts), mean
    base = np.array([kind == "baseline" for kind in kinds])
    low = np.exp(parts[:, base].sum(axis=1))
    change = parts[:, ~base].sum(axis=1)
    # (e^d - 1) / d tends to 1 as d -> 0, where the quotient itself loses all digits.
    small = np.abs(change) < 1e-8
    weight = low * np.where(small, 1 + change / 2, np.expm1(change) / np.where(small, 1, change))
    values = weight[:, None] * parts
    values[:, base] = low[:, None]
    return values, mean


def _joined_parts(predictions: MixPredictions) -> tuple[tuple[str, ...], tuple[str, ...], list[np.ndarray]]:
    """Names, kinds and columns of the parts; with the log link all of kind baseline are one part, and there is one.

    exp(a + b) cannot be told apart into a and b without a reference of its own; and where no part is the baseline, the
    reference exp(0) = 1 KPI unit would belong to nobody.
    """
    names, kinds = predictions.part_names, predictions.part_kinds
    base = np.flatnonzero([kind == "baseline" for kind in kinds])
    if predictions.response.link == "identity" or len(base) == 1:
        return names, kinds, [np.array([k]) for k in range(len(names))]
    rest = [k for k in range(len(names)) if kinds[k] != "baseline"]
    return (
        ("baseline", *(names[k] for k in rest)),
        ("baseline", *(kinds[k] for k in rest)),
        [base.astype(np.int64), *(np.array([k]) for k in rest)],
    )


def _groups(
    predictions: MixPredictions, by: tuple[str, ...], rows: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Number of each row's group [N] (-1 outside ``rows``), and the values that name the groups."""
    unknown = [name for name in by if name not in BY]
    if unknown:
        raise UserError(f"by={unknown[0]!r}: choose from {', '.join(BY)}.")
    if not rows.any():
        raise UserError("No row to decompose: widen the window.")
    values = {"series": predictions.series, "period": predictions.date, "split": predictions.split}
    code, keys, size = np.zeros(int(rows.sum()), np.int64), {}, 1
    levels = []
    for name in by:
        unique, inverse = np.unique(values[name][rows], return_inverse=True)
        levels.append((name, unique))
        code, size = code * len(unique) + inverse, size * len(unique)
    used, inverse = np.unique(code, return_inverse=True)
    rest = used
    for name, unique in reversed(levels):
        rest, number = np.divmod(rest, len(unique))
        keys[name] = _words(name, unique[number], predictions)
    groups = np.full(len(predictions), -1, np.int64)
    groups[rows] = inverse
    return groups, {name: keys[name] for name in by}


def _words(name: str, values: np.ndarray, predictions: MixPredictions) -> np.ndarray:
    if name == "series":
        return np.array(predictions.response.series, dtype=object)[values]
    if name == "split":
        return np.array(SPLITS, dtype=object)[values]
    return values.astype("datetime64[s]")
