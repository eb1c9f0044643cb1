"""From the net to what targeting reads.

Axis letters: B batch rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from wanamaker.data.uplift_batch import UpliftBatch, UpliftSchema
from wanamaker.families.x_learner.net import Uplift
from wanamaker.predictions import UpliftPredictions


def predictions_of(
    output: Uplift, batch: UpliftBatch, schema: UpliftSchema, data: Any, level: float
) -> UpliftPredictions:
    """Rows of a batch as an artefact.

    Args:
        output: of the net.
        batch: its rows.
        schema: of the experiment.
        data: knows the identifiers, costs and splits of rows (`identifiers`, `cost_of`, `split_of`).
        level: of the intervals.
    """
    row = batch.row.cpu().numpy()
    order: np.ndarray | slice = slice(None)
    if not (np.diff(row) > 0).all():
        row, order = np.unique(row, return_index=True)

    def array(value: Tensor, dtype: type = np.float32) -> np.ndarray:
        return value.detach().cpu().numpy()[order].astype(dtype, copy=False)

    effect, half = array(output.effect), array(output.half_width)
    return UpliftPredictions(
        row=row,
        id=np.asarray(data.identifiers(row)),
        split=np.asarray(data.split_of(row), dtype=np.int64),
        treatment=array(batch.treatment, np.int64),
        outcome=array(batch.outcome, np.float64),
        weight=array(batch.weight, np.float64),
        cost=np.asarray(data.cost_of(row), dtype=np.float64),
        mean=array(output.mean),
        propensity=array(output.propensity),
        effect=effect,
        low=effect - half,
        high=effect + half,
        **_names(schema, level),
    )


def without_rows(schema: UpliftSchema, level: float) -> UpliftPredictions:
    """What `predictions_of` returns for no row at all: its names."""
    K, Y = len(schema.arms), len(schema.outcomes)
    number, array = np.zeros(0, np.int64), partial(np.zeros, dtype=np.float32)
    return UpliftPredictions(
        row=number,
        id=np.zeros(0, dtype=object),
        split=number,
        treatment=number,
        outcome=np.zeros((0, Y)),
        weight=np.zeros(0),
        cost=np.zeros(0),
        mean=array((0, K, Y)),
        propensity=array((0, K)),
        effect=array((0, K - 1, Y)),
        low=array((0, K - 1, Y)),
        high=array((0, K - 1, Y)),
        **_names(schema, level),
    )


def _names(schema: UpliftSchema, level: float) -> dict[str, Any]:
    return {
        "arms": schema.arms,
        "outcomes": tuple(outcome.name for outcome in schema.outcomes),
        "kinds": tuple(outcome.kind for outcome in schema.outcomes),
        "units": tuple(outcome.unit for outcome in schema.outcomes),
        "randomised": bool(schema.probabilities),
        "level": level,
    }
