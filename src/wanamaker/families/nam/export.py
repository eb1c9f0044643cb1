"""From the net to what decisions read: rows with their parts, and response curves.

Axis letters: M members (draws), B rows, G series, C channels, D drivers, J knots.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaBatch, MediaPanel
from wanamaker.families.nam.losses import Likelihood
from wanamaker.families.nam.net import NamNet
from wanamaker.nn.curve_table import media_knots, tabulated
from wanamaker.predictions import MixPredictions, MixResponse
from wanamaker.predictions.mix_rows import observed_rows, padded_lead_in, response_words

NUM_DRIVER_KNOTS = 65


def predictions_of(
    net: NamNet, loss: Likelihood, batch: MediaBatch, panel: MediaPanel, split_of: np.ndarray, response: MixResponse
) -> MixPredictions:
    """Rows of a batch as an artefact.

    Args:
        net: trained.
        loss: its likelihood, for the mean of a lognormal.
        batch: rows of `panel`.
        panel: what the batch was cut from.
        split_of: codes [G, T] of `wanamaker.predictions.mix.SPLITS`.
        response: of `response_of`, made once.
    """
    output = net(batch)
    series, time = batch.series.cpu().numpy(), batch.time.cpu().numpy()
    scale = net.scales.kpi_scale[batch.series]  # [B]
    parts = output.parts.double()
    if net.link == "identity":
        parts = parts * scale[:, None]
    else:
        level = scale.log() + loss.log_mean_shift(output.log_noise)  # [M, B]
        parts[..., 0] += level
    media = batch.media[:, 0].double().cpu().numpy()
    order, observed = observed_rows(batch.row.cpu().numpy(), series, time, media, panel, split_of)
    return MixPredictions(
        **observed,
        parts=parts.float().cpu().numpy()[:, order],
        part_names=net.part_names,
        part_kinds=net.part_kinds,
        response=response,
        lead_in=padded_lead_in(panel, batch.media.shape[1]),
    )


@torch.inference_mode(False)  # derivatives are taken here, and Lightning predicts in inference mode
@torch.no_grad()
def response_of(net: NamNet, loss: Likelihood, taps: int) -> MixResponse:
    """The curves of a trained net, tabulated with their exact derivatives."""
    schema, scales = net.schema, net.scales
    M, G, C = net.members, len(schema.series), len(schema.media)
    scale = scales.kpi_scale.double()
    unit = scale[None, :, None] if net.link == "identity" else torch.ones(1, 1, 1, dtype=torch.float64)
    grid, curve, slope = _media_curves(net)
    amplitude = net.media.amplitude().double() * unit if net.media else torch.zeros(M, G, 0)
    kernel = net.media.kernel(taps) if net.media else torch.zeros(M, 0, taps)
    drivers = [name for name in ("promotion", "price") if name in net.drivers]
    tables = [_driver_curves(net, name) for name in drivers]
    names = {"promotion": schema.promotion, "price": schema.price}
    noise = net.log_noise()[..., 0]  # [M, G]
    mean = torch.ones_like(noise)
    noise_sd = loss.noise_sd(noise, mean, scales.kpi_scale) * scales.kpi_scale
    reference, transforms, kinds, low, high, gain = [], [], [], [], [], []
    for name in drivers:
        count = len(names[name])
        kinds += [name] * count
        if name == "price":
            transforms += ["log_ratio"] * count
            reference.append(scales.price_reference)
            low.append(scales.price_range[0])
            high.append(scales.price_range[1])
        else:
            transforms += ["scaled"] * count
            reference.append(scales.promotion_scale.expand(G, -1))
            low.append(scales.promotion_range[0])
            high.append(scales.promotion_range[1])
        gain.append(net.drivers[name].amplitude().double() * unit)
    return MixResponse(
        **response_words(schema),
        link=net.link,
        adstock=_array(kernel),
        adstock_first=np.ones(C, dtype=bool),
        media_scale=_array(scales.media_scale),
        cost_per_media=_array(scales.cost_per_media) * np.array(schema.paid, dtype=float),
        grid=_array(grid),
        curve=_array(curve),
        slope=_array(slope),
        amplitude=_array(amplitude),
        media_max=_array(scales.media_max),
        driver_kind=tuple(kinds),
        driver_transform=tuple(transforms),
        driver_reference=_stack(reference, (G, 0)),
        driver_grid=_stack([table[0] for table in tables], (0, NUM_DRIVER_KNOTS), axis=0),
        driver_curve=_stack([table[1] for table in tables], (M, 0, NUM_DRIVER_KNOTS), axis=1),
        driver_slope=_stack([table[2] for table in tables], (M, 0, NUM_DRIVER_KNOTS), axis=1),
        driver_amplitude=_stack(gain, (M, G, 0)),
        driver_min=_stack(low, (G, 0)),
        driver_max=_stack(high, (G, 0)),
        noise_sd=_array(noise_sd),
    )


def _array(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def _stack(values: list[Tensor], empty: tuple[int, ...], axis: int = -1) -> np.ndarray:
    return np.concatenate([_array(value) for value in values], axis=axis) if values else np.zeros(empty)


def _media_curves(net: NamNet) -> tuple[Tensor, Tensor, Tensor]:
    """Knots [C, J], values and derivatives [M, C, J] of the saturation curves."""
    C = len(net.schema.media)
    knots = media_knots(torch.float32)
    if net.media is None:
        return knots.expand(0, -1), torch.zeros(net.members, 0, len(knots)), torch.zeros(net.members, 0, len(knots))
    return knots.expand(C, -1), *tabulated(net.media.curve, net.members, C, knots)


def _driver_curves(net: NamNet, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Knots [D, J], unit curves and derivatives [M, D, J] of prices or promotions, beyond what was seen by half."""
    scales, block = net.scales, net.drivers[name]
    if name == "price":
        low, high = (scales.price_range / scales.price_reference).clamp(min=1e-9).log()
    else:
        low, high = scales.promotion_range / scales.promotion_scale
    low, high = low.min(0).values, high.max(0).values  # [D]
    reach = 0.75 * (high - low).clamp(min=0.2)
    low, high = torch.minimum(low - reach, -reach), torch.maximum(high + reach, reach)
    half = NUM_DRIVER_KNOTS // 2
    weight = torch.linspace(0, 1, half + 1, device=low.device)
    # Zero is a knot: there the curve is anchored.
    grid = torch.cat([low[:, None] * (1 - weight[:-1]), high[:, None] * weight], dim=1)  # [D, J]
    series = torch.zeros(grid.shape[1], dtype=torch.long, device=low.device)
    with torch.enable_grad():
        z = grid.T.clone().requires_grad_(True)  # [J, D]
        value = block(z, series)  # [M, J, D], with the effect of the first series
        value = value / block.amplitude()[:, :1]
        slopes = [torch.autograd.grad(member.sum(), z, retain_graph=True)[0] for member in value]
    return grid, value.detach().transpose(1, 2), torch.stack(slopes).transpose(1, 2)
