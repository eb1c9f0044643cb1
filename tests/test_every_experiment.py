"""Every recipe composes and passes the checks; every tiny recipe trains, resumes, scales and is rebuilt.

Recipes are discovered: a new family gets all of this by adding its `_tiny` recipe.
"""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT, clean_environment
from tests.runtime.test_launch import wait_for

RECIPES = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
TINY = [name for name in RECIPES if name.endswith("_tiny")]


@pytest.fixture
def compose_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANAMAKER_RUN_ID", "composed")
    monkeypatch.setenv("WANAMAKER_ROOT", str(ROOT))
    yield
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_composes_and_passes_the_checks(name: str, compose_environment: None) -> None:
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict, read_write

    from wanamaker.runtime import checks, overrides, schema

    schema.register()
    # A recipe that starts from the user's own weights says so with a mandatory value.
    given = [f"experiment={name}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        _, config = overrides.check("train", given, False, checks.arguments_of)
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra.runtime):
        config.hydra.runtime.output_dir = "logs/composed"
    HydraConfig.instance().set_config(config)
    with read_write(config), open_dict(config):
        del config["hydra"]
        for key in sorted(OmegaConf.missing_keys(config)):
            OmegaConf.update(config, key, "given-by-the-user")
    checks.check_values(config, "train")
    checks.check_targets(config)
    assert config.monitor.metric.startswith("val/")
    assert name.startswith(config.task_name), "runs of one family lie in one folder"


class Tiny:
    """Runs of one tiny recipe, made once and shared by the tests below."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.environment = clean_environment(WANAMAKER_LOG_DIR=str(folder), OMP_NUM_THREADS="1")
        # Rendered once for the whole test session unless the user keeps a cache anyway.
        self.environment.setdefault("WANAMAKER_CACHE_DIR", str(folder.parent / "cache"))

    def command(self, run_id: str, *options: str) -> list[str]:
        return [sys.executable, "train.py", f"experiment={self.name}", f"run_id={run_id}", *options]

    def call(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def folder_of(self, run_id: str) -> Path:
        (folder,) = self.folder.glob(f"*/*/{run_id}")
        return folder

    def metrics(self, run_id: str) -> dict[str, Any]:
        return json.loads((self.folder_of(run_id) / "metrics.json").read_text())

    def weights(self, run_id: str, name: str = "last") -> dict[str, torch.Tensor]:
        return torch.load(self.folder_of(run_id) / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny recipe trained once from start to end."""
    made = Tiny(request.param, tmp_path_factory.mktemp(request.param))
    made.call(made.command("straight"))
    return made


def test_tiny_recipe_trains_and_reports(tiny: Tiny) -> None:
    summary = tiny.metrics("straight")
    assert summary["experiment"] == tiny.name
    assert summary["optimizer_steps"] > 0
    monitored = summary["monitor"]
    assert math.isfinite(monitored["value"])
    assert summary["metrics"][monitored["metric"]] == monitored["value"]
    assert any(name.startswith("test/") for name in summary["metrics"])


def test_killed_and_resumed_equals_unbroken(tiny: Tiny) -> None:
    """Also: the same seed reproduces the same weights, bit for bit."""
    command = tiny.command("cut")
    process = subprocess.Popen(command, cwd=ROOT, env=tiny.environment, stdout=-3, stderr=-3, start_new_session=True)
    checkpoint = tiny.folder_of("straight").parent / "cut" / "checkpoints" / "last.ckpt"
    wait_for(checkpoint.exists)
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = tiny.call(command)
    assert "Resuming from" in said
    straight, cut = tiny.weights("straight"), tiny.weights("cut")
    assert straight.keys() == cut.keys()
    different = [name for name in straight if not torch.equal(straight[name], cut[name])]
    assert not different
    assert tiny.metrics("cut")["monitor"]["value"] == tiny.metrics("straight")["monitor"]["value"]


def test_two_ranks_take_the_same_steps(tiny: Tiny) -> None:
    tiny.call(tiny.command("two", "trainer=ddp_cpu"))
    one, two = tiny.metrics("straight"), tiny.metrics("two")
    assert two["world_size"] == 2
    assert one["optimizer_steps"] == two["optimizer_steps"]
    assert two["monitor"]["value"] == pytest.approx(one["monitor"]["value"], abs=0.02, rel=0.02)
    assert one["metrics"].keys() >= {name for name in two["metrics"] if name.startswith(("val/", "test/"))}


@pytest.mark.parametrize("devices", [1, 2])
def test_rebuilt_from_the_checkpoint_scores_the_same(tiny: Tiny, devices: int) -> None:
    """Evaluated in batches as small as they get, on one rank and on two."""
    best = tiny.folder_of("straight") / "checkpoints" / "best.ckpt"
    options = [f"data.eval_batch_size={devices}", "trainer=ddp_cpu", f"trainer.devices={devices}"]
    run_id = f"rebuilt{devices}"
    tiny.call([sys.executable, "evaluate.py", f"ckpt_path={best}", f"run_id={run_id}", *options])
    straight, rebuilt = tiny.metrics("straight")["metrics"], tiny.metrics(run_id)["metrics"]
    tested = {name: value for name, value in straight.items() if name.startswith("test/")}
    assert tested
    for name, value in tested.items():
        if value is None:
            assert rebuilt[name] is None
        else:
            assert rebuilt[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    from wanamaker.predictions import KINDS, read_predictions

    assert type(read_predictions(tiny.folder_of(run_id) / "predictions")) in KINDS.values()
