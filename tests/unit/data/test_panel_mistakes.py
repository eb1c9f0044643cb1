"""Mistakes in what is said about a panel's file, told before anything is read further: value, place and remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_files import ROLES, panel_frame, read, write

from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.panel_source import PanelSource
from wanamaker.errors import UserError

SOURCES: dict[str, tuple[str, dict[str, Any], str]] = {
    "two characters": ("panel.csv", {"delimiter": ";;"}, r"data.delimiter=';;' is not one character"),
    "no character": ("panel.csv", {"delimiter": ""}, "data.delimiter='' is not one character"),
    "one sign for two things": ("panel.csv", {"delimiter": ",", "decimal": ","}, "is the decimal sign too"),
    "text that is no UTF-16": ("panel.csv", {"encoding": "utf-16"}, "cannot be read as text in data.encoding=utf-16"),
    "folder": ("", {}, r"is a folder: name the file in it"),
}


@pytest.mark.parametrize(("name", "options", "told"), SOURCES.values(), ids=SOURCES.keys())
def test_file_that_is_not_what_was_said(tmp_path: Path, name: str, options: dict[str, Any], told: str) -> None:
    write(tmp_path, panel_frame(3))
    with pytest.raises(UserError, match=told):
        PanelSource(tmp_path / name, **options)


def test_no_path() -> None:
    with pytest.raises(UserError, match=r"data\.path is empty"):
        PanelSource("")


@pytest.mark.parametrize("word", ["tab", "\\t", "\t"])
def test_tabs_can_be_named_on_a_command_line(tmp_path: Path, word: str) -> None:
    path = tmp_path / "panel.csv"
    panel_frame(8).to_csv(path, index=False, sep="\t")
    assert PanelSource(path, delimiter=word).columns == list(panel_frame(8).columns)
    with pytest.raises(UserError, match=r"pass data\.delimiter=tab"):
        MediaPanelDataModule(path=str(path), roles=ROLES).preflight()


def test_allowed_inputs_are_names(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data.allow names 3, which is no input. There are 'tv', 'radio', 'price', 'own'"
    ):
        read(tmp_path, panel_frame(), allow=[3])


@pytest.mark.parametrize(
    ("trend", "told"),
    [
        ({"knots": 100}, "data.trend.knots=100, but the training window has 20 periods"),
        ({"hsgp": {"basis": 100}}, "data.trend.hsgp.basis=100, but the training window has 20 periods"),
    ],
)
def test_trend_with_more_bends_than_periods(tmp_path: Path, trend: dict[str, Any], told: str) -> None:
    path = write(tmp_path, panel_frame(30))
    data = MediaPanelDataModule(path=str(path), roles=ROLES, trend=trend, split={"val": 5, "test": 5})
    with pytest.raises(UserError, match=told):
        data.preflight()


def test_holidays_of_two_countries(tmp_path: Path) -> None:
    path = write(tmp_path, panel_frame(30))
    data = MediaPanelDataModule(
        path=str(path), roles=ROLES, holidays={"country": ["US", "DE"]}, split={"val": 5, "test": 5}
    )
    with pytest.raises(UserError, match=r"data.holidays.country=\['US', 'DE'\] is no country code"):
        data.preflight()


def test_series_named_by_numbers(tmp_path: Path) -> None:
    """YAML reads store 2 as a number."""
    path = write(tmp_path, panel_frame(12, geos=("1", "2", "3")))
    levels = {"size": {"small": [1], "large": [3]}}
    data = MediaPanelDataModule(
        path=str(path), roles=ROLES, exclude_series=[2], levels=levels, split={"val": 2, "test": 2}
    )
    data.setup()
    assert data.panel.schema.series == ("1", "3")
    np.testing.assert_array_equal(data.panel.schema.levels["size"].of_series, [1, 0])
