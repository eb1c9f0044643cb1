"""Calendar columns: what they are, that only the training window decides them, and that other dates can follow."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from wanamaker.data.panel_calendar import calendar_columns, check_calendar_files, fit_calendar, parse_calendar
from wanamaker.errors import UserError

WEEKS = pd.date_range("2019-01-06", periods=130, freq="W-SUN").to_numpy().astype("datetime64[D]")
DAYS = pd.date_range("2020-01-01", periods=800, freq="D").to_numpy().astype("datetime64[D]")
MONTHS = pd.date_range("2018-01-01", periods=36, freq="MS").to_numpy().astype("datetime64[D]")


def fitted(dates=WEEKS, period="W-SUN", per_year=52.18, *, window=None, **wishes) -> dict:
    given = {"seasonality": None, "holidays": None, "events": None, "trend": None} | wishes
    return fit_calendar(parse_calendar(**given), period, per_year, dates[: len(dates) if window is None else window])


def column(calendar: dict, dates: np.ndarray, name: str) -> np.ndarray:
    columns = calendar_columns(calendar, dates)
    return columns.season[:, columns.season_names.index(name)]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text("Date,Sale\n1/18/2019,Spring\n1/19/2019,Spring\n1/19/2019,Spring\n1/20/2019,Spring\n6/1/2020,Sun\n")
    return path


# -- seasonality -------------------------------------------------------------------------------------------------------


def test_fourier_terms_are_means_over_the_days_of_a_period() -> None:
    columns = calendar_columns(fitted(seasonality={"yearly": 2, "monthly": 1}), WEEKS)
    assert columns.season_names == (
        *("yearly_sin_1", "yearly_cos_1", "yearly_sin_2", "yearly_cos_2"),
        *("monthly_sin_1", "monthly_cos_1"),
    )
    assert columns.season.dtype == np.float32
    assert columns.season.shape == (130, 6)
    days = WEEKS[5].astype(int) + np.arange(7)
    assert columns.season[5, 2] == pytest.approx(np.sin(4 * np.pi * (days + 0.5) / 365.25).mean(), abs=1e-6)
    # 2019-03-03 to 03-09 in a month of 31 days
    place = (np.arange(2, 9) + 0.5) / 31
    row = list(WEEKS).index(np.datetime64("2019-03-03"))
    assert columns.season[row, 5] == pytest.approx(np.cos(2 * np.pi * place).mean(), abs=1e-6)


def test_weekly_season_of_days_repeats_every_seven_days() -> None:
    season = calendar_columns(fitted(DAYS, "D", 365.25, seasonality={"weekly": 3}), DAYS).season
    assert season.shape == (800, 6)
    np.testing.assert_allclose(season[7:], season[:-7], atol=2e-4)
    assert np.linalg.matrix_rank(season[:50]) == 6, "three harmonics tell seven weekdays apart"


@pytest.mark.parametrize(
    ("dates", "period", "per_year", "asked", "most"),
    [
        (WEEKS, "W-SUN", 52.18, {"weekly": 1}, "weekly=0"),
        (WEEKS, "W-SUN", 52.18, {"monthly": 3}, "monthly=2"),
        (DAYS, "D", 365.25, {"weekly": 4}, "weekly=3"),
        (MONTHS, "MS", 12.0, {"yearly": 6}, "yearly=5"),
    ],
)
def test_harmonics_finer_than_the_period_are_refused(dates, period, per_year, asked, most) -> None:
    with pytest.raises(UserError, match=f"set data.seasonality.{most}"):
        fitted(dates, period, per_year, seasonality=asked)


def test_a_window_shorter_than_the_cycle_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted(seasonality={"yearly": 1}, window=40)
    assert "shorter than one cycle" in caplog.text


# -- holidays and events -----------------------------------------------------------------------------------------------


def test_holidays_are_counted_per_period() -> None:
    calendar = fitted(holidays="US")
    count = column(calendar, WEEKS, "holiday")
    row = list(WEEKS).index(np.datetime64("2019-12-29"))
    assert count[row] == 1, "New Year's Day lies in the week that begins in the old year"
    assert count.sum() == pytest.approx(len(_us_days(WEEKS[0], WEEKS[-1] + 7)))
    months = fitted(MONTHS, "MS", 12.0, holidays={"country": "US"})
    november = column(months, MONTHS, "holiday")[10]
    assert november == 3, "11 November 2018 and its Monday, and Thanksgiving"


def _us_days(first: np.datetime64, last: np.datetime64) -> list:
    import holidays

    found = holidays.country_holidays("US", years=range(2018, 2023))
    return [day for day in found if first <= np.datetime64(day) < last]


def test_holidays_by_name() -> None:
    each = fitted(holidays={"country": "IN", "groups": "each"})
    names = calendar_columns(each, WEEKS).season_names
    assert {"holiday_diwali", "holiday_holi"} <= set(names)
    listed = fitted(holidays={"country": "US", "groups": ["Thanksgiving", "christmas"]})
    assert calendar_columns(listed, WEEKS).season_names == ("holiday_christmas", "holiday_thanksgiving")
    row = list(WEEKS).index(np.datetime64("2019-11-24"))
    assert column(listed, WEEKS, "holiday_thanksgiving")[row] == 1
    grouped = fitted(holidays={"country": "US", "groups": {"autumn": ["Columbus", "Veterans", "Thanksgiving"]}})
    autumn = column(grouped, WEEKS, "holiday_autumn")
    assert autumn[list(WEEKS).index(np.datetime64("2019-11-10"))] == 1
    assert autumn[:40].sum() == 0


def test_an_unseen_holiday_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        calendar = fitted(holidays={"country": "US", "groups": ["Thanksgiving", "Memorial"]}, window=30)
    assert calendar_columns(calendar, WEEKS).season_names == ("holiday_memorial",)
    assert "Thanksgiving lies outside the training window" in caplog.text


def test_holidays_outside_the_window_make_no_column(caplog: pytest.LogCaptureFixture) -> None:
    calendar = fitted(WEEKS[11:], holidays="US", window=8)
    assert calendar_columns(calendar, WEEKS).season_names == (), "24 March to 18 May 2019 has none"
    assert "data.holidays: every day lies outside" in caplog.text


def test_how_a_date_came_about_is_no_part_of_a_name() -> None:
    names = calendar_columns(fitted(holidays={"country": "CN", "groups": "each"}), WEEKS).season_names
    assert "holiday_day_off" in names
    assert not [name for name in names if "substituted" in name or "observed" in name]


def test_events_count_each_day_once(events: Path) -> None:
    calendar = fitted(events={"path": str(events), "date": "Date"})
    count = column(calendar, WEEKS, "event")
    by_hand = {"2019-01-13": 2, "2019-01-20": 1, "2020-05-31": 1}
    assert {str(d): int(n) for d, n in zip(WEEKS, count, strict=True) if n} == by_hand
    named = fitted(events={"path": str(events), "date": "Date", "name": "Sale", "groups": "each"}, window=60)
    assert calendar_columns(named, WEEKS).season_names == ("event_spring",), "Sun is not in the training window"


# -- trend -------------------------------------------------------------------------------------------------------------


def test_trend_is_in_years_from_the_centre_of_the_window() -> None:
    columns = calendar_columns(fitted(trend={"knots": 3}, window=104), WEEKS)
    assert columns.trend_names == ("trend", "trend_knot_1", "trend_knot_2", "trend_knot_3")
    trend = columns.trend[:, 0]
    assert trend[:104].mean() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(np.diff(trend), 7 / 365.25, atol=1e-6)
    bends = (columns.trend[:, 1:] > 0).argmax(axis=0)
    assert list(bends) == [26, 52, 78], "evenly inside the training window"
    np.testing.assert_allclose(np.diff(columns.trend[110:, 1]), 7 / 365.25, atol=1e-6)


def test_knots_by_date_lie_inside_the_training_window() -> None:
    calendar = fitted(trend={"knots": ["2019-09-01", "2019-03-01"]}, window=104)
    assert calendar["trend"]["knots"] == ["2019-03-01", "2019-09-01"]
    with pytest.raises(UserError, match="2021-03-01 is outside the training window 2019-01-06 to 2021-01-03"):
        fitted(trend={"knots": ["2021-03-01"]}, window=104)


# -- other dates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dates", "period", "per_year"),
    [(WEEKS, "W-SUN", 52.18), (DAYS, "D", 365.25), (MONTHS, "MS", 12.0)],
    ids=["weeks", "days", "months"],
)
def test_other_dates_follow_from_plain_values(dates, period, per_year, events: Path) -> None:
    half = len(dates) // 2
    calendar = fitted(
        dates,
        period,
        per_year,
        window=half,
        seasonality={"yearly": 2},
        holidays={"country": "US", "groups": "each"},
        events={"path": str(events), "date": "Date"},
        trend={"knots": 2},
    )
    events.unlink()  # a checkpoint must not need the file
    whole = calendar_columns(calendar, dates)
    for trip in (json.loads(json.dumps(calendar)), yaml.safe_load(yaml.safe_dump(calendar))):
        for some in (dates[half:], dates[::-7], dates[:1], dates[:0]):
            again = calendar_columns(trip, some)
            assert (again.season_names, again.trend_names) == (whole.season_names, whole.trend_names)
            places = np.searchsorted(dates, some)
            np.testing.assert_array_equal(again.season, whole.season[places])
            np.testing.assert_array_equal(again.trend, whole.trend[places])
    later = pd.date_range(pd.Timestamp(dates[-1]), periods=30, freq=period)[1:].to_numpy().astype("datetime64[D]")
    ahead = calendar_columns(calendar, later)
    assert ahead.season.shape[1] == whole.season.shape[1]
    assert ahead.trend[0, 0] > whole.trend[-1, 0]


def test_dates_after_the_window_change_nothing(events: Path) -> None:
    wishes = {"seasonality": {"yearly": 2}, "holidays": {"country": "US", "groups": "each"}, "trend": {"knots": 2}}
    assert fitted(WEEKS, window=60, **wishes) == fitted(WEEKS[:60], **wishes)


def test_a_date_that_begins_no_period_is_refused() -> None:
    calendar = fitted(trend="linear")
    with pytest.raises(UserError, match="2019-01-07 does not begin a period of the calendar W-SUN"):
        calendar_columns(calendar, np.array(["2019-01-07"], "datetime64[D]"))


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"seasonality": {"year": 3}}, r"data\.seasonality\.year is no option. Did you mean 'yearly'"),
        ({"seasonality": {"yearly": 1.5}}, r"data\.seasonality\.yearly=1\.5"),
        ({"seasonality": 3}, r"data\.seasonality=3 is no mapping"),
        ({"holidays": {"land": "US"}}, r"data\.holidays\.land is no option"),
        ({"holidays": {"groups": "each"}}, r"data\.holidays\.country is missing"),
        ({"holidays": {"country": "US", "groups": "all"}}, r"data\.holidays\.groups='all'; choose null, each"),
        ({"events": {"path": "x.csv", "groups": "each"}}, r"data\.events\.name"),
        ({"trend": "quadratic"}, r"data\.trend='quadratic'; choose null, linear"),
        ({"trend": {"knots": -1}}, r"data\.trend\.knots=-1"),
        ({"trend": {"knots": ["soon"]}}, r"'soon' is no date"),
        ({"holidays": {"country": "US", "groups": ["Thanksgivin Eve"]}}, r"Did you mean 'Thanksgiving Day'"),
    ],
)
def test_user_errors(wishes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitted(**wishes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holidays": "USA1"}, r"country='USA1' is no country code.*Did you mean USA"),
        ({"holidays": {"country": "DE", "subdivision": "XX"}}, r"subdivision='XX'; DE has .*BY"),
        ({"events": {"path": "missing.csv"}}, r"missing\.csv is not on disk"),
    ],
)
def test_names_are_checked_without_the_panel(options: dict, message: str) -> None:
    given = {"seasonality": None, "holidays": None, "events": None, "trend": None} | options
    with pytest.raises(UserError, match=message):
        check_calendar_files(parse_calendar(**given))


def test_events_that_do_not_parse_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("date,name\n2019-01-18,Spring\nsoon,Spring\n")
    options = parse_calendar(None, None, {"path": str(path)}, None)
    with pytest.raises(UserError, match=r"row 3: date='soon' is no date"):
        check_calendar_files(options)
    with pytest.raises(UserError, match=r"date='day' is no column of .*, which has date, name"):
        check_calendar_files(parse_calendar(None, None, {"path": str(path), "date": "day"}, None))
