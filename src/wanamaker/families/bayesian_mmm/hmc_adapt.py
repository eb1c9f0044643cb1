"""What the sampler learns while it warms up: step size, trajectory length and mass.

Pure functions on small tuples of tensors, so that the sampler's state can be saved and continued bit by bit. The
numbers fed in are pooled over the chains of all ranks, so every rank holds the same tuples.

Axis letters: N chains of this rank, D parameters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# The least acceptance that enters the harmonic mean, so that rare rejections which no step size mends do not shrink the
# step for ever: a wall that one trajectory in forty met shrank it sevenfold at a floor of 0.01, twofold at 0.1.
ACCEPTANCE_FLOOR = 0.1
# Shares of the warm-up after which the mass is set anew. From the last on only the step size adapts.
MASS_UPDATES = (0.1, 0.2, 0.4, 0.75)
# The share of the iterations so far over which moments are averaged is one in this number.
MEMORY = 3
# Pseudo-draws that hold a new mass to the old one (geometrically).
MASS_PRIOR_DRAWS = 10.0


class StepSize(NamedTuple):
    """Dual averaging of the log step size (Hoffman & Gelman 2014, section 3.2); float64 scalars []."""

    log: Tensor  # in use while adapting
    log_average: Tensor  # in use afterwards
    error_sum: Tensor
    anchor: Tensor  # the logarithm it is drawn to
    count: Tensor


def start_step(log: Tensor) -> StepSize:
    """Adaptation that begins at, and is drawn to, a log step size []."""
    zero = torch.zeros_like(log)
    return StepSize(log.clone(), log.clone(), zero, log.clone(), zero.clone())


def update_step(size: StepSize, acceptance: Tensor, target: float) -> StepSize:
    """One update from the pooled acceptance []; gamma, t0 and kappa as in the paper."""
    count = size.count + 1
    error_sum = size.error_sum + (target - acceptance)
    log = size.anchor - 20.0 * count.sqrt() * error_sum / (count + 10.0)
    weight = count**-0.75
    return StepSize(log, weight * log + (1 - weight) * size.log_average, error_sum, size.anchor, count)


def inverse_acceptance(acceptance: Tensor) -> Tensor:
    """Terms [N] of the harmonic mean.

    The step size follows the harmonic mean of the chains' acceptances as in ChEES (Hoffman, Radul & Sountsov 2021),
    because it listens to the chains that are worst off: those in the narrow places, where divergences come from, are
    few and the arithmetic mean outvotes them. At a target of 0.8 (32 chains, 100 + 100 iterations, 3 or 4 runs) the
    arithmetic mean left about 60 divergences a run on a banana and on a funnel of 9 parameters, this one 1 to 3, and
    on a Gaussian both cost about the same per effective draw.
    """
    return acceptance.clamp(min=ACCEPTANCE_FLOOR).reciprocal()


class Length(NamedTuple):
    """Ascent of the log mean trajectory length by Adam without momentum; float64 scalars [].

    Lengths are times of the dynamics in coordinates in which the mass is one.
    """

    log: Tensor  # in use while adapting
    log_average: Tensor  # in use afterwards
    second_moment: Tensor
    count: Tensor


def start_length(device: torch.device) -> Length:
    """Begin at a quarter of a turn of a standard normal, which is right where the guide is."""
    log = torch.tensor(math.log(math.pi / 2), dtype=torch.float64, device=device)
    return Length(log, log.clone(), torch.zeros_like(log), torch.zeros_like(log))


def chees_gradient(before: Tensor, after: Tensor, velocity: Tensor, time: float) -> Tensor:
    """Each chain's derivative of the ChEES criterion by the log trajectory length: [N].

    The criterion is the expected squared change of the squared distance to the posterior mean, (|z'|^2 - |z|^2)^2
    (Hoffman, Radul & Sountsov 2021, eq. 2 and 4, without constant factors).

    Args:
        before, after: [N, D] start and proposal minus the pooled mean, in coordinates in which the mass is one.
        velocity: [N, D] at the end of the trajectory, in the same coordinates.
        time: length of this trajectory.
    """
    change = after.square().sum(-1) - before.square().sum(-1)
    return change * (after * velocity).sum(-1) * time


def update_length(length: Length, gradient: Tensor, low: Tensor, high: Tensor, rate: float = 0.05) -> Length:
    """One step up the gradient [] of the criterion, kept between `low` and `high` (logarithms [])."""
    count = length.count + 1
    second = 0.95 * length.second_moment + 0.05 * gradient.square()
    scaled = gradient / (second / (1 - 0.95**count)).sqrt().clamp(min=torch.finfo(second.dtype).tiny)
    log = (length.log + rate * scaled).clamp(min=low, max=high)
    weight = count**-0.5
    return Length(log, weight * log + (1 - weight) * length.log_average, second, count)


class Mass(NamedTuple):
    """Diagonal inverse mass in the guide's whitened coordinates, and moments of the draws there; float64 [D] each."""

    inverse: Tensor
    centre: Tensor
    variance: Tensor


def start_mass(dim: int, device: torch.device) -> Mass:
    """As if the guide were exact."""
    one = torch.ones(dim, dtype=torch.float64, device=device)
    return Mass(one, torch.zeros_like(one), one.clone())


def moment_rate(iteration: int) -> float:
    """Weight of this iteration's chains in the running moments: a window that grows with the iterations behind it."""
    return 1.0 / math.ceil((iteration + 1) / MEMORY)


def update_mass(mass: Mass, iteration: int, chains: int) -> Mass:
    """The inverse mass becomes the variance of the window, shrunk a little to what it was."""
    draws = chains * (iteration + 1) / MEMORY
    weight = draws / (draws + MASS_PRIOR_DRAWS)
    variance = mass.variance.clamp(min=torch.finfo(mass.variance.dtype).tiny)
    return mass._replace(inverse=(weight * variance.log() + (1 - weight) * mass.inverse.log()).exp())


def restart_length(length: Length, before: Mass, after: Mass) -> Length:
    """Adaptation that begins anew after the mass changed.

    The criterion is of fourth order in the coordinates, so its old second moment would stall the ascent. What was
    learnt is kept as far as the scales stayed what they were, otherwise the length returns to its start.
    """
    change = 0.5 * (after.inverse.log() - before.inverse.log()).square().mean().sqrt()
    start = start_length(length.log.device)
    log = start.log + (length.log_average - start.log) * (-change).exp()
    return start._replace(log=log, log_average=log.clone())


class Schedule(NamedTuple):
    """Which iterations of the warm-up adapt what besides the step size."""

    mass: frozenset[int]  # iterations after which the mass is set anew
    length: range  # iterations that adapt the trajectory length


def schedule(warmup: int) -> Schedule:
    """For a number of warm-up iterations."""
    ends = sorted({max(1, round(share * warmup)) for share in MASS_UPDATES})
    return Schedule(frozenset(end - 1 for end in ends), range(max(1, ends[0] // 2), ends[-1]))


def radical_inverse(index: int) -> float:
    """Halton sequence in base 2 at an index of at least 1, in (0, 1)."""
    value, digit = 0.0, 0.5
    while index:
        value += digit * (index & 1)
        index >>= 1
        digit *= 0.5
    return value
