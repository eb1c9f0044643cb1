"""The sweeper behind `hydra/sweeper=optuna`: asks Optuna, launches through Hydra, tells Optuna."""

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from wanamaker.errors import UserError

if TYPE_CHECKING:
    import optuna

    from hydra_plugins.wanamaker_optuna._results import Report
    from hydra_plugins.wanamaker_optuna._search_space import Dimension

log = logging.getLogger(__name__)

STORAGE_VARIABLE = "WANAMAKER_OPTUNA_STORAGE"
STUDY_VARIABLE = "WANAMAKER_OPTUNA_STUDY"
TRIAL_VARIABLE = "WANAMAKER_OPTUNA_TRIAL"
"""What a trial's processes find in their environment; `wanamaker.callbacks.optuna_pruning` reads it."""

PRUNED_FILE = "pruned.json"
"""Written into a job's folder by the pruning callback: `{"study": name, "trial": number, "step": step}`."""

DEFAULT_TRIALS = 20
LONGEST_TRACEBACK = 8000  # characters; MySQL's TEXT column, the smallest of the supported ones, takes 65535 bytes


class OptunaSweeper(Sweeper):
    """Searches hyperparameters with Optuna; `config.py` explains the options.

    Only the process the user started runs it. A trial is whatever the chosen launcher makes of a list of
    overrides: this class never sees ranks or devices.
    """

    def __init__(
        self,
        n_trials: int | None = None,
        n_jobs: int | None = None,
        sampler: str = "tpe",
        seed: int | None = None,
        n_startup_trials: int | None = None,
        direction: str | None = None,
        storage: str | None = None,
        study_name: str | None = None,
        resume: bool = False,
        max_failure_rate: float = 0.3,
        start_from_recipe: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.sampler = sampler
        self.seed = seed
        self.n_startup_trials = n_startup_trials
        self.direction = direction
        self.storage = storage
        self.study_name = study_name
        self.resume = resume
        self.max_failure_rate = max_failure_rate
        self.start_from_recipe = start_from_recipe
        self.params = params or {}
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run the trials that are missing and write the results into the sweep folder.

        Args:
            arguments: Overrides of the command line, ranges among them.

        Returns:
            What the launcher returned for each trial of this session.

        Raises:
            UserError: for a mistake in the options or the search space, before any trial starts.
            SweepFailed: when more than `max_failure_rate` of the trials failed, or none gave a value.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        _refuse_inside_a_rank()
        from hydra_plugins.wanamaker_optuna import _study
        from hydra_plugins.wanamaker_optuna._own_files import own_files
        from hydra_plugins.wanamaker_optuna._results import Report
        from hydra_plugins.wanamaker_optuna._search_space import grid, read_search_space

        space, fixed = read_search_space(_plain(self.params), arguments, self.hydra_context.config_loader)
        _study.check_sampler(self.sampler, space)
        self._check_numbers()
        points = grid(space) if self.sampler == "grid" else None
        # Composing one trial now turns a misspelt key into one message instead of a study full of failures.
        recipe = self._compose([*fixed, *(d.override(d.example()) for d in space)])
        experiment = OmegaConf.select(recipe, "hydra.runtime.choices.experiment")
        direction = self._direction(recipe)
        sweep_dir = Path(str(self.config.hydra.sweep.dir)).absolute()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, sweep_dir / "multirun.yaml")
        storage = self.storage or f"sqlite:///{sweep_dir / 'study.db'}"
        study = _study.open_study(
            storage=storage,
            name=self.study_name or str(experiment or self.config.hydra.job.name),
            direction=direction,
            resume=self.resume,
            dimensions=space,
        )
        repeated = _study.requeue_interrupted(study, str(sweep_dir))
        planned = self.n_trials or (len(points) if points else DEFAULT_TRIALS)
        if points is not None:
            planned = min(planned, len(points))
            _study.enqueue_grid(study, points)
        elif self.start_from_recipe and not study.get_trials(deepcopy=False):
            self._enqueue_recipe(study, space, fixed)
        before = len(_study.ended(study))
        log.info(
            f"Study '{study.study_name}' in {_study.without_password(storage)}: {self.sampler} to {direction}, "
            f"{before} of {planned} trials done" + (f", {repeated} interrupted to repeat" if repeated else "")
        )
        report = Report(
            study=study,
            storage=_study.without_password(storage),
            folder=sweep_dir,
            space=space,
            metric=OmegaConf.select(recipe, "monitor.metric"),
            compose=self._compose,
            is_group=lambda key: bool(self._loader.get_group_options(key)),
            own_files=lambda config: own_files(self._loader, config),
            script=os.path.relpath(sys.argv[0]) if sys.argv[0] else "train.py",
        )
        seed = self.seed if self.seed is not None else int(OmegaConf.select(recipe, "seed") or 0)
        returns = self._run_trials(study, storage, space, fixed, planned, seed, sweep_dir, report)
        if not report.finish(planned):
            raise _study.SweepFailed(f"No trial of study '{study.study_name}' gave a value. {report.last_failure()}")
        return returns

    @property
    def _loader(self) -> Any:
        assert self.hydra_context is not None
        return self.hydra_context.config_loader

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        assert self.config is not None
        return self._loader.load_sweep_config(self.config, list(overrides))

    def _check_numbers(self) -> None:
        for name, value, lowest in (("n_trials", self.n_trials, 1), ("n_jobs", self.n_jobs, 1)):
            if value is not None and value < lowest:
                raise UserError(f"hydra.sweeper.{name}={value}: give a whole number of at least {lowest}.")
        if self.n_startup_trials is not None and self.n_startup_trials < 0:
            raise UserError(f"hydra.sweeper.n_startup_trials={self.n_startup_trials}: give 0 or more.")
        if not 0 <= self.max_failure_rate <= 1:
            raise UserError(f"hydra.sweeper.max_failure_rate={self.max_failure_rate}: give a share between 0 and 1.")

    def _direction(self, recipe: DictConfig) -> str:
        from hydra_plugins.wanamaker_optuna._study import DIRECTIONS

        given = self.direction or OmegaConf.select(recipe, "monitor.mode")
        if given is None:
            raise UserError(
                "The sweep does not know what is better: give monitor.mode=min|max in the recipe, or "
                "hydra.sweeper.direction=minimize|maximize."
            )
        if given not in DIRECTIONS:
            raise UserError(f"hydra.sweeper.direction={given}: choose minimize or maximize.")
        return DIRECTIONS[given]

    def _enqueue_recipe(self, study: "optuna.Study", space: Sequence["Dimension"], fixed: Sequence[str]) -> None:
        recipe = self._compose(fixed)
        values = {}
        for dimension in space:
            choices = OmegaConf.select(recipe, "hydra.runtime.choices")
            group = choices.get(dimension.name) if dimension.name in choices else None
            value = group if group is not None else OmegaConf.select(recipe, dimension.name)
            if own := dimension.of_recipe(value):
                values[dimension.name] = own[0]
            else:
                log.info(f"Trial 0 samples '{dimension.name}': the recipe's value {value!r} is not in the search space")
        if values:
            study.enqueue_trial(values)

    def _run_trials(
        self,
        study: "optuna.Study",
        storage: str,
        space: Sequence["Dimension"],
        fixed: Sequence[str],
        planned: int,
        seed: int,
        sweep_dir: Path,
        report: "Report",
    ) -> list[JobReturn]:
        from hydra_plugins.wanamaker_optuna import _study

        assert self.config is not None
        returns: list[JobReturn] = []
        failed = 0
        at_a_time = self.n_jobs or max(1, OmegaConf.select(self.config, "hydra.launcher.n_jobs") or 1)
        to_do = planned - len(_study.ended(study))
        while (left := planned - len(_study.ended(study))) > 0:
            batch, lines = [], []
            for _ in range(min(left, at_a_time)):
                number = len(study.get_trials(deepcopy=False))
                study.sampler = _study.make_sampler(self.sampler, seed, number, self.n_startup_trials)
                trial = study.ask({d.name: d.distribution for d in space})
                overrides = [*fixed, *(d.override(trial.params[d.name]) for d in space)]
                trial.set_user_attr(_study.FOLDER, str(sweep_dir))
                trial.set_user_attr("overrides", overrides)
                batch.append(trial)
                lines.append([*overrides, f"++hydra.job.env_set.{TRIAL_VARIABLE}='{trial.number}'"])
            try:
                results = self._launch(batch, lines, storage, study.study_name)
            except BaseException as error:
                # Ctrl-C, SIGTERM or a launcher that gave up: these trials are repeated when the study goes on.
                for trial in batch:
                    trial.set_user_attr(_study.INTERRUPTED, True)
                    trial.set_user_attr("error", repr(error))
                    study.tell(trial, state=_state("FAIL"))
                raise
            for trial, result in zip(batch, results, strict=True):
                failed += not self._tell(study, trial, result)
            returns.extend(results)
            report.update()
            if failed > self.max_failure_rate * to_do:
                raise _study.SweepFailed(
                    f"The sweep stopped: {failed} of {len(returns)} trials failed, more than "
                    f"hydra.sweeper.max_failure_rate={self.max_failure_rate} of the {to_do} planned. "
                    f"{report.last_failure()}"
                )
        return returns

    def _launch(
        self, batch: Sequence["optuna.Trial"], lines: Sequence[list[str]], storage: str, study_name: str
    ) -> list[JobReturn]:
        """Run a batch; a trial's number is the number of its job, and so the name of its folder."""
        assert self.launcher is not None
        results: list[JobReturn] = []
        with _environment({STORAGE_VARIABLE: storage, STUDY_VARIABLE: study_name}):
            start = 0
            for end in range(1, len(batch) + 1):
                # A launcher counts on from the first number, and another sweep in this study may hold one between.
                if end == len(batch) or batch[end].number != batch[end - 1].number + 1:
                    results += self.launcher.launch(
                        [list(line) for line in lines[start:end]], initial_job_idx=batch[start].number
                    )
                    start = end
        return results

    def _tell(self, study: "optuna.Study", trial: "optuna.Trial", result: JobReturn) -> bool:
        """Hand a result to Optuna; return whether the trial succeeded or was pruned."""
        folder = OmegaConf.select(result.hydra_cfg, "hydra.runtime.output_dir") if result.hydra_cfg else None
        trial.set_user_attr("folder", str(folder) if folder else "")
        if result.status != JobStatus.COMPLETED:
            error = result._return_value
            text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
            return self._fail(study, trial, f"{type(error).__name__}: {error}", text)
        if folder and _was_pruned(Path(folder), study.study_name, trial.number):
            study.tell(trial, state=_state("PRUNED"))
            log.info(f"Trial {trial.number}: pruned")
            return True
        value = result.return_value
        if value is None:
            metric = OmegaConf.select(result.cfg, "monitor.metric") if result.cfg else None
            return self._fail(
                study,
                trial,
                f"nothing in it measured {metric or 'the monitored metric'} (monitor.metric): hold rows out for "
                "validation, or let the sweep follow a metric that its stages measure",
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            return self._fail(study, trial, f"the job returned {value!r} instead of a number, the monitored metric")
        if not math.isfinite(number):
            return self._fail(study, trial, f"the monitored metric is {number}")
        study.tell(trial, number)
        best = study.best_trial
        log.info(f"Trial {trial.number}: {number:.6g} (best {best.value:.6g} in trial {best.number})")
        return True

    def _fail(self, study: "optuna.Study", trial: "optuna.Trial", error: str, text: str = "") -> bool:
        trial.set_user_attr("error", error[:LONGEST_TRACEBACK])
        if text:
            trial.set_user_attr("traceback", text[-LONGEST_TRACEBACK:])
        study.tell(trial, state=_state("FAIL"))
        log.error(f"Trial {trial.number} failed: {error}")
        return False


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    container = OmegaConf.to_container(params, resolve=True) if OmegaConf.is_config(params) else dict(params)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _was_pruned(folder: Path, study_name: str, number: int) -> bool:
    path = folder / PRUNED_FILE
    if not path.exists():
        return False
    mark = json.loads(path.read_text(encoding="utf-8"))
    return mark["study"] == study_name and mark["trial"] == number  # not one that an earlier run left behind


def _refuse_inside_a_rank() -> None:
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size > 1 and "RANK" in os.environ:
        raise UserError(
            f"This is rank {os.environ['RANK']} of {size}: a sweep started on every rank would run {size} times. "
            "Start it once, without torchrun, and give each trial its processes with trainer.devices=N."
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
