"""Training, validation, test and prediction of the neural additive mix, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from wanamaker.data.media_panel import MediaBatch, PanelSchema
from wanamaker.data.sampler import stable_seed
from wanamaker.errors import UserError
from wanamaker.metrics.forecast import ForecastMetrics, season_length, seasonal_naive_scale
from wanamaker.nn.ranks import over_ranks
from wanamaker.nn.schedules import make_schedule, total_steps
from wanamaker.predictions import MixPredictions, MixResponse

from .bootstrap import block_weights
from .export import predictions_of, response_of
from .losses import Gaussian, Likelihood
from .net import MixOutput, NamNet

META_KEY = "nam"
OBSERVE_EVERY = 10
"""Steps between two looks at how much the data say about pooled effects; the answer changes slowly."""


class NamModule(LightningModule):
    """The neural additive marketing mix as a LightningModule.

    Minimises, for every member of the ensemble at once, the mean negative log likelihood of its reweighted rows plus
    the negative log prior per row plus the constraints. Logs ``train/`` loss (all of it), nll, prior, the constraints
    by name and lr; ``val/`` and ``test/`` nll and the scores of `ForecastMetrics` on the original scale.

    Args:
        net: not built yet; its parameters are made when the data are known, or from a checkpoint.
        optimizer: parameters -> optimiser.
        scheduler: (optimiser, ``total_steps=``) -> schedule, stepped once per optimiser step.
        loss: the likelihood; None is Gaussian.
        constraints: penalties by name (see `constraints`).
        bootstrap: how members see different samples of time: bayesian, multinomial or none.
        bootstrap_block: periods resampled together.
        bootstrap_seed: seeds the weights.
    """

    predicts = MixPredictions.kind

    def __init__(
        self,
        net: NamNet,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        loss: Likelihood | None = None,
        constraints: Mapping[str, nn.Module] | None = None,
        bootstrap: str = "bayesian",
        bootstrap_block: int = 4,
        bootstrap_seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss = loss if loss is not None else Gaussian()
        self.loss.check(net.link)
        self.constraints = nn.ModuleDict({k: v for k, v in (constraints or {}).items() if v is not None})
        self.bootstrap, self.bootstrap_block, self.bootstrap_seed = bootstrap, bootstrap_block, bootstrap_seed
        block_weights(1, torch.ones(1).bool().numpy(), bootstrap_block, bootstrap, torch.Generator())  # options only
        self.metrics = nn.ModuleDict({stage: ForecastMetrics() for stage in ("val", "test")})
        self._nll = {stage: [0.0, 0.0] for stage in ("val", "test")}
        self._response: MixResponse | None = None
        self._taps = 0
        self._num_rows = 0
        self._weights = torch.zeros(0)

    # -- what the data say -----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        fresh = not self.net.built
        if fresh:
            self.net.build(data.schema)
            self.net.fit_scales(data.panel, data.train_mask)
        else:
            data.adopt(self.net.schema)
        if self._taps not in (0, data.taps):
            raise UserError(
                f"The checkpoint was trained with data.max_lag={self._taps - 1}, this run has {data.taps - 1}: "
                f"set data.max_lag={self._taps - 1}."
            )
        self._taps = data.taps
        season = season_length(data.panel.schema.periods_per_year)
        for metric in self.metrics.values():
            metric.set_naive_scale(seasonal_naive_scale(data.panel.kpi, data.train_mask, season))
        if stage == "fit":
            self._num_rows = int(data.num_train_rows)
            generator = torch.Generator().manual_seed(stable_seed(self.bootstrap_seed, 17))
            weights = block_weights(
                self.net.members, data.train_mask.any(0), self.bootstrap_block, self.bootstrap, generator
            )
            self._weights = weights

    def on_fit_start(self) -> None:
        self._weights = self._weights.to(self.device)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.net.parameters())
        if self.make_scheduler is None:
            return optimizer
        schedule = make_schedule(self.make_scheduler, optimizer, total_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # -- steps -----------------------------------------------------------------------------------------------------

    def row_loss(self, output: MixOutput, batch: MediaBatch) -> Tensor:
        """Negative log density of each row [M, B], of the KPI in its series' scale."""
        scale = self.net.scales.kpi_scale[batch.series]
        return self.loss(output.eta, output.log_noise, batch.kpi / scale, scale, self.net.link)

    def training_step(self, batch: MediaBatch, batch_idx: int) -> Tensor:
        # A function of row and step, so that a row meets the same dropout on every rank and after a restart.
        seeds = batch.row * 1_000_003 + self.global_step
        output = self.net(batch, seeds)
        weight = self._weights[:, batch.time]  # [M, B]
        nll = (weight * self.row_loss(output, batch)).mean()
        if self.global_step % OBSERVE_EVERY == 0:
            self._observe(output, batch, weight)
        # Priors are of the whole data set: their share per row, and per member as the mean above is.
        prior = self.net.penalty() / (self._num_rows * self.net.members)
        total = nll + prior
        shown = {"train/nll": nll.detach(), "train/prior": prior.detach()}
        for name, constraint in self.constraints.items():
            value = constraint(self.net, batch, output).mean()
            total = total + value
            shown[f"train/constraint/{name}"] = value.detach()
        shown["train/loss"] = total.detach()
        rows = batch.row.shape[0]
        means = over_ranks(torch.stack(list(shown.values()))) / self.trainer.world_size
        if self.global_step % 50 == 0 and not torch.isfinite(means).all():  # looking waits for the device
            raise UserError(
                f"The loss is not finite at step {self.global_step}: lower model.optimizer.lr, or look for extreme "
                "values in the KPI."
            )
        self.log_dict(dict(zip(shown, means.unbind(), strict=True)), batch_size=rows)
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], batch_size=rows)
        # Each member's objective has its own gradient, not one M-th of it.
        return total * self.net.members

    def _observe(self, output: MixOutput, batch: MediaBatch, weight: Tensor) -> None:
        """Let the pooled effects see how much the rows say about them."""
        scale = self.net.scales.kpi_scale[batch.series]
        information = self.loss.information(output.eta, output.log_noise, scale, self.net.link) * weight
        rows = batch.row.shape[0] * self.trainer.world_size
        momentum = 0.0 if self.global_step == 0 else 0.8
        self.net.observe(batch, output, information.detach(), self._num_rows / rows, momentum)

    def validation_step(self, batch: MediaBatch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def test_step(self, batch: MediaBatch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def predict_step(self, batch: MediaBatch, batch_idx: int) -> MixPredictions:
        data = self.trainer.datamodule
        if self._response is None:
            self._response = response_of(self.net, self.loss, self._taps)
        return predictions_of(self.net, self.loss, batch, data.panel, data.split_of, self._response)

    def on_predict_end(self) -> None:
        self._response = None  # the weights may change before the next prediction

    def _evaluate(self, batch: MediaBatch, stage: str) -> None:
        output = self.net(batch)
        scale = self.net.scales.kpi_scale[batch.series]
        eta = output.eta + self.loss.log_mean_shift(output.log_noise)
        mean = self.loss.mean(eta, self.net.link).mean(0) * scale
        self.metrics[stage].update(mean, batch.kpi, batch.row, batch.series, batch.time)
        # The density of the ensemble is the mean of its members' densities.
        density = torch.logsumexp(-self.row_loss(output, batch), dim=0) - torch.tensor(self.net.members).log()
        self._nll[stage][0] -= float(density.sum())
        self._nll[stage][1] += len(density)

    def _log_evaluation(self, stage: str) -> None:
        sums = over_ranks(torch.tensor(self._nll[stage], device=self.device))
        self._nll[stage] = [0.0, 0.0]
        values = {f"{stage}/{name}": value for name, value in self.metrics[stage].compute().items()}
        self.metrics[stage].reset()
        values[f"{stage}/nll"] = float(sums[0] / sums[1])
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[META_KEY] = {"schema": self.net.schema.to_dict(), "taps": self._taps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint.get(META_KEY)
        if meta is None:
            raise UserError("The checkpoint is not one of the neural additive mix: choose one of an experiment nam_*.")
        schema = PanelSchema.from_dict(meta["schema"])
        if not self.net.built:
            self.net.build(schema)
        elif self.net.schema.series != schema.series or self.net.part_names != _parts_of(self.net, schema):
            raise UserError(
                "The checkpoint was trained on other series or columns than these data have; use the data and roles "
                "of its recipe, or train anew."
            )
        self._taps = int(meta["taps"])


def _parts_of(net: NamNet, schema: PanelSchema) -> tuple[str, ...]:
    """Names of the parts that a net built for this schema has."""
    calendar = [name for name, columns in (("trend", schema.trend), ("season", schema.season)) if columns]
    return ("baseline", *calendar, *schema.control, *schema.promotion, *schema.price, *schema.media)
