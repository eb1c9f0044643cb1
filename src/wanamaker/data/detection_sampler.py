"""Batches of images: grouped by orientation, one scale and one canvas per *global* batch.

The canvas is what makes one rank and two ranks compute the same thing: both pad to the largest image of the global
batch, not of their own share. It is known before any image is decoded, because sizes come from the annotation file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wanamaker.data.sampler import EpochBatchSampler, EvaluationBatchSampler, SampleKey, stable_seed

CANVAS_STEP = 32
"""Canvas sides are multiples of this: the largest stride of the feature pyramids in use."""


def resized_size(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """(height, width) after scaling the shorter side to `short_side`, or less so that the longer fits `max_side`."""
    heights, widths = _resized_sizes(np.array([height]), np.array([width]), short_side, max_side)
    return int(heights[0]), int(widths[0])


def _resized_sizes(
    heights: np.ndarray, widths: np.ndarray, short_side: int, max_side: int
) -> tuple[np.ndarray, np.ndarray]:
    scale = np.minimum(short_side / np.minimum(heights, widths), max_side / np.maximum(heights, widths))
    return tuple(np.maximum(1, np.rint(sides * scale)).astype(np.int64) for sides in (heights, widths))


def _round_up(length: int) -> int:
    return -(-length // CANVAS_STEP) * CANVAS_STEP


class DetectionCanvas:
    """Sizes of all images of a dataset, and the canvas that some of them need together.

    Args:
        heights: int [I], pixels of the files.
        widths: int [I], likewise.
        max_side: Upper limit of the longer side after resizing, pixels.
        fit: `batch` pads images to the largest among them; `dataset` to the largest of their orientation in the whole
            dataset, so that few canvases occur, two or three for each short side, at the price of more padding.
    """

    def __init__(self, heights: np.ndarray, widths: np.ndarray, max_side: int, fit: str = "batch") -> None:
        self.heights, self.widths, self.max_side, self.fit = np.asarray(heights), np.asarray(widths), max_side, fit
        self._resized: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def is_portrait(self) -> np.ndarray:
        """bool [I]: taller than wide; squares count as landscape."""
        return self.heights > self.widths

    def size(self, rows: Sequence[int], short_side: int) -> tuple[int, int]:
        """(height, width) of the canvas that some images need together, pixels."""
        heights, widths = self._padded(short_side)
        return _round_up(int(heights[rows].max())), _round_up(int(widths[rows].max()))

    def keys(self, epoch: int, rows: Sequence[int], short_side: int) -> list[SampleKey]:
        """Keys of one global batch, all with the canvas that fits each of its images."""
        canvas_h, canvas_w = self.size(rows, short_side)
        return [SampleKey(epoch, row, short_side, canvas_h, canvas_w) for row in rows]

    def _padded(self, short_side: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 [I] heights and widths that a canvas must have for each image."""
        if short_side not in self._resized:
            sides = _resized_sizes(self.heights, self.widths, short_side, self.max_side)
            if self.fit == "dataset":
                sides = tuple(self._largest_alike(lengths) for lengths in sides)
            self._resized[short_side] = sides
        return self._resized[short_side]

    def _largest_alike(self, lengths: np.ndarray) -> np.ndarray:
        """For each image, the largest length among those of its orientation."""
        largest = np.zeros_like(lengths)
        for alike in (self.is_portrait, ~self.is_portrait):
            if alike.any():
                largest[alike] = lengths[alike].max()
        return largest


class DetectionBatchSampler(EpochBatchSampler):
    """Training batches of images, yielding lists of `SampleKey`.

    With `group_by_aspect` every global batch holds only portrait or only landscape images, which saves up to 40 % of
    the canvas; what is left of both groups at the end forms the last, mixed batches. Grouping happens on global
    batches and is the same for any number of ranks.

    Args:
        canvas: Sizes of the images.
        batch_size: Global batch.
        short_sides: Lengths to draw from, one per global batch, from (seed, epoch, batch number).
        group_by_aspect: See above.
        **options: As in `EpochBatchSampler`.
    """

    def __init__(
        self,
        canvas: DetectionCanvas,
        batch_size: int,
        *,
        short_sides: Sequence[int],
        group_by_aspect: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(len(canvas.heights), batch_size, **options)
        self.canvas, self.short_sides, self.group_by_aspect = canvas, list(short_sides), group_by_aspect

    def global_batches(self, epoch: int) -> list[list[int]]:
        order = self.order(epoch)
        if not self.group_by_aspect:
            return self._cut(order.tolist(), order.tolist())
        portrait = self.canvas.is_portrait[order]
        full: list[tuple[int, list[int]]] = []
        rest: list[np.ndarray] = []
        for places in (np.flatnonzero(portrait), np.flatnonzero(~portrait)):
            whole = len(places) // self.batch_size * self.batch_size
            for start in range(0, whole, self.batch_size):
                block = places[start : start + self.batch_size]
                full.append((int(block[-1]), order[block].tolist()))
            rest.append(places[whole:])
        # A batch stands where its last image comes up in the permutation: both kinds stay mixed over the epoch.
        batches = [rows for _, rows in sorted(full)]
        return batches + self._cut(order[np.concatenate(rest)].tolist(), order.tolist())

    def keys(self, epoch: int, number: int, rows: list[int]) -> list[SampleKey]:
        return self.canvas.keys(epoch, rows, self._short_side(epoch, number))

    def canvases(self, epoch: int) -> set[tuple[int, int]]:
        """The different canvases of an epoch, (height, width) in pixels: a compiled model is compiled for each."""
        batches = enumerate(self.global_batches(epoch))
        return {self.canvas.size(rows, self._short_side(epoch, number)) for number, rows in batches}

    def _short_side(self, epoch: int, number: int) -> int:
        draw = stable_seed(self.seed, epoch, number, len(self.short_sides)) % len(self.short_sides)
        return self.short_sides[draw]


class DetectionEvaluationSampler(EvaluationBatchSampler):
    """Evaluation batches of images, yielding lists of `SampleKey`; landscape images first when grouped.

    Args:
        canvas: Sizes of the images.
        batch_size: Global batch.
        short_side: Target length of the shorter side, pixels.
        group_by_aspect: Evaluate landscape images before portraits, so that few batches mix them.
        **options: As in `EvaluationBatchSampler`.
    """

    def __init__(
        self,
        canvas: DetectionCanvas,
        batch_size: int,
        *,
        short_side: int,
        group_by_aspect: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(len(canvas.heights), batch_size, **options)
        self.canvas, self.short_side, self.group_by_aspect = canvas, short_side, group_by_aspect

    def order(self) -> np.ndarray:
        if not self.group_by_aspect:
            return np.arange(self.num_samples)
        return np.argsort(self.canvas.is_portrait, kind="stable")

    def keys(self, rows: list[int]) -> list[SampleKey]:
        return self.canvas.keys(0, rows, self.short_side)
