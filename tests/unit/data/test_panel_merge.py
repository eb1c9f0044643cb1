"""Monthly tables on finer calendars: totals are conserved, values carried, and the edges are told."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from panel_files import panel_frame, read, write

from wanamaker.data.panel_dates import Calendar, calendar_from, parse_day
from wanamaker.data.panel_merge import MergeFile, carry_values, spread_totals
from wanamaker.data.panel_roles import PanelRoles
from wanamaker.data.panel_table import read_panel
from wanamaker.errors import UserError


def calendar(period: str, first: str, last: str) -> Calendar:
    return calendar_from(period, parse_day("first", first), parse_day("last", last))


YEAR = calendar("MS", "2015-07-01", "2016-06-01")


# -- pure functions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["D", "MS", *(f"W-{day}" for day in ("MON", "THU", "SUN"))])
def test_totals_are_conserved(period: str) -> None:
    totals = np.random.default_rng(0).gamma(1, 50, (12, 3))
    panel = calendar(period, "2015-06-25", "2016-07-05")  # weeks and days around the year
    before, after = calendar("MS", "2015-06-01", "2015-06-01"), calendar("MS", "2016-07-01", "2016-07-01")
    own = calendar("MS", "2015-06-01", "2016-07-01")
    padded = np.concatenate([np.zeros((1, 3)), totals, np.zeros((1, 3))])
    assert before.first == own.first
    assert after.dates()[0] == own.dates()[-1]
    spread = spread_totals(padded, own, panel)
    np.testing.assert_allclose(spread.sum(axis=0), totals.sum(axis=0), rtol=1e-12)
    months = panel.dates().astype("datetime64[M]")
    for m in range(12):
        inside = months == np.datetime64("2015-07") + m
        if period in ("D", "MS"):  # periods that lie in one month: month by month
            np.testing.assert_allclose(spread[inside].sum(axis=0), totals[m], rtol=1e-12)


def test_a_week_takes_the_days_of_each_of_its_months() -> None:
    week = calendar("W-MON", "2015-07-27", "2015-07-27")  # 5 days of July, 2 of August
    totals = np.array([[31.0], [310.0]])
    own = calendar("MS", "2015-07-01", "2015-08-01")
    np.testing.assert_allclose(spread_totals(totals, own, week), [[5 * 1.0 + 2 * 10.0]])


def test_days_of_february() -> None:
    days = calendar("D", "2016-02-01", "2016-02-29")
    np.testing.assert_allclose(spread_totals(np.array([[29.0]]), calendar("MS", "2016-02-01", "2016-02-01"), days), 1.0)


def test_a_period_with_an_unknown_day_is_unknown() -> None:
    weeks = calendar("W-SUN", "2015-06-28", "2015-08-02")
    spread = spread_totals(np.array([[31.0]]), calendar("MS", "2015-07-01", "2015-07-01"), weeks)
    np.testing.assert_array_equal(np.isnan(spread[:, 0]), [True, False, False, False, True, True])


def test_values_are_carried_and_averaged_over_days() -> None:
    values = np.array([[50.0], [np.nan], [60.0]])  # no survey in August
    own = calendar("MS", "2015-07-01", "2015-09-01")
    days = calendar("D", "2015-06-29", "2015-10-03")
    carried = carry_values(values, own, days)[:, 0]
    assert np.isnan(carried[:2]).all()
    assert (carried[2:64] == 50).all()
    assert (carried[64:] == 60).all()
    weeks = carry_values(values, own, calendar("W-SUN", "2015-06-28", "2015-08-30"))[:, 0]
    assert weeks[0] == 50  # the known days of the week
    np.testing.assert_allclose(weeks[-1], (2 * 50 + 5 * 60) / 7)  # 30 August to 5 September


# -- tables ----------------------------------------------------------------------------------------------------------


def daily(first: str = "2015-07-01", days: int = 366, geos: tuple[str, ...] = ("north",)) -> pd.DataFrame:
    frame = panel_frame(periods=days, geos=geos, freq="D").drop(columns=["tv", "radio"])
    frame["date"] = np.tile(pd.date_range(first, periods=days).strftime("%Y-%m-%d"), len(geos))
    return frame


def monthly(months: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2015-07-01", periods=months, freq="MS")
    spend = rng.gamma(1, 50, (months, 2)).round(1)
    frame = pd.DataFrame(spend, columns=["TV", " Radio"])
    return frame.assign(Year=dates.year, Month=dates.month, Date=dates.strftime("%m/%d/%Y"))


def entry(path: Path, **change: Any) -> dict[str, Any]:
    given = {
        "path": str(path),
        "year": "Year",
        "month": "Month",
        "columns": {"TV": "tv", " Radio": "radio"},
        "how": "total",
    }
    return {key: value for key, value in {**given, **change}.items() if value is not None}


def test_daily_sales_with_monthly_media_and_a_monthly_score(tmp_path: Path) -> None:
    spend = monthly()
    media = write(tmp_path, spend, "media.csv")
    scores = write(tmp_path, spend.assign(NPS=np.arange(12) + 40.0)[["Date", "NPS"]], "nps.csv")
    merge = [
        entry(media),
        {"path": str(scores), "date": "Date", "date_format": "%m/%d/%Y", "columns": {"NPS": "nps"}, "how": "value"},
    ]
    panel = read(tmp_path, daily(), {"control": ["nps"]}, merge=merge)
    months = panel.dates.astype("datetime64[M]").astype(int) - 546
    for m in range(12):
        of_month = panel.media[0, months == m]
        np.testing.assert_allclose(of_month.sum(axis=0), spend.loc[m, ["TV", " Radio"]].to_numpy(float), rtol=1e-5)
        assert (of_month == of_month[0]).all()
        # the defect of the prior system: a month's total on each of its days
        assert (of_month[:, 0] < spend.loc[m, "TV"] / 27).all()
        assert (panel.control[0, months == m, 0] == 40 + m).all()
    np.testing.assert_allclose(panel.spend.sum(axis=(0, 1), dtype=float), spend[["TV", " Radio"]].sum(), rtol=1e-7)


@pytest.mark.parametrize("geos", [("north",), ("north", "south", "west")])
def test_national_money_is_conserved_over_series_too(tmp_path: Path, geos: tuple[str, ...]) -> None:
    media = write(tmp_path, monthly(), "media.csv")
    panel = read(tmp_path, daily(geos=geos), merge=[entry(media, scale=10.0)])
    totals = monthly()[["TV", " Radio"]].sum() * 10
    np.testing.assert_allclose(panel.spend.sum(axis=(0, 1), dtype=float), totals, rtol=1e-7)
    for g in range(len(geos)):  # each series saw the whole campaign
        np.testing.assert_allclose(panel.media[g].sum(axis=0), totals, rtol=1e-5)


def test_totals_by_series(tmp_path: Path) -> None:
    spend = pd.concat([monthly(seed=i).assign(geo=geo) for i, geo in enumerate(("south", "north", "mars"))])
    media = write(tmp_path, spend, "media.csv")
    panel = read(tmp_path, daily(geos=("north", "south")), merge=[entry(media, by=["geo"])])
    for g, geo in enumerate(("north", "south")):
        of_geo = spend[spend["geo"] == geo][["TV", " Radio"]].sum()
        np.testing.assert_allclose(panel.spend[g].sum(axis=0), of_geo, rtol=1e-5)
    assert panel.spend is panel.media
    absent = write(tmp_path, spend[spend["geo"] != "south"], "media.csv")
    with pytest.raises(UserError, match="has no row for series 'south'"):
        read(tmp_path, daily(geos=("north", "south")), merge=[entry(absent, by=["geo"])])


def test_the_edges(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    media = write(tmp_path, monthly(), "media.csv")
    weeks = panel_frame(periods=39, geos=("north",)).drop(columns=["tv", "radio"])
    weeks["date"] = pd.date_range("2015-06-28", periods=39, freq="W-SUN").strftime("%Y-%m-%d")
    with pytest.raises(UserError) as raised:
        read(tmp_path, weeks, merge=[entry(media)])
    assert "column 'TV' of media.csv does not cover the period of 2015-06-28 (it has 2015-07-01 to 2016-06-30)" in str(
        raised.value
    )
    assert "roles.fill: {tv: 0}" in str(raised.value)
    # declared to be 0, or left out: the rest of the amount is told
    with caplog.at_level(logging.WARNING):
        filled = read(tmp_path, weeks, {"fill": {"tv": 0, "radio": 0}}, merge=[entry(media)])
        later = read(tmp_path, weeks.iloc[1:], merge=[entry(media)])
    np.testing.assert_allclose(filled.spend[:, 1:], later.spend, rtol=1e-6)
    july = monthly().loc[0, "TV"]
    assert filled.spend[0, 0, 0] == pytest.approx(4 / 31 * july, rel=1e-6)
    assert "in column 'TV' of media.csv belongs to days outside the panel" in caplog.text
    inside = (filled.dates[-1] + 7 - np.datetime64("2016-03-01")).astype(int)  # days of March
    expected = monthly()["TV"][:8].sum() + monthly()["TV"][8] * inside / 31
    assert filled.spend[..., 0].sum() == pytest.approx(expected, rel=1e-6)


def test_scores_end_before_the_panel(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = write(tmp_path, monthly(3).assign(NPS=[50, 60, 70]), "nps.csv")
    merge = [entry(scores, columns={"NPS": "nps"}, how="value")]
    frame = panel_frame(periods=123, geos=("north",), freq="D")
    frame["date"] = pd.date_range("2015-07-01", periods=123).strftime("%Y-%m-%d")
    with caplog.at_level(logging.WARNING):
        panel = read(tmp_path, frame, {"control": ["nps"]}, merge=merge)
    assert (panel.control[0, -31:, 0] == 70).all()
    assert "the values of nps.csv end on 2015-09-30 and are carried to 2015-10-31" in caplog.text
    frame["date"] = pd.date_range("2015-06-15", periods=123).strftime("%Y-%m-%d")
    with pytest.raises(
        UserError, match=r"column 'NPS' of nps.csv does not cover the period of 2015-06-15.*first of 16"
    ):
        read(tmp_path, frame, {"control": ["nps"]}, merge=merge)


def test_everything_wrong_with_a_merged_table_is_told_at_once(tmp_path: Path) -> None:
    spend = monthly().astype({"TV": object})
    spend.loc[2, "TV"] = "1,000"
    spend.loc[3, " Radio"] = -1
    spend.loc[4, " Radio"] = np.nan
    spend.loc[7, "Month"] = 13
    spend.loc[9, "Month"] = 5  # twice May, no April
    media = write(tmp_path, spend, "media.csv")
    with pytest.raises(UserError) as raised:
        read(tmp_path, daily(), merge=[entry(media)])
    message = str(raised.value)
    for part in (
        "column 'TV' (tv), row 4 of",
        "thousands separators: write 1000 instead",
        "negative spend: column ' Radio' (spend of radio), row 5 of",
        "empty cell: column ' Radio' (spend of radio), row 6 of",
        "roles.fill: {radio: 0}",
        "date that does not parse: column 'Year, Month' of",
        "row 9: '2016-13'",
        "duplicate period: media.csv, rows 11 and 12 (2016-05-01)",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"how": "sum"}, "choose from total, value"),
        ({"how": None}, "merge[0].how is missing"),
        ({"hwo": "total"}, "Did you mean 'how'?"),
        ({"month": None}, "either `date`, or `year` and `month`"),
        ({"columns": {"TV": "tvv"}}, "'tvv', which has no role. Did you mean 'tv'?"),
        ({"columns": {"TV": "sales"}}, "names the KPI 'sales'"),
        ({"by": ["store"]}, "'store', which is no series key"),
        ({"every": "QS"}, "is not a period a panel can have"),
        ({"scale": 0}, "must be a number above 0"),
    ],
)
def test_entries_that_make_no_sense(change: dict[str, Any], says: str) -> None:
    roles = PanelRoles.from_config({"date": "d", "kpi": "sales", "series": ["geo"], "media": ["tv", "radio"]})
    with pytest.raises(UserError) as raised:
        MergeFile.from_config(entry(Path("m.csv"), **change), "merge[0]", roles)
    assert says in str(raised.value)


def test_columns_in_two_places(tmp_path: Path) -> None:
    media = write(tmp_path, monthly(), "media.csv")
    with pytest.raises(UserError, match="column 'tv' is there and is merged, too"):
        read(tmp_path, daily().assign(tv=1.0), merge=[entry(media)])
    with pytest.raises(UserError, match=r"column 'Tv' is not there. Did you mean 'TV'"):
        read(tmp_path, daily(), merge=[entry(media, columns={"Tv": "tv", " Radio": "radio"})])


@pytest.mark.realdata
def test_eleckart_monthly_media_onto_weeks(data_dir: Path) -> None:
    folder = data_dir / "mmm" / "eleckart"
    names = {"TV": "TV", " Affiliates": "Affiliates", "SEM": "SEM", "Radio": "Radio"}
    frame = pd.read_csv(folder / "eleckart_weekly_subcategory.csv").drop(columns=[*names.values(), "NPS"])
    roles = {
        "date": {"column": "week", "origin": "2015-06-28", "step": "W-SUN"},
        "kpi": "gmv",
        "series": ["product_analytic_sub_category"],
        "media": list(names.values()),
        "control": ["NPS"],
        "fill": dict.fromkeys(names.values(), 0),  # blanks are months without the channel; nothing before July
    }
    merge = [
        {"path": folder / "MediaInvestment.csv", "year": "Year", "month": "Month", "columns": names, "how": "total"},
        {
            "path": folder / "MonthlyNPSscore.csv",
            "date": "Date",
            "date_format": "%m/%d/%Y",
            "columns": {"NPS": "NPS"},
            "how": "value",
        },
    ]
    panel = read_panel(frame, roles, on_gap="mask", merge=merge)
    totals = pd.read_csv(folder / "MediaInvestment.csv")[list(names)].sum()
    np.testing.assert_allclose(panel.spend.sum(axis=(0, 1), dtype=float), totals, rtol=1e-7)
    np.testing.assert_allclose(panel.media[5].sum(axis=0), totals, rtol=1e-5)
    assert panel.media[0, 0, 0] == pytest.approx(0.2 * 4 / 31, rel=1e-5)  # 4 days of July
    assert panel.control[0, 5, 0] == 60  # August
