"""Checkpoints: written atomically, holding tensors plus the recipe as one YAML string, and never unpickled."""

import errno
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wanamaker import __version__
from wanamaker.errors import UserError

KEY = "wanamaker"
"""What we add to a Lightning checkpoint: `{"recipe": YAML, "version": str, "metrics": {name: value}}`."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: whoever reads sees the old file or the new one, never a part."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint`; on a full disk the previous file stays as it was.

        Raises:
            UserError: when the file system refuses, naming the path and what survives.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            cause = _os_error(error)
            if cause is None:
                raise
            kept = sorted(file.name for file in target.parent.glob("*.ckpt")) if target.parent.is_dir() else []
            survivor = f"Still good: {', '.join(kept)}." if kept else "No earlier checkpoint of this run exists."
            reason = "the disk is full" if cause.errno in _NO_ROOM else cause.strerror or str(cause)
            raise UserError(
                f"Could not write the checkpoint {target}: {reason}. {survivor} "
                "Free some space, then repeat the command with the same run id to go on from there."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load tensors and plain values only, whatever the caller asked for."""
        return load(Path(path), map_location=map_location or "cpu")


def _os_error(error: BaseException) -> OSError | None:
    """torch.save turns a failed write into a RuntimeError and keeps the OSError only as context."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def load(path: Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint with `weights_only=True`.

    Args:
        path: The file.
        map_location: As in `torch.load`.
        mmap: Leave the tensors on disk until they are used: enough to read the recipe.

    Raises:
        UserError: when the file is missing, truncated or not a checkpoint, naming it and its neighbours.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.{_neighbours(path)}")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"The checkpoint {path} is truncated or damaged ({path.stat().st_size} bytes; its index is missing)."
            f"{_neighbours(path)}"
        )
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise UserError(f"The checkpoint {path} is damaged: {str(error).splitlines()[0]}{_neighbours(path)}") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"The file {path} holds Python objects beside tensors. It was not written here and is not opened, "
            "because opening it could run code."
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"The file {path} is no checkpoint: it holds a {type(checkpoint).__name__}.")
    return checkpoint


def _neighbours(path: Path) -> str:
    folder = path.parent
    others = sorted(f.name for f in folder.glob("*.ckpt") if f != path) if folder.is_dir() else []
    return f" In the same folder: {', '.join(others)}." if others else ""


def portable_recipe(config: DictConfig) -> str:
    """The whole configuration as YAML, resolved but for `${paths.*}`, so that it works on another machine."""
    paths = config.paths
    copy = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    copy.paths = {key: f"<paths.{key}>" for key in paths}
    text = OmegaConf.to_yaml(copy, resolve=True)
    recipe = OmegaConf.create(text)
    del recipe["paths"]
    text = OmegaConf.to_yaml(recipe)
    for key in paths:
        text = text.replace(f"<paths.{key}>", f"${{paths.{key}}}")
    return text


def read_recipe(path: Path) -> DictConfig:
    """The recipe a checkpoint was trained with, `${paths.*}` left open.

    Raises:
        UserError: when the file is no checkpoint of ours.
    """
    checkpoint = load(path, mmap=True)
    try:
        recipe = OmegaConf.create(checkpoint[KEY]["recipe"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"The checkpoint {path} has no recipe in it: it was not written by train.py. "
            "To start from its weights, name the file in a recipe that takes local weights."
        ) from error
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"The recipe in {path} cannot be read: {str(error).splitlines()[0]}") from error
    assert isinstance(recipe, DictConfig)
    return recipe


def check_resume(path: Path, config: DictConfig, model: LightningModule) -> None:
    """Refuse to resume from a checkpoint of another model.

    Args:
        path: The checkpoint.
        config: The composed configuration.
        model: Built from it.

    Raises:
        UserError: naming the settings that differ, or the first tensors that do not fit.
    """
    recipe = read_recipe(path)
    here = OmegaConf.to_container(OmegaConf.create({"model": config.model, **_context(config)}), resolve=True)["model"]
    there = OmegaConf.to_container(recipe.model, resolve=False)
    if here["_target_"] != there["_target_"]:
        raise UserError(
            f"ckpt_path={path} holds a {there['_target_'].rsplit('.', 1)[-1]} (experiment {recipe.get('experiment')}), "
            f"and this experiment trains a {here['_target_'].rsplit('.', 1)[-1]}. "
            "Name a checkpoint of the same experiment, or ckpt_path=null to start afresh."
        )
    loaded = load(path, mmap=True)
    sized = next(model.parameters(), None) is not None
    if not sized:
        # Sized by its data: the checkpoint knows the sizes, and the module compares them with the data's in `setup`.
        model.on_load_checkpoint(loaded)
    stored = {name: tuple(tensor.shape) for name, tensor in loaded["state_dict"].items()}
    built = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if stored != built:
        unfit = sorted(name for name in stored.keys() | built.keys() if stored.get(name) != built.get(name))
        reasons = list(_differences(here.get("net"), there.get("net"), "model.net"))[:4]
        reasons += [f"{name} is {built.get(name)} here and {stored.get(name)} there" for name in unfit[:2]]
        raise UserError(
            f"ckpt_path={path} holds another model: {'; '.join(reasons)}. "
            "Repeat the command it was trained with, or start afresh with a new run id or ckpt_path=null."
        )
    if sized:
        model.on_load_checkpoint(loaded)  # what else must agree, and the names that decisions ask for


def _context(config: DictConfig) -> dict[str, Any]:
    return {key: config[key] for key in config if key != "model"}


def _differences(here: Any, there: Any, path: str) -> Any:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in sorted(here.keys() | there.keys()):
            yield from _differences(here.get(key), there.get(key), f"{path}.{key}")
    elif here != there and "${paths." not in str(there):
        yield f"{path} is {here} here and {there} there"


class EmbedRecipe(Callback):
    """Adds the recipe and the metrics of the moment to every checkpoint.

    Args:
        recipe: YAML of `portable_recipe`.
    """

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint[KEY] = {"recipe": self.recipe, "version": __version__, "metrics": metrics}


def logged_metrics(path: Path) -> dict[str, float]:
    """Metrics that were current when a checkpoint was written."""
    return dict(load(path, mmap=True).get(KEY, {}).get("metrics", {}))
