"""Train any model of the house: `python train.py experiment=NAME`. Alone, it prints the menu of experiments."""

import sys

from wanamaker.runtime.launch import main

if __name__ == "__main__":
    sys.exit(main("train"))
