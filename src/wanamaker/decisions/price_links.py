"""Which cross prices of a panel are own prices of its other series, so that one price change reaches all it touches.

The predictions hold prices as numbers. A price driver of series g is *linked* when its path over time equals the own
price of exactly one other series, or the geometric mean of the own prices of those that differ from g in one part of
the key ("12 | tropicana" and "12 | minute maid"): then it follows from their prices. All others are somebody else's
prices and stay as they were. Axis letters: G series, D drivers, T periods.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.driver_curves import own_price_values
from wanamaker.predictions.mix import MixPredictions, MixResponse

_JOINT = " | "
_TOLERANCE = 2e-4  # of a price, relative: panels hold float32, and logs and back cost some digits
_MIN_PERIODS = 8
_MIN_LEVELS = 3  # two prices that never move, or moved once together, say nothing about each other


@dataclass(frozen=True)
class PriceLink:
    """Price driver ``driver`` of ``series`` is the geometric mean of the own prices of the series ``of``."""

    series: int
    driver: int
    of: tuple[int, ...]


def price_links(predictions: MixPredictions) -> list[PriceLink]:
    """The linked cross prices; empty where the predictions show none."""
    response = predictions.response
    price = [d for d, kind in enumerate(response.driver_kind) if kind == "price"]
    own = response.own_price
    if len(price) < 2 or (own >= 0).sum() < 2:
        return []
    dates, time = np.unique(predictions.date, return_inverse=True)
    G, T = len(response.series), len(dates)
    paths = np.full((G, T, len(response.drivers)), np.nan)
    # Rows without a KPI may carry prices that were filled in, which would not agree with each other.
    seen = np.flatnonzero(np.isfinite(predictions.kpi))
    series, time, driver = predictions.series[seen], time[seen], predictions.driver[seen]
    paths[series, time] = driver
    owned = np.full((G, T), np.nan)
    owned[series, time] = own_price_values(response, driver, series)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_own = np.where(owned > 0, np.log(owned), np.nan)
        log_paths = np.where(paths > 0, np.log(paths), np.nan)
    relatives = _relatives(response.series)
    links = []
    for g in range(G):
        for d in price:
            if d == own[g]:
                continue
            found = _explained(log_paths[g, :, d], g, relatives[g], log_own)
            if found:
                links.append(PriceLink(g, d, found))
    return links


def has_cross_prices(response: MixResponse) -> bool:
    """Whether any series with a price of its own also answers to another price."""
    price = [d for d, kind in enumerate(response.driver_kind) if kind == "price"]
    return any(d != own for own in response.own_price[response.own_price >= 0] for d in price)


def _relatives(names: tuple[str, ...]) -> list[list[list[int]]]:
    """For each series, the sets of others that differ from it in one part of the key."""
    keys = [name.split(_JOINT) for name in names]
    if len({len(key) for key in keys}) > 1:
        keys = [[name] for name in names]
    groups: dict[tuple, list[int]] = defaultdict(list)
    for g, key in enumerate(keys):
        for place in range(len(key)):
            groups[place, *key[:place], None, *key[place + 1 :]].append(g)
    out: list[list[list[int]]] = [[] for _ in names]
    for members in groups.values():
        for g in members:
            others = [h for h in members if h != g]
            if others:
                out[g].append(others)
    return out


def _explained(path: np.ndarray, g: int, relatives: list[list[int]], log_own: np.ndarray) -> tuple[int, ...]:
    """The series whose own prices make this path, or () where none do, or where more than one answer fits."""
    known = np.isfinite(path)
    if known.sum() < _MIN_PERIODS or len(np.unique(np.round(path[known], 4))) < _MIN_LEVELS:
        return ()
    answers = []
    for others in relatives:
        same = [h for h in others if _equal(path, log_own[h])]
        if same:
            answers += [(h,) for h in same]
        elif len(others) > 1 and _equal(path, log_own[others].mean(axis=0)):
            answers.append(tuple(others))
    return answers[0] if len(answers) == 1 else ()


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    both = np.isfinite(one) & np.isfinite(other)
    return bool(both.sum() >= _MIN_PERIODS and (np.abs(one[both] - other[both]) <= _TOLERANCE).all())


def follow(
    links: list[PriceLink], own_price: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, int]:
    """Cross prices after own prices have changed.

    Args:
        links: of `price_links`.
        own_price: int64 [G], number of each series' own price, -1 where there is none.
        before: float64 [G, H, D], drivers as they were.
        after: float64 [G, H, D], drivers with own prices changed.

    Returns:
        Drivers [G, H, D] with linked prices moved by the mean log change of the prices they consist of, and how many
        links moved. A period in which a price is not known counts as unchanged.
    """
    moved, out = 0, after.copy()
    for link in links:
        shift = np.zeros(before.shape[1])
        for h in link.of:
            old, new = before[h, :, own_price[h]], after[h, :, own_price[h]]
            known = (old > 0) & (new > 0)
            shift += np.where(known, np.log(np.where(known, new, 1) / np.where(known, old, 1)), 0.0) / len(link.of)
        if shift.any():
            moved += 1
            out[link.series, :, link.driver] = after[link.series, :, link.driver] * np.exp(shift)
    return out, moved
