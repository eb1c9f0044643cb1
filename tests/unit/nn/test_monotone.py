"""Monotone nets: rising everywhere whatever their weights, alive at the start, able to take any rising shape."""

import pytest
import torch

from wanamaker.nn import net_bank
from wanamaker.nn.monotone import MIN_SLOPE, MonotoneNets

GRID = torch.linspace(-12, 12, 4801, dtype=torch.float64)  # data lie in [-2.5, 2.5]


def on_grid(nets: MonotoneNets, grid: torch.Tensor = GRID) -> torch.Tensor:
    return nets(grid.unsqueeze(1).expand(-1, nets.features))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_rises_everywhere_for_random_weights(scale: float) -> None:
    nets = MonotoneNets(4, 5).double()
    with torch.no_grad():
        for parameter in nets.parameters():
            parameter.normal_(0.0, scale)
    steps = on_grid(nets).diff(dim=1)
    assert (steps > 0.9 * MIN_SLOPE * (GRID[1] - GRID[0])).all()


def test_rises_everywhere_after_many_random_optimiser_steps() -> None:
    nets = MonotoneNets(2, 3).double()
    optimizer = torch.optim.Adam(nets.parameters(), lr=0.05)
    for _ in range(300):  # targets that fall, and noise: nothing that helps
        x = torch.randn(32, 3, dtype=torch.float64)
        loss = (nets(x) + 5 * x + torch.randn(2, 32, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (on_grid(nets).diff(dim=1) > 0.9 * MIN_SLOPE * (GRID[1] - GRID[0])).all()
    assert all(parameter.isfinite().all() for parameter in nets.parameters())


def test_rises_in_float32_too() -> None:
    nets = MonotoneNets(8, 4)
    assert (on_grid(nets, torch.linspace(-12, 12, 1201)).diff(dim=1) > 0).all()


def test_the_derivative_is_positive_and_has_a_derivative() -> None:
    nets = MonotoneNets(3, 2).double()
    x = GRID[::10].unsqueeze(1).expand(-1, 2).clone().requires_grad_()
    (slope,) = torch.autograd.grad(nets(x).sum(), x, create_graph=True)
    assert (slope > 3 * MIN_SLOPE).all()
    slope.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in nets.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, 333])
def test_exactly_zero_at_zero_with_the_gradient_of_the_curve(dtype: torch.dtype, rows: int) -> None:
    nets = MonotoneNets(5, 3).to(dtype)
    with torch.no_grad():
        for parameter in nets.parameters():
            parameter.normal_()
    x = torch.randn(rows, 3, dtype=dtype)
    x[rows // 2] = 0.0
    x.requires_grad_()
    y = nets(x)
    assert (y[:, rows // 2] == 0).all()
    (slope,) = torch.autograd.grad(y[:, rows // 2].sum(), x)
    near = nets(torch.full((1, 3), 1e-3, dtype=dtype)) - nets(torch.full((1, 3), -1e-3, dtype=dtype))
    torch.testing.assert_close(slope[rows // 2], near.sum(dim=(0, 1)) / 2e-3, rtol=2e-2, atol=1e-3)


def test_every_parameter_has_a_gradient_at_the_start() -> None:
    nets = MonotoneNets(4, 3)
    x = torch.randn(64, 3)
    (nets(x) - torch.randn(4, 64, 3)).square().sum().backward()
    for name, parameter in nets.named_parameters():
        assert (parameter.grad != 0).all(), name


def test_starts_with_slope_one_and_variety() -> None:
    nets = MonotoneNets(16, 3)
    ends = on_grid(nets, torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(ends.diff(dim=1) / 4, torch.ones(16, 1, 3))
    middle = on_grid(nets, torch.tensor([1.0]))
    assert middle.std(dim=0).min() > 0.01
    again = MonotoneNets(16, 3)
    assert not torch.equal(again.weights[0], nets.weights[0])
    torch.manual_seed(0)
    torch.testing.assert_close(MonotoneNets(16, 3).weights[0], nets.weights[0], rtol=0, atol=0)


def shapes(x: torch.Tensor) -> torch.Tensor:
    """S-shaped, concave, convex, and two steps: rising curves, [B, 4]."""
    curves = (
        lambda u: 3 * torch.sigmoid(3 * (u - 0.5)),
        lambda u: 2 * torch.log(u + 3),
        lambda u: torch.exp(u) / 3,
        lambda u: torch.tanh(4 * (u + 1)) + torch.tanh(4 * (u - 1)),
    )
    zero = torch.zeros(1)
    return torch.stack([curve(x) - curve(zero) for curve in curves], dim=1)


def test_fits_an_s_a_concave_a_convex_and_a_stepped_curve() -> None:
    nets = MonotoneNets(1, 4)
    x = torch.linspace(-2.5, 2.5, 101)
    target = shapes(x)
    optimizer = torch.optim.Adam(nets.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
    for _ in range(1200):
        loss = (on_grid(nets, x)[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    error = (on_grid(nets, x)[0] - target).abs().amax(dim=0) / (target.amax(dim=0) - target.amin(dim=0))
    assert (error < 0.03).all(), error
    assert (on_grid(nets.double()).diff(dim=1) > 0).all()


@pytest.mark.parametrize("hidden", [(3,), (7, 5), (8, 6, 4)])
def test_one_batched_computation_is_the_formula_of_the_paper(
    hidden: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over nets with the three activations written out, forward and backward, in both code paths."""
    elu = torch.nn.functional.elu
    nets = MonotoneNets(2, 3, hidden).double()

    def one(n: int, x: torch.Tensor) -> torch.Tensor:
        values = x.unsqueeze(1) * nets.weights[0][n, :, 0].abs() + nets.biases[0][n, :, 0]
        for layer in range(1, len(nets.weights)):
            third = values.shape[1] // 3
            convex, concave, bounded = values.split([values.shape[1] - 2 * third, third, third], dim=1)
            below, above = elu(bounded + 1) - 1, 1 - elu(1 - bounded)
            values = torch.cat([elu(convex), -elu(-concave), torch.where(bounded < 0, below, above)], dim=1)
            values = values @ nets.weights[layer][n].abs().T
            if layer < len(hidden):
                values = values + nets.biases[layer][n, :, 0]
        return values[:, 0] + (torch.nn.functional.softplus(nets.slope[n]) + MIN_SLOPE) * x

    x = 3 * torch.randn(50, 3, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    expected = torch.stack([one(n, x[:, n % 3]) - one(n, zero) for n in range(6)]).reshape(2, 3, 50).transpose(1, 2)
    for small in (0, 10**9):
        monkeypatch.setattr(net_bank, "SMALL_MIXED_FLOATS", small)
        inputs = x.clone().requires_grad_()
        found = nets(inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        weight = torch.randn_like(found)
        found_grads = torch.autograd.grad((found * weight).sum(), [*nets.parameters()])
        expected_grads = torch.autograd.grad((expected * weight).sum(), [*nets.parameters()], retain_graph=True)
        for ours, theirs in zip(found_grads, expected_grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [40, 2000])
def test_autocast_leaves_curves_smooth(rows: int) -> None:
    nets = MonotoneNets(2, 3)
    grid = torch.linspace(-3, 3, rows)
    expected = on_grid(nets, grid)
    with torch.autocast("cpu", torch.bfloat16):
        found = on_grid(nets, grid)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    found.sum().backward()


def test_no_feature_is_fine_and_mistakes_are_named() -> None:
    assert MonotoneNets(2, 0)(torch.zeros(5, 0)).shape == (2, 5, 0)
    assert MonotoneNets(2, 3)(torch.zeros(0, 3)).shape == (2, 0, 3)
    with pytest.raises(ValueError, match="at least 3 units"):
        MonotoneNets(1, 1, (2,))
    with pytest.raises(ValueError, match=r"expected \[B, 3\]"):
        MonotoneNets(1, 3)(torch.zeros(5, 4))
    nets = MonotoneNets(2, 3)
    other = MonotoneNets(2, 3)
    other.load_state_dict(nets.state_dict())
    x = torch.randn(4, 3)
    torch.testing.assert_close(other(x), nets(x), rtol=0, atol=0)
