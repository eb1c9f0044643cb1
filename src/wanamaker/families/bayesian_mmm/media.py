"""Saturated, adstocked media of whole series for many draws at once.

Axis letters: N draws or chains, G series, T periods, C channels, R channels with a curve over frequency, L taps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.priors import Site
from wanamaker.families.bayesian_mmm.shapes import (
    ADSTOCKS,
    FREQUENCIES,
    IN_MEDIA_UNITS,
    SATURATIONS,
    ShapeGroups,
    per_channel,
)
from wanamaker.nn.adstock import adstock as convolved


class MediaCurves:
    """Adstock and saturation of every channel.

    Args:
        channels: C names.
        adstock, saturation: a name, or a mapping by channel with `default`.
        saturate_first: a flag, or a mapping by channel with `default`.
        frequency: likewise, of `FREQUENCIES`.
        given: bool [C], channels that the file gives as reach and frequency; the others stay with "contacts" where
            they are not named.

    Attributes:
        by_frequency: R numbers of the channels whose contacts count by how often they reach a person.
        usual_frequency: [R], contacts per person at which a contact counts 1.
    """

    def __init__(
        self,
        channels: tuple[str, ...],
        adstock: str | Mapping[str, str],
        saturation: str | Mapping[str, str],
        saturate_first: bool | Mapping[str, bool],
        frequency: str | Mapping[str, str] = "contacts",
        given: tuple[bool, ...] = (),
    ) -> None:
        self.channels = channels
        self.kernels = ShapeGroups(per_channel(adstock, channels, ADSTOCKS, "adstock"), ADSTOCKS, channels)
        chosen = per_channel(saturation, channels, SATURATIONS, "saturation")
        self.curves = ShapeGroups(chosen, SATURATIONS, channels)
        table = {"default": saturate_first} if isinstance(saturate_first, bool) else dict(saturate_first)
        if unknown := sorted(set(table) - {"default", *channels}):
            raise UserError(f"model.net.saturate_first: {', '.join(unknown)} is no channel; there are {channels}.")
        self.saturate_first = [bool(table.get(c, table.get("default", False))) for c in channels]
        self.worth = ShapeGroups(self._frequencies(frequency, given), FREQUENCIES, channels)
        self.by_frequency = self.worth.groups.get("hill", [])
        self.usual_frequency = torch.ones(len(self.by_frequency), dtype=torch.float64)
        self.where = {name: members for name, (_, members) in self.default_priors().items()}

    def default_priors(self) -> dict[str, tuple[list[Any], list[int]]]:
        """Parameter -> default prior and the numbers of the channels that have it."""
        return {**self.kernels.parameters(), **self.curves.parameters(), **self.worth.parameters()}

    def _frequencies(self, option: str | Mapping[str, str], given: tuple[bool, ...]) -> list[str]:
        """The choice of every channel."""
        table = {"default": option} if isinstance(option, str) else dict(option)
        chosen = per_channel({"default": "hill", **table}, self.channels, FREQUENCIES, "frequency")
        named = set(table)
        for c, channel in enumerate(self.channels):
            if chosen[c] == "contacts" or (given and given[c]):
                continue
            if channel in named:
                raise UserError(
                    f"model.net.frequency={chosen[c]} (channel {channel}): the data have no reach and frequency of it."
                    f" Name both in data.roles.media.{channel}, or leave it at contacts."
                )
            chosen[c] = "contacts"
        return chosen

    def contact_value(self, theta: Mapping[str, Tensor], frequency: Tensor) -> Tensor:
        """What a contact counts at a frequency, in units of what it counts at the channel's usual one.

        Args:
            theta: natural parameters [N, K].
            frequency: [..., R], contacts per person, above 0.

        Returns:
            [N, ..., R].
        """
        inner = (1,) * (frequency.ndim - 1)
        values = self.worth.values("hill", theta, self.where)
        values = {k: v.reshape(len(v), *inner, -1) for k, v in values.items()}
        log_worth = FREQUENCIES["hill"].function
        return (log_worth(frequency.unsqueeze(0), values) - log_worth(self.usual_frequency.to(frequency), values)).exp()

    def in_media_units(self, prior: Site, members: list[int], usual: Tensor) -> Site:
        """The prior with its scale moved to the channels' usual media."""
        power = IN_MEDIA_UNITS.get(prior.name)
        if power is None or not prior.size:
            return prior
        return replace(prior, first=prior.first * usual[members].to(prior.first).pow(power))

    def kernel(self, theta: Mapping[str, Tensor], taps: int) -> Tensor:
        """Adstock weights [N, C, L], newest first, each summing to 1."""
        some = next(iter(theta.values()))
        out = some.new_zeros(*some.shape[:-1], len(self.channels), taps)
        for name, members in self.kernels.groups.items():
            if name == "none":
                out[..., members, 0] = 1.0
                continue
            made = ADSTOCKS[name].function(self.kernels.values(name, theta, self.where), taps)
            if len(self.kernels.groups) == 1:
                return made
            out = out.index_copy(-2, torch.tensor(members, device=out.device), made)
        return out

    def curve(self, x: Tensor, theta: Mapping[str, Tensor]) -> Tensor:
        """Saturation f_c of scaled media [N, ..., C] with axes between; parameters [N, K]."""
        inner = x.ndim - 2
        parts: dict[int, Tensor] = {}
        for name, members in self.curves.groups.items():
            values = self.curves.values(name, theta, self.where)
            values = {k: v.reshape(v.shape[0], *(1,) * inner, v.shape[-1]) for k, v in values.items()}
            whole = len(members) == len(self.channels)
            made = SATURATIONS[name].function(x if whole else x[..., members], values)
            if whole:
                return made
            parts |= {c: made[..., i] for i, c in enumerate(members)}
        return torch.stack([parts[c] for c in range(len(self.channels))], dim=-1)

    def columns(
        self,
        theta: Mapping[str, Tensor],
        history: Tensor,
        taps: int,
        windows: Tensor | None = None,
        frequency: Tensor | None = None,
    ) -> Tensor:
        """f_c of adstocked media (or adstocked f_c) of whole series.

        Args:
            theta: natural parameters [N, K].
            history: [G, T + L - 1, C], scaled media, oldest first.
            taps: L.
            windows: `windows_of` the history, where they are kept.
            frequency: [G, T + L - 1, C], contacts per person they come with; needed for channels `by_frequency`.

        Returns:
            [N, G, C, T].
        """
        some = next(iter(theta.values()))
        G, length, C = history.shape
        if not C:
            return some.new_zeros(some.shape[0], G, 0, length - taps + 1)
        kernel = self.kernel(theta, taps)  # [N, C, L]
        first = self.saturate_first
        weighted = self._weighted(theta, history, frequency)  # [N, G, T + L - 1, R]
        if not any(first):
            carried = _adstocked(history, kernel, windows)
            return self.curve(self._with_weighted(carried, weighted, kernel, taps), theta).mT
        media = history.unsqueeze(0).expand(kernel.shape[0], -1, -1, -1)
        if weighted is not None:
            media = media.index_copy(-1, self._places(media), weighted)
        saturated = self.curve(media, theta)
        late = convolved(saturated[..., taps - 1 :, :], kernel.unsqueeze(1), saturated[..., : taps - 1, :], "direct")
        if all(first):
            return late.mT
        carried = _adstocked(history, kernel)
        early = self.curve(self._with_weighted(carried, weighted, kernel, taps), theta)
        return torch.where(torch.tensor(first, device=late.device), late, early).mT

    def _weighted(self, theta: Mapping[str, Tensor], history: Tensor, frequency: Tensor | None) -> Tensor | None:
        """Media of the channels whose contacts count by frequency, [N, G, T + L - 1, R]; None without such."""
        if not self.by_frequency:
            return None
        assert frequency is not None
        places = self.by_frequency
        return history[..., places] * self.contact_value(theta, frequency[..., places])

    def _with_weighted(self, carried: Tensor, weighted: Tensor | None, kernel: Tensor, taps: int) -> Tensor:
        """Adstocked media [N, G, T, C] with those channels' own."""
        if weighted is None:
            return carried
        own = kernel[:, self.by_frequency].unsqueeze(1)
        late = convolved(weighted[..., taps - 1 :, :], own, weighted[..., : taps - 1, :], "direct")
        return carried.index_copy(-1, self._places(carried), late)

    def _places(self, like: Tensor) -> Tensor:
        return torch.tensor(self.by_frequency, device=like.device)


def windows_of(history: Tensor, taps: int) -> Tensor:
    """[C, L, G T], what each period of [G, T + L - 1, C] looks back at, oldest first."""
    windows = history.unfold(1, taps, 1)  # [G, T, C, L]
    G, T, C = windows.shape[:3]
    return windows.permute(2, 3, 0, 1).reshape(C, taps, G * T)


def _adstocked(history: Tensor, kernel: Tensor, windows: Tensor | None = None) -> Tensor:
    """[N, G, T, C] by one matrix product per channel over windows: quicker than FFT for many draws at once."""
    N, C, L = kernel.shape
    G, T = history.shape[0], history.shape[1] - L + 1
    flat = windows_of(history, L) if windows is None else windows
    out = torch.bmm(kernel.flip(-1).transpose(0, 1), flat)  # [C, N, G T]
    return out.reshape(C, N, G, T).permute(1, 2, 3, 0)
