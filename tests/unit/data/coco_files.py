"""Small COCO files with images, written to a temporary folder by the tests beside this file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    """A smooth random picture: it survives JPEG and resizing well enough to be compared."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.BICUBIC).save(path)


def coco_content(sizes: list[tuple[int, int]], boxes_per_image: int = 2) -> dict[str, Any]:
    """Images of (width, height) with ids 10, 20, ... and boxes of categories 7 (cup) and 3 (plate)."""
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "plate"}],
    }
    for number, (width, height) in enumerate(sizes, start=1):
        content["images"].append(
            {"id": number * 10, "file_name": f"photo_{number}.png", "width": width, "height": height}
        )
        for place in range(boxes_per_image):
            box = [width * 0.1 * (place + 1), height * 0.2, width * 0.3, height * 0.5]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number * 10,
                    "category_id": (7, 3)[place % 2],
                    "bbox": box,
                    "area": box[2] * box[3] * 0.8,
                    "iscrowd": 0,
                }
            )
    return content


def write_coco(folder: Path, content: dict[str, Any], with_images: bool = True) -> dict[str, str]:
    """Write annotation file and images; returns the split as a data config has it."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.json").write_text(json.dumps(content))
    if with_images:
        for number, image in enumerate(content["images"]):
            write_image(images / image["file_name"], image["width"], image["height"], number)
    return {"images": str(images), "annotations": str(folder / "annotations.json")}
