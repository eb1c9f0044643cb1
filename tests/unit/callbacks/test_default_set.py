"""The files of configs/callbacks, configs/logger and configs/sweep, composed and run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig

Make = Callable[..., Trainer]
CONFIGS = Path(__file__).parents[3] / "configs"

ROOT = """
defaults:
  - callbacks: default
  - logger: [csv]
  - sweep: null
  - experiment: base
  - _self_
seed: 0
run_id: r1
tags: [a]
experiment: base
monitor: {metric: val/loss, mode: min}
model: {optimizer: {lr: 0.1, weight_decay: 0.0}}
paths: {output_dir: OUT}
"""


AVERAGED = """# @package _global_
defaults:
  - override /callbacks: [default, ema]
  - override /logger: [csv, tensorboard]
  - _self_
"""


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., DictConfig]:
    folder = tmp_path / "configs"
    (folder / "experiment").mkdir(parents=True)
    (folder / "root.yaml").write_text(ROOT.replace("OUT", str(tmp_path / "out")))
    (folder / "experiment" / "base.yaml").write_text("# @package _global_\n{}\n")
    (folder / "experiment" / "averaged.yaml").write_text(AVERAGED)

    def run(*overrides: str, hydra: bool = False) -> DictConfig:
        with initialize_config_dir(str(folder), version_base="1.3"):
            search = f"hydra.searchpath=[file://{CONFIGS}]"
            return compose("root", [search, *overrides], return_hydra_config=hydra)

    return run


def built(node: Any) -> dict[str, Any]:
    return {name: instantiate(entry, _convert_="all") for name, entry in (node or {}).items() if entry is not None}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ([], ["csv"]),
        (["logger=csv"], ["csv"]),
        (["logger=tensorboard"], ["tensorboard"]),
        (["logger=[csv,wandb]"], ["csv", "wandb"]),
        (["logger=all"], ["csv", "tensorboard", "wandb"]),
        (["logger=none"], []),
        (["experiment=averaged"], ["csv", "tensorboard"]),
    ],
)
def test_loggers_are_chosen_singly_and_together(
    composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, override: list[str], expected: list[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = composed(*override)
    assert list(config.logger or {}) == expected
    assert list(built(config.logger)) == expected


@pytest.mark.parametrize(
    ("override", "extra"),
    [
        ("callbacks=default", set()),
        ("callbacks=[default,ema]", {"ema"}),
        ("callbacks=[default,early_stopping,optuna_pruning]", {"early_stopping", "optuna_pruning"}),
        ("experiment=averaged", {"ema"}),
    ],
)
def test_sets_of_callbacks_add_up(composed: Callable[..., DictConfig], override: str, extra: set[str]) -> None:
    usual = {"best", "last", "step_seed", "throughput", "learning_rate", "system_metrics", "progress", "metric_table"}
    callbacks = built(composed(override).callbacks)
    assert set(callbacks) == usual | extra
    assert all(isinstance(callback, Callback) for callback in callbacks.values())


def test_callbacks_can_be_switched_off(composed: Callable[..., DictConfig]) -> None:
    assert "progress" not in built(composed("callbacks.progress=null").callbacks)
    assert built(composed("callbacks=none").callbacks) == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "sweep").glob("*.yaml")))
def test_every_sweep_names_keys_that_recipes_have(composed: Callable[..., DictConfig], name: str) -> None:
    config = composed(f"sweep={name}", hydra=True)
    assert config.hydra.mode.name == "MULTIRUN"
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    assert all(override.is_sweep_override() for override in OverridesParser.create().parse_overrides(params))
    keys = list(config.hydra.sweeper.params)
    of_recipes = ("model.net.", "trainer.")
    composed(*(f"{key}=1" for key in keys if not key.startswith(("data.", *of_recipes))))
    sources = [yaml.safe_load(path.read_text()) for path in (CONFIGS / "data").glob("*.yaml")]
    recipes = [yaml.safe_load(path.read_text()) for path in (CONFIGS / "experiment").glob("*.yaml")]
    for key in keys:  # not every data source and not every family has every key, but one must
        if key.startswith("data."):
            assert any(has(file, key.split(".")[1:]) for file in sources), key
        if key.startswith(of_recipes):
            assert any(has(file, key.split(".")) for file in recipes), key


def has(node: Any, path: list[str]) -> bool:
    """Whether a nested mapping has a key; null stands for a mapping that is not used."""
    if not path:
        return True
    return isinstance(node, dict) and path[0] in node and (node[path[0]] is None or has(node[path[0]], path[1:]))


def losses(*values: float) -> Any:
    """A module's mixin: the validation loss of each epoch, whatever the weights."""

    class Scripted:
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", values[self.current_epoch])  # type: ignore[attr-defined]

    return Scripted


@pytest.fixture
def fit(composed: Callable[..., DictConfig], make_trainer: Make, toy: type) -> Callable[..., Trainer]:
    def run(values: tuple[float, ...], *extra: Callback, ckpt: Path | None = None) -> Trainer:
        config = composed("callbacks.progress=null", "callbacks.metric_table=null")
        callbacks = [*built(config.callbacks).values(), *extra]
        module = type("Module", (losses(*values), toy), {})
        trainer = make_trainer(callbacks=callbacks, enable_checkpointing=True, max_epochs=len(values))
        trainer.fit(module(), ckpt_path=ckpt)
        return trainer

    return run


def epoch_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["epoch"]


def test_last_is_written_in_epochs_that_do_not_improve(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer = fit((3.0, 1.0, 2.0, 5.0))
    folder = tmp_path / "out" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (epoch_of(folder / "best.ckpt"), epoch_of(folder / "last.ckpt")) == (1, 3)
    # Whoever asks the trainer for its best file gets it.
    assert trainer.checkpoint_callback.best_model_path == str(folder / "best.ckpt")  # type: ignore[union-attr]


def test_resuming_keeps_two_files_and_the_best_score(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    folder = tmp_path / "out" / "checkpoints"
    fit((3.0, 1.0, 2.0))
    trainer = fit((3.0, 1.0, 2.0, 1.5), ckpt=folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (epoch_of(folder / "best.ckpt"), epoch_of(folder / "last.ckpt")) == (1, 3)
    assert float(trainer.checkpoint_callback.best_model_score) == 1.0  # type: ignore[union-attr]
    fit((3.0, 1.0, 2.0, 1.5, 0.5), ckpt=folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (epoch_of(folder / "best.ckpt"), epoch_of(folder / "last.ckpt")) == (4, 4)


def test_a_kill_between_the_two_files_is_repaired_by_resuming(fit: Callable[..., Trainer], tmp_path: Path) -> None:
    folder = tmp_path / "out" / "checkpoints"
    fit((3.0, 2.0))
    before = (folder / "last.ckpt").read_bytes()
    fit((3.0, 2.0, 1.0), ckpt=folder / "last.ckpt")
    (folder / "last.ckpt").write_bytes(before)  # best.ckpt is of epoch 2, last.ckpt never got there
    trainer = fit((3.0, 2.0, 1.0, 1.5), ckpt=folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (epoch_of(folder / "best.ckpt"), epoch_of(folder / "last.ckpt")) == (2, 3)
    assert float(trainer.checkpoint_callback.best_model_score) == 1.0  # type: ignore[union-attr]
    assert trainer.checkpoint_callback.best_model_path == str(folder / "best.ckpt")  # type: ignore[union-attr]


def test_last_may_also_be_written_within_an_epoch(
    composed: Callable[..., DictConfig], make_trainer: Make, toy: type, tmp_path: Path
) -> None:
    class Kill(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 7:
                raise RuntimeError("killed")

    callbacks = built(composed("+callbacks.last.every_n_train_steps=2", "callbacks.progress=null").callbacks)
    with pytest.raises(RuntimeError, match="killed"):
        make_trainer(callbacks=[*callbacks.values(), Kill()], enable_checkpointing=True).fit(toy())
    folder = tmp_path / "out" / "checkpoints"
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 6
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
