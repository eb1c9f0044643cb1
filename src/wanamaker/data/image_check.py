"""Look at image files before training: there, complete, of the declared size."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from wanamaker.data.coco_index import CocoIndex
from wanamaker.data.coco_report import CheckFinding, Severity, finding

CheckMode = Literal["full", "headers", "off"]
CHECK_MODES = ("full", "headers", "off")
_EXIF_ORIENTATION = 0x0112


class ImageFacts(NamedTuple):
    """What a look at one image file told; `problem` is empty when it can be used."""

    problem: str
    width: int = 0
    height: int = 0
    mode: str = ""
    orientation: int = 1


def look_at_image(path: Path, full: bool) -> ImageFacts:
    """Read the header of an image and make sure that the file is complete.

    Args:
        path: The file.
        full: Decode every pixel. Otherwise only files whose last bytes do not look like the end of an image are
            decoded, which finds the usual damage, a file cut short, at the price of a header.
    """
    try:
        with Image.open(path) as image:
            facts = ImageFacts("", image.width, image.height, image.mode, _orientation(image))
            if full or not _looks_complete(path, image.format):
                image.load()
            return facts
    except FileNotFoundError:
        return ImageFacts("missing")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return ImageFacts(f"undecodable: {str(error).replace(str(path), path.name)}")


def _orientation(image: Image.Image) -> int:
    # Asked for the EXIF block of a PNG without one in its header, Pillow decodes the whole file.
    if image.format not in ("JPEG", "MPO", "WEBP") and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_EXIF_ORIENTATION, 1) or 1)


def _looks_complete(path: Path, format_name: str | None) -> bool:
    if format_name not in ("JPEG", "PNG"):
        return False
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
        tail = file.read()
    return (b"\xff\xd9" if format_name == "JPEG" else b"IEND") in tail


def check_images(index: CocoIndex, folder: Path, mode: CheckMode) -> list[CheckFinding]:
    """Every image file against the annotation file: there, decodable, of the declared size. Runs in threads."""
    if mode == "off":
        return []
    paths = [folder / name for name in index.file_name]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
        facts = list(pool.map(lambda path: look_at_image(path, mode == "full"), paths, chunksize=64))
    groups: dict[str, list[str]] = {"missing": [], "undecodable": [], "size": [], "rotated": [], "mode": []}
    for i, found in enumerate(facts):
        name = f"image {index.image_id[i]} ({index.file_name[i]})"
        declared = (int(index.width[i]), int(index.height[i]))
        if found.problem == "missing":
            groups["missing"].append(name)
        elif found.problem:
            groups["undecodable"].append(f"{name} {found.problem}")
        elif (found.width, found.height) != declared:
            turned = ", turned by EXIF" if declared == (found.height, found.width) and found.orientation > 4 else ""
            size = f"{found.width} x {found.height}, annotated {declared[0]} x {declared[1]}"
            groups["size"].append(f"{name}: {size}{turned}")
        if found.orientation != 1:
            groups["rotated"].append(name)
        if found.mode not in ("RGB", "L", ""):
            groups["mode"].append(f"{name} {found.mode}")
    advice: list[tuple[Severity, str, str, str]] = [
        ("error", "missing image", "missing", f"Looked in {folder}: complete the folder, or correct file_name."),
        ("error", "undecodable image", "undecodable", "Get these files again, or remove them from the annotations."),
        (
            "error",
            "image size differs from its file",
            "size",
            "Boxes would be off. Correct width and height, or use the images that were annotated"
            " (EXIF rotation is not applied: width and height are those of the stored pixels).",
        ),
        ("warning", "image with EXIF rotation", "rotated", "Used as stored, un-rotated, as COCO boxes are measured."),
        ("note", "image that is neither RGB nor greyscale", "mode", "Converted; transparency is laid over white."),
    ]
    return [
        finding(severity, kind, groups[key], len(groups[key]), remedy)
        for severity, kind, key, remedy in advice
        if groups[key]
    ]
