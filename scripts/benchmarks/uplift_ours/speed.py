"""The speed table: fit and prediction over table sizes, ours read from disk, the peers given arrays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from uplift_ours.fits import Plan, effects_of, results_of, run_ours, run_peers
from uplift_ours.simulated_tasks import options, overrides, truth_of, write_simulated

PEERS = ("econml-xgb_default-x", "causalml-xgb_default-x")
STREAM_ABOVE = 2_000_000  # rows; as configs/data/simulated_experiment.yaml


def speed(plan: Plan, sizes: list[int], recipes: list[str], epochs: int | None, peers: list[str], seed: int) -> str:
    """Fit what is missing and return the table.

    Args:
        sizes: rows of the table, 70 % of them for training; all are predicted.
        recipes: ours, each with the same options at every size.
        epochs: most epochs of each of our stages; None: as the recipe says.
        peers: learners.
        seed: of the campaign.
    """
    cache = plan.out / "campaigns"
    own = [f"model.nuisance_epochs={epochs}", f"model.effect_epochs={epochs}"] if epochs else []
    for rows in sizes:
        chosen = options("large", seed, rows, ("visit",))
        task = write_simulated(chosen, cache, plan.task(f"large-{rows}"))
        run_peers(plan, task, peers, ("--all-rows",), apart=True)
        for recipe in recipes:
            named = {f"{recipe}-{name}".removesuffix("-recipe"): changes for name, changes in plan.variants.items()}
            run_ours(replace(plan, variants=named), task, [*overrides(chosen, cache, recipe), *own], all_rows=True)
    return _table(plan, sizes)


def _table(plan: Plan, sizes: list[int]) -> str:
    lines = [
        f"{'rows':>10s} {'learner':32s} {'fit CPU-s':>9s} {'wall':>7s} {'exp.':>5s} {'pred. CPU-s':>11s} {'wall':>7s} "
        f"{'exp.':>5s} {'rows/CPU-s':>10s} {'GB':>6s} {'of data':>7s} {'PEHE':>7s} {'epochs':>6s}"
    ]
    first: dict[str, dict[str, Any]] = {}
    for rows in sizes:
        name = f"large-{rows}"
        for learner, result in results_of(plan, name).items():
            head = f"{rows:10d} {learner:32s}"
            if "failed" in result:
                lines.append(f"{head} {result['failed']}")
                continue
            start = first.setdefault(learner, result | {"size": rows})
            grown = rows / start["size"]
            keys = ("fit_cpu_seconds", "predict_cpu_seconds")
            exponents = [_exponent(result[key] / start[key], grown) for key in keys]
            error = _pehe(plan, name, learner)
            lines.append(
                f"{head} {result['fit_cpu_seconds']:9.1f} {result['fit_seconds']:7.1f} {exponents[0]:>5s} "
                f"{result['predict_cpu_seconds']:11.2f} {result['predict_seconds']:7.2f} {exponents[1]:>5s} "
                f"{result['rows'][1] / result['predict_cpu_seconds']:10.0f} {result['peak_rss_bytes'] / 1e9:6.2f} "
                f"{result['rss_before_bytes'] / 1e9:7.2f} {error:7.4f} {result.get('epochs', '-'):>6}"
            )
            if "forward_rows_per_second" in result:
                lines.append(
                    f"{'':43s} its net alone: {result['forward_rows_per_second']:,.0f} customers per CPU-second"
                )
    lines += [
        "exp.: exponent of growth from the smallest size. of data: memory before the fit, imports included, of the",
        f"peers also the arrays. Ours reads Parquet, and streams it above {STREAM_ABOVE:,} rows. PEHE: of test rows.",
    ]
    return "\n".join(lines)


def _exponent(ratio: float, grown: float) -> str:
    return f"{math.log(ratio) / math.log(grown):.2f}" if grown > 1 else "-"


def _pehe(plan: Plan, task: str, learner: str) -> float:
    held = ~np.load(plan.task(task) / "train.npy", mmap_mode="r")
    truth = truth_of(plan.task(task))[held]
    return float(np.sqrt(np.square(effects_of(plan, task, learner)[held] - truth).mean(0)).mean())
