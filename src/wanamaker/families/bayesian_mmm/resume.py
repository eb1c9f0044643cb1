"""What a checkpoint and the run that goes on from it must agree on, and what is said of a fit that was cut short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.fit import PosteriorFit
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel

FREE = ("engine", "khat_limit", "compile", "chunk_bytes", "seed")
"""Options of the inference that may change on the way: they do not say what the steps so far were."""


def options_of(net: MixModel, inference: Inference) -> dict[str, Any]:
    """What decides the posterior and the meaning of a step, as plain values for a checkpoint."""
    model = {
        "link": net.link,
        "likelihood": net.likelihood,
        "adstock": net.adstock,
        "saturation": net.saturation,
        "saturate_first": net.saturate_first,
        "frequency": net.frequency,
        "effect": net.effect_options,
        "priors": net.prior_options,
        "pooling": net.pooling,
        "media_scale": net.media_scale_kind,
        "noise_by_size": net.noise_by_size,
        "experiments": net.experiment_options,
    }
    steps = {name: value for name, value in asdict(inference).items() if name not in FREE}
    return {"net": _plain(model), "inference": _plain(steps)}


def check_options(there: Mapping[str, Any], net: MixModel, inference: Inference) -> None:
    """Refuse to go on from a checkpoint that was made with other options.

    Args:
        there: `options_of` of the checkpoint.
        net, inference: of this run.

    Raises:
        UserError: naming the options that differ.
    """
    changed = list(_differences(options_of(net, inference), there, "model"))
    if changed:
        raise UserError(
            f"The checkpoint was made with other options: {'; '.join(changed[:4])}. Half a fit of each is a fit of "
            "none: repeat the command it was trained with, or start afresh with a new run_id or ckpt_path=null."
        )


def cut_short(fit: PosteriorFit) -> str:
    """What there is to say of a fit that has not reached its end; "" where it has."""
    if fit.stage == "done":
        return ""
    what = {
        "mode": "it has no posterior at all, only a point on the way to the most likely one",
        "svi": "its guide has not settled",
        "hmc": "its chains have not run to their end, and the guide's draws stand in for them",
        "nuts": "its chains have not run, and the guide's draws stand in for them",
    }[fit.stage]
    return (
        f"The fit was cut short after step {fit.progress:,} of {fit.total_steps:,} (stage {fit.stage}): {what}. "
        "Intervals and returns from it are not results, and its reports say so. The same command with the same run_id "
        "and trainer.max_epochs=-1 finishes it."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value


def _differences(here: Any, there: Any, path: str) -> Iterator[str]:
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted(here.keys() | there.keys()):
            yield from _differences(here.get(key), there.get(key), f"{path}.{key}")
    elif here != there:
        yield f"{path} is {here} here and {there} there"
