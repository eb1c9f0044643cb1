"""Random choices about a row that are a function of the row: the same on every rank, machine and restart.

All integers are int64 tensors whose products wrap around; the mixing is the finaliser of splitmix64 (Steele et al.
2014, "Fast splittable pseudorandom number generators").

Axis letters: B batch rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The constants of splitmix64 as signed integers.
GOLDEN = -0x61C8864680B583EB
_MIX_1, _MIX_2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def mixed(keys: Tensor) -> Tensor:
    """A bijection of int64 in which every bit of the input moves every bit of the output."""
    keys = (keys ^ _shifted(keys, 30)) * _MIX_1
    keys = (keys ^ _shifted(keys, 27)) * _MIX_2
    return keys ^ _shifted(keys, 31)


def stream(keys: Tensor, number: Tensor | int) -> Tensor:
    """Hashes of (key, number): another stream of random bits for each number; int64, broadcast of both."""
    number = torch.as_tensor(number, device=keys.device)  # Python's integers would not wrap around
    return mixed(mixed(keys * GOLDEN + 1) + (number + 1) * GOLDEN)


def uniform(hashes: Tensor) -> Tensor:
    """Float32 in [0, 1), from the upper 24 bits."""
    return _shifted(hashes, 40).float() * 2.0**-24


def remainder(hashes: Tensor, count: int) -> Tensor:
    """Integers 0..count-1, evenly spread."""
    return _shifted(hashes, 2) % count


def dropped(values: Tensor, seeds: Tensor, probability: float, layer: int) -> Tensor:
    """Dropout decided by row, layer, member and unit.

    Args:
        values: [M, B, U].
        seeds: int64 [B], such as a hash of row number and step.
        probability: of a zero; the rest is scaled up.
        layer: tells the layers of a net apart.
    """
    members, rows, units = values.shape
    # One hash decides about four units: sixteen bits each.
    groups = -(-units // 4)
    places = torch.arange(members * groups, device=values.device).reshape(members, 1, groups)
    bits = stream(stream(seeds, layer)[None, :, None], places)  # [M, B, groups]
    shifts = torch.tensor([0, 16, 32, 48], device=values.device)
    parts = (bits[..., None] >> shifts) & 0xFFFF  # [M, B, groups, 4]
    kept = parts.reshape(members, rows, groups * 4)[..., :units] >= round(probability * 65536)
    return values * (kept / (1.0 - probability))


def _shifted(keys: Tensor, bits: int) -> Tensor:
    """Shift right without dragging the sign in."""
    return (keys >> bits) & ((1 << (64 - bits)) - 1)
