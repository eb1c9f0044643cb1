"""Which member may learn from which row, and how much: functions of the customer's key alone.

Member m = r x K + k never trains on fold k. A row's fold and its weights are hashes of its key: the same on every rank,
in every epoch and after a restart, and a customer with several rows is in one fold.

Axis letters: B batch rows, M = K x R members (K folds, R replicas of each).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.nn.row_hash import remainder, stream, uniform

BOOTSTRAPS = ("poisson", "bayesian", "none")
_FOLD, _WEIGHT = 1, 1_000
# Shares of 0, 1, 2, ... under a Poisson distribution with mean 1, summed up.
_POISSON = (0.36787944, 0.73575888, 0.91969860, 0.98101184, 0.99634015, 0.99940582, 0.99991676, 0.99998975)


def fold_of(key: Tensor, folds: int, seed: int) -> Tensor:
    """Fold 0..K-1 of each row, int64 [B].

    Args:
        key: int64 [B], hash of the customer's identifier.
        folds: K.
        seed: another seed, other folds.
    """
    return remainder(stream(stream(key, _FOLD), seed), folds)


def held_out(fold: Tensor, folds: int, members: int) -> Tensor:
    """Whether a member must not learn from a row, bool [M, B]."""
    own = torch.arange(members, device=fold.device) % folds
    return fold == own[:, None]


def bootstrap_weights(key: Tensor, members: int, kind: str, seed: int) -> Tensor:
    """Weights with mean 1 of each row for each member, float32 [M, B].

    Every member sees another sample of the customers, so that the members' spread is a sampling spread: with "poisson"
    each row counts 0, 1, 2, ... times (the bootstrap for streams, Oza & Russell 2001), with "bayesian" it has an
    exponential weight (Rubin 1981).

    Raises:
        UserError: an unknown kind.
    """
    if kind not in BOOTSTRAPS:
        raise UserError(f"model.net.bootstrap={kind!r}: choose from {', '.join(BOOTSTRAPS)}.")
    if kind == "none":
        return torch.ones(members, len(key), device=key.device)
    member = torch.arange(members, device=key.device)[:, None]
    drawn = uniform(stream(stream(key, _WEIGHT + seed)[None], member))
    if kind == "bayesian":
        return -torch.log1p(-drawn)
    return torch.bucketize(drawn, torch.tensor(_POISSON, device=key.device), right=True).float()


def member_mean(values: Tensor, use: Tensor) -> Tensor:
    """Mean over the members that may be used for each row.

    Args:
        values: [M, B, ...].
        use: bool [M, B]; at least one member per row.

    Returns:
        [B, ...].
    """
    share = use / use.sum(0)  # [M, B]
    return (values * share.reshape(*share.shape, *[1] * (values.ndim - 2))).sum(0)
