"""The scales of a panel, measured on its training rows and kept in the checkpoint.

Axis letters: B rows, G series, T periods, C channels, L taps, P prices, Q promotions, F controls.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.errors import UserError


class PanelScales(nn.Module):
    """Buffers that turn the units of a file into numbers near one, and back.

    Attributes:
        kpi_scale: [G], mean absolute KPI of each series in training.
        media_scale: [G, C], media units that count as 1.
        media_max: [G, C], largest media per period in training.
        cost_per_media: [G, C], money per media unit in training.
        price_reference: [G, P], median price of each series in training.
        price_range, promotion_range: [2, G, .], smallest and largest in training.
        promotion_scale: [Q], largest absolute value in training.
        control_mean, control_sd: [F].
    """

    def __init__(self, schema: PanelSchema) -> None:
        super().__init__()
        G, C, P, Q, F = (len(x) for x in (schema.series, schema.media, schema.price, schema.promotion, schema.control))
        shapes = {
            "kpi_scale": (G,),
            "media_scale": (G, C),
            "media_max": (G, C),
            "cost_per_media": (G, C),
            "price_reference": (G, P),
            "price_range": (2, G, P),
            "promotion_range": (2, G, Q),
            "promotion_scale": (Q,),
            "control_mean": (F,),
            "control_sd": (F,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape))
        self._schema = schema

    def fit(self, panel: MediaPanel, train_mask: np.ndarray, media_scale: str) -> None:
        """Measure everything on the training rows.

        Raises:
            UserError: a series without a training row or with a KPI of zero throughout.
        """
        names = self._schema.series
        counts = train_mask.sum(1)
        if (counts == 0).any():
            lost = [names[g] for g in np.flatnonzero(counts == 0)[:5]]
            raise UserError(
                f"Series {', '.join(lost)} have no observed KPI in the training window: leave them out or let "
                "the training window begin earlier (data.split)."
            )
        kpi = np.where(train_mask, np.abs(panel.kpi), 0.0).astype(np.float64)
        scale = kpi.sum(1) / counts
        if (scale == 0).any():
            lost = [names[g] for g in np.flatnonzero(scale == 0)[:5]]
            raise UserError(f"The KPI of series {', '.join(lost)} is 0 in the whole training window: leave them out.")
        self._set("kpi_scale", scale)
        # Media are known in every period, also where the KPI is not: the window counts, not the observed rows.
        window = np.flatnonzero(train_mask.any(0))
        span = slice(window[0], window[-1] + 1)
        media, spend = contacts(panel)[:, span], panel.spend[:, span]
        largest = media.max(1)
        self._set("media_max", largest)
        if media_scale == "global_max":
            heads = np.ones(len(names)) if panel.population is None else panel.population / panel.population.mean()
            largest = heads[:, None] * (largest / heads[:, None]).max(0, keepdims=True)
        overall = largest.max(0, keepdims=True)
        # A series that never saw a channel takes the largest of the others: any number will do, but not 0.
        self._set("media_scale", np.where(largest > 0, largest, np.where(overall > 0, overall, 1.0)))
        total, money = media.sum(1, dtype=np.float64), spend.sum(1, dtype=np.float64)
        everywhere = money.sum(0) / np.maximum(total.sum(0), 1e-30)
        self._set("cost_per_media", np.where(total > 0, money / np.maximum(total, 1e-30), everywhere))
        if panel.price.shape[-1]:
            price = np.where(train_mask[..., None], panel.price, np.nan)
            self._set("price_reference", np.nanmedian(price, axis=1))
            self._set("price_range", np.stack([np.nanmin(price, axis=1), np.nanmax(price, axis=1)]))
        if panel.promotion.shape[-1]:
            promotion = np.where(train_mask[..., None], panel.promotion, np.nan)
            self._set("promotion_range", np.stack([np.nanmin(promotion, axis=1), np.nanmax(promotion, axis=1)]))
            top = np.nanmax(np.abs(promotion), axis=(0, 1))
            self._set("promotion_scale", np.where(top > 0, top, 1.0))
        if panel.control.shape[-1]:
            control = panel.control[train_mask].astype(np.float64)
            sd = control.std(0)
            self._set("control_mean", control.mean(0))
            self._set("control_sd", np.where(sd > 0, sd, 1.0))

    def _set(self, name: str, value: np.ndarray) -> None:
        getattr(self, name).copy_(torch.from_numpy(np.asarray(value, np.float32)))

    def usual_media(self, panel: MediaPanel, train_mask: np.ndarray) -> Tensor:
        """Mean of the scaled media over the periods with any, [C]; 0.5 for a channel that was never on."""
        window = np.flatnonzero(train_mask.any(0))
        media = contacts(panel)[:, window[0] : window[-1] + 1] / self.media_scale.numpy()[:, None]
        on = media > 0
        mean = np.where(on, media, 0).sum((0, 1)) / np.maximum(on.sum((0, 1)), 1)
        return torch.from_numpy(np.where(mean > 0, mean, 0.5).astype(np.float32))

    def usual_frequency(self, panel: MediaPanel, train_mask: np.ndarray) -> Tensor:
        """Mean contacts per person over the periods with any, [C]; 1 for channels without reach and frequency."""
        window = np.flatnonzero(train_mask.any(0))
        span = slice(window[0], window[-1] + 1)
        on = contacts(panel)[:, span] > 0
        times = np.where(on, contact_frequency(panel)[:, span], 0).sum((0, 1), dtype=np.float64)
        return torch.from_numpy(np.where(on.any((0, 1)), times / np.maximum(on.sum((0, 1)), 1), 1.0))

    def kpi(self, value: Tensor, series: Tensor) -> Tensor:
        """KPI [B] in units of its series' scale."""
        return value / self.kpi_scale[series]

    def media(self, windows: Tensor, series: Tensor) -> Tensor:
        """Scaled media [B, L, C]."""
        return windows / self.media_scale[series][:, None]

    def price(self, value: Tensor, series: Tensor) -> Tensor:
        """Logarithm of prices [B, P] over the reference price of their series: 0 there."""
        return (value / self.price_reference[series]).log()

    def promotion(self, value: Tensor) -> Tensor:
        """Promotions [B, Q] in units of the largest seen."""
        return value / self.promotion_scale

    def control(self, value: Tensor) -> Tensor:
        """Standardised controls [B, F]."""
        return (value - self.control_mean) / self.control_sd


def contacts(panel: MediaPanel) -> np.ndarray:
    """What adstock and saturation act on, [G, T, C]: the media, times contacts per person where both are given."""
    return panel.media if panel.contact_frequency is None else panel.media * panel.contact_frequency


def contact_frequency(panel: MediaPanel, lead: bool = False) -> np.ndarray:
    """Contacts per person [G, T, C] (of the lead-in: [G, H, C]); 1 where there is no contact."""
    frequency = panel.lead_in_frequency if lead else panel.contact_frequency
    media = panel.lead_in if lead else panel.media
    if frequency is None:
        return np.ones(media.shape, np.float32)
    return np.where((media > 0) & (frequency > 0), frequency, np.float32(1))
