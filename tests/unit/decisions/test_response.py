"""Evaluating a mix response: equal to the model's own fit, exact gradients, carry-over in and out."""

import dataclasses

import numpy as np
import pytest
from mix_example import example

from wanamaker.decisions.curves import HermiteCurves
from wanamaker.decisions.response import (
    ResponseSurface,
    channel_incremental,
    driver_parts,
    incremental,
    plan_window,
    value_and_gradient,
    window_eta,
    window_kpi,
)
from wanamaker.errors import UserError

LINKS = pytest.mark.parametrize("link", ["identity", "log"])
ORDER = pytest.mark.parametrize("adstock_first", [True, False])
FREQUENCY = pytest.mark.parametrize("frequency", [False, True])


@LINKS
@ORDER
@FREQUENCY
def test_the_current_plan_is_the_fit_of_the_model(link: str, adstock_first: bool, frequency: bool) -> None:
    predictions = example(link=link, adstock_first=adstock_first, organic=1, frequency=frequency)
    window = plan_window(predictions, 30)
    kpi = window_kpi(predictions.response, window)
    fitted = predictions.draws.reshape(8, 2, 60)[:, :, 30:]
    # The example computes its curves exactly; the response holds them as cubic pieces 0.1 apart.
    np.testing.assert_allclose(kpi[:, :, :30], fitted, rtol=1e-4)
    assert kpi.shape == (8, 2, 34)


@LINKS
@ORDER
@FREQUENCY
def test_the_gradient_is_exact(link: str, adstock_first: bool, frequency: bool) -> None:
    options = {"shape": "s", "kpi_value": 2.5, "cost": 4.0}
    predictions = example(link=link, adstock_first=adstock_first, frequency=frequency, **options)
    response, window = predictions.response, plan_window(predictions, 12, end="2023-09-01")
    rng = np.random.default_rng(1)
    spend = window.spend * rng.uniform(0.2, 1.5, window.spend.shape)
    weights = rng.random(8)
    _, gradient = value_and_gradient(response, window, spend, weights)
    direction = rng.standard_normal(spend.shape) * 20
    step = 1e-4
    up, down = (value_and_gradient(response, window, spend + sign * step * direction)[0] for sign in (1, -1))
    assert (gradient * direction).sum() == pytest.approx(weights @ (up - down) / (2 * step), rel=1e-6)
    for cell in [(0, 0, 0), (1, 11, 2)]:
        nudge = np.zeros_like(spend)
        nudge[cell] = 1e-2
        change = [value_and_gradient(response, window, spend + sign * nudge)[0] for sign in (1, -1)]
        assert gradient[cell] == pytest.approx(weights @ (change[0] - change[1]) / 2e-2, rel=1e-5)


def test_media_of_before_carry_in_and_media_of_the_last_period_carry_out() -> None:
    predictions = example(organic=1)
    response, window = predictions.response, plan_window(predictions, 10)
    without = dataclasses.replace(window, history=np.zeros_like(window.history))
    carried_in = window_kpi(response, window) - window_kpi(response, without)
    assert (carried_in[:, :, :4] > 0).all()
    assert np.abs(carried_in[:, :, 4:]).max() < 1e-9

    last = window.spend.copy()
    last[:, -1] += 10.0
    later = incremental(response, window, last, window.spend)
    assert (later[:, :, 10:] > 0).all(), "the tail counts what the window's last period carries out"
    assert np.abs(later[:, :, :9]).max() < 1e-9


def test_the_tail_uses_what_the_data_say_where_they_say_it() -> None:
    predictions = example(periods=60)
    inside = plan_window(predictions, 10, end="2023-10-01")
    everything = predictions.media.reshape(2, 60, 3)
    last = int(np.flatnonzero(np.unique(predictions.date) == inside.dates[-1])[0])
    np.testing.assert_array_equal(inside.tail_media, everything[:, last + 1 : last + 5])
    at_end = plan_window(predictions, 10)
    np.testing.assert_array_equal(at_end.tail_media, everything[:, 8:12], "52 weeks before the weeks 60..63")


def test_a_windows_own_costs_reproduce_money_that_bought_unequal_media() -> None:
    predictions = example(cost=2.0)
    spend = predictions.spend.copy()
    spend[0::7] *= 1.3  # some weeks were dearer
    spend[3] = 0.0  # and once media ran that nobody paid for
    predictions = dataclasses.replace(predictions, spend=spend)
    window = plan_window(predictions, 60, cost="period")
    np.testing.assert_allclose(
        window_kpi(predictions.response, window)[:, :, :60], predictions.draws.reshape(8, 2, 60), rtol=1e-4
    )
    average = plan_window(predictions, 60)
    np.testing.assert_allclose(average.media_per_money, 0.5)


@ORDER
def test_carry_over_tap_by_tap_equals_the_matrix(adstock_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = example(adstock_first=adstock_first, shape="s")
    window, weights = plan_window(predictions, 30), np.random.default_rng(0).random(8)
    by_matrix = value_and_gradient(predictions.response, window, weights=weights)
    monkeypatch.setattr("wanamaker.decisions.response._Carry._MOST", 0)
    by_taps = value_and_gradient(predictions.response, window, weights=weights)
    for one, other in zip(by_matrix, by_taps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


@LINKS
def test_increments_by_channel(link: str) -> None:
    predictions = example(link=link, organic=1)
    response, window = predictions.response, plan_window(predictions, 20)
    removed = channel_incremental(response, window)
    for c in range(3):
        without = window.spend.copy()
        without[:, :, c] = 0
        np.testing.assert_allclose(
            removed[:, :, c], incremental(response, window, reference=without).sum(axis=2), rtol=1e-9, atol=1e-9
        )
    assert not removed[:, :, 2].any(), "an organic channel has no money to take away"


def test_only_the_channels_that_vary_are_evaluated_and_the_rest_stays() -> None:
    predictions = example(channels=4)
    response, window = predictions.response, plan_window(predictions, 20)
    surface = ResponseSurface(response, window, vary=np.array([True, False, True, False]))
    spend = window.spend.copy()
    spend[:, :, [0, 2]] *= 1.4
    np.testing.assert_allclose(surface.kpi(spend), window_kpi(response, window, spend), rtol=1e-12)
    assert surface.channels == [0, 2]


@LINKS
def test_prices_move_the_kpi_by_their_curves(link: str) -> None:
    predictions = example(link=link)
    response, window = predictions.response, plan_window(predictions, 20)
    assert driver_parts(response, window.driver)[..., 0] == pytest.approx(
        predictions.parts.reshape(8, 2, 60, -1)[:, :, 40:, 2], rel=1e-5
    )
    dearer = window.driver.copy()
    dearer[..., 0] *= 1.1
    change = window_eta(response, window, driver=dearer) - window_eta(response, window)
    assert (change[:, :, :20] < 0).all()
    assert not change[:, :, 20:].any()
    dearer[1, 3, 0] = 0
    with pytest.raises(UserError, match="price is 0 for series 'geo 1' in period 3"):
        driver_parts(response, dearer)


def test_curves_go_through_their_knots_and_on_in_a_straight_line() -> None:
    grid = np.array([0.0, 0.5, 2.0, 3.0])
    values, slopes = np.stack([grid**3, np.sqrt(grid + 1)]), np.stack([3 * grid**2, 0.5 / np.sqrt(grid + 1)])
    curves = HermiteCurves(grid, values, slopes)
    x = np.array([[0.0, 0.3, 1.7, 3.0, 5.0, -1.0]])
    value, slope = curves(x)
    np.testing.assert_allclose(value[0], [0, 0.027, 4.913, 27, 27 + 2 * 27, 0], atol=1e-12)
    np.testing.assert_allclose(slope[0], [0, 0.27, 8.67, 27, 27, 0], atol=1e-12)
    assert value[1, -1] == pytest.approx(0.5)
    assert not curves.is_concave()
    assert HermiteCurves(grid, values[1:], slopes[1:]).is_concave()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"periods": 0}, "periods=0: give a whole number"),
        ({"periods": 61}, "the data do not have: they are 60 periods, 2023-01-02 to 2024-02-19"),
        ({"start": "tomorrow"}, "start='tomorrow' is not a date"),
        ({"end": "2031-01-01"}, "end=2031-01-01: the data run from 2023-01-02"),
        ({"start": "2023-03-01", "end": "2023-02-01"}, "a window that the data do not have"),
        ({"start": "2023-03-01", "end": "2023-04-01", "periods": 3}, "give two of the three"),
        ({"cost": "cheap"}, "cost='cheap': choose from average, period"),
    ],
)
def test_a_window_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_window(example(), **options)


def test_a_window_by_dates_holds_the_periods_those_days_lie_in() -> None:
    window = plan_window(example(), start="2023-03-08", end="2023-04-03")
    assert (window.dates[0], window.dates[-1]) == (np.datetime64("2023-03-06"), np.datetime64("2023-04-03"))
    assert plan_window(example(), start="2023-03-08", periods=2).num_periods == 2
    assert plan_window(example()).num_periods == 52


def test_missing_rows_and_broken_numbers_are_named() -> None:
    predictions = example()
    with pytest.raises(UserError, match="no row for series 'geo 1' on 2024-01-08"):
        plan_window(predictions.select(predictions.row != 60 + 53), 20)
    with pytest.raises(UserError, match="The predictions begin at 2023-03-13"):
        plan_window(predictions.select(predictions.row % 60 >= 10), 50)
    spend = predictions.spend.copy()
    spend[60 + 50, 1] = np.nan
    with pytest.raises(UserError, match="spend of Search is nan for series 'geo 1' on 2023-12-18"):
        plan_window(dataclasses.replace(predictions, spend=spend), 20)
    with pytest.raises(UserError, match="predictions of a mix model, not str"):
        plan_window("nothing")  # type: ignore[arg-type]
