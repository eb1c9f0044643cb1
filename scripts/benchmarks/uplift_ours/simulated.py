"""The simulator's table: error of individual effects, coverage of our intervals, and AUTOC, a placebo's as well.

PEHE is the root mean squared error of the effects of the test rows, a mean over offers and campaigns; its yardstick is
the learner that knows one effect for all (`plain-lgbm_small-constant`, a cross-fitted doubly robust mean).

Axis letters: n test rows, A offers, Y outcomes.
"""

from __future__ import annotations

import numpy as np
from uplift_peers.task import Task

from uplift_ours.fits import Plan, chosen_variant, effects_of, left_out, results_of, run_ours, run_peers
from uplift_ours.simulated_tasks import options, overrides, truth_of, write_simulated
from wanamaker.metrics.doubly_robust import Estimate, autoc, dr_scores

Z95 = 1.96
CONSTANT = "plain-lgbm_small-constant"
BASES = ("lgbm_small", "lgbm_medium")
PEERS = (
    CONSTANT,
    "plain-linear-t",
    "plain-linear-x",
    *(f"plain-{base}-{kind}" for base in BASES for kind in ("s", "t", "x", "dr")),
    *(f"{tool}-{base}-x" for tool in ("causalml", "econml") for base in ("xgb_small", "xgb_default")),
    "econml-xgb_small-dr",
    "econml-xgb_default-dr",
)


def simulated(plan: Plan, presets: list[str], seeds: list[int], outcomes: tuple[str, ...], rows: int | None) -> str:
    """Fit what is missing and return the tables."""
    cache, parts = plan.out / "campaigns", []
    for preset in presets:
        names = []
        for seed in seeds:
            chosen = options(preset, seed, rows, outcomes)
            names.append(f"{preset}-{seed}" + (f"-{rows}" if rows else ""))
            task = write_simulated(chosen, cache, plan.task(names[-1]))
            run_peers(plan, task, list(PEERS))
            run_ours(plan, task, overrides(chosen, cache))
        parts += [_errors(plan, preset, names), _coverage(plan, preset, names), _autoc(plan, preset, names)]
    return "\n\n".join(part for part in parts if part)


def _learners(plan: Plan, names: list[str]) -> list[str]:
    """Those that have a result for all tasks, in name order."""
    done = [{name for name, result in results_of(plan, task).items() if "failed" not in result} for task in names]
    return sorted(set.intersection(*done))


def _errors(plan: Plan, preset: str, names: list[str]) -> str:
    about = Task.read(plan.task(names[0])).about
    found: dict[str, list[np.ndarray]] = {}
    for name in names:
        held = ~Task.read(plan.task(name)).train
        truth = truth_of(plan.task(name))[held].astype(np.float64)  # [n, A, Y]
        known = {learner: effects_of(plan, name, learner) for learner in _learners(plan, names)}
        if chosen := chosen_variant(plan, name):
            known["ours, chosen on training rows"] = known[chosen]
        known["the true average for all"] = np.broadcast_to(truth.mean(0), truth.shape)
        for learner, effect in known.items():
            error = effect - truth
            deviations = effect.std(0) * truth.std(0)
            covariance = (effect * truth).mean(0) - effect.mean(0) * truth.mean(0)
            likeness = np.divide(covariance, deviations, out=np.zeros_like(covariance), where=deviations > 1e-12)
            found.setdefault(learner, []).append(
                np.stack([np.sqrt(np.square(error).mean(0)), error.mean(0) / truth.mean(0), likeness])
            )
    means = {learner: np.array(values) for learner, values in found.items()}  # [seeds, 3, A, Y]
    lines = []
    for y, outcome in enumerate(about.outcomes):
        pehe = {learner: float(values[:, 0, :, y].mean()) for learner, values in means.items()}
        peers = {k: v for k, v in pehe.items() if k.split("-")[0] in ("plain", "causalml", "econml") and k != CONSTANT}
        best = min(peers.values(), default=np.nan)
        lines += [
            f"Simulator, {preset}, {outcome}: {len(names)} campaigns, offers {', '.join(about.arms[1:])}",
            f"{'learner':34s} {'PEHE':>8s} {'/ const.':>8s} {'/ best peer':>11s} {'ATE off by':>10s} {'corr.':>6s}",
        ]
        for learner in sorted(pehe, key=pehe.__getitem__):
            _, off, likeness = np.abs(means[learner][..., y]).mean((0, 2))
            lines.append(
                f"{learner:34s} {pehe[learner]:8.5f} {pehe[learner] / pehe.get(CONSTANT, np.nan):8.3f} "
                f"{pehe[learner] / best:11.3f} {off:10.1%} {likeness:6.3f}"
            )
        lines.append("")
    return "\n".join(lines + left_out(plan, names)).rstrip()


def _coverage(plan: Plan, preset: str, names: list[str]) -> str:
    lines = []
    about = Task.read(plan.task(names[0])).about
    for learner in _learners(plan, names):
        if not learner.startswith("ours-"):
            continue
        held, width = [], []
        for name in names:
            truth = truth_of(plan.task(name))[~Task.read(plan.task(name)).train]
            low, high = np.load(plan.result(name, learner).with_name(f"{learner}-interval.npy"))
            held.append(((low <= truth) & (truth <= high)).mean(0))
            width.append((high - low).mean(0))
        for a, arm in enumerate(about.arms[1:]):
            for y, outcome in enumerate(about.outcomes):
                share, wide = np.array(held)[:, a, y], np.array(width)[:, a, y].mean()
                lines.append(
                    f"{learner:34s} {arm:10s} {outcome:10s} {share.mean():6.1%} ({share.min():5.1%} to "
                    f"{share.max():5.1%}), mean width {wide:.4g}"
                )
    head = f"Simulator, {preset}: true effects of test rows inside the 90 % intervals"
    return "\n".join([head, *lines]) if lines else ""


def _autoc(plan: Plan, preset: str, names: list[str]) -> str:
    """AUTOC of each offer for the first outcome, campaign by campaign; a placebo's interval should hold 0."""
    about = Task.read(plan.task(names[0])).about
    if not about.randomised:  # the scores below take the shares of the arms for their probabilities
        return ""
    found: dict[tuple[str, str], list[Estimate]] = {}
    for name in names:
        task = Task.read(plan.task(name))
        scores = _scores(task)
        for learner in _learners(plan, names):
            effect = effects_of(plan, name, learner)
            for a, arm in enumerate(about.arms[1:]):
                if np.ptp(effect[:, a, 0]) > 0:
                    found.setdefault((learner, arm), []).append(autoc(effect[:, a, 0], scores[:, a + 1] - scores[:, 0]))
    lines = [
        f"Simulator, {preset}, {about.outcomes[0]}: AUTOC on test rows, mean over {len(names)} campaigns and the 95 % "
        "interval of that mean; each campaign's own",
    ]
    for (learner, arm), of_arm in found.items():
        value, error = np.array([(one.value, one.standard_error) for one in of_arm]).T
        mean, half = value.mean(), Z95 * np.sqrt(np.square(error).sum()) / len(error)
        holds = int((np.abs(value) <= Z95 * error).sum())
        each = " ".join(f"[{v - Z95 * e:+.3f}, {v + Z95 * e:+.3f}]" for v, e in zip(value, error, strict=True))
        lines.append(
            f"{learner:34s} {arm:10s} {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]  0 inside {holds} of "
            f"{len(value)}: {each}"
        )
    return "\n".join(lines)


def _scores(task: Task) -> np.ndarray:
    """Doubly robust scores [n, K] of the test rows; expected outcomes are the arms' means in training."""
    own, held = task.train, ~task.train
    arm, y = task.arm[held].astype(np.int64), task.outcome[held, 0]
    means = np.array([task.outcome[own & (task.arm == k), 0].mean() for k in range(len(task.about.arms))])
    shares = np.bincount(task.arm[own]) / own.sum()
    return dr_scores(arm, y, np.tile(means, (len(y), 1)), np.tile(shares, (len(y), 1)))
