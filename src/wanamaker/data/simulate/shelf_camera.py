"""The camera of the `shelf` simulator: a hand-held tilt, then lamp, lens and sensor."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wanamaker.data.simulate.shelf_canvas import Canvas

Lens = tuple[float, ...]


def tilt(canvas: Canvas) -> tuple[Image.Image, np.ndarray, Lens | None]:
    """A little rotation and keystone, the same for the pixels and for who owns them.

    Returns:
        The picture, the owner map int16 [H, W], and the projective map from their pixels to those of the canvas.
    """
    rng = canvas.rng
    if rng.random() < 0.25:
        return canvas.image, canvas.owner, None
    wide, tall = canvas.width, canvas.height
    corners = np.array([(0, 0), (0, tall), (wide, tall), (wide, 0)], dtype=np.float64)
    inward = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * rng.uniform(0, 0.05, (4, 2)) * (wide, tall)
    source = corners + inward
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    # Rounded, so that another linear algebra library cannot move a pixel by its last bit.
    lens = tuple(round(value, 9) for value in np.linalg.solve(np.array(rows), source.ravel()).tolist())
    perspective = Image.Transform.PERSPECTIVE
    image = canvas.image.transform((wide, tall), perspective, lens, Image.Resampling.BICUBIC)
    owner = Image.fromarray(canvas.owner.astype(np.int32)).transform((wide, tall), perspective, lens)
    return image, np.asarray(owner).astype(np.int16), lens


def fall_of_shadow(canvas: Canvas) -> None:
    """Now and then somebody's shadow over the shelf, or the reflection of a glass door."""
    rng, kind = canvas.rng, canvas.rng.random()
    if kind > 0.22:
        return
    mask = Image.new("L", (64, 64))
    pen = ImageDraw.Draw(mask)
    x, lean = float(rng.uniform(0, 64)), float(rng.uniform(-22, 22))
    if kind < 0.12:
        wide = float(rng.uniform(12, 26))
        pen.polygon([(x, 0), (x + wide, 0), (x + wide + lean, 64), (x + lean, 64)], fill=255)
        canvas.shade(mask.filter(ImageFilter.GaussianBlur(2.5)), (14, 14, 24), float(rng.uniform(0.18, 0.38)))
        return
    for offset, wide in ((0, 7), (12, 3), (20, 10)):
        left = x + offset
        pen.polygon([(left, 0), (left + wide, 0), (left + wide + lean, 64), (left + lean, 64)], fill=255)
    canvas.shade(mask.filter(ImageFilter.GaussianBlur(0.8)), (244, 250, 255), float(rng.uniform(0.1, 0.22)))


def develop(rng: np.random.Generator, image: Image.Image, light: np.ndarray, lamp_from: float) -> Image.Image:
    """Lamp, exposure, colour cast, vignette, contrast, sometimes blur, and noise.

    Args:
        rng: Source of every choice.
        image: RGB.
        light: float32 [H], light on each row.
        lamp_from: Direction of the lamp, negative from the left.
    """
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.0)) * image.height / 256))
    pixels = np.asarray(image, dtype=np.float32)
    tall, wide = pixels.shape[:2]
    across = np.linspace(-1, 1, wide, dtype=np.float32)[None]
    down = np.linspace(-1, 1, tall, dtype=np.float32)[:, None]
    lamp = light[:, None] * (1 + rng.uniform(0.02, 0.18) * across * np.sign(lamp_from or 1))
    lamp = lamp * (1 - rng.uniform(-0.05, 0.12) * down) * (1 - rng.uniform(0, 0.12) * (across**2 + down**2))
    exposure, warmth = rng.uniform(0.88, 1.2), rng.normal(0, 0.045)
    cast = np.array([1 + warmth, 1 + rng.normal(0, 0.012), 1 - warmth])
    gain = (lamp[..., None] * (exposure * cast)).astype(np.float32)
    pixels = (pixels * gain - 118) * np.float32(rng.uniform(0.9, 1.12)) + 122
    grain = 1 + 5 * float(rng.random()) ** 3  # most photos are clean, a few are taken in the dark
    pixels += rng.standard_normal((tall, wide, 1), dtype=np.float32) * np.float32(grain)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
