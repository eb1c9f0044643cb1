"""Rebuild a trained model from its checkpoint: `python evaluate.py ckpt_path=FILE [data=...] [decision=...]`."""

import sys

from wanamaker.runtime.launch import main

if __name__ == "__main__":
    sys.exit(main("evaluate"))
