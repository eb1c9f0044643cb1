"""The `shelf` data set: seeded photos of product shelves in COCO format, thousands in a minute.

Photo i of a split is a pure function of (seed, style, split, i), whatever the number of processes that draw it. A
folder is complete or absent: it is drawn beside its final place and renamed, and its name carries every option.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wanamaker.data.simulate.cache_lock import REMEDY as CACHE_REMEDY
from wanamaker.data.simulate.cache_lock import only_one
from wanamaker.data.simulate.shelf_canvas import Product
from wanamaker.data.simulate.shelf_pool import in_processes
from wanamaker.data.simulate.shelf_scene import Scene, categories, compose_scene
from wanamaker.errors import UserError

VERSION = 4
"""Raise this when the pictures or their labels change: it is part of the folder's name."""

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
        image_size: Longer side, pixels, 64 to 4096.
        seed: Seeds everything, 0 or more.
        style: `base`; or `restock`: new package designs and two more categories, as when a shop changes its range.
            The categories of `base` keep their ids.
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
        for name in ("num_train", "num_val", "num_test", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"Shelf photos: {name}={getattr(self, name)} is negative; give 0 or more.")
        if not 64 <= self.image_size <= 4096:
            raise UserError(f"Shelf photos: image_size={self.image_size} pixels; give 64 to 4096.")
        if self.style not in STYLES:
            raise UserError(f"Shelf photos: style={self.style!r} is unknown; choose one of {', '.join(STYLES)}.")
        if self.formats not in FORMATS:
            raise UserError(f"Shelf photos: formats={self.formats!r} is unknown; choose one of {', '.join(FORMATS)}.")
        if not 1 <= self.quality <= 95:
            raise UserError(f"Shelf photos: quality={self.quality}; JPEG quality is 1 to 95.")

    @property
    def folder_name(self) -> str:
        """A name that changes with every option and with the renderer."""
        text = json.dumps({**asdict(self), "version": VERSION}, sort_keys=True)
        return f"{self.style}-{self.image_size}px-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Category names; the id of each is its place, counted from 1."""
        return categories(self.style)

    def count(self, split: str) -> int:
        """Photos of a split."""
        return int(getattr(self, f"num_{split}"))


class _Record(NamedTuple):
    file_name: str
    width: int
    height: int
    seed: int
    products: list[Product]


def photo_seed(options: ShelfOptions, split: str, index: int) -> int:
    """The 63-bit number from which photo `index` of a split is drawn; the annotation file keeps it beside the image."""
    entropy = [options.seed, STYLES.index(options.style), SPLITS.index(split), index]
    low, high = (int(word) for word in np.random.SeedSequence(entropy).generate_state(2, np.uint32))
    return (high & 0x7FFFFFFF) << 32 | low


def draw_photo(options: ShelfOptions, split: str, index: int) -> Scene:
    """Draw photo `index` of a split, in memory; `Scene` holds the picture, its products and what each pixel shows."""
    rng = np.random.Generator(np.random.PCG64(photo_seed(options, split, index)))
    shapes = FORMATS[options.formats]
    wide, tall = shapes[int(rng.integers(len(shapes)))]
    return compose_scene(rng, round(options.image_size * wide), round(options.image_size * tall), options.style)


# -- folders -------------------------------------------------------------------------------------------------------


def shelf_folder(cache_dir: Path | str, options: ShelfOptions) -> Path:
    """Where the photos of these options lie, or will."""
    return Path(cache_dir) / "shelf" / options.folder_name


def is_complete(folder: Path) -> bool:
    """Whether a folder in the plain layout is there. The rename that makes it comes last, so it is there in full."""
    return all((folder / annotations).is_file() for _, annotations in PLAIN.values())


def check_cache(cache_dir: Path | str, options: ShelfOptions) -> None:
    """Make sure that the photos are there or can be drawn: a folder to write in, and room for them. Draws nothing.

    Raises:
        UserError: naming the folder, what is wrong, and the setting.
    """
    target = shelf_folder(cache_dir, options)
    if is_complete(target):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise _cannot_draw(target, error, CACHE_REMEDY) from error
    photos = sum(options.count(split) for split in SPLITS)
    needed = photos * (4096 + options.image_size**2 * 2 // 5)  # quality 90 takes about 0.3 bytes a pixel
    if free < needed:
        text = f"{photos} photos take about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
        raise UserError(f"Cannot draw the shelf photos in {target}: {text}. {CACHE_REMEDY}")


def ensure_shelf(cache_dir: Path | str, options: ShelfOptions, processes: int | None = None) -> Path:
    """The folder with these photos, drawn now if it is not there yet.

    Safe to call from several processes: the others wait for the first. Where the file system knows no locks each
    draws its own copy, and the first to finish wins.

    Raises:
        UserError: when the folder cannot be written or the disk is full; nothing is left behind.
    """
    target = shelf_folder(cache_dir, options)
    if is_complete(target):
        return target
    check_cache(cache_dir, options)
    with only_one(target, "draws the shelf photos in") as alone:
        if not is_complete(target):
            if alone:  # what a killed process left
                for leftover in target.parent.glob(f".{target.name}.part-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            render_shelf(target, options, processes=processes)
    return target


def render_shelf(
    target: Path | str,
    options: ShelfOptions,
    layout: str = "plain",
    processes: int | None = None,
    remedy: str = CACHE_REMEDY,
) -> Path:
    """Draw the whole data set to a new folder.

    Args:
        target: Folder to make; when another process makes it meanwhile, that one is kept.
        options: What to draw.
        layout: `plain` (train/, val/, test/) or `coco2017` (train2017/, val2017/, as COCO ships).
        processes: Processes to draw with; None takes all cores that this process may use.
        remedy: What to do when the folder cannot be written, for the message.

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
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
        (partial / "annotations").mkdir()
        jobs = []
        for split in SPLITS:
            folder = partial / places[split][0]
            folder.mkdir()
            jobs += [(options, split, index, str(folder)) for index in range(options.count(split))]
        # Closed before the folder is removed: a process that still draws would fill it again.
        with contextlib.closing(
            in_processes(_draw_file, jobs, processes, f"Drawing {len(jobs)} shelf photos")
        ) as records:
            for split in SPLITS:
                mine = list(itertools.islice(records, options.count(split)))
                text = json.dumps(_coco(mine, options), separators=(",", ":"))
                (partial / places[split][1]).write_text(text, encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        try:
            partial.rename(target)
        except OSError:
            if not is_complete(target):
                raise
    except OSError as error:
        raise _cannot_draw(target, error, remedy) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _cannot_draw(target: Path, error: OSError, remedy: str) -> UserError:
    return UserError(f"Cannot draw the shelf photos in {target}: {error.strerror or error}. {remedy}")


def _draw_file(job: tuple[ShelfOptions, str, int, str]) -> _Record:
    options, split, index, folder = job
    scene = draw_photo(options, split, index)
    name = f"{index:06d}.jpg"
    scene.image.save(Path(folder) / name, quality=options.quality)
    return _Record(name, scene.image.width, scene.image.height, photo_seed(options, split, index), scene.products)


def _coco(records: list[_Record], options: ShelfOptions) -> dict[str, Any]:
    ids = {name: number for number, name in enumerate(options.class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        size = {"width": record.width, "height": record.height}
        images.append({"id": number, "file_name": record.file_name, **size, "seed": record.seed})
        for product in record.products:
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
        "categories": [{"id": ids[name], "name": name, "supercategory": "product"} for name in options.class_names],
    }
