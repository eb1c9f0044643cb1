"""The analyst's way, as typed: train a mix, ask for the mix, a budget, scenarios and prices; and what goes wrong on it.

Commands run in this process, one after another, as `tests/runtime/test_mistakes.py` has it; only what starts processes
of its own (ranks, a multirun) is run as a command.
"""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT, TOY, clean_environment
from wanamaker.runtime.launch import main

CHANGES = "decision.scenarios.tv_up={media: {tv: {times: 1.2}}}"
FEW = ["decision.formats=[parquet]", "decision.report=false"]


class Desk:
    """A folder in which commands are given."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.logs, self.configs = folder / "logs", folder / "configs"

    def __call__(self, entry: str, *arguments: str) -> int:
        self.patch.setattr(sys, "argv", [str(ROOT / f"{entry}.py"), *arguments])
        root = logging.getLogger()
        before, level = list(root.handlers), root.level
        try:
            return main(entry)
        except SystemExit as stop:  # how a mistake found in the run itself gets past Hydra
            return int(stop.code or 0)
        finally:  # Hydra's handlers write to the streams of this test, which end with it
            for handler in [handler for handler in root.handlers if handler not in before]:
                root.removeHandler(handler)
                handler.close()
            root.setLevel(level)

    def evaluate(self, checkpoint: Path, run_id: str, *arguments: str) -> Path:
        status = self("evaluate", f"ckpt_path={checkpoint}", f"run_id={run_id}", *arguments)
        assert status == 0, run_id
        (output,) = self.logs.glob(f"*/evaluations/{run_id}")
        return output

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = clean_environment(WANAMAKER_LOG_DIR=str(self.logs), OMP_NUM_THREADS="1")
        environment["WANAMAKER_CACHE_DIR"] = str(self.folder / "cache")
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )


@contextmanager
def opened(folder: Path) -> Iterator[Desk]:
    """A desk in a folder, whose runs, cache and environment are its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_NTASKS"):
            patch.delenv(name, raising=False)
        patch.setenv("WANAMAKER_LOG_DIR", str(folder / "logs"))
        patch.setenv("WANAMAKER_CACHE_DIR", str(folder / "cache"))
        patch.setenv("WANAMAKER_RUN_ID", "desk")
        patch.setenv("WANAMAKER_ROOT", str(ROOT))
        yield Desk(folder, patch)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("desk")) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANAMAKER_TRUSTED", "wanamaker_toy")
        patch.syspath_prepend(str(TOY))
        yield made


@pytest.fixture(scope="module")
def tiny(desk: Desk) -> Path:
    """The checkpoint of the tiny recipe."""
    assert desk("train", "experiment=nam_tiny", "run_id=tiny", "stages=[fit]") == 0
    return desk.logs / "nam_tiny" / "runs" / "tiny" / "checkpoints" / "best.ckpt"


@pytest.fixture
def mistake(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Give a command that must end with one message, status 2, and no result."""

    def give(entry: str, *arguments: str, words: tuple[str, ...], run_id: str = "wrong") -> None:
        capsys.readouterr()
        status = desk(entry, *arguments, f"run_id={run_id}")
        said = capsys.readouterr().err
        assert status == 2, said
        assert said.count("Error: ") == 1
        assert "Traceback" not in said
        for word in words:
            assert word in said, said
        left = [path.name for path in desk.logs.glob(f"*/*/{run_id}/*")]
        assert not {"tables", "figures", "report.html", "checkpoints"} & set(left)
        assert not left or entry == "evaluate"

    return give


def table(output: Path, name: str) -> pd.DataFrame:
    """A table of a decision, the same from both kinds of file."""
    parquet = pd.read_parquet(output / "tables" / f"{name}.parquet")
    csv = pd.read_csv(output / "tables" / f"{name}.csv")
    assert list(csv.columns) == list(parquet.columns)
    assert len(csv) == len(parquet)
    assert (parquet["run_id"] == output.name).all()
    return parquet


def check_page(output: Path, *words: str) -> None:
    """The report is one file that asks nobody for anything, and every figure lies beside it."""
    page = (output / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|url\([\"']?http|@import|<script src", page), "self-contained"
    plain = page.replace("\xa0", " ")
    for word in words:
        assert word in plain, word
    shown = re.sub(r"data:[^\"]*", "", plain)
    assert not re.search(r"\bnan\b|\binf\b|Traceback|None", shown), "no number is missing without a dash"
    figures = list((output / "figures").glob("*.png"))
    assert figures
    assert all(figure.read_bytes()[:4] == b"\x89PNG" for figure in figures)


# -- what the decisions write ------------------------------------------------------------------------------------------


def test_mix(desk: Desk, tiny: Path) -> None:
    output = desk.evaluate(tiny, "mix", "decision=mix", "decision.repeats=1")
    parts, rows, channels = (table(output, name) for name in ("contributions", "predictions", "channels"))
    assert parts["contribution"].sum() == pytest.approx(rows["prediction"].sum(), rel=1e-4), "the waterfall sums up"
    by_series = table(output, "contributions_by_series")
    assert by_series["contribution"].sum() == pytest.approx(parts["contribution"].sum(), rel=1e-6)
    assert {"R2", "wMAPE", "MASE"} <= {*re.findall(r"R2|wMAPE|MASE", (output / "report.html").read_text())}
    assert set(table(output, "scores")["split"]) == {"train", "val", "test"}
    media = parts[parts["kind"] == "media"].set_index("part")["contribution"]
    np.testing.assert_allclose(channels.set_index("channel")["contribution"], media[channels["channel"]], rtol=1e-6)
    assert (channels["roi_low_90"] <= channels["roi"]).all()
    assert (channels["roi"] <= channels["roi_high_90"]).all()
    for name in ("roi_curves", "carry_over", "permutation_importance", "scores_by_series", "warnings"):
        assert len(table(output, name)) > 0 or name == "warnings"
    check_page(
        output, "Media brought", "the thin line is the 90 % interval", "Q-Q", "What the prediction rests on", "Training"
    )


def test_budget(desk: Desk, tiny: Path) -> None:
    output = desk.evaluate(tiny, "budget", "decision=budget", "decision.total=300000", "decision.periods=26")
    cells, channels = table(output, "plan_cells"), table(output, "plan_channels")
    assert cells["planned_spend"].sum() == pytest.approx(300_000)
    assert channels["planned_spend"].sum() == pytest.approx(300_000)
    assert cells["current_spend"].sum() == pytest.approx(channels["current_spend"].sum())
    assert (cells["planned_spend"] >= 0).all()
    plans = table(output, "plan_comparison").set_index("plan")
    assert plans.loc["optimised", "value"] >= plans.drop(index="current")["value"].max() - 1e-6
    limits = table(output, "plan_limits").set_index("limit")
    assert limits.loc["total budget", "shadow_price"].item() > 0
    check_page(output, "shadow price", "KKT residual", "300,000 EUR")


def test_budget_of_two_ranks_is_that_of_one(desk: Desk, tiny: Path) -> None:
    question = ["decision=budget", "decision.resolution=[channel,series]", *FEW]
    one = desk.evaluate(tiny, "one", *question)
    done = desk.command("evaluate.py", f"ckpt_path={tiny}", "run_id=two", "trainer=ddp_cpu", *question)
    assert done.returncode == 0, done.stdout + done.stderr
    two = one.parent / "two"
    assert not (two / "report.html").exists(), "report=false"
    plans = [pd.read_parquet(folder / "tables" / "plan_cells.parquet")["planned_spend"] for folder in (one, two)]
    np.testing.assert_allclose(*plans, rtol=1e-3, atol=1.0)


def test_scenarios(desk: Desk, tiny: Path) -> None:
    same = "decision.scenarios.same={media: {tv: {times: 1}}}"
    output = desk.evaluate(tiny, "scenario", "decision=scenario", CHANGES, same)
    frame = table(output, "scenarios").set_index("scenario")
    assert (frame.loc[["baseline", "same"], ["kpi_change", "spend_change", "profit_change"]] == 0).all(axis=None)
    inputs = table(output, "scenario_inputs").set_index(["scenario", "input"])
    tv = inputs.loc[("tv_up", "tv")]
    assert tv["with_scenario"] == pytest.approx(1.2 * tv["baseline"])
    assert frame.loc["tv_up", "spend_change"] == pytest.approx(0.2 * tv["baseline"])
    by_series = table(output, "scenario_series")
    mine = by_series[by_series["scenario"] == "tv_up"]
    assert mine["kpi_change"].sum() == pytest.approx(frame.loc["tv_up", "kpi_change"])
    assert {"more_media", "less_media"} <= set(frame.index), "presets that fit every panel with media"
    assert "aggressive_digital" in set(table(output, "scenario_left_out")["preset"])
    check_page(output, "tv_up", "aggressive_digital", "going on as before")


# -- a file of the analyst's own ---------------------------------------------------------------------------------------

ROLES = """\
roles:
  date: {column: Woche, format: "%d.%m.%Y"}
  kpi: Absatz (Stück)
  kpi_name: Absatz
  kpi_unit: units
  kpi_value: 1.4
  money_unit: EUR
  series: [Land]
  media: {tv: TV-Ausgaben, online: Online-Ausgaben}
  price: {preis: {column: Preis, direction: own}}
  promotion: {rabatt: {column: Rabatt %, direction: up}}
  control: [Temperatur]
encoding: latin-1
delimiter: ";"
decimal: ","
seasonality: {yearly: 1}
trend: linear
split: {val: 8, test: 8}
max_lag: 4
"""
SHORT = ["trainer.max_epochs=1", "data.passes_per_epoch=25", "model.net.members=3", "stages=[fit]"]


def sheet(weeks: int) -> pd.DataFrame:
    """Two regions as a German spreadsheet writes them."""
    rng = np.random.default_rng(5)
    frames = []
    for land, size in (("Baden-Württemberg", 1.0), ("Berlin", 0.5)):
        date = pd.date_range("2022-01-03", periods=130, freq="W-MON")
        tv, online = (rng.gamma(3, 3000 * size, 130) for _ in range(2))
        price = np.round(3 + 0.3 * rng.standard_normal(130), 2)
        deal = np.where(rng.random(130) < 0.2, 15.0, 0.0)
        sold = 40_000 * size * (price / 3) ** -1.6 * (1 + 0.01 * deal) + 4_000 * size * (1 - np.exp(-tv / 9000 / size))
        frames.append(
            pd.DataFrame(
                {
                    "Woche": date.strftime("%d.%m.%Y"),
                    "Land": land,
                    "Absatz (Stück)": np.round(sold * (1 + 0.02 * rng.standard_normal(130)), 1),
                    "TV-Ausgaben": np.round(tv, 2),
                    "Online-Ausgaben": np.round(online, 2),
                    "Preis": price,
                    "Rabatt %": deal,
                    "Temperatur": np.round(10 + 8 * rng.standard_normal(130), 1),
                }
            ).head(weeks)
        )
    return pd.concat(frames, ignore_index=True)


class Analyst:
    """A file, the copied data config that names its columns, and a model of them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        folder = desk.configs / "data"
        folder.mkdir(parents=True)
        content = (ROOT / "configs" / "data" / "media_panel.yaml").read_text(encoding="utf-8")
        head, _, _ = content.partition("roles:")
        path = self.save("sales.csv", sheet(104))
        copied = head.replace("path: ???", f"path: {path}") + ROLES
        (folder / "sales.yaml").write_text(copied, encoding="utf-8")

    def save(self, name: str, frame: pd.DataFrame) -> str:
        path = self.desk.folder / name
        frame.to_csv(path, sep=";", decimal=",", index=False, encoding="latin-1")
        return str(path)

    def train(self, *arguments: str) -> int:
        common = ["--config-dir", str(self.desk.configs), "experiment=nam_panel", "data=sales"]
        return self.desk("train", *common, *SHORT, *arguments)


@pytest.fixture(scope="module")
def analyst(desk: Desk) -> Analyst:
    return Analyst(desk)


@pytest.fixture(scope="module")
def own(analyst: Analyst) -> Path:
    """The checkpoint of the analyst's model."""
    assert analyst.train("run_id=own") == 0
    (best,) = analyst.desk.logs.glob("nam_panel/runs/own/checkpoints/best.ckpt")
    return best


def test_own_file_to_prices(desk: Desk, own: Path) -> None:
    output = desk.evaluate(own, "prices", "decision=pricing", "decision.unit_cost=40%")
    prices = table(output, "prices").set_index("series")
    assert set(prices.index) == {"Baden-Württemberg", "Berlin"}
    assert (prices["elasticity_current"] < 0).all()
    assert (prices["gain"] >= 0).all()
    total = table(output, "price_total").iloc[0]
    assert total["profit_best"] - total["profit_current"] == pytest.approx(total["gain"])
    assert {"price_current", "price_best"} <= set(prices)
    check_page(output, "Price optimiser", "Absatz", "EUR")
    scenario = desk.evaluate(own, "dearer", "decision=scenario", "decision.names={discount: rabatt}", *FEW)
    frame = pd.read_parquet(scenario / "tables" / "scenarios.parquet").set_index("scenario")
    assert {"price_reduction", "premium_positioning", "festival_push"} <= set(frame.index)
    assert frame.loc["price_reduction", "kpi_change"] > 0 > frame.loc["premium_positioning", "kpi_change"]


def test_later_weeks_are_forecast(analyst: Analyst, own: Path, mistake: Callable) -> None:
    """New weeks, the last of them without a KPI: read, predicted, and nothing is called training that was not."""
    later = sheet(130)
    ahead = pd.to_datetime(later["Woche"], format="%d.%m.%Y") >= "2024-05-06"
    later.loc[ahead, "Absatz (Stück)"] = np.nan
    path = analyst.save("later.csv", later)
    ask = ["decision=mix", "decision.repeats=1", f"data.path={path}"]
    mistake("evaluate", f"ckpt_path={own}", *ask, words=("no row with an observed Absatz", "stages=[predict]"))
    output = analyst.desk.evaluate(own, "later", "stages=[predict]", *ask)
    rows = table(output, "predictions")
    assert len(rows) == 2 * 130
    assert rows["prediction"].notna().all()
    assert rows.loc[rows["kpi"].isna(), "split"].eq("none").all()
    assert rows["kpi"].isna().sum() == ahead.sum() > 0
    learnt = pd.Timestamp("2022-01-03") + pd.Timedelta(weeks=104 - 16 - 1)
    assert rows.loc[rows["split"] == "train", "date"].max() == learnt
    assert (rows.loc[(rows["date"] > learnt) & rows["kpi"].notna(), "split"] != "train").all()
    check_page(output, "Media brought")


# -- walk-forward ------------------------------------------------------------------------------------------------------


def test_walk_forward_from_training_to_the_report(desk: Desk, tiny: Path) -> None:
    folds = ["data.split.scheme=expanding", "data.split.window=24", "data.split.val=4", "data.split.test=8"]
    few = ["trainer.max_epochs=1", "data.passes_per_epoch=5", "model.net.members=2"]
    done = desk.command("train.py", "-m", "experiment=nam_tiny", "data.split.fold=0,1", *folds, *few)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = {path.parent.parent for path in desk.logs.glob("nam_tiny/multiruns/*/*/metrics.json")}
    output = desk.evaluate(tiny, "folds", "decision=mix", "decision.repeats=1", f"decision.walk_forward={folder}")
    scores = table(output, "walk_forward")
    assert len(scores) == 2
    assert scores["wMAPE"].notna().all()
    check_page(output, "Walk-forward", "2 models")


# -- mistakes ----------------------------------------------------------------------------------------------------------


def column(name: str, row: int, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[row, name] = value
        return frame

    return change


FILES = {
    "date that does not parse": (column("Woche", 17, "31.02.2022"), "column 'Woche', row 19: '31.02.2022'", "%d.%m.%Y"),
    "empty spend": (column("TV-Ausgaben", 30, None), "column 'TV-Ausgaben' (spend of tv), row 32", "fill"),
    "negative spend": (column("TV-Ausgaben", 30, -4.0), "column 'TV-Ausgaben' (spend of tv), row 32", "the sign"),
    "gap": (lambda f: f.drop(index=20), "no row for series 'Baden-Württemberg' on 2022-05-23", "data.on_gap=mask"),
    "duplicate key": (lambda f: pd.concat([f, f.iloc[[50]]]), "row 210", "same date and series as row 52"),
    "mixed frequency": (column("Woche", 150, "24.11.2022"), "row 152", "W-MON"),
    "no column": (lambda f: f.drop(columns="Temperatur"), "'Temperatur' (control) is not there", "declare"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "place", "remedy"), FILES.values(), ids=FILES)
def test_mistake_in_the_file(analyst: Analyst, mistake: Callable, change: Callable, place: str, remedy: str) -> None:
    path = analyst.save("wrong.csv", change(sheet(104)))
    common = ["--config-dir", str(analyst.desk.configs), "experiment=nam_panel", "data=sales"]
    mistake("train", *common, f"data.path={path}", words=(place, remedy))


def test_mistake_in_the_roles(analyst: Analyst, mistake: Callable) -> None:
    common = ["--config-dir", str(analyst.desk.configs), "experiment=nam_panel", "data=sales"]
    words = ("'data.roles.media' has no 'radio'", "+data.roles.media.radio=")
    mistake("train", *common, "data.roles.media={radio: Radio}", words=words)
    mistake("train", *common, "data.roles.media.tv=Radio", words=("'Radio' (spend of tv) is not there", "There are"))
    mistake("train", *common, "data.roles.media={tv: TV-Ausgabe}", words=("Did you mean 'TV-Ausgaben'?",))
    mistake("train", *common, "data.roles.prise={}", words=("'data.roles' has no 'prise'", "Did you mean 'price'?"))
    mistake("train", *common, "data.delimiter=null", words=("one column with ';' inside: pass data.delimiter=';'",))
    mistake("train", *common, "data.encoding=utf-8", words=("is not utf-8", "data.encoding=latin-1"))
    mistake("train", *common, "data.split.test=200", words=("leaves too few periods", "104 periods"))
    mistake("train", "experiment=nam_panel", words=("'data.path' must be given",))


def test_leak_beside_the_kpi(analyst: Analyst, mistake: Callable) -> None:
    """The units of `gmv`: explaining one by the other would explain nothing."""
    frame = sheet(104)
    path = analyst.save("leak.csv", frame.assign(units=frame["Absatz (Stück)"], gmv=3.1 * frame["Absatz (Stück)"]))
    common = ["--config-dir", str(analyst.desk.configs), "experiment=nam_panel", "data=sales", f"data.path={path}"]
    words = ("target leakage: 'units' is a copy of the KPI", "Take it out of the roles")
    mistake("train", *common, "data.roles.kpi=gmv", "data.roles.control=[Temperatur,units]", words=words)


BUDGETS = {
    "below the bounds": (
        ["decision.total=1000", "decision.bounds={tv: [900, 2000], search: [900, 2000]}"],
        ("decision.total=1,000.00 EUR is below the sum of the lower bounds, 1,800.00 EUR", "bounds of tv"),
    ),
    "no such channel": (["decision.bounds={serch: [50%, 90%]}"], ("channel 'serch'", "did you mean 'search'?")),
    "no such channel held": (["decision.hold=[TVs]"], ("decision.hold names the channel 'TVs'", "mean 'tv'?")),
    "groups that contradict": (
        ["decision.groups=[{name: all, channels: [tv, search], max: 50%}]"],
        ("no plan keeps all limits", "group all", "Loosen or drop"),
    ),
    "target out of reach": (["decision.target_roi=5000"], ("decision.target_roi=5000 cannot be reached", "Lower")),
    "longer than the data": (["decision.periods=900"], ("decision.periods=900", "60 periods")),
}  # fmt: skip
SCENARIOS = {
    "no such preset": (["decision.use_presets=[festival]"], ("no preset 'festival'", "Did you mean 'festival_push'?")),
    "no such channel": (["decision.scenarios.x={media: {tvs: {times: 2}}}"], ("media.tvs", "Did you mean 'tv'?")),
    "no such change": (["decision.scenarios.x={media: {tv: {time: 2}}}"], ("'time'", "Did you mean 'times'?")),
    "outside the data": (["decision.start=2031-01-01"], ("decision.start=2031-01-01", "2021-01-04 to 2022-02-21")),
    "limits outside the window": (
        ["decision.scenarios.x={media: {tv: {times: 2}}, start: 2031-01-01}"],
        ("start=2031-01-01 lies outside the window",),
    ),
    "name that leads nowhere": (["decision.names={discount: serch}"], ("decision.names.discount", "mean 'search'?")),
}  # fmt: skip
OTHERS = {
    "prices without one": (["decision=pricing", "decision.objective=revenue"], ("has a price of its own",)),
    "prices without a cost": (["decision=pricing"], ("give decision.unit_cost",)),
    "other carry-over": (["decision=mix", "data.max_lag=4"], ("trained with data.max_lag=13", "set data.max_lag=13")),
    "folder without folds": (["decision=mix", "decision.walk_forward=nowhere"], ("decision.walk_forward=nowhere",)),
    "another family": (["decision=attributes"], ("reads predictions of kind 'detections'", "makes 'mix'")),
    "no such decision": (["decision=budgets"], ("There is no decision 'budgets'. Did you mean 'budget'?",)),
    "no such option": (["decision=budget", "decision.totl=5"], ("Did you mean 'total'?",)),
}  # fmt: skip
QUESTIONS = [
    pytest.param([*kind, *given], words, id=" ".join([*kind, name]))
    for kind, asked in ((["decision=budget"], BUDGETS), (["decision=scenario"], SCENARIOS), ([], OTHERS))
    for name, (given, words) in asked.items()
]


@pytest.mark.parametrize(("question", "words"), QUESTIONS)
def test_mistake_in_the_question(tiny: Path, mistake: Callable, question: list[str], words: tuple[str, ...]) -> None:
    mistake("evaluate", f"ckpt_path={tiny}", "stages=[predict]", *question, words=words)


def test_data_that_the_model_does_not_know(
    analyst: Analyst, own: Path, tiny: Path, mistake: Callable, desk: Desk
) -> None:
    ask, unread = ["evaluate", f"ckpt_path={own}", "decision=mix"], {"run_id": "unread"}
    path = analyst.save("without.csv", sheet(104).drop(columns="TV-Ausgaben"))
    mistake(*ask, f"data.path={path}", words=("'TV-Ausgaben' (spend of tv) is not there",), **unread)
    path = analyst.save("elsewhere.csv", sheet(104).replace("Berlin", "Bremen"))
    mistake(*ask, f"data.path={path}", words=("lacks Berlin and has Bremen",), **unread)
    mistake(*ask, "data.path=gone.csv", words=("gone.csv",), **unread)
    mistake(*ask[:1], f"ckpt_path={tiny}", "data.max_lag=4", words=("set data.max_lag=13",), **unread)
    assert not list(desk.logs.glob("*/*/unread")), "compared with the model before a folder is made"


@pytest.fixture(scope="module")
def detector(desk: Desk) -> Path:
    """A checkpoint of another family."""
    few = ["trainer.max_epochs=1", "stages=[fit]", "logger=none"]
    assert desk("train", "experiment=faster_rcnn_tiny", "run_id=detector", *few) == 0
    return desk.logs / "faster_rcnn_tiny" / "runs" / "detector" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("decision", ["mix", "budget", "scenario", "pricing"])
def test_checkpoint_of_another_family(detector: Path, mistake: Callable, decision: str) -> None:
    more = ["decision.unit_cost=1"] if decision == "pricing" else []
    words = ("reads predictions of kind 'mix'", "makes 'detections'", "Choose another decision")
    mistake("evaluate", f"ckpt_path={detector}", "stages=[predict]", f"decision={decision}", *more, words=words)
