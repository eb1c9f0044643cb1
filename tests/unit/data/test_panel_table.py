"""`read_panel`: the numbers of a file in their places, whatever its format, order, dates and encoding."""

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from panel_files import ROLES, grid, panel_frame, read, write

from wanamaker.data import panel_source
from wanamaker.data.panel_table import read_panel
from wanamaker.errors import UserError


def refused(folder: Path, frame: pd.DataFrame, roles: dict[str, Any] | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        read(folder, frame, roles, **options)
    return str(raised.value)


# -- formats and order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["panel.csv", "panel.csv.gz", "panel.parquet"])
@pytest.mark.parametrize("order", [None, 1, 2])
def test_values_stand_in_their_place(tmp_path: Path, name: str, order: int | None) -> None:
    frame = panel_frame(geos=("south", "north", "east"))
    mixed = frame if order is None else frame.sample(frac=1, random_state=order)
    panel = read(tmp_path, mixed, name=name)
    assert panel.schema.series == ("east", "north", "south")
    assert panel.schema.period == "W-MON"
    assert panel.schema.periods_per_year == pytest.approx(52.18, abs=0.01)
    assert str(panel.dates[0]) == "2021-01-04"
    np.testing.assert_array_equal(panel.kpi, grid(frame, "sales"))
    np.testing.assert_array_equal(panel.media, np.stack([grid(frame, "tv"), grid(frame, "radio")], axis=-1))
    np.testing.assert_array_equal(panel.price[..., 0], grid(frame, "price"))
    assert panel.spend is panel.media
    assert panel.kpi.dtype == panel.media.dtype == np.float32
    assert panel.schema.own_price == (0, 0, 0)
    assert panel.schema.price_direction == (-1,)
    assert panel.lead_in.shape == (3, 0, 2)


def test_a_frame_is_read_like_its_file(tmp_path: Path) -> None:
    frame = panel_frame()
    of_frame, of_file = read_panel(frame, ROLES), read(tmp_path, frame)
    assert of_frame.schema == of_file.schema
    np.testing.assert_array_equal(of_frame.media, of_file.media)


@pytest.mark.parametrize("rows", [7, 60])
def test_the_size_of_a_batch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    frame = panel_frame(periods=40).sample(frac=1, random_state=0)
    whole = read(tmp_path, frame)
    monkeypatch.setattr(panel_source, "BLOCK_BYTES", rows * 40)
    monkeypatch.setattr(panel_source, "BATCH_ROWS", rows)
    for name in ("panel.csv", "panel.parquet"):
        parts = read(tmp_path, frame, name=name)
        assert parts.schema == whole.schema
        np.testing.assert_array_equal(parts.kpi, whole.kpi)
        np.testing.assert_array_equal(parts.media, whole.media)


def test_only_declared_columns_matter(tmp_path: Path) -> None:
    frame = panel_frame().assign(note='x, "y"\nz', other="abc")
    np.testing.assert_array_equal(read(tmp_path, frame).kpi, grid(frame, "sales"))


def test_national_panels_have_one_series(tmp_path: Path) -> None:
    frame = panel_frame(geos=("all of it",)).drop(columns="geo")
    panel = read(tmp_path, frame, {"series": []})
    assert panel.schema.series == ("all",)
    assert panel.kpi.shape == (1, 30)


def test_compound_keys_and_hierarchy(tmp_path: Path) -> None:
    frame = pd.concat(
        [panel_frame(seed=s).assign(brand=b, family=f) for s, (b, f) in enumerate([(7, "b"), (10, "b"), (2, "a")])]
    )
    roles = {"series": ["geo", "brand"], "hierarchy": {"family": "family", "geo": "geo"}}
    for name in ("panel.csv", "panel.parquet"):
        panel = read(tmp_path, frame, roles, name=name)
        assert panel.schema.series[:2] == ("north | 10", "north | 2")
        assert panel.schema.levels["family"].groups == ("a", "b")
        assert panel.schema.levels["family"].of_series == (1, 0, 1, 1, 0, 1)
        assert panel.schema.levels["geo"].of_series == (0, 0, 0, 1, 1, 1)


# -- roles -----------------------------------------------------------------------------------------------------------


def test_spend_exposure_reach_and_organic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = panel_frame()
    frame = frame.assign(
        clicks=rng.gamma(2, 9, len(frame)),
        reach=rng.gamma(3, 1000, len(frame)),
        contacts=rng.uniform(1, 4, len(frame)),
        mails=rng.gamma(2, 9, len(frame)),
    )
    roles = {
        "media": {
            "search": {"spend": "tv", "exposure": "clicks"},
            "video": {"spend": "radio", "reach": "reach", "frequency": "contacts"},
        },
        "organic": ["mails"],
    }
    panel = read(tmp_path, frame, roles, start="2021-02-01")
    lead = 4
    assert panel.schema.media == ("search", "video", "mails")
    assert panel.schema.paid == (True, True, False)
    for c, (media, spend) in enumerate([("clicks", "tv"), ("reach", "radio"), ("mails", None)]):
        np.testing.assert_array_equal(panel.media[..., c], grid(frame, media)[:, lead:])
        np.testing.assert_array_equal(panel.spend[..., c], grid(frame, spend)[:, lead:] if spend else 0)
    np.testing.assert_array_equal(panel.contact_frequency[..., 1], grid(frame, "contacts")[:, lead:])
    assert (panel.contact_frequency[..., [0, 2]] == 1).all()
    # history counts contacts
    np.testing.assert_allclose(panel.lead_in[..., 1], (grid(frame, "reach") * grid(frame, "contacts"))[:, :lead])
    np.testing.assert_array_equal(panel.lead_in[..., 0], grid(frame, "clicks")[:, :lead])
    assert panel.num_periods == 30 - lead


def test_each_series_takes_the_column_of_its_own_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    prices = rng.uniform(1, 3, (30, 3)).round(3)
    parts = []
    for brand in (1, 2, 3):
        part = panel_frame(geos=("north",), seed=brand).assign(brand=brand)
        parts.append(part.assign(**{f"p{k + 1}": prices[:, k] for k in range(3)}))
    frame = pd.concat(parts).sample(frac=1, random_state=0)
    columns = {1: "p1", 2: "p2", 3: "p3"}
    roles = {
        "series": ["brand"],
        "price": {
            "own": {"columns": columns, "match": "brand", "direction": "own"},
            "rivals": {"columns": columns, "others_of": "brand", "direction": "cross"},
        },
    }
    panel = read(tmp_path, frame, roles)
    np.testing.assert_allclose(panel.price[..., 0], prices.T, rtol=1e-6)
    for g, others in enumerate([(1, 2), (0, 2), (0, 1)]):
        np.testing.assert_allclose(
            panel.price[g, :, 1], np.sqrt(prices[:, others[0]] * prices[:, others[1]]), rtol=1e-6
        )
    assert panel.schema.price_direction == (-1, 1)
    logs = frame.assign(**{name: np.log(frame[name]) for name in columns.values()})
    again = read(tmp_path, logs, {**roles, "price_log": True})
    np.testing.assert_allclose(again.price, panel.price, rtol=1e-5)
    columns.pop(2)
    assert "'own' has no column for brand '2'" in refused(tmp_path, frame, roles)


def test_log_kpi_is_undone(tmp_path: Path) -> None:
    frame = panel_frame()
    panel = read(tmp_path, frame.assign(sales=np.log(frame["sales"])), {"kpi_log": True})
    np.testing.assert_allclose(panel.kpi, grid(frame, "sales"), rtol=1e-5)
    assert "in a column of logarithms" in refused(tmp_path, frame, {"kpi_log": True})


def test_population_and_units(tmp_path: Path) -> None:
    frame = panel_frame().assign(people=lambda f: f["geo"].map({"north": 100.0, "south": 300.0}))
    roles = {"population": "people", "kpi_unit": "cases", "money_unit": "EUR", "kpi_value": 2.5}
    panel = read(tmp_path, frame, roles)
    np.testing.assert_array_equal(panel.population, [100, 300])
    assert (panel.schema.kpi_unit, panel.schema.money_unit, panel.schema.kpi_value) == ("cases", "EUR", 2.5)


@pytest.mark.parametrize(("how", "weights"), [("equal", [0.5, 0.5]), ("population", [0.25, 0.75])])
def test_a_national_amount_is_divided_and_not_counted_twice(tmp_path: Path, how: str, weights: list[float]) -> None:
    frame = panel_frame().assign(people=lambda f: f["geo"].map({"north": 100.0, "south": 300.0}))
    national = frame[frame.geo == "north"]["tv"].to_numpy()
    frame["tv"] = np.tile(national, 2)
    media = {"tv": {"spend": "tv", "shared": how}, "radio": {"spend": "radio"}}
    panel = read(tmp_path, frame, {"media": media, "population": "people"})
    np.testing.assert_allclose(panel.spend[..., 0].sum(axis=0), national, rtol=1e-6)
    np.testing.assert_allclose(panel.spend[..., 0], np.outer(weights, national), rtol=1e-6)
    np.testing.assert_array_equal(panel.media[..., 0], np.float32(np.tile(national, (2, 1))))
    np.testing.assert_array_equal(panel.spend[..., 1], panel.media[..., 1])


def test_own_amounts_cannot_be_shared(tmp_path: Path) -> None:
    message = refused(tmp_path, panel_frame(), {"shared_media": "equal"})
    assert "shared channel with own amounts: column 'tv'" in message
    assert "2021-01-04" in message


# -- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ("%Y-%m-%dT00:00:00+02:00", {}),
        ("%Y-%m-%d 00:00:00", {}),
        ("%G-W%V", {}),
        ("%d.%m.%Y", {"date_format": "%d.%m.%Y"}),
        ("%m/%d/%y", {"date_format": "%m/%d/%y"}),
        ("%Y%m%d", {"date_format": "%Y%m%d"}),
    ],
)
def test_written_dates(tmp_path: Path, texts: str, options: dict[str, Any]) -> None:
    frame = panel_frame()
    panel = read(tmp_path, frame.assign(date=pd.to_datetime(frame["date"]).dt.strftime(texts)), **options)
    assert panel.schema.period == "W-MON"
    np.testing.assert_array_equal(panel.kpi, grid(frame, "sales"))


@pytest.mark.parametrize("kind", ["datetime64[ns]", "datetime64[us]", "date", "zone", "int"])
def test_typed_dates_of_parquet(tmp_path: Path, kind: str) -> None:
    frame = panel_frame()
    dates, options = pd.to_datetime(frame["date"]), {}
    if kind == "zone":  # midnight in Auckland is the day before in UTC
        typed = dates.dt.tz_localize("Pacific/Auckland")
    elif kind == "int":
        typed, options = dates.dt.strftime("%Y%m%d").astype(int), {"date_format": "%Y%m%d"}
    else:
        typed = dates.dt.date if kind == "date" else dates.astype(kind)
    panel = read(tmp_path, frame.assign(date=typed), name="panel.parquet", **options)
    assert str(panel.dates[0]) == "2021-01-04"
    np.testing.assert_array_equal(panel.kpi, grid(frame, "sales"))


@pytest.mark.parametrize(
    ("step", "origin", "last"),
    [
        ("W-SUN", "2015-06-28", "2016-01-17"),
        ("MS", "2015-07-01", "2017-12-01"),
        ("D", "2015-07-01", "2015-07-30"),
    ],
)
def test_numbered_periods(tmp_path: Path, step: str, origin: str, last: str) -> None:
    frame = panel_frame()
    frame["date"] = np.tile(np.arange(1, 31), 2)
    panel = read(tmp_path, frame, {"date": {"column": "date", "origin": origin, "step": step}})
    assert (str(panel.dates[0]), str(panel.dates[-1]), panel.schema.period) == (origin, last, step)
    np.testing.assert_array_equal(panel.kpi, frame.pivot(index="geo", columns="date", values="sales").to_numpy("f4"))
    later = read(tmp_path, frame, {"date": {"column": "date", "origin": origin, "step": step, "first": 1 - 12}})
    assert later.dates[0] == panel.dates[12]


@pytest.mark.parametrize(("freq", "period"), [("D", "D"), ("W-THU", "W-THU"), ("MS", "MS"), ("ME", "MS")])
def test_the_period_is_seen(tmp_path: Path, freq: str, period: str) -> None:
    panel = read(tmp_path, panel_frame(freq=freq))
    assert panel.schema.period == period
    assert panel.num_periods == 30
    if period == "MS":
        assert (panel.dates == panel.dates.astype("datetime64[M]").astype("datetime64[D]")).all()


def test_one_period_and_one_series(tmp_path: Path) -> None:
    one = panel_frame(periods=1)
    assert "say it with `frequency`" in refused(tmp_path, one)
    assert read(tmp_path, one, frequency="W-MON").kpi.shape == (2, 1)
    assert read(tmp_path, panel_frame(geos=("north",))).kpi.shape == (1, 30)
    assert read(tmp_path, panel_frame(periods=1, geos=("north",)), frequency="D").kpi.shape == (1, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("31.01.2021", "'%d.%m.%Y'"),
        ("1/31/2021", "'%d/%m/%Y' or '%m/%d/%Y'"),
        ("20210131", "'%Y%m%d'"),
        ("5", "origin: <first day of number 1>"),
        ("2021-02-30", "Write ISO dates"),
        ("", "Fill in the date"),
        ("soon", "Write ISO dates"),
    ],
)
def test_a_date_that_does_not_parse_is_named(tmp_path: Path, text: str, says: str) -> None:
    frame = panel_frame()
    frame.loc[16, "date"] = text
    message = refused(tmp_path, frame)
    assert f"column 'date', row 18: {text!r}" in message
    assert says in message


def test_date_options_that_make_no_sense(tmp_path: Path) -> None:
    frame = panel_frame()
    assert "names a week but no day" in refused(tmp_path, frame, date_format="%Y-%W")
    numbered = {"date": {"column": "date", "origin": "2021-01-05", "step": "W-MON"}}
    assert "nearest before it is 2021-01-04" in refused(tmp_path, frame, numbered)
    assert "months are 'MS'" in refused(tmp_path, frame, frequency="M")
    assert "weeks need their first day" in refused(tmp_path, frame, frequency="W")
    assert "start='soon' is not a date" in refused(tmp_path, frame, start="soon")
    assert "nothing is left" in refused(tmp_path, frame, start="2030-01-01")
    assert "on_gap='fill'; choose from error, mask" in refused(tmp_path, frame, on_gap="fill")


def test_start_and_end(tmp_path: Path) -> None:
    frame = panel_frame()
    panel = read(tmp_path, frame, start="2021-01-13", end="2021-02-14")
    assert (str(panel.dates[0]), str(panel.dates[-1])) == ("2021-01-18", "2021-02-08")
    np.testing.assert_array_equal(panel.kpi, grid(frame, "sales")[:, 2:6])
    np.testing.assert_array_equal(panel.lead_in[..., 0], grid(frame, "tv")[:, :2])
    assert panel.spend is panel.media
    # rows outside are of no concern
    frame.loc[29, "tv"] = -5
    assert read(tmp_path, frame, end="2021-07-01").num_periods == 26


# -- gaps ------------------------------------------------------------------------------------------------------------


def test_gaps_are_refused_or_masked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = panel_frame(geos=("north", "south", "west")).assign(deal=1.0)
    frame["radio"] = np.tile(frame["radio"][:30], 3)  # national
    frame.loc[frame["date"] == "2021-01-04", "deal"] = 0.0
    holes = frame.drop(index=[0, 35, 36, 89])
    roles = {"promotion": ["deal"]}
    message = refused(tmp_path, holes, roles)
    assert "series 'south' on 2021-02-08 and 1 more periods" in message
    assert "on_gap=mask" in message
    with caplog.at_level(logging.WARNING):
        panel = read(tmp_path, holes, roles, on_gap="mask")
    assert "4 of 90 rows are missing" in caplog.text
    assert "'tv'" in caplog.text
    g, t = (0, 1, 1, 2), (0, 5, 6, 29)
    missing = np.zeros((3, 30), bool)
    missing[g, t] = True
    np.testing.assert_array_equal(np.isnan(panel.kpi), missing)
    np.testing.assert_array_equal(panel.kpi[~missing], grid(frame, "sales")[~missing])
    assert (panel.media[..., 0][missing] == 0).all()  # each geo its own
    np.testing.assert_array_equal(panel.media[..., 1], grid(frame, "radio"))  # known from the others
    prices = grid(frame, "price")
    np.testing.assert_array_equal(panel.price[g, t, 0], prices[(0, 1, 1, 2), (1, 4, 4, 28)])
    assert (panel.promotion[1, 5:7, 0] == 1).all()  # the same everywhere, too
    assert np.isfinite(panel.media).all()
    assert np.isfinite(panel.price).all()


@pytest.mark.parametrize("seed", range(8))
def test_any_ragged_panel_is_what_pandas_makes_of_it(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    freq = ("D", "W-WED", "MS")[seed % 3]
    geos = tuple(f"g{i}" for i in range(int(rng.integers(2, 9))))
    frame = panel_frame(periods=int(rng.integers(12, 50)), geos=geos, freq=freq, seed=seed)
    kept = frame[rng.random(len(frame)) > 0.15].sample(frac=1, random_state=seed)
    name = "panel.parquet" if seed % 2 else "panel.csv"
    panel = read(tmp_path, kept, name=name, on_gap="mask", frequency=freq)
    dates = pd.date_range(kept["date"].min(), kept["date"].max(), freq=freq)
    assert [str(day) for day in panel.dates] == [str(day.date()) for day in dates]
    for array, column in ((panel.kpi, "sales"), (panel.media[..., 1], "radio"), (panel.price[..., 0], "price")):
        expected = kept.pivot(index="geo", columns="date", values=column)
        expected = expected.reindex(columns=dates.strftime("%Y-%m-%d"))
        if column == "radio":
            expected = expected.fillna(0)
        if column == "price":
            expected = expected.ffill(axis=1).bfill(axis=1)
        np.testing.assert_array_equal(array, expected.to_numpy(np.float32))


# -- CSV as people write it ------------------------------------------------------------------------------------------


def test_bom_blank_lines_and_quoted_line_ends(tmp_path: Path) -> None:
    frame = panel_frame().assign(note="two\nlines")
    text = frame.to_csv(index=False).replace('"\n2021-02-01', '"\n\n2021-02-01')
    path = tmp_path / "panel.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    np.testing.assert_array_equal(read_panel(path, ROLES).kpi, grid(frame, "sales"))
    # the row in a message is the line an editor shows: a header, 2 lines each, one blank line twice
    path.write_text(text.replace("2021-02-08,south,", "2021-02-08,south,x"))
    line = next(i for i, row in enumerate(path.read_text().splitlines(), start=1) if row.startswith("2021-02-08,south"))
    with pytest.raises(UserError, match=f"row {line} .series 'south', 2021-02-08. is 'x"):
        read_panel(path, ROLES)


def test_encodings(tmp_path: Path) -> None:
    frame = panel_frame(geos=("Köln", "Bonn"))
    path = tmp_path / "panel.csv"
    path.write_bytes(frame.to_csv(index=False).encode("latin-1"))
    with pytest.raises(UserError, match=r"row 2: byte 0xf6 is not utf-8.*encoding=latin-1"):
        read_panel(path, ROLES)
    assert read_panel(path, ROLES, encoding="latin-1").schema.series == ("Bonn", "Köln")
    path.write_bytes(frame.to_csv(index=False).encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16"):
        read_panel(path, ROLES)
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode("latin-1")))
    with pytest.raises(UserError, match="row 2: byte 0xf6"):
        read_panel(tmp_path / "packed.csv.gz", ROLES)


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    frame = panel_frame()
    path = tmp_path / "panel.csv"
    path.write_text(frame.to_csv(index=False, sep=";", decimal=","))
    with pytest.raises(UserError, match=r"pass data\.delimiter=';'"):
        read_panel(path, ROLES)
    with pytest.raises(UserError, match="It has a decimal comma"):
        read_panel(path, ROLES, delimiter=";")
    panel = read_panel(path, ROLES, delimiter=";", decimal=",")
    np.testing.assert_array_equal(panel.kpi, grid(frame, "sales"))


def test_files_that_are_no_panel(tmp_path: Path) -> None:
    for name, content, says in (
        ("empty.csv", b"", "is empty: it has no header"),
        ("blank.csv", b"\n\n", "is empty: it has no header"),
        ("header.csv", b"date,geo,tv,radio,price,sales\n", "has a header but no rows"),
        ("sheet.xlsx", b"PK", "neither .csv"),
        ("broken.parquet", b"nothing", "is not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=says):
            read_panel(tmp_path / name, ROLES)
    with pytest.raises(UserError, match=r"Data not on disk: .*nowhere.csv"):
        read_panel(tmp_path / "nowhere.csv", ROLES)


def test_missing_and_double_columns(tmp_path: Path) -> None:
    message = refused(tmp_path, panel_frame().rename(columns={"tv": "TV ", "sales": "Sale"}))
    assert "column 'tv' (spend of tv) is not there. Did you mean 'TV '?" in message
    assert "column 'sales' (kpi) is not there. Did you mean 'Sale'?" in message
    path = tmp_path / "panel.csv"
    path.write_text(panel_frame().assign(more=1).to_csv(index=False).replace("more", "tv", 1))
    with pytest.raises(UserError, match="column 'tv' stands in the header 2 times, as columns 3, 7"):
        read_panel(path, ROLES)
    assert write(tmp_path, panel_frame()) == path
    with pytest.raises(UserError, match=r"allow names 'tvv', which is no input. Did you mean 'tv'"):
        read_panel(path, ROLES, allow=["tvv"])


def test_truth_values_and_empty_cells_with_a_meaning(tmp_path: Path) -> None:
    frame = panel_frame()
    deal = np.arange(len(frame)) % 3 == 0
    sparse = frame.assign(deal=deal, radio=frame["radio"].mask(frame["radio"] > 30))
    for name in ("panel.csv", "panel.parquet"):
        panel = read(tmp_path, sparse, {"promotion": ["deal"], "fill": {"radio": 0}}, name=name)
        np.testing.assert_array_equal(panel.promotion[..., 0].ravel(), deal.astype("f4"))
        np.testing.assert_array_equal(panel.media[..., 1], np.nan_to_num(grid(sparse, "radio")))
