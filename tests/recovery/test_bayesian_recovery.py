"""The Bayesian mix finds known truth with a posterior that passes its checks; minutes, so only with `make test-all`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import ROOT

from wanamaker.decisions.posterior_checks import check_posterior
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
@pytest.mark.parametrize(("preset", "error", "covered"), [("small", 0.12, 3), ("medium", 0.05, 7)])
def test_the_guide_finds_param_recovery(benchmark, data_dir, tmp_path: Path, preset, error, covered) -> None:
    folder, _ = benchmark.run(f"bayesian_mmm_recovery_{preset}", tmp_path, 1, tmp_path / "cache", [])
    predictions = MixPredictions.read(folder / "predictions")
    truth = benchmark.truth_of_recovery(preset, predictions.response.channels)
    judged = benchmark.judge(benchmark.channel_totals(predictions), truth)
    assert judged["mape"] < error
    assert judged["covered"] >= covered
    assert predictions.posterior is not None
    assert predictions.posterior.engine == "svi"
    assert predictions.posterior.khat <= 0.7


@pytest.mark.slow
def test_chains_find_the_simulator(benchmark, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = ["data.simulation.seed=11", "seed=11", "model.inference.engine=hmc"]
    folder, _ = benchmark.run("bayesian_mmm_simulated", tmp_path, 1, cache, options)
    predictions = MixPredictions.read(folder / "predictions")
    truth, _ = benchmark.truth_of_simulation(cache, predictions.response.channels)
    judged = benchmark.judge(benchmark.channel_totals(predictions), truth)
    assert judged["mape"] < 0.12
    assert judged["covered"] >= 4
    checks = check_posterior(predictions.posterior)
    assert checks.level != "refused", checks.verdict
    assert predictions.posterior.stats["diverging"].mean() < 0.01
