"""What the mix report works out itself: intervals, sums, scores, error statistics, importance, warnings."""

import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.unit.decisions.mix_example import example

from wanamaker.errors import UserError
from wanamaker.metrics.forecast import forecast_scores, seasonal_naive_scale
from wanamaker.predictions import MixPredictions
from wanamaker.reporting.mix_curve_figures import half_lives
from wanamaker.reporting.mix_numbers import period_word, price_curves, work_out
from wanamaker.reporting.mix_rows import (
    choose_lines,
    lines_over_time,
    predictive_interval,
    split_spans,
    summarise_rows,
)
from wanamaker.reporting.mix_scores import (
    error_statistics,
    error_words,
    naive_scale,
    permutation_importance,
    score_table,
    series_score_table,
)
from wanamaker.reporting.mix_style import apart, short_names, short_number
from wanamaker.reporting.mix_warnings import collinear_pairs, mix_warnings


def honest(predictions: MixPredictions, noise: float = 5.0, seed: int = 0) -> MixPredictions:
    """The same with a KPI drawn around the mean prediction, with the noise that the model states."""
    rng = np.random.default_rng(seed)
    kpi = predictions.draws.mean(axis=0) + noise * rng.standard_normal(len(predictions))
    sd = np.full_like(predictions.response.noise_sd, noise)
    return replace(predictions, kpi=kpi, response=replace(predictions.response, noise_sd=sd))


@pytest.mark.parametrize("draws", [1, 7, 400])
def test_the_predictive_interval_of_equal_draws_is_the_normal_one(draws: int) -> None:
    low, high = predictive_interval(np.full((draws, 3), 100.0), np.full((draws, 3), 10.0), "identity")
    np.testing.assert_allclose(low, 100 - 16.45, atol=0.7)
    np.testing.assert_allclose(high, 100 + 16.45, atol=0.7)


def test_the_interval_of_the_log_link_stays_above_zero_and_keeps_mean_and_spread() -> None:
    low, high = predictive_interval(np.full((1, 1), 10.0), np.full((1, 1), 8.0), "log")
    sigma2 = np.log1p(0.64)
    expected = 10 * np.exp(np.sqrt(sigma2) * np.array([-1.6449, 1.6449]) - sigma2 / 2)
    np.testing.assert_allclose([low[0], high[0]], expected, rtol=0.03)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_ninety_per_cent_of_rows_lie_inside(link: str) -> None:
    predictions = honest(example(geos=6, periods=200, spread=0.0, link=link), noise=5.0)
    rows = summarise_rows(predictions)
    inside = (predictions.kpi > rows.low) & (predictions.kpi < rows.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.025)
    np.testing.assert_allclose(rows.mean, predictions.draws.mean(axis=0))
    np.testing.assert_allclose(rows.residual, predictions.kpi - rows.mean)


def test_blocks_do_not_change_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = example(geos=3, periods=50)
    whole = summarise_rows(predictions)
    monkeypatch.setattr("wanamaker.reporting.mix_rows._NUMBERS_AT_ONCE", 1000)
    in_blocks = summarise_rows(predictions)
    for name in ("mean", "low", "high", "noise"):
        np.testing.assert_allclose(getattr(in_blocks, name), getattr(whole, name), rtol=1e-12)


def test_lines_sum_their_series() -> None:
    predictions = example(geos=4, periods=30)
    lines = lines_over_time(predictions, choose_lines(predictions, top=2))
    assert next(line.name for line in lines) == "All 4 series together"
    assert lines[-1].name == "The other 2"
    grid = predictions.kpi.reshape(4, 30)
    np.testing.assert_allclose(lines[0].observed, grid.sum(axis=0))
    np.testing.assert_allclose(sum(line.observed for line in lines[1:]), grid.sum(axis=0))
    np.testing.assert_allclose(lines[0].mean, predictions.draws.mean(axis=0).reshape(4, 30).sum(axis=0))
    assert grid[lines[1].series[0]].sum() == grid.sum(axis=1).max(), "the largest first"


def test_a_sum_compares_the_same_rows_on_both_sides() -> None:
    predictions = example(geos=2, periods=10)
    kpi = predictions.kpi.copy()
    kpi[0] = np.nan  # one series lacks a period
    kpi[[5, 15]] = np.nan  # both lack another
    (line, *_) = lines_over_time(replace(predictions, kpi=kpi), choose_lines(predictions))
    mean = predictions.draws.mean(axis=0).reshape(2, 10)
    assert line.observed[0] == pytest.approx(kpi[10])
    assert line.mean[0] == pytest.approx(mean[1, 0])
    assert np.isnan(line.observed[5])
    assert line.mean[5] == pytest.approx(mean[:, 5].sum())


def test_levels_join_series_by_their_names() -> None:
    predictions = example(geos=4, periods=10)
    names = ("a | x", "a | y", "b | x", "b | y")
    predictions = replace(predictions, response=replace(predictions.response, series=names))
    lines = choose_lines(predictions, level=1)
    assert sorted((name, *series) for name, series in lines[1:]) == [("a", 0, 1), ("b", 2, 3)]
    with pytest.raises(UserError, match="from 1 to 2"):
        choose_lines(predictions, level=3)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_missing_kpi_values_leave_gaps(link: str) -> None:
    predictions = example(geos=2, channels=2, periods=40, draws=3, link=link)
    kpi, split = predictions.kpi.copy(), predictions.split.copy()
    kpi[[3, 4, 60]], split[[3, 4, 60]] = np.nan, 3
    numbers = work_out(replace(predictions, kpi=kpi, split=split), {}, repeats=1)
    assert numbers.scores.set_index("split").loc["train", "rows"] == 2 * 24 - 3
    assert np.isnan(numbers.total.observed).all()
    assert np.isfinite(numbers.total.draws).all()
    assert numbers.errors is not None
    assert len(numbers.errors.residual) == 77


def test_spans_of_splits() -> None:
    date = np.array(["2024-01-01", "2024-01-08", "2024-01-15"], "datetime64[D]")
    assert split_spans(date, np.array([0, 0, 2])) == [
        (date[0], date[2], "train"),
        (date[2], np.datetime64("2024-01-22"), "test"),
    ]


def test_scores_are_those_that_training_logs() -> None:
    predictions = example(geos=3, periods=120)
    kpi = predictions.kpi.copy()
    kpi[[7, 200]] = np.nan
    kpi[11] = 0.0
    predictions = replace(predictions, kpi=kpi)
    grid = kpi.reshape(3, 120)
    scale = seasonal_naive_scale(grid, (predictions.split == 0).reshape(3, 120), 52)
    np.testing.assert_allclose(naive_scale(predictions), scale)
    rows = summarise_rows(predictions)
    table = score_table(predictions, rows, {"val/r2": 0.123, "val/wmape": float("nan")}).set_index("split")
    for split, code in (("train", 0), ("val", 1), ("test", 2)):
        use = predictions.split == code
        time = np.tile(np.arange(120), 3)
        with pytest.warns(UserWarning, match="MAPE leaves out") if split == "train" else nullcontext():
            expected = forecast_scores(rows.mean[use], kpi[use], predictions.series[use], time[use], scale)
        for name, value in expected.items():
            shown = 0.123 if (split, name) == ("val", "r2") else value
            assert table.loc[split, name] == pytest.approx(shown, rel=1e-9), (split, name)
    assert table.loc["train", "rows"] == 3 * 104 - 2


def test_scores_by_series_are_about_rows_held_out() -> None:
    predictions = example(geos=3, periods=60)
    table = series_score_table(predictions, summarise_rows(predictions))
    assert sorted(table["series"]) == ["geo 0", "geo 1", "geo 2"]
    assert (table["rows"] == 16).all()
    assert table["kpi"].is_monotonic_decreasing


def test_error_statistics_know_good_errors_from_bad() -> None:
    predictions = honest(example(geos=4, periods=200, spread=0.0))
    good = error_statistics(predictions, summarise_rows(predictions))
    assert good is not None
    assert good.durbin_watson == pytest.approx(2, abs=0.25)
    assert abs(good.autocorrelation[0]) < 0.15
    assert "do not follow" in error_words(good)
    assert "as the model assumes" in error_words(good)
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.standard_normal((4, 200)), axis=1).reshape(-1)
    drifting = replace(predictions, kpi=predictions.draws.mean(axis=0) + walk)
    bad = error_statistics(drifting, summarise_rows(drifting))
    assert bad is not None
    assert bad.durbin_watson < 0.5
    assert "Errors follow each other" in error_words(bad)
    mean = predictions.draws.mean(axis=0)
    growing = replace(predictions, kpi=mean + (mean / mean.mean()) ** 3 * 5 * rng.standard_normal(len(mean)))
    growth = error_statistics(growing, summarise_rows(growing))
    assert growth is not None
    assert growth.growth[0] > 0.15
    assert "grow with the level" in error_words(growth)


def test_few_rows_have_no_error_statistics() -> None:
    predictions = example(geos=1, periods=30)
    few = predictions.select(np.arange(5))
    assert error_statistics(few, summarise_rows(few)) is None


@pytest.mark.parametrize("link", ["identity", "log"])
def test_permutation_importance_finds_what_moves_the_kpi(link: str) -> None:
    predictions = example(geos=2, periods=150, channels=2, link=link, spread=0.05)
    parts = predictions.parts.copy()
    still = predictions.part_names.index("season")
    parts[:, :, still] = parts[:, :, still].mean()
    kpi = replace(predictions, parts=parts).draws.mean(axis=0)
    table = permutation_importance(replace(predictions, parts=parts, kpi=kpi), repeats=3)
    found = table.set_index("part")["importance"]
    # What does not move over time cannot be missed.
    assert found[["season", "intercept"]].tolist() == [0, 0]
    assert (found[["price", "display", "TV", "Search"]] > 0.001).all()
    again = permutation_importance(replace(predictions, parts=parts, kpi=kpi), repeats=3)
    pd.testing.assert_frame_equal(table, again)


def test_permutation_importance_of_a_known_case() -> None:
    """One part explains everything: without it, R2 falls by about 2 (variance of the difference of two draws)."""
    predictions = example(geos=1, periods=400, channels=1, draws=1)
    parts = np.zeros_like(predictions.parts)
    parts[0, :, 2] = np.random.default_rng(0).standard_normal(400)
    table = permutation_importance(replace(predictions, parts=parts, kpi=parts[0, :, 2].astype(float)), repeats=10)
    assert table.loc[0, "part"] == "price"
    assert table.loc[0, "importance"] == pytest.approx(2, abs=0.15)


def test_half_lives_of_geometric_decay() -> None:
    decay = np.array([0.3, 0.5, 0.8])
    kernel = decay[:, None] ** np.arange(200)
    lives = half_lives(kernel[None])
    np.testing.assert_allclose(lives[0], np.log(0.5) / np.log(decay), rtol=1e-6)
    assert half_lives(np.ones((2, 1, 1)))[:, 0].tolist() == [0.5, 0.5]


def test_price_curves_go_through_the_reference() -> None:
    predictions = example(geos=1, link="log", spread=0.0)
    (curve,) = price_curves(predictions, np.ones(len(predictions), bool))
    assert curve.label == "price, EUR"
    assert curve.reference == pytest.approx(predictions.response.driver_reference[0, 0])
    assert curve.x[0] < curve.seen[0] < curve.reference < curve.seen[1] < curve.x[-1]
    np.testing.assert_allclose(curve.values.total(), -1.5, rtol=1e-6)


def test_warnings_name_what_the_data_cannot_carry() -> None:
    predictions = example(geos=2, channels=3, periods=80, kpi_value=2.0)
    media = predictions.media.copy()
    media[:, 0] = predictions.response.media_scale[predictions.series, 0]  # never moves
    media[:, 2] = media[:, 1] * 2 + 0.01  # moves with another
    media[-3:, 1] = 10 * media[:, 1].max()  # beyond the range seen in training
    predictions = replace(predictions, media=media)
    assert [pair[:2] for pair in collinear_pairs(predictions.select(np.arange(150)))] == [("Search", "Social")]
    returns = pd.DataFrame(
        {"channel": ["TV", "Search"], "roi": [1.0, 3.0], "roi_low_90": [0.5, 2.0], "roi_high_90": [1.5, 4.0]}
    )
    scores = pd.DataFrame(
        {
            "split": ["train", "test"],
            "rows": [100, 20],
            "wmape": [0.05, 0.4],
            "r2": [0.9, -0.2],
            "coverage_90": [0.9, 0.4],
        }
    )
    text = "\n".join(mix_warnings(predictions, returns, scores, 1.0))
    assert "TV: spend hardly varies" in text
    assert "TV (0.50 to 1.50): the 90 % interval of the ROI includes break-even" in text
    assert "Search (" in text
    assert "left the range" in text
    assert "by heart" in text
    assert "worse than their plain average" in text
    assert "too narrow" in text
    assert "kpi_value" not in text
    assert "kpi_value" in "\n".join(mix_warnings(predictions, returns, scores, None))


def test_media_that_change_a_few_times_are_named() -> None:
    """Monthly totals copied onto days look like data and are twelve numbers."""
    predictions = example(geos=1, channels=2, periods=240)
    media = predictions.media.copy()
    media[:, 1] = np.repeat(np.random.default_rng(0).uniform(10, 90, 8), 30)
    text = "\n".join(mix_warnings(replace(predictions, media=media), pd.DataFrame(), pd.DataFrame(), None))
    assert re.search(r"Search \(8 levels in 224 periods\): spend changes only a few times", text)


def test_labels_keep_apart_and_in_order() -> None:
    placed = apart([1.0, 1.0, 1.01, 5.0], 0.5, 0.0, 6.0)
    assert (np.diff(placed) >= 0.5 - 1e-12).all()
    assert placed[-1] == pytest.approx(5.0)
    crowded = apart([0.1] * 10, 1.0, 0.0, 3.0)
    assert crowded.min() >= 0
    assert crowded.max() <= 3 + 1e-9


def test_short_names_stay_different() -> None:
    names = [f"Hypermarkets North-West | store {i:03d} premium quality" for i in range(12)]
    short = short_names(names, 24)
    assert len(set(short)) == 12
    assert all(len(name) <= 24 for name in short)
    assert short_names(["TV", "Search"]) == ["TV", "Search"]


def test_words_for_numbers_and_periods() -> None:
    assert [short_number(v) for v in (0, 12.3, 1500, 2.5e6, 3e9, -4000)] == ["0", "12.3", "1.5k", "2.5M", "3bn", "-4k"]
    assert [period_word(p) for p in ("W-SUN", "D", "MS", "QS-OCT", "2h")] == [
        "week",
        "day",
        "month",
        "quarter",
        "period",
    ]
