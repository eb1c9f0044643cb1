"""Detections and ground truth of many images, flat in a few arrays.

Axis letters: I images, D detections, G ground-truth objects.

One tensor per image is what makes a detection metric slow to gather (each becomes its own collective) and large to hold
(a tensor's header outweighs ten boxes). Here a batch is one row of arrays, an epoch a list of such rows, and a rank's
share a single message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class DetectionRecords(NamedTuple):
    """What was found and what is there, image after image; row order inside an image is the order it was given in.

    Everything is float64 or int64, so that float32, bfloat16 and float64 input all arrive without a rounding.
    """

    image_ids: np.ndarray  # int64 [I]
    num_detections: np.ndarray  # int64 [I], how many of the D rows belong to each image
    boxes: np.ndarray  # float64 [D, 4], xyxy, pixels of the original file
    scores: np.ndarray  # float64 [D]
    labels: np.ndarray  # int64 [D]
    num_objects: np.ndarray  # int64 [I], how many of the G rows belong to each image
    object_boxes: np.ndarray  # float64 [G, 4], xywh, pixels of the original file
    object_areas: np.ndarray  # float64 [G], pixels^2: the mask's area where the annotation has one, not width x height
    object_labels: np.ndarray  # int64 [G]
    object_crowd: np.ndarray  # int64 [G], 1 for a crowd region

    def select_images(self, rows: np.ndarray) -> DetectionRecords:
        """The images at ``rows`` (indices [J] into the image axis), in that order, with all that belongs to them."""
        detections = _rows_of_images(self.num_detections, rows)
        objects = _rows_of_images(self.num_objects, rows)
        return DetectionRecords(
            self.image_ids[rows],
            self.num_detections[rows],
            self.boxes[detections],
            self.scores[detections],
            self.labels[detections],
            self.num_objects[rows],
            self.object_boxes[objects],
            self.object_areas[objects],
            self.object_labels[objects],
            self.object_crowd[objects],
        )

    def boxes_xywh(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The detections as COCO writes them: float64 [D', 4], x, y, width, height.

        The one place where a width is taken, so that what is evaluated and what is written are the same doubles.
        """
        boxes = self.boxes[rows]
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


_COLUMNS: tuple[tuple[type, tuple[int, ...]], ...] = (
    (np.int64, (0,)),
    (np.int64, (0,)),
    (np.float64, (0, 4)),
    (np.float64, (0,)),
    (np.int64, (0,)),
    (np.int64, (0,)),
    (np.float64, (0, 4)),
    (np.float64, (0,)),
    (np.int64, (0,)),
    (np.int64, (0,)),
)


def join_records(parts: Sequence[DetectionRecords]) -> DetectionRecords:
    """Join batches or ranks, in the order given. No part gives records of no image."""
    empty = (np.zeros(shape, dtype) for dtype, shape in _COLUMNS)
    return DetectionRecords(*(np.concatenate([e, *column]) for e, *column in zip(empty, *parts, strict=True)))


def each_image_once(records: DetectionRecords) -> DetectionRecords:
    """Sort by image id and keep the first of every image that occurs more than once.

    A sampler that pads to equal shards repeats images on other ranks; counted twice, they move the metric (by 9e-4 with
    one repeated image of 51).

    Raises:
        ValueError: an id occurs twice with different ground truth: two images share it, and dropping one would hide
            that.
    """
    _, first, position = np.unique(records.image_ids, return_index=True, return_inverse=True)
    if len(first) < len(records.image_ids):
        _refuse_shared_ids(records.select_images(first[position]), records)
    return records.select_images(first)


def records_of_batch(
    detections: Sequence[Mapping[str, Tensor]],
    ground_truth: Sequence[Mapping[str, Tensor]],
    image_ids: Tensor | Sequence[int],
    num_classes: int,
) -> DetectionRecords:
    """Flatten and check one batch of B images; see `CocoMetrics.update` for the arguments and the errors."""
    id_tensor = torch.as_tensor(image_ids).detach().cpu().reshape(-1)
    if id_tensor.is_floating_point() and id_tensor.numel():  # an empty list is a float tensor
        raise ValueError(f"CocoMetrics.update: image_ids are {id_tensor.dtype}; give integers, one per image.")
    ids = id_tensor.numpy().astype(np.int64)
    if not len(ids) == len(detections) == len(ground_truth):
        raise ValueError(
            f"CocoMetrics.update: {len(detections)} detections and {len(ground_truth)} ground truths for {len(ids)} "
            "image ids; give one of each per image (an image without boxes has empty tensors)."
        )
    found = _Columns(detections, ids, "detections", {"boxes": 4, "scores": 0, "labels": 0})
    truth = _Columns(ground_truth, ids, "ground_truth", {"boxes": 4, "labels": 0, "area": 0, "iscrowd": 0})
    found.refuse(~np.isfinite(found["boxes"]).all(1), "boxes", "not finite", "The weights have diverged")
    found.refuse(~np.isfinite(found["scores"]), "scores", "not finite", "The weights have diverged")
    truth.refuse(~np.isfinite(truth["boxes"]).all(1), "boxes", "not finite", "Mend the annotation file")
    sound = np.isfinite(truth["area"]) & (truth["area"] >= 0)
    truth.refuse(~sound, "area", "negative or not finite", "Mend the annotation file")
    truth.refuse(~np.isin(truth["iscrowd"], (0, 1)), "iscrowd", "neither 0 nor 1", "Mend the annotation file")
    truth.refuse(
        (truth["labels"] < 1) | (truth["labels"] > num_classes),
        "labels",
        f"outside 1..{num_classes}",
        "Give CocoMetrics the number of classes of the data",
    )
    return DetectionRecords(
        ids,
        found.counts,
        found["boxes"],
        found["scores"],
        found["labels"].astype(np.int64),
        truth.counts,
        truth["boxes"],
        truth["area"],
        truth["labels"].astype(np.int64),
        truth["iscrowd"].astype(np.int64),
    )


class _Columns(dict[str, np.ndarray]):
    """The fields of a list of per-image dicts, each joined over the batch; one device-to-host copy per field."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Tensor]],
        image_ids: np.ndarray,
        name: str,
        fields: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.name = name
        lengths: list[int] | None = None
        for field, width in fields.items():
            tensors = []
            for row, image in zip(rows, image_ids, strict=True):
                if field not in row:
                    raise ValueError(
                        f"CocoMetrics.update: {name} of image {image} has no {field!r}; it needs {', '.join(fields)}."
                    )
                tensor = torch.as_tensor(row[field]).detach()
                expected = (-1, 4) if width else (-1,)
                if tensor.numel() == 0:
                    tensor = tensor.reshape([0, 4] if width else [0])
                if tensor.ndim != len(expected) or (width and tensor.shape[1] != width):
                    raise ValueError(
                        f"CocoMetrics.update: {name}[{field!r}] of image {image} has shape {list(tensor.shape)}; "
                        f"expected {['N', 4] if width else ['N']}."
                    )
                tensors.append(tensor)
            found = [len(tensor) for tensor in tensors]
            lengths = lengths if lengths is not None else found
            if found != lengths:
                at = next(i for i, (a, b) in enumerate(zip(found, lengths, strict=True)) if a != b)
                raise ValueError(
                    f"CocoMetrics.update: {name} of image {image_ids[at]} has {lengths[at]} boxes but {found[at]} "
                    f"{field}."
                )
            self[field] = _to_float64(tensors, width)
        self.counts = np.array(lengths, dtype=np.int64)
        self.image_of_row = np.repeat(image_ids, self.counts)

    def refuse(self, bad: np.ndarray, field: str, what: str, remedy: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"CocoMetrics.update: {self.name}[{field!r}] of image {self.image_of_row[row]} is {what} "
                f"({self[field][row].tolist()}; {int(bad.sum())} such rows in the batch). {remedy}."
            )


def _to_float64(tensors: Sequence[Tensor], width: int) -> np.ndarray:
    if not tensors:
        return np.zeros((0, width) if width else 0)
    # Integers up to 2**53 are exact in float64, far beyond any label. The cast follows the copy: not every device has
    # float64, and NumPy has no bfloat16.
    return torch.cat(tensors).cpu().to(torch.float64).numpy()


def _rows_of_images(counts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Indices of the flat rows that belong to ``images``, given how many rows each image has."""
    starts = np.cumsum(counts) - counts
    chosen = counts[images]
    offset_in_image = np.arange(chosen.sum()) - np.repeat(np.cumsum(chosen) - chosen, chosen)
    return np.repeat(starts[images], chosen) + offset_in_image


def _refuse_shared_ids(firsts: DetectionRecords, records: DetectionRecords) -> None:
    """Raise if an image's ground truth is not that of the first image with its id (``firsts``, row for row)."""
    differs = firsts.num_objects != records.num_objects
    if not differs.any():
        image_of_row = np.repeat(np.arange(len(differs)), records.num_objects)
        for name in ("object_boxes", "object_areas", "object_labels", "object_crowd"):
            unequal = getattr(firsts, name) != getattr(records, name)
            differs[image_of_row[np.nonzero(unequal)[0]]] = True
    if differs.any():
        raise ValueError(
            f"Image id {records.image_ids[differs][0]} was evaluated twice with different ground truth "
            f"({len(np.unique(records.image_ids[differs]))} such ids). Image ids must be unique over the evaluated "
            "set; if two evaluations have mixed, call reset() when one starts."
        )
