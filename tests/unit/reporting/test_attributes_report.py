"""The whole decision: predictions and photos in, tables, database, pictures and a page out."""

import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wanamaker.errors import UserError
from wanamaker.predictions import Detections
from wanamaker.reporting.attributes import AttributesReport

NAMES = ["bottle", "<b>jar</b>"]
COLOURS = {"red": (215, 30, 35), "blue": (30, 80, 200), "green": (30, 140, 60)}
METRICS = {"test/ap": 0.5931, "test/ap50": 0.8312, "test/ap_class/bottle": 0.61, "test/ap_class/<b>jar</b>": -1.0}


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    """Three photos: a red bottle and a blue jar, nothing, a green bottle."""
    folder = tmp_path / "photos" / "aisle 1"
    folder.mkdir(parents=True)
    rows = []
    for image_id, names in ((4, ["red", "blue"]), (5, []), (9, ["green"])):
        pixels = np.full((120, 160, 3), 235, np.uint8)
        for place, name in enumerate(names):
            pixels[20:110, 10 + 80 * place : 60 + 80 * place] = COLOURS[name]
        path = folder / f"{image_id}.png"
        Image.fromarray(pixels).save(path)
        rows.append((image_id, f"aisle 1/{image_id}.png", str(path), 160, 120))
    return pd.DataFrame(rows, columns=["image_id", "file_name", "path", "width", "height"])


@pytest.fixture
def predictions() -> Detections:
    boxes = [[10, 20, 60, 110], [90, 20, 140, 110], [10, 20, 60, 109], [9, 20, 61, 110]]
    return Detections(
        np.array([4, 4, 4, 9]),
        np.array(boxes),
        np.array([0.9, 0.8, 0.3, 0.7]),
        np.array([1, 2, 2, 1]),
        NAMES,
        np.array([4, 5, 9]),
    )


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.sources, self.alts, self.open = "", [], [], []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.sources += [values[name] for name in ("src", "href", "data", "srcset") if name in values]
        if tag == "img":
            self.alts.append(values.get("alt", ""))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def query(path: Path, text: str) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        return connection.execute(text).fetchall()


def test_everything_is_written(photos: pd.DataFrame, predictions: Detections, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = AttributesReport().write(predictions, photos, out, METRICS, {"run_id": "r1"}, ground_truth=predictions)
    assert all(path.is_file() for path in written)
    names = {str(path.relative_to(out)) for path in written}
    assert names == {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {"attributes.db", "overlay.png", "report.html", "tables/product_attributes.csv"} <= names
    assert len([name for name in names if name.startswith("overlays/")]) == 3

    products = pd.read_parquet(out / "tables" / "product_attributes.parquet")
    assert products["colour"].tolist() == ["red", "blue", "green"]
    assert products["category"].tolist() == ["bottle", "<b>jar</b>", "bottle"]
    assert products["run_id"].unique().tolist() == ["r1"]
    detections = pd.read_csv(out / "tables" / "detections.csv")
    assert detections["file_name"].tolist() == ["aisle 1/4.png", "aisle 1/4.png", "aisle 1/9.png"]
    summary = query(out / "attributes.db", "select file_name, products, empty, colours from image_summary")
    assert summary[1] == ("aisle 1/5.png", 0, 1, "{}")
    assert json.loads(summary[0][3]) == {"blue": 1, "red": 1}

    picture = np.asarray(Image.open(out / "overlays" / "4_4.jpg"))
    assert picture.shape == (480, 640, 3)


def test_page_says_the_numbers_and_loads_nothing(photos, predictions, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    (run_folder / "csv").mkdir(parents=True)
    history = pd.DataFrame({"epoch": [0, 0, 1, 1], "train/loss": [2, 1.5, 1, None], "val/loss": [None, 2, None, 1.25]})
    history.to_csv(run_folder / "csv" / "metrics.csv")
    run = {"run_id": "r<1>", "checkpoint": str(run_folder / "checkpoints" / "best.ckpt")}
    AttributesReport().write(predictions, photos, tmp_path / "out", METRICS, run)
    page = Page(tmp_path / "out" / "report.html")
    assert page.open == []
    assert "3 products of 2 categories on 3 photos" in page.text
    assert "1 photo shows no product" in page.text
    assert "0.59" in page.text
    assert "0.83" in page.text
    assert "r<1>" in page.text  # escaped in the file, whole for the reader
    assert "<b>jar</b>" in page.text
    assert "<b>jar" not in page.raw
    assert "Loss while training" in page.text
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.raw)
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"@import|url\(", page.raw)
    assert page.alts
    assert all(len(alt) > 10 for alt in page.alts)
    assert any("bottle 0.6100, <b>jar</b> no data" in alt for alt in page.alts)  # -1 says: not annotated
    assert any("training 1.75 to 1.00" in alt for alt in page.alts)


def test_without_scores_nothing_is_claimed(photos, predictions, tmp_path: Path) -> None:
    AttributesReport(max_overlays=1).write(predictions, photos, tmp_path, {}, {"run_id": "r"})
    page = Page(tmp_path / "report.html")
    assert "were not scored" in page.text
    assert "AP50" not in page.text
    assert "1 of 3 photos" in page.text


def test_nothing_found_still_makes_a_page(photos, predictions, tmp_path: Path) -> None:
    AttributesReport(score_threshold=0.99).write(predictions, photos, tmp_path, METRICS, {"run_id": "r"})
    page = Page(tmp_path / "report.html")
    assert "No products found on 3 photos" in page.text
    assert query(tmp_path / "attributes.db", "select count(*), sum(empty) from image_summary") == [(3, 3)]


def test_a_second_write_of_a_run_replaces_the_first(photos, predictions, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    for threshold, run_id in ((0.1, "a"), (0.5, "b"), (0.85, "a")):
        report = AttributesReport(threshold, database_url=url, max_overlays=0, report=False, formats=["csv"])
        written = report.write(predictions, photos, tmp_path / run_id, {}, {"run_id": run_id})
        assert [path.suffix for path in written] == [".csv"] * 3
    counts = "select run_id, count(*) from product_attributes group by 1 order by 1"
    assert query(tmp_path / "shop.db", counts) == [("a", 1), ("b", 3)]
    assert not (tmp_path / "a" / "attributes.db").exists()


def test_one_product_is_counted_once(photos, predictions, tmp_path: Path) -> None:
    for overlap, count in ((0.8, 3), (None, 4)):
        out = tmp_path / str(overlap)
        report = AttributesReport(0.1, overlap_threshold=overlap, max_overlays=0)
        report.write(predictions, photos, out, {}, {"run_id": "r"})
        assert len(pd.read_csv(out / "tables" / "product_attributes.csv")) == count


def test_odd_folder_names(photos, predictions, tmp_path: Path) -> None:
    out = tmp_path / "50% off? run #1"
    AttributesReport(max_overlays=0, report=False).write(predictions, photos, out, {}, {"run_id": "r"})
    assert (out / "attributes.db").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_within": "shop"}, "size_within='shop': choose from category, image"),
        ({"max_overlays": -1}, "max_overlays=-1"),
        ({"formats": ["xls"]}, "no table format 'xls'"),
        ({"database_url": "postgres//x"}, "is not a database URL"),
    ],
)
def test_mistakes_are_found_before_any_work(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        AttributesReport(**options)


def test_classes_of_the_thresholds_are_compared_before_anything_is_predicted() -> None:
    nothing = Detections.from_outputs([], [], ["bottle", "carton"])
    AttributesReport({"default": 0.5, "carton": 0.3}).check(nothing)
    with pytest.raises(UserError, match="did you mean 'bottle'"):
        AttributesReport({"default": 0.5, "botle": 0.3}).check(nothing)
    with pytest.raises(UserError, match="must be a number in"):
        AttributesReport(-1)
    with pytest.raises(UserError, match="overlap_threshold=3"):
        AttributesReport(overlap_threshold=3)


def test_photos_that_are_not_what_was_predicted_on(photos, predictions, tmp_path: Path) -> None:
    report, run = AttributesReport(), {"run_id": "r"}
    with pytest.raises(UserError, match="reads the detections of a detector, not dict"):
        report.write({}, photos, tmp_path, {}, run)
    with pytest.raises(UserError, match="needs a run_id"):
        report.write(predictions, photos, tmp_path, {}, {})
    with pytest.raises(UserError, match="Image 9 of the predictions is not in the image table"):
        report.write(predictions, photos.iloc[:2], tmp_path, {}, run)
    with pytest.raises(UserError, match="is 160 x 120 pixels, the data say 99 x 120"):
        report.write(predictions, photos.assign(width=99), tmp_path, {}, run)
    Path(photos["path"][0]).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"Photo .*4\.png of image 4 cannot be read"):
        report.write(predictions, photos, tmp_path, {}, run)
    assert not (tmp_path / "attributes.db").exists()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["bccd", "grocery_fridge"])
def test_real_photos_with_their_annotations(name: str, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "detection" / name
    coco = json.loads((folder / "annotations_coco.json").read_text())
    categories = sorted(coco["categories"], key=lambda c: c["id"])
    label = {c["id"]: k for k, c in enumerate(categories, start=1)}
    entries = coco["images"][:8]
    targets = []
    for entry in entries:
        marks = [a for a in coco["annotations"] if a["image_id"] == entry["id"]]
        targets.append(
            {
                "boxes": np.array([a["bbox"] for a in marks]),
                "labels": np.array([label[a["category_id"]] for a in marks]),
                "iscrowd": np.array([a["iscrowd"] for a in marks]),
            }
        )
    truth = Detections.from_ground_truth(targets, [e["id"] for e in entries], [c["name"] for c in categories])
    images = pd.DataFrame(entries).rename(columns={"id": "image_id"})
    images["path"] = [str(folder / "images" / n) for n in images["file_name"]]
    AttributesReport(overlap_threshold=None, max_overlays=3).write(truth, images, tmp_path, {}, {"run_id": "r"}, truth)
    products = pd.read_parquet(tmp_path / "tables" / "product_attributes.parquet")
    assert len(products) == sum(len(t["labels"]) for t in targets)
    assert products["size_share"].between(0, 1).all()
    page = Page(tmp_path / "report.html")
    assert f"{len(products)} products of" in page.text
    assert all(c["name"] in page.text for c in categories if c["name"] in set(products["category"]))
