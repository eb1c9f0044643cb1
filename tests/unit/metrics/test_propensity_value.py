"""Scores of amounts against the paper's own procedure, scipy, repeated rows and hand-made numbers."""

import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from wanamaker.metrics import propensity_value as value
from wanamaker.metrics.propensity_classification import auc


def case(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actual amounts (most 0), predictions with ties, weights 1 to 3."""
    rng = np.random.default_rng(seed)
    actual = np.where(rng.random(rows) < 0.7, 0, rng.lognormal(3, 1, rows)).round(1)
    predicted = (0.3 * actual + rng.gamma(1, 10, rows)).round()
    return actual, predicted, rng.integers(1, 4, rows).astype(float)


def papers_gini(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Wang et al. 2019 by heights of the gain curve, in the order of rows, less the 1/N that a random order has."""
    N = len(actual)

    def raw(by: np.ndarray) -> float:
        gain = np.cumsum(actual[np.argsort(-by, kind="stable")]) / actual.sum()
        return 2 * gain.sum() / N - 1 - 1 / N

    return raw(predicted) / raw(actual)


def test_gini_is_the_papers_without_ties() -> None:
    actual, predicted, _ = case()
    predicted = predicted + np.arange(len(predicted)) * 1e-6
    assert value.normalised_gini(actual, predicted) == pytest.approx(papers_gini(actual, predicted))


def test_gini_of_ties_is_the_mean_over_their_orders() -> None:
    actual, predicted = np.array([5.0, 0, 2, 0, 1]), np.array([3.0, 3, 3, 2, 1])
    orders = [[*order, 3, 4] for order in permutations(range(3))]
    expected = np.mean([papers_gini(actual[order], predicted[order]) for order in orders])
    for order in orders:
        assert value.normalised_gini(actual[order], predicted[order]) == pytest.approx(expected)


def test_gini_of_the_best_the_worst_and_no_order() -> None:
    actual, predicted, weight = case()
    assert value.normalised_gini(actual, actual * 3 + 1) == pytest.approx(1)
    assert value.normalised_gini(actual, -actual) == pytest.approx(-1)
    assert value.normalised_gini(actual, np.ones(len(actual))) == pytest.approx(0, abs=1e-12)
    twice = np.repeat(np.arange(len(actual)), weight.astype(int))
    repeated = value.normalised_gini(actual[twice], predicted[twice])
    assert value.normalised_gini(actual, predicted, weight) == pytest.approx(repeated)
    for constant in (0.0, 4.0):
        with pytest.warns(UserWarning, match=f"all amounts are {constant:g}"):
            assert math.isnan(value.normalised_gini(np.full(3, constant), np.arange(3.0)))


def test_tau_b() -> None:
    actual, predicted, weight = case()
    assert value.kendall_tau_b(actual, predicted) == kendalltau(actual, predicted).statistic
    assert value.kendall_tau_b(actual, predicted, np.full(len(actual), 2.5)) == pytest.approx(
        kendalltau(actual, predicted).statistic
    )
    twice = np.repeat(np.arange(len(actual)), weight.astype(int))
    expected = kendalltau(actual[twice], predicted[twice]).statistic
    assert value.kendall_tau_b(actual, predicted, weight) == pytest.approx(expected)
    for weights in (None, weight):
        assert math.isnan(value.kendall_tau_b(np.zeros(len(actual)), predicted, weights))


def test_deciles_and_totals_by_hand() -> None:
    predicted = np.array([50, 30, 8, 2.0])
    actual = np.array([40, 40, 0, 10.0])
    assert value.total_bias(actual, predicted) == 1
    assert value.total_bias(actual, predicted * 0.8) == pytest.approx(0.8)
    assert value.mae(actual, predicted) == 9
    assert value.rmse(actual, predicted) == pytest.approx(np.sqrt(328 / 4))
    assert value.r2(actual, predicted) == pytest.approx(1 - 328 / 1275)
    table = value.decile_table(actual, predicted, bins=2)
    assert table.actual == pytest.approx([40, 5])
    assert table.predicted == pytest.approx([40, 5])
    assert table.share == pytest.approx([80 / 90, 10 / 90])
    assert table.error == pytest.approx(0)
    each = value.decile_table(actual, predicted, bins=4)
    assert each.error == pytest.approx((10 / 40 + 10 / 40 + 8 / 10) / 3)  # the bin without money is left out


def test_what_is_not_defined_is_nan() -> None:
    assert math.isnan(value.total_bias(np.zeros(2), np.ones(2)))
    assert math.isnan(value.r2(np.ones(3), np.arange(3)))
    with pytest.warns(UserWarning, match="nothing to gain"):
        assert math.isnan(value.decile_table(np.zeros(2), np.ones(2), 2).error)
    with pytest.raises(ValueError, match="row 1 has the label -3"):
        value.normalised_gini(np.array([1, -3.0]), np.arange(2))


def test_weights_of_errors() -> None:
    actual, predicted, weight = case()
    twice = np.repeat(np.arange(len(actual)), weight.astype(int))
    for statistic in (value.mae, value.rmse, value.r2, value.total_bias):
        assert statistic(actual, predicted, weight) == pytest.approx(statistic(actual[twice], predicted[twice]))


@pytest.mark.realdata
def test_what_cdnow_customers_spent_ranks_what_they_will_spend(data_dir: Path) -> None:
    log = pd.read_csv(data_dir / "propensity" / "cdnow" / "CDNOW_master.txt", sep=r"\s+")
    before = log.date <= 19970930
    spent, actual = (
        log[part].groupby("customer_id").dollar_value.sum().reindex(log.customer_id.unique(), fill_value=0).to_numpy()
        for part in (before, ~before)
    )
    assert len(actual) == 23_570
    # Measured elsewhere by the paper's procedure on the same division: .6963 and .7240.
    assert value.normalised_gini(actual, spent) == pytest.approx(0.6963, abs=5e-5)
    assert auc(actual > 0, spent) == pytest.approx(0.7240, abs=5e-5)
