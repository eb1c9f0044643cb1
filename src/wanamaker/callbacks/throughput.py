"""How fast training runs, how long it waits for data, and how much memory it takes."""

import multiprocessing
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

GIB = 2**30
SAMPLE_MEMORY_EVERY = 50  # steps; listing the workers' memory takes a fraction of a millisecond


@dataclass
class _Span:
    """Sums over some steps: samples of this rank, seconds, seconds spent waiting for data."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def add(self, other: "_Span") -> None:
        self.steps += other.steps
        self.samples += other.samples
        self.seconds += other.seconds
        self.waiting += other.waiting


class Throughput(Callback):
    """Logs, once per epoch:

    - `train/samples_per_s`: samples of all ranks per second of training;
    - `train/seconds_per_step`: seconds per batch, data included, validation and checkpoints not;
    - `train/data_idle_share`: share of that time in which the slowest rank waited for its next batch, in [0, 1].
      On a GPU an upper bound: the GPU may still have had work in its queue;
    - `train/peak_memory_gb`: peak memory in GiB of the rank that took most; on a GPU what PyTorch allocated there,
      otherwise resident memory of the process and its data workers (pages they share count more than once).

    It reads a clock a few times per step and waits for the GPU once per epoch. The batch size is the first dimension
    of the first tensor in a batch, which every batch type here begins with.

    Args:
        skip_steps: Steps at the start of a run that are left out, because they compile, tune and allocate. A first
            epoch no longer than that is measured whole.
    """

    # Public profiler interface of Lightning: it brackets every fetch with start(action) and stop(action).
    FETCH = "train_dataloader_next"

    def __init__(self, skip_steps: int = 1) -> None:
        self.skip_steps = skip_steps
        self._clock = time.perf_counter
        self._to_skip = 0
        self._epoch, self._skipped = _Span(), _Span()
        self._run = _Span()  # of all ranks: samples and steps added up, seconds of the slowest rank
        self._mark: float | None = None  # up to here time is accounted for; None while the clock stands
        self._fetch_started = 0.0
        self._fetches = 0
        self._worker_bytes = 0
        self._peak_gib = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._to_skip = self.skip_steps
        self._epoch, self._skipped, self._run = _Span(), _Span(), _Span()
        self._mark, self._fetches, self._worker_bytes, self._peak_gib = None, 0, 0, 0.0
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._listen(trainer)

    def _listen(self, trainer: Trainer) -> None:
        """Have the profiler's start and stop tell when a batch is fetched; no other hook comes before the wait."""
        profiler: Any = trainer.profiler
        start, stop = profiler.start, profiler.stop

        def timed_start(action_name: str) -> None:
            if action_name.endswith(self.FETCH):
                self._on_fetch_start()
            start(action_name)

        def timed_stop(action_name: str) -> None:
            stop(action_name)
            if action_name.endswith(self.FETCH):
                self._on_fetch_end()

        profiler.start, profiler.stop = timed_start, timed_stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for name in ("start", "stop"):
            vars(trainer.profiler).pop(name, None)

    def _on_fetch_start(self) -> None:
        now = self._clock()
        self._account(now)
        self._mark = self._fetch_started = now

    def _on_fetch_end(self) -> None:
        self._epoch.waiting += self._clock() - self._fetch_started
        self._fetches += 1

    def _account(self, now: float) -> None:
        if self._mark is not None:
            self._epoch.seconds += now - self._mark
            self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # the epoch's queue belongs to the epoch
        self._account(self._clock())
        self._epoch.steps += 1
        self._epoch.samples += samples_in(batch)
        if self._to_skip > 0:
            self._to_skip -= 1
            self._skipped.add(self._epoch)
            self._epoch = _Span()
        if batch_idx % SAMPLE_MEMORY_EVERY == 0 or trainer.is_last_batch:
            self._worker_bytes = max(self._worker_bytes, _worker_bytes())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._mark is not None:
            self._account(self._clock())
            self._mark = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = None
        span = self._epoch if self._epoch.steps else self._skipped
        self._epoch, self._skipped = _Span(), _Span()
        if not span.steps or not span.seconds:
            return
        device = pl_module.device
        gib = (
            torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_bytes() + self._worker_bytes
        ) / GIB
        row = torch.tensor([span.samples, span.seconds, span.waiting, span.steps, gib], device=device)
        rows = pl_module.all_gather(row).reshape(-1, row.numel()).cpu().tolist()  # one per rank
        world = _Span(
            # Ranks step together: the slowest one's clock is everybody's.
            steps=int(rows[0][3]),
            samples=int(sum(row[0] for row in rows)),
            seconds=max(row[1] for row in rows),
            waiting=max(row[2] for row in rows),
        )
        self._run.add(world)
        self._peak_gib = max(row[4] for row in rows)
        if not self._fetches:
            rank_zero_warn(f"Lightning's profiler announced no {self.FETCH}: train/data_idle_share is not known.")
        # The numbers are the same on every rank already.
        pl_module.log_dict(self._metrics(world), on_step=False, on_epoch=True, rank_zero_only=True)

    def _metrics(self, span: _Span) -> dict[str, float]:
        metrics = {
            "train/samples_per_s": span.samples / span.seconds,
            "train/seconds_per_step": span.seconds / span.steps,
            "train/peak_memory_gb": self._peak_gib,
        }
        if self._fetches:
            metrics["train/data_idle_share"] = span.waiting / span.seconds
        return metrics

    def summary(self) -> dict[str, float]:
        """The means over the whole run, keys as logged; empty before the end of an epoch. The same on every rank."""
        return self._metrics(self._run) if self._run.seconds else {}


def samples_in(batch: Any) -> int:
    """First dimension of the first tensor of a batch, looked for depth first; 0 where there is none."""
    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else 1
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple | list) else ()
    return next((count for count in map(samples_in, parts) if count), 0)


def _worker_bytes() -> int:
    """Resident bytes of this process's data workers, of those alive now."""
    total = 0
    for worker in multiprocessing.active_children():
        try:
            total += psutil.Process(worker.pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue  # ended between the two calls
    return total


def _peak_bytes() -> int:
    """Peak resident bytes of this process."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
