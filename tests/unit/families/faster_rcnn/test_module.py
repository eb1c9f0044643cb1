"""The LightningModule under a real Trainer, on a few random pictures."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from detector_scenes import make_scene
from torch.utils.data import DataLoader

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.errors import UserError
from wanamaker.families.faster_rcnn import faster_rcnn
from wanamaker.families.faster_rcnn.finite import FiniteWatch
from wanamaker.families.faster_rcnn.losses import NAMES
from wanamaker.families.faster_rcnn.module import FasterRCNNModule
from wanamaker.nn.schedules import warmup_cosine
from wanamaker.predictions import Detections

CLASSES = ["box", "can", "jar"]


def make_batch(num_boxes: list[int], seed: int, evaluation: bool = False) -> DetectionBatch:
    scene = make_scene(num_boxes, side=96, seed=seed)
    truth = []
    for boxes, labels in zip(scene.boxes, scene.labels, strict=True):
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).double() * 2
        truth.append({"boxes": xywh, "labels": labels, "area": xywh[:, 2] * xywh[:, 3], "iscrowd": labels * 0})
    ids = torch.arange(len(num_boxes)) + 100 * seed
    return DetectionBatch(
        scene.images,
        scene.sizes,
        scene.sizes * 2,
        ids,
        scene.seeds,
        scene.boxes,
        scene.labels,
        truth if evaluation else [],
    )


class Pictures(pl.LightningDataModule):
    def __init__(self, names=CLASSES, broken=False):
        super().__init__()
        self.class_names, self.broken = list(names), broken

    def loader(self, num_boxes: list[list[int]], evaluation: bool) -> DataLoader:
        batches = [make_batch(counts, seed, evaluation) for seed, counts in enumerate(num_boxes)]
        return DataLoader(batches, batch_size=None)

    def train_dataloader(self):
        return self.loader([[2, 0], [1, 3], [0, 0]], False)

    def val_dataloader(self):
        return self.loader([[2, 1], [1]], True)

    test_dataloader = val_dataloader

    def predict_dataloader(self):
        return self.loader([[2, 1], [1]], False)


def make_module(lr: float = 0.01, norm: str = "group", optimizer=None, **options) -> FasterRCNNModule:
    torch.manual_seed(0)
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm=norm)
    return FasterRCNNModule(
        net,
        optimizer or partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=1e-4),
        scheduler=partial(warmup_cosine, warmup_steps=2),
        **options,
    )


def make_trainer(tmp_path, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            **quiet,
            **options,
        }
    )


def test_fit_logs_the_curves_and_the_metrics(tmp_path, caplog):
    trainer, module = make_trainer(tmp_path), make_module()
    with caplog.at_level("INFO"):
        trainer.fit(module, Pictures())
    metrics = trainer.callback_metrics
    for stage in ("train", "val"):
        assert {f"{stage}/loss", *(f"{stage}/{name}" for name in NAMES)} <= metrics.keys()
        total = sum(float(metrics[f"{stage}/{name}"]) for name in NAMES)
        assert float(metrics[f"{stage}/loss"]) == pytest.approx(total, rel=1e-5)
    wanted = {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100"}
    assert {f"val/{name}" for name in wanted} <= metrics.keys()
    assert {f"val/ap_class/{name}" for name in CLASSES} <= metrics.keys()
    assert "train/lr" in metrics
    assert trainer.global_step == 6
    assert module.class_names == module.net.class_names == CLASSES
    assert caplog.text.count("Weights: random") == 1


def test_validation_loss_does_not_depend_on_the_batch_size(tmp_path):
    class OneByOne(Pictures):
        def val_dataloader(self):
            whole = [make_batch(counts, seed, True) for seed, counts in enumerate([[2, 1], [1]])]
            single = [DetectionBatch(*(f[i : i + 1] for f in b)) for b in whole for i in range(len(b.images))]
            return DataLoader(single, batch_size=None)

    module = make_module()
    whole = make_trainer(tmp_path).validate(module, Pictures(), verbose=False)[0]
    single = make_trainer(tmp_path).validate(module, OneByOne(), verbose=False)[0]
    assert whole.keys() == single.keys()
    for name, value in whole.items():
        if value == value:
            assert single[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_perfect_detections_score_one_in_original_pixels(tmp_path, monkeypatch):
    """Boxes go from canvas to file pixels: the truth, fed back as detections, is an AP of 1."""
    module = make_module()

    def perfect(images, sizes, boxes, labels, seeds):
        found = [{"boxes": b, "labels": k, "scores": torch.ones(len(b))} for b, k in zip(boxes, labels, strict=True)]
        return type(module.net).losses_and_detections(module.net, images, sizes, boxes, labels, seeds)[0], found

    monkeypatch.setattr(module.net, "losses_and_detections", perfect)
    metrics = make_trainer(tmp_path).test(module, Pictures(), verbose=False)[0]
    assert metrics["test/ap"] == pytest.approx(1.0)


def test_prediction_is_typed_and_counts_every_image(tmp_path):
    parts = make_trainer(tmp_path).predict(make_module(), Pictures())
    found = Detections.concat(parts)
    assert found.image_ids_seen.tolist() == [0, 1, 100]
    assert found.class_names == CLASSES


def test_checkpoint_round_trip_keeps_names_and_weights(tmp_path):
    module, trainer = make_module(), make_trainer(tmp_path)
    trainer.fit(module, Pictures())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert saved["faster_rcnn"]["class_names"] == CLASSES
    assert saved["faster_rcnn"]["norm"] == "group"
    before = trainer.validate(module, Pictures(), verbose=False)[0]
    other = make_module()
    after = make_trainer(tmp_path).validate(other, Pictures(), ckpt_path=path, weights_only=True, verbose=False)[0]
    assert after == pytest.approx(before, nan_ok=True)
    assert other.class_names == CLASSES


def test_checkpoint_of_another_norm_is_refused(tmp_path):
    """Frozen, batch and sync state dicts load into each other without a word."""
    module, trainer = make_module(norm="batch"), make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, Pictures())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(UserError, match=r"trained with norm=batch, this model has norm=sync; set model.net.norm=batch"):
        make_trainer(tmp_path).validate(make_module(norm="sync"), Pictures(), ckpt_path=path, weights_only=True)


def test_data_with_other_classes_is_refused(tmp_path):
    module = make_module(class_names=CLASSES)
    with pytest.raises(UserError, match="label 2 is 'can' here and 'jar' there"):
        make_trainer(tmp_path).fit(module, Pictures(names=["box", "jar", "can"]))
    with pytest.raises(ValueError, match="num_classes=3"):
        make_trainer(tmp_path).fit(make_module(), Pictures(names=["box", "jar"]))


def test_classes_are_compared_before_anything_is_written():
    with pytest.raises(UserError, match=r"model.net.num_classes=3, but the data has 4 classes \(a, b, c, d\)"):
        make_module().preflight(Pictures(["a", "b", "c", "d"]), ["fit"])
    make_module().preflight(Pictures(), ["fit"])


@pytest.mark.parametrize(
    "option", [{"score_threshold": 2}, {"nms_threshold": -0.1}, {"rpn_nms_threshold": 1.5}, {"detections_per_image": 0}]
)
def test_thresholds_out_of_range_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"^{name}="):
        faster_rcnn("resnet18_fpn", 3, **option)


def test_optimizer_gets_only_what_learns_and_spares_norms_from_decay(tmp_path):
    torch.manual_seed(0)
    net = faster_rcnn("resnet18_fpn", num_classes=3, norm="batch", freeze=["backbone.body"])
    module = FasterRCNNModule(net, partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1), decay_norm_and_bias=False)
    trainer = make_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    before = {k: v.clone() for k, v in net.backbone.body.state_dict().items()}
    trainer.fit(module, Pictures())
    decayed, spared = trainer.optimizers[0].param_groups
    inside = {id(p) for group in (decayed, spared) for p in group["params"]}
    assert inside == {id(p) for p in net.parameters() if p.requires_grad}
    assert len(inside) < len(list(net.parameters()))
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 1 for p in spared["params"])
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(torch.equal(v, before[k]) for k, v in net.backbone.body.state_dict().items())


def test_learning_rate_follows_optimiser_steps_under_accumulation(tmp_path):
    trainer, module = (
        make_trainer(tmp_path, accumulate_grad_batches=3, max_epochs=3, limit_val_batches=0),
        make_module(),
    )
    trainer.fit(module, Pictures())
    assert trainer.global_step == 3
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 3


def test_mixed_precision_and_clipping_train(tmp_path):
    trainer = make_trainer(tmp_path, precision="bf16-mixed", gradient_clip_val=1.0)
    module = make_module()
    trainer.fit(module, Pictures())
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in module.parameters())


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    module = make_module(optimizer=partial(torch.optim.SGD, lr=1e12))
    with pytest.raises(UserError, match=r"not finite at optimiser step \d+: .*loss_\w+=(nan|inf).*model.optimizer.lr"):
        make_trainer(tmp_path, max_epochs=20, limit_val_batches=0).fit(module, Pictures())


def test_watch_names_only_the_bad_term():
    watch = FiniteWatch(["a", "b"])
    watch.check(torch.tensor([1.0, 2.0]), 7)
    with pytest.raises(UserError, match=r"step 8: b=nan\."):
        watch.check(torch.tensor([1.0, float("nan")]), 8)


def test_a_schedule_without_an_end_is_refused(tmp_path):
    with pytest.raises(UserError, match="max_epochs"):
        make_trainer(tmp_path, max_epochs=-1).fit(make_module(), Pictures())
