"""Training, validation, test and prediction of Faster R-CNN, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from wanamaker.data.detection_batch import DetectionBatch
from wanamaker.errors import UserError
from wanamaker.metrics.coco import CocoMetrics
from wanamaker.nn.schedules import make_schedule, total_steps
from wanamaker.predictions import Detections

from .finite import FiniteWatch
from .loss_means import LossMeans
from .losses import NAMES
from .net import FasterRCNNNet
from .weight_files import META_KEY

# It is meant: norms of frozen layers stay in evaluation mode.
warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode at the start of training.*")


#: Canvases that one waits for without asking.
_FEW = 4


class FasterRCNNModule(LightningModule):
    """Faster R-CNN as a LightningModule.

    Logs ``train/`` loss, the four losses and lr per step (averaged over the ranks); ``val/`` and ``test/`` the same
    losses, AP and AR as COCO defines them, and ``ap_class/<name>``.

    Args:
        net: from :func:`~wanamaker.families.faster_rcnn.net.faster_rcnn`.
        optimizer: parameters -> optimiser, for example ``functools.partial(torch.optim.SGD, lr=0.02)``. It gets only
            parameters that learn.
        scheduler: (optimiser, ``total_steps=``) -> schedule, stepped once per optimiser step; see
            :mod:`wanamaker.nn.schedules`.
        decay_norm_and_bias: whether the optimiser's weight decay also applies to norms and biases.
        class_names: label 1 first; None takes those of the data module, which must agree where both exist.
    """

    predicts = Detections.kind

    def __init__(
        self,
        net: FasterRCNNNet,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        decay_norm_and_bias: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {"architecture": net.architecture, "num_classes": net.num_classes, "norm": net.norm}, logger=False
        )
        self.net = net
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.decay_norm_and_bias = decay_norm_and_bias
        self.class_names = list(class_names) if class_names is not None else net.class_names
        self.loss_means = nn.ModuleDict({stage: LossMeans() for stage in ("val", "test")})
        self.coco = nn.ModuleDict({stage: CocoMetrics(net.num_classes) for stage in ("val", "test")})
        self._watch = FiniteWatch(list(NAMES))
        self._reported = False

    def preflight(self, data: Any, stages: Sequence[str]) -> None:
        """Check the classes against the data's, before anything is written.

        Raises:
            UserError: another number of classes, or other names.
        """
        names = list(data.class_names)
        if len(names) != self.net.num_classes:
            raise UserError(
                f"model.net.num_classes={self.net.num_classes}, but the data has {len(names)} classes "
                f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}): leave it out, or set "
                f"model.net.num_classes={len(names)}."
            )
        if self.class_names is not None:
            self._agree_on_classes(names, "the data")

    def setup(self, stage: str) -> None:
        names = getattr(self.trainer.datamodule, "class_names", None)
        if names:
            self._agree_on_classes(list(names), "the data")
            if self.net.class_names != self.class_names:
                self.net.name_classes(self.class_names)
        if stage == "fit" and not self._reported:
            rank_zero_info(str(self.net.weight_report))
            self._reported = True

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self._parameter_groups())
        if self.make_scheduler is None:
            return optimizer
        schedule = make_schedule(self.make_scheduler, optimizer, total_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        # Lightning refuses to clip under a fused optimiser in any mixed precision; only float16 scales its gradients.
        if self.trainer.precision == "16-mixed" or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.net.parameters(), gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.net.parameters(), gradient_clip_val)

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        losses = self.net(batch.images, batch.sizes, batch.boxes, batch.labels, batch.seeds)
        terms = torch.stack([losses[name] for name in NAMES])
        shown = self._mean_over_ranks(terms.detach())
        self._watch.check(shown, self.global_step)
        self.log("train/loss", shown.sum(), prog_bar=True, batch_size=len(batch.images))
        self.log_dict(
            {f"train/{name}": value for name, value in zip(NAMES, shown.unbind(), strict=True)},
            batch_size=len(batch.images),
        )
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], batch_size=len(batch.images))
        return terms.sum()

    def on_train_start(self) -> None:
        sampler = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        if self.net.compiled and hasattr(sampler, "canvases"):
            number = len(sampler.canvases(self.current_epoch))
            fewer = " Set data.canvas=dataset for a few." if number > _FEW and sampler.canvas.fit == "batch" else ""
            rank_zero_info(f"The backbone is compiled for each canvas: {number} in this epoch.{fewer}")

    def on_validation_epoch_start(self) -> None:
        self._watch.wait()
        self._start_evaluation("val")

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> list[dict[str, Tensor]]:
        return self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> list[dict[str, Tensor]]:
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> Detections:
        found = self.net.detect(batch.images, batch.sizes)
        return Detections.from_outputs(_in_original_pixels(found, batch), batch.image_ids, self._names())

    def predictions_without_rows(self) -> Detections:
        """The names in the predictions, known once a checkpoint was read; decisions are checked against them."""
        return Detections.from_outputs([], [], self._names())

    def on_train_end(self) -> None:
        self._watch.wait()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[META_KEY] = {
            **dict(self.hparams),
            "class_names": list(self._names()),
            "frozen_eps": self.net.frozen_eps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint.get(META_KEY)
        if meta is None:
            raise UserError("The checkpoint is not one of Faster R-CNN; to start from its weights use weights=local")
        for key, value in self.hparams.items():
            if meta[key] != value:
                raise UserError(
                    f"The checkpoint was trained with {key}={meta[key]}, this model has {key}={value}; "
                    f"set model.net.{key}={meta[key]}"
                )
        self._agree_on_classes(list(meta["class_names"]), "the checkpoint")
        if meta["frozen_eps"] is not None:
            self.net.frozen_eps = meta["frozen_eps"]
        self.net.pending_head = None  # the checkpoint's head replaces the rows of the starting weights

    def _evaluate(self, batch: DetectionBatch, stage: str) -> list[dict[str, Tensor]]:
        """Update the metrics of a stage; returns the detections in pixels of the files, as `batch.image_ids` stand."""
        # Image ids as seeds: the same anchors in every epoch, so that the curve of the loss is no lottery.
        seeds = batch.image_ids.to(batch.images.device)
        losses, found = self.net.losses_and_detections(batch.images, batch.sizes, batch.boxes, batch.labels, seeds)
        self.loss_means[stage].update(losses)
        in_files = _in_original_pixels(found, batch)
        self.coco[stage].update(in_files, batch.ground_truth, batch.image_ids)
        return in_files

    def _start_evaluation(self, stage: str) -> None:
        self.loss_means[stage].reset()
        self.loss_means[stage].update(None)
        self.coco[stage].reset()

    def _log_evaluation(self, stage: str) -> None:
        # Both are collectives and give every rank the same numbers.
        values = {f"{stage}/{name}": value for name, value in self.loss_means[stage].compute().items()}
        results = self.coco[stage].compute()
        values |= {f"{stage}/{name}": v for name, v in results.items() if not isinstance(v, list)}
        for name, value in zip(self._names(), results["ap_class"], strict=True):
            values[f"{stage}/ap_class/{name}"] = value
        self.log_dict({name: torch.as_tensor(value, dtype=torch.float32) for name, value in values.items()})

    def _names(self) -> list[str]:
        return self.class_names or [f"class_{k}" for k in range(1, self.net.num_classes + 1)]

    def _agree_on_classes(self, names: list[str], owner: str) -> None:
        if self.class_names is None:
            self.class_names = names
        if self.class_names != names:
            pairs = [(i + 1, a, b) for i, (a, b) in enumerate(zip(self.class_names, names, strict=False)) if a != b]
            first = f"; label {pairs[0][0]} is {pairs[0][1]!r} here and {pairs[0][2]!r} there" if pairs else ""
            raise UserError(
                f"The model's {len(self.class_names)} classes are not the {len(names)} of {owner}{first}. "
                "Use the data the checkpoint was trained on, or train a new head with weights=local"
            )

    def _parameter_groups(self) -> list[dict[str, Any]]:
        decayed, spared = [], []
        for part in self.net.modules():
            is_norm = isinstance(part, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.requires_grad:
                    spare = not self.decay_norm_and_bias and (is_norm or name == "bias")
                    (spared if spare else decayed).append(parameter)
        groups = [{"params": decayed}]
        if spared:
            groups.append({"params": spared, "weight_decay": 0.0})
        return groups

    def _mean_over_ranks(self, values: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.trainer.world_size
        return values


def _in_original_pixels(found: list[dict[str, Tensor]], batch: DetectionBatch) -> list[dict[str, Tensor]]:
    """Detections with boxes of the canvas scaled to the file's pixels and clipped to it, on the CPU."""
    scaled = []
    for one, size, original in zip(found, batch.sizes.tolist(), batch.original_sizes.tolist(), strict=True):
        (height, width), (file_height, file_width) = size, original
        boxes = one["boxes"].cpu()
        factor = boxes.new_tensor([file_width / width, file_height / height] * 2)
        limit = boxes.new_tensor([file_width, file_height] * 2)
        boxes = torch.minimum((boxes * factor).clamp(min=0), limit)
        scaled.append({"boxes": boxes, "labels": one["labels"].cpu(), "scores": one["scores"].cpu()})
    return scaled
