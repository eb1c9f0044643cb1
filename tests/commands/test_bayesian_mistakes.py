"""What goes wrong with the Bayesian mix, as typed: one message with the remedy, status 2, and nothing half-written.

Commands run in this process, as in `test_mix_decisions`.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.test_mix_decisions import Desk, opened
from tests.conftest import ROOT

TINY = "experiment=bayesian_mmm_tiny"
ROLES = """\
roles:
  date: week
  kpi: sales
  kpi_unit: units
  money_unit: EUR
  series: [geo]
  media: {tv: tv, search: search}
  organic: {mail: mails}
seasonality: {yearly: 0}
trend: linear
split: {val: 4, test: 4}
max_lag: 3
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with opened(folder) as made:
        (folder / "configs" / "data").mkdir(parents=True)
        content = (ROOT / "configs" / "data" / "media_panel.yaml").read_text(encoding="utf-8")
        (folder / "configs" / "data" / "sales.yaml").write_text(content.partition("roles:")[0] + ROLES)
        yield made


@pytest.fixture
def mistake(desk: Desk, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Give a command that must end with one message and status 2, and leave nothing that was not there."""

    def give(*arguments: str, words: tuple[str, ...], entry: str = "train", run_id: str = "wrong") -> None:
        capsys.readouterr()
        before = {path: path.stat().st_mtime_ns for path in desk.logs.rglob("*") if path.is_file()}
        status = desk(entry, *arguments, f"run_id={run_id}")
        said = capsys.readouterr().err
        assert status == 2, said
        assert said.count("Error: ") == 1
        assert "Traceback" not in said
        for word in words:
            assert word in said, said
        after = {path: path.stat().st_mtime_ns for path in desk.logs.rglob("*") if path.is_file()}
        if entry == "evaluate":  # its own folder has the configuration and the log
            after = {path: when for path, when in after.items() if f"evaluations/{run_id}" not in str(path)}
            folder = [path.name for path in desk.logs.glob(f"*/evaluations/{run_id}/*")]
            assert not {"tables", "figures", "report.html"} & set(folder)
        assert after == before

    return give


# -- options -----------------------------------------------------------------------------------------------------------

LIFT = "start: 2021-03-01, end: 2021-04-01, factor: 0, lift: 5, interval: [1, 9]"
OPTIONS = {
    "no such prior": ("model.net.priors={noize: [lognormal, 0.1, 1]}", "noize is no prior", "noise"),
    "no such kind of prior": ("model.net.priors={noise: [gamma, 2, 1]}", "model.net.priors.noise", "lognormal"),
    "too few numbers": ("model.net.priors={noise: [lognormal, 0.1]}", "lognormal takes 2 number(s)"),
    "number out of range": ("model.net.priors={noise: [lognormal, -1, 1]}", "-1 must be above 0"),
    "no such channel of a prior": (
        "model.net.effect={kind: coefficient, prior: {default: [lognormal, 0.1, 1], tvv: [lognormal, 0.1, 1]}}",
        "tvv is none of tv, search",
    ),
    "no such channel of an adstock": ("model.net.adstock={default: geometric, tvv: delayed}", "tvv", "tv, search"),
    "no such adstock": ("model.net.adstock=geometrical", "geometrical", "geometric"),
    "no such saturation": ("model.net.saturation=hil", "hil", "hill"),
    "no such effect": ("model.net.effect={kind: roas}", "roas", "roi"),
    "no such likelihood": ("model.net.likelihood=poisson", "model.net.likelihood='poisson'", "negative_binomial"),
    "counts without a log link": ("model.net.likelihood=negative_binomial", "needs model.net.link=log"),
    "collapse of another likelihood": (
        ["model.net.likelihood=student_t", "model.net.collapse=all"],
        "model.net.collapse='all'",
        "needs collapse=none",
    ),
    "odd particles": ("model.inference.particles=7", "model.inference.particles=7", "even number"),
    "no such engine": ("model.inference.engine=mcmc", "model.inference.engine='mcmc'", "auto, svi, hmc, nuts"),
    "no such guide": ("model.inference.guide=full", "model.inference.guide='full'", "multivariate"),
    "thin that does not divide": ("model.inference.thin=7", "model.inference.thin=7"),
    "one draw": ("model.draws=1", "model.draws=1", "at least 2"),
    "rows instead of series": ("data.batch_unit=rows", "data.batch_unit=rows", "Set data.batch_unit=series"),
    "more draws than memory": ("model.draws=900000000", "GB of memory", "Lower model.draws"),
    "fewer periods than parameters": ("data.split.val=45", "14 rows (2 series) for", "Train on more periods"),
    "lift test outside the panel": (
        f"model.net.experiments=[{{channel: tv, {LIFT.replace('2021', '2030')}}}]",
        "lies outside the panel, 2021-01-04 to 2022-02-27",
    ),
    "lift test of no channel": (
        f"model.net.experiments=[{{channel: tvv, {LIFT}}}]",
        "model.net.experiments[0].channel='tvv' is no channel",
    ),
    "twin without a posterior": ("data.twin={replicate: 1}", "data.twin.posterior is missing"),
    "twin that is not there": ("data.twin={posterior: gone.nc}", "gone.nc is not on disk"),
}  # fmt: skip


@pytest.mark.parametrize(("option", "words"), [(o[0], o[1:]) for o in OPTIONS.values()], ids=OPTIONS)
def test_mistake_in_an_option(mistake: Callable, option: str | list[str], words: tuple[str, ...]) -> None:
    mistake(TINY, *([option] if isinstance(option, str) else option), words=words)


# -- data --------------------------------------------------------------------------------------------------------------


def sheet() -> pd.DataFrame:
    """Two geos, 60 weeks."""
    rng = np.random.default_rng(3)
    frames = []
    for geo, size in (("North", 1.0), ("South", 0.6)):
        week = pd.date_range("2023-01-02", periods=60, freq="W-MON").strftime("%Y-%m-%d")
        tv, search, mails = (rng.gamma(3, 100 * size, 60).round(2) for _ in range(3))
        sales = 1000 * size + 0.3 * tv + 0.5 * search + 0.1 * mails + 20 * size * rng.standard_normal(60)
        columns = {"week": week, "geo": geo, "sales": sales.round(1), "tv": tv, "search": search, "mails": mails}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The north's sales end before the south's begin."""
    late = frame["week"] >= "2023-07-03"
    held_out = frame["week"] >= "2024-01-08"
    frame.loc[late & (frame["geo"] == "North") & ~held_out, "sales"] = np.nan
    frame.loc[~late & (frame["geo"] == "South"), "sales"] = np.nan
    return frame


def zeros(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[[5, 9], "sales"] = 0.0
    return frame


FILES = {
    "channel without spend": (
        lambda f: f.assign(tv=np.where(f["week"] < "2023-12-26", 0.0, f["tv"])),
        [],
        ("Channel tv has no media in the training window 2023-01-02 to 2023-12-25", "Take it out of data.roles.media"),
    ),
    "geos that share no time": (
        apart,
        [],
        ("North", "shares no period of training with any other series", "data.exclude_series=['North']"),
    ),
    "zeros under a logarithm": (
        zeros,
        ["model.net.link=log"],
        ("sales of North on 2023-02-06 is 0", "2 rows", "model.net.link=identity"),
    ),
    "negative counts": (
        lambda f: f.assign(sales=f["sales"].where(f.index != 70, -5.0)),
        ["model.net.link=log", "model.net.likelihood=negative_binomial"],
        ("sales of South on 2023-03-13 is -5 and is negative",),
    ),
    "a curve over a frequency nobody gave": (
        lambda f: f,
        ["model.net.frequency={tv: hill}"],
        ("model.net.frequency=hill (channel tv)", "data.roles.media.tv", "contacts"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "options", "words"), FILES.values(), ids=FILES)
def test_mistake_in_the_data(
    desk: Desk, mistake: Callable, change: Callable, options: list[str], words: tuple[str, ...]
) -> None:
    path = desk.folder / "sales.csv"
    change(sheet()).to_csv(path, index=False)
    own = ["--config-dir", str(desk.configs), "experiment=bayesian_mmm_panel", "data=sales", f"data.path={path}"]
    mistake(*own, *options, words=words)


# -- fits that are cut short, and what goes on from them ---------------------------------------------------------------


class Heard(logging.Handler):
    """Keeps what the module warns of."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def heard() -> Iterator[list[str]]:
    handler, log = Heard(), logging.getLogger("wanamaker.families.bayesian_mmm.module")
    log.addHandler(handler)
    yield handler.said
    log.removeHandler(handler)


@pytest.fixture(scope="module")
def short(desk: Desk, heard: list[str]) -> Path:
    """The last checkpoint of a fit that ended before its end."""
    assert desk("train", TINY, "run_id=short", "trainer.max_epochs=1", "stages=[fit]") == 0
    return desk.logs / "bayesian_mmm_tiny" / "runs" / "short" / "checkpoints" / "last.ckpt"


def test_a_fit_that_is_cut_short_says_so(desk: Desk, short: Path, heard: list[str]) -> None:
    """While it ends, and whenever its checkpoint is used; the posterior knows it, and the report says it first."""
    (said,) = heard
    assert said.startswith("The fit was cut short after step 20 of 200 (stage mode)")
    assert "trainer.max_epochs=-1 finishes it" in said
    few = ["decision=mix", "decision.repeats=1", "decision.top_series=0", "stages=[predict]"]
    output = desk.evaluate(short, "unfinished", *few)
    assert heard == [said, said]
    warnings = pd.read_csv(output / "tables" / "warnings.csv")["warning"]
    assert warnings.str.startswith("The posterior is refused: the fit was cut short").sum() == 1


CHANGED = {
    "likelihood": (["model.net.likelihood=student_t"], "model.net.likelihood is student_t here and normal there"),
    "prior of the effect": (["model.net.effect.kind=roi"], "model.net.effect.kind is roi here and None there"),
    "adstock": (["model.net.adstock=delayed"], "model.net.adstock is delayed here and geometric there"),
    "steps": (["model.inference.svi_steps=70"], "model.inference.svi_steps is 70 here and 60 there"),
    "chains": (["model.inference.chains=4"], "model.inference.chains is 4 here and 8 there"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "word"), CHANGED.values(), ids=CHANGED)
def test_resume_with_other_options(short: Path, mistake: Callable, options: list[str], word: str) -> None:
    mistake(TINY, *options, run_id="short", words=("The checkpoint was made with other options", word, "start afresh"))


def test_a_fit_that_was_cut_short_can_be_finished(desk: Desk, short: Path) -> None:
    """The engine is no promise of the steps so far: it may change."""
    from wanamaker.predictions import MixPredictions

    options = ["model.inference.engine=svi", "stages=[fit,predict]", "run_id=short"]
    assert desk("train", TINY, *options) == 0
    posterior = MixPredictions.read(short.parents[1] / "predictions").posterior
    assert posterior is not None
    assert posterior.finished
    # A fit that has ended has nothing left to do: going on from it samples nothing and changes nothing.
    assert desk("train", TINY, *options[:2], "run_id=again", f"ckpt_path={short.with_name('last.ckpt')}") == 0
    again = MixPredictions.read(short.parents[2] / "again" / "predictions").posterior
    assert again is not None
    assert (again.engine, again.finished) == (posterior.engine, True)
    for name, values in posterior.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], values)


def test_twin_of_a_model_without_refits(desk: Desk, short: Path, mistake: Callable) -> None:
    ask = [f"ckpt_path={short}", "decision=twin", "stages=[predict]"]
    mistake(*ask, entry="evaluate", words=("decision.runs is missing", "sweep=twin data.twin.posterior=FILE"))
    folder = [f"decision.runs={desk.folder / 'gone'}"]
    mistake(*ask, *folder, entry="evaluate", words=("there is no such folder", "sweep=twin"))
    folder = [f"decision.runs={short.parents[1]}"]
    mistake(*ask, *folder, entry="evaluate", words=("This is a run, not a multirun",))
