"""The sampler against distributions whose moments are known, and its promises about ranks, resuming and bad densities.

Axis letters: N chains, D parameters.
"""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import arviz as az
import numpy as np
import pytest
import torch
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm import hmc_adapt
from wanamaker.families.bayesian_mmm.hmc import BatchedHMC, HMCOptions, HMCState

D = 20


def gaussian(dim: int = D, condition: float = 1e3, mean: float = 3.0):
    """Log density and gradient of a correlated normal, its covariance and the lower factor of that."""
    rotation, _ = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)).double())
    scales = torch.logspace(0, math.log10(condition), dim, dtype=torch.float64)
    covariance = rotation * scales @ rotation.mT
    precision = rotation / scales @ rotation.mT

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        force = (mean - x) @ precision.to(x)
        return 0.5 * ((x - mean) * force).sum(-1), force

    return value_and_grad, covariance, torch.linalg.cholesky(covariance)


def by_autograd(log_density):
    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        value = log_density(x)
        return value, torch.autograd.grad(value.sum(), x)[0]

    return value_and_grad


def banana(x: Tensor) -> Tensor:
    return -0.5 * x[:, 0] ** 2 - 0.5 * ((x[:, 1] - 0.5 * (x[:, 0] ** 2 - 1)) / 0.5) ** 2 - 0.5 * x[:, 2] ** 2


def funnel(x: Tensor) -> Tensor:
    return -0.5 * x[:, 0] ** 2 - 0.5 * (x[:, 1:] ** 2).sum(-1) * torch.exp(-x[:, 0]) - 2.0 * x[:, 0]


def begin(sampler: BatchedHMC, scale_tril: Tensor | None = None, spread: float = 1.0) -> HMCState:
    """Start this rank's chains at draws from the guide."""
    scale_tril = torch.eye(sampler.dim, dtype=torch.float64) if scale_tril is None else scale_tril
    normal = torch.randn(sampler.options.chains, sampler.dim, generator=torch.Generator().manual_seed(1)).double()
    return sampler.start(spread * (normal @ scale_tril.mT)[sampler.rows], torch.zeros(sampler.dim), scale_tril)


def run(sampler: BatchedHMC, state: HMCState, value_and_grad, iterations: int | None = None) -> list[HMCState]:
    """The states after each iteration."""
    states = []
    for _ in range(sampler.options.iterations if iterations is None else iterations):
        state = sampler.step(state, value_and_grad)
        states.append(state)
    return states


def draws_of(sampler: BatchedHMC, states: list[HMCState]) -> np.ndarray:
    """Positions after the warm-up: [chain, draw, D]."""
    return torch.stack([state.position for state in states[sampler.options.warmup :]], 1).numpy()


def assert_mean(draws: np.ndarray, truth: np.ndarray | float) -> None:
    """Within 4.5 Monte-Carlo standard errors, each of [chain, draw, *]."""
    error = az.mcse(az.convert_to_dataset({"x": draws})).x.to_numpy()
    assert np.abs((draws.mean((0, 1)) - truth) / error).max() < 4.5


def assert_same(first: HMCState, second: HMCState) -> None:
    """Bit-equal in every tensor."""
    pairs = zip(first.to_dict().items(), second.to_dict().items(), strict=True)
    assert all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize(
    ("whitening", "chains", "warmup", "draws"),
    [("exact", 16, 100, 500), ("identity", 16, 150, 400), ("wrong", 16, 150, 400), ("exact", 4, 300, 1500)],
)
def test_correlated_gaussian(whitening: str, chains: int, warmup: int, draws: int) -> None:
    value_and_grad, covariance, exact = gaussian()
    noise = torch.randn(D, D, generator=torch.Generator().manual_seed(2)).double()
    factors = {
        "exact": exact,
        "identity": torch.eye(D).double(),
        "wrong": exact * noise[0].exp() + (0.3 * noise).tril(-1),
    }
    sampler = BatchedHMC(HMCOptions(chains, warmup, draws), D, seed=4)
    states = run(sampler, begin(sampler, factors[whitening]), value_and_grad)
    found = draws_of(sampler, states)
    assert_mean(found, 3.0)
    assert_mean((found - 3.0) ** 2, covariance.diagonal().numpy())
    assert float(az.rhat(az.convert_to_dataset({"x": found})).x.max()) < 1.01
    assert not any(state.diverging.any() for state in states[warmup:])
    assert 0.75 < np.mean([float(state.acceptance.mean()) for state in states[warmup:]]) < 0.97


@pytest.mark.parametrize(
    ("density", "dim", "squares"),
    [(banana, 3, (1.0, 0.75, 1.0)), (funnel, 5, (1.0, *[math.exp(0.5)] * 4))],
    ids=["banana", "funnel"],
)
def test_bent_targets(density, dim: int, squares: tuple[float, ...]) -> None:
    sampler = BatchedHMC(HMCOptions(chains=32, warmup=150, draws=250, target_accept=0.9), dim, seed=5)
    states = run(sampler, begin(sampler), by_autograd(density))
    found = draws_of(sampler, states)
    assert_mean(found, 0.0)
    assert_mean(found**2, np.array(squares))
    assert np.mean([state.diverging.double().mean() for state in states[150:]]) < 1e-3


class Meeting:
    """Sums what two threads bring, in the order of their ranks."""

    def __init__(self) -> None:
        self.barrier, self.brought = Barrier(2, timeout=60), [None, None]

    def of(self, rank: int):
        def reduce(tensor: Tensor) -> Tensor:
            self.brought[rank] = tensor
            self.barrier.wait()
            total = self.brought[0] + self.brought[1]
            self.barrier.wait()
            return total

        return reduce


def test_two_ranks_equal_one() -> None:
    value_and_grad, _, _ = gaussian(6, 30.0)
    options = HMCOptions(chains=7, warmup=30, draws=5)
    alone = BatchedHMC(options, 6, seed=6)
    straight = run(alone, begin(alone), value_and_grad)
    meeting = Meeting()

    def rank(number: int) -> list[HMCState]:
        sampler = BatchedHMC(options, 6, seed=6, rank=number, world_size=2, reduce=meeting.of(number))
        try:
            return run(sampler, begin(sampler), value_and_grad)
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(rank, range(2))
    assert [len(states[0].position) for states in (first, second)] == [3, 4]
    for one, left, right in zip(straight, first, second, strict=True):
        torch.testing.assert_close(torch.cat([left.position, right.position]), one.position, rtol=0, atol=1e-8)
        torch.testing.assert_close(torch.cat([left.acceptance, right.acceptance]), one.acceptance, rtol=0, atol=1e-8)
        assert left.leapfrogs == right.leapfrogs == one.leapfrogs
        for group in ("step", "length", "mass"):
            assert all(map(torch.equal, getattr(left, group), getattr(right, group)))


def test_resumes_bit_equal_from_any_iteration() -> None:
    value_and_grad, _, _ = gaussian(5, 10.0)
    options = HMCOptions(chains=4, warmup=25, draws=5)
    sampler = BatchedHMC(options, 5, seed=7)
    state = begin(sampler)
    for _ in range(options.iterations):
        file = io.BytesIO()
        torch.save(state.to_dict(), file)
        loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        state = sampler.step(state, value_and_grad)
        again = BatchedHMC(options, 5, seed=7).step(
            HMCState.from_dict(loaded | {"other": torch.ones(1)}), value_and_grad
        )
        assert_same(state, again)
    assert int(state.iteration) == options.iterations
    assert all(name.isidentifier() for name in state.to_dict())


def test_what_is_learnt_stays_after_the_warm_up() -> None:
    calls = []
    sampler = BatchedHMC(
        HMCOptions(chains=4, warmup=12, draws=6), 5, 8, reduce=lambda total: calls.append(len(total)) or total
    )
    value_and_grad, _, _ = gaussian(5, 10.0)
    warm = run(sampler, begin(sampler), value_and_grad, 12)
    during = len(calls)
    after = run(sampler, warm[-1], value_and_grad, 6)
    assert during > 24
    assert len(calls) == during
    for group in ("step", "length", "mass"):
        assert all(map(torch.equal, getattr(warm[-1], group), getattr(after[-1], group)))
        assert not all(map(torch.equal, getattr(warm[0], group), getattr(warm[-1], group)))


def behind_a_wall(x: Tensor) -> tuple[Tensor, Tensor]:
    """Standard normal that is not a number above 2 in the first parameter; refuses to be asked nonsense."""
    assert x.isfinite().all()
    return torch.where(x[:, 0] < 2, -0.5 * x.square().sum(-1), math.nan), torch.where(x[:, :1] < 2, -x, math.nan)


def test_a_density_that_is_not_finite_is_a_rejection() -> None:
    sampler = BatchedHMC(HMCOptions(chains=16, warmup=100, draws=400), 4, seed=9)
    states = run(sampler, begin(sampler, spread=0.5), behind_a_wall)
    assert not any(tensor.isnan().any() for state in states for tensor in state.to_dict().values())
    found = draws_of(sampler, states)
    assert found[..., 0].max() < 2
    density = math.exp(-2) / math.sqrt(2 * math.pi) / (0.5 + 0.5 * math.erf(math.sqrt(2)))
    assert_mean(found, np.array([-density, 0, 0, 0]))
    assert_mean(found**2, np.array([1 - 2 * density, 1, 1, 1]))
    assert sum(int(state.diverging.sum()) for state in states) > 0
    assert all(state.energy.isfinite().all() for state in states)


def test_state_holds_the_density_at_its_position() -> None:
    value_and_grad, _, _ = gaussian(5, 10.0)
    seen = []

    def watched(x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return value_and_grad(x)

    sampler = BatchedHMC(HMCOptions(chains=4, warmup=12, draws=3), 5, seed=15)
    for state in run(sampler, begin(sampler), watched):
        value, gradient = value_and_grad(state.position)
        torch.testing.assert_close(state.log_density, value)
        torch.testing.assert_close(state.gradient, gradient)
        assert (state.energy >= -state.log_density).all()
    # The first trajectory begins with the gradient at the start: a small step there conserves the energy.
    still = begin(sampler)
    small = BatchedHMC(replace(sampler.options, target_accept=0.99), 5, seed=15).step(still, value_and_grad)
    assert small.acceptance.min() > 0.9


def test_mass_follows_the_scales() -> None:
    scales = torch.tensor([0.1, 0.3, 1.0, 10.0, 100.0]).double()
    sampler = BatchedHMC(HMCOptions(chains=32, warmup=100, draws=20), 5, seed=16)
    states = run(sampler, begin(sampler), lambda x: (-0.5 * (x / scales).square().sum(-1), -x / scales**2))
    ratio = states[-1].mass.inverse / scales**2
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) < 2.0
    assert max(int(state.leapfrogs) for state in states[100:]) < 20


def test_positions_that_overflow_are_not_asked_about() -> None:
    def steep(x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.isfinite().all()
        return -0.5 * x.square().sum(-1), torch.where(x[:, :1] > 900, 1e308, -x)

    sampler = BatchedHMC(HMCOptions(chains=4, warmup=10, draws=2), 3, seed=17)
    state = begin(sampler, 100 * torch.eye(3).double(), spread=0.01)
    position = state.position.clone()
    position[0, 0] = 1000.0
    states = run(sampler, replace(state, position=position), steep)
    assert all(state.diverging[0] for state in states)
    assert not any(tensor.isnan().any() for state in states for tensor in state.to_dict().values())


def test_chains_that_start_outside_come_in() -> None:
    sampler = BatchedHMC(HMCOptions(chains=8, warmup=40, draws=10), 4, seed=10)
    state = begin(sampler, spread=0.5)
    position = state.position.clone()
    position[:2, 0] = 2.5
    states = run(sampler, replace(state, position=position), behind_a_wall)
    assert not any(tensor.isnan().any() for state in states for tensor in state.to_dict().values())
    assert states[-1].log_density.isfinite().all()
    with pytest.raises(UserError, match="finite at none of the 8 starting points"):
        sampler.step(replace(state, position=position + 5), behind_a_wall)


def test_leaving_the_level_set_diverges() -> None:
    value_and_grad, _, _ = gaussian(5, 10.0)
    sampler = BatchedHMC(HMCOptions(chains=4, warmup=10, draws=5), 5, seed=11)
    before = run(sampler, begin(sampler), value_and_grad, 10)[-1]
    wild = HMCState.from_dict(before.to_dict() | {"step_log_average": torch.tensor(6.0).double()})
    after = sampler.step(wild, value_and_grad)
    assert after.diverging.all()
    assert not after.acceptance.any()
    assert torch.equal(after.position, before.position)
    assert after.energy.isfinite().all()


def test_leapfrogs_are_bounded() -> None:
    value_and_grad, _, _ = gaussian()
    calls = []
    sampler = BatchedHMC(HMCOptions(chains=4, warmup=20, draws=10, max_leapfrogs=7), D, seed=12)
    states = run(sampler, begin(sampler), lambda x: calls.append(len(x)) or value_and_grad(x))
    taken = [int(state.leapfrogs) for state in states]
    assert max(taken) == 7
    assert min(taken) >= 1
    assert sum(taken) < len(calls) <= sum(taken) + 41
    assert set(calls) == {4}


def test_float32_stays_float32() -> None:
    value_and_grad, _, _ = gaussian(5, 10.0)
    sampler = BatchedHMC(HMCOptions(chains=8, warmup=30, draws=5), 5, seed=13)
    state = sampler.start(begin(sampler).position.float(), torch.zeros(5), torch.eye(5))
    state = run(sampler, state, value_and_grad)[-1]
    assert state.position.dtype == state.gradient.dtype == state.scale_tril.dtype == torch.float32
    assert state.log_density.dtype == state.mass.inverse.dtype == state.step.log.dtype == torch.float64


def test_gradient_of_the_criterion() -> None:
    """Against autograd, along the exact flow of a standard normal."""
    start, velocity = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3)).double()
    log_time = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    time = log_time.exp()
    end = start * time.cos() + velocity * time.sin()
    last = velocity * time.cos() - start * time.sin()
    change = end.square().sum(-1) - start.square().sum(-1)
    (expected,) = torch.autograd.grad(0.25 * change.square().sum(), log_time)
    found = hmc_adapt.chees_gradient(start, end.detach(), last.detach(), float(time.detach()))
    torch.testing.assert_close(found.sum(), expected)
    assert [hmc_adapt.radical_inverse(index) for index in range(1, 5)] == [0.5, 0.25, 0.75, 0.125]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chains", 1),
        ("chains", 4.0),
        ("warmup", 9),
        ("draws", 0),
        ("draws", True),
        ("max_leapfrogs", 0),
        ("target_accept", 1.0),
        ("target_accept", "high"),
        ("step_jitter", -0.1),
        ("length_jitter", math.nan),
    ],
)
def test_bad_options_are_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^model\.inference\.{key}={value!r}: give a (whole )?number (of|between) .*"):
        HMCOptions(**({"chains": 4, "warmup": 10, "draws": 5} | {key: value}))


def test_other_mistakes_are_told() -> None:
    options = HMCOptions(chains=3, warmup=10, draws=5)
    with pytest.raises(UserError, match=r"model\.inference\.chains=3: 4 processes need at least a chain each"):
        BatchedHMC(options, 2, 0, world_size=4, reduce=lambda total: total)
    with pytest.raises(ValueError, match="needs a `reduce`"):
        BatchedHMC(options, 2, 0, world_size=2)
    sampler = BatchedHMC(options, 2, 0)
    state = begin(sampler)
    with pytest.raises(UserError, match="with a scale_tril that is not finite"):
        sampler.start(state.position, torch.zeros(2), torch.eye(2) / 0)
    with pytest.raises(ValueError, match="lower triangular"):
        sampler.start(state.position, torch.zeros(2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="location is"):
        sampler.start(state.position, torch.zeros(3), torch.eye(2))
    with pytest.raises(UserError, match=r"has 5 chains of 2 parameters, the saved state \(3, 2\)"):
        BatchedHMC(replace(options, chains=5), 2, 0).step(state, banana)
    with pytest.raises(UserError, match=r"^model\.inference: no step size between"):
        sampler.step(state, lambda x: (torch.zeros(len(x)), torch.zeros_like(x)))
