"""Stops a training whose loss is no longer a number."""

from __future__ import annotations

import torch
from torch import Tensor

from wanamaker.errors import UserError


class FiniteWatch:
    """Looks at the losses of every step, on a GPU one step late so that it never waits for the device.

    Args:
        names: of the loss terms, in the order of the values.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._pending: tuple[Tensor, int, torch.cuda.Event] | None = None

    def check(self, values: Tensor, step: int) -> None:
        """Raise if a value is not finite.

        Args:
            values: float [len(names)], already averaged over the ranks, so that all ranks raise together.
            step: optimiser step, for the message.

        Raises:
            UserError: names step, terms and remedies.
        """
        self.wait()
        if not values.is_cuda:
            self._raise_if_bad(values, step)
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending = (host, step, event)

    def wait(self) -> None:
        """Check the step that is still under way, if any."""
        if self._pending is not None:
            (host, step, event), self._pending = self._pending, None
            event.synchronize()
            self._raise_if_bad(host, step)

    def _raise_if_bad(self, values: Tensor, step: int) -> None:
        if bool(values.isfinite().all()):
            return
        bad = ", ".join(f"{n}={v:g}" for n, v in zip(self._names, values.tolist(), strict=True) if v - v != 0)
        raise UserError(
            f"The training loss is not finite at optimiser step {step}: {bad}. Usual remedies, in this order: a lower "
            "model.optimizer.lr, more model.scheduler.warmup_steps, trainer.gradient_clip_val=5, bf16-mixed instead of "
            "16-mixed, and model.net.norm other than frozen when the body starts from random weights."
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pending": None}  # events cannot be copied, and a copy has no step under way
