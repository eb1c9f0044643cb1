"""The refits of a recovery twin, read from the folders that the runs of a multirun left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wanamaker.decisions.recovery_twin import Refit
from wanamaker.errors import UserError
from wanamaker.predictions.posterior import MixPosterior

HOW = (
    "Refit the model on its own replicates first: python train.py experiment=NAME sweep=twin "
    "data.twin.posterior=FILE, with FILE the predictions/posterior.nc of the run that this checkpoint comes from "
    "(stages=[fit,predict] writes it)"
)
_CONFIGS = (".hydra/resolved.yaml", ".hydra/config.yaml")


def twin_folders(folder: Path | str | None) -> tuple[list[Path], list[str]]:
    """Runs with a posterior, in the order of their numbers, and the names of those without.

    Args:
        folder: of a multirun with `sweep=twin`.

    Raises:
        UserError: none is given, no such folder, or no run in it that wrote a posterior.
    """
    if folder is None:
        raise UserError(f"decision.runs is missing: the folder of a multirun. {HOW}; its last lines name the folder.")
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"decision.runs={folder}: there is no such folder. {HOW}, and give the folder of that multirun."
        )
    runs = [path.parent for path in folder.glob("*/.hydra") if path.is_dir()]
    runs.sort(key=lambda path: (len(path.name), path.name))
    made = [run for run in runs if (run / "predictions" / MixPosterior.file_name).is_file()]
    lacking = [run.name for run in runs if run not in made]
    if not runs:
        hint = " This is a run, not a multirun." if (folder / ".hydra").is_dir() else ""
        raise UserError(
            f"decision.runs={folder}: no run lies in it.{hint} {HOW}, and give the folder of that multirun."
        )
    if not made:
        raise UserError(
            f"decision.runs={folder}: none of its {len(runs)} runs has a predictions/{MixPosterior.file_name}. They "
            "have not ended, or were made without predict: stages=[fit,predict], as sweep=twin has it; or their model "
            "is not Bayesian (experiment=bayesian_mmm_...)."
        )
    return made, lacking


def read_refits(runs: list[Path]) -> list[Refit]:
    """Posterior and replicate of each run.

    Raises:
        UserError: a run that was fitted to no twin, or whose files cannot be read.
    """
    refits = []
    for run in runs:
        data = _config(run).get("data") or {}
        twin = data.get("twin") if isinstance(data, dict) else None
        if not isinstance(twin, dict) or not isinstance(twin.get("replicate"), int):
            raise UserError(
                f"decision.runs: run {run.name} was fitted to observed data and not to a twin (its data.twin is "
                f"empty), so nothing is known about its truth. {HOW}."
            )
        path = run / "predictions" / MixPosterior.file_name
        try:
            posterior = MixPosterior.read(path)
        except UserError as error:
            raise UserError(
                f"decision.runs: {path} cannot be read ({error.__cause__ or error}). Run that twin again, or move its "
                "folder away."
            ) from error
        refits.append(Refit(twin["replicate"], f"run {run.name}", posterior))
    return refits


def _config(run: Path) -> dict[str, Any]:
    import yaml

    path = next((run / name for name in _CONFIGS if (run / name).is_file()), None)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path is not None else None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({error}). Run that twin again, or move its folder away.") from error
    if not isinstance(config, dict):
        raise UserError(f"{run} has no configuration in .hydra. Run that twin again, or move its folder away.")
    return config
