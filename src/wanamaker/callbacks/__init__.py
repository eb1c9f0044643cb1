"""Callbacks for any model family, one class per file; recipes choose them under `callbacks`."""
