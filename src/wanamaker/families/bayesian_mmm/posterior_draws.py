"""From draws of the parameters to coefficients, estimands, replicated data and likelihoods per series.

Axis letters: S draws, D unconstrained numbers, G series, T periods, C channels, M columns of known sign, P fixed
columns, Q = P + M, V shared coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wanamaker.families.bayesian_mmm.collapsed import FixedGram, collapsed, gram
from wanamaker.families.bayesian_mmm.effects import STEP
from wanamaker.families.bayesian_mmm.experiments import conditioned, lift_means
from wanamaker.families.bayesian_mmm.media import windows_of
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.row_likelihoods import sample_rows


def chunks(u: Tensor, size: int) -> Iterator[tuple[Tensor, slice]]:
    """Parts of [S, D] with their places."""
    for start in range(0, len(u), size):
        yield u[start : start + size], slice(start, start + size)


@torch.no_grad()
def draw_all(model: MixModel, u: Tensor, data: PanelTensors, seed: int | None, chunk: int) -> tuple[Tensor, Tensor]:
    """Coefficients of draws [S, D], given the rows learnt from and the lift tests.

    Args:
        model: built, with its scales.
        u: draws of the parameters.
        data: all series.
        seed: of exact draws of what was integrated out; None gives its conditional mean.
        chunk: draws at once.

    Returns:
        [S, G, Q] of each series, and [S, G, Q] what is shared in them (without the series' own deviations).
    """
    parts, common = [], []
    for part, place in chunks(u, chunk):
        generator = None if seed is None else torch.Generator().manual_seed(seed * 1_000_003 + place.start)
        made = _coefficients(model, part, data, generator)
        parts.append(made[0].cpu())
        common.append(made[1].cpu())
    return torch.cat(parts), torch.cat(common)


def _coefficients(
    model: MixModel, u: Tensor, data: PanelTensors, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    theta = model.flat.constrain(u)
    if model.collapse == "none":
        pieces = model.pieces(theta, data)
        return model.coefficients(theta, pieces, data), model.coefficients(theta, pieces, data, own=False)
    solved, pieces, shared = model.solve(theta, data)
    S, G, Q = len(u), data.num_series, model.num_columns
    own = _normal((S, G, Q), generator).to(u)
    common = None if shared is None else _normal((S, shared.size), generator).to(u)
    if model.bound_experiments:
        mean, _ = model.drawn_coefficients(theta, solved, pieces, shared, data)
        outcomes = _normal((S, len(model.bound_experiments)), generator).to(u)
        common, own = conditioned(model, theta, data, mean, pieces.spread, solved, shared, (common, own), outcomes)
    return model.drawn_coefficients(theta, solved, pieces, shared, data, (common, own))


def _normal(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros(shape, dtype=torch.float64)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def prior_coefficients(model: MixModel, u: Tensor, data: PanelTensors, seed: int) -> Tensor:
    """Coefficients [S, G, Q] of draws of the parameters from their prior."""
    theta = model.flat.constrain(u)
    pieces = model.pieces(theta, data)
    generator = torch.Generator().manual_seed(seed)
    shared = model.shared(theta, pieces.effect, data)
    common = _normal((len(u), shared.size), generator).to(u)
    known = model.known(pieces.effect).unsqueeze(1) + model.from_shared(common, shared)
    z = _normal((len(u), data.num_series, model.num_columns), generator).to(u)
    return known + z * pieces.spread.unsqueeze(1)


@torch.no_grad()
def estimands(model: MixModel, u: Tensor, coefficients: Tensor, data: PanelTensors, chunk: int) -> dict[str, Tensor]:
    """What the fit is about, per draw, over the rows learnt from.

    Returns:
        contribution [S, C], KPI units: what the KPI would lack without the channel; roi [S, C], money per money, NaN
        for organic channels; mroi [S, C], return of the last 1 %; baseline_share [S, 1].
    """
    assert model.schema is not None
    C, P = len(model.schema.media), len(model.columns.fixed)
    contribution, marginal = u.new_zeros(len(u), C), u.new_zeros(len(u), C)
    first = 0
    for block in data.blocks:  # media of some series at a time, for many draws
        here = slice(first, first := first + block.num_series)
        raised, known = block.history * (1 + STEP), block.windows
        higher = windows_of(raised, model.taps)
        for part, place in chunks(u, chunk):
            theta = model.flat.constrain(part)
            b = coefficients[place, here].to(part)[..., P : P + C].unsqueeze(-1)  # [S, G, C, 1]
            now = model.media.columns(theta, block.history, model.taps, known, block.frequency) * b
            then = model.media.columns(theta, raised, model.taps, higher, block.frequency) * b
            contribution[place] += _summed(model, now, block.weight)
            marginal[place] += _gained(model, now, then, block.weight) / STEP
    paid = torch.tensor(model.schema.paid, device=u.device)
    money = torch.where(paid, model.spend_sum / model.schema.kpi_value, torch.nan)
    share = 1 - contribution.sum(-1, keepdim=True) / model.kpi_sum
    return {
        "contribution": contribution,
        "roi": contribution / money,
        "mroi": marginal / money,
        "baseline_share": share,
    }


@torch.no_grad()
def lifts(model: MixModel, u: Tensor, coefficients: Tensor, data: PanelTensors, chunk: int) -> dict[str, Tensor]:
    """What each lift test would have found by the fit: lift [S, E], KPI units; {} without tests."""
    if not model.bound_experiments:
        return {}
    found = [
        lift_means(model, model.flat.constrain(part), data, coefficients[place].to(part))[0]
        for part, place in chunks(u, chunk)
    ]
    return {"lift": torch.cat(found)}


def _summed(model: MixModel, parts: Tensor, weight: Tensor) -> Tensor:
    """Totals [S, C] of media parts [S, G, C, T] in KPI units."""
    removed = -torch.expm1(-parts) if model.link == "log" else parts
    return torch.einsum("sgct,gt->sc", removed, weight)


def _gained(model: MixModel, now: Tensor, then: Tensor, weight: Tensor) -> Tensor:
    more = torch.expm1(then - now) if model.link == "log" else then - now
    return torch.einsum("sgct,gt->sc", more, weight)


@torch.no_grad()
def replicate(model: MixModel, u: Tensor, coefficients: Tensor, data: PanelTensors, seed: int, chunk: int) -> Tensor:
    """KPI replicated with noise for all periods, float32 [S, G, T], KPI units."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for part, place in chunks(u, chunk):
        theta = model.flat.constrain(part)
        pieces = model.pieces(theta, data)
        eta = model.linear_predictor(pieces, coefficients[place].to(part), data)
        rows = sample_rows(model.likelihood, eta, pieces.sigma, theta, data, model.link, generator)
        out.append(rows.float().cpu())
    return torch.cat(out)


@torch.no_grad()
def series_likelihoods(model: MixModel, u: Tensor, common: Tensor, data: PanelTensors, chunk: int) -> Tensor:
    """Log likelihood of each series' rows given parameters and shared coefficients, [S, G].

    A series' own deviations are integrated out for the normal likelihood, so that leaving one series out means
    forecasting a new one. For the other likelihoods they are given.
    """
    out = []
    for part, place in chunks(u, chunk):
        theta = model.flat.constrain(part)
        if model.likelihood != "normal":
            out.append(model.series_log_likelihood(theta, data).cpu())
            continue
        pieces = model.pieces(theta, data)
        products = gram(pieces.columns, data.fixed, data.y, data.mask, FixedGram(data.ff, data.fy, data.yy))
        out.append(collapsed(products, common[place].to(part), pieces.spread, pieces.sigma, None).per_series.cpu())
    return torch.cat(out)
