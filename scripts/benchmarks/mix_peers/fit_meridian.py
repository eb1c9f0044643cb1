"""Google Meridian: its specification for these panels.

Chosen before any truth was looked at, and where the three tools can agree they do:

- Media units are spend over the geo's largest weekly spend, spend itself stays money: the other tools scale media
  per geo too, and Meridian has no other way to say so. Population is 1 everywhere (the panels have none), so that the
  KPI is scaled by one number.
- Prior on contribution, not on ROI: money per KPI unit is arbitrary in these panels (returns reach several hundred).
  Beta(1, 2.5 C - 1) has mean 0.4 / C: media together 40 % of sales, the default that Meridian documents for KPIs of
  unknown value, spread over C channels.
- Hill with free slope (the default fixes it at 1, and then no curve is S-shaped), half saturation around 0.7 of the
  geo's maximum with a factor of 1.8 either way; geometric adstock, Beta(1, 3), over nine weeks.
- Weeks without spend get a millionth of the geo's maximum as media units: at exactly zero every draw
  diverged, probably because the gradient of the Hill function is not a number there where the slope is below 1.
- A knot every six weeks: the year can be followed, a flight of ads cannot. Noise per geo; effects log-normal.
- Controls are standardised and pooled over geos by Meridian itself.

Warm-up is split in halves for step size adaptation and burn-in, as in its own guides.
"""

import os

os.environ.setdefault("MERIDIAN_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from meridian import backend, version
from meridian.analysis import analyzer
from meridian.data import data_frame_input_data_builder
from meridian.model import model, prior_distribution, spec

from mix_peers.data import Panel
from mix_peers.measure import Fit

LAGS = 8  # beside the week itself
FLOOR = 1e-6  # of the geo's maximum
WEEKS_PER_KNOT = 6
# What is sampled; everything else in Meridian's posterior is computed from these.
SAMPLED = ("knot_values", "tau_g", "contribution_m", "eta_m", "alpha_m", "ec_m", "slope_m", "sigma", "beta_gm")
CONTROLS = ("gamma_c", "xi_c", "gamma_gc")


def build(panel: Panel) -> model.Meridian:
    """The model of a panel."""
    G, T, C = panel.spend.shape
    units = np.maximum(panel.spend / panel.spend.max(1, keepdims=True), FLOOR)
    frame = pd.DataFrame(
        {
            "time": np.tile(panel.dates.astype(str), G),
            "geo": np.repeat(panel.geos, T),
            "kpi": panel.kpi.ravel(),
            "population": 1.0,
            "revenue_per_kpi": 1.0,
        }
    )
    spend_names = [f"{name} spend" for name in panel.channels]
    for c, name in enumerate(panel.channels):
        frame[name] = units[..., c].ravel()
        frame[spend_names[c]] = panel.spend[..., c].ravel()
    for k, name in enumerate(panel.controls):
        frame[name] = panel.control[..., k].ravel()
    builder = data_frame_input_data_builder.DataFrameInputDataBuilder(kpi_type="non_revenue")
    builder = builder.with_kpi(frame, kpi_col="kpi").with_population(frame).with_revenue_per_kpi(frame)
    if panel.controls:
        builder = builder.with_controls(frame, control_cols=list(panel.controls))
    names = list(panel.channels)
    builder = builder.with_media(frame, media_cols=names, media_spend_cols=spend_names, media_channels=names)

    # Meridian counts media in medians of its positive weeks: the half saturation is a multiple of that.
    median = np.array([np.median(units[..., c][units[..., c] > 0]) for c in range(C)])
    tfd, one = backend.tfd, np.float64(1.0)  # its priors must be float64 like its data
    prior = prior_distribution.PriorDistribution(
        contribution_m=tfd.Beta(one, one * 2.5 * C - 1, name="contribution_m"),
        alpha_m=tfd.Beta(one, one * 3.0, name="alpha_m"),
        ec_m=tfd.LogNormal(np.log(0.7 / median), one * 0.6, name="ec_m"),
        slope_m=tfd.LogNormal(one * 0.1, one * 0.4, name="slope_m"),
    )
    chosen = spec.ModelSpec(
        prior=prior,
        media_prior_type="contribution",
        media_effects_dist="log_normal",
        max_lag=LAGS,
        knots=round(T / WEEKS_PER_KNOT) + 1,
        unique_sigma_for_each_geo=True,
    )
    return model.Meridian(input_data=builder.build(), model_spec=chosen)


def fit(panel: Panel, chains: int, warmup: int, draws: int, seed: int) -> Fit:
    """Sample with Meridian's NUTS, all chains in one vectorised program."""
    meridian = build(panel)
    halves = warmup // 2, warmup - warmup // 2
    meridian.sample_posterior(chains, n_adapt=halves[0], n_burnin=halves[1], n_keep=draws, seed=seed)
    outcome = analyzer.Analyzer(
        model_context=meridian.model_context, inference_data=meridian.inference_data
    ).incremental_outcome(use_kpi=True)
    posterior, stats = meridian.inference_data.posterior, meridian.inference_data.sample_stats
    names = [name for name in SAMPLED + (CONTROLS if panel.controls else ()) if name in posterior]
    return Fit(
        version=f"google-meridian {version.__version__}",
        parameters={name: np.asarray(posterior[name]) for name in names},
        contribution=np.asarray(outcome),
        divergences=int(np.asarray(stats["diverging"]).sum()),
    )
