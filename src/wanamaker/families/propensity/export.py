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
        **_names(net),
    )


def without_rows(net: PropensityNet) -> PropensityPredictions:
    """The artefact of no position: tasks, kinds, units and traits alone. The net is built."""
    names = _names(net)
    T, J, R = len(names["tasks"]), len(names["trait_names"]), net.reasons.top
    none, whole = np.empty(0), np.empty(0, np.int64)
    per_task = np.empty((0, T), np.float32)
    return PropensityPredictions(
        row=whole,
        id=whole,
        moment=np.empty(0, "datetime64[s]"),
        split=whole,
        weight=none,
        events=whole,
        label=np.empty((0, T)),
        time=np.empty((0, T)),
        score=per_task,
        low=per_task,
        high=per_task,
        raw=per_task,
        survival=np.empty((0, sum(map(len, names["edges"]))), np.float32),
        traits=np.empty((0, J), np.int64),
        reason=np.empty((0, T, R), np.int64),
        push=np.empty((0, T, R), np.float32),
        **names,
    )


def _names(net: PropensityNet) -> dict[str, Any]:
    schema = net.schema
    return {
        "tasks": tuple(task.name for task in schema.tasks),
        "kinds": tuple(task.kind for task in schema.tasks),
        "units": tuple(task.unit for task in schema.tasks),
        "horizons": tuple(task.horizon for task in schema.tasks),
        "edges": tuple(task.edges for task in schema.tasks),
        "features": net.reason_names,
        "trait_names": schema.categorical,
        "trait_values": schema.categories,
        "level": net.level,
    }
