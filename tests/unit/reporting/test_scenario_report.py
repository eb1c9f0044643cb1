"""The decisions `scenario` and `pricing`: tables, figures and a page out of predictions; nothing after a mistake."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT
from tests.unit.decisions.mix_example import example
from tests.unit.decisions.mix_prices import shelf

from wanamaker.errors import UserError
from wanamaker.reporting.pricing_report import PricingDecision
from wanamaker.reporting.scenario_report import ScenarioDecision

RUN = {"run_id": "r7", "experiment": "nam_<b>x</b>", "checkpoint": "best.ckpt"}
SCENARIOS = {
    "tv_up": {"media": {"TV": {"times": 1.2}}},
    "<i>cut</i>": {"media": {"all": {"change": "-30%"}}, "note": "half & half"},
    "autumn": {"display": {"set": 1, "start": "2023-10-01", "end": "2023-12-01"}},
}


def options(name: str) -> dict:
    """What the YAML file gives the class."""
    given = yaml.safe_load((ROOT / "configs" / "decision" / f"{name}.yaml").read_text(encoding="utf-8"))
    given.pop("_target_")
    return given


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.sources, self.alts, self.skip = "", [], [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.sources += [values[name] for name in ("src", "data", "srcset") if name in values]
        self.skip = tag in ("style", "script")
        if tag == "img":
            self.alts.append(values.get("alt", ""))

    def handle_endtag(self, tag: str) -> None:
        self.skip = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self.skip else f"{data} "


@pytest.mark.parametrize(("link", "draws"), [("identity", 6), ("log", 6), ("log", 1)])
def test_scenarios_as_tables_figures_and_a_page(tmp_path: Path, capsys, link: str, draws: int) -> None:
    predictions = example(link=link, draws=draws, cost=2.0, kpi_value=3.0, channels=4, organic=1)
    given = options("scenario") | {"scenarios": SCENARIOS, "names": {"discount": "display"}}
    written = ScenarioDecision(**given).write(predictions, None, tmp_path, {}, RUN)
    assert all(path.is_file() for path in written)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(written)
    table = pd.read_parquet(tmp_path / "tables" / "scenarios.parquet")
    names = [
        "baseline",
        "more_media",
        "less_media",
        "price_reduction",
        "premium_positioning",
        "festival_push",
        *SCENARIOS,
    ]
    assert table["scenario"].tolist() == names
    assert (table["run_id"] == "r7").all()
    assert table.loc[0, "kpi_change"] == 0
    assert table["kpi_change_low_90"].isna().all() == (draws == 1)
    csv = pd.read_csv(tmp_path / "tables" / "scenario_series.csv")
    np.testing.assert_allclose(csv.groupby("scenario")["kpi_change"].sum()[names], table["kpi_change"], atol=1e-6)
    left_out = pd.read_csv(tmp_path / "tables" / "scenario_left_out.csv")
    assert left_out["preset"].tolist() == ["aggressive_digital"]
    assert "Preset aggressive_digital was left out: media.Digital" in capsys.readouterr().out
    page = Page(tmp_path / "report.html")
    assert all(source.startswith("data:") for source in page.sources), "no request to anywhere"
    figures = list((tmp_path / "figures").glob("*.png"))
    assert len(figures) == len(page.alts) == 9
    assert all(alt.endswith(".") for alt in page.alts)
    best = table.set_index("scenario")["profit_change"].idxmax()
    assert best in page.text
    for words in ("EUR", "more profit", "there is no channel 'Digital'", "<i>cut</i>", "half & half", "not deducted"):
        assert words in page.text
    assert ("The model has one draw" in page.text) == (draws == 1)
    assert ("chance that it is better" in page.text) == (draws > 1)


def test_a_page_of_losses_says_so(tmp_path: Path) -> None:
    predictions = example(cost=500.0)
    ScenarioDecision({"more": {"media": {"TV": {"times": 1.5}}}}).write(predictions, None, tmp_path, {}, RUN)
    text = Page(tmp_path / "report.html").text
    assert re.search(r"more would cost [\d.,]+ (million )?EUR of profit", text)
    ScenarioDecision(
        {"more": {"media": {"TV": {"times": 1.5}}}, "most": {"media": {"TV": {"times": 3}}}}, report=False
    ).write(predictions, None, tmp_path / "two", {}, RUN)
    assert not (tmp_path / "two" / "report.html").exists()


@pytest.mark.parametrize(("objective", "draws"), [("profit", 6), ("revenue", 6), ("profit", 1)])
def test_prices_as_tables_figures_and_a_page(tmp_path: Path, objective: str, draws: int) -> None:
    predictions = shelf(own=-2.5, cross=0.05, draws=draws, spread=0.1)
    cost = "45%" if objective == "profit" else None
    given = options("pricing") | {"objective": objective, "unit_cost": cost}
    written = PricingDecision(**given).write(predictions, None, tmp_path, {}, RUN)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(written)
    table = pd.read_parquet(tmp_path / "tables" / "prices.parquet")
    assert sorted(table["series"]) == sorted(predictions.response.series)
    assert table["gain"].is_monotonic_decreasing
    assert ("profit_best" in table) == (objective == "profit")
    total = pd.read_csv(tmp_path / "tables" / "price_total.csv")
    assert total["gain"].iloc[0] == pytest.approx(table["gain"].sum())
    page = Page(tmp_path / "report.html")
    assert all(source.startswith("data:") for source in page.sources)
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(page.alts) == 7
    for words in (f"more {objective}", "EUR", "set together: 6 cross prices", "taken as units sold"):
        assert words in page.text
    assert ("The model has one draw" in page.text) == (draws == 1)


def test_many_series_are_shown_in_part_and_written_in_full(tmp_path: Path) -> None:
    predictions = shelf(stores=10, brands=3, cross=0.0, draws=2)
    PricingDecision(unit_cost=0.5, siblings="held").write(predictions, None, tmp_path, {}, RUN)
    assert len(pd.read_parquet(tmp_path / "tables" / "prices.parquet")) == 30
    page = Page(tmp_path / "report.html")
    assert len(page.alts) == 13
    assert "The 24 series with the largest gain of 30" in page.text
    assert "and 6 more rows in the table files" in page.text


@pytest.mark.parametrize("decision", [ScenarioDecision(SCENARIOS), PricingDecision(unit_cost=1.0)])
def test_other_predictions_are_refused_and_nothing_is_written(tmp_path: Path, decision) -> None:
    with pytest.raises(UserError, match=r"reads the predictions of a marketing-mix model, not 'dict'"):
        decision.write({}, None, tmp_path / "out", {}, RUN)
    assert not (tmp_path / "out").exists()


def test_a_mistake_leaves_nothing_half_written(tmp_path: Path) -> None:
    wrong = ScenarioDecision({"good": SCENARIOS["tv_up"], "bad": {"media": {"Serch": {"times": 2}}}})
    with pytest.raises(
        UserError, match=r"scenario bad: media\.Serch: there is no channel 'Serch'\. Did you mean 'Search'"
    ):
        wrong.write(example(), None, tmp_path / "out", {}, RUN)
    response = dataclasses.replace(example().response, own_price=np.full(2, -1))
    flat = dataclasses.replace(example(), response=response)
    with pytest.raises(UserError, match="No series of this panel has a price of its own"):
        PricingDecision(objective="revenue").write(flat, None, tmp_path / "out", {}, RUN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScenarioDecision(scenarios=["tv"]), r"decision\.scenarios=\['tv'\] must map names"),
        (lambda: ScenarioDecision(formats=["xlsx"]), "no table format 'xlsx'"),
        (lambda: PricingDecision(), r"give decision\.unit_cost"),
        (lambda: PricingDecision(objective="margin"), r"decision\.objective='margin'"),
        (lambda: PricingDecision(unit_cost=1, kpi_is="money"), r"decision\.kpi_is='money'"),
        (lambda: PricingDecision(unit_cost=1, siblings="x"), r"decision\.siblings='x'"),
    ],
)
def test_options_are_checked_before_anything_is_predicted(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
