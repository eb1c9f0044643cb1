"""Plain, DDP, torchrun and multirun launches with real processes: one folder, the same numbers, no hangs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT, TOY, Run


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "toy" / "runs"


def test_one_and_two_ranks_agree(train: Run, runs: Path) -> None:
    assert train("run_id=one").status == 0
    assert train("run_id=two", "trainer.devices=2").status == 0
    one, two = metrics(runs / "one"), metrics(runs / "two")
    assert (one["world_size"], two["world_size"]) == (1, 2)
    assert one["optimizer_steps"] == two["optimizer_steps"] == 8
    assert one["monitor"]["value"] == pytest.approx(two["monitor"]["value"], rel=1e-5)
    assert one["metrics"]["test/loss"] == pytest.approx(two["metrics"]["test/loss"], rel=1e-5)
    for name, value in weights(runs / "one").items():
        torch.testing.assert_close(value, weights(runs / "two")[name])
    assert sorted(path.name for path in runs.iterdir()) == ["one", "two"], "one folder per run"


def test_torchrun_over_two_nodes(environment: dict[str, str], runs: Path) -> None:
    port = free_port()
    nodes = []
    for node in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}"]
        command += ["--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
        command += ["train.py", "--config-dir", str(TOY / "configs"), "experiment=toy"]
        nodes.append((command, environment))
    together(nodes, runs.parent)
    (folder,) = runs.iterdir()  # both nodes agreed on one run id
    assert metrics(folder)["world_size"] == 2
    assert metrics(folder)["optimizer_steps"] == 8


def test_srun_starts_the_ranks_and_the_job_id_names_the_run(environment: dict[str, str], runs: Path) -> None:
    """What srun gives its tasks, without SLURM; the requeued job has the same id and finds its run complete."""
    for _ in range(2):
        slurm = {
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_ID": "4321",
            "SLURM_JOB_NAME": "train",
            "SLURM_NODEID": "0",
            "SLURM_NODELIST": "127.0.0.1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        command = [sys.executable, "train.py", "--config-dir", str(TOY / "configs"), "experiment=toy", "trainer=slurm"]
        tasks = []
        for rank in range(2):
            mine = environment | slurm | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
            options = ["trainer.accelerator=cpu"]
            tasks.append((command + options, mine))
        said = together(tasks, runs.parent)
    assert [path.name for path in runs.iterdir()] == ["slurm-4321"]
    assert metrics(runs / "slurm-4321")["world_size"] == 2
    assert "Resuming from" in said[0]


@pytest.mark.parametrize(
    ("how", "rank", "status", "message"),
    [
        ("raise", 1, 1, "the toy broke on purpose"),
        ("user_error", 1, 2, "row 7 of toy.csv is negative; remove it."),
        ("kill", 1, 1, "Rank 1 of 2 was killed by SIGKILL"),
        ("exit", 0, 1, "Rank 0 of 2 ended with status 3"),
    ],
)
def test_a_rank_that_fails_ends_the_run_with_its_own_error(
    train: Run, how: str, rank: int, status: int, message: str
) -> None:
    # The supervisor's own limit is 15 s after the failure; the timeout here is the promise of 60 s and the start-up.
    result = train("trainer.devices=2", f"model.misbehave={how}", f"model.rank={rank}", timeout=90)
    assert result.status == status
    assert message in result.err
    assert "Connection" not in result.err.splitlines()[-1]


def test_multirun_of_several_devices_shares_hyperparameters(train: Run, tmp_path: Path) -> None:
    result = train("-m", "trainer.devices=1,2", "model.optimizer.lr=0.1,0.01", WANAMAKER_RUN_ID="sweep")
    assert result.status == 0, result.said
    folder = tmp_path / "logs" / "toy" / "multiruns" / "sweep"
    trials = [metrics(folder / str(number)) for number in range(4)]
    assert [trial["world_size"] for trial in trials] == [1, 1, 2, 2]
    assert trials[0]["monitor"]["value"] == pytest.approx(trials[2]["monitor"]["value"], rel=1e-5)
    assert trials[1]["monitor"]["value"] == pytest.approx(trials[3]["monitor"]["value"], rel=1e-5)
    assert trials[0]["monitor"]["value"] != pytest.approx(trials[1]["monitor"]["value"], rel=1e-2)
    assert [trial["run_id"] for trial in trials] == [f"sweep-{number}" for number in range(4)]


def test_optuna_with_two_ranks_a_trial(train: Run, run: Run, tmp_path: Path) -> None:
    """Every rank of a trial trains the values that were sampled for it, and the study learns the metric.

    The recipe of the best trial needs the sweep's folder only, though its base lies in a folder of the user's own.
    """
    import optuna
    import yaml

    options = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.seed=1", "trainer.devices=2")
    lr = "model.optimizer.lr=tag(log, interval(0.001, 0.3))"
    result = train("-m", *options, lr, WANAMAKER_RUN_ID="study")
    assert result.status == 0, result.said
    folder = tmp_path / "logs" / "toy" / "multiruns" / "study"
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")
    assert len({trial.params["model.optimizer.lr"] for trial in study.trials}) == 3
    for trial in study.trials:
        summary = metrics(folder / str(trial.number))
        config = yaml.safe_load((folder / str(trial.number) / ".hydra" / "resolved.yaml").read_text())
        assert summary["world_size"] == 2
        assert summary["monitor"]["value"] == pytest.approx(trial.value)
        assert config["model"]["optimizer"]["lr"] == pytest.approx(trial.params["model.optimizer.lr"])
        name = f"run_id=alone{trial.number}"
        if trial.number == study.best_trial.number:
            best = ("--config-dir", str(folder), "experiment=best_recipe")
            alone = run("train.py", *best, name, "trainer.devices=1")
        else:
            alone = train(f"model.optimizer.lr={config['model']['optimizer']['lr']}", name)
        assert alone.status == 0, alone.said
        one = metrics(tmp_path / "logs" / "toy" / "runs" / f"alone{trial.number}")
        assert one["monitor"]["value"] == pytest.approx(trial.value, rel=1e-4)


def test_a_failed_trial_leaves_the_others_alone(train: Run, tmp_path: Path) -> None:
    result = train("-m", "model.misbehave=raise,null", "hydra.launcher.n_jobs=2", WANAMAKER_RUN_ID="sweep")
    assert result.status == 1
    assert "the toy broke on purpose" in result.err
    folder = tmp_path / "logs" / "toy" / "multiruns" / "sweep"
    assert not (folder / "0" / "metrics.json").exists()
    assert metrics(folder / "1")["optimizer_steps"] == 8


def test_multirun_under_torchrun_is_refused(train: Run) -> None:
    result = train("-m", "seed=1,2", TORCHELASTIC_RUN_ID="x", RANK="0", WANAMAKER_RUN_ID="x")
    assert result.status == 2
    assert "-m cannot run under torchrun" in result.err


@pytest.mark.parametrize("devices", [1, 2])
def test_sigterm_writes_a_checkpoint_and_the_same_command_resumes(
    train: Run, runs: Path, tmp_path: Path, devices: int
) -> None:
    """Stopped in the middle of an epoch, on a rank that is not rank zero where there are two."""
    common = (f"trainer.devices={devices}", "trainer.max_epochs=3")
    assert train(*common, "run_id=whole").status == 0
    stop = ("model.misbehave=terminate", f"model.rank={devices - 1}", "model.step=4", f"model.marker={tmp_path}/m")
    first = train(*common, *stop, "run_id=cut")
    assert first.status == 128 + signal.SIGTERM, first.said
    assert f"Saved step {4 + devices} to" in first.out  # two ranks agree one step later
    assert not (runs / "cut" / "metrics.json").exists()
    second = train(*common, *stop, "run_id=cut")
    assert second.status == 0, second.said
    assert "Resuming from" in second.out
    whole, cut = weights(runs / "whole"), weights(runs / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole), "bit for bit as if never stopped"
    assert metrics(runs / "cut")["optimizer_steps"] == 12


def test_sigterm_to_the_parent_reaches_every_rank(environment: dict[str, str], runs: Path) -> None:
    command = [sys.executable, "train.py", "--config-dir", str(TOY / "configs"), "experiment=toy", "run_id=long"]
    options = ["trainer.devices=2", "trainer.max_epochs=100000"]
    parent = subprocess.Popen(command + options, cwd=ROOT, env=environment, stdout=-1, stderr=-2, text=True)
    wait_for(lambda: (runs / "long" / "checkpoints" / "last.ckpt").exists(), parent)
    parent.send_signal(signal.SIGTERM)
    said, _ = parent.communicate(timeout=100)
    assert parent.returncode == 128 + signal.SIGTERM, said
    assert "Saved step" in said


def test_ranks_do_not_outlive_a_killed_parent(environment: dict[str, str], runs: Path) -> None:
    command = [sys.executable, "train.py", "--config-dir", str(TOY / "configs"), "experiment=toy", "run_id=orphan"]
    options = ["trainer.devices=2", "trainer.max_epochs=100000"]
    parent = subprocess.Popen(command + options, cwd=ROOT, env=environment, stdout=-3, stderr=-3)
    wait_for(lambda: (runs / "orphan" / "checkpoints" / "last.ckpt").exists(), parent)
    ranks = children(parent.pid)
    assert len(ranks) == 2
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(alive(rank) for rank in ranks))


def test_failed_write_keeps_the_last_good_checkpoint(train: Run, runs: Path) -> None:
    """A file size limit stands for the full disk: the write fails in the middle with an error of the system."""
    assert train("run_id=full", "trainer.max_epochs=1").status == 0
    before = (runs / "full" / "checkpoints" / "last.ckpt").read_bytes()
    script = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "sys.argv = sys.argv[1:]; runpy.run_path('train.py', run_name='__main__')"
    )
    options = ("--config-dir", str(TOY / "configs"), "experiment=toy", "run_id=full", "trainer.max_epochs=2")
    result = run_python(train, script, "train.py", *options)
    assert result.status == 2, result.said
    assert "Could not write the checkpoint" in result.err
    assert "the disk is full" in result.err
    assert "Still good: best.ckpt, last.ckpt" in result.err
    assert (runs / "full" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list((runs / "full" / "checkpoints").glob(".*partial"))


def together(commands: list[tuple[list[str], dict[str, str]]], folder: Path, seconds: float = 200) -> list[str]:
    """Start all commands, wait until all have succeeded, and return what each said; one that fails ends the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"said_{index}.txt" for index in range(len(commands))]
    processes = []
    for (command, environment), file in zip(commands, files, strict=True):
        with file.open("w") as out:  # a file, not a pipe: nobody waits for a reader
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out))
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        if any(process.poll() for process in processes):
            deadline = min(deadline, time.monotonic() + 20)  # the others may still tell why
        time.sleep(0.1)
    for process in processes:
        process.kill()
        process.wait()
    said = [file.read_text() for file in files]
    assert [process.returncode for process in processes] == [0] * len(commands), "\n=====\n".join(said)
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_python(train: Run, script: str, *arguments: str) -> Any:
    run: Run = train.__closure__[0].cell_contents  # type: ignore[index,union-attr]
    return run("-c", script, *arguments)


def wait_for(condition: Any, process: subprocess.Popen[Any] | None = None, seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children() if "wanamaker.runtime.worker" in child.cmdline()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (Path("/proc") / str(pid) / "stat").read_text().split()[2] != "Z"
