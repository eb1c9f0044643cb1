"""The multirun launcher: every trial is a process group of its own, one after another or several at a time."""

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


@dataclass
class ProcessLauncherConfig:
    """Options of `hydra/launcher=process`.

    Attributes:
        n_jobs: Trials at a time. On GPUs each running trial gets its own `trainer.devices` of them.
    """

    _target_: str = "hydra_plugins.wanamaker_launcher.ProcessLauncher"
    n_jobs: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessLauncherConfig, provider="wanamaker")


class ProcessLauncher(Launcher):
    """Prepares each trial in this process and runs it in fresh ones.

    A trial that fails, runs out of memory or is killed leaves the sweep and the other trials as they were; the sweeper
    learns of it when it asks for that trial's value.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from wanamaker.runtime.processes import Supervisor

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        supervisor = Supervisor()
        supervisor.handle_signals()
        slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.n_jobs):
            slots.put(slot)
        with ThreadPoolExecutor(max_workers=self.n_jobs) as pool:
            prepared = [
                self._prepare(list(overrides), initial_job_idx + number)
                for number, overrides in enumerate(job_overrides)
            ]
            futures = [
                pool.submit(_run, supervisor, trial, slots, self.n_jobs) if trial.status is JobStatus.UNKNOWN else None
                for trial in prepared
            ]
            for future in futures:
                if future is not None:
                    future.result()
        if supervisor.stopped is not None:
            raise supervisor.stopped
        return prepared

    def _prepare(self, overrides: list[str], number: int) -> JobReturn:
        """Compose one trial and write its resolved configuration; a trial that fails its checks fails alone."""
        from wanamaker.runtime.trials import prepare_trial

        print(f"Trial {number}: {' '.join(filter_overrides(overrides))}", flush=True)
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number

        def task(trial: DictConfig) -> Any:
            return prepare_trial(trial, number, self.n_jobs)

        result = run_job(
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
            configure_logging=False,
        )
        if result.status is JobStatus.COMPLETED:
            result.status = JobStatus.UNKNOWN  # prepared, not yet run
        return result


def _run(supervisor: Any, trial: JobReturn, slots: queue.SimpleQueue[int], n_jobs: int) -> None:
    from wanamaker.runtime.trials import in_slot

    job = trial._return_value
    slot = slots.get()
    try:
        trial.return_value = supervisor.run(in_slot(job, slot, n_jobs))
        trial.status = JobStatus.COMPLETED
    except (Exception, SystemExit) as error:
        trial.return_value = error
        trial.status = JobStatus.FAILED
        print(f"Trial in {job.output_dir} failed: {error}", flush=True)
    finally:
        slots.put(slot)
