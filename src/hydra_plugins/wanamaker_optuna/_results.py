"""What a sweep leaves behind: optimization_results.yaml, leaderboard.csv and experiment/best_recipe.yaml."""

import csv
import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.wanamaker_optuna._own_files import copy_files
from hydra_plugins.wanamaker_optuna._search_space import Dimension
from hydra_plugins.wanamaker_optuna._study import ended

log = logging.getLogger(__name__)

RESULTS, LEADERBOARD, RECIPE = "optimization_results.yaml", "leaderboard.csv", "best_recipe"


@dataclass
class Report:
    """Keeps the files of a sweep up to date, so that a sweep cut short leaves its results too.

    Attributes:
        study: The running study.
        storage: Its URL without a password.
        folder: The sweep folder.
        space: The searched dimensions.
        metric: Name of the objective, or None where the app has no monitor.
        compose: Composes the configuration of a list of overrides.
        is_group: Tells a config group from an option.
        own_files: The files of a composed configuration that are not the application's, by their config path.
        script: The entry point, for the command in the log.
    """

    study: optuna.Study
    storage: str
    folder: Path
    space: Sequence[Dimension]
    metric: str | None
    compose: Callable[[Sequence[str]], DictConfig]
    is_group: Callable[[str], bool]
    own_files: Callable[[DictConfig], Mapping[str, Path]]
    script: str
    _written: int | None = field(default=None, init=False)
    _command: str = field(default="", init=False)
    _recipe: str = field(default=RECIPE, init=False)

    def ranked(self) -> list[FrozenTrial]:
        """Complete trials from the best, then pruned ones, then failures."""
        sign = -1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
        order = {TrialState.COMPLETE: 0, TrialState.PRUNED: 1, TrialState.FAIL: 2}

        def key(trial: FrozenTrial) -> tuple[int, float, int]:
            complete = trial.state == TrialState.COMPLETE
            return order[trial.state], sign * (trial.value or 0.0) if complete else 0.0, trial.number

        return sorted(ended(self.study), key=key)

    def last_failure(self) -> str:
        """The newest error, for a message."""
        failures = [trial for trial in ended(self.study) if trial.state == TrialState.FAIL]
        if not failures:
            return ""
        trial = max(failures, key=lambda t: t.number)
        where = trial.user_attrs.get("folder")
        return f"Trial {trial.number}: {trial.user_attrs.get('error')}" + (f" (see {where})" if where else "")

    def update(self) -> None:
        """Write the files anew."""
        ranked = self.ranked()
        self._write_leaderboard(ranked)
        complete = [trial for trial in ranked if trial.state == TrialState.COMPLETE]
        results: dict[str, Any] = {
            "name": "optuna",
            "study_name": self.study.study_name,
            "storage": self.storage,
            "metric": self.metric,
            "direction": self.study.direction.name.lower(),
            "trials": {
                "complete": len(complete),
                "pruned": sum(trial.state == TrialState.PRUNED for trial in ranked),
                "failed": sum(trial.state == TrialState.FAIL for trial in ranked),
            },
        }
        if complete:
            best = complete[0]
            results |= {
                "best_value": best.value,
                "best_trial": best.number,
                "best_params": dict(best.params),
                "best_folder": best.user_attrs.get("folder"),
            }
            if best.number != self._written:
                self._write_recipe(best)
        text = yaml.safe_dump(results, sort_keys=False, allow_unicode=True)
        (self.folder / RESULTS).write_text(text, encoding="utf-8")

    def finish(self, planned: int) -> bool:
        """Write the files a last time and tell the user; return whether any trial gave a value."""
        self.update()
        ranked = self.ranked()
        complete = [trial for trial in ranked if trial.state == TrialState.COMPLETE]
        failed = [trial for trial in ranked if trial.state == TrialState.FAIL]
        pruned = len(ranked) - len(complete) - len(failed)
        log.info(f"\n{len(complete)} complete, {pruned} pruned, {len(failed)} failed of {planned} trials")
        if failed:
            log.warning(f"Failed: {', '.join(str(trial.number) for trial in failed)}. {self.last_failure()}")
        if not complete:
            return False
        best = complete[0]
        log.info(f"Best {self.metric or 'value'}: {best.value:.6g} in trial {best.number} with")
        for name, value in best.params.items():
            log.info(f"    {name}={value}")
        log.info(f"Leaderboard: {self.folder / LEADERBOARD}")
        log.info(f"Best recipe: {self._recipe_path()}")
        log.info(f"Run it:      {self._command}")
        return True

    def _write_leaderboard(self, ranked: Sequence[FrozenTrial]) -> None:
        names = [dimension.name for dimension in self.space]
        with (self.folder / LEADERBOARD).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", "trial", "state", "value", "seconds", *names, "folder", "error"])
            for rank, trial in enumerate(ranked, start=1):
                complete = trial.state == TrialState.COMPLETE
                seconds = trial.duration.total_seconds() if trial.duration else 0.0
                writer.writerow(
                    [
                        rank if complete else "",
                        trial.number,
                        trial.state.name.lower(),
                        "" if trial.value is None else repr(trial.value),
                        f"{seconds:.1f}",
                        *(trial.params.get(name, "") for name in names),
                        trial.user_attrs.get("folder", ""),
                        str(trial.user_attrs.get("error", "")).split("\n", 1)[0],
                    ]
                )

    def _recipe_path(self) -> Path:
        return self.folder / "experiment" / f"{self._recipe}.yaml"

    def _write_recipe(self, best: FrozenTrial) -> None:
        """The swept experiment plus what this trial changed, as a recipe that runs by itself.

        Values come from the composed configuration, where Hydra has already undone quotes and casts. Files of a
        `--config-dir` are laid beside it, because the command that runs it can name one such folder only.
        """
        lines: list[str] = best.user_attrs["overrides"]
        config = self.compose(lines)
        own = self.own_files(config)
        number = 2
        while f"experiment/{self._recipe}" in own:  # the sweep went on from the best recipe of another one
            self._recipe, number = f"{RECIPE}_{number}", number + 1
        copy_files(own, self.folder)
        experiment = OmegaConf.select(config, "hydra.runtime.choices.experiment")
        tree = OmegaConf.to_container(config, resolve=False)
        defaults: list[Any] = [str(experiment)] if experiment else []
        values: dict[str, Any] = {}
        rest: list[str] = []
        for override in OverridesParser.create().parse_overrides(lines):
            key = override.key_or_group
            personal = key in ("experiment", "sweep", "run_id") or key.startswith(("hydra.", "hydra/", "paths."))
            if personal:
                continue  # the base recipe, this sweep and this machine are no part of the recipe
            if override.package is not None or override.is_delete():
                rest.append(str(override.input_line))  # YAML cannot say these
            elif self.is_group(key):
                defaults.append({f"override /{key}": override.value()})
            else:
                _put(values, key.split("."), _get(tree, key.split(".")))
        metric = self.metric or "value"
        header = (
            "# @package _global_\n"
            f"# Best of study {self.study.study_name}: {metric} = {best.value:.6g} in trial {best.number}.\n"
        )
        content = {"defaults": [*defaults, "_self_"], **values}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        self._recipe_path().parent.mkdir(exist_ok=True)
        self._recipe_path().write_text(header + text, encoding="utf-8")
        choice = f"{'' if experiment else '+'}experiment={self._recipe}"
        folder = os.path.relpath(self.folder)
        if folder.startswith(os.pardir):
            folder = str(self.folder)
        self._command = shlex.join(["python", self.script, "--config-dir", folder, choice, *rest])
        self._written = best.number


def _get(tree: Any, path: Sequence[str]) -> Any:
    for part in path:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
