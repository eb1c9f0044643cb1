"""Draw the embedded shelf photos to a folder of your choice, in COCO format.

    python scripts/render_shelf.py --out data/coco --layout coco2017 --train 2000 --val 200

With `--layout coco2017` the folder looks as COCO does on disk, so that `experiment=faster_rcnn_coco` can be tried
without a download (with data.num_classes=8).
"""

import argparse
import sys
import time
from pathlib import Path

from wanamaker.data.simulate.shelf import FORMATS, LAYOUTS, STYLES, ShelfOptions, render_shelf
from wanamaker.errors import UserError


def main() -> int:
    """Parse, draw, report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; it must not exist")
    parser.add_argument(
        "--layout",
        choices=sorted(LAYOUTS),
        default="plain",
        help="plain: train/ val/ test/; coco2017: train2017/ val2017/ test2017/ (default: %(default)s)",
    )
    parser.add_argument("--train", type=int, default=2000, help="photos to train on (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="photos to validate on (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="photos to test on (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="longer side, pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other photos (default: %(default)s)")
    parser.add_argument(
        "--style",
        choices=STYLES,
        default="base",
        help="restock: new package designs and two more categories (default: %(default)s)",
    )
    parser.add_argument(
        "--formats",
        choices=sorted(FORMATS),
        default="square",
        help="mixed: landscape and portrait photos too (default: %(default)s)",
    )
    parser.add_argument("--processes", type=int, default=None, help="processes to draw with (default: all cores)")
    given = parser.parse_args()
    started = time.perf_counter()
    try:
        if given.processes is not None and given.processes < 1:
            raise UserError(f"--processes {given.processes}: give 1 or more.")
        if given.out.exists():
            raise UserError(f"--out {given.out} exists already: name a new folder, or remove it first.")
        options = ShelfOptions(given.train, given.val, given.test, given.size, given.seed, given.style, given.formats)
        remedy = "Name a folder with room that you can write (--out)."
        render_shelf(given.out, options, given.layout, given.processes, remedy)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    count, seconds = given.train + given.val + given.test, time.perf_counter() - started
    print(f"{count} photos in {given.out}: {seconds:.1f} s, {count / seconds * 60:.0f} a minute")
    return 0


if __name__ == "__main__":
    sys.exit(main())
