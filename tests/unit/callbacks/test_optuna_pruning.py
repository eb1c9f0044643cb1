"""Pruning: a real study, real trainers, the sweeper's protocol in between."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig
from optuna.trial import TrialState

from wanamaker.callbacks.optuna_pruning import PRUNED_FILE, STORAGE, STUDY, TRIAL, OptunaPruning
from wanamaker.errors import UserError

Make = Callable[..., Trainer]


def scripted(toy: type, level: float) -> Any:
    class Scripted(toy):  # type: ignore[misc]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", level + 1.0 / (1 + self.current_epoch), sync_dist=True)

    return Scripted()


class StepsOfEveryRank(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        (self.folder / f"rank{trainer.global_rank}").write_text(str(trainer.global_step))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_sweep_prunes_hopeless_trials_on_every_rank(
    make_trainer: Make, toy: type, tmp_path: Path, devices: int
) -> None:
    (tmp_path / "train.yaml").write_text("level: 0.0\nmonitor: {metric: val/loss, mode: min}\n")

    def task(config: DictConfig) -> float:
        folder = Path(HydraConfig.get().runtime.output_dir)
        pruning = OptunaPruning("val/loss", str(folder), n_startup_trials=2, n_warmup_steps=1)
        options = {"devices": 2, "strategy": "ddp_fork"} if devices == 2 else {}
        trainer = make_trainer(callbacks=[pruning, StepsOfEveryRank(folder)], max_epochs=4, **options)
        trainer.fit(scripted(toy, config.level))
        return config.level

    with initialize_config_dir(str(tmp_path), version_base="1.3", job_name="toy"):
        setup_globals()
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        overrides = [
            "hydra/sweeper=optuna",
            "hydra/hydra_logging=none",
            "hydra/job_logging=none",
            f"hydra.sweep.dir={tmp_path}/sweep",
            "hydra.sweeper.sampler=grid",
            "level=choice(1.0,2.0,9.0,0.5)",
        ]
        hydra.multirun("train", task, overrides, with_log_configuration=False)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{tmp_path}/sweep/study.db")
    states = {trial.params["level"]: trial.state for trial in study.trials}
    assert states == {
        1.0: TrialState.COMPLETE,
        2.0: TrialState.COMPLETE,
        9.0: TrialState.PRUNED,
        0.5: TrialState.COMPLETE,
    }
    pruned = next(trial for trial in study.trials if trial.state == TrialState.PRUNED)
    assert list(pruned.intermediate_values) == [0, 1]  # the epoch of grace, and the one it ended after
    folder = tmp_path / "sweep" / "2"
    assert json.loads((folder / PRUNED_FILE).read_text()) == {"study": "toy", "trial": 2, "step": 1}
    steps = [(folder / f"rank{rank}").read_text() for rank in range(devices)]
    assert steps == ["8"] * devices
    assert (tmp_path / "sweep" / "3" / "rank0").read_text() == "16"


def test_outside_a_sweep_nothing_is_pruned(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    pruning = OptunaPruning("val/loss", str(tmp_path))
    trainer = make_trainer(callbacks=[pruning])
    trainer.fit(scripted(toy, 1.0))
    assert trainer.global_step == 12
    assert not pruning.pruned
    assert not (tmp_path / PRUNED_FILE).exists()


def test_a_metric_that_is_not_logged_is_named(
    make_trainer: Make, toy: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=storage, study_name="s").ask()
    for name, value in ((STORAGE, storage), (STUDY, "s"), (TRIAL, "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"monitor=val/lss was not logged.*val/loss"):
        make_trainer(callbacks=[OptunaPruning("val/lss", str(tmp_path))]).fit(scripted(toy, 1.0))
