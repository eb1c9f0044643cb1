"""Rows whose outcomes are known, with doubly robust scores of the money that each arm would have brought.

A score estimates, for one row, what the row would bring under an arm, whichever arm it got (augmented inverse
propensity weights: Robins, Rotnitzky and Zhao, JASA 89, 1994). Its mean over rows is the value of the arm without bias
where the probabilities are known, so the mean over rows of the score of the arm that a policy picks is the policy's
value, and the difference of two policies has a standard error that is paired by row.

Axis letters: N rows, K arms (number 0 is the control), Y outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wanamaker.decisions.targeting_costs import Money
from wanamaker.errors import UserError
from wanamaker.metrics.doubly_robust import Estimate, average_effect, dr_scores
from wanamaker.predictions import UpliftPredictions
from wanamaker.predictions.uplift import SPLITS

_CLIP = 0.02  # smallest estimated probability to divide by


@dataclass(frozen=True)
class ScoredRows:
    """Rows that can judge a policy.

    Attributes:
        predictions: of these rows.
        splits: where they come from.
        net: [N, K], score of the money under each arm, its cost taken off.
        cost: [N, K], score of the cost of each arm, money.
        main: [N, K], score of the first outcome that has a value, its unit.
    """

    predictions: UpliftPredictions
    splits: tuple[str, ...]
    net: np.ndarray
    cost: np.ndarray
    main: np.ndarray

    def __len__(self) -> int:
        return len(self.net)

    @property
    def gain(self) -> np.ndarray:
        """[N, K], `net` less that of the control."""
        return self.net - self.net[:, :1]

    def picked(self, arm: np.ndarray) -> np.ndarray:
        """[N], the gain of the arm that a policy picks for each row."""
        return np.take_along_axis(self.gain, np.asarray(arm)[:, None], axis=1)[:, 0]

    def mean(self, per_row: np.ndarray) -> Estimate:
        """Mean of [N] over customers, with its standard error."""
        return average_effect(per_row, self.predictions.weight)


def score_rows(predictions: UpliftPredictions, money: Money, splits: Sequence[str]) -> ScoredRows | None:
    """The rows of some splits whose arm and outcomes are known, scored; None where there are none.

    Raises:
        UserError: not two of the arms have rows there, so that nothing can be compared.
    """
    need = [y for y in range(len(predictions.outcomes)) if money.needs(y)]
    known = np.isin(predictions.split, [SPLITS.index(name) for name in splits]) & (predictions.treatment >= 0)
    known &= np.isfinite(predictions.outcome[:, need]).all(axis=1) & (predictions.weight > 0)
    if not known.any():
        return None
    rows = predictions.select(known)
    counts = np.bincount(rows.treatment, minlength=len(rows.arms))
    if (counts == 0).any():
        missing = ", ".join(repr(arm) for arm, count in zip(rows.arms, counts, strict=True) if not count)
        raise UserError(
            f"None of the {len(rows):,} {' and '.join(splits)} rows with known outcomes got {missing}, so nothing can "
            "be said about what it brings. Predict a table that holds every arm, or choose other rows with "
            "decision.evaluate_on."
        )
    clip = 0.0 if rows.randomised else _CLIP  # known probabilities are right however small
    scores: list[np.ndarray | None] = [None] * len(rows.outcomes)
    for y in need:
        mean = rows.mean[:, :, y].astype(np.float64)
        scores[y] = dr_scores(rows.treatment, rows.outcome[:, y], mean, rows.propensity, clip)
    main = scores[money.main]
    assert main is not None
    present = tuple(name for name in SPLITS if (rows.split == SPLITS.index(name)).any())
    return ScoredRows(rows, present, money.net_scores(scores), money.cost_scores(scores), main)


def splits_to_judge(predictions: UpliftPredictions, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The splits whose outcomes judge: those asked for, else test rows, else validation, else training rows.

    Raises:
        UserError: the splits asked for have no row with a known arm.
    """
    known = predictions.split[predictions.treatment >= 0]
    present = [name for name in SPLITS if (known == SPLITS.index(name)).any()]
    if wanted is not None:
        found = tuple(name for name in wanted if name in present)
        if not found:
            raise UserError(
                f"decision.evaluate_on={list(wanted)}: no row of these splits has a known arm; there are such rows in "
                f"{', '.join(present) or 'no split'}."
            )
        return found
    for name in ("test", "val", "train"):
        if name in present:
            return (name,)
    return ()
