"""Hand predictions to the decision that the configuration names."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from wanamaker.errors import UserError
from wanamaker.runtime.build import Parts


def decide(config: DictConfig, parts: Parts, predictions: Any, metrics: dict[str, float]) -> list[Path]:
    """Write the tables, figures and report of `config.decision` to the output directory; rank zero only.

    Raises:
        UserError: when there are no predictions to decide on.
    """
    if predictions is None:
        raise UserError("A decision needs predictions: add predict to stages, stages=[predict].")
    decision = instantiate(config.decision, _convert_="all")
    output_dir = Path(config.paths.output_dir)
    run = {
        "run_id": str(config.run_id),
        "experiment": config.experiment,
        "checkpoint": str(config.ckpt_path),
        "monitor": config.monitor.metric,
    }
    written = decision.write(predictions, parts.data.image_table(), output_dir, metrics, run)
    print("\n".join(f"Wrote {path}" for path in written), flush=True)
    return written
