"""`ImageFolderDataModule`: photos without annotations, for prediction."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from wanamaker.data.coco_index import CocoIndex
from wanamaker.data.detection_dataset import MAX_WORKERS, DetectionDataset
from wanamaker.data.detection_loader import loader_options, prediction_loader
from wanamaker.data.detection_options import parse_sides
from wanamaker.data.detection_sampler import DetectionCanvas, DetectionEvaluationSampler
from wanamaker.data.image_check import look_at_image
from wanamaker.data.sampler import per_rank_batch_size
from wanamaker.errors import UserError

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class ImageFolderDataModule(L.LightningDataModule):
    """All photos below a folder, in order of their paths, as `DetectionBatch`es with empty boxes and labels.

    Image ids are 1, 2, ... in that order. Pixels are taken as stored, without EXIF rotation, so that boxes refer to
    the pixels of the file; photos that carry a rotation are counted in a warning. Of an animation the first frame is
    used.

    Args:
        images: Folder, searched with its subfolders; or one image file.
        class_names: Names of labels 1..K of the model that will predict, for whoever writes the results.
        category_ids: Their ids; null numbers them from 1.
        eval_batch_size: Global batch.
        eval_short_side: Length of the shorter image side, pixels.
        max_side: Limit of the longer side, pixels.
        num_workers: Loader processes per rank.
        prefetch_factor: Batches that each worker prepares ahead.
        pin_memory: Page-locked batches; null: when there is a CUDA device.
        seed: Seeds `DetectionBatch.seeds`.
        skip_unreadable: Leave out files that cannot be decoded, with a warning, instead of stopping.
    """

    has_annotations = False

    def __init__(
        self,
        images: str,
        *,
        class_names: Sequence[str] = (),
        category_ids: Sequence[int] | None = None,
        eval_batch_size: int = 8,
        eval_short_side: int = 800,
        max_side: int = 1333,
        num_workers: int = 2,
        prefetch_factor: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.images = Path(images)
        self.class_names = list(class_names)
        self.category_ids = list(range(1, len(class_names) + 1)) if category_ids is None else list(category_ids)
        if len(self.category_ids) != len(self.class_names):
            raise UserError(
                f"data.category_ids has {len(self.category_ids)} entries for {len(self.class_names)} class names."
            )
        per_rank_batch_size(eval_batch_size, 1, "eval_batch_size")
        self.batch_size = self.eval_batch_size = eval_batch_size
        self.eval_short_side = parse_sides(eval_short_side, max_side, "eval_short_side")[0]
        self.max_side = max_side
        if not 0 <= num_workers < MAX_WORKERS:
            raise UserError(f"data.num_workers={num_workers} is outside 0..{MAX_WORKERS - 1}.")
        self.num_workers, self.prefetch_factor, self.seed = num_workers, prefetch_factor, seed
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.skip_unreadable = skip_unreadable
        self._index: CocoIndex | None = None

    @property
    def num_classes(self) -> int:
        """Number of class names, background not counted."""
        return len(self.class_names)

    def preflight(self, stages: Sequence[str] | None = None) -> None:
        """Find the photos and read their headers, before a model is built.

        Args:
            stages: Not used: there is one set of photos.

        Raises:
            UserError: no such folder, no photo in it, or photos that cannot be decoded.
        """
        if self._index is None:
            self._index = self._read_folder()

    def prepare_data(self) -> None:
        self.preflight()

    def setup(self, stage: str | None = None) -> None:
        self.preflight()

    @property
    def _folder(self) -> Path:
        return self.images.parent if self.images.is_file() else self.images

    def _read_folder(self) -> CocoIndex:
        if not self.images.exists():
            raise UserError(f"data.images={self.images} does not exist; give a folder of photos or one photo.")
        found = [self.images] if self.images.is_file() else sorted(self.images.rglob("*"))
        paths = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        if not paths:
            raise UserError(f"data.images={self.images} holds no photo ({', '.join(IMAGE_SUFFIXES)}).")
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
            facts = list(pool.map(lambda path: look_at_image(path, full=False), paths))
        bad = [f"{path} ({fact.problem})" for path, fact in zip(paths, facts, strict=True) if fact.problem]
        if bad:
            listed = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            if not self.skip_unreadable or len(bad) == len(paths):
                raise UserError(
                    f"{len(bad)} of {len(paths)} photos cannot be decoded: {listed}. Remove them, or leave them"
                    " out with data.skip_unreadable=true."
                )
            log.warning("%d of %d photos cannot be decoded and are left out: %s", len(bad), len(paths), listed)
        good = [(path, fact) for path, fact in zip(paths, facts, strict=True) if not fact.problem]
        turned = sum(fact.orientation != 1 for _, fact in good)
        if turned:
            log.warning(
                "%d of %d photos carry an EXIF rotation, which is not applied: the model sees them as stored. Rotate"
                " their pixels (PIL.ImageOps.exif_transpose) if they should be upright.",
                turned,
                len(good),
            )
        nothing = np.zeros(0, dtype=np.int64)
        return CocoIndex(
            path=self.images,
            image_id=np.arange(1, len(good) + 1),
            file_name=[str(path.relative_to(self._folder)) for path, _ in good],
            height=np.array([fact.height for _, fact in good], dtype=np.int64),
            width=np.array([fact.width for _, fact in good], dtype=np.int64),
            annotation_id=nothing,
            annotation_image=nothing,
            annotation_category=nothing,
            bbox=np.zeros((0, 4)),
            area=np.zeros(0),
            iscrowd=np.zeros(0, dtype=bool),
            category_id=np.array(self.category_ids, dtype=np.int64),
            category_name=self.class_names,
        )

    def sample_table(self) -> pd.DataFrame:
        """The photos: image_id, file_name, path, width and height in pixels of the file."""
        self.preflight()
        assert self._index is not None
        return pd.DataFrame(
            {
                "image_id": self._index.image_id,
                "file_name": self._index.file_name,
                "path": [str(self._folder / name) for name in self._index.file_name],
                "width": self._index.width,
                "height": self._index.height,
            }
        )

    def predict_dataloader(self) -> DataLoader:
        self.preflight()
        assert self._index is not None
        dataset = DetectionDataset(self._index, self._folder, seed=self.seed, max_side=self.max_side)
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        sampler = DetectionEvaluationSampler(
            DetectionCanvas(dataset.height, dataset.width, self.max_side),
            self.eval_batch_size,
            short_side=self.eval_short_side,
            rank=rank,
            world_size=world_size,
        )
        options = loader_options(self.num_workers, self.prefetch_factor, self.pin_memory, persistent=False)
        return prediction_loader(dataset, sampler, options)
