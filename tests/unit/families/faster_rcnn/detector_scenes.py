"""Small random batches for the detector's tests."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Scene(NamedTuple):
    """The arguments of ``FasterRCNNNet.forward``."""

    images: Tensor
    sizes: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    seeds: Tensor

    def part(self, rows: slice) -> Scene:
        return Scene(*(field[rows] for field in self))


def make_scene(num_boxes: list[int], side: int = 128, num_classes: int = 3, seed: int = 0) -> Scene:
    """One image per entry of ``num_boxes``, sizes within the canvas, padding black as the data modules make it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    images = torch.randint(0, 256, (len(num_boxes), 3, side, side), dtype=torch.uint8, generator=generator)
    sizes = (side * (0.7 + 0.3 * draw(len(num_boxes), 2))).long()
    boxes, labels = [], []
    for image, (height, width), count in zip(images, sizes.tolist(), num_boxes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
        corner = draw(count, 2) * torch.tensor([width, height]) * 0.5
        extent = (0.15 + 0.35 * draw(count, 2)) * torch.tensor([width, height])
        boxes.append(torch.cat([corner, corner + extent], dim=1))
        labels.append(torch.randint(1, num_classes + 1, (count,), generator=generator))
    seeds = torch.randint(0, 2**62, (len(num_boxes),), generator=generator)
    return Scene(images, sizes, boxes, labels, seeds)
