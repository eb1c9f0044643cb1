"""Training, validation, test and prediction of the propensity model, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from wanamaker.data.propensity_batch import PropensityBatch, PropensitySchema
from wanamaker.errors import UserError
from wanamaker.metrics.propensity_scores import PropensityScores
from wanamaker.nn.ranks import over_ranks
from wanamaker.nn.schedules import make_schedule, total_steps
from wanamaker.predictions.propensity import SPLITS, PropensityPredictions

from .calibration import calibration_rows, fitted
from .export import predictions_of, without_rows
from .net import PropensityNet
from .rows import HeldOutRows
from .weighting import check_weights

META_KEY = "propensity"
SAMPLE_ROWS = 200_000
"""Held-out rows from which the calibration is fitted; all of them where there are fewer."""
PARTS = ("trunk", "wide", "sequence", "embeddings")
_CHECK_EVERY = 50  # steps between two looks at the loss: looking waits for the device
_NO_JUDGES = (
    "Rows that training saw would judge it: hold some out (data.split.val above 0), or cross-fit the members "
    "(model.net.folds of at least 2)."
)


class PropensityModule(LightningModule):
    """Propensity scores of several tasks as a LightningModule.

    ``val/loss``, the monitor, is the mean over tasks of the held-out loss (negative log likelihood of the members'
    mixture, before calibration) relative to that of the training base rate: 1 is no better than giving everybody the
    base rate. Where training rows are the validation rows, the members that never saw a row judge it. The calibration
    is fitted anew on the held-out rows of every validation, so that any checkpoint is complete.

    Logs ``train/`` loss; ``val/`` and ``test/`` loss, ``<task>/loss`` of each, relative too, and the scores of
    `PropensityScores` (of calibrated scores; in validation by the maps of the other folds).

    Args:
        net: not built yet; its parameters are made when the data are known, or from a checkpoint.
        optimizer: parameter groups -> optimiser, such as AdamW.
        scheduler: (optimiser, ``total_steps=``) -> schedule by step; None for a constant rate.
        weight_decays: by part of the net (`PARTS`); the optimiser's own for those not named. Biases have none.
    """

    predicts = PropensityPredictions.kind

    def __init__(
        self,
        net: PropensityNet,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        weight_decays: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.weight_decays = dict(weight_decays or {})
        if unknown := set(self.weight_decays) - set(PARTS):
            raise UserError(f"model.weight_decays has {sorted(unknown)}: choose from {', '.join(PARTS)}.")
        for name, value in self.weight_decays.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UserError(f"model.weight_decays.{name}={value!r}: give a number of at least 0.")
        self._sums: Tensor | None = None  # [3, T]: loss, that of the base rate, weight
        self._reference: Tensor | None = None
        self._rows = HeldOutRows(SAMPLE_ROWS)
        self._scores: PropensityScores | None = None

    def preflight(self, data: Any, stages: Iterable[str]) -> None:
        """Find what does not fit together before anything is written.

        Raises:
            UserError: no rows are held out for validation, and the members are not cross-fitted either; or weights of
                tasks that there are not.
        """
        if self.net.task_weights:
            check_weights(self.net.task_weights, data.task_names)
        if "fit" not in stages or self.net.folds > 1 or data.streamed:
            return
        if not (data.codes == SPLITS.index("val")).any():
            raise UserError(_NO_JUDGES)

    # -- what the data say -----------------------------------------------------------------------------------------

    def check_data(self, data: Any) -> None:
        """Make sure, once a checkpoint was read and before anything is written, that the model can read these data.

        Raises:
            UserError: as the data's own `adopt`.
        """
        if hasattr(data, "check_model") and self.net.built:
            data.check_model(self.net.schema)

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        if not self.net.built:
            self.net.build(data.schema)
            self.net.fit_scales(data.stats)
        else:
            data.adopt(self.net.schema)
        self._scores = PropensityScores(self.net.schema.tasks)

    def configure_optimizers(self) -> Any:
        groups: dict[str, list[Tensor]] = {name: [] for name in (*PARTS, "rest")}
        for name, value in self.net.named_parameters():
            groups[_part_of(name)].append(value)
        made = []
        for name, values in groups.items():
            decay = 0.0 if name == "rest" else self.weight_decays.get(name)
            if values:
                made.append({"params": values, "name": name} | ({} if decay is None else {"weight_decay": decay}))
        optimizer = self.make_optimizer(made)
        if self.make_scheduler is None:
            return optimizer
        schedule = make_schedule(self.make_scheduler, optimizer, total_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # -- training --------------------------------------------------------------------------------------------------

    def training_step(self, batch: PropensityBatch, batch_idx: int) -> Tensor:
        net = self.net
        raw = net.members_of(net.encode(batch), batch, self.global_step)
        losses = net.heads.loss(raw, batch.label, batch.time)  # [M, P, T]
        weight = net.learning_weight(batch)[..., None] * net.heads.known(batch.label, batch.time)
        # Means over the rows of all ranks whose label is known, of each member and task.
        sums = over_ranks(torch.stack([(weight * losses).sum(1), weight.sum(1)]))  # [2, M, T]
        loss = net.weighting(sums[0] / sums[1].clamp(min=1e-6), sums[1] > 0).sum()
        shown = loss.detach() / net.members
        if self.global_step % _CHECK_EVERY == 0:
            _refuse(shown, f"at step {self.global_step}")
        self.log("train/loss", shown, batch_size=len(batch.row))
        return loss

    # -- scores ----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: PropensityBatch, batch_idx: int) -> None:
        in_fit = self.trainer.state.fn == "fit"
        split = self.split_of(batch)
        if in_fit and self.net.folds == 1 and bool((split == SPLITS.index("train")).any()):
            raise UserError(_NO_JUDGES)
        net = self.net
        encoded = net.encode(batch)
        raw = net.members_of(encoded, batch)
        use = net.may_speak(batch, split == SPLITS.index("train"))
        self._add_losses(raw, use, batch)
        if not in_fit:
            self._add_scores(batch, net.scores(raw, use, net.fold(batch), split))
            return
        sums = net.references.sums_of(encoded)
        self._reference = sums if self._reference is None else self._reference + sums
        self._rows.add(
            row=batch.row,
            fold=net.fold(batch),
            split=split,
            natural=net.averaged(raw, use),
            label=batch.label,
            time=batch.time,
            weight=batch.weight,
        )

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == "fit":
            self._finish()
        self._log_scores("val")

    def test_step(self, batch: PropensityBatch, batch_idx: int) -> None:
        net, split = self.net, self.split_of(batch)
        raw = net.members_of(net.encode(batch), batch)
        use = net.may_speak(batch, split == SPLITS.index("train"))
        self._add_losses(raw, use, batch)
        self._add_scores(batch, net.scores(raw, use, net.fold(batch), split))

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def split_of(self, batch: PropensityBatch) -> Tensor:
        """Index into `SPLITS` of each position, int64 [P]."""
        split = self.trainer.datamodule.split_of(batch.row.cpu().numpy())
        return torch.as_tensor(split, dtype=torch.int64, device=batch.row.device)

    def _add_losses(self, raw: Tensor, use: Tensor, batch: PropensityBatch) -> None:
        heads = self.net.heads
        weight = heads.known(batch.label, batch.time) * batch.weight[:, None]
        loss = heads.mixture_loss(raw, use, batch.label, batch.time)
        base = heads.loss(heads.start.expand(len(batch.row), -1), batch.label, batch.time)
        sums = torch.stack([(part.double() * weight).sum(0) for part in (loss, base, torch.ones_like(loss))])
        self._sums = sums if self._sums is None else self._sums + sums

    def _add_scores(self, batch: PropensityBatch, output: Any) -> None:
        self._scores.update(batch.row, batch.label, batch.time, output.score, output.survival, batch.weight)

    def _finish(self) -> None:
        """Calibration and references from the held-out rows of all ranks, and the scores that they lead to."""
        net = self.net
        empty = torch.zeros(net.references.width, dtype=torch.float64, device=self.device)
        net.references.take(over_ranks(empty if self._reference is None else self._reference.to(self.device)))
        self._reference = None
        state = self._rows.together(self.trainer.datamodule.num_rows, self._calibration_of)
        net.judged_split.fill_(int(state.pop("split")))
        net.calibration.take(state)
        rows = self._rows.here()
        self._rows.clear()
        if rows:
            mapped = net.calibrated(rows["natural"], rows["fold"], rows["split"])
            score, survival = net.heads.score(mapped), net.heads.survival(mapped)
            self._scores.update(rows["row"], rows["label"], rows["time"], score, survival, rows["weight"])

    def _calibration_of(self, rows: dict[str, Tensor]) -> dict[str, Any]:
        net = self.net
        table = calibration_rows(net.heads, rows)
        state = fitted(net.schema.tasks, table, net.calibration.folds, net.calibration_choice)
        return state | {"split": int(rows["split"][0])}

    def _log_scores(self, stage: str) -> None:
        tasks = self.net.schema.tasks
        empty = torch.zeros(3, len(tasks), dtype=torch.float64, device=self.device)
        sums = over_ranks(empty if self._sums is None else self._sums.to(self.device)).cpu()
        self._sums = None
        relative = {t.name: float(sums[0, k] / sums[1, k]) for k, t in enumerate(tasks) if sums[2, k] > 0}
        if not relative:
            raise UserError(f"No row of the {stage} split has a known label: look at data.split and the labels.")
        values = {f"{stage}/{name}/loss": value for name, value in relative.items()}
        values[f"{stage}/loss"] = sum(relative.values()) / len(relative)
        _refuse(torch.tensor(values[f"{stage}/loss"]), f"over the {stage} rows")
        scores = self._scores.compute()
        self._scores.reset()
        values |= {f"{stage}/{name}": value for name, value in scores.items()}
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})

    # -- predictions -----------------------------------------------------------------------------------------------

    def predict_step(self, batch: PropensityBatch, batch_idx: int) -> PropensityPredictions:
        split = self.split_of(batch)
        return predictions_of(self.net, self.net(batch, split), batch, split, self.trainer.datamodule)

    def predictions_without_rows(self) -> PropensityPredictions:
        """The names in the predictions, known once a checkpoint was read; decisions are checked against them."""
        return without_rows(self.net)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[META_KEY] = {"schema": self.net.schema.to_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint.get(META_KEY)
        if meta is None:
            raise UserError("The checkpoint is not one of the propensity family: choose one of a propensity_* run.")
        schema = PropensitySchema.from_dict(meta["schema"])
        if not self.net.built:
            self.net.build(schema)
        elif self.net.schema != schema:
            own = self.net.schema.to_dict()
            different = [name for name, value in schema.to_dict().items() if own[name] != value]
            raise UserError(
                f"The checkpoint was trained on data with other {', '.join(different)}. Use the data and options of "
                "its recipe, or train anew."
            )


def _part_of(name: str) -> str:
    """Part of the net that a parameter of this name belongs to."""
    if any(word in name for word in ("bias", "gains", "shifts", "start", "log_variance")):
        return "rest"
    if "tables" in name:
        return "embeddings"
    return next(part for part in PARTS if name.startswith(part))


def _refuse(loss: Tensor, where: str) -> None:
    if not math.isfinite(float(loss)):
        raise UserError(
            f"The loss is not finite {where}: lower model.optimizer.lr, or look for extreme values in the labels and "
            "the features."
        )
