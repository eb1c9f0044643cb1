"""Detections: joining parts, round trips, and files that are whole or absent."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wanamaker import predictions
from wanamaker.errors import UserError
from wanamaker.predictions import Detections, atomic_path, prediction_kind, read_predictions

NAMES = ["bottle", "carton", "jar"]


def some(image_id=(3, 3, 7), seen=(3, 5, 7), names=NAMES) -> Detections:
    count = len(image_id)
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4) + np.array([0.25, 0.5, 10, 20])
    score = np.linspace(0.9, 0.1, count)
    return Detections(np.array(image_id), boxes, score, np.arange(count) % 3 + 1, list(names), np.array(seen))


def assert_same(a: Detections, b: Detections) -> None:
    for name in ("image_id", "boxes", "score", "label", "image_ids_seen"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert a.class_names == b.class_names


def test_parquet_keeps_everything_also_images_without_a_detection(tmp_path: Path) -> None:
    before = some()
    path = before.write(tmp_path / "predictions")
    assert_same(Detections.read(path), before)
    assert_same(Detections.read(path.parent), before)
    assert_same(read_predictions(path.parent), before)
    metadata = pq.read_schema(path).metadata
    assert metadata[b"wanamaker.kind"] == b"detections"
    assert json.loads(metadata[b"wanamaker.header"])["image_ids_seen"] == [3, 5, 7]
    assert [p.name for p in path.parent.iterdir()] == ["detections.parquet"]


def test_nothing_found_is_a_result_too(tmp_path: Path) -> None:
    nothing = some(image_id=(), seen=(1, 2))
    back = Detections.read(nothing.write(tmp_path))
    assert_same(back, nothing)
    assert back.boxes.shape == (0, 4)
    assert back.coco_results([4, 5, 6]) == []
    assert len(back.to_frame()) == 0
    assert [len(index) for _, index in back.by_image()] == [0, 0]


def test_frame_is_readable() -> None:
    frame = some().to_frame()
    assert frame["class_name"].tolist() == NAMES
    assert list(frame) == ["image_id", "label", "class_name", "score", "x1", "y1", "x2", "y2"]


def test_coco_results_are_exact() -> None:
    detections = some()
    results = json.loads(json.dumps(detections.coco_results([10, 20, 30])))
    assert [r["category_id"] for r in results] == [10, 20, 30]
    for result, box, score in zip(results, detections.boxes, detections.score, strict=True):
        wide, tall = float(box[2]) - float(box[0]), float(box[3]) - float(box[1])
        assert result["bbox"] == [float(box[0]), float(box[1]), wide, tall]
        assert np.float32(result["score"]) == score
    with pytest.raises(ValueError, match="2 category ids for 3"):
        detections.coco_results([1, 2])


def test_an_image_seen_by_two_ranks_counts_once() -> None:
    first = some(image_id=(1, 2, 2), seen=(1, 2))
    second = some(image_id=(2, 4, 4), seen=(2, 4, 9))
    joined = Detections.concat([first, second])
    assert joined.image_ids_seen.tolist() == [1, 2, 4, 9]
    assert joined.image_id.tolist() == [1, 2, 2, 4, 4]
    np.testing.assert_array_equal(joined.boxes[1:3], first.boxes[1:3])
    # Image 2 was empty in the first part: the detections of the copy do not come back.
    empty_first = Detections.concat([some(image_id=(1, 1, 1), seen=(1, 2)), second])
    assert 2 not in empty_first.image_id.tolist()


def test_outputs_of_a_batch_in_any_precision() -> None:
    outputs = [
        {
            "boxes": torch.tensor([[0, 0, 8, 8.0]]).bfloat16(),
            "scores": torch.tensor([0.5]).half(),
            "labels": torch.tensor([2]),
        },
        {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.ones(1, 4, requires_grad=True), "scores": torch.ones(1), "labels": torch.tensor([1])},
    ]
    found = Detections.from_outputs(outputs, torch.tensor([8, 6, 8]), NAMES)  # a padded sampler repeats image 8
    assert found.image_ids_seen.tolist() == [8, 6]
    assert found.boxes.tolist() == [[0, 0, 8, 8]]
    assert found.label.tolist() == [2]
    with pytest.raises(ValueError, match="3 outputs for 1 image ids"):
        Detections.from_outputs(outputs, [8], NAMES)


def test_ground_truth_without_crowds() -> None:
    target = {"boxes": torch.tensor([[1, 2, 3, 4.0], [0, 0, 9, 9]]), "labels": [1, 2], "iscrowd": [0, 1]}
    truth = Detections.from_ground_truth([target], [5], NAMES)
    assert truth.boxes.tolist() == [[1, 2, 4, 6]]
    assert truth.score.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([1, 2, 4])}, "1 to 4, but there are 3"),
        ({"label": np.array([0, 2, 3])}, "0 to 3"),
        ({"score": np.array([0.1, np.nan, 0.3])}, "not finite"),
        ({"score": np.array([0.1])}, "disagree in length"),
        ({"image_ids_seen": np.array([3, 3, 7])}, "repeats an image"),
        ({"image_ids_seen": np.array([3])}, "not in image_ids_seen: \\[7\\]"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    good = some()
    values = {field.name: getattr(good, field.name) for field in dataclasses.fields(good)} | change
    with pytest.raises(ValueError, match=message):
        Detections(**values)


def test_parts_must_agree() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Detections.concat([])
    with pytest.raises(ValueError, match="Part 1 has class names"):
        Detections.concat([some(), some(names=["a", "b", "c"])])


def test_files_that_are_not_predictions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No predictions at"):
        Detections.read(tmp_path)
    with pytest.raises(UserError, match=r"found 0 \(none\)"):
        read_predictions(tmp_path)
    (tmp_path / "detections.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="Cannot read"):
        Detections.read(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "detections.parquet")
    with pytest.raises(UserError, match=r"kind 'unknown'; known kinds: .*detections"):
        Detections.read(tmp_path)


def test_a_newer_file_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detections, "schema_version", 2)
    path = some().write(tmp_path)
    monkeypatch.setattr(Detections, "schema_version", 1)
    with pytest.raises(UserError, match="schema version 2"):
        read_predictions(path)


def test_kinds_are_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "KINDS", dict(predictions.KINDS))
    with pytest.raises(ValueError, match="already taken by Detections"):
        prediction_kind(type("Other", (), {"kind": "detections"}))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_half_and_fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise full

    with pytest.raises(UserError, match=r"No space left on device\. Free some space"):
        write_half_and_fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        some().write(tmp_path / "file" / "predictions")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Make the folder writable"):
        some().write(tmp_path)
    tmp_path.chmod(0o700)
