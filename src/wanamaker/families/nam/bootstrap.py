"""Row weights that make every ensemble member see another sample of time.

Axis letters: M members, T periods.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wanamaker.errors import UserError

KINDS = ("bayesian", "multinomial", "none")


def block_weights(members: int, train_periods: np.ndarray, block: int, kind: str, generator: torch.Generator) -> Tensor:
    """Weights of the periods for each member, mean 1 over the training periods, 0 elsewhere: float32 [M, T].

    Periods are resampled in blocks, because the errors of neighbouring weeks are alike, and for all series at once,
    because those of one week are (Künsch 1989). `multinomial` draws blocks with replacement; `bayesian` gives each an
    exponential weight (Rubin 1981), which never loses the only campaign of a channel. One member is not resampled.

    Args:
        members: M.
        train_periods: bool [T].
        block: periods per block, at least 1.
        kind: of `KINDS`.
        generator: on the CPU; the weights are a function of its seed alone.

    Raises:
        UserError: an unknown kind, or a block below 1 or longer than the training window.
    """
    if kind not in KINDS:
        raise UserError(f"model.bootstrap={kind!r}: choose from {', '.join(KINDS)}.")
    if block < 1:
        raise UserError(f"model.bootstrap_block={block}: a block has at least one period.")
    where = np.flatnonzero(train_periods)
    weights = torch.zeros(members, len(train_periods))
    count = len(where)
    if kind == "none" or members == 1:
        weights[:, where] = 1.0
        return weights
    if block > count:  # one block is every period: all members would see the same data, and intervals miss that part
        raise UserError(
            f"model.bootstrap_block={block}: a block is longer than the {count} training periods; lower it, or switch "
            "resampling off with model.bootstrap=none."
        )
    number = -(-count // block)
    for member in range(members):
        # Another place of the block borders for each member, so that no border is special.
        shift = int(torch.randint(block, (1,), generator=generator))
        of_period = ((np.arange(count) + shift) // block) % number
        if kind == "bayesian":
            drawn = torch.empty(number).exponential_(generator=generator)
        else:
            drawn = torch.bincount(torch.randint(number, (number,), generator=generator), minlength=number).float()
        own = drawn[torch.from_numpy(of_period)]
        weights[member, where] = own * count / own.sum().clamp(min=1e-6)
    return weights
