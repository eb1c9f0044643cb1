"""The public mix data sets through `read_panel`: every row in its place, honest drivers pass, leaks are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.panel_table import read_panel
from wanamaker.errors import UserError


@pytest.mark.realdata
def test_eleckart(data_dir: Path) -> None:
    path = data_dir / "mmm" / "eleckart" / "eleckart_weekly_subcategory.csv"
    channels = ["TV", "Digital", "Sponsorship", "ContentMarketing", "OnlineMarketing", "Affiliates", "SEM", "Radio"]
    channels.append("Other")
    roles = {
        "date": {"column": "week", "origin": "2015-06-28", "step": "W-SUN"},
        "kpi": "gmv",
        "series": ["product_analytic_sub_category"],
        "media": channels,
        "shared_media": "equal",
        "price": {"list": "product_mrp"},
        "promotion": ["discount", "Holiday.Sale"],
        "control": ["NPS", "sla", "procurement_sla"],
    }
    panel = read_panel(path, roles, on_gap="mask")
    frame = pd.read_csv(path)
    assert panel.kpi.shape == (14, 53)
    assert int(np.isfinite(panel.kpi).sum()) == len(frame) == 667
    np.testing.assert_allclose(np.nansum(panel.kpi), frame["gmv"].sum(), rtol=1e-6)
    weekly = frame.groupby("week")[channels].first().to_numpy()
    np.testing.assert_allclose(panel.spend.sum(axis=0), weekly, rtol=1e-5)
    np.testing.assert_allclose(panel.media[3], weekly, rtol=1e-6)
    assert np.isfinite(panel.price).all()
    with pytest.raises(UserError, match="gap in the calendar: no row for series 'AmplifierReceiver' on 2015-08-02"):
        read_panel(path, roles)
    with pytest.raises(UserError, match="target leakage: 'units' is the KPI 'gmv' in another unit"):
        read_panel(path, {**roles, "control": ["units", "NPS"]}, on_gap="mask")
    with pytest.raises(UserError, match="target leakage: 'gmv' is the KPI 'units' in another unit"):
        read_panel(path, {**roles, "kpi": "units", "control": ["gmv", "NPS"]}, on_gap="mask")


@pytest.mark.realdata
def test_orange_juice(data_dir: Path) -> None:
    path = data_dir / "retail" / "orange_juice" / "oj_panel.csv.gz"
    columns = {brand: f"price{brand}" for brand in range(1, 12)}
    roles = {
        "date": {"column": "week", "origin": "1989-09-14", "step": "W-THU"},
        "kpi": "logmove",
        "kpi_log": True,
        "series": ["store", "brand"],
        "hierarchy": {"brand": "brand"},
        "price": {
            "own": {"columns": columns, "match": "brand", "direction": "own"},
            "others": {"columns": columns, "others_of": "brand", "direction": "cross"},
        },
        "promotion": ["deal", "feat"],
    }
    panel = read_panel(path, roles, on_gap="mask")
    frame = pd.read_csv(path)
    assert panel.kpi.shape == (83 * 11, 121)
    assert int(np.isfinite(panel.kpi).sum()) == len(frame) == 106_139
    assert len(panel.schema.levels["brand"].groups) == 11
    g, t = panel.schema.series.index("5 | 3"), 50  # week 90
    row = frame[(frame.store == 5) & (frame.brand == 3) & (frame.week == 90)].iloc[0]
    prices = row[[f"price{k}" for k in range(1, 12)]].to_numpy(float)
    assert panel.kpi[g, t] == pytest.approx(np.exp(row.logmove), rel=1e-5)
    assert panel.price[g, t, 0] == pytest.approx(prices[2], rel=1e-6)
    assert panel.price[g, t, 1] == pytest.approx(np.exp(np.log(np.delete(prices, 2)).mean()), rel=1e-6)
    assert str(panel.dates[t]) == "1991-05-30"


@pytest.mark.realdata
@pytest.mark.parametrize("size", ["small", "medium"])
def test_param_recovery(data_dir: Path, size: str) -> None:
    path = data_dir / "mmm" / "param_recovery" / f"{size}_business.csv"
    frame = pd.read_csv(path)
    controls = [c for c in frame.columns if c.startswith("c") and not c.endswith("_effect")]
    media = [c for c in frame.columns if c.startswith("x")]
    panel = read_panel(path, {"date": "date", "kpi": "y", "series": ["geo"], "media": media, "control": controls})
    assert panel.kpi.shape == (frame["geo"].nunique(), frame["date"].nunique())
    np.testing.assert_allclose(panel.media.sum(axis=(0, 1)), frame[media].sum(), rtol=1e-5)


@pytest.mark.realdata
def test_meridian(data_dir: Path) -> None:
    folder = data_dir / "mmm" / "meridian_simulated"
    frame = pd.read_csv(folder / "geo_media_rf.csv")
    roles = {
        "date": "time",
        "kpi": "conversions",
        "series": ["geo"],
        "media": {
            **{f"ch{i}": {"spend": f"Channel{i}_spend", "exposure": f"Channel{i}_impression"} for i in range(3)},
            "ch3": {"spend": "Channel3_spend", "reach": "Channel3_reach", "frequency": "Channel3_frequency"},
        },
        "control": ["competitor_activity_score_control", "sentiment_score_control"],
        "population": "population",
    }
    panel = read_panel(folder / "geo_media_rf.csv", roles)
    contacts = (panel.media * panel.contact_frequency)[..., 3].sum(axis=(0, 1))
    assert contacts == pytest.approx((frame["Channel3_reach"] * frame["Channel3_frequency"]).sum(), rel=1e-4)
    everything = {
        **roles,
        "media": {f"ch{i}": {"spend": f"Channel{i}_spend", "exposure": f"Channel{i}_impression"} for i in range(5)},
        "organic": ["Organic_channel0_impression"],
        "promotion": ["Promo"],
        "control": ["competitor_sales_control", "sentiment_score_control"],
    }
    panel = read_panel(folder / "geo_all_channels.csv", everything)
    assert panel.kpi.shape == (40, 156)
    assert panel.schema.paid == (True,) * 5 + (False,)
    assert (panel.spend[..., 5] == 0).all()


HONEST = {
    "pymc_marketing/mmm_example.csv": ("date_week", "y", None, ["x1", "x2"], ["event_1", "event_2", "t"]),
    "pymc_marketing/mmm_multidimensional_example.csv": ("date", "y", "geo", ["x1", "x2"], ["event_1", "event_2"]),
    "pymc_marketing/multidimensional_mock_data.csv": ("date", "y", "geo", ["x1", "x2"], ["event_1", "event_2", "t"]),
    "pymc_marketing/mmm_roas_data.csv": ("date", "y", None, ["x1", "x2"], ["trend", "seasonality", "z", "cs", "cc"]),
    "pymc_marketing/media_tvp_data.csv": ("date_week", "y", None, ["x1", "x2"], ["event_1", "event_2", "dayofyear"]),
    "pymc_marketing/funnel_data.csv": ("date", "target_var", None, [], ["impressions_x1", "impressions_x4", "trend"]),
    "pymc_marketing/mock_cgp_data.csv": ("Weeks", "target1", None, ["TV", "AMS", "Facebook"], ["RSP", "Promotion"]),
    "meridian_simulated/geo_media.csv": ("time", "conversions", "geo", [], ["sentiment_score_control"]),
    "meridian_simulated/geo_full_funnel_data.csv": ("time", "conversions", "geo", [], ["GenericGQV_control"]),
    "meridian_simulated/national_all_channels.csv": ("time", "conversions", None, [], ["sentiment_score_control"]),
    "meridian_simulated/national_media.csv": ("time", "conversions", None, [], ["sentiment_score_control"]),
    "meridian_simulated/national_media_rf.csv": ("time", "conversions", None, [], ["sentiment_score_control"]),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", HONEST)
def test_public_data_sets_pass(data_dir: Path, name: str) -> None:
    date, kpi, geo, media, control = HONEST[name]
    if not media:
        header = pd.read_csv(data_dir / "mmm" / name, nrows=0).columns
        media = [column for column in header if column.endswith("_spend")]
        control = [*control, *(column for column in header if column.endswith("_impression"))]
    roles = {"date": date, "kpi": kpi, "series": [geo] if geo else [], "media": media, "control": control}
    panel = read_panel(data_dir / "mmm" / name, roles)
    assert np.isfinite(panel.kpi).all()
