"""Our Qini, AUUC and uplift@k against scikit-uplift and CausalML on the same scores: prints the largest differences.

    <environment with scikit-uplift and causalml>/bin/python scripts/benchmarks/uplift_peers/parity.py

README.md beside this file says how to make that environment. It needs nothing of ours but NumPy. Every number of every
case is compared; a difference beyond 1e-6, or a NaN on one side only, makes the exit code 1.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from causalml.metrics import auuc_score, qini_score
from sklift import metrics as sklift

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src"))

from wanamaker.metrics import uplift_curves as ours

Case = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # name, score, treated, outcome


def cases(seed: int, rows: int) -> Iterator[Case]:
    """Tables that differ in ties, balance, rates, arms and kind of outcome."""
    rng = np.random.default_rng(seed)

    def table(share: float, rate: float, effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = rng.normal(size=rows)
        treated = (rng.random(rows) < share).astype(np.int64)
        chance = np.clip(rate + effect * treated * (1 + x) + 0.05 * x * rate, 0, 1)
        return x + rng.normal(size=rows), treated, (rng.random(rows) < chance).astype(np.int64)

    for name, share, rate, effect in [
        ("balanced", 0.5, 0.2, 0.05),
        ("4 % treated", 0.04, 0.2, 0.05),
        ("96 % treated", 0.96, 0.2, 0.05),
        ("rare outcome", 0.5, 0.01, 0.01),
        ("frequent outcome", 0.5, 0.9, 0.03),
        ("harmful offer", 0.5, 0.4, -0.1),
        ("no effect", 0.5, 0.3, 0.0),
    ]:
        score, treated, y = table(share, rate, effect)
        yield name, score, treated, y
        yield f"{name}, two decimals", score.round(2), treated, y
        yield f"{name}, eleven scores", np.clip(score.round(), -5, 5), treated, y
        yield f"{name}, float32 ties", score.astype(np.float32).round(1), treated, y
        yield f"{name}, one score", np.zeros(rows), treated, y
        yield f"{name}, perfect", (y * treated - y * (1 - treated)).astype(float), treated, y
        yield f"{name}, worst", (y * (1 - treated) - y * treated).astype(float), treated, y
        yield f"{name}, treated first", treated + 0.0, treated, y
        yield f"{name}, control first", 1.0 - treated, treated, y
    arm = rng.integers(0, 3, rows)
    for a in (1, 2):
        own = (arm == 0) | (arm == a)
        score, treated, y = rng.normal(size=own.sum()), (arm[own] == a).astype(int), rng.integers(0, 2, own.sum())
        yield f"arm {a} of three", score.round(1), treated, y
    treated = rng.integers(0, 2, rows)
    spend = rng.gamma(1.0, 50.0, rows) * (rng.random(rows) < 0.1 + 0.05 * treated)
    yield "spend", rng.normal(size=rows), treated, spend
    yield "spend, one decimal", rng.normal(size=rows).round(1), treated, spend
    yield "below zero", rng.normal(size=rows), treated, rng.normal(size=rows)
    yield "four rows", np.array([0.4, 0.3, 0.2, 0.1]), np.array([1, 0, 1, 0]), np.array([1, 0, 0, 1])


def theirs_and_ours(case: Case) -> Iterator[tuple[str, float, float]]:
    """Each score by the package and by us, wherever the package defines it."""
    _name, score, treated, y = case
    ones = np.ones(len(y))
    frame = pd.DataFrame({"y": y, "w": treated, "model": score})
    for normalize in (True, False):
        for name, peer, own in [
            ("causalml qini_score", qini_score, ours.qini_causalml),
            ("causalml auuc_score", auuc_score, ours.auuc_causalml),
        ]:
            label = name if normalize else f"{name} (raw)"
            value = float(peer(frame, normalize=normalize)["model"])
            yield label, value, own(score, treated, y, normalize)
            yield label, value, own(score, treated, y, normalize, weight=ones)
            if len(np.unique(score)) == len(score):
                yield label, value, own(score, treated, y, normalize, ties="shared")
    if np.unique(y).tolist() != [0, 1]:
        return  # scikit-uplift refuses outcomes that are not binary, or all alike
    for negative in (True, False):
        try:
            value = float(sklift.qini_auc_score(y, score, treated, negative_effect=negative))
        except (ValueError, ZeroDivisionError):
            value = float("nan")  # the perfect curve runs backwards, or is the random one
        name = f"sklift qini_auc_score ({negative})"
        yield name, value, ours.qini_sklift(score, treated, y, negative)
        yield name, value, ours.qini_sklift(score, treated, y, negative, weight=ones)
    value = float(sklift.uplift_auc_score(y, score, treated))
    yield "sklift uplift_auc_score", value, ours.auuc_sklift(score, treated, y)
    yield "sklift uplift_auc_score", value, ours.auuc_sklift(score, treated, y, weight=ones)
    for strategy in ("overall", "by_group"):
        for k in (0.1, 0.29, 0.3, 0.77, len(y) // 100 + 2):
            value = float(sklift.uplift_at_k(y, score, treated, strategy=strategy, k=k))
            yield f"sklift uplift_at_k ({strategy})", value, ours.uplift_at_k(score, treated, y, k, strategy)


def main() -> int:
    """Compare and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # means of nothing, on both sides
    largest: dict[str, tuple[float, str]] = {}
    compared: dict[str, int] = {}
    undefined: dict[str, int] = {}
    for seed in range(options.seeds):
        for case in cases(seed, options.rows):
            for name, theirs, own in theirs_and_ours(case):
                defined = int(np.isfinite(theirs)) + int(np.isfinite(own))
                neither = defined == 0
                difference = abs(theirs - own) if defined == 2 else 0.0 if neither else float("inf")
                compared[name] = compared.get(name, 0) + 1
                undefined[name] = undefined.get(name, 0) + neither
                if difference > largest.get(name, (-1.0, ""))[0]:
                    largest[name] = (difference, f"{case[0]}, seed {seed}: theirs {theirs:.9g}, ours {own:.9g}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("scikit-uplift", "causalml", "numpy", "pandas"))
    print(f"{packages}; {options.seeds} seeds, {options.rows} rows")
    print(f"{'score':34s} {'compared':>8s} {'undefined':>9s} {'largest difference':>18s}   where")
    for name, (difference, where) in largest.items():
        print(f"{name:34s} {compared[name]:8d} {undefined[name]:9d} {difference:18.2e}   {where}")
    return 0 if all(difference <= 1e-6 for difference, _where in largest.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
