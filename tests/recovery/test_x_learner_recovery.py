"""The uplift family finds known effects, and its intervals hold them; minutes, so only with `make test-all`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ROOT, clean_environment

from wanamaker.data.simulated_experiment import SimulatedExperimentDataModule
from wanamaker.predictions import UpliftPredictions


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "head"), [(11, "free"), (12, "anchored"), (13, "free")])
def test_effects_and_intervals_of_the_simulator(tmp_path: Path, seed: int, head: str) -> None:
    options = [f"data.simulation.seed={seed}", f"model.net.effect_head={head}", "stages=[fit,predict]"]
    command = [sys.executable, "train.py", "experiment=x_learner_simulated", "run_id=recovery", *options]
    cache = tmp_path / "cache"
    environment = clean_environment(
        WANAMAKER_LOG_DIR=str(tmp_path / "logs"), WANAMAKER_CACHE_DIR=str(cache), OMP_NUM_THREADS="1"
    )
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    (folder,) = (tmp_path / "logs").glob("*/*/recovery")
    predictions = UpliftPredictions.read(folder / "predictions")
    data = SimulatedExperimentDataModule(cache_dir=str(cache), simulation={"seed": seed})
    truth = data.truth.effect(predictions.id)  # [N, A, Y], in the order visit, conversion, spend
    assert predictions.outcomes == ("visit", "conversion", "spend")
    new = predictions.split == 2
    error = predictions.effect[new] - truth[new]
    deviation = truth[new].std(0)
    assert (np.sqrt(np.square(error).mean(0)) < 0.9 * deviation).all(), "better than one effect for all"
    assert (np.abs(error.mean(0)) < 0.25 * deviation).all()
    held = ((predictions.low <= truth) & (truth <= predictions.high)).mean(0)  # [A, Y]
    assert (held > 0.8).all()
    assert (held < 0.985).all()
    assert 0.85 < held.mean() < 0.96
