"""From a fit to what decisions read: rows with their parts, response curves, and the posterior.

Axis letters: S draws, N rows, G series, C channels, D drivers, J knots, L taps, P fixed columns, Q all columns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaBatch, MediaPanel
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.rows import mean_shift, part_names, row_parts, series_noise
from wanamaker.nn.curve_table import media_knots, tabulated
from wanamaker.predictions import MixPosterior, MixPredictions, MixResponse
from wanamaker.predictions.mix_rows import observed_rows, padded_frequency, padded_lead_in, response_words

NUM_DRIVER_KNOTS = 3  # straight lines


def predictions_of(
    model: MixModel,
    u: Tensor,
    coefficients: Tensor,
    batch: MediaBatch,
    panel: MediaPanel,
    split_of: np.ndarray,
    response: MixResponse,
    posterior: MixPosterior | None,
) -> MixPredictions:
    """Rows of a batch as an artefact.

    Args:
        model: fitted.
        u: [S, D]. coefficients: [S, G, Q].
        batch: rows of `panel`.
        panel: what the batch was cut from.
        split_of: codes [G, T] of `wanamaker.predictions.mix.SPLITS`.
        response: of `response_of`, made once.
        posterior: goes with every part of the predictions.
    """
    found = row_parts(model, u, coefficients, batch)
    series, time = batch.series.cpu().numpy(), batch.time.cpu().numpy()
    scale = model.scales.kpi_scale.double()[batch.series]
    parts = found.parts
    if model.link == "identity":
        parts = parts * scale[:, None]
    else:
        parts[..., 0] += scale.log() + mean_shift(model, found.sigma)
    media = batch.media[:, 0].double().cpu().numpy()
    order, observed = observed_rows(batch.row.cpu().numpy(), series, time, media, panel, split_of)
    if batch.frequency.shape[-1]:
        observed["frequency"] = batch.frequency[:, 0].double().cpu().numpy()[order]
        observed["lead_in_frequency"] = padded_frequency(panel, batch.media.shape[1])
    names, kinds = part_names(model)
    return MixPredictions(
        **observed,
        parts=parts.float().cpu().numpy()[:, order],
        part_names=names,
        part_kinds=kinds,
        response=response,
        lead_in=padded_lead_in(panel, batch.media.shape[1]),
        posterior=posterior,
    )


def response_of(model: MixModel, u: Tensor, coefficients: Tensor, taps: int) -> MixResponse:
    """The curves of draws [S, D] with coefficients [S, G, Q], tabulated with their exact derivatives."""
    schema, scales = model.schema, model.scales
    assert schema is not None
    theta = model.flat.constrain(u)
    S, G, C, P = len(u), len(schema.series), len(schema.media), len(model.columns.fixed)
    scale = scales.kpi_scale.double()
    unit = scale[None, :, None] if model.link == "identity" else torch.ones(1, 1, 1, dtype=torch.float64)
    own = coefficients.to(u) * unit  # [S, G, Q]
    grid, curve, slope = media_curves(model, theta)
    kinds, transforms, reference, low, high, gain = [], [], [], [], [], []
    for kind in ("promotion", "price"):
        for j, name in enumerate(getattr(schema, kind)):
            kinds.append(kind)
            transforms.append("log_ratio" if kind == "price" else "scaled")
            whole = scales.price_reference[:, j] if kind == "price" else scales.promotion_scale[j].expand(G)
            reference.append(whole.double())
            seen = scales.price_range if kind == "price" else scales.promotion_range
            low.append(seen[0, :, j].double())
            high.append(seen[1, :, j].double())
            if name in model.columns.driver:
                at = model.columns.driver.index(name)
                gain.append(own[..., P + C + at] * model.columns.driver_sign[at])
            else:
                gain.append(own[..., model.columns.fixed.index(name)])
    D = len(kinds)
    table = _lines(kinds, reference, low, high)  # [D, J]
    noise_sd = series_noise(model, u) * scale
    if model.likelihood == "student_t":  # standard deviation of the distribution, not its scale
        dof = theta["dof"].clamp(min=2.1)
        noise_sd = noise_sd * (dof / (dof - 2)).sqrt()
    return MixResponse(
        **response_words(schema),
        link=model.link,
        adstock=_array(model.media.kernel(theta, taps) if C else torch.zeros(S, 0, taps)),
        adstock_first=~np.array(model.media.saturate_first, dtype=bool),
        media_scale=_array(scales.media_scale),
        cost_per_media=_array(scales.cost_per_media) * np.array(schema.paid, dtype=float),
        grid=_array(grid),
        curve=_array(curve),
        slope=_array(slope),
        # A coefficient is positive but for chance in the deviation of a single series; a curve never falls.
        amplitude=_array(own[..., P : P + C].clamp(min=0)),
        media_max=_array(scales.media_max),
        driver_kind=tuple(kinds),
        driver_transform=tuple(transforms),
        driver_reference=_stack(reference, (G, 0)),
        driver_grid=_array(table),
        driver_curve=_array(table.expand(S, D, -1)),
        driver_slope=np.ones((S, *table.shape)),
        driver_amplitude=_stack(gain, (S, G, 0)),
        driver_min=_stack(low, (G, 0)),
        driver_max=_stack(high, (G, 0)),
        noise_sd=_array(noise_sd),
        **_frequency_curves(model, theta),
    )


def _frequency_curves(model: MixModel, theta: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What a contact counts by its frequency, as `MixResponse` has it."""
    if not model.media.by_frequency:
        return {}
    C, S = len(model.media.channels), len(next(iter(theta.values())))
    usual, half, slope = np.zeros(C), np.ones((S, C)), np.ones((S, C))
    usual[model.media.by_frequency] = _array(model.media.usual_frequency)
    half[:, model.media.by_frequency] = _array(theta["frequency_half"])
    slope[:, model.media.by_frequency] = _array(theta["frequency_slope"])
    return {"usual_frequency": usual, "frequency_half": half, "frequency_slope": slope}


def media_curves(model: MixModel, theta: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Knots [C, J], values and derivatives [S, C, J] of the saturation curves."""
    C, S = len(model.media.channels), len(next(iter(theta.values())))
    knots = media_knots(torch.float64)
    if not C:
        return knots.expand(0, -1), torch.zeros(S, 0, len(knots)), torch.zeros(S, 0, len(knots))
    with torch.inference_mode(False):
        values = {name: value.clone() for name, value in theta.items()}
        return knots.expand(C, -1), *tabulated(lambda x: model.media.curve(x, values), S, C, knots)


def _lines(kinds: list[str], reference: list[Tensor], low: list[Tensor], high: list[Tensor]) -> Tensor:
    """Knots [D, J] of straight driver curves, beyond what was seen by three quarters; 0 is one of them."""
    table = torch.zeros(len(kinds), NUM_DRIVER_KNOTS, dtype=torch.float64)
    for d, kind in enumerate(kinds):
        ends = low[d] / reference[d], high[d] / reference[d]
        if kind == "price":
            ends = ends[0].clamp(min=1e-9).log(), ends[1].clamp(min=1e-9).log()
        least, most = float(ends[0].min()), float(ends[1].max())
        reach = 0.75 * max(most - least, 0.2)
        table[d, 0], table[d, -1] = min(least - reach, -reach), max(most + reach, reach)
    return table


def _array(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def _stack(values: list[Tensor], empty: tuple[int, ...]) -> np.ndarray:
    return _array(torch.stack(values, dim=-1)) if values else np.zeros(empty)
