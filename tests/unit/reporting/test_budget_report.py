"""The decision `budget` from predictions to files, as `evaluate.py` calls it."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT

from wanamaker.decisions.budget import optimise_budget
from wanamaker.decisions.budget_options import BudgetOptions
from wanamaker.decisions.budget_tables import move_table
from wanamaker.errors import UserError
from wanamaker.predictions import Detections
from wanamaker.reporting.budget_report import BudgetDecision
from wanamaker.reporting.budget_words import headline, lead, proof, warnings

sys.path.insert(0, str(ROOT / "tests" / "unit" / "decisions"))
from mix_example import example

RUN = {"run_id": "r1", "experiment": "nam_tiny", "checkpoint": "best.ckpt", "monitor": "val/wmape"}


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    decision = BudgetDecision(total=14_000, resolution=["channel", "series"], hold=["Radio"])
    written = decision.write(example(channels=5, organic=1, draws=40), None, tmp_path, {}, RUN)
    names = {str(path.relative_to(tmp_path)) for path in written}
    for table in ("plan_channels", "plan_cells", "plan_comparison", "plan_limits", "plan_moves"):
        assert {f"tables/{table}.csv", f"tables/{table}.parquet"} <= names
    for figure in ("budget_channels", "budget_curves", "budget_timing", "budget_gain"):
        assert (tmp_path / "figures" / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"
    cells = pd.read_parquet(tmp_path / "tables" / "plan_cells.parquet")
    assert cells["planned_spend"].sum() == pytest.approx(14_000)
    assert (cells["run_id"] == "r1").all()
    page = (tmp_path / "report.html").read_text().replace("\xa0", " ")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page), "self-contained"
    for words in ("Move ", " EUR from ", "shadow price", "90 % interval", "KKT residual", "robust moves", "geo 1"):
        assert words.lower() in page.lower(), words
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower().replace("finance", "")
    assert "Move " in capsys.readouterr().out, "the finding is on the terminal too"


def test_the_file_of_the_decision_fits_its_class() -> None:
    content = yaml.safe_load((ROOT / "configs" / "decision" / "budget.yaml").read_text())
    assert content.pop("_target_") == "wanamaker.reporting.budget_report.BudgetDecision"
    assert BudgetDecision(**content).options == BudgetOptions(spread=3.0)
    assert BudgetDecision().options == BudgetDecision(**content).options, "defaults here and there agree"


def test_predictions_of_another_kind_are_refused(tmp_path: Path) -> None:
    nothing = Detections(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0), ["a"], np.array([1]))
    with pytest.raises(UserError, match="decision=budget reads the predictions of a mix model, not Detections"):
        BudgetDecision().write(nothing, None, tmp_path, {}, RUN)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_nothing_is_written_when_there_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="below the sum of the lower bounds"):
        BudgetDecision(total=10, bounds={"TV": [500, None]}).write(example(), None, tmp_path, {}, RUN)
    assert not list(tmp_path.iterdir())


def test_words() -> None:
    plan = optimise_budget(example(draws=1), BudgetOptions(total=20_000))
    moves = move_table(plan)
    assert re.match(r"Move [\d,]+ EUR from \w+ to \w+", headline(plan, moves))
    text = " ".join(lead(plan, None))
    assert "interval" not in text, "one draw has none"
    assert "no plan within the limits can be better by more than" in proof(plan)
    assert any("one answer and no uncertainty" in warning for warning in warnings(plan))
    assert any("extrapolates" in warning for warning in warnings(plan))
    assert any("counts as 1 EUR" in warning for warning in warnings(plan))
    s_shaped = optimise_budget(example(shape="s"), BudgetOptions())
    assert "S-shaped" in proof(s_shaped)
    chance = optimise_budget(example(), BudgetOptions(objective="chance"))
    assert "probability" in " ".join(lead(chance, None))
    target = optimise_budget(example(kpi_value=2.0), BudgetOptions(target_roi=4.0))
    assert "the largest budget that returns 4 EUR per EUR" in " ".join(lead(target, None))
    assert not any("counts as 1" in warning for warning in warnings(target))
