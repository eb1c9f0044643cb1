"""From the net to what decisions and reports read.

Axis letters: P positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wanamaker.data.propensity_batch import PropensityBatch
from wanamaker.predictions.propensity import PropensityPredictions

from .net import Propensity, PropensityNet
from .reasons import attributions, latest, top_reasons


def predictions_of(
    net: PropensityNet, output: Propensity, batch: PropensityBatch, split: Tensor, data: Any
) -> PropensityPredictions:
    """Positions of a batch as an artefact, reasons included.

    Args:
        net: in evaluation.
        output: of the net.
        batch: its positions.
        split: int64 [P], index into `predictions.propensity.SPLITS`.
        data: knows who and when positions are (`identifiers`, `moment_of`).
    """
    row, order = np.unique(batch.row.cpu().numpy(), return_index=True)
    schema, top = net.schema, net.reasons.top
    place = torch.full((len(batch.row), len(schema.tasks), top), -1, device=batch.row.device)
    push = torch.zeros_like(place, dtype=torch.float32)
    if top:
        asked = torch.ones_like(batch.row, dtype=torch.bool)
        if net.sequence is not None and net.reasons.positions == "latest":
            asked = latest(batch)
        place[asked], push[asked] = top_reasons(attributions(net, batch.some(asked), split[asked]), top)

    def array(value: Tensor, dtype: type = np.float32) -> np.ndarray:
        return value.detach().cpu().numpy().astype(dtype)[order]

    return PropensityPredictions(
        row=row,
        id=np.asarray(data.identifiers(row)),
        moment=np.asarray(data.moment_of(row), dtype="datetime64[s]"),
        split=array(split, np.int64),
        weight=array(batch.weight, np.float64),
        events=array(batch.seen, np.int64),
        label=array(batch.label, np.float64),
        time=array(batch.time, np.float64),
        score=array(output.score),
        low=array(output.low),
        high=array(output.high),
        raw=array(output.raw),
        survival=array(output.survival),
        traits=array(batch.categorical, np.int64),
        reason=array(place, np.int64),
        push=array(push),
        tasks=tuple(task.name for task in schema.tasks),
        kinds=tuple(task.kind for task in schema.tasks),
        units=tuple(task.unit for task in schema.tasks),
        horizons=tuple(task.horizon for task in schema.tasks),
        edges=tuple(task.edges for task in schema.tasks),
        features=net.reason_names,
        trait_names=schema.categorical,
        trait_values=schema.categories,
        level=net.level,
    )
