"""Hand predictions to the decision that the configuration names."""

from collections import Counter
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from wanamaker.errors import UserError
from wanamaker.runtime.build import Parts, build_decision


def decide(config: DictConfig, parts: Parts, predictions: Any, metrics: dict[str, float]) -> list[Path]:
    """Write the tables, figures and report of `config.decision` to the output directory; rank zero only.

    Raises:
        UserError: when there are no predictions to decide on.
    """
    if predictions is None:
        raise UserError("A decision needs predictions: add predict to stages, stages=[predict].")
    decision = build_decision(config)
    output_dir = Path(config.paths.output_dir)
    run: dict[str, Any] = {
        "run_id": str(config.run_id),
        "experiment": config.experiment,
        "checkpoint": str(config.ckpt_path),
        "monitor": config.monitor.metric,
    }
    allowed = config.data.get("allow") if isinstance(config.data, DictConfig) else None
    if allowed:  # findings of the data's checks that the user let through: a reader has to know
        run["allowed"] = [allowed] if isinstance(allowed, str) else [str(name) for name in allowed]
    # What lies behind the rows of the predictions, such as photos; None where the predictions say all.
    samples = parts.data.sample_table() if hasattr(parts.data, "sample_table") else None
    written = decision.write(predictions, samples, output_dir, metrics, run)
    folders = Counter(path.parent for path in written)
    for folder, count in folders.items():
        names = [path.name for path in written if path.parent == folder]
        what = ", ".join(names) if count <= 8 else f"{count} files"
        print(f"Wrote {folder}: {what}", flush=True)
    return written


def log_figures(written: list[Path], trainer: Trainer) -> None:
    """Show the figures of a decision in the loggers that take pictures: W&B and TensorBoard.

    Args:
        written: what the decision wrote; PNG files are figures.
        trainer: whose loggers they go to.
    """
    figures = [path for path in written if path.suffix == ".png"]
    for logger in trainer.loggers:
        for path in figures:
            name = f"decision/{path.stem}"
            if hasattr(logger, "log_image"):
                logger.log_image(key=name, images=[str(path)])
            elif hasattr(getattr(logger, "experiment", None), "add_image"):
                import numpy as np
                from PIL import Image

                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
