"""When it happens, where for some it had not happened yet when observation ended (they are censored).

Time is continuous and above 0. A discrete-time model says for each customer the survival S at the ends (edges) of its
intervals (edges[d - 1], edges[d]]; times beyond the last edge only say that it had not happened by then.

Where one customer's event and another's end of observation are at the same time, the event counts as first: someone
whose observation ended at t is known not to have had the event by t. So is everybody watched to the last edge.

- `kaplan_meier`: share without the event, by time, with Greenwood's variance.
- `concordance`: time-dependent (Antolini, Boracchi & Biganzoli 2005): of two customers, did the model at the moment of
  the earlier event give the customer who had it the smaller survival?
- `ipcw_brier`, `integrated_brier`: squared error of the survival at each edge, customers of unknown fate replaced by
  giving their weight to like ones (inverse probability of censoring weights; Graf, Schmoor, Sauerbrei & Schumacher
  1999). They assume that observation ends for reasons that have nothing to do with the event.

Axis letters: N rows, G distinct times, D edges.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wanamaker.metrics.pair_counts import weight_beyond
from wanamaker.metrics.uplift_groups import checked

NAN = float("nan")
_SINGLE = 2.0**-23  # twice the largest relative rounding of float32


class KaplanMeier(NamedTuple):
    """A step function that falls at times of events.

    Attributes:
        time: float64 [G], distinct times of events or ends of observation, ascending.
        at_risk: float64 [G], weight of those watched up to this time.
        events: float64 [G], weight of those with the event at it.
        survival: float64 [G], share without the event after it.
        variance: float64 [G], of `survival` (Greenwood 1926); NaN once nobody is left.
    """

    time: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    survival: np.ndarray
    variance: np.ndarray

    def at(self, time: float | np.ndarray, just_before: bool = False) -> np.ndarray:
        """Survival at times; beyond the last one what it was there.

        Args:
            just_before: without what happens at that very time.
        """
        return self._read(self.survival, 1.0, time, just_before)

    def variance_at(self, time: float | np.ndarray) -> np.ndarray:
        """Variance at times."""
        return self._read(self.variance, 0.0, time, False)

    def interval(self, time: float | np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of the survival, symmetric on log(-log S) so that they stay within 0 and 1.

        They are S itself where S is 0 or 1.
        """
        from statistics import NormalDist

        survival, variance = self.at(time), self.variance_at(time)
        inner = (survival > 0) & (survival < 1)
        log = np.log(survival, out=np.full(survival.shape, -1.0), where=inner)
        error = np.sqrt(np.where(inner, variance, 0.0)) / (np.where(inner, survival, 1.0) * -log)
        reach = NormalDist().inv_cdf((1 + level) / 2) * error
        low, high = np.exp(log * np.exp(reach)), np.exp(log * np.exp(-reach))
        return np.where(inner, low, survival), np.where(inner, high, survival)

    def _read(self, values: np.ndarray, first: float, time: float | np.ndarray, just_before: bool) -> np.ndarray:
        side = "left" if just_before else "right"
        return np.concatenate([[first], values])[np.searchsorted(self.time, np.asarray(time, np.float64), side)]


def kaplan_meier(time: np.ndarray, event: np.ndarray, weight: np.ndarray | None = None) -> KaplanMeier:
    """Product-limit estimate.

    Args:
        time: [N], above 0, when it happened or observation ended.
        event: [N], 1 if it happened, 0 if observation ended.
        weight: [N], customers that a row stands for; None is 1 each.
    """
    time, event, weight = _rows("kaplan_meier", time, event, weight)
    return _product_limit(time, weight * event, weight * (1 - event), event_first=True)


def concordance(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None = None,
) -> float:
    """Share of comparable pairs in which the model agrees with what came; equal survival counts one half.

    A pair is comparable if one had the event, by the last edge, and the other was still without it at that time (a
    later time, or observed until that very time). Survival is read at the end of the interval of the event.

    Args:
        time, event: [N], as in `kaplan_meier`.
        survival: [N, D], at the edges.
        edges: [D], ascending, in the unit of the time.
        weight: [N]; a pair weighs the product. None is 1 each.

    Returns:
        1 is perfect, 1/2 chance; NaN without a comparable pair.
    """
    time, event, survival, edges, weight = _curves("concordance", time, event, survival, edges, weight)
    interval = np.searchsorted(edges, time, side="left")  # D: beyond the last edge
    agree = pairs = 0.0
    for d in range(len(edges)):
        case = (interval == d) & (event == 1)
        if case.any():
            risk = interval >= d
            found = agreeing_pairs(time[risk], survival[risk, d], case[risk], weight[risk])
            agree, pairs = agree + found[0], pairs + found[1]
    return float(agree / pairs) if pairs > 0 else NAN


def known_by(
    time: np.ndarray, event: np.ndarray, at: float, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Who had the event by a time, as labels and weights for any score of a yes or no.

    Args:
        time, event, weight: [N], as in `kaplan_meier`.
        at: the time, above 0.

    Returns:
        Label, float64 [N]: 1 had it by then, 0 had it not; NaN, observation ended before. Weight, float64 [N], 0 for
        the latter; the others stand for those that were lost as well: weight / probability of being watched that long
        (up to the event, or to `at`). They add up to about the weight of all.
    """
    time, event, weight = _rows("known_by", time, event, weight)
    time = at_edges(time, np.array([at], np.float64))
    return known_by_of(time, event, weight, float(at), still_watched(time, event, weight))


def ipcw_brier(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Mean (survival - whether without the event)^2 at each edge, by `known_by`'s weights; arguments as `concordance`.

    Returns:
        float64 [D]; 0 is perfect, 1/4 is a constant 1/2. NaN at edges up to which nobody was watched.
    """
    time, event, survival, edges, weight = _curves("ipcw_brier", time, event, survival, edges, weight)
    watched = still_watched(time, event, weight)
    scores = np.full(len(edges), NAN)
    for d, edge in enumerate(edges):
        label, share = known_by_of(time, event, weight, edge, watched)
        if fate_is_known(time, event, edge):
            known = share > 0
            error = (1 - survival[known, d]) - label[known]
            scores[d] = (share[known] * error**2).sum() / weight.sum()
    return scores


def integrated_brier(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None = None,
) -> float:
    """Mean of `ipcw_brier` over time from 0 to the last edge: trapezoids, from 0 at time 0.

    NaN where one of the edges is.
    """
    score = ipcw_brier(time, event, survival, edges, weight)
    return mean_over_time(score, edges)


def mean_over_time(score: np.ndarray, edges: np.ndarray) -> float:
    """Mean from 0 to the last edge of a score [D] that is 0 at time 0 and straight between edges."""
    edges = np.concatenate([[0.0], edges])
    return float(np.trapezoid(np.concatenate([[0.0], score]), edges) / edges[-1])


def at_edges(time: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Times, float64 [N]; those that single precision cannot tell from an edge are at it.

    Times travel in float32, edges do not: a log that ends 30.4 days after the moment must not end just before the edge.
    """
    near = np.minimum(np.searchsorted(edges, time * (1 - _SINGLE)), len(edges) - 1)
    edge = np.asarray(edges, np.float64)[near]
    return np.where(np.abs(time - edge) <= _SINGLE * edge, edge, time)


def _product_limit(time: np.ndarray, falls: np.ndarray, others: np.ndarray, event_first: bool) -> KaplanMeier:
    """Product-limit estimate of what falls; others leave.

    Args:
        falls, others: float64 [N], the row's weight in one of them, 0 in the other.
        event_first: whether those who fall at a time do so before others leave at it; else they follow.
    """
    distinct, place = np.unique(time, return_inverse=True)
    falling, leaving = (np.bincount(place, values, len(distinct)) for values in (falls, others))
    at_risk = np.cumsum((falling + leaving)[::-1])[::-1] - (0.0 if event_first else leaving)
    left = at_risk - falling
    # What is left of weights that cancel is rounding.
    left[left < 1e-12 * at_risk] = 0.0
    factor = np.divide(left, at_risk, out=np.ones(len(left)), where=at_risk > 0)
    survival = np.cumprod(factor)
    greenwood = np.divide(falling, at_risk * left, out=np.where(falling > 0, NAN, 0.0), where=left > 0)
    return KaplanMeier(distinct, at_risk, falling, survival, survival**2 * np.cumsum(greenwood))


def still_watched(time: np.ndarray, event: np.ndarray, weight: np.ndarray) -> KaplanMeier:
    """Share still watched, were there no events; an event comes before the end of observation at the same time."""
    return _product_limit(time, weight * (1 - event), weight * event, event_first=False)


def fate_is_known(time: np.ndarray, event: np.ndarray, at: float) -> bool:
    """Whether anybody is known to be, or nobody can be, without the event at a time."""
    last = time.max()
    return bool(last >= at or event[time == last].all())


def known_by_of(
    time: np.ndarray, event: np.ndarray, weight: np.ndarray, at: float, watched: KaplanMeier
) -> tuple[np.ndarray, np.ndarray]:
    """`known_by`, once `still_watched` is known."""
    came, waiting = (event == 1) & (time <= at), (time > at) | ((time == at) & (event == 0))
    label = np.where(came, 1.0, np.where(waiting, 0.0, NAN))
    # Watched until just before: at that very time an event would still have been seen.
    chance = watched.at(np.minimum(time, at), just_before=True)
    known = came | waiting
    return label, np.divide(weight, chance, out=np.zeros(len(time)), where=known)


def agreeing_pairs(time: np.ndarray, survival: np.ndarray, case: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weight of the pairs that agree, and of all pairs, of a case and one who was without the event longer.

    Args:
        time: [N], of customers without the event at the start of an interval.
        survival: [N], at its end.
        case: bool [N], had the event in it; at least one.
        weight: [N].
    """
    # At the time of a case, others who are there are later, other cases are not.
    key = np.unique(time, return_inverse=True)[1] * 2 + ~case
    horizon = key[case].max()
    later = key > horizon
    order = np.argsort(survival[later])
    sorted_survival, passed = survival[later][order], np.concatenate([[0.0], np.cumsum(weight[later][order])])
    left, right = (np.searchsorted(sorted_survival, survival[case], side) for side in ("left", "right"))
    agree = passed[-1] - (passed[right] + passed[left]) / 2
    pairs = np.full(len(agree), passed[-1])
    within = ~later
    above, same = weight_beyond(key[within], survival[within], weight[within], case[within])
    agree = agree + above + same / 2
    distinct, place = np.unique(key[within], return_inverse=True)
    from_key_on = np.append(np.cumsum(np.bincount(place, weight[within], len(distinct))[::-1])[::-1], 0.0)
    pairs = pairs + from_key_on[place[case[within]] + 1]
    return float((weight[case] * agree).sum()), float((weight[case] * pairs).sum())


def _curves(
    name: str,
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    edges: np.ndarray,
    weight: np.ndarray | None,
) -> tuple[np.ndarray, ...]:
    time, event, weight = _rows(name, time, event, weight)
    survival, edges = np.asarray(survival, np.float64), np.asarray(edges, np.float64)
    if survival.shape != (len(time), len(edges)) or len(edges) == 0 or (np.diff(edges, prepend=0.0) <= 0).any():
        raise ValueError(
            f"{name}: survival has shape {survival.shape} and edges are {edges.tolist()}; one survival per row "
            f"({len(time)}) and edge is expected, edges above 0 and ascending."
        )
    if not ((survival >= 0) & (survival <= 1)).all():
        i, d = np.argwhere(~((survival >= 0) & (survival <= 1)))[0]
        raise ValueError(f"{name}: row {i} has the survival {survival[i, d]} at {edges[d]:g}; give 0 to 1.")
    return at_edges(time, edges), event, survival, edges, weight


def _rows(
    name: str, time: np.ndarray, event: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    time, event, weight = checked(name, time, event, weight=weight)
    check_times(name, time, event)
    return time, event, weight


def check_times(name: str, time: np.ndarray, event: np.ndarray) -> None:
    """Refuse what is no time or no event.

    Raises:
        ValueError: a time that is not above 0 (or NaN), or an event that is neither 0 nor 1.
    """
    odd = ~(time > 0) | ((event != 0) & (event != 1))
    if odd.any():
        i = int(np.flatnonzero(odd)[0])
        raise ValueError(
            f"{name}: row {i} has the time {time[i]} and the event {event[i]}; give a time above 0, and 1 if it "
            "happened or 0 if observation ended."
        )
