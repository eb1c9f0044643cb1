"""`data.twin`: the KPI of a replicate in place of the observed one, matched by name and date."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from tests.unit.data.panel_files import ROLES, grid, panel_frame, write

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.errors import UserError

GEOS = ("north", "south", "west")
DATES = pd.date_range("2021-01-04", periods=30, freq="W-MON")


def posterior(
    path: Path, *, series=GEOS, dates=DATES, dims=("replicate", "series", "time"), group=None, **change
) -> Path:
    """A file with replicates 0..3; kpi[r, g, t] = 1000 * r + 100 * g + t, in the order of `series` and `dates`."""
    r, g, t = np.meshgrid(np.arange(4), np.arange(len(series)), np.arange(len(dates)), indexing="ij")
    kpi = (1000.0 * r + 100 * g + t).astype(np.float32)
    coords = {"replicate": np.arange(4), "series": np.array(series, object), "time": dates}
    data = xr.Dataset({"kpi": (("replicate", "series", "time"), kpi)}, coords).transpose(*dims)
    data = data.assign(**change.pop("variables", {})).rename(change.pop("rename", {}))
    data.drop_vars(change.pop("without", [])).to_netcdf(
        path, group=group or "posterior_predictive", engine="h5netcdf", mode="w"
    )
    return path


def module(folder: Path, path: Path, replicate: Any = 0, frame: pd.DataFrame | None = None, **options: Any):
    frame = panel_frame(geos=GEOS) if frame is None else frame
    twin = {"posterior": str(path), "replicate": replicate}
    settings = {"roles": ROLES, "split": {"val": 4, "test": 4}, **options}
    return MediaPanelDataModule(path=str(write(folder, frame)), twin=twin, **settings)


def ready(*args: Any, **options: Any) -> MediaPanelDataModule:
    data = module(*args, **options)
    data.preflight()
    data.setup("fit")
    return data


def values(replicate: int, series: int, times: slice = slice(None)) -> np.ndarray:
    return (1000 * replicate + 100 * series + np.arange(30, dtype=np.float32))[times]


@pytest.mark.parametrize("replicate", [0, 3])
def test_the_kpi_is_that_of_the_replicate_and_nothing_else_changes(tmp_path: Path, replicate: int) -> None:
    frame = panel_frame(geos=GEOS)
    data = ready(tmp_path, posterior(tmp_path / "posterior.nc"), replicate, frame)
    plain = MediaPanelDataModule(path=str(tmp_path / "panel.csv"), roles=ROLES, split={"val": 4, "test": 4})
    plain.setup("fit")
    np.testing.assert_array_equal(data.panel.kpi, np.stack([values(replicate, g) for g in range(3)]))
    assert data.panel.kpi.dtype == np.float32
    np.testing.assert_array_equal(plain.panel.kpi, grid(frame, "sales"))
    for name in ("media", "spend", "price", "control"):
        np.testing.assert_array_equal(getattr(data.panel, name), getattr(plain.panel, name))
    assert data.schema == plain.schema
    np.testing.assert_array_equal(data.split_of, plain.split_of)
    batch = next(iter(data.train_dataloader()))
    np.testing.assert_array_equal(batch.kpi, 1000 * replicate + 100 * batch.series + batch.time)


def test_series_are_matched_by_name_and_periods_by_date(tmp_path: Path) -> None:
    path = posterior(
        tmp_path / "p.nc",
        series=("extra", "west", "south", "north"),
        dates=pd.date_range("2020-12-07", periods=40, freq="W-MON")[::-1],
        dims=("time", "replicate", "series"),
    )
    data = ready(tmp_path, path, 1, exclude_series=["south"])
    # 2021-01-04 is number 4 from the start of 40, which are stored backwards
    expected = 1000 + 39 - 4 - np.arange(30, dtype=np.float32)
    np.testing.assert_array_equal(data.panel.kpi, np.stack([expected + 300, expected + 100]))


def test_what_was_not_observed_stays_so(tmp_path: Path) -> None:
    frame = panel_frame(geos=GEOS)
    frame.loc[(frame["geo"] == "south") & (frame["date"] == "2021-02-01"), "sales"] = None
    path = posterior(tmp_path / "p.nc", dates=DATES[2:])
    data = ready(tmp_path, path, frame=frame, pre_period=2, mask=["2021-03-01"])
    assert data.panel.num_periods == 28
    assert np.argwhere(np.isnan(data.panel.kpi)).tolist() == [[0, 6], [1, 2], [1, 6], [2, 6]]
    assert data.panel.kpi[2, 3] == 203


def test_periods_without_a_kpi_need_no_replicate(tmp_path: Path) -> None:
    frame = panel_frame(geos=GEOS)
    frame.loc[frame["date"] > "2021-07-19", "sales"] = None
    data = ready(tmp_path, posterior(tmp_path / "p.nc", dates=DATES[:29]), frame=frame)
    assert np.isnan(data.panel.kpi[:, 29:]).all()
    assert np.isfinite(data.panel.kpi[:, :29]).all()


def test_spend_is_divided_by_the_observed_kpi(tmp_path: Path) -> None:
    """The model that made the twin saw the money so divided; its return on it is the truth to be found again."""
    frame = panel_frame(geos=GEOS)
    frame["tv"] = frame.groupby("date")["tv"].transform("first")
    roles = {**ROLES, "media": {"tv": {"spend": "tv", "shared": "equal"}, "radio": {"spend": "radio"}}}
    data = ready(tmp_path, posterior(tmp_path / "p.nc"), 2, frame, roles=roles, share_by_kpi=True)
    plain = MediaPanelDataModule(
        path=str(tmp_path / "panel.csv"), roles=roles, split={"val": 4, "test": 4}, share_by_kpi=True
    )
    plain.setup("fit")
    np.testing.assert_array_equal(data.panel.spend, plain.panel.spend)


def nothing(path: Path) -> Path:
    path.write_text("no netCDF")
    return path


@pytest.mark.parametrize(
    ("make", "replicate", "message"),
    [
        (lambda p: p, 0, r"data\.twin\.posterior=.*p\.nc is not on disk; name the posterior\.nc"),
        (nothing, 0, r"p\.nc holds no replicated KPI \(group posterior_predictive, variable kpi"),
        (lambda p: posterior(p, group="posterior"), 0, r"holds no replicated KPI"),
        (lambda p: posterior(p, rename={"kpi": "y"}), 0, r"holds no replicated KPI .*: it has y over replicate"),
        (lambda p: posterior(p, rename={"replicate": "draw"}), 0, r"it has kpi over draw, series, time"),
        (lambda p: posterior(p, without=["series"]), 0, r"its series has no labels"),
        (lambda p: posterior(p, dates=np.arange(30)), 0, r"its time is no date"),
        (posterior, 4, r"data\.twin\.replicate=4, but .*p\.nc has 4 replicates, 0 to 3"),
        (lambda p: posterior(p, series=("north", "South", "east")), 0, r"no replicate of 2 series .*: south, west; it"),
        (
            lambda p: posterior(p, dates=DATES[3:]),
            0,
            r"covers 2021-01-25 to 2021-07-26, but not 3 periods .*2021-01-04",
        ),
        (lambda p: posterior(p, dates=DATES + pd.Timedelta(days=1)), 0, r"but not 30 periods"),
    ],
)
def test_user_errors(tmp_path: Path, make: Any, replicate: int, message: str) -> None:
    data = module(tmp_path, make(tmp_path / "p.nc"), replicate)
    with pytest.raises(UserError, match=message):
        data.preflight()


def test_a_replicate_with_holes(tmp_path: Path) -> None:
    path = posterior(tmp_path / "p.nc")
    with xr.open_dataset(path, group="posterior_predictive", engine="h5netcdf") as data:
        whole = data.load()
    whole["kpi"][1, 2, 5] = np.nan
    whole.to_netcdf(path, group="posterior_predictive", engine="h5netcdf", mode="w")
    assert ready(tmp_path, path, 0).num_train_rows == 66
    with pytest.raises(UserError, match=r"replicate 1 has no number for 1 rows, first series 'west' on 2021-02-08"):
        ready(tmp_path, path, 1)


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        ({"replicate": 1}, r"data\.twin\.posterior is missing"),
        ({"posterior": "p.nc", "replicate": -1}, r"data\.twin\.replicate=-1"),
        ({"posterior": "p.nc", "replicate": "first"}, r"data\.twin\.replicate='first'"),
        ({"posterior": "p.nc", "draw": 1}, r"data\.twin\.draw is no option"),
        ("p.nc", r"data\.twin='p\.nc' is no mapping; its keys are posterior, replicate"),
    ],
)
def test_options_are_checked_without_a_file(twin: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MediaPanelDataModule(path="panel.csv", roles=ROLES, twin=twin)
