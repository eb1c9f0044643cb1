"""What a planner knows beyond the data, as penalties: smoothness, elasticities, shares and returns.

Each is called with the net, a batch and its output and returns a penalty per member [M], 0 where the constraint holds.
Sums over a batch stand for sums over the data; they are taken over the batches of all ranks, so that two ranks are
pulled exactly as one is.

Axis letters: M members, B rows, G series, C channels, D drivers, N grid points.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError
from wanamaker.families.nam.options import is_number
from wanamaker.nn.ranks import over_ranks

if TYPE_CHECKING:
    from wanamaker.data.media_panel import MediaBatch
    from wanamaker.families.nam.net import MixOutput, NamNet


def _index(names: Iterable[str], known: tuple[str, ...], what: str) -> list[int]:
    found = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the data have {', '.join(known) or 'none'}."
            raise UserError(f"model.constraints.{what} names {name!r}, which the data do not have; {hint}")
        found.append(known.index(name))
    return found


def _bounds(entry: object, place: str) -> tuple[float, float]:
    """(low, high) of {min, max} or [min, max], in which null is open."""
    place = f"model.constraints.{place}={entry}"
    if isinstance(entry, Mapping):
        unknown = [str(key) for key in entry if key not in ("min", "max")]
        if unknown:
            raise UserError(f"{place}: {', '.join(unknown)} is no bound; give min and max.")
        given = [entry.get("min"), entry.get("max")]
    else:
        given = list(entry) if isinstance(entry, list | tuple) else []
    if len(given) != 2 or not all(bound is None or is_number(bound) for bound in given) or given == [None, None]:
        raise UserError(f"{place}: give bounds, {{min: 1, max: 2}} or [1, 2]; one of them may be null.")
    low = float("-inf") if given[0] is None else float(given[0])
    high = float("inf") if given[1] is None else float(given[1])
    if not low < high:
        raise UserError(f"{place}: the lower bound {low} is not below the upper bound {high}.")
    return low, high


def _all_bounds(entries: Mapping[str, object], what: str) -> dict[str, tuple[float, float]]:
    return {name: _bounds(entry, f"{what}.{name}") for name, entry in entries.items()}


def _weight(value: float) -> float:
    if not is_number(value) or value < 0:  # a negative one would reward what is to be avoided
        raise UserError(f"model.constraints: weight={value}; give a number of at least 0, and 0 switches it off.")
    return value


def _points(value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"model.constraints: points={value}; a grid needs a whole number of at least {least}.")
    return value


def _outside(value: Tensor, bounds: list[tuple[float, float]]) -> Tensor:
    """Squared distance to the interval, relative to nothing: [..., n]."""
    low = value.new_tensor([b[0] for b in bounds])
    high = value.new_tensor([b[1] for b in bounds])
    return (low - value).clamp(min=0).square() + (value - high).clamp(min=0).square()


def effect_on_mean(output: MixOutput, index: Tensor, link: str) -> Tensor:
    """What the mean loses without each part of `index`: scaled KPI [M, B, n]."""
    part = output.parts[..., index]
    if link == "identity":
        return part
    mean = output.eta.clamp(max=20.0).exp()[..., None]
    return mean * -torch.expm1(-part)


class MinimumRoi(nn.Module):
    """Return on spend of chosen channels between bounds, such as at least 1.2 (System 2's plan).

    ROI is incremental KPI value over spend, both over the rows of the batch.

    Args:
        channels: name -> {min, max}, or [min, max]; null is open.
        weight: of the penalty against the mean log likelihood per row.
    """

    def __init__(self, channels: Mapping[str, object], weight: float = 10.0) -> None:
        super().__init__()
        self.bounds = _all_bounds(channels, "roi")
        if not self.bounds:
            raise UserError("model.constraints.roi.channels is empty: name channels and bounds, {tv: {min: 1.2}}.")
        self.weight = _weight(weight)

    def check(self, net: NamNet) -> list[int]:
        """Places of the channels in a built net's schema.

        Raises:
            UserError: a name that the data do not have, or a channel without spend.
        """
        schema = net.schema
        channel = _index(self.bounds, schema.media, "roi")
        unpaid = [schema.media[c] for c in channel if not schema.paid[c]]
        if unpaid:
            raise UserError(f"model.constraints.roi: {', '.join(unpaid)} is organic; without spend it has no return.")
        return channel

    def forward(self, net: NamNet, batch: MediaBatch, output: MixOutput) -> Tensor:
        """Penalty [M]."""
        schema, channel = net.schema, self.check(net)
        first = len(net.part_names) - len(schema.media)
        gain = effect_on_mean(output, torch.tensor(channel) + first, net.link)
        gain = (gain * net.scales.kpi_scale[batch.series][:, None]).sum(1) * schema.kpi_value  # [M, n]
        spend = batch.media[:, 0, channel] * net.scales.cost_per_media[batch.series][:, channel]
        roi = over_ranks(gain) / over_ranks(spend.sum(0)).clamp(min=1e-9)
        return self.weight * _outside(roi, list(self.bounds.values())).sum(-1)


class ContributionShare(nn.Module):
    """Share of the KPI that chosen parts explain, between bounds.

    Args:
        parts: name of a channel, price, promotion or control -> {min, max} or [min, max], as shares.
        media_total: bounds for all channels together.
        weight: as above; shares are small numbers, hence the larger default.
    """

    def __init__(
        self, parts: Mapping[str, object] | None = None, media_total: object | None = None, weight: float = 1000.0
    ) -> None:
        super().__init__()
        self.bounds = _all_bounds(parts or {}, "share")
        self.total = None if media_total is None else _bounds(media_total, "share.media_total")
        if not self.bounds and self.total is None:
            raise UserError(
                "model.constraints.share bounds nothing: give parts, such as {tv: [0, 0.2]}, or media_total."
            )
        if self.total is not None:
            _check_fraction(self.total, "media_total")
        self.weight = _weight(weight)

    def check(self, net: NamNet) -> None:
        """Compare the names with those of a built net.

        Raises:
            UserError: a part that the data do not have, or a channel's share that is no fraction.
        """
        _index(self.bounds, net.part_names, "share")
        for name in set(self.bounds) & set(net.schema.media):
            _check_fraction(self.bounds[name], name)
        if self.total is not None and not net.schema.media:
            raise UserError("model.constraints.share.media_total: the data have no media; leave it out.")

    def forward(self, net: NamNet, batch: MediaBatch, output: MixOutput) -> Tensor:
        """Penalty [M]."""
        scale = net.scales.kpi_scale[batch.series]
        mean = output.eta.clamp(max=20.0).exp() if net.link == "log" else output.eta
        whole = over_ranks((mean * scale).sum(1))  # [M]
        penalty = torch.zeros_like(whole)
        if self.bounds:
            index = torch.tensor(_index(self.bounds, net.part_names, "share"))
            part = (effect_on_mean(output, index, net.link) * scale[:, None]).sum(1)
            penalty = penalty + _outside(over_ranks(part) / whole[:, None], list(self.bounds.values())).sum(-1)
        if self.total is not None:
            count = len(net.schema.media)
            media = output.parts[..., len(net.part_names) - count :].sum(-1, keepdim=True)
            joined = output._replace(parts=media)
            part = (effect_on_mean(joined, torch.tensor([0]), net.link) * scale[:, None]).sum(1)
            penalty = penalty + _outside(over_ranks(part) / whole[:, None], [self.total]).sum(-1)
        return self.weight * penalty


def _check_fraction(bounds: tuple[float, float], name: str) -> None:
    low, high = bounds
    if low >= 1 or (high > 1 and high != float("inf")) or high <= 0:
        raise UserError(
            f"model.constraints.share.{name}=[{low}, {high}]: a share of media lies between 0 and 1; 5 per cent is "
            "0.05."
        )


class ElasticityBounds(nn.Module):
    """Price elasticities d log E[kpi] / d log price between bounds, over the range of prices seen.

    Args:
        prices: name -> {min, max} or [min, max], such as own price [-3, -0.5], cross price [0.1, 0.8].
        weight: as above.
        points: grid points over the prices seen in training.
    """

    def __init__(self, prices: Mapping[str, object], weight: float = 10.0, points: int = 9) -> None:
        super().__init__()
        self.bounds = _all_bounds(prices, "elasticity")
        if not self.bounds:
            raise UserError("model.constraints.elasticity.prices is empty: name prices and bounds, {own: [-3, -0.5]}.")
        self.weight, self.points = _weight(weight), _points(points, 2)

    def check(self, net: NamNet) -> None:
        """Compare names and signs with those of a built net.

        Raises:
            UserError: a price that the data do not have, or bounds on the side of 0 that its direction rules out.
        """
        directions = net.schema.price_direction
        for name, place in zip(self.bounds, _index(self.bounds, net.schema.price, "elasticity"), strict=True):
            low, high = self.bounds[name]
            if (directions[place] < 0 and low >= 0) or (directions[place] > 0 and high <= 0):
                sign = "at most" if directions[place] < 0 else "at least"
                raise UserError(
                    f"model.constraints.elasticity.{name}=[{low}, {high}]: the direction of this price makes its "
                    f"elasticity {sign} 0; change the signs, or data.roles.price.{name}.direction."
                )

    def forward(self, net: NamNet, batch: MediaBatch, output: MixOutput) -> Tensor:
        """Penalty [M]."""
        index = _index(self.bounds, net.schema.price, "elasticity")
        value = price_elasticity(net, self.points)[..., index]  # [M, N, G, n]
        return self.weight * _outside(value, list(self.bounds.values())).mean(dim=(1, 2)).sum(-1)


def price_elasticity(net: NamNet, points: int) -> Tensor:
    """d part / d log price over the prices seen, by automatic differentiation: [M, N, G, P].

    With a log link this is the elasticity of the mean; with the identity link the elasticity at the mean KPI.
    """
    low, high = net.scales.price_range  # [G, P]
    weight = torch.linspace(0, 1, points, device=low.device)[:, None, None]
    price = (low.clamp(min=1e-9).log() * (1 - weight) + high.clamp(min=1e-9).log() * weight).exp()  # [N, G, P]
    N, G, P = price.shape
    series = torch.arange(G, device=price.device).repeat(N)
    with torch.enable_grad():
        log_price = price.reshape(N * G, P).log().detach().requires_grad_(True)
        z = net.scales.price(log_price.exp(), series)
        parts = net.drivers["price"](z, series)  # [M, N*G, P]
        create = torch.is_grad_enabled() and any(p.requires_grad for p in net.parameters())
        slopes = [
            torch.autograd.grad(part.sum(), log_price, create_graph=create, retain_graph=True)[0] for part in parts
        ]
    return torch.stack(slopes).reshape(len(parts), N, G, P)


class Smoothness(nn.Module):
    """Roughness of the shapes of prices, promotions and controls: mean squared second difference on a grid.

    Args:
        weight: as above.
        points: grid points from -2 to 2 in scaled units.
    """

    def __init__(self, weight: float = 1.0, points: int = 33) -> None:
        super().__init__()
        self.weight, self.points = _weight(weight), _points(points, 3)  # a second difference

    def forward(self, net: NamNet, batch: MediaBatch, output: MixOutput) -> Tensor:
        """Penalty [M]."""
        total = output.eta.new_zeros(output.eta.shape[0])
        grid = torch.linspace(-2, 2, self.points, device=total.device)
        step = grid[1] - grid[0]
        for block in net.drivers.values():
            for shape in block.shapes(grid[:, None].expand(-1, len(block.names))):
                if shape.shape[-1]:
                    second = (shape[:, 2:] - 2 * shape[:, 1:-1] + shape[:, :-2]) / step**2
                    total = total + second.square().mean(1).sum(-1)
        return self.weight * total


class OutputPenalty(nn.Module):
    """Mean square of the free nets over the rows (Agarwal et al. 2021), so that what is not needed stays at zero.

    Args:
        weight: as above.
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = _weight(weight)

    def forward(self, net: NamNet, batch: MediaBatch, output: MixOutput) -> Tensor:
        """Penalty [M]."""
        total = output.eta.new_zeros(output.eta.shape[0])
        for name, block in net.drivers.items():
            total = total + block.output_penalty(net.driver_input(name, batch))
        return self.weight * total
