"""Every kind of mistake in an annotation file is found, counted, placed, and judged."""

import json
from pathlib import Path
from typing import Any

import pytest
from coco_files import coco_content, write_coco, write_image
from PIL import Image

from wanamaker.data.coco_check import check_coco, check_coco_once
from wanamaker.data.coco_index import load_coco, parse_coco
from wanamaker.data.coco_report import CocoReport, raise_errors
from wanamaker.errors import UserError

SIZES = [(40, 30), (30, 40), (50, 50)]


def report_of(
    folder: Path, content: dict[str, Any], mode: str = "headers", write: bool = True, **options
) -> CocoReport:
    split = write_coco(folder, content, with_images=write)
    index = parse_coco(Path(split["annotations"]))
    return check_coco(index, index, Path(split["images"]), mode, **options)


def kinds(report: CocoReport, severity: str) -> dict[str, int]:
    return {finding.kind: finding.count for finding in report.of(severity)}


def test_a_right_file_has_no_errors(tmp_path: Path) -> None:
    report = report_of(tmp_path, coco_content(SIZES), "full")
    assert kinds(report, "error") == kinds(report, "warning") == {}
    assert kinds(report, "note") == {"non-contiguous category ids, missing": 5}
    assert (report.num_images, report.num_annotations, report.num_categories) == (3, 6, 2)
    raise_errors([report])


def change(content: dict[str, Any], section: str, place: int, **values: Any) -> None:
    content[section][place].update(values)


@pytest.mark.parametrize(
    ("section", "place", "values", "kind", "example"),
    [
        ("annotations", 0, {"image_id": 99}, "annotation of an unknown image", "annotation 1 of image 99"),
        ("annotations", 0, {"category_id": 5}, "unknown category id", "category id 5 in 1 annotations"),
        ("annotations", 1, {"id": 1}, "duplicate annotation id", "annotation 1"),
        ("images", 1, {"id": 10}, "duplicate image id", "image 10"),
        ("images", 1, {"file_name": "photo_1.png"}, "two images with the same file", "file photo_1.png"),
        ("categories", 1, {"id": 7}, "duplicate category id", "category 7"),
        ("categories", 1, {"name": "cup"}, "duplicate category name", "category cup"),
        ("annotations", 0, {"bbox": [100, 5, 5, 5]}, "box wholly outside the image", "bbox [100.0, 5.0, 5.0, 5.0]"),
        ("annotations", 0, {"bbox": [5, 5, 60, 5]}, "box outside the image by more than 2 px", "annotation 1"),
        ("annotations", 0, {"bbox": [5, 5, -3, 5]}, "box with negative size", "annotation 1 of image 10"),
        ("annotations", 0, {"bbox": [1, 2, 3]}, "malformed entry, annotations: 'bbox' is not valid", "id 1"),
        ("annotations", 0, {"bbox": [1, 2, 3, float("nan")]}, "malformed entry, annotations: 'bbox' is not valid", "1"),
        ("annotations", 0, {"category_id": "cup"}, "malformed entry, annotations: 'category_id' is not valid", "cup"),
        ("images", 0, {"width": 0}, "image size is not positive", "image 10: 0 x 30"),
        ("images", 0, {"width": 39}, "image size differs from its file", "40 x 30, annotated 39 x 30"),
        ("images", 0, {"file_name": "none.png"}, "missing image", "image 10 (none.png)"),
    ],
)
def test_errors(tmp_path: Path, section: str, place: int, values: dict, kind: str, example: str) -> None:
    content = coco_content(SIZES)
    write_coco(tmp_path, content)
    change(content, section, place, **values)
    report = report_of(tmp_path, content, write=False)
    assert kinds(report, "error").get(kind) == 1, report.render()
    with pytest.raises(UserError) as raised:
        raise_errors([report])
    message = str(raised.value)
    assert kind in message
    assert example in message
    assert str(tmp_path / "annotations.json") in message


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_missing_keys_are_counted(tmp_path: Path, section: str) -> None:
    content = coco_content(SIZES)
    for entry in content[section][:2]:
        del entry["id"]
    report = report_of(tmp_path, content, "off")
    assert kinds(report, "error")[f"malformed entry, {section}: key 'id' missing"] == 2
    assert "entry 0, entry 1" in report.render()


def test_all_problems_of_all_files_in_one_message(tmp_path: Path) -> None:
    content = coco_content(SIZES)
    change(content, "annotations", 0, category_id=5)
    change(content, "annotations", 3, bbox=[900, 0, 5, 5])
    (tmp_path / "a").mkdir()
    reports = [report_of(tmp_path / name, content, "off") for name in ("a", "b")]
    with pytest.raises(UserError) as raised:
        raise_errors(reports)
    for word in ("unknown category id (1)", "box wholly outside", str(tmp_path / "a"), str(tmp_path / "b")):
        assert word in str(raised.value)


@pytest.mark.parametrize("mode", ["headers", "full"])
def test_undecodable_images(tmp_path: Path, mode: str) -> None:
    content = coco_content([(60, 50)] * 4)
    for number, suffix in enumerate(("jpg", "jpg", "png", "jpg")):
        content["images"][number]["file_name"] = f"photo_{number}.{suffix}"
    write_coco(tmp_path, content)
    folder = tmp_path / "images"
    for name in ("photo_1.jpg", "photo_2.png"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 2 // 3])
    (folder / "photo_3.jpg").write_text("this is no image")
    report = report_of(tmp_path, content, mode, write=False)
    assert kinds(report, "error") == {"undecodable image": 3}
    text = report.render()
    assert "image 20 (photo_1.jpg)" in text
    assert "truncated" in text


def test_damage_inside_a_file_needs_the_full_check(tmp_path: Path) -> None:
    content = coco_content([(60, 50)])
    write_coco(tmp_path, content)
    path = tmp_path / "images" / "photo_1.png"
    data = bytearray(path.read_bytes())
    middle = data.index(b"IDAT") + 40
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(bytes(data))
    assert kinds(report_of(tmp_path, content, "headers", write=False), "error") == {}
    assert kinds(report_of(tmp_path, content, "full", write=False), "error") == {"undecodable image": 1}
    assert kinds(report_of(tmp_path, content, "off", write=False), "error") == {}


def test_warnings_are_counted_and_do_not_stop(tmp_path: Path) -> None:
    content = coco_content(SIZES)
    change(content, "annotations", 0, bbox=[-1.5, 5, 10, 10])
    change(content, "annotations", 1, bbox=[5, 5, 0, 10])
    change(content, "annotations", 2, bbox=[5, 5, 10, 0])
    del content["annotations"][4]["area"], content["annotations"][5]["iscrowd"]
    report = report_of(tmp_path, content)
    assert kinds(report, "error") == {}
    assert kinds(report, "warning") == {
        "annotation without 'area'": 1,
        "annotation without 'iscrowd'": 1,
        "box of zero width or height": 2,
        "box outside the image by up to 2 px": 1,
    }
    raise_errors([report])
    stricter = report_of(tmp_path, content, "off", tolerance=1.0)
    assert kinds(stricter, "error") == {"box outside the image by more than 1 px": 1}


def test_corner_boxes_are_recognised(tmp_path: Path) -> None:
    content = coco_content(SIZES)
    for annotation in content["annotations"]:
        annotation["bbox"] = [20, 15, 29, 29]
    assert "as corners x1 y1 x2 y2 they would fit" in report_of(tmp_path, content, "off").render()


def test_notes(tmp_path: Path) -> None:
    content = coco_content(SIZES)
    content["images"].append({"id": 40, "file_name": "photo_4.png", "width": 20, "height": 20})
    change(content, "annotations", 0, iscrowd=1)
    report = report_of(tmp_path, content)
    assert kinds(report, "note")["images without boxes"] == 1
    assert kinds(report, "note")["crowd boxes"] == 1


@pytest.mark.parametrize(("ids", "missing"), [([1, 2], 0), ([0, 1], 0), ([1, 4], 2), ([5, 6], 4)])
def test_contiguity(tmp_path: Path, ids: list[int], missing: int) -> None:
    content = coco_content(SIZES)
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[0]
    content["categories"] = [{"id": i, "name": f"thing {i}"} for i in ids]
    assert report_of(tmp_path, content, "off").count("non-contiguous category ids, missing") == missing


def test_exif_rotation_is_told(tmp_path: Path) -> None:
    content = coco_content([(40, 30)], boxes_per_image=0)
    content["images"][0].update(file_name="x.jpg", width=40, height=30)
    write_coco(tmp_path, content, with_images=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "x.jpg", exif=exif)
    report = report_of(tmp_path, content, write=False)
    assert kinds(report, "error") == {}
    assert kinds(report, "warning") == {"image with EXIF rotation": 1}
    content["images"][0].update(width=30, height=40)
    assert "turned by EXIF" in report_of(tmp_path, content, write=False).render()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not valid JSON.*cut short"),
        ("[]", "lists? images, annotations, categories missing|images, annotations, categories missing"),
        ('{"images": [], "annotations": {}}', "annotations, categories missing"),
    ],
)
def test_files_that_are_no_coco(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        parse_coco(tmp_path / "a.json")


def test_empty_file(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"images": [], "annotations": [], "categories": []})
    assert kinds(report, "error") == {"no category": 1, "no image": 1}


def test_subset_and_categories(tmp_path: Path) -> None:
    index = parse_coco(Path(write_coco(tmp_path, coco_content(SIZES))["annotations"]))
    part = index.narrow([1, 3], ["plate"])
    assert part.image_id.tolist() == [20, 30]
    assert part.annotation_id.tolist() == [4, 6]
    assert part.ordered_categories() == ([3], ["plate"])
    assert index.ordered_categories() == ([3, 7], ["plate", "cup"])
    for subset, message in (([2, 2], "start < stop"), ([0, 4], "3 images"), ([0], "start, stop"), ([-1, 2], "0 <=")):
        with pytest.raises(UserError, match=message):
            index.narrow(subset, None)
    with pytest.raises(UserError, match=r"unknown names \['plates'\].*cup, plate"):
        index.narrow(None, ["plates"])
    with pytest.raises(UserError, match="empty"):
        index.narrow(None, [])


def test_remembered_index_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = coco_content(SIZES)
    change(content, "annotations", 0, bbox=[-1, 5, 10, 10])
    split = write_coco(tmp_path, content)
    cache, path, images = tmp_path / "cache", Path(split["annotations"]), Path(split["images"])
    first = load_coco(path, cache)
    report = check_coco_once(first, first, images, "headers", 2.0, cache)
    again = load_coco(path, cache)
    for name in ("image_id", "bbox", "area", "iscrowd", "category_id", "annotation_category"):
        assert getattr(first, name).tolist() == getattr(again, name).tolist()
        assert getattr(first, name).dtype == getattr(again, name).dtype
    assert (again.file_name, again.category_name) == (first.file_name, first.category_name)
    monkeypatch.setattr("wanamaker.data.coco_check.check_images", lambda *_: pytest.fail("looked again"))
    assert check_coco_once(again, again, images, "headers", 2.0, cache) == report
    monkeypatch.undo()

    del content["annotations"][0]["area"]
    path.write_text(json.dumps(content))
    assert load_coco(path, cache).assumed == {"area": 1}, "a changed file is read again"
    (images / "photo_1.png").unlink()
    changed = load_coco(path, cache)
    broken = check_coco_once(changed, changed, images, "headers", 2.0, cache)
    assert kinds(broken, "error") == {"missing image": 1}
    write_image(images / "photo_1.png", 40, 30)
    mended = check_coco_once(changed, changed, images, "headers", 2.0, cache)
    assert kinds(mended, "error") == {}, "errors are not remembered"


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = write_coco(tmp_path, coco_content(SIZES))
    (tmp_path / "file").write_text("")
    with caplog.at_level("WARNING"):
        index = load_coco(Path(split["annotations"]), tmp_path / "file" / "cache")
    assert len(index.image_id) == 3
    assert "Cannot remember in" in caplog.text
