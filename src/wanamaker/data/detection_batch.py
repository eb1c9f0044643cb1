"""The batch that every detection data source yields and every detection module takes.

Axis letters: B images of this rank, H and W canvas, N boxes to train on, M annotated boxes.
"""

from __future__ import annotations

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
