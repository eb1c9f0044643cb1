"""Calibration tables against scikit-learn, and the debiased error against simulation."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from wanamaker.metrics.propensity_calibration import (
    calibration_error,
    calibration_errors,
    calibration_table,
    error_by_chance,
)


def drawn(rows: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities; scores are off by ``shift`` on the log odds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 1, rows)
    label = rng.random(rows) < 1 / (1 + np.exp(-odds))
    return label.astype(float), 1 / (1 + np.exp(-odds - shift))


@pytest.mark.parametrize("by", ["quantile", "width"])
def test_bins_are_those_of_scikit_learn(by: str) -> None:
    label, score = drawn(1000, 0)
    observed, predicted = calibration_curve(label, score, n_bins=10, strategy={"width": "uniform"}.get(by, by))
    table = calibration_table(label, score, bins=10, by=by)
    assert table.observed == pytest.approx(observed, abs=0.011)  # a customer on the border
    assert table.predicted == pytest.approx(predicted, abs=0.005)
    if by == "width":
        assert table.observed == pytest.approx(observed)
        assert table.predicted == pytest.approx(predicted)
    share = table.weight / 1000
    assert calibration_error(label, score, by=by) == (share * np.abs(table.observed - table.predicted)).sum()


def test_error_by_hand() -> None:
    # 0.2 was said of ten, of whom four came; 0.7 of ten, of whom six came.
    score = np.repeat([0.2, 0.7], 10)
    label = np.concatenate([np.arange(10) < 4, np.arange(10) < 6]).astype(float)
    for by in ("quantile", "width"):
        assert calibration_error(label, score, by=by) == pytest.approx((0.2 + 0.1) / 2)
        table = calibration_table(label, score, by=by)
        assert table.weight.tolist() == [10, 10]
        assert table.standard_error[0] == pytest.approx(np.std(label[:10], ddof=1) / np.sqrt(10))


def test_a_perfect_model_has_no_error_but_chance() -> None:
    plain, debiased, chance = [], [], []
    for seed in range(200):
        label, score = drawn(500, seed)
        plain.append(calibration_error(label, score))
        debiased.append(calibration_error(label, score, debiased=True))
        chance.append(error_by_chance(calibration_table(label, score)))
    assert np.mean(plain) > 0.04
    assert np.mean(chance) == pytest.approx(np.mean(plain), rel=0.05)
    assert np.mean(debiased) < 0.65 * np.mean(plain)


def test_what_is_wrong_by_a_lot_stays_so() -> None:
    label, score = drawn(20_000, 0, shift=1.0)
    assert calibration_error(label, score, debiased=True) == pytest.approx(calibration_error(label, score), abs=0.001)
    errors = calibration_errors(label, score)
    assert errors.signed == pytest.approx(label.mean() - score.mean())
    assert errors.absolute_plain > 0.1


def test_weights_zero_and_one_and_amounts() -> None:
    label, score = drawn(300, 1)
    weight = np.ones(300)
    weight[::3] = 0
    kept = weight > 0
    for by in ("quantile", "width"):
        for with_zeros, without in zip(
            calibration_table(label, score, by=by, weight=weight),
            calibration_table(label[kept], score[kept], by=by),
            strict=True,
        ):
            assert with_zeros == pytest.approx(without, nan_ok=True)
    table = calibration_table(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0]), by="width")
    assert (table.low.tolist(), table.high.tolist()) == ([0, 1], [0, 1])
    amounts = calibration_table(np.array([0, 20.0, 40]), np.array([5, 15.0, 50]), bins=3)
    assert amounts.observed.tolist() == [0, 20, 40]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="by='size'"):
        calibration_table(np.zeros(3), np.zeros(3), by="size")
    with pytest.raises(ValueError, match=r"run from 0 to 15.*quantile"):
        calibration_table(np.zeros(2), np.array([0, 15.0]), by="width")
