"""A small randomised campaign with known effects, as any uplift model would hand it over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wanamaker.predictions import UpliftPredictions

ARMS = ("none", "coupon", "notice")
OUTCOMES = ("visit", "conversion", "spend")


class Example(NamedTuple):
    """Predictions, and the truth behind them: `effect` [N, A, Y]."""

    predictions: UpliftPredictions
    effect: np.ndarray


def example(
    customers: int = 4_000,
    seed: int = 0,
    *,
    outcomes: tuple[str, ...] = OUTCOMES,
    skill: float = 0.9,
    strength: float = 1.0,
    placebo: bool = False,
    calibrated: bool = True,
    test: float = 0.4,
    untreated: float = 0.0,
) -> Example:
    """Three arms of equal probability.

    The coupon moves customers who seldom buy and the notice those who often visit, so the best offer differs.

    Args:
        customers: N.
        seed: of everything random.
        outcomes: which of visit (binary), conversion (binary) and spend (an amount in EUR, 0 without conversion).
        skill: correlation of the predicted with the true effects; 1 predicts the truth, 0 nothing of it.
        strength: times the effects.
        placebo: no offer does anything, whatever is predicted.
        calibrated: predictions are as spread as is right for their skill; else as spread as the true effects.
        test: share of test rows; the others are training rows.
        untreated: share of customers without arm and outcomes, of split "none".
    """
    rng = np.random.default_rng(seed)
    N, K = customers, len(ARMS)
    loyal, curious = rng.uniform(size=N), rng.uniform(size=N)  # what the customers are like
    strength = 0.0 if placebo else strength
    coupon = strength * (0.16 * (1 - loyal) ** 2 - 0.01)
    notice = strength * (0.10 * curious**2)
    visit0, buy0 = 0.15 + 0.35 * loyal, 0.03 + 0.12 * loyal
    basket = 30 + 40 * loyal
    mean = np.zeros((N, K, 3))
    for k, extra in enumerate((np.zeros(N), coupon, notice)):
        mean[:, k, 0] = np.clip(visit0 + 1.5 * extra, 0, 1)
        mean[:, k, 1] = np.clip(buy0 + extra, 0, 1)
        mean[:, k, 2] = mean[:, k, 1] * basket
    effect = mean[:, 1:] - mean[:, :1]

    treatment = rng.integers(0, K, N)
    rows = np.arange(N)
    visit = rng.uniform(size=N) < mean[rows, treatment, 0]
    bought = rng.uniform(size=N) < mean[rows, treatment, 1]
    outcome = np.column_stack([visit, bought, bought * basket * rng.gamma(4, 0.25, N)]).astype(float)
    split = np.where(rng.uniform(size=N) < test, 2, 0)
    unknown = rng.uniform(size=N) < untreated
    treatment, split = np.where(unknown, -1, treatment), np.where(unknown, 3, split)
    outcome[unknown] = np.nan

    centre = effect.mean(axis=0)
    noise = np.broadcast_to([0.04, 0.03, 1.5], centre.shape) if placebo else effect.std(axis=0)
    blurred = skill * (effect - centre) + np.sqrt(1 - skill**2) * noise * rng.standard_normal(effect.shape)
    # The regression of the truth on a calibrated prediction has slope 1.
    predicted = centre + (skill if calibrated else 1.0) * blurred
    half = 1.645 * noise * np.sqrt(1 - skill**2) + 1e-3
    chosen = [OUTCOMES.index(name) for name in outcomes]
    predictions = UpliftPredictions(
        row=rows.astype(np.int64),
        id=np.array([f"c{n:06d}" for n in rows], dtype=object),
        split=split.astype(np.int64),
        treatment=treatment.astype(np.int64),
        outcome=outcome[:, chosen],
        weight=np.ones(N),
        cost=np.full(N, np.nan),
        mean=mean[..., chosen].astype(np.float32),
        propensity=np.full((N, K), 1 / K, np.float32),
        effect=predicted[..., chosen].astype(np.float32),
        low=(predicted - half)[..., chosen].astype(np.float32),
        high=(predicted + half)[..., chosen].astype(np.float32),
        arms=ARMS,
        outcomes=outcomes,
        kinds=tuple(("binary", "binary", "zero_inflated")[y] for y in chosen),
        units=tuple(("", "", "EUR")[y] for y in chosen),
    )
    return Example(predictions, effect[..., chosen])
