"""Refusals of panels that the model cannot learn from.

Axis letters: G series, T periods.
"""

from __future__ import annotations

import numpy as np

from wanamaker.data.media_panel import MediaPanel, PanelSchema
from wanamaker.errors import UserError


def check_kpi(panel: MediaPanel, learnt: np.ndarray, link: str, likelihood: str) -> None:
    """Refuse a KPI that the link cannot take, on the rows `learnt` [G, T]."""
    if link != "log":
        return
    bad = learnt & ~(panel.kpi > 0) if likelihood != "negative_binomial" else learnt & ~(panel.kpi >= 0)
    if not bad.any():
        return
    g, t = np.argwhere(bad)[0]
    what = "is negative" if likelihood == "negative_binomial" else "has no logarithm"
    raise UserError(
        f"The KPI {panel.schema.kpi} of {panel.schema.series[g]} on {panel.dates[t]} is {panel.kpi[g, t]:g} and {what} "
        f"({int(bad.sum())} rows in training): model.net.link=log needs a KPI above 0. Take model.net.link=identity, "
        "model.net.likelihood=negative_binomial for counts, or leave the rows out (data.mask)."
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
