"""The Optuna sweeper through real Hydra multiruns of a toy app, trials run in this process."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, setup_globals
from omegaconf import DictConfig
from optuna.trial import TrialState

from hydra_plugins.wanamaker_optuna._study import SweepFailed
from hydra_plugins.wanamaker_optuna.sweeper import (
    STORAGE_VARIABLE,
    STUDY_VARIABLE,
    TRIAL_VARIABLE,
)
from wanamaker.errors import UserError

FILES = {
    "train.yaml": """
        defaults:
          - optimizer: sgd
          - sweep: null
          - experiment: base
          - _self_
        seed: 3
    """,
    "optimizer/sgd.yaml": "name: sgd",
    "optimizer/adam.yaml": "name: adam",
    "experiment/base.yaml": """
        # @package _global_
        # The toy.
        monitor: {metric: val/score, mode: min}
        model: {lr: 0.5, width: 8, norm: "batch norm", depth: 2, sizes: [16, 8]}
        epochs: 1
    """,
    "sweep/lr.yaml": """
        # @package _global_
        defaults:
          - override /hydra/sweeper: optuna
        hydra:
          mode: MULTIRUN
          sweeper:
            n_trials: 4
            params:
              model: {lr: "tag(log, interval(1e-3, 1.0))"}
    """,
}


def score(config: DictConfig) -> float:
    """Lowest, at zero, for lr 0.25 and width 16."""
    return (config.model.lr - 0.25) ** 2 + (config.model.width - 16) ** 2


Sweep = Callable[..., list[JobReturn]]


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    import textwrap

    for name, text in FILES.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return tmp_path / "configs"


@pytest.fixture
def sweep(config_dir: Path, tmp_path: Path) -> Sweep:
    def run(*overrides: str, task: Callable[[DictConfig], Any] = score, folder: str = "sweep") -> list[JobReturn]:
        with initialize_config_dir(str(config_dir), version_base="1.3", job_name="toy"):
            setup_globals()
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none"]
            place = [f"hydra.sweep.dir={tmp_path / folder}", "hydra.sweep.subdir=${hydra.job.num}"]
            choice = [] if any(o.startswith("sweep=") for o in overrides) else ["hydra/sweeper=optuna"]
            return hydra.multirun("train", task, [*choice, *quiet, *place, *overrides], with_log_configuration=False)

    return run


def study_of(folder: Path, name: str = "base") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")


def results_of(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "optimization_results.yaml").read_text())


LR = "model.lr=tag(log,interval(1e-3,1.0))"


def test_results_leaderboard_and_best_recipe(sweep: Sweep, tmp_path: Path, config_dir: Path) -> None:
    returns = sweep(
        LR,
        "model.width=choice(8,16,32)",
        "optimizer=adam",
        "epochs=7",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.seed=1",
    )
    assert len(returns) == 6
    results = results_of(tmp_path / "sweep")
    best = min((r.return_value, r.cfg.model.lr, r.cfg.model.width) for r in returns)
    assert (results["best_value"], results["best_params"]["model.lr"], results["best_params"]["model.width"]) == best
    assert results["direction"] == "minimize"
    assert results["trials"] == {"complete": 6, "pruned": 0, "failed": 0}
    rows = list(csv.DictReader((tmp_path / "sweep" / "leaderboard.csv").open()))
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values)
    assert len(values) == 6
    assert float(rows[0]["model.lr"]) == best[1]
    assert Path(rows[0]["folder"]) == tmp_path / "sweep" / rows[0]["trial"]

    text = (tmp_path / "sweep" / "experiment" / "best_recipe.yaml").read_text().splitlines()
    assert text[0] == "# @package _global_"
    assert text[1].startswith("# Best of study base")
    # As `--config-dir SWEEP experiment=best_recipe` would: the folder joins the search path.
    search = f"hydra.searchpath=[file://{tmp_path / 'sweep'}]"
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        config = compose("train", [search, "experiment=best_recipe"])
    assert (config.model.lr, config.model.width) == best[1:]
    assert (config.epochs, config.optimizer.name, config.model.norm) == (7, "adam", "batch norm")
    assert config.monitor.metric == "val/score"


def test_the_best_recipe_brings_the_user_s_own_files(sweep: Sweep, tmp_path: Path, config_dir: Path) -> None:
    """Hydra takes one `--config-dir`: the folder of the sweep stands in for the user's."""
    own, files = tmp_path / "own", ("experiment/mine.yaml", "optimizer/lion.yaml", "optimizer/unused.yaml")
    texts = (
        "# @package _global_\ndefaults:\n  - base\n  - override /optimizer: lion\n  - _self_\nepochs: 9\n",
        "name: lion\n",
        "name: unused\n",
    )
    for file, text in zip(files, texts, strict=True):
        (own / file).parent.mkdir(parents=True, exist_ok=True)
        (own / file).write_text(text)

    def composed(folder: str, experiment: str) -> tuple[Any, ...]:
        with initialize_config_dir(str(config_dir), version_base="1.3"):
            search = f"hydra.searchpath=[file://{tmp_path / folder}]"
            config = compose("train", [search, f"experiment={experiment}"])
        return config.model.lr, config.optimizer.name, config.epochs

    few = (LR, "hydra.sweeper.n_trials=2")
    sweep("experiment=mine", f"hydra.searchpath=[file://{own}]", *few, folder="first")
    best = results_of(tmp_path / "first")["best_params"]["model.lr"]
    assert composed("first", "best_recipe") == (best, "lion", 9)
    assert not (tmp_path / "first" / "optimizer" / "unused.yaml").exists()
    # A second sweep goes on from there; its recipe cannot have the name of the one it builds on.
    first = f"hydra.searchpath=[file://{tmp_path / 'first'}]"
    sweep("experiment=best_recipe", first, *few, "epochs=3", folder="second")
    best = results_of(tmp_path / "second")["best_params"]["model.lr"]
    assert composed("second", "best_recipe_2") == (best, "lion", 3)


def test_a_sweep_file_selects_sweeper_space_and_mode(sweep: Sweep, tmp_path: Path) -> None:
    returns = sweep("sweep=lr")
    assert len(returns) == 4
    assert all(1e-3 <= r.cfg.model.lr <= 1.0 for r in returns)
    assert set(study_of(tmp_path / "sweep").best_params) == {"model.lr"}


def test_command_line_wins_over_the_sweep_file(sweep: Sweep) -> None:
    returns = sweep("sweep=lr", "model.lr=0.125", "model.width=range(8,17,8)", "hydra.sweeper.n_trials=3")
    assert {r.cfg.model.lr for r in returns} == {0.125}
    assert {r.cfg.model.width for r in returns} <= {8, 16}


def test_every_form_of_the_grammar_reaches_the_job(sweep: Sweep, tmp_path: Path) -> None:
    returns = sweep(
        "model.lr=choice(0.1,0.2)",
        "model.width=int(interval(4,6))",
        "model.depth=tag(log,int(interval(1,64)))",
        "model.norm='a b','c=d','e,f'",
        "+model.drop=range(0.1,0.5,0.1)",
        "++model.sizes=choice([1,2],[3,4])",
        "+model.flag=true,null",
        "optimizer=sgd,adam",
        "hydra.sweeper.n_trials=14",
        "hydra.sweeper.sampler=random",
        task=lambda config: 0.0,
    )
    models = [r.cfg.model for r in returns]
    assert {m.lr for m in models} == {0.1, 0.2}
    assert {m.width for m in models} == {4, 5, 6}  # both ends of an integer interval
    assert all(type(m.depth) is int and 1 <= m.depth <= 64 for m in models)
    assert {m.norm for m in models} == {"a b", "c=d", "e,f"}
    assert {m.drop for m in models} <= {0.1, 0.2, 0.3, 0.4}  # not 0.30000000000000004
    assert {tuple(m.sizes) for m in models} == {(1, 2), (3, 4)}
    assert {m.flag for m in models} == {True, None}
    assert {r.cfg.optimizer.name for r in returns} == {"sgd", "adam"}
    best = yaml.safe_load((tmp_path / "sweep" / "experiment" / "best_recipe.yaml").read_text())
    assert best["model"]["sizes"] in ([1, 2], [3, 4])
    assert best["model"]["norm"] in ("a b", "c=d", "e,f")
    assert {"override /optimizer": best["defaults"][1]["override /optimizer"]} == best["defaults"][1]


def test_a_resumed_study_proposes_what_an_unbroken_one_does(sweep: Sweep, tmp_path: Path) -> None:
    for sampler in ("tpe", "random"):
        options = (
            LR,
            "model.width=choice(8,16,32)",
            f"hydra.sweeper.sampler={sampler}",
            "hydra.sweeper.n_startup_trials=3",
        )
        sweep(*options, "hydra.sweeper.n_trials=7", folder=f"{sampler}-whole")
        sweep(*options, "hydra.sweeper.n_trials=4", folder=f"{sampler}-parts")
        returns = sweep(*options, "hydra.sweeper.n_trials=7", "hydra.sweeper.resume=true", folder=f"{sampler}-parts")
        assert len(returns) == 3  # only the remaining ones
        whole, parts = study_of(tmp_path / f"{sampler}-whole"), study_of(tmp_path / f"{sampler}-parts")
        assert [t.params for t in whole.trials] == [t.params for t in parts.trials]
        assert len({tuple(t.params.values()) for t in whole.trials}) > 5
        assert [Path(r.hydra_cfg.hydra.runtime.output_dir).name for r in returns] == ["4", "5", "6"]


def test_a_finished_study_runs_nothing_when_resumed(sweep: Sweep) -> None:
    sweep(LR, "hydra.sweeper.n_trials=2")
    assert sweep(LR, "hydra.sweeper.n_trials=2", "hydra.sweeper.resume=true") == []


def test_failing_trials_are_told_and_reported_and_the_sweep_goes_on(
    sweep: Sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def task(config: DictConfig) -> Any:
        number = HydraConfig.get().job.num
        if number == 1:
            raise RuntimeError("no luck")
        return {3: float("nan"), 4: None}.get(number, score(config))

    caplog.set_level("INFO")
    sweep(LR, "hydra.sweeper.n_trials=10", task=task)
    trials = study_of(tmp_path / "sweep").trials
    assert [t.number for t in trials if t.state == TrialState.FAIL] == [1, 3, 4]
    assert trials[1].user_attrs["error"] == "RuntimeError: no luck"
    assert "in task" in trials[1].user_attrs["traceback"]
    assert "nan" in trials[3].user_attrs["error"]
    assert "nothing in it measured val/score" in trials[4].user_attrs["error"]
    assert results_of(tmp_path / "sweep")["trials"] == {"complete": 7, "pruned": 0, "failed": 3}
    assert "Trial 1 failed: RuntimeError: no luck" in caplog.text
    rows = list(csv.DictReader((tmp_path / "sweep" / "leaderboard.csv").open()))
    assert [row["trial"] for row in rows[-3:]] == ["1", "3", "4"]
    assert rows[-3]["error"] == "RuntimeError: no luck"


def test_too_many_failures_stop_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    def task(config: DictConfig) -> float:
        if HydraConfig.get().job.num > 0:
            raise RuntimeError("always")
        return 1.0

    with pytest.raises(
        SweepFailed, match=r"2 of 3 trials failed.*max_failure_rate=0\.1.*Trial 2: RuntimeError: always"
    ):
        sweep(LR, "hydra.sweeper.n_trials=10", "hydra.sweeper.max_failure_rate=0.1", task=task)
    assert results_of(tmp_path / "sweep")["best_trial"] == 0  # what there is, is written


def test_a_sweep_without_any_value_fails(sweep: Sweep) -> None:
    told = r"No trial of study 'base' gave a value.*nothing in it measured val/score \(monitor.metric\)"
    with pytest.raises(SweepFailed, match=told):
        sweep(LR, "hydra.sweeper.n_trials=2", "hydra.sweeper.max_failure_rate=1", task=lambda config: None)


def test_interrupted_trials_are_repeated(sweep: Sweep, tmp_path: Path) -> None:
    options = (LR, "hydra.sweeper.n_trials=5", "hydra.sweeper.resume=true")

    def interrupt(config: DictConfig) -> float:
        if HydraConfig.get().job.num == 2:
            raise KeyboardInterrupt
        return score(config)

    with pytest.raises(KeyboardInterrupt):
        sweep(*options, task=interrupt)
    # A kill leaves the trial running in the storage; one of another sweep must be left alone.
    study = study_of(tmp_path / "sweep")
    killed, foreign = study.ask(), study.ask()
    killed.suggest_float("model.lr", 1e-3, 1.0, log=True)
    killed.set_user_attr("wanamaker:sweep_dir", str(tmp_path / "sweep"))
    foreign.set_user_attr("wanamaker:sweep_dir", "elsewhere")
    returns = sweep(*options)
    trials = study_of(tmp_path / "sweep").trials
    assert len(returns) == 3
    assert [t.number for t in trials if t.state == TrialState.COMPLETE] == [0, 1, 5, 6, 7]
    assert trials[5].params == trials[2].params
    assert trials[6].params == trials[3].params
    assert trials[4].state == TrialState.RUNNING
    assert sweep(*options) == []


@pytest.mark.parametrize("jobs", [1, 4])
def test_grid_visits_every_point_once(sweep: Sweep, tmp_path: Path, jobs: int) -> None:
    options = (
        "model.lr=choice(0.1,0.2)",
        "model.width=range(8,33,8)",
        "hydra.sweeper.sampler=grid",
        f"hydra.sweeper.n_jobs={jobs}",
    )
    sweep(*options, "hydra.sweeper.n_trials=3")
    sweep(*options, "hydra.sweeper.resume=true")
    params = [tuple(t.params.values()) for t in study_of(tmp_path / "sweep").trials]
    assert sorted(params) == [(lr, width) for lr in (0.1, 0.2) for width in (8, 16, 24, 32)]


def test_trial_zero_takes_the_recipes_values(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    returns = sweep(
        LR,
        "model.width=choice(16,32)",
        "optimizer=adam,sgd",
        "model.sizes=choice([4],[16,8],[])",
        "hydra.sweeper.start_from_recipe=true",
        "hydra.sweeper.n_trials=2",
    )
    assert returns[0].cfg.model.sizes == [16, 8]
    assert (returns[0].cfg.model.lr, returns[0].cfg.optimizer.name) == (0.5, "sgd")
    assert "Trial 0 samples 'model.width': the recipe's value 8 is not in the search space" in caplog.text


def test_cmaes_learns(sweep: Sweep, tmp_path: Path) -> None:
    sweep(
        "model.lr=interval(0.0,1.0)",
        "model.width=interval(0.0,40.0)",
        "hydra.sweeper.sampler=cmaes",
        "hydra.sweeper.n_trials=30",
        "hydra.sweeper.n_jobs=6",
    )
    values = [t.value for t in study_of(tmp_path / "sweep").trials]
    assert sum(values[20:]) < sum(values[:10])


def test_direction_comes_from_the_monitor(sweep: Sweep, tmp_path: Path) -> None:
    sweep(LR, "monitor.mode=max", "hydra.sweeper.n_trials=4", folder="max")
    best = study_of(tmp_path / "max").best_value
    assert best == max(t.value for t in study_of(tmp_path / "max").trials)
    assert results_of(tmp_path / "max")["direction"] == "maximize"
    sweep(LR, "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=1", folder="given")
    assert results_of(tmp_path / "given")["direction"] == "maximize"


def test_the_job_finds_its_trial_in_the_environment_and_can_be_pruned(sweep: Sweep, tmp_path: Path) -> None:
    seen = []

    def task(config: DictConfig) -> float:
        seen.append((os.environ[STORAGE_VARIABLE], os.environ[STUDY_VARIABLE], os.environ[TRIAL_VARIABLE]))
        number = HydraConfig.get().job.num
        if number > 0:
            # Trial 2 finds a mark that belongs to trial 1 and is not pruned.
            mark = {"study": "base", "trial": 1, "step": 0}
            (Path(HydraConfig.get().runtime.output_dir) / "pruned.json").write_text(json.dumps(mark))
        return score(config)

    sweep(LR, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", task=task)
    storage = f"sqlite:///{tmp_path / 'sweep' / 'study.db'}"
    assert seen == [(storage, "base", str(number)) for number in range(3)]
    assert not any(name in os.environ for name in (STORAGE_VARIABLE, STUDY_VARIABLE, TRIAL_VARIABLE))
    states = [t.state.name for t in study_of(tmp_path / "sweep").trials]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=3"], "nothing to search"),
        (["+hydra.sweeper.params={model: {lr: 'intervall(0,1)'}}"], "'model.lr=intervall"),
        (["+hydra.sweeper.params={model: {lr: 'interval(1,0)'}}"], "lower end 1.0 must be below"),
        (["model.lr=tag(log,interval(0,1))"], "start above zero"),
        (["model.lr=tag(lgo,interval(1,2))"], "the only tag is log"),
        (["model.lr=shuffle(range(1,4))"], "shuffle"),
        (["model.width=choice(1,2,1)"], "same value twice"),
        ([LR, "hydra.sweeper.sampler=tpee"], "choose one of tpe, random, grid, cmaes"),
        ([LR, "hydra.sweeper.sampler=grid"], "no finite list of values"),
        ([LR, "hydra.sweeper.sampler=cmaes"], "there is only one"),
        ([LR, "hydra.sweeper.n_trials=0"], "n_trials=0"),
        ([LR, "hydra.sweeper.max_failure_rate=2"], "between 0 and 1"),
        ([LR, "hydra.sweeper.direction=up"], "minimize or maximize"),
        ([LR, "hydra.sweeper.storage='nosuch://user:secret@host/db'"], "storage=host/db cannot be used"),
        ([LR, "hydra.sweeper.storage=sqlite:////no/such/dir/x.db"], "cannot be used"),
    ],
)
def test_mistakes_give_one_message(sweep: Sweep, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        sweep(*overrides)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "sweep" / "0").exists()


def test_a_misspelt_key_starts_no_trial(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Could not override 'model\.lrr'"):
        sweep("model.lrr=interval(0.1,1)")
    assert not (tmp_path / "sweep").exists()


def test_an_existing_study_is_not_touched_unasked(sweep: Sweep) -> None:
    sweep(LR, "hydra.sweeper.n_trials=1")
    with pytest.raises(UserError, match=r"resume=true continues it"):
        sweep(LR, "hydra.sweeper.n_trials=2")
    with pytest.raises(UserError, match=r"another space: model\.lr, model\.width differ"):
        sweep("model.width=choice(1,2)", "hydra.sweeper.resume=true")
    with pytest.raises(UserError, match="is to minimize, this sweep to maximize"):
        sweep(LR, "hydra.sweeper.direction=max", "hydra.sweeper.resume=true")


def test_a_rank_refuses_to_sweep(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="This is rank 1 of 2"):
        sweep(LR)


def test_from_the_command_line(config_dir: Path, tmp_path: Path) -> None:
    app = tmp_path / "toy.py"
    app.write_text(
        "import hydra\n"
        "@hydra.main(version_base='1.3', config_path='configs', config_name='train')\n"
        "def main(config):\n"
        "    return (config.model.lr - 0.25) ** 2\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*arguments: str) -> str:
        command = [sys.executable, str(app), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    output = run("sweep=lr", "hydra.sweep.dir=out", "hydra.run.dir=run")  # the file says mode: MULTIRUN
    command = next(line for line in output.splitlines() if line.startswith("Run it:") or "Run it:" in line)
    arguments = command.split("Run it:")[1].split()
    assert arguments[:2] == ["python", "toy.py"]
    best = results_of(tmp_path / "out")["best_params"]["model.lr"]
    config = yaml.safe_load(run(*arguments[2:], "--cfg", "job"))
    assert config["model"]["lr"] == best
