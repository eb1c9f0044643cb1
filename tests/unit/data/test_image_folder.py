"""Photos without annotations."""

import logging
from pathlib import Path

import lightning as L
import pytest
import torch
from coco_files import write_image
from PIL import Image

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.data.image_folder import ImageFolderDataModule
from wanamaker.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "shop 2").mkdir(parents=True)
    for number, (name, size) in enumerate({"b.png": (40, 30), "a.JPG": (30, 40), "shop 2/c.jpeg": (50, 20)}.items()):
        write_image(folder / name, *size, seed=number)
    (folder / "notes.txt").write_text("no photo")
    return folder


class Looker(L.LightningModule):
    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> list[int]:
        assert batch.images.dtype == torch.uint8
        return batch.image_ids.tolist()


def module(photos: Path, **options) -> ImageFolderDataModule:
    return ImageFolderDataModule(
        str(photos), eval_short_side=64, max_side=96, num_workers=0, eval_batch_size=2, **options
    )


def test_batches_and_table(photos: Path) -> None:
    data = module(photos, class_names=["cup", "plate"])
    data.prepare_data()
    data.setup("predict")
    table = data.sample_table()
    assert table.file_name.tolist() == ["a.JPG", "b.png", "shop 2/c.jpeg"]
    assert table.image_id.tolist() == [1, 2, 3]
    assert table.width.tolist() == [30, 40, 50]
    assert all(Path(path).is_file() for path in table.path)
    batches = list(data.predict_dataloader())
    assert sorted(i for b in batches for i in b.image_ids.tolist()) == [1, 2, 3]
    for batch in batches:
        assert batch.ground_truth == []
        assert all(boxes.shape == (0, 4) and boxes.dtype == torch.float32 for boxes in batch.boxes)
        assert all(labels.shape == (0,) and labels.dtype == torch.int64 for labels in batch.labels)
    assert (data.num_classes, data.category_ids) == (2, [1, 2])


def test_lightning_predicts_each_photo_once(photos: Path) -> None:
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, use_distributed_sampler=False, devices=1
    )
    seen = trainer.predict(Looker(), datamodule=module(photos))
    assert sorted(i for ids in seen for i in ids) == [1, 2, 3]


def test_one_photo(photos: Path) -> None:
    assert module(photos / "b.png").sample_table().file_name.tolist() == ["b.png"]


def test_user_errors(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        module(tmp_path / "nowhere").preflight()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no photo \(\.jpg"):
        module(tmp_path / "empty").preflight()
    with pytest.raises(UserError, match="category_ids has 1 entries for 2"):
        module(photos, class_names=["a", "b"], category_ids=[1])


def test_unreadable_photos(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"1 of 4 photos cannot be decoded: .*broken\.jpg.*skip_unreadable=true"):
        module(photos).preflight()
    with caplog.at_level(logging.WARNING):
        table = module(photos, skip_unreadable=True).sample_table()
    assert len(table) == 3
    assert "broken.jpg" in caplog.text


def test_exif_rotation_is_told(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(photos / "turned.jpg", exif=exif)
    with caplog.at_level(logging.WARNING):
        table = module(photos).sample_table()
    assert "1 of 4 photos carry an EXIF rotation" in caplog.text
    assert table.set_index("file_name").loc["turned.jpg", "width"] == 40
