"""Every instantiate call of the house: from a checked configuration to live objects."""

import inspect
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from wanamaker.callbacks.preemption import Preemption
from wanamaker.callbacks.watched_metrics import WatchedMetrics
from wanamaker.callbacks.without_validation import WithoutValidation
from wanamaker.errors import UserError
from wanamaker.nn.schedules import make_schedule
from wanamaker.runtime.checkpoint import AtomicCheckpointIO, EmbedRecipe, portable_recipe
from wanamaker.runtime.checks import nodes_with_target
from wanamaker.runtime.console import quieten

PROCESS_GROUP_TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others in one collective: rank zero may be evaluating or rendering meanwhile."""


@dataclass
class Parts:
    """The live objects of one run."""

    data: LightningDataModule
    model: LightningModule
    trainer: Trainer
    loggers: list[Logger]


def _make(node: Any, **overridden: Any) -> Any:
    """Instantiate one node; a value that its constructor refuses is a mistake of the user, told with its place."""
    try:
        return instantiate(node, _convert_="all", **overridden)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError | MisconfigurationException):
            place = str(error).partition("full_key: ")[2].strip()
            raise UserError(f"{place}: {cause}" if place else str(cause)) from error
        raise


def _listed(node: DictConfig | None) -> list[Any]:
    """Instantiate the entries of a keyed group; a null entry is switched off."""
    if node is None:
        return []
    return [_make(entry) for entry in node.values() if entry is not None]


def build_data(config: DictConfig) -> LightningDataModule:
    """The data module alone, to check its files before anything else is built."""
    return _make(config.data)


def build_model(config: DictConfig) -> LightningModule:
    """The model alone; building it checks its options and the files it starts from."""
    return _make(config.model)


def build_decision(config: DictConfig) -> Any:
    """What the predictions are handed to; building it checks its options."""
    return _make(config.decision)


def check_decision(decision: Any, model: LightningModule, experiment: str) -> None:
    """Refuse, before anything is predicted, a decision that reads other predictions than the model makes.

    A decision says in `reads`, a model in `predicts`, the kind of `wanamaker.predictions` it means.

    Raises:
        UserError: naming both.
    """
    reads, predicts = getattr(decision, "reads", None), getattr(model, "predicts", None)
    if reads is not None and predicts is not None and reads != predicts:
        raise UserError(
            f"The decision {type(decision).__name__} reads predictions of kind {reads!r}; this checkpoint (experiment "
            f"{experiment}) makes {predicts!r}. Choose another decision, or a checkpoint of another family."
        )


def check_question(decision: Any, model: LightningModule) -> None:
    """Refuse, before anything is predicted, a decision that asks for names which the predictions will not have.

    A module that knows these names once its checkpoint was read gives, by `predictions_without_rows`, an artefact
    that holds nothing else; a decision `check`s itself against it.

    Raises:
        UserError: whatever the decision would refuse the predictions for.
    """
    if hasattr(decision, "check") and hasattr(model, "predictions_without_rows"):
        decision.check(model.predictions_without_rows())


def rehearse(config: DictConfig, alone: bool) -> None:
    """Build trainer, callbacks, optimisers and schedules for nothing, so that what they refuse is told before a run.

    Args:
        config: A checked configuration.
        alone: Whether this process is no rank: its trainer then has one device, whatever the run will have.

    Raises:
        UserError: a value that one of them refuses, with its place.
    """
    quieten()
    if "fit" in config.stages:
        for path, node in nodes_with_target(config.model, "model"):
            if node.get("_partial_", False):
                _rehearse_training(node, path)
    callbacks = _listed(config.callbacks)
    options = _trainer_options(config, callbacks) | ({"devices": 1, "num_nodes": 1} if alone else {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will say them
            _make(options, callbacks=callbacks, logger=False)
    except UserError as error:
        raise UserError(f"trainer: {error}") from error


def _trainer_options(config: DictConfig, callbacks: list[Callback]) -> dict[str, Any]:
    """The recipe's options; checkpoints and a progress bar are those of the callbacks, or none."""
    options: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    if not any(isinstance(callback, Checkpoint) for callback in callbacks):
        options.setdefault("enable_checkpointing", False)
    if not any("ProgressBar" in kind.__name__ for callback in callbacks for kind in type(callback).__mro__):
        options.setdefault("enable_progress_bar", False)
    return options


def _rehearse_training(node: DictConfig, path: str) -> None:
    """Call a partial optimiser or schedule with one parameter; others are left alone."""
    made = _make(node)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    kind = made.func
    try:
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            made([torch.nn.Parameter(torch.zeros(1))])
        elif next(iter(inspect.signature(kind).parameters), "") == "optimizer":
            make_schedule(made, optimizer, 1000)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {error}") from error
    except TypeError as error:  # says what is wrong with a value, and not with which
        given = ", ".join(f"{name}={value!r}" for name, value in made.keywords.items()) or "no options"
        raise UserError(f"{path} cannot be built from {given}: {error}") from error


def build(config: DictConfig, world_size: int = 1) -> Parts:
    """Instantiate data, model, loggers, callbacks and trainer.

    Args:
        config: A checked configuration.
        world_size: Number of ranks of the run.
    """
    data = build_data(config)
    model = build_model(config)
    debugging = bool(config.trainer.get("fast_dev_run"))
    loggers = [] if debugging else _listed(config.logger)
    recipe = portable_recipe(config)
    callbacks: list[Callback] = [WatchedMetrics(), *_listed(config.callbacks), EmbedRecipe(recipe)]
    callbacks += [Preemption(), WithoutValidation()]
    trainer_config = _trainer_options(config, callbacks)
    if world_size > 1 and trainer_config.get("strategy") in (None, "auto", "ddp"):
        # Our losses use every parameter on every rank: no search for unused ones.
        trainer_config["strategy"] = None
    overridden: dict[str, Any] = {"callbacks": callbacks, "logger": loggers or False, "plugins": [AtomicCheckpointIO()]}
    if trainer_config.get("strategy", "auto") is None:
        trainer_config.pop("strategy")
        overridden["strategy"] = DDPStrategy(
            find_unused_parameters=False, gradient_as_bucket_view=True, timeout=PROCESS_GROUP_TIMEOUT
        )
    trainer = _make(trainer_config, **overridden)
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    return Parts(data, model, trainer, loggers)
