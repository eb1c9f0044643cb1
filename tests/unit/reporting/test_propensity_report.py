"""The decision `propensity` from predictions to files and a database, as `evaluate.py` calls it."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from tests.conftest import ROOT

from wanamaker.decisions.propensity_options import PropensityOptions
from wanamaker.errors import UserError
from wanamaker.predictions import Detections, PropensityPredictions
from wanamaker.reporting.propensity_report import PropensityDecision

sys.path.insert(0, str(ROOT / "tests" / "unit" / "decisions"))
from propensity_example import example

RUN = {"run_id": "r1", "experiment": "propensity_tiny", "checkpoint": "best.ckpt"}


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time, and some tests look at the pictures."""
    for name in ("_first", "_sections"):
        monkeypatch.setattr(f"wanamaker.reporting.propensity_report.{name}", lambda *_: [])


def write(sample: PropensityPredictions, folder: Path, **given: Any) -> list[Path]:
    return PropensityDecision(**{"draws": 10, **given}).write(sample, None, folder, {}, RUN)


def said(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().out.replace("\xa0", " ")


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    p = example(1_200)
    written = write(p, tmp_path, value={"churn": 60, "ltv": 0.1}, cost=25, segment_by="plan")
    names = {str(path.relative_to(tmp_path)) for path in written}
    for table in ("scores", *(f"propensity_{what}" for what in (
        "metrics", "deciles", "thresholds", "survival", "reasons", "profit"
    ))):  # fmt: skip
        assert {f"tables/{table}.csv", f"tables/{table}.parquet"} <= names
    figures = ["profit", "lift_1", "lift_2", "roc_1", "roc_2", "calibration_1", "calibration_2", "thresholds_1"]
    figures += ["value_3", "survival_1", "reasons_3", "scores_1", "scores_2", "scores_3"]
    for figure in figures:
        assert (tmp_path / "figures" / f"propensity_{figure}.png").read_bytes()[:4] == b"\x89PNG"
    scores = pd.read_csv(tmp_path / "tables" / "scores.csv")
    assert len(scores) == 1_200
    assert scores["id"].is_unique
    assert (np.diff(scores["net_value"]) <= 1e-9).all()
    assert list(scores.columns[:8]) == ["run_id", "rank", "id", "moment", "split", "churn", "churn_low", "churn_high"]
    assert scores["churn_reasons"].str.contains(r"raises \(odds x").any()
    assert pd.read_parquet(tmp_path / "tables" / "scores.parquet")["moment"].dtype.kind == "M"
    page = (tmp_path / "report.html").read_text().replace("\xa0", " ")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page), "self-contained"
    for words in ("Who will, and what are they worth?", "AUC", "90 % interval", "Kaplan-Meier", "What the words mean"):
        assert words.lower() in page.lower(), words
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()
    headline = re.search(r"<h1>(.*?)</h1>", page)
    assert headline
    assert re.match(r"Contact [\d,]+ of 1,200 customers: worth [\d,]+ EUR per 1,000 customers after cost", headline[1])
    assert headline[1] in said(capsys), "the finding is on the terminal too"


def test_the_file_of_the_decision_fits_its_class() -> None:
    content = yaml.safe_load((ROOT / "configs" / "decision" / "propensity.yaml").read_text())
    assert content.pop("_target_") == "wanamaker.reporting.propensity_report.PropensityDecision"
    decision = PropensityDecision(**content)
    assert decision.options == PropensityOptions() == PropensityDecision().options, "defaults here and there agree"
    place = decision.destination
    assert (place.database, place.table, place.if_exists) == (None, "scores", "fail")


@pytest.mark.parametrize(
    ("kwargs", "given"),
    [
        ({"customers": 1, "labelled": False, "reasons": 0, "traits": False, "dated": False}, {}),
        ({"customers": 1, "labelled": False, "tasks": ("churn",)}, {"value": 30, "cost": 5, "threshold": "profit"}),
        ({"customers": 40, "tasks": ("orders",), "reasons": 0}, {"top": 3}),
        ({"customers": 60, "tasks": ("conversion",), "prefixes": 3, "rate": -2.0}, {"threshold": "yen"}),
        ({"customers": 30, "tasks": ("churn",)}, {"evaluate_on": "all", "segment_by": "plan"}),
    ],
    ids=["one bare customer", "one customer", "a number", "prefixes", "few"],
)
def test_small_and_bare(kwargs: dict, given: dict, tmp_path: Path) -> None:
    written = write(example(**kwargs), tmp_path, **given)
    assert written[-1].name == "report.html"
    page = written[-1].read_text()
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("kwargs", "given", "words"),
    [
        ({}, {}, r"highest scores holds \d+ % of all churn, \d\.\d times a random tenth"),
        ({}, {"rank_by": "ltv"}, r"highest predictions brings \d+ % of all ltv"),
        ({"labelled": False}, {}, "no outcomes yet to say how good"),
        ({}, {"value": 30, "cost": 100}, "Contact nobody"),
        ({}, {"value": 30, "cost": 14.9, "threshold": 0.0}, "is not shown to pay"),
        ({"tasks": ("conversion",), "customers": 6_000}, {}, "Probabilities can be taken at face value"),
        ({"tasks": ("conversion",), "customers": 200}, {}, "too few cases to tell"),
        (
            {"tasks": ("conversion",), "customers": 12_000, "rate": -3.0, "stretch": 0.7},
            {"draws": 5},
            "Probabilities cannot be taken at face value",
        ),
        ({"stretch": 2.5}, {}, "Probabilities of churn cannot be taken at face value"),
        ({"prefixes": 3}, {}, "the list holds the latest of each"),
        ({"customers": 160}, {}, r"Only \d+ of the \d+ rows that judge are with"),
        ({"tasks": ("ltv",)}, {}, "The predictions add up to"),
        ({}, {"evaluate_on": ("val", "train")}, "Thresholds were found on the same rows"),
        ({}, {"value": 30, "cost": 5, "money_unit": "USD"}, r"That costs [\d,]+ USD"),
        ({}, {"value": 30}, "The unit of money is not known"),
        ({}, {"threshold": 0.0}, "The list holds everybody"),
    ],
)  # fmt: skip
def test_words(kwargs: dict, given: dict, words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(example(**{"customers": 2_000, **kwargs}), tmp_path, **given, report=False, formats=["csv"])
    assert re.search(words, said(capsys))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_doubts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    p = example(2_000, tasks=("conversion",))

    def doubt(**changes: np.ndarray) -> str:
        write(replace(p, **changes), tmp_path, report=False, formats=["csv"])
        return said(capsys)

    known = np.clip(p.label.astype(np.float32), 0.02, 0.98)
    leaking = {"score": known, "reason": np.zeros((2_000, 1, 1), np.int64), "push": np.ones((2_000, 1, 1), np.float32)}
    text = doubt(**leaking)
    assert "suspiciously good" in text
    assert "plan alone makes up 100 % of what moves the scores for conversion" in text
    shifted = np.where((p.split == 2)[:, None], 0, p.label)
    shifted[np.flatnonzero(p.split == 2)[:60]] = 1
    assert "Drift: observed less predicted conversion was" in doubt(label=shifted)
    assert "All 500 known outcomes of conversion" in doubt(label=np.where((p.split == 2)[:, None], 0.0, p.label))
    assert "not shown to be better than chance" in doubt(score=1 - p.score)
    assert "are as wide as customers differ" in doubt(low=p.low * 0, high=p.high * 0 + 1)
    assert "a plan that training had not" in doubt(traits=p.traits * 0)
    assert "judged on training rows" in doubt(split=p.split * 0)
    run = {**RUN, "allowed": ["repeated", "tenure"]}
    PropensityDecision(draws=5, report=False).write(p, None, tmp_path, {}, run)
    assert "\ntenure was let through (data.allow)" in said(capsys)


@pytest.mark.usefixtures("no_pictures")
def test_database(tmp_path: Path) -> None:
    p, url = example(60), f"sqlite:///{tmp_path / 'crm' / 'crm.db'}"

    def put(run: str, **given: Any) -> None:
        decision = PropensityDecision(draws=5, database=url, table="risk", report=False, **given)
        decision.write(p, None, tmp_path / run, {}, {"run_id": run})

    def ask(question: str) -> list:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            found = connection.execute(sa.text(question)).all()
        engine.dispose()
        return [tuple(row) for row in found]

    put("r1")
    assert ask("select run_id, count(*) from risk group by run_id") == [("r1", 60)]
    assert ask("select distinct moment from risk") == [("2024-03-01 00:00:00.000000",)]
    with pytest.raises(UserError, match=r"Table 'risk' is already in sqlite.*if_exists is 'fail'"):
        put("r2")
    assert not (tmp_path / "r2").exists(), "nothing was written elsewhere either"
    put("r2", if_exists="append", target="test")
    put("r2", if_exists="run", target="test")
    assert ask("select run_id, count(*) from risk group by run_id") == [("r1", 60), ("r2", 15)]
    put("r3", if_exists="replace")
    assert ask("select run_id, count(*) from risk group by run_id") == [("r3", 60)]


def test_mistakes(tmp_path: Path) -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0), ["a"], np.array([1]))
    with pytest.raises(UserError, match="reads the predictions of a propensity model, not Detections"):
        PropensityDecision().write(nothing, None, tmp_path, {}, RUN)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"decision.if_exists='overwrite'"):
        PropensityDecision(if_exists="overwrite")
    with pytest.raises(UserError, match=r"decision.table='a b'"):
        PropensityDecision(table="a b")
    with pytest.raises(UserError, match="There is no customer"):
        write(example(4).select(np.zeros(4, bool)), tmp_path)
    with pytest.raises(UserError, match="needs a run_id"):
        PropensityDecision(database=f"sqlite:///{tmp_path}/a.db").write(example(10), None, tmp_path, {}, {})
    with pytest.raises(UserError) as error:
        PropensityDecision(database="nosuch://user:secret@host/db")
    assert "secret" not in str(error.value)
    assert not list(tmp_path.iterdir()), "nothing half-written"
