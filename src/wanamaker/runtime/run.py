"""The stages of a run, executed alike by the only process and by every rank of many."""

import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from wanamaker.errors import UserError
from wanamaker.nn.pretrained import without_pretrained_weights
from wanamaker.predictions import atomic_path
from wanamaker.runtime import checkpoint
from wanamaker.runtime.build import Parts, build
from wanamaker.runtime.console import quieten
from wanamaker.runtime.predict import predict


def world_size() -> int:
    """Number of ranks of this run, from the environment of whoever started them."""
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))


def resume_path(config: DictConfig, output_dir: Path) -> Path | None:
    """The checkpoint that training goes on from, or that the stages use when none of them trains.

    Returns:
        None when training starts afresh: `ckpt_path=null`, or `last` and the run has none yet.

    Raises:
        UserError: when nothing is trained and nothing was.
    """
    fits = "fit" in config.stages
    if config.ckpt_path not in (None, "last"):
        return Path(config.ckpt_path)
    if config.ckpt_path == "last":
        for name in ("last.ckpt",) if fits else ("best.ckpt", "last.ckpt"):
            if (output_dir / "checkpoints" / name).exists():
                return output_dir / "checkpoints" / name
    if not fits:
        raise UserError(
            f"stages={list(config.stages)} needs a trained model: name it with ckpt_path=FILE, "
            "name the run that has one with run_id=NAME, or add fit to the stages."
        )
    return None


def train(config: DictConfig) -> float | None:
    """Run the stages of a training run and write `metrics.json`.

    Args:
        config: A composed and checked configuration.

    Returns:
        The monitored metric of the best checkpoint, for a sweeper; None when the stages produce none.
    """
    started = time.monotonic()
    resume = resume_path(config, Path(config.paths.output_dir))
    quieten()
    seed_everything(config.seed, workers=True, verbose=False)
    # Weights to start from are not needed, and need not be on disk any more, where a checkpoint replaces them.
    with nullcontext() if resume is None else without_pretrained_weights():
        parts = build(config, world_size())
    trainer = parts.trainer
    metrics: dict[str, float] = {}
    for stage in config.stages:
        if stage == "fit":
            if resume is not None and trainer.is_global_zero:
                print(f"Resuming from {resume}", flush=True)
            trainer.fit(parts.model, datamodule=parts.data, ckpt_path=resume and str(resume))
            metrics |= _fit_metrics(trainer)
        elif stage in ("validate", "test"):
            metrics |= _evaluate_best(stage, parts, resume)
        else:
            _load_best(parts, resume)
            predict(parts, Path(config.paths.output_dir), keep=False)
    value = _summarise(config, trainer, metrics, started)
    _close_loggers(trainer)
    return value


def evaluate(config: DictConfig) -> float | None:
    """Rebuild a model from its checkpoint, score it, predict, and hand the predictions to a decision.

    Args:
        config: The recipe of the checkpoint with the overrides of the command line.

    Returns:
        The monitored metric where the stages produce it.
    """
    started = time.monotonic()
    quieten()
    seed_everything(config.seed, workers=True, verbose=False)
    with without_pretrained_weights():
        parts = build(config, world_size())
    trainer = parts.trainer
    _load_weights(parts, Path(config.ckpt_path))
    metrics: dict[str, float] = {}
    output_dir = Path(config.paths.output_dir)
    predictions = None
    for stage in config.stages:
        if stage == "predict":
            predictions = predict(parts, output_dir, keep=config.get("decision") is not None)
        elif not getattr(parts.data, "has_annotations", True):
            if trainer.is_global_zero:
                print(f"Stage {stage} is left out: these data have no annotations to score against.", flush=True)
        else:
            run_stage: Callable[..., Any] = getattr(trainer, stage)
            run_stage(parts.model, datamodule=parts.data, verbose=False)
            metrics |= _scalars(trainer)
    value = _summarise(config, trainer, metrics, started)
    if config.get("decision") is not None and trainer.is_global_zero:
        from wanamaker.runtime.decide import decide, log_figures

        log_figures(decide(config, parts, predictions, metrics), trainer)
    _close_loggers(trainer)
    return value


ENTRIES: dict[str, Callable[[DictConfig], float | None]] = {"train": train, "evaluate": evaluate}


def _scalars(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _best_path(trainer: Trainer) -> Path | None:
    """The checkpoint of the best epoch; of the last one where nothing says which is best."""
    for callback in trainer.checkpoint_callbacks:
        for name in ("best_model_path", "last_model_path"):
            path = getattr(callback, name, "")
            if path and Path(path).exists():
                return Path(path)
    return None


def _fit_metrics(trainer: Trainer) -> dict[str, float]:
    """Metrics of the best epoch where a checkpoint remembers them, of the last epoch otherwise."""
    metrics = _scalars(trainer)
    best = _best_path(trainer)
    return metrics | checkpoint.logged_metrics(best) if best is not None else metrics


def _load_weights(parts: Parts, path: Path) -> None:
    loaded = checkpoint.load(path)
    parts.model.on_load_checkpoint(loaded)
    try:
        parts.model.load_state_dict(loaded["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"The checkpoint {path} does not fit the model of its recipe with these overrides: "
            f"{' '.join(str(error).split())[:400]}"
        ) from error


def _load_best(parts: Parts, resume: Path | None) -> None:
    path = _best_path(parts.trainer) or resume
    if path is not None:
        _load_weights(parts, path)


def _evaluate_best(stage: str, parts: Parts, resume: Path | None) -> dict[str, float]:
    _load_best(parts, resume)
    run_stage: Callable[..., Any] = getattr(parts.trainer, stage)
    run_stage(parts.model, datamodule=parts.data, verbose=False)
    return _scalars(parts.trainer)


def _summarise(config: DictConfig, trainer: Trainer, metrics: dict[str, float], started: float) -> float | None:
    value = metrics.get(config.monitor.metric)
    best = _best_path(trainer)
    if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
        summary = {
            "run_id": str(config.run_id),
            "experiment": config.experiment,
            "seed": config.seed,
            "monitor": {**OmegaConf.to_container(config.monitor), "value": value},  # type: ignore[dict-item]
            "metrics": dict(sorted(metrics.items())),
            "best_checkpoint": str(best) if best else config.ckpt_path,
            "epochs": trainer.current_epoch,
            "optimizer_steps": trainer.global_step,
            "world_size": trainer.world_size,
            "seconds": round(time.monotonic() - started, 1),
            "versions": {
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "wanamaker": importlib.metadata.version("wanamaker"),
            },
        }
        write_json(Path(config.paths.output_dir) / "metrics.json", summary)
        print(f"Results: {config.paths.output_dir}", flush=True)
    return value


def _close_loggers(trainer: Trainer) -> None:
    for logger in trainer.loggers:
        logger.finalize("success")
        if hasattr(logger, "finish"):  # W&B: the run is over, not only this stage of it
            logger.finish()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
