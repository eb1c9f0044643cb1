"""PyMC-Marketing with nutpie: its specification for these panels.

The multidimensional MMM class with a geo dimension, as its guides build it. Chosen before any truth was looked at,
and where the three tools can agree they do:

- Channels and target over the geo's maximum (`dims: ()` reduces over weeks only).
- Hill, half saturation LogNormal around 0.7 of the geo's maximum, slope around 1.1, both per channel; ceiling per
  channel and geo, log-normal around a mean per channel, non-centred. One geo: a ceiling per channel.
- Weeks without spend get a millionth of the geo's maximum: at exactly zero nearly every draw diverged,
  probably because the gradient of the Hill function of 0.19.2 is not a number there where the slope is below 1.
- Geometric adstock, Beta(1, 3), nine weeks.
- Yearly Fourier terms of order two per geo; a line in time and the controls as control columns (the class does not
  scale them, so they are standardised here), per geo, as the class has it by default:
  pooled and non-centred, 8 geos took five times the gradients per draw.
- Normal noise per geo.

Sampler: nutpie, chains on at most two cores, its default target acceptance.
"""

import logging
from importlib.metadata import version

import numpy as np
import pandas as pd
from pymc_extras.prior import Prior
from pymc_marketing.mmm import GeometricAdstock, HillSaturation
from pymc_marketing.mmm.multidimensional import MMM
from pymc_marketing.special_priors import LogNormalPrior

from mix_peers.data import Panel, standardised, trend_and_waves
from mix_peers.measure import Fit

LAGS = 9
FLOOR = 1e-6  # of the geo's maximum


def build(panel: Panel) -> tuple[MMM, pd.DataFrame, pd.Series]:
    """The model of a panel with its predictors and its target."""
    G, T, _ = panel.spend.shape
    line, _ = trend_and_waves(panel.dates)
    frame = pd.DataFrame({"date": np.tile(pd.to_datetime(panel.dates), G), "geo": np.repeat(panel.geos, T)})
    for c, name in enumerate(panel.channels):
        spend = panel.spend[..., c]
        frame[name] = np.maximum(spend, FLOOR * spend.max(1, keepdims=True)).ravel()
    frame["trend"] = np.tile(line, G)
    for k, name in enumerate(panel.controls):
        frame[name] = standardised(panel.control)[..., k].ravel()

    if G > 1:
        ceiling = LogNormalPrior(
            mean=Prior("Gamma", mu=0.3, sigma=0.2, dims="channel"),
            std=Prior("HalfNormal", sigma=0.1, dims="channel"),
            dims=("channel", "geo"),
            centered=False,
        )
    else:
        ceiling = Prior("Gamma", mu=0.3, sigma=0.2, dims="channel")
    mmm = MMM(
        date_column="date",
        target_column="kpi",
        channel_columns=list(panel.channels),
        control_columns=["trend", *panel.controls],
        dims=("geo",),
        scaling={"channel": {"method": "max", "dims": ()}, "target": {"method": "max", "dims": ()}},
        adstock=GeometricAdstock(l_max=LAGS, priors={"alpha": Prior("Beta", alpha=1, beta=3, dims="channel")}),
        saturation=HillSaturation(
            priors={
                "slope": Prior("LogNormal", mu=0.1, sigma=0.4, dims="channel"),
                "kappa": Prior("LogNormal", mu=float(np.log(0.7)), sigma=0.6, dims="channel"),
                "beta": ceiling,
            }
        ),
        yearly_seasonality=2,
        model_config={
            "intercept": Prior("Normal", mu=0.5, sigma=0.5, dims="geo"),
            "gamma_control": Prior("Normal", mu=0, sigma=0.3, dims=("geo", "control")),
            "gamma_fourier": Prior("Normal", mu=0, sigma=0.3, dims=("geo", "fourier_mode")),
            "likelihood": Prior("Normal", sigma=Prior("HalfNormal", sigma=0.3, dims="geo"), dims=("date", "geo")),
        },
    )
    return mmm, frame, pd.Series(panel.kpi.ravel(), name="kpi")


def fit(panel: Panel, chains: int, warmup: int, draws: int, seed: int) -> Fit:
    """Sample with nutpie."""
    logging.getLogger("pymc").setLevel(logging.WARNING)
    mmm, frame, target = build(panel)
    mmm.build_model(frame, target)
    free = [variable.name for variable in mmm.model.free_RVs]
    mmm.fit(
        frame, target, chains=chains, tune=warmup, draws=draws, cores=min(2, chains), random_seed=seed,
        nuts_sampler="nutpie", progressbar=False,
    )  # fmt: skip
    posterior, stats = mmm.idata.posterior, mmm.idata.sample_stats
    scale = mmm.get_scales_as_xarray()["target_scale"]
    total = (posterior["channel_contribution"].sum("date") * scale).sum("geo")
    total = total.sel(channel=list(panel.channels)).transpose("chain", "draw", "channel")
    return Fit(
        version=f"pymc-marketing {version('pymc-marketing')}, nutpie {version('nutpie')}, pymc {version('pymc')}",
        parameters={name: posterior[name].transpose("chain", "draw", ...).values for name in free},
        contribution=total.values,
        divergences=int(stats["diverging"].sum()),
    )
