"""Forecast scores against values computed by hand and against scikit-learn; what is undefined is NaN and said."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from wanamaker.metrics.forecast import SCORES, ForecastMetrics, forecast_scores, season_length, seasonal_naive_scale

# Two series of four and three periods, as a user would check with a pencil.
TARGET = np.array([10.0, 12.0, 11.0, 15.0, 100.0, 90.0, 90.0])
PREDICTION = np.array([11.0, 11.0, 13.0, 14.0, 110.0, 95.0, 80.0])
SERIES = np.array([0, 0, 0, 0, 1, 1, 1])
TIME = np.array([0, 1, 2, 3, 0, 1, 2])
SCALE = np.array([2.0, 5.0])


def by_hand() -> dict[str, float]:
    absolute = [1, 1, 2, 1, 10, 5, 10]
    mean = 328 / 7
    total = sum((y - mean) ** 2 for y in TARGET)
    return {
        "r2": 1 - (1 + 1 + 4 + 1 + 100 + 25 + 100) / total,
        "mape": (1 / 10 + 1 / 12 + 2 / 11 + 1 / 15 + 10 / 100 + 5 / 90 + 10 / 90) / 7,
        "smape": 2 * (1 / 21 + 1 / 23 + 2 / 24 + 1 / 29 + 10 / 210 + 5 / 185 + 10 / 170) / 7,
        "wmape": 30 / 328,
        "mase": (1 / 2 + 1 / 2 + 2 / 2 + 1 / 2 + 10 / 5 + 5 / 5 + 10 / 5) / 7,
        "rmse": math.sqrt(232 / 7),
        "mae": sum(absolute) / 7,
        "bias": (1 - 1 + 2 - 1 + 10 + 5 - 10) / 328,
        # Series 0: up (11 > 10) hit; down but predicted 13 > 12 miss; up hit. Series 1: down (95 < 100) hit; no change.
        "direction_accuracy": 3 / 4,
        "pearson": float(np.corrcoef(PREDICTION, TARGET)[0, 1]),
    }


def test_scores_by_hand() -> None:
    scores = forecast_scores(PREDICTION, TARGET, SERIES, TIME, SCALE)
    assert tuple(scores) == SCORES
    assert scores == pytest.approx(by_hand(), rel=1e-12)


def test_order_of_rows_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(7)
    scores = forecast_scores(PREDICTION[order], TARGET[order], SERIES[order], TIME[order], SCALE)
    assert scores == pytest.approx(by_hand(), rel=1e-12)


def test_scores_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    target = rng.gamma(2, 50, 400)
    prediction = target * rng.lognormal(0, 0.3, 400)
    scores = forecast_scores(prediction, target, np.arange(400) // 100, np.arange(400) % 100)
    assert scores["r2"] == pytest.approx(sk.r2_score(target, prediction))
    assert scores["mape"] == pytest.approx(sk.mean_absolute_percentage_error(target, prediction))
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(target, prediction))
    assert scores["rmse"] == pytest.approx(sk.root_mean_squared_error(target, prediction))
    assert math.isnan(scores["mase"]), "no naive scale was given"


def test_wmape_is_not_that_of_the_prior_system() -> None:
    """It computed sum(|e| |y|) / sum |y| / mean y, which is larger where large rows have large errors."""
    error = np.abs(PREDICTION - TARGET)
    theirs = (error * TARGET).sum() / TARGET.sum() / TARGET.mean()
    ours = forecast_scores(PREDICTION, TARGET, SERIES, TIME)["wmape"]
    assert ours == pytest.approx(30 / 328)
    assert theirs > 1.5 * ours


def test_mape_says_how_many_zeros_it_leaves_out() -> None:
    target = np.array([0.0, 10.0, 0.0, 20.0])
    with pytest.warns(UserWarning, match="MAPE leaves out 2 of 4 rows whose KPI is 0"):
        scores = forecast_scores(np.array([1.0, 11.0, 0.0, 18.0]), target, np.zeros(4), np.arange(4))
    assert scores["mape"] == pytest.approx(0.1)
    assert scores["wmape"] == pytest.approx(4 / 30)
    assert scores["smape"] == pytest.approx((2 + 2 / 21 + 0 + 4 / 38) / 4)


def test_what_is_not_defined_is_nan() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = forecast_scores([], [], [], [])
        assert all(math.isnan(value) for value in nothing.values())
        unknown = forecast_scores([1.0], [np.nan], [0], [0], SCALE)
        assert all(math.isnan(value) for value in unknown.values())
        one = forecast_scores([1.0], [2.0], [0], [0], SCALE)
        assert {name for name in SCORES if math.isnan(one[name])} == {"r2", "direction_accuracy", "pearson"}
        flat = forecast_scores([0.1, 0.2, 0.3], [0.7, 0.7, 0.7], [0, 0, 0], [0, 1, 2])
        assert {name for name in SCORES if math.isnan(flat[name])} == {"r2", "mase", "direction_accuracy", "pearson"}
        diverged = forecast_scores([1.0, np.inf], [1.0, 2.0], [0, 0], [0, 1], SCALE)
        assert all(math.isnan(value) for value in diverged.values())


def test_unknown_targets_are_left_out_and_break_the_chain_of_periods() -> None:
    target = TARGET.copy()
    target[1] = np.nan
    scores = forecast_scores(PREDICTION, target, SERIES, TIME, SCALE)
    known = ~np.isnan(target)
    assert scores["mae"] == pytest.approx(np.abs(PREDICTION - target)[known].mean())
    # Series 0 keeps only period 2 to 3 (hit); series 1 as before (hit).
    assert scores["direction_accuracy"] == 1.0


def test_naive_scale_is_of_the_training_window_and_the_season() -> None:
    season = np.array([1.0, 5.0, 2.0, 9.0])
    kpi = np.stack([np.tile(season, 5) + np.repeat(np.arange(5), 4), np.arange(20.0) ** 2])
    train = np.zeros((2, 20), bool)
    train[:, :12] = True
    later = kpi.copy()
    later[:, 12:] = 1e9  # what came after training must not count
    scale = seasonal_naive_scale(later, train, 4)
    np.testing.assert_allclose(scale[0], 1.0)
    np.testing.assert_allclose(scale[1], np.mean([t**2 - (t - 4) ** 2 for t in range(4, 12)]))
    gap = kpi.copy()
    gap[0, 3] = np.nan
    np.testing.assert_allclose(seasonal_naive_scale(gap, train, 4)[0], 1.0)
    for periods in (4, 5):  # less than one and a half seasons: from period to period
        short = train & (np.arange(20) < periods)
        np.testing.assert_allclose(seasonal_naive_scale(kpi, short, 4), np.abs(np.diff(kpi[:, :periods])).mean(axis=1))
    enough = train & (np.arange(20) < 6)
    np.testing.assert_allclose(seasonal_naive_scale(kpi, enough, 4), np.abs(kpi[:, 4:6] - kpi[:, :2]).mean(axis=1))
    # The window decides for all series alike: one that misses its partners has no scale.
    late = enough.copy()
    late[1, :3] = False
    np.testing.assert_allclose(seasonal_naive_scale(kpi, late, 4), [1.0, np.nan])
    single = train & (np.arange(20) < 1)
    assert np.isnan(seasonal_naive_scale(kpi, single, 4)).all()
    assert np.isnan(seasonal_naive_scale(kpi[:, :3], train[:, :3] & False, 52)).all()
    with pytest.raises(ValueError, match="season=0"):
        seasonal_naive_scale(kpi, train, 0)
    assert [season_length(per_year) for per_year in (365.25, 52.2, 12, 4, 0.5)] == [7, 52, 12, 4, 1]


def test_mase_of_the_seasonal_naive_itself_is_one() -> None:
    rng = np.random.default_rng(3)
    kpi = rng.gamma(3, 10, (2, 60))
    train = np.ones((2, 60), bool)
    series, time = np.divmod(np.arange(2 * 48), 48)
    time = time + 12
    scale = seasonal_naive_scale(kpi, train, 12)
    scores = forecast_scores(kpi[series, time - 12], kpi[series, time], series, time, scale)
    assert scores["mase"] == pytest.approx(1.0)


def test_mase_leaves_out_series_without_a_scale_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"MASE leaves out 1 series \(1\)"):
        scores = forecast_scores(PREDICTION, TARGET, SERIES, TIME, np.array([2.0, 0.0]))
    assert scores["mase"] == pytest.approx((1 + 1 + 2 + 1) / 2 / 4)
    with pytest.raises(ValueError, match="belongs to series 1"):
        forecast_scores(PREDICTION, TARGET, SERIES, TIME, np.array([2.0]))


def test_a_period_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Series 0 has period 1 twice"):
        forecast_scores(PREDICTION, TARGET, SERIES, np.array([0, 1, 1, 3, 0, 1, 2]))


def feed(metric: ForecastMetrics, rows: np.ndarray) -> None:
    metric.update(
        torch.tensor(PREDICTION[rows]),
        torch.tensor(TARGET[rows]),
        torch.tensor(rows),
        torch.tensor(SERIES[rows]),
        torch.tensor(TIME[rows]),
    )


def test_the_metric_counts_a_row_once_whatever_the_batches() -> None:
    metric = ForecastMetrics()
    metric.set_naive_scale(torch.tensor(SCALE))
    for rows in ([0, 1, 2], [5, 6, 0], [3, 4, 0]):
        feed(metric, np.array(rows))
    assert metric.compute() == pytest.approx(by_hand(), rel=1e-12)
    assert metric.compute() == pytest.approx(by_hand(), rel=1e-12)
    metric.reset()
    assert all(math.isnan(value) for value in metric.compute().values())
    feed(metric, np.arange(7))
    assert metric.compute() == pytest.approx(by_hand(), rel=1e-12), "the naive scale stays"


def test_the_metric_warns_once() -> None:
    metric = ForecastMetrics()
    zeros = torch.zeros(3, dtype=torch.int64)
    metric.update(torch.ones(3), torch.tensor([0.0, 1.0, 2.0]), torch.arange(3), zeros, torch.arange(3))
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        metric.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.compute()


def test_mistakes_in_updates_are_named() -> None:
    metric = ForecastMetrics()
    three, four = torch.zeros(3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="one value per row"):
        metric.update(three, three, four, four, four)
    with pytest.raises(ValueError, match=r"row is torch\.float32"):
        metric.update(three, three, three, four[:3], four[:3])
    metric.update(three, three + 1, four[:3], four[:3], torch.arange(3))
    feed(metric, np.array([0]))
    with pytest.raises(ValueError, match="row 0 came with the targets"):
        metric.compute()
    with pytest.raises(NotImplementedError, match="no per-batch value"):
        metric(three)


def test_no_state_goes_into_checkpoints_and_float32_sums_are_in_float64() -> None:
    metric = ForecastMetrics()
    feed(metric, np.arange(7))
    assert not metric.state_dict()
    count = 100_000
    rows = torch.arange(count)
    target = torch.full((count,), 1e4) + torch.linspace(0, 1, count)
    single = ForecastMetrics()
    single.update(target + 1, target, rows, rows * 0, rows)
    scores = single.compute()
    assert scores["mae"] == pytest.approx(1.0, rel=1e-6)
    assert scores["bias"] == pytest.approx(1 / 10000.5, rel=1e-6)
