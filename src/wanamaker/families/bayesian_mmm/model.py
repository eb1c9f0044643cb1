"""`MixModel`: the Bayesian marketing mix: parameters with priors, the log density of a panel, and its Pyro model.

    kpi_gt / scale_g = sum_j F_gtj c_gj + sum_m M_gtm b_gm + noise       (additive; or the logarithm of the left side)

with F the intercept, trend, season and columns of either direction, M saturated media and columns of known direction,
b > 0, and coefficients that vary over hierarchy levels and series around shared ones. `theta` holds what is not linear:
shapes of the media, effects, spreads, noise. For the normal likelihood all coefficients but b are integrated out
(`collapsed`); for the others they are parameters too.

Axis letters: N draws or chains, D unconstrained numbers, G series, T periods, C channels, M columns of known sign,
P fixed columns, Q = P + M, L taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel_scales import PanelScales
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.checks import check_kpi, check_media, check_total
from wanamaker.families.bayesian_mmm.collapsed import (
    FixedGram,
    Shared,
    Solved,
    collapsed,
    draw_coefficients,
    gram,
    joined,
    same,
)
from wanamaker.families.bayesian_mmm.effects import EffectPrior, effect_prior
from wanamaker.families.bayesian_mmm.experiments import (
    BoundExperiment,
    bind,
    experiment_log_likelihood,
    parse_experiments,
)
from wanamaker.families.bayesian_mmm.media import MediaCurves
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors, columns_of, panel_tensors
from wanamaker.families.bayesian_mmm.parameters import FIXED_KIND, check_prior_names, coefficient_sd, model_sites
from wanamaker.families.bayesian_mmm.priors import FlatSites
from wanamaker.families.bayesian_mmm.row_likelihoods import LIKELIHOODS, row_log_density

COLLAPSES = ("auto", "all", "series", "none")


@dataclass(frozen=True)
class Effects:
    """What the parameters say about coefficients and noise.

    Attributes:
        effect: [N, M], b.
        spread: [N, Q]. sigma: [N, G].
    """

    effect: Tensor
    spread: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Pieces(Effects):
    """The same with the columns that effects multiply: all that a likelihood by rows needs.

    Attributes:
        columns: [N, G, M, T], saturated media, then directed drivers.
    """

    columns: Tensor


class MixModel(nn.Module):
    """The model; `build` gives it its parameters once the panel's names are known.

    In a notebook::

        model = MixModel().build(panel.schema)
        model.fit_scales(panel, train_mask)
        data = model.tensors(panel, season, trend, train_mask, taps=13)
        model.log_density(u, data)      # [N, D] -> [N]

    Args:
        link: "identity" (effects add) or "log" (they multiply).
        likelihood: "normal", "student_t" or "negative_binomial" (log link, counts).
        adstock, saturation: of `shapes.ADSTOCKS`, `shapes.SATURATIONS`, for all channels or per channel with `default`.
        saturate_first: False: adstock, then saturation; True: the other way round; or per channel with `default`.
        frequency: of `shapes.FREQUENCIES`, likewise: "hill" is reach x Hill(frequency), "contacts" counts every contact
            alike, as it has to be for channels that are not given as reach and frequency.
        effect: what the prior of a channel's effect is about; see `effects.effect_prior`.
        priors: overrides of `PRIORS` and of the shapes' own.
        pooling: False gives every series its own media effects no room: all series respond alike.
        media_scale: "series_max" or "global_max"; see `PanelScales.fit`.
        noise_by_size: noise shrinks with the size of a series by a power that is learnt.
        collapse: "all" integrates out every coefficient, "series" the series' deviations only (for minibatches), "none"
            nothing; "auto" takes "all" for the normal likelihood, "none" for the others.
        experiments: lift tests; see `experiments.parse_experiments`.
    """

    def __init__(
        self,
        link: str = "identity",
        likelihood: str = "normal",
        adstock: str | Mapping[str, str] = "geometric",
        saturation: str | Mapping[str, str] = "hill",
        saturate_first: bool | Mapping[str, bool] = False,
        frequency: str | Mapping[str, str] = "hill",
        effect: Mapping[str, Any] | None = None,
        priors: Mapping[str, Any] | None = None,
        pooling: bool = True,
        media_scale: str = "series_max",
        noise_by_size: bool = False,
        collapse: str = "auto",
        experiments: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("link", link, ("identity", "log")),
            ("likelihood", likelihood, LIKELIHOODS),
            ("media_scale", media_scale, ("series_max", "global_max")),
            ("collapse", collapse, COLLAPSES),
        ):
            if value not in known:
                raise UserError(f"model.net.{key}={value!r}: choose from {', '.join(known)}.")
        if likelihood == "negative_binomial" and link != "log":
            raise UserError("model.net.likelihood=negative_binomial needs model.net.link=log: its mean is positive.")
        if likelihood != "normal" and collapse not in ("auto", "none"):
            raise UserError(
                f"model.net.collapse={collapse!r} integrates coefficients out of a normal likelihood; "
                f"model.net.likelihood={likelihood!r} needs collapse=none."
            )
        self.link, self.likelihood, self.media_scale_kind = link, likelihood, media_scale
        self.adstock, self.saturation, self.saturate_first = adstock, saturation, saturate_first
        self.frequency = frequency
        self.effect_options, self.prior_options = dict(effect or {}), dict(priors or {})
        self.pooling, self.noise_by_size = bool(pooling), bool(noise_by_size)
        self.collapse = ("all" if likelihood == "normal" else "none") if collapse == "auto" else collapse
        self.experiment_options = list(experiments)
        self.bound_experiments: list[BoundExperiment] = []
        self.experiment_data: PanelTensors | None = None  # series of the tests, where series come in batches
        self.schema: PanelSchema | None = None
        self.taps = 1
        self.base: PanelTensors | None = None  # series over which totals are taken, where they come in batches
        self.base_factor = 1.0  # all series over those of `base`
        self.reduce: Callable[[Tensor], Tensor] = same  # sums over ranks that hold other series

    # -- building --------------------------------------------------------------------------------------------------

    def build(self, schema: PanelSchema) -> MixModel:
        """Name the parameters and make room for the scales; returns itself.

        Raises:
            UserError: an option that names a channel or prior that is not there.
        """
        self.schema, self.columns = schema, columns_of(schema)
        self.scales = PanelScales(schema)
        self.media = MediaCurves(
            schema.media, self.adstock, self.saturation, self.saturate_first, self.frequency, schema.frequency
        )
        G, C, D, P = len(schema.series), len(schema.media), len(self.columns.driver), len(self.columns.fixed)
        self.levels = {
            name: level.of_series for name, level in schema.levels.items() if self.pooling and 1 < len(level.groups) < G
        }
        self.level_sizes = {name: len(schema.levels[name].groups) for name in self.levels}
        self.num_known, self.num_columns = C + D, P + C + D
        self.register_buffer("usual_media", torch.ones(C, dtype=torch.float64))
        self.register_buffer("usual_frequency", torch.ones(len(self.media.by_frequency), dtype=torch.float64))
        # What the effect priors are about: totals over the rows learnt from.
        self.register_buffer("kpi_sum", torch.ones((), dtype=torch.float64))
        self.register_buffer("spend_sum", torch.ones(C, dtype=torch.float64))
        self.experiments = parse_experiments(self.experiment_options, schema)
        self.effect: EffectPrior = effect_prior(self.effect_options, schema)
        check_prior_names(self.prior_options, self.media)
        sd = [coefficient_sd(self.prior_options, kind) for kind in self.columns.fixed_kind]
        self.shared_sd = torch.tensor(sd, dtype=torch.float64)
        wide = [torch.arange(self.num_columns)] * len(self.levels)
        self.shared_column = torch.cat([torch.arange(P), *wide])
        self.flat = FlatSites(model_sites(self))
        return self

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self.schema is not None

    @property
    def spread_levels(self) -> list[str]:
        """Levels over which coefficients differ, "series" last."""
        assert self.schema is not None
        if not self.pooling:
            return []
        return [*self.levels, *(["series"] if len(self.schema.series) > 1 else [])]

    @property
    def num_shared(self) -> int:
        """V, coefficients that several series share."""
        return len(self.columns.fixed) + sum(self.level_sizes.values()) * self.num_columns

    def fit_scales(self, panel: MediaPanel, learnt: np.ndarray) -> None:
        """Measure scales and totals on the rows learnt from.

        Raises:
            UserError: a channel without media there, a KPI that the link cannot take.
        """
        assert self.schema is not None
        check_kpi(panel, learnt, self.link, self.likelihood)
        self.scales.fit(panel, learnt, self.media_scale_kind)
        check_media(panel, learnt, self.schema)
        self.usual_media.copy_(self.scales.usual_media(panel, learnt).double())
        self.usual_frequency.copy_(self.scales.usual_frequency(panel, learnt)[self.media.by_frequency].double())
        self.media.usual_frequency = self.usual_frequency.clone()
        self.kpi_sum.fill_(float(np.where(learnt, panel.kpi, 0.0).astype(np.float64).sum()))
        shares = self.effect.needs_totals and not bool(self.effect.returns.all())
        check_total(self.schema, float(self.kpi_sum), shares)
        spend = np.where(learnt[..., None], panel.spend, 0.0).astype(np.float64).sum((0, 1))
        self.spend_sum.copy_(torch.from_numpy(spend))
        self.flat = FlatSites(model_sites(self))

    def adopt_scales(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Take the scales of a state dict, and the priors that are told in them."""
        for name, buffer in self.named_buffers():
            buffer.copy_(state[prefix + name])
        self.media.usual_frequency = self.usual_frequency.clone()
        self.flat = FlatSites(model_sites(self))

    def tensors(
        self, panel: MediaPanel, season: np.ndarray, trend: np.ndarray, learnt: np.ndarray, taps: int
    ) -> PanelTensors:
        """The panel as the density reads it."""
        assert self.schema is not None
        self.taps = taps
        groups = np.array(list(self.levels.values()), dtype=np.int64).reshape(len(self.levels), len(self.schema.series))
        place = self._places(torch.from_numpy(np.ascontiguousarray(groups.T)))
        log_link = self.link == "log"
        data = panel_tensors(panel, self.schema, self.scales, season, trend, learnt, taps, log_link, place)
        self.bound_experiments = bind(self.experiments, panel, data, self)
        return data

    # -- the density -----------------------------------------------------------------------------------------------

    def pieces(self, theta: Mapping[str, Tensor], data: PanelTensors, base: PanelTensors | None = None) -> Pieces:
        """Columns, effects, spreads and noise for natural parameters [N, K] each.

        Args:
            theta: of `flat.constrain`.
            data: the series to compute.
            base: the series over which totals of the effect prior are taken; None is `self.base`, or `data`.
        """
        base = self.base if base is None else base
        media = self.media.columns(theta, data.history, self.taps, frequency=data.frequency)  # [N, G, C, T]
        total = self.effect.total(theta, media, data, self) if base is None else None
        made = self._effects(theta, total, data, base)
        return Pieces(made.effect, made.spread, made.sigma, self._columns(media, data))

    def _media(self, theta: Mapping[str, Tensor], block: PanelTensors) -> Tensor:
        """Saturated media [N, G, C, T] of one of the blocks, whose windows are kept."""
        return self.media.columns(theta, block.history, self.taps, block.windows, block.frequency)

    def _columns(self, media: Tensor, data: PanelTensors) -> Tensor:
        """[N, G, M, T] of media [N, G, C, T]."""
        G, T, D = data.driver.shape
        return torch.cat([media, data.driver.mT.expand(len(media), G, D, T)], dim=2) if D else media

    def _effects(
        self, theta: Mapping[str, Tensor], total: Tensor | None, data: PanelTensors, base: PanelTensors | None
    ) -> Effects:
        """Of the series of `data`; `total` is that of `EffectPrior.total` over them, where `base` is None."""
        if base is not None:  # the same on every rank
            parts = ((self._media(theta, b), b) for b in base.blocks)
            total = torch.stack([self.effect.total(theta, media, b, self) for media, b in parts]).sum(0)
            total = total * self.base_factor
        elif self.effect.needs_totals:
            total = self.reduce(total)
        known = self.effect.coefficient(theta, total, self)  # [N, C]
        if self.columns.driver:
            known = torch.cat([known, theta["driver_effect"]], dim=-1)
        N, G = len(known), data.num_series
        sigma = theta["noise"].expand(N, G) if "noise" in theta else known.new_ones(N, G)
        if self.noise_by_size:
            size = (data.kpi_scale / self.scales.kpi_scale.double().mean()).log()
            sigma = sigma * torch.exp(-theta["noise_size"] * size)
        return Effects(known, self._spread(theta, known, ""), sigma)

    def _spread(self, theta: Mapping[str, Tensor], known: Tensor, suffix: str) -> Tensor:
        """[N, Q], standard deviations of the deviations at one level; 0 where there are none."""
        if "media_spread" + suffix not in theta:
            return known.new_zeros(known.shape[0], self.num_columns)
        parts = [
            theta[FIXED_KIND.get(kind, kind) + "_spread" + suffix].expand(known.shape[0], 1)
            for kind in self.columns.fixed_kind
        ]
        relative = [theta["media_spread" + suffix]]
        if self.columns.driver:
            relative.append(theta["driver_spread" + suffix])
        return torch.cat([*parts, torch.cat(relative, dim=-1) * known], dim=-1)

    def shared(self, theta: Mapping[str, Tensor], known: Tensor, data: PanelTensors) -> Shared:
        """Standard deviations and places of the shared coefficients."""
        N, P = known.shape[0], len(self.columns.fixed)
        sd = [self.shared_sd.to(known).expand(N, P)]
        sd += [self._spread(theta, known, f"_{name}") for name in self.level_sizes]
        return Shared(torch.cat(sd, dim=-1), self.shared_column.to(known.device), data.place, self.num_shared)

    def _places(self, level: Tensor) -> Tensor:
        """[G, W], the number of each shared coefficient that a series sees, from groups [G, levels]."""
        P, Q, G = len(self.columns.fixed), self.num_columns, len(level)
        place, offset = [torch.arange(P).expand(G, P)], P
        for k, size in enumerate(self.level_sizes.values()):
            place.append(offset + level[:, k].unsqueeze(-1) * Q + torch.arange(Q))
            offset += size * Q
        return torch.cat(place, dim=-1)

    def solve(
        self, theta: Mapping[str, Tensor], data: PanelTensors, base: PanelTensors | None = None
    ) -> tuple[Solved, Effects, Shared | None]:
        """Integrate coefficients out of the normal likelihood; `collapse` says which."""
        base = self.base if base is None else base
        made, totals = [], []
        for part in data.blocks:
            media = self._media(theta, part)
            if base is None:
                totals.append(self.effect.total(theta, media, part, self))
            columns = self._columns(media, part)
            made.append(gram(columns, part.fixed, part.y, part.mask, FixedGram(part.ff, part.fy, part.yy)))
        products = joined(made)
        pieces = self._effects(theta, torch.stack(totals).sum(0) if totals else None, data, base)
        shared = self.shared(theta, pieces.effect, data)
        known = self.known(pieces.effect)
        if self.collapse == "all":
            return collapsed(products, known, pieces.spread, pieces.sigma, shared, self.reduce), pieces, shared
        known = known.unsqueeze(1) + self.from_shared(theta["shared"], shared)
        return collapsed(products, known, pieces.spread, pieces.sigma, None, self.reduce), pieces, None

    def from_shared(self, w: Tensor, shared: Shared) -> Tensor:
        """Coefficients [N, G, Q] that shared ones [N, V], in units of their standard deviation, add up to."""
        seen = w[:, shared.place] * shared.sd.unsqueeze(1)  # [N, G, W]
        out = seen.new_zeros(*seen.shape[:2], self.num_columns)
        return out.index_add(-1, shared.column, seen)

    def log_likelihood(
        self,
        theta: Mapping[str, Tensor],
        data: PanelTensors,
        base: PanelTensors | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        """Of all rows of `data` together, times `scale`, and of the experiments, once: [N]."""
        if self.collapse == "none":
            total = self.reduce(self.series_log_likelihood(theta, data, base).sum(-1))
            return scale * total + self._experiments(theta, data, base)
        solved, pieces, shared = self.solve(theta, data, base)
        total = scale * solved.log_likelihood
        if not self.bound_experiments:
            return total
        if self.experiment_data is not None:
            return total + self._experiments(theta, self.experiment_data, base)
        return total + self._experiments(theta, data, base, (solved, pieces, shared))

    def _experiments(
        self,
        theta: Mapping[str, Tensor],
        data: PanelTensors,
        base: PanelTensors | None,
        found: tuple[Solved, Effects, Shared | None] | None = None,
    ) -> Tensor | float:
        """Log density [N] of the experiments given the panel."""
        if not self.bound_experiments:
            return 0.0
        if self.collapse == "none":
            pieces = self.pieces(theta, data, base)
            given = self.coefficients(theta, pieces, data)
            return experiment_log_likelihood(self, theta, data, given, pieces.spread, None, None)
        outer, whole = self.reduce, found is None
        self.reduce = same if whole else outer  # every rank has all series of the tests
        try:
            solved, pieces, shared = found or self.solve(theta, data, base)
            mean, _ = self.drawn_coefficients(theta, solved, pieces, shared, data)
            return experiment_log_likelihood(self, theta, data, mean, pieces.spread, solved, shared)
        finally:
            self.reduce = outer

    def known(self, effect: Tensor) -> Tensor:
        """Coefficients [N, Q] that are given before any is drawn: 0 of the fixed columns, the effects [N, M]."""
        return torch.cat([effect.new_zeros(len(effect), len(self.columns.fixed)), effect], dim=-1)

    def drawn_coefficients(
        self,
        theta: Mapping[str, Tensor],
        solved: Solved,
        pieces: Effects,
        shared: Shared | None,
        data: PanelTensors,
        noise: tuple[Tensor | None, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Coefficients given parameters and panel, where they are integrated out.

        Args:
            theta: natural parameters.
            solved, pieces, shared: of `solve`.
            data: of the panel.
            noise: standard normal [N, V] (None where nothing shared is integrated out) and [N, G, Q]; None gives means.

        Returns:
            [N, G, Q] of each series, and [N, G, Q] what is shared in them.
        """
        own = torch.zeros_like(solved.residual)
        common = None if shared is None else own.new_zeros(len(own), shared.size)
        w, z = draw_coefficients(solved, shared, *((common, own) if noise is None else noise))
        if shared is None:  # shared coefficients are parameters
            shared, w = self.shared(theta, pieces.effect, data), theta["shared"]
        both = self.known(pieces.effect).unsqueeze(1) + self.from_shared(w, shared)
        return both + z * pieces.spread.unsqueeze(1), both

    def series_log_likelihood(
        self, theta: Mapping[str, Tensor], data: PanelTensors, base: PanelTensors | None = None
    ) -> Tensor:
        """[N, G]: of each series' rows given parameters and, unless they are integrated out, coefficients."""
        if self.collapse == "series":
            return self.solve(theta, data, base)[0].per_series
        pieces = self.pieces(theta, data, base)
        eta = self.linear_predictor(pieces, self.coefficients(theta, pieces, data), data)
        return row_log_density(self.likelihood, eta, pieces.sigma, theta, data).sum(-1)

    def coefficients(self, theta: Mapping[str, Tensor], pieces: Pieces, data: PanelTensors, own: bool = True) -> Tensor:
        """Coefficients [N, G, Q] where they are parameters (`collapse="none"`); `own`: with the series' deviations."""
        known = self.known(pieces.effect).unsqueeze(1)
        out = known + self.from_shared(theta["shared"], self.shared(theta, pieces.effect, data))  # [N, G, Q]
        if own and "deviation" in theta:
            z = theta["deviation"].unflatten(-1, (-1, self.num_columns))[:, data.series]
            out = out + z * pieces.spread.unsqueeze(1)
        return out

    def linear_predictor(self, pieces: Pieces, coefficients: Tensor, data: PanelTensors) -> Tensor:
        """[N, G, T] of coefficients [N, G, Q]."""
        P = len(self.columns.fixed)
        fixed = torch.einsum("gtp,ngp->ngt", data.fixed, coefficients[..., :P])
        return fixed + torch.einsum("ngmt,ngm->ngt", pieces.columns, coefficients[..., P:])

    def log_density(self, u: Tensor, data: PanelTensors, base: PanelTensors | None = None) -> Tensor:
        """Log posterior density, up to a constant, of unconstrained parameters [N, D] -> [N]."""
        return self.flat.log_prior(u) + self.log_likelihood(self.flat.constrain(u), data, base)

    def pyro_model(self, data: PanelTensors, scale: float = 1.0, base: PanelTensors | None = None) -> None:
        """The same density as a Pyro model: sites by name, and the likelihood with coefficients integrated out.

        Args:
            data: some or all of the series.
            scale: how much the log likelihood counts: all series over those of a minibatch.
            base: see `pieces`.
        """
        theta = {s.name: pyro.sample(s.name, s.distribution()) for s in self.flat.sites}
        batched = {name: value if value.ndim > 1 else value.unsqueeze(0) for name, value in theta.items()}
        value = self.log_likelihood(batched, data, base, scale)
        single = next(iter(theta.values())).ndim == 1
        pyro.factor("kpi", value[0] if single else value)
