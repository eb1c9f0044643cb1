"""Scores of a yes or no against hand-made numbers, scikit-learn and repeated rows."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from wanamaker.metrics import propensity_classification as classification


def case(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, score with ties, weight 1 to 3."""
    rng = np.random.default_rng(seed)
    score = rng.random(rows).round(2)
    return (rng.random(rows) < score**2).astype(float), score, rng.integers(1, 4, rows).astype(float)


def test_precision_and_recall_are_not_swapped() -> None:
    # Four are predicted yes, three of them rightly; five came, three of them were found.
    predicted = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    label = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    found = classification.precision_recall(label, predicted)
    assert found.precision == 3 / 4
    assert found.recall == 3 / 5
    assert found.f1 == pytest.approx(2 / 3)
    assert found.specificity == 4 / 5
    assert found.accuracy == 7 / 10
    assert found[5:] == (3, 1, 2, 4)
    assert found.precision == sklearn_metrics.precision_score(label, predicted)
    assert found.recall == sklearn_metrics.recall_score(label, predicted)


def test_a_ratio_of_nothing_is_nan_and_f1_of_misses_is_0() -> None:
    nobody = classification.precision_recall(np.array([1, 0]), np.array([False, False]))
    assert math.isnan(nobody.precision)
    assert (nobody.recall, nobody.f1) == (0, 0)
    assert math.isnan(classification.precision_recall(np.zeros(2), np.array([1, 0])).recall)


def test_probabilities_are_no_decisions() -> None:
    with pytest.raises(ValueError, match=r"row 1 is predicted 0\.3.*threshold"):
        classification.precision_recall(np.array([1, 0]), np.array([1, 0.3]))


@pytest.mark.parametrize("name", ["auc", "average_precision", "brier", "log_loss"])
def test_a_weight_of_two_is_two_rows(name: str) -> None:
    label, score, weight = case()
    twice = np.repeat(np.arange(len(label)), weight.astype(int))
    statistic = getattr(classification, name)
    assert statistic(label, score, weight) == pytest.approx(statistic(label[twice], score[twice]), rel=1e-12)


def test_auc_counts_pairs() -> None:
    label, score, _ = case(60)
    positive, negative = score[label == 1][:, None], score[label == 0]
    pairs = (positive > negative).mean() + (positive == negative).mean() / 2
    assert classification.auc(label, score) == pytest.approx(pairs)
    assert classification.auc(label.astype(bool), np.float32(score)) == pytest.approx(pairs)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_nan_with_a_word(label: float) -> None:
    labels, score = np.full(4, label), np.array([0.1, 0.2, 0.3, 0.4])
    for statistic in (classification.auc, classification.average_precision):
        with pytest.warns(UserWarning, match=f"all 4 labels are {label:g}"):
            assert math.isnan(statistic(labels, score))
    for curve in (classification.roc_curve, classification.precision_recall_curve):
        with pytest.warns(UserWarning, match="not defined"):
            assert len(curve(labels, score).x) == 0
    assert classification.brier(labels, score) == pytest.approx(((score - label) ** 2).mean())
    assert np.isfinite(classification.log_loss(labels, score))


def test_curves_end_where_they_must_and_enclose_their_scores() -> None:
    label, score, weight = case()
    roc = classification.roc_curve(label, score, weight)
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(classification.auc(label, score, weight))
    recall, precision, threshold = classification.precision_recall_curve(label, score, weight)
    assert (recall[0], precision[0], threshold[0]) == (0, 1, np.inf)
    assert (np.diff(recall) >= 0).all()
    assert (np.diff(threshold) < 0).all()
    k = len(threshold) // 2
    at = classification.precision_recall(label, score >= threshold[k], weight)
    assert (at.recall, at.precision) == pytest.approx((recall[k], precision[k]))


def test_lift_by_hand() -> None:
    # Of the best half (4 of 8 customers) three of the four buyers: 3/4 of buyers in 1/2 of customers.
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    label = np.array([1, 1, 0, 1, 0, 1, 0, 0])
    assert classification.lift_at(label, score, 0.5) == pytest.approx(1.5)
    assert classification.lift_at(label, score, 1.0) == 1
    table = classification.lift_table(label, score, bins=4)
    assert table.rate.tolist() == [1, 0.5, 0.5, 0]
    assert table.lift.tolist() == [2, 1, 1, 0]
    assert table.gain.tolist() == [0.5, 0.75, 1, 1]
    assert table.high.tolist() == [0.9, 0.7, 0.5, 0.3]
    assert table.low.tolist() == [0.8, 0.6, 0.4, 0.2]
    assert table.predicted == pytest.approx([0.85, 0.65, 0.45, 0.25])


def test_tied_customers_share_their_place() -> None:
    label = np.array([1, 0, 0, 0, 0, 0, 0, 1.0])
    score = np.array([0.5] * 6 + [0.1] * 2)
    for order in (np.arange(8), np.arange(8)[::-1]):
        assert classification.lift_at(label[order], score[order], 0.25) == pytest.approx(4 / 6)
        table = classification.lift_table(label[order], score[order], bins=4)
        assert table.gain == pytest.approx([1 / 6, 2 / 6, 3 / 6, 1])
        assert table.low.tolist() == [0.5, 0.5, 0.5, 0.1]
    assert classification.lift_table(np.ones(3), np.full(3, 0.5), bins=10).lift == pytest.approx(np.ones(10))


def test_tables_of_weights_are_those_of_repeated_rows() -> None:
    label, score, weight = case()
    twice = np.repeat(np.arange(len(label)), weight.astype(int))
    for weighted, repeated in zip(
        classification.lift_table(label, score, 7, weight),
        classification.lift_table(label[twice], score[twice], 7),
        strict=True,
    ):
        assert weighted == pytest.approx(repeated)
    without = classification.lift_table(np.append(label, 1), np.append(score, 9), 7, np.append(weight, 0))
    assert without.high[0] == score.max()


def test_nothing_to_gain() -> None:
    with pytest.warns(UserWarning, match="nothing to gain"):
        assert math.isnan(classification.lift_at(np.zeros(3), np.arange(3), 0.5))
    with pytest.warns(UserWarning, match="nothing to gain"):
        assert classification.lift_table(np.zeros(3), np.arange(3), 2).rate.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([0, np.nan], [0.1, 0.2], "row 1 has the value nan"),
        ([0, 1], [np.nan, 0.2], "row 0 has the value nan"),
        ([0, 0.3], [0.1, 0.2], "row 1 has the label 0.3"),
        ([0, 1, 1], [0.1, 0.2], "one value per row"),
        ([0, 1], [0.1, 1.5], "row 1 has the score 1.5"),
    ],
)
def test_what_is_wrong_is_said(label: list[float], score: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification.brier(np.array(label), np.array(score))


def test_shares_and_bins_out_of_range() -> None:
    with pytest.raises(ValueError, match="share=0"):
        classification.lift_at(np.array([0, 1]), np.array([0, 1]), 0)
    with pytest.raises(ValueError, match="bins=0"):
        classification.lift_table(np.array([0, 1]), np.array([0, 1]), 0)
    with pytest.raises(ValueError, match="row 1 has the label -2"):
        classification.gain_curve(np.array([0, -2]), np.array([0, 1]))
