"""Decoding and augmentation of detection images: torchvision v2 kernels on tv_tensors, seeded per image.

Images stay uint8 [3, H, W] from the file to the model. Pixels are taken as they lie in the file: an EXIF orientation
is *not* applied, because COCO boxes are measured on the stored, un-rotated pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from wanamaker.data.detection_sampler import resized_size
from wanamaker.data.sampler import stable_seed
from wanamaker.errors import UserError

MIN_BOX_SIDE = 0.1
"""Canvas pixels. A box with a thinner side is degenerate: its regression target (a logarithm) explodes."""

_AUGMENTATION_STREAM = 1  # keeps our draws apart from those the model makes with the image's seed


def decode_image(path: str | Path) -> np.ndarray:
    """Pixels of an image file as uint8 [H, W, 3], RGB, not rotated by EXIF.

    Greyscale is repeated over the channels, 16-bit greyscale is scaled by 1/257 (not clipped), CMYK is converted,
    palettes are resolved, and transparency is laid over white: product photos are cut out over white, while the
    colour hidden under transparent pixels is arbitrary.

    Raises:
        UserError: the file is missing, truncated or no image; with path and remedy.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return np.array(_to_rgb(image))
    except FileNotFoundError as error:
        raise UserError(f"Image {path} does not exist; run with data.check=headers to list all such files.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"Image {path} cannot be decoded ({error}); run with data.check=full to list all such files."
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image, dtype=np.float64) / 257.0
        return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Torch's CPU generator seeded inside the block and as before after it; CUDA generators are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Augmentation:
    """What may be changed in a training image.

    Attributes:
        flip_probability: Chance of a horizontal flip, 0..1.
        scale_jitter: (low, high): the resized image is scaled by a uniform draw from this range; larger images are
            cropped to the unscaled size at a random place, smaller ones leave the canvas empty below and right
            ("large-scale jitter", Ghiasi et al. 2021, arXiv:2012.07177). None: off.
        color_jitter: Arguments of `torchvision.transforms.v2.ColorJitter` (brightness, contrast, saturation, hue).
            None: off.
    """

    flip_probability: float = 0.0
    scale_jitter: tuple[float, float] | None = None
    color_jitter: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.flip_probability <= 1.0:
            raise UserError(f"data.flip_probability={self.flip_probability} is no probability; give 0 to 1.")
        if self.scale_jitter is not None:
            jitter = tuple(self.scale_jitter)
            if len(jitter) != 2 or not 0.0 < jitter[0] <= jitter[1]:
                raise UserError(
                    f"data.scale_jitter={list(jitter)} is no range; give [low, high] with 0 < low <= high, or null."
                )
            object.__setattr__(self, "scale_jitter", jitter)
        if self.color_jitter is not None:
            try:
                v2.ColorJitter(**self.color_jitter)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"data.color_jitter={dict(self.color_jitter)}: {error}. Allowed: brightness, contrast, saturation,"
                    " hue, each a number or [low, high]; or null."
                ) from error


def prepare_image(
    pixels: np.ndarray,
    boxes: Tensor,
    *,
    short_side: int,
    max_side: int,
    seed: int = 0,
    augmentation: Augmentation | None = None,
) -> tuple[Tensor, Tensor]:
    """Resize and, for training, augment one image together with its boxes.

    Args:
        pixels: uint8 [H, W, 3].
        boxes: float32 [N, 4], x1 y1 x2 y2 in pixels of `pixels`.
        short_side: Target length of the shorter side.
        max_side: Limit of the longer side.
        seed: Seed of the image; equal seeds give equal results in any process.
        augmentation: None for evaluation.

    Returns:
        uint8 [3, h, w], never larger than `resized_size` says, and float32 [N, 4] in its pixels. Boxes that a crop
        cut away come back without area; the caller drops them.
    """
    # A permuted view keeps the pixels interleaved in memory, which torchvision's uint8 resize is fastest on.
    image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    height, width = pixels.shape[:2]
    framed = tv_tensors.BoundingBoxes(boxes.reshape(-1, 4), format="XYXY", canvas_size=(height, width))
    target = resized_size(height, width, short_side, max_side)
    if augmentation is None:
        image, framed = _resize(image, framed, target)
        return image.as_subclass(Tensor), F.clamp_bounding_boxes(framed).as_subclass(Tensor)
    with seeded_rng(stable_seed(seed, _AUGMENTATION_STREAM)):
        flip, scale, down, right = torch.rand(4, dtype=torch.float64).tolist()
        if augmentation.scale_jitter is not None:
            low, high = augmentation.scale_jitter
            image, framed, target = _jitter_scale(image, framed, target, low + (high - low) * scale, down, right)
        # Colours change pixel by pixel and cost 50 ns a pixel: do it where there are fewer of them.
        enlarged = target[0] * target[1] > image.shape[-2] * image.shape[-1]
        if augmentation.color_jitter is not None and enlarged:
            image = v2.ColorJitter(**augmentation.color_jitter)(image)
        image, framed = _resize(image, framed, target)
        if flip < augmentation.flip_probability:
            image, framed = F.horizontal_flip(image), F.horizontal_flip(framed)
        if augmentation.color_jitter is not None and not enlarged:
            image = v2.ColorJitter(**augmentation.color_jitter)(image)
    # Rounding may push a box at the border out by 1e-5 pixels.
    return image.as_subclass(Tensor), F.clamp_bounding_boxes(framed).as_subclass(Tensor)


def _resize(image: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return F.resize(image, list(size), antialias=True), F.resize(boxes, list(size))


def _jitter_scale(
    image: Tensor, boxes: Tensor, target: tuple[int, int], scale: float, down: float, right: float
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Crop in the file's pixels before resizing: the same window as after it, without the pixels thrown away."""
    if scale <= 1.0:
        return image, boxes, (max(1, round(target[0] * scale)), max(1, round(target[1] * scale)))
    height, width = image.shape[-2:]
    crop_h, crop_w = max(1, round(height / scale)), max(1, round(width / scale))
    top, left = int(down * (height - crop_h + 1)), int(right * (width - crop_w + 1))
    window = (top, left, crop_h, crop_w)
    return F.crop(image, *window), F.crop(boxes, *window), target


def solid_boxes(boxes: Tensor) -> Tensor:
    """bool [N]: which of float32 [N, 4] x1 y1 x2 y2 have two sides thicker than `MIN_BOX_SIDE`."""
    return ((boxes[:, 2:] - boxes[:, :2]) > MIN_BOX_SIDE).all(dim=1)
