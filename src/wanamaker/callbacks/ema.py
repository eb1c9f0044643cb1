"""Exponential moving average of the weights.

Lightning 2.6 has `EMAWeightAveraging`, which is not used here because, measured with 2.6.6:
`trainer.test(ckpt_path=...)` after `fit` puts the raw weights back in place of the averaged ones; integer buffers such
as BatchNorm's `num_batches_tracked` are averaged too and truncated; and there is no warm-up: until
`update_starting_at_step`, validation sees the initial weights.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from wanamaker.errors import UserError

KEY = "ema"
"""In a checkpoint: `{"raw_state_dict": {name: Tensor}, "num_updates": int}`."""


class ExponentialMovingAverage(Callback):
    """Averages all parameters and the running statistics of norms, and evaluates and saves the average.

    After update n (from 0) the average moves by `1 - d` towards the weights, with
    `d = min(decay, (1 + n) / (warmup + n)) ** every_n_steps`, the warm-up of TensorFlow's `ExponentialMovingAverage`:
    early averages forget the random start quickly. All other buffers stay as the module has them, whatever the weights
    in place: scales and limits are no weights (a bound may be infinite, and infinity less infinity is no number), and a
    calibration that validation fits to the average is saved beside it.

    Validation runs on the average. A checkpoint's `state_dict` holds the average, so whoever loads the file
    gets what was validated; the raw weights that training goes on from are in `checkpoint["ema"]["raw_state_dict"]`.
    After `fit` the module holds the average. Resuming with this callback is exact; resuming without it
    continues from the average. A checkpoint written without it starts the average at its weights.

    Every rank computes the same average of the parameters. The statistics of BatchNorm differ between ranks unless
    they are synchronised; rank zero's are the ones validated and saved.

    Args:
        decay: Share of the old average kept per optimiser step, in [0, 1).
        warmup: Larger is slower to reach `decay`; 1 switches the warm-up off.
        every_n_steps: Optimiser steps between two updates. The decay per optimiser step stays the same.

    Raises:
        UserError: for values out of range; at the start of training, for sharded strategies, and for checkpoints
            with `save_weights_only`, which would hold the raw weights.
    """

    def __init__(self, decay: float = 0.999, warmup: int = 10, every_n_steps: int = 1) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"callbacks.ema.decay={decay}: give a share of at least 0 and below 1, such as 0.999.")
        if warmup < 1 or every_n_steps < 1:
            raise UserError(
                f"callbacks.ema: warmup={warmup} and every_n_steps={every_n_steps} must be whole numbers of at least 1."
            )
        self.decay = decay
        self.warmup = warmup
        self.every_n_steps = every_n_steps
        self.num_updates = 0
        self._last_step = 0
        # What is averaged of the module: its live tensors, one entry for tied weights, and their averages beside them.
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        self._index: dict[str, int] = {}
        self._buffers: list[int] = []
        self._raw: list[Tensor] | None = None  # the live values, while the average stands in for them
        self._loaded: dict[str, Tensor] | None = None

    def decay_at(self, num_updates: int) -> float:
        """Share of the old average kept by the update after `num_updates` earlier ones."""
        return min(self.decay, (1 + num_updates) / (self.warmup + num_updates)) ** self.every_n_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise UserError(
                f"callbacks.ema cannot average the sharded weights of {type(trainer.strategy).__name__}: "
                "use trainer.strategy=ddp, or callbacks.ema=null."
            )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.save_weights_only:
                raise UserError(
                    "save_weights_only=true saves the raw weights, not their average: leave it out, "
                    "or set callbacks.ema=null."
                )
        self.num_updates, self._last_step, self._raw, self._loaded = 0, 0, None, None
        self._live, self._average = [], []

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Validation and test want the average, which is what state_dict holds and the module has by now.
        if trainer.state.fn != "fit":
            return
        state = checkpoint.get(KEY)
        if state is None:
            rank_zero_info("The checkpoint was written without EMA: the average starts at its weights.")
            return
        self._loaded = checkpoint["state_dict"]
        self.num_updates = state["num_updates"]
        pl_module.load_state_dict(state["raw_state_dict"], strict=pl_module.strict_loading)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights, now that they are on their device and a checkpoint has been loaded."""
        self._last_step = trainer.global_step
        seen: dict[int, int] = {}
        self._live, self._buffers, self._index = [], [], {}
        norms = (part for part in pl_module.modules() if isinstance(part, nn.modules.batchnorm._NormBase))
        statistics = {id(value) for norm in norms for value in norm.buffers(recurse=False)}
        for name, value in pl_module.state_dict(keep_vars=True).items():
            averaged = isinstance(value, nn.Parameter) or id(value) in statistics
            if not averaged or not value.is_floating_point():
                continue
            index = seen.setdefault(id(value), len(self._live))
            self._index[name] = index
            if index == len(self._live):
                self._live.append(value)
                if not isinstance(value, nn.Parameter):
                    self._buffers.append(index)
        self._average = [value.detach().clone() for value in self._live]
        if self._loaded is not None:
            for name, index in self._index.items():
                if name in self._loaded:
                    self._average[index].copy_(self._loaded[name])
            self._loaded = None

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._last_step:  # gradients were only accumulated
            return
        self._last_step = trainer.global_step
        if trainer.global_step % self.every_n_steps:
            return
        weight = 1 - self.decay_at(self.num_updates)
        torch._foreach_lerp_(self._average, [value.detach() for value in self._live], weight)
        self.num_updates += 1

    @torch.no_grad()
    def _show_average(self, trainer: Trainer) -> None:
        if self._raw is not None or not self._average:
            return
        if trainer.world_size > 1:
            for index in self._buffers:
                torch.distributed.broadcast(self._average[index], src=0)
        self._raw = [value.detach().clone() for value in self._live]
        for value, average in zip(self._live, self._average, strict=True):
            value.data.copy_(average)

    @torch.no_grad()
    def _show_raw(self) -> None:
        if self._raw is None:
            return
        for value, raw in zip(self._live, self._raw, strict=True):
            value.data.copy_(raw)
        self._raw = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._show_average(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._show_raw()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._show_raw()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_average(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._average:
            return
        shown = checkpoint["state_dict"]
        raw = self._raw if self._raw is not None else [value.detach() for value in self._live]
        checkpoint[KEY] = {
            "raw_state_dict": {n: raw[self._index[n]] if n in self._index else v for n, v in shown.items()},
            "num_updates": self.num_updates,
        }
        checkpoint["state_dict"] = {
            n: self._average[self._index[n]] if n in self._index else v for n, v in shown.items()
        }
