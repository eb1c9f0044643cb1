"""Package designs of the `shelf` simulator: what a bottle, can, box ... of one brand looks like, before it is drawn.

Heights are in units of the clear height between two shelves, widths are relative to the height. `t` runs from 0 at the
top of a package to 1 at its foot; radii are relative to the half width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wanamaker.data.simulate.shelf_label import Brand, flavour_palette
from wanamaker.data.simulate.shelf_palette import RGB, blend, luminance

BASE_CATEGORIES = ("bottle", "can", "box", "carton", "jar", "pouch", "tube", "tub")
RESTOCK_CATEGORIES = ("spray", "jug")
SIZES = {"small": 0.82, "medium": 1.0, "large": 1.18}
MATERIALS = ("glass", "plastic", "metal", "paper", "foil")
SHAPES = ("cylindrical", "necked", "rectangular", "gabled", "rounded", "tapered", "pillow", "handled")

Profile = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Band:
    """A ring of the package between t0 and t1 with one colour and finish; `ribs` draws fine grooves."""

    t0: float
    t1: float
    colour: RGB
    finish: str
    ribs: bool = False


@dataclass(frozen=True)
class Package:
    """One article on the shelf: its labels (`category` ... `size`) and everything needed to draw it.

    Attributes:
        height: In clear shelf heights.
        aspect: Width over height.
        profile: Radius over t for packages drawn as turned bodies; empty for folded ones.
        bands: Coloured rings, painted in order.
        label: (t0, t1, share of the visible half turn) of the printed label.
        flatness: 0 for a round body, towards 1 for a flat one (pouch, tube).
        extra: "", "trigger" or "handle": parts a turned body does not have.
    """

    category: str
    material: str
    shape: str
    size: str
    brand: Brand
    flavour: int
    height: float
    aspect: float
    profile: Profile = ()
    bands: tuple[Band, ...] = ()
    label: tuple[float, float, float] = (0.0, 1.0, 1.0)
    flatness: float = 0.0
    top: RGB = (200, 200, 200)
    extra: str = ""
    wrinkle_seed: int = 0
    depth: float = field(default=0.35)


_STEEL: RGB = (196, 200, 206)
_GLASS: tuple[RGB, ...] = ((34, 78, 46), (92, 52, 22), (196, 214, 214), (40, 44, 48), (226, 232, 230))
_LIQUID: tuple[RGB, ...] = ((196, 62, 30), (222, 158, 40), (120, 40, 70), (92, 58, 30), (238, 214, 150), (88, 130, 54))


def _pick(rng: np.random.Generator, options: tuple) -> object:
    return options[int(rng.integers(len(options)))]


def _bottle(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    kind = int(rng.integers(4))
    if kind == 0:  # wine or oil, glass
        glass = _pick(rng, _GLASS)
        profile = (
            (0, 0.36),
            (0.1, 0.36),
            (0.105, 0.31),
            (0.3, 0.31),
            (0.37, 0.55),
            (0.44, 0.93),
            (0.48, 1),
            (0.98, 1),
            (1, 0.95),
        )
        bands = (Band(0, 1, glass, "glass"), Band(0, 0.14, palette.primary, "foil"))
        return _turned(
            "glass", "necked", rng.uniform(0.9, 0.98), rng.uniform(0.27, 0.31), profile, bands, (0.54, 0.9, 0.84)
        )
    if kind == 1:  # sauce or beer, glass
        content = _pick(rng, _LIQUID)
        profile = ((0, 0.44), (0.06, 0.44), (0.065, 0.36), (0.2, 0.37), (0.42, 0.9), (0.5, 1), (0.97, 1), (1, 0.95))
        bands = (
            Band(0, 1, content, "glass"),
            Band(0.06, 0.16, (206, 216, 212), "glass"),
            Band(0, 0.06, palette.accent, "metal", True),
        )
        return _turned(
            "glass", "necked", rng.uniform(0.74, 0.86), rng.uniform(0.32, 0.36), profile, bands, (0.5, 0.88, 0.9)
        )
    if kind == 2:  # soft drink or water, PET
        content = _pick(rng, (*_LIQUID, (190, 220, 232), (206, 232, 240), palette.primary))
        profile = (
            (0, 0.38),
            (0.08, 0.38),
            (0.085, 0.3),
            (0.12, 0.32),
            (0.27, 0.85),
            (0.36, 1),
            (0.4, 0.97),
            (0.7, 0.95),
            (0.73, 1),
            (0.95, 1),
            (1, 0.86),
        )
        bands = (
            Band(0, 1, content, "plastic"),
            Band(0.72, 1, content, "plastic", True),
            Band(0, 0.08, palette.primary, "plastic", True),
        )
        return _turned(
            "plastic", "necked", rng.uniform(0.86, 0.98), rng.uniform(0.3, 0.35), profile, bands, (0.4, 0.7, 1.0)
        )
    profile = (
        (0, 0.26),
        (0.05, 0.3),
        (0.15, 0.52),
        (0.155, 0.6),
        (0.2, 0.62),
        (0.21, 0.7),
        (0.3, 0.98),
        (0.4, 1),
        (0.62, 0.9),
        (0.8, 0.98),
        (0.97, 1),
        (1, 0.96),
    )
    bands = (Band(0, 1, palette.primary, "plastic"), Band(0, 0.2, palette.secondary, "plastic"))
    return _turned(
        "plastic", "necked", rng.uniform(0.7, 0.86), rng.uniform(0.36, 0.42), profile, bands, (0.34, 0.9, 0.95)
    )


def _can(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    if rng.random() < 0.5:
        profile = ((0, 0.8), (0.025, 0.84), (0.035, 0.78), (0.1, 1), (0.93, 1), (0.985, 0.84), (1, 0.8))
        bands = (Band(0, 1, palette.primary, "metal"), Band(0, 0.07, _STEEL, "metal"), Band(0.955, 1, _STEEL, "metal"))
        return _turned(
            "metal",
            "cylindrical",
            rng.uniform(0.48, 0.6),
            _pick(rng, (0.42, 0.52, 0.54)),
            profile,
            bands,
            (0.07, 0.955, 1.0),
            top=_STEEL,
        )
    profile = ((0, 1), (0.025, 1), (0.035, 0.965), (0.965, 0.965), (0.975, 1), (1, 1))
    bands = (Band(0, 1, _STEEL, "metal", True), Band(0.08, 0.92, palette.primary, "paper"))
    return _turned(
        "metal",
        "cylindrical",
        rng.uniform(0.42, 0.52),
        rng.uniform(0.62, 0.78),
        profile,
        bands,
        (0.085, 0.915, 1.0),
        top=_STEEL,
    )


def _box(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    flat = rng.random() < 0.25
    height, aspect = (
        (rng.uniform(0.34, 0.44), rng.uniform(1.1, 1.45)) if flat else (rng.uniform(0.68, 0.9), rng.uniform(0.58, 0.74))
    )
    return {
        "material": "paper",
        "shape": "rectangular",
        "height": float(height),
        "aspect": float(aspect),
        "depth": float(rng.uniform(0.2, 0.4)),
    }


def _carton(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    return {
        "material": "paper",
        "shape": "gabled",
        "height": float(rng.uniform(0.74, 0.9)),
        "aspect": float(rng.uniform(0.4, 0.48)),
        "depth": 0.7,
    }


def _jar(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    content = _pick(rng, (*_LIQUID, (150, 30, 40), (236, 226, 200), (70, 40, 24)))
    lid = _pick(rng, (palette.primary, palette.secondary, (222, 188, 96), _STEEL, (246, 244, 238)))
    if rng.random() < 0.7:
        profile = ((0, 0.84), (0.15, 0.86), (0.155, 0.76), (0.19, 0.78), (0.29, 0.99), (0.33, 1), (0.94, 1), (1, 0.88))
        bands = (
            Band(0, 1, content, "glass"),
            Band(0.15, 0.24, blend(content, (225, 232, 230), 0.6), "glass"),
            Band(0, 0.15, lid, "metal", True),
        )
        return _turned(
            "glass",
            "rounded",
            rng.uniform(0.42, 0.58),
            rng.uniform(0.66, 0.8),
            profile,
            bands,
            (0.4, 0.86, 0.8),
            top=lid,
        )
    profile = ((0, 0.98), (0.36, 1), (0.365, 0.9), (0.4, 0.95), (0.9, 0.95), (1, 0.84))
    bands = (Band(0, 1, palette.paper, "plastic"), Band(0, 0.36, lid, "plastic", True))
    return _turned(
        "plastic",
        "rounded",
        rng.uniform(0.32, 0.4),
        rng.uniform(0.95, 1.15),
        profile,
        bands,
        (0.42, 0.95, 0.9),
        top=lid,
    )


def _pouch(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    seal = blend(palette.primary, (20, 20, 24), 0.25)
    foil = rng.random() < 0.6
    finish = "foil" if foil else "plastic"
    if rng.random() < 0.5:  # pillow bag, sealed at both ends
        profile = (
            (0, 0.95),
            (0.07, 0.95),
            (0.12, 0.88),
            (0.3, 0.98),
            (0.55, 1),
            (0.8, 0.96),
            (0.9, 0.88),
            (0.94, 0.94),
            (1, 0.95),
        )
        bands = (
            Band(0, 1, palette.primary, finish),
            Band(0, 0.07, seal, finish, True),
            Band(0.94, 1, seal, finish, True),
        )
        height, aspect = rng.uniform(0.62, 0.82), rng.uniform(0.68, 0.8)
    else:  # stand-up pouch with a gusset
        profile = ((0, 0.86), (0.1, 0.87), (0.3, 0.9), (0.75, 0.98), (0.92, 1), (1, 0.93))
        bands = (Band(0, 1, palette.primary, finish), Band(0, 0.06, seal, finish, True))
        height, aspect = rng.uniform(0.54, 0.74), rng.uniform(0.6, 0.72)
    pouch = _turned("foil" if foil else "plastic", "pillow", height, aspect, profile, bands, (0.08, 0.94, 1.0))
    return {**pouch, "flatness": 0.55}


def _tube(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    body = palette.primary if luminance(palette.primary) > 60 or rng.random() < 0.5 else palette.paper
    cap = _pick(rng, (palette.secondary, palette.accent, (245, 245, 242)))
    profile = (
        (0, 1),
        (0.07, 1),
        (0.3, 0.95),
        (0.6, 0.8),
        (0.79, 0.66),
        (0.8, 0.5),
        (0.83, 0.56),
        (0.98, 0.6),
        (1, 0.57),
    )
    bands = (
        Band(0, 1, body, "plastic"),
        Band(0, 0.055, blend(body, (255, 255, 255), 0.35), "plastic", True),
        Band(0.79, 1, cap, "plastic", True),
    )
    return {
        **_turned(
            "plastic", "tapered", rng.uniform(0.56, 0.7), rng.uniform(0.38, 0.46), profile, bands, (0.06, 0.78, 0.95)
        ),
        "flatness": 0.3,
    }


def _tub(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    lid = _pick(rng, (palette.secondary, palette.paper, palette.accent))
    profile = ((0, 0.97), (0.02, 1), (0.16, 1), (0.17, 0.93), (0.95, 0.78), (1, 0.74))
    bands = (Band(0, 1, palette.primary, "plastic"), Band(0, 0.165, lid, "plastic"))
    return _turned(
        "plastic", "tapered", rng.uniform(0.3, 0.42), rng.uniform(1.0, 1.35), profile, bands, (0.18, 1.0, 1.0), top=lid
    )


def _spray(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    profile = (
        (0, 0.0),
        (0.17, 0.0),
        (0.171, 0.24),
        (0.26, 0.26),
        (0.3, 0.3),
        (0.42, 0.82),
        (0.5, 0.95),
        (0.7, 0.86),
        (0.95, 0.95),
        (1, 0.9),
    )
    bands = (Band(0, 1, palette.primary, "plastic"), Band(0, 0.27, palette.accent, "plastic", True))
    spray = _turned(
        "plastic",
        "necked",
        rng.uniform(0.84, 0.96),
        rng.uniform(0.4, 0.46),
        profile,
        bands,
        (0.5, 0.94, 0.95),
        top=palette.accent,
    )
    return {**spray, "extra": "trigger"}


def _jug(rng: np.random.Generator, brand: Brand, flavour: int) -> dict[str, object]:
    palette = flavour_palette(brand, flavour)
    body = _pick(rng, (palette.primary, palette.primary, (244, 246, 244)))
    profile = ((0, 0.3), (0.11, 0.3), (0.115, 0.22), (0.15, 0.26), (0.28, 0.86), (0.36, 1), (0.95, 1), (1, 0.94))
    bands = (Band(0, 1, body, "plastic"), Band(0, 0.11, palette.accent, "plastic", True))
    jug = _turned(
        "plastic",
        "handled",
        rng.uniform(0.74, 0.9),
        rng.uniform(0.58, 0.68),
        profile,
        bands,
        (0.46, 0.92, 0.8),
        top=palette.accent,
    )
    return {**jug, "extra": "handle", "flatness": 0.25}


def _turned(
    material: str,
    shape: str,
    height: float,
    aspect: object,
    profile: Profile,
    bands: tuple[Band, ...],
    label: tuple[float, float, float],
    top: RGB | None = None,
) -> dict[str, object]:
    """Keyword arguments of a package drawn as a turned body."""
    return {
        "material": material,
        "shape": shape,
        "height": float(height),
        "aspect": float(aspect),  # type: ignore[arg-type]
        "profile": profile,
        "bands": bands,
        "label": label,
        "top": top or bands[-1].colour,
    }


_DESIGNS = {
    "bottle": _bottle,
    "can": _can,
    "box": _box,
    "carton": _carton,
    "jar": _jar,
    "pouch": _pouch,
    "tube": _tube,
    "tub": _tub,
    "spray": _spray,
    "jug": _jug,
}


def design_package(rng: np.random.Generator, category: str, brand: Brand, flavour: int = 0) -> Package:
    """Design one article of a category for a brand.

    Args:
        rng: Source of every choice; the same state gives the same package, whatever the flavour.
        category: One of `BASE_CATEGORIES` or `RESTOCK_CATEGORIES`.
        brand: The product line.
        flavour: Variety; only colours depend on it.
    """
    size = ("small", "medium", "large")[int(rng.choice(3, p=(0.28, 0.44, 0.28)))]
    wrinkle_seed = int(rng.integers(2**31))
    design = _DESIGNS[category](rng, brand, flavour)
    design["height"] = float(design["height"]) * SIZES[size]  # type: ignore[arg-type]
    return Package(category=category, size=size, brand=brand, flavour=flavour, wrinkle_seed=wrinkle_seed, **design)  # type: ignore[arg-type]
