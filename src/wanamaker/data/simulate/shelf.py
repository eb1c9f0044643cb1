"""The `shelf` data set: seeded photos of product shelves in COCO format, thousands in a minute.

Photo i of a split is a pure function of (seed, split, i), whatever the number of processes that draw it. A folder is
complete or absent: it is drawn beside its final place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.simulate.shelf_scene import categories, compose_scene
from wanamaker.errors import UserError

VERSION = 1
"""Raise this when the pictures change: it is part of the folder's name."""

SPLITS = ("train", "val", "test")
STYLES = ("base", "restock")
FORMATS = {"square": ((1.0, 1.0),), "mixed": ((1.0, 1.0), (1.0, 0.75), (0.75, 1.0))}
"""(width, height) relative to the image size; a photo draws one of them."""

COCO2017 = {
    "train": ("train2017", "annotations/instances_train2017.json"),
    "val": ("val2017", "annotations/instances_val2017.json"),
    "test": ("test2017", "annotations/instances_test2017.json"),
}
PLAIN = {name: (name, f"annotations/instances_{name}.json") for name in SPLITS}
LAYOUTS = {"plain": PLAIN, "coco2017": COCO2017}
"""(folder of images, annotation file) of each split."""


@dataclass(frozen=True)
class ShelfOptions:
    """What decides every pixel of the data set.

    Attributes:
        num_train: Photos to train on.
        num_val: Photos to validate on.
        num_test: Photos to test on. The splits never share a random stream.
        image_size: Longer side, pixels, at least 64.
        seed: Seeds everything.
        style: `base`; or `restock`: new package designs and two more categories, as when a shop changes its range.
        formats: `square`, or `mixed` for landscape and portrait photos too.
        quality: Of the JPEG files, 1 to 95.
    """

    num_train: int = 2000
    num_val: int = 200
    num_test: int = 400
    image_size: int = 256
    seed: int = 0
    style: str = "base"
    formats: str = "square"
    quality: int = 90

    def __post_init__(self) -> None:
        for name in ("num_train", "num_val", "num_test"):
            if getattr(self, name) < 0:
                raise UserError(f"data.{name}={getattr(self, name)}: give a number of photos, 0 or more.")
        if not 64 <= self.image_size <= 4096:
            raise UserError(f"data.image_size={self.image_size}: give 64 to 4096 pixels.")
        if self.style not in STYLES:
            raise UserError(f"data.style={self.style!r}: choose from {', '.join(STYLES)}.")
        if self.formats not in FORMATS:
            raise UserError(f"data.formats={self.formats!r}: choose from {', '.join(FORMATS)}.")
        if not 1 <= self.quality <= 95:
            raise UserError(f"data.quality={self.quality}: JPEG quality is 1 to 95.")

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the renderer."""
        text = json.dumps({**asdict(self), "version": VERSION}, sort_keys=True)
        return f"{self.style}-{self.image_size}px-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def count(self, split: str) -> int:
        """Photos of a split."""
        return int(getattr(self, f"num_{split}"))


def ensure_shelf(cache_dir: Path, options: ShelfOptions) -> Path:
    """The folder with these photos, drawn now if it is not there yet.

    Safe to call from several processes: each draws its own copy and the first to finish wins.

    Raises:
        UserError: when the folder cannot be written or the disk is full.
    """
    target = Path(cache_dir) / "shelf" / options.folder_name
    if not (target / "annotations").is_dir():
        render_shelf(target, options)
    return target


def render_shelf(target: Path, options: ShelfOptions, layout: str = "plain", processes: int | None = None) -> Path:
    """Draw the whole data set to a new folder.

    Args:
        target: Folder to make; when another process makes it meanwhile, that one is kept.
        options: What to draw.
        layout: `plain` (train/, val/, test/) or `coco2017` (train2017/, val2017/, as COCO ships).
        processes: Processes to draw with; None takes all cores.

    Returns:
        `target`.

    Raises:
        UserError: when the folder cannot be written or the disk is full; nothing is left behind.
    """
    places = LAYOUTS[layout]
    target = Path(target)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        (partial / "annotations").mkdir()
        for split in SPLITS:
            images, annotations = places[split]
            (partial / images).mkdir()
            records = list(_draw_split(partial / images, split, options, processes))
            (partial / annotations).write_text(json.dumps(_coco(records, options)), encoding="utf-8")
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError:
            if not (target / "annotations").is_dir():
                raise
    except OSError as error:
        raise UserError(
            f"Cannot draw the shelf photos in {target}: {error.strerror or error}. "
            "Point paths.cache_dir (or WANAMAKER_CACHE_DIR) to a folder with room that you can write."
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def draw_photo(options: ShelfOptions, split: str, index: int) -> tuple[Any, list[Any]]:
    """Photo `index` of a split and its products; see `shelf_scene.Scene`."""
    entropy = [options.seed, SPLITS.index(split), index, STYLES.index(options.style)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
    shapes = FORMATS[options.formats]
    wide, tall = shapes[int(rng.integers(len(shapes)))]
    scene = compose_scene(rng, int(options.image_size * wide), int(options.image_size * tall), options.style)
    return scene.image, scene.products


def _draw_file(job: tuple[ShelfOptions, str, int, str]) -> dict[str, Any]:
    options, split, index, folder = job
    image, products = draw_photo(options, split, index)
    name = f"{index:06d}.jpg"
    image.save(Path(folder) / name, quality=options.quality)
    return {"file_name": name, "width": image.width, "height": image.height, "products": products}


def _draw_split(folder: Path, split: str, options: ShelfOptions, processes: int | None) -> Iterator[dict[str, Any]]:
    count = options.count(split)
    jobs = [(options, split, index, str(folder)) for index in range(count)]
    processes = min(processes or os.cpu_count() or 1, max(1, count // 32))
    title = f"Drawing {count} shelf photos ({split})"
    if processes == 1:
        yield from _shown(map(_draw_file, jobs), count, title)
        return
    # fork would copy a process that may already hold threads and locks of torch.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from _shown(pool.imap(_draw_file, jobs, chunksize=16), count, title)


def _shown(records: Iterator[dict[str, Any]], count: int, title: str) -> Iterator[dict[str, Any]]:
    """Behind a progress bar on a terminal, after one line elsewhere."""
    if count == 0:
        return
    if not sys.stderr.isatty():
        if count > 200:
            print(title, file=sys.stderr, flush=True)
        yield from records
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(records, description=title, total=count, console=Console(stderr=True), transient=True)


def _coco(records: list[dict[str, Any]], options: ShelfOptions) -> dict[str, Any]:
    names = categories(options.style)
    ids = {name: number for number, name in enumerate(names, start=1)}
    images, annotations = [], []
    for number, record in enumerate(records, start=1):
        size = {"width": record["width"], "height": record["height"]}
        images.append({"id": number, "file_name": record["file_name"], **size})
        for product in record["products"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[product.category],
                    "bbox": list(product.bbox),
                    "area": product.area,
                    "iscrowd": int(product.crowd),
                    "attributes": product.attributes,
                }
            )
    return {
        "info": {"description": "Wanamaker shelf simulator", "version": str(VERSION), "options": asdict(options)},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": ids[name], "name": name, "supercategory": "product"} for name in names],
    }
