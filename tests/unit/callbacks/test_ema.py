from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from wanamaker.callbacks.ema import KEY, ExponentialMovingAverage
from wanamaker.errors import UserError

Make = Callable[..., Trainer]


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def by_hand(start: Tensor, weights: list[Tensor], ema: ExponentialMovingAverage) -> list[Tensor]:
    """The definition: average += (1 - decay) * (weights - average) after every update."""
    averages, average, updates = [], start.clone(), 0
    for step, weight in enumerate(weights, start=1):
        if step % ema.every_n_steps == 0:
            decay = min(ema.decay, (1 + updates) / (ema.warmup + updates)) ** ema.every_n_steps
            average = decay * average + (1 - decay) * weight
            updates += 1
        averages.append(average)
    return averages


@pytest.mark.parametrize(("warmup", "every"), [(10, 1), (1, 1), (4, 3)])
def test_validation_and_the_end_of_training_see_the_average(
    make_trainer: Make, toy: type, warmup: int, every: int
) -> None:
    model, ema = toy(), ExponentialMovingAverage(decay=0.9, warmup=warmup, every_n_steps=every)
    start = model.net[0].weight.detach().clone()
    make_trainer(callbacks=[ema]).fit(model)
    expected = by_hand(start, model.raw, ema)
    for seen, step in zip(model.validated, (4, 8, 12), strict=True):
        torch.testing.assert_close(seen, expected[step - 1])
        assert not torch.equal(seen, model.raw[step - 1])
    torch.testing.assert_close(model.net[0].weight, expected[-1])


def test_training_itself_is_untouched(make_trainer: Make, toy: type) -> None:
    plain, averaged = toy(norm=True), toy(norm=True)
    make_trainer().fit(plain)
    make_trainer(callbacks=[ExponentialMovingAverage()]).fit(averaged)
    assert all(torch.equal(a, b) for a, b in zip(plain.raw, averaged.raw, strict=True))


def test_updates_follow_optimiser_steps_not_batches(make_trainer: Make, toy: type) -> None:
    ema = ExponentialMovingAverage()
    make_trainer(callbacks=[ema], accumulate_grad_batches=2, max_epochs=2).fit(toy())
    assert ema.num_updates == 4


def test_the_checkpoint_holds_the_average_and_the_raw_weights(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    model, ema = toy(norm=True), ExponentialMovingAverage(decay=0.9)
    checkpoint = ModelCheckpoint(tmp_path, "best", monitor="val/loss", enable_version_counter=False)
    trainer = make_trainer(callbacks=[ema, checkpoint], enable_checkpointing=True)
    trainer.fit(model)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    step = saved["global_step"]
    assert torch.equal(saved["state_dict"]["net.0.weight"], model.validated[step // 4 - 1])
    assert torch.equal(saved[KEY]["raw_state_dict"]["net.0.weight"], model.raw[step - 1])
    assert saved[KEY]["num_updates"] == step
    # Statistics of BatchNorm are averaged, its counter is copied.
    assert int(saved["state_dict"]["net.1.num_batches_tracked"]) == step
    assert not torch.equal(
        saved["state_dict"]["net.1.running_mean"], saved[KEY]["raw_state_dict"]["net.1.running_mean"]
    )
    assert saved["state_dict"].keys() == saved[KEY]["raw_state_dict"].keys() == model.state_dict().keys()
    # Whoever loads it evaluates the average: a new module, and this trainer with the callback still there.
    fresh = toy(norm=True)
    fresh.load_state_dict(saved["state_dict"])
    trainer.test(model, ckpt_path=str(tmp_path / "best.ckpt"), verbose=False)
    assert torch.equal(model.tested[0], fresh.net[0].weight)


@pytest.mark.parametrize("step", [3, 4, 6])
def test_resume_equals_an_unbroken_run(make_trainer: Make, toy: type, tmp_path: Path, step: int) -> None:
    # Batches of one sample order: Lightning replays the epoch from its start, so resume at the same position.
    class FullBatch(toy):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return DataLoader([next(iter(self._loader(32)))] * 4, batch_size=None)  # type: ignore[arg-type]

    whole, path = FullBatch(norm=True), tmp_path / "mid.ckpt"
    make_trainer(callbacks=[ExponentialMovingAverage(decay=0.9), SaveAt(step, path)], enable_checkpointing=True).fit(
        whole
    )
    resumed, ema = FullBatch(norm=True), ExponentialMovingAverage(decay=0.9)
    trainer = make_trainer(callbacks=[ema], enable_checkpointing=True)
    trainer.fit(resumed, ckpt_path=path)
    assert trainer.global_step == 12
    assert ema.num_updates == 12
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert all(torch.equal(a, b) for a, b in zip(whole.raw[step:], resumed.raw, strict=True))


def test_a_checkpoint_without_an_average_starts_one(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    model = toy()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "raw.ckpt")
    ema = ExponentialMovingAverage(decay=0.9)
    resumed = toy()
    make_trainer(callbacks=[ema], max_epochs=2).fit(resumed, ckpt_path=tmp_path / "raw.ckpt")
    assert ema.num_updates == 4
    torch.testing.assert_close(resumed.net[0].weight, by_hand(model.raw[-1], resumed.raw, ema)[-1])


def test_buffers_that_are_no_running_statistics_are_the_module_s_own(
    make_trainer: Make, toy: type, tmp_path: Path
) -> None:
    """A limit, a counter, and a calibration that every validation fits anew to the weights it sees."""

    class Calibrated(toy):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("limit", torch.tensor([float("inf"), 2.0]))
            self.register_buffer("count", torch.tensor(0))
            self.register_buffer("table", torch.zeros(1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.count += 1
            return super().training_step(batch, batch_idx)

        def on_validation_epoch_end(self) -> None:
            self.table.copy_(self.net[0].weight[0, :1])

    model, resumed = Calibrated(), Calibrated()
    callbacks = [
        ExponentialMovingAverage(decay=0.9),
        ModelCheckpoint(tmp_path, "last", enable_version_counter=False),
    ]
    make_trainer(callbacks=callbacks, enable_checkpointing=True).fit(model)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    make_trainer(callbacks=[ExponentialMovingAverage(decay=0.9)]).fit(resumed, ckpt_path=tmp_path / "last.ckpt")
    for state in (saved["state_dict"], saved[KEY]["raw_state_dict"], model.state_dict(), resumed.state_dict()):
        assert state["limit"].tolist() == [float("inf"), 2.0]
        assert int(state["count"]) == 12
        assert torch.equal(state["table"], model.validated[-1][0, :1])
    assert torch.equal(saved["state_dict"]["net.0.weight"], model.validated[-1])


def test_an_error_in_validation_leaves_the_raw_weights(make_trainer: Make, toy: type) -> None:
    class Failing(toy):  # type: ignore[misc]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise RuntimeError("no")

    model = Failing()
    with pytest.raises(RuntimeError, match="no"):
        make_trainer(callbacks=[ExponentialMovingAverage()]).fit(model)
    assert torch.equal(model.net[0].weight, model.raw[-1])


def test_tied_weights_stay_tied(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    class Tied(toy):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.again = self.net[0]

    model = Tied()
    trainer = make_trainer(callbacks=[ExponentialMovingAverage(decay=0.9)])
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "tied.ckpt")
    state = torch.load(tmp_path / "tied.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["again.weight"], state["net.0.weight"])
    assert model.again.weight is model.net[0].weight


def test_two_ranks_keep_the_average_of_one(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            torch.save(pl_module.state_dict(), tmp_path / f"{trainer.world_size}-{trainer.global_rank}.pt")

    for world in (1, 2):
        options = {"devices": 2, "strategy": "ddp_fork"} if world == 2 else {}
        make_trainer(callbacks=[ExponentialMovingAverage(decay=0.9), Save()], **options).fit(toy())
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)


def test_ranks_validate_with_the_statistics_that_are_saved(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            torch.save(pl_module.state_dict(), tmp_path / f"{trainer.global_rank}.pt")

    make_trainer(callbacks=[ExponentialMovingAverage(), Save()], devices=2, strategy="ddp_fork").fit(toy(norm=True))
    first, second = torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    assert torch.equal(first["net.1.running_mean"], second["net.1.running_mean"])


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"warmup": 0}, {"every_n_steps": 0}])
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        ExponentialMovingAverage(**options)


def test_weights_only_checkpoints_are_refused(make_trainer: Make, toy: type, tmp_path: Path) -> None:
    callbacks = [ExponentialMovingAverage(), ModelCheckpoint(tmp_path, save_weights_only=True)]
    with pytest.raises(UserError, match="save_weights_only"):
        make_trainer(callbacks=callbacks, enable_checkpointing=True).fit(toy())
