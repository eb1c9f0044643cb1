"""The neural mix finds known truth, asserted as intervals; minutes, so only with `make test-all`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import ROOT

from wanamaker.predictions import MixPredictions


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The benchmark's own reading of truth and runs: one definition of being right."""
    spec = importlib.util.spec_from_file_location("mix_recovery", ROOT / "scripts" / "benchmarks" / "mix_recovery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize(("preset", "covered"), [("small", 3), ("medium", 6)])
def test_contributions_of_param_recovery(benchmark, data_dir, tmp_path: Path, preset: str, covered: int) -> None:
    folder, _ = benchmark.run(f"nam_recovery_{preset}", tmp_path, 1, tmp_path / "cache", [])
    predictions = MixPredictions.read(folder / "predictions")
    truth = benchmark.truth_of_recovery(preset, predictions.response.channels)
    judged = benchmark.judge(benchmark.channel_totals(predictions), truth)
    assert judged["mape"] < 0.12
    assert judged["covered"] >= covered
    assert benchmark.moved(folder / "checkpoints" / "last.ckpt") > 0.2, "saturation has left its start"


@pytest.mark.slow
def test_contributions_of_the_simulator(benchmark, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder, _ = benchmark.run("nam_simulated", tmp_path, 1, cache, ["data.simulation.seed=11", "seed=11"])
    predictions = MixPredictions.read(folder / "predictions")
    truth, oracle = benchmark.truth_of_simulation(cache, predictions.response.channels)
    judged = benchmark.judge(benchmark.channel_totals(predictions), truth)
    assert oracle < 0.08
    assert judged["mape"] < 0.12
    assert judged["covered"] >= 4
    assert benchmark.monotone(predictions.response)
