"""What the machine does while it trains: CPU, memory, GPU."""

from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from wanamaker.errors import UserError

GIB = 2**30


class SystemMetrics(Callback):
    """Logs, every few steps and on rank zero:

    - `system/cpu_percent`: of all cores together, since the last time, 0 to 100;
    - `system/memory_percent`: of the machine's memory in use;
    - `system/process_gb`: resident memory of this process, GiB;
    - `system/gpu_memory_gb`: allocated by PyTorch on this rank's GPU, GiB;
    - `system/gpu_percent`: share of time in which that GPU was busy, where NVIDIA's library (`nvidia-ml-py`) is there.

    Weights & Biases collects its own and is left out.

    Args:
        every_n_steps: Batches between two readings.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise UserError(
                f"callbacks.system_metrics.every_n_steps={every_n_steps}: give a whole number of at least 1."
            )
        self.every_n_steps = every_n_steps
        self._gpu_percent_known = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        psutil.cpu_percent()  # the first call has nothing to compare with and returns 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or (batch_idx + 1) % self.every_n_steps:
            return
        loggers = [logger for logger in trainer.loggers if not isinstance(logger, WandbLogger)]
        if loggers:
            metrics = self._read(pl_module.device)
            for logger in loggers:
                logger.log_metrics(metrics, step=trainer.global_step)

    def _read(self, device: torch.device) -> dict[str, float]:
        metrics = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_percent": psutil.virtual_memory().percent,
            "system/process_gb": psutil.Process().memory_info().rss / GIB,
        }
        if device.type == "cuda":
            metrics["system/gpu_memory_gb"] = torch.cuda.memory_allocated(device) / GIB
            if self._gpu_percent_known:
                try:
                    metrics["system/gpu_percent"] = float(torch.cuda.utilization(device))
                except (ImportError, RuntimeError) as error:
                    self._gpu_percent_known = False
                    rank_zero_info(f"system/gpu_percent is left out: {str(error).splitlines()[0]}")
        return metrics
