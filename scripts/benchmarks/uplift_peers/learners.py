"""Meta-learners as plain code, to be read beside the packages' and checked against them.

Each offer is compared with the control on the rows of these two arms, one after the other, as the packages do.

Axis letters: n rows, A offers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold

from uplift_peers.bases import Base

FOLDS = 5
CLIP = 0.02
Predict = Callable[[np.ndarray], np.ndarray]  # features [n, F] -> effects [n, A]


class Rows(NamedTuple):
    """Training rows.

    Attributes:
        x: [n, F].
        arm: int [n], 0 is the control.
        y: [n], one outcome.
        binary: whether it is 0 or 1.
        randomised: whether the arms' shares are their probabilities.
        num_arms: K.
    """

    x: np.ndarray
    arm: np.ndarray
    y: np.ndarray
    binary: bool
    randomised: bool
    num_arms: int

    def pair(self, offer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, whether treated and outcome of the rows of an offer or the control."""
        own = (self.arm == 0) | (self.arm == offer)
        return self.x[own], self.arm[own] == offer, self.y[own]


def propensity(rows: Rows, base: Base, offer: int) -> Predict:
    """Chance of an offer among its rows and the control's: the share, or a model clipped away from 0 and 1."""
    x, treated, _y = rows.pair(offer)
    if rows.randomised:
        share = float(treated.mean())
        return lambda new: np.full(len(new), share)
    model = base.classifier().fit(x, treated.astype(int))
    return lambda new: np.clip(model.predict_proba(new)[:, 1], CLIP, 1 - CLIP)


def per_offer(rows: Rows, learn: Callable[[int], Predict]) -> Predict:
    """One learner for each offer."""
    learnt = [learn(offer) for offer in range(1, rows.num_arms)]
    return lambda new: np.stack([predict(new) for predict in learnt], axis=1)


def s_learner(rows: Rows, base: Base, seed: int) -> Predict:
    """One outcome model with the arm among the features."""

    def learn(offer: int) -> Predict:
        x, treated, y = rows.pair(offer)
        model = base.outcome(rows.binary).fit(np.column_stack([x, treated]), y)

        def predict(new: np.ndarray) -> np.ndarray:
            ones = np.ones(len(new))
            return model.predict(np.column_stack([new, ones])) - model.predict(np.column_stack([new, 0 * ones]))

        return predict

    return per_offer(rows, learn)


def means(rows: Rows, base: Base) -> Predict:
    """Expected outcomes under each arm [n, K]: an outcome model for each."""
    models = [base.outcome(rows.binary).fit(rows.x[rows.arm == k], rows.y[rows.arm == k]) for k in range(rows.num_arms)]
    return lambda new: np.stack([model.predict(new) for model in models], axis=1)


def t_learner(rows: Rows, base: Base, seed: int) -> Predict:
    """Difference of the arms' outcome models."""
    mean = means(rows, base)

    def predict(new: np.ndarray) -> np.ndarray:
        values = mean(new)
        return values[:, 1:] - values[:, :1]

    return predict


def control_ranking(rows: Rows, base: Base, seed: int) -> Predict:
    """Ranks by the expected outcome without an offer: no effect, but what many campaigns go by."""
    model = base.outcome(rows.binary).fit(rows.x[rows.arm == 0], rows.y[rows.arm == 0])
    return lambda new: np.repeat(model.predict(new)[:, None], rows.num_arms - 1, axis=1)


def x_learner(rows: Rows, base: Base, seed: int) -> Predict:
    """Künzel, Sekhon, Bickel & Yu (2019), equations 7 to 9."""

    def learn(offer: int) -> Predict:
        x, treated, y = rows.pair(offer)
        control, offered = (base.outcome(rows.binary).fit(x[own], y[own]) for own in (~treated, treated))
        of_control = base.regressor().fit(x[~treated], offered.predict(x[~treated]) - y[~treated])
        of_offered = base.regressor().fit(x[treated], y[treated] - control.predict(x[treated]))
        chance = propensity(rows, base, offer)

        def predict(new: np.ndarray) -> np.ndarray:
            e = chance(new)
            return e * of_control.predict(new) + (1 - e) * of_offered.predict(new)

        return predict

    return per_offer(rows, learn)


class OutOfFold(NamedTuple):
    """Of the rows of an offer or the control, by models that did not see them: [n] each."""

    control: np.ndarray
    offered: np.ndarray
    chance: np.ndarray


def out_of_fold(rows: Rows, base: Base, seed: int, offer: int) -> OutOfFold:
    """Expected outcomes and chances in five folds, stratified by arm."""
    x, treated, y = rows.pair(offer)
    found = np.zeros((3, len(y)))
    for kept, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, treated):
        for number, own in enumerate((~treated[kept], treated[kept])):
            model = base.outcome(rows.binary).fit(x[kept][own], y[kept][own])
            found[number, held] = model.predict(x[held])
        if rows.randomised:
            found[2, held] = treated.mean()
        else:
            chance = base.classifier().fit(x[kept], treated[kept].astype(int)).predict_proba(x[held])[:, 1]
            found[2, held] = np.clip(chance, CLIP, 1 - CLIP)
    return OutOfFold(*found)


def pseudo_outcome(rows: Rows, base: Base, seed: int, offer: int) -> np.ndarray:
    """Doubly robust score of the effect of each row of `Rows.pair` (Kennedy 2023)."""
    _x, treated, y = rows.pair(offer)
    fold = out_of_fold(rows, base, seed, offer)
    own = np.where(treated, fold.offered, fold.control)
    weight = np.where(treated, 1 / fold.chance, -1 / (1 - fold.chance))
    return fold.offered - fold.control + weight * (y - own)


def dr_learner(rows: Rows, base: Base, seed: int) -> Predict:
    """Regression of the doubly robust score."""

    def learn(offer: int) -> Predict:
        x, _treated, _y = rows.pair(offer)
        return base.regressor().fit(x, pseudo_outcome(rows, base, seed, offer)).predict

    return per_offer(rows, learn)


def r_learner(rows: Rows, base: Base, seed: int) -> Predict:
    """Nie & Wager (2021): residual of the outcome over that of the treatment, weighted by the latter's square."""

    def learn(offer: int) -> Predict:
        x, treated, y = rows.pair(offer)
        fold = out_of_fold(rows, base, seed, offer)
        mean = fold.chance * fold.offered + (1 - fold.chance) * fold.control
        rest = treated - fold.chance
        model = base.regressor()
        # The last step of a pipeline takes the weights under its own name.
        name = f"{model.steps[-1][0]}__sample_weight" if hasattr(model, "steps") else "sample_weight"
        return model.fit(x, (y - mean) / rest, **{name: rest**2}).predict

    return per_offer(rows, learn)


def constant(rows: Rows, base: Base, seed: int) -> Predict:
    """One effect for all: the mean of the doubly robust score."""
    average = np.array([pseudo_outcome(rows, base, seed, offer).mean() for offer in range(1, rows.num_arms)])
    return lambda new: np.tile(average, (len(new), 1))


PLAIN = {
    "s": s_learner,
    "t": t_learner,
    "x": x_learner,
    "dr": dr_learner,
    "r": r_learner,
    "mu0": control_ranking,
    "constant": constant,
}
