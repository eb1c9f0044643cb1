"""From detections to what a merchandiser reads: attribute tables, a database, overlays and one HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wanamaker.decisions.attributes import (
    SIZE_WITHIN,
    above_threshold,
    check_overlap_threshold,
    check_score_threshold,
    image_table,
    product_colours,
    product_table,
    score_limits,
    suppress_across_classes,
)
from wanamaker.decisions.colour import Colour
from wanamaker.errors import UserError
from wanamaker.predictions import Detections, atomic_path
from wanamaker.reporting.contact_sheet import Tile, contact_sheet
from wanamaker.reporting.export import check_database_url, check_formats, write_database, write_tables
from wanamaker.reporting.overlay import draw_detections, to_picture
from wanamaker.reporting.report import Shot, attribute_report
from wanamaker.reporting.training import training_history

if TYPE_CHECKING:
    import pandas as pd

DATABASE = "attributes.db"
SHEET = "overlay.png"
REPORT = "report.html"
_SHEET_PHOTOS = 12


class AttributesReport:
    """The decision `attributes`: reads `Detections` and the photos, writes tables, pictures and a report.

    In the output folder: `tables/detections`, `tables/product_attributes` and `tables/image_summary` in each format;
    the same three tables in a database; `overlays/` with a picture per photo, `overlay.png` with several on one sheet;
    `report.html`.

    Args:
        score_threshold: Detections below are left out; a number, or a number per class name with an entry `default`.
        overlap_threshold: Of two boxes of any class that overlap by more than this (intersection over union), only the
            surer one is a product; None keeps both.
        size_within: What small, medium and large are relative to: the products of the `category`, or of the `image`.
        database_url: Any SQLAlchemy URL; None is an SQLite file `attributes.db` in the output folder.
        database: Write the database at all.
        formats: Of the table files: `parquet`, `csv`.
        max_overlays: Photos drawn with boxes, evenly spaced over all of them; 0 draws none.
        report: Write `report.html`.
        title: First line of the sheet.

    Raises:
        UserError: an argument out of range, a database URL that is wrong, or whose driver is not installed.
    """

    reads = Detections.kind

    def __init__(
        self,
        score_threshold: float | Mapping[str, float] = 0.5,
        overlap_threshold: float | None = 0.8,
        size_within: str = "category",
        database_url: str | None = None,
        database: bool = True,
        formats: Iterable[str] = ("parquet", "csv"),
        max_overlays: int = 24,
        report: bool = True,
        title: str = "Products found",
    ) -> None:
        if size_within not in SIZE_WITHIN:
            raise UserError(f"decision.size_within={size_within!r}: choose from {', '.join(SIZE_WITHIN)}.")
        if max_overlays < 0:
            raise UserError(f"decision.max_overlays={max_overlays}: give a number of photos, 0 or more.")
        if database_url is not None:
            check_database_url(database_url)
        check_score_threshold(score_threshold)
        if overlap_threshold is not None:
            check_overlap_threshold(overlap_threshold)
        self.score_threshold, self.overlap_threshold = score_threshold, overlap_threshold
        self.size_within, self.database_url, self.database = size_within, database_url, database
        self.formats = check_formats(formats)
        self.max_overlays, self.report, self.title = max_overlays, report, title

    def check(self, predictions: Detections) -> None:
        """Compare the classes named in the options with those of the predictions, which need hold no detection yet.

        Raises:
            UserError: a class is unknown, or has no threshold.
        """
        score_limits(self.score_threshold, predictions.class_names)

    def write(
        self,
        predictions: Detections,
        images: pd.DataFrame,
        output_dir: Path,
        metrics: Mapping[str, float],
        run: Mapping[str, Any],
        ground_truth: Detections | None = None,
    ) -> list[Path]:
        """Write everything.

        Args:
            predictions: of a detector.
            images: columns image_id, file_name, path, width, height, of at least the images seen.
            output_dir: folder of the run.
            metrics: by full name (`test/ap`); may be empty.
            run: `run_id`, and whatever else should stand in the report. From `checkpoint`, where given, the curves of
                the training are found (`csv/metrics.csv` or `metrics.csv` beside its folder).
            ground_truth: what is annotated, drawn dashed (`Detections.from_ground_truth`).

        Returns:
            The files written.

        Raises:
            UserError: predictions of another kind, a photo that cannot be read or has another size than the table
                says, a folder that cannot be written, or a database that refuses.
        """
        if not isinstance(predictions, Detections):
            raise UserError(
                f"decision=attributes reads the detections of a detector, not {type(predictions).__name__}. "
                "Choose a checkpoint of a detector, or another decision."
            )
        if "run_id" not in run:
            raise UserError("The attribute report needs a run_id: rows in the database are replaced by it.")
        run_id, output_dir = str(run["run_id"]), Path(output_dir)
        kept = above_threshold(predictions, self.score_threshold)
        if self.overlap_threshold is not None:
            kept = suppress_across_classes(kept, self.overlap_threshold)
        colours: list[Colour | None] = [None] * len(kept)
        shown = _evenly(len(kept.image_ids_seen), self.max_overlays)
        on_sheet = {shown[i] for i in _evenly(len(shown), _SHEET_PHOTOS)}
        shots, tiles, written = [], [], []
        table = images.set_index("image_id")
        by_image = dict(ground_truth.by_image()) if ground_truth is not None else {}
        for number, (image_id, index) in enumerate(kept.by_image()):
            if len(index) == 0 and number not in shown:
                continue
            pixels = _read(image_id, table)
            for i, colour in zip(index, product_colours(pixels, kept.boxes[index]), strict=True):
                colours[i] = colour
            if number in shown:
                truth = None if ground_truth is None else ground_truth.boxes[by_image.get(image_id, [])]
                found = (kept.boxes[index], kept.label[index], kept.score[index])
                picture = draw_detections(pixels, *found, kept.class_names, truth_boxes=truth).image
                file_name = str(table.loc[image_id, "file_name"])
                path = output_dir / "overlays" / f"{Path(file_name).stem}_{image_id}.jpg"
                with atomic_path(path) as temporary:
                    picture.save(temporary, quality=90)
                written.append(path)
                shots.append(Shot(image_id, file_name, picture))
                if number in on_sheet:
                    tiles.append(Tile(pixels, _caption(file_name, len(index), truth), *found, truth))
        products = product_table(kept, images, colours, self.size_within)
        summary = image_table(products, kept, images)
        tables = {
            "detections": _detection_table(kept, images),
            "product_attributes": products,
            "image_summary": summary,
        }
        written += write_tables(tables, output_dir / "tables", self.formats, run_id)
        if self.database:
            written += self._to_database(tables, output_dir, run_id)
        if tiles:
            note = f"{len(tiles)} of {len(summary):,} photos, {len(products):,} products in all"
            with atomic_path(output_dir / SHEET) as temporary:
                contact_sheet(tiles, kept.class_names, title=self.title, subtitle=note, tile_side=520).save(temporary)
            written.append(output_dir / SHEET)
        if self.report:
            page = attribute_report(products, summary, shots, metrics, run, self._settings(), training_history(run))
            with atomic_path(output_dir / REPORT) as temporary:
                temporary.write_text(page, encoding="utf-8")
            written.append(output_dir / REPORT)
        return written

    def _to_database(self, tables: Mapping[str, pd.DataFrame], output_dir: Path, run_id: str) -> list[Path]:
        if self.database_url is not None:
            write_database(tables, self.database_url, run_id)
            return []
        import sqlalchemy as sa

        path = (output_dir / DATABASE).absolute()
        write_database(tables, sa.URL.create("sqlite", database=str(path)), run_id)  # a path may hold ? or %
        return [output_dir / DATABASE]

    def _settings(self) -> dict[str, Any]:
        url = self.database_url
        database = check_database_url(url).render_as_string(hide_password=True) if url is not None else DATABASE
        return {
            "score_threshold": self.score_threshold,
            "overlap_threshold": self.overlap_threshold,
            "size_within": self.size_within,
            "database": database if self.database else None,
            "formats": list(self.formats),
        }


def _evenly(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of ``count`` positions, evenly spaced from the first to the last."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()}) if count and wanted else []


def _read(image_id: int, table: pd.DataFrame) -> np.ndarray:
    """Pixels [H, W, 3] as stored in the file, without EXIF rotation: boxes refer to these."""
    if image_id not in table.index:
        raise UserError(
            f"Image {image_id} of the predictions is not in the image table: both must come from the same data."
        )
    row = table.loc[image_id]
    path = Path(str(row["path"]))
    try:
        with Image.open(path) as file:
            picture = to_picture(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"Photo {path} of image {image_id} cannot be read: {error}. Restore the file.") from error
    if picture.size != (int(row["width"]), int(row["height"])):
        raise UserError(
            f"Photo {path} is {picture.width} x {picture.height} pixels, the data say {row['width']} x "
            f"{row['height']}: the file has changed since the predictions were made. Run evaluate.py again."
        )
    return np.asarray(picture)


def _detection_table(detections: Detections, images: pd.DataFrame) -> pd.DataFrame:
    frame = detections.to_frame()
    names = images.set_index("image_id")["file_name"].reindex(frame["image_id"]).astype("str")
    frame.insert(1, "file_name", names.to_numpy())
    return frame.astype({"file_name": "str"})


def _caption(file_name: str, found: int, truth: np.ndarray | None) -> str:
    return f"{Path(file_name).name}: {found} found" + ("" if truth is None else f", {len(truth)} annotated")
