"""Event logs whose truth is known: calibration, all tasks together against each alone, sequences against features.

Every recipe is trained on the same log and split; test rows are scored against what the simulator says about them.

Axis letters: n test rows, T tasks.
"""

from __future__ import annotations

import json

import numpy as np

from propensity_ours.fits import Plan, run_truth

TASKS = {
    "churn": "{name: churn, kind: hazard, event: cancel, edges: [30, 60, 90], unit: days}",
    "conversion": "{name: conversion, kind: binary, event: purchase, within: 30}",
    "ltv": "{name: ltv, kind: value, event: purchase, sum: amount, within: 90, unit: EUR}",
}
RECIPE = "experiment=propensity_multitask_simulated"
CLICKS = "experiment=propensity_conversion_clickstream"
PRESETS = ("medium", "order", "sessions")
LAST_CLICK = ["model.net.sequence={cell: gru, hidden: 1}", "data.history={events: 1}"]
"""Sums up to the moment, and the last event alone instead of the sequence."""
RFM = ["data.history={events: 1}", "model.net.sequence={cell: gru, hidden: 1}"]
"""Features of all events, and of the sequence the last event only."""
ORDER = [
    "data.simulation.customers=12000",
    "data.simulation.every=15",
    "data.tasks=[{name: churn, kind: hazard, event: cancel, edges: [10, 20, 30], unit: days}, {name: conversion, "
    "kind: binary, event: purchase, within: 30}, {name: ltv, kind: value, event: purchase, sum: amount, within: 30, "
    "unit: EUR}]",
    "data.split={val: 0.15, test: 0.2, by: hash}",
    "data.batch_size=512",
    "model.net.folds=1",
    "model.net.structure=shared",
    "model.optimizer.lr=0.008",
    "trainer.max_epochs=30",
    "callbacks.early_stopping=null",
]
"""What a recurrent net needs to find an order of events among a hundred others; one member, judged on a slice."""


def simulated(plan: Plan, presets: list[str], seeds: list[int], customers: int | None) -> str:
    """Fit what is missing and return the tables.

    Args:
        presets: of `PRESETS`.
        seeds: of the logs.
        customers: of a log; None: as the preset has. Clickstreams are as their preset has them.
    """
    size = [] if customers is None else [f"data.simulation.customers={customers}"]
    always = ["model.net.reasons.top=0", f"data.cache_dir='{plan.out / 'logs'}'"]
    alone = {f"only_{name}": [f"data.tasks=[{task}]"] for name, task in TASKS.items()}
    ways = {
        "medium": {"joint": [], **alone},
        "order": {"lstm": ORDER, "features": [*ORDER, *RFM]},
        "sessions": {"lstm": [], "features": LAST_CLICK},
    }
    parts = []
    for preset in presets:
        clicks, models = preset == "sessions", ways[preset]
        rows: dict[str, list[dict[str, dict[str, float]]]] = {}
        for seed in seeds:
            task = f"{preset}-{seed}" + ("" if customers is None or clicks else f"-{customers}")
            recipe = [CLICKS] if clicks else [RECIPE, f"data.preset={preset}", *size]
            common = [*recipe, *always, f"data.simulation.seed={seed}"]
            for name, changes in models.items():
                path = run_truth(plan, task, name, [*common, *changes])
                result = json.loads(path.read_text())
                if "failed" not in result:
                    rows.setdefault(name, []).append(result["tasks"])
        parts.append(_table(preset, rows, len(seeds)))
    return "\n\n".join(parts)


def _table(preset: str, rows: dict[str, list[dict[str, dict[str, float]]]], seeds: int) -> str:
    lines = [
        f"{preset}: test rows of {seeds} logs, means",
        f"{'model':18s} {'task':12s} {'loss':>8s} {'Gini':>7s} {'off by':>7s} {'calibr.':>8s} {'total':>6s} "
        f"{'covered':>8s}",
    ]
    for model, found in rows.items():
        for task in found[0]:
            of = {key: float(np.mean([one[task][key] for one in found])) for key in found[0][task]}
            lines.append(
                f"{model:18s} {task:12s} {of['loss']:8.5f} {of['rank']:7.4f} "
                f"{of['rmse']:7.4f} {of['calibration']:8.4f} {of['total']:6.3f} {of['coverage']:8.3f}"
            )
    lines += [
        "loss: relative to that of the base rate. Gini: of true probabilities or expectations, normalised; 1 is their",
        "order. off by: root mean squared difference to the true probability (of a value over the mean).",
        "calibr.: mean over ten bins by score of |mean score - mean truth| (of a value over the mean).",
        "total: predicted over true. covered: share of truths in their 90 % intervals.",
    ]
    return "\n".join(lines)
