"""One seed per training step, so that a resumed run draws the noise an unbroken one would."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.data.sampler import stable_seed


class StepSeed(Callback):
    """Seeds Python, NumPy and torch (CPU and GPU) before every training step.

    The seed is a function of (seed, epoch, batch index, rank). Dropout and other noise inside `training_step`
    therefore depend neither on how often a run was resumed nor on what validation, checkpointing or logging drew in
    between; and no generator state needs to be saved. Ranks draw different noise.

    Validation is seeded too, by (seed, epoch, rank), so that a stochastic metric is the same number when the epoch
    is validated again. Its draws leave no trace in training, whose next step is seeded anew.

    Not covered: what happens to a batch before `on_train_batch_start`, namely in data workers and in
    `on_after_batch_transfer`. Augmentation there takes its randomness from the batch's own seeds.

    Args:
        seed: The seed of the run; 0 is one like any other.
    """

    # Keeps the two streams apart: no step can share a seed with a validation.
    TRAINING, VALIDATION = 0, 1

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_all(stable_seed(self.seed, self.TRAINING, trainer.current_epoch, batch_idx, trainer.global_rank))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seed_all(stable_seed(self.seed, self.VALIDATION, trainer.current_epoch, trainer.global_rank))


def seed_all(seed: int) -> None:
    """Seed every global generator of this process with a 63-bit seed."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # NumPy's legacy generator takes 32 bits
    torch.manual_seed(seed)  # every GPU of this process as well, without waiting for any
