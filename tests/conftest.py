"""Fixtures every test may use: the command line as a user types it, and the data folder where there is one."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: several tests and their processes run at a time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
TOY = ROOT / "tests" / "toy"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Of `-n auto`: one more than processors, because a third of the time goes into waiting for commands; at most 4."""
    return min(4, len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1)


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its own hook of this name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In parallel runs, tests of a file stay together for their fixtures; those of every tiny recipe likewise."""
    for item in items:
        recipe = getattr(item, "callspec", None) and item.callspec.params.get("tiny")
        group = f"{item.path.relative_to(ROOT)}{f':{recipe}' if isinstance(recipe, str) else ''}"
        item.add_marker(pytest.mark.xdist_group(group))


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


Run = Callable[..., Result]


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without what a launcher or an earlier run may have left in it."""
    left = ("WANAMAKER_", "SLURM_", "TORCHELASTIC_", "WANDB_", "HYDRA_")
    ranks = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left) and k not in ranks}
    for name in ("WANAMAKER_DATA_DIR", "WANAMAKER_CACHE_DIR"):
        if name in os.environ:
            kept[name] = os.environ[name]
    return kept | extra


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For commands: results under `tmp_path`, the toy family importable and trusted."""
    return clean_environment(
        WANAMAKER_LOG_DIR=str(tmp_path / "logs"),
        WANAMAKER_TRUSTED="wanamaker_toy",
        PYTHONPATH=str(TOY),
        OMP_NUM_THREADS="1",
        COLUMNS="120",
    )


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command in the project folder and wait for it."""

    def call(*command: str, timeout: float = 240, **extra: str) -> Result:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def train(run: Run) -> Run:
    """`python train.py experiment=toy ...` with the tests' own recipes on the search path."""

    def call(*options: str, **kwargs: str) -> Result:
        return run("train.py", "--config-dir", str(TOY / "configs"), "experiment=toy", *options, **kwargs)

    return call


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The data folder; tests that need it are marked `realdata` and skipped without it."""
    folder = os.environ.get("WANAMAKER_DATA_DIR")
    if not folder:
        pytest.skip("WANAMAKER_DATA_DIR is not set")
    return Path(folder)
