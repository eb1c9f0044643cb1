"""Training, validation, test and prediction of the neural additive mix, step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
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
from .media import per_channel
from .net import MixOutput, NamNet
from .shapes import ADSTOCKS, SATURATIONS

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
        constraints = {name: entry for name, entry in (constraints or {}).items() if entry is not None}
        loss = loss if loss is not None else Gaussian()
        _check_parts(net, optimizer, loss, constraints)
        self.net = net
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss = loss
        self.loss.check(net.link)
        self.constraints = nn.ModuleDict(constraints)
        self.bootstrap, self.bootstrap_block, self.bootstrap_seed = bootstrap, bootstrap_block, bootstrap_seed
        block_weights(1, torch.ones(1).bool().numpy(), bootstrap_block, bootstrap, torch.Generator())  # options only
        self.metrics = nn.ModuleDict({stage: ForecastMetrics() for stage in ("val", "test")})
        self._nll = {stage: [0.0, 0.0] for stage in ("val", "test")}
        self._response: MixResponse | None = None
        self._taps = 0
        self._num_rows = 0
        self._weights = torch.zeros(0)

    # -- before training --------------------------------------------------------------------------------------------

    def preflight(self, data: Any, stages: Sequence[str]) -> None:
        """Find mistakes that only data and model together show, before anything is written.

        Args:
            data: the data module, checked; a panel too large for that is looked at when training starts.
            stages: of the run.

        Raises:
            UserError: as in `setup`.
        """
        if "fit" not in stages:
            return
        _check_batches(data)
        if not hasattr(data, "panel") or self.net.built:
            return
        data.setup("fit")
        net = copy.deepcopy(self.net).build(data.schema)  # a copy: what the data decide, the run decides
        self._check(net, data)
        net.fit_scales(data.panel, data.train_mask)

    def _check(self, net: NamNet, data: Any) -> None:
        """Refuse what this panel cannot be learnt with."""
        kpi = data.panel.kpi
        self.loss.check_kpi(kpi[np.isfinite(kpi)], data.schema.kpi)
        total = np.where(data.train_mask, kpi, 0.0).sum(1)
        if net.link == "log" and (total <= 0).any():
            name = data.schema.series[int(np.argmin(total))]
            raise UserError(
                f"model.net.link=log: the KPI {data.schema.kpi!r} of series {name!r} is not above 0 on average in "
                "training, and exp(...) is. Use model.net.link=identity, or look at the sign of the column."
            )
        for constraint in self.constraints.values():
            if hasattr(constraint, "check"):
                constraint.check(net)
        self._resampled(data)

    def _resampled(self, data: Any) -> Tensor:
        """Weights of the periods [M, T] (see `bootstrap`)."""
        generator = torch.Generator().manual_seed(stable_seed(self.bootstrap_seed, 17))
        periods = data.train_mask.any(0)
        return block_weights(self.net.members, periods, self.bootstrap_block, self.bootstrap, generator)

    # -- what the data say -----------------------------------------------------------------------------------------

    def check_data(self, data: Any) -> None:
        """Make sure, once a checkpoint was read and before anything is written, that the model can read these data.

        Raises:
            UserError: other series, media or another `data.max_lag`.
        """
        if self.net.built and hasattr(data, "check_model"):
            data.check_model(self.net.schema, self._taps)

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        if stage == "fit":
            _check_batches(data)
        fresh = not self.net.built
        if fresh:
            self.net.build(data.schema)
            self.net.fit_scales(data.panel, data.train_mask)
        else:
            data.adopt(self.net.schema)
        data.check_taps(self._taps)
        self._taps = data.taps
        season = season_length(data.panel.schema.periods_per_year)
        for metric in self.metrics.values():
            metric.set_naive_scale(seasonal_naive_scale(data.panel.kpi, data.train_mask, season))
        if stage == "fit":
            self._num_rows = int(data.num_train_rows)
            self._check(self.net, data)
            self._weights = self._resampled(data)

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
        checkpoint[META_KEY] = {"schema": self.net.schema.to_dict(), "taps": self._taps, "meaning": self._meaning()}

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
        here, there = self._meaning(), meta.get("meaning", {})  # older checkpoints do not say
        wrong = [key for key in there if here.get(key) != there[key]]
        if wrong:
            told = "; ".join(f"{key} is {_shown(here.get(key))} here and {_shown(there[key])} there" for key in wrong)
            raise UserError(f"The checkpoint's numbers mean something else: {told}. Leave these options as they were.")
        self._taps = int(meta["taps"])

    def _meaning(self) -> dict[str, Any]:
        """Options of a built net that no tensor's size tells, and without which its numbers say nothing."""
        net, channels = self.net, self.net.schema.media
        return {
            "model.net.link": net.link,
            "model.net.adstock": per_channel(net.adstock, channels, ADSTOCKS, "adstock"),
            "model.net.saturation": per_channel(net.saturation, channels, SATURATIONS, "saturation"),
            "model.net.free.first": net.free["first"],
            "model.net.free.activation": net.free["activation"],
            "model.net.pooling.weights": net.pooling["weights"] and dict(net.pooling["weights"]),
            "model.loss": type(self.loss).__name__,
            "model.loss.degrees": getattr(self.loss, "degrees", None),
        }


def _check_batches(data: Any) -> None:
    if getattr(data, "batch_unit", "rows") != "rows":
        raise UserError(
            f"data.batch_unit={data.batch_unit}: the neural mix learns from rows; whole series are for models of the "
            "panel as a whole. Set data.batch_unit=rows."
        )


def _check_parts(net: Any, optimizer: Any, loss: Any, constraints: Mapping[str, Any]) -> None:
    """Refuse parts of another kind: a recipe can put anything in their place."""
    package = "wanamaker.families.nam"
    if not isinstance(net, NamNet):
        raise UserError(f"model.net={_shown(net)}: give options of {package}.net.NamNet, model.net.NAME=VALUE.")
    if not callable(optimizer):
        raise UserError(
            f"model.optimizer={_shown(optimizer)}: training needs one, such as {{_target_: torch.optim.Adam}}."
        )
    if not isinstance(loss, Likelihood) or type(loss) is Likelihood:
        known = [kind.__name__ for kind in Likelihood.__subclasses__()]
        raise UserError(
            f"model.loss={_shown(loss)} is no likelihood of this family: choose "
            f"model.loss._target_={package}.losses.NAME ({', '.join(known)})."
        )
    for name, constraint in constraints.items():
        if not isinstance(constraint, nn.Module):
            raise UserError(
                f"model.constraints.{name}={_shown(constraint)} is no constraint: give it a _target_, such as "
                f"{{_target_: {package}.constraints.Smoothness}}, or null."
            )


def _shown(value: Any) -> str:
    return "null" if value is None else type(value).__name__ if isinstance(value, nn.Module) else str(value)


def _parts_of(net: NamNet, schema: PanelSchema) -> tuple[str, ...]:
    """Names of the parts that a net built for this schema has."""
    calendar = [name for name, columns in (("trend", schema.trend), ("season", schema.season)) if columns]
    return ("baseline", *calendar, *schema.control, *schema.promotion, *schema.price, *schema.media)
