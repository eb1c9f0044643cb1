"""Calibration of effects: bins by hand, and corrected errors that are right on average where the truth is known."""

import math

import numpy as np
import pytest

from wanamaker.metrics.uplift_calibration import calibration_error, calibration_line, calibration_table


def test_table_by_hand() -> None:
    effect = np.array([0.4, 0.1, 0.3, 0.2])
    seen = np.array([1.0, 0.0, 3.0, 4.0])
    table = calibration_table(effect, seen, bins=2)
    assert table.low.tolist() == [0.1, 0.3]
    assert table.high.tolist() == [0.2, 0.4]
    assert table.weight.tolist() == [2, 2]
    assert table.predicted.tolist() == pytest.approx([0.15, 0.35])
    assert table.observed.tolist() == pytest.approx([2.0, 2.0])
    # Of effect less prediction: (-0.1, 3.8) and (2.7, 0.6).
    assert table.standard_error.tolist() == pytest.approx([3.9 / 2, 2.1 / 2])
    error = calibration_error(effect, seen, bins=2)
    assert error.signed == pytest.approx(1.75)
    assert error.absolute_plain == pytest.approx(1.75)
    assert error.squared_plain == pytest.approx((1.85**2 + 1.65**2) / 2)
    assert error.squared == pytest.approx((1.85**2 + 1.65**2 - 1.95**2 - 1.05**2) / 2)


def test_equal_predictions_stay_together() -> None:
    effect = np.repeat([0.1, 0.2, 0.3], [70, 10, 20])
    table = calibration_table(effect, np.arange(100.0), bins=10)
    assert table.weight.tolist() == [70, 10, 20]
    assert table.low.tolist() == table.high.tolist() == [0.1, 0.2, 0.3]
    constant = calibration_table(np.zeros(5), np.arange(5.0))
    assert constant.observed.tolist() == [2.0]


def test_order_of_rows_does_not_matter_and_weights_repeat_rows() -> None:
    rng = np.random.default_rng(0)
    effect, seen, weight = rng.integers(0, 40, 300) / 40, rng.normal(size=300), rng.integers(1, 4, 300)
    order = rng.permutation(300)
    weighted = calibration_table(effect, seen, 5, weight)
    for again in (
        calibration_table(effect[order], seen[order], 5, weight[order]),
        calibration_table(*(np.repeat(column, weight) for column in (effect, seen)), 5),
    ):
        for name in ("low", "high", "weight", "predicted", "observed"):
            assert getattr(again, name) == pytest.approx(getattr(weighted, name)), name


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_corrected_errors_are_right_on_average(factor: float) -> None:
    """Effects uniform in [0, 1], predicted ``factor`` times as large: a gap is (1 - factor) times the effect."""
    rng = np.random.default_rng(1)
    found, lines = [], []
    for _ in range(400):
        truth = rng.random(500)
        seen = truth + rng.normal(scale=2, size=500)
        found.append(calibration_error(factor * truth, seen))
        lines.append(calibration_line(factor * truth, seen).slope)
    mean = {name: np.mean([getattr(error, name) for error in found]) for name in found[0]._fields}
    noise = {name: 3 * np.std([getattr(error, name) for error in found]) / 20 for name in found[0]._fields}
    gap = factor - 1
    squared = gap**2 * (1 / 3 - 1 / 1200)  # the middles of ten bins
    assert abs(mean["squared"] - squared) < noise["squared"]
    assert mean["squared_plain"] > squared + 0.06  # 4 / 50 of noise in each bin
    assert abs(mean["signed"] + gap / 2) < noise["signed"]
    assert mean["signed_se"] == pytest.approx(np.std([error.signed for error in found]), rel=0.1)
    assert abs(mean["absolute"] - gap / 2) < abs(mean["absolute_plain"] - gap / 2)
    slope, error = np.array(lines).T
    assert abs(slope.mean() - 1 / factor) < 3 * slope.std() / 20
    assert error.mean() == pytest.approx(slope.std(), rel=0.1)


def test_a_perfect_prediction_without_noise_has_no_error() -> None:
    truth = np.random.default_rng(2).normal(size=200)
    assert calibration_error(truth, truth) == pytest.approx((0.0,) * 6, abs=1e-9)
    line = calibration_line(truth, 3 * truth + 1)
    assert line.slope.value == pytest.approx(3)
    assert line.level.value == pytest.approx(3 * truth.mean() + 1)


def test_one_prediction_has_no_slope() -> None:
    line = calibration_line(np.full(9, 0.2), np.arange(9.0))
    assert math.isnan(line.slope.value)
    assert line.level.value == pytest.approx(4)
    assert line.level.standard_error == pytest.approx(np.arange(9.0).std() / 3)
