"""How well probabilities of a yes or no rank and fit: AUC, precision and recall, Brier, lift and gain.

A score that is not defined on these rows (one class only) is NaN with a warning, never 0 and never an exception: a
small validation set must not stop a training run. Everything else that is wrong (NaN, lengths, a label of 0.3) is a
ValueError.

Lift and gain follow a contact list, best first. Customers with the same score share their place: a cut through them
takes an equal part of each, so nothing depends on the order of rows.

Axis letters: N rows, G distinct scores, B bins.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from wanamaker.metrics.uplift_groups import ScoreGroups, checked, group_by_score

NAN = float("nan")


class PrecisionRecall(NamedTuple):
    """Yes and no as predicted against yes and no as they came; a ratio with nothing to divide by is NaN.

    Attributes:
        precision: of those predicted yes, the share for whom it came true.
        recall: of those for whom it came true, the share predicted yes.
        f1: harmonic mean of the two, 2 tp / (2 tp + fp + fn).
        specificity: of those for whom it did not come true, the share predicted no.
        accuracy: share predicted right.
        true_positive, false_positive, false_negative, true_negative: sums of weights. A false positive was predicted
            and did not come, a false negative came and was not predicted.
    """

    precision: float
    recall: float
    f1: float
    specificity: float
    accuracy: float
    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float


class Curve(NamedTuple):
    """Points of a ROC curve (x: share of the negatives taken, y: share of the positives) or of a precision-recall curve
    (x: recall, y: precision).

    Attributes:
        x, y: float64, as many as there are points.
        threshold: float64, the score from which on rows are taken; infinite where none is.
    """

    x: np.ndarray
    y: np.ndarray
    threshold: np.ndarray


class LiftTable(NamedTuple):
    """Bins of equal weight by descending score; a group of equal scores that a border cuts is divided between bins.

    Attributes:
        low, high: float64 [B], smallest and largest score of the bin.
        weight: float64 [B], customers.
        predicted: float64 [B], mean score.
        rate: float64 [B], share of positives.
        lift: float64 [B], rate over that of all rows.
        gain: float64 [B], share of all positives in this bin and those before it.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    predicted: np.ndarray
    rate: np.ndarray
    lift: np.ndarray
    gain: np.ndarray


class GainCurve(NamedTuple):
    """Share of positives reached by share of customers taken, best first; straight between points.

    Attributes:
        share, gain: float64 [G + 1], from (0, 0) to (1, 1).
    """

    share: np.ndarray
    gain: np.ndarray

    def at(self, share: float | np.ndarray) -> float | np.ndarray:
        """Gain at a share of customers from 0 to 1."""
        return np.interp(share, self.share, self.gain)


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties one half (scikit-learn); NaN for one class.

    Args:
        label: [N], 0 or 1.
        score: [N], higher is likelier.
        weight: [N], customers that a row stands for; None is 1 each.
    """
    from sklearn.metrics import roc_auc_score

    label, score, weight = _rows("auc", label, score, weight)
    if not _both("auc", label, weight):
        return NAN
    return float(roc_auc_score(label, score, sample_weight=weight))


def average_precision(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean precision over recall, without interpolation (scikit-learn); NaN for one class. Arguments as in `auc`."""
    from sklearn.metrics import average_precision_score

    label, score, weight = _rows("average_precision", label, score, weight)
    if not _both("average_precision", label, weight):
        return NAN
    return float(average_precision_score(label, score, sample_weight=weight))


def brier(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean (probability - label)^2 (scikit-learn); also defined for one class. Arguments as in `auc`.

    Raises:
        ValueError: a score that is no probability.
    """
    from sklearn.metrics import mean_squared_error

    label, score, weight = _rows("brier", label, score, weight, probability=True)
    return float(mean_squared_error(label, score, sample_weight=weight))


def log_loss(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean -log of the probability given to what came true (scikit-learn); also defined for one class.

    A certainty that proves wrong costs 36 nats (probabilities are kept 2e-16 from 0 and 1). Arguments as in `auc`.

    Raises:
        ValueError: a score that is no probability.
    """
    from sklearn.metrics import log_loss as mean_loss

    label, score, weight = _rows("log_loss", label, score, weight, probability=True)
    return float(mean_loss(label, score, sample_weight=weight, labels=[0, 1]))


def precision_recall(label: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None) -> PrecisionRecall:
    """Precision, recall and their like of a decision.

    Args:
        label: [N], 0 or 1, what came.
        predicted: bool [N] or 0 and 1, what was decided; not a probability (`thresholds.threshold` makes one of it).
        weight: [N]; None is 1 each.
    """
    label, predicted, weight = _rows("precision_recall", label, predicted, weight)
    if not np.isin(predicted, (0, 1)).all():
        i = int(np.flatnonzero(~np.isin(predicted, (0, 1)))[0])
        raise ValueError(
            f"precision_recall: row {i} is predicted {predicted[i]}; give decisions (0 or 1), such as "
            "threshold(score, rule).takes(score)."
        )
    came, taken = label == 1, predicted == 1
    tp, fp = float(weight[came & taken].sum()), float(weight[~came & taken].sum())
    fn, tn = float(weight[came & ~taken].sum()), float(weight[~came & ~taken].sum())
    return PrecisionRecall(
        precision=_ratio(tp, tp + fp),
        recall=_ratio(tp, tp + fn),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        specificity=_ratio(tn, tn + fp),
        accuracy=_ratio(tp + tn, tp + fp + fn + tn),
        true_positive=tp,
        false_positive=fp,
        false_negative=fn,
        true_negative=tn,
    )


def roc_curve(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> Curve:
    """ROC curve without points on a straight line (scikit-learn); no points for one class. Arguments as in `auc`."""
    from sklearn.metrics import roc_curve as points

    label, score, weight = _rows("roc_curve", label, score, weight)
    if not _both("roc_curve", label, weight):
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    return Curve(*points(label, score, sample_weight=weight))


def precision_recall_curve(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> Curve:
    """Precision over recall by descending score (scikit-learn); no points for one class. Arguments as in `auc`."""
    from sklearn.metrics import precision_recall_curve as points

    label, score, weight = _rows("precision_recall_curve", label, score, weight)
    if not _both("precision_recall_curve", label, weight):
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    precision, recall, threshold = points(label, score, sample_weight=weight, drop_intermediate=True)
    return Curve(recall[::-1], precision[::-1], np.append(threshold, np.inf)[::-1])


def gain_curve(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> GainCurve:
    """Cumulative gain, best score first.

    Args:
        label: [N], 0 or 1, or amounts of 0 or more (the gain is then a share of the money).
        score: [N], higher is better.
        weight: [N], customers that a row stands for; None is 1 each.
    """
    score, label, weight = _amounts("gain_curve", label, score, weight)
    return gain_curve_of(group_by_score(score, (weight, weight * label)))


def gain_curve_of(groups: ScoreGroups) -> GainCurve:
    """`gain_curve` of the sums of weight, and of weight times label, per distinct score."""
    weight, came = (np.concatenate([[0.0], np.cumsum(values)]) for values in groups.sums)
    if not came[-1] > 0:
        warnings.warn("gain_curve: no row is positive, so there is nothing to gain: gain and lift are NaN.")
        return GainCurve(weight / weight[-1], np.full(len(came), NAN))
    return GainCurve(weight / weight[-1], came / came[-1])


def lift_at(label: np.ndarray, score: np.ndarray, share: float, weight: np.ndarray | None = None) -> float:
    """Rate among the best ``share`` of customers over the rate of all; 1 is no better than chance.

    Args:
        label, score, weight: as in `gain_curve`.
        share: of the customers, above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"lift_at: share={share}; give a share of the customers above 0, at most 1.")
    return float(gain_curve(label, score, weight).at(share) / share)


def lift_table(label: np.ndarray, score: np.ndarray, bins: int = 10, weight: np.ndarray | None = None) -> LiftTable:
    """Lift and gain by bin of the score, best first.

    Args:
        label, score, weight: as in `gain_curve`.
        bins: B, all of the same weight: ten make deciles.
    """
    if bins < 1:
        raise ValueError(f"lift_table: bins={bins}; give at least 1.")
    score, label, weight = _amounts("lift_table", label, score, weight)
    groups = group_by_score(score, (weight, weight * label))
    curve = gain_curve_of(groups)
    border = np.arange(bins + 1) / bins
    gain = np.asarray(curve.at(border))
    predicted = np.interp(border, curve.share, np.concatenate([[0.0], np.cumsum(groups.sums[0] * groups.score)]))
    total = groups.sums[0].sum()
    mean = float(groups.sums[1].sum() / total)
    # The group that holds the first, and the last, customer of each bin; rounding must not push one over the border.
    first = np.searchsorted(curve.share[1:], border[:-1] + 1e-12, side="right").clip(max=len(groups.score) - 1)
    last = np.searchsorted(curve.share[1:], border[1:] - 1e-12, side="left").clip(max=len(groups.score) - 1)
    lift = np.diff(gain) * bins
    return LiftTable(
        low=groups.score[last],
        high=groups.score[first],
        weight=np.full(bins, total / bins),
        predicted=np.diff(predicted) * bins / total,
        rate=lift * mean if mean > 0 else np.zeros(bins),
        lift=lift,
        gain=gain[1:],
    )


def _amounts(
    name: str, label: np.ndarray, score: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, label, weight of the rows that count, once labels are known to be 0 or more."""
    score, label, weight = checked(name, score, label, weight=weight)
    if label.min() < 0:
        i = int(label.argmin())
        raise ValueError(f"{name}: row {i} has the label {label[i]}; a share of a total needs labels of 0 or more.")
    own = weight > 0
    return score[own], label[own], weight[own]


def _rows(
    name: str, label: np.ndarray, score: np.ndarray, weight: np.ndarray | None, probability: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, score, weight, once labels are known to be 0 or 1 and, where asked for, scores to be probabilities."""
    score, label, weight = checked(name, score, label, weight=weight)
    if (odd := (label != 0) & (label != 1)).any():
        i = int(np.flatnonzero(odd)[0])
        raise ValueError(f"{name}: row {i} has the label {label[i]}; give 0 or 1.")
    if probability and not (score.min() >= 0 and score.max() <= 1):
        i = int(np.flatnonzero((score < 0) | (score > 1))[0])
        raise ValueError(f"{name}: row {i} has the score {score[i]}; give probabilities from 0 to 1.")
    return label, score, weight


def _both(name: str, label: np.ndarray, weight: np.ndarray) -> bool:
    """Whether both classes are there; says so where they are not."""
    seen = set(label[weight > 0].tolist())
    if len(seen) == 2:
        return True
    warnings.warn(f"{name}: all {len(label)} labels are {int(seen.pop())}, so it is not defined (NaN).")
    return False


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else NAN
