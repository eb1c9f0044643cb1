"""Why scores are what they are: reasons of a customer in words, and over all customers.

Axis letters: N customers, T tasks, R reasons.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wanamaker.decisions.propensity_options import PROBABILITIES
from wanamaker.predictions import PropensityPredictions

if TYPE_CHECKING:
    import pandas as pd


def reasons_in_words(p: PropensityPredictions, task: int) -> np.ndarray:
    """Objects [N], such as "plan raises (odds x2.5); tenure lowers (odds x0.6)"; "" where there is no reason."""
    kind = p.kinds[task]
    words = np.full(len(p), "", dtype=object)
    for r in range(p.reason.shape[-1]):
        feature, push = p.reason[:, task, r], p.push[:, task, r].astype(np.float64)
        there = np.flatnonzero((feature >= 0) & (push != 0))
        if not len(there):
            continue
        # Few texts for many customers: pushes that are written alike are put into words once.
        rounded = push[there] if kind == "regression" else np.exp(push[there])
        digits = 2 - np.floor(np.log10(np.abs(rounded)))
        if kind != "regression":  # two digits, but near 1 two decimals
            digits = np.where((rounded > 0.9) & (rounded < 2), 2, digits - 1)
        rounded = np.round(rounded * 10**digits) / 10**digits
        keys = np.stack([feature[there].astype(np.float64), np.sign(push[there]), rounded], 1)
        distinct, which = np.unique(keys, axis=0, return_inverse=True)
        texts = np.array([_words(p.features[int(f)], sign, size, kind) for f, sign, size in distinct], dtype=object)
        first = words[there] == ""
        words[there] = np.where(first, texts[which.ravel()], words[there] + "; " + texts[which.ravel()])
    return words


def _words(feature: str, sign: float, size: float, kind: str) -> str:
    verb = "raises" if sign > 0 else "lowers"
    if kind == "regression":
        return f"{feature} {verb} ({size:+.3g})"
    return f"{feature} {verb} ({'odds' if kind in PROBABILITIES else 'amount'} x{size:.3g})"


def reason_frame(p: PropensityPredictions) -> pd.DataFrame:
    """One row per task and feature, the strongest first.

    Columns: task, feature, mean_push (mean |push| over customers, of which only the R strongest reasons are known),
    named (share of customers who have it among their reasons), raises and lowers (shares of customers).
    """
    import pandas as pd

    rows = []
    for t, task in enumerate(p.tasks):
        feature, push = p.reason[:, t].ravel(), p.push[:, t].ravel().astype(np.float64)
        there = (feature >= 0) & (push != 0)
        feature, push = feature[there], push[there]
        size = np.bincount(feature, np.abs(push), len(p.features))
        up, down = (np.bincount(feature[side], minlength=len(p.features)) for side in (push > 0, push < 0))
        for f in np.argsort(-size, kind="stable"):
            if size[f] > 0:
                rows.append(
                    {
                        "task": task,
                        "feature": p.features[f],
                        "mean_push": size[f] / len(p),
                        "named": (up[f] + down[f]) / len(p),
                        "raises": up[f] / len(p),
                        "lowers": down[f] / len(p),
                    }
                )
    return pd.DataFrame(rows, columns=["task", "feature", "mean_push", "named", "raises", "lowers"])


def strongest(p: PropensityPredictions, task: int) -> tuple[str, float] | None:
    """The feature that moves the scores of a task most, and its share of all pushes; None without reasons."""
    frame = reason_frame(p)
    frame = frame[frame["task"] == p.tasks[task]]
    total = float(frame["mean_push"].sum())
    if not total or not math.isfinite(total):
        return None
    top = frame.iloc[0]
    return str(top["feature"]), float(top["mean_push"]) / total
