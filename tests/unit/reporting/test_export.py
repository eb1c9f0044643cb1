"""Tables as files and in databases: right types, replaced by run, all or nothing."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from wanamaker.errors import UserError
from wanamaker.reporting.export import check_database_url, check_formats, write_database, write_tables


def tables(offset: int = 0, count: int = 3) -> dict[str, pd.DataFrame]:
    ids = np.arange(offset, offset + count)
    products = pd.DataFrame(
        {
            "image_id": ids,
            "category": pd.Series(["Müsli, 'fein'", "jar", "tub"][:count], dtype="str"),
            "score": np.linspace(0.25, 0.75, count).astype(np.float32),
            "empty": np.arange(count) % 2 == 0,
        }
    )
    return {"products": products, "summary": pd.DataFrame({"image_id": ids, "products": ids * 2})}


def rows(path: Path, query: str) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute(query).fetchall()


def test_files_read_back_the_same(tmp_path: Path) -> None:
    written = write_tables(tables(), tmp_path / "t", run_id="r1")
    assert [p.name for p in written] == ["products.parquet", "products.csv", "summary.parquet", "summary.csv"]
    assert sorted(os.listdir(tmp_path / "t")) == sorted(p.name for p in written)
    parquet = pd.read_parquet(written[0])
    assert parquet["run_id"].tolist() == ["r1"] * 3
    pd.testing.assert_frame_equal(parquet.drop(columns="run_id"), tables()["products"])
    csv = pd.read_csv(written[1])
    assert csv["category"].tolist() == ["Müsli, 'fein'", "jar", "tub"]
    assert csv["empty"].tolist() == [True, False, True]


def test_formats_are_known() -> None:
    assert check_formats(["csv", "csv"]) == ("csv",)
    with pytest.raises(UserError, match="'xlsx'; choose from parquet, csv"):
        check_formats(["xlsx"])


def test_database_has_types_and_an_index(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'a.db'}"
    assert write_database(tables(), url, "r1") == url
    columns = {c["name"]: c for c in sa.inspect(sa.create_engine(url)).get_columns("products")}
    assert isinstance(columns["image_id"]["type"], sa.BIGINT)
    assert isinstance(columns["empty"]["type"], sa.BOOLEAN)
    assert isinstance(columns["category"]["type"], sa.TEXT)
    assert not columns["run_id"]["nullable"]
    assert sa.inspect(sa.create_engine(url)).get_indexes("products")[0]["column_names"] == ["run_id", "image_id"]
    found = rows(tmp_path / "new" / "a.db", "select * from products order by image_id")
    assert found[0] == ("r1", 0, "Müsli, 'fein'", 0.25, 1)


def test_a_run_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    url = f"sqlite:///{path}"
    write_database(tables(), url, "r1")
    write_database(tables(10), url, "r2")
    write_database(tables(20, count=1), url, "r1")
    write_database(tables(20, count=1), url, "r1")
    assert rows(path, "select run_id, image_id from products order by 1, 2") == [
        ("r1", 20),
        ("r2", 10),
        ("r2", 11),
        ("r2", 12),
    ]
    write_database({name: table.iloc[:0] for name, table in tables().items()}, url, "r2")
    assert rows(path, "select run_id from products") == [("r1",)]


def test_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    url = f"sqlite:///{path}"
    write_database(tables(), url, "r1")
    with sqlite3.connect(path) as connection:
        connection.execute("drop table summary")
        connection.execute("create table summary (other text)")
    with pytest.raises(UserError, match=r"Table 'summary' .* has no column image_id, products, run_id"):
        write_database(tables(50), url, "r1")
    assert rows(path, "select image_id from products order by 1") == [(0,), (1,), (2,)]
    # A first write that fails leaves no table behind either.
    with sqlite3.connect(path) as connection:
        connection.execute("drop table products")
    with pytest.raises(UserError, match="summary"):
        write_database(tables(), url, "r1")
    assert rows(path, "select name from sqlite_master where type = 'table'") == [("summary",)]


def test_missing_values_are_null(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": [1, 2], "score": [0.5, np.nan], "note": pd.Series(["a", None], dtype="str")})
    write_database({"t": frame}, f"sqlite:///{tmp_path / 'a.db'}", "r")
    assert rows(tmp_path / "a.db", "select * from t order by image_id")[1] == ("r", 2, None, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "is not a database URL: write it as"),
        ("oracel://me:secret@host/db", "knows no database 'oracel'"),
        ("mysql+cymysql://me:secret@host/db", "the driver 'cymysql' is not installed"),
        ("postgresql://me:secret@host:port/db", "is not a database URL"),
        ("sqlite://", "is a database in memory"),
        ("sqlite:///:memory:", "is a database in memory"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_database_url(url)
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"Cannot write to the database .*unable to open"):
        write_database(tables(), f"sqlite:///{tmp_path / 'folder'}", "r")
    (tmp_path / "file.db").write_text("no database, but long enough to be read as a header of one " * 20)
    with pytest.raises(UserError, match=r"file\.db .*not a database"):
        write_database(tables(), f"sqlite:///{tmp_path / 'file.db'}", "r")
    (tmp_path / "plain").write_text("")
    with pytest.raises(UserError, match="Cannot make the folder"):
        write_database(tables(), f"sqlite:///{tmp_path / 'plain' / 'a.db'}", "r")
