"""One process group per run: start its ranks, watch them, and end all of them when one ends badly.

The ranks get the environment contract of torchrun (rendezvous through a store hosted by the parent, on a port nobody
else can take), so that Lightning and `torch.distributed` need to know nothing of us. Unlike torchrun, the configuration
travels as one resolved file: every rank has the same hyperparameters whatever sampler chose them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanamaker.errors import Preempted, UserError

FAILURE_GRACE_S = 15.0
"""Time the surviving ranks get to end by themselves after one has failed, before they are killed."""

PREEMPTION_GRACE_S = 90.0
"""Time the ranks get to write a checkpoint after SIGTERM or Ctrl-C, before they are killed."""

POLL_S = 0.05


class RankFailed(RuntimeError):
    """A rank died or raised; the message holds that rank's own error."""


@dataclass(frozen=True)
class Job:
    """A composed run, ready to be started as processes.

    Attributes:
        entry: "train" or "evaluate".
        config_file: The resolved configuration, the same for every rank.
        output_dir: Where results, logs and error records go.
        num_ranks: Processes on this machine.
        environment: Variables the ranks get besides the parent's.
    """

    entry: str
    config_file: Path
    output_dir: Path
    num_ranks: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ranks_dir(self) -> Path:
        """Logs and error records of the single ranks."""
        return self.output_dir / "ranks"

    @property
    def result_file(self) -> Path:
        """Written by rank zero at the end: the value of the monitored metric."""
        return self.ranks_dir / "result.json"


def error_record(ranks_dir: Path, rank: int) -> Path:
    """Where a rank leaves its last words."""
    return ranks_dir / f"rank-{rank}.error.json"


class Supervisor:
    """Runs jobs, one or several at a time, and passes signals on to them."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._signal: int | None = None
        self._signalled_at = 0.0

    @property
    def stopped(self) -> Preempted | None:
        """What to raise when this process was told to stop."""
        return None if self._signal is None else Preempted(self._signal)

    def handle_signals(self) -> None:
        """Pass SIGTERM and Ctrl-C on to every rank as SIGTERM; a second Ctrl-C kills. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, signum: int, _: Any) -> None:
        again = self._signal is not None
        self._signal, self._signalled_at = signum, time.monotonic()
        for process in list(self._live):
            process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def run(self, job: Job) -> float | None:
        """Run all ranks of a job to their end.

        Returns:
            The monitored metric, or None when the job produced none.

        Raises:
            UserError: when a rank met a mistake of the user.
            RankFailed: when a rank died or raised, with its error.
            Preempted: when the run was told to stop.
        """
        if self._signal is not None:
            raise Preempted(self._signal)
        job.ranks_dir.mkdir(parents=True, exist_ok=True)
        job.result_file.unlink(missing_ok=True)
        for rank in range(job.num_ranks):
            error_record(job.ranks_dir, rank).unlink(missing_ok=True)
        processes, store = self._start(job)
        try:
            failed = self._wait(processes)
        finally:
            self._end(processes)
            del store
        if self._signal is not None:
            raise Preempted(self._signal)
        if failed is not None:
            code = processes[failed].returncode
            if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):  # a rank was told to stop, and all agreed
                raise Preempted(code - 128)
            _raise_first_error(job, processes, failed)
        return json.loads(job.result_file.read_text())["value"] if job.result_file.exists() else None

    def _start(self, job: Job) -> tuple[list[subprocess.Popen[bytes]], Any]:
        from torch.distributed import TCPStore

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TORCHELASTIC_", "SLURM_"))}
        threads = str(max(1, (os.cpu_count() or 1) // job.num_ranks))
        inherited.setdefault("OMP_NUM_THREADS", threads)
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": str(job.num_ranks),
            "LOCAL_WORLD_SIZE": str(job.num_ranks),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": uuid.uuid4().hex,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WANAMAKER_RANKS_DIR": str(job.ranks_dir),
        }
        command = [sys.executable, "-m", "wanamaker.runtime.worker", job.entry, str(job.config_file)]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(job.num_ranks):
                ranked = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                # Rank zero speaks to the terminal; the others to a file each.
                log = None if rank == 0 else (job.ranks_dir / f"rank-{rank}.log").open("wb")
                process = subprocess.Popen(
                    command,
                    env=inherited | shared | ranked | job.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log and subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches only the parent, which passes it on once
                )
                processes.append(process)
                with self._lock:
                    self._live.add(process)
                if log is not None:
                    log.close()
        except BaseException:
            self._end(processes)
            raise
        return processes, store

    def _wait(self, processes: list[subprocess.Popen[bytes]]) -> int | None:
        """Wait for all; return the first rank seen to fail, at once."""
        while True:
            codes = [process.poll() for process in processes]
            # A death by signal outranks the errors it causes in the peers a moment later.
            for bad in (lambda c: c is not None and c < 0, lambda c: c not in (None, 0)):
                if self._signal is None:
                    for rank, code in enumerate(codes):
                        if bad(code):
                            return rank
            if all(code is not None for code in codes):
                return None
            if self._signal is not None and time.monotonic() - self._signalled_at > PREEMPTION_GRACE_S:
                return None
            time.sleep(POLL_S)

    def _end(self, processes: list[subprocess.Popen[bytes]]) -> None:
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + FAILURE_GRACE_S
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with self._lock:
            self._live.difference_update(processes)


def _raise_first_error(job: Job, processes: list[subprocess.Popen[bytes]], failed: int) -> None:
    """Raise the error that came first; a peer that lost its connection is a consequence, never the cause."""
    records = []
    silent = []  # ranks that ended badly without a word: killed, or left by os._exit
    for rank, process in enumerate(processes):
        path = error_record(job.ranks_dir, rank)
        if path.exists():
            records.append(json.loads(path.read_text()) | {"rank": rank})
        elif process.returncode not in (0, -signal.SIGTERM):
            silent.append(rank)
    causes = [record for record in records if not record["connection"]]
    if not causes and silent:
        rank = failed if failed in silent else silent[0]
        raise RankFailed(f"Rank {rank} of {job.num_ranks} {_ending(processes[rank].returncode)}.{_tail(job, rank)}")
    if not records:
        raise RankFailed(f"Rank {failed} of {job.num_ranks} {_ending(processes[failed].returncode)}.")
    record = min(causes or records, key=lambda record: record["time"])
    if record["user"]:
        raise UserError(record["message"])
    raise RankFailed(f"Rank {record['rank']} of {job.num_ranks} failed:\n\n{record['traceback']}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    name = signal.Signals(-code).name
    hint = " (the usual cause is too little memory: use a smaller data.batch_size)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def _tail(job: Job, rank: int, lines: int = 15) -> str:
    log = job.ranks_dir / f"rank-{rank}.log"
    if not log.exists():
        return ""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return f" Its last lines ({log}):\n" + "\n".join(f"    {line}" for line in last) if last else ""
