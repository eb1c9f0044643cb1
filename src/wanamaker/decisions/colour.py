"""Names for colours, and the dominant colour of a product in a box: pure functions on arrays.

Colours are compared in CIELAB (D65, 2 degree observer), where distances are roughly what an eye sees. The vocabulary
is the eleven basic colour terms of English (Berlin and Kay, "Basic Color Terms", 1969): a merchandiser can filter by
them and nobody has to agree on what mauve is. A term covers a region, not a point (dark blue, sky blue and teal blue
are all blue), so each term has several prototypes and a colour takes the term of the nearest one.

Axis letters: H, W image height and width, N pixels, K clusters.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

BASIC_COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

# Placed by hand around the focal colours, then checked on every second entry of XKCD's naming survey; the tests judge
# them on the other half.
_PROTOTYPES: dict[str, str] = {
    "red": "e01b24 ff2020 b01020 8b0f14 5e0a10 c8403c d94a4a ff4d4d 9e1b3c 7a1030 a8324a 8c1c3a c04050 d02040",
    "orange": "ff7f0e ff6a13 e8590c ffa033 d9772b f2994a cc5f10",
    "yellow": "ffd900 fff200 fffb80 e6c619 c9b214 fff3a0 e8d44d ffe135 d6ea20",
    "green": "1f9d3a 00c040 0b5d1e 7ac943 a8e05f 5b8c2a 6b7d2c 8fd9a0 2e8b57 b9f6ca 03361a 86c232 9ab973 40e080 "
    "c4f58a 3d5229 1a8a7a 0f5c50 2fa08a",
    "blue": "1f4fd8 0a2a8c 0a1440 3a7bd5 6fa8ff a9cdf5 1ca6d9 5fd3ee 4a7096 0f6f8f 7f98b8 3a2af0 c9eefa 0b3d5c 6a7fe0 "
    "0000c0 050550 0000ff",
    "purple": "7b2fbe 5a1a8a 2d0a45 a259e0 c39aec 8a3fa0 b02fd0 76507f 9b7bb5 5c1450 dcc4f5 8f3088 a020f0 9a10b0",
    "pink": "ff69b4 ffb6c8 f78fa7 e75a8d d6337c ff2d95 d98a98 ffd9e2 ff8f8f f29bd4 f06ee0 c2185b",
    "brown": "7b4a1e 5c3310 3a1d0c 8b5a2b a0703c b98a55 94703f 6e5230 c9a678 4a2c1a 86592d 8a3a10 e0bf98 5a4630 8a6a50",
    "black": "000000 141414 1e1e20 1a1512 2a2c30 262626",
    "grey": "404040 5a5a5a 7f7f7f 9c9c9c c4c4c4 6b7478 8a8580 8e98a2 667080",
    "white": "ffffff f4f4f2 eae8e4 fffdf5 dcdad4 f5ead0",
}
# Light on a shelf changes lightness far more than hue, so a difference in lightness counts for less.
_LIGHTNESS_WEIGHT = 0.6
_SAMPLES_PER_SIDE = 40  # of a box: 1,600 pixels are plenty for six clusters
_NUM_CLUSTERS = 6
_REGION = 0.85  # of the sides of a box: its edge shows what stands behind the product
_RIM = 0.12  # of the sides of a box, outside it
_RIM_WEIGHT = 0.5
# Reference white (linear light): the percentile of the brightest surfaces and where it is put.
_WHITE_PERCENTILE, _WHITE_LEVEL = 97, 1.05
_CAST_SHARE = 0.3  # of the colour cast taken out: all of it would turn a wall of red boxes grey
_LOCAL_SHARE = 0.5  # of the reference from around the box, the rest from the whole photo
_GAIN_LIMITS = (0.6, 2.5)


class Colour(NamedTuple):
    """The dominant colour of a region."""

    name: str  # one of BASIC_COLOURS
    hex: str  # "#rrggbb", the middle of the pixels that carry the name, under the balanced light that named them
    share: float  # of the region's pixels, in [0, 1]


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (0..255, uint8 or float) [..., 3] to CIELAB [..., 3], D65 (IEC 61966-2-1 and CIE 15)."""
    value = np.asarray(rgb, dtype=np.float64) / 255.0
    linear = _linear(value)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


@cache
def _prototypes() -> tuple[np.ndarray, np.ndarray]:
    """Weighted Lab of the prototypes [P, 3] and the index of each one's term in BASIC_COLOURS [P]."""
    pairs = [(BASIC_COLOURS.index(term), code) for term, codes in _PROTOTYPES.items() for code in codes.split()]
    rgb = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for _, code in pairs])
    return srgb_to_lab(rgb) * (_LIGHTNESS_WEIGHT, 1, 1), np.array([index for index, _ in pairs])


def colour_codes(rgb: np.ndarray) -> np.ndarray:
    """Indices into `BASIC_COLOURS` [N] of the names of sRGB colours [N, 3] (0..255)."""
    prototypes, terms = _prototypes()
    lab = srgb_to_lab(np.reshape(rgb, (-1, 3))) * (_LIGHTNESS_WEIGHT, 1, 1)
    # |x - p|^2 without the [N, P, 3] array; |x|^2 is the same for every p
    return terms[((prototypes**2).sum(axis=1) - 2 * lab @ prototypes.T).argmin(axis=1)]


def colour_name(rgb: np.ndarray | tuple[int, int, int]) -> str:
    """The basic colour term of one sRGB colour (three numbers, 0..255)."""
    return BASIC_COLOURS[int(colour_codes(np.asarray(rgb))[0])]


def dominant_colour(image: np.ndarray, box: np.ndarray) -> Colour:
    """The colour a person would give the product in a box.

    An eye takes the light of a scene out before it names a colour, so the exposure and part of the colour cast are
    balanced first (`light_gain`). The box without its edge is clustered (k-means in CIELAB, lightness weighted down so
    that the lit and the shaded side of a can are one cluster); clusters of the same name are joined. Mirror highlights
    and deep shadow do not vote unless they are most of the region (a white or black product), and a colour that also
    fills the rim around the box is likely to be background and votes less.

    Args:
        image: uint8 [H, W, 3], sRGB.
        box: [4] xyxy pixels, any overlap with the image.

    Raises:
        ValueError: the box lies outside the image.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        raise ValueError(f"Box {[x1, y1, x2, y2]} does not overlap the image of {width} x {height} pixels.")
    gain = light_gain(image, box)
    inside, rim = _sample(image, x1, y1, x2, y2)
    inside, rim = _relit(_telling(inside), gain), _relit(rim, gain)
    cluster, num_clusters = _cluster(inside)
    # Medians: an outlier (a glint, a letter) does not shift the colour of a cluster.
    middles = np.stack([np.median(inside[cluster == k], axis=0) for k in range(num_clusters)])
    weights = np.bincount(cluster, minlength=num_clusters) / len(cluster)
    codes = _unshaded(colour_codes(middles), srgb_to_lab(middles), weights)
    share = np.bincount(codes, weights=weights, minlength=len(BASIC_COLOURS))
    around = np.bincount(colour_codes(rim), minlength=len(BASIC_COLOURS)) / max(len(rim), 1)
    winner = int((share * (1 - _RIM_WEIGHT * around)).argmax())
    red, green, blue = np.median(inside[codes[cluster] == winner], axis=0).round().astype(int).tolist()
    return Colour(BASIC_COLOURS[winner], f"#{red:02x}{green:02x}{blue:02x}", float(share[winner]))


def _unshaded(codes: np.ndarray, lab: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Names of clusters [K] where a shaded side is called like the lit one.

    Light grey beside white is white in shadow, and brown beside orange, yellow or red of the same hue is that colour in
    shadow: the two cases where less light changes the basic term.

    Args:
        codes: [K] indices into `BASIC_COLOURS`.
        lab: [K, 3] of the clusters.
        weights: [K] share of the pixels.
    """
    index = {name: i for i, name in enumerate(BASIC_COLOURS)}
    hue, chroma = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])), np.hypot(lab[:, 1], lab[:, 2])
    named = codes.copy()
    if weights[codes == index["white"]].sum() > 0.12:
        named[(codes == index["grey"]) & (lab[:, 0] > 62) & (chroma < 14)] = index["white"]
    warm = np.isin(codes, [index["orange"], index["yellow"], index["red"]]) & (weights > 0.1)
    for k in np.flatnonzero((codes == index["brown"]) & (chroma > 25)):
        lit = np.flatnonzero(warm & (np.abs(hue - hue[k]) < 15))
        if len(lit):
            named[k] = codes[lit[weights[lit].argmax()]]
    return named


def light_gain(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Factors [3] on linear light that bring the brightest surfaces near a product to white.

    White-patch balance, after Land's retinex: the reference is a high percentile of each channel over the whole photo
    and over the neighbourhood of the box, blended as a geometric mean. Lightness is balanced fully, a cast in part.

    Args:
        image: uint8 [H, W, 3], sRGB.
        box: [4] xyxy pixels.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    reach_x, reach_y = max(1.5 * (x2 - x1), width / 6), max(y2 - y1, height / 6)
    x, y = np.clip((x1 + x2) / 2, 0, width), np.clip((y1 + y2) / 2, 0, height)
    left, top = int(max(0, x - reach_x)), int(max(0, y - reach_y))
    near = image[top : int(y + reach_y) + 1, left : int(x + reach_x) + 1]
    local, whole = (np.log(_bright(pixels) + 1e-3) for pixels in (near, image))
    channels = np.exp(_LOCAL_SHARE * local + (1 - _LOCAL_SHARE) * whole)
    luminance = channels @ np.array([0.2126, 0.7152, 0.0722])
    reference = channels**_CAST_SHARE * luminance ** (1 - _CAST_SHARE)
    return np.clip(_WHITE_LEVEL / reference, *_GAIN_LIMITS)


def _bright(pixels: np.ndarray) -> np.ndarray:
    """High percentile of each channel [3], linear light, on about 64 x 64 of the pixels [h, w, 3]."""
    step_y, step_x = (max(1, n // 64) for n in pixels.shape[:2])
    return np.percentile(_linear_levels()[pixels[::step_y, ::step_x]].reshape(-1, 3), _WHITE_PERCENTILE, axis=0)


@cache
def _linear_levels() -> np.ndarray:
    """Linear light [256] of the sRGB levels."""
    return _linear(np.arange(256) / 255.0)


def _linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _relit(pixels: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """sRGB pixels [N, 3] under a light multiplied by gain [3], as floats 0..255."""
    light = np.clip(_linear_levels()[pixels] * gain, 0, 1)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _sample(image: np.ndarray, x1: float, y1: float, x2: float, y2: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 3] of a box without its edge, and of the rim just outside it [M, 3]; N >= 1."""
    height, width = image.shape[:2]
    grid = (np.arange(_SAMPLES_PER_SIDE) + 0.5) / _SAMPLES_PER_SIDE  # 0..1 along a side
    v, u = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))

    def pick(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        x = np.floor(x1 + u * (x2 - x1)).astype(int)
        y = np.floor(y1 + v * (y2 - y1)).astype(int)
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return image[y[within], x[within]]

    margin = (1 - _REGION) / 2
    inside = pick(margin + _REGION * u, margin + _REGION * v)
    outer_u, outer_v = (1 + 2 * _RIM) * u - _RIM, (1 + 2 * _RIM) * v - _RIM
    outside = (outer_u < 0) | (outer_u > 1) | (outer_v < 0) | (outer_v > 1)
    rim = pick(outer_u[outside], outer_v[outside])
    if len(inside) == 0:  # only a sliver of the box is in the image: its nearest pixel
        x, y = int(np.clip((x1 + x2) / 2, 0, width - 1)), int(np.clip((y1 + y2) / 2, 0, height - 1))
        inside = image[y, x][None]
    return inside, rim


def _telling(pixels: np.ndarray) -> np.ndarray:
    """The pixels [N', 3] that tell a colour: neither clipped highlights nor deep shadow, if half of them remain."""
    telling = (pixels.min(axis=1) < 250) & (pixels.max(axis=1) > 12)
    return pixels[telling] if telling.mean() >= 0.5 else pixels


def _cluster(rgb: np.ndarray) -> tuple[np.ndarray, int]:
    """Cluster index of each pixel [N] and the number of clusters, in Lab with lightness weighted down."""
    from sklearn.cluster import KMeans  # a second to import; only reports with attributes need it

    distinct = len(np.unique(rgb.round().astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])))
    points = srgb_to_lab(rgb) * (_LIGHTNESS_WEIGHT, 1, 1)
    model = KMeans(min(_NUM_CLUSTERS, distinct), n_init=1, max_iter=20, random_state=0).fit(points)
    return model.labels_, model.n_clusters
