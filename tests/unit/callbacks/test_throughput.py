from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from wanamaker.callbacks.throughput import Throughput, samples_in

Make = Callable[..., Trainer]


class Clock:
    """Time passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Slow(Dataset[Any]):
    """Reading a sample takes half a second of the clock's."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.clock.now += 0.5
        return torch.ones(4), torch.ones(1)


def timed(toy: type, clock: Clock) -> Any:
    class Timed(toy):  # type: ignore[misc]
        """A step takes 8 seconds, a validation batch 50, an optimiser's logging 1."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            clock.now += 8.0
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, *args: Any) -> None:
            clock.now += 1.0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            clock.now += 50.0

        def train_dataloader(self) -> Any:
            return DataLoader(Slow(clock), batch_size=4)

    return Timed()


class Record(Callback):
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch:
            self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize("interval", [1.0, 0.25])  # validation at the end of the epoch, and in its middle
def test_numbers_of_a_run_whose_every_second_is_known(make_trainer: Make, toy: type, interval: float) -> None:
    clock, record = Clock(), Record()
    throughput = Throughput(skip_steps=2)
    throughput._clock = clock
    trainer = make_trainer(callbacks=[throughput, record], max_epochs=2, val_check_interval=interval)
    trainer.fit(timed(toy, clock))
    # A step: 4 samples, 2 s of reading, 8 s of computing, 1 s of logging. Validation does not count.
    seconds, first_seconds = 8 * 11, 6 * 11 + 1
    last = record.epochs[-1]
    assert last["train/samples_per_s"] == pytest.approx(32 / seconds)
    assert last["train/seconds_per_step"] == pytest.approx(seconds / 8)
    assert last["train/data_idle_share"] == pytest.approx(16 / seconds)
    assert 0.05 < last["train/peak_memory_gb"] < 64
    # The first two of eight steps do not count, but the logging of the second does.
    assert record.epochs[0]["train/samples_per_s"] == pytest.approx(24 / first_seconds)
    summary = throughput.summary()
    assert summary["train/samples_per_s"] == pytest.approx(56 / (seconds + first_seconds))
    assert summary["train/data_idle_share"] == pytest.approx(28 / (seconds + first_seconds))


def test_an_epoch_of_only_skipped_steps_is_measured(make_trainer: Make, toy: type) -> None:
    clock, record = Clock(), Record()
    throughput = Throughput(skip_steps=100)
    throughput._clock = clock
    make_trainer(callbacks=[throughput, record], max_epochs=1, limit_train_batches=2).fit(timed(toy, clock))
    assert record.epochs[0]["train/samples_per_s"] == pytest.approx(8 / 21)


def test_the_users_profiler_keeps_working(make_trainer: Make, toy: type) -> None:
    throughput = Throughput()
    trainer = make_trainer(callbacks=[throughput], profiler="simple", max_epochs=1)
    trainer.fit(toy())
    fetches = [d for name, d in trainer.profiler.recorded_durations.items() if name.endswith(Throughput.FETCH)]
    assert len(fetches[0]) == 4
    assert "start" not in vars(trainer.profiler)
    assert set(throughput.summary()) == {
        "train/samples_per_s",
        "train/seconds_per_step",
        "train/data_idle_share",
        "train/peak_memory_gb",
    }


def test_samples_of_all_ranks_count(make_trainer: Make, toy: type, tmp_path: Any) -> None:
    class Save(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            torch.save((throughput._run.samples, throughput._run.steps), tmp_path / f"{trainer.global_rank}.pt")

    throughput = Throughput(skip_steps=0)
    make_trainer(callbacks=[throughput, Save()], devices=2, strategy="ddp_fork", max_epochs=2).fit(toy())
    assert torch.load(tmp_path / "0.pt") == torch.load(tmp_path / "1.pt") == (64, 8)


def test_batch_size_is_the_first_dimension_of_the_first_tensor() -> None:
    class Batch(NamedTuple):
        images: torch.Tensor
        boxes: list[torch.Tensor]

    assert samples_in(Batch(torch.zeros(3, 2), [torch.zeros(7, 4)])) == 3
    assert samples_in({"x": [torch.zeros(5)]}) == 5
    assert samples_in(("text", None)) == 0
