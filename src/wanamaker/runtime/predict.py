"""Predictions of all ranks as one artefact on disk."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.predictions import KINDS, parts_of, read_predictions
from wanamaker.runtime.build import Parts


class _Collect(Callback):
    """Takes what `predict_step` returns, and writes it when its context is left without an error.

    Lightning's own list would take our immutable artefacts apart. One whose type has a `writer` goes to disk batch by
    batch; the others are kept.

    Args:
        folder: Of the artefact.

    Attributes:
        kind: Of the artefact; None without a batch.
        merged: The artefact, unless it went to disk batch by batch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kind: Any = None
        self.merged: Any = None
        self._outputs: list[Any] = []
        self._writer: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> "_Collect":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None and self._outputs:
            self.merged = self.kind.concat(self._outputs)
            self.merged.write(self.folder)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.kind is None:
            self.kind = type(outputs)
            if hasattr(self.kind, "writer"):
                self._writer = self._stack.enter_context(self.kind.writer(self.folder))
        if self._writer is None:
            self._outputs.append(outputs)
        else:
            self._writer.add(outputs)


def predict(parts: Parts, output_dir: Path, keep: bool = True) -> Any:
    """Run the prediction loop on every rank and merge the parts.

    Args:
        parts: A built run whose model holds the weights to use.
        output_dir: The merged artefact goes to `output_dir/predictions`.
        keep: Whether it is needed in memory, too.

    Returns:
        The merged artefact (see `wanamaker.predictions`) on rank zero with `keep`; else None.
    """
    trainer = parts.trainer
    folder, shards = output_dir / "predictions", output_dir / ".prediction-shards"
    alone = trainer.world_size == 1
    with _Collect(folder if alone else shards / f"rank-{trainer.global_rank:05d}") as collect:
        trainer.callbacks.append(collect)
        try:
            trainer.predict(parts.model, datamodule=parts.data, return_predictions=False)
        finally:
            trainer.callbacks.remove(collect)
    # A rank of a very small data set may have had no batch.
    assert collect.kind is not None or not alone, "a data module refuses data without a row"
    if not alone:
        trainer.strategy.barrier("predictions written")
        if not trainer.is_global_zero:
            return None
        collect.merged = _merge(sorted(shards.iterdir()), folder)
        shutil.rmtree(shards)
    if not keep:
        return None
    return read_predictions(folder) if collect.merged is None else collect.merged


def _merge(shards: list[Path], folder: Path) -> Any:
    """Write the ranks' artefacts as one; it is returned unless its parts went from disk to disk."""
    kind = next(kind for kind in KINDS.values() if (shards[0] / kind.file_name).exists())
    if hasattr(kind, "writer"):
        with kind.writer(folder) as writer:
            for shard in shards:
                for part in parts_of(kind, shard / kind.file_name):
                    writer.add(part)
        return None
    written = [read_predictions(shard) for shard in shards]
    merged = kind.concat(written)
    merged.write(folder)
    return merged
