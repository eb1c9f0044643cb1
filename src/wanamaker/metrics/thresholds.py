"""From a probability to a yes: the score from which on customers are taken, by six rules or by what it earns.

Rules that look at the scores alone (positive is a score **at or above** the threshold):

- ``constant``: 0.5, likelier than not. With rare events, nobody.
- ``base_rate``: the mean score, or the base rate that is given: likelier than the average customer.
- ``otsu``: largest variance between the two sides (Otsu 1979), over all cuts between distinct scores.
- ``yen``: largest correlation of the two sides (Yen, Chang & Chang 1995), for scores in 256 cells between the smallest
  and the largest. The rule is one of histograms: of distinct scores it would always return the median.
- ``isodata``: half way between the means of the two sides, repeated from the overall mean until nothing moves (Ridler &
  Calvard 1978).
- ``kmeans``: half way between the centres of the best two clusters. In one dimension that is the same division as
  Otsu's, so nothing is drawn at random, and the **low** cluster is low by construction.

Otsu, ISODATA and k-means put a border between two heaps of scores whether or not there are two heaps. A rule that
knows what a customer is worth is better: `profit_threshold`.

Axis letters: N rows, G distinct scores, R draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.uplift_bootstrap import bootstrap_interval
from wanamaker.metrics.uplift_groups import ScoreGroups, checked, group_by_score

RULES = ("constant", "base_rate", "otsu", "yen", "isodata", "kmeans")
YEN_CELLS = 256


class Threshold(NamedTuple):
    """Where to cut.

    Attributes:
        rule: that found it.
        value: customers with a score at or above are taken; infinite where nobody should be.
        share: of the customers it was found on, those who are taken.
        note: what a reader must be told, such as that nobody is taken; "" for nothing.
    """

    rule: str
    value: float
    share: float
    note: str = ""

    def takes(self, score: np.ndarray) -> np.ndarray:
        """Bool, the shape of the scores: who is taken. Compares in float64, as `value` was found."""
        return np.asarray(score, np.float64) >= self.value


def threshold(
    score: np.ndarray, rule: str, base_rate: float | None = None, weight: np.ndarray | None = None
) -> Threshold:
    """The cut that a rule makes.

    Args:
        score: [N], probabilities.
        rule: of `RULES`.
        base_rate: share of positives, for the rule of that name; None takes the mean score.
        weight: [N], customers that a row stands for; None is 1 each.

    Raises:
        ValueError: no such rule, or scores that are no probabilities.
    """
    if rule not in RULES:
        raise ValueError(f"threshold: rule={rule!r} is not known; take one of {', '.join(RULES)}.")
    score, weight = checked("threshold", score, weight=weight)
    if score.min() < 0 or score.max() > 1:
        raise ValueError(f"threshold: scores run from {score.min():g} to {score.max():g}; give probabilities.")
    groups = _ascending(score, weight)
    if rule == "constant":
        return _threshold(rule, 0.5, score, weight)
    if rule == "base_rate":
        rate = float(np.average(score, weights=weight)) if base_rate is None else float(base_rate)
        if not 0 <= rate <= 1:
            raise ValueError(f"threshold: base_rate={base_rate}; give a share from 0 to 1.")
        return _threshold(rule, rate, score, weight)
    if len(groups.score) < 2:
        return _threshold(rule, float(groups.score[0]), score, weight, "all scores are the same; ")
    return _threshold(rule, _CUTS[rule](groups), score, weight)


class ProfitThreshold(NamedTuple):
    """The cut of the largest profit on the rows it was found on.

    Attributes:
        value: customers with a score at or above are taken; infinite where taking anybody loses money.
        low, high: interval of `value` by resampling rows; wide where the profit hardly depends on the cut. A draw in
            which nobody should be taken counts as just above the largest score.
        share: of the customers, those who are taken.
        profit: per customer of all, in the unit of value and cost, of this cut on these rows.
        profit_low, profit_high: interval of `profit` for this cut, by the same draws.
        optimism: how much of `profit` is owed to choosing the cut on the rows that judge it: mean over draws of the
            best profit in the draw less that of its cut on all rows (Efron 1983). Expect `profit - optimism` of others.
        profit_of_all: per customer if everybody is taken; taking nobody earns 0.
        note: what a reader must be told; "" for nothing.
    """

    value: float
    low: float
    high: float
    share: float
    profit: float
    profit_low: float
    profit_high: float
    optimism: float
    profit_of_all: float
    note: str = ""

    def takes(self, score: np.ndarray) -> np.ndarray:
        """Bool, the shape of the scores: who is taken. Compares in float64, as `value` was found."""
        return np.asarray(score, np.float64) >= self.value


def profit_threshold(
    label: np.ndarray,
    score: np.ndarray,
    value: float | np.ndarray,
    cost: float | np.ndarray,
    weight: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.9,
) -> ProfitThreshold:
    """The cut between distinct scores that earns most: value of the positives taken less cost of all taken.

    With calibrated probabilities and the same value for all, theory has it at cost / value; this is what the rows say.

    Args:
        label: [N], 0 or 1.
        score: [N].
        value: what a taken positive brings, for all or [N].
        cost: what taking a customer costs, for all or [N].
        weight: [N], customers that a row stands for; None is 1 each.
        draws, seed, level: of the intervals (`uplift_bootstrap.bootstrap_interval`).
    """
    score, label, weight, earned = _earnings("profit_threshold", label, score, value, cost, weight)
    # Sorted once: a resample of sorted rows is sorted.
    order = np.argsort(score, kind="stable")
    score, weight, earned = score[order], weight[order], (weight * earned)[order]
    beyond = float(np.nextafter(score[-1], np.inf))
    best, profit = _best_cut(score, weight, earned)
    from_row_on = np.append(np.cumsum(earned[::-1])[::-1], 0.0) / weight.sum()
    fixed, optimism = [], []

    def cut_of(score: np.ndarray, weight: np.ndarray, earned: np.ndarray) -> float:
        cut, gained = _best_cut(score, weight, earned)
        fixed.append(earned[np.searchsorted(score, best) :].sum() / weight.sum())
        optimism.append(gained - from_row_on[np.searchsorted(rows[0], cut)])
        return min(cut, beyond)

    rows = [score, weight, earned]
    cut = bootstrap_interval(cut_of, rows, draws, seed, level=level)
    # The first call was on all rows.
    low, high = np.quantile(fixed[1:], [(1 - level) / 2, (1 + level) / 2])
    found = _threshold("profit", best, score, weight, "no cut earns more than it costs; " if np.isinf(best) else "")
    return ProfitThreshold(
        value=best,
        low=cut.low,
        high=cut.high,
        share=found.share,
        profit=profit,
        profit_low=float(low),
        profit_high=float(high),
        optimism=float(np.mean(optimism[1:])),
        profit_of_all=float(from_row_on[0]),
        note=found.note,
    )


def profit_at(
    label: np.ndarray,
    score: np.ndarray,
    at: float,
    value: float | np.ndarray,
    cost: float | np.ndarray,
    weight: np.ndarray | None = None,
) -> float:
    """Profit per customer of all if those with a score of ``at`` or above are taken; arguments as above."""
    score, label, weight, earned = _earnings("profit_at", label, score, value, cost, weight)
    return float((weight * earned)[score >= at].sum() / weight.sum())


def share_threshold(score: np.ndarray, share: float, weight: np.ndarray | None = None) -> Threshold:
    """The cut between distinct scores that takes a share of customers as near as can be to the one asked for.

    Args:
        score: [N].
        share: from 0 to 1; a budget's share, or the base rate (the "get top" of rankings).
        weight: [N]; None is 1 each.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share_threshold: share={share}; give a share of the customers from 0 to 1.")
    score, weight = checked("share_threshold", score, weight=weight)
    groups = _ascending(score, weight)
    above = np.concatenate([[0.0], np.cumsum(groups.sums[0][::-1])])[::-1] / weight.sum()  # [G + 1], with a cut at g
    g = int(np.abs(above - share).argmin())
    return _threshold("share", _border(groups.score, g), score, weight)


def _earnings(
    name: str,
    label: np.ndarray,
    score: np.ndarray,
    value: float | np.ndarray,
    cost: float | np.ndarray,
    weight: np.ndarray | None,
) -> tuple[np.ndarray, ...]:
    """Score, label, weight, and what taking each row earns."""
    N = len(np.asarray(score))
    value, cost = (np.broadcast_to(np.asarray(a, np.float64), (N,)) if np.ndim(a) == 0 else a for a in (value, cost))
    score, label, value, cost, weight = checked(name, score, label, value, cost, weight=weight)
    if (odd := (label != 0) & (label != 1)).any():
        i = int(np.flatnonzero(odd)[0])
        raise ValueError(f"{name}: row {i} has the label {label[i]}; give 0 or 1.")
    return score, label, weight, value * label - cost


def _best_cut(score: np.ndarray, weight: np.ndarray, earned: np.ndarray) -> tuple[float, float]:
    """Cut and profit per customer; of equal profits the cut that takes fewest. Scores ascend, earned is weighted."""
    starts = np.flatnonzero(np.diff(score, prepend=-np.inf))
    # [G + 1], profit of a cut below group g; the last takes nobody.
    profit = np.append(np.cumsum(np.add.reduceat(earned, starts)[::-1])[::-1], 0.0)
    g = len(profit) - 1 - int(profit[::-1].argmax())
    return _border(score[starts], g), float(profit[g] / weight.sum())


def _otsu(groups: ScoreGroups) -> float:
    return _border(groups.score, _best_division(groups))


def _kmeans(groups: ScoreGroups) -> float:
    g = _best_division(groups)
    low, high = _means(groups)
    return _between((low[g - 1] + high[g - 1]) / 2, groups.score, g)


def _isodata(groups: ScoreGroups) -> float:
    low, high = _means(groups)
    weight, total = groups.sums
    cut = total.sum() / weight.sum()
    seen: set[int] = set()
    # Each step lowers the spread within the two sides; that a division comes again is the end.
    while (g := int(np.searchsorted(groups.score, cut).clip(1, len(groups.score) - 1))) not in seen:
        seen.add(g)
        cut = (low[g - 1] + high[g - 1]) / 2
    return _between(cut, groups.score, g)


def _yen(groups: ScoreGroups) -> float:
    score = groups.score
    cell = ((score - score[0]) / (score[-1] - score[0]) * YEN_CELLS).astype(np.int64).clip(max=YEN_CELLS - 1)
    share = np.bincount(cell, groups.sums[0], YEN_CELLS) / groups.sums[0].sum()
    # Both sides of every cut hold somebody: the smallest score is in the first cell, the largest in the last.
    below, above = np.cumsum(share)[:-1], np.cumsum(share[::-1])[::-1][1:]
    below_sq, above_sq = np.cumsum(share**2)[:-1], np.cumsum((share**2)[::-1])[::-1][1:]
    criterion = 2 * np.log(below * above) - np.log(below_sq * above_sq)
    return _border(score, int(np.searchsorted(cell, int(criterion.argmax()), side="right")))


_CUTS: dict[str, Callable[[ScoreGroups], float]] = {"otsu": _otsu, "kmeans": _kmeans, "isodata": _isodata, "yen": _yen}


def _means(groups: ScoreGroups) -> tuple[np.ndarray, np.ndarray]:
    """Mean score of the g + 1 lowest groups and of the rest, float64 [G - 1] each."""
    weight, total = groups.sums
    below, above = np.cumsum(weight)[:-1], np.cumsum(weight[::-1])[::-1][1:]
    return np.cumsum(total)[:-1] / below, np.cumsum(total[::-1])[::-1][1:] / above


def _best_division(groups: ScoreGroups) -> int:
    """How many of the lowest groups lie below the cut that leaves the least spread within the sides."""
    low, high = _means(groups)
    weight = groups.sums[0]
    below = np.cumsum(weight)[:-1]
    return 1 + int((below * (weight.sum() - below) * (high - low) ** 2).argmax())


def _border(score: np.ndarray, g: int) -> float:
    """A cut below group g of ascending scores, half way to the one before; infinite above the last."""
    if g == len(score):
        return float("inf")
    if g == 0:
        return float(score[0])
    middle = score[g - 1] + (score[g] - score[g - 1]) / 2
    return _between(middle, score, g)


def _between(cut: float, score: np.ndarray, g: int) -> float:
    """The cut, kept above group g - 1 and not above group g, which rounding may have passed."""
    return float(score[g] if not score[g - 1] < cut <= score[g] else cut)


def _ascending(score: np.ndarray, weight: np.ndarray) -> ScoreGroups:
    """Weight, and weight times score, per distinct score of a row that counts; scores ascend."""
    own = weight > 0
    groups = group_by_score(score[own], (weight[own], weight[own] * score[own]))
    return ScoreGroups(groups.score[::-1], tuple(values[::-1] for values in groups.sums))


def _threshold(rule: str, value: float, score: np.ndarray, weight: np.ndarray, because: str = "") -> Threshold:
    """The threshold, with a word to the reader if it divides nobody from nobody."""
    taken = (score >= value) & (weight > 0)
    share = float(weight[taken].sum() / weight.sum())
    what = "nobody" if not taken.any() else "everybody" if taken.sum() == (weight > 0).sum() else ""
    note = f"The threshold {value:g} by {rule} takes {what} of {int((weight > 0).sum())}: " if what else because
    if what:
        note += f"{because}scores run from {score.min():g} to {score.max():g}."
    return Threshold(rule, float(value), share, note)
