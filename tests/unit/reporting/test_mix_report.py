"""The decision `mix` end to end on synthetic predictions."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.unit.decisions.mix_example import example

from wanamaker.decisions.media_return import media_returns
from wanamaker.errors import UserError
from wanamaker.predictions import MixPredictions
from wanamaker.reporting.mix_report import MixReport

RUN = {"run_id": "r1", "experiment": "nam_tiny", "checkpoint": None, "monitor": "val/wmape"}


def fold_runs(folder: Path) -> Path:
    for fold in (10, 2, 1):
        run = folder / f"trial_{fold}"
        (run / ".hydra").mkdir(parents=True)
        metrics = {"val/wmape": 0.5, "test/wmape": fold / 100, "test/r2": 0.9}
        (run / "metrics.json").write_text(json.dumps({"run_id": f"w-{fold}", "metrics": metrics}))
        (run / ".hydra" / "resolved.yaml").write_text(f"data:\n  split: {{scheme: expanding, fold: {fold}}}\n")
    return folder


@pytest.fixture(scope="module")
def predictions() -> MixPredictions:
    return example(geos=3, channels=4, periods=60, organic=1, kpi_value=3.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, predictions: MixPredictions) -> Path:
    folder = tmp_path_factory.mktemp("mix")
    (folder / "training" / "checkpoints").mkdir(parents=True)
    (folder / "training" / "csv").mkdir()
    history = {
        "epoch": [0, 1, 2],
        "train/loss": [3.0, 2, 1],
        "train/penalty/roi": [1, 0.5, 0.1],
        "val/wmape": [3, 2, 1],
    }
    pd.DataFrame(history).to_csv(folder / "training" / "csv" / "metrics.csv", index=False)
    report = MixReport(walk_forward=str(fold_runs(folder / "folds")), top_series=2, repeats=2)
    run = {**RUN, "checkpoint": str(folder / "training" / "checkpoints" / "best.ckpt")}
    files = report.write(predictions, None, folder, {"test/wmape": 0.4321}, run)
    assert all(path.is_file() for path in files)
    assert files[-1] == folder / "report.html"
    return folder


def table(folder: Path, name: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "tables" / f"{name}.parquet")
    assert (frame["run_id"] == "r1").all()
    assert len(pd.read_csv(folder / "tables" / f"{name}.csv")) == len(frame)
    return frame


def test_every_promised_table_is_there(written: Path) -> None:
    names = {path.stem for path in (written / "tables").glob("*.parquet")}
    assert names == {
        "contributions",
        "contributions_by_series",
        "contributions_over_time",
        "channels",
        "channels_by_series",
        "carry_over",
        "roi_curves",
        "price_curves",
        "promotion_curves",
        "own_price_elasticity",
        "predictions",
        "scores",
        "scores_by_series",
        "permutation_importance",
        "walk_forward",
        "warnings",
    }
    for name in names:
        table(written, name)


def test_numbers_are_those_of_the_decisions(written: Path, predictions: MixPredictions) -> None:
    channels = table(written, "channels").set_index("channel")
    expected = media_returns(predictions).to_frame().set_index("channel")
    np.testing.assert_allclose(channels["roi"], expected["roi"])
    np.testing.assert_allclose(channels["marginal_roi_low_90"], expected["marginal_roi_low_90"])
    assert np.isnan(channels["roi"].iloc[-1])
    assert "organic" in channels["note"].iloc[-1]
    parts = table(written, "contributions")
    assert parts["contribution"].sum() == pytest.approx(predictions.draws.mean(axis=0).sum(), rel=1e-6)
    over_time = table(written, "contributions_over_time")
    whole = over_time[over_time["shown"] == "All 3 series together"]
    assert whole["contribution"].sum() == pytest.approx(parts["contribution"].sum(), rel=1e-6)


def test_the_page_has_every_section_and_asks_for_nothing(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link", page)
    headings = re.findall(r'<h2 id="[^"]*">([^<]+)</h2>', page)
    assert headings == [
        "Channels",
        "Over time",
        "Saturation and returns",
        "Carry-over",
        "Prices and promotions",
        "How well it predicts",
        "Errors",
        "What the prediction rests on",
        "Walk-forward",
        "Training",
    ]
    assert "EUR per EUR" in page
    assert "3 EUR" in page
    assert "43.2" in page, "a score that the run has logged is the one shown"
    assert page.count('class="lead"') == 3, "three sentences"
    assert len(page) < 5_000_000


def test_every_figure_is_a_picture_file(written: Path) -> None:
    names = {path.stem for path in (written / "figures").glob("*.png")}
    assert names >= {
        "contribution_waterfall",
        "roi",
        "decomposition_1",
        "parts_over_time",
        "saturation",
        "roi_curves",
        "carry_over",
        "price_1",
        "promotions",
        "fit_1",
        "errors",
        "series_wmape",
        "permutation_importance",
        "walk_forward",
        "training_1",
    }
    assert len([n for n in names if n.startswith("decomposition_")]) == 4, "all together and each of the three"
    with Image.open(written / "figures" / "saturation.png") as image:
        assert image.width > 1000


def test_folds_are_read_in_their_order(written: Path) -> None:
    folds = table(written, "walk_forward")
    assert folds["fold"].tolist() == [1, 2, 10]
    np.testing.assert_allclose(folds["wMAPE"], [0.01, 0.02, 0.1])
    assert (folds["split"] == "test").all()
    assert folds["fold_run"].tolist() == ["w-1", "w-2", "w-10"]


def test_one_series_one_draw_and_no_history(tmp_path: Path) -> None:
    predictions = example(geos=1, channels=2, periods=24, draws=1, link="log")
    MixReport(repeats=1, formats=["csv"]).write(predictions, None, tmp_path, {}, RUN)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "one answer without uncertainty" in page
    assert "units per EUR" in page
    assert "kpi_value" in page
    assert "Training</h2>" not in page
    assert "Walk-forward</h2>" not in page
    assert "nan" not in re.sub(r'src="[^"]*"', "", page).lower().replace("unan", "")


def test_no_media_and_no_prices(tmp_path: Path) -> None:
    full = example(geos=2, channels=1, periods=30, draws=3)
    response = replace(
        full.response,
        channels=(),
        drivers=(),
        paid=np.zeros(0, bool),
        national=np.zeros(0, bool),
        adstock=full.response.adstock[:, :0],
        adstock_first=np.zeros(0, bool),
        driver_kind=(),
        driver_transform=(),
        own_price=np.full(2, -1),
        **{name: getattr(full.response, name)[:, :0] for name in ("media_scale", "cost_per_media", "media_max")},
        **{name: getattr(full.response, name)[:0] for name in ("grid", "driver_grid")},
        **{name: getattr(full.response, name)[:, :0] for name in ("curve", "slope", "driver_curve", "driver_slope")},
        **{name: getattr(full.response, name)[:, :, :0] for name in ("amplitude", "driver_amplitude")},
        **{name: getattr(full.response, name)[:, :0] for name in ("driver_reference", "driver_min", "driver_max")},
    )
    bare = replace(
        full,
        media=full.media[:, :0],
        spend=full.spend[:, :0],
        driver=full.driver[:, :0],
        parts=full.parts[:, :, :2],
        part_names=full.part_names[:2],
        part_kinds=full.part_kinds[:2],
        lead_in=full.lead_in[:, :, :0],
        response=response,
    )
    MixReport(repeats=1, formats=["csv"]).write(bare, None, tmp_path, {}, RUN)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Saturation" not in page
    assert "Over time" in page
    assert "What drives sales" in page


class Boxes:
    kind = "detections"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "region"}, "'region'"),
        ({"level": 2}, "no such level"),
        ({"start": "2050-01-01"}, "2050-01-01"),
        ({"start": "yesterday"}, "yesterday"),
        ({"walk_forward": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_end_before_anything_is_written(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MixReport(**options).write(example(periods=20, draws=2), None, tmp_path, {}, RUN)
    assert list(tmp_path.iterdir()) == []


def test_other_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="marketing-mix model, not 'detections'"):
        MixReport().write(Boxes(), None, tmp_path, {}, RUN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_series": -1}, "top_series=-1"),
        ({"repeats": 0}, "repeats=0"),
        ({"seed": -1}, "seed=-1"),
        ({"curve_periods": 1.5}, "curve_periods=1.5"),
        ({"formats": ["xlsx"]}, "xlsx"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MixReport(**options)


def test_a_folder_without_runs_and_a_damaged_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad" / "0").mkdir(parents=True)
    (tmp_path / "bad" / "0" / "metrics.json").write_text("{")
    (tmp_path / "other" / "0").mkdir(parents=True)
    (tmp_path / "other" / "0" / "metrics.json").write_text(json.dumps({"metrics": {"val/ap": 0.3}}))
    for name, message in (("empty", "no run with a metrics.json"), ("bad", "cannot be read"), ("other", "none of the")):
        with pytest.raises(UserError, match=message):
            MixReport(walk_forward=str(tmp_path / name)).write(
                example(periods=20, draws=2), None, tmp_path / "out", {}, RUN
            )
