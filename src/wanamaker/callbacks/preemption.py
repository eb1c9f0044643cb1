"""SIGTERM and Ctrl-C: all ranks finish the step, write a checkpoint and leave, so that a requeued job resumes."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from wanamaker.errors import Preempted


class Preemption(Callback):
    """Turns a request to stop into a checkpoint at the next step that all ranks have finished.

    Lightning's own SIGTERM handler calls a collective from inside the signal handler, which deadlocks or fails when the
    signal lands between two other collectives; this one only sets a flag. The ranks agree on the step by summing
    their flags, on the CPU and while the step computes.

    Outside the training steps (start-up, validation, test) nothing new is there to save: the process simply ends.
    """

    def __init__(self) -> None:
        self._requested: int | None = None
        self._training = False
        self._speaks = True
        self._group: dist.ProcessGroup | None = None
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._pending: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._speaks = trainer.is_global_zero
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo")

    # The handlers are set where each loop starts: Lightning installs its own just before.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = True
        self._listen()
        # Lightning asks rank zero before every step whether it got SIGTERM, which waits for the GPU each time.
        # Our own flag makes the question needless.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, signum: int, _: FrameType | None) -> None:
        if self._requested is not None or not self._training:
            raise Preempted(signum)
        self._requested = signum
        if self._speaks:
            print(f"\n{signal.Signals(signum).name}: finishing the step and writing a checkpoint ...", flush=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._group is not None:
            self._flag.fill_(self._requested or 0)
            self._pending = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
            signum = int(self._flag.item())
        else:
            signum = self._requested or 0
        # Between the batches of one accumulated step there are gradients that no checkpoint holds.
        accumulating = trainer.fit_loop.epoch_loop._should_accumulate()
        if signum and not accumulating:
            self._save_and_leave(trainer, signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def _save_and_leave(self, trainer: Trainer, signum: int) -> None:
        callback = trainer.checkpoint_callback
        folder = getattr(callback, "dirpath", None)
        said = "This run writes no checkpoints: nothing was saved."
        if folder is not None:
            path = Path(folder) / "last.ckpt"
            trainer.save_checkpoint(path)
            said = f"Saved step {trainer.global_step} to {path}. The same command with the same run id resumes."
        if self._speaks:
            print(said, flush=True)
        raise Preempted(signum)
