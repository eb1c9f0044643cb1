"""Customers of a subscription with known risk and worth, as any propensity model would hand them over."""

from __future__ import annotations

import numpy as np

from wanamaker.predictions import PropensityPredictions

PLANS = ("month to month", "one year", "two years")
FEATURES = ("plan", "tenure", "monthly charge", "support calls", "paperless")
EDGES = (30.0, 60.0, 90.0, 180.0)
KINDS = {"churn": "hazard", "conversion": "binary", "ltv": "value", "orders": "regression"}


def example(
    customers: int = 3_000,
    seed: int = 0,
    *,
    tasks: tuple[str, ...] = ("churn", "conversion", "ltv"),
    skill: float = 0.8,
    stretch: float = 1.0,
    labelled: bool = True,
    reasons: int = 3,
    traits: bool = True,
    prefixes: int = 1,
    dated: bool = True,
    rate: float = 0.0,
) -> PropensityPredictions:
    """Half of the customers are training rows, a quarter validation and a quarter test rows.

    Args:
        customers: N / prefixes.
        seed: of everything random.
        tasks: of "churn" (hazard in days, a third censored), "conversion" (binary), "ltv" (EUR, most are 0), "orders".
        skill: share of what can be known that the model knows; its probabilities are calibrated.
        stretch: times the log odds of the scores: above 1 is overconfident.
        labelled: outcomes are known.
        reasons: R.
        traits: whether the plan is there to segment by.
        prefixes: positions per customer, the later ones with more events.
        dated: whether positions have a moment.
        rate: added to the log odds of conversion: -3 makes it rare.
    """
    rng = np.random.default_rng(seed)
    n, N = customers, customers * prefixes
    plan = np.repeat(rng.choice(3, n, p=[0.55, 0.25, 0.2]), prefixes)
    known, hidden = rng.normal(size=N), rng.normal(size=N)
    drive = np.array([0.9, -0.6, -1.4])[plan] + np.sqrt(skill) * known
    noise = np.sqrt(1 - skill) * hidden
    T, D = len(tasks), len(EDGES) if "churn" in tasks else 0
    label, time = np.full((N, T), np.nan), np.full((N, T), np.nan)
    score, survival = np.zeros((N, T)), np.zeros((N, D))
    # What the model does not know is averaged over (Gauss-Hermite), so that its probabilities are right.
    points, chances = np.polynomial.hermite_e.hermegauss(9)
    grid, chances = np.sqrt(1 - skill) * points[:, None], chances / chances.sum()
    for t, task in enumerate(tasks):
        if task == "churn":

            def left(at: float, z: np.ndarray) -> np.ndarray:
                return np.exp(-0.0022 * at * np.exp(z))

            happens = rng.exponential(1 / (0.0022 * np.exp(drive + noise)))
            ends = np.where(rng.random(N) < 0.33, rng.uniform(5, 200, N), 200.0)
            label[:, t], time[:, t] = happens <= ends, np.maximum(np.minimum(happens, ends), 0.01)
            survival[:] = np.stack([chances @ left(edge, drive + grid) for edge in EDGES], 1)
            score[:, t] = 1 - survival[:, -1]
        elif task == "conversion":
            true = 1 / (1 + np.exp(-(drive + noise - 1.2 + rate)))
            label[:, t] = rng.random(N) < true
            score[:, t] = chances @ (1 / (1 + np.exp(-(drive + grid - 1.2 + rate))))
        elif task == "ltv":
            buys = 1 / (1 + np.exp(0.5 + drive))
            amount = np.exp(4 - 0.5 * drive + 0.6 * rng.normal(size=N))
            label[:, t] = np.where(rng.random(N) < buys, amount, 0)
            score[:, t] = buys * np.exp(4 - 0.5 * drive + 0.18)
        else:
            label[:, t] = rng.poisson(np.exp(0.5 - 0.3 * drive))
            score[:, t] = np.exp(0.5 - 0.3 * drive)
        if KINDS[task] in ("hazard", "binary"):
            odds = np.clip(score[:, t], 1e-6, 1 - 1e-6)
            odds = stretch * np.log(odds / (1 - odds))
            score[:, t] = 1 / (1 + np.exp(-odds))
    wide = 0.08 + 0.3 * rng.random((N, T))
    chance = np.array([KINDS[task] in ("hazard", "binary") for task in tasks])
    low, high = score * (1 - wide), np.where(chance, score + (1 - score) * score * wide, score * (1 + wide))
    R = min(reasons, len(FEATURES))
    push = np.zeros((N, T, len(FEATURES)))
    push[:, :, 0] = (np.array([0.9, -0.6, -1.4])[plan])[:, None]
    push[:, :, 1:] = known[:, None, None] * np.array([-0.6, 0.35, 0.15, 0.02]) + 0.05 * rng.normal(size=(N, T, 4))
    order = np.argsort(-np.abs(push), axis=2)[:, :, :R]
    moment = np.full(N, np.datetime64("NaT"), "datetime64[s]")
    if dated:
        moment = np.datetime64("2024-03-01", "s") + 60 * np.tile(np.arange(prefixes), n).astype("timedelta64[s]")
    if not labelled:
        label[:], time[:] = np.nan, np.nan
    return PropensityPredictions(
        row=np.arange(N),
        id=np.array([f"c{i:05d}" for i in np.repeat(np.arange(n), prefixes)], dtype=object),
        moment=moment,
        split=np.repeat(np.arange(n) % 4, prefixes).choose([0, 0, 1, 2]) if labelled else np.full(N, 3),
        weight=np.ones(N),
        events=1 + np.tile(np.arange(prefixes), n),
        label=label,
        time=time,
        score=score.astype(np.float32),
        low=low.astype(np.float32),
        high=high.astype(np.float32),
        raw=score.astype(np.float32),
        survival=survival.astype(np.float32),
        traits=(plan[:, None] + 1) if traits else np.zeros((N, 0), np.int64),
        reason=order,
        push=np.take_along_axis(push, order, axis=2).astype(np.float32),
        tasks=tasks,
        kinds=tuple(KINDS[task] for task in tasks),
        units=tuple({"churn": "days", "ltv": "EUR"}.get(task, "") for task in tasks),
        horizons=tuple({"ltv": 273.0, "conversion": 30.0}.get(task) for task in tasks),
        edges=tuple(EDGES if task == "churn" else () for task in tasks),
        features=FEATURES,
        trait_names=("plan",) if traits else (),
        trait_values=(PLANS,) if traits else (),
    )
