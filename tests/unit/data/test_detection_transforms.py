"""Decoding of unusual files, and augmentation that moves boxes with their pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wanamaker.data.detection_sampler import resized_size
from wanamaker.data.detection_transforms import Augmentation, decode_image, prepare_image, seeded_rng, solid_boxes
from wanamaker.errors import UserError

BOX = (20, 20, 60, 80)  # x1 y1 x2 y2
ALWAYS_FLIP = Augmentation(flip_probability=1.0)


def picture() -> np.ndarray:
    """A black 160 x 120 image with a white block under `BOX`."""
    pixels = np.zeros((120, 160, 3), dtype=np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    return pixels


def prepared(seed: int = 0, augmentation: Augmentation | None = None, short_side: int = 240):
    boxes = torch.tensor([BOX], dtype=torch.float32)
    return prepare_image(picture(), boxes, short_side=short_side, max_side=400, seed=seed, augmentation=augmentation)


def white_extent(image: torch.Tensor) -> list[float]:
    bright = image[0] > 127
    rows, columns = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("RGBA", (200, 10, 10, 0), (255, 255, 255)),
        ("RGBA", (200, 10, 10, 255), (200, 10, 10)),
        ("LA", (50, 0), (255, 255, 255)),
        ("I;16", 25700, (100, 100, 100)),
    ],
)
def test_modes(tmp_path: Path, mode: str, colour, expected: tuple[int, int, int]) -> None:
    Image.new(mode, (6, 4), colour).save(tmp_path / "x.png")
    pixels = decode_image(tmp_path / "x.png")
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert (decode_image(tmp_path / "x.jpg") > 250).all()


def test_palette_transparency_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30] * 256)
    image.save(tmp_path / "x.png", transparency=0)
    assert (decode_image(tmp_path / "x.png") == 255).all()


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    assert decode_image(tmp_path / "x.jpg").shape == (10, 20, 3)


def test_broken_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "x.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:900])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.jpg", "text.png"):
        with pytest.raises(UserError, match=rf"{name} cannot be decoded .*data.check=full"):
            decode_image(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.jpg does not exist"):
        decode_image(tmp_path / "none.jpg")


def test_evaluation_only_resizes() -> None:
    image, boxes = prepared()
    assert image.shape == (3, 240, 320)
    assert image.dtype == torch.uint8
    assert boxes.tolist() == [[40.0, 40.0, 120.0, 160.0]]
    assert type(image) is type(boxes) is torch.Tensor
    assert white_extent(image) == pytest.approx(boxes[0].tolist(), abs=1)


def test_flip_mirrors_pixels_and_boxes() -> None:
    plain, _ = prepared()
    image, boxes = prepared(augmentation=ALWAYS_FLIP)
    assert torch.equal(image, plain.flip(-1))
    assert boxes.tolist() == [[200.0, 40.0, 280.0, 160.0]]
    assert white_extent(image) == pytest.approx(boxes[0].tolist(), abs=1)
    assert torch.equal(prepared(augmentation=Augmentation(flip_probability=0.0))[0], plain)


def test_half_of_the_images_are_flipped() -> None:
    plain, _ = prepared()
    flips = sum(not torch.equal(prepared(seed, Augmentation(flip_probability=0.5))[0], plain) for seed in range(200))
    assert 75 < flips < 125


@pytest.mark.parametrize("scale", [0.4, 0.75, 1.0, 1.3, 2.5])
def test_scale_jitter_moves_boxes_with_pixels(scale: float) -> None:
    jitter = Augmentation(flip_probability=0.5, scale_jitter=(scale, scale))
    for seed in range(8):
        image, boxes = prepared(seed, jitter)
        assert image.shape[-2] <= 240
        assert image.shape[-1] <= 320
        if scale < 1:
            assert image.shape[-2:] == (round(240 * scale), round(320 * scale))
        if solid_boxes(boxes).any():
            assert white_extent(image) == pytest.approx(boxes[0].tolist(), abs=1.6)
            assert boxes.min() >= 0
            assert (boxes[:, [0, 2]] <= image.shape[-1]).all()
            assert (boxes[:, [1, 3]] <= image.shape[-2]).all()
        else:
            assert (image < 128).all()


def test_enlarging_jitter_crops_at_different_places() -> None:
    jitter = Augmentation(scale_jitter=(3.0, 3.0))
    extents = {tuple(prepared(seed, jitter)[1][0].tolist()) for seed in range(20)}
    assert len(extents) > 10


@pytest.mark.parametrize("short_side", [60, 240], ids=["shrinking", "enlarging"])
def test_colour_jitter_leaves_boxes(short_side: int) -> None:
    colours = Augmentation(color_jitter={"brightness": 0.5, "hue": 0.1})
    plain, boxes = prepared(short_side=short_side)
    image, jittered_boxes = prepared(3, colours, short_side)
    assert not torch.equal(image, plain)
    assert torch.equal(boxes, jittered_boxes)


def test_augmentation_depends_on_the_seed_alone() -> None:
    everything = Augmentation(0.5, (0.5, 2.0), {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1})
    torch.manual_seed(1)
    before = torch.get_rng_state()
    image, boxes = prepared(11, everything)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    torch.rand(5)
    again, boxes_again = prepared(11, everything)
    assert torch.equal(image, again)
    assert torch.equal(boxes, boxes_again)
    assert not torch.equal(boxes, prepared(12, everything)[1])


def test_no_boxes_and_extreme_shapes() -> None:
    nothing = torch.zeros(0, 4)
    everything = Augmentation(1.0, (0.1, 3.0))
    for shape in ((1, 1, 3), (3, 900, 3), (900, 2, 3)):
        for seed in range(5):
            image, boxes = prepare_image(
                np.zeros(shape, np.uint8), nothing, short_side=64, max_side=96, seed=seed, augmentation=everything
            )
            height, width = resized_size(*shape[:2], 64, 96)
            assert boxes.shape == (0, 4)
            assert 1 <= image.shape[-2] <= height
            assert 1 <= image.shape[-1] <= width


def test_solid_boxes() -> None:
    boxes = torch.tensor([[0, 0, 5, 5], [1, 1, 1, 4], [2, 2, 2.05, 9], [3, 4, 2, 6.0]])
    assert solid_boxes(boxes).tolist() == [True, False, False, False]
    assert solid_boxes(torch.zeros(0, 4)).tolist() == []


def test_seeded_rng_is_repeatable() -> None:
    with seeded_rng(3):
        first = torch.rand(3)
    with seeded_rng(3):
        assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_probability": 1.5}, "flip_probability=1.5"),
        ({"scale_jitter": (2.0, 1.0)}, r"scale_jitter=\[2.0, 1.0\]"),
        ({"scale_jitter": (0.0, 1.0)}, "scale_jitter"),
        ({"color_jitter": {"brightnes": 0.1}}, "brightnes.*Allowed: brightness"),
        ({"color_jitter": {"hue": 3}}, "hue"),
    ],
)
def test_user_errors(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**options)
