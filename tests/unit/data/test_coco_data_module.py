"""`CocoDataModule`: what its batches hold, that they repeat, and what it says when something is wrong."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from coco_files import coco_content, write_coco
from lightning.fabric.utilities.apply_func import move_data_to_device

from wanamaker.data.coco import CocoDataModule
from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.data.sampler import stable_seed
from wanamaker.errors import UserError

SIZES = [(64, 48), (48, 64), (60, 40), (80, 30), (50, 50), (40, 60), (64, 48), (30, 80), (66, 44)]


@pytest.fixture
def split(tmp_path: Path) -> dict[str, Any]:
    content = coco_content(SIZES)
    images, annotations = content["images"], content["annotations"]
    annotations[0]["iscrowd"] = 1
    annotations[3]["bbox"] = [10, 10, 0, 20]
    annotations[5]["bbox"] = [-1.0, 5.0, 30.0, 36.0]
    content["annotations"] = [a for a in annotations if a["image_id"] != images[4]["id"]]
    return write_coco(tmp_path, content)


def module(split: dict[str, Any], rank: int = 0, world_size: int = 1, **options) -> CocoDataModule:
    settings: dict[str, Any] = {
        "train": split,
        "val": split,
        "test": split,
        "num_classes": 2,
        "batch_size": 4,
        "short_side": 64,
        "max_side": 96,
        "num_workers": 0,
        "seed": 5,
        **options,
    }
    data = CocoDataModule(**settings)
    data.prepare_data()
    data.setup()
    if world_size > 1:
        data.trainer = fake_trainer(rank, world_size)
    return data


def fake_trainer(rank: int = 0, world_size: int = 1, overfit_batches: int = 0) -> SimpleNamespace:
    zero = SimpleNamespace(ready=0, processed=0, completed=0)
    batches = SimpleNamespace(current=zero, total=zero, is_last_batch=False)
    loop = SimpleNamespace(
        epoch_progress=SimpleNamespace(current=zero), epoch_loop=SimpleNamespace(batch_progress=batches)
    )
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, overfit_batches=overfit_batches, fit_loop=loop, current_epoch=0
    )


def epoch_batches(data: CocoDataModule, epoch: int = 0) -> list[DetectionBatch]:
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def assert_same(first: DetectionBatch, second: DetectionBatch) -> None:
    for name, a, b in zip(first._fields, first, second, strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), name
        elif name == "ground_truth":
            assert [{k: v.tolist() for k, v in d.items()} for d in a] == [
                {k: v.tolist() for k, v in d.items()} for d in b
            ]
        else:
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), name


def test_training_batch(split: dict[str, Any]) -> None:
    data = module(split, flip_probability=0.0)
    seen: dict[int, tuple] = {}
    for batch in epoch_batches(data):
        assert isinstance(batch, DetectionBatch)
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape[0] == 4
        assert batch.images.shape[2] % 32 == batch.images.shape[3] % 32 == 0
        assert batch.ground_truth == []
        for name in ("sizes", "original_sizes", "image_ids", "seeds"):
            assert getattr(batch, name).dtype == torch.int64
        for i in range(4):
            height, width = batch.sizes[i].tolist()
            assert batch.images[i, :, height:].sum() == batch.images[i, :, :, width:].sum() == 0
            assert batch.images[i, :, :height, :width].float().mean() > 20
            assert batch.boxes[i].dtype == torch.float32
            assert batch.boxes[i].shape == (len(batch.labels[i]), 4)
            assert batch.labels[i].dtype == torch.int64
            row = int(batch.image_ids[i]) // 10 - 1
            assert batch.original_sizes[i].tolist() == list(SIZES[row][::-1])
            assert int(batch.seeds[i]) == stable_seed(5, 0, row)
            seen[row] = (batch.boxes[i], batch.labels[i], batch.sizes[i])
    assert set(seen) == set(range(9)), "images without boxes stay"
    assert seen[4][0].shape == (0, 4)
    assert seen[0][1].tolist() == [1], "the crowd is out; plate (id 3) is label 1"
    assert seen[1][1].tolist() == [2], "the flat box is out; cup (id 7) is label 2"
    boxes, labels, size = seen[2]
    assert labels.tolist() == [2, 1]
    assert size.tolist() == [64, 96]
    assert boxes[1].tolist() == pytest.approx([0, 8, 29 * 1.6, 64]), "clipped, then scaled by 1.6"


def test_report_counts(split: dict[str, Any]) -> None:
    data = module(split)
    epoch_batches(data)
    assert data.dataset_report() == {
        "train": {
            "images": 9,
            "images_without_boxes": 1,
            "boxes": 14,
            "crowd_boxes": 1,
            "degenerate_boxes_dropped": 1,
            "boxes_clipped": 1,
            "degenerate_after_resize": 0,
            "cropped_away": 0,
        }
    }


def test_worker_counts_come_back(split: dict[str, Any]) -> None:
    data = module(split, num_workers=2, scale_jitter=[3.0, 3.0])
    alone = module(split, scale_jitter=[3.0, 3.0])
    for epoch in range(2):
        epoch_batches(data, epoch)
        epoch_batches(alone, epoch)
    assert data.dataset_report()["train"]["cropped_away"] > 0
    assert data.dataset_report() == alone.dataset_report()


def test_evaluation_batches_hold_everything(split: dict[str, Any]) -> None:
    batches = list(module(split).val_dataloader())
    truth = {int(i): t for b in batches for i, t in zip(b.image_ids, b.ground_truth, strict=True)}
    assert sorted(truth) == [10 * n for n in range(1, 10)]
    assert truth[10]["iscrowd"].tolist() == [1, 0]
    assert truth[10]["labels"].tolist() == [2, 1]
    assert truth[20]["boxes"][1].tolist() == [10, 10, 0, 20]
    assert truth[30]["boxes"][1].tolist() == [-1, 5, 30, 36], "not clipped, not scaled"
    assert truth[50]["boxes"].shape == (0, 4)
    assert {t["boxes"].dtype for t in truth.values()} == {torch.float64}
    assert {t["area"].dtype for t in truth.values()} == {torch.float64}
    assert {t["iscrowd"].dtype for t in truth.values()} == {torch.int64}
    assert truth[60]["area"][0] == pytest.approx(40 * 0.3 * 60 * 0.5 * 0.8)
    boxes = {int(i): b for batch in batches for i, b in zip(batch.image_ids, batch.boxes, strict=True)}
    assert len(boxes[10]) == 1, "validation losses see the training boxes only"


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"cache": "ram"},
        {"cache": "ram", "num_workers": 2},
    ],
    ids=str,
)
def test_workers_and_cache_change_nothing(split: dict[str, Any], options: dict[str, Any]) -> None:
    settings = {"short_side": [48, 64, 80], "scale_jitter": [0.5, 2.0], "color_jitter": {"brightness": 0.3}}
    plain, other = module(split, **settings), module(split, **settings, **options)
    loader = other.train_dataloader()
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        for first, second in zip(epoch_batches(plain, epoch), loader, strict=True):
            assert_same(first, second)
    for first, second in zip(plain.val_dataloader(), other.val_dataloader(), strict=True):
        assert_same(first, second)


def test_epochs_differ(split: dict[str, Any]) -> None:
    data = module(split, short_side=[48, 64], scale_jitter=[0.5, 2.0])
    first, second = epoch_batches(data, 0)[0], epoch_batches(data, 1)[0]
    assert first.seeds.tolist() != second.seeds.tolist()


@pytest.mark.parametrize("stage", ["train", "val"])
def test_two_ranks_hold_the_batches_of_one(split: dict[str, Any], stage: str) -> None:
    def loader(data: CocoDataModule) -> list[DetectionBatch]:
        return list(data.train_dataloader() if stage == "train" else data.val_dataloader())

    options = {"short_side": [48, 64, 80], "scale_jitter": [0.5, 2.0]}
    whole = loader(module(split, **options))
    ranks = [loader(module(split, rank, 2, **options)) for rank in range(2)]
    everything = {int(i): (b, n) for b in whole for n, i in enumerate(b.image_ids)}
    count = 0
    for batch in ranks[0] + ranks[1]:
        for n, image_id in enumerate(batch.image_ids.tolist()):
            reference, m = everything[image_id]
            count += 1
            if stage == "val":
                assert torch.equal(batch.images[n], reference.images[m])
    assert count == sum(len(b.images) for b in whole)
    if stage == "train":
        for one, a, b in zip(whole, *ranks, strict=True):
            assert torch.equal(one.images, torch.cat([a.images, b.images]))
            assert torch.equal(one.seeds, torch.cat([a.seeds, b.seeds]))
    else:
        assert count == 9


def test_overfitting_repeats_the_same_batches(split: dict[str, Any]) -> None:
    data = module(split, scale_jitter=[0.5, 2.0])
    data.trainer = fake_trainer(overfit_batches=2)
    loader = data.train_dataloader()
    first = list(loader)
    loader.batch_sampler.set_epoch(1)
    for one, two in zip(first, loader, strict=True):
        assert_same(one, two)


def test_batch_of_one_and_pinning_shape(split: dict[str, Any]) -> None:
    data = module(split, batch_size=1)
    batches = epoch_batches(data)
    assert len(batches) == 9
    moved = move_data_to_device(batches[0], torch.device("cpu"))
    assert isinstance(moved, DetectionBatch)


def test_prediction_loader_is_collated_once(split: dict[str, Any]) -> None:
    for workers in (0, 2):
        batches = list(module(split, num_workers=workers).predict_dataloader())
        assert sorted(i for b in batches for i in b.image_ids.tolist()) == [10 * n for n in range(1, 10)]
        for first, second in zip(batches, module(split).test_dataloader(), strict=True):
            assert_same(first, second)


def test_names_ids_and_sample_table(split: dict[str, Any]) -> None:
    data = module(split, test={**split, "subset": [2, 4]})
    assert (data.class_names, data.category_ids, data.num_classes) == (["plate", "cup"], [3, 7], 2)
    table = data.sample_table()
    assert list(table.columns) == ["image_id", "file_name", "path", "width", "height"]
    assert table.image_id.tolist() == [30, 40]
    assert table.width.tolist() == [60, 80]
    assert all(Path(path).is_file() for path in table.path)


def test_chosen_categories(split: dict[str, Any]) -> None:
    data = module(split, categories=["cup"], num_classes=1)
    assert (data.class_names, data.category_ids) == (["cup"], [7])
    labels = {label for b in epoch_batches(data) for t in b.labels for label in t.tolist()}
    assert labels == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 80}, r"num_classes=80, but .*annotations.json has 2 categories; set data.num_classes=2"),
        ({"num_classes": 2, "categories": ["cup"]}, "has 1 categories of data.categories"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"cache": "disk"}, "cache=disk.*none, ram"),
        ({"check": "quick"}, "check=quick.*full, headers, off"),
        ({"short_side": 200}, "short_side=200.*max_side=96"),
        ({"short_side": []}, "short_side"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"box_tolerance": -1}, "box_tolerance"),
    ],
)
def test_user_errors(split: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(split, **options)


def test_misspelt_split_key(split: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\.train\.anotations .*did you mean annotations"):
        module(split, train={**split, "anotations": "x"})
    with pytest.raises(UserError, match=r"data\.val\.annotations is missing"):
        module(split, val={"images": "x"})


def test_uneven_global_batches(split: dict[str, Any]) -> None:
    data = module(split, 0, 2, batch_size=3, eval_batch_size=5)
    with pytest.raises(UserError, match="batch_size=3"):
        data.train_dataloader()
    with pytest.raises(UserError, match="eval_batch_size=5"):
        data.val_dataloader()


def test_fewer_validation_images_than_ranks(split: dict[str, Any]) -> None:
    data = module(split, 1, 2, val={**split, "subset": [0, 1]})
    with pytest.raises(UserError, match="1 images for 2 ranks"):
        data.val_dataloader()


def test_null_split_is_named_when_needed(split: dict[str, Any]) -> None:
    data = module(split, test=None)
    with pytest.raises(UserError, match=r"data\.test is null"):
        data.test_dataloader()


def test_missing_data_says_how_to_get_it(tmp_path: Path) -> None:
    nowhere = {"images": str(tmp_path / "train2017"), "annotations": str(tmp_path / "instances.json")}
    data = CocoDataModule(train=nowhere, val=None, test=None, num_classes=80)
    with pytest.raises(UserError) as raised:
        data.preflight()
    for words in (
        str(tmp_path / "train2017"),
        str(tmp_path / "instances.json"),
        "python scripts/download_coco.py",
        "WANAMAKER_DATA_DIR",
        "paths.data_dir",
        "experiment=faster_rcnn_shelf",
    ):
        assert words in str(raised.value)
    with pytest.raises(UserError, match="Ask the archive"):
        CocoDataModule(train=nowhere, val=None, test=None, num_classes=1, how_to_get="Ask the archive.").setup()


def test_preflight_reports_all_splits_and_runs_once(split: dict[str, Any], tmp_path: Path) -> None:
    content = coco_content(SIZES[:2])
    content["annotations"][0]["category_id"] = 99
    broken = write_coco(tmp_path / "broken", content)
    with pytest.raises(UserError, match=r"unknown category id \(1\): category id 99"):
        module(split, val=broken)
    data = module(split)
    assert set(data.reports) == {"train", "val", "test"}
    Path(split["annotations"]).unlink()
    data.preflight()


def test_splits_must_agree_on_categories(split: dict[str, Any], tmp_path: Path) -> None:
    content = coco_content(SIZES[:2])
    content["categories"][0]["name"] = "mug"
    with pytest.raises(UserError, match=r"train and val have different categories.*\(7, 'mug'\)"):
        module(split, val=write_coco(tmp_path / "other", content))


def test_image_changed_after_the_check(split: dict[str, Any]) -> None:
    data = module(split)
    (Path(split["images"]) / "photo_3.png").write_bytes((Path(split["images"]) / "photo_1.png").read_bytes())
    with pytest.raises(UserError, match=r"photo_3.png is 64 x 48 pixels and annotated as 60 x 40"):
        epoch_batches(data)


def test_ram_cache_refuses_more_than_there_is(split: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(split, cache="ram")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(UserError, match=r"data\.cache=ram needs .* 9 images.*data\.cache=none"):
        data.train_dataloader()


def test_only_the_splits_of_the_stages_are_needed(split: dict[str, Any], tmp_path: Path) -> None:
    nowhere = {"images": str(tmp_path / "no"), "annotations": str(tmp_path / "no.json")}
    data = CocoDataModule(train=nowhere, val=None, test=split, num_classes=2, num_workers=0)
    data.preflight(["test", "predict"])
    data.setup("test")
    assert set(data.reports) == {"test"}
    assert data.class_names == ["plate", "cup"]
    with pytest.raises(UserError, match="not on disk"):
        data.preflight(["fit", "test"])
    with pytest.raises(UserError, match=r"data\.val is null"):
        data.preflight(["validate"])


class Counting(L.LightningModule):
    """Counts images per stage; a real Trainer drives it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, list[int]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> torch.Tensor:
        self.seen["train"] += batch.image_ids.tolist()
        return self.layer(batch.images.float().mean().reshape(1, 1)).sum()

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        self.seen["val"] += batch.image_ids.tolist()

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        self.seen["test"] += batch.image_ids.tolist()

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> list[int]:
        return batch.image_ids.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("with_val", [True, False])
def test_every_stage_of_a_trainer(split: dict[str, Any], with_val: bool) -> None:
    ids = [10 * n for n in range(1, 10)]
    data = CocoDataModule(
        train=split,
        val=split if with_val else None,
        test=split,
        num_classes=2,
        batch_size=2,
        short_side=64,
        max_side=96,
        num_workers=0,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    module = Counting()
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    predicted = trainer.predict(module, datamodule=data)
    assert trainer.global_step == 10
    assert set(module.seen["train"]) == set(ids)
    assert sorted(module.seen["val"]) == (sorted(ids * 2) if with_val else [])
    assert sorted(module.seen["test"]) == ids
    assert sorted(i for batch in predicted for i in batch) == ids
