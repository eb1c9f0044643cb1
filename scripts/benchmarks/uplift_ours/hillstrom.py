"""The Hillstrom table: Qini of three contrasts over seeds, and the value of policies with both e-mails.

Scores of the doubly robust kind take the training rows' mean of each arm for the expected outcome: the same for every
learner, and unbiased because arms were drawn at random.

Axis letters: n test rows, K arms, A = K - 1 offers, Y outcomes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from uplift_peers.task import Task

from uplift_ours.fits import Plan, chosen_variant, effects_of, left_out, results_of, run_ours, run_peers
from uplift_ours.hillstrom_tasks import MENS, POLICIES, overrides, write_table, write_task
from wanamaker.metrics.doubly_robust import autoc, dr_scores
from wanamaker.metrics.policy_value import Trial, everybody, policy_value
from wanamaker.metrics.uplift_curves import qini_causalml, qini_sklift, uplift_at_k

REFERENCE = "plain-lgbm_small-x"
PEERS = (
    *(f"plain-lgbm_small-{kind}" for kind in ("s", "t", "x", "dr", "r", "mu0")),
    "causalml-lgbm_small-x",
    "econml-lgbm_small-x",
    *(f"plain-linear-{kind}" for kind in ("s", "t", "x", "mu0")),
)
OF_POLICIES = ("plain-lgbm_small-t", "plain-linear-t")
CHOSEN = "ours, chosen on training rows"


def hillstrom(plan: Plan, csv: Path, seeds: list[int], contrasts: list[str]) -> str:
    """Fit what is missing, check the scores and return the tables."""
    frame = pd.read_csv(csv)
    for seed in seeds:
        table = write_table(frame, seed, plan.out / "tables" / f"hillstrom-{seed}.csv")
        for contrast in contrasts:
            task = write_task(frame, contrast, seed, plan.task(f"{contrast}-{seed}"))
            run_peers(plan, task, list(OF_POLICIES if contrast in POLICIES else PEERS))
            run_ours(plan, task, ["experiment=x_learner_hillstrom", *overrides(contrast, table)])
    parts = []
    for contrast in contrasts:
        parts.append((_policies if contrast in POLICIES else _contrast)(plan, contrast, seeds))
    if plan.python:
        parts.append(_checked(plan, [f"{c}-{s}" for c in contrasts if c not in POLICIES for s in seeds]))
    return "\n\n".join(parts)


def _over_seeds(
    plan: Plan, contrast: str, seeds: list[int], measure: Callable[[Task, np.ndarray], list[float]]
) -> dict[str, np.ndarray]:
    """Numbers [seeds, ...] of every learner that has all seeds; ours chosen per seed where there are several."""
    found: dict[str, list[list[float]]] = {}
    for seed in seeds:
        name = f"{contrast}-{seed}"
        task = Task.read(plan.task(name))
        learners = [learner for learner, result in results_of(plan, name).items() if "failed" not in result]
        values = {learner: measure(task, effects_of(plan, name, learner)) for learner in learners}
        if chosen := chosen_variant(plan, name):
            values[CHOSEN] = values[chosen]
        for learner, value in values.items():
            found.setdefault(learner, []).append(value)
    return {learner: np.array(value) for learner, value in found.items() if len(value) == len(seeds)}


def _contrast(plan: Plan, contrast: str, seeds: list[int]) -> str:
    def measure(task: Task, effects: np.ndarray) -> list[float]:
        held = ~task.train
        score, arm, y = effects[:, 0, 0], task.arm[held].astype(np.int64), task.outcome[held, 0]
        means = np.array([task.outcome[task.train & (task.arm == k), 0].mean() for k in (0, 1)])
        shares = np.bincount(task.arm[task.train], minlength=2) / task.train.sum()
        scores = dr_scores(arm, y, np.tile(means, (len(y), 1)), np.tile(shares, (len(y), 1)))
        gain = autoc(score, scores[:, 1] - scores[:, 0]).value
        return [qini_sklift(score, arm, y), qini_causalml(score, arm, y), uplift_at_k(score, arm, y, 0.3), gain]

    found = _over_seeds(plan, contrast, seeds, measure)
    lines = [
        f"Hillstrom, {contrast} against none, visit; {len(seeds)} seeds; difference to {REFERENCE}",
        f"{'learner':32s} {'Qini':>7s} {'SD':>6s} {'diff.':>7s} {'SE':>6s} {'SE*':>6s} {'wins':>5s} "
        f"{'causalml':>8s} {'at 30 %':>7s} {'AUTOC':>7s}",
    ]
    for learner in sorted(found, key=lambda name: -found[name][:, 0].mean()):
        mean, sd = found[learner].mean(0), found[learner][:, 0].std(ddof=1) if len(seeds) > 1 else np.nan
        line = f"{learner:32s} {mean[0]:7.4f} {sd:6.4f} "
        if REFERENCE in found and len(seeds) > 1:
            difference = found[learner][:, 0] - found[REFERENCE][:, 0]
            spread = difference.std(ddof=1)
            # Nadeau & Bengio (2003): splits of the same table share rows; 3/7 is test rows over training rows.
            corrected = spread * np.sqrt(1 / len(seeds) + 3 / 7)
            line += f"{difference.mean():+7.4f} {spread / np.sqrt(len(seeds)):6.4f} {corrected:6.4f} "
            line += f"{int((difference > 0).sum()):2d}/{len(seeds):<2d} "
        else:
            line += " " * 28
        lines.append(f"{line}{mean[1]:8.4f} {mean[2]:7.4f} {mean[3]:7.4f}")
    lines.append("SE takes seeds for independent; SE* allows for the rows that splits share (Nadeau & Bengio 2003).")
    return "\n".join(lines + left_out(plan, [f"{contrast}-{seed}" for seed in seeds]))


def _policies(plan: Plan, contrast: str, seeds: list[int]) -> str:
    def trial(task: Task, y: int) -> Trial:
        held = ~task.train
        count = int(held.sum())
        return Trial(task.arm[held].astype(np.int64), task.outcome[held, y], np.full((count, 3), 1 / 3))

    def measure(task: Task, effects: np.ndarray) -> list[float]:
        n, _, Y = effects.shape
        best = np.concatenate([np.zeros((n, 1, Y)), effects], axis=1).argmax(1)  # [n, Y]
        return [policy_value(best[:, y], trial(task, y), "snipw").value for y in range(Y)]

    found = _over_seeds(plan, contrast, seeds, measure)
    tasks = [Task.read(plan.task(f"{contrast}-{seed}")) for seed in seeds]
    about = tasks[0].about
    for k, arm in enumerate(about.arms):
        found[f"everybody: {arm}"] = np.array(
            [
                [
                    policy_value(everybody(k, int((~task.train).sum())), trial(task, y), "snipw").value
                    for y in range(len(about.outcomes))
                ]
                for task in tasks
            ]
        )
    best = found[f"everybody: {MENS}"]
    lines = [
        f"Hillstrom, three arms: value of a policy (self-normalised IPW), each outcome by its own model; {len(seeds)} "
        f"seeds; difference to {MENS} for everybody with its SE",
        f"{'policy':32s}" + "".join(f" {name:>10s} {'SD':>7s} {'diff.':>8s} {'SE':>7s}" for name in about.outcomes),
    ]
    for name, values in sorted(found.items(), key=lambda item: item[1][:, 0].mean()):
        line = f"{name:32s}"
        for y in range(values.shape[1]):
            difference = values[:, y] - best[:, y]
            sd, spread = (v.std(ddof=1) if len(seeds) > 1 else np.nan for v in (values[:, y], difference))
            line += f" {values[:, y].mean():10.5f} {sd:7.5f} {difference.mean():+8.5f} "
            line += f"{spread / np.sqrt(len(seeds)):7.5f}"
        lines.append(line)
    return "\n".join(lines + left_out(plan, [f"{contrast}-{seed}" for seed in seeds]))


def _checked(plan: Plan, tasks: list[str]) -> str:
    """Compare our Qini with scikit-uplift's on all scores.

    Raises:
        SystemExit: they differ by more than 1e-6.
    """
    cases, own = [], []
    for name in tasks:
        task = Task.read(plan.task(name))
        held = ~task.train
        for learner, result in results_of(plan, name).items():
            if "failed" not in result:
                cases.append([str(plan.task(name)), str(plan.result(name, learner).with_suffix(".npy"))])
                score = effects_of(plan, name, learner)[:, 0, 0]
                own.append(qini_sklift(score, task.arm[held].astype(np.int64), task.outcome[held, 0]))
    given, answer = plan.out / "check-cases.json", plan.out / "check-found.json"
    given.write_text(json.dumps(cases))
    script = Path(__file__).resolve().parents[1] / "uplift_peers" / "check.py"
    subprocess.run([str(plan.python), str(script), str(given), str(answer)], check=True)
    worst = float(np.abs(np.array(json.loads(answer.read_text())) - own).max())
    line = f"scikit-uplift's Qini on the same {len(cases)} scores: largest difference {worst:.1e}"
    if not worst <= 1e-6:
        raise SystemExit(line)
    return line
