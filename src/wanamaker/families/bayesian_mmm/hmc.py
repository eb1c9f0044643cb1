"""Hamiltonian Monte Carlo on many chains at once: the chains are one dimension of every tensor.

All chains take the same number of leapfrog steps in an iteration, so that one batched density serves them all; the
trajectory's length is jittered by a Halton sequence and adapted by the ChEES criterion (Hoffman, Radul & Sountsov
2021), the step size by dual averaging. Everything learnt is pooled over the chains of all ranks while warming up and
fixed afterwards. The guide's location and scale whiten the parameters: the sampler moves in w with
position = location + scale_tril @ w, and learns a diagonal mass for w.

The sampler holds no state and no random generator: an iteration is a function of (seed, state), and the random numbers
are a function of (seed, iteration, global chain number), so a saved state continues bit by bit and a chain sees the
same numbers wherever it runs.

Axis letters: N chains of this rank, D parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm import hmc_adapt as adapt
from wanamaker.families.bayesian_mmm.hmc_adapt import Length, Mass, StepSize

ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]

# An energy that rose by more than this has left the level set (as in Stan).
DIVERGENCE = 1000.0
_GROUPS = {"step": StepSize, "length": Length, "mass": Mass}
# Substreams of an iteration's random numbers.
_VELOCITIES, _UNIFORMS, _SEARCH = range(3)
# Doublings or halvings from the first guess of the step size before the search gives up.
_SEARCH_TRIALS = 40


@dataclass(frozen=True)
class HMCOptions:
    """What the recipe says under `model.inference`.

    Args:
        chains: over all ranks, at least 2.
        warmup: iterations that adapt and are thrown away, at least 10; 60 suffice for 64 chains from a good guide.
        draws: iterations that count, per chain.
        target_accept: harmonic mean of the chains' acceptance probabilities. The usual, arithmetic mean comes out
            near 0.9 on well-behaved posteriors and higher on awkward ones.
        max_leapfrogs: gradients per iteration at most.
        step_jitter: each iteration's step size is drawn uniformly within this share of the adapted one.
        length_jitter: the same of the trajectory length; 1 draws it between 0 and twice the adapted mean.

    Raises:
        UserError: a value outside its range.
    """

    chains: int
    warmup: int
    draws: int
    target_accept: float = 0.8
    max_leapfrogs: int = 256
    step_jitter: float = 0.1
    length_jitter: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("chains", 2), ("warmup", 10), ("draws", 1), ("max_leapfrogs", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"model.inference.{name}={value!r}: give a whole number of at least {least}.")
        for name, low, high in (("target_accept", 0.5, 0.99), ("step_jitter", 0.0, 0.5), ("length_jitter", 0.0, 1.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise UserError(f"model.inference.{name}={value!r}: give a number between {low} and {high}.")

    @property
    def iterations(self) -> int:
        """Warm-up and draws together."""
        return self.warmup + self.draws


@dataclass(frozen=True)
class HMCState:
    """Everything the next iteration needs, and what the last one did. Tensors only; none is changed in place."""

    iteration: Tensor  # int64 [], transitions made
    location: Tensor  # [D]
    scale_tril: Tensor  # [D, D]
    position: Tensor  # [N, D]
    log_density: Tensor  # float64 [N]; -inf for a chain that started where the density is not finite
    gradient: Tensor  # [N, D] of the log density
    step: StepSize
    length: Length
    mass: Mass
    acceptance: Tensor  # float64 [N], probability with which the last proposal was accepted
    diverging: Tensor  # bool [N]
    energy: Tensor  # float64 [N], of the point the last iteration ended at
    leapfrogs: Tensor  # int64 [], of the last iteration

    def to_dict(self) -> dict[str, Tensor]:
        """Flat, with names that suit a module's buffers."""
        flat = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _GROUPS:
                flat |= {f"{field.name}_{name}": tensor for name, tensor in value._asdict().items()}
            else:
                flat[field.name] = value
        return flat

    @classmethod
    def from_dict(cls, flat: Mapping[str, Tensor]) -> HMCState:
        """From what `to_dict` gave; the tensors are copied. Other entries are ignored, a missing one is a KeyError."""
        values = {}
        for field in fields(cls):
            if group := _GROUPS.get(field.name):
                values[field.name] = group(*(flat[f"{field.name}_{name}"].clone() for name in group._fields))
            else:
                values[field.name] = flat[field.name].clone()
        return cls(**values)


class _Point(NamedTuple):
    """Where the chains are in phase space, without the velocity."""

    position: Tensor  # [N, D]
    log_density: Tensor  # float64 [N]
    gradient: Tensor  # [N, D]


class _Proposal(NamedTuple):
    """Where a trajectory ended."""

    point: _Point
    velocity: Tensor  # [N, D] in coordinates in which the mass is one
    energy_start: Tensor  # float64 [N]
    energy: Tensor  # float64 [N]
    log_ratio: Tensor  # float64 [N], logarithm of the acceptance ratio; -inf where diverging
    diverging: Tensor  # bool [N]


def _same(total: Tensor) -> Tensor:
    return total


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` for the chosen [N] chains, of `old` for the others: [N] or [N, D]."""
    return torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, old)


def _energy(log_density: Tensor, velocity: Tensor) -> Tensor:
    """Potential and kinetic energy: float64 [N]."""
    return 0.5 * velocity.double().square().sum(-1) - log_density


def _evaluate(value_and_grad: ValueAndGrad, position: Tensor) -> tuple[Tensor, Tensor]:
    """Log density float64 [N], -inf where it or its gradient is not finite; gradient [N, D], 0 there."""
    with torch.enable_grad():  # the density may be differentiated by autograd
        value, gradient = (tensor.detach() for tensor in value_and_grad(position))
    finite = value.isfinite() & gradient.isfinite().all(-1)
    gradient = _where(finite, gradient.to(position), torch.zeros_like(position))
    return torch.where(finite, value.double(), -math.inf), gradient


def _acceptance(proposal: _Proposal) -> Tensor:
    """Probability of accepting: float64 [N]."""
    return proposal.log_ratio.clamp(max=0).exp()


class BatchedHMC:
    """The sampler of this rank's chains.

    Each rank owns a block of chains whose sizes differ by at most one (`rows`). While warming up every iteration calls
    `reduce` twice (the first more often, for the first step size), afterwards never; all ranks call the density
    equally often. Where the ranks share out the data instead of the chains, each runs a sampler of all chains with
    `world_size` 1 and a density that is summed over the ranks.

    Args:
        options: see `HMCOptions`.
        dim: D.
        seed: not negative; together with the iteration it decides every random number.
        rank, world_size: of this process.
        reduce: sums a float64 vector over the ranks; must give the same bits on each. Required for several ranks.

    Raises:
        UserError: fewer chains than ranks.
    """

    def __init__(
        self,
        options: HMCOptions,
        dim: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if options.chains < world_size:
            raise UserError(
                f"model.inference.chains={options.chains}: {world_size} processes need at least a chain each; "
                f"raise it to {world_size} or use fewer devices."
            )
        if world_size > 1 and reduce is None:
            raise ValueError(f"world_size={world_size} needs a `reduce` that sums over the ranks")
        if seed < 0 or not 0 <= rank < world_size:
            raise ValueError(f"seed={seed}, rank={rank}, world_size={world_size}")
        self.options, self.dim, self.seed = options, dim, seed
        first = [options.chains * r // world_size for r in (rank, rank + 1)]
        self.rows = slice(*first)  # the chains of this rank among all
        self.num_local = first[1] - first[0]
        self._reduce = reduce or _same
        self._schedule = adapt.schedule(options.warmup)

    def start(self, position: Tensor, location: Tensor, scale_tril: Tensor) -> HMCState:
        """State before the first iteration.

        Args:
            position: [N, D] of this rank's chains (`rows`); draws from the guide are good. Its type and device are
                the sampler's.
            location: [D] of the guide.
            scale_tril: [D, D] lower triangular factor of the guide's covariance; the identity whitens nothing.

        Raises:
            UserError: a starting point or the guide is not finite.
        """
        dtype, device = position.dtype, position.device
        location, scale_tril = location.to(device, dtype), scale_tril.to(device, dtype)
        for name, tensor, shape in (
            ("position", position, (self.num_local, self.dim)),
            ("location", location, (self.dim,)),
            ("scale_tril", scale_tril, (self.dim, self.dim)),
        ):
            if tensor.shape != shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {shape}")
            if not tensor.isfinite().all():
                raise UserError(
                    f"model.inference: the sampler would start with a {name} that is not finite; the guide it starts "
                    "from has not converged: lower model.optimizer.lr or train it longer."
                )
        if (scale_tril.diagonal() <= 0).any() or scale_tril.triu(1).any():
            raise ValueError("scale_tril is not lower triangular with a positive diagonal")
        scalar = torch.zeros((), dtype=torch.int64, device=device)
        chain = torch.zeros(self.num_local, dtype=torch.float64, device=device)
        return HMCState(
            iteration=scalar,
            location=location.detach().clone(),
            scale_tril=scale_tril.detach().clone(),
            position=position.detach().clone(),
            log_density=chain,
            gradient=torch.zeros_like(position),
            step=adapt.start_step(torch.tensor(-0.25 * math.log(self.dim), dtype=torch.float64, device=device)),
            length=adapt.start_length(device),
            mass=adapt.start_mass(self.dim, device),
            acceptance=chain.clone(),
            diverging=torch.zeros_like(chain, dtype=torch.bool),
            energy=chain.clone(),
            leapfrogs=scalar.clone(),
        )

    @torch.no_grad()
    def step(self, state: HMCState, value_and_grad: ValueAndGrad) -> HMCState:
        """One transition of all local chains, which adapts while `state.iteration` is below the warm-up.

        A proposal whose density or gradient is not finite anywhere on its way, or whose energy rises by more than
        1000, is rejected and flagged as diverging; the density is never asked about a position that is not finite.

        Args:
            state: of the last iteration, or of `start`.
            value_and_grad: log density [N] and its gradient [N, D] at positions [N, D].

        Raises:
            UserError: at the first iteration, if the density is finite at no starting point, or no step size moves
                the chains; later, if the state was saved with other numbers of chains or ranks.
        """
        if state.position.shape != (self.num_local, self.dim):
            raise UserError(
                f"model.inference.chains={self.options.chains}: this process has {self.num_local} chains of "
                f"{self.dim} parameters, the saved state {tuple(state.position.shape)}; continue with the chains, "
                "processes and model it was saved with, or start anew."
            )
        iteration, options = int(state.iteration), self.options
        if iteration == 0:
            state = self._first(state, value_and_grad)
        adapting = iteration < options.warmup
        velocity = self._velocities(iteration, _VELOCITIES, state.position)
        random = self._generator(iteration, _UNIFORMS)
        size = math.exp(state.step.log if adapting else state.step.log_average)
        size *= 1 + options.step_jitter * (2 * random.random() - 1)
        uniform = torch.from_numpy(random.random(options.chains)[self.rows]).to(state.position.device)
        length = math.exp(state.length.log if iteration in self._schedule.length else state.length.log_average)
        length *= 1 + options.length_jitter * (2 * adapt.radical_inverse(iteration + 1) - 1)
        count = min(max(math.ceil(length / size), 1), options.max_leapfrogs)

        start = _Point(state.position, state.log_density, state.gradient)
        proposal = self._trajectory(start, velocity, state, size, count, value_and_grad)
        accepted = uniform.log() < proposal.log_ratio
        end = _Point(*(_where(accepted, new, old) for new, old in zip(proposal.point, start, strict=True)))
        after = replace(
            state,
            iteration=state.iteration + 1,
            **end._asdict(),
            acceptance=_acceptance(proposal),
            diverging=proposal.diverging,
            energy=torch.where(accepted, proposal.energy, proposal.energy_start),
            leapfrogs=torch.full_like(state.leapfrogs, count),
        )
        return self._adapted(state, after, proposal, size * count) if adapting else after

    def _generator(self, iteration: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, iteration, stream])))

    def _velocities(self, iteration: int, stream: int, like: Tensor) -> Tensor:
        """Standard normal [N, D]: this rank's rows of what is drawn for all chains."""
        drawn = self._generator(iteration, stream).standard_normal((self.options.chains, self.dim))
        return torch.from_numpy(drawn[self.rows]).to(like)

    def _first(self, state: HMCState, value_and_grad: ValueAndGrad) -> HMCState:
        """Evaluate the starting points; double or halve the step size until the acceptance of one step crosses a half.

        The plain mean, so that a few chains that start in the wilderness do not decide: only the order matters here.
        """
        value, gradient = _evaluate(value_and_grad, state.position)
        point, valid = _Point(state.position, value, gradient), value.isfinite()
        velocity = self._velocities(0, _SEARCH, state.position)
        log, direction = state.step.log, 0
        for _ in range(_SEARCH_TRIALS):
            proposal = self._trajectory(point, velocity, state, math.exp(log), 1, value_and_grad)
            total, number = self._reduce(torch.stack([(_acceptance(proposal) * valid).sum(), valid.sum().double()]))
            if number == 0:
                raise UserError(
                    f"model.inference: the posterior density is finite at none of the {self.options.chains} starting "
                    "points; look for missing or extreme values in the data and for priors far from them."
                )
            good = bool(total > 0.5 * number)
            if direction and good != (direction > 0):
                log = log if good else log - math.log(2)
                break
            direction = 1 if good else -1
            log = log + direction * math.log(2)
        else:
            raise UserError(
                f"model.inference: no step size between 2^-{_SEARCH_TRIALS} and 2^{_SEARCH_TRIALS} has half of the "
                "chains accept; the density is flat, at odds with its gradient, or too coarse in float32: look at the "
                "scales of the data."
            )
        return replace(state, log_density=value, gradient=gradient, step=adapt.start_step(log))

    def _trajectory(
        self, start: _Point, velocity: Tensor, state: HMCState, size: float, count: int, value_and_grad: ValueAndGrad
    ) -> _Proposal:
        """`count` leapfrog steps of one size.

        A chain that diverges stays at its start for the rest. The energy is held against both ends, so that a
        trajectory is refused if and only if its reverse is.
        """
        basis = state.scale_tril * state.mass.inverse.sqrt().to(state.scale_tril)  # [D, D], position per velocity
        point, first_velocity = start, velocity
        energy_start = energy = _energy(start.log_density, velocity)
        peak = torch.full_like(energy, -math.inf)
        dead = torch.zeros_like(energy, dtype=torch.bool)
        for _ in range(count):
            velocity = velocity + 0.5 * size * (point.gradient @ basis)
            position = point.position + size * (velocity @ basis.mT)
            dead = dead | ~position.isfinite().all(-1)
            position = _where(dead, start.position, position)
            value, gradient = _evaluate(value_and_grad, position)
            velocity = velocity + 0.5 * size * (gradient @ basis)
            energy = _energy(value, velocity)
            dead = dead | ~energy.isfinite() | (energy - energy_start > DIVERGENCE)
            peak = torch.maximum(peak, energy)
            point = _Point(
                *(_where(dead, old, new) for old, new in zip(start, (position, value, gradient), strict=True))
            )
            velocity = _where(dead, first_velocity, velocity)
        dead = dead | (peak - energy > DIVERGENCE)
        log_ratio = torch.where(dead, -math.inf, energy_start - energy)
        return _Proposal(point, velocity, energy_start, energy, log_ratio, dead)

    def _adapted(self, before: HMCState, after: HMCState, proposal: _Proposal, time: float) -> HMCState:
        """The state after a warm-up transition, with what all chains of all ranks taught."""
        iteration, dim, mass = int(before.iteration), self.dim, before.mass
        was_valid, valid = before.log_density.isfinite(), after.log_density.isfinite()
        white = self._whitened(after, torch.cat([before.position, proposal.point.position, after.position]))
        old, new, kept = white.chunk(3)  # [N, D] each
        inverse = (adapt.inverse_acceptance(after.acceptance) * was_valid).sum()
        counts = torch.stack([inverse, was_valid.sum().double(), valid.sum().double()])
        sums = self._reduce(torch.cat([counts, (kept * valid[:, None]).sum(0)]))
        sum_inverse, num_was_valid, num_valid = sums[:3]
        rate = adapt.moment_rate(iteration)
        centre = mass.centre + rate * (sums[3:] / num_valid - mass.centre)

        scale = mass.inverse.sqrt()
        weight = after.acceptance * was_valid
        gradient = adapt.chees_gradient(
            (old - centre) / scale, (new - centre) / scale, proposal.velocity.double(), time
        )
        weighted = torch.where(weight > 0, weight * gradient, 0.0).sum()
        squares = ((kept - centre).square() * valid[:, None]).sum(0)
        sums = self._reduce(torch.cat([squares, torch.stack([weighted, weight.sum()])]))
        mass = Mass(mass.inverse, centre, mass.variance + rate * (sums[:dim] / num_valid - mass.variance))

        step = adapt.update_step(before.step, num_was_valid / sum_inverse, self.options.target_accept)
        length = before.length
        if iteration in self._schedule.length and sums[-1] > 0:
            longest = step.log + math.log(self.options.max_leapfrogs)
            length = adapt.update_length(length, sums[-2] / sums[-1], step.log, longest)
        if iteration in self._schedule.mass:
            mass = adapt.update_mass(mass, iteration, self.options.chains)
            length = adapt.restart_length(length, before.mass, mass)
            step = adapt.start_step(step.log_average)
        return replace(after, step=step, length=length, mass=mass)

    def _whitened(self, state: HMCState, position: Tensor) -> Tensor:
        """w of position = location + scale_tril @ w: float64 [N, D]."""
        shift = (position - state.location).double()
        return torch.linalg.solve_triangular(state.scale_tril.double(), shift.mT, upper=False).mT
