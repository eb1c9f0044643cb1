"""The public experiments through their own configurations: arms, outcomes, splits, and what the gates say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.experiment_split import TEST
from wanamaker.errors import UserError


def options(name: str, data_dir: Path) -> dict:
    text = (ROOT / "configs" / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text.replace("${paths.data_dir}", str(data_dir)).replace("${seed}", "0"))
    del found["_target_"]
    return found


@pytest.mark.realdata
def test_hillstrom(data_dir: Path) -> None:
    chosen = options("hillstrom", data_dir)
    data = ExperimentDataModule(**chosen)
    data.setup("fit")
    schema = data.schema
    assert schema.arms == ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
    assert [outcome.kind for outcome in schema.outcomes] == ["binary", "binary", "zero_inflated"]
    assert (len(schema.numeric), len(schema.categorical)) == (5, 3)
    assert data.gates.findings == ()
    assert (data.num_rows, data.num_train_rows) == (64_000, 44_800)
    frame = pd.read_csv(chosen["path"])
    test = data.codes == TEST
    for arm in schema.arms:  # stratified by arm and visit
        mine = (frame["segment"] == arm).to_numpy()
        assert frame["visit"][mine & test].mean() == pytest.approx(frame["visit"][mine].mean(), abs=2e-4)
    means = frame[~test].groupby("segment")[["visit", "conversion", "spend"]].mean().loc[list(schema.arms)]
    np.testing.assert_allclose(data.stats.outcome_mean, means)
    batch = next(iter(data.train_dataloader()))
    assert np.bincount(batch.treatment).tolist() == pytest.approx([341, 341, 341], abs=3)
    # its outcomes among the features do not go unnoticed
    roles = {**chosen["roles"], "features": None, "outcomes": ["visit"]}
    with pytest.raises(UserError, match="feature 'conversion' is 0 or empty for nearly all customers"):
        ExperimentDataModule(**{**chosen, "roles": roles}).setup("fit")
    data = ExperimentDataModule(**{**chosen, "roles": roles, "allow": ["outcome_like"]})
    data.setup("fit")
    assert {f.column for f in data.gates.findings if f.gate == "outcome_like"} == {"conversion", "spend"}
    roles["outcomes"] = ["spend"]
    with pytest.raises(UserError, match="leak: feature 'conversion' tells whether 'spend' is above 0"):
        ExperimentDataModule(**{**chosen, "roles": roles}).setup("fit")


@pytest.mark.realdata
def test_lalonde(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = options("lalonde", data_dir)
    data = ExperimentDataModule(**chosen)
    data.setup("fit")
    assert data.schema.arms == ("0", "1")
    assert data.schema.probabilities == ()
    assert data.identifiers(np.array([0]))[0] == "NSW1"
    assert "feature 'married' differs between arm '1' and the control" in caplog.text
    assert data.gates.balance.propensity_auc["1"][0] > 0.85
    # taken for an experiment, it is refused
    with pytest.raises(UserError, match="sample_ratio: arm '0' has 429 of 614 rows"):
        ExperimentDataModule(**{**chosen, "roles": {**chosen["roles"], "probabilities": "equal"}}).setup("fit")
    with pytest.raises(UserError, match=r"data.checks.outside=0.05"):
        ExperimentDataModule(**chosen, checks={"outside": 0.05}).setup("fit")
