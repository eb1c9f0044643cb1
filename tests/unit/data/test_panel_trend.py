"""The smooth trend: its covariance is that of the kernel, other dates follow, and what cannot work is refused."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import yaml

from wanamaker.data.panel_calendar import calendar_columns, fit_calendar, parse_calendar
from wanamaker.data.panel_trend import fit_trend, parse_trend, trend_columns
from wanamaker.errors import UserError

WEEKS = pd.date_range("2018-01-07", periods=260, freq="W-SUN").to_numpy().astype("datetime64[D]")
FIRST, YEAR = np.datetime64("2018-01-01"), 365.25


def curve(years: float, **hsgp) -> dict:
    """A trend fitted on a window of that many years."""
    return fit_trend(parse_trend({"hsgp": hsgp}), FIRST, FIRST + np.timedelta64(round(years * YEAR), "D"))


def matrix(fitted: dict, days: np.ndarray) -> np.ndarray:
    """Columns of the curve, without the straight line, [T, basis]."""
    columns = trend_columns(fitted, days)
    assert next(iter(columns)) == "trend"
    return np.stack([values for name, values in columns.items() if name.startswith("trend_gp")], axis=1)


@pytest.mark.parametrize(
    ("years", "lengthscale", "basis", "boundary"),
    [(3.0, 1.0, 6, None), (2.0, 1.0, 8, 3.2), (5.0, 1.0, 8, None), (4.0, 0.5, 13, 1.8), (1.0, 1.0, 8, None)],
)
def test_the_covariance_is_that_of_the_kernel(years, lengthscale, basis, boundary) -> None:
    fitted = curve(years, lengthscale=lengthscale, basis=basis, boundary=boundary)
    days = FIRST.astype(int) + np.linspace(0, years * YEAR, 60)
    made = matrix(fitted, days)
    distance = (days[:, None] - days) / YEAR
    exact = np.exp(-(distance**2) / (2 * lengthscale**2))
    np.testing.assert_allclose(made @ made.T, exact, atol=0.02)


def test_random_coefficients_make_a_curve_of_their_standard_deviation() -> None:
    days = FIRST.astype(int) + np.linspace(0, 4 * YEAR, 50)
    made = matrix(curve(4, lengthscale=1.0, basis=12), days)
    draws = 0.3 * np.random.default_rng(0).normal(size=(20_000, 12)) @ made.T
    np.testing.assert_allclose(draws.std(axis=0), 0.3, rtol=0.03)


def test_the_first_column_is_the_line_and_the_names_count() -> None:
    options = parse_calendar(None, None, None, {"hsgp": {"lengthscale": 1.0, "basis": 8, "boundary": 1.5}})
    calendar = fit_calendar(options, "W-SUN", 52.18, WEEKS[:150])
    columns = calendar_columns(calendar, WEEKS)
    assert columns.trend_names == ("trend", *(f"trend_gp_{j}" for j in range(1, 9)))
    np.testing.assert_allclose(np.diff(columns.trend[:, 0]), 7 / YEAR, atol=1e-5)
    assert columns.trend[:150, 0].mean() == pytest.approx(0, abs=1e-6)
    assert np.linalg.matrix_rank(columns.trend[:150]) == 9


def test_later_dates_follow_and_end_at_the_boundary() -> None:
    options = parse_calendar(None, None, None, {"hsgp": {"lengthscale": 0.8, "basis": 10, "boundary": 2.0}})
    calendar = fit_calendar(options, "W-SUN", 52.18, WEEKS[:104])
    whole = calendar_columns(calendar, WEEKS).trend
    for trip in (json.loads(json.dumps(calendar)), yaml.safe_load(yaml.safe_dump(calendar))):
        np.testing.assert_array_equal(calendar_columns(trip, WEEKS[90:180:-1]).trend, whole[90:180:-1])
        np.testing.assert_array_equal(calendar_columns(trip, WEEKS[120:140]).trend, whole[120:140])
    size = np.abs(whole[:, 1:]).sum(axis=1)
    assert size[130] > 0.1, "26 weeks after training"
    assert np.abs(whole[158:, 1:]).max() < 1e-5, "a year after training, twice half the window: the line alone"
    assert np.abs(np.diff(whole[:, 1:], axis=0)).max() < 0.2, "without a jump"
    shorter = fit_calendar(options, "W-SUN", 52.18, WEEKS[:104].copy())
    assert shorter == calendar, "later dates decide nothing"


def test_a_line_and_knots_have_no_curve() -> None:
    for wish in ("linear", {"knots": 2}, {"hsgp": None}):
        assert "hsgp" not in fit_trend(parse_trend(wish), WEEKS[0], WEEKS[-1])


def test_too_few_columns_are_refused_with_the_number_that_is_enough() -> None:
    # 1.75 * 1.5 * 3 / 0.5 = 15.75
    with pytest.raises(UserError, match=r"basis=8 columns .* 0\.5 years .* 6\.00 years .* ask for 16 .*hsgp\.basis=16"):
        curve(6, lengthscale=0.5)
    assert curve(6, lengthscale=0.5, basis=16)["hsgp"]["basis"] == 16
    with pytest.raises(UserError, match=r"from about 0\.99 years") as caught:
        curve(6, lengthscale=0.5, boundary=1.5)
    assert "Riutort-Mayol" in str(caught.value)
    assert curve(6, lengthscale=0.99, boundary=1.5)["hsgp"]["basis"] == 8


def test_a_near_boundary_is_told_and_null_chooses_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        near = curve(3, lengthscale=1.0, boundary=1.5)
    assert "82 % of what it is meant to be" in caplog.text
    assert "needs a boundary of 2.00" in caplog.text
    ends = FIRST.astype(int) + np.array([0, 3 * YEAR])
    np.testing.assert_allclose(np.sqrt((matrix(near, ends) ** 2).sum(axis=1)), 0.82, atol=0.01)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        chosen = curve(3, lengthscale=1.0)
    assert caplog.text == ""
    assert chosen["hsgp"]["half_width"] == pytest.approx(3.2, rel=1e-3)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"hsgp": {"length": 1}}, r"data\.trend\.hsgp\.length is no option\. Did you mean 'lengthscale'"),
        ({"hsgp": 3}, r"data\.trend\.hsgp=3 is no mapping"),
        ({"hsgp": {"lengthscale": 0}}, r"hsgp\.lengthscale=0; give years"),
        ({"hsgp": {"lengthscale": "1y"}}, r"hsgp\.lengthscale='1y'"),
        ({"hsgp": {"basis": 2.5}}, r"hsgp\.basis=2\.5"),
        ({"hsgp": {"basis": 0}}, r"hsgp\.basis=0"),
        ({"hsgp": {"boundary": 1.0}}, r"hsgp\.boundary=1\.0; .* 1\.2 or more"),
        ({"hsgp": {}, "knots": 3}, r"knots=3 and hsgp: both bend"),
        ({"gp": {}}, r"data\.trend\.gp is no option"),
        ("gp", r"data\.trend='gp'; choose null, linear, \{knots: 4\}, or \{hsgp"),
    ],
)
def test_user_errors(wish, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_trend(wish)
