"""BCCD and COCO128 from the data folder, through the configs that ship."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from wanamaker.data.coco import CocoDataModule
from wanamaker.errors import UserError

CONFIGS = Path(__file__).parents[3] / "configs" / "data"
DATA = os.environ.get("WANAMAKER_DATA_DIR") or None


def configured(name: str, folder: Path, **changes: Any) -> CocoDataModule:
    """The data module of a shipped config, with the paths of this test."""
    config = OmegaConf.create(
        {
            "seed": 0,
            "paths": {"data_dir": DATA or str(folder), "cache_dir": str(folder)},
            "data": OmegaConf.load(CONFIGS / f"{name}.yaml"),
        }
    )
    config.data.merge_with({"num_workers": 0, **changes})
    return instantiate(config.data, _convert_="all")


@pytest.mark.parametrize("name", ["coco", "bccd", "coco128"])
def test_shipped_configs_say_how_to_get_the_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DATA", None)
    with pytest.raises(UserError, match=r"not on disk: .*annotations(.|\n)*WANAMAKER_DATA_DIR"):
        configured(name, tmp_path).preflight()


def test_image_folder_config(tmp_path: Path) -> None:
    module = configured("image_folder", tmp_path, images=str(tmp_path / "photos"))
    with pytest.raises(UserError, match="photos does not exist"):
        module.preflight()


@pytest.mark.realdata
@pytest.mark.skipif(DATA is None, reason="WANAMAKER_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("name", "images", "boxes", "classes"), [("bccd", (264, 50, 50), 4886, 3), ("coco128", (100, 28, 28), None, 80)]
)
def test_every_image_of_every_split(
    name: str, images: tuple[int, ...], boxes: int | None, classes: int, tmp_path: Path
) -> None:
    data = configured(name, tmp_path)
    data.prepare_data()
    data.setup()
    assert len(data.class_names) == data.num_classes == classes
    counts, annotated = [], 0
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        seen: set[int] = set()
        for batch in loader:
            seen |= set(batch.image_ids.tolist())
            assert batch.images.dtype == torch.uint8
            for i, (size, found, labels) in enumerate(zip(batch.sizes, batch.boxes, batch.labels, strict=True)):
                height, width = size.tolist()
                assert batch.images[i, :, :height, :width].float().std() > 1
                assert found.shape == (len(labels), 4)
                if len(found):
                    assert found.min() >= 0
                    assert found[:, 2].max() <= width
                    assert found[:, 3].max() <= height
                    assert (found[:, 2:] > found[:, :2]).all()
                    assert 1 <= labels.min() <= labels.max() <= classes
        counts.append(len(seen))
    assert tuple(counts) == images
    if boxes is not None:
        annotated = sum(split["boxes"] for split in data.dataset_report().values())
        assert annotated == boxes
    assert not any(report.of("error") for report in data.reports.values())


@pytest.mark.realdata
@pytest.mark.skipif(DATA is None, reason="WANAMAKER_DATA_DIR is not set")
def test_ram_cache_gives_the_same_batches(tmp_path: Path) -> None:
    plain, cached = (configured("coco128", tmp_path, cache=cache, check="off") for cache in ("none", "ram"))
    for data in (plain, cached):
        data.setup()
    for first, second in zip(plain.val_dataloader(), cached.val_dataloader(), strict=True):
        assert torch.equal(first.images, second.images)


@pytest.mark.realdata
@pytest.mark.skipif(DATA is None, reason="WANAMAKER_DATA_DIR is not set")
def test_ground_truth_equals_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    data = configured("coco128", tmp_path, check="off")
    data.setup()
    reference = COCO(str(data.splits["val"].annotations))
    for batch in data.val_dataloader():
        for image_id, truth in zip(batch.image_ids.tolist(), batch.ground_truth, strict=True):
            expected = reference.loadAnns(reference.getAnnIds(imgIds=image_id))
            assert truth["boxes"].tolist() == [a["bbox"] for a in expected]
            assert truth["area"].tolist() == [a["area"] for a in expected]
            assert [data.category_ids[label - 1] for label in truth["labels"]] == [a["category_id"] for a in expected]
