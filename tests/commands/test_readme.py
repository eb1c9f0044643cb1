"""The README is true: its commands run as written, its table is the menu, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment
from wanamaker.runtime.menu import describe

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = [
    line
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.timeout(1200)
def test_every_console_command_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In the order of the page: later commands use what earlier ones made. On a busy machine more than five minutes."""
    folder = tmp_path_factory.mktemp("readme")
    environment = clean_environment(WANAMAKER_LOG_DIR=str(folder / "logs"), OMP_NUM_THREADS="1")
    environment.setdefault("WANAMAKER_CACHE_DIR", str(folder / "cache"))
    assert len(CONSOLE) >= 8
    for line in CONSOLE:
        command = [word.replace("=logs/", f"={folder}/logs/") for word in shlex.split(line)]
        assert command[0] == "python"
        done = subprocess.run(
            [sys.executable, *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_plain_blocks_name_commands_that_exist() -> None:
    """Commands that need a cluster, a download or minutes are parsed, not run."""
    for block in re.findall(r"```\n(.*?)```", README, flags=re.DOTALL):
        for line in block.splitlines():
            for word in line.split():
                if word.startswith("experiment="):
                    assert (ROOT / "configs" / "experiment" / f"{word.removeprefix('experiment=')}.yaml").exists()
                if word.endswith((".py", ".sbatch")):
                    assert (ROOT / word).exists(), word
            if line.startswith("make "):
                assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_table_of_experiments_is_the_menu() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", README, flags=re.MULTILINE))
    recipes = {path.stem: describe(path) for path in (ROOT / "configs" / "experiment").glob("*.yaml")}
    assert rows == recipes


def test_links_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if not target.startswith("http")]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_documents_exist(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8")) > 500


def test_help_is_immediate_and_complete() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "experiment=NAME" in done.stdout
    assert "debug" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "lightning", "pandas"}, "help must not wait for the heavy libraries"


def test_menu_lists_every_experiment() -> None:
    done = subprocess.run([sys.executable, "train.py"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for recipe in (ROOT / "configs" / "experiment").glob("*.yaml"):
        assert Path(recipe).stem in done.stdout
