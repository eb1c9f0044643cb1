"""Photos with boxes and labels that a person likes to look at.

Everything is drawn at three times the size and reduced once, so that lines and corners are smooth; text is set last, at
the final size, where it is sharpest. Axis letters: D detections, M annotated boxes, H and W image height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from wanamaker.reporting.labels import place_labels
from wanamaker.reporting.style import class_colour, font, ink_on, rgb

_SMOOTH = 3  # drawn this much larger, then reduced
_LONG_SIDE = (640, 1280)  # smaller photos are enlarged, larger ones reduced


class Drawn(NamedTuple):
    """A picture and where its labels lie."""

    image: Image.Image
    labels: np.ndarray  # int64 [L, 4] xyxy pixels of `image`; L <= D, the labels that found room
    scale: float  # pixels of `image` per pixel of the photo


def draw_detections(
    image: np.ndarray | Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str],
    *,
    truth_boxes: np.ndarray | None = None,
    long_side: tuple[int, int] = _LONG_SIDE,
    max_labels: int = 60,
) -> Drawn:
    """Draw detections on a photo, and what is annotated beneath them as thin dashed lines.

    Labels never leave the picture and never cover one another: the best scores choose their place first, and a label
    that finds none is left out (its box stays).

    Args:
        image: uint8 [H, W, 3] or [H, W] (grey), or a Pillow image.
        boxes: [D, 4] xyxy, pixels of the photo.
        labels: [D], 1..K.
        scores: [D] in [0, 1]; None draws names only (for annotated boxes).
        class_names: K names.
        truth_boxes: [M, 4] xyxy, pixels of the photo.
        long_side: least and greatest length of the longer side of the picture; photos outside are enlarged or reduced.
        max_labels: no more labels than that (in a crowd only the surest are named).

    Raises:
        ValueError: lengths differ, or a label has no name.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    labels = np.asarray(labels, dtype=np.int64).reshape(-1)
    scores_or_ones = np.ones(len(labels)) if scores is None else np.asarray(scores, dtype=np.float64).reshape(-1)
    truth_boxes = np.zeros((0, 4)) if truth_boxes is None else np.asarray(truth_boxes, dtype=np.float64).reshape(-1, 4)
    _check(boxes, labels, scores_or_ones, class_names)
    photo = to_picture(image)
    scale = min(max(1.0, long_side[0] / max(photo.size)), long_side[1] / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    picture = photo.resize(size, Image.Resampling.LANCZOS) if size != photo.size else photo
    boxes, truth_boxes = _inside(boxes * scale, size), _inside(truth_boxes * scale, size)
    stroke = max(1.6, max(size) / 420)
    order = np.argsort(-scores_or_ones, kind="stable")

    ink = _Ink(picture)
    for box in truth_boxes:
        ink.dashed(box, stroke * 0.8)
    for index in order[::-1]:  # the surest on top
        ink.rounded(boxes[index], class_colour(int(labels[index])), stroke)
    picture = ink.flat()

    face = font(max(11, round(max(size) / 54)))
    texts = [class_names[k - 1] for k in labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores_or_ones, strict=True)]
    pad = max(3, face.size // 3)
    shown = order[:max_labels]
    ascent, descent = face.getmetrics()
    wanted = np.array([[face.getlength(texts[i]) + 2 * pad, ascent + descent + pad // 2] for i in shown]).reshape(-1, 2)
    places = place_labels(boxes[shown], np.ceil(wanted).astype(np.int64), size)
    placed = [(i, place) for i, place in zip(shown, places, strict=True) if place is not None]
    ink = _Ink(picture)
    for i, place in placed:
        ink.tag(place, class_colour(int(labels[i])), pad)
    picture = ink.flat()
    draw = ImageDraw.Draw(picture)
    for i, place in placed:
        middle = (place[1] + place[3]) / 2
        draw.text((place[0] + pad, middle), texts[i], ink_on(class_colour(int(labels[i]))), face, anchor="lm")
    return Drawn(picture, np.array([place for _, place in placed], dtype=np.int64).reshape(-1, 4), scale)


def to_picture(image: np.ndarray | Image.Image) -> Image.Image:
    """RGB picture of an array uint8 [H, W, 3] or [H, W], or of any Pillow image (transparency on white).

    Raises:
        ValueError: another shape or type.
    """
    if isinstance(image, Image.Image):
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "#ffffff")
            return Image.alpha_composite(white, rgba).convert("RGB")
        return image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"A picture is uint8 [H, W, 3] or [H, W], not {array.dtype} {list(array.shape)}.")
    return Image.fromarray(array).convert("RGB")


def _check(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str]) -> None:
    if not len(boxes) == len(labels) == len(scores):
        raise ValueError(f"{len(boxes)} boxes, {len(labels)} labels and {len(scores)} scores; there must be one each.")
    if len(labels) and not 1 <= labels.min() <= labels.max() <= len(class_names):
        raise ValueError(f"Labels {labels.min()}..{labels.max()}, but there are {len(class_names)} names (1..K).")


def _inside(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, [size[0] - 1, size[1] - 1] * 2)


class _Ink:
    """A transparent sheet over a picture, drawn large and reduced once."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.sheet = Image.new("RGBA", (picture.width * _SMOOTH, picture.height * _SMOOTH), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.sheet)

    def rounded(self, box: np.ndarray, colour: str, stroke: float) -> None:
        """A box with a halo, so that it shows on a ground of its own colour."""
        x1, y1, x2, y2 = self._grown(box, stroke / 2)
        radius = min(stroke * 2.2 * _SMOOTH, (x2 - x1) / 2, (y2 - y1) / 2)
        halo, width = max(1, round(0.45 * stroke * _SMOOTH)), max(1, round(stroke * _SMOOTH))
        outer = (x1 - halo, y1 - halo, x2 + halo, y2 + halo)
        self.draw.rounded_rectangle(outer, radius + halo, outline=(255, 255, 255, 190), width=width + 2 * halo)
        self.draw.rounded_rectangle((x1, y1, x2, y2), radius, outline=(*rgb(colour), 255), width=width)

    def dashed(self, box: np.ndarray, stroke: float) -> None:
        """A thin dashed box in black and white: what is annotated, whatever its class."""
        x1, y1, x2, y2 = self._grown(box, 0)
        width, dash = max(1, round(stroke * _SMOOTH)), round(max(4.0, stroke * 4) * _SMOOTH)
        for light in (True, False):  # white dashes with dark ones between: visible on any ground, and no class colour
            fill = (255, 255, 255, 255) if light else (20, 24, 30, 210)
            shift = 0 if light else dash
            for a, b, line in (
                (x1, x2, lambda s, e: (s, y1, e, y1)),
                (y1, y2, lambda s, e: (x2, s, x2, e)),
                (x1, x2, lambda s, e: (s, y2, e, y2)),
                (y1, y2, lambda s, e: (x1, s, x1, e)),
            ):
                for start in np.arange(a + shift, b, 2 * dash):
                    self.draw.line(line(start, min(start + dash, b)), fill=fill, width=width)

    def tag(self, place: np.ndarray, colour: str, radius: float) -> None:
        x1, y1, x2, y2 = (float(v) * _SMOOTH for v in place)
        self.draw.rounded_rectangle((x1, y1, x2 - 1, y2 - 1), radius * _SMOOTH, fill=(*rgb(colour), 245))

    def flat(self) -> Image.Image:
        sheet = self.sheet.reduce(_SMOOTH)
        return Image.alpha_composite(self.picture.convert("RGBA"), sheet).convert("RGB")

    def _grown(self, box: np.ndarray, by: float) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = (float(v) for v in box)
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        return (x1 - by) * _SMOOTH, (y1 - by) * _SMOOTH, (x2 + by) * _SMOOTH, (y2 + by) * _SMOOTH
