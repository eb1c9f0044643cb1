"""What a fit will need, told before it starts; and what it cannot do with too few rows.

Axis letters: G series, T periods, S draws, Q columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
from lightning.pytorch.utilities import rank_zero_info

from wanamaker.errors import UserError
from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel


def memory_estimate(model: MixModel, options: Inference, data: Any, draws: int) -> dict[str, float]:
    """Bytes of the large arrays of a fit and of its predictions, by what they are."""
    assert model.schema is not None
    G, T = data.panel.kpi.shape
    C, Q, V, D = len(model.schema.media), model.num_columns, model.num_shared, model.flat.dim
    L, K = data.taps, 3 + len(model.schema.control) + len(model.schema.promotion) + len(model.schema.price) + C
    panel = 8.0 * G * (T + L) * (C + Q + 3)
    windows = 8.0 * G * T * C * L
    per_draw = 8.0 * G * (T * (C + 1) * 12 + 6 * Q * (Q + len(model.columns.fixed)))
    at_once = max(1.0, min(options.chunk_bytes / per_draw, options.chains))
    return {
        "panel": panel + windows,
        "one evaluation of the density": per_draw * at_once + 8.0 * V * V * 3,
        "draws": 8.0 * D * (options.chains * options.draws + options.khat_draws),
        "coefficients of the draws": 4.0 * draws * G * Q * 2,
        "predictions": 4.0 * draws * G * T * K * 3,
        "runtime": 0.6e9,
    }


def check_memory(model: MixModel, options: Inference, data: Any, draws: int, tell: bool = True) -> None:
    """Print the estimate; refuse what this machine cannot hold, and panels that are too small for the model.

    Args:
        model: built, with its scales.
        options: of the inference.
        data: the data module, set up.
        draws: that predictions get.
        tell: print the estimate.

    Raises:
        UserError: not enough memory, fewer rows than parameters, series that share no period with another.
    """
    _check_rows(model, data)
    parts = memory_estimate(model, options, data, draws)
    total = sum(parts.values())
    largest = max((name for name in parts if name != "runtime"), key=lambda name: parts[name])
    if tell:
        rank_zero_info(
            f"{model.flat.dim} parameters, {model.num_shared} shared coefficients"
            f"{'' if model.collapse == 'none' else ' (integrated out)' if model.collapse == 'all' else ''}; about "
            f"{total / 1e9:.1f} GB of memory, most of it for {largest} ({parts[largest] / 1e9:.1f} GB)."
        )
    free = psutil.virtual_memory().available
    if total > free:
        G, T = data.panel.kpi.shape
        raise UserError(
            f"This fit needs about {total / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; most is for "
            f"{largest} ({parts[largest] / 1e9:.1f} GB: {G} series, {T} periods, {draws} draws). Lower model.draws, "
            "model.inference.chains or model.inference.chunk_bytes, or take fewer series."
        )


def _check_rows(model: MixModel, data: Any) -> None:
    mask = data.train_mask
    rows, needed = int(mask.sum()), model.flat.dim + (model.num_shared if model.collapse == "all" else 0)
    G = mask.shape[0]
    unit = "periods" if G == 1 else f"rows ({G} series)"
    if rows < needed and model.collapse != "none":
        raise UserError(
            f"The training window has {rows} {unit} for {needed} parameters: the result would be the prior. "
            "Train on more periods (data.split, a longer file), or model fewer channels, controls, seasonal columns "
            "(data.seasonality) or knots of the trend (data.trend)."
        )
    if G > 1:
        together = mask.astype(np.float32) @ mask.T.astype(np.float32)
        np.fill_diagonal(together, 0)
        alone = np.flatnonzero(together.max(1) == 0)
        if len(alone):
            names = [model.schema.series[g] for g in alone[:5]]  # type: ignore[union-attr]
            dates = data.panel.dates[mask[alone[0]]]
            raise UserError(
                f"Series {', '.join(names)} shares no period of training with any other series ({names[0]} has "
                f"{dates[0]} to {dates[-1]}): effects that series share cannot be told from time. Leave it out "
                f"(data.exclude_series=['{names[0]}']), or bring the periods that are missing."
            )
