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
    """Parse, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; it must not exist")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="plain")
    parser.add_argument("--train", type=int, default=2000, help="photos to train on")
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--size", type=int, default=256, help="longer side, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES, default="base")
    parser.add_argument("--formats", choices=sorted(FORMATS), default="square")
    parser.add_argument("--processes", type=int, default=None)
    given = parser.parse_args()
    started = time.perf_counter()
    try:
        if given.out.exists():
            raise UserError(f"--out {given.out} exists already: name a new folder, or remove it first.")
        options = ShelfOptions(given.train, given.val, given.test, given.size, given.seed, given.style, given.formats)
        render_shelf(given.out, options, given.layout, given.processes)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    count, seconds = given.train + given.val + given.test, time.perf_counter() - started
    print(f"{count} photos in {given.out}: {seconds:.1f} s, {count / seconds * 60:.0f} a minute")
    return 0


if __name__ == "__main__":
    sys.exit(main())
