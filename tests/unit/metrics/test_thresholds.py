"""Threshold rules against the papers' definitions written out, scikit-learn, and profits added up by hand."""

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans

from wanamaker.metrics.thresholds import RULES, profit_at, profit_threshold, share_threshold, threshold

HEAPS = np.array([0.03, 0.04, 0.05, 0.05, 0.07, 0.08, 0.1, 0.12, 0.3, 0.55, 0.6, 0.62, 0.9])


def two_heaps(seed: int, rows: int = 600) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.beta(2, 12, rows), rng.beta(9, 4, rows // 5)])


def spread_within(score: np.ndarray, taken: np.ndarray) -> float:
    return sum(((side - side.mean()) ** 2).sum() for side in (score[taken], score[~taken]) if len(side))


@pytest.mark.parametrize("seed", range(3))
def test_otsu_leaves_the_least_spread_within_the_sides(seed: int) -> None:
    score = two_heaps(seed, 80)
    best = min((np.unique(score)[1:]), key=lambda cut: spread_within(score, score >= cut))
    found = threshold(score, "otsu")
    assert (found.takes(score) == (score >= best)).all()
    assert score[score < best].max() < found.value < best


def test_otsu_and_yen_of_scikit_image() -> None:
    # scikit-image 0.26: threshold_otsu(hist=(counts, distinct scores)) is 0.3, threshold_yen(nbins=256) 0.0997, the
    # middle of the cell that 0.1 is in; both take what lies above.
    assert threshold(HEAPS, "otsu").value == pytest.approx((0.3 + 0.55) / 2)
    assert threshold(HEAPS, "yen").value == pytest.approx((0.1 + 0.12) / 2)


def test_yen_by_its_definition() -> None:
    score = two_heaps(0)
    edges = np.linspace(score.min(), score.max(), 257)
    share = np.histogram(score, edges)[0] / len(score)
    found = []
    for k in range(1, 256):
        low, high = share[:k], share[k:]
        correlation = -math.log((low**2).sum() / low.sum() ** 2) - math.log((high**2).sum() / high.sum() ** 2)
        found.append((correlation, edges[k]))
    assert (threshold(score, "yen").takes(score) == (score >= max(found)[1])).all()


@pytest.mark.parametrize("seed", range(3))
def test_isodata_is_half_way_between_the_means_of_its_sides(seed: int) -> None:
    score = two_heaps(seed)
    found = threshold(score, "isodata")
    taken = found.takes(score)
    assert found.value == pytest.approx((score[taken].mean() + score[~taken].mean()) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_takes_the_high_cluster_whatever_its_number(seed: int) -> None:
    score = two_heaps(seed)
    found = threshold(score, "kmeans")
    centres = KMeans(2, n_init=10, random_state=seed).fit(score[:, None]).cluster_centers_
    assert found.value == pytest.approx(centres.mean(), abs=1e-3)
    assert score[found.takes(score)].min() > score[~found.takes(score)].max()
    assert found.share == pytest.approx(1 / 6, abs=0.02)
    assert found.share == threshold(score, "otsu").share


def test_constant_and_base_rate() -> None:
    score = np.array([0.1, 0.2, 0.6, 0.5])
    assert threshold(score, "constant")[:3] == ("constant", 0.5, 0.5)
    assert threshold(score, "base_rate").value == pytest.approx(0.35)
    assert threshold(score, "base_rate", base_rate=0.2).share == 0.75
    weighted = threshold(score, "base_rate", weight=np.array([0, 0, 1, 1.0]))
    assert weighted.value == pytest.approx(0.55)
    assert weighted.share == 0.5


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_of_two_is_two_rows(rule: str) -> None:
    score = two_heaps(1)
    weight = np.random.default_rng(0).integers(0, 4, len(score))
    weighted, repeated = threshold(score, rule, weight=weight), threshold(np.repeat(score, weight), rule)
    assert weighted.value == pytest.approx(repeated.value)
    assert weighted.share == pytest.approx(repeated.share)


@pytest.mark.parametrize("rule", RULES)
def test_nobody_and_everybody_are_said(rule: str) -> None:
    for score in (np.full(5, 0.1), np.full(5, 0.9), np.array([0.4])):
        found = threshold(score, rule)
        assert found.share in (0, 1)
        assert ("nobody" if found.share == 0 else "everybody") in found.note
        assert (found.takes(score).mean()) == found.share
    assert threshold(two_heaps(0), rule).note == ""


@pytest.mark.parametrize("rule", ["otsu", "yen", "isodata", "kmeans"])
def test_neighbouring_numbers_are_told_apart(rule: str) -> None:
    for low in (0.1, 0.5, 0.999):
        score = np.array([low, np.nextafter(low, 1)])
        assert threshold(score, rule).takes(score).tolist() == [False, True]
    score = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(1))], np.float32)
    assert threshold(score, rule).takes(score).tolist() == [False, True]


def test_profit_by_hand() -> None:
    # Taking costs 2 and brings 5 if right: best after the third, 3 * (-2) + 2 * 5 = 4 (the first: 3, the second: 1).
    score = np.array([0.9, 0.8, 0.7, 0.4, 0.3])
    label = np.array([1, 0, 1, 0, 0])
    found = profit_threshold(label, score, value=5, cost=2)
    assert found.value == pytest.approx(0.55)
    assert found.share == 0.6
    assert found.profit == pytest.approx(4 / 5)
    assert found.profit_of_all == 0
    assert profit_at(label, score, found.value, 5, 2) == pytest.approx(4 / 5)
    assert profit_at(label, score, 0.85, 5, 2) == pytest.approx(3 / 5)
    each = profit_threshold(label, score, value=np.array([5, 5, 100, 5, 5]), cost=np.full(5, 2.0), draws=2)
    assert each.profit == pytest.approx((5 + 100 - 6) / 5)


def test_profit_of_calibrated_scores_is_cut_where_theory_says() -> None:
    rng = np.random.default_rng(0)
    score = rng.beta(1, 4, 20_000)
    label = rng.random(20_000) < score
    found = profit_threshold(label, score, value=10, cost=3, draws=50)
    assert found.low < 0.3 < found.high
    assert found.value == pytest.approx(0.3, abs=0.03)
    assert found.profit_low < found.profit < found.profit_high
    assert 0 < found.optimism < 0.1 * found.profit
    again = rng.random(20_000) < score
    assert profit_at(again, score, found.value, 10, 3) <= profit_threshold(again, score, 10, 3, draws=2).profit


def test_profit_takes_nobody_or_everybody_with_a_word() -> None:
    score, label = np.linspace(0.1, 0.9, 50), np.arange(50) % 2
    nobody = profit_threshold(label, score, value=1, cost=2, draws=20)
    assert (nobody.value, nobody.share, nobody.profit) == (math.inf, 0, 0)
    assert "no cut earns more than it costs" in nobody.note
    assert nobody.high == pytest.approx(0.9)
    assert nobody.optimism == 0
    everybody = profit_threshold(label, score, value=9, cost=0.01, draws=20)
    assert "everybody" in everybody.note or everybody.share < 1
    free = profit_threshold(np.ones(50), score, value=9, cost=1, draws=20)
    assert free.share == 1
    assert "takes everybody of 50" in free.note


def test_ties_are_not_divided() -> None:
    found = profit_threshold(np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.5, 0.2]), value=4, cost=1, draws=2)
    assert found.share == 0.75
    assert found.profit == pytest.approx(5 / 4)


def test_share() -> None:
    score = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    assert share_threshold(score, 0.2).takes(score).sum() == 1
    assert share_threshold(score, 0.7).takes(score).sum() == 4
    assert "nobody" in share_threshold(score, 0.0).note
    assert "everybody" in share_threshold(score, 1.0).note
    assert share_threshold(score, 0.9, weight=np.array([1, 0, 0, 0, 1.0])).value == 0.1


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="rule='best' is not known; take one of constant"):
        threshold(HEAPS, "best")
    with pytest.raises(ValueError, match="give probabilities"):
        threshold(HEAPS * 255, "otsu")
    with pytest.raises(ValueError, match="base_rate=30"):
        threshold(HEAPS, "base_rate", base_rate=30)
    with pytest.raises(ValueError, match="share=2"):
        share_threshold(HEAPS, 2)
    with pytest.raises(ValueError, match=r"row 2 has the label 0\.5"):
        profit_threshold(np.array([0, 1, 0.5]), HEAPS[:3], 1, 1)
