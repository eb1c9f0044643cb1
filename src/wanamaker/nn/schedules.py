"""Learning-rate schedules counted in optimiser steps.

Both factories take ``total_steps`` last-minute from the module (`total_steps`), so that a recipe says *fractions* of a
run and stays valid when the number of epochs, samples or ranks changes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from wanamaker.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def _check(total_steps: int, warmup_steps: int, warmup_start: float) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps={total_steps}: a schedule needs at least one optimiser step")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps}: must be 0 (no warm-up) or more")
    if not 0.0 < warmup_start <= 1.0:
        raise ValueError(f"warmup_start={warmup_start}: the first factor must lie in (0, 1]")


def _warmup_factor(step: int, warmup_steps: int, warmup_start: float) -> float:
    """Linear from ``warmup_start`` at step 0 to 1 at ``warmup_steps``."""
    if step >= warmup_steps:
        return 1.0
    return warmup_start + (1.0 - warmup_start) * step / warmup_steps


def _fit_warmup(total_steps: int, warmup_steps: int) -> int:
    """Warm-up never takes more than half of a run, so that `debug=` and tiny runs still reach the full rate."""
    return min(warmup_steps, total_steps // 2)


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_start: float = 0.001,
    final_factor: float = 0.0,
) -> LambdaLR:
    """Linear warm-up, then half a cosine from the full learning rate to ``final_factor`` of it.

    Args:
        optimizer: its current learning rates are the full ones.
        total_steps: optimiser steps of the whole run; the factor stays at ``final_factor`` beyond.
        warmup_steps: optimiser steps of warm-up; cut to half of ``total_steps`` in shorter runs.
        warmup_start: factor at step 0, in (0, 1].
        final_factor: factor at the last step, in [0, 1].

    Raises:
        ValueError: a count or factor out of range.
    """
    _check(total_steps, warmup_steps, warmup_start)
    if not 0.0 <= final_factor <= 1.0:
        raise ValueError(f"final_factor={final_factor}: must lie in [0, 1]")
    warmup = _fit_warmup(total_steps, warmup_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return _warmup_factor(step, warmup, warmup_start)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def warmup_multistep(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_start: float = 0.001,
    milestones: Sequence[float] = (16 / 26, 22 / 26),
    gamma: float = 0.1,
) -> LambdaLR:
    """Linear warm-up, then the learning rate times ``gamma`` at each milestone.

    Args:
        optimizer: its current learning rates are the full ones.
        total_steps: optimiser steps of the whole run.
        warmup_steps: optimiser steps of warm-up; cut to half of ``total_steps`` in shorter runs.
        warmup_start: factor at step 0, in (0, 1].
        milestones: ascending fractions of ``total_steps`` in (0, 1); the default is torchvision's
            26-epoch detection recipe, which steps after epochs 16 and 22.
        gamma: factor per milestone, in (0, 1].

    Raises:
        ValueError: a count or factor out of range, or milestones that do not ascend.
    """
    _check(total_steps, warmup_steps, warmup_start)
    if not 0.0 < gamma <= 1.0:
        raise ValueError(f"gamma={gamma}: must lie in (0, 1]")
    fractions = list(milestones)
    if fractions != sorted(fractions) or any(not 0.0 < m < 1.0 for m in fractions):
        raise ValueError(f"milestones={fractions}: give ascending fractions of the run, each between 0 and 1")
    warmup = _fit_warmup(total_steps, warmup_steps)
    steps = [round(m * total_steps) for m in fractions]

    def factor(step: int) -> float:
        return _warmup_factor(step, warmup, warmup_start) * gamma ** sum(step >= s for s in steps)

    return LambdaLR(optimizer, factor)


def make_schedule(factory: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """A recipe's schedule, which is stepped after every optimiser step.

    Args:
        factory: one of this module, or one of ``torch.optim.lr_scheduler`` with its options, as a partial. It is told
            ``total_steps`` where it takes them; the periods of torch's own (``step_size``, ``T_max``) are steps too.
        optimizer: its current learning rates are the full ones.
        total_steps: optimiser steps of the whole run.

    Raises:
        ValueError: an option out of range, or a schedule that waits for a metric, of which a step has none.
    """
    made = getattr(factory, "func", factory)
    if made is ReduceLROnPlateau:
        raise ValueError(
            "ReduceLROnPlateau waits for a metric, and schedules go by steps: choose "
            "wanamaker.nn.schedules.warmup_cosine or warmup_multistep, or one of torch's that counts steps"
        )
    takes = inspect.signature(made).parameters
    return factory(optimizer, total_steps=total_steps) if "total_steps" in takes else factory(optimizer)


def total_steps(trainer: Trainer) -> int:
    """Optimiser steps of the whole fit.

    ``trainer.estimated_stepping_batches`` would build the training loader here and keep it, before a resumed run has
    its position back; the resumed epoch would then start with its first batch. Counting on a loader of our own leaves
    Lightning to build the one it trains with.

    Raises:
        UserError: neither epochs nor steps are bounded.
    """
    if trainer.datamodule is None:
        steps = trainer.estimated_stepping_batches
    elif trainer.max_epochs == -1:
        steps = float("inf") if trainer.max_steps == -1 else trainer.max_steps
    else:
        batches = len(trainer.datamodule.train_dataloader())
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = math.ceil(batches / trainer.accumulate_grad_batches) * max(trainer.max_epochs, 1)
        steps = steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
    if steps == float("inf"):
        raise UserError("A schedule needs an end: set trainer.max_epochs or trainer.max_steps, or model.scheduler=null")
    return max(1, int(steps))
