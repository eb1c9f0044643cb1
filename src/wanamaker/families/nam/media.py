"""The media block: adstock, saturation and a pooled amplitude per channel.

Axis letters: M members, B rows, G series, C channels, L taps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError
from wanamaker.families.nam.pooling import Pooled
from wanamaker.families.nam.shapes import ADSTOCKS, SATURATIONS, make_adstock, make_saturation
from wanamaker.nn.adstock import adstock_windows


def check_choices(choice: str | Mapping[str, str], known: Sequence[str], key: str) -> dict[str, str]:
    """The words of an option that is one word or a mapping with an entry `default`, by channel.

    Raises:
        UserError: an unknown word.
    """
    mapping = dict(choice) if isinstance(choice, Mapping) else {"default": choice}
    for name, kind in mapping.items():
        if kind not in known:
            raise UserError(f"model.net.{key}: {name}={kind!r} is unknown; choose from {', '.join(known)}.")
    return mapping


def per_channel(choice: str | Mapping[str, str], channels: Sequence[str], known: Sequence[str], key: str) -> list[str]:
    """One choice for each channel, from one word or from a mapping with an entry `default`.

    Raises:
        UserError: an unknown word or channel, or a channel without a choice.
    """
    mapping = check_choices(choice, known, key)
    unknown = [name for name in mapping if name not in (*channels, "default")]
    if unknown:
        raise UserError(f"model.net.{key} names a channel {unknown[0]!r}; the data have {', '.join(channels)}.")
    missing = [name for name in channels if name not in mapping]
    if missing and "default" not in mapping:
        raise UserError(f"model.net.{key} says nothing of {', '.join(missing)}; add an entry default.")
    return [mapping.get(name, mapping.get("default", "")) for name in channels]


class MediaBlock(nn.Module):
    """Contribution of every channel to the linear predictor, at least 0 and 0 where nothing was spent.

        part = effect[g, c] * f_c(adstock_c(media / media_scale)) / f_c(reference_c)

    `effect` is what the channel adds at its usual (mean non-zero) level, as a share of the series' mean KPI (identity
    link) or in log units (log link): a number with a natural prior, and nearly independent of the curve's shape.

    Args:
        members: M.
        channels: C names.
        num_series, levels, pooling: see `Pooled`.
        adstock, saturation: one word, or a word per channel with an entry `default`.
        priors: `half_life`, `half_saturation`, `shape` and `effect` as (median, spread of the logarithm).
    """

    def __init__(
        self,
        members: int,
        channels: Sequence[str],
        num_series: int,
        levels: Mapping[str, object],
        adstock: str | Mapping[str, str],
        saturation: str | Mapping[str, str],
        priors: Mapping[str, tuple[float, float]],
        pooling: Mapping[str, object],
    ) -> None:
        super().__init__()
        self.members, self.channels = members, list(channels)
        carry = per_channel(adstock, channels, ADSTOCKS, "adstock")
        shape = per_channel(saturation, channels, SATURATIONS, "saturation")
        self.adstocks = nn.ModuleDict()
        self.saturations = nn.ModuleDict()
        for kind in dict.fromkeys(carry):
            index = [c for c, own in enumerate(carry) if own == kind]
            self.register_buffer(f"adstock_index_{kind}", torch.tensor(index))
            part = make_adstock(kind, members, len(index), priors["half_life"])
            if part is not None:
                self.adstocks[kind] = part
        for kind in dict.fromkeys(shape):
            index = [c for c, own in enumerate(shape) if own == kind]
            self.register_buffer(f"saturation_index_{kind}", torch.tensor(index))
            part = make_saturation(kind, members, len(index), priors["half_saturation"], priors["shape"])
            if part is not None:
                self.saturations[kind] = part
        median, spread = priors["effect"]
        self.log_effect = Pooled(members, channels, num_series, levels, math.log(median), spread, **pooling)
        self.register_buffer("reference", torch.ones(len(channels)))

    def kernel(self, taps: int) -> Tensor:
        """Adstock weights [M, C, L], newest first, sum 1."""
        weights = torch.zeros(self.members, len(self.channels), taps, device=self.reference.device)
        weights[:, :, 0] = 1.0
        for kind, part in self.adstocks.items():
            weights = weights.index_copy(1, getattr(self, f"adstock_index_{kind}"), part.kernel(taps))
        return weights

    def curve(self, x: Tensor) -> Tensor:
        """f_c(x) [M, B, C] of scaled, adstocked media x >= 0 [M, B, C]."""
        value = x
        for kind, part in self.saturations.items():
            index = getattr(self, f"saturation_index_{kind}")
            value = value.index_copy(2, index, part(x.index_select(2, index)))
        return value

    def amplitude(self) -> Tensor:
        """Factor [M, G, C] of f_c."""
        at_reference = self.curve(self.reference.expand(self.members, 1, -1))  # [M, 1, C]
        return self.log_effect().clamp(max=8.0).exp() / at_reference.clamp(min=1e-4)

    def forward(self, windows: Tensor, series: Tensor) -> Tensor:
        """Parts [M, B, C].

        Args:
            windows: scaled media [B, L, C], newest first.
            series: [B].
        """
        x = adstock_windows(windows, self.kernel(windows.shape[1]))
        return self.amplitude()[:, series] * self.curve(x)
