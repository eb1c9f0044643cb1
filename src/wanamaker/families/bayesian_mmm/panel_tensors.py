"""`PanelTensors`: a panel as the density reads it, scaled and with everything that does not depend on parameters done.

Axis letters: G series, T periods, C channels, D directed drivers, P fixed columns, L taps, M = C + D columns of known
sign, Q = P + M.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.data.panel_scales import PanelScales, contact_frequency, contacts
from wanamaker.families.bayesian_mmm.collapsed import fixed_gram
from wanamaker.families.bayesian_mmm.media import windows_of

BLOCK_BYTES, BLOCK_DRAWS = 4 << 20, 8
"""How large an array of one block of series may be, for so many draws at once."""


@dataclass(frozen=True)
class Columns:
    """Names of the linear columns and where they come from.

    Attributes:
        fixed: P names: "intercept", trend, season, and controls, promotions and prices of either direction.
        fixed_kind: P kinds of `predictions.mix.PART_KINDS`; the intercept is "baseline".
        driver: D names of controls, promotions and prices whose direction is known.
        driver_kind: D kinds.
        driver_sign: D signs.
    """

    fixed: tuple[str, ...]
    fixed_kind: tuple[str, ...]
    driver: tuple[str, ...]
    driver_kind: tuple[str, ...]
    driver_sign: tuple[int, ...]


def columns_of(schema: PanelSchema) -> Columns:
    """Sort the columns of a panel into those of either direction and those of a known one."""
    fixed = [("intercept", "baseline"), *((n, "trend") for n in schema.trend), *((n, "season") for n in schema.season)]
    driver: list[tuple[str, str, int]] = []
    for kind in ("control", "promotion", "price"):
        names = getattr(schema, kind)
        directions = getattr(schema, f"{kind}_direction") or (0,) * len(names)
        for name, direction in zip(names, directions, strict=True):
            if direction:
                driver.append((name, kind, int(direction)))
            else:
                fixed.append((name, kind))
    return Columns(
        tuple(n for n, _ in fixed),
        tuple(k for _, k in fixed),
        tuple(n for n, _, _ in driver),
        tuple(k for _, k, _ in driver),
        tuple(s for _, _, s in driver),
    )


@dataclass(frozen=True)
class PanelTensors:
    """Scaled values of some series. Sums over periods run over the rows that are learnt from.

    Attributes:
        series: int64 [G], numbers of the series in the panel.
        y: [G, T], KPI (or its logarithm) in units of its series' scale; 0 where not learnt from.
        mask: [G, T], 1 on rows that are learnt from.
        history: [G, T + L - 1, C], scaled media with what came before the first period, oldest first.
        frequency: [G, T + L - 1, C], contacts per person they come with, 1 where there is none; [G, T + L - 1, 0] where
            no channel is given as reach and frequency.
        fixed: [G, T, P].
        driver: [G, T, D], times the sign, so that coefficients are positive.
        weight: [G, T], KPI units per unit of a part: the series' scale, or the KPI with a log link; 0 where masked.
        ff, fy, yy: [G, P, P], [G, P], [G], products of fixed columns and y over the rows learnt from.
        kpi_scale: [G], units of the KPI.
        kpi_level: [G, T], the KPI, or its series' scale where it was not observed; KPI units.
        place: int64 [G, W], numbers of the shared coefficients each series sees; see `collapsed.Shared`.
    """

    series: Tensor
    y: Tensor
    mask: Tensor
    history: Tensor
    frequency: Tensor
    fixed: Tensor
    driver: Tensor
    weight: Tensor
    ff: Tensor
    fy: Tensor
    yy: Tensor
    kpi_scale: Tensor
    kpi_level: Tensor
    place: Tensor

    def to(self, *args: Any) -> PanelTensors:
        """On another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(*args) for f in fields(self)})

    def select(self, index: Tensor | slice) -> PanelTensors:
        """Some of the series."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def num_series(self) -> int:
        """G."""
        return len(self.series)

    @property
    def taps(self) -> int:
        """L."""
        return self.history.shape[1] - self.y.shape[1] + 1

    @cached_property
    def blocks(self) -> tuple[PanelTensors, ...]:
        """The series in parts (views) whose arrays fit into a processor's cache."""
        per_series = 8 * BLOCK_DRAWS * self.y.shape[1] * max(1, self.history.shape[-1])
        size = max(1, BLOCK_BYTES // per_series)
        if self.num_series <= size or self.y.is_cuda:
            return (self,)
        return tuple(self.select(slice(start, start + size)) for start in range(0, self.num_series, size))

    @cached_property
    def windows(self) -> Tensor:
        """`media.windows_of` the history, made once."""
        return windows_of(self.history, self.taps)


def panel_tensors(
    panel: MediaPanel,
    schema: PanelSchema,
    scales: PanelScales,
    season: np.ndarray,
    trend: np.ndarray,
    learnt: np.ndarray,
    taps: int,
    log_link: bool,
    place: Tensor,
    dtype: torch.dtype = torch.float64,
) -> PanelTensors:
    """Scale a panel.

    Args:
        panel: in the units of the file.
        schema: with calendar columns.
        scales: measured on the training rows.
        season, trend: [T, S], [T, R].
        learnt: bool [G, T], rows of the likelihood.
        taps: L.
        log_link: model the logarithm of the KPI.
        place: int64 [G, W], of the shared coefficients.
        dtype: of the result.
    """
    G, T = panel.kpi.shape
    columns = columns_of(schema)
    scale = scales.kpi_scale.double().numpy()
    media = contacts(panel).astype(np.float64)
    history = np.zeros((G, T + taps - 1, media.shape[2]))
    known = min(panel.lead_in.shape[1], taps - 1)
    if known:
        history[:, taps - 1 - known : taps - 1] = panel.lead_in[:, panel.lead_in.shape[1] - known :]
    history[:, taps - 1 :] = media
    frequency = np.ones((*history.shape[:2], media.shape[2] if any(schema.frequency) else 0))
    if any(schema.frequency):
        frequency[:, taps - 1 :] = contact_frequency(panel)
        if known:
            frequency[:, taps - 1 - known : taps - 1] = contact_frequency(panel, lead=True)[:, -known:]
    history /= scales.media_scale.double().numpy()[:, None]

    values: dict[str, np.ndarray] = {"intercept": np.ones((G, T))}
    values |= {n: np.broadcast_to(trend[:, j], (G, T)) for j, n in enumerate(schema.trend)}
    values |= {n: np.broadcast_to(season[:, j], (G, T)) for j, n in enumerate(schema.season)}
    mean, sd = scales.control_mean.double().numpy(), scales.control_sd.double().numpy()
    values |= {n: (panel.control[..., j] - mean[j]) / sd[j] for j, n in enumerate(schema.control)}
    top = scales.promotion_scale.double().numpy()
    values |= {n: panel.promotion[..., j] / top[j] for j, n in enumerate(schema.promotion)}
    reference = scales.price_reference.double().numpy()
    values |= {n: np.log(panel.price[..., j] / reference[:, None, j]) for j, n in enumerate(schema.price)}

    def stacked(names: tuple[str, ...], signs: tuple[int, ...]) -> np.ndarray:
        if not names:
            return np.zeros((G, T, 0))
        out = np.stack([values[n] for n in names], axis=-1).astype(np.float64) * np.array(signs, np.float64)
        return np.nan_to_num(out)  # values of rows that are not used may be unknown

    kpi = np.where(learnt, panel.kpi, scale[:, None]).astype(np.float64)
    relative = kpi / scale[:, None]
    y = np.log(np.maximum(relative, 1e-26)) if log_link else relative
    weight = kpi if log_link else np.broadcast_to(scale[:, None], (G, T))
    numbers = {
        "y": np.where(learnt, y, 0.0),
        "mask": learnt,
        "history": history,
        "frequency": frequency,
        "fixed": stacked(columns.fixed, (1,) * len(columns.fixed)),
        "driver": stacked(columns.driver, columns.driver_sign),
        "weight": np.where(learnt, weight, 0.0),
        "kpi_scale": scale,
        "kpi_level": np.where(np.isfinite(panel.kpi), panel.kpi, scale[:, None]),
    }
    tensors = {name: torch.as_tensor(np.ascontiguousarray(value), dtype=dtype) for name, value in numbers.items()}
    constant = fixed_gram(tensors["fixed"], tensors["y"], tensors["mask"])
    tensors |= {"ff": constant.ff, "fy": constant.fy, "yy": constant.yy}
    return PanelTensors(series=torch.arange(G), place=place, **tensors)
