"""`SimulatedExperimentDataModule`: makes its campaign when asked to prepare, reads as any experiment, truth at hand."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.simulate.uplift_files import CAMPAIGNS
from wanamaker.data.simulate.uplift_presets import PRESETS
from wanamaker.data.simulated_experiment import SimulatedExperimentDataModule
from wanamaker.data.uplift_batch import Outcome, UpliftBatch
from wanamaker.errors import UserError

CONFIG = yaml.safe_load((ROOT / "configs" / "data" / "simulated_experiment.yaml").read_text())
SMALL = {"rows": 3_000}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("campaigns")


def module(cache: Path, preset: str = "tiny", **options: Any) -> SimulatedExperimentDataModule:
    return SimulatedExperimentDataModule(cache_dir=str(cache), preset=preset, **options)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "large"])
def test_every_preset_passes_the_gates_and_is_read_as_it_was_made(preset: str, cache: Path) -> None:
    data = module(cache, preset, simulation=SMALL, batch_size=256)
    data.preflight(["fit", "test"])
    data.setup("fit")
    options = data.simulation
    assert data.schema.arms == options.arm_names
    assert data.schema.outcomes == (
        Outcome("visit", "binary"),
        Outcome("conversion", "binary"),
        Outcome("spend", "zero_inflated", "EUR"),
    )
    assert len(data.schema.numeric) == options.columns.informative + options.columns.irrelevant
    assert len(data.schema.categorical) == options.columns.categorical
    assert data.schema.probabilities == pytest.approx(options.probabilities or ())
    rows = np.arange(data.num_rows)
    np.testing.assert_array_equal(data.identifiers(rows), 1_000_001 + rows)
    effect, mean = data.truth_of(rows)
    np.testing.assert_allclose(effect, mean[:, 1:] - mean[:, :1], atol=1e-4)
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, UpliftBatch)
    chosen = batch.row.numpy()
    assert not set(chosen) & set(np.flatnonzero(data.codes == 2)), "test rows are not learnt"
    expected = mean[chosen, batch.treatment.numpy()]
    error = batch.outcome.numpy() - expected
    assert (np.abs(error.mean(axis=0)) < 5 * error.std(axis=0) / np.sqrt(len(error))).all()
    assert (data.cost_of(chosen)[batch.treatment.numpy() == 0] == 0).all()


def test_the_truth_follows_the_outcomes_that_are_learnt(cache: Path) -> None:
    data = module(cache, outcomes=["spend", "visit"])
    data.preflight(["fit"])
    data.setup("fit")
    assert [outcome.name for outcome in data.schema.outcomes] == ["spend", "visit"]
    assert not {"conversion", "visit", "cost", "arm", "customer"} & {*data.schema.numeric, *data.schema.categorical}
    rows = np.array([7, 3, 3])
    whole = module(cache)
    whole.setup("fit")
    for mine, all_three in zip(data.truth_of(rows), whole.truth_of(rows), strict=True):
        np.testing.assert_array_equal(mine, all_three[..., [2, 0]])
    with pytest.raises(UserError, match=r"data.outcomes=\['visits'\]; choose from visit"):
        module(cache, outcomes=["visits"])


def test_a_sharded_campaign_is_streamed_with_its_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uplift_options", "uplift_table", "uplift_truth", "uplift_files"):
        monkeypatch.setattr(f"wanamaker.data.simulate.{name}.PIECE_ROWS", 500)
    monkeypatch.setattr("wanamaker.data.simulate.uplift_files.GROUP_ROWS", 100)
    data = module(tmp_path, simulation={"rows": 2_000, "shards": 2}, rows_in_memory=1_000, lanes=4, batch_size=64)
    data.preflight(["fit"])
    data.setup("fit")
    assert data.streamed
    assert data.num_rows == 2_000
    rows = np.array([1_999, 0, 701])
    np.testing.assert_array_equal(data.identifiers(rows), 1_000_001 + rows)
    batch = next(iter(data.train_dataloader()))
    effect, mean = data.truth_of(batch.row.numpy())
    assert effect.shape == (64, 1, 3)
    error = batch.outcome.numpy() - mean[np.arange(64), batch.treatment.numpy()]
    assert np.abs(error[:, 0].mean()) < 5 * 0.5 / 8


def test_the_campaign_is_made_once_and_where_it_was_said(tmp_path: Path) -> None:
    data = module(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"holds no simulated campaign yet: prepare_data\(\) makes it"):
        data.setup("fit")
    data.preflight(["fit"])
    assert CAMPAIGNS.is_complete(data.simulated_dir)
    stamps = {path: path.stat().st_mtime_ns for path in data.simulated_dir.iterdir()}
    module(tmp_path).prepare_data()
    assert {path: path.stat().st_mtime_ns for path in data.simulated_dir.iterdir()} == stamps
    assert module(tmp_path, simulation={"seed": 1}).simulated_dir != data.simulated_dir
    assert module(tmp_path, seed=1).simulated_dir == data.simulated_dir, (
        "the order of the rows is no matter of the table"
    )


def test_a_large_campaign_is_not_made_before_training_starts(tmp_path: Path) -> None:
    module(tmp_path, "large").preflight(["fit"])
    assert list(tmp_path.iterdir()) == []


def test_options_are_refused_where_they_stand(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.simulation.arms.ofer is no offer"):
        module(tmp_path, simulation={"arms": {"ofer": {}}})


def test_the_configuration_names_every_argument() -> None:
    arguments = set(inspect.signature(SimulatedExperimentDataModule).parameters)
    assert set(CONFIG) - {"_target_"} == arguments - {"pin_memory"}
    shared = set(inspect.signature(ExperimentDataModule).parameters) - {"path", "roles"}
    assert shared - {"encoding", "delimiter", "decimal"} <= arguments, "every argument of the reader can be set"
    given = {name: value for name, value in CONFIG.items() if name not in ("_target_", "cache_dir", "seed")}
    assert SimulatedExperimentDataModule(cache_dir="nowhere", **given).simulation == PRESETS["two_arms"]
