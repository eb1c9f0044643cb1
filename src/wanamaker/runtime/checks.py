"""Everything that can be refused before data is touched: targets, arguments, devices, batch, folders."""

import inspect
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wanamaker.errors import UserError, nearest
from wanamaker.runtime import value_types
from wanamaker.runtime.schema import STAGES

TRUSTED_PREFIXES = (
    "wanamaker.",
    "torch.",
    "torchvision.",
    "torchmetrics.",
    "lightning.",
    "pyro.",
    "sklearn.",
)
"""A recipe comes with a checkpoint and a checkpoint may come from anywhere: only these packages are ever called."""

TRUSTED_ENV = "WANAMAKER_TRUSTED"
"""Further packages, comma-separated, for families kept outside the house. An environment variable and not a key of the
configuration, because a recipe must not be able to widen what it may call."""

_INSTANTIATE_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


@cache
def _signature(target: str) -> inspect.Signature:
    try:
        return inspect.signature(get_object(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"_target_ '{target}' cannot be imported: {error}") from error


def arguments_of(target: str) -> frozenset[str] | None:
    """Names that a target accepts as keywords; None when it takes any (`**kwargs`).

    Raises:
        UserError: when the target is not trusted or cannot be imported.
    """
    extra = tuple(f"{name.strip()}." for name in os.environ.get(TRUSTED_ENV, "").split(",") if name.strip())
    if not target.startswith(TRUSTED_PREFIXES + extra):
        trusted = ", ".join(prefix[:-1] for prefix in TRUSTED_PREFIXES + extra)
        raise UserError(
            f"_target_ '{target}' is outside the trusted packages ({trusted}). "
            f"If you trust it, name its package in {TRUSTED_ENV}."
        )
    parameters = _signature(target).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def nodes_with_target(node: Any, path: str) -> Iterator[tuple[str, DictConfig]]:
    """Every nested node that names a `_target_`, with its place."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            yield from nodes_with_target(node._get_node(key), f"{path}.{key}" if path else str(key))
    elif isinstance(node, ListConfig):
        for index, _ in enumerate(node):
            yield from nodes_with_target(node._get_node(index), f"{path}[{index}]")


def check_sets(config: DictConfig) -> None:
    """Refuse options of a callback or logger that no chosen set defines.

    Raises:
        UserError: naming it, and how to choose its set or do without it.
    """
    for group in ("callbacks", "logger"):
        for name, entry in (config.get(group) or {}).items():
            if isinstance(entry, DictConfig) and "_target_" not in entry:
                raise UserError(
                    f"{group}.{name} has options ({', '.join(map(str, entry))}) but nothing they belong to: choose the "
                    f"set that defines it, {group}=[...], or switch it off with {group}.{name}=null."
                )


def check_targets(config: DictConfig) -> None:
    """Bind every nested `_target_` to its signature.

    Raises:
        UserError: naming the path of a misspelt, missing or unset argument, or of a target that does not exist.
    """
    for path, node in nodes_with_target(config, ""):
        target = str(node["_target_"])
        accepted = arguments_of(target)
        given = {str(key) for key in node} - _INSTANTIATE_KEYS
        if accepted is not None:
            for key in sorted(given - accepted):
                raise UserError(
                    f"'{path}.{key}' is no option: {target} has no '{key}'.{nearest(key, accepted)} "
                    f"To leave out what a recipe gives: ~{path}.{key}"
                )
        for place in sorted(OmegaConf.missing_keys(node)):  # also inside mappings, such as data.roles.control
            raise UserError(f"'{place}' must be given: {place}=VALUE.")
        if not node.get("_partial_", False):
            required = [
                p.name
                for p in _signature(target).parameters.values()
                if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            ]
            for name in required:
                if name not in given and not node.get("_args_"):
                    raise UserError(f"'{path}.{name}' must be given: {target} requires it.")


def check_types(config: DictConfig) -> None:
    """Compare every value with the annotation of the argument it is given for.

    Raises:
        UserError: naming the value, its place and what may stand there.
    """
    for path, node in nodes_with_target(config, ""):
        hints = value_types.hints_of(str(node["_target_"]))
        values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
        for key, value in values.items():
            if key not in hints or value_types.has_target(value) or OmegaConf.is_missing(node, key):
                continue
            if value_types.accepts(hints[key], value):
                continue
            hint, wrong, place = value_types.innermost(hints[key], value, f"{path}.{key}")
            shown = "null" if wrong is None else str(wrong).lower() if isinstance(wrong, bool) else wrong
            raise UserError(f"{place}={shown}: give {value_types.words(hint) or 'something else'}.")


def check_values(config: DictConfig, entry: str) -> None:
    """Values of our own keys, and that every interpolation resolves.

    Raises:
        UserError: naming the key.
    """
    for key in config:
        if OmegaConf.is_missing(config, key):
            raise UserError(f"'{key}' must be given: {key}=VALUE, or in the recipe.")
    for stage in config.stages:
        if stage not in STAGES[entry]:
            raise UserError(f"stages: there is no stage '{stage}'.{nearest(stage, STAGES[entry])}")
    for key in ("metric", "mode"):
        if OmegaConf.is_missing(config.monitor, key):
            raise UserError(f"'monitor.{key}' must be given in the recipe.")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed}: give a whole number from 0 to {2**32 - 1}.")
    if config.monitor.mode not in ("min", "max"):
        raise UserError(f"monitor.mode={config.monitor.mode!r}: choose 'min' or 'max'.")
    for section in ("data", "model", "trainer"):
        if config[section] is None:
            raise UserError(f"'{section}' is empty: the recipe must fill it.")
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}") from error
    for key in config.paths:
        if config.paths[key] in (None, ""):  # else a folder called None, or one at the root of the disk
            raise UserError(f"paths.{key} is empty: name a folder, paths.{key}=FOLDER, or leave the option out.")


def check_devices(config: DictConfig) -> int:
    """Return the number of processes on this machine, after making sure that they can exist.

    Raises:
        UserError: naming how many devices there are and what to type instead.
    """
    import torch

    accelerator, devices = config.trainer.get("accelerator", "auto"), config.trainer.get("devices", 1)
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        choices = ("auto", "cpu", "gpu", "mps")
        raise UserError(f"trainer.accelerator={accelerator}: no such accelerator.{nearest(accelerator, choices)}")
    gpus = torch.cuda.device_count()
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and gpus > 0)
    if on_gpu and gpus == 0:
        raise UserError(
            f"trainer.accelerator={accelerator}: no GPU was found. "
            "Choose trainer=cpu, or trainer=ddp_cpu for two CPU processes."
        )
    if devices == "auto" or devices == -1:
        return gpus if on_gpu else 1
    if isinstance(devices, ListConfig):
        wrong = [d for d in devices if not (isinstance(d, int) and 0 <= d < gpus)]
        if not on_gpu or wrong:
            raise UserError(
                f"trainer.devices={list(devices)}: this machine has GPUs 0 to {gpus - 1}."
                if on_gpu
                else f"trainer.devices={list(devices)}: a list chooses GPUs, and this run is on the CPU."
            )
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(devices, float):
        raise UserError(f"trainer.devices={devices}: give a whole number of at least 1, or auto.")
    there = gpus if on_gpu else max(2, os.cpu_count() or 1)
    if number > there:
        kind = "GPU" if on_gpu else "CPU core"
        remedy = f"trainer.devices={there}" + (", or trainer=ddp_cpu for CPU processes" if on_gpu else "")
        raise UserError(
            f"trainer.devices={number}: this machine has {there} {kind}{'s' if there != 1 else ''}. Use {remedy}."
        )
    return number


def check_batch(config: DictConfig, world_size: int) -> None:
    """`data.batch_size` is global: every rank takes an equal share.

    Raises:
        UserError: naming the nearest sizes that divide.
    """
    batch = config.data.get("batch_size") if isinstance(config.data, DictConfig) else None
    if batch is None or world_size == 1 or config.data.get("batch_unit") == "series":  # series are dealt one by one
        return
    if batch % world_size:
        lower, upper = batch // world_size * world_size, -(-batch // world_size) * world_size
        choice = f"data.batch_size={lower} or {upper}" if lower else f"data.batch_size={upper}"
        raise UserError(
            f"data.batch_size={batch} is the global batch and cannot be shared equally by {world_size} ranks. "
            f"Use {choice}."
        )


_LOWEST = {
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
}
"""Options of the trainer that Lightning takes unseen, and the lowest value that means something."""


def check_trainer(config: DictConfig) -> None:
    """Options of the trainer that would train nothing, train on rows twice, or fail in the middle.

    Raises:
        UserError: naming option and lowest value.
    """
    for name, lowest in _LOWEST.items():
        value = config.trainer.get(name)
        if value is not None and not value >= lowest:
            raise UserError(f"trainer.{name}={value}: give a number of at least {lowest}.")
    if config.trainer.get("use_distributed_sampler"):
        raise UserError(
            "trainer.use_distributed_sampler=true: the data modules deal their rows to the ranks themselves, and "
            "Lightning's sampler would do it again. Leave it out."
        )


def check_workers(config: DictConfig) -> None:
    """A loader process for each of a thousand workers takes a machine down before it reads a row.

    Raises:
        UserError: naming how many processors there are.
    """
    workers = config.data.get("num_workers") if isinstance(config.data, DictConfig) else None
    processors = os.cpu_count() or 1
    if workers is not None and not 0 <= workers <= max(32, 2 * processors):
        raise UserError(
            f"data.num_workers={workers}: processes that load data, for each rank; this machine has {processors} "
            "processors. Give fewer; 0 loads in the training process."
        )


def check_one_folder(config: DictConfig, output_dir: Path, setting: str) -> None:
    """A run has one folder, and whoever resumes or evaluates it looks there.

    Args:
        config: The composed configuration.
        output_dir: Where Hydra puts the run.
        setting: The key that says so.

    Raises:
        UserError: `paths.output_dir` names another one, which would hold part of the run.
    """
    if Path(config.paths.output_dir).absolute() != output_dir:
        raise UserError(
            f"paths.output_dir={config.paths.output_dir} cannot be set: a run has one folder, {output_dir}. To move "
            f"results, use paths.log_dir=FOLDER (or WANAMAKER_LOG_DIR); to put them exactly there, use "
            f"{setting}={config.paths.output_dir}."
        )


def check_output(output_dir: Path, setting: str = "paths.log_dir (or WANAMAKER_LOG_DIR)") -> None:
    """Make sure files can be written under a folder that may not exist yet, leaving nothing behind.

    Raises:
        UserError: naming the folder and the setting that moves it.
    """
    existing = output_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    probe = existing / f".wanamaker-probe-{os.getpid()}"
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UserError(
            f"Cannot write results to {output_dir}: {error.strerror or error}. "
            f"Point {setting} to a folder you can write."
        ) from error
