"""`PanelTruth`: what really happened in a simulated panel, and what would have happened otherwise.

Axis letters: G series, T periods of the panel, N = T + L - 1 periods with the tail behind it, C channels, L taps.

    eta[g,t] = sum of parts[g,t] + sum_c amplitude[g,c] * f_c(x)[g,t],    E[kpi] = eta or exp(eta) by link
    x[g,t,c] = sum_l kernel[c,l] * contact_weight[g,t-l,c] * exposure[g,t-l,c] / media_scale[g,c]
                                                                          (or saturated first: `adstock_first`)

Expectations are given the hidden demand of the panel: a noise-free observer who knows everything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wanamaker.data.simulate.media_channel import Channel
from wanamaker.data.simulate.media_fields import restored
from wanamaker.data.simulate.media_options import PanelSimulation
from wanamaker.data.simulate.media_response import media_curves, price_effect, price_slope, saturate
from wanamaker.errors import UserError

ARRAYS = "truth.npz"
SUMMARY = "truth.json"
PARTS = ("level", "trend", "season", "holiday", "demand", "spike", "control", "promotion", "price", "cross_price")


@dataclass(frozen=True)
class PanelTruth:
    """The truth of a simulated panel. Totals are over the observed periods, KPI units; carry-over is included.

    Attributes:
        options: All parameters of the simulation.
        series: G names, the parts of a compound key joined by " | ".
        dates: datetime64[D] [T].
        parts: name in `PARTS` to [G, N]: KPI units (identity link) or log units (log link).
        exposure: [G, T, C], contacts, or money where the panel shows spend only.
        contact_weight: [G, T, C], what a contact counts at its frequency; it stays under other plans.
        spend: [G, T, C], money; 0 for organic channels.
        unit_cost: [G, T, C], money per exposure; 0 for organic channels.
        media_scale: [G, C], exposure that counts as 1.
        amplitude: [G, C], units of eta.
        kernel: [C, L], newest first, sums to 1.
        price, competitor_price: [G, N], money. reference_price, reference_competitor: [G].
        discount, display: [G, N].
        level: [G], KPI per period at rest.
        elasticity, cross_elasticity: [G], parameters: with the log link the own-price elasticity at the reference
            price, with the identity link the same relative to `level` instead of the current KPI.
        promotion_effect: relative effect of a discount of 100 %, and of a display.
        noise_scale: [G], parameter of the noise: standard deviation (gaussian, student_t: KPI units; lognormal: log
            units), dispersion 1/r (negative_binomial), 0 (poisson).
        noise_sd: [G], root mean square of the noise's standard deviation, KPI units.
        observed: bool [T], periods that have a KPI.
    """

    options: PanelSimulation
    series: tuple[str, ...]
    dates: np.ndarray
    parts: dict[str, np.ndarray]
    exposure: np.ndarray
    contact_weight: np.ndarray
    spend: np.ndarray
    unit_cost: np.ndarray
    media_scale: np.ndarray
    amplitude: np.ndarray
    kernel: np.ndarray
    price: np.ndarray
    competitor_price: np.ndarray
    reference_price: np.ndarray
    reference_competitor: np.ndarray
    discount: np.ndarray
    display: np.ndarray
    level: np.ndarray
    elasticity: np.ndarray
    cross_elasticity: np.ndarray
    promotion_effect: np.ndarray
    noise_scale: np.ndarray
    noise_sd: np.ndarray
    observed: np.ndarray

    # -- names --------------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> tuple[str, ...]:
        """C names, paid and organic, in the order of the options."""
        return tuple(channel.name for channel in self.options.channels)

    @property
    def paid(self) -> np.ndarray:
        """bool [C]."""
        return np.array([not channel.organic for channel in self.options.channels])

    def channel(self, name: str) -> Channel:
        """Parameters of a channel."""
        return self.options.channels[self.channels.index(name)]

    # -- expectations -------------------------------------------------------------------------------------------------

    def media_parts(self, exposure: np.ndarray) -> np.ndarray:
        """Media in eta, [..., G, N', C], for exposure [..., G, N', C] from the first period of the panel on."""
        scaled = exposure / self.media_scale[:, None]
        scaled[..., : len(self.dates), :] *= self.contact_weight[:, : scaled.shape[-2]]
        return self.amplitude[:, None] * media_curves(scaled, self.options.channels, self.kernel)

    def curve(self, scaled: np.ndarray) -> np.ndarray:
        """f_c at a lasting scaled exposure, [..., C] -> [..., C]; times `amplitude` it is in eta."""
        return saturate(np.asarray(scaled, dtype=np.float64), [c.saturation for c in self.options.channels])

    def expected_kpi(
        self,
        spend: np.ndarray | None = None,
        price: np.ndarray | None = None,
        *,
        discount: np.ndarray | None = None,
        competitor_price: np.ndarray | None = None,
        exposure: np.ndarray | None = None,
        tail: bool = False,
    ) -> np.ndarray:
        """Expected KPI under other spend and prices, all else as it was; [..., G, T].

        Args:
            spend: [..., G, T, C], money per period; 0 for organic channels, whose contacts stay. None: as it was.
                Money buys contacts at the cost they had in that period.
            price: [..., G, T], regular price; None as it was.
            discount: [..., G, T], share taken off.
            competitor_price: [..., G, T].
            exposure: [..., G, T, C], instead of `spend`, for organic channels too.
            tail: Add the L - 1 periods behind the panel, in which nothing is spent: [..., G, N].

        Raises:
            ValueError: both spend and exposure, spend on an organic channel, a negative amount or a wrong shape.
        """
        if exposure is None:
            exposure = self.exposure if spend is None else self._bought(np.asarray(spend, dtype=np.float64))
        elif spend is not None:
            raise ValueError("expected_kpi takes spend or exposure, not both.")
        exposure = np.asarray(exposure, dtype=np.float64)
        if exposure.shape[-3:] != self.exposure.shape or not (exposure >= 0).all():
            raise ValueError(f"Media of shape {exposure.shape}: give amounts >= 0 of shape [..., *{self.spend.shape}].")
        eta = self._other(price, discount, competitor_price) + self.media_parts(self._with_tail(exposure)).sum(axis=-1)
        mean = np.exp(eta) if self.options.link == "log" else eta
        return mean if tail else mean[..., : len(self.dates)]

    def _bought(self, spend: np.ndarray) -> np.ndarray:
        if spend.shape[-3:] != self.spend.shape:
            raise ValueError(f"Spend of shape {spend.shape}: give [..., *{self.spend.shape}].")
        if spend[..., ~self.paid].any():
            names = [name for name, paid in zip(self.channels, self.paid, strict=True) if not paid]
            raise ValueError(
                f"Spend on organic channels ({', '.join(names)}): give 0, or their contacts as `exposure`."
            )
        return np.where(self.paid, spend / np.where(self.paid, self.unit_cost, 1.0), self.exposure)

    def _with_tail(self, exposure: np.ndarray) -> np.ndarray:
        empty = np.zeros((*exposure.shape[:-2], self.kernel.shape[1] - 1, exposure.shape[-1]))
        return np.concatenate([exposure, empty], axis=-2)

    def _other(self, price: Any, discount: Any, competitor_price: Any) -> np.ndarray:
        """All parts but media, with the price part of other prices; [..., G, N]."""
        parts = dict(self.parts)
        rule, size = self.options.price, self._unit[:, None]
        if price is not None:
            ratio = self._continued(price, self.price) / self.reference_price[:, None]
            parts["price"] = size * price_effect(ratio, self.elasticity[:, None], rule)
        if competitor_price is not None:
            ratio = self._continued(competitor_price, self.competitor_price) / self.reference_competitor[:, None]
            parts["cross_price"] = size * price_effect(ratio, self.cross_elasticity[:, None], rule)
        if discount is not None:
            change = self._continued(discount, self.discount) - self.discount
            parts["promotion"] = parts["promotion"] + size * self.promotion_effect[0] * change
        return sum(parts.values())

    @property
    def _unit(self) -> np.ndarray:
        """[G], what a relative effect of 1 is in eta."""
        return np.ones_like(self.level) if self.options.link == "log" else self.level

    def _continued(self, values: Any, actual: np.ndarray) -> np.ndarray:
        """Values for [G, T], and those that the tail has anyway."""
        values = np.asarray(values, dtype=np.float64)
        T = len(self.dates)
        values = np.broadcast_to(values, (*values.shape[:-2], len(self.series), T))
        rest = np.broadcast_to(actual[:, T:], (*values.shape[:-1], actual.shape[1] - T))
        return np.concatenate([values, rest], axis=-1)

    # -- what media did -----------------------------------------------------------------------------------------------

    @cached_property
    def expected(self) -> np.ndarray:
        """Expected KPI, [G, T]."""
        return self.expected_kpi()

    @cached_property
    def eta_contribution(self) -> np.ndarray:
        """Media in eta, [G, T, C]; the additive log parts with the log link."""
        return self.media_parts(self.exposure)

    @cached_property
    def contribution(self) -> np.ndarray:
        """KPI that would be missing without the channel (its whole history removed), [G, T, C].

        With the log link these do not add up to `contribution_all`: what two channels lift together would be missing
        without either.
        """
        if self.options.link == "identity":
            return self.eta_contribution
        return self.expected[..., None] * -np.expm1(-self.eta_contribution)

    @cached_property
    def contribution_all(self) -> np.ndarray:
        """KPI that would be missing without any media, [G, T]."""
        return self.expected - self.expected_kpi(exposure=np.zeros_like(self.exposure))

    def _total(self, values: np.ndarray) -> np.ndarray:
        """Sum of [G, T, C] over series and observed periods, [C]."""
        return values[:, self.observed].sum(axis=(0, 1))

    @property
    def contribution_total(self) -> np.ndarray:
        """[C]."""
        return self._total(self.contribution)

    @property
    def spend_total(self) -> np.ndarray:
        """[C], money in the observed periods."""
        return self._total(self.spend)

    @property
    def media_share(self) -> float:
        """Share of the expected KPI that would be missing without any media."""
        return float(self.contribution_all[:, self.observed].sum() / self.expected[:, self.observed].sum())

    @property
    def roi(self) -> np.ndarray:
        """[C], money of KPI per money spent, both in the observed periods; NaN for organic channels."""
        return _ratio(self.contribution_total * self.options.kpi_value, self.spend_total)

    @property
    def roi_series(self) -> np.ndarray:
        """[G, C], the same per series; NaN where a series spends nothing."""
        gained = self.contribution[:, self.observed].sum(axis=1) * self.options.kpi_value
        return _ratio(gained, self.spend[:, self.observed].sum(axis=1))

    @cached_property
    def mroi(self) -> np.ndarray:
        """[C], money of KPI per further money if every spend of the channel were 1 % higher; NaN for organic."""
        more = np.empty(len(self.channels))
        for number in range(len(self.channels)):
            exposure = self.exposure.copy()
            exposure[..., number] *= 1.01
            more[number] = (self.expected_kpi(exposure=exposure) - self.expected)[:, self.observed].sum()
        return _ratio(more * self.options.kpi_value, 0.01 * self.spend_total)

    def incremental(self, periods: int | None = None, channel: str | None = None) -> float:
        """KPI that the spend (or contacts) of the last periods brings, its tail behind the panel included.

        Nothing is spent behind the panel, and what was spent before the window stays.

        Args:
            periods: Length of the window; None takes `options.incremental_periods`.
            channel: Whose spend to take away; None takes that of all paid channels together.
        """
        window = self.options.incremental_periods if periods is None else periods
        if not 1 <= window <= len(self.dates):
            raise ValueError(f"A window of {window} periods: give 1 to {len(self.dates)}.")
        without = self.exposure.copy()
        without[:, -window:, self.paid if channel is None else self.channels.index(channel)] = 0.0
        return float((self.expected_kpi(tail=True) - self.expected_kpi(exposure=without, tail=True)).sum())

    # -- prices -------------------------------------------------------------------------------------------------------

    @cached_property
    def price_elasticity(self) -> np.ndarray:
        """d log E[kpi] / d log own price, [G, T]."""
        T = len(self.dates)
        ratio = self.price[:, :T] / self.reference_price[:, None]
        slope = price_slope(ratio, self.elasticity[:, None], self.options.price)
        return slope if self.options.link == "log" else self.level[:, None] * slope / self.expected

    @property
    def mean_elasticity(self) -> np.ndarray:
        """[G], d log sum_t E[kpi] / d log of all own prices of a series, over the observed periods."""
        weight = self.expected[:, self.observed]
        return (weight * self.price_elasticity[:, self.observed]).sum(axis=1) / weight.sum(axis=1)

    # -- files --------------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """What a person looks for first, and all options; plain values."""
        results = {
            name: {
                "roi": None if not paid else float(self.roi[c]),
                "mroi": None if not paid else float(self.mroi[c]),
                "spend": float(self.spend_total[c]),
                "contribution": float(self.contribution_total[c]),
                "share_of_kpi": float(self.contribution_total[c] / self.expected[:, self.observed].sum()),
                "incremental": self.incremental(channel=name),
            }
            for c, (name, paid) in enumerate(zip(self.channels, self.paid, strict=True))
        }
        return {
            "series": list(self.series),
            "incremental_periods": self.options.incremental_periods,
            "media_share": self.media_share,
            "incremental": self.incremental(),
            "channels": results,
            "elasticity": {}
            if not self.options.price.elasticity
            else dict(zip(self.series, self.mean_elasticity.tolist(), strict=True)),
            "options": asdict(self.options),
        }

    def save(self, folder: Path | str) -> None:
        """Write `truth.npz` and `truth.json` to a folder."""
        arrays = {name: value for name, value in vars(self).items() if name in _STORED}
        derived = {name: np.asarray(getattr(self, name)) for name in _DERIVED}
        parts = {f"part_{name}": value for name, value in self.parts.items()}
        np.savez_compressed(Path(folder) / ARRAYS, **arrays, **derived, **parts)
        text = json.dumps(self.summary(), indent=1, ensure_ascii=False)
        (Path(folder) / SUMMARY).write_text(text + "\n", encoding="utf-8")


_STORED = {name for name, kind in PanelTruth.__annotations__.items() if kind == "np.ndarray"}
_DERIVED = (
    "expected",
    "eta_contribution",
    "contribution",
    "contribution_all",
    "contribution_total",
    "spend_total",
    "roi",
    "roi_series",
    "mroi",
    "price_elasticity",
)
"""Written for readers of the file without this class; recomputed when it is loaded."""


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def load_truth(folder: Path | str) -> PanelTruth:
    """Read the truth beside a simulated panel.

    Raises:
        UserError: the folder has no truth.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS) as stored:
            arrays = {name: stored[name] for name in _STORED}
            parts = {name: stored[f"part_{name}"] for name in PARTS}
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} holds no complete truth of a simulated panel ({ARRAYS}, {SUMMARY}): {error}. "
            "Remove the folder and it is made anew."
        ) from error
    options = restored(PanelSimulation, summary["options"])
    return PanelTruth(options=options, series=tuple(summary["series"]), parts=parts, **arrays)
