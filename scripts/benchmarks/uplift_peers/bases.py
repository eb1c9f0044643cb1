"""The models that the meta-learners are made of, one thread each.

Binary outcomes get a classifier whose probability is the prediction; amounts and effects get a regressor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

# The reference of the Hillstrom table: small trees, much shrinkage. LightGBM ignores `subsample` where `subsample_freq`
# is not given, and does better without it here (X-learner, Womens: .0589; with it .0578).
LGBM_SMALL: dict[str, Any] = {
    "n_estimators": 150,
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_child_samples": 200,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "reg_lambda": 10.0,
}
# Twice the leaves and the trees, for the simulator's stronger effects.
LGBM_MEDIUM = LGBM_SMALL | {"n_estimators": 300, "num_leaves": 15, "min_child_samples": 100, "subsample_freq": 1}
# The small trees' counterpart; `xgb_default` is what the package does by itself.
XGB_SMALL: dict[str, Any] = {
    "n_estimators": 150,
    "learning_rate": 0.03,
    "max_depth": 3,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "reg_lambda": 10.0,
}


class Base(NamedTuple):
    """Makers of models.

    Attributes:
        classifier: of a binary outcome or of the arm.
        regressor: of an amount or an effect.
    """

    classifier: Callable[[], Any]
    regressor: Callable[[], Any]

    def outcome(self, binary: bool) -> Any:
        """A model whose `predict` is the expected outcome."""
        return ProbabilityRegressor(self.classifier()) if binary else self.regressor()


class ProbabilityRegressor(RegressorMixin, BaseEstimator):
    """A classifier whose `predict` is the probability of 1: what EconML's learners call on an outcome model."""

    def __init__(self, classifier: Any = None) -> None:
        self.classifier = classifier

    def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> ProbabilityRegressor:
        """As scikit-learn; `y` holds 0 and 1."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.classifier_ = clone(self.classifier).fit(x, y, **weights)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probability of 1."""
        return self.classifier_.predict_proba(x)[:, 1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _linear(model: Any) -> Any:
    # A missing value is the average and a flag.
    return make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), model)


def base(name: str, seed: int) -> Base:
    """A pair of models by name: lgbm_small, lgbm_medium, lgbm_default, xgb_small, xgb_default or linear.

    Raises:
        KeyError: another name.
    """
    shared = {"n_jobs": 1, "random_state": seed}
    lgbm = {"lgbm_small": LGBM_SMALL, "lgbm_medium": LGBM_MEDIUM, "lgbm_default": {}}
    xgb = {"xgb_small": XGB_SMALL, "xgb_default": {}}
    if name in lgbm:
        options = lgbm[name] | shared | {"verbose": -1}
        return Base(lambda: LGBMClassifier(**options), lambda: LGBMRegressor(**options))
    if name in xgb:
        options = xgb[name] | shared
        return Base(lambda: XGBClassifier(**options), lambda: XGBRegressor(**options))
    if name == "linear":
        return Base(lambda: _linear(LogisticRegression(C=1.0, max_iter=1000)), lambda: _linear(Ridge(1.0)))
    raise KeyError(f"no base {name!r}: lgbm_small, lgbm_medium, lgbm_default, xgb_small, xgb_default or linear")
