"""Progress in the terminal: a bar for people, a line per epoch for log files."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.console import Console

THEME = RichProgressBarTheme(
    description="bold",
    progress_bar="cyan",
    progress_bar_finished="green",
    progress_bar_pulse="cyan",
    batch_progress="",
    time="dim",
    processing_speed="dim",
    metrics="",
    metrics_text_delimiter="  ",
    metrics_format=".4g",
)


class TerminalProgressBar(RichProgressBar):
    """Lightning's rich bar where there is a terminal; elsewhere one plain line per epoch.

    The bar is redrawn a few times per second rather than per step, and its metrics are read only then: reading
    one waits for the GPU.

    A line looks like `epoch 2/10  160 steps  41 s  train/loss 0.8312  val/ap 0.4127`: the metrics logged with
    `prog_bar=True`, the training loss and the monitored metric.

    Args:
        monitor: A metric to show, whether or not it was logged for the bar.
        refresh_rate: Redraws per second; 0 shows nothing at all, in a file neither.
        line_every_s: Without a terminal, also a line whenever this many seconds of an epoch have passed.
        console_kwargs: Passed to `rich.console.Console`.
    """

    def __init__(
        self,
        monitor: str | None = None,
        refresh_rate: int = 4,
        line_every_s: float = 300.0,
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(refresh_rate=refresh_rate, theme=THEME, console_kwargs=console_kwargs)
        self.monitor = monitor
        self.line_every_s = line_every_s
        self._clock = time.perf_counter
        self._next_redraw = 0.0
        self._plain = False
        self._epoch: int | None = None  # the epoch in progress, not yet reported
        self._epoch_started = self._next_line = 0.0
        self._steps = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)  # silences the other ranks
        console = Console(**self._console_kwargs)
        interactive = console.is_interactive or console.is_jupyter
        self._plain = trainer.is_global_zero and self.refresh_rate > 0 and not interactive
        if self._plain:
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)  # the logger's version: the run id says more
        for name in ("train/loss", self.monitor):
            if name in trainer.callback_metrics and name not in shown:
                shown[name] = float(trainer.callback_metrics[name])
        return shown

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        # Means over an epoch are known only after every on_train_epoch_end hook: report it here.
        self._report_epoch(trainer, pl_module)
        self._epoch, self._steps = trainer.current_epoch, 0
        self._epoch_started = self._clock()
        self._next_line = self._epoch_started + self.line_every_s

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        now = self._clock()
        if self._plain:
            if now >= self._next_line and not trainer.is_last_batch:
                self._next_line = now + self.line_every_s
                of = f"/{self.total_train_batches}" if self.total_train_batches != float("inf") else ""
                self._line(trainer, pl_module, f"epoch {self._of(trainer)}  step {batch_idx + 1}{of}", now)
        elif now >= self._next_redraw or trainer.is_last_batch:
            self._next_redraw = now + 1 / max(1, self.refresh_rate)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._report_epoch(trainer, pl_module)

    def _report_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._plain and self._epoch is not None:
            steps = f"{self._steps} step{'s' if self._steps != 1 else ''}"
            self._line(trainer, pl_module, f"epoch {self._of(trainer)}  {steps}", self._clock())
        self._epoch = None

    def _of(self, trainer: Trainer) -> str:
        number = (self._epoch or 0) + 1
        return f"{number}/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else str(number)

    def _line(self, trainer: Trainer, pl_module: LightningModule, text: str, now: float) -> None:
        metrics = self.get_metrics(trainer, pl_module)
        values = "".join(f"  {n} {v:.4g}" if isinstance(v, int | float) else f"  {n} {v}" for n, v in metrics.items())
        print(f"{text}  {now - self._epoch_started:.0f} s{values}", flush=True)
