"""Doubly robust scores of arms, and how well a ranking finds those whom an offer moves.

The score of arm k for row i is ``mean_k(x_i) + 1[t_i = k] (y_i - mean_k(x_i)) / e_k(x_i)`` (AIPW; Robins, Rotnitzky &
Zhao 1994). Its mean estimates the value of giving everybody arm k, right if either the means or the probabilities are;
the difference of two arms, here ``dr_effect``, is a noisy but unbiased effect of each row. Means and probabilities must
come from models that did not learn from the row.

With rows by descending score and u the share taken, TOC(u) is the mean effect of the share less that of all, and the
rank-weighted average treatment effect is ``integral of a(u) TOC(u) du`` (Yadlowsky, Fleming, Shah, Brunskill & Wager
2021, "Evaluating treatment prioritization rules via rank-weighted average treatment effects"): a = 1 is AUTOC, which
looks at the top most, a = u is the Qini weighting. Both are in units of the outcome, and 0 for a ranking that knows
nothing.

Rows that share a score share their place: TOC goes over them as if they were taken at random. Integrals are exact for
the resulting curve, so a row of weight 2 is two rows, and sums per distinct score are all that is needed.

Standard errors are those of the influence function: with w(u) = integral_u^1 a(s)/s ds - integral_0^1 a and m(u) the
mean effect at place u, row j adds ``effect_j w(u_j) - integral_{u_j}^1 m(s) a(s)/s ds + integral_0^1 m a - RATE``. The
middle terms are there because places are estimated from the same rows. Errors of the means and of the probabilities
are of second order and left out.

Axis letters: N rows, K arms (number 0 is the control), A = K - 1 offers, G distinct scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wanamaker.metrics.uplift_groups import ScoreGroups, checked, group_by_score

WEIGHTINGS = ("autoc", "qini")


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    standard_error: float


class TocCurve(NamedTuple):
    """TOC after each distinct score.

    Attributes:
        share: float64 [G], customers taken, to 1.
        value: float64 [G], mean effect of those taken less that of all, units of the outcome; 0 at the end.
        standard_error: float64 [G], the place of the cut in the ranking taken as given.
    """

    share: np.ndarray
    value: np.ndarray
    standard_error: np.ndarray


def dr_scores(
    treatment: np.ndarray, outcome: np.ndarray, mean: np.ndarray, propensity: np.ndarray, clip: float = 0.02
) -> np.ndarray:
    """Doubly robust score of every arm for every row.

    Args:
        treatment: int [N], arm of each row.
        outcome: [N].
        mean: [N, K], expected outcome under each arm, by models that did not see the row.
        propensity: [N, K], probability of each arm.
        clip: smallest probability to divide by: a bound on the variance, paid with bias where it is reached. Give 0
            for a randomisation known to use smaller ones.

    Returns:
        float64 [N, K], units of the outcome.

    Raises:
        ValueError: shapes disagree, an arm is not among K, an outcome is not known, or a probability is 0 unclipped.
    """
    treatment, outcome = np.asarray(treatment), np.asarray(outcome, np.float64)
    scores = np.array(mean, np.float64)
    N, K = scores.shape
    if treatment.shape != (N,) or outcome.shape != (N,) or np.shape(propensity) != (N, K):
        raise ValueError(
            f"dr_scores: treatment {treatment.shape}, outcome {outcome.shape}, mean {scores.shape} and propensity "
            f"{np.shape(propensity)} disagree; expected [N], [N], [N, K], [N, K]."
        )
    residual, chance = observed_arm(treatment, outcome, propensity, clip)
    rows = np.arange(N)
    residual -= scores[rows, treatment]
    scores[rows, treatment] += residual / chance
    return scores


def observed_arm(
    treatment: np.ndarray, outcome: np.ndarray, propensity: np.ndarray, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome [N] (a copy) and clipped probability [N] of the arm that each row got, both known to be usable.

    Raises:
        ValueError: an arm is not among K, an outcome is not finite, or a probability to divide by is not positive.
    """
    treatment, outcome = np.asarray(treatment), np.array(outcome, np.float64)
    N, K = np.shape(propensity)
    if N and (treatment.min() < 0 or treatment.max() >= K):
        odd = treatment[(treatment < 0) | (treatment >= K)][0]
        raise ValueError(f"A row has arm {odd}, but there are probabilities for arms 0 to {K - 1}; leave it out.")
    if not np.isfinite(outcome).all():
        raise ValueError(f"{int((~np.isfinite(outcome)).sum())} of {N} outcomes are not known; leave these rows out.")
    chance = np.maximum(np.take_along_axis(np.asarray(propensity, np.float64), treatment[:, None], 1)[:, 0], clip)
    if not (chance > 0).all():
        raise ValueError(
            f"{int((~(chance > 0)).sum())} of {N} rows got an arm of probability {chance[~(chance > 0)][0]:g}. Give "
            "probabilities above 0, or a clip above 0."
        )
    return outcome, chance


def dr_effects(scores: np.ndarray) -> np.ndarray:
    """Effect scores [N, A] of the offers against the control, from the scores [N, K] of the arms."""
    return scores[:, 1:] - scores[:, :1]


def average_effect(dr_effect: np.ndarray, weight: np.ndarray | None = None) -> Estimate:
    """Mean effect [units of the outcome] of effect scores [N]."""
    dr_effect, weight = checked("average_effect", dr_effect, weight=weight)
    return average_effect_of(ScoreGroups(dr_effect, effect_moments(dr_effect, weight)))


def average_effect_of(groups: ScoreGroups) -> Estimate:
    """`average_effect` of the sums of `effect_moments`, whatever they are grouped by."""
    weight, first, w2, w2e, w2ee = (values.sum() for values in groups.sums)
    value = first / weight
    variance = w2ee - 2 * value * w2e + value**2 * w2
    return Estimate(float(value), float(np.sqrt(max(variance, 0.0)) / weight))


def dr_loss(effect: np.ndarray, dr_effect: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean squared difference of predicted effects [N] and effect scores [N], squared units of the outcome.

    In expectation it is the mean squared error of the effect plus a constant that no prediction changes (Kennedy 2023),
    so models may be compared and stopped by it, unlike by a ranking's score.
    """
    effect, dr_effect, weight = checked("dr_loss", effect, dr_effect, weight=weight)
    return float((weight * (effect - dr_effect) ** 2).sum() / weight.sum())


def toc(score: np.ndarray, dr_effect: np.ndarray, weight: np.ndarray | None = None) -> TocCurve:
    """Targeting operator characteristic after each distinct score.

    Args:
        score: [N], high for those to be treated first.
        dr_effect: [N], effect scores of one offer.
        weight: [N], customers that a row stands for; None is 1 each.
    """
    score, dr_effect, weight = checked("toc", score, dr_effect, weight=weight)
    total = weight.sum()
    centred = dr_effect - (weight * dr_effect).sum() / total
    moments = (weight, weight * centred, weight**2, weight**2 * centred, (weight * centred) ** 2)
    groups = group_by_score(score, moments)
    taken, effect, w2, w2e, w2ee = (np.cumsum(values) for values in groups.sums)
    share = taken / total
    value = effect / taken
    value[-1] = 0.0
    # A row among those taken counts for (e - value) / share - e, another for -e.
    slope = 1.0 / share - 1.0
    offset = value / share
    variance = slope**2 * w2ee - 2 * slope * offset * w2e + offset**2 * w2 + (w2ee[-1] - w2ee)
    variance[-1] = 0.0
    return TocCurve(share, value, np.sqrt(np.maximum(variance, 0.0)) / total)


def autoc(score: np.ndarray, dr_effect: np.ndarray, weight: np.ndarray | None = None) -> Estimate:
    """Area under the TOC: 0 for a ranking that knows nothing; units of the outcome."""
    return rate(score, dr_effect, "autoc", weight)


def rate(
    score: np.ndarray, dr_effect: np.ndarray, weighting: str = "autoc", weight: np.ndarray | None = None
) -> Estimate:
    """Rank-weighted average treatment effect of a ranking, with its standard error.

    Args:
        score, dr_effect, weight: as in `toc`; the score must not have been learnt from these rows' outcomes.
        weighting: "autoc" (a = 1) or "qini" (a = u).
    """
    score, dr_effect, weight = checked("rate", score, dr_effect, weight=weight)
    return rate_of(group_by_score(score, effect_moments(dr_effect, weight)), weighting)


def effect_moments(dr_effect: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """What `rate_of` needs to be summed per score: w, w e, w^2, w^2 e, w^2 e^2, [N] each."""
    first = weight * dr_effect
    return weight, first, weight**2, weight * first, first**2


def rate_of(groups: ScoreGroups, weighting: str = "autoc") -> Estimate:
    """`rate` of the sums of `effect_moments` per score, rows grouped or a histogram."""
    if weighting not in WEIGHTINGS:
        raise ValueError(f"rate: weighting={weighting!r} is not known; give one of {', '.join(WEIGHTINGS)}.")
    weight, effect, w2, w2e, w2ee = groups.sums
    total = weight.sum()
    end = np.cumsum(weight) / total
    end[-1] = 1.0
    start = np.concatenate([[0.0], end[:-1]])
    width = weight / total
    filled = width > 0
    mean = np.divide(effect, weight, out=np.zeros_like(effect), where=filled)
    log_end = np.log(end, out=np.zeros_like(end), where=end > 0)
    log_start = np.log(start, out=np.zeros_like(start), where=start > 0)
    if weighting == "autoc":
        # w(u) = -log u - 1; its mean over a group is -(b log b - a log a) / (b - a).
        place = np.divide(start * log_start - end * log_end, width, out=np.zeros_like(width), where=filled)
        passed = mean * np.where(start > 0, log_end - log_start, 0.0)  # integral of m / s over a group, but the first
        within = mean * (
            1.0 - start * np.divide(log_end - log_start, width, out=np.zeros_like(width), where=filled & (start > 0))
        )
        constant = (mean * width).sum()
    else:
        # w(u) = 1/2 - u.
        place = 0.5 - (start + end) / 2
        passed = mean * width
        within = passed / 2
        constant = (mean * (end**2 - start**2)).sum() / 2
    value = (effect * place).sum() / total
    # Mean over a group's places of the integral from there to 1: the rest of the group, and the groups after it.
    tail = within + np.concatenate([np.cumsum(passed[::-1])[::-1][1:], [0.0]])
    offset = constant - tail - value
    variance = (place**2 * w2ee + 2 * place * offset * w2e + offset**2 * w2).sum()
    return Estimate(float(value), float(np.sqrt(max(variance, 0.0)) / total))
