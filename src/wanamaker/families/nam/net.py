"""The neural additive marketing mix: a sum of shape functions that a person can read.

    eta[g, t] = intercept_g + trend_g(t) + season_g(t) + sum_f control_f + sum_q promotion_q + sum_p price_p
                + sum_c effect[g, c] * f_c(adstock_c(media)),            E[kpi] = scale_g * eta  or  scale_g * exp(eta)

after Agarwal et al. 2021 (neural additive models, arXiv 2004.13912), with the media of a marketing mix (adstock and
saturation) and prices that are monotone by construction. An ensemble is computed as one: every parameter has a leading
dimension of members.

Axis letters: M members, B rows, G series, C channels, L taps, P prices, Q promotions, F controls, S season columns,
R trend columns, K parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wanamaker.data.media_panel import Level, MediaBatch, MediaPanel, PanelSchema
from wanamaker.data.panel_scales import PanelScales
from wanamaker.errors import UserError
from wanamaker.families.nam.drivers import Drivers
from wanamaker.families.nam.media import MediaBlock, check_choices
from wanamaker.families.nam.options import check_widths, free_of, pooling_of, priors_of
from wanamaker.families.nam.pooling import Pooled
from wanamaker.families.nam.priors import total_penalty
from wanamaker.families.nam.shapes import ADSTOCKS, SATURATIONS


class MixOutput(NamedTuple):
    """Parts of the linear predictor of a batch, in scaled units.

    Attributes:
        parts: [M, B, K].
        eta: [M, B], their sum.
        log_noise: [M, B], logarithm of the noise's scale.
    """

    parts: Tensor
    eta: Tensor
    log_noise: Tensor


class NamNet(nn.Module):
    """The net; `build` gives it its parameters once the panel's names are known.

    In a notebook::

        net = NamNet(members=8).build(panel.schema)
        net.fit_scales(panel, train_mask)
        parts = net(batch).parts

    Args:
        members: M, ensemble members; 1 gives no intervals.
        link: "identity" (additive) or "log" (multiplicative).
        adstock: of `shapes.ADSTOCKS`, for all channels or per channel with an entry `default`.
        saturation: of `shapes.SATURATIONS`, likewise.
        media_scale: what scaled media of 1 means: "series_max", the largest of each series, or "global_max" (per head
            of population where the panel has one).
        free: options of the free nets: hidden, first (plain or exu), activation, dropout, feature_dropout, net_scale.
        monotone_hidden: widths of the monotone nets.
        pooling: mode (partial, fixed, none), spread, weights, and `series` (also pool single series; default true).
        priors: overrides of `options.PRIORS`.

    Raises:
        UserError: a value out of range, or an unknown choice.
    """

    def __init__(
        self,
        members: int = 16,
        link: str = "identity",
        adstock: str | Mapping[str, str] = "geometric",
        saturation: str | Mapping[str, str] = "gamma_cdf",
        media_scale: str = "series_max",
        free: Mapping[str, Any] | None = None,
        monotone_hidden: tuple[int, ...] = (9, 9),
        pooling: Mapping[str, Any] | None = None,
        priors: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("link", link, ("identity", "log")),
            ("media_scale", media_scale, ("series_max", "global_max")),
        ):
            if value not in known:
                raise UserError(f"model.net.{key}={value!r}: choose from {', '.join(known)}.")
        if members < 1:
            raise UserError(f"model.net.members={members}: an ensemble has at least one member.")
        self.members, self.link, self.media_scale_kind = members, link, media_scale
        self.adstock, self.saturation = adstock, saturation
        for key, choice, words in (("adstock", adstock, ADSTOCKS), ("saturation", saturation, SATURATIONS)):
            check_choices(choice, words, key)
        check_widths("monotone_hidden", monotone_hidden, 3)  # one unit of each kind
        self.free, self.pooling, self.priors = free_of(free), pooling_of(pooling), priors_of(priors)
        self.monotone_hidden = tuple(monotone_hidden)
        self.schema: PanelSchema | None = None

    # -- building --------------------------------------------------------------------------------------------------

    def build(self, schema: PanelSchema) -> NamNet:
        """Make the parameters for a panel's names; returns itself.

        Raises:
            UserError: an option that names a channel or level the panel does not have.
        """
        self.schema = schema
        M, G = self.members, len(schema.series)
        use_series = bool(self.pooling["series"]) and G > 1
        levels = _levels(schema, use_series and self.pooling["mode"] == "partial")
        if self.pooling["weights"] is not None and not any(len(level.groups) > 1 for level in levels.values()):
            raise UserError(
                f"model.net.pooling.weights={self.pooling['weights']}: the data have no groups of series to mix; name "
                "them in data.roles.hierarchy or data.levels, or leave mode: fixed out."
            )
        pooling = {key: self.pooling[key] for key in ("mode", "spread", "weights")}
        shared = {"num_series": G, "levels": levels, "pooling": pooling}
        loose = {"mode": "partial", "spread": pooling["spread"]}  # level, season and trend are never mixed by weights
        loose_levels = _levels(schema, use_series)
        # Registered parts of the linear predictor, in the order of `part_names`.
        mean, scale = self.priors["intercept"] if self.link == "identity" else (0.0, self.priors["intercept"][1])
        self.intercept = Pooled(M, ["intercept"], G, loose_levels, mean, scale, **loose)
        columns = {"trend": schema.trend, "season": schema.season}
        self.linear = nn.ModuleDict(
            {
                name: Pooled(M, names, G, loose_levels, *self.priors[name], mode="partial", spread=0.1)
                for name, names in columns.items()
                if names
            }
        )
        self.drivers = nn.ModuleDict()
        for name, names, directions, effect, linear in (
            ("control", schema.control, schema.control_direction, "monotone_control", self.priors["control"][1]),
            ("promotion", schema.promotion, schema.promotion_direction, "promotion", 0.3),
            ("price", schema.price, schema.price_direction, "price", 1.0),
        ):
            if names:
                self.drivers[name] = Drivers(
                    M,
                    names,
                    directions,
                    effect=self.priors[effect],
                    linear=linear,
                    free=self.free,
                    monotone_hidden=self.monotone_hidden,
                    centre=name == "control",
                    **shared,
                )
        self.media = None
        if schema.media:
            self.media = MediaBlock(
                M, schema.media, adstock=self.adstock, saturation=self.saturation, priors=self.priors, **shared
            )
        median, spread = self.priors["noise"]
        self.log_noise = Pooled(M, ["noise"], G, loose_levels, math.log(median), spread, **loose)
        self.scales = PanelScales(schema)
        return self

    @property
    def built(self) -> bool:
        """Whether `build` has run."""
        return self.schema is not None

    @property
    def part_names(self) -> tuple[str, ...]:
        """K names, in the order of `MixOutput.parts`."""
        schema = self._schema()
        return (
            "baseline",
            *self.linear,
            *schema.control,
            *schema.promotion,
            *schema.price,
            *schema.media,
        )

    @property
    def part_kinds(self) -> tuple[str, ...]:
        """K entries of `wanamaker.predictions.mix.PART_KINDS`."""
        schema = self._schema()
        return (
            "baseline",
            *self.linear,
            *["control"] * len(schema.control),
            *["promotion"] * len(schema.promotion),
            *["price"] * len(schema.price),
            *["media"] * len(schema.media),
        )

    def _schema(self) -> PanelSchema:
        if self.schema is None:
            raise RuntimeError("NamNet.build(schema) comes first.")
        return self.schema

    def fit_scales(self, panel: MediaPanel, train_mask: np.ndarray) -> None:
        """Measure scales, reference prices and centres on the training rows only.

        Args:
            panel: whose schema the net was built for.
            train_mask: bool [G, T].
        """
        schema = self._schema()
        self.scales.fit(panel, train_mask, self.media_scale_kind)
        if schema.control:
            values = torch.from_numpy(np.ascontiguousarray(panel.control[train_mask]))
            self.drivers["control"].set_reference(self.scales.control(values))
        if self.media is not None:
            self.media.reference.copy_(self.scales.usual_media(panel, train_mask))

    # -- the sum ---------------------------------------------------------------------------------------------------

    def forward(self, batch: MediaBatch, seeds: Tensor | None = None) -> MixOutput:
        """All parts of the linear predictor of a batch, in units of the scaled KPI.

        Args:
            batch: rows.
            seeds: int64 [B], for the dropout of a training step; None is without dropout.
        """
        series = batch.series
        parts = [self.intercept()[:, series]]  # each [M, B, columns]
        for name, effect in self.linear.items():
            column = getattr(batch, name)  # [B, S] or [B, R]
            parts.append((effect()[:, series] * column).sum(-1, keepdim=True))
        for name, block in self.drivers.items():
            parts.append(block(self.driver_input(name, batch), series, seeds))
        if self.media is not None:
            parts.append(self.media(self.scales.media(batch.media, series), series))
        joined = torch.cat(parts, dim=-1)
        return MixOutput(joined, joined.sum(-1), self.log_noise()[:, series, 0])

    def driver_input(self, name: str, batch: MediaBatch) -> Tensor:
        """What the shapes of prices, promotions or controls see: [B, D], 0 at the reference."""
        if name == "price":
            return self.scales.price(batch.price, batch.series)
        return self.scales.promotion(batch.promotion) if name == "promotion" else self.scales.control(batch.control)

    def penalty(self) -> Tensor:
        """Negative log prior of everything, summed over members."""
        return total_penalty(self)

    @torch.no_grad()
    def observe(
        self, batch: MediaBatch, output: MixOutput, information: Tensor, rows_per_row: float, momentum: float
    ) -> None:
        """Tell every pooled effect how much the rows say about its groups (see `Pooled.observe`).

        Args:
            batch: rows.
            output: what `forward` made of them.
            information: of each row about its linear predictor, [M, B].
            rows_per_row: rows of the data set per row of the batch, over all ranks.
            momentum: weight of earlier batches.
        """
        series, information = batch.series, information * rows_per_row
        one = torch.ones(1, len(series), 1, device=series.device)
        self.intercept.observe(series, one, information, momentum)
        for name, effect in self.linear.items():
            effect.observe(series, getattr(batch, name)[None], information, momentum)
        first = 1 + len(self.linear)
        for name, block in self.drivers.items():
            count = len(block.names)
            parts = output.parts[..., first : first + count]
            block.observe(self.driver_input(name, batch), parts, series, information, momentum)
            first += count
        if self.media is not None:
            self.media.log_effect.observe(series, output.parts[..., first:], information, momentum)
        # A Gaussian row tells the logarithm of its noise with an information of 2, whatever its mean.
        self.log_noise.observe(series, one, torch.full_like(information, 2.0 * rows_per_row), momentum)


def _levels(schema: PanelSchema, with_series: bool) -> dict[str, Level]:
    """The hierarchy, and the single series as its finest level unless one is as fine already."""
    levels = dict(schema.levels)
    G = len(schema.series)
    if with_series and all(len(level.groups) < G for level in levels.values()):
        levels["series"] = Level(schema.series, tuple(range(G)))
    return levels
