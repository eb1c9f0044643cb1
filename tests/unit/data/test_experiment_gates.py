"""Gates: honest tables pass, and each kind of unfit table stops the run with a message that names column and remedy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.experiment_files import experiment_frame, module

from wanamaker.data.experiment_balance import auc_error_of, rank_auc, rates_of_others
from wanamaker.errors import UserError

ROWS = 3000


def stopped(folder: Path, frame: pd.DataFrame, **options) -> str:
    with pytest.raises(UserError) as error:
        module(folder, frame, **options).setup("fit")
    return str(error.value)


def test_an_honest_experiment_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(tmp_path, experiment_frame(ROWS))
    data.setup("fit")
    assert data.gates.findings == ()
    assert data.gates.arm_count == {"none": 1000, "coupon": 1000, "mail": 1000}
    assert data.gates.sample_ratio_p == pytest.approx(1)
    assert set(data.gates.balance.smd) == {"age", "recency", "income", "region"}
    for auc, error in data.gates.balance.propensity_auc.values():
        assert abs(auc - 0.5) < 4 * error


def test_sample_ratio(tmp_path: Path) -> None:
    frame = experiment_frame(ROWS)
    lost = frame[(frame.arm != "mail") | (np.arange(ROWS) % 5 > 0)]
    message = stopped(tmp_path, lost)
    assert "sample_ratio: arm 'mail' has 794 of 2,794 rows where 931 are expected" in message
    assert "(data.allow=[sample_ratio] lets it through.)" in message
    assert "\n" not in message
    module(tmp_path, lost, allow=["sample_ratio"]).setup("fit")
    module(tmp_path, lost, roles={"probabilities": None}).setup("fit")
    shares = {"none": 5 / 14, "coupon": 5 / 14, "mail": 4 / 14}
    module(tmp_path, lost, roles={"probabilities": shares}).setup("fit")


def test_imbalance_and_propensity(tmp_path: Path) -> None:
    frame = experiment_frame(ROWS)
    frame["age"] += 4.0 * (frame.arm == "mail")
    message = stopped(tmp_path, frame)
    assert "imbalance: feature 'age' differs between arm 'mail' and the control by +0.4" in message
    assert "propensity: the features together tell arm 'mail' from the control" in message
    assert "data.allow=[age] lets it through" in message
    module(tmp_path, frame, allow=["age", "propensity"]).setup("fit")
    module(tmp_path, frame, allow=["imbalance", "propensity"]).setup("fit")
    module(tmp_path, frame, checks={"smd": 0.6, "propensity_auc": 0.8}).setup("fit")


def test_no_overlap(tmp_path: Path) -> None:
    frame = experiment_frame(ROWS, confounded=True)
    roles = {"probabilities": None}
    data = module(tmp_path, frame, roles=roles, checks={"outside": 0.3})
    data.setup("fit")
    assert {f.gate for f in data.gates.findings} == {"imbalance"}  # a warning: it was not drawn at random
    frame["age"] += 60.0 * (frame.arm == "mail")
    message = stopped(tmp_path, frame, roles=roles)
    assert "overlap:" in message
    assert "had a probability outside [0.02, 0.98] of some arm" in message


def test_post_treatment_columns(tmp_path: Path) -> None:
    frame = experiment_frame(ROWS)
    rng = np.random.default_rng(1)
    frame["redeemed"] = ((frame.arm == "coupon") & (rng.random(ROWS) < 0.3)).astype(int)
    message = stopped(tmp_path, frame)
    assert "post_treatment: feature 'redeemed' is 0 in every row of arm 'none' and not in the others." in message
    assert "Leave it out with data.roles.drop=[redeemed]" in message
    module(tmp_path, frame, roles={"drop": ["redeemed"]}).setup("fit")
    frame["redeemed"] = rng.poisson(np.where(frame.arm == "coupon", 5, 2))
    assert "feature 'redeemed' tells arm 'coupon' from the control (AUC 0.8" in stopped(tmp_path, frame)
    frame["redeemed"] = np.where(frame.arm == "mail", "opened", rng.choice(["opened", "not"], ROWS))
    assert "feature 'redeemed' is the same name in every row of arm 'mail'" in stopped(tmp_path, frame)


def test_planted_leaks(tmp_path: Path) -> None:
    frame = experiment_frame(ROWS)
    rng = np.random.default_rng(2)
    allow = ["post_treatment", "imbalance", "propensity"]  # what follows from the effect
    frame["receipt"] = frame["spend"] * 1.0001
    message = stopped(tmp_path, frame, allow=allow)
    assert "leak: feature 'receipt' equals 'spend': it gives the outcome away" in message
    frame["receipt"] = frame["visit"] + rng.normal(0, 0.28, ROWS)
    assert "feature 'receipt' tells whether 'visit' is above 0 (AUC 0.99" in stopped(tmp_path, frame, allow=allow)
    frame["receipt"] = np.where(frame["visit"] == 1, "seen", rng.choice(["a", "b"], ROWS))
    assert "feature 'receipt' tells whether 'visit' is above 0" in stopped(tmp_path, frame, allow=allow)
    frame["receipt"] = np.where(frame["visit"] == 1, rng.normal(0, 1, ROWS), np.nan)
    assert "feature 'receipt' tells whether 'visit' is above 0" in stopped(tmp_path, frame, allow=allow)
    module(tmp_path, frame, allow=[*allow, "receipt"]).setup("fit")
    frame["profit"] = rng.normal(100, 20, ROWS)
    frame["receipt"] = frame["profit"] ** 3 + rng.normal(0, 1e4, ROWS)
    roles = {"outcomes": ["profit"], "drop": ["visit", "spend"]}
    assert "feature 'receipt' explains 'profit' alone (R2 0.9" in stopped(tmp_path, frame, roles=roles)


def test_an_outcome_among_the_features_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="feature 'spend' is 0 or empty for nearly all customers"):
        module(tmp_path, experiment_frame(ROWS), roles={"outcomes": ["visit"]}).setup("fit")
    module(tmp_path, experiment_frame(ROWS), roles={"outcomes": ["visit"]}, allow=["spend"]).setup("fit")
    assert "feature 'spend' is 0 or empty for nearly all customers, and goes with 'visit'" in caplog.text


def test_rates_and_auc() -> None:
    assert rank_auc(np.array([1.0, 2, 2, 3]), np.array([False, False, True, True])) == pytest.approx(0.875)
    rng = np.random.default_rng(0)
    codes, target = rng.integers(0, 500, 4000), rng.random(4000) < 0.3
    score = rates_of_others(codes, target.astype(float))
    error = auc_error_of(0.5, int(target.sum()), int((~target).sum()))
    assert abs(rank_auc(score, target) - 0.5) < 4 * error  # 500 names of noise tell nothing


def test_a_column_of_names(tmp_path: Path) -> None:
    frame = experiment_frame(300).assign(email=[f"c{n}@x.org" for n in range(300)])
    message = stopped(tmp_path, frame, checks={"arm_rows": 10})
    assert "names: feature 'email' has" in message
    assert "training rows: a name that hardly repeats teaches nothing" in message
    assert "data.allow=[email] lets it through" in message
    for more in ({"allow": ["email"]}, {"roles": {"categorical": ["email"]}}):
        module(tmp_path, frame, checks={"arm_rows": 10}, **more).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": {"smdd": 1}}, "data.checks.smdd is no option. Did you mean 'smd'?"),
        ({"checks": {"smd": "big"}}, "data.checks.smd='big' must be a number, 0 or more."),
        ({"checks": {"smd": float("nan")}}, "data.checks.smd=nan must be a number, 0 or more."),
        ({"checks": {"leak_auc": 95}}, "data.checks.leak_auc=95 must lie between 0.5 and 1; 0.95 is usual."),
        ({"checks": {"outside": 20}}, "data.checks.outside=20 must lie between 0 and 1"),
        ({"checks": {"clip": 0.7}}, "data.checks.clip=0.7 must lie between 0 and 0.5"),
        ({"checks": {"rows": 0}}, "data.checks.rows=0 must be a whole number, 1 or more."),
        ({"checks": {"arm_rows": 0.5}}, "data.checks.arm_rows=0.5 must be a whole number, 0 or more."),
        ({"split": {"stratify": "no"}}, "data.split.stratify='no' must be true or false."),
        ({"allow": "leak"}, "data.allow='leak' must be a list of gates or columns, such as [leak]."),
        ({"allow": ["leek"]}, "data.allow names 'leek', which is neither a gate nor a feature. Did you mean 'leak'?"),
    ],
)
def test_mistakes_in_options(tmp_path: Path, options: dict, message: str) -> None:
    assert message in stopped(tmp_path, experiment_frame(300), **options)


def test_features_that_tell_nothing_are_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = experiment_frame(600)[["customer", "arm", "visit", "spend"]]
    with caplog.at_level("WARNING"):
        module(tmp_path, frame.assign(empty=np.nan, same=1.0)).setup("fit")
    assert "features 'empty', 'same' are empty or the same in every training row" in caplog.text
    data = module(tmp_path, frame)
    data.setup("fit")
    assert data.schema.numeric == data.schema.categorical == ()
    batch = next(iter(data.train_dataloader()))
    assert batch.numeric.shape == (60, 0)
