"""Refusals of panels that the model cannot learn from, and of options that would change nothing.

Axis letters: G series, T periods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.parameters import PRIORS

if TYPE_CHECKING:
    from wanamaker.families.bayesian_mmm.model import MixModel


def check_idle_options(model: MixModel) -> None:
    """Refuse options that other options leave without any effect, whatever the panel; before a fit only.

    Raises:
        UserError: naming the option and the one that it needs.
    """
    counts = model.likelihood == "negative_binomial"
    needed = {
        "dof": (model.likelihood == "student_t", "model.net.likelihood=student_t"),
        "dispersion": (counts, "model.net.likelihood=negative_binomial"),
        "noise": (not counts, "another likelihood, for counts have a dispersion"),
        "noise_size": (model.noise_by_size, "model.net.noise_by_size=true"),
        **{name: (model.pooling, "model.net.pooling=true") for name in PRIORS if name.endswith("_spread")},
    }
    for name, (there, option) in needed.items():
        if name in model.prior_options and not there:
            raise UserError(
                f"model.net.priors.{name} would change nothing: it needs {option}. Set that, or leave the prior out."
            )
    kind, prior = model.effect_options.get("kind", "contribution"), model.effect_options.get("prior")
    if model.effect_options.get("spend_informed") and (kind != "contribution" or prior is not None):
        raise UserError(
            "model.net.effect.spend_informed=true sets the medians of contributions without a prior of their own; with "
            f"model.net.effect.kind={kind}{'' if prior is None else ' and a prior'} it would change nothing. Set "
            "model.net.effect.spend_informed=false."
        )


def check_shares(model: MixModel) -> None:
    """Refuse a prior of a contribution that lies above all of the KPI, such as 30 for 30 %; before a fit only.

    Args:
        model: built.

    Raises:
        UserError: naming the channel and its median.
    """
    site = next((s for s in model.flat.sites if s.name == "effect"), None)
    if site is None or not model.effect.needs_totals:
        return
    medians = site.constrain(site.median()).tolist()
    for channel, median, returns in zip(model.media.channels, medians, model.effect.returns.tolist(), strict=True):
        if median > 1 and not returns:
            raise UserError(
                f"model.net.effect.prior: the median of {channel} is {median:g}, and it is about the share of the KPI "
                f"that the channel brought. Write {median / 100:g} for {median:g} %."
            )


def check_kpi(panel: MediaPanel, learnt: np.ndarray, link: str, likelihood: str) -> None:
    """Refuse a KPI that the link or the likelihood cannot take, on the rows `learnt` [G, T]."""
    if link != "log":
        return
    bad = learnt & ~(panel.kpi > 0) if likelihood != "negative_binomial" else learnt & ~(panel.kpi >= 0)
    if not bad.any():
        if likelihood == "negative_binomial":
            _check_counts(panel, learnt)
        return
    g, t = np.argwhere(bad)[0]
    what = "is negative" if likelihood == "negative_binomial" else "has no logarithm"
    raise UserError(
        f"The KPI {panel.schema.kpi} of {panel.schema.series[g]} on {panel.dates[t]} is {panel.kpi[g, t]:g} and {what} "
        f"({int(bad.sum())} rows in training): model.net.link=log needs a KPI above 0. Take model.net.link=identity, "
        "model.net.likelihood=negative_binomial for counts, or leave the rows out (data.mask)."
    )


def _check_counts(panel: MediaPanel, learnt: np.ndarray) -> None:
    broken = learnt & (panel.kpi != np.round(panel.kpi))
    if not broken.any():
        return
    g, t = np.argwhere(broken)[0]
    raise UserError(
        f"The KPI {panel.schema.kpi} of {panel.schema.series[g]} on {panel.dates[t]} is {panel.kpi[g, t]:g} and no "
        f"count ({int(broken.sum())} rows in training): model.net.likelihood=negative_binomial is for whole numbers. "
        "Take model.net.likelihood=normal, or name a column of counts in data.roles.kpi."
    )


def check_total(schema: PanelSchema, kpi_sum: float, contributions: bool) -> None:
    """Refuse a KPI that adds up to nothing where effects have priors on their share of it: their sign would turn.

    Args:
        schema: of the panel.
        kpi_sum: over the rows learnt from.
        contributions: whether any channel has such a prior.
    """
    if contributions and not kpi_sum > 0:
        raise UserError(
            f"The KPI {schema.kpi} adds up to {kpi_sum:g} in the training window, and the prior of channels is a share "
            "of it: media would lower it. Check data.roles.kpi and its sign, or take model.net.effect.kind=coefficient."
        )


def check_media(panel: MediaPanel, learnt: np.ndarray, schema: PanelSchema) -> None:
    """Refuse a channel that never ran, or never cost anything, in the training window."""
    window = np.flatnonzero(learnt.any(0))
    for name, array in (("media", panel.media), ("spend", panel.spend)):
        total = array[learnt].sum(0)
        for c, channel in enumerate(schema.media):
            if total[c] <= 0 and (name == "media" or schema.paid[c]):
                raise UserError(
                    f"Channel {channel} has no {name} in the training window {panel.dates[window[0]]} to "
                    f"{panel.dates[window[-1]]}: nothing can be learnt about it. Take it out of data.roles.media, or "
                    "let the training window begin where it ran."
                )
