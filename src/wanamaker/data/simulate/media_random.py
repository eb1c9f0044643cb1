"""Random numbers of the panel simulator: one independent stream per purpose, the same on every platform.

NumPy promises the raw stream of a bit generator between releases and platforms, but not what `Generator.normal` or
`Generator.choice` make of it. Here every draw is a function of that raw stream: uniform numbers are its upper 53 bits,
all others are their quantiles. A stream belongs to a name ("demand", "flight/tv", ...), so an option that needs more
draws, or none, moves no other part of the panel.
"""

from __future__ import annotations

import hashlib

import numpy as np


class Stream:
    """Draws for one purpose.

    Args:
        seed: Of the simulation.
        name: What the draws are for; equal names give equal draws.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest, "little"))

    def uniform(self, *shape: int) -> np.ndarray:
        """Inside (0, 1), never 0 and never 1; float64 [*shape]."""
        raw = self._bits.random_raw(int(np.prod(shape, dtype=np.int64)))
        return (((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).reshape(shape)

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal, float64 [*shape]."""
        from scipy.special import ndtri

        return ndtri(self.uniform(*shape))

    def whole(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Whole numbers in [low, high], int64 [*shape]."""
        return low + np.floor(self.uniform(*shape) * (high - low + 1)).astype(np.int64)

    def gumbel(self, *shape: int) -> np.ndarray:
        """Standard Gumbel: adding it to log weights and taking the largest draws without replacement."""
        return -np.log(-np.log(self.uniform(*shape)))

    def autoregression(self, rho: float, *shape: int) -> np.ndarray:
        """Stationary AR(1) along the last axis with standard deviation 1, float64 [*shape]."""
        steps = self.normal(*shape)
        path = np.empty(shape)
        path[..., 0] = steps[..., 0]
        spread = np.sqrt(1.0 - rho * rho)
        for t in range(1, shape[-1]):
            path[..., t] = rho * path[..., t - 1] + spread * steps[..., t]
        return path
