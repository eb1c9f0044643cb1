"""Uplift predictions on disk: written in parts, in any order, read as one."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wanamaker.predictions import UpliftPredictions, parts_of, parts_writer, read_predictions

ARRAYS = ("row", "id", "split", "treatment", "outcome", "weight", "cost", "mean", "propensity", "effect", "low", "high")


def example(rows: int = 20, names: bool = False) -> UpliftPredictions:
    """Two offers, two outcomes."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(rows, 2, 2)).astype(np.float32)
    outcome = rng.normal(size=(rows, 2))
    outcome[::3] = np.nan
    return UpliftPredictions(
        row=np.arange(rows),
        id=np.array([f"c{i}" for i in range(rows)], dtype=object) if names else np.arange(rows) * 7,
        split=rng.integers(0, 4, rows),
        treatment=rng.integers(-1, 3, rows),
        outcome=outcome,
        weight=np.ones(rows),
        cost=rng.random(rows),
        mean=rng.random((rows, 3, 2)).astype(np.float32),
        propensity=np.full((rows, 3), 1 / 3, np.float32),
        effect=effect,
        low=effect - 1,
        high=effect + 1,
        arms=("none", "notice", "coupon"),
        outcomes=("visit", "spend"),
        kinds=("continuous", "continuous"),
        units=("", "USD"),
    )


def same(found: UpliftPredictions, wanted: UpliftPredictions) -> bool:
    arrays = all(np.array_equal(getattr(found, n), getattr(wanted, n), equal_nan=n == "outcome") for n in ARRAYS)
    types = all(getattr(found, n).dtype == getattr(wanted, n).dtype for n in ARRAYS)
    return arrays and types and found._shared() == wanted._shared()


@pytest.mark.parametrize("names", [False, True])
def test_what_is_written_is_read(tmp_path: Path, names: bool):
    whole = example(names=names)
    assert whole.write(tmp_path) == tmp_path / "uplift.parquet"
    assert same(read_predictions(tmp_path), whole)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_parts_in_any_order_make_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[int]):
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", 5)
    whole = example(20, names=True)
    with UpliftPredictions.writer(tmp_path) as writer:
        for part in order:
            first = 5 * part
            # A neighbour's row comes twice where ranks were padded.
            writer.add(whole.select(np.arange(max(first - (order != sorted(order)), 0), first + 5)))
        assert not (tmp_path / "uplift.parquet").exists()
    assert same(read_predictions(tmp_path), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["uplift.parquet"]


def test_no_more_than_a_group_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", 8)
    whole = example(20)
    with UpliftPredictions.writer(tmp_path) as writer:
        for first in range(0, 20, 4):
            writer.add(whole.select(np.arange(first, first + 4)))
            assert sum(map(len, writer._held)) < 8
    path = tmp_path / "uplift.parquet"
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    assert [len(part) for part in parts_of(UpliftPredictions, path)] == [8, 8, 4]


def test_an_error_leaves_the_earlier_file(tmp_path: Path):
    whole = example()
    whole.write(tmp_path)

    def stopped() -> None:
        with UpliftPredictions.writer(tmp_path) as writer:
            writer.add(whole.select(np.arange(3)))
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        stopped()
    assert same(read_predictions(tmp_path), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["uplift.parquet"]
