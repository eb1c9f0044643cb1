"""Files of a sweep that lie outside the application: a recipe that names them can only run where they are, too."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

_PERSONAL = ("hydra/", "sweep/")
"""How a sweep was run is no part of its best recipe."""


def own_files(loader: Any, config: DictConfig) -> dict[str, Path]:
    """The files that a composed job took from `--config-dir` or `hydra.searchpath`.

    Args:
        loader: Hydra's config loader.
        config: As composed by it, with its node `hydra`.

    Returns:
        From a config's path, such as `experiment/mine`, to its file.
    """
    job = config.hydra
    given = OmegaConf.to_container(job.overrides, resolve=False)  # lines such as hydra.run.dir=${...} stay as typed
    assert isinstance(given, dict)
    overrides = [*given["hydra"], *given["task"]]
    used = loader.compute_defaults_list(job.job.config_name, overrides, RunMode.MULTIRUN).defaults
    found = {}
    for path in {str(default.config_path) for default in used if default.config_path}:
        if path.startswith(_PERSONAL):
            continue
        for source in job.runtime.config_sources:  # the first that has it provides it
            file = Path(source.path) / f"{path}.yaml"
            if source.schema == "file" and file.is_file():
                if source.provider != "main":
                    found[path] = file
                break
    return found


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Lay files out in a folder as they were in the one they come from, so that `--config-dir` can name it instead."""
    for path, file in files.items():
        target = folder / f"{path}.yaml"
        if target.resolve() != file.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
