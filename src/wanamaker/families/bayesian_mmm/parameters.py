"""The parameters of the mix model with their default priors.

Axis letters: K entries of one parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.media import MediaCurves
from wanamaker.families.bayesian_mmm.priors import Site, site

if TYPE_CHECKING:
    from wanamaker.families.bayesian_mmm.model import MixModel

PRIORS: dict[str, list[Any]] = {
    # Standard deviations of shared coefficients, in units of the series' mean KPI (or of log KPI); not parameters.
    "intercept": ["normal", 0.0, 1.0],
    "trend": ["normal", 0.0, 0.3],
    "season": ["normal", 0.0, 0.2],
    "control": ["normal", 0.0, 0.2],
    "promotion": ["normal", 0.0, 0.5],
    "price": ["normal", 0.0, 1.0],
    # Parameters.
    "driver_effect": ["lognormal", 0.15, 1.0],
    "noise": ["lognormal", 0.1, 1.0],
    "noise_size": ["normal", 0.0, 0.3],
    "dof": ["lognormal", 8.0, 0.6],
    "dispersion": ["lognormal", 0.1, 1.0],
    # How much series (or groups) differ: of media relative to the effect, of the others in their own units.
    "media_spread": ["lognormal", 0.15, 0.6],
    "driver_spread": ["lognormal", 0.15, 0.6],
    "intercept_spread": ["lognormal", 0.15, 0.8],
    "trend_spread": ["lognormal", 0.05, 0.8],
    "season_spread": ["lognormal", 0.05, 0.8],
    "control_spread": ["lognormal", 0.05, 0.8],
    "promotion_spread": ["lognormal", 0.05, 0.8],
    "price_spread": ["lognormal", 0.15, 0.8],
}
FIXED_KIND = {"baseline": "intercept"}
"""What the kind of a fixed column is called among the priors."""


def check_prior_names(options: Mapping[str, Any], media: MediaCurves) -> None:
    """Refuse priors of parameters that this model does not have.

    Raises:
        UserError: naming them and what there is.
    """
    known = set(PRIORS) | set(media.default_priors())
    if unknown := sorted(set(options) - known):
        raise UserError(
            f"model.net.priors: {', '.join(unknown)} is no prior of this model; there are {', '.join(sorted(known))}."
        )


def coefficient_sd(options: Mapping[str, Any], kind: str) -> float:
    """Standard deviation of the prior of a shared coefficient of either sign, by kind of its column.

    Raises:
        UserError: a prior that is not [normal, 0, sd].
    """
    name = FIXED_KIND.get(kind, kind)
    chosen = options.get(name, PRIORS[name])
    made = site(name, chosen, [""])
    if made.kind != "normal" or float(made.first[0]) != 0.0:
        raise UserError(f"model.net.priors.{name}={list(chosen)}: a coefficient of either sign has [normal, 0, sd].")
    return float(made.second[0])


def model_sites(model: MixModel) -> list[Site]:
    """All parameters of a built model, in order; priors on media are in the units of the channels' usual media."""

    def prior_of(name: str, default: Any, labels: list[str], axis: str = "") -> Site:
        return site(name, model.prior_options.get(name, default), labels, axis, default=default)

    schema = model.schema
    assert schema is not None
    channels, drivers = list(schema.media), list(model.columns.driver)
    made = []
    for name, (default, members) in model.media.default_priors().items():
        labels = [channels[c] for c in members]
        prior = prior_of(name, default, labels, "channel" if len(labels) == len(channels) else f"{name}_channel")
        made.append(model.media.in_media_units(prior, members, model.usual_media))
    made.append(model.effect.site(schema, model.spend_sum))
    made.append(prior_of("driver_effect", PRIORS["driver_effect"], drivers, "driver"))
    made.append(prior_of("noise", PRIORS["noise"], [""]))
    if model.noise_by_size:
        made.append(prior_of("noise_size", PRIORS["noise_size"], [""]))
    if model.likelihood == "student_t":
        made.append(prior_of("dof", PRIORS["dof"], [""]))
    if model.likelihood == "negative_binomial":
        made = [s for s in made if s.name != "noise"]
        made.append(prior_of("dispersion", PRIORS["dispersion"], [""]))
    for level in model.spread_levels:
        suffix = "" if level == "series" else f"_{level}"
        made += [
            replace(
                prior_of("media_spread", PRIORS["media_spread"], channels, "channel"),
                name="media_spread" + suffix,
            ),
            replace(
                prior_of("driver_spread", PRIORS["driver_spread"], drivers, "driver"),
                name="driver_spread" + suffix,
            ),
        ]
        for kind in dict.fromkeys(model.columns.fixed_kind):
            name = FIXED_KIND.get(kind, kind) + "_spread"
            made.append(replace(prior_of(name, PRIORS[name], [""]), name=name + suffix))
    if model.collapse != "all":
        made.append(_standard("shared", model.num_shared))
    if model.collapse == "none" and "series" in model.spread_levels:
        made.append(_standard("deviation", len(schema.series) * model.num_columns))
    return made


def _standard(name: str, size: int) -> Site:
    """Coefficients in units of their standard deviation."""
    zeros = torch.zeros(size, dtype=torch.float64)
    return Site(name, "normal", zeros, torch.ones_like(zeros), f"{name}_coefficient")
