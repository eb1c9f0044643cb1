"""Draws one package of the `shelf` simulator as a lit, anti-aliased picture with an alpha mask.

Round packages are turned bodies: each pixel finds its height `t` and its angle on the body, reads the wrapped label
there and is lit by a table over the angle. Boxes and cartons are folded from a front and a side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from wanamaker.data.simulate.shelf_label import draw_label, flavour_palette
from wanamaker.data.simulate.shelf_package import Package
from wanamaker.data.simulate.shelf_palette import blend, dominant_colour

FINISHES = ("paper", "plastic", "metal", "glass", "foil")
_TABLE = 256


class View(NamedTuple):
    """How a package is seen.

    Attributes:
        light: Horizontal direction of the lamp in radians, negative from the left; rounded to 0.1 by the caller.
        elevation: Height of the eye over the package as a ratio of ring height to ring width, about -0.1..0.2.
        yaw: Turn of a box, -1..1; positive shows its right side.
    """

    light: float
    elevation: float
    yaw: float


class Sprite(NamedTuple):
    """A drawn package.

    Attributes:
        rgb: Image [h, w] RGB, lit.
        alpha: Image [h, w] L, coverage 0..255.
        foot: Rows under the point on which the package stands (its front edge, seen from above).
        colour: Name of the dominant colour, unlit.
    """

    rgb: Image.Image
    alpha: Image.Image
    foot: int
    colour: str


@lru_cache(maxsize=64)
def _light_tables(light: float, flatness: float) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse factor and added highlight over the width u in -1..1, for every finish: two float32 [F, 256]."""
    u = np.linspace(-1, 1, _TABLE)
    theta = np.arcsin(np.clip(u * (1 - 0.6 * flatness), -1, 1))
    lambert = np.maximum(0.0, np.cos(theta - light))
    rim = 1 - 0.4 * np.abs(u) ** 6 * (1 - 0.5 * flatness)
    side = np.sign(light) if light else 1.0

    def lobe(centre: float, width: float) -> np.ndarray:
        return np.exp(-(((u - centre) / width) ** 2))

    diffuse = {
        "paper": 0.5 + 0.54 * lambert,
        "plastic": 0.46 + 0.58 * lambert,
        "metal": 0.44 + 0.46 * lambert + 0.2 * np.cos(5.2 * theta + 2 * light),
        "glass": 0.5
        + 0.42 * lambert
        - 0.3 * np.exp(-(((np.abs(u) - 0.9) / 0.1) ** 2))
        + 0.16 * lobe(-0.35 * side, 0.3),
        "foil": 0.5 + 0.5 * lambert + 0.1 * np.cos(7 * theta + 3 * light),
    }
    shine = {
        "paper": 12 * lobe(0.45 * side, 0.35),
        "plastic": 64 * lobe(0.52 * side, 0.11) + 14 * lobe(-0.8 * side, 0.08),
        "metal": 88 * lobe(0.5 * side, 0.1) + 40 * lobe(-0.62 * side, 0.07),
        "glass": 128 * lobe(0.58 * side, 0.05) + 60 * lobe(0.74 * side, 0.035) + 46 * lobe(-0.7 * side, 0.06),
        "foil": 46 * lobe(0.42 * side, 0.14) + 34 * lobe(-0.45 * side, 0.1),
    }
    return (
        np.stack([diffuse[name] * rim for name in FINISHES]).astype(np.float32),
        np.stack([shine[name] for name in FINISHES]).astype(np.float32),
    )


# Column of the wrapped texture (0..1) over u: the angle, so that a label narrows towards the edge of a round body.
_WRAP = (np.arcsin(np.linspace(-1, 1, _TABLE)) / np.pi + 0.5).astype(np.float32)


def _skin(package: Package, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Unlit texture uint8 [height, width, 3] of a turned body and the finish index of each of its rows."""
    image = Image.new("RGB", (width, height), package.bands[0].colour)
    draw = ImageDraw.Draw(image)
    finish = np.zeros(height, dtype=np.intp)
    for band in package.bands:
        y0, y1 = round(band.t0 * height), round(band.t1 * height)
        draw.rectangle((0, y0, width, y1 - 1), fill=band.colour)
        finish[y0:y1] = FINISHES.index(band.finish)
        if band.ribs:
            groove = blend(band.colour, (0, 0, 0), 0.22)
            if band.t1 - band.t0 < 0.2:  # a cap or a seal: upright grooves
                for k in range(24):
                    x = round((k + 0.5) / 24 * width)
                    draw.line((x, y0, x, y1 - 1), fill=groove)
            else:
                step = max(4, height // 26)
                for y in range(y0 + step, y1, step):
                    draw.line((0, y, width, y), fill=groove, width=max(1, step // 5))
    t0, t1, share = package.label
    y0, y1 = round(t0 * height), round(t1 * height)
    wide = max(8, round(share * width))
    label = draw_label(package.brand, package.flavour, wide, max(8, y1 - y0))
    image.paste(label, ((width - wide) // 2, y0))
    # A stuck-on label on glass is paper; a printed body keeps its own finish.
    if package.material == "glass":
        finish[y0:y1] = FINISHES.index("paper")
    return np.asarray(image), finish


def _wrinkles(seed: int, rows: int, columns: int) -> np.ndarray:
    """Soft folds of a filled bag, stronger near the seals: float32 [rows, columns] around 1."""
    coarse = np.random.Generator(np.random.PCG64(seed)).normal(0, 1, (6, 5))
    folds = Image.fromarray(coarse.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    strength = 0.07 + 0.1 * (np.exp(-(((t - 0.1) / 0.1) ** 2)) + np.exp(-(((t - 0.9) / 0.12) ** 2)))
    return 1 + strength * np.asarray(folds)


def _turned_body(package: Package, height: int, view: View, scale: int) -> Sprite:
    tall = height * scale
    half = max(3.0, package.aspect * tall / 2)
    tilt = view.elevation * (1 - 0.75 * package.flatness)
    ts, radii = (np.array(column, dtype=np.float32) for column in zip(*package.profile, strict=True))
    radii = radii * half
    top_radius, foot_radius = float(radii[0]), float(radii[-1])
    above = abs(tilt) * top_radius
    below = max(0.0, tilt) * foot_radius
    rows, columns = int(tall + above + below) + 2, int(2 * half) + 4
    rows, columns = -(-rows // scale) * scale, -(-columns // scale) * scale

    x = (np.arange(columns, dtype=np.float32) + 0.5 - columns / 2)[None, :]
    y = (np.arange(rows, dtype=np.float32) + 0.5 - above)[:, None]
    radius = np.maximum(np.interp(y / tall, ts, radii).astype(np.float32), 0.01)
    u = np.clip(x / radius, -1, 1)
    arc = np.sqrt(1 - u * u)
    v = y - tilt * radius * arc  # [rows, columns], pixels below the top ring
    column = ((u + 1) * ((_TABLE - 1) / 2)).astype(np.intp)
    row = np.clip(v, 0, tall - 1).astype(np.intp)

    skin_columns = max(12, int(2 * half * 1.3))
    skin, finish = _skin(package, skin_columns, tall)
    albedo = skin[row, (_WRAP * (skin_columns - 1)).astype(np.intp)[column]]
    diffuse, shine = _light_tables(view.light, package.flatness)
    kind = finish[row]
    lit = diffuse[kind, column]
    t = row[:, columns // 2] / tall
    lit = lit * (1.03 - 0.3 * np.exp((t - 1) / 0.05) - 0.05 * t)[:, None].astype(np.float32)
    if package.flatness > 0.5:
        lit = lit * _wrinkles(package.wrinkle_seed, rows, columns)
    rgb = albedo * lit[..., None] + shine[kind, column][..., None]

    cover = np.clip(radius - np.abs(x) + 0.5, 0, 1) * np.clip(v + 0.5, 0, 1)
    cover = cover * np.clip((tall - v if tilt > 0 else tall - y) + 0.5, 0, 1)
    if above >= 1 and tilt > 0 and package.flatness == 0:
        rim = int(2 * above) + 2  # rows that the lid reaches
        reach = np.sqrt((x / top_radius) ** 2 + (y[:rim] / above) ** 2)
        # Its edge is soft over one pixel, measured downwards and sideways.
        lid = np.clip((1 - reach) * above + 0.5, 0, 1) * np.clip(top_radius - np.abs(x) + 0.5, 0, 1) * (v[:rim] < 0.5)
        tint = np.array(package.top, dtype=np.float32) * (1.08 - 0.22 * (np.abs(reach - 0.82) < 0.1))[..., None]
        rgb[:rim] = np.where(lid[..., None] > 0, tint, rgb[:rim])
        cover[:rim] = np.maximum(cover[:rim], lid)
    image = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    alpha = Image.fromarray((cover * 255).astype(np.uint8))
    if package.extra:
        _add_extra(package, image, alpha, half, tall, above)
    colour = dominant_colour(skin[::7, skin_columns // 5 : skin_columns * 4 // 5 : 3].reshape(-1, 3))
    return Sprite(image.reduce(scale), alpha.reduce(scale), round(below / scale), colour)


def _add_extra(package: Package, image: Image.Image, alpha: Image.Image, half: float, tall: int, above: float) -> None:
    """Add the trigger of a spray bottle or cut the grip of a jug, in place."""
    draw, mask = ImageDraw.Draw(image), ImageDraw.Draw(alpha)
    cx = image.width / 2

    def place(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
        return [(cx + px * half, above + py * tall) for px, py in points]

    if package.extra == "trigger":
        head = place(
            (
                (-0.95, 0.02),
                (-0.95, 0.085),
                (-0.35, 0.1),
                (-0.26, 0.18),
                (0.3, 0.18),
                (0.42, 0.1),
                (0.62, 0.07),
                (0.5, 0.01),
                (-0.6, 0.0),
            )
        )
        lever = place(((-0.42, 0.09), (-0.62, 0.16), (-0.7, 0.25), (-0.58, 0.26), (-0.42, 0.19), (-0.26, 0.13)))
        nozzle = place(((-1.0, 0.025), (-0.9, 0.02), (-0.9, 0.09), (-1.0, 0.085)))
        shine = place(((-0.6, 0.012), (0.45, 0.02), (0.5, 0.035), (-0.65, 0.03)))
        dark = blend(package.top, (0, 0, 0), 0.3)
        for points, colour in (
            (lever, dark),
            (head, package.top),
            (nozzle, dark),
            (shine, blend(package.top, (255, 255, 255), 0.5)),
        ):
            draw.polygon(points, fill=colour)
            if points is not shine:
                mask.polygon(points, fill=255)
    else:
        grip = place(((0.5, 0.27), (0.72, 0.3), (0.76, 0.5), (0.6, 0.55), (0.46, 0.48), (0.42, 0.32)))
        around = place(((0.46, 0.245), (0.78, 0.28), (0.82, 0.52), (0.6, 0.585), (0.4, 0.5), (0.36, 0.31)))
        body = package.bands[0].colour
        draw.polygon(around, fill=blend(body, (0, 0, 0), 0.28))
        mask.polygon(grip, fill=0)


def _fold(package: Package, height: int, view: View, scale: int) -> Sprite:
    """Box or gable-top carton: a front, the side that the yaw shows, and a top seen from above."""
    tall = height * scale
    palette = flavour_palette(package.brand, package.flavour)
    carton = package.shape == "gabled"
    wide = max(6, int(package.aspect * tall))
    side = int(abs(view.yaw) * package.depth * min(wide, tall))
    front = wide - (side // 2 if side > 2 else 0)
    side = side if side > 2 else 0
    roof = int(0.2 * tall) if carton else 0
    lift = int(max(0.0, view.elevation) * (side + 0.25 * wide)) if not carton else int(max(0.0, view.elevation) * side)
    rows, columns = tall + lift + 2, front + side + 4
    rows, columns = -(-rows // scale) * scale, -(-columns // scale) * scale
    body = palette.primary
    image = Image.new("RGB", (columns, rows), body)
    alpha = Image.new("L", (columns, rows), 0)
    draw, mask = ImageDraw.Draw(image), ImageDraw.Draw(alpha)
    right = view.yaw >= 0
    x0 = 2 if right else 2 + side
    x1 = x0 + front
    far = x1 + side if right else x0 - side
    near = x1 if right else x0
    top, bottom = rows - tall + roof, rows
    label = draw_label(package.brand, package.flavour, front, max(8, bottom - top))
    colour = dominant_colour(np.asarray(label)[::7, ::5].reshape(-1, 3))
    facing = 1 - 0.16 * abs(view.light) - 0.08 * view.light * (1 if right else -1)
    shade = np.linspace(1.04, 0.9, bottom - top, dtype=np.float32)[:, None] * (
        facing + 0.07 * np.sign(view.light or 1) * np.linspace(-1, 1, front, dtype=np.float32)[None]
    )
    lit = np.clip(np.asarray(label) * shade[..., None] + 4, 0, 255).astype(np.uint8)
    side_light = 0.74 + 0.22 * view.light * (1 if right else -1)
    dark = blend((0, 0, 0), body, min(1.0, side_light))
    shear = lift if side else 0
    if side:
        quad = [(near, top), (far, top - shear), (far, bottom - shear), (near, bottom)]
        draw.polygon(quad, fill=dark)
        mask.polygon(quad, fill=255)
        stripe = blend((0, 0, 0), palette.secondary, min(1.0, side_light))
        deep = bottom - top
        draw.polygon(
            [
                (near, top + 0.12 * deep),
                (far, top + 0.12 * deep - shear),
                (far, top + 0.3 * deep - shear),
                (near, top + 0.3 * deep),
            ],
            fill=stripe,
        )
        ink = blend((0, 0, 0), palette.paper, min(1.0, side_light))
        inset = 0.22 * (far - near)
        draw.polygon(
            [
                (near + inset, top + 0.5 * deep),
                (far - inset, top + 0.5 * deep - shear),
                (far - inset, top + 0.8 * deep - shear),
                (near + inset, top + 0.8 * deep),
            ],
            fill=ink,
        )
    if carton:
        fin = max(2, int(0.07 * tall))
        ridge = top - roof + fin
        lean = 0.06 * front
        drift = 0.5 * (far - near)
        panel = [(x0, top), (x1, top), (x1 - lean + drift, ridge), (x0 + lean + drift, ridge)]
        comb = [
            (x0 + lean + drift, ridge),
            (x1 - lean + drift, ridge),
            (x1 - lean + drift, ridge - fin),
            (x0 + lean + drift, ridge - fin),
        ]
        pale = blend(body, (255, 255, 255), 0.18)
        if side:
            gable = [(near, top), (far, top - shear), ((x1 - lean if right else x0 + lean) + drift, ridge)]
            draw.polygon(gable, fill=blend(dark, (0, 0, 0), 0.15))
            mask.polygon(gable, fill=255)
        for points, fill in ((panel, pale), (comb, blend(body, (0, 0, 0), 0.1))):
            draw.polygon(points, fill=fill)
            mask.polygon(points, fill=255)
        if package.wrinkle_seed % 2:
            r = 0.13 * front
            cx, cy = (x0 + x1) / 2 + 0.5 * drift, (top + ridge) / 2
            draw.ellipse(
                (cx - r, cy - 0.85 * r, cx + r, cy + 0.85 * r),
                fill=palette.accent,
                outline=blend(palette.accent, (0, 0, 0), 0.35),
            )
    elif lift > 1:
        drift = far - near if side else 0
        roof_quad = [(x0, top), (x1, top), (x1 + drift, top - lift), (x0 + drift, top - lift)]
        draw.polygon(roof_quad, fill=blend(body, (255, 255, 255), 0.3))
        mask.polygon(roof_quad, fill=255)
    image.paste(Image.fromarray(lit), (x0, top))
    mask.rectangle((x0, top, x1 - 1, bottom - 1), fill=255)
    edge = blend(body, (255, 255, 255), 0.45)
    draw.line((near, top, near, bottom), fill=edge, width=max(1, scale // 2))
    return Sprite(image.reduce(scale), alpha.reduce(scale), 0, colour)


def draw_package(package: Package, height: int, view: View) -> Sprite:
    """Draw a package.

    Args:
        package: What to draw.
        height: Height of its front in pixels, at least 8.
        view: Light and eye.

    Returns:
        The sprite; a little taller than `height` where the eye looks down on the package.
    """
    scale = 2 if height >= 40 else 3
    draw = _turned_body if package.profile else _fold
    return draw(package, max(8, height), view, scale)
