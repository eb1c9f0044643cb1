"""`MixPosterior` of a fit: all draws of parameters and estimands, replicated data, likelihoods per series.

Axis letters: S draws, G series, T periods, C channels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.media_panel import MediaPanel
from wanamaker.families.bayesian_mmm.fit import PosteriorFit
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import (
    draw_all,
    estimands,
    lifts,
    prior_coefficients,
    replicate,
    series_likelihoods,
)
from wanamaker.predictions import MixPosterior

PRIOR_DRAWS = 500
MOST_REPLICATED = 20_000_000
"""Replicated KPI values kept at most; at least 20 replicates are."""
LARGEST_SITE = 200
"""Parameters with more entries (deviations of every series) are not listed."""


def posterior_of(
    fit: PosteriorFit,
    data: PanelTensors,
    panel: MediaPanel,
    learnt: np.ndarray,
    seconds: tuple[float, float],
) -> MixPosterior:
    """Everything a Bayesian fit says beyond its curves.

    Args:
        fit: finished, or cut short.
        data: all series.
        panel: what they were made from.
        learnt: bool [G, T].
        seconds: wall and CPU of the fit.
    """
    model, chunk, seed = fit.model, fit.chunk(data), fit.options.seed
    schema = model.schema
    assert schema is not None
    draws = fit.draws()
    chains, count = draws.shape[:2]
    u = draws.flatten(0, 1).to(data.y.device)
    own, common = draw_all(model, u, data, seed, chunk)
    posterior = parameters(model, u) | estimands(model, u, own, data, chunk) | lifts(model, u, own, data, chunk)
    likelihood = series_likelihoods(model, u, common, data, chunk)
    G, T = data.y.shape
    most = int(np.clip(MOST_REPLICATED // (G * T), 20, 200))
    places = torch.linspace(0, len(u) - 1, min(most, len(u))).round().long()
    replicated = replicate(model, u[places], own[places], data, seed + 1, chunk)
    generator = torch.Generator().manual_seed(seed + 2)
    before = model.flat.sample(PRIOR_DRAWS, generator).to(u)
    before_own = torch.cat(
        [prior_coefficients(model, part, data, seed + 100 + k) for k, part in enumerate(before.split(chunk))]
    )
    prior = parameters(model, before) | estimands(model, before, before_own, data, chunk)
    prior |= lifts(model, before, before_own, data, chunk)
    some = min(most, 100)
    prior_replicated = replicate(model, before[:some], before_own[:some], data, seed + 3, chunk)
    dims, coords = _axes(model, posterior)
    stats = {}
    if fit.engine != "svi":
        stats = {name: value.numpy() for name, value in fit.stats.items()}
        stats["diverging"] = stats["diverging"] > 0
    return MixPosterior(
        engine=fit.engine,
        guide=fit.options.guide,
        finished=fit.stage == "done",
        khat=fit.khat if fit.progress >= fit.options.guide_steps else math.nan,
        parameters={name: _shaped(value, chains, count, bool(dims[name])) for name, value in posterior.items()},
        prior={name: _shaped(value, None, len(before), bool(dims[name])) for name, value in prior.items()},
        dims=dims,
        coords=coords,
        stats=stats,
        log_likelihood=likelihood.reshape(chains, count, G).double().numpy(),
        replicated=replicated.numpy(),
        replicated_draw=places.numpy().astype(np.int64),
        prior_replicated=prior_replicated.numpy(),
        observed=panel.kpi.astype(np.float64),
        train=np.asarray(learnt, dtype=bool),
        dates=panel.dates.astype("datetime64[D]"),
        kpi_sum=float(model.kpi_sum),
        seconds=seconds[0],
        cpu_seconds=seconds[1],
    )


def parameters(model: MixModel, u: Tensor) -> dict[str, Tensor]:
    """Natural values [S, K] of the parameters worth listing; single numbers have K = 1."""
    theta = model.flat.constrain(u)
    sizes = {s.name: s.size for s in model.flat.sites}
    return {name: value for name, value in theta.items() if sizes[name] <= LARGEST_SITE and name != "deviation"}


def _axes(
    model: MixModel, posterior: dict[str, Tensor]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    schema = model.schema
    assert schema is not None
    coords: dict[str, tuple[str, ...]] = {"channel": schema.media, "series": schema.series}
    dims: dict[str, tuple[str, ...]] = {}
    sites = {s.name: s for s in model.flat.sites}
    for name, value in posterior.items():
        own = {"baseline_share": "", "lift": "experiment"}
        axis = sites[name].axis if name in sites else own.get(name, "channel")
        if value.shape[-1] == 1 and not axis:
            dims[name] = ()
            continue
        dims[name] = (axis,)
        if axis == "driver":
            coords[axis] = model.columns.driver
        elif axis == "experiment":
            # The measured lift stands beside the name, so that a table shows both.
            coords[axis] = tuple(
                f"{b.test.name}: measured {b.test.lift:,.6g} (standard error {b.test.se:,.3g})"
                for b in model.bound_experiments
            )
        elif axis not in coords:
            members = model.media.where.get(name)
            coords[axis] = (
                tuple(schema.media[c] for c in members)
                if members is not None
                else tuple(str(k) for k in range(value.shape[-1]))
            )
    return dims, coords


def _shaped(value: Tensor, chains: int | None, draws: int, own: bool) -> np.ndarray:
    lead = (draws,) if chains is None else (chains, draws)
    array = value.detach().double().cpu().numpy()
    return array.reshape(*lead, *([array.shape[-1]] if own else []))
