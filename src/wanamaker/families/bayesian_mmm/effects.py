"""What the prior of a media effect is about: the coefficient, the share of the KPI, the return, or the marginal return.

With a the total over the rows learnt from of saturated media, in KPI units per unit of coefficient, a channel's
coefficient is b = v * K / a, where v is what has the prior and

    coefficient   K / a = 1                          b in units of a series' mean KPI (or of log KPI)
    contribution  K = sum of the KPI                 v = share of the KPI that the channel brought
    roi           K = spend / value per unit of KPI  v = money back per money spent
    mroi          the same with a = (a at media 1 % higher - a) / 1 %: return of the last money

which also takes shapes and effects apart: the ridge between them is the worst of a mix model's geometry. Organic
channels cost nothing and have a contribution where the others have a return, as in Meridian. With a log
link the totals are of first order: sum of KPI x part, instead of KPI x (1 - exp(-part)).

Source: Google Meridian's `media_prior_type`, defined here at the shared effect rather than at realised ones.

Axis letters: N draws, G series, C channels, T periods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wanamaker.data.media_panel import PanelSchema
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.priors import Site, site

if TYPE_CHECKING:
    from wanamaker.families.bayesian_mmm.model import MixModel

KINDS = ("contribution", "roi", "mroi", "coefficient")
DEFAULTS: dict[str, list[Any]] = {
    "roi": ["lognormal", 1.2, 0.9],  # Meridian's LogNormal(0.2, 0.9)
    "mroi": ["lognormal", 1.0, 0.5],
    "coefficient": ["lognormal", 0.1, 1.2],
}
MEDIA_SHARE, SHARE_SIGMA = 0.3, 1.2
"""Media together are thought to bring about a third of the KPI, each channel its part within a factor of seven."""
STEP = 0.01


@dataclass(frozen=True)
class EffectPrior:
    """Options of the effects' prior, checked.

    Attributes:
        kind: of `KINDS`.
        prior: as a recipe gives it, or None for the default.
        spend_informed: the median of a contribution is in proportion to spend (LightweightMMM).
        returns: bool [C], the channels whose prior is about a return.
    """

    kind: str
    prior: Any
    spend_informed: bool
    returns: Tensor

    @property
    def needs_totals(self) -> bool:
        """Whether coefficients depend on sums over the panel."""
        return self.kind != "coefficient"

    def site(self, schema: PanelSchema, spend_sum: Tensor) -> Site:
        """The parameter "effect", [C]."""
        channels = list(schema.media)
        given = self.prior
        shares = zip(channels, self._shares(schema, spend_sum), self.returns.tolist(), strict=True)
        free = {channel: share for channel, share, returns in shares if not returns}
        if self.kind == "contribution" and given is None:
            given = free
        elif self.kind in ("roi", "mroi"):
            table = (
                given if isinstance(given, Mapping) else {"default": DEFAULTS[self.kind] if given is None else given}
            )
            given = {**free, **table}
        elif given is None:
            given = DEFAULTS[self.kind]
        positive = ["lognormal", 1.0, 1.0]
        made = site("prior", given if channels else positive, channels, "channel", "model.net.effect", positive)
        return replace(made, name="effect")

    def _shares(self, schema: PanelSchema, spend_sum: Tensor) -> list[list[Any]]:
        """Default priors of contributions."""
        share = torch.full((len(schema.media),), 1.0 / max(1, len(schema.media)), dtype=torch.float64)
        paid = torch.tensor(schema.paid)
        if self.spend_informed and bool(paid.any()):
            money = spend_sum.to(share) * paid
            share = torch.where(paid, money / money.sum().clamp(min=1e-30) * paid.double().mean(), share)
        # A channel of nearly no spend keeps some room.
        share = share.clamp(min=0.05 / max(1, len(schema.media)))
        return [["lognormal", MEDIA_SHARE * s, SHARE_SIGMA] for s in share.tolist()]

    def total(self, theta: Mapping[str, Tensor], media: Tensor, data: PanelTensors, model: MixModel) -> Tensor:
        """What the prior divides by, summed over the series of `data`: [N, C].

        Args:
            theta: natural parameters.
            media: [N, G, C, T] saturated media of `data`.
            data: some or all of the series.
            model: its curves.
        """
        if not self.needs_totals:
            return media.new_zeros(media.shape[0], media.shape[2])
        total = torch.einsum("ngct,gt->nc", media, data.weight)
        if self.kind != "mroi":
            return total
        raised = model.media.columns(theta, data.history * (1 + STEP), model.taps, frequency=data.frequency)
        gained = (torch.einsum("ngct,gt->nc", raised, data.weight) - total) / STEP
        return torch.where(self.returns.to(total.device), gained, total)

    def coefficient(self, theta: Mapping[str, Tensor], total: Tensor | None, model: MixModel) -> Tensor:
        """b [N, C] of the parameter "effect".

        Args:
            theta: natural parameters.
            total: [N, C], of `total` over all series; None where nothing needs it.
            model: its totals of KPI and spend.
        """
        value = theta.get("effect")
        if value is None:
            some = next(iter(theta.values()))
            return some.new_zeros(some.shape[0], 0)
        if self.kind == "coefficient":
            return value
        assert total is not None
        wanted = torch.where(self.returns.to(total.device), model.spend_sum / model.schema.kpi_value, model.kpi_sum)
        return value * wanted / total.clamp(min=1e-30)


def effect_prior(options: Mapping[str, Any], schema: PanelSchema) -> EffectPrior:
    """Check the options of `model.net.effect`.

    Args:
        options: `kind` of `KINDS`, `prior` (see `priors`; null is the default), `spend_informed`.
        schema: of the panel.

    Raises:
        UserError: an unknown option.
    """
    if unknown := sorted(set(options) - {"kind", "prior", "spend_informed"}):
        raise UserError(f"model.net.effect: unknown {', '.join(unknown)}; there are kind, prior, spend_informed.")
    kind = options.get("kind", "contribution")
    if kind not in KINDS:
        raise UserError(f"model.net.effect.kind={kind!r}: choose from {', '.join(KINDS)}.")
    informed = options.get("spend_informed", False)
    if not isinstance(informed, bool):
        raise UserError(f"model.net.effect.spend_informed={informed!r}: give true or false.")
    returns = torch.tensor(schema.paid, dtype=torch.bool) & (kind in ("roi", "mroi"))
    return EffectPrior(kind, options.get("prior"), informed, returns)
