"""Batches of whole series: what is in them, how ranks share them, and that a restart goes on where it stopped."""

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.unit.data.panels import make_panel

from wanamaker.data.media_panel import MediaBatch, MediaPanel, SeriesBatch
from wanamaker.data.panel import MediaPanelDataModule
from wanamaker.data.series_sampler import SeriesBatchSampler, SeriesDataset
from wanamaker.errors import UserError


class HandMadeSeries(MediaPanelDataModule):
    """Takes a panel instead of reading a file; batches are series."""

    def __init__(self, num_series: int = 7, **options: Any) -> None:
        roles = {"date": "date", "kpi": "sales", "series": ["geo"], "media": ["channel0", "channel1"]}
        settings = {"split": {"val": 6, "test": 6}, "batch_unit": "series", **options}
        super().__init__(path="by_hand.csv", roles=roles, **settings)
        self.given = make_panel(G=num_series)

    def _read(self) -> MediaPanel:
        return self.given


def ready(num_series: int = 7, **options: Any) -> HandMadeSeries:
    data = HandMadeSeries(num_series, **options)
    data.setup("fit")
    return data


def epoch_of(sampler: SeriesBatchSampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


# -- the sampler -------------------------------------------------------------------------------------------------------


def test_a_pass_is_a_permutation_cut_into_full_batches() -> None:
    sampler = SeriesBatchSampler(7, 3, passes=4, seed=5)
    batches = epoch_of(sampler, 0)
    assert len(batches) == len(sampler) == 8
    assert {len(batch) for batch in batches} == {3}
    passes = [flat(batches[2 * p : 2 * p + 2]) for p in range(4)]
    assert all(len(set(series)) == 6 for series in passes), "nobody twice in a pass, the remainder is left out"
    assert len({tuple(series) for series in [*passes, flat(epoch_of(sampler, 1)[:2])]}) == 5
    assert batches == epoch_of(SeriesBatchSampler(7, 3, passes=4, seed=5), 0)
    assert flat(batches) != flat(epoch_of(SeriesBatchSampler(7, 3, passes=4, seed=6), 0))


def test_null_is_all_series() -> None:
    batches = epoch_of(SeriesBatchSampler(7, passes=3), 0)
    assert [sorted(batch) for batch in batches] == [list(range(7))] * 3
    assert len({tuple(batch) for batch in batches}) == 3


def test_who_is_left_out_is_drawn_anew() -> None:
    """The share of passes in which a series takes part is the batch over the number of series, for every series."""
    drawn = np.array([epoch_of(SeriesBatchSampler(5, 3, seed=1), epoch)[0] for epoch in range(4000)])
    share = np.bincount(drawn.ravel(), minlength=5) / 4000
    np.testing.assert_allclose(share, 0.6, atol=4 * np.sqrt(0.6 * 0.4 / 4000))


@pytest.mark.parametrize("batch_size", [1, 3, 7, None])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_take_turns_in_the_same_batches(batch_size: int | None, world_size: int) -> None:
    whole = epoch_of(SeriesBatchSampler(7, batch_size, passes=2, seed=4), 3)
    for rank in range(world_size):
        mine = epoch_of(SeriesBatchSampler(7, batch_size, passes=2, seed=4, rank=rank, world_size=world_size), 3)
        assert mine == [batch[rank::world_size] for batch in whole], "as many steps on every rank, some without series"


@pytest.mark.parametrize("start_batch", [0, 1, 2, 3, 5])
def test_resume_inside_an_epoch(start_batch: int) -> None:
    options = {"passes": 3, "seed": 7}
    whole = epoch_of(SeriesBatchSampler(7, 3, **options), 2)
    for rank in range(2):
        sampler = SeriesBatchSampler(7, 3, rank=rank, world_size=2, start_epoch=2, start_batch=start_batch, **options)
        assert len(sampler) == 6
        assert list(sampler) == [batch[rank::2] for batch in whole[start_batch:]]
        assert len(epoch_of(sampler, 3)) == 6, "the next epoch is whole"


def test_a_frozen_epoch_repeats_and_the_fingerprint_tells_what_matters() -> None:
    frozen = SeriesBatchSampler(7, 3, freeze_epoch=True)
    assert epoch_of(frozen, 0) == epoch_of(frozen, 5)
    assert frozen.fingerprint() == {"num_samples": 7, "batch_size": 3, "seed": 0, "passes": 1}


def test_impossible_samplers() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=9 .*the panel has 7 series: give 7 or fewer"):
        SeriesBatchSampler(7, 9)
    with pytest.raises(ValueError, match="rank 2"):
        SeriesBatchSampler(7, 3, rank=2, world_size=2)
    with pytest.raises(UserError, match="batch 2 of epoch 0, but an epoch has 2"):
        SeriesBatchSampler(7, 3, start_batch=2)


def test_an_empty_batch_is_a_batch() -> None:
    batch = SeriesDataset(3).__getitems__([])
    assert batch.series.shape == (0,)
    assert batch.series.dtype == torch.int64
    assert SeriesDataset(3)[2].series.tolist() == [2]


# -- in the data module ------------------------------------------------------------------------------------------------


def with_rank(data: MediaPanelDataModule, rank: int, world_size: int) -> MediaPanelDataModule:
    counter = SimpleNamespace(ready=0, processed=0, completed=0)
    batches = SimpleNamespace(current=counter, total=counter, is_last_batch=False)
    loop = SimpleNamespace(
        epoch_progress=SimpleNamespace(current=counter), epoch_loop=SimpleNamespace(batch_progress=batches)
    )
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, overfit_batches=0, fit_loop=loop)
    return data


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_of_more_ranks_than_series_in_a_batch(num_workers: int) -> None:
    options = {"batch_size": 2, "passes_per_epoch": 2, "num_workers": num_workers}
    whole = list(with_rank(ready(**options), 0, 1).train_dataloader())
    assert len(whole) == 6
    assert all(isinstance(batch, SeriesBatch) for batch in whole)
    for rank in range(3):
        mine = list(with_rank(ready(**options), rank, 3).train_dataloader())
        assert [b.series.tolist() for b in mine] == [b.series.tolist()[rank::3] for b in whole]
        assert {b.series.dtype for b in mine} == {torch.int64}
    assert all(len(batch.series) == 0 for batch in mine), "the third rank has nothing to do, and still takes part"


def test_evaluation_stays_by_rows() -> None:
    data = ready(batch_size=3)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert all(isinstance(batch, MediaBatch) for batch in loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_unit": "geos"}, r"data\.batch_unit='geos'; choose rows or series"),
        ({"batch_size": 8}, r"data\.batch_size=8 with data\.batch_unit=series, but the panel has 7 series"),
        ({"batch_size": 0}, r"data\.batch_size=0"),
    ],
)
def test_user_errors(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(**options)


class SeriesRecorder(L.LightningModule):
    """Notes the series of every step, and takes one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: SeriesBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.series.tolist()))
        return self.layer(batch.series[:, None] / 7.0).pow(2).sum() + 0 * self.layer.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(callbacks: list | None = None, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=bool(callbacks),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **{"max_epochs": 3, **options},
    )


LOADING = {"batch_size": 3, "passes_per_epoch": 2}


@pytest.mark.parametrize(("step", "num_workers"), [(1, 0), (4, 0), (6, 1), (11, 0)])
def test_resume_in_lightning_sees_the_same_series(tmp_path: Path, step: int, num_workers: int) -> None:
    torch.manual_seed(0)
    unbroken = SeriesRecorder()
    trainer().fit(unbroken, datamodule=HandMadeSeries(**LOADING))
    assert len(unbroken.seen) == 12, "3 epochs x 2 passes x 2 batches"
    torch.manual_seed(0)
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    trainer([keep], max_steps=step + 1).fit(SeriesRecorder(), datamodule=HandMadeSeries(**LOADING))
    resumed = SeriesRecorder()
    data = HandMadeSeries(**LOADING, num_workers=num_workers)
    trainer().fit(resumed, datamodule=data, ckpt_path=tmp_path / f"step={step}.ckpt")
    assert resumed.seen == unbroken.seen[step:]
    assert torch.equal(resumed.layer.weight, unbroken.layer.weight)


def test_overfitting_repeats_the_first_batches() -> None:
    module = SeriesRecorder()
    trainer(overfit_batches=2).fit(module, datamodule=HandMadeSeries(batch_size=3, passes_per_epoch=4))
    by_epoch = [[series for e, series in module.seen if e == epoch] for epoch in range(3)]
    assert len(by_epoch[0]) == 2
    assert by_epoch[0] == by_epoch[1] == by_epoch[2]
