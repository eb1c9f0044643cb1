"""Streamed tables: the same batches on one and two ranks and any number of workers, exact resume, each row once."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.unit.data.experiment_files import as_rank, experiment_frame, joined, module, rows_of, write_shards
from tests.unit.data.table_cases import run_through

from wanamaker.data import experiment_stream
from wanamaker.data.experiment import ExperimentDataModule
from wanamaker.data.experiment_split import TRAIN
from wanamaker.errors import UserError

ROWS = 1000


@pytest.fixture
def frame() -> pd.DataFrame:
    return experiment_frame(ROWS)


@pytest.fixture
def shards(tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(experiment_stream, "LANE_ROWS", 32)  # several portions a lane
    monkeypatch.setattr(experiment_stream, "READ_ROWS", 25)
    return write_shards(tmp_path, frame)


def streamed(shards: Path, **options) -> ExperimentDataModule:
    data = module(shards, path=shards, **{"rows_in_memory": 100, "lanes": 4, "batch_size": 64, **options})
    data.setup("fit")
    assert data.streamed
    return data


def test_a_folder_that_fits_is_read_into_memory(shards: Path) -> None:
    data = streamed(shards)
    inside = module(shards, path=shards, split={"by": "hash"})
    inside.setup("fit")
    assert not inside.streamed
    assert inside.schema == data.schema
    np.testing.assert_array_equal(inside.codes, data.codes)
    for name in ("mean", "sd", "missing", "quantiles", "outcome_mean", "outcome_sd", "arm_share"):
        np.testing.assert_allclose(getattr(inside.stats, name), getattr(data.stats, name), rtol=1e-9, err_msg=name)
    for one, other in zip(inside.predict_dataloader(), data.predict_dataloader(), strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_an_epoch_visits_every_training_row(shards: Path, frame: pd.DataFrame) -> None:
    data = streamed(shards)
    train = np.flatnonzero(data.codes == TRAIN)
    loader = as_rank(data, 0, 1).train_dataloader()
    batches = rows_of(loader, epoch=0)
    assert len(batches) == len(loader) == -(-len(train) // 64)
    assert {len(batch) for batch in batches} == {64}
    seen, counts = np.unique(np.concatenate(batches), return_counts=True)
    np.testing.assert_array_equal(seen, train)
    assert counts.sum() - len(train) < 64
    assert counts.max() <= 2
    assert rows_of(loader, epoch=1) != batches
    assert rows_of(loader, epoch=0) == batches
    arms = frame["arm"].map({"none": 0, "coupon": 1, "mail": 2}).to_numpy()
    assert np.mean([np.bincount(arms[batch], minlength=3).min() for batch in batches]) > 16


@pytest.mark.parametrize("passes", [1, 3])
def test_ranks_and_workers_do_not_change_the_batches(shards: Path, passes: int) -> None:
    data = streamed(shards, passes_per_epoch=passes)
    whole = rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=1)
    halves = [rows_of(as_rank(data, rank, 2).train_dataloader(), epoch=1) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in whole]
    if passes == 1:
        data.num_workers = 3
        assert rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=1) == whole


@pytest.mark.parametrize("batch", [1, 5, 11, 14, 27])
def test_resume_goes_on_with_the_next_batch(shards: Path, batch: int) -> None:
    data = streamed(shards, passes_per_epoch=3)
    whole = rows_of(as_rank(data, 1, 2).train_dataloader(), epoch=2)
    loader = as_rank(data, 1, 2, epoch=2, batch=batch).train_dataloader()
    assert len(loader) == len(whole)
    assert rows_of(loader) == whole[batch:]
    state = loader.state_dict()
    loader.load_state_dict(state)
    with pytest.raises(UserError, match="lanes 8 -> 4"):
        loader.load_state_dict({**state, "lanes": 8})


def test_resume_leaves_row_groups_unread(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = streamed(shards)
    read = []
    plain = data.source.read_group
    monkeypatch.setattr(data.source, "read_group", lambda group, *rest: read.append(group) or plain(group, *rest))
    last = len(as_rank(data, 0, 1).train_dataloader()) - 1
    list(as_rank(data, 0, 1, epoch=0, batch=last).train_dataloader())
    assert len({group.first for group in read}) < 0.6 * len(data.source.groups)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_each_row_once(shards: Path, workers: int) -> None:
    data = streamed(shards, split={"test": 0.3, "val": 0.2})
    data.num_workers = workers
    for name, code in (("val_dataloader", 1), ("test_dataloader", 2), ("predict_dataloader", None)):
        parts = []
        for rank in (0, 1):
            loader = getattr(as_rank(data, rank, 2), name)()
            batches = rows_of(loader)
            assert len(batches) == len(loader)
            parts += joined(batches)
        wanted = np.arange(ROWS) if code is None else np.flatnonzero(data.codes == code)
        assert sorted(parts) == wanted.tolist()


def test_identifiers_and_costs_are_read_where_they_are_needed(tmp_path: Path) -> None:
    frame = experiment_frame(300)
    frame["cost"] = np.arange(300.0)
    shards = write_shards(tmp_path, frame, group=50)
    data = streamed(shards, roles={"cost": "cost"})
    row = np.random.default_rng(0).permutation(300)
    assert data.identifiers(row).tolist() == frame["customer"].iloc[row].tolist()
    np.testing.assert_array_equal(data.cost_of(row), row)
    assert len(data._lookup._kept) <= 8
    new = module(tmp_path, path=shards, rows_in_memory=10, lanes=4)  # a new process scores the same shards
    new.setup("predict")
    new.adopt(data.schema)
    np.testing.assert_array_equal(new.codes, data.codes)
    assert joined(rows_of(new.predict_dataloader())) == list(range(300))


def test_what_cannot_be_streamed_is_told(tmp_path: Path, shards: Path) -> None:
    data = streamed(shards)
    with pytest.raises(UserError, match=r"data.lanes=4 do not divide over 3 ranks; use data.lanes=12."):
        as_rank(data, 0, 3).train_dataloader()
    with pytest.raises(UserError, match=r"data.batch_size=66 does not divide .* use data.batch_size=68"):
        as_rank(streamed(shards, batch_size=66), 0, 1).train_dataloader()
    experiment_frame(50).drop(columns=["age"]).to_parquet(shards / "part-9.parquet")
    with pytest.raises(UserError, match=r"part-9.parquet has no column 'age', part-0.parquet has; write the shards"):
        streamed(shards)
    experiment_frame(50).assign(age="old").to_parquet(shards / "part-9.parquet")
    with pytest.raises(UserError, match=r"part-9.parquet: column 'age' holds text, in shards before it number"):
        streamed(shards)
    experiment_frame(50).to_parquet(shards / "part-9.parquet")
    with pytest.raises(UserError, match=r"has c000\d\d in rows \d+ and 10\d\d of the table"):
        streamed(shards)


def test_a_trainer_runs_through_a_stream(tmp_path: Path, shards: Path) -> None:
    data = streamed(shards)
    counts = np.bincount(data.codes)
    run_through(data, tmp_path / "ckpt", counts[0], counts[2])


def test_memory_does_not_grow_with_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the rows, hardly more memory (of Python and NumPy) than a few bytes per row for the split."""
    monkeypatch.setattr(experiment_stream, "LANE_ROWS", 512)
    monkeypatch.setattr(experiment_stream, "READ_ROWS", 512)
    peaks = []
    for times in (1, 4):
        frame = experiment_frame(10_000 * times)
        folder = tmp_path / str(times)
        folder.mkdir()
        data = streamed(write_shards(folder, frame, group=1000), batch_size=512, eval_batch_size=1024)
        loader, predict = as_rank(data, 0, 1).train_dataloader(), data.predict_dataloader()
        tracemalloc.start()
        for _ in zip(range(8), loader, strict=False):
            pass
        for _ in predict:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.6 * peaks[0]
