"""Streamed tables of customers: what memory would have said, the same batches on one and two ranks, exact resume."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.data.customer_files import CHURN, SPEND, customer_frame, module
from tests.unit.data.experiment_files import as_rank, joined, rows_of, write_shards
from tests.unit.data.table_cases import run_through

from wanamaker.data import customer_table_reader, experiment_stream
from wanamaker.data.customer_table import CustomerTableDataModule
from wanamaker.data.experiment_split import TRAIN
from wanamaker.errors import UserError

ROWS = 700


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(experiment_stream, "LANE_ROWS", 32)  # several portions a lane
    monkeypatch.setattr(experiment_stream, "READ_ROWS", 25)
    monkeypatch.setattr(customer_table_reader, "BLOCK_ROWS", 60)
    frame = customer_frame(ROWS)
    frame["day"] = np.datetime64("2024-01-01") + np.arange(ROWS) // 7
    frame["bill"] = frame["price"].astype(str)  # numbers written as text
    frame.loc[[3, 650], "bill"] = " "
    return write_shards(tmp_path, frame)


def opened(shards: Path, stage: str = "fit", **options) -> CustomerTableDataModule:
    roles = {"tasks": [CHURN, SPEND], "drop": [], "moment": "day", **options.pop("roles", {})}
    data = module(shards, path=shards, roles=roles, **{"lanes": 4, "batch_size": 64, **options})
    data.setup(stage)
    return data


@pytest.mark.parametrize("split", [{}, {"by": "hash"}, {"by": "time", "val": 0.1, "embargo": 2}, {"folds": 5}])
def test_streaming_changes_nothing(shards: Path, split: dict) -> None:
    options = {"split": split, "survival": {"time": "months", "event": "left"}}
    data, inside = opened(shards, rows_in_memory=100, **options), opened(shards, **options)
    assert data.streamed
    assert not inside.streamed
    assert inside.schema == data.schema
    assert "bill" in data.schema.numeric
    np.testing.assert_array_equal(inside.codes, data.codes)
    for name in ("mean", "sd", "missing", "quantiles", "label_mean", "label_sd", "positive_share", "largest"):
        np.testing.assert_allclose(getattr(inside.stats, name), getattr(data.stats, name), rtol=1e-9, err_msg=name)
    for one, other in zip(inside.predict_dataloader(), data.predict_dataloader(), strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a.nan_to_num(), b.nan_to_num())
    row = np.random.default_rng(0).permutation(ROWS)
    assert data.identifiers(row).tolist() == inside.identifiers(row).tolist()
    np.testing.assert_array_equal(data.moment_of(row), inside.moment_of(row))


@pytest.mark.parametrize("passes", [1, 2])
def test_ranks_and_workers_do_not_change_the_batches(shards: Path, passes: int) -> None:
    data = opened(shards, rows_in_memory=100, passes_per_epoch=passes)
    whole = rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=1)
    halves = [rows_of(as_rank(data, rank, 2).train_dataloader(), epoch=1) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in whole]
    assert sorted(set(joined(whole))) == np.flatnonzero(data.codes == TRAIN).tolist()
    if passes == 1:
        data.num_workers = 2
        assert rows_of(as_rank(data, 0, 1).train_dataloader(), epoch=1) == whole
    else:
        data.num_workers = 0
        assert rows_of(as_rank(data, 0, 1, epoch=1, batch=9).train_dataloader()) == whole[9:]


def test_evaluation_sees_each_row_once(shards: Path) -> None:
    data = opened(shards, rows_in_memory=100, split={"test": 0.3, "val": 0.2})
    for name, code in (("val_dataloader", 1), ("test_dataloader", 2), ("predict_dataloader", None)):
        parts = [row for rank in (0, 1) for row in joined(rows_of(getattr(as_rank(data, rank, 2), name)()))]
        wanted = np.arange(ROWS) if code is None else np.flatnonzero(data.codes == code)
        assert sorted(parts) == wanted.tolist()


def test_mistakes_are_found_where_they_stand(shards: Path, tmp_path: Path) -> None:
    frame = customer_frame(50)
    frame["day"], frame["bill"] = np.datetime64("2024-01-01"), frame["price"].astype(str)
    frame["customer"] += "x"
    frame.assign(bill=np.where(frame.index == 7, "dear", frame["bill"])).to_parquet(shards / "part-9.parquet")
    with pytest.raises(UserError, match=r"'bill' \(numeric feature\) of .* holds 'dear' in row 708 of the table"):
        opened(shards, rows_in_memory=100)
    frame.assign(customer=np.where(frame.index == 7, "c00003", frame["customer"])).to_parquet(shards / "part-9.parquet")
    with pytest.raises(UserError, match="has c00003 in rows 4 and 708 of the table"):
        opened(shards, rows_in_memory=100)
    frame.assign(left=np.where(frame.index == 7, "Yes", "")).to_parquet(shards / "part-9.parquet")
    new = opened(shards, "predict", rows_in_memory=100)
    new.adopt(opened(shards).schema)
    assert joined(rows_of(new.predict_dataloader())) == list(range(750))


def test_a_trainer_runs_through_a_stream(tmp_path: Path, shards: Path) -> None:
    data = opened(shards, rows_in_memory=100, roles={"drop": ["bill"]})  # three numbers, as the model there
    counts = np.bincount(data.codes)
    run_through(data, tmp_path / "ckpt", counts[0], counts[2])
