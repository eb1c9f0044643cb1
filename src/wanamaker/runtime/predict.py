"""Predictions of all ranks as one artefact on disk."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.predictions import read_predictions
from wanamaker.runtime.build import Parts


class _Collect(Callback):
    """Keeps what `predict_step` returns. Lightning's own list would take our immutable artefacts apart."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.outputs.append(outputs)


def predict(parts: Parts, output_dir: Path) -> Any:
    """Run the prediction loop on every rank and merge the parts.

    Args:
        parts: A built run whose model holds the weights to use.
        output_dir: The merged artefact goes to `output_dir/predictions`.

    Returns:
        The merged artefact (see `wanamaker.predictions`) on rank zero; None on the others.
    """
    trainer, collect = parts.trainer, _Collect()
    trainer.callbacks.append(collect)
    try:
        trainer.predict(parts.model, datamodule=parts.data, return_predictions=False)
    finally:
        trainer.callbacks.remove(collect)
    folder = output_dir / "predictions"
    # A rank of a very small data set may have had no batch.
    merged = type(collect.outputs[0]).concat(collect.outputs) if collect.outputs else None
    if trainer.world_size == 1:
        assert merged is not None, "a data module refuses data without a row"
        merged.write(folder)
        return merged
    shards = output_dir / ".prediction-shards"
    if merged is not None:
        merged.write(shards / f"rank-{trainer.global_rank:05d}")
    trainer.strategy.barrier("predictions written")
    if not trainer.is_global_zero:
        return None
    written = [read_predictions(shard) for shard in sorted(shards.iterdir())]
    merged = type(written[0]).concat(written)
    merged.write(folder)
    shutil.rmtree(shards)
    return merged
