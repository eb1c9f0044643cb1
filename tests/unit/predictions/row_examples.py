"""Small predictions with a row per customer, and whether two are the same."""

import numpy as np

from wanamaker.predictions import PropensityPredictions, UpliftPredictions
from wanamaker.predictions.row_predictions import RowPredictions


def uplift_rows(rows: int = 20, names: bool = False) -> UpliftPredictions:
    """Two offers, two outcomes."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(rows, 2, 2)).astype(np.float32)
    outcome = rng.normal(size=(rows, 2))
    outcome[::3] = np.nan
    return UpliftPredictions(
        row=np.arange(rows),
        id=np.array([f"c{i}" for i in range(rows)], dtype=object) if names else np.arange(rows) * 7,
        split=rng.integers(0, 4, rows),
        treatment=rng.integers(-1, 3, rows),
        outcome=outcome,
        weight=np.ones(rows),
        cost=rng.random(rows),
        mean=rng.random((rows, 3, 2)).astype(np.float32),
        propensity=np.full((rows, 3), 1 / 3, np.float32),
        effect=effect,
        low=effect - 1,
        high=effect + 1,
        arms=("none", "notice", "coupon"),
        outcomes=("visit", "spend"),
        kinds=("continuous", "continuous"),
        units=("", "USD"),
    )


def propensity_rows(N: int = 4, R: int = 2, traits: int = 1, seed: int = 0) -> PropensityPredictions:
    """A hazard of three intervals and a value for N customers."""
    random = np.random.default_rng(seed)
    return PropensityPredictions(
        row=np.arange(N) * 2,
        id=np.array([f"c{i}" for i in range(N)], dtype=object),
        moment=np.array(["2024-03-01"] * N, dtype="datetime64[s]"),
        split=np.arange(N) % 4,
        weight=np.ones(N),
        events=np.arange(N),
        label=random.random((N, 2)),
        time=np.stack([random.random(N), np.full(N, np.nan)], 1),
        score=random.random((N, 2), dtype=np.float32),
        low=np.zeros((N, 2), np.float32),
        high=np.ones((N, 2), np.float32),
        raw=random.random((N, 2), dtype=np.float32),
        survival=random.random((N, 3), dtype=np.float32),
        traits=np.arange(N * traits).reshape(N, traits) % 3,
        reason=np.full((N, 2, R), -1),
        push=np.zeros((N, 2, R), np.float32),
        tasks=("churn", "spend"),
        kinds=("hazard", "value"),
        units=("days", "USD"),
        horizons=(None, 90.0),
        edges=((30.0, 60.0, 90.0), ()),
        features=("age",),
        trait_names=("plan",) * traits,
        trait_values=(("a", "b"),) * traits,
    )


def same(found: RowPredictions, wanted: RowPredictions) -> bool:
    """Whether arrays, their types and what they share are the same."""
    pairs = [(getattr(found, name), getattr(wanted, name)) for name in wanted.per_row]
    arrays = all(np.array_equal(a, b, equal_nan=a.dtype.kind in "fM") for a, b in pairs)
    return arrays and all(a.dtype == b.dtype for a, b in pairs) and found._shared() == wanted._shared()
