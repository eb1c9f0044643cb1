"""Columns that are computed from others: the same in memory and streamed, and refused when they are no expression."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.customer_files import customer_frame, module
from tests.unit.data.experiment_files import write_shards

from wanamaker.data.derived_source import Derived, DerivedSource
from wanamaker.errors import UserError

DERIVE = {"per_month": "price / (months - 1)", "size": "log1p(`list price` * 2) + (price > 50)"}


@pytest.fixture
def frame() -> pd.DataFrame:
    made = customer_frame(300)
    made["list price"] = made["price"].abs()
    return made


def test_values(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.loc[4, "price"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    source = DerivedSource(tmp_path / "a.csv", DERIVE)
    assert source.columns == [*frame.columns, "per_month", "size"]
    table = source.read(["size", "region", "per_month"])
    assert table.column_names == ["size", "region", "per_month"]
    months = frame["months"].to_numpy() - 1.0
    wanted = np.where(months == 0, np.nan, frame["price"] / np.where(months == 0, 1, months))
    assert np.isnan(wanted).sum() > 1
    np.testing.assert_allclose(table["per_month"].to_numpy(), wanted)
    size = np.log1p(frame["list price"] * 2) + (frame["price"] > 50)
    size[4] = np.nan  # not False: the price is not known
    np.testing.assert_allclose(table["size"].to_numpy(), size)


def test_blank_cells_of_a_column_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("spend,orders\n10,2\n ,1\n9,3\n")
    values = DerivedSource(tmp_path / "a.csv", {"mean": "spend / orders"}).read(["mean"])["mean"].to_numpy()
    np.testing.assert_array_equal(values, [5, np.nan, 3])


def test_streaming_changes_nothing(tmp_path: Path, frame: pd.DataFrame) -> None:
    shards = write_shards(tmp_path, frame)
    options = {"path": shards, "derive": DERIVE, "lanes": 4, "batch_size": 64}
    data, inside = module(tmp_path, rows_in_memory=100, **options), module(tmp_path, **options)
    for one in (data, inside):
        one.setup("fit")
    assert (data.streamed, inside.streamed) == (True, False)
    assert data.schema == inside.schema
    assert data.schema.numeric[-2:] == ("per_month", "size")
    assert data.stats.missing[-2] > 0
    np.testing.assert_allclose(data.stats.quantiles[-1], inside.stats.quantiles[-1])
    for one, other in zip(data.predict_dataloader(), inside.predict_dataloader(), strict=True):
        np.testing.assert_array_equal(one.numeric, other.numeric)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("price /", "is no expression"),
        ("prise / months", "has no column 'prise'. Did you mean 'price'?"),
        ("left * 1", "the label of task 'churn'"),
        ("price.mean()", "cannot stand in it"),
        ("@price", "is no expression"),
        ("__import__('os')", "cannot stand in it"),
        ("price + 'a'", "cannot stand in it"),
        ("1 + 2", "names no column"),
        ("region * 2", "holds 'north' in row"),
    ],
)
def test_mistakes(tmp_path: Path, frame: pd.DataFrame, expression: str, told: str) -> None:
    frame.loc[0, "region"] = "north"
    with pytest.raises(UserError, match=r"data\.derive\.new") as error:
        module(tmp_path, frame, derive={"new": expression}).preflight()
    assert told in str(error.value)


def test_a_name_that_is_taken(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="has a column 'price'"):
        module(tmp_path, frame, derive={"price": "months * 2"}).preflight()


def test_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.derive=\['a'\]"):
        module(tmp_path, derive=["a"])


def test_inputs_are_named_once() -> None:
    assert Derived("x", "sqrt(a) + `b c` - a").inputs == ("a", "b c")
