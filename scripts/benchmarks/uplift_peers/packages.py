"""CausalML's and EconML's learners, called as their manuals say.

Arms drawn at random have their shares for probabilities, which both packages are given. Otherwise the base's classifier
estimates them; CausalML, whose own model takes no missing values, is given what that says.

Axis letters: n rows, A offers.
"""

from __future__ import annotations

import numpy as np
from sklearn.dummy import DummyClassifier

from uplift_peers.bases import Base
from uplift_peers.learners import Predict, Rows, propensity


def causalml_x(rows: Rows, base: Base, seed: int) -> Predict:
    """CausalML's X-learner."""
    from causalml.inference.meta import BaseXClassifier, BaseXRegressor

    if rows.binary:
        model = BaseXClassifier(outcome_learner=base.classifier(), effect_learner=base.regressor(), control_name=0)
    else:
        model = BaseXRegressor(learner=base.regressor(), control_name=0)
    chances = {offer: propensity(rows, base, offer) for offer in range(1, rows.num_arms)}

    def given(x: np.ndarray) -> dict[int, np.ndarray]:
        return {offer: chance(x) for offer, chance in chances.items()}

    model.fit(rows.x, rows.arm, rows.y, p=given(rows.x))
    return lambda new: model.predict(new, p=given(new))


def econml_x(rows: Rows, base: Base, seed: int) -> Predict:
    """EconML's X-learner."""
    from econml.metalearners import XLearner

    model = XLearner(
        models=base.outcome(rows.binary),
        cate_models=base.regressor(),
        propensity_model=DummyClassifier(strategy="prior") if rows.randomised else base.classifier(),
        categories=list(range(rows.num_arms)),
        allow_missing=True,
    )
    model.fit(rows.y, rows.arm, X=rows.x)
    return lambda new: model.const_marginal_effect(new).reshape(len(new), -1)


def econml_dr(rows: Rows, base: Base, seed: int) -> Predict:
    """EconML's DR-learner, nuisances in five folds."""
    from econml.dr import DRLearner

    model = DRLearner(
        model_propensity=DummyClassifier(strategy="prior") if rows.randomised else base.classifier(),
        model_regression=base.classifier() if rows.binary else base.regressor(),
        model_final=base.regressor(),
        discrete_outcome=rows.binary,
        min_propensity=0.02,
        categories=list(range(rows.num_arms)),
        cv=5,
        random_state=seed,
        allow_missing=True,
    )
    model.fit(rows.y, rows.arm, X=rows.x)
    return lambda new: model.const_marginal_effect(new).reshape(len(new), -1)


PACKAGES = {("causalml", "x"): causalml_x, ("econml", "x"): econml_x, ("econml", "dr"): econml_dr}
