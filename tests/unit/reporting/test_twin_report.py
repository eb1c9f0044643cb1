"""The decision `twin`: its page, tables and figures, and what it refuses."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.unit.decisions.posterior_example import fitted_mix, sales, spends

from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.predictions.posterior import MixPosterior
from wanamaker.reporting.twin_report import TwinReport

RUN = {"run_id": "r1", "checkpoint": None, "monitor": "val/wmape"}
FIGURES = {"twin_truth", "twin_coverage", "twin_ranks", "twin_bias"}
SPEND = spends(2, channels=6)


def save(run: Path, posterior: MixPosterior | None, twin: object) -> None:
    """What a run of a multirun leaves, as far as it is read."""
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "resolved.yaml").write_text(yaml.safe_dump({"data": {"twin": twin}}), encoding="utf-8")
    if posterior is not None:
        (run / "predictions").mkdir()
        posterior.write(run / "predictions")


@pytest.fixture(scope="module")
def original() -> MixPredictions:
    return fitted_mix(SPEND, sales(SPEND, 2), seed=2, chains=2)


@pytest.fixture(scope="module")
def runs(original: MixPredictions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multirun of eight refits."""
    folder = tmp_path_factory.mktemp("multirun")
    assert original.posterior is not None
    for number in range(8):
        kpi = original.posterior.replicated[number].astype(np.float64)
        found = fitted_mix(SPEND, kpi, seed=50 + number, chains=2, draws=80).posterior
        save(folder / str(number), found, {"posterior": "posterior.nc", "replicate": number})
    return folder


def write(runs: Path, predictions: MixPredictions, folder: Path) -> str:
    TwinReport(str(runs)).write(predictions, None, folder, {}, RUN)
    page = (folder / "report.html").read_text(encoding="utf-8")
    return unescape(re.sub(r"data:[^\"]*", "", page)).replace("\xa0", " ")


def test_page_tables_and_figures(original: MixPredictions, runs: Path, tmp_path: Path) -> None:
    page = write(runs, original, tmp_path)
    found = pd.read_parquet(tmp_path / "tables" / "twin_runs.parquet")
    held = int(found["held_90"].sum())
    assert f"Intervals hold: {held} of 48 channels x twins in their 90 % interval." in page
    assert not re.search(r"\bnan\b|\binf\b|None\b", page)
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == FIGURES
    for name in ("twin_estimates", "twin_coverage", "twin_channels", "twin_runs"):
        frame = pd.read_parquet(tmp_path / "tables" / f"{name}.parquet")
        assert (frame["run_id"] == "r1").all()
        assert len(frame) == len(pd.read_csv(tmp_path / "tables" / f"{name}.csv")) > 0
    estimates = pd.read_parquet(tmp_path / "tables" / "twin_estimates.parquet")
    assert len(estimates[estimates["quantity"] == "contribution"]) == 48
    assert "totals over the observed training periods" in page


def test_too_narrow_intervals_get_no_green_verdict(original: MixPredictions, runs: Path, tmp_path: Path) -> None:
    """Also with a run that has no posterior, and one that was cut short."""
    folder = tmp_path / "multirun"
    for number in range(4):
        posterior = MixPosterior.read(runs / str(number) / "predictions")
        draws = posterior.parameters["contribution"]
        middle = draws.mean((0, 1))
        narrow = {**posterior.parameters, "contribution": middle + 0.3 * (draws - middle)}
        posterior = replace(posterior, parameters=narrow, finished=number != 2)
        save(folder / str(number), posterior, {"posterior": "posterior.nc", "replicate": number})
    save(folder / "8", None, {"posterior": "posterior.nc", "replicate": 8})
    page = write(folder, original, tmp_path / "out")
    assert "Intervals are too narrow: " in page
    assert "Intervals hold" not in page
    assert "Not counted, because their fit was cut short: run 2." in page
    assert "Not counted, because they have no posterior: run 8." in page


def test_one_twin_is_shown_and_decides_nothing(original: MixPredictions, runs: Path, tmp_path: Path) -> None:
    posterior = MixPosterior.read(runs / "0" / "predictions")
    save(tmp_path / "multirun" / "0", posterior, {"posterior": "posterior.nc", "replicate": 0})
    page = write(tmp_path / "multirun", original, tmp_path / "out")
    assert "Too few twins to tell: " in page
    assert not re.search(r"\bnan\b|\binf\b|None\b", page)


def test_folders_that_are_no_twins(original: MixPredictions, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"decision\.runs is missing.*sweep=twin data\.twin\.posterior=FILE"):
        TwinReport()
    with pytest.raises(UserError, match="there is no such folder"):
        TwinReport(str(tmp_path / "gone"))
    with pytest.raises(UserError, match="no run lies in it"):
        TwinReport(str(tmp_path))
    with pytest.raises(UserError, match="This is a run, not a multirun"):
        TwinReport(str(runs / "0"))
    save(tmp_path / "fits" / "0", None, None)
    with pytest.raises(UserError, match=r"none of its 1 runs has a predictions/posterior\.nc.*stages=\[fit,predict\]"):
        TwinReport(str(tmp_path / "fits"))
    posterior = MixPosterior.read(runs / "0" / "predictions")
    save(tmp_path / "observed" / "0", posterior, None)
    with pytest.raises(UserError, match="run 0 was fitted to observed data"):
        write(tmp_path / "observed", original, tmp_path / "out")
    save(tmp_path / "cut" / "0", posterior, {"posterior": "posterior.nc", "replicate": 0})
    cut = tmp_path / "cut" / "0" / "predictions" / MixPosterior.file_name
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(UserError, match=r"decision\.runs: .*posterior\.nc cannot be read .*Run that twin again"):
        write(tmp_path / "cut", original, tmp_path / "out")
    with pytest.raises(UserError, match="these predictions have none"):
        write(runs, replace(original, posterior=None), tmp_path / "out")
    other = fitted_mix(SPEND, sales(SPEND, 9), seed=9, chains=2)
    with pytest.raises(UserError, match="fitted to another KPI than replicate 0 of this model"):
        write(runs, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
