"""A log that is read bucket by bucket gives what the same log in memory gives, on any number of ranks and workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.data.event_example import event_frame, event_module, whole, written

from wanamaker.data.event_log import EventLogDataModule
from wanamaker.data.event_stream import EventTrainingStream
from wanamaker.errors import UserError

DATES = ["2024-02-15", "2024-03-15"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(event_frame(100), tmp_path_factory.mktemp("log"))


def streamed(path: Path, **changes: Any) -> EventLogDataModule:
    options = {"events_in_memory": 10, "cache_dir": str(path.parent / "cache"), "buckets": 5, "lanes": 4}
    return event_module(path, **{"as_of": DATES, **options, **changes})


def stream(module: EventLogDataModule, **options: Any) -> EventTrainingStream:
    """As `train_dataloader` makes it, on some rank."""
    made = module.train_dataloader()
    return EventTrainingStream(
        made.reader, made.lanes, made.batch_size, made.bucket_batches, seed=module.seed, **options
    )


def test_streamed_equals_in_memory(log: Path) -> None:
    a, b = event_module(log, as_of=DATES), streamed(log)
    assert b.reader.streamed
    assert b.reader.num_buckets == 5
    assert a.schema == b.schema
    for name, values in vars(a.stats).items():
        np.testing.assert_allclose(np.array(values), np.array(getattr(b.stats, name)), rtol=1e-9, err_msg=name) if (
            name != "hazard"
        ) else np.testing.assert_allclose(values[2], b.stats.hazard[2])
    rows = np.arange(a.num_rows)
    assert b.num_rows == a.num_rows
    order = [np.lexsort((m.moment_of(rows), m.identifiers(rows).astype(str))) for m in (a, b)]
    np.testing.assert_array_equal(a.identifiers(rows)[order[0]], b.identifiers(rows)[order[1]])
    np.testing.assert_array_equal(a.split_of(rows)[order[0]], b.split_of(rows)[order[1]])
    one, other = whole(a), whole(b)
    np.testing.assert_array_equal(other["row"], rows)
    for name in set(one) - {"row"}:
        np.testing.assert_allclose(one[name][order[0]], other[name][order[1]], rtol=1e-5, atol=1e-5, err_msg=name)


def test_customers_without_events_are_streamed_too(log: Path, tmp_path: Path) -> None:
    pd.DataFrame({"customer": ["new1", "c005", "new2"], "age": [1, 2, 3]}).to_csv(tmp_path / "c.csv", index=False)
    customers = {"path": str(tmp_path / "c.csv")}
    a, b = event_module(log, as_of=DATES, customers=customers), streamed(log, customers=customers)
    for module in (a, b):
        assert {"new1", "new2"} <= set(module.identifiers(np.arange(module.num_rows)))
    assert a.num_rows == b.num_rows


def test_buckets_may_be_empty(log: Path) -> None:
    a, b = event_module(log, as_of=DATES), streamed(log, buckets=60)
    assert (b.facts.counts == 0).any()
    assert (a.schema, a.num_train_rows) == (b.schema, b.num_train_rows)
    batches = [set(batch.row.tolist()) for batch in stream(b)]
    assert set().union(*batches) == set(np.flatnonzero(b.codes == 0).tolist())


@pytest.mark.parametrize("bucket_batches", [1, 3])
def test_ranks_and_workers_see_the_same_batches(log: Path, bucket_batches: int) -> None:
    module = streamed(log, bucket_batches=bucket_batches)
    one = [set(batch.row.tolist()) for batch in stream(module, passes=2)]
    ranks = [list(stream(module, passes=2, rank=r, world_size=2)) for r in (0, 1)]
    workers = list(stream(module, passes=2, num_workers=2))
    for whole_batch, first, second, worked in zip(one, *ranks, workers, strict=True):
        assert whole_batch == {*first.row.tolist(), *second.row.tolist()} == set(worked.row.tolist())
        assert len(first.row) == len(second.row) == 4
    train = set(np.flatnonzero(module.codes == 0).tolist())
    half = len(one) // 2
    assert set().union(*one[:half]) == train == set().union(*one[half:])
    resumed = [set(batch.row.tolist()) for batch in stream(module, passes=2, start_batch=half + 2)]
    assert resumed == one[half + 2 :]


def test_a_streamed_batch_is_whole(log: Path) -> None:
    module = streamed(log)
    for batch in module.train_dataloader():
        assert len(batch.row) == 8
        assert int(batch.length.sum()) == len(batch.event_gap)
        assert int(batch.sequence.max()) == len(batch.length) - 1
        assert (batch.seen <= batch.length[batch.sequence]).all()
    ranks = [list(loader) for loader in (module.val_dataloader(), module.test_dataloader())]
    for loader, code in zip(ranks, (1, 2), strict=True):
        rows = np.concatenate([batch.row.numpy() for batch in loader])
        np.testing.assert_array_equal(rows, np.flatnonzero(module.codes == code))


def test_a_large_log_needs_a_cache(log: Path) -> None:
    module = EventLogDataModule(
        path=str(log),
        roles={"id": "customer", "time": "time"},
        tasks=[{"name": "a", "kind": "binary", "within": 9}],
        events_in_memory=10,
    )
    with pytest.raises(UserError, match=r"data.events_in_memory=10: name a folder .* data.cache_dir"):
        module.preflight(["fit"])
