"""The recovery twin as typed: a model, two refits of what it made up, and the report about them."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.test_mix_decisions import Desk, opened
from wanamaker.predictions.posterior import MixPosterior

TINY = "experiment=bayesian_mmm_tiny"
FEW = ["model.inference.engine=svi", "model.inference.mode_steps=30", "model.inference.svi_steps=30"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made:
        yield made


def test_twins_from_training_to_the_report(desk: Desk) -> None:
    assert desk("train", TINY, "run_id=one", "stages=[fit,predict]", *FEW) == 0
    made = desk.logs / "bayesian_mmm_tiny" / "runs" / "one"
    options = [f"data.twin.posterior={made / 'predictions' / 'posterior.nc'}", "data.twin.replicate=0,1", *FEW]
    done = desk.command("train.py", "-m", TINY, "sweep=twin", "run_id=twins", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = desk.logs / "bayesian_mmm_tiny" / "multiruns" / "twins"
    assert {path.parent.parent.name for path in runs.glob("*/predictions/posterior.nc")} == {"0", "1"}

    checkpoint = made / "checkpoints" / "best.ckpt"
    output = desk.evaluate(checkpoint, "truth", "decision=twin", f"decision.runs={runs}", "stages=[predict]")
    original = MixPosterior.read(made / "predictions")
    found = pd.read_parquet(output / "tables" / "twin_estimates.parquet")
    for number in (0, 1):
        mine = found[(found["quantity"] == "contribution") & (found["replicate"] == number)]
        truth = original.flat("contribution")[original.replicated_draw[number]]
        np.testing.assert_allclose(mine["truth"], truth, rtol=1e-6)
        refit = MixPosterior.read(runs / str(number) / "predictions")
        np.testing.assert_allclose(mine["mean"], refit.flat("contribution").mean(0))
        seen = np.isfinite(refit.observed)
        np.testing.assert_allclose(refit.observed[seen], original.replicated[number][seen], rtol=1e-6)
    page = unescape(re.sub(r'data:[^"]*', "", Path(output / "report.html").read_text(encoding="utf-8")))
    assert "Too few twins to tell: " in page, "two twins decide nothing"
    assert not re.search(r"https?://", page.replace("http://www.w3.org", ""))
    assert {path.stem for path in (output / "figures").glob("*.png")} >= {"twin_truth", "twin_coverage"}
