"""`data.segments`: customers joined to their series through a key, and every join that would be nonsense refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.panel_files import ROLES, panel_frame, write

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.errors import UserError

GEOS = ("east", "north", "south", "west")
OLD, YOUNG = (70.0, 10.0), (20.0, 90.0)
SEGMENTS: dict[str, Any] = {"features": ["age", "score"], "clusters": 2, "key": {"geo": "city"}}


def customers(cities: tuple[str, ...] = GEOS, old: tuple[int, ...] = (7, 2, 7, 2), each: int = 9) -> pd.DataFrame:
    """`each` customers per city, of whom `old` are old with low scores and the rest young with high ones."""
    rows = []
    rng = np.random.default_rng(3)
    for city, count in zip(cities, old, strict=True):
        for i in range(each):
            age, score = np.array(OLD if i < count else YOUNG) + rng.normal(size=2)
            rows.append({"customer": len(rows), "city": city, "age": age, "score": score})
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


def module(folder: Path, frame: pd.DataFrame | None = None, name: str = "people.csv", **options: Any):
    """A panel of four geos with a customer file beside it; `segments` are changed options."""
    path = write(folder, customers() if frame is None else frame, name)
    segments = {**SEGMENTS, "path": str(path), **options.pop("segments", {})}
    panel = options.pop("panel", None)
    panel = write(folder, panel_frame(geos=GEOS) if panel is None else panel)
    settings = {"roles": ROLES, "split": {"val": 4, "test": 4}, **options}
    return MediaPanelDataModule(path=str(panel), segments=segments, **settings)


def ready(folder: Path, *args: Any, **options: Any) -> MediaPanelDataModule:
    data = module(folder, *args, **options)
    data.preflight()
    data.setup("fit")
    return data


def test_a_series_takes_the_segment_of_most_of_its_customers(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        data = ready(tmp_path)
    level = data.schema.levels["segment"]
    assert level.groups == ("segment_1", "segment_2")
    assert level.of_series == (1, 0, 1, 0), "the young are the first, east and south are mostly old"
    assert data.customer_segments.sizes.tolist() == [18, 18]
    said = [r.message for r in caplog.records if "segment_2: " in r.message]
    assert said == ["  segment_2: 18 customers, age 69.87, score 9.866; most customers of east, south"]


def test_the_level_stands_before_those_of_the_file(tmp_path: Path) -> None:
    panel = panel_frame(geos=GEOS)
    panel["coast"] = panel["geo"].isin(["east", "west"]).map({True: "yes", False: "no"})
    levels = {"half": {"a": ["east", "north"], "b": ["south", "west"]}}
    data = ready(tmp_path, panel=panel, roles={**ROLES, "hierarchy": {"coast": "coast"}}, levels=levels)
    assert list(data.schema.levels) == ["segment", "half", "coast"]


def test_equal_counts_go_to_the_first_and_an_empty_segment_is_no_group(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        data = ready(tmp_path, customers(old=(3, 2, 3, 1), each=6))
    assert data.schema.levels["segment"].groups == ("segment_1",)
    assert "segment_1 has the most customers in every series" in caplog.text


def test_customers_of_a_series_that_is_left_out_still_count(tmp_path: Path) -> None:
    data = ready(tmp_path, exclude_series=["south"])
    assert data.schema.levels["segment"].of_series == (1, 0, 0)
    assert len(data.customer_segments.labels) == 36


@pytest.mark.parametrize("key", [{"store": "shop"}, {"brand": "label", "store": "shop"}])
def test_keys_of_several_columns(tmp_path: Path, key: dict) -> None:
    frames = []
    for brand in ("x", "y"):
        part = panel_frame(geos=("1", "2"), seed=ord(brand)).rename(columns={"geo": "store"})
        frames.append(part.assign(brand=brand))
    # of brand x shop 1 has old buyers, of brand y shop 2; of both together shop 1 has the more
    people = pd.concat(
        [
            customers(cities=("1", "2"), old=(9, 1), each=9).assign(label="x"),
            customers(cities=("1", "2"), old=(1, 5), each=5).assign(label="y"),
        ]
    ).rename(columns={"city": "shop"})
    roles = {**ROLES, "series": ["store", "brand"]}
    data = ready(tmp_path, people, panel=pd.concat(frames), roles=roles, segments={"key": key})
    assert data.schema.series == ("1 | x", "1 | y", "2 | x", "2 | y")
    found = data.schema.levels["segment"].of_series
    assert found == ((1, 1, 0, 0) if len(key) == 1 else (1, 0, 0, 1))


def test_numbered_keys_and_parquet(tmp_path: Path) -> None:
    panel = panel_frame(geos=("1", "2", "3", "4"))
    people = customers(cities=("1", "2", "3", "4"))
    people["city"] = people["city"].astype(float)  # 2.0 in the file names series "2"
    data = ready(tmp_path, people, "people.parquet", panel=panel)
    assert data.schema.levels["segment"].of_series == (1, 0, 1, 0)


def test_the_same_segments_are_found_again(tmp_path: Path) -> None:
    trained = ready(tmp_path)
    again = module(tmp_path)
    again.setup("predict")
    again.adopt(trained.schema)
    assert again.schema.levels == trained.schema.levels


NATIONAL = {"date": "date", "kpi": "sales", "media": ["tv"]}


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (
            {"key": None},
            r"key is missing\. Customers and the weeks .* row number.*makes noise look like segments.*geo: ",
        ),
        ({"key": {}}, r"data\.segments\.key is missing"),
        ({"key": "city"}, r"key='city'; map a series column .* \{geo: city\}"),
        ({"key": {"date": "visit"}}, r"'date' is the date of the panel\. A customer has no date"),
        ({"key": {"geo": "date"}}, r"'date' is the date of the panel\. A customer has no date"),
        ({"key": {"goe": "city"}}, r"key names 'goe', which is no series column .*Did you mean 'geo'"),
        ({"features": None}, r"data\.segments\.features is missing"),
        ({"path": None}, r"data\.segments\.path is missing"),
        ({"cluster": 3}, r"data\.segments\.cluster is no option\. Did you mean 'clusters'"),
        ({"clusters": 0}, r"data\.segments\.clusters=0"),
        ({"scale": "log"}, r"data\.segments\.scale='log'"),
    ],
)
def test_options_are_refused_before_a_file_is_read(tmp_path: Path, segments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(tmp_path, segments=segments)


def test_one_national_series_cannot_have_segments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one national series"):
        module(tmp_path, roles=NATIONAL)


def test_a_level_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"level named 'segment', but roles\.hierarchy has one"):
        module(tmp_path, roles={**ROLES, "hierarchy": {"segment": "geo"}})
    levels = {"segment": {"a": ["east", "north"], "b": ["south", "west"]}}
    with pytest.raises(UserError, match=r"level named 'segment', but data\.levels has one"):
        ready(tmp_path, levels=levels)


def stranger() -> pd.DataFrame:
    frame = customers()
    frame.loc[[4, 8, 9], "city"] = ["Wst", "Bern", "Bern"]
    return frame


def gap() -> pd.DataFrame:
    frame = customers()
    frame.loc[5, "age"] = np.nan
    return frame


def words() -> pd.DataFrame:
    frame = customers().astype({"age": object})
    frame.loc[5, "age"] = "old"
    return frame


@pytest.mark.parametrize(
    ("frame", "segments", "message"),
    [
        (
            stranger(),
            {},
            r"3 of 36 customers .* no series .*'city' is 'Wst', 'Bern', first in row 6\. Did you mean 'west'",
        ),
        (customers(GEOS[:3], (7, 2, 7)), {}, r"1 of 4 series have no customer in .*: west\..*exclude_series=\['west'"),
        (gap(), {}, r"'age' has no number for 1 of 36 customers, first an empty cell in row 7"),
        (words(), {}, r"'age' is 'old' in row 7 of .*people\.csv, which is no number"),
        (customers(), {"clusters": 50}, r"clusters=50, but there are 36 distinct customers"),
        (
            customers(),
            {"features": ["age", "skore"]},
            r"column 'skore' \(feature\) is not there\. Did you mean 'score'",
        ),
        (customers(), {"key": {"geo": "town"}}, r"column 'town' \(key of geo\) is not there"),
        (customers(), {"features": ["age", "city"]}, r"'city' is a feature and a key"),
        (customers().iloc[:0], {}, r"has a header and no customers"),
    ],
)
def test_user_errors(tmp_path: Path, frame: pd.DataFrame, segments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(tmp_path, frame, segments=segments)


def test_a_missing_file_is_found_before_the_panel_is_read(tmp_path: Path) -> None:
    data = module(tmp_path, segments={"path": str(tmp_path / "nobody.csv")})
    with pytest.raises(UserError, match=r"not on disk: .*nobody\.csv"):
        data.preflight(["predict"])
    assert not hasattr(data, "panel")


def test_parts_of_a_name_that_cannot_be_told_apart(tmp_path: Path) -> None:
    panel = panel_frame(geos=("1 | a", "2")).rename(columns={"geo": "store"}).assign(brand="x")
    people = customers(cities=("1 | a", "2"), old=(7, 2)).rename(columns={"city": "shop"})
    roles = {**ROLES, "series": ["store", "brand"]}
    with pytest.raises(UserError, match=r"'1 \| a \| x' cannot be told apart"):
        ready(tmp_path, people, panel=panel, roles=roles, segments={"key": {"store": "shop"}})
