"""Many small perceptrons from one number to one number, evaluated as one computation.

`net_bank` is the computation behind `FeatureNets` and `MonotoneNets`; `ACTIVATIONS` names its functions.

Axis letters: N nets, B batch rows, U units of a layer.

Layout: rows are the last axis, so that a bias and a mask broadcast over contiguous memory, and a layer is
[N, U, before] @ [N, before, B].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

aten = torch.ops.aten

# Floats of the widest layer that a chunk works on: a handful of such buffers fit into a core's second-level cache.
# Chosen with scripts/benchmarks/feature_nets.py --tune; flat between half and twice this value.
CHUNK_FLOATS = 256 * 1024
# Rows of a chunk; matrix products lose speed below a thousand, and gain nothing beyond this.
CHUNK_ROWS = 4096
# Up to this size ordinary operations win: nothing leaves the cache, and chunks would only add calls.
SMALL_FLOATS = 1024 * 1024
# The same for "mixed" units, whose functions take many ordinary operations and few in place.
SMALL_MIXED_FLOATS = 16 * 1024


class Activation(NamedTuple):
    """A function with the in-place forms that keep a chunk in cache.

    Attributes:
        forward: of (z, out): writes f(z) into ``out``, which may be ``z``.
        backward: of (gradient, z): multiplies ``gradient`` by f'(z), in place.
        plain: f by differentiable operations.
    """

    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]


def _tanh_backward(gradient: Tensor, z: Tensor) -> Tensor:
    return aten.tanh_backward.grad_input(gradient, torch.tanh(z), grad_input=gradient)


def _mixed(z: Tensor) -> Tensor:
    """ELU on the first two thirds of the units, a bounded odd function on the rest.

    With rho = ELU and rho(1) = 1 the bounded one is rho(u + 1) - 1 below 0 and 1 - rho(1 - u) above, which is u where
    |u| <= 1 and sign(u) (2 - exp(1 - |u|)) beyond. exp(u) - 1 stands for expm1, which takes ten times as long here.
    """
    split = _num_elu(z)
    z, bounded = z[:, :split], z[:, split:]
    # Where, not clamp: its slope exactly at a seam would be 0.
    elu = torch.where(z < 0, z.clamp(max=0).exp() - 1.0, z)
    size = bounded.abs()
    beyond = bounded.sign() * (2.0 - (1.0 - size).clamp(max=0).exp())
    return torch.cat([elu, torch.where(size <= 1, bounded, beyond)], dim=1)


def _mixed_slope(z: Tensor) -> Tensor:
    split = _num_elu(z)
    slope = torch.empty_like(z)
    slope[:, :split] = z[:, :split]
    torch.abs(z[:, split:], out=slope[:, split:]).neg_().add_(1.0)
    return slope.clamp_(max=0).exp_()


def _mixed_forward(z: Tensor, out: Tensor) -> Tensor:
    split = _num_elu(z)
    slope = _mixed_slope(z)
    beyond = slope[:, split:].neg_().add_(1.0).copysign_(z[:, split:])
    torch.clamp(z[:, :split], min=0, out=out[:, :split]).add_(slope[:, :split].sub_(1.0))
    torch.clamp(z[:, split:], -1, 1, out=out[:, split:]).add_(beyond)
    return out


def _mixed_backward(gradient: Tensor, z: Tensor) -> Tensor:
    return gradient.mul_(_mixed_slope(z))


def _num_elu(z: Tensor) -> int:
    return z.shape[1] - z.shape[1] // 3


ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(
        lambda z, out: aten.gelu.out(z, out=out),
        lambda g, z: aten.gelu_backward.grad_input(g, z, grad_input=g),
        torch.nn.functional.gelu,
    ),
    "silu": Activation(
        lambda z, out: aten.silu.out(z, out=out),
        lambda g, z: aten.silu_backward.grad_input(g, z, grad_input=g),
        torch.nn.functional.silu,
    ),
    "relu": Activation(
        lambda z, out: torch.clamp(z, min=0, out=out),
        lambda g, z: aten.threshold_backward.grad_input(g, z, 0, grad_input=g),
        torch.relu,
    ),
    "tanh": Activation(lambda z, out: torch.tanh(z, out=out), _tanh_backward, torch.tanh),
    # ReLU-1 of the neural additive models: between 0 and 1.
    "relu1": Activation(
        lambda z, out: torch.clamp(z, 0, 1, out=out),
        lambda g, z: aten.hardtanh_backward.grad_input(g, z, 0, 1, grad_input=g),
        lambda z: torch.nn.functional.hardtanh(z, 0.0, 1.0),
    ),
    # Two thirds ELU, one third bounded, for `MonotoneNets`.
    "mixed": Activation(_mixed_forward, _mixed_backward, _mixed),
}

Mask = Callable[[int, Tensor], Tensor]


def net_bank(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activations: Sequence[str],
    mask: Mask | None = None,
) -> Tensor:
    """N perceptrons, net n applied to ``x[n]``.

    On a CPU the nets go through in chunks that stay in cache, forward and backward: one large product per layer would
    read and write main memory at every step and lose to a plain loop. Small problems, a GPU, a mask, and a second
    derivative take ordinary batched operations, with the same numbers. Autocast is off inside: the nets are too small
    for half precision to gain anything, and curves would get steps.

    Args:
        x: [N, B]; cast to the type of the weights.
        weights: K + 1 tensors: [N, U1, 1], [N, U2, U1], ..., [N, 1, UK].
        biases: K + 1 tensors: [N, U1, 1], ..., [N, 1, 1].
        activations: K names of `ACTIVATIONS`, one per hidden layer.
        mask: of (hidden layer, values [N, U, B]): the values with dropout; None for none.

    Returns:
        [N, B].
    """
    x = x.to(weights[0].dtype).contiguous()  # rows of a transposed x would lie far apart
    size = x.numel() * max(weight.shape[1] for weight in weights)
    small = SMALL_MIXED_FLOATS if "mixed" in activations else SMALL_FLOATS
    with torch.autocast(x.device.type, enabled=False):
        if mask is None and x.device.type == "cpu" and size > small:
            keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights, *biases))
            return _NetBank.apply(x, tuple(activations), keep, *weights, *biases)
        return _plain(x, weights, biases, activations, mask)


def _plain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activations: Sequence[str],
    mask: Mask | None = None,
) -> Tensor:
    values = x.unsqueeze(1) * weights[0] + biases[0]  # [N, U1, B]
    for layer, name in enumerate(activations):
        values = ACTIVATIONS[name].plain(values)
        if mask is not None:
            values = mask(layer, values)
        values = torch.baddbmm(biases[layer + 1], weights[layer + 1], values)
    return values.squeeze(1)


class _NetBank(Function):
    """`_plain` in chunks. Kept for the way back are the pre-activations but the first, which costs less to redo."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: tuple[str, ...], keep: bool, *parameters: Tensor) -> Tensor:
        depth = len(activations)
        weights, biases = parameters[: depth + 1], parameters[depth + 1 :]
        functions = [ACTIVATIONS[name] for name in activations]
        out = torch.empty_like(x)
        kept: list[list[Tensor]] = []
        for nets, rows in _chunks(x, weights):
            z = _first_layer(x, weights[0], biases[0], nets, rows)
            values = functions[0].forward(z, z)
            kept_here = []
            for layer in range(1, depth):
                z = torch.bmm(weights[layer][nets], values).add_(biases[layer][nets])
                if keep:
                    kept_here.append(z)
                values = functions[layer].forward(z, torch.empty_like(z))
            out[nets, rows] = torch.bmm(weights[depth][nets], values).squeeze(1)
            kept.append(kept_here)
        out += biases[depth][:, 0]
        if keep:
            ctx.save_for_backward(x, *parameters)
            ctx.activations, ctx.kept = activations, kept
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        depth = len(ctx.activations)
        weights, biases = parameters[: depth + 1], parameters[depth + 1 :]
        if torch.is_grad_enabled():  # create_graph=True: the result must itself be differentiable
            return _differentiable_backward(ctx, x, weights, biases, gradient)
        gradient = gradient.contiguous()
        functions = [ACTIVATIONS[name] for name in ctx.activations]
        in_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        in_weights = [torch.zeros_like(weight) for weight in weights]
        in_biases = [torch.zeros_like(bias) for bias in biases]
        transposed = [weight.transpose(1, 2).contiguous() for weight in weights]
        in_biases[depth] += gradient.sum(1)[:, None, None]
        for (nets, rows), kept in zip(_chunks(x, weights), ctx.kept, strict=True):
            first = _first_layer(x, weights[0], biases[0], nets, rows)
            pre = [first, *kept]
            delta = gradient[nets, rows].unsqueeze(1)  # of the layer above, [n, U, b]
            for layer in reversed(range(depth)):
                z = pre[layer]
                values = functions[layer].forward(z, torch.empty_like(z))
                in_weights[layer + 1][nets].add_(torch.bmm(delta, values.transpose(1, 2)))
                # `values` is not needed any more: its memory, still in cache, takes the gradient.
                delta = torch.bmm(transposed[layer + 1][nets], delta, out=values)
                functions[layer].backward(delta, z)
                in_biases[layer][nets].add_(delta.sum(2, keepdim=True))
            if in_x is not None:
                in_x[nets, rows] = torch.bmm(transposed[0][nets], delta).squeeze(1)
            in_weights[0][nets].add_(delta.mul_(x[nets, rows].unsqueeze(1)).sum(2, keepdim=True))
        return (in_x, None, None, *in_weights, *in_biases)


def _first_layer(x: Tensor, weight: Tensor, bias: Tensor, nets: slice, rows: slice) -> Tensor:
    return torch.mul(weight[nets], x[nets, rows].unsqueeze(1)).add_(bias[nets])


def _differentiable_backward(
    ctx: Any, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    wanted = [needed for i, needed in enumerate(ctx.needs_input_grad) if i not in (1, 2)]
    inputs = [x, *weights, *biases]
    # Fresh aliases: the saved tensors may be computed from one another's sources, and only these inputs count here.
    aliases = [tensor.view_as(tensor) for tensor in inputs]
    split = 1 + len(weights)
    result = _plain(aliases[0], aliases[1:split], aliases[split:], ctx.activations)
    found = iter(
        torch.autograd.grad(
            result, [a for a, needed in zip(aliases, wanted, strict=True) if needed], gradient, create_graph=True
        )
    )
    gradients = [next(found) if needed else None for needed in wanted]
    return (gradients[0], None, None, *gradients[1:])


def _chunks(x: Tensor, weights: Sequence[Tensor]) -> list[tuple[slice, slice]]:
    """Blocks of nets and rows whose activations fit into cache."""
    nets, rows = x.shape
    if x.numel() == 0:
        return []
    widest = max(weight.shape[1] for weight in weights)
    num_rows = min(rows, CHUNK_ROWS)
    num_nets = max(1, min(nets, CHUNK_FLOATS // (num_rows * widest)))
    return [
        (slice(n, min(n + num_nets, nets)), slice(r, min(r + num_rows, rows)))
        for n in range(0, nets, num_nets)
        for r in range(0, rows, num_rows)
    ]
