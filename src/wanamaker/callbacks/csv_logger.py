"""metrics.csv that survives being resumed."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class ResumableCsvLogger(CSVLogger):
    """Writes `metrics.csv` into the run's folder; a resumed run goes on in the same file.

    Lightning's `CSVLogger` deletes the file of the earlier session. Here rows from before the first step of the new
    session stay, later ones, which are about to be logged again, go. Rows are on disk whenever a checkpoint is.

    Args:
        save_dir: Folder of the run.
        flush_logs_every_n_steps: Rows kept in memory between two writes, at most.
    """

    def __init__(self, save_dir: str, flush_logs_every_n_steps: int = 100) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer, opened on first use."""
        if self._experiment is None:
            self._experiment = _ContinuingWriter(self.log_dir)
        return self._experiment

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        self.save()


class _ContinuingWriter(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        self._continued = False
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        """Lightning deletes an existing file here."""

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        if not self._continued:
            self._continued = True
            self._keep_rows_before(step or 0)
        super().log_metrics(metrics_dict, step)

    def _keep_rows_before(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            # A kill may have cut the last row short: its missing fields are None.
            rows = [r for r in reader if None not in r.values() and int(r["step"]) < step]
        if not rows:
            path.unlink()
            return
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=header)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
        self.metrics_keys = header
