"""How often the attributes decision names a product's colour as the shelf simulator has it.

    python scripts/benchmarks/attribute_colours.py
    python scripts/benchmarks/attribute_colours.py --photos 24 --size 512 --style restock

The simulator's truth is the basic colour term that most pixels of the *unlit* print belong to. Prints carry several
colours, a lamp with a cast of its own shines on them, and neighbours hide parts. Boxes are the true ones, so what is
measured is the naming alone, not the detector. Photos are drawn here, from a seed.

photo: the decision's name from the pixels of the photo. print: what its vocabulary calls the majority of the unlit
print, from the very pixels that the truth is counted on. It is below 1 because the two vocabularies draw their borders
at other places; the rest of the way down to "photo" is light, folds, print seen aslant and neighbours. frequent: the
most frequent name for all.
The interval is two standard errors, products of a photo taken as independent.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wanamaker.data.simulate import shelf_sprite
from wanamaker.data.simulate.shelf import FORMATS, STYLES, ShelfOptions, draw_photo
from wanamaker.decisions.attributes import product_colours
from wanamaker.decisions.colour import BASIC_COLOURS, colour_codes

HIDDEN = (0.1, 0.3, 1.0)  # largest share of a product that is hidden


class Product(NamedTuple):
    """Names of one product's colour, and the share of it that is hidden."""

    truth: str
    photo: str
    print: str
    hidden: float


class Printed(str):
    """The simulator's name, with the decision's name for the same pixels beside it."""

    by_decision: str


def main() -> int:
    """Draw, name, compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100, help="photos to draw (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="longer side, pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other photos (default: %(default)s)")
    parser.add_argument("--style", choices=STYLES, default="base")
    parser.add_argument("--formats", choices=sorted(FORMATS), default="square")
    given = parser.parse_args()
    if given.photos < 1:
        parser.error(f"--photos {given.photos}: give 1 or more")
    _name_prints_twice()
    options = ShelfOptions(image_size=given.size, seed=given.seed, style=given.style, formats=given.formats)
    products = [product for index in range(given.photos) for product in named(options, index)]
    print(f"{len(products)} products in {given.photos} photos of {given.size} px, {given.style}, seed {given.seed}")
    print("hidden at most  products  photo          print  frequent")
    for limit in HIDDEN:
        print(row(limit, [product for product in products if product.hidden <= limit]))
    print("\nproducts at most 30 % hidden by the simulator's name: share named so, then what else they are called")
    chosen = [product for product in products if product.hidden <= 0.3]
    for truth, count in Counter(product.truth for product in chosen).most_common():
        called = Counter(product.photo for product in chosen if product.truth == truth)
        right = called.pop(truth, 0)
        others = ", ".join(f"{name} {number / count:.2f}" for name, number in called.most_common(3))
        print(f"  {truth:7s} {count:5d}  {right / count:.2f}  {others}")
    return 0


def named(options: ShelfOptions, index: int) -> list[Product]:
    """The products of one test photo, crowds left out."""
    scene = draw_photo(options, "test", index)
    products = [product for product in scene.products if not product.crowd]
    corners = np.array([product.bbox for product in products], dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]  # x y width height to xyxy
    colours = product_colours(np.asarray(scene.image.convert("RGB")), corners)
    found = []
    for product, colour in zip(products, colours, strict=True):
        truth = product.attributes["colour"]
        found.append(Product(str(truth), colour.name, truth.by_decision, float(product.attributes["occlusion"])))
    return found


def row(limit: float, products: Sequence[Product]) -> str:
    """One line of the table."""
    if not products:
        return f"{limit:14.0%}  {0:8d}"
    photo = np.mean([product.photo == product.truth for product in products])
    printed = np.mean([product.print == product.truth for product in products])
    frequent = Counter(product.truth for product in products).most_common(1)[0][1] / len(products)
    half = 2 * np.sqrt(photo * (1 - photo) / len(products))
    return f"{limit:14.0%}  {len(products):8d}  {photo:.3f} +- {half:.3f}  {printed:.3f}  {frequent:.3f}"


def _name_prints_twice() -> None:
    """Let the simulator hand the decision's name along with its own: the unlit print is not kept anywhere."""
    by_simulator = shelf_sprite.dominant_colour

    def twice(rgb: np.ndarray) -> str:
        name = Printed(by_simulator(rgb))
        counts = np.bincount(colour_codes(rgb), minlength=len(BASIC_COLOURS))
        name.by_decision = BASIC_COLOURS[int(counts.argmax())]
        return name

    shelf_sprite.dominant_colour = twice


if __name__ == "__main__":
    sys.exit(main())
