"""The decision `targeting` from predictions to files and a database, as `evaluate.py` calls it."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from tests.conftest import ROOT

from wanamaker.decisions.targeting_options import TargetingOptions
from wanamaker.errors import UserError
from wanamaker.predictions import Detections
from wanamaker.reporting.targeting_report import TargetingDecision

sys.path.insert(0, str(ROOT / "tests" / "unit" / "decisions"))
from uplift_example import example

RUN = {"run_id": "r1", "experiment": "x_learner_tiny", "checkpoint": "best.ckpt"}
COSTS = {"coupon": {"per_contact": 0.1, "per_redemption": {"conversion": 4}}, "notice": 0.3}
BASE = {"value": {"conversion": 3, "spend": 0.4}, "costs": COSTS, "draws": 40}


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and one test looks at the pictures."""
    for name in ("_first", "_sections"):
        monkeypatch.setattr(f"wanamaker.reporting.targeting_report.{name}", lambda *_: [])


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    decision = TargetingDecision(**BASE, budget=400, max_clients=700)
    written = decision.write(example(6_000).predictions, None, tmp_path, {}, RUN)
    names = {str(path.relative_to(tmp_path)) for path in written}
    tables = ("audience", "audience_offers", "targeting_policies", "uplift_scores", "uplift_deciles", "targeting_curve")
    for table in tables:
        assert {f"tables/{table}.csv", f"tables/{table}.parquet"} <= names
    figures = ["targeting_policies", "targeting_cost_curve", "uplift_effects"]
    figures += [f"{name}_{a}" for name in ("uplift_gain", "uplift_deciles") for a in (1, 2)]
    for figure in figures:
        assert (tmp_path / "figures" / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"
    audience = pd.read_csv(tmp_path / "tables" / "audience.csv")
    assert audience["id"].is_unique
    assert len(audience) <= 700
    assert audience["cost"].sum() <= 400
    assert (np.diff(audience["net_value"]) <= 1e-12).all()
    assert list(audience.columns[:9]) == [
        "run_id", "id", "offer", "effect", "low", "high", "net_value", "net_low", "net_high",
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text().replace("\xa0", " ")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page), "self-contained"
    for words in ("Is targeting worth it here?", "of these decided:", "AUTOC", "90 % interval", "What the words"):
        assert words.lower() in page.lower(), words
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()
    headline = re.search(r"<h1>(.*?)</h1>", page)
    assert headline
    assert headline[1] in capsys.readouterr().out.replace("\xa0", " "), "the advice is on the terminal too"


def test_the_file_of_the_decision_fits_its_class() -> None:
    content = yaml.safe_load((ROOT / "configs" / "decision" / "targeting.yaml").read_text())
    assert content.pop("_target_") == "wanamaker.reporting.targeting_report.TargetingDecision"
    decision = TargetingDecision(**content)
    assert decision.options == TargetingOptions() == TargetingDecision().options, "defaults here and there agree"
    place = decision.destination
    assert (place.database, place.table, place.if_exists) == (None, "audience", "fail")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("kwargs", "given", "headline"),
    [
        ({"placebo": True, "seed": 1}, {}, "Send nothing"),
        ({"skill": 0.0, "seed": 2}, {"costs": {"coupon": 0.02, "notice": 0.4}}, "Send coupon to everyone"),
        ({"customers": 900, "seed": 1}, {"shrinkage": 0}, r"Not enough evidence: test [\d,]+ more customers"),
    ],
)
def test_advice(kwargs: dict, given: dict, headline: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    sample = example(**{"customers": 8_000, **kwargs}).predictions
    TargetingDecision(**{**BASE, **given}, report=False, formats=["csv"]).write(sample, None, tmp_path, {}, RUN)
    said = capsys.readouterr().out
    assert re.match(headline, said)
    if found := re.match(r".* test ([\d,]+) more customers", said):
        assert f"a test of {found[1]} more customers would show it" in said
    assert not (tmp_path / "report.html").exists()


def test_one_outcome_without_value_or_costs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    p = replace(example(2_000, outcomes=("visit",)).predictions, randomised=False)
    TargetingDecision(draws=20).write(p, None, tmp_path, {}, RUN)
    said = capsys.readouterr().out
    for words in ("one unit of visit counts as 1", "every offer counts as free", "not drawn at random"):
        assert words in said


def test_customers_without_outcomes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    p = example(500, untreated=0.6).predictions
    TargetingDecision(**BASE).write(p.select(p.split == 3), None, tmp_path, {}, RUN)
    assert "could not be checked" in capsys.readouterr().out
    assert (tmp_path / "tables" / "audience.csv").exists()
    assert not (tmp_path / "tables" / "targeting_policies.csv").exists()


@pytest.mark.usefixtures("no_pictures")
def test_costs_in_the_data_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    p = example(1_000).predictions
    p = replace(p, cost=np.where(p.treatment == 2, 0.9, np.nan))
    TargetingDecision(**BASE, report=False).write(p, None, tmp_path, {}, RUN)
    assert (
        "The data say that notice cost 0.900 EUR per customer, decision.costs makes it 0.300 EUR"
        in capsys.readouterr().out
    )


@pytest.mark.usefixtures("no_pictures")
def test_database(tmp_path: Path) -> None:
    p, url = example(800).predictions, f"sqlite:///{tmp_path / 'crm' / 'crm.db'}"

    def write(run: str, **given: object) -> None:
        decision = TargetingDecision(**BASE, database=url, table="campaign", report=False, **given)  # type: ignore[arg-type]
        decision.write(p, None, tmp_path / run, {}, {"run_id": run})

    def runs() -> dict[str, int]:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            found = connection.execute(sa.text("select run_id, count(*) from campaign group by run_id")).all()
        engine.dispose()
        return dict(tuple(row) for row in found)

    write("r1", max_clients=50)
    assert runs() == {"r1": 50}
    with pytest.raises(UserError, match=r"Table 'campaign' is already in sqlite.*if_exists is 'fail'"):
        write("r2", max_clients=60)
    assert runs() == {"r1": 50}, "nothing was changed"
    assert not (tmp_path / "r2").exists(), "nor written elsewhere"
    write("r2", max_clients=60, if_exists="append")
    write("r2", max_clients=70, if_exists="run")
    assert runs() == {"r1": 50, "r2": 70}
    write("r3", max_clients=10, if_exists="replace")
    assert runs() == {"r3": 10}


@pytest.mark.usefixtures("no_pictures")
def test_a_failed_replacement_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p, url = example(800).predictions, f"sqlite:///{tmp_path / 'crm.db'}"
    TargetingDecision(**BASE, database=url, max_clients=5).write(p, None, tmp_path / "a", {}, RUN)
    monkeypatch.setattr("wanamaker.reporting.export._records", lambda frame: [{"id": "x"}])  # lacks the run id
    with pytest.raises(UserError, match="refused the tables"):
        TargetingDecision(**BASE, database=url, if_exists="replace").write(p, None, tmp_path / "b", {}, RUN)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from audience")).scalar() == 5
    engine.dispose()


@pytest.mark.usefixtures("no_pictures")
def test_passwords_never_show(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    url = f"sqlite:///{tmp_path / 'crm.db'}"
    decision = TargetingDecision(**BASE, database=url, max_clients=5)
    decision.write(example(300).predictions, None, tmp_path, {}, RUN)
    with pytest.raises(UserError) as error:
        TargetingDecision(**BASE, database="nosuch://user:secret@host/db")
    assert "secret" not in str(error.value) + capsys.readouterr().out


def test_mistakes(tmp_path: Path) -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0), ["a"], np.array([1]))
    with pytest.raises(UserError, match="decision=targeting reads the predictions of an uplift model, not Detections"):
        TargetingDecision().write(nothing, None, tmp_path, {}, RUN)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"decision.if_exists='overwrite'"):
        TargetingDecision(if_exists="overwrite")
    with pytest.raises(UserError, match="nothing would be written"):
        TargetingDecision(**BASE, formats=[], report=False)
    with pytest.raises(UserError, match=r"decision.table='a b'"):
        TargetingDecision(table="a b")
    written = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(UserError, match="needs a run_id"):
        TargetingDecision(**BASE, database=written).write(example(100).predictions, None, tmp_path, {}, {})
    with pytest.raises(UserError, match="there are 3 outcomes"):
        TargetingDecision().write(example(100).predictions, None, tmp_path, {}, RUN)
    assert not list(tmp_path.iterdir()), "nothing half-written"
