"""Predictions written in parts: in any order, on any number of ranks, read as one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.predictions.row_examples import propensity_rows, same, uplift_rows

from wanamaker.errors import UserError
from wanamaker.predictions import parts_of, parts_writer, read_predictions
from wanamaker.predictions.row_predictions import RowPredictions
from wanamaker.runtime.predict import _merge

WHOLE: dict[str, Callable[[], RowPredictions]] = {
    "uplift": lambda: uplift_rows(20, names=True),
    "propensity": lambda: propensity_rows(20),
    "without traits and reasons": lambda: propensity_rows(20, R=0, traits=0),
}
each_kind = pytest.mark.parametrize("kind", WHOLE)


def batches(whole: RowPredictions, size: int) -> Iterator[RowPredictions]:
    for first in range(0, len(whole), size):
        yield whole.select(np.arange(first, min(first + size, len(whole))))


def written(whole: RowPredictions, folder: Path) -> list[str]:
    """Names of the files of a folder, in which the whole can be read."""
    assert same(read_predictions(folder), whole)
    assert same(type(whole).concat(parts_of(type(whole), folder / whole.file_name)), whole)
    return sorted(path.name for path in folder.iterdir())


@each_kind
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]])
@pytest.mark.parametrize("group", [3, 5, 12, 100])
def test_parts_in_any_order_make_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, order: list[int], group: int
) -> None:
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", group)
    whole = WHOLE[kind]()
    with whole.writer(tmp_path) as writer:
        for part in order:
            first = 5 * part
            # A neighbour's row comes twice where ranks were padded.
            writer.add(whole.select(np.arange(max(first - (order != sorted(order)), 0), first + 5)))
        assert not (tmp_path / whole.file_name).exists()
    assert written(whole, tmp_path) == [whole.file_name]


@each_kind
def test_parts_make_the_file_that_the_whole_makes(tmp_path: Path, kind: str) -> None:
    whole = WHOLE[kind]()
    with whole.writer(tmp_path / "parts") as writer:
        for part in batches(whole, 7):
            writer.add(part)
    parts, at_once = (pq.read_schema(path) for path in (writer.path, whole.write(tmp_path / "whole")))
    assert parts.equals(at_once, check_metadata=True)
    assert written(whole, tmp_path / "parts") == written(whole, tmp_path / "whole") == [whole.file_name]


@each_kind
@pytest.mark.parametrize("stretches", [False, True])
def test_what_two_ranks_wrote_is_merged_as_one_rank_would_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stretches: bool
) -> None:
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", 4)
    whole = WHOLE[kind]()
    shards = [tmp_path / "shards" / f"rank-{rank}" for rank in range(2)]
    for rank, shard in enumerate(shards):
        own = np.arange(20)[10 * rank : 10 * rank + 10] if stretches else np.arange(rank, 20, 2)
        with whole.writer(shard) as writer:
            for part in batches(whole.select(own), 3):
                writer.add(part)
    assert _merge(shards, tmp_path / "merged") is None, "nothing is held"
    assert written(whole, tmp_path / "merged") == [whole.file_name]


@each_kind
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_no_more_than_a_group_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, turns: int) -> None:
    """Also where so many loader processes, each with a stretch of the rows, take turns."""
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", 6)
    joined: list[int] = []
    whole = WHOLE[kind]()
    monkeypatch.setattr(type(whole), "concat", _counted(type(whole).concat, joined))
    stretches = [list(batches(whole.select(rows), 2)) for rows in np.array_split(np.arange(20), turns)]
    longest = max(map(len, stretches))
    with whole.writer(tmp_path) as writer:
        for place in range(longest):
            for stretch in stretches:
                if place < len(stretch):
                    writer.add(stretch[place])
                assert writer.num_held < 6
    assert max(joined) <= 6 * turns, "no more is held while files are merged, either"
    monkeypatch.undo()
    groups = [len(part) for part in parts_of(type(whole), tmp_path / whole.file_name)]
    assert max(groups) <= 6 * turns
    assert len(groups) > 1
    assert written(whole, tmp_path) == [whole.file_name]


def _counted(concat: Callable[..., RowPredictions], joined: list[int]) -> Callable[..., RowPredictions]:
    def counted(parts: list[RowPredictions]) -> RowPredictions:
        found = concat(parts)
        joined.append(len(found))
        return found

    return counted


@each_kind
def test_nobody_is_a_file_too(tmp_path: Path, kind: str) -> None:
    nobody = WHOLE[kind]().select(np.arange(0))
    with nobody.writer(tmp_path) as writer:
        writer.add(nobody)
    assert len(read_predictions(tmp_path)) == 0


@each_kind
def test_an_error_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(parts_writer, "GROUP_ROWS", 3)
    whole = WHOLE[kind]()
    whole.write(tmp_path)

    def stopped() -> None:
        with whole.writer(tmp_path) as writer:
            for first in (9, 3, 6):
                writer.add(whole.select(np.arange(first, first + 3)))
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        stopped()
    assert written(whole, tmp_path) == [whole.file_name]


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    for whole, name in ((uplift_rows(), "outcomes"), (propensity_rows(), "features")):
        other = type(whole)(**{**vars(whole), name: tuple(f"other {value}" for value in getattr(whole, name))})
        with pytest.raises(ValueError, match="different models"):
            type(whole).concat([whole, other])
    with pytest.raises(ValueError, match="at least one part"):
        type(whole).concat([])
    with pytest.raises(UserError, match="Give the predictions of an uplift model"):
        type(uplift_rows()).read(propensity_rows().write(tmp_path))
