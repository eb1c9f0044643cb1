"""Parts of the linear predictor for rows that bring their own media history, for draws of parameters and coefficients.

Axis letters: S draws, B rows, G series, C channels, K parts, P fixed columns, M columns of known sign, Q = P + M,
L taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaBatch
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.row_likelihoods import count_log_density, standard_log_density


@dataclass(frozen=True)
class RowParts:
    """Of a batch of rows.

    Attributes:
        parts: [S, B, K], scaled units (or log units).
        eta: [S, B], their sum.
        sigma: [S, B], noise in the same units.
    """

    parts: Tensor
    eta: Tensor
    sigma: Tensor


def part_names(model: MixModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and kinds (`predictions.mix.PART_KINDS`) of the K parts."""
    schema = model.schema
    assert schema is not None
    named = [("baseline", "baseline")]
    named += [(kind, kind) for kind in ("trend", "season") if getattr(schema, kind)]
    named += [(n, kind) for kind in ("control", "promotion", "price") for n in getattr(schema, kind)]
    named += [(n, "media") for n in schema.media]
    return tuple(n for n, _ in named), tuple(k for _, k in named)


def row_columns(model: MixModel, batch: MediaBatch) -> dict[str, Tensor]:
    """Values [B] of every linear column but media, unsigned, by name; "intercept" is 1."""
    schema, scales = model.schema, model.scales
    assert schema is not None
    out = {"intercept": torch.ones_like(batch.kpi).double()}
    for kind in ("trend", "season"):
        out |= {n: getattr(batch, kind)[:, j].double() for j, n in enumerate(getattr(schema, kind))}
    values = {
        "control": scales.control(batch.control),
        "promotion": scales.promotion(batch.promotion),
        "price": scales.price(batch.price, batch.series),
    }
    for kind, value in values.items():
        out |= {n: value[:, j].double() for j, n in enumerate(getattr(schema, kind))}
    return out


@torch.no_grad()
def row_parts(model: MixModel, u: Tensor, coefficients: Tensor, batch: MediaBatch) -> RowParts:
    """Everything the model says about some rows.

    Args:
        model: built.
        u: [S, D], unconstrained parameters.
        coefficients: [S, G, Q].
        batch: rows, in the units of the file.
    """
    theta = model.flat.constrain(u)
    own = coefficients[:, batch.series].to(u)  # [S, B, Q]
    P = len(model.columns.fixed)
    values = row_columns(model, batch)
    names, _ = part_names(model)
    parts = {name: torch.zeros(own.shape[:2], dtype=torch.float64, device=u.device) for name in names}
    for j, (name, kind) in enumerate(zip(model.columns.fixed, model.columns.fixed_kind, strict=True)):
        place = kind if kind in ("baseline", "trend", "season") else name
        parts[place] = parts[place] + own[..., j] * values[name]
    C = len(model.media.channels)
    for j, (name, sign) in enumerate(zip(model.columns.driver, model.columns.driver_sign, strict=True)):
        parts[name] = parts[name] + own[..., P + C + j] * values[name] * sign
    media = row_media(model, theta, batch) * own[..., P : P + C]
    parts |= {name: media[..., c] for c, name in enumerate(model.media.channels)}
    stacked = torch.stack([parts[name] for name in names], dim=-1)
    sigma = series_noise(model, u)[:, batch.series]
    return RowParts(stacked, stacked.sum(-1), sigma)


def row_media(model: MixModel, theta: dict[str, Tensor], batch: MediaBatch) -> Tensor:
    """Saturated, adstocked media [S, B, C] of rows."""
    windows = model.scales.media(batch.media, batch.series).double()  # [B, L, C], newest first
    if not windows.shape[-1]:
        some = next(iter(theta.values()))
        return some.new_zeros(some.shape[0], len(batch.series), 0)
    kernel = model.media.kernel(theta, windows.shape[1])  # [S, C, L]
    first = model.media.saturate_first
    early = late = None
    counted, axes = windows, "blc"
    if places := model.media.by_frequency:
        value = model.media.contact_value(theta, batch.frequency[..., places].double())  # [S, B, L, R]
        counted, axes = windows.expand(len(kernel), -1, -1, -1), "sblc"
        counted = counted.index_copy(-1, torch.tensor(places, device=value.device), windows[..., places] * value)
    if not all(first):
        early = model.media.curve(torch.einsum(f"{axes},scl->sbc", counted, kernel), theta)
    if any(first):
        saturated = model.media.curve(counted.expand(len(kernel), -1, -1, -1), theta)
        late = torch.einsum("sblc,scl->sbc", saturated, kernel)
    if late is None or early is None:
        return early if late is None else late
    return torch.where(torch.tensor(first, device=late.device), late, early)


def series_noise(model: MixModel, u: Tensor) -> Tensor:
    """[S, G], noise in scaled units; of counts, the standard deviation relative to the mean at the series' mean."""
    theta = model.flat.constrain(u)
    scale = model.scales.kpi_scale.double()
    if model.likelihood == "negative_binomial":
        return (theta["dispersion"] + 1.0 / scale).sqrt()
    sigma = theta["noise"].expand(len(u), len(scale))
    if model.noise_by_size:
        sigma = sigma * torch.exp(-theta["noise_size"] * (scale / scale.mean()).log())
    return sigma


def mean_shift(model: MixModel, sigma: Tensor) -> Tensor:
    """What the logarithm of the mean KPI is above eta: half the variance for lognormal noise, else 0."""
    return 0.5 * sigma.square() if model.link == "log" and model.likelihood == "normal" else torch.zeros_like(sigma)


@torch.no_grad()
def row_predictive(model: MixModel, u: Tensor, found: RowParts, batch: MediaBatch) -> Tensor:
    """Log predictive density [S, B] of the rows' KPI in units of their series' scale, per draw."""
    theta = model.flat.constrain(u)
    scale = model.scales.kpi_scale.double()[batch.series]
    kpi = batch.kpi.double()
    if model.likelihood == "negative_binomial":
        return count_log_density(kpi, found.eta + scale.log(), theta["dispersion"])
    relative = kpi / scale
    y = relative.log() if model.link == "log" else relative
    z = (y - found.eta) / found.sigma
    jacobian = y if model.link == "log" else torch.zeros_like(y)
    return standard_log_density(model.likelihood, z, theta.get("dof")) - found.sigma.log() - jacobian
