"""`MediaPanelDataModule` from files: a table written here, and the data configs on the real files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.conftest import ROOT

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.errors import UserError

ROLES = {
    "date": "week",
    "kpi": "sales",
    "series": ["geo"],
    "media": {
        "tv": {"spend": "tv", "shared": "equal"},
        "video": {"spend": "video_cost", "reach": "video_reach", "frequency": "video_frequency"},
    },
    "organic": {"mail": {"exposure": "mail"}},
    "price": {"own": {"column": "price", "direction": "own"}},
    "promotion": ["deal"],
    "control": ["rain"],
}


def table(G: int = 3, T: int = 60, first: str = "2020-01-05") -> pd.DataFrame:
    rng = np.random.default_rng(5)
    weeks = pd.date_range(first, periods=T, freq="W-SUN")
    frame = pd.DataFrame({"geo": np.repeat([f"geo{i}" for i in range(G)], T), "week": np.tile(weeks, G)})
    n = len(frame)
    frame["sales"] = rng.gamma(20, 5, n).round(3)
    frame["tv"] = np.tile(rng.gamma(1, 50, T), G).round(3)
    frame["video_cost"] = rng.gamma(1, 30, n).round(3)
    frame["video_reach"] = rng.integers(100, 1000, n)
    frame["video_frequency"] = rng.uniform(1, 4, n).round(3)
    frame["mail"] = rng.integers(0, 50, n)
    frame["price"] = rng.uniform(4, 6, n).round(2)
    frame["deal"] = rng.integers(0, 2, n)
    frame["rain"] = rng.normal(size=n).round(3)
    return frame


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    table().to_csv(path, index=False)
    return path


def module(path: Path, **options: Any) -> MediaPanelDataModule:
    given = {"roles": ROLES, "split": {"val": 6, "test": 6}, "trend": "linear", **options}
    return MediaPanelDataModule(path=str(path), **given)


def test_a_file_becomes_batches(csv: Path) -> None:
    data = module(csv, max_lag=3)
    data.preflight(["fit", "test", "predict"])
    data.setup("fit")
    frame = table().set_index(["geo", "week"])
    assert data.schema.media == ("tv", "video", "mail")
    assert data.schema.paid == (True, True, False)
    batch = next(iter(data.train_dataloader()))
    assert len(batch.row) == 144
    for i in (0, 77):
        week = pd.Timestamp(data.panel.dates[batch.time[i]])
        geo = data.schema.series[batch.series[i]]
        row = frame.loc[(geo, week)]
        assert batch.kpi[i] == pytest.approx(row.sales)
        assert batch.price[i, 0] == pytest.approx(row.price)
        assert batch.media[i, 0, 0] == pytest.approx(row.tv), "all of the national amount"
        assert batch.media[i, 0, 1] == pytest.approx(row.video_reach * row.video_frequency), "contacts"
        assert batch.media[i, 0, 2] == row.mail
    total = frame.tv.groupby("week").first().sum()
    assert data.panel.spend[..., 0].sum() == pytest.approx(total, rel=1e-5), "counted once, not once per geo"


def test_start_and_pre_period_give_the_same_history(csv: Path) -> None:
    later = module(csv, start="2020-02-09", max_lag=9)
    cut = module(csv, pre_period=5, max_lag=9)
    batches = []
    for data in (later, cut):
        data.setup("fit")
        assert data.panel.lead_in.shape == (3, 5, 3)
        batches.append(data.dataset(np.arange(data.split_of.size)).__getitems__(range(165)))
    np.testing.assert_allclose(batches[0].media, batches[1].media, rtol=1e-6)
    assert batches[0].media[0, 1:6].all(axis=1).any(), "real media before the first week"


def test_parquet_gives_the_same_numbers(csv: Path, tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "sales.parquet")
    one, two = module(csv), module(tmp_path / "sales.parquet")
    one.setup()
    two.setup()
    for name in ("kpi", "media", "spend", "price", "promotion", "control"):
        np.testing.assert_allclose(getattr(one.panel, name), getattr(two.panel, name), rtol=1e-6)


def test_a_table_of_another_country(tmp_path: Path) -> None:
    path = tmp_path / "umsatz.csv"
    table().rename(columns={"price": "Preis\xa0(€)"}).to_csv(path, index=False, sep=";", decimal=",", encoding="cp1252")
    roles = {**ROLES, "price": {"own": {"column": "Preis\xa0(€)", "direction": "own"}}}
    data = module(path, roles=roles, encoding="cp1252", delimiter=";", decimal=",")
    data.preflight(["fit"])
    data.setup("fit")
    np.testing.assert_allclose(data.panel.price[0, :, 0], table().price[:60], rtol=1e-6)


def test_setup_and_a_pass_share_the_panel(tmp_path: Path) -> None:
    """20,000 rows: what is shared here is shared at a million."""
    path = tmp_path / "large.parquet"
    table(G=100, T=200).to_parquet(path)
    data = module(path, batch_size=512, roles={**ROLES, "media": ["tv", "video_cost"], "organic": None})
    data.setup("fit")
    panel = data.panel
    loader = data.train_dataloader()
    assert sum(len(batch.row) for batch in loader) == 37 * 512
    for name in ("kpi", "media", "price", "promotion", "control"):
        assert np.shares_memory(getattr(loader.dataset, name).numpy(), getattr(panel, name)), name
    assert np.shares_memory(panel.spend, panel.media), "money-only media are one array"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": {**ROLES, "kpi": "sale"}}, r"column 'sale' \(kpi\) is not there. Did you mean 'sales'"),
        (
            {"split": {"val": 60, "test": 6}},
            r"data\.split .*the panel has 60 periods \(W-SUN, 2020-01-05 to 2021-02-21",
        ),
        ({"split": {"test": "2022-01-01"}}, r"data\.split\.test=2022-01-01 is outside the panel"),
        ({"seasonality": {"weekly": 2}}, r"set data\.seasonality\.weekly=0"),
        ({"holidays": "XX"}, r"data\.holidays\.country='XX'"),
        ({"events": {"path": "nowhere.csv"}}, r"nowhere\.csv is not on disk"),
        ({"exclude_series": ["geo7"]}, r"'geo7' is no series"),
    ],
)
def test_preflight_finds_mistakes_before_anything_is_written(csv: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(csv, **options).preflight(["fit", "test"])


def test_preflight_names_a_date_that_does_not_parse(csv: Path) -> None:
    lines = csv.read_text().splitlines()
    lines[40] = lines[40].replace("2020-", "2O20-")
    csv.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"(?s)row 41.*2O20-"):
        module(csv).preflight(["fit"])


def test_preflight_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not on disk: .*absent\.csv"):
        module(tmp_path / "absent.csv").preflight(["fit"])


def test_a_large_file_is_read_when_training_starts(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanamaker.data.panel._FULL_PREFLIGHT", 10)
    data = module(csv)
    data.preflight(["fit"])
    assert not hasattr(data, "panel")
    with pytest.raises(UserError, match="'sale'"):
        module(csv, roles={**ROLES, "kpi": "sale"}).preflight(["fit"])


# -- data configs ------------------------------------------------------------------------------------------------------


def configured(name: str, data_dir: Path, **changes: Any) -> MediaPanelDataModule:
    """The module of a data config, as the commands build it."""
    config = OmegaConf.create({"seed": 0, "paths": {"data_dir": str(data_dir)}})
    config.data = OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml")
    for key, value in changes.items():
        OmegaConf.update(config, f"data.{key}", value)
    return instantiate(config.data, _convert_="all")


def test_the_config_to_copy_reads_a_plain_table(csv: Path) -> None:
    changes = {"path": str(csv), "roles.date": "week", "roles.kpi": "sales", "roles.series": ["geo"]}
    changes |= {"roles.media": ["tv", "video_cost"], "roles.price": {"own": {"column": "price"}}}
    data = configured("media_panel", csv.parent, **changes)
    data.preflight(["fit", "test"])
    data.setup("fit")
    assert data.schema.season == ("yearly_sin_1", "yearly_cos_1", "yearly_sin_2", "yearly_cos_2")
    assert data.num_train_rows == 144


@pytest.mark.realdata
def test_eleckart(data_dir: Path) -> None:
    data = configured("eleckart", data_dir)
    data.preflight(["fit", "test"])
    data.setup("fit")
    assert len(data.schema.series) == 13
    assert data.panel.num_periods == 52
    assert (str(data.panel.dates[0]), str(data.panel.dates[-1])) == ("2015-06-28", "2016-06-19")
    assert data.schema.levels["category"].groups == (
        *("Camera", "CameraAccessory", "EntertainmentSmall", "GameCDDVD", "GamingHardware"),
    )
    assert not {"units", "discount_mrp"} & {*data.roles.columns}, "they tell the KPI"
    # Weeks 1 and 6 to 9 are broken in the raw data.
    assert set(np.flatnonzero(np.isnan(data.panel.kpi).all(axis=0))) == {0, 5, 6, 7, 8}
    # National media: each sub-category saw all, and the money is counted once, also in weeks without a sale.
    weekly = pd.read_csv(data.path).groupby("week").first().loc[1:52]
    for c, name in enumerate(data.schema.media):
        np.testing.assert_allclose(data.panel.media[..., c], np.tile(weekly[name], (13, 1)), rtol=1e-6)
        np.testing.assert_allclose(data.panel.spend[..., c].sum(axis=0), weekly[name], rtol=1e-5)
    camera = data.schema.series.index("Camera")
    share = data.panel.spend[camera].sum() / data.panel.spend.sum()
    assert share == pytest.approx(np.nansum(data.panel.kpi[camera][:44]) / np.nansum(data.panel.kpi[:, :44]), rel=1e-3)
    sale_days = data.season[:, data.schema.season.index("event")]
    # The file's own 0/1 column says the same weeks: the origin of the numbered weeks is right.
    np.testing.assert_array_equal(sale_days > 0, weekly["Holiday.Sale"] > 0)
    assert len(data.folds) == 5
    for fold in range(5):
        walk = configured("eleckart", data_dir, **{"split.fold": fold})
        walk.preflight(["fit", "test"])
        assert walk.num_train_rows > 250


@pytest.mark.realdata
def test_orange_juice(data_dir: Path) -> None:
    data = configured("orange_juice", data_dir, end="1991-12-31", **{"split.val": 4, "split.test": 4})
    data.preflight(["fit", "test"])
    data.setup("fit")
    assert data.schema.series[0] == "100 | 1"
    assert len(data.schema.levels["brand"].groups) == 11
    frame = pd.read_csv(data.path).set_index(["store", "brand", "week"])
    g = data.schema.series.index("2 | 1")
    t = list(data.panel.dates).index(np.datetime64("1989-09-14") + 7 * 45)
    row = frame.loc[(2, 1, 46)]
    assert data.panel.kpi[g, t] == pytest.approx(np.exp(row.logmove), rel=1e-5)
    assert data.panel.price[g, t, 0] == pytest.approx(row.price1, rel=1e-5)
    others = np.exp(np.log([row[f"price{b}"] for b in range(2, 12)]).mean())
    assert data.panel.price[g, t, 1] == pytest.approx(others, rel=1e-5)
    assert data.schema.price_direction == (-1, 1)
    batch = next(iter(data.train_dataloader()))
    assert batch.media.shape == (4096, 1, 0)
    assert not np.isnan(data.panel.price).any()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "shape", "channels"),
    [("param_recovery_small", (1, 104), 4), ("param_recovery_medium", (8, 156), 8), ("meridian_geo", (40, 156), 6)],
)
def test_simulated_files(data_dir: Path, name: str, shape: tuple[int, int], channels: int) -> None:
    data = configured(name, data_dir)
    data.preflight(["fit", "test"])
    data.setup("fit")
    assert data.panel.kpi.shape == shape
    assert len(data.schema.media) == channels
    assert not np.isnan(data.panel.kpi).any()
    assert len(next(iter(data.train_dataloader())).row) % 16 == 0


@pytest.mark.parametrize(
    "name", ["media_panel", "eleckart", "orange_juice", "param_recovery_small", "param_recovery_medium", "meridian_geo"]
)
def test_every_key_of_the_split_can_be_set_on_the_command_line(name: str) -> None:
    """The command line refuses keys that the config does not have."""
    config = OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml")
    assert set(config.split) == {"scheme", "val", "test", "gap", "folds", "fold", "window", "step"}
