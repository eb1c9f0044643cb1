"""One run id per run, claimed before Hydra starts and inherited by every process of the run.

The id names the output directory. Whoever repeats a command with the same id continues that run.
"""

import os
import re
import secrets
import time

from wanamaker.errors import UserError

RUN_ID = "WANAMAKER_RUN_ID"


def claim() -> str:
    """Return the run id of this process and put it in the environment.

    In order: an id already in the environment; the SLURM job id, which a requeued job keeps; one id agreed on by
    all ranks of a torchrun job; a time stamp with a random tail.

    Raises:
        UserError: when the id could not be a folder name.
    """
    run_id = os.environ.get(RUN_ID) or _from_slurm() or _from_torchrun() or _fresh()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
        raise UserError(
            f"{RUN_ID}={run_id!r} cannot name a folder: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    os.environ[RUN_ID] = run_id
    return run_id


def _fresh() -> str:
    return time.strftime("%Y-%m-%d_%H-%M-%S") + "_" + secrets.token_hex(2)


def _from_slurm() -> str | None:
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is not None:
        return f"slurm-{job}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    job = os.environ.get("SLURM_JOB_ID")
    # An interactive allocation (salloc) runs many commands under one job id: only batch steps are requeued.
    return f"slurm-{job}" if job is not None and "SLURM_PROCID" in os.environ else None


def _from_torchrun() -> str | None:
    """The id that rank 0 proposes through the store torchrun's agents already share."""
    rdzv_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if rdzv_id is None:
        return None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError(
            "The ranks of this torchrun job cannot agree on a run id through its rendezvous: "
            f"set {RUN_ID} to the same value on every node."
        )
    from datetime import timedelta

    from torch.distributed import TCPStore

    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=120),
    )
    key = f"wanamaker/run_id/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if os.environ["RANK"] == "0":
        named = rdzv_id != "none" and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rdzv_id)
        store.set(key, rdzv_id if named else _fresh())
    return store.get(key).decode()
