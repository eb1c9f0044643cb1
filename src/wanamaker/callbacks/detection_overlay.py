"""Pictures of what a detector sees, drawn while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.errors import UserError


class DetectionOverlay(L.Callback):
    """Writes a sheet of photos with detections and annotations after validation and after test, on rank zero.

    The photos are the first of the loader, the same in every epoch, so that sheets can be compared. They also go to the
    active loggers: TensorBoard gets the sheet, W&B the photos with boxes that can be switched on and off. Photos that
    W&B does not take (a full disk, a lost service) are no reason to lose a training: the first failure is a warning.

    The module's ``validation_step`` and ``test_step`` return one dictionary per image: ``boxes`` [D, 4] xyxy in pixels
    of the file, ``scores`` [D], ``labels`` [D].

    Args:
        max_images: Photos on a sheet.
        score_threshold: Only detections of at least this score are drawn.
        every_n_epochs: Draw after each n-th training epoch's validation (and after the last epoch); test always draws.
        filename: Of the sheet, in `<output_dir>/overlays`; may use `{stage}` (val or test) and `{epoch}`, counted
            from 1, for example `{stage}_{epoch:03d}.png` to keep all of them.
        output_dir: Folder of the run; the trainer's `default_root_dir` if None.

    Raises:
        UserError: an argument out of range, or the folder cannot be written.
    """

    def __init__(
        self,
        max_images: int = 9,
        score_threshold: float = 0.5,
        every_n_epochs: int = 1,
        filename: str = "{stage}.png",
        output_dir: str | None = None,
    ) -> None:
        if max_images < 1 or every_n_epochs < 1:
            raise UserError(
                f"DetectionOverlay: max_images={max_images} and every_n_epochs={every_n_epochs} start at 1."
            )
        if not 0 <= score_threshold <= 1:
            raise UserError(f"DetectionOverlay: score_threshold={score_threshold} must lie in [0, 1]; 0.5 is usual.")
        try:
            filename.format(stage="val", epoch=1)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"DetectionOverlay: filename={filename!r} may use {{stage}} and {{epoch}}, nothing else ({error!r})."
            ) from error
        self.max_images, self.score_threshold = max_images, score_threshold
        self.every_n_epochs, self.filename = every_n_epochs, filename
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._photos: list[dict[str, Any]] = []
        self._warned = False

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._photos = []

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._photos = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self._draws_validation(trainer):
            self._collect(trainer, outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._collect(trainer, outputs, batch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draws_validation(self, trainer: L.Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        done = trainer.current_epoch + 1
        return done % self.every_n_epochs == 0 or done == trainer.max_epochs or trainer.state.fn != "fit"

    def _collect(self, trainer: L.Trainer, outputs: Any, batch: DetectionBatch) -> None:
        wanted = self.max_images - len(self._photos)
        if not trainer.is_global_zero or wanted <= 0:
            return
        if not isinstance(outputs, Sequence) or len(outputs) != len(batch.image_ids):
            raise TypeError(
                "DetectionOverlay needs a step that returns one dictionary of detections per image, "
                f"got {type(outputs).__name__} for {len(batch.image_ids)} images."
            )
        for index, found in enumerate(outputs[:wanted]):
            height, width = batch.sizes[index].tolist()
            file_height, file_width = batch.original_sizes[index].tolist()
            to_image = np.array([width / file_width, height / file_height] * 2)
            scores = _numpy(found["scores"])
            keep = scores >= self.score_threshold
            photo = {
                "id": int(batch.image_ids[index]),
                "image": batch.images[index, :, :height, :width].permute(1, 2, 0).cpu().numpy().copy(),
                "boxes": _numpy(found["boxes"]).reshape(-1, 4)[keep] * to_image,
                "scores": scores[keep],
                "labels": _numpy(found["labels"]).astype(np.int64)[keep],
                "truth_boxes": None,
            }
            if batch.ground_truth:
                truth = batch.ground_truth[index]
                single = _numpy(truth["iscrowd"]) == 0
                boxes = _numpy(truth["boxes"]).reshape(-1, 4)[single]
                boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
                photo["truth_boxes"] = boxes * to_image
                photo["truth_labels"] = _numpy(truth["labels"]).astype(np.int64)[single]
            self._photos.append(photo)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        photos, self._photos = self._photos, []
        if not photos:
            return
        # Pillow and matplotlib's fonts are not needed before the first sheet.
        from wanamaker.predictions import atomic_path
        from wanamaker.reporting.contact_sheet import Tile, contact_sheet

        names = _class_names(trainer, pl_module, photos)
        tiles = [Tile(p["image"], _caption(p), p["boxes"], p["labels"], p["scores"], p["truth_boxes"]) for p in photos]
        epoch = trainer.current_epoch + 1
        title = "Test" if stage == "test" else f"Validation, epoch {epoch}"
        subtitle = f"{len(photos)} photos, detections with a score of {self.score_threshold:g} and above"
        sheet = contact_sheet(tiles, names, title=title, subtitle=subtitle, tile_side=480)
        folder = self.output_dir or Path(trainer.default_root_dir)
        path = folder / "overlays" / self.filename.format(stage=stage, epoch=epoch)
        with atomic_path(path) as temporary:
            sheet.save(temporary, compress_level=4)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                try:
                    self._log_to_wandb(logger, photos, names, stage, trainer.global_step)
                except Exception as error:  # whatever W&B raises: its own errors, the system's, a service that is gone
                    self._warn_once(error, path)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    f"{stage}/overlay", np.asarray(sheet), trainer.global_step, dataformats="HWC"
                )

    def _warn_once(self, error: Exception, path: Path) -> None:
        if not self._warned:
            rank_zero_warn(
                f"W&B did not take the overlay photos ({type(error).__name__}: {error}). They are still in {path}; "
                "the run goes on, and further failures of this kind are not reported."
            )
            self._warned = True

    @staticmethod
    def _log_to_wandb(
        logger: WandbLogger, photos: list[dict[str, Any]], names: list[str], stage: str, step: int
    ) -> None:
        labels = dict(enumerate(names, start=1))
        boxes = []
        for photo in photos:
            layers = {
                "predictions": {
                    "box_data": [
                        _wandb_box(box, label, f"{labels[int(label)]} {score:.2f}")
                        | {"scores": {"score": float(score)}}
                        for box, label, score in zip(photo["boxes"], photo["labels"], photo["scores"], strict=True)
                    ],
                    "class_labels": labels,
                }
            }
            if photo["truth_boxes"] is not None:
                truth = zip(photo["truth_boxes"], photo["truth_labels"], strict=True)
                layers["ground_truth"] = {
                    "box_data": [_wandb_box(box, label, labels[int(label)]) for box, label in truth],
                    "class_labels": labels,
                }
            boxes.append(layers)
        logger.log_image(
            f"{stage}/overlay",
            [photo["image"] for photo in photos],
            step=step,
            caption=[_caption(photo) for photo in photos],
            boxes=boxes,
        )


def _wandb_box(box: np.ndarray, label: int, caption: str) -> dict[str, Any]:
    corners = dict(zip(("minX", "minY", "maxX", "maxY"), (float(v) for v in box), strict=True))
    return {"position": corners, "domain": "pixel", "class_id": int(label), "box_caption": caption}


def _caption(photo: dict[str, Any]) -> str:
    truth = "" if photo["truth_boxes"] is None else f", {len(photo['truth_boxes'])} annotated"
    return f"image {photo['id']}: {len(photo['boxes'])} found{truth}"


def _class_names(trainer: L.Trainer, pl_module: L.LightningModule, photos: list[dict[str, Any]]) -> list[str]:
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        names = getattr(owner, "class_names", None)
        if names:
            return list(names)
    labels = [label for p in photos for label in (*p["labels"], *p.get("truth_labels", ()))]
    return [f"class_{k}" for k in range(1, int(max(labels, default=1)) + 1)]


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()
