"""Columns of every type that files have, read as numbers, names, or not at all."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.unit.data.experiment_files import experiment_frame, module

from wanamaker.data.experiment_survey import Moments
from wanamaker.data.experiment_table import text_codes
from wanamaker.errors import UserError


def test_types_of_parquet_columns(tmp_path: Path) -> None:
    frame = experiment_frame(300)
    count = np.arange(300)
    frame["flag"] = count % 3 == 0
    frame["whole"] = pd.array([None if i == 4 else i % 7 for i in count], dtype="Int64")
    frame["money"] = [Decimal(f"{i}.25") for i in count]
    frame["band"] = pd.Categorical(np.resize(["low", "high"], 300), categories=["low", "high", "none"])
    frame["shop"] = np.resize([3.0, 12.0, np.nan], 300)
    frame["nothing"] = pd.array([None] * 300, dtype=object)
    data = module(tmp_path, frame, name="types.parquet", roles={"categorical": ["shop"]}, checks={"arm_rows": 10})
    data.setup("fit")
    schema = data.schema
    assert schema.numeric == ("age", "recency", "income", "flag", "whole", "money", "nothing")
    assert schema.categorical == ("region", "band", "shop")
    assert schema.categories[1:] == (("high", "low"), ("", "12", "3"))
    rows = data.predict_dataloader().dataset.dataset.rows
    np.testing.assert_array_equal(rows.numeric[:5, 3], [1, 0, 0, 1, 0])
    assert np.isnan(rows.numeric[4, 4])
    assert rows.numeric[7, 5] == 7.25
    assert rows.categorical[:3, 2].tolist() == [3, 2, 1]
    assert (data.stats.missing[-1], data.stats.mean[-1], data.stats.sd[-1]) == (1.0, 0.0, 1.0)


def test_columns_that_are_no_feature(tmp_path: Path) -> None:
    frame = experiment_frame(300).assign(basket=[[1, 2]] * 300)
    with pytest.raises(
        UserError, match=r"column 'basket' of .* holds list<.*>, which is no feature: leave it out with"
    ):
        module(tmp_path, frame, name="list.parquet").preflight(["fit"])
    frame = experiment_frame(300).assign(since=pd.Timestamp("2024-01-31"))
    with pytest.raises(UserError, match=r"column 'since' of .* holds dates, which are no feature"):
        module(tmp_path, frame, name="dates.parquet").preflight(["fit"])


def test_a_stray_word_does_not_turn_numbers_into_names(tmp_path: Path) -> None:
    frame = experiment_frame(900)
    frame["age"] = frame["age"].round().astype(int).astype(str)
    frame.loc[::100, "age"] = "unknown"
    with pytest.raises(UserError, match=r"column 'age' of .* holds 'unknown' among numbers: leave such cells empty"):
        module(tmp_path, frame).setup("fit")
    named = module(tmp_path, frame, roles={"categorical": ["age"]})
    named.setup("fit")
    assert "unknown" in named.schema.categories[0]


def test_text_of_several_chunks_and_dictionaries() -> None:
    one, other = pa.array(["a", None]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()
    code, values = text_codes(pa.chunked_array([one, other]))
    assert [values[i] for i in code] == ["a", "", "b", "a"]


def test_moments_of_parts_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, (1000, 3))
    values[::7, 1], values[:, 2] = np.nan, 5.0
    moments = Moments(3)
    for part in np.array_split(values, 7):
        moments.add(part)
    moments.add(np.empty((0, 3)))
    np.testing.assert_allclose(moments.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.sd[:2], np.nanstd(values, axis=0)[:2], rtol=1e-6)
    assert moments.sd[2] == 1.0
    assert moments.count.tolist() == [1000, 857, 1000]


def test_decimal_commas_and_semicolons(tmp_path: Path) -> None:
    frame = experiment_frame(300)
    path = tmp_path / "german.csv"
    frame.to_csv(path, index=False, sep=";", decimal=",", encoding="latin-1")
    data = module(tmp_path, path=path, delimiter=";", decimal=",", encoding="latin-1", checks={"arm_rows": 10})
    data.setup("fit")
    assert data.schema.numeric == ("age", "recency", "income")
    with pytest.raises(UserError, match=r"one column with ';' inside.*pass data.delimiter=';'"):
        module(tmp_path, path=path).setup("fit")
