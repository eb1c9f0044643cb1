"""What a policy (who gets which arm) would have brought per customer, and how sure the difference of two is.

Three estimators of the mean outcome under a policy, from rows whose arms were drawn with known or estimated chances:

- ``dr``: mean of the doubly robust score of the arm that the policy assigns (`dr_scores`); the least noisy.
- ``ipw``: mean of ``1[t = assigned] y / e_t``; unbiased where e is known, with no outcome model (Horvitz & Thompson
  1952).
- ``snipw``: the same, over the mean of ``1[t = assigned] / e_t``: the weights sum to one (Hajek 1971).

Standard errors are of the influence function, rows being independent. A difference is taken row by row: two policies
that agree on most customers differ by far less than either is uncertain.

Axis letters: N rows, K arms (number 0 is the control).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wanamaker.metrics.doubly_robust import Estimate, observed_arm
from wanamaker.metrics.uplift_groups import checked

METHODS = ("dr", "ipw", "snipw")


class Trial(NamedTuple):
    """What "ipw" and "snipw" read.

    Attributes:
        treatment: int [N], arm of each row.
        outcome: [N].
        propensity: [N, K], probability of each arm.
    """

    treatment: np.ndarray
    outcome: np.ndarray
    propensity: np.ndarray


def policy_value(
    assigned: np.ndarray,
    evidence: np.ndarray | Trial,
    method: str = "dr",
    weight: np.ndarray | None = None,
    clip: float = 0.02,
) -> Estimate:
    """Mean outcome per customer under a policy, and its standard error.

    Args:
        assigned: int [N], the arm that the policy gives each row; or [N, K], the probabilities with which it draws.
        evidence: the scores [N, K] of `dr_scores` for "dr", a `Trial` for the others.
        method: "dr", "ipw" or "snipw".
        weight: [N], customers that a row stands for; None is 1 each.
        clip: smallest probability that "ipw" and "snipw" divide by; `dr_scores` has its own.

    Raises:
        ValueError: the method is not known or does not fit the evidence, shapes disagree, an arm is not among K.
    """
    value, influence, weight = _influence(assigned, evidence, method, weight, clip)
    return Estimate(value, _standard_error(influence, weight))


def policy_difference(
    first: np.ndarray,
    second: np.ndarray,
    evidence: np.ndarray | Trial,
    method: str = "dr",
    weight: np.ndarray | None = None,
    clip: float = 0.02,
) -> Estimate:
    """Value of the first policy less that of the second, on the same rows; arguments as in `policy_value`."""
    value, influence, weight = _influence(first, evidence, method, weight, clip)
    other, other_influence, _weight = _influence(second, evidence, method, weight, clip)
    return Estimate(value - other, _standard_error(influence - other_influence, weight))


def everybody(arm: int, num_rows: int) -> np.ndarray:
    """The policy [N] that gives all rows one arm."""
    return np.full(num_rows, arm)


def _influence(
    assigned: np.ndarray, evidence: np.ndarray | Trial, method: str, weight: np.ndarray | None, clip: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, what each row adds to its error [N], and weights [N]."""
    if method not in METHODS:
        raise ValueError(f"policy_value: method={method!r} is not known; give one of {', '.join(METHODS)}.")
    if isinstance(evidence, Trial) != (method != "dr"):
        wanted = "the scores [N, K] of dr_scores" if method == "dr" else "a Trial of treatment, outcome, propensity"
        raise ValueError(f"policy_value: method={method!r} reads {wanted}, but got {type(evidence).__name__}.")
    if isinstance(evidence, Trial):
        treatment = np.asarray(evidence.treatment)
        outcome, chance = observed_arm(treatment, evidence.outcome, evidence.propensity, clip)
        wanted = _drawing(assigned, np.shape(evidence.propensity))
        ratio = np.take_along_axis(wanted, treatment[:, None], 1)[:, 0] / chance
        ratio, outcome, weight = checked("policy_value", ratio, outcome, weight=weight)
        total = weight.sum()
        value = float((weight * ratio * outcome).sum() / total)
        if method == "ipw":
            return value, ratio * outcome - value, weight
        mass = float((weight * ratio).sum() / total)
        if mass == 0:  # no row got what the policy assigns it
            return float("nan"), np.full(len(ratio), np.nan), weight
        value /= mass
        return value, ratio * (outcome - value) / mass, weight
    scores = np.asarray(evidence, np.float64)
    gained, weight = checked("policy_value", (_drawing(assigned, scores.shape) * scores).sum(axis=1), weight=weight)
    value = float((weight * gained).sum() / weight.sum())
    return value, gained - value, weight


def _drawing(assigned: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The probabilities [N, K] with which a policy draws arms."""
    assigned = np.asarray(assigned)
    N, K = shape
    if assigned.shape == (N, K):
        return assigned.astype(np.float64)
    if assigned.shape != (N,):
        raise ValueError(f"policy_value: assigned has shape {assigned.shape}; expected ({N},) or ({N}, {K}).")
    if N and (assigned.min() < 0 or assigned.max() >= K):
        raise ValueError(
            f"policy_value: assigned goes from {assigned.min()} to {assigned.max()}, but arms go from 0 to {K - 1}."
        )
    return (assigned[:, None] == np.arange(K)).astype(np.float64)


def _standard_error(influence: np.ndarray, weight: np.ndarray) -> float:
    return float(np.sqrt(((weight * influence) ** 2).sum()) / weight.sum())
