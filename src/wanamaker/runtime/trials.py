"""One trial of a multirun: checked and prepared by the sweeping process, run later in processes of its own."""

import os
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from wanamaker.errors import UserError
from wanamaker.runtime.jobs import prepare
from wanamaker.runtime.launch import check_run
from wanamaker.runtime.processes import Job


def prepare_trial(config: DictConfig, number: int, n_jobs: int) -> Job:
    """Check a composed trial and write its job file.

    Args:
        config: The composed trial; its run id gets the trial's number.
        number: Number of the trial within the sweep.
        n_jobs: How many trials run at a time.

    Raises:
        UserError: when the trial cannot run, or the GPUs do not suffice for `n_jobs` trials at a time.
    """
    config.run_id = f"{config.run_id}-{number}"
    devices = check_run(config, Path(config.paths.output_dir))
    gpus = _gpus() if n_jobs > 1 and config.trainer.get("accelerator") != "cpu" else 0
    if gpus and n_jobs * devices > gpus:
        raise UserError(
            f"hydra.launcher.n_jobs={n_jobs} trials of trainer.devices={devices} need {n_jobs * devices} GPUs, "
            f"and there are {gpus}. Use hydra.launcher.n_jobs={max(1, gpus // devices)}."
        )
    # The trial's processes start when Hydra has already put the environment of this job back.
    environment = {str(key): str(value) for key, value in HydraConfig.get().job.env_set.items()}
    if gpus:
        environment["WANAMAKER_TRIAL_DEVICE"] = "gpu"
    return prepare("train", config, devices, environment)


def in_slot(job: Job, slot: int, n_jobs: int) -> Job:
    """The job with its own GPUs, or its own share of the cores, when several trials run at a time.

    Args:
        job: A prepared trial.
        slot: A number below `n_jobs` that no other running trial has.
        n_jobs: How many trials run at a time.
    """
    if n_jobs == 1:
        return job
    if job.environment.get("WANAMAKER_TRIAL_DEVICE") == "gpu":
        mine = range(slot * job.num_ranks, (slot + 1) * job.num_ranks)
        share = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, mine))}
    else:
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (n_jobs * job.num_ranks)))}
    return replace(job, environment=job.environment | share)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
