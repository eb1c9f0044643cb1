"""Adstock kernels and saturation curves of the mix by name: their parameters, default priors and functions.

The mathematics is in `wanamaker.nn.adstock` and `wanamaker.nn.saturation`; here stand names, priors and what is common
to many draws. Channels may use different shapes: each shape computes its own channels, in one call.

Axis letters: N draws or chains, C channels, L taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wanamaker.errors import UserError
from wanamaker.nn import adstock as kernels
from wanamaker.nn import saturation as curves


@dataclass(frozen=True)
class Shape:
    """A family of kernels or curves.

    Attributes:
        priors: default prior per parameter (see `priors`). Media are scaled so that 1 is the largest of the series,
            and a prior on media is in these units; periods are those of the panel.
        function: kernels (parameters, taps) -> [..., C, L]; curves (x, parameters) -> x's shape.
    """

    priors: Mapping[str, list[Any]]
    function: Callable[..., Tensor]


def _geometric(p: Mapping[str, Tensor], taps: int) -> Tensor:
    # Half-lives have a far better geometry than decays near 0 and 1.
    return kernels.geometric_kernel(torch.exp2(-1.0 / p["half_life"]), taps)


def _delayed(p: Mapping[str, Tensor], taps: int) -> Tensor:
    return kernels.delayed_kernel(torch.exp2(-1.0 / p["half_life"]), p["delay"], taps)


class _Hill(torch.autograd.Function):
    """x^s / (x^s + h^s) with its derivatives written out: a third of the passes over memory that autograd takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, half: Tensor, slope: Tensor) -> Tensor:
        above = x.log().sub_(half.log())
        value = (above * slope).sigmoid_()
        above.clamp_(min=torch.finfo(x.dtype).min)  # where x is 0 the curve and its derivatives are 0, and not NaN
        ctx.save_for_backward(x, half, slope, above, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, half, slope, above, value = ctx.saved_tensors
        inner = torch.addcmul(value, value, value, value=-1).mul_(grad)  # by the argument of the sigmoid
        of_slope = (inner * above).sum_to_size(slope.shape)
        inner.mul_(slope)
        of_half = -inner.sum_to_size(half.shape) / half
        # Where x is 0 all media behind it are 0 as well, and no parameter can move it.
        of_x = inner.div_(x.clamp(min=torch.finfo(x.dtype).tiny)) if ctx.needs_input_grad[0] else None
        return of_x, of_half, of_slope


def _hill(x: Tensor, half: Tensor, slope: Tensor) -> Tensor:
    """`wanamaker.nn.saturation.hill` in fewer passes over memory, and 0 at 0."""
    return _Hill.apply(x, half, slope)


def _log_worth(frequency: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    """Of one f-th of f^s / (f^s + h^s)."""
    half, slope = p["frequency_half"], p["frequency_slope"]
    log_f = frequency.log()
    return (slope - 1) * log_f - torch.logaddexp(slope * log_f, slope * half.log())


HALF_LIFE = ["lognormal", 1.0, 0.8]

ADSTOCKS: dict[str, Shape] = {
    "none": Shape({}, lambda p, taps: torch.zeros(0)),
    "geometric": Shape({"half_life": HALF_LIFE}, _geometric),
    "delayed": Shape({"half_life": ["lognormal", 2.0, 0.8], "delay": ["lognormal", 1.0, 0.7]}, _delayed),
    "binomial": Shape({"tail": ["logitnormal", 0.4, 1.0]}, lambda p, t: kernels.binomial_kernel(p["tail"], t)),
    "weibull_pdf": Shape(
        {"peakedness": ["lognormal", 1.5, 0.4], "reach": ["lognormal", 2.0, 0.6]},
        lambda p, t: kernels.weibull_pdf_kernel(p["peakedness"], p["reach"], t),
    ),
    "weibull_cdf": Shape(
        {"peakedness": ["lognormal", 1.0, 0.4], "reach": ["lognormal", 2.0, 0.6]},
        lambda p, t: kernels.weibull_cdf_kernel(p["peakedness"], p["reach"], t),
    ),
}

# `half` is multiplied by the usual scaled media of its channel, so that its prior sits on the observed range.
SATURATIONS: dict[str, Shape] = {
    "none": Shape({}, lambda x, p: x),
    "hill": Shape(
        {"half_saturation": ["lognormal", 1.0, 0.7], "slope": ["lognormal", 1.1, 0.3]},
        lambda x, p: _hill(x, p["half_saturation"], p["slope"]),
    ),
    "logistic": Shape(
        {"half_saturation": ["lognormal", 1.0, 0.7]},
        # told by its half-point: tanh(0.5493) = 1/2
        lambda x, p: curves.tanh_saturation(x, p["half_saturation"] / 0.5493061443340549),
    ),
    "tanh": Shape({"scale": ["lognormal", 1.8, 0.7]}, lambda x, p: curves.tanh_saturation(x, p["scale"])),
    "michaelis_menten": Shape(
        {"half_saturation": ["lognormal", 1.0, 0.7]}, lambda x, p: curves.michaelis_menten(x, p["half_saturation"])
    ),
    "root": Shape({"power": ["logitnormal", 0.6, 0.8]}, lambda x, p: curves.root(x, p["power"])),
    "gamma_cdf": Shape(
        {"shape": ["lognormal", 1.1, 0.4], "rate": ["lognormal", 1.0, 0.7]},
        lambda x, p: curves.gamma_cdf(x, p["shape"], p["rate"]),
    ),
}
FREQUENCIES: dict[str, Shape] = {
    "contacts": Shape({}, lambda f, p: torch.zeros_like(f)),
    # Meridian's medians for channels with reach and frequency; `frequency_half` is in contacts per person.
    "hill": Shape({"frequency_half": ["lognormal", 2.1, 0.5], "frequency_slope": ["lognormal", 2.0, 0.4]}, _log_worth),
}
"""Logarithm of what a contact is worth at the frequency it comes with: all alike, or reach x Hill(frequency)."""
IN_MEDIA_UNITS = {"half_saturation": 1, "scale": 1, "rate": -1}
"""Parameters that scale with the media, and with which power."""


def per_channel(option: str | Mapping[str, str], channels: tuple[str, ...], known: Mapping[str, Any], key: str) -> list:
    """The choice of every channel.

    Args:
        option: one name, or a mapping by channel with an entry `default`.
        channels: names.
        known: what may be chosen.
        key: such as "adstock", for messages.

    Raises:
        UserError: an unknown name or channel.
    """
    table = {"default": option} if isinstance(option, str) else dict(option)
    if unknown := sorted(set(table) - {"default", *channels}):
        raise UserError(f"model.net.{key}: {', '.join(unknown)} is no channel; there are {', '.join(channels)}.")
    chosen = []
    for channel in channels:
        name = table.get(channel, table.get("default"))
        if name not in known:
            raise UserError(f"model.net.{key}={name!r} (channel {channel}): choose from {', '.join(known)}.")
        chosen.append(name)
    return chosen


class ShapeGroups:
    """Which channels use which shape, and the parameter each needs.

    Args:
        chosen: a name of ``shapes`` per channel.
        shapes: `ADSTOCKS` or `SATURATIONS`.
        channels: names.
    """

    def __init__(self, chosen: list[str], shapes: Mapping[str, Shape], channels: tuple[str, ...]) -> None:
        self.shapes, self.channels = shapes, channels
        self.groups = {name: [c for c, x in enumerate(chosen) if x == name] for name in dict.fromkeys(chosen)}

    def parameters(self) -> dict[str, tuple[list[Any], list[int]]]:
        """Parameter name -> (default prior, numbers of the channels that have it)."""
        out: dict[str, tuple[list[Any], list[int]]] = {}
        for name, members in self.groups.items():
            for parameter, prior in self.shapes[name].priors.items():
                known = out.get(parameter)
                out[parameter] = (prior, members) if known is None else (known[0], sorted({*known[1], *members}))
        return out

    def values(self, name: str, theta: Mapping[str, Tensor], where: Mapping[str, list[int]]) -> dict[str, Tensor]:
        """Parameters of the channels of one shape, [..., members] each."""
        members, out = self.groups[name], {}
        for parameter in self.shapes[name].priors:
            value = theta[parameter]
            if where[parameter] != members:
                places = [where[parameter].index(c) for c in members]
                value = value[..., places]
            out[parameter] = value
        return out
