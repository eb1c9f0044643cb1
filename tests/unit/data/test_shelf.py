"""`ShelfDataModule`: draws when asked to prepare, knows its classes before, and reads as any COCO data."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.conftest import ROOT

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.data.shelf import ShelfDataModule
from wanamaker.data.simulate.shelf import ShelfOptions, is_complete
from wanamaker.errors import UserError


def module(cache_dir: Path, **options: Any) -> ShelfDataModule:
    settings: dict[str, Any] = {
        "num_train": 8,
        "num_val": 4,
        "num_test": 3,
        "image_size": 64,
        "short_side": 64,
        "batch_size": 4,
        "num_workers": 0,
    }
    return ShelfDataModule(cache_dir=str(cache_dir), **{**settings, **options})


def test_preflight_draws_nothing_and_prepare_data_does(tmp_path: Path) -> None:
    data = module(tmp_path)
    data.preflight(["fit", "test"])
    assert list((tmp_path / "shelf").iterdir()) == []
    data.prepare_data()
    assert is_complete(data.photos_dir)
    data.preflight(["fit", "test"])


def test_batches_and_tables(tmp_path: Path) -> None:
    data = module(tmp_path)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, DetectionBatch)
    assert batch.images.shape == (4, 3, 64, 64)
    assert batch.images.dtype == torch.uint8
    for labels, boxes in zip(batch.labels, batch.boxes, strict=True):
        assert len(labels) == len(boxes)
        assert ((labels >= 1) & (labels <= 8)).all()
    data.setup("test")
    assert len(data.sample_table()) == 3
    assert all(Path(path).is_file() for path in data.sample_table()["path"])


def test_classes_are_known_before_anything_is_drawn(tmp_path: Path) -> None:
    data = module(tmp_path)
    names, ids = data.class_names, data.category_ids
    assert names == ["bottle", "can", "box", "carton", "jar", "pouch", "tube", "tub"]
    assert ids == list(range(1, 9))
    data.prepare_data()
    data.setup("fit")
    assert super(ShelfDataModule, type(data)).class_names.fget(data) == names
    assert super(ShelfDataModule, type(data)).category_ids.fget(data) == ids


def test_restock_keeps_the_ids_of_base(tmp_path: Path) -> None:
    base, restock = module(tmp_path), module(tmp_path, style="restock", num_classes=10)
    assert restock.class_names == [*base.class_names, "spray", "jug"]
    assert restock.photos_dir != base.photos_dir
    restock.prepare_data()
    restock.setup("fit")
    assert is_complete(restock.photos_dir)
    assert not is_complete(base.photos_dir)


def test_chosen_categories(tmp_path: Path) -> None:
    data = module(tmp_path, categories=["jar", "can"], num_classes=2)
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == ["can", "jar"]
    assert data.category_ids == [2, 5]
    assert super(ShelfDataModule, type(data)).class_names.fget(data) == ["can", "jar"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_classes": 10}, r"data\.num_classes=10, but data\.style=base has 8"),
        ({"style": "restock"}, r"data\.num_classes=8, but data\.style=restock has 10"),
        ({"categories": ["can"]}, r"data\.num_classes=8, but data\.categories has 1"),
        ({"categories": ["cna"]}, r"cna not among those of data\.style=base: bottle"),
        ({"num_val": 0, "num_train": 0}, r"data\.train is null"),
    ],
)
def test_mistakes_are_found_before_drawing(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        module(tmp_path, **options).preflight(["fit"])
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_cache_that_cannot_be_written_is_found_before_drawing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.cache_dir"):
        module(tmp_path / "file").preflight(["fit"])


def test_a_damaged_photo_is_named_with_the_folder_to_remove(tmp_path: Path) -> None:
    data = module(tmp_path)
    data.prepare_data()
    (data.photos_dir / "train" / "000003.jpg").unlink()
    with pytest.raises(UserError) as caught:
        module(tmp_path).preflight(["fit"])
    assert "000003.jpg" in str(caught.value)
    assert f"remove {data.photos_dir}" in str(caught.value)


def test_the_config_names_arguments_and_agrees_with_the_data() -> None:
    config = yaml.safe_load((ROOT / "configs" / "data" / "shelf.yaml").read_text())
    arguments = set(inspect.signature(ShelfDataModule).parameters)
    assert config.pop("_target_") == f"{ShelfDataModule.__module__}.{ShelfDataModule.__name__}"
    assert set(config) <= arguments
    assert config["num_classes"] == len(ShelfOptions(style=config["style"]).class_names)


def test_setup_without_prepare_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prepare_data\(\)"):
        module(tmp_path).setup("fit")
