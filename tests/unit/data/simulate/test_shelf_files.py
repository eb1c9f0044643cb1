"""Folders of shelf photos: valid COCO, complete or absent, drawn once."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from tests.conftest import ROOT

from wanamaker.data.simulate import shelf
from wanamaker.data.simulate.shelf import ShelfOptions, draw_photo, ensure_shelf, render_shelf, shelf_folder
from wanamaker.errors import UserError

TINY = ShelfOptions(num_train=6, num_val=3, num_test=2, image_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = replace(TINY, num_train=60, num_val=40)
    return render_shelf(tmp_path_factory.mktemp("drawn") / "shelf", options, processes=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_are_those_of_the_annotations(folder: Path) -> None:
    for split, count in (("train", 60), ("val", 40), ("test", 2)):
        content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        assert len(content["images"]) == count
        names = {image["file_name"] for image in content["images"]}
        assert names == {path.name for path in (folder / split).iterdir()}
        for image in content["images"]:
            assert set(image) == {"id", "file_name", "width", "height", "seed"}
            with Image.open(folder / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])


def test_annotations_are_valid_coco(folder: Path) -> None:
    coco = COCO(str(folder / "annotations" / "instances_train.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(TINY.class_names)
    assert coco.getCatIds() == list(range(1, 9))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    for annotation in annotations:
        image = coco.loadImgs(annotation["image_id"])[0]
        x, y, width, height = annotation["bbox"]
        assert all(isinstance(value, float) for value in annotation["bbox"])
        assert x >= 0
        assert y >= 0
        assert x + width <= image["width"]
        assert y + height <= image["height"]
        assert 0 < annotation["area"] <= width * height
        assert annotation["iscrowd"] in (0, 1)
        assert set(annotation["attributes"]) == {"colour", "material", "shape", "size", "occlusion"}


def test_files_hold_the_photos_and_boxes_of_the_generator(folder: Path) -> None:
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    scene = draw_photo(TINY, "val", 7)
    stored = np.asarray(Image.open(folder / "val" / "000007.jpg")).astype(float)
    assert np.abs(stored - np.asarray(scene.image)).mean() < 12  # JPEG; another photo is about 60 away
    boxes = [tuple(a["bbox"]) for a in content["annotations"] if a["image_id"] == content["images"][7]["id"]]
    assert boxes == [product.bbox for product in scene.products]


def test_splits_share_no_photo(folder: Path) -> None:
    seeds, pictures = [], []
    for split in ("train", "val", "test"):
        content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        seeds += [image["seed"] for image in content["images"]]
        pictures += [path.read_bytes() for path in (folder / split).iterdir()]
    assert len(set(seeds)) == len(seeds) == 102
    assert len(set(pictures)) == 102


def test_the_number_of_processes_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    options = replace(TINY, num_train=60, num_val=40)
    started = time.perf_counter()
    again = render_shelf(tmp_path / "again", options, processes=2)
    print(f"two processes: {102 / (time.perf_counter() - started) * 60:.0f} photos of 64 px a minute, start included")
    assert contents(again) == contents(folder)


def test_another_seed_changes_pictures_and_labels(folder: Path, tmp_path: Path) -> None:
    other = render_shelf(tmp_path / "other", replace(TINY, seed=1))
    assert (other / "train/000000.jpg").read_bytes() != (folder / "train/000000.jpg").read_bytes()


def test_a_cached_folder_is_used_again_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = ensure_shelf(tmp_path, TINY)
    assert drawn == shelf_folder(tmp_path, TINY)
    stamps = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    monkeypatch.setattr(shelf, "render_shelf", lambda *_, **__: pytest.fail("drawn twice"))
    assert ensure_shelf(tmp_path, TINY) == drawn
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == stamps


def test_every_option_and_the_renderer_are_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [
        {"num_train": 5},
        {"num_val": 5},
        {"num_test": 5},
        {"image_size": 65},
        {"seed": 3},
        {"style": "restock"},
        {"formats": "mixed"},
        {"quality": 80},
    ]
    names = {TINY.folder_name, *(replace(TINY, **change).folder_name for change in changes)}
    monkeypatch.setattr(shelf, "VERSION", -1)
    names.add(TINY.folder_name)
    assert len(names) == len(changes) + 2


def test_a_failure_leaves_nothing_and_names_folder_and_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = shelf.draw_photo

    def full_disk(options: ShelfOptions, split: str, index: int):
        if index == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return drawn(options, split, index)

    monkeypatch.setattr(shelf, "draw_photo", full_disk)
    with pytest.raises(UserError) as caught:
        ensure_shelf(tmp_path, TINY)
    message = str(caught.value)
    assert str(shelf_folder(tmp_path, TINY)) in message
    assert "No space left" in message
    assert "paths.cache_dir" in message
    assert [path.name for path in (tmp_path / "shelf").iterdir() if path.suffix != ".lock"] == []


def test_what_a_killed_process_left_is_never_used_and_removed(tmp_path: Path) -> None:
    target = shelf_folder(tmp_path, TINY)
    half = target.parent / f".{target.name}.part-abc"
    (half / "annotations").mkdir(parents=True)
    (half / "annotations" / "instances_train.json").write_text("{")
    assert shelf.is_complete(ensure_shelf(tmp_path, TINY))
    assert not half.exists()


def test_an_unwritable_cache_is_found_before_drawing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"Cannot draw .*file/cache.*paths\.cache_dir"):
        shelf.check_cache(tmp_path / "file" / "cache", TINY)


def test_a_cache_without_room_is_found_before_drawing(tmp_path: Path) -> None:
    huge = replace(TINY, num_train=10**9, image_size=4096)
    with pytest.raises(UserError, match=r"photos take about .* MB are free.*paths\.cache_dir"):
        shelf.check_cache(tmp_path, huge)


def test_concurrent_callers_get_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, calls = shelf.render_shelf, []

    def counted(*arguments, **options):
        calls.append(arguments)
        return drawn(*arguments, **options)

    monkeypatch.setattr(shelf, "render_shelf", counted)
    with ThreadPoolExecutor(3) as threads:
        folders = list(threads.map(lambda _: ensure_shelf(tmp_path, TINY), range(3)))
    assert set(folders) == {shelf_folder(tmp_path, TINY)}
    assert len(calls) == 1


def test_without_locks_the_first_to_finish_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = shelf_folder(tmp_path, TINY)
    winner = contents(render_shelf(target, TINY))
    inode = target.stat().st_ino
    assert render_shelf(target, TINY) == target  # the second renames onto a full folder
    assert target.stat().st_ino == inode
    assert contents(target) == winner
    assert [path.name for path in target.parent.iterdir() if ".part-" in path.name] == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_train": -1}, "num_train=-1"),
        ({"seed": -3}, "seed=-3"),
        ({"image_size": 8}, "image_size=8"),
        ({"style": "rustic"}, "rustic.*base, restock"),
        ({"formats": "round"}, "round.*square, mixed"),
        ({"quality": 100}, "quality=100"),
    ],
)
def test_options_out_of_range_are_named(change: dict, text: str) -> None:
    with pytest.raises(UserError, match=text):
        replace(TINY, **change)


def test_mixed_formats(tmp_path: Path) -> None:
    options = ShelfOptions(num_train=24, num_val=0, num_test=0, image_size=64, formats="mixed")
    drawn = render_shelf(tmp_path / "mixed", options)
    content = json.loads((drawn / "annotations/instances_train.json").read_text())
    assert {(image["width"], image["height"]) for image in content["images"]} == {(64, 64), (64, 48), (48, 64)}
    assert json.loads((drawn / "annotations/instances_val.json").read_text())["images"] == []


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "render_shelf.py"), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def test_script_writes_the_layout_of_coco(tmp_path: Path) -> None:
    out = tmp_path / "coco"
    done = script("--out", str(out), "--layout", "coco2017", "--train=5", "--val=3", "--test=0", "--size=64")
    assert done.returncode == 0, done.stderr
    assert "8 photos" in done.stdout
    assert len(list((out / "train2017").iterdir())) == 5
    assert len(COCO(str(out / "annotations/instances_val2017.json")).imgs) == 3
    again = script("--out", str(out))
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--style", "rustic", "--out", "x"], ["--size", "5", "--out", "x"], ["--processes", "0", "--out", "x"], []],
)
def test_script_refuses_bad_arguments(tmp_path: Path, arguments: list[str]) -> None:
    refused = script(*(str(tmp_path / value) if value == "x" else value for value in arguments))
    assert refused.returncode == 2
    assert "rror" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_script_without_a_main_guard_draws_once(tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from wanamaker.data.simulate.shelf import ShelfOptions, ensure_shelf",
        "print('started', flush=True)",
        "ensure_shelf(Path(sys.argv[1]), ShelfOptions(96, 8, 0, image_size=64), processes=2)",
    )
    path = tmp_path / "plain.py"
    path.write_text("\n".join(lines))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["started"]
    assert "Another process" not in done.stderr


def test_a_killed_drawing_process_ends_in_a_message(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "render_shelf.py"), "--out", str(tmp_path / "big")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [*command, "--train", "100000", "--processes", "2"], env=env, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            wait_for_photos(tmp_path, parent)
            for child in children_of(parent.pid):
                if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(child, signal.SIGKILL)
                    break
            _, stderr = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert parent.returncode == 2
    assert "ended from outside" in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX processes")
def test_drawing_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    out = tmp_path / "big"
    command = [sys.executable, str(ROOT / "scripts" / "render_shelf.py"), "--out", str(out), "--train", "100000"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([*command, "--processes", "2"], env=env, stderr=subprocess.DEVNULL) as parent:
        try:
            wait_for_photos(tmp_path, parent)
            children = children_of(parent.pid)
        finally:
            parent.kill()
    assert len(children) >= 2
    deadline = time.monotonic() + 60
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline, "a drawing process outlives its parent"
    assert not out.exists()


def wait_for_photos(folder: Path, parent: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(".big.part-*/train/*.jpg")):
        assert time.monotonic() < deadline, "nothing is drawn"
        assert parent.poll() is None


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("needs /proc")
    return [int(child) for child in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
