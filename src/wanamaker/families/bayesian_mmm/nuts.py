"""Pyro's own NUTS on the Pyro model: the reference engine, for small models.

Axis letters: D unconstrained numbers.
"""

from __future__ import annotations

import pyro
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from wanamaker.families.bayesian_mmm.guide import GaussianGuide
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel
from wanamaker.families.bayesian_mmm.panel_tensors import PanelTensors


def pyro_nuts(
    model: MixModel,
    guide: GaussianGuide,
    options: Inference,
    data: PanelTensors,
    base: PanelTensors | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the chains one after the other, each started from a draw of the guide.

    Returns:
        Unconstrained draws [chains, draws, D], and `diverging`, `acceptance_rate`, `energy`, `n_steps` per draw. Pyro
        keeps no energies and numbers of steps: these are NaN, and the acceptance rate is the chain's mean.
    """
    draws, diverging, acceptance = [], [], []
    with torch.random.fork_rng(devices=[]):
        for chain in range(options.nuts_chains):
            pyro.set_rng_seed(options.seed * 1_000_003 + chain)
            noise = torch.randn(1, guide.noise_size, dtype=torch.float64)
            start = model.flat.split(guide.draw(noise).detach()[0])
            kernel = NUTS(
                lambda: model.pyro_model(data, base=base),
                target_accept_prob=options.target_accept,
                full_mass=True,
                max_tree_depth=10,
            )
            run = MCMC(
                kernel,
                num_samples=options.nuts_draws,
                warmup_steps=options.nuts_warmup,
                initial_params={name: value.clone() for name, value in start.items()},
                disable_progbar=True,
            )
            run.run()
            draws.append(model.flat.unconstrain(run.get_samples()).detach())
            found = run.diagnostics()
            flags = torch.zeros(options.nuts_draws, dtype=torch.float64)
            flags[list(found["divergences"]["chain 0"])] = 1.0
            diverging.append(flags)
            rate = float(found["acceptance rate"]["chain 0"])
            acceptance.append(torch.full((options.nuts_draws,), rate, dtype=torch.float64))
    unknown = torch.full((options.nuts_chains, options.nuts_draws), torch.nan, dtype=torch.float64)
    stats = {
        "diverging": torch.stack(diverging),
        "acceptance_rate": torch.stack(acceptance),
        "energy": unknown,
        "n_steps": unknown.clone(),
    }
    return torch.stack(draws), stats
