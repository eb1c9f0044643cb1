"""Every instantiate call of the house: from a checked configuration to live objects."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from wanamaker.callbacks.preemption import Preemption
from wanamaker.callbacks.without_validation import WithoutValidation
from wanamaker.errors import UserError
from wanamaker.runtime.checkpoint import AtomicCheckpointIO, EmbedRecipe, portable_recipe

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


def build(config: DictConfig, world_size: int = 1) -> Parts:
    """Instantiate data, model, loggers, callbacks and trainer.

    Args:
        config: A checked configuration.
        world_size: Number of ranks of the run.
    """
    data = build_data(config)
    model = build_model(config)
    trainer_config = OmegaConf.to_container(config.trainer, resolve=True)
    debugging = bool(trainer_config.get("fast_dev_run"))
    loggers = [] if debugging else _listed(config.logger)
    recipe = portable_recipe(config)
    callbacks: list[Callback] = [*_listed(config.callbacks), EmbedRecipe(recipe), Preemption(), WithoutValidation()]
    if world_size > 1 and trainer_config.get("strategy") in (None, "auto", "ddp"):
        # Our losses use every parameter on every rank: no search for unused ones.
        trainer_config["strategy"] = None
    if not _has_checkpointing(callbacks):
        trainer_config.setdefault("enable_checkpointing", False)
    if not any("ProgressBar" in kind.__name__ for callback in callbacks for kind in type(callback).__mro__):
        trainer_config.setdefault("enable_progress_bar", False)
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


def _has_checkpointing(callbacks: list[Callback]) -> bool:
    from lightning.pytorch.callbacks import Checkpoint

    return any(isinstance(callback, Checkpoint) for callback in callbacks)
