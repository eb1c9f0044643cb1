"""Feature nets: equal to a plain loop over nets, forward and backward; dropout that no rank or batch can change."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from wanamaker.nn import net_bank
from wanamaker.nn.feature_nets import MODULES, FeatureNets


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def lively(nets: FeatureNets) -> FeatureNets:
    """Outputs of size 1 instead of nearly 0."""
    with torch.no_grad():
        nets.weights[-1].normal_(0, nets.hidden[-1] ** -0.5)
        nets.biases[-1].normal_()
    return nets


def paths(monkeypatch: pytest.MonkeyPatch):
    """Plain operations; chunks of two nets and ten rows; everything in one chunk."""
    for small, floats, rows in ((10**9, 1, 1), (0, 200, 10), (0, 10**9, 10**9)):
        monkeypatch.setattr(net_bank, "SMALL_FLOATS", small)
        monkeypatch.setattr(net_bank, "CHUNK_FLOATS", floats)
        monkeypatch.setattr(net_bank, "CHUNK_ROWS", rows)
        yield (small, floats, rows)


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("hidden", [(9,), (10, 6), (8, 7, 5)])
def test_equal_to_a_loop_over_nets(hidden: tuple[int, ...], activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    M, F, B = 2, 3, 33
    nets = lively(FeatureNets(M, F, hidden, activation=activation).double())
    loop = nets.unbatched()
    x = torch.randn(B, F, dtype=torch.float64)
    weight = torch.randn(M, B, F, dtype=torch.float64)
    inputs = x.clone().requires_grad_()
    columns = [net(inputs[:, [n % F]]) for n, net in enumerate(loop)]
    expected = torch.cat(columns, dim=1).reshape(B, M, F).transpose(0, 1)
    (expected * weight).sum().backward()
    for path in paths(monkeypatch):
        ours = x.clone().requires_grad_()
        nets.zero_grad()
        found = nets(ours)
        (found * weight).sum().backward()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.grad, inputs.grad, rtol=0, atol=1e-11)
        for n, net in enumerate(loop):
            linears = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
            for linear, w, b in zip(linears, nets.weights, nets.biases, strict=True):
                torch.testing.assert_close(w.grad[n], linear.weight.grad, rtol=0, atol=1e-10, msg=str(path))
                torch.testing.assert_close(b.grad[n, :, 0], linear.bias.grad, rtol=0, atol=1e-10)


def test_equal_to_a_loop_at_full_size_in_float32() -> None:
    nets = lively(FeatureNets(1, 12))
    x = torch.randn(4096, 12)
    assert x.numel() * 32 > net_bank.SMALL_FLOATS, "the chunked path"
    loop = nets.unbatched()
    expected = torch.cat([net(x[:, [n]]) for n, net in enumerate(loop)], dim=1)
    found = nets(x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    expected.square().mean().backward()
    found.square().mean().backward()
    for n, net in enumerate(loop):
        torch.testing.assert_close(nets.weights[1].grad[n], net[2].weight.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(nets(x)[0], found, rtol=0, atol=0)


def test_chunks_read_memory_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transposed input would cost a third of the speed, and nothing else would show it."""
    seen = []
    chunks = net_bank._chunks
    monkeypatch.setattr(net_bank, "SMALL_FLOATS", 0)
    monkeypatch.setattr(net_bank, "_chunks", lambda x, weights: seen.append(x.is_contiguous()) or chunks(x, weights))
    FeatureNets(1, 4)(torch.randn(50, 4)).sum().backward()
    assert seen == [True, True]


@pytest.mark.parametrize("activation", ["gelu", "silu", "tanh"])
def test_first_and_second_derivatives(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = lively(FeatureNets(2, 2, (4, 3), activation=activation).double())
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    parameters = list(nets.parameters())

    def out(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(nets, dict(zip(dict(nets.named_parameters()), values, strict=True)), (x,))

    for _ in paths(monkeypatch):
        assert gradcheck(out, (x, *parameters))
        assert gradgradcheck(out, (x, *parameters))


def test_autocast_and_half_precision_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = lively(FeatureNets(2, 3))
    x = torch.randn(50, 3).bfloat16()
    for _ in paths(monkeypatch):
        expected = nets(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = nets(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        found.sum().backward()


def test_parameters_that_are_frozen_get_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    nets = lively(FeatureNets(1, 3))
    for _ in paths(monkeypatch):
        nets.zero_grad()
        nets.weights[0].requires_grad_(False)
        x = torch.randn(7, 3, requires_grad=True)
        (slope,) = torch.autograd.grad(nets(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert nets.weights[0].grad is None
        assert nets.weights[1].grad.abs().sum() > 0


def test_exu_is_that_of_the_paper() -> None:
    nets = lively(FeatureNets(1, 2, (64, 8), first="exu", activation="relu").double())
    assert nets.weights[0].mean().item() == pytest.approx(4.0, abs=0.2)
    assert nets.weights[0].std().item() == pytest.approx(0.5, abs=0.1)
    x = torch.randn(40, 2, dtype=torch.float64)
    expected = []
    for f in range(2):
        w, b = nets.weights[0][f, :, 0], nets.biases[0][f, :, 0]
        hidden = ((x[:, [f]] - b) * w.exp()).clamp(0, 1)
        hidden = torch.relu(hidden @ nets.weights[1][f].T + nets.biases[1][f, :, 0])
        expected.append(hidden @ nets.weights[2][f].T + nets.biases[2][f, :, 0])
    torch.testing.assert_close(nets(x)[0], torch.cat(expected, dim=1))
    nets(x).square().sum().backward()
    assert nets.weights[0].grad.isfinite().all()
    assert nets.weights[0].grad.abs().sum() > 0


@pytest.mark.parametrize("activation", MODULES)
def test_starts_near_zero_and_alive(activation: str) -> None:
    nets = FeatureNets(4, 5, activation=activation)
    x = torch.randn(256, 5)
    out = nets(x)
    assert 0 < out.abs().max() < 0.2
    (out - torch.randn_like(out)).square().sum().backward()
    for name, parameter in nets.named_parameters():
        alive = (parameter.grad != 0).float().mean()
        assert alive > (0.5 if activation == "relu" else 0.999), name
    assert out.std(dim=0).min() > 0, "members differ"


def test_fits_a_jagged_function() -> None:
    x = torch.linspace(-2, 2, 200).unsqueeze(1)
    target = torch.sin(3 * x) + (x > 0.5)
    nets = FeatureNets(1, 1)
    optimizer = torch.optim.Adam(nets.parameters(), lr=0.02)
    for _ in range(400):
        loss = (nets(x)[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


def seeds(rows: int, epoch: int = 0) -> torch.Tensor:
    return torch.arange(rows) + 1_000_003 * epoch


def test_feature_dropout_drops_whole_features() -> None:
    nets = lively(FeatureNets(3, 4, feature_dropout=0.3))
    x = torch.randn(2000, 4)
    full = nets.eval()(x)
    dropped = nets.train()(x, seeds(2000))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], full[kept] / 0.7)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)
    share = kept.float().mean(dim=1)  # every member and feature for itself
    assert (share - 0.7).abs().max() < 0.06
    flat = kept.float().transpose(0, 1).reshape(2000, 12)
    correlation = torch.corrcoef(flat.T) - torch.eye(12)
    assert correlation.abs().max() < 0.1, "features and members fall independently"
    other = nets(x, seeds(2000, epoch=1)) != 0
    assert (other == kept).float().mean().item() == pytest.approx(0.58, abs=0.03), "another epoch, another draw"


def test_dropout_drops_units() -> None:
    nets = lively(FeatureNets(2, 3, (32,), dropout=0.25))
    x = torch.randn(4000, 3)
    full = nets.eval()(x)
    noisy = nets.train()(x, seeds(4000))
    assert (noisy != full).float().mean() > 0.99
    # What is kept is scaled up, so that the mean stays; exactly so for the last hidden layer.
    assert ((noisy - full).mean(dim=1).abs() < 4 * (noisy - full).std(dim=1) / 4000**0.5).all()
    torch.testing.assert_close(noisy, nets(x, seeds(4000)), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"feature_dropout": 0.4}, {"dropout": 0.4}])
def test_dropout_belongs_to_the_row_not_to_the_rank_or_batch(options: dict) -> None:
    nets = lively(FeatureNets(2, 3, **options).double())
    x, keys = torch.randn(31, 3, dtype=torch.float64), seeds(31)
    whole = nets(x, keys)
    order = torch.randperm(31)
    ranks = [order[:12], order[12:]]
    parts = torch.cat([nets(x[rows], keys[rows]) for rows in ranks], dim=1)
    torch.testing.assert_close(parts, whole[:, order], rtol=0, atol=1e-12)
    whole.square().mean().backward()
    alone = [p.grad.clone() for p in nets.parameters()]
    nets.zero_grad()
    torch.manual_seed(123)  # the global generator has no say
    for rows in ranks:
        (nets(x[rows], keys[rows]).square().sum() / whole.numel()).backward()
    for one, two in zip(alone, nets.parameters(), strict=True):
        torch.testing.assert_close(one, two.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("given", [None, torch.zeros(3, dtype=torch.int64), torch.zeros(5)])
def test_dropout_without_seeds_is_refused(given: torch.Tensor | None) -> None:
    nets = FeatureNets(1, 2, feature_dropout=0.1)
    with pytest.raises(ValueError, match="one int64 seed per row"):
        nets(torch.zeros(5, 2), given)
    nets.eval()(torch.zeros(5, 2))


def test_edges_and_mistakes() -> None:
    assert FeatureNets(2, 0)(torch.zeros(5, 0)).shape == (2, 5, 0)
    assert FeatureNets(2, 3)(torch.zeros(0, 3)).shape == (2, 0, 3)
    for options, message in (
        ({"members": 0}, "members=0"),
        ({"hidden": ()}, r"hidden=\(\)"),
        ({"first": "sine"}, "first='sine'"),
        ({"activation": "mixed"}, "activation='mixed'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"feature_dropout": -0.1}, "feature_dropout=-0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            FeatureNets(**({"members": 1, "features": 2} | options))
    with pytest.raises(ValueError, match=r"expected \[B, 3\]"):
        FeatureNets(1, 3)(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="only for first='plain'"):
        FeatureNets(1, 3, first="exu").unbatched()
