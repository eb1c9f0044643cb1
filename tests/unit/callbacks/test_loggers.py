"""Metrics on their way out: CSV that survives a resume, system readings, learning rates, Weights & Biases."""

import csv
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from wanamaker.callbacks import wandb_logger
from wanamaker.callbacks.csv_logger import ResumableCsvLogger
from wanamaker.callbacks.learning_rate import LearningRate
from wanamaker.callbacks.system_metrics import SystemMetrics
from wanamaker.callbacks.wandb_logger import OfflineFirstWandbLogger
from wanamaker.errors import UserError

Make = Callable[..., Trainer]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


class Kill(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def test_csv_goes_on_where_it_was(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    class Stepwise(toy):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("step_loss", float(self.global_step), on_step=True, on_epoch=False)
            return super().training_step(batch, batch_idx)

    def run(folder: Path, *callbacks: Callback, ckpt: Path | None = None) -> None:
        last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = make_trainer(
            callbacks=[last, *callbacks], logger=ResumableCsvLogger(str(folder)), enable_checkpointing=True
        )
        trainer.fit(Stepwise(), ckpt_path=ckpt)

    run(tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(broken, Kill(7))  # three steps after the end of epoch 0
    assert any(row["step"] == "5" for row in rows_of(broken / "metrics.csv"))
    with (broken / "metrics.csv").open("a") as file:
        file.write("0.1,")  # a line the kill cut short
    run(broken, ckpt=broken / "last.ckpt")
    whole, resumed = rows_of(tmp_path / "whole" / "metrics.csv"), rows_of(broken / "metrics.csv")
    assert [(r["step"], r["step_loss"]) for r in resumed] == [(r["step"], r["step_loss"]) for r in whole]
    assert [r["val/loss"] for r in resumed] == [r["val/loss"] for r in whole]


def test_system_metrics_reach_the_logger(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    make_trainer(callbacks=[SystemMetrics(every_n_steps=2)], logger=logger, max_epochs=1).fit(toy())
    rows = [row for row in rows_of(tmp_path / "metrics.csv") if row["system/cpu_percent"]]
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(0 <= float(row["system/cpu_percent"]) <= 100 for row in rows)
    assert all(float(row["system/process_gb"]) > 0.05 for row in rows)
    with pytest.raises(UserError, match="every_n_steps=0"):
        SystemMetrics(every_n_steps=0)


def test_learning_rates_are_logged_and_no_logger_is_no_error(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    make_trainer(callbacks=[LearningRate()], logger=logger, max_epochs=1).fit(toy(lr=0.05))
    assert {row["lr-SGD"] for row in rows_of(tmp_path / "metrics.csv")} == {"", "0.05"}
    make_trainer(callbacks=[LearningRate()], max_epochs=1).fit(toy())


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()


@pytest.mark.usefixtures("no_account")
class TestMode:
    def test_without_a_key_offline(self) -> None:
        assert wandb_logger.mode() == "offline"

    @pytest.mark.parametrize("variable", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
    def test_a_key_means_online(self, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        monkeypatch.setenv(variable, "x")
        assert wandb_logger.mode() == "online"

    def test_wandb_login_means_online_for_its_server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
        assert wandb_logger.mode() == "online"
        monkeypatch.setenv("WANDB_BASE_URL", "http://own.server:8080")
        assert wandb_logger.mode() == "offline"

    def test_an_unreadable_netrc_means_offline(self, tmp_path: Path) -> None:
        (tmp_path / "netrc").write_text("nonsense\n")
        with pytest.warns(UserWarning, match="cannot be read"):
            assert wandb_logger.mode() == "offline"

    def test_the_variable_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "disabled")
        monkeypatch.setenv("WANDB_API_KEY", "x")
        assert wandb_logger.mode() == "disabled"

    def test_uploading_checkpoints_needs_a_key(self) -> None:
        with pytest.raises(UserError, match="log_model=all"):
            OfflineFirstWandbLogger(log_model="all")


def test_ids_survive_a_resume_and_tell_trials_apart() -> None:
    assert wandb_logger.run_name("r1", "/logs/runs/r1") == "r1"
    assert wandb_logger.run_name("r1", "/logs/multiruns/r1/7") == "r1-7"
    assert wandb_logger.run_name("r1-7", "/logs/multiruns/r1/7") == "r1-7"
    assert wandb_logger.run_name("a b/c", "a b/c") == "a-b-c-c"


@pytest.mark.usefixtures("no_account")
def test_offline_runs_one_after_the_other(
    make_trainer: Make, toy: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for trial in (0, 1):
        folder = tmp_path / "sweep" / str(trial)
        logger = OfflineFirstWandbLogger(run_id="sweep", save_dir=str(folder), group="toy", tags=["a"])
        trainer = make_trainer(logger=[logger, CSVLogger(folder)], max_epochs=1, callbacks=[SystemMetrics(1)])
        logger.log_hyperparams({"model": {"lr": 0.1}})
        model = toy()
        trainer.fit(model)
        run = logger.experiment
        trainer.test(model, verbose=False)
        assert logger.experiment is run  # one run for all stages
        assert (run.id, run.group, run.config["model"]) == (f"sweep-{trial}", "toy", {"lr": 0.1})
        assert dict(run.summary)["test/loss"] == pytest.approx(float(trainer.callback_metrics["test/loss"]))
        assert "system/cpu_percent" not in dict(run.summary)
        if trial == 1:
            logger.finish()
            assert logger._experiment is None
        # Trial 0 is not finished: the next one must not write into its run.
        [offline] = (folder / "wandb").glob("offline-run-*")
        assert offline.name.endswith(f"sweep-{trial}")
        assert list(offline.glob("*.wandb"))
    lines = [line for line in caplog.messages if "W&B is offline" in line]
    assert len(lines) == 2
    assert "wandb sync " in lines[0]


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize(("key", "reason"), [("0" * 40, "refused"), ("mistyped", "key")])
def test_an_unreachable_server_or_a_bad_key_ends_in_an_offline_run(
    make_trainer: Make, toy: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, reason: str
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if key == "mistyped":
            server.listen()  # there, so that it is W&B that complains
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        logger = OfflineFirstWandbLogger(run_id="r", save_dir=str(tmp_path / "r"), init_timeout_s=1)
        assert logger.mode == "online"
        with pytest.warns(UserWarning, match=rf"(?i){reason}.*goes on offline"):
            make_trainer(logger=logger, max_epochs=1).fit(toy())
        logger.finish()
    assert logger.mode == "offline"
    assert list((tmp_path / "r" / "wandb").glob("offline-run-*-r"))


@pytest.mark.usefixtures("no_account")
def test_a_failed_run_is_finished(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    class Failing(toy):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise RuntimeError("no")

    logger = OfflineFirstWandbLogger(run_id="r", save_dir=str(tmp_path / "r"))
    logger.log_hyperparams({"a": 1})
    with pytest.raises(RuntimeError, match="no"):
        make_trainer(logger=logger).fit(Failing())
    assert logger._experiment is None
