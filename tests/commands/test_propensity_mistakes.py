"""Propensity as typed: a log of one's own, the scores it leads to, a table with dirty cells, and what goes wrong.

Commands run in this process, as in `test_mix_decisions`.
"""

import sqlite3
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from tests.commands.test_mix_decisions import Desk, opened
from tests.conftest import ROOT

CHANGES = {
    "  id: ???  # column of the customer": "  id: customer",
    "  time: ???  # when it happened": "  time: at",
    "  type: null  #": "  type: what  #",
    "  amount: null  #": "  amount: money  #",
    "tasks: ???": "tasks:\n"
    "  - {name: conversion, kind: binary, event: purchase, within: 30}\n"
    "  - {name: churn, kind: hazard, event: cancel, edges: [15, 30], unit: days}\n"
    "  - {name: ltv, kind: value, event: purchase, sum: amount, within: 30, unit: EUR}",
    "as_of: ???": "as_of: 2024-04-01 #",
}
SMALL = ("model.net.folds=1", "model.net.replicas=1", "model.net.experts=1", "model.net.hidden=[8]")
SMALL += ("model.net.tower_hidden=[]", "model.net.sequence.hidden=4", "trainer.max_epochs=1", "data.checks.leak_auc=1")
FIT = ("experiment=propensity_events", "data=shop", "model.net.reasons.steps=2", *SMALL)


def log(customers: int = 300, seed: int = 0) -> pd.DataFrame:
    """Visits and purchases in the first half of a year, and a few who cancel."""
    draw = np.random.default_rng(seed)
    often = draw.gamma(2.0, 6.0, customers)
    owner = np.repeat(np.arange(customers), draw.poisson(often))
    what = draw.choice(["visit", "purchase", "cancel"], len(owner), p=[0.6, 0.35, 0.05])
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 180 * 86400, len(owner)), unit="s")
    money = np.where(what == "purchase", draw.lognormal(3, 0.5, len(owner)).round(2), np.nan)
    return pd.DataFrame({"customer": [f"c{n:04d}" for n in owner], "at": at, "what": what, "money": money})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """With a log, customers some of whom have no event, and a model trained on both (run `shop`)."""
    folder = tmp_path_factory.mktemp("desk")
    with opened(folder) as made:
        (folder / "configs" / "data").mkdir(parents=True)
        content = (ROOT / "configs" / "data" / "event_log.yaml").read_text(encoding="utf-8")
        for old, new in CHANGES.items():
            assert old in content, old
            content = content.replace(old, new)
        customers = f"{{path: {folder / 'customers.csv'}, since: since}}"
        content = content.replace("customers: null", f"customers: {customers}")
        (folder / "configs" / "data" / "shop.yaml").write_text(content, encoding="utf-8")
        log().to_csv(folder / "shop.csv", index=False)
        names = [f"c{n:04d}" for n in range(330)]  # the last 30 did nothing yet
        pd.DataFrame({"customer": names, "since": "2024-01-01", "plan": ["basic", "plus", "pro"] * 110}).to_csv(
            folder / "customers.csv", index=False
        )
        assert made("train", *command(made, "shop.csv"), "run_id=shop") == 0
        yield made


def command(desk: Desk, file: str, *options: str) -> tuple[str, ...]:
    """Arguments of a training on a file of the desk."""
    return ("--config-dir", str(desk.configs), *FIT, f"data.path={desk.folder / file}", *options)


def test_customers_are_scored_later_also_those_without_events(desk: Desk) -> None:
    """At the end of the log, into a table, files and a database; who did nothing is scored by the plan."""
    checkpoint = desk.logs / "propensity_events" / "runs" / "shop" / "checkpoints" / "best.ckpt"
    database = desk.folder / "scores.db"
    options = ("decision=propensity", "decision.report=false", "decision.draws=20", "decision.top=0.1")
    options += ("stages=[predict]", "data.as_of=null", f"decision.database=sqlite:///{database}")
    folder = desk.evaluate(checkpoint, "later", *options)
    scores = pd.read_parquet(folder / "tables" / "scores.parquet").set_index("id")
    assert {f"c{n:04d}" for n in range(300, 330)} <= set(scores.index)
    for column in ("conversion", "churn"):
        assert scores[column].between(0, 1).all()
    assert (scores["ltv"] >= 0).all()
    assert (scores["ltv_low"] <= scores["ltv"]).all()
    assert 0 < scores["contact"].sum() <= 0.1 * len(scores) + 1
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from scores").fetchone() == (len(scores),)


@pytest.fixture
def mistake(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Give a command that must end with one message and status 2, and leave nothing."""

    def give(*arguments: str, words: tuple[str, ...], entry: str = "train") -> None:
        capsys.readouterr()
        status = desk(entry, *arguments, "run_id=wrong")
        said = capsys.readouterr().err
        assert status == 2, said
        assert said.count("Error: ") == 1
        assert "Traceback" not in said
        for word in words:
            assert word in said, said
        assert not list(desk.logs.glob("*/*/wrong"))

    return give


def _unreadable(table: pd.DataFrame) -> pd.DataFrame:
    at = table["at"].astype(str)
    at[7] = "yesterday"
    return table.assign(at=at)


def _mixed_zones(table: pd.DataFrame) -> pd.DataFrame:
    at = table["at"].dt.strftime("%Y-%m-%dT%H:%M:%S") + "+01:00"
    at[9] = at[9].replace("+01:00", "+05:00")
    return table.assign(at=at)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (None, ("data.as_of=2031-01-01",), ("2031-01-01", "2024")),
        (None, ("data.as_of=2020-01-01",), ("2020-01-01", "2024")),
        (None, ("data.as_of=soon",), ("soon", "data.as_of")),
        (_unreadable, (), ("'yesterday'", "row 9", "at")),
        (_mixed_zones, (), ("+05:00", "row 11", "zone")),
        (lambda table: table[table["what"] != "cancel"], (), ("cancel",)),
        (lambda table: table.rename(columns={"what": "event"}), (), ("what",)),
        (None, ("data.tasks=[{name: conversion, kind: binary, event: buy, within: 30}]",), ("buy", "purchase")),
        (None, ("data.tasks=[{name: c, kind: binary, event: purchase, within: 30}]", "data.as_of=2024-06-25"), ("30",)),
        (None, ("model.net.sequence.cell=rnn",), ("rnn", "lstm, gru")),
        (None, ("model.net.structure=moe",), ("moe", "mmoe")),
        (None, ("model.net.task_weights={chrun: 2}",), ("chrun", "churn")),
        (lambda table: table.assign(money=table["money"] * np.inf), (), ("inf", "money", "row")),
        (lambda table: table.assign(at=table["at"].astype(str).where(table.index != 5, "2999-01-01")), (), ("2999",)),
    ],
)
def test_a_log_that_cannot_be(
    desk: Desk,
    mistake: Callable[..., None],
    change: Callable[[pd.DataFrame], pd.DataFrame] | None,
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    file = "shop.csv"
    if change is not None:
        file = "spoilt.csv"
        change(log()).to_csv(desk.folder / file, index=False)
    mistake(*command(desk, file, *options), words=words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("decision.value={chrun: 3}", ("decision.value", "chrun", "did you mean 'churn'")),
        ("decision.rank_by=lvt", ("decision.rank_by", "lvt", "ltv")),
        ("decision.threshold={churn: 2}", ("decision.threshold=2", "from 0 to 1")),
        ("decision.threshold={ltv: otsu}", ("otsu", "ltv is an amount")),
        ("decision.segment_by=plam", ("decision.segment_by", "plam", "plan")),
    ],
)
def test_names_that_predictions_will_not_have_are_refused_first(
    desk: Desk, mistake: Callable[..., None], option: str, words: tuple[str, ...]
) -> None:
    checkpoint = desk.logs / "propensity_events" / "runs" / "shop" / "checkpoints" / "best.ckpt"
    mistake(f"ckpt_path={checkpoint}", "stages=[predict]", "decision=propensity", option, entry="evaluate", words=words)


def subscriptions(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """A table like a telephone company's, with blank cells."""
    draw = np.random.default_rng(seed)
    tenure = draw.integers(0, 72, rows)
    charges = draw.uniform(20, 110, rows).round(2)
    total = (tenure * charges * draw.uniform(0.3, 1.0, rows)).round(2).astype(str)
    total[tenure == 0] = " "
    churn = np.where(draw.random(rows) < 0.5 * np.exp(-tenure / 30) + 0.05, "Yes", "No")
    return pd.DataFrame(
        {"customer": np.arange(rows), "tenure": tenure, "charges": charges, "total": total, "churn": churn}
    )


TABLE = ("experiment=propensity_table", "data.roles.id=customer", "trainer.max_epochs=1", "model.net.replicas=1")
TASKS = "data.roles.tasks=[{name: churn, column: churn}]"


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda table: table.assign(churn="No"), (TASKS,), ("churn", "one class")),
        (lambda table: table.assign(customer=7), (TASKS,), ("7", "repeated")),
        (
            lambda table: table.assign(total=table["total"].where(table.index != 5, "lots")),
            (TASKS,),
            ("'lots'", "row 6 of the table"),
        ),
        (lambda table: table.assign(left=table["churn"].map({"Yes": 1, "No": 0})), (TASKS,), ("left", "churn")),
        (None, ("data.roles.tasks=[{name: churn, column: chrun}]",), ("chrun", "churn")),
        (None, ("data.roles.tasks=[{name: net_value, column: churn}]",), ("net_value", "rename")),
        (None, (TASKS, "data.roles.categorical=[churn]"), ("churn", "label")),
        (lambda table: table.assign(since="soon"), (TASKS, "data.roles.moment=since"), ("'soon'", "row 1")),
        (None, (TASKS, "data.survival={time: tenure, event: churn, positive: Ja}"), ("survival.positive='Ja'", "Yes")),
        (
            lambda table: table.assign(charges=table["charges"].map("{:.2f}".format).str.replace(".", ",")),
            (TASKS,),
            ("charges", "data.decimal=','"),
        ),
        (lambda table: table.assign(churn=table["churn"].map({"Yes": 1, "No": 2})), (TASKS,), ("1 and 2", "positive")),
        (lambda table: table.assign(churn=""), (TASKS,), ("churn", "empty in every row")),
        (lambda table: table.assign(tenure=1, charges=2, total=3), (TASKS,), ("tenure", "the same in all")),
        (
            lambda table: table.assign(tenure=table["tenure"] + 1),
            ("data.roles.tasks=[{name: c, column: churn, kind: hazard, time: tenure, edges: [900, 999]}]",),
            ("[900.0, 999.0]", "nobody is watched"),
        ),
        (None, (TASKS, "model.net.pieces=65"), ("model.net.pieces=65", "64")),
        (None, (TASKS, "model.net.hidden=[0]"), ("model.net.hidden=[0]",)),
        (None, (TASKS, "model.net.interval_scale=inf"), ("model.net.interval_scale=inf",)),
        (None, (TASKS, "model.weight_decays={trunk: -1}"), ("model.weight_decays.trunk=-1",)),
    ],
)
def test_a_table_that_cannot_be(
    desk: Desk,
    mistake: Callable[..., None],
    change: Callable[[pd.DataFrame], pd.DataFrame] | None,
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    table = subscriptions() if change is None else change(subscriptions())
    table.to_csv(desk.folder / "spoilt.csv", index=False)
    mistake(*TABLE, f"data.path={desk.folder / 'spoilt.csv'}", *options, words=words)


def test_blank_cells_are_missing_values_and_unknown_columns_of_new_customers_are_told(
    desk: Desk, mistake: Callable[..., None]
) -> None:
    subscriptions().to_csv(desk.folder / "subscriptions.csv", index=False)
    options = (TASKS, "run_id=table")
    assert desk("train", *TABLE, f"data.path={desk.folder / 'subscriptions.csv'}", *options) == 0
    subscriptions().drop(columns=["tenure"]).to_csv(desk.folder / "new.csv", index=False)
    checkpoint = desk.logs / "propensity_table" / "runs" / "table" / "checkpoints" / "best.ckpt"
    given = (f"ckpt_path={checkpoint}", "stages=[predict]", f"data.path={desk.folder / 'new.csv'}")
    mistake(*given, entry="evaluate", words=("'tenure'", "new.csv"))
