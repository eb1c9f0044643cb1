"""Sheets during training: when they are drawn, what is on them, and what loggers get."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wanamaker.callbacks.detection_overlay import DetectionOverlay
from wanamaker.callbacks.wandb_logger import OfflineFirstWandbLogger
from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.errors import UserError
from wanamaker.reporting import contact_sheet as sheets


def batch_of(ids: list[int]) -> DetectionBatch:
    """Grey photos of 60 x 80 (file: twice that) on a canvas of 64 x 96; a crowd and a product are annotated."""
    images = torch.zeros(len(ids), 3, 64, 96, dtype=torch.uint8)
    for row, image_id in enumerate(ids):
        images[row, :, :60, :80] = 100 + image_id
    truth = {
        "boxes": torch.tensor([[20.0, 20, 60, 80], [0, 0, 160, 120]], dtype=torch.float64),
        "labels": torch.tensor([1, 2]),
        "area": torch.tensor([4800.0, 19200], dtype=torch.float64),
        "iscrowd": torch.tensor([0, 1]),
    }
    count = len(ids)
    return DetectionBatch(
        images=images,
        sizes=torch.tensor([[60, 80]] * count),
        original_sizes=torch.tensor([[120, 160]] * count),
        image_ids=torch.tensor(ids),
        seeds=torch.tensor(ids),
        boxes=[torch.zeros(0, 4)] * count,
        labels=[torch.zeros(0, dtype=torch.int64)] * count,
        ground_truth=[truth] * count,
    )


class ToyDetector(LightningModule):
    """Finds one sure and one unsure product on every photo."""

    class_names = ("bottle", "jar")
    dtype_of_scores = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.net(batch).mean()

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> list[dict[str, Tensor]]:
        found = {
            "boxes": torch.tensor([[20.0, 20, 80, 100], [0, 0, 50, 50]]),
            "scores": torch.tensor([0.75, 0.25]).to(self.dtype_of_scores),
            "labels": torch.tensor([2, 1]),
        }
        return [found for _ in batch.image_ids]

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.ones(2, 1), batch_size=1)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([batch_of([1, 2]), batch_of([3])], batch_size=None)

    test_dataloader = val_dataloader


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[sheets.Tile], str]]:
    """The tiles and the title of every sheet, which is drawn all the same."""
    seen: list[tuple[list[sheets.Tile], str]] = []
    real = sheets.contact_sheet

    def record(tiles: list[sheets.Tile], names: list[str], **options: Any) -> Image.Image:
        seen.append((list(tiles), options["title"]))
        assert names == ["bottle", "jar"]
        return real(tiles, names, **{**options, "tile_side": 120})

    monkeypatch.setattr(sheets, "contact_sheet", record)
    return seen


def test_one_sheet_per_validation_and_test(make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path) -> None:
    trainer = make_trainer(callbacks=[DetectionOverlay(max_images=2)], max_epochs=2, num_sanity_val_steps=1)
    model = ToyDetector()
    trainer.fit(model)
    trainer.test(model, verbose=False)
    assert [title for _, title in drawn] == ["Validation, epoch 1", "Validation, epoch 2", "Test"]
    assert sorted(p.name for p in (tmp_path / "overlays").iterdir()) == ["test.png", "val.png"]
    assert Image.open(tmp_path / "overlays" / "val.png").mode == "RGB"


def test_boxes_are_moved_from_the_file_to_the_photo(make_trainer: Callable[..., Trainer], drawn: list) -> None:
    make_trainer(callbacks=[DetectionOverlay(max_images=9)]).validate(ToyDetector(), verbose=False)
    (tiles, _) = drawn[0]
    assert len(tiles) == 3
    assert [int(np.asarray(tile.image)[0, 0, 0]) for tile in tiles] == [101, 102, 103]
    for tile in tiles:
        assert np.asarray(tile.image).shape == (60, 80, 3)  # without the canvas' padding
        assert tile.boxes.tolist() == [[10, 10, 40, 50]]
        assert tile.labels.tolist() == [2]
        assert tile.truth_boxes.tolist() == [[10, 10, 40, 50]]  # xywh in the file's pixels; the crowd is not drawn
    assert tiles[0].caption == "image 1: 1 found, 1 annotated"


def test_only_every_nth_epoch_and_the_last(make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path) -> None:
    overlay = DetectionOverlay(every_n_epochs=2, filename="{stage}_{epoch:03d}.png", output_dir=str(tmp_path / "o"))
    make_trainer(callbacks=[overlay], max_epochs=5).fit(ToyDetector())
    names = sorted(p.name for p in (tmp_path / "o" / "overlays").iterdir())
    assert names == ["val_002.png", "val_004.png", "val_005.png"]


def test_half_precision_and_no_annotations(make_trainer: Callable[..., Trainer], drawn: list) -> None:
    model = ToyDetector()
    model.dtype_of_scores = torch.bfloat16
    model.val_dataloader = lambda: DataLoader([batch_of([1])._replace(ground_truth=[])], batch_size=None)
    make_trainer(callbacks=[DetectionOverlay()]).validate(model, verbose=False)
    assert drawn[0][0][0].truth_boxes is None
    assert drawn[0][0][0].scores.tolist() == [0.75]


def test_tensorboard_gets_the_sheet(make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    make_trainer(callbacks=[DetectionOverlay()], logger=logger, max_epochs=1).fit(ToyDetector())
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["val/overlay"]
    assert events.Images("val/overlay")[0].step == 2


def test_wandb_gets_photos_with_boxes(
    make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(OfflineFirstWandbLogger, "log_metrics", lambda self, metrics, step=None: logged.append(metrics))
    logger = OfflineFirstWandbLogger(run_id="r", save_dir=str(tmp_path))
    make_trainer(callbacks=[DetectionOverlay(max_images=2)], logger=logger).validate(ToyDetector(), verbose=False)
    logger.finish()
    images = next(m["val/overlay"] for m in logged if "val/overlay" in m)
    assert len(images) == 2
    boxes = images[0]._boxes
    found, truth = boxes["predictions"]._val[0], boxes["ground_truth"]._val[0]
    assert found["position"] == {"minX": 10.0, "minY": 10.0, "maxX": 40.0, "maxY": 50.0}
    assert found["box_caption"] == "jar 0.75"
    assert found["scores"] == {"score": 0.75}
    assert truth["box_caption"] == "bottle"
    assert boxes["predictions"]._class_labels[2] == "jar"


def test_wandb_that_fails_is_told_once_and_ends_nothing(
    make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    attempts: list[str] = []

    def fail(self: Any, key: str, *args: Any, **kwargs: Any) -> None:
        attempts.append(key)
        raise OSError("the service is gone")

    monkeypatch.setattr(OfflineFirstWandbLogger, "log_image", fail)
    monkeypatch.setattr(OfflineFirstWandbLogger, "log_metrics", lambda self, metrics, step=None: None)
    logger = OfflineFirstWandbLogger(run_id="r", save_dir=str(tmp_path))
    trainer = make_trainer(callbacks=[DetectionOverlay()], logger=logger, max_epochs=2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer.fit(ToyDetector())
    logger.finish()
    assert attempts == ["val/overlay", "val/overlay"]
    assert trainer.current_epoch == 2
    assert len([w for w in told if "the service is gone" in str(w.message)]) == 1
    assert (tmp_path / "overlays" / "val.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_images": 0}, "max_images=0"),
        ({"every_n_epochs": 0}, "every_n_epochs=0"),
        ({"score_threshold": 2}, "score_threshold=2"),
        ({"filename": "{run}.png"}, "may use"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DetectionOverlay(**options)


def test_a_module_that_returns_something_else(make_trainer: Callable[..., Trainer]) -> None:
    model = ToyDetector()
    model.validation_step = lambda batch, batch_idx: None
    with pytest.raises(TypeError, match="one dictionary of detections per image, got NoneType"):
        make_trainer(callbacks=[DetectionOverlay()]).validate(model, verbose=False)


def test_a_folder_that_cannot_be_written(make_trainer: Callable[..., Trainer], drawn: list, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    overlay = DetectionOverlay(output_dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match="Cannot write"):
        make_trainer(callbacks=[overlay]).validate(ToyDetector(), verbose=False)
