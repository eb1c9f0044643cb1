"""A real Trainer, interrupted and resumed, sees the same samples as one that was never interrupted."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from wanamaker.data.sampler import EpochBatchSampler, EpochDataLoader, resume_position
from wanamaker.errors import UserError

NUM_SAMPLES, BATCH, EPOCHS = 22, 4, 4
BATCHES = 6


class Numbers(Dataset):
    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.tensor([float(row)])


class NumbersData(L.LightningDataModule):
    def __init__(self, num_workers: int, batch_size: int = BATCH) -> None:
        super().__init__()
        self.num_workers, self.batch_size = num_workers, batch_size

    def train_dataloader(self) -> DataLoader:
        epoch, batch = resume_position(self.trainer)
        sampler = EpochBatchSampler(NUM_SAMPLES, self.batch_size, seed=3, start_epoch=epoch, start_batch=batch)
        return EpochDataLoader(
            Numbers(),
            batch_sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(2, 1), batch_size=1)


class Stop(Exception):
    pass


class Recorder(L.LightningModule):
    """Notes (epoch, ids) of every completed step; may raise inside a step."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int]]] = []
        self.fail_at = fail_at

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.fail_at:
            raise Stop
        self.seen.append((self.current_epoch, batch.flatten().int().tolist()))
        return self.layer(batch / NUM_SAMPLES).pow(2).mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(callbacks: list | None = None, **options) -> L.Trainer:
    settings = {"max_epochs": EPOCHS, "limit_val_batches": 0, **options}
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=bool(callbacks),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **settings,
    )


def unbroken(**options) -> Recorder:
    torch.manual_seed(0)
    module = Recorder()
    trainer(**options).fit(module, datamodule=NumbersData(0))
    return module


def save_every(folder: Path, **options) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, **options)


def test_unbroken_run_changes_order_and_visits_all() -> None:
    seen = unbroken().seen
    assert len(seen) == EPOCHS * BATCHES
    by_epoch = [[i for e, ids in seen if e == epoch for i in ids] for epoch in range(EPOCHS)]
    for ids in by_epoch:
        assert set(ids) == set(range(NUM_SAMPLES))
        assert len(ids) == BATCHES * BATCH
    assert len({tuple(ids) for ids in by_epoch}) == EPOCHS


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("step", [2, 9, 12, 17])
def test_resume_sees_the_same_samples(tmp_path: Path, num_workers: int, step: int) -> None:
    expected = unbroken().seen
    first = Recorder()
    trainer([save_every(tmp_path, every_n_train_steps=1)], max_steps=step + 1).fit(
        first, datamodule=NumbersData(num_workers)
    )
    second = Recorder()
    trainer().fit(second, datamodule=NumbersData(num_workers), ckpt_path=tmp_path / f"step={step}.ckpt")
    assert second.seen == expected[step:]


def test_resume_repeats_the_step_that_raised(tmp_path: Path) -> None:
    expected = unbroken()
    first = Recorder(fail_at=8)
    interrupted = trainer()
    with pytest.raises(Stop):
        interrupted.fit(first, datamodule=NumbersData(0))
    interrupted.save_checkpoint(tmp_path / "raised.ckpt")
    second = Recorder()
    trainer().fit(second, datamodule=NumbersData(0), ckpt_path=tmp_path / "raised.ckpt")
    assert first.seen + second.seen == expected.seen


@pytest.mark.parametrize("when", ["validation_end", "train_epoch_end", "fit_end"])
def test_resume_at_the_end_of_an_epoch(tmp_path: Path, when: str) -> None:
    expected = unbroken().seen
    if when == "fit_end":
        first = trainer(max_epochs=2)
        first.fit(Recorder(), datamodule=NumbersData(0))
        first.save_checkpoint(tmp_path / "end.ckpt")
    else:
        keep = save_every(tmp_path, every_n_epochs=1, save_on_train_epoch_end=when == "train_epoch_end")
        trainer([keep], max_epochs=2, limit_val_batches=2).fit(Recorder(), datamodule=NumbersData(0))
        (tmp_path / f"step={2 * BATCHES}.ckpt").rename(tmp_path / "end.ckpt")
    second = Recorder()
    trainer(limit_val_batches=2).fit(second, datamodule=NumbersData(0), ckpt_path=tmp_path / "end.ckpt")
    assert second.seen == expected[2 * BATCHES :]


def test_resume_with_limited_batches(tmp_path: Path) -> None:
    expected = unbroken(limit_train_batches=4).seen
    trainer([save_every(tmp_path, every_n_train_steps=1)], limit_train_batches=4, max_steps=8).fit(
        Recorder(), datamodule=NumbersData(0)
    )
    for step in (4, 6, 8):
        second = Recorder()
        trainer(limit_train_batches=4).fit(second, datamodule=NumbersData(0), ckpt_path=tmp_path / f"step={step}.ckpt")
        assert second.seen == expected[step:]


def test_resumed_weights_equal_unbroken(tmp_path: Path) -> None:
    expected = unbroken()
    torch.manual_seed(0)
    trainer([save_every(tmp_path, every_n_train_steps=1)], max_steps=11).fit(Recorder(), datamodule=NumbersData(0))
    second = Recorder()
    trainer().fit(second, datamodule=NumbersData(2), ckpt_path=tmp_path / "step=9.ckpt")
    assert torch.equal(second.layer.weight, expected.layer.weight)


def test_other_batch_size_is_refused_inside_an_epoch_only(tmp_path: Path) -> None:
    trainer([save_every(tmp_path, every_n_train_steps=1)], max_steps=8).fit(Recorder(), datamodule=NumbersData(0))
    with pytest.raises(UserError, match="batch_size 4 -> 2"):
        trainer().fit(Recorder(), datamodule=NumbersData(0, batch_size=2), ckpt_path=tmp_path / "step=8.ckpt")
    again = Recorder()
    trainer().fit(again, datamodule=NumbersData(0, batch_size=2), ckpt_path=tmp_path / "step=6.ckpt")
    assert len(again.seen[0][1]) == 2
