"""The batch that every detection data source yields and every detection module takes.

Axis letters: B images of this rank, H and W canvas, N boxes to train on, M annotated boxes.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor


class DetectionBatch(NamedTuple):
    """Images of one rank on the canvas of their *global* batch, with what is known about them.

    Attributes:
        images: uint8 [B, 3, H, W], zero outside each image; H and W are multiples of 32 and the same on every rank.
        sizes: int64 [B, 2], (height, width) of the resized image inside the canvas, top left aligned.
        original_sizes: int64 [B, 2], (height, width) of the file.
        image_ids: int64 [B], ids of the annotation file.
        seeds: int64 [B], `stable_seed(seed, epoch, index)`: every random choice about this image draws from it.
        boxes: B tensors float32 [N, 4], x1 y1 x2 y2 in canvas pixels; without crowds and degenerate boxes; N may be 0.
        labels: B tensors int64 [N], 1..K in ascending order of category id; 0 is the background.
        ground_truth: Evaluation batches: B dictionaries with everything that is annotated, crowds included:
            boxes float64 [M, 4] (x y width height, pixels of the file), labels int64 [M], area float64 [M],
            iscrowd int64 [M]. Empty list in training and prediction batches.
    """

    images: Tensor
    sizes: Tensor
    original_sizes: Tensor
    image_ids: Tensor
    seeds: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    ground_truth: list[dict[str, Tensor]]

    def to(self, device: torch.device | str) -> DetectionBatch:
        """The batch with what a net reads on a device; Lightning calls this.

        Ground truth, ids and sizes of files are used on the CPU and stay there.

        Raises:
            ValueError: boxes or labels that cannot be trained on, see `check_targets`.
        """
        device = torch.device(device)
        if self.images.device == device:
            return self
        check_targets(self.boxes, self.labels)  # here, because a look at values on a GPU would stall it
        moved = partial(Tensor.to, device=device, non_blocking=device.type == "cuda")
        counts = [len(boxes) for boxes in self.boxes]
        batch = self._replace(images=moved(self.images), sizes=moved(self.sizes), seeds=moved(self.seeds))
        if not counts:
            return batch
        # One copy for all images instead of one each.
        boxes, labels = (moved(torch.cat(parts)).split(counts) for parts in (self.boxes, self.labels))
        return batch._replace(boxes=list(boxes), labels=list(labels))


def check_targets(boxes: list[Tensor], labels: list[Tensor], num_classes: int | None = None) -> None:
    """Refuse targets that would become NaN or an index error inside a loss.

    Args:
        boxes: per image xyxy [N, 4].
        labels: per image int64 [N], from 1.
        num_classes: the largest label there may be; None looks only at the smallest.

    Raises:
        ValueError: naming the image's place in the batch, the row and the value.
    """
    if len(boxes) != len(labels):
        raise ValueError(f"{len(boxes)} images have boxes but {len(labels)} have labels")
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if box.ndim != 2 or box.shape[1] != 4:
            raise ValueError(
                f"image {i} of the batch: boxes have shape {tuple(box.shape)}; give [N, 4], and [0, 4] for none"
            )
        if label.shape != box.shape[:1]:
            raise ValueError(f"image {i} of the batch: {len(box)} boxes but labels of shape {tuple(label.shape)}")
    if not any(len(box) for box in boxes):
        return
    all_boxes, all_labels = torch.cat(boxes), torch.cat(labels)
    # `not all sides positive` also catches NaN.
    bad_box = ~((all_boxes[:, 2:] > all_boxes[:, :2]).all(dim=1) & all_boxes.isfinite().all(dim=1))
    bad_label = all_labels < 1
    if num_classes is not None:
        bad_label |= all_labels > num_classes
    if bool((bad_box | bad_label).any()):
        image = torch.repeat_interleave(torch.tensor([len(box) for box in boxes]))
        row = int((bad_box | bad_label).nonzero()[0])
        where = f"image {int(image[row])} of the batch"
        if bool(bad_box[row]):
            raise ValueError(
                f"{where}: box {all_boxes[row].tolist()} has no area or is not finite; drop such boxes before training"
            )
        label = int(all_labels[row])
        if num_classes is None:
            raise ValueError(f"{where}: label {label} is below 1 (0 is the background)")
        raise ValueError(
            f"{where}: label {label} is outside 1..{num_classes} "
            f"(0 is background; num_classes={num_classes} excludes it)"
        )


class DetectionSample(NamedTuple):
    """One image on its way from the dataset to the collate function; see `DetectionBatch` for the units."""

    image: Tensor  # uint8 [3, h, w], any memory layout
    canvas: tuple[int, int]
    original_size: tuple[int, int]
    image_id: int
    seed: int
    boxes: Tensor
    labels: Tensor
    ground_truth: dict[str, Tensor] | None


def collate_detection(samples: list[DetectionSample]) -> DetectionBatch:
    """Copy the images on to one zeroed canvas and stack the rest; runs in the loader's workers."""
    height, width = samples[0].canvas
    images = torch.zeros((len(samples), 3, height, width), dtype=torch.uint8)
    for canvas, sample in zip(images, samples, strict=True):
        canvas[:, : sample.image.shape[-2], : sample.image.shape[-1]].copy_(sample.image)
    return DetectionBatch(
        images=images,
        sizes=torch.tensor([sample.image.shape[-2:] for sample in samples], dtype=torch.int64),
        original_sizes=torch.tensor([sample.original_size for sample in samples], dtype=torch.int64),
        image_ids=torch.tensor([sample.image_id for sample in samples], dtype=torch.int64),
        seeds=torch.tensor([sample.seed for sample in samples], dtype=torch.int64),
        boxes=[sample.boxes for sample in samples],
        labels=[sample.labels for sample in samples],
        ground_truth=[sample.ground_truth for sample in samples if sample.ground_truth is not None],
    )
