"""Survival scores against lifelines, scikit-survival (their numbers) and loops over all pairs."""

import math

import numpy as np
import pytest

from wanamaker.metrics.pair_counts import weight_beyond
from wanamaker.metrics.survival import concordance, integrated_brier, ipcw_brier, kaplan_meier, known_by

TIME = np.array([2.0, 5, 7, 8, 11, 13, 17, 19, 23, 29, 31, 37])
EVENT = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0])
CURVES = np.stack([np.linspace(low, high, 12) for low, high in ((0.5, 0.95), (0.2, 0.9), (0.1, 0.7))], axis=1)


def drawn(seed: int, decimals: int, rows: int = 120) -> tuple[np.ndarray, ...]:
    """Time, event, survival at four edges, weights; the fewer decimals, the more ties."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(3, rows).round(decimals) + 10.0**-decimals
    survival = np.sort(rng.random((rows, 4)), axis=1)[:, ::-1].round(1)
    return time, (rng.random(rows) < 0.6).astype(float), survival, rng.integers(1, 4, rows).astype(float)


def over_all_pairs(time: np.ndarray, event: np.ndarray, survival: np.ndarray, edges: list[float], w: np.ndarray):
    agree = pairs = 0.0
    for i in range(len(time)):
        d = int(np.searchsorted(edges, time[i]))
        if not event[i] or d == len(edges):
            continue
        for j in range(len(time)):
            if time[j] > time[i] or (time[j] == time[i] and not event[j]):
                mine, other = survival[i, d], survival[j, d]
                agree += w[i] * w[j] * ((mine < other) + (mine == other) / 2)
                pairs += w[i] * w[j]
    return agree / pairs


@pytest.mark.parametrize(("seed", "decimals"), [(0, 0), (1, 1), (2, 3)])
def test_concordance_is_that_of_all_pairs(seed: int, decimals: int) -> None:
    time, event, survival, weight = drawn(seed, decimals)
    edges = [1.0, 2.0, 4.0, 6.0]
    expected = over_all_pairs(time, event, survival, edges, weight)
    assert concordance(time, event, survival, edges, weight) == pytest.approx(expected, rel=1e-12)
    order = np.random.default_rng(0).permutation(len(time))
    again = concordance(time[order], event[order], survival[order], edges, weight[order])
    assert again == pytest.approx(expected, rel=1e-12)


def test_concordance_of_a_perfect_and_a_reversed_model() -> None:
    # By one interval, survival in the order of times is perfect.
    assert concordance(TIME, EVENT, np.linspace(0, 1, 12)[:, None], [40.0]) == 1
    assert concordance(TIME, EVENT, np.linspace(1, 0, 12)[:, None], [40.0]) == 0
    assert concordance(TIME, EVENT, np.full((12, 1), 0.5), [40.0]) == 0.5


def test_who_is_compared() -> None:
    survival = np.array([[0.1], [0.9]])
    # The other was seen until that very time, so without the event for longer.
    assert concordance([5, 5], [1, 0], survival, [10.0]) == 1
    # Both at once, the other lost before, nobody had it, or only after the last edge: no pair.
    for time, event, edge in (([5, 5], [1, 1], 10), ([5, 4], [1, 0], 10), ([5, 6], [0, 0], 10), ([5, 6], [1, 1], 4)):
        assert math.isnan(concordance(time, event, survival, [float(edge)]))


def test_kaplan_meier_of_lifelines() -> None:
    estimate = kaplan_meier(TIME, EVENT)
    # lifelines 0.30: survival, and the interval at time 17.
    survival = [0.916666667, 0.916666667, 0.825, 0.733333333, 0.733333333, 0.628571429, 0.523809524, 0.523809524]
    survival += [0.392857143, 0.392857143, 0.196428571, 0.196428571]
    assert estimate.survival == pytest.approx(survival)
    low, high = estimate.interval(13.0, level=0.95)
    assert (float(low), float(high)) == pytest.approx((0.282209587, 0.843323579))
    assert estimate.at([1, 2, 6.9, 7, 99]) == pytest.approx([1, 0.916666667, 0.916666667, 0.825, 0.196428571])
    assert estimate.at(7, just_before=True) == pytest.approx(0.916666667)


def test_kaplan_meier_without_censoring_is_the_share_left() -> None:
    time = np.array([1, 1, 2, 3, 3, 3, 4, 5])
    estimate = kaplan_meier(time, np.ones(8))
    left = np.array([(time > t).mean() for t in (1, 2, 3, 4, 5)])
    assert estimate.survival == pytest.approx(left)
    assert estimate.at_risk.tolist() == [8, 6, 5, 2, 1]
    # Greenwood is then the variance of a share; once nobody is left it says nothing.
    assert estimate.variance[:-1] == pytest.approx((left * (1 - left) / 8)[:-1])
    assert math.isnan(estimate.variance[-1])
    low, high = estimate.interval([0.5, 5.0])
    assert (low.tolist(), high.tolist()) == ([1, 0], [1, 0])


def test_kaplan_meier_of_weights_and_of_nobody() -> None:
    time, event, _, weight = drawn(3, 1)
    twice = np.repeat(np.arange(len(time)), weight.astype(int))
    weighted, repeated = kaplan_meier(time, event, weight), kaplan_meier(time[twice], event[twice])
    for first, second in zip(weighted, repeated, strict=True):
        assert first == pytest.approx(second, nan_ok=True)
    assert kaplan_meier([3, 4], [0, 0]).survival.tolist() == [1, 1]


def test_brier_of_scikit_survival() -> None:
    # scikit-survival 0.28, at edges where nothing happens.
    found = ipcw_brier(TIME, EVENT, CURVES, [10.0, 20, 30])
    assert found == pytest.approx([0.121221591, 0.113414502, 0.124935065])
    area = 10 * found[0] / 2 + 10 * (found[0] + found[1]) / 2 + 10 * (found[1] + found[2]) / 2
    assert integrated_brier(TIME, EVENT, CURVES, [10.0, 20, 30]) == pytest.approx(area / 30)


def test_brier_without_censoring_is_the_squared_error() -> None:
    time, _, survival, weight = drawn(4, 1)
    edges = np.array([1.0, 2, 4, 6])
    error = (survival - (time[:, None] > edges)) ** 2
    assert ipcw_brier(time, np.ones(len(time)), survival, edges, weight) == pytest.approx(
        np.average(error, axis=0, weights=weight)
    )


def test_watched_to_the_edge_and_no_longer_is_known() -> None:
    # A log that ends with the last edge: everybody's observation ends there, nobody is lost.
    time, event = np.array([30, 60, 90, 90, 90.0]), np.array([1, 1, 1, 0, 0])
    label, share = known_by(time, event, 90)
    assert label.tolist() == [1, 1, 1, 0, 0]
    assert share.tolist() == [1, 1, 1, 1, 1]
    survival = np.full((5, 1), 0.4)
    assert ipcw_brier(time, event, survival, [90.0]) == pytest.approx([0.4 * 0.4 * 3 / 5 + 0.6 * 0.6 * 2 / 5])


def test_times_in_single_precision_reach_their_edge() -> None:
    for edge in (30.4, 0.1, 365.25, 7.3):
        time, event = np.array([edge, edge, 2 * edge], np.float32), np.array([0, 1, 0])
        label, share = known_by(time, event, edge)
        assert label.tolist() == [0, 1, 0]
        assert share.tolist() == [1, 1, 1]
        assert np.isfinite(ipcw_brier(time, event, np.full((3, 2), 0.5), np.array([edge / 2, edge]))).all()
        assert concordance(time, event, np.array([[0.9], [0.1], [0.5]]), np.array([edge])) == 1
    assert known_by([29.999], [0], 30.0)[1].tolist() == [0]


def test_the_lost_are_stood_for_by_those_who_stay() -> None:
    # One of four is lost at 10: the two who stay past it stand for three.
    label, share = known_by([5, 10, 20, 30], [1, 0, 1, 0], 25)
    assert np.isnan(label).tolist() == [False, True, False, False]
    assert share == pytest.approx([1, 0, 1.5, 1.5])
    assert share.sum() == pytest.approx(4)


def test_weights_make_up_for_censoring() -> None:
    rng = np.random.default_rng(0)
    time, lost = rng.exponential(10, 40_000), rng.exponential(15, 40_000)
    label, share = known_by(np.minimum(time, lost), time <= lost, 8.0)
    known = share > 0
    assert np.average(label[known], weights=share[known]) == pytest.approx(1 - np.exp(-0.8), abs=0.01)
    assert share.sum() / 40_000 == pytest.approx(1, abs=0.01)


def test_nobody_watched_so_long() -> None:
    found = ipcw_brier(TIME, EVENT, CURVES, [10.0, 20, 50])
    assert np.isnan(found).tolist() == [False, False, True]
    assert math.isnan(integrated_brier(TIME, EVENT, CURVES, [10.0, 20, 50]))


def test_weight_beyond_is_that_of_loops() -> None:
    rng = np.random.default_rng(0)
    key, value, weight = rng.integers(0, 21, 70), rng.integers(0, 9, 70) / 10, rng.random(70)
    ask = rng.random(70) < 0.5
    above, same = weight_beyond(key, value, weight, ask)
    later = key > key[ask][:, None]
    assert above == pytest.approx((later * (value > value[ask][:, None]) * weight).sum(axis=1))
    assert same == pytest.approx((later * (value == value[ask][:, None]) * weight).sum(axis=1))


@pytest.mark.parametrize(
    ("time", "event", "survival", "edges", "message"),
    [
        ([1, 0.0], [1, 0], [[0.5], [0.5]], [2.0], "row 1 has the time 0.0"),
        ([1, 2.0], [1, 0.5], [[0.5], [0.5]], [2.0], "row 1 has the time 2.0 and the event 0.5"),
        ([1, np.nan], [1, 0], [[0.5], [0.5]], [2.0], "row 1 has the value nan"),
        ([1, 2.0], [1, 0], [[0.5], [1.5]], [2.0], r"row 1 has the survival 1.5 at 2"),
        ([1, 2.0], [1, 0], [[0.5], [0.5]], [2.0, 1.0], "edges above 0 and ascending"),
    ],
)
def test_what_is_wrong_is_said(time: list, event: list, survival: list, edges: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        concordance(np.array(time), np.array(event), np.array(survival), np.array(edges))
