"""`SimulatedPanelDataModule`: makes its panel when asked to prepare, and reads as any media panel, truth at hand."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.data.media_panel import MediaBatch
from wanamaker.data.simulate.media_files import PANELS
from wanamaker.data.simulate.media_presets import PRESETS
from wanamaker.data.simulated_panel import SimulatedPanelDataModule
from wanamaker.errors import UserError

CONFIG = yaml.safe_load((ROOT / "configs" / "data" / "simulated_panel.yaml").read_text())
SMALL = {"tiny": {}, "geo": {"periods": 60, "geos": 3}, "category": {"periods": 60}, "daily": {"periods": 90}}


def module(cache_dir: Path, preset: str = "tiny", **options: Any) -> SimulatedPanelDataModule:
    settings: dict[str, Any] = {"split": {"val": 8, "test": 8}, "max_lag": 6}
    return SimulatedPanelDataModule(cache_dir=str(cache_dir), preset=preset, **{**settings, **options})


@pytest.mark.parametrize("preset", list(SMALL))
def test_the_panel_that_is_read_is_that_of_the_truth(preset: str, tmp_path: Path) -> None:
    periods = {"daily": {"incremental_periods": 14}}.get(preset, {})
    data = module(tmp_path, preset, simulation={**SMALL[preset], "pre_period": 6, **periods})
    data.prepare_data()
    data.setup("fit")
    panel, truth = data.panel, data.truth
    seen = truth.observed
    assert data.schema.series == truth.series
    assert data.schema.media == truth.channels
    assert data.schema.paid == tuple(truth.paid)
    np.testing.assert_array_equal(panel.dates, truth.dates[seen])
    np.testing.assert_allclose(panel.spend, truth.spend[:, seen], rtol=1e-6)
    contacts = panel.media if panel.contact_frequency is None else panel.media * panel.contact_frequency
    np.testing.assert_allclose(contacts, truth.exposure[:, seen], rtol=1e-6)
    assert panel.lead_in.shape == (len(truth.series), 6, len(truth.channels))
    error = panel.kpi - truth.expected[:, seen]
    assert np.abs(error).max() < 6 * truth.noise_sd.max()
    if preset == "category":
        np.testing.assert_allclose(panel.price[..., 0], truth.price[:, : len(seen)][:, seen], rtol=1e-6)
        assert data.schema.price == ("price", "competitor_price")
        assert data.schema.price_direction == (-1, 1)
        assert data.schema.own_price == (0,) * 14
        assert data.schema.levels["category"].groups == tuple(f"category_{n}" for n in range(1, 6))
        assert data.schema.promotion == ("discount", "in_store_display")


def test_batches_hold_the_media_history(tmp_path: Path) -> None:
    data = module(tmp_path)
    data.preflight(["fit", "test"])
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, MediaBatch)
    assert batch.media.shape[1:] == (7, 2)
    row = int(batch.row[0])
    series, time = divmod(row, data.panel.num_periods)
    newest_first = data.truth.exposure[series, max(0, time - 6) : time + 1][::-1]
    np.testing.assert_allclose(batch.media[0, : len(newest_first)], newest_first, rtol=1e-6)


def test_the_panel_is_made_once_and_where_it_was_said(tmp_path: Path) -> None:
    data = module(tmp_path)
    assert list(tmp_path.iterdir()) == []
    data.preflight()
    assert PANELS.is_complete(data.simulated_dir)
    stamps = {path: path.stat().st_mtime_ns for path in data.simulated_dir.iterdir()}
    again = module(tmp_path)
    again.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in again.simulated_dir.iterdir()} == stamps
    assert module(tmp_path, simulation={"seed": 1}).simulated_dir != data.simulated_dir
    assert module(tmp_path, seed=1).simulated_dir == data.simulated_dir, (
        "the order of the rows is no matter of the panel"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"preset": "smal"}, r"preset='smal'.*tiny, national"),
        ({"simulation": {"noise": {"family": "none"}}}, r"data\.simulation\.noise\.family='none'.*gaussian"),
        ({"simulation": {"gesos": 3}}, r"data\.simulation\.gesos.*Did you mean 'geos'"),
    ],
)
def test_wrong_options_are_named_before_anything_is_written(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        module(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_setup_without_prepare_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare_data\(\)"):
        module(tmp_path).setup("fit")


def test_a_cache_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.cache_dir"):
        module(tmp_path / "file").preflight(["fit"])


def test_the_config_names_arguments_and_changes_nothing(tmp_path: Path) -> None:
    arguments = set(inspect.signature(SimulatedPanelDataModule).parameters)
    config = dict(CONFIG)
    assert config.pop("_target_") == f"{SimulatedPanelDataModule.__module__}.{SimulatedPanelDataModule.__name__}"
    assert set(config) <= arguments
    data = SimulatedPanelDataModule(**{**config, "cache_dir": str(tmp_path), "seed": 0})
    assert data.simulation == PRESETS[config["preset"]]
