"""Packed perceptrons: each is what a module of its own would be, and none sees another."""

import pytest
import torch
from torch import nn

from wanamaker.nn.packed import PackedMLP
from wanamaker.nn.row_hash import dropped, remainder, stream, uniform


def made(**options) -> PackedMLP:
    torch.manual_seed(3)
    return PackedMLP(3, 4, 2, hidden=(8, 6), **options)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_equals_a_loop_over_modules(layer_norm: bool):
    packed = made(layer_norm=layer_norm)
    x = torch.randn(5, 4)
    out = packed(x)
    assert out.shape == (3, 5, 2)
    for m in range(3):
        layers: list[nn.Module] = []
        for k, (weight, bias) in enumerate(zip(packed.weights, packed.biases, strict=True)):
            linear = nn.Linear(weight.shape[1], weight.shape[2])
            linear.weight.data, linear.bias.data = weight[m].T.clone(), bias[m, 0].clone()
            layers.append(linear)
            if k < 2:
                layers += [nn.LayerNorm(weight.shape[2])] if layer_norm else []
                layers.append(nn.SiLU())
        torch.testing.assert_close(out[m], nn.Sequential(*layers)(x))
    torch.testing.assert_close(packed(x.expand(3, -1, -1)), out)
    assert (out[0] != out[1]).all()  # another start for each


def test_members_share_no_gradient():
    packed = made(layer_norm=True)
    packed(torch.randn(5, 4))[1].square().sum().backward()
    for name, parameter in packed.named_parameters():
        assert (parameter.grad[[0, 2]] == 0).all(), name
        assert (parameter.grad[1] != 0).any(), name


def test_zero_output_learns_from_the_first_step():
    packed = made(zero_output=True)
    out = packed(torch.randn(5, 4))
    assert (out == 0).all()
    (out - 1).square().sum().backward()
    assert (packed.weights[-1].grad != 0).any()


def test_dropout_is_decided_by_the_row():
    packed = made(dropout=0.5).train()
    x, seeds = torch.randn(64, 4), torch.arange(64) * 977
    whole = packed(x, seeds)
    order = torch.randperm(64)
    torch.testing.assert_close(packed(x[order], seeds[order]), whole[:, order])
    torch.testing.assert_close(torch.cat([packed(x[:10], seeds[:10]), packed(x[10:], seeds[10:])], 1), whole)
    assert (packed(x, seeds + 1) != whole).any()
    torch.testing.assert_close(packed.eval()(x), packed(x, seeds))
    with pytest.raises(ValueError, match="one int64 seed per row"):
        packed.train()(x)


def test_dropout_drops_its_share_independently():
    values = torch.ones(4, 20_000, 6)
    kept = dropped(values, torch.arange(20_000), 0.25, layer=1)
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    share = (kept == 0).float().mean(1)  # [4, 6]
    assert (share - 0.25).abs().max() < 0.015
    flat = (kept == 0).float().permute(0, 2, 1).reshape(24, -1)
    correlation = torch.corrcoef(flat) - torch.eye(24)
    assert correlation.abs().max() < 0.04
    assert (dropped(values, torch.arange(20_000), 0.25, layer=2) != kept).any()


def test_hashes_are_uniform_and_stay_what_they_are():
    hashes = stream(torch.arange(100_000), 5)
    assert hashes[:2].tolist() == stream(torch.arange(2), 5).tolist()
    drawn = uniform(hashes)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(float(drawn.mean()) - 0.5) < 0.005
    counts = torch.bincount(remainder(hashes, 7), minlength=7)
    assert (counts - 100_000 / 7).abs().max() < 500


@pytest.mark.parametrize("options", [{"members": 0}, {"hidden": (0,)}, {"dropout": 1.0}])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(ValueError, match="PackedMLP"):
        PackedMLP(**{"members": 1, "inputs": 2, "outputs": 1} | options)
