"""Where a run stands between its two stages, and the best weights of the stage it is in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError
from wanamaker.nn.schedules import make_schedule

STAGES = ("nuisance", "effect", "done")


class Stages:
    """Counts epochs, keeps the best state of the current stage and says when it ends.

    Every rank has one, and all get the same scores (sums over all ranks), so that they switch together.

    Args:
        epochs: longest nuisance and effect stage, in epochs.
        patience: a stage ends after so many epochs without a better score.
        has_effect_stage: whether there is anything to learn in the second.

    Raises:
        UserError: a number out of range.
    """

    def __init__(self, epochs: tuple[int, int], patience: int, has_effect_stage: bool) -> None:
        for name, value in (("nuisance_epochs", epochs[0]), ("effect_epochs", epochs[1]), ("patience", patience)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"model.{name}={value!r}: give a whole number of at least 1.")
        self.longest, self.patience, self.has_effect_stage = epochs, patience, has_effect_stage
        self.stage = "nuisance"
        self.epoch = 0  # epochs of this stage that are over
        self.first_step = 0  # optimiser step at which this stage began
        self.score = math.inf
        self.waited = 0
        self.best: dict[str, Tensor] = {}

    def planned(self, max_epochs: int | None) -> tuple[int, int]:
        """Longest stages of a run that ``trainer.max_epochs`` bounds: both get their share of it."""
        nuisance, effect = self.longest[0], self.longest[1] if self.has_effect_stage else 0
        if max_epochs is None or max_epochs < 0 or nuisance + effect <= max_epochs:
            return nuisance, effect
        first = max(1, round(max_epochs * nuisance / (nuisance + effect)))
        if effect and max_epochs > 1:
            first = min(first, max_epochs - 1)
        return first, max_epochs - first

    def better(self, score: float) -> bool:
        """Whether this is the best epoch of the stage so far; a score that is not a number never is."""
        return score < self.score

    def keep(self, score: float, net: nn.Module) -> None:
        """Remember the state of the net as the best one."""
        self.score, self.waited = score, -1
        self.best = {name: value.detach().clone() for name, value in net.state_dict().items()}

    def end_epoch(self, net: nn.Module, step: int, max_epochs: int | None) -> bool:
        """Count an epoch; at the end of a stage put its best weights back and begin the next.

        Args:
            net: of which `keep` was given the state.
            step: optimiser steps so far.
            max_epochs: of the trainer.

        Returns:
            Whether a stage ended.
        """
        self.epoch += 1
        self.waited += 1
        longest = self.planned(max_epochs)[STAGES.index(self.stage)]
        if self.epoch < longest and self.waited < self.patience:
            return False
        if self.best:
            net.load_state_dict(self.best)
        next_one = STAGES[STAGES.index(self.stage) + 1]
        self.stage = next_one if self.has_effect_stage else "done"
        self.epoch, self.first_step, self.score, self.waited, self.best = 0, step, math.inf, 0, {}
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a checkpoint."""
        names = ("stage", "epoch", "first_step", "score", "waited")
        return {name: getattr(self, name) for name in names} | {"best": self.best}

    def from_dict(self, values: dict[str, Any]) -> None:
        """The inverse of `to_dict`."""
        for name, value in values.items():
            setattr(self, name, value)


class RateFactors:
    """Factor of the learning rate at each step of a stage, which begins its schedule anew.

    A schedule is a function of the step here: nothing of it needs to be saved.

    Args:
        scheduler: (optimiser, ``total_steps=``) -> schedule of `wanamaker.nn.schedules`; None for a constant rate.
    """

    def __init__(self, scheduler: Callable[..., Any] | None) -> None:
        self.scheduler = scheduler
        self._factors: dict[int, list[float]] = {}

    def at(self, step: int, total_steps: int) -> float:
        """Factor at a step of a stage of ``total_steps``."""
        if self.scheduler is None:
            return 1.0
        if total_steps not in self._factors:
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = make_schedule(self.scheduler, optimizer, total_steps)
            factors = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the optimiser that is stepped here optimises nothing
                for _ in range(total_steps):
                    factors.append(float(optimizer.param_groups[0]["lr"]))
                    schedule.step()
            self._factors = {total_steps: factors}
        return self._factors[total_steps][min(step, total_steps - 1)]
