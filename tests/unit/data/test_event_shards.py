"""Logs rewritten as buckets: the same events as the log has, a bounded number at a time, complete or absent."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wanamaker.data import event_partition, event_shards
from wanamaker.data.event_partition import LogColumns, estimated_rows, log_blocks
from wanamaker.data.event_shards import EventBuckets, partition_log, read_log
from wanamaker.data.experiment_table import key_of
from wanamaker.errors import UserError

ROWS = 3_000
ROLES: dict[str, Any] = {"id": "who", "time": "at", "categorical": ["kind"], "numeric": ["amount", "place"]}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, 20 * 86_400, ROWS)
    return pd.DataFrame(
        {
            "who": rng.integers(1, 300, ROWS),
            "at": pd.Timestamp("2020-01-01") + pd.to_timedelta(seconds // 7200 * 7200, unit="s"),  # with ties
            "kind": rng.choice(["view", "buy", ""], ROWS),
            "amount": np.where(rng.random(ROWS) < 0.2, np.nan, rng.random(ROWS).round(2)),
            "place": np.arange(ROWS, dtype=float),
        }
    )


def write(frame: pd.DataFrame, folder: Path, kind: str) -> Path:
    if kind == "shards":
        (folder / "log").mkdir()
        for number, rows in enumerate(np.array_split(np.arange(len(frame)), 3)):
            frame.iloc[rows].to_parquet(folder / "log" / f"part-{number}.parquet", index=False)
        return folder / "log"
    path = folder / f"log.{kind}"
    frame.to_parquet(path, index=False) if kind == "parquet" else frame.to_csv(path, index=False)
    return path


def rows_of(bucket: Any) -> pd.DataFrame:
    owner = np.repeat(bucket.ids, np.diff(bucket.offsets))
    columns = {name: np.asarray(column) for name, column in bucket.columns.items()}
    return pd.DataFrame({"who": owner, **columns})


def all_rows(buckets: EventBuckets) -> pd.DataFrame:
    return pd.concat([rows_of(bucket) for bucket in buckets], ignore_index=True)


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    for name in wanted.columns:
        np.testing.assert_array_equal(found[name].to_numpy(), wanted[name].to_numpy(), err_msg=name)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "shards"])
def test_buckets_hold_what_a_group_by_finds(kind: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    source = write(frame, tmp_path, kind)
    buckets = partition_log(source, tmp_path / "cache", **ROLES, buckets=7)
    wanted = frame.sort_values(["who", "at"], kind="stable")
    assert buckets.num_events == ROWS
    assert buckets.num_customers == frame["who"].nunique()
    assert (buckets.first.min(), buckets.last.max()) == (frame["at"].min(), frame["at"].max())
    for number, bucket in enumerate(buckets):
        assert (key_of(bucket.ids) % 7 == number).all()
        assert (np.diff(bucket.ids) > 0).all()
        assert bucket.columns["at"].dtype == "datetime64[us]"
        np.testing.assert_array_equal(bucket.ids, buckets.ids(number))
        np.testing.assert_array_equal(
            np.diff(bucket.offsets), frame[frame["who"].isin(bucket.ids)].groupby("who").size().to_numpy()
        )
        assert_same(rows_of(bucket), wanted[wanted["who"].isin(bucket.ids)])
    whole, left_out = read_log(source, LogColumns("who", "at", ("kind",), ("amount", "place")))
    assert_same(rows_of(whole), wanted)
    assert left_out == 0
    if kind in ("parquet", "shards"):
        assert estimated_rows(source) == ROWS
    else:
        assert ROWS / 2 < estimated_rows(source) < ROWS * 3


@pytest.mark.parametrize(("names", "whole"), [(["7", "12", "9"], True), (["007", "12", "a"], False)])
def test_identifiers_are_numbers_only_if_all_of_them_are(names: list[str], whole: bool, tmp_path: Path) -> None:
    log = pd.DataFrame({"who": [*names, "", names[0]], "at": pd.Timestamp("2020-01-01"), "kind": "x"})
    buckets = partition_log(
        write(log, tmp_path, "csv"), tmp_path / "cache", "who", "at", categorical=["kind"], buckets=4
    )
    ids = np.concatenate([bucket.ids for bucket in buckets])
    assert sorted(map(str, ids)) == sorted(names)
    assert all((bucket.ids.dtype == np.int64) == whole for bucket in buckets), "empty buckets, too"
    assert buckets.left_out == 1
    assert sorted(buckets.events.tolist())[-1] <= 3
    assert buckets.num_events == 4
    assert buckets.read(int(np.argmin(buckets.events))).offsets.tolist() == [0]


def test_no_more_than_a_block_and_a_bucket_is_held(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_partition, "BLOCK_ROWS", 200)
    monkeypatch.setattr("wanamaker.data.panel_source.BATCH_ROWS", 100)
    monkeypatch.setattr(event_shards, "BUCKET_EVENTS", 300)
    dealt, ordered = [], []
    deal, arrange = event_shards._deal, event_shards.bucket_of
    monkeypatch.setattr(event_shards, "_deal", lambda block, *rest: dealt.append(len(block)) or deal(block, *rest))
    monkeypatch.setattr(
        event_shards, "bucket_of", lambda ids, *rest: (ordered.append(len(ids)), arrange(ids, *rest))[1]
    )
    buckets = partition_log(write(frame, tmp_path, "shards"), tmp_path / "cache", **ROLES)
    assert len(buckets) == ROWS / 300
    assert max(dealt) <= 300
    assert sum(dealt) == ROWS
    assert max(ordered) == buckets.events.max() < 600
    assert_same(all_rows(buckets).sort_values("place"), frame)


def test_a_second_call_reads_what_the_first_one_made_until_the_log_changes(frame: pd.DataFrame, tmp_path: Path) -> None:
    source, cache = write(frame, tmp_path, "csv"), tmp_path / "cache"
    first = partition_log(source, cache, **ROLES, buckets=2)
    made = (first.folder / event_shards.SUMMARY).stat().st_mtime_ns
    again = partition_log(source, cache, **ROLES, buckets=2)
    assert again.folder == first.folder
    assert (again.folder / event_shards.SUMMARY).stat().st_mtime_ns == made
    frame.iloc[:-1].to_csv(source, index=False)
    assert partition_log(source, cache, **ROLES, buckets=2).num_events == ROWS - 1
    fewer = partition_log(source, cache, "who", "at", buckets=2)
    assert list(fewer.read(0).columns) == ["at"]


def test_a_killed_partition_leaves_nothing_half_written(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = write(frame, tmp_path, "parquet"), tmp_path / "cache"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(event_shards, "_write_sorted", stopped)
        with pytest.raises(KeyboardInterrupt):
            partition_log(source, cache, **ROLES, buckets=3)
    assert not [path for path in cache.iterdir() if not path.name.endswith(".lock")]
    name = f"{event_shards.fingerprint(source, LogColumns('who', 'at', ('kind',), ('amount', 'place')))}-3"
    leftover = cache / f".{name}.part-killed"  # of a process that had no time to clean up
    leftover.mkdir()
    (leftover / "events-00000.arrow").write_bytes(b"half")
    buckets = partition_log(source, cache, **ROLES, buckets=3)
    assert buckets.folder == cache / name
    assert not leftover.exists()
    assert buckets.num_events == ROWS
    assert not (buckets.folder / "unsorted").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": (5, "yesterday")}, r"log\.csv, row 7: column 'at' \(time\) is 'yesterday', which is no time"),
        ({"at": (5, "")}, r"row 7: column 'at' \(time\) is empty"),
        (
            {"at": (5, "2020-01-03 10:00:00+02:00")},
            r"row 7: column 'at' \(time\) has zone \+02:00, .*row 2 has no zone",
        ),
        ({"amount": (3, "12 EUR")}, r"row 5: column 'amount' \(numeric\) is '12 EUR', which is no number"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(
    change: dict[str, tuple[int, str]], message: str, frame: pd.DataFrame, tmp_path: Path
) -> None:
    log = frame.head(20).astype(dict.fromkeys(change, object))
    log["at"] = log["at"].astype(str)
    for name, (row, cell) in change.items():
        log.loc[row, name] = cell
    with pytest.raises(UserError, match=message):
        partition_log(write(log, tmp_path, "csv"), tmp_path / "cache", **ROLES)
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")]


def test_wrong_sources_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Data not on disk"):
        partition_log(tmp_path / "none.csv", tmp_path / "cache", **ROLES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.csv and no \.parquet file"):
        partition_log(tmp_path / "empty", tmp_path / "cache", **ROLES)
    source = write(frame, tmp_path, "csv")
    with pytest.raises(UserError, match=r"column 'when' \(time\) is not there"):
        partition_log(source, tmp_path / "cache", "who", "when")
    with pytest.raises(UserError, match="column 'at' has two roles"):
        partition_log(source, tmp_path / "cache", "who", "at", categorical=["at"])
    with pytest.raises(UserError, match="buckets=0"):
        partition_log(source, tmp_path / "cache", **ROLES, buckets=0)
    frame.head(0).to_csv(source, index=False)
    with pytest.raises(UserError, match="has a header and no rows"):
        partition_log(source, tmp_path / "cache", **ROLES)
    nobody = write(pd.DataFrame({"who": ["", ""], "at": "2020-01-01"}), tmp_path, "csv")
    with pytest.raises(UserError, match="the id is empty in all 2 rows"):
        partition_log(nobody, tmp_path / "cache", "who", "at")


def test_one_zone_for_all_is_taken_off(tmp_path: Path) -> None:
    log = pd.DataFrame({"who": [1, 1], "at": ["2019-12-01 00:00:05 UTC", "2019-12-01 00:00:01 UTC"]})
    (block,) = log_blocks(write(log, tmp_path, "csv"), LogColumns("who", "at"))
    assert block.column("at").to_pylist()[0] == pd.Timestamp("2019-12-01 00:00:05")


def test_two_processes_share_a_cache_that_others_may_read(frame: pd.DataFrame, tmp_path: Path) -> None:
    folder = partition_log(write(frame, tmp_path, "csv"), tmp_path / "cache", **ROLES, buckets=2).folder
    assert os.stat(folder).st_mode & 0o055 == 0o055


def test_further_times_and_zones_of_parquet_files_are_read(tmp_path: Path) -> None:
    times = {
        "at": ["2020-01-02 12:00", "2020-01-01 00:00", "2020-01-01 00:00"],
        "known": ["2020-01-03", "2020-01-04", "2020-01-05"],
    }
    zoned = {name: pd.to_datetime(cells).tz_localize("Europe/Paris") for name, cells in times.items()}
    log = pd.DataFrame({"who": ["b", "a", "b"], **zoned})
    source = write(log, tmp_path, "parquet")
    (bucket,) = partition_log(source, tmp_path / "cache", "who", "at", times=["known"], buckets=1)
    assert bucket.ids.tolist() == ["a", "b"]
    assert bucket.columns["at"].astype(str).tolist()[1:] == ["2020-01-01T00:00:00.000000", "2020-01-02T12:00:00.000000"]
    assert [str(cell) for cell in bucket.columns["known"].to_pylist()] == [
        "2020-01-04 00:00:00",
        "2020-01-05 00:00:00",
        "2020-01-03 00:00:00",
    ]
