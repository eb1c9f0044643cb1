"""Optuna's side of a sweep: the study in its storage, the samplers, and trials that never ended."""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from hydra.errors import CompactHydraException
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from hydra_plugins.wanamaker_optuna._search_space import Dimension
from wanamaker.errors import UserError

SAMPLERS = ("tpe", "random", "grid", "cmaes")
DIRECTIONS = {"min": "minimize", "minimize": "minimize", "max": "maximize", "maximize": "maximize"}

SPACE = "wanamaker:space"
FOLDER = "wanamaker:sweep_dir"
INTERRUPTED = "interrupted"
REQUEUED = "wanamaker:requeued"


class SweepFailed(CompactHydraException):
    """Too many trials failed; Hydra prints the message without a traceback of its own."""


def without_password(url: str) -> str:
    """A database URL fit for a log or a file."""
    return make_url(url).render_as_string(hide_password=True)


def make_sampler(name: str, seed: int, number: int, n_startup_trials: int | None) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    A sampler seeded once would draw the same first points again whenever a study is resumed. One that is seeded
    by the trial's number proposes for a given history the same point in whatever session.
    """
    trial_seed = (seed * 1_000_003 + number) % 2**32
    startup = {} if n_startup_trials is None else {"n_startup_trials": n_startup_trials}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # The liar keeps the trials of one batch apart while none of them has a result.
            return optuna.samplers.TPESampler(seed=trial_seed, constant_liar=True, **startup)  # type: ignore[arg-type]
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=trial_seed, **startup)  # type: ignore[arg-type]
    return optuna.samplers.RandomSampler(seed=trial_seed)


def check_sampler(name: str, dimensions: Sequence[Dimension]) -> None:
    """Refuse a sampler that does not exist or cannot search this space.

    Raises:
        UserError: naming the sampler and what to use instead.
    """
    if name not in SAMPLERS:
        raise UserError(f"hydra.sweeper.sampler={name}: choose one of {', '.join(SAMPLERS)}.")
    if name == "cmaes":
        categorical = [d for d in dimensions if isinstance(d.distribution, CategoricalDistribution)]
        if categorical or len(dimensions) < 2:
            what = f"'{categorical[0].grammar}' is a choice" if categorical else "there is only one"
            raise UserError(f"hydra.sweeper.sampler=cmaes searches two or more numbers, and {what}. Use sampler=tpe.")
        try:
            import cmaes  # noqa: F401
        except ImportError as error:
            raise UserError("hydra.sweeper.sampler=cmaes needs the package cmaes: pip install cmaes.") from error


def open_study(
    *, storage: str, name: str, direction: str, resume: bool, dimensions: Sequence[Dimension]
) -> optuna.Study:
    """Create the study, or continue the one of that name.

    Raises:
        UserError: when the storage cannot be opened, when the study exists and `resume` is off, or when it
            searched something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {d.name: json.loads(distribution_to_json(d.distribution)) for d in dimensions}
    try:
        backend = optuna.storages.get_storage(storage)
        exists = name in [study.study_name for study in backend.get_all_studies()]
        if exists and not resume:
            raise UserError(
                f"The study '{name}' exists in {without_password(storage)}. hydra.sweeper.resume=true continues "
                "it, hydra.sweeper.study_name=NAME starts another."
            )
        study = optuna.create_study(storage=backend, study_name=name, direction=direction, load_if_exists=exists)
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"hydra.sweeper.storage={storage.split('@')[-1]} cannot be used: {reason}") from error
    if not exists:
        study.set_user_attr(SPACE, space)
        return study
    known = study.user_attrs.get(SPACE, space)
    if study.direction.name.lower() != direction:
        raise UserError(
            f"The study '{name}' is to {study.direction.name.lower()}, this sweep to {direction}. "
            "Start another with hydra.sweeper.study_name=NAME."
        )
    if known != space:
        differing = sorted(key for key in known.keys() | space.keys() if known.get(key) != space.get(key))
        raise UserError(
            f"The study '{name}' searched another space: {', '.join(differing)} differ. Repeat its command to "
            "continue it, or start another with hydra.sweeper.study_name=NAME."
        )
    return study


def requeue_interrupted(study: optuna.Study, sweep_dir: str) -> int:
    """Put the trials that a stopped sweep left without a result in line again.

    Trials still marked as running count only when they belong to this sweep's folder: another sweep may be alive
    in the same study.

    Returns:
        How many trials will be repeated.
    """
    requeued = 0
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING and trial.user_attrs.get(FOLDER) == sweep_dir:
            _set_attr(study, trial, INTERRUPTED, True)
            study.tell(trial.number, state=TrialState.FAIL)
            params = trial.params
        elif trial.state == TrialState.FAIL and trial.user_attrs.get(INTERRUPTED):
            params = trial.params
        else:
            continue
        if trial.number in study.user_attrs.get(REQUEUED, []):
            continue
        if params:
            study.enqueue_trial(params)
        study.set_user_attr(REQUEUED, [*study.user_attrs.get(REQUEUED, []), trial.number])
        requeued += 1
    return requeued


def _set_attr(study: optuna.Study, trial: FrozenTrial, key: str, value: Any) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: complete, pruned or failed by themselves."""
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=done)
    return [trial for trial in trials if not trial.user_attrs.get(INTERRUPTED)]


def enqueue_grid(study: optuna.Study, points: Sequence[dict[str, Any]]) -> None:
    """Put the grid points that no trial of the study has, or will have, in line.

    Optuna's own GridSampler calls `Study.stop`, which is an error outside `Study.optimize`.
    """
    taken = [
        trial.params or trial.system_attrs.get("fixed_params", {})
        for trial in study.get_trials(deepcopy=False)
        if not trial.user_attrs.get(INTERRUPTED)
    ]
    for point in points:
        if point not in taken:
            study.enqueue_trial(point)
