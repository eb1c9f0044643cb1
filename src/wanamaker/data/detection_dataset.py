"""Map dataset over a `CocoIndex`: a `SampleKey` in, one prepared image with its boxes out."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.utils.data import Dataset, get_worker_info

from wanamaker.data.coco_index import CocoIndex
from wanamaker.data.detection_batch import DetectionSample
from wanamaker.data.detection_transforms import Augmentation, decode_image, prepare_image, solid_boxes
from wanamaker.data.sampler import SampleKey, stable_seed
from wanamaker.errors import UserError

MAX_WORKERS = 256
"""Most loader processes of a rank."""


class ImageCache:
    """All images of a dataset, decoded, in one block of memory: uint8, about 0.9 MB for 640 x 480.

    Filled before the loader forks, so that its workers share the block instead of copying it. The batches are the
    same as without it.

    Args:
        paths: Image files.
        heights: int [I], pixels; widths likewise.

    Raises:
        UserError: more than the free memory is needed, or a file differs from its declared size.
    """

    def __init__(self, paths: list[Path], heights: np.ndarray, widths: np.ndarray) -> None:
        self.heights, self.widths = heights, widths
        self.offsets = np.concatenate([[0], np.cumsum(heights * widths * 3)])
        needed, free = int(self.offsets[-1]), psutil.virtual_memory().available
        if needed > 0.8 * free:
            raise UserError(
                f"data.cache=ram needs {needed / 2**30:.1f} GiB for {len(paths)} images and {free / 2**30:.1f} GiB are"
                " free; use data.cache=none with more data.num_workers, or a smaller subset."
            )
        self.pixels = np.empty(needed, dtype=np.uint8)

        def fill(row: int) -> None:
            decoded = decode_image(paths[row])
            if decoded.shape[:2] != (heights[row], widths[row]):
                raise UserError(
                    f"Image {paths[row]} is {decoded.shape[1]} x {decoded.shape[0]} pixels and annotated as"
                    f" {widths[row]} x {heights[row]}; run with data.check=headers."
                )
            self[row][:] = decoded

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(paths))))

    def __getitem__(self, row: int) -> np.ndarray:
        """Pixels of one image, uint8 [H, W, 3], a view."""
        block = self.pixels[self.offsets[row] : self.offsets[row + 1]]
        return block.reshape(int(self.heights[row]), int(self.widths[row]), 3)


class DetectionDataset(Dataset):
    """Images and boxes of one split.

    Args:
        index: The images in use, with the annotations of the categories in use.
        folder: Where the images lie.
        seed: Seeds everything random, together with epoch and row.
        max_side: Limit of the longer side after resizing, pixels.
        augmentation: None for evaluation.
        with_ground_truth: Hand out the complete annotations beside the boxes to train on.
        cache: `none` or `ram` (see `ImageCache`).
    """

    def __init__(
        self,
        index: CocoIndex,
        folder: Path,
        *,
        seed: int,
        max_side: int,
        augmentation: Augmentation | None = None,
        with_ground_truth: bool = False,
        cache: str = "none",
    ) -> None:
        self.paths = [folder / name for name in index.file_name]
        self.image_id, self.height, self.width = index.image_id, index.height, index.width
        self.seed, self.max_side, self.augmentation = seed, max_side, augmentation
        self.with_ground_truth = with_ground_truth
        self._group_annotations(index)
        self.images = ImageCache(self.paths, self.height, self.width) if cache == "ram" else None
        # One row per worker process: no lock, no lost counts. Columns: degenerate after resizing, cropped away.
        self.dropped = torch.zeros((MAX_WORKERS, 2), dtype=torch.int64).share_memory_()

    def _group_annotations(self, index: CocoIndex) -> None:
        by_id = np.argsort(index.image_id, kind="stable")
        image = by_id[np.searchsorted(index.image_id, index.annotation_image, sorter=by_id)] if len(by_id) else by_id
        order = np.argsort(image, kind="stable")
        image = image[order]
        self.first = np.searchsorted(image, np.arange(len(index.image_id) + 1))
        self.bbox, self.area, self.iscrowd = index.bbox[order], index.area[order], index.iscrowd[order]
        ids, _ = index.ordered_categories()
        self.label = np.searchsorted(np.array(ids, dtype=np.int64), index.annotation_category[order]) + 1
        corners = np.concatenate([self.bbox[:, :2], self.bbox[:, :2] + self.bbox[:, 2:]], axis=1)
        limit = np.stack([self.width, self.height, self.width, self.height], axis=1)[image]
        self.corners = np.clip(corners, 0, limit).astype(np.float32)  # x1 y1 x2 y2, pixels of the file
        solid = (self.corners[:, 2:] > self.corners[:, :2]).all(axis=1)
        self.trainable = solid & ~self.iscrowd
        self.num_degenerate = int((~solid & ~self.iscrowd).sum())
        self.num_clipped = int(((np.abs(corners - self.corners) > 0.01).any(axis=1) & self.trainable).sum())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: SampleKey) -> DetectionSample:
        row = key.index
        pixels = decode_image(self.paths[row]) if self.images is None else self.images[row]
        height, width = pixels.shape[:2]
        if (height, width) != (self.height[row], self.width[row]):
            raise UserError(
                f"Image {self.paths[row]} is {width} x {height} pixels and annotated as"
                f" {self.width[row]} x {self.height[row]}; run with data.check=headers to list all such images."
            )
        mine = slice(self.first[row], self.first[row + 1])
        trainable = self.trainable[mine]
        boxes = torch.from_numpy(self.corners[mine][trainable])
        labels = torch.from_numpy(self.label[mine][trainable])
        seed = stable_seed(self.seed, key.epoch, row)
        image, boxes = prepare_image(
            pixels,
            boxes,
            short_side=key.short_side,
            max_side=self.max_side,
            seed=seed,
            augmentation=self.augmentation,
        )
        solid = solid_boxes(boxes)
        if not solid.all():
            self._count_dropped(boxes[~solid])
            boxes, labels = boxes[solid], labels[solid]
        return DetectionSample(
            image=image,
            canvas=(key.canvas_h, key.canvas_w),
            original_size=(height, width),
            image_id=int(self.image_id[row]),
            seed=seed,
            boxes=boxes,
            labels=labels,
            ground_truth=self.ground_truth(row) if self.with_ground_truth else None,
        )

    def ground_truth(self, row: int) -> dict[str, torch.Tensor]:
        """Everything annotated on one image, as in `DetectionBatch.ground_truth`."""
        mine = slice(self.first[row], self.first[row + 1])
        return {
            "boxes": torch.from_numpy(self.bbox[mine].copy()),
            "labels": torch.from_numpy(self.label[mine].copy()),
            "area": torch.from_numpy(self.area[mine].copy()),
            "iscrowd": torch.from_numpy(self.iscrowd[mine].astype(np.int64)),
        }

    def _count_dropped(self, boxes: torch.Tensor) -> None:
        worker = get_worker_info()
        row = self.dropped[0 if worker is None else worker.id + 1]
        # A crop leaves boxes beside it with no extent at all; a box that was thin before only gets thinner.
        gone = ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(dim=1).sum()
        row[0] += len(boxes) - gone
        row[1] += gone

    def report(self) -> dict[str, int]:
        """Counts: images, boxes to train on, and what was left out or changed."""
        return {
            "images": len(self.paths),
            "images_without_boxes": int((np.diff(self.first) == 0).sum()),
            "boxes": int(self.trainable.sum()),
            "crowd_boxes": int(self.iscrowd.sum()),
            "degenerate_boxes_dropped": self.num_degenerate,
            "boxes_clipped": self.num_clipped,
            "degenerate_after_resize": int(self.dropped[:, 0].sum()),
            "cropped_away": int(self.dropped[:, 1].sum()),
        }
