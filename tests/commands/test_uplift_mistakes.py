"""Uplift as typed: a campaign of one's own, the audience it leads to, and what goes wrong on the way.

Commands run in this process, as in `test_mix_decisions`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.test_mix_decisions import Desk, opened
from tests.conftest import ROOT

ROLES = """\
roles:
  id: customer
  treatment: mailing
  control: nothing
  outcomes: [{name: bought, kind: binary}]
  probabilities: equal
batch_size: 256
"""
SMALL = ("model.net.folds=2", "model.net.replicas=1", "model.nuisance_epochs=1", "model.effect_epochs=1")
FIT = ("experiment=x_learner_table", "data=campaign", *SMALL)


def campaign(customers: int = 900, seed: int = 0) -> pd.DataFrame:
    """Two offers drawn at random; the letter helps who comes often, the coupon everybody."""
    draw = np.random.default_rng(seed)
    visits, shop = draw.poisson(3.0, customers), draw.choice(["north", "south"], customers)
    mailing = draw.permutation(np.resize(["nothing", "letter", "coupon"], customers))
    chance = 0.2 + 0.1 * (mailing == "coupon") + 0.08 * (mailing == "letter") * (visits > 3)
    return pd.DataFrame(
        {
            "customer": [f"c{n:05d}" for n in range(customers)],
            "visits": visits,
            "shop": shop,
            "mailing": mailing,
            "bought": (draw.random(customers) < chance).astype(int),
        }
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """With a campaign, a model trained on it (run `mailing`), and new customers."""
    folder = tmp_path_factory.mktemp("desk")
    with opened(folder) as made:
        (folder / "configs" / "data").mkdir(parents=True)
        content = (ROOT / "configs" / "data" / "experiment_table.yaml").read_text(encoding="utf-8")
        head, _, rest = content.partition("roles:")
        rest = rest.partition("split:")[2].replace("batch_size: 1024  # global\n", "")
        (folder / "configs" / "data" / "campaign.yaml").write_text(f"{head}{ROLES}split:{rest}", encoding="utf-8")
        campaign().to_csv(folder / "campaign.csv", index=False)
        assert made("train", *command(made, "campaign.csv"), "run_id=mailing") == 0
        yield made


def command(desk: Desk, file: str, *options: str) -> tuple[str, ...]:
    """Arguments of a training on a file of the desk."""
    return ("--config-dir", str(desk.configs), *FIT, f"data.path={desk.folder / file}", *options)


def checkpoint(desk: Desk) -> Path:
    return desk.logs / "x_learner_table" / "runs" / "mailing" / "checkpoints" / "best.ckpt"


def targeting(desk: Desk, run_id: str, *options: str) -> Path:
    few = ("decision=targeting", "decision.draws=20", "decision.report=false")
    return desk.evaluate(checkpoint(desk), run_id, *few, *options)


def test_new_customers_are_scored_and_targeted(desk: Desk) -> None:
    """Without an arm or an outcome, with a category nobody has seen, into a table, a file and a database."""
    new = campaign(300, seed=5).drop(columns=["mailing", "bought"])
    new["customer"] = "n" + new["customer"]
    new.loc[::3, "shop"] = "west"
    new.to_csv(desk.folder / "new.csv", index=False)
    database = desk.folder / "audience.db"
    costs = "decision.costs={letter: 0.5, coupon: {per_contact: 0.1, per_redemption: {bought: 1}}}"
    options = (
        "decision.value={bought: 20}",
        costs,
        "decision.max_clients=50",
        f"decision.database=sqlite:///{database}",
    )
    folder = targeting(desk, "new", "stages=[predict]", f"data.path={desk.folder / 'new.csv'}", *options)
    audience = pd.read_parquet(folder / "tables" / "audience.parquet")
    assert 0 < len(audience) <= 50
    assert set(audience["customer"] if "customer" in audience else audience["id"]) <= set(new["customer"])
    net = audience["net_value"].to_numpy()
    assert (np.diff(net) <= 0).all()
    assert net.min() > 0
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from audience").fetchone() == (len(audience),)


@pytest.fixture
def mistake(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Give a command that must end with one message and status 2."""

    def give(*arguments: str, words: tuple[str, ...], entry: str = "train") -> None:
        capsys.readouterr()
        before = {path: path.stat().st_mtime_ns for path in desk.logs.rglob("*.ckpt")}
        status = desk(entry, *arguments, "run_id=wrong")
        said = capsys.readouterr().err
        assert status == 2, said
        assert said.count("Error: ") == 1
        assert "Traceback" not in said
        for word in words:
            assert word in said, said
        assert {path: path.stat().st_mtime_ns for path in desk.logs.rglob("*.ckpt")} == before

    return give


def spoilt(change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return change(campaign())


TABLES = {
    "one arm only": (lambda t: t.assign(mailing="nothing"), ("mailing", "nothing")),
    "an outcome that is not 0 or 1": (lambda t: t.assign(bought=t["bought"] * 2), ("bought", "binary")),
    "a customer twice": (
        lambda t: t.assign(customer=t["customer"].mask(t.index == 7, "c00003")),
        ("customer", "c00003"),
    ),
    "arms that were not drawn alike": (
        lambda t: t[(t["mailing"] != "letter") | (t.index % 3 == 0)],
        ("sample_ratio", "letter"),
    ),
    "an outcome among the features": (lambda t: t.assign(order_value=12.0 * t["bought"]), ("order_value", "drop")),
    "no column that is a feature": (lambda t: t.drop(columns=["visits", "shop"]), ("data.roles.features", "drop")),
    "no such control": (lambda t: t.assign(mailing=t["mailing"].replace("nothing", "none")), ("nothing", "none")),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_learnt_from(name: str, desk: Desk, mistake: Callable[..., None]) -> None:
    change, words = TABLES[name]
    spoilt(change).to_csv(desk.folder / "spoilt.csv", index=False)
    mistake(*command(desk, "spoilt.csv"), words=words)


def test_more_folds_than_customers(desk: Desk, mistake: Callable[..., None]) -> None:
    before = set(desk.logs.rglob("*"))
    mistake(*command(desk, "campaign.csv", "model.net.folds=5000"), words=("model.net.folds=5000", "630 training rows"))
    assert set(desk.logs.rglob("*")) == before, "refused before anything is written"


def test_a_feature_that_is_missing_at_prediction(desk: Desk, mistake: Callable[..., None]) -> None:
    campaign(100, seed=2).drop(columns=["visits", "mailing", "bought"]).to_csv(desk.folder / "less.csv", index=False)
    path = f"data.path={desk.folder / 'less.csv'}"
    mistake(f"ckpt_path={checkpoint(desk)}", "stages=[predict]", path, entry="evaluate", words=("visits",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("decision.costs={letter: 0.5}",), ("decision.costs lacks 'coupon'", "coupon: 0.0")),
        (("decision.costs={letter: 0.5, coupon: 1, gift: 2}",), ("'gift'",)),
        (("decision.value={sold: 20}",), ("sold", "bought")),
        (("decision.caps={gift: 5}",), ("decision.caps", "'gift'")),
        (("decision.budget=-5",), ("decision.budget",)),
        (("decision.budget=100",), ("decision.budget=100 limits nobody", "decision.costs", "decision.max_clients")),
    ],
    ids=[
        "no cost of an arm",
        "an arm nobody knows",
        "an outcome nobody knows",
        "a cap of no arm",
        "a budget below 0",
        "a budget and no costs",
    ],
)
def test_decisions_that_cannot_be_made(
    options: tuple[str, ...], words: tuple[str, ...], desk: Desk, mistake: Callable[..., None]
) -> None:
    arguments = (f"ckpt_path={checkpoint(desk)}", "stages=[predict]", "decision=targeting", *options)
    before = set(desk.logs.rglob("*"))
    mistake(*arguments, entry="evaluate", words=words)
    assert set(desk.logs.rglob("*")) == before, "refused before anything is predicted"
