"""Neural additive marketing mix: one shape function per driver, and a sum that a person can read."""

from wanamaker.families.nam.net import NamNet

__all__ = ["NamNet"]
