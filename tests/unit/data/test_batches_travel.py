"""Batches on their way to a device: what a net reads goes, what Python reads stays.

The device is torch's `meta`, which is there without a GPU.
"""

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.data.propensity_batch import PropensityBatch


def detections(labels: tuple[int, ...] = (1, 2)) -> DetectionBatch:
    """Two images, the first one with two boxes."""
    sizes = torch.tensor([[32, 32], [32, 64]])
    boxes = [torch.tensor([[0.0, 0, 9, 9], [5, 5, 20, 30]]), torch.zeros(0, 4)]
    return DetectionBatch(
        images=torch.zeros(2, 3, 32, 64, dtype=torch.uint8),
        sizes=sizes,
        original_sizes=sizes,
        image_ids=torch.tensor([7, 8]),
        seeds=torch.tensor([1, 2]),
        boxes=boxes,
        labels=[torch.tensor(labels), torch.zeros(0, dtype=torch.int64)],
        ground_truth=[{"boxes": torch.zeros(1, 4)}] * 2,
    )


def test_detection_batch() -> None:
    batch = detections()
    moved = move_data_to_device(batch, torch.device("meta"))  # as Lightning does
    assert isinstance(moved, DetectionBatch)
    for name in ("images", "sizes", "seeds"):
        assert getattr(moved, name).device.type == "meta"
    for name in ("boxes", "labels"):
        assert [part.device.type for part in getattr(moved, name)] == ["meta", "meta"]
        assert [part.shape for part in getattr(moved, name)] == [part.shape for part in getattr(batch, name)]
    for name in ("original_sizes", "image_ids", "ground_truth"):
        assert getattr(moved, name) is getattr(batch, name), f"{name} is read on the CPU"
    assert batch.to("cpu") is batch
    prediction = batch._replace(images=batch.images[:0], boxes=[], labels=[], ground_truth=[])
    assert prediction.to("meta").boxes == []


def test_targets_are_checked_before_they_leave() -> None:
    with pytest.raises(ValueError, match=r"image 0 of the batch: label 0 is below 1"):
        detections(labels=(1, 0)).to("meta")
    batch = detections()
    batch.boxes[0][1, 2] = 5.0
    with pytest.raises(ValueError, match=r"image 0 of the batch: box .* has no area"):
        batch.to("meta")


def test_propensity_batch_keeps_its_lengths() -> None:
    batch = PropensityBatch(*(torch.zeros(3) for _ in PropensityBatch._fields))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, PropensityBatch)
    there = {name for name in moved._fields if getattr(moved, name).device.type == "meta"}
    assert there == set(moved._fields) - {"length"}
    assert moved.length is batch.length
