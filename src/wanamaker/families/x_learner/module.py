"""Training in two stages, validation, test and prediction of the uplift model, step by step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.errors import UserError
from wanamaker.metrics.uplift_scores import UpliftScores
from wanamaker.nn.ranks import over_ranks
from wanamaker.predictions import UpliftPredictions
from wanamaker.predictions.uplift import SPLITS

from .effects import dr_effect
from .export import predictions_of, without_rows
from .finish import calibration_of, prepared
from .net import XLearnerNet
from .rows import RowSample
from .scoring import DrLoss, best_mixture, relative_loss
from .stages import RateFactors, Stages

log = logging.getLogger(__name__)

META_KEY = "x_learner"
SAMPLE_ROWS = 200_000
"""Rows from which limits, scales and calibration are computed; all of them where there are fewer."""
GROUPS = ("nuisance", "effect", "effect_level")


class XLearnerModule(LightningModule):
    """Meta-learners of uplift as a LightningModule: one fit, in which the nuisance stage is followed by the effect's.

    A stage ends after its longest number of epochs, or after ``patience`` epochs without a better held-out loss; its
    best weights are put back, and the learning rate begins its schedule anew. The fit ends with the effect stage, so
    that recipes set ``trainer.max_epochs: -1``; a smaller bound is shared out between the stages. Validation rows that
    training saw are judged by the members that did not.

    Logs ``train/`` loss and lr; ``val/`` and ``test/`` nuisance_loss (negative log likelihood), dr_loss (of the first
    outcome, see `scoring`), and dr_loss per outcome and offer; ``test/`` the scores of `UpliftScores` as well. In the
    nuisance stage dr_loss is that of the difference of the expected outcomes.

    Args:
        net: not built yet; its parameters are made when the data are known, or from a checkpoint.
        optimizer: parameter groups -> optimiser, such as AdamW.
        scheduler: (optimiser, ``total_steps=``) -> schedule of one stage; None for a constant rate.
        nuisance_epochs, effect_epochs, patience: of the stages.
        effect_weight_decay: of the effect nets' weights; levels and biases have none.
    """

    predicts = UpliftPredictions.kind

    def __init__(
        self,
        net: XLearnerNet,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        nuisance_epochs: int = 20,
        effect_epochs: int = 20,
        patience: int = 3,
        effect_weight_decay: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= effect_weight_decay < math.inf:
            raise UserError(f"model.effect_weight_decay={effect_weight_decay}: give a number of at least 0.")
        self.net = net
        self.make_optimizer, self.effect_weight_decay = optimizer, effect_weight_decay
        self.stages = Stages((nuisance_epochs, effect_epochs), patience, bool(net.nets))
        self.rates = RateFactors(scheduler)
        self._rates: list[float] = []  # full learning rates of the groups
        self._dr_loss = DrLoss()
        self._nuisance = torch.zeros(3, dtype=torch.float64)  # loss of outcomes, of arms, weight
        self._sample = RowSample(SAMPLE_ROWS)
        self._uplift: UpliftScores | None = None
        self._told = False

    # -- what the data say -----------------------------------------------------------------------------------------

    def preflight(self, data: Any, stages: Sequence[str]) -> None:
        """Find options that the data do not allow, before anything is written.

        Args:
            data: the data module, checked; a table too large for that is looked at when training starts.
            stages: of the run.

        Raises:
            UserError: see `XLearnerNet.check`.
        """
        if "fit" in stages and not self.net.built and hasattr(data, "gates"):
            self.net.check(data.schema, data.num_train_rows)

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
            self.net.check(data.schema, data.num_train_rows)
            self.net.build(data.schema)
            self.net.fit_scales(data.stats)
        else:
            data.adopt(self.net.schema)
        if stage != "fit" and self.stages.stage != "done" and not self._told and self.trainer.is_global_zero:
            self._told = True
            log.warning(
                "The fit was cut short in its %s stage: effects are not what they would be after a whole one. The "
                "same command with the same run id goes on.",
                self.stages.stage,
            )

    def configure_optimizers(self) -> Optimizer:
        named = list(self.net.effects.named_parameters())
        plain = [value for name, value in named if "biases" in name or "shifts" in name or "gains" in name]
        decayed = [value for name, value in named if "weights" in name or "tables" in name]
        groups = [
            {"params": list(self.net.nuisance.parameters()), "name": GROUPS[0]},
            {"params": decayed, "name": GROUPS[1], "weight_decay": self.effect_weight_decay},
            {"params": plain, "name": GROUPS[2], "weight_decay": 0.0},
        ]
        optimizer = self.make_optimizer([group for group in groups if group["params"]])
        self._rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    # -- training --------------------------------------------------------------------------------------------------

    def training_step(self, batch: UpliftBatch, batch_idx: int) -> Tensor:
        rate = self._set_rates()
        # A function of row and step, so that a row meets the same dropout on every rank and after a restart.
        seeds = batch.row * 1_000_003 + self.global_step
        loss = self._nuisance_step(batch, seeds) if self.stages.stage == "nuisance" else self._effect_step(batch, seeds)
        # Every parameter takes part on every rank in both stages, so that DDP need not look for unused ones; the
        # learning rate of the stage that rests is 0.
        resting = self.net.effects if self.stages.stage == "nuisance" else self.net.nuisance
        loss = loss + sum((0.0 * value.sum() for value in resting.parameters()), torch.zeros((), device=loss.device))
        shown = loss.detach() / self.net.members
        if self.global_step % 50 == 0 and not torch.isfinite(shown):  # looking waits for the device
            raise UserError(
                f"The loss is not finite at step {self.global_step}: lower model.optimizer.lr, or look for extreme "
                "values in the outcomes."
            )
        self.log_dict({"train/loss": shown, "train/lr": rate}, batch_size=len(batch.row))
        return loss

    def _set_rates(self) -> float:
        steps = int(self.trainer.num_training_batches) * self._longest()
        factor = self.rates.at(self.global_step - self.stages.first_step, max(1, steps))
        active = GROUPS[:1] if self.stages.stage == "nuisance" else GROUPS[1:]
        for group, rate in zip(self.optimizers().param_groups, self._rates, strict=True):
            group["lr"] = rate * factor if group["name"] in active else 0.0
        return self._rates[0] * factor

    def _longest(self) -> int:
        nuisance, effect = self.stages.planned(self.trainer.max_epochs)
        return nuisance if self.stages.stage == "nuisance" else effect

    def _nuisance_step(self, batch: UpliftBatch, seeds: Tensor) -> Tensor:
        """Each member's mean loss over the rows of all ranks, summed over members: a gradient of its own for each."""
        outcome, arm = self.net.nuisance.member_loss(self.net.nuisance(batch, seeds), batch)
        weight = self.net.learning_weight(batch)
        sums = over_ranks(torch.cat([(weight * (outcome + arm)).sum(1), weight.sum(1)]))
        loss, total = sums.chunk(2)
        return (loss / total.clamp(min=1e-6)).sum()

    def _effect_step(self, batch: UpliftBatch, seeds: Tensor) -> Tensor:
        net = self.net
        net.nuisance.eval()
        with torch.no_grad():
            use = net.may_speak(batch, torch.ones_like(batch.row, dtype=torch.bool))
            nuisances = net.nuisance.average(net.nuisance(batch), use)
            wanted = net.effects.targets(nuisances.mean, nuisances.propensity, batch)
            weight = net.learning_weight(batch)[None, :, :, None, None] * wanted.weight[:, None]  # [C, M, B, A, Y]
        losses = net.effects.row_loss(net.effects(batch, nuisances.mean[:, 0], seeds), wanted, net.shrink)
        sums = over_ranks(torch.stack([(weight * losses).sum(2), weight.sum(2)]))  # [2, C, M, A, Y]
        return (sums[0] / sums[1].clamp(min=1e-6)).mean((-2, -1)).sum()

    def on_train_epoch_end(self) -> None:
        # Here and not in validation: the weights of a callback's average are out of the way again.
        stage = self.stages.stage
        if not self.stages.end_epoch(self.net, self.global_step, self.trainer.max_epochs):
            return
        self.optimizers().optimizer.state.clear()  # moments of a stage in which these weights rested say nothing
        if self.trainer.is_global_zero:
            log.info("The %s stage ends after epoch %d.", stage, self.trainer.current_epoch)
        if self.stages.stage == "done":
            self.trainer.should_stop = True

    # -- scores ----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: UpliftBatch, batch_idx: int) -> None:
        self._evaluate(batch, keep=not self.trainer.sanity_checking and self.trainer.state.fn == "fit")

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def test_step(self, batch: UpliftBatch, batch_idx: int) -> None:
        self._evaluate(batch, keep=False)
        output = self.net(batch, self.seen(batch))
        if self._uplift is None:
            self._uplift = UpliftScores(self.net.schema.arms, self.net.schema.outcomes[0].kind == "binary")
        self._uplift.update(
            batch.row, batch.treatment, batch.outcome, output.mean, output.propensity, output.effect, batch.weight
        )

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")
        if self._uplift is None:  # a rank may have had no batch, and the scores are a collective
            self._uplift = UpliftScores(self.net.schema.arms, self.net.schema.outcomes[0].kind == "binary")
        scores = self._uplift.compute()
        self._uplift = None
        # Its dr_loss is in squared units of the outcome; logged is the one relative to one effect for all.
        scores = {f"test/{name}": value for name, value in scores.items() if name != "dr_loss"}
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in scores.items()})

    def seen(self, batch: UpliftBatch) -> Tensor:
        """Which rows training saw, bool [B]."""
        split = self.trainer.datamodule.split_of(batch.row.cpu().numpy())
        return torch.as_tensor(split == SPLITS.index("train"), device=batch.row.device)

    def _evaluate(self, batch: UpliftBatch, keep: bool) -> None:
        judged = self.net.judge(batch, self.seen(batch))
        nuisances = judged.nuisances
        use = (judged.use / judged.use.sum(0))[None, :, :, None, None]
        estimates = (judged.estimates * use).sum(1)  # [E, B, A, Y]
        if self.stages.stage == "nuisance":
            mean = nuisances.mean
            estimates = (mean[:, 1:] - mean[:, :1]).expand_as(estimates)
        score, known = dr_effect(nuisances.mean, nuisances.propensity, batch.treatment, batch.outcome)
        weight = known * batch.weight[:, None]
        self._dr_loss.update(estimates, score, weight)
        losses = self.net.nuisance.held_out_loss(nuisances, batch)
        row_weight = batch.weight * (batch.treatment >= 0)
        sums = torch.stack([(loss * row_weight).double().sum() for loss in (*losses, torch.ones_like(row_weight))])
        self._nuisance += sums.cpu()
        if keep:
            self._sample.add(
                self.trainer.datamodule.num_rows,
                row=batch.row,
                fold=self.net.fold(batch),
                treatment=batch.treatment,
                outcome=batch.outcome,
                weight=batch.weight,
                mean=nuisances.mean,
                propensity=nuisances.propensity,
                estimates=estimates.transpose(0, 1),
                score=score,
                known=known,
            )

    def _log_scores(self, stage: str) -> None:
        net, schema = self.net, self.net.schema
        sums = self._dr_loss.total(tuple(net.mixture.shape), self.device)
        nuisance = over_ranks(self._nuisance.to(self.device)).cpu()
        self._nuisance = torch.zeros_like(self._nuisance)
        in_fit = stage == "val" and self.trainer.state.fn == "fit"
        mixture = net.mixture.double().cpu().numpy()
        if in_fit and net.learner == "stack" and self.stages.stage == "effect":
            mixture = best_mixture(sums)
        losses = relative_loss(sums, mixture)  # [A, Y]
        values = {f"{stage}/nuisance_loss": float((nuisance[0] + nuisance[1]) / nuisance[2])}
        values[f"{stage}/dr_loss"] = float(losses[:, 0].mean())
        for y, outcome in enumerate(schema.outcomes):
            for a, arm in enumerate(schema.arms[1:]):
                values[f"{stage}/dr_loss/{outcome.name}/{arm}"] = float(losses[a, y])
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})
        if in_fit and not self.trainer.sanity_checking:
            self._keep_if_better(values, mixture)
        self._sample.clear()

    def _keep_if_better(self, values: dict[str, float], mixture: Any) -> None:
        """Where this epoch is the stage's best, finish what depends on its weights, and keep all of it."""
        name = "val/nuisance_loss" if self.stages.stage == "nuisance" else "val/dr_loss"
        score = values[name]
        if not math.isfinite(score) or not self.stages.better(score):
            return
        net = self.net
        if self.stages.stage == "nuisance":
            state = self._sample.together(lambda rows: prepared(net.effects, rows))
            for key, value in state.items():
                getattr(net.effects, key).copy_(torch.as_tensor(value))
        if self.stages.stage == "effect" or not net.nets:
            net.mixture.copy_(torch.as_tensor(mixture))
            state = self._sample.together(
                lambda rows: calibration_of(rows, mixture, net.folds, net.calibration, net.knots.shape[-1])
            )
            for key, value in state.items():
                getattr(net, key).copy_(torch.as_tensor(value))
        self.stages.keep(score, net)

    # -- predictions -----------------------------------------------------------------------------------------------

    def predict_step(self, batch: UpliftBatch, batch_idx: int) -> UpliftPredictions:
        output = self.net(batch, self.seen(batch))
        return predictions_of(output, batch, self.net.schema, self.trainer.datamodule, self.net.level)

    def predictions_without_rows(self) -> UpliftPredictions:
        """The names in the predictions, known once a checkpoint was read; decisions are checked against them."""
        return without_rows(self.net.schema, self.net.level)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[META_KEY] = {"schema": self.net.schema.to_dict(), "stages": self.stages.to_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint.get(META_KEY)
        if meta is None:
            raise UserError("The checkpoint is not one of the uplift family: choose one of an experiment x_learner_*.")
        schema = UpliftSchema.from_dict(meta["schema"])
        if not self.net.built:
            self.net.build(schema)
        elif (self.net.schema.arms, self.net.schema.outcomes) != (schema.arms, schema.outcomes):
            raise UserError(
                f"The checkpoint was trained with the arms {', '.join(schema.arms)} and the outcomes "
                f"{', '.join(outcome.name for outcome in schema.outcomes)}; these data have others. Use the data and "
                "roles of its recipe, or train anew."
            )
        self.stages.from_dict(meta["stages"])
