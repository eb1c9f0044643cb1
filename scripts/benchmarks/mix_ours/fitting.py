"""Fit a panel with the library itself, without trainer and configuration, and measure what it found and cost.

The steps are those of `BayesianMixModule`; CPU-seconds run from the panel in memory to draws of the contributions.
Effective sample sizes are counted as for the peers (`mix_peers.measure`); draws of the guide are independent, but
resampled by importance weights, and so their number is also bounded by Kish's effective size of the resampling.

Axis letters: G series, C channels, S draws, D unconstrained numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from mix_peers.measure import Clock, Fit, peak_rss_bytes, summarise
from torch import Tensor, nn

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.families.bayesian_mmm.collapsed import same
from wanamaker.families.bayesian_mmm.fit import PosteriorFit
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.module import BASE_SERIES
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors
from wanamaker.families.bayesian_mmm.posterior_draws import draw_all, estimands

RATE, BETAS, CLIP = 0.05, (0.9, 0.99), 10.0  # as the recipes have them


class Learnt(NamedTuple):
    """A panel and what follows from its calendar, as a data module has them after `setup`."""

    panel: MediaPanel
    schema: PanelSchema
    season: np.ndarray
    trend: np.ndarray
    mask: np.ndarray  # bool [G, T]
    taps: int


def fit_panel(
    learnt: Learnt, net: dict[str, Any], inference: dict[str, Any], batch_size: int | None = None
) -> dict[str, Any]:
    """Fit, draw contributions and measure; plain values for a JSON file.

    Args:
        learnt: the panel.
        net: options of `MixModel`.
        inference: options of `Inference`.
        batch_size: series per step of the guide; None takes all.
    """
    clock, marks = Clock(), {}
    schema, options = learnt.schema, Inference(**inference)
    batched = batch_size is not None and batch_size < len(schema.series)
    # Truth counts contacts alike on these panels; a curve over frequency has its own recipe (bayesian_mmm_reach).
    options = {"frequency": "contacts"} | ({"collapse": "series"} if batched else {}) | net
    model = MixModel(**options).build(schema)
    model.fit_scales(learnt.panel, learnt.mask)
    data = model.tensors(learnt.panel, learnt.season, learnt.trend, learnt.mask, learnt.taps)
    base = _base(model, data) if batched else None
    fit = PosteriorFit(model, options).allocate()
    _steps(fit, data, base, batch_size if batched else None, marks)
    chains, count = fit.draws().shape[:2]
    u = fit.draws().flatten(0, 1)
    chunk = fit.chunk(data, blocked=True)
    own, _ = draw_all(model, u, data, options.seed, chunk)
    found = estimands(model, u, own, data, chunk)
    seconds, cpu = clock.read()
    marks["contributions"] = cpu
    result = {
        "tool": "ours",
        "engine": fit.engine,
        "khat": fit.khat,
        "collapse": model.collapse,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "cpu_marks": marks,
        "peak_rss_bytes": peak_rss_bytes(),
        "channels": list(schema.media),
    }
    # Draws of the guide are independent and their R-hat says nothing; four parts of them are what ArviZ counts.
    guided = fit.engine == "svi"
    shape = (4, count // 4) if guided else (chains, count)
    kept = slice(0, shape[0] * shape[1])
    theta = {name: value[kept].numpy().reshape(*shape, -1) for name, value in model.flat.constrain(u).items()}
    diverging = 0 if guided else int((fit.stats["diverging"] > 0).sum())
    draws = Fit("", theta, found["contribution"][kept].numpy().reshape(*shape, -1), diverging)
    result |= summarise(draws, learnt.panel.spend.sum((0, 1), dtype=np.float64))
    if guided:
        bound = kish(u)
        result |= {
            name: min(bound, value) for name, value in result.items() if "ess_" in name and "seconds" not in name
        }
        result |= {"rhat_max": None, "contribution_rhat_max": None}
    return result


def kish(u: Tensor) -> float:
    """Effective number of resampled draws [S, D], of which some stand there more than once."""
    _, times = torch.unique(u, dim=0, return_counts=True)
    return float(len(u) ** 2 / times.double().square().sum())


def _base(model: MixModel, data: PanelTensors) -> PanelTensors | None:
    if not model.effect.needs_totals:
        return None
    places = torch.linspace(0, data.num_series - 1, min(BASE_SERIES, data.num_series)).round().long()
    model.base_factor = data.num_series / len(places)
    return data.select(places)


def _steps(
    fit: PosteriorFit, data: PanelTensors, base: PanelTensors | None, size: int | None, marks: dict[str, float]
) -> None:
    """Every step of a fit, as the trainer takes them; CPU-seconds of each stage into `marks`."""
    options, clock = fit.options, Clock()
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam(fit.guide.parameters(), lr=RATE, betas=BETAS)
    order = torch.arange(data.num_series)
    waiting: list[Tensor] = []
    assert fit.model.reduce is same
    while fit.stage != "done":
        if fit.stage in ("mode", "svi"):
            shard = data
            if size is not None:
                if not waiting:
                    mixed = order[torch.randperm(len(order), generator=generator)]
                    waiting = [part for part in mixed.split(size) if len(part) == size]
                shard = data.select(waiting.pop())
            loss = fit.loss(shard, data.num_series / shard.num_series, base)
            optimizer.zero_grad()
            loss.backward()
            if fit.stage == "svi":
                nn.utils.clip_grad_norm_(fit.guide.parameters(), CLIP)
            for group in optimizer.param_groups:
                group["lr"] = RATE * fit.learning_rate()
            optimizer.step()
            if not math.isfinite(float(loss.detach())):
                raise SystemExit(f"The log density is not finite at step {fit.progress}.")
        elif fit.stage == "hmc":
            fit.sample_step(data, base)
        else:
            fit.nuts(data, base)
        fit.progress += 1
        if fit.progress == options.mode_steps:
            marks["mode"] = clock.read()[1]
            fit.begin_svi(data, base)
            optimizer.state.clear()
            marks["curvature"] = clock.read()[1]
        elif fit.progress == options.guide_steps:
            marks["svi"] = clock.read()[1]
            fit.finish_guide(data, base)
            marks["khat"] = clock.read()[1]
    marks["sampling"] = clock.read()[1]
