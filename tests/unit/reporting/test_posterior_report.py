"""The sections of a mix report about the posterior."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.decisions.posterior_example import fitted_mix, sales, spends

from wanamaker.predictions import MixPredictions
from wanamaker.reporting.mix_report import MixReport
from wanamaker.reporting.posterior_numbers import work_out_posterior

RUN = {"run_id": "r1", "checkpoint": None, "monitor": "val/wmape"}
SECTIONS = [
    "Can this posterior be trusted",
    "Prior and posterior",
    "Does it reproduce the data",
    "What to doubt",
    "Bayesian against least squares",
]
FIGURES = {
    "prior_posterior",
    "posterior_predictive_1",
    "posterior_coverage",
    "posterior_discrepancies",
    "contribution_trades",
    "least_squares",
}


def doubtful() -> MixPredictions:
    """Two channels that move together, one that stands nearly still, one that is organic."""
    spend = spends(3, geos=5, channels=5)
    rng = np.random.default_rng(0)
    spend[:, :, 1] = spend[:, :, 0] * np.exp(0.05 * rng.standard_normal(spend.shape[:2]))
    spend[:, :, 2] = 1000 * np.exp(0.02 * rng.standard_normal(spend.shape[:2]))
    return fitted_mix(spend, sales(spend, 3), organic=1)


def report(folder: Path, predictions: MixPredictions) -> str:
    MixReport(top_series=0, repeats=1).write(predictions, None, folder, {}, RUN)
    page = (folder / "report.html").read_text(encoding="utf-8")
    return unescape(re.sub(r"data:[^\"]*", "", page)).replace("\xa0", " ")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("posterior")
    return folder, report(folder, doubtful())


def headings(page: str) -> list[str]:
    return re.findall(r'<h2 id="[^"]*">([^<]+)</h2>', page)


def test_sections_tables_and_figures(written: tuple[Path, str]) -> None:
    folder, page = written
    found = headings(page)
    assert [heading for heading in found if heading in SECTIONS] == SECTIONS
    assert found.index("Saturation and returns") < found.index(SECTIONS[0]) < found.index("How well it predicts")
    assert not re.search(r"\bnan\b|\binf\b|None\b", page)
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= FIGURES | {"posterior_chains"}
    for name in (
        "posterior_checks",
        "posterior_coverage",
        "posterior_discrepancies",
        "posterior_loo",
        "prior_predictive",
        "information_ledger",
        "diagnosis",
        "channel_pairs",
        "spend_endogeneity",
        "least_squares_contributions",
        "least_squares_scores",
    ):
        frame = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        assert (frame["run_id"] == "r1").all()
        assert len(frame) == len(pd.read_csv(folder / "tables" / f"{name}.csv")) > 0


def test_findings_are_named_on_the_first_screen_and_in_their_section(written: tuple[Path, str]) -> None:
    folder, page = written
    first = page[: page.index("On this page")]
    assert "TV and Search cannot be told apart" in first
    assert "Social runs so evenly that it looks like the base" in first
    assert "rise and fall together (correlation of their media)" not in first, "said once"
    section = page[page.rindex("What to doubt") : page.rindex("Bayesian against least squares")]
    assert "Switch Social off" in section
    assert "Leave-one-series-out: expected log density" in page
    assert set(pd.read_parquet(folder / "tables" / "diagnosis.parquet")["kind"]) == {"pair", "intercept"}


def test_what_is_refused_and_what_is_only_prior(tmp_path: Path) -> None:
    """A guide that does not fit, a channel without information, and a log link, on one page."""
    spend = spends(3, geos=2)
    spend[:, :, 3] = 0
    spend[0, 97, 3] = 10.0
    page = report(tmp_path, fitted_mix(spend, prior_sd=0.01, link="log", engine="svi", khat=1.3))
    first = page[: page.index("On this page")]
    assert "The posterior is refused: k-hat 1.30 of the low-rank guide" in first
    assert "The ROI of Radio is mostly its prior" in first
    assert "The data said nothing about Radio" in page
    assert "2 series are too few" in page
    assert "log link" in page
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert figures >= (FIGURES | {"posterior_khat"}) - {"least_squares"}
    assert not figures & {"posterior_chains", "least_squares"}
    assert not (tmp_path / "tables" / "posterior_loo.parquet").exists()


def test_a_model_without_a_posterior_has_none_of_it() -> None:
    assert work_out_posterior(replace(doubtful(), posterior=None)) is None


def test_words_that_depend_on_the_verdict() -> None:
    careful = work_out_posterior(fitted_mix(spends(1, geos=2), engine="svi", khat=0.6))
    assert careful is not None
    assert careful.warnings()[0].startswith("The posterior is to be used with care: k-hat 0.60")
    good = work_out_posterior(fitted_mix(spends(1, geos=2), engine="svi", khat=0.2))
    assert good is not None
    assert good.warnings() == []
    assert "posterior_loo" not in good.tables()
    assert len(good.tables()["diagnosis"]) == 0
