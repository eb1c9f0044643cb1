"""NumPyro: the plain hierarchical model, every geo's effects sampled, as a reference for the engine.

Written by us with the usual recipe, not collapsed: with the same curves and priors as the other tools' specifications
(see fit_pymc.py) but all effects of geos as sampled, non-centred variables. float64, NUTS with the defaults, chains
one after the other.

Axis letters: G geos, T weeks, C channels, K controls, F waves, L lags.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from mix_peers.data import Panel, standardised, trend_and_waves
from mix_peers.measure import Fit

jax.config.update("jax_enable_x64", True)

LAGS = 9


def pooled(name: str, size: int, geos: int, mean: dist.Distribution, spread: float) -> jnp.ndarray:
    """Coefficients [G, size] around a common mean [size]; one geo has the mean itself."""
    centre = numpyro.sample(f"{name}_mean", mean.expand([size]).to_event(1))
    if geos == 1:
        return centre[None]
    scale = numpyro.sample(f"{name}_spread", dist.HalfNormal(spread).expand([size]).to_event(1))
    return centre + scale * numpyro.sample(f"{name}_geo", dist.Normal(0, 1).expand([geos, size]).to_event(2))


def model(lagged: jnp.ndarray, design: jnp.ndarray, kpi: jnp.ndarray) -> None:
    """Additive mix on the KPI over the geo's maximum.

    Args:
        lagged: media over the geo's maximum, [G, T, C, L].
        design: trend, waves and controls, [G, T, 1 + F + K].
        kpi: [G, T], over the geo's maximum.
    """
    G, _, C, L = lagged.shape
    decay = numpyro.sample("decay", dist.Beta(1, 3).expand([C]).to_event(1))
    half = numpyro.sample("half_saturation", dist.LogNormal(np.log(0.7), 0.6).expand([C]).to_event(1))
    slope = numpyro.sample("slope", dist.LogNormal(0.1, 0.4).expand([C]).to_event(1))
    weights = decay[:, None] ** jnp.arange(L)
    stock = jnp.einsum("gtcl,cl->gtc", lagged, weights / weights.sum(-1, keepdims=True))
    # Zero spend has no effect and, through the mask, no gradient of a logarithm of zero.
    some = stock > 0
    odds = jnp.exp(slope * (jnp.log(jnp.where(some, stock, 1.0)) - jnp.log(half)))
    curve = jnp.where(some, odds / (1 + odds), 0.0)
    top = jnp.exp(pooled("log_effect", C, G, dist.Normal(np.log(0.2), 0.8), 0.3))
    parts = curve * top[:, None]
    numpyro.deterministic("contribution", parts.sum(1))  # [G, C], over the geo's maximum
    level = pooled("level", 1, G, dist.Normal(0.5, 0.5), 0.5)
    coefficients = pooled("coefficient", design.shape[-1], G, dist.Normal(0, 0.3), 0.2)
    mean = level + parts.sum(-1) + jnp.einsum("gtk,gk->gt", design, coefficients)
    noise = numpyro.sample("noise", dist.HalfNormal(0.3).expand([G]).to_event(1))
    numpyro.sample("kpi", dist.Normal(mean, noise[:, None]).to_event(2), obs=kpi)


def fit(panel: Panel, chains: int, warmup: int, draws: int, seed: int) -> Fit:
    """Sample with NUTS."""
    T = panel.spend.shape[1]
    scale = panel.kpi.max(1)
    media = panel.spend / panel.spend.max(1, keepdims=True)
    padded = np.pad(media, ((0, 0), (LAGS - 1, 0), (0, 0)))
    lagged = np.stack([padded[:, LAGS - 1 - lag : LAGS - 1 - lag + T] for lag in range(LAGS)], axis=-1)
    line, waves = trend_and_waves(panel.dates)
    calendar = np.broadcast_to(np.column_stack([line, waves]), (len(scale), T, 1 + waves.shape[1]))
    design = np.concatenate([calendar, standardised(panel.control)], axis=-1)
    sampler = MCMC(
        NUTS(model), num_warmup=warmup, num_samples=draws, num_chains=chains, chain_method="sequential",
        progress_bar=False,
    )  # fmt: skip
    data = [jnp.asarray(values) for values in (lagged, design, panel.kpi / scale[:, None])]
    sampler.run(jax.random.PRNGKey(seed), *data, extra_fields=("diverging",))
    found = {name: np.asarray(values) for name, values in sampler.get_samples(group_by_chain=True).items()}
    contribution = (found.pop("contribution") * scale[:, None]).sum(2)
    return Fit(
        version=f"numpyro {numpyro.__version__}",
        parameters=found,
        contribution=contribution,
        divergences=int(np.asarray(sampler.get_extra_fields()["diverging"]).sum()),
    )
