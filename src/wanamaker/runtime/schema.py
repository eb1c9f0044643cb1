"""The root schema: a misspelt top-level key fails before anything is built.

Only our own keys are typed. Nested nodes stay free-form because the signature check (`checks.check_targets`)
knows their arguments better than a mirror of third-party classes would.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Monitor:
    """The one metric that checkpointing, early stopping, schedulers and sweeps look at."""

    metric: str = MISSING
    mode: str = MISSING  # "min" or "max"


@dataclass
class TrainSchema:
    """Top-level keys of a training run."""

    experiment: str = "${hydra:runtime.choices.experiment}"
    task_name: str = MISSING  # names the folder under logs/, usually the family
    seed: int = 0  # 0 is a seed like any other
    run_id: str = "${paths.run_id}"
    # In order; of fit, validate, test, predict.
    stages: list[str] = field(default_factory=lambda: ["fit", "test"])
    # "last": this run's own newest checkpoint when there is one; a file; or null to start afresh.
    ckpt_path: str | None = "last"
    monitor: Monitor = field(default_factory=Monitor)
    tags: list[str] = field(default_factory=list)
    data: Any = None
    model: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None
    paths: Any = None


@dataclass
class EvaluateSchema:
    """Top-level keys of an evaluation; the recipe of the checkpoint fills most of them."""

    ckpt_path: str = MISSING
    experiment: str = MISSING
    task_name: str = MISSING
    seed: int = 0
    run_id: str = "${paths.run_id}"
    # Of validate, test, predict. A decision needs predictions.
    stages: list[str] = field(default_factory=lambda: ["test", "predict"])
    monitor: Monitor = field(default_factory=Monitor)
    tags: list[str] = field(default_factory=list)
    data: Any = None
    trained_on: Any = None  # the recipe's own data section, also when `data=` chooses another
    model: Any = None
    trainer: Any = None
    logger: Any = None
    callbacks: Any = None
    decision: Any = None
    paths: Any = None


STAGES = {"train": ("fit", "validate", "test", "predict"), "evaluate": ("validate", "test", "predict")}


def register() -> None:
    """Put both schemas in Hydra's ConfigStore."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainSchema, provider="wanamaker")
    store.store(name="evaluate_schema", node=EvaluateSchema, provider="wanamaker")
