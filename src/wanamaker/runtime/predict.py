"""Predictions of all ranks as one artefact on disk."""

import shutil
from pathlib import Path
from typing import Any

from wanamaker.predictions import read_predictions
from wanamaker.runtime.build import Parts


def predict(parts: Parts, output_dir: Path) -> Any:
    """Run the prediction loop on every rank and merge the parts.

    Args:
        parts: A built run whose model holds the weights to use.
        output_dir: The merged artefact goes to `output_dir/predictions`.

    Returns:
        The merged artefact (see `wanamaker.predictions`) on rank zero; None on the others.
    """
    trainer = parts.trainer
    outputs = trainer.predict(parts.model, datamodule=parts.data, return_predictions=True)
    folder = output_dir / "predictions"
    if trainer.world_size == 1:
        merged = type(outputs[0]).concat(outputs)
        merged.write(folder)
        return merged
    shards = output_dir / ".prediction-shards"
    if outputs:  # a rank of a very small data set may have had no batch
        type(outputs[0]).concat(outputs).write(shards / f"rank-{trainer.global_rank:05d}")
    trainer.strategy.barrier("predictions written")
    if not trainer.is_global_zero:
        return None
    written = [read_predictions(shard) for shard in sorted(shards.iterdir())]
    merged = type(written[0]).concat(written)
    merged.write(folder)
    shutil.rmtree(shards)
    return merged
