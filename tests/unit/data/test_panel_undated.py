"""Rows without a date, as spreadsheets leave them below a table."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.panel_table import read_panel
from wanamaker.errors import UserError

ROLES = {"date": {"column": "week", "format": "%d/%m/%y"}, "kpi": "sales", "media": ["tv"], "series": ["geo"]}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    week = pd.date_range("2023-01-01", periods=30, freq="W-SUN").strftime("%d/%m/%y")
    columns = {"week": week, "sales": rng.normal(100, 5, 30).round(1), "tv": rng.gamma(2, 10, 30).round(1)}
    return pd.concat([pd.DataFrame({**columns, "geo": geo, "region": geo[0]}) for geo in ("a1", "b1")])


def save(folder: Path, frame: pd.DataFrame, empty: int = 3) -> Path:
    """The table with empty rows in its middle and at its end, which still have a one-hot number as in real files."""
    blank = pd.DataFrame({"week": [None] * empty, "flag": [0] * empty})
    parts = [frame.iloc[:20], blank.iloc[:1], frame.iloc[20:], blank.iloc[1:]]
    pd.concat(parts, ignore_index=True).to_csv(folder / "sales.csv", index=False)
    return folder / "sales.csv"


def test_rows_without_a_date_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path, table())
    roles = ROLES | {"hierarchy": {"region": "region"}}
    with caplog.at_level(logging.WARNING):
        found = read_panel(path, roles, on_undated="skip")
    assert "rows without a date: row 22: no 'week' (first of 3)" in caplog.text
    expected = read_panel(table().reset_index(drop=True), roles)
    np.testing.assert_array_equal(found.kpi, expected.kpi)
    np.testing.assert_array_equal(found.media, expected.media)
    assert found.schema.series == ("a1", "b1")
    assert found.schema.levels["region"].groups == ("a", "b")


def test_they_are_a_mistake_unless_told(tmp_path: Path) -> None:
    path = save(tmp_path, table())
    with pytest.raises(UserError, match=r"(?s)row 22.*Rows without a date can be left out with data\.on_undated=skip"):
        read_panel(path, ROLES)
    with pytest.raises(UserError, match="on_undated='ignore'; choose from error, skip"):
        read_panel(path, ROLES, on_undated="ignore")


def test_a_date_that_does_not_parse_stays_a_mistake(tmp_path: Path) -> None:
    frame = table().reset_index(drop=True)
    frame.loc[4, "week"] = "31/02/23"
    with pytest.raises(UserError, match="row 6: '31/02/23'"):
        read_panel(save(tmp_path, frame), ROLES, on_undated="skip")


def test_the_data_module_passes_it_on(tmp_path: Path) -> None:
    path = save(tmp_path, table())
    data = MediaPanelDataModule(path=str(path), roles=ROLES, on_undated="skip", split={"val": 4, "test": 4}, max_lag=1)
    data.preflight()
    assert data.panel.kpi.shape == (2, 30)
