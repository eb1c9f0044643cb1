"""Fitting, validation, test and prediction of the Bayesian mix, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from wanamaker.data.media_panel import MediaBatch, PanelSchema, SeriesBatch
from wanamaker.errors import UserError
from wanamaker.metrics.forecast import ForecastMetrics, season_length, seasonal_naive_scale
from wanamaker.nn.ranks import over_ranks
from wanamaker.predictions import MixPosterior, MixPredictions, MixResponse

from .checks import check_idle_options, check_shares
from .collapsed import same
from .export import predictions_of, response_of
from .fit import PosteriorFit
from .inference import Inference
from .memory import check_memory
from .model import MixModel
from .panel_tensors import PanelTensors
from .posterior_draws import draw_all
from .posterior_summary import posterior_of
from .resume import check_options, cut_short, options_of
from .rows import mean_shift, row_parts, row_predictive

log = logging.getLogger(__name__)

META_KEY = "bayesian_mmm"
VALIDATION_DRAWS = 32
BASE_SERIES = 256
"""Under minibatches of series, totals of the effect prior are taken over at most so many series, evenly chosen."""


class BayesianMixModule(LightningModule):
    """The Bayesian marketing mix as a LightningModule.

    A run has stages (see `Inference`); each step of the trainer is a step of the current stage, and the run ends when
    the last is done: recipes set ``trainer.max_epochs: -1``. Logs ``train/`` the negative log posterior or lower bound
    per row and the stage's numbers; ``val/`` and ``test/`` the negative log predictive density and the scores of
    `ForecastMetrics` of the posterior mean; ``posterior/khat`` once known.

    Args:
        net: the model; its parameters are made when the data are known, or from a checkpoint.
        optimizer: parameters -> optimiser of the mode and svi stages; its rate is that of the mode.
        inference: options of `Inference`.
        draws: posterior draws that predictions and decisions get, evenly chosen from all.
        gradient_clip: largest norm of a gradient in the svi stage, above 0.
    """

    predicts = MixPredictions.kind

    def __init__(
        self,
        net: MixModel,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        inference: Inference | None = None,
        draws: int = 200,
        gradient_clip: float = 10.0,
    ) -> None:
        super().__init__()
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 2:
            raise UserError(f"model.draws={draws!r}: give a whole number of at least 2.")
        if isinstance(gradient_clip, bool) or not isinstance(gradient_clip, int | float) or not gradient_clip > 0:
            raise UserError(f"model.gradient_clip={gradient_clip!r}: give a number above 0; inf clips nothing.")
        self.automatic_optimization = False  # the sampling stages have no gradient step
        self.net = net
        self.make_optimizer = optimizer
        self.inference = inference if inference is not None else Inference()
        self.num_draws, self.gradient_clip = draws, gradient_clip
        self.fit_state = PosteriorFit(net, self.inference)
        self.metrics = nn.ModuleDict({stage: ForecastMetrics() for stage in ("val", "test")})
        self._nll = {stage: [0.0, 0.0] for stage in ("val", "test")}
        self._taps = 0
        self._data: PanelTensors | None = None
        self._base: PanelTensors | None = None
        self._kept: tuple[Tensor, Tensor] | None = None  # draws [S, D] and their coefficients [S, G, Q]
        self._response: MixResponse | None = None
        self._posterior: MixPosterior | None = None
        self._seconds, self._cpu_seconds = 0.0, 0.0
        self._told = False  # that the fit was cut short
        self._sampling_since: float | None = None  # of this session
        self._sampled_before = 0

    # -- what the data say -----------------------------------------------------------------------------------------

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
        check_idle_options(self.net)
        _check_batches(data)
        if hasattr(data, "panel") and not self.net.built:
            data.setup("fit")
            self._build(data.schema, data)
            check_shares(self.net)
            self.net.fit_scales(data.panel, data.train_mask)
            check_memory(self.net, self.inference, data, self.num_draws, tell=False)
            if self.net.experiments:  # lift tests must lie in the panel
                self.net.tensors(data.panel, data.season, data.trend, data.train_mask, data.taps)

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
        elif self.net.built:
            self._tell_cut_short()
        if not self.net.built:
            self._build(data.schema, data)
            self.net.fit_scales(data.panel, data.train_mask)
            self.fit_state.allocate()
        else:
            data.adopt(self.net.schema)
        data.check_taps(self._taps)
        self._taps = data.taps
        season = season_length(data.panel.schema.periods_per_year)
        for metric in self.metrics.values():
            metric.set_naive_scale(seasonal_naive_scale(data.panel.kpi, data.train_mask, season))
        if stage == "fit":
            check_memory(self.net, self.inference, data, self.num_draws)

    def _build(self, schema: PanelSchema, data: Any | None) -> None:
        batched = data is not None and data.batch_size is not None and data.batch_size < len(schema.series)
        if batched and self.net.collapse == "all":
            # Shared coefficients couple the series: they become parameters where series come in batches.
            self.net.collapse = "series"
        self.net.build(schema)

    def panel_data(self) -> PanelTensors:
        """All series as tensors on the module's device; made once."""
        if self._data is None:
            data = self.trainer.datamodule
            made = self.net.tensors(data.panel, data.season, data.trend, data.train_mask, data.taps)
            self._data = made.to(self.device)
            size = data.batch_size
            if size is not None and size < made.num_series and self.net.effect.needs_totals:
                places = torch.linspace(0, made.num_series - 1, min(BASE_SERIES, made.num_series)).round().long()
                self._base = self.net.base = self._data.select(places.to(self.device))
                self.net.base_factor = made.num_series / len(places)
            if size is not None and size < made.num_series and self.net.bound_experiments:
                tested = torch.unique(torch.cat([bound.series for bound in self.net.bound_experiments]))
                self.net.experiment_data = self._data.select(tested.to(self.device))
        return self._data

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.parameters())

    # -- fitting ---------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.panel_data()
        # Before a checkpoint brings back the rate of its last step.
        self._base_rate = float(self.optimizers().param_groups[0]["lr"])

    def on_fit_end(self) -> None:
        self._tell_cut_short()

    def _tell_cut_short(self) -> None:
        """Say once that this is no posterior yet, where that is so."""
        said = cut_short(self.fit_state)
        if said and not self._told and self.trainer.is_global_zero:
            log.warning("%s", said)
        self._told |= bool(said)

    def on_train_batch_start(self, batch: SeriesBatch, batch_idx: int) -> None:
        wrapped = self.trainer.strategy.model
        if hasattr(wrapped, "require_backward_grad_sync"):  # sampling has no backward pass for DDP to wait for
            wrapped.require_backward_grad_sync = self.fit_state.stage in ("mode", "svi")

    def training_step(self, batch: SeriesBatch, batch_idx: int) -> None:
        clock = time.perf_counter(), time.process_time()
        fit, data = self.fit_state, self.panel_data()
        stage = fit.stage
        optimizer = self.optimizers()
        if stage in ("mode", "svi"):
            shown = self._guide_step(batch, data, optimizer)
        elif stage == "hmc":
            if self._sampling_since is None:
                self._sampling_since, self._sampled_before = clock[0], fit.progress - self.inference.guide_steps
            fit.sample_step(data, self._base)
            optimizer.zero_grad()
            optimizer.step()  # without gradients nothing moves; the trainer counts a step
            shown = {f"train/{name}": value for name, value in fit.sampling_numbers().items()}
            shown["train/loss"] = -shown.pop("train/log_density") / float(data.mask.sum())
        elif stage == "nuts":
            fit.nuts(data, self._base)
            optimizer.zero_grad()
            optimizer.step()
            shown = {}
        else:  # the checkpoint is that of a fit that has ended, or the options now are content with its guide
            rank_zero_info("The fit of this checkpoint has ended: nothing is left to do.")
            optimizer.zero_grad()
            optimizer.step()  # a step for the trainer, which saves after steps only
            self._finish(data)
            self.trainer.should_stop = True
            return
        fit.progress += 1
        self._between_stages(data)
        if fit.stage == "done":
            self._finish(data)
            self.trainer.should_stop = True
        self.log_dict(shown, batch_size=max(1, len(batch.series)))
        self._seconds += time.perf_counter() - clock[0]
        self._cpu_seconds += time.process_time() - clock[1]

    def _guide_step(self, batch: SeriesBatch, data: PanelTensors, optimizer: Any) -> dict[str, float]:
        fit, trainer = self.fit_state, self.trainer
        whole = len(batch.series) == data.num_series
        shard = data if whole else data.select(batch.series.to(self.device))
        of_step = torch.tensor(float(len(batch.series)), device=self.device)
        total = float(over_ranks(of_step))
        scale = data.num_series / total
        self.net.reduce = over_ranks if trainer.world_size > 1 else same
        try:
            loss = fit.loss(shard, scale, self._base)
        finally:
            self.net.reduce = same
        optimizer.zero_grad()
        self.manual_backward(loss)
        if fit.stage == "svi":
            nn.utils.clip_grad_norm_(fit.guide.parameters(), self.gradient_clip)
        rate = self._base_rate * fit.learning_rate()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(
                f"The log density is not finite at step {fit.progress}: lower model.optimizer.lr, or look for extreme "
                "values in the KPI and the media."
            )
        rows = float(data.mask.sum())
        return {"train/loss": value / rows, "train/lr": rate}

    def _between_stages(self, data: PanelTensors) -> None:
        """What happens once, between one stage and the next."""
        fit, options = self.fit_state, self.inference
        if fit.progress == options.mode_steps:
            fit.begin_svi(data, self._base)
            self.optimizers().optimizer.state.clear()
        elif fit.progress == options.guide_steps:
            fit.finish_guide(data, self._base)
            limit = options.khat_limit
            if fit.guide_final:
                rank_zero_info(f"PSIS k-hat of the guide {fit.khat:.2f} (limit {limit:g}).")
            elif options.engine == "svi":
                rank_zero_info(
                    f"PSIS k-hat of the guide {fit.khat:.2f} is above {limit:g}: its intervals are not to be trusted. "
                    "model.inference.engine=auto would sample instead."
                )
            else:
                how = "Pyro NUTS" if options.engine == "nuts" else f"{options.chains} chains"
                rank_zero_info(f"PSIS k-hat of the guide {fit.khat:.2f} (limit {limit:g}): sampling from it, {how}.")

    def on_train_epoch_end(self) -> None:
        if self.fit_state.stage == "hmc" and self.trainer.is_global_zero:
            self._announce_sampling()

    def _announce_sampling(self) -> None:
        """How far sampling is, what it is worth so far, and how long it will take."""
        fit, options = self.fit_state, self.inference
        done = fit.progress - options.guide_steps
        seconds = time.perf_counter() - (self._sampling_since or time.perf_counter())
        steps = done - self._sampled_before
        if steps <= 0:
            return
        left = (options.warmup + options.draws - done) * seconds / steps
        kept = (done - options.warmup) // options.thin
        if kept < 10:
            rank_zero_info(f"sampling: warm-up {done} of {options.warmup}, about {left:.0f} s left")
            return
        smallest = fit.smallest_ess(kept)
        rank_zero_info(
            f"sampling: {kept} of {options.kept} draws in each of {options.chains} chains, smallest ESS {smallest:.0f} "
            f"({smallest / max(seconds, 1e-9):.0f} per second), about {left:.0f} s left"
        )
        for logger in self.loggers:
            logger.log_metrics(
                {"sampling/ess_min": smallest, "sampling/ess_per_s": smallest / seconds}, self.global_step
            )

    def _finish(self, data: PanelTensors) -> None:
        """Keep what predictions need."""
        self._kept = self._draws_with_coefficients(data, self.num_draws, exact=True)
        if not math.isnan(self.fit_state.khat):
            self.log("posterior/khat", self.fit_state.khat)

    def _draws_with_coefficients(self, data: PanelTensors, count: int, exact: bool) -> tuple[Tensor, Tensor]:
        u, _ = self.fit_state.some_draws(count)
        seed = self.inference.seed if exact else None
        coefficients, _ = draw_all(self.net, u.to(self.device), data, seed, self.fit_state.chunk(data))
        return u, coefficients.float()

    # -- scores ----------------------------------------------------------------------------------------------------

    def kept(self) -> tuple[Tensor, Tensor]:
        """Draws [S, D] and coefficients [S, G, Q] for predictions: the result, or what there is of it."""
        if self._kept is not None:
            return self._kept
        return self._draws_with_coefficients(self.panel_data(), VALIDATION_DRAWS, exact=False)

    def on_validation_epoch_start(self) -> None:
        self._now = self.kept()

    def validation_step(self, batch: MediaBatch, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        self._now = self.kept()

    def test_step(self, batch: MediaBatch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _evaluate(self, batch: MediaBatch, stage: str) -> None:
        u, coefficients = self._now[0].to(self.device), self._now[1].to(self.device)
        found = row_parts(self.net, u, coefficients, batch)
        scale = self.net.scales.kpi_scale.double()[batch.series]
        eta = found.eta + mean_shift(self.net, found.sigma)
        mean = (eta.exp() if self.net.link == "log" else eta).mean(0) * scale
        self.metrics[stage].update(mean.float(), batch.kpi, batch.row, batch.series, batch.time)
        density = row_predictive(self.net, u, found, batch)  # [S, B]
        mixture = torch.logsumexp(density, dim=0) - math.log(len(density))
        self._nll[stage][0] -= float(mixture.sum())
        self._nll[stage][1] += len(mixture)

    def _log_evaluation(self, stage: str) -> None:
        sums = over_ranks(torch.tensor(self._nll[stage], device=self.device))
        self._nll[stage] = [0.0, 0.0]
        values = {f"{stage}/{name}": value for name, value in self.metrics[stage].compute().items()}
        self.metrics[stage].reset()
        values[f"{stage}/nll"] = float(sums[0] / sums[1])
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})

    # -- predictions -----------------------------------------------------------------------------------------------

    def on_predict_start(self) -> None:
        with torch.inference_mode(False):
            data = self.panel_data()
            self._now = self.kept()
            u = self._now[0].to(self.device)
            self._response = response_of(self.net, u, self._now[1].to(self.device), self._taps)
            panel = self.trainer.datamodule
            learnt: np.ndarray = panel.train_mask
            seconds = self._seconds, self._cpu_seconds
            self._posterior = posterior_of(self.fit_state, data, panel.panel, learnt, seconds)

    def predict_step(self, batch: MediaBatch, batch_idx: int) -> MixPredictions:
        panel = self.trainer.datamodule
        assert self._response is not None
        u, coefficients = self._now[0].to(self.device), self._now[1].to(self.device)
        with torch.inference_mode(False), torch.no_grad():
            return predictions_of(
                self.net, u, coefficients, batch, panel.panel, panel.split_of, self._response, self._posterior
            )

    def on_predict_end(self) -> None:
        self._response = self._posterior = None  # the fit may go on before the next prediction

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = {} if self._kept is None else {"draws": self._kept[0], "coefficients": self._kept[1]}
        checkpoint[META_KEY] = {
            "schema": self.net.schema.to_dict(),
            "taps": self._taps,
            "collapse": self.net.collapse,
            "options": options_of(self.net, self.inference),
            "fit": self.fit_state.to_dict(),
            "kept": kept,
            "seconds": [self._seconds, self._cpu_seconds],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        meta: Mapping[str, Any] | None = checkpoint.get(META_KEY)
        if meta is None:
            raise UserError(
                "The checkpoint is not one of the Bayesian mix: choose one of an experiment bayesian_mmm_*."
            )
        if "options" in meta:
            check_options(meta["options"], self.net, self.inference)
        schema = PanelSchema.from_dict(meta["schema"])
        if not self.net.built:
            self.net.collapse = meta["collapse"]
            self.net.build(schema)
            self.fit_state.allocate()
        elif self.net.schema.series != schema.series or self.net.schema.media != schema.media:
            raise UserError(
                "The checkpoint was trained on other series or channels than these data have; use the data and roles "
                "of its recipe, or train anew."
            )
        # Priors are measured in the channels' own units, which come with the weights.
        self.net.adopt_scales(checkpoint["state_dict"], "net.")
        self._taps = int(meta["taps"])
        self.net.taps = self._taps
        self.fit_state.from_dict(meta["fit"])
        kept = meta["kept"]
        self._kept = (kept["draws"], kept["coefficients"]) if kept else None
        self._seconds, self._cpu_seconds = (float(v) for v in meta["seconds"])
        self._data = None


def _check_batches(data: Any) -> None:
    """Refuse batches of rows: the likelihood of a series is one number."""
    if data.batch_unit != "series":
        raise UserError(
            f"data.batch_unit={data.batch_unit}: the Bayesian mix learns from whole series, whose effects are "
            "integrated out together. Set data.batch_unit=series; data.batch_size then counts series (null: all)."
        )
