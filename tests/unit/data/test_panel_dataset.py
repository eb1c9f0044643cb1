"""Batches are one gather per tensor from the panel's own arrays, in an order that ranks and resumes agree on."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from tests.unit.data.panels import make_panel

from wanamaker.data.panel_dataset import PanelBatchSampler, PanelDataset
from wanamaker.data.panel_window import history_only
from wanamaker.errors import UserError


def make_dataset(panel, taps: int = 4, rows: np.ndarray | None = None) -> PanelDataset:
    T = panel.num_periods
    season = np.arange(T, dtype=np.float32)[:, None] * [1, 2]
    trend = np.arange(T, dtype=np.float32)[:, None] / 10
    rows = np.arange(panel.kpi.size) if rows is None else rows
    return PanelDataset(panel, season.astype(np.float32), trend, rows, taps)


def by_hand(panel, g: int, t: int, taps: int) -> np.ndarray:
    """Media of one row, newest first, [L, C]."""
    H = panel.lead_in.shape[1]
    out = np.zeros((taps, panel.media.shape[2]), np.float32)
    for lag in range(taps):
        if t - lag >= 0:
            contacts = 1 if panel.contact_frequency is None else panel.contact_frequency[g, t - lag]
            out[lag] = panel.media[g, t - lag] * contacts
        elif H + t - lag >= 0:
            out[lag] = panel.lead_in[g, H + t - lag]
    return out


@pytest.mark.parametrize("lead_in", [0, 2, 9])
@pytest.mark.parametrize("frequency", [False, True])
@pytest.mark.parametrize("taps", [1, 4, 14])
def test_media_history_is_what_a_loop_over_rows_finds(lead_in: int, frequency: bool, taps: int) -> None:
    panel = make_panel(G=3, T=12, lead_in=lead_in, frequency=frequency)
    batch = make_dataset(panel, taps).__getitems__(range(36))
    expected = np.stack([by_hand(panel, g, t, taps) for g in range(3) for t in range(12)])
    np.testing.assert_array_equal(batch.media.numpy(), expected)
    assert batch.media.dtype == torch.float32
    assert batch.frequency.shape == (36, taps, 2 if frequency else 0)
    if frequency:  # 2 contacts per person in the panel, 1 where there are none
        inside = np.arange(12)[:, None] >= np.arange(taps)  # [T, L]
        often = batch.frequency.numpy().reshape(3, 12, taps, 2)
        np.testing.assert_array_equal(often[..., 0], np.broadcast_to(np.where(inside, 2, 1), (3, 12, taps)))
        assert (often[..., 1] == 1).all()


def test_a_batch_holds_the_rows_asked_for_in_that_order() -> None:
    panel = make_panel(G=3, T=12)
    rows = np.array([35, 1, 13, 20])
    batch = make_dataset(panel, rows=rows).__getitems__([2, 0, 0, 3])
    assert batch.row.tolist() == [13, 35, 35, 20]
    assert batch.series.tolist() == [1, 2, 2, 1]
    assert batch.time.tolist() == [1, 11, 11, 8]
    g, t = batch.series.numpy(), batch.time.numpy()
    for name in ("kpi", "price", "promotion", "control"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), getattr(panel, name)[g, t])
    assert batch.season[:, 1].tolist() == [2, 22, 22, 16]
    assert batch.trend[:, 0].tolist() == pytest.approx([0.1, 1.1, 1.1, 0.8])
    assert {x.dtype for x in (batch.row, batch.series, batch.time)} == {torch.int64}


def test_one_row_is_a_batch_of_one() -> None:
    batch = make_dataset(make_panel())[7]
    assert batch.media.shape == (1, 4, 2)
    assert batch.row.tolist() == [7]


def test_a_panel_without_media_prices_or_controls() -> None:
    panel = make_panel(G=2, T=6, C=0, lead_in=3)
    schema = replace(panel.schema, price=(), price_direction=(), own_price=(), control=(), promotion=())
    empty = np.zeros((2, 6, 0), np.float32)
    panel = replace(panel, schema=schema, price=empty, promotion=empty, control=empty)
    batch = make_dataset(panel).__getitems__([0, 11])
    assert batch.media.shape == (2, 4, 0)
    assert batch.price.shape == batch.control.shape == (2, 0)


def test_history_only_periods_become_the_lead_in() -> None:
    """Cutting the first periods off changes nothing about the batches of the others."""
    panel = make_panel(G=2, T=20, lead_in=2, frequency=True)
    cut = history_only(panel, 5)
    assert cut.num_periods == 15
    assert cut.lead_in.shape[1] == 7
    assert str(cut.dates[0]) == str(panel.dates[5])
    whole = make_dataset(panel, 9).__getitems__([g * 20 + t for g in range(2) for t in range(7, 20)])
    rest = make_dataset(cut, 9).__getitems__([g * 15 + t for g in range(2) for t in range(2, 15)])
    # The lead-in holds contacts already.
    torch.testing.assert_close(whole.media, rest.media)
    torch.testing.assert_close(whole.frequency, rest.frequency)
    torch.testing.assert_close(whole.kpi, rest.kpi)


@pytest.mark.parametrize("cut", [0, 5])
def test_arrays_are_shared_not_copied(cut: int) -> None:
    panel = make_panel(G=4, T=50, frequency=True)
    used = history_only(panel, cut)
    dataset = make_dataset(used, 6)
    for batch in ([0, 1], range(100)):
        dataset.__getitems__(batch)
    for name in ("kpi", "media", "price", "promotion", "control"):
        assert np.shares_memory(getattr(dataset, name).numpy(), getattr(panel, name)), name
    assert np.shares_memory(dataset.frequency.numpy(), panel.contact_frequency)
    assert np.shares_memory(used.spend, panel.media), "money-only media stay one array"


def test_a_batch_is_free_to_be_changed() -> None:
    """The module may scale a batch in place: it must not reach the panel."""
    panel = make_panel()
    before = panel.media.copy()
    batch = make_dataset(panel).__getitems__([30, 31])
    batch.media.mul_(0)
    batch.kpi.mul_(0)
    np.testing.assert_array_equal(panel.media, before)


# -- order of the rows -------------------------------------------------------------------------------------------------


def epoch_of(sampler: PanelBatchSampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def flat(batches) -> list[int]:
    return list(chain.from_iterable(batches))


def test_every_pass_visits_every_row_in_its_own_order() -> None:
    sampler = PanelBatchSampler(20, 8, passes=3, seed=2)
    batches = epoch_of(sampler, 0)
    assert len(batches) == len(sampler) == 9
    passes = [flat(batches[3 * p : 3 * p + 3]) for p in range(3)]
    for rows in passes:
        assert len(rows) == 24
        assert set(rows) == set(range(20))
        assert rows[20:] == rows[:4], "completed from the start of the same pass"
    assert len({tuple(rows) for rows in [*passes, flat(epoch_of(sampler, 1)[:3])]}) == 4
    assert batches == sampler.global_batches(0) == epoch_of(PanelBatchSampler(20, 8, passes=3, seed=2), 0)
    assert flat(batches) != flat(epoch_of(PanelBatchSampler(20, 8, passes=3, seed=3), 0))


@pytest.mark.parametrize("num_samples", [1, 7, 16, 50])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("passes", [1, 3])
def test_ranks_split_the_same_global_batches(num_samples: int, world_size: int, passes: int) -> None:
    options = {"passes": passes, "seed": 4}
    whole = epoch_of(PanelBatchSampler(num_samples, 8, **options), 3)
    ranks = [
        epoch_of(PanelBatchSampler(num_samples, 8, rank=r, world_size=world_size, **options), 3)
        for r in range(world_size)
    ]
    assert [flat(parts) for parts in zip(*ranks, strict=True)] == whole
    assert all(len(batch) == 8 for batch in whole)


@pytest.mark.parametrize("start_batch", [0, 2, 3, 4, 8])
@pytest.mark.parametrize("world_size", [1, 2])
def test_resume_inside_an_epoch_of_several_passes(start_batch: int, world_size: int) -> None:
    whole = epoch_of(PanelBatchSampler(20, 8, passes=3, seed=7), 2)
    ranks = []
    for rank in range(world_size):
        sampler = PanelBatchSampler(
            20, 8, passes=3, seed=7, rank=rank, world_size=world_size, start_epoch=2, start_batch=start_batch
        )
        assert len(sampler) == 9, "the whole epoch, also when its first batches are skipped"
        ranks.append(list(sampler))
        assert (
            epoch_of(sampler, 3)[0]
            == PanelBatchSampler(20, 8, passes=3, seed=7).global_batches(3)[0][
                rank * 8 // world_size : (rank + 1) * 8 // world_size
            ]
        )
    assert [flat(parts) for parts in zip(*ranks, strict=True)] == whole[start_batch:]


def test_epoch_is_fixed_when_iteration_starts() -> None:
    sampler = PanelBatchSampler(16, 8, passes=2)
    iterator = iter(sampler)
    sampler.set_epoch(1)
    assert list(iterator) == epoch_of(PanelBatchSampler(16, 8, passes=2), 0)


def test_options_of_the_parent_keep_their_meaning() -> None:
    frozen = PanelBatchSampler(16, 8, passes=2, freeze_epoch=True)
    assert epoch_of(frozen, 0) == epoch_of(frozen, 5)
    assert epoch_of(PanelBatchSampler(6, 2, shuffle=False), 9) == [[0, 1], [2, 3], [4, 5]]
    dropped = PanelBatchSampler(20, 8, passes=2, drop_last=True)
    assert len(dropped) == 4
    assert len(set(flat(epoch_of(dropped, 0)[:2]))) == 16
    assert PanelBatchSampler(20, 8, passes=3).fingerprint()["passes"] == 3
    with pytest.raises(UserError, match="batch 9 of epoch 0, but an epoch has 9"):
        PanelBatchSampler(20, 8, passes=3, start_batch=9)
