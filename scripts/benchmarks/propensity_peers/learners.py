"""Classifiers and models of value as an analyst would call them.

LightGBM "small" has few leaves, slow steps and samples of rows and columns: what a table of some thousand rows asks
for. Its categories are columns of 0 and 1, with its own handling of categories in "small_native". The two-part model is
the tree form of the zero-inflated lognormal: who buys, and the log of how much, with one spread for all.

Axis letters: n rows, F columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from propensity_peers.task import Task

SMALL = {
    "n_estimators": 300,
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_child_samples": 50,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "reg_lambda": 1.0,
}
DEFAULT: dict[str, Any] = {}
_ALWAYS = {"n_jobs": 1, "verbose": -1}

Fit = Callable[[Task, np.ndarray, np.ndarray, int], np.ndarray]
"""(task, training rows, test rows, seed) -> probability or amount of the test rows."""


def dummies(task: Task) -> np.ndarray:
    """Numbers, and a column of 0 and 1 for each category; [N, F]."""
    parts = [task.numeric]
    for column in task.categorical.T:
        parts.append((column[:, None] == np.unique(column)).astype(np.float64))
    return np.concatenate(parts, axis=1)


def _lightgbm(options: dict[str, Any], native: bool = False) -> Fit:
    def fit(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        from lightgbm import LGBMClassifier

        model = LGBMClassifier(**options, **_ALWAYS, random_state=seed)
        if native:
            x = np.concatenate([task.numeric, task.categorical], axis=1)
            places = list(range(task.numeric.shape[1], x.shape[1]))
            model.fit(x[train], task.label[train], categorical_feature=places)
        else:
            x = dummies(task)
            model.fit(x[train], task.label[train])
        return model.predict_proba(x[test])[:, 1]

    return fit


def _logistic(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = dummies(task)
    model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(x[train], task.label[train]).predict_proba(x[test])[:, 1]


def _histogram(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    x = np.concatenate([task.numeric, task.categorical], axis=1)
    places = list(range(task.numeric.shape[1], x.shape[1]))
    options = {"max_iter": 300, "learning_rate": 0.03, "max_leaf_nodes": 7, "min_samples_leaf": 50}
    model = HistGradientBoostingClassifier(
        **options, l2_regularization=1.0, max_features=0.8, categorical_features=places, random_state=seed
    )
    return model.fit(x[train], task.label[train]).predict_proba(x[test])[:, 1]


def _tweedie(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(objective="tweedie", tweedie_variance_power=1.5, **SMALL, **_ALWAYS, random_state=seed)
    return model.fit(task.numeric[train], task.label[train]).predict(task.numeric[test])


def _two_part(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from lightgbm import LGBMClassifier, LGBMRegressor

    x, y, options = task.numeric, task.label, SMALL | _ALWAYS | {"random_state": seed}
    buys = LGBMClassifier(**options).fit(x[train], y[train] > 0)
    spent = train[y[train] > 0]
    amount = LGBMRegressor(**options).fit(x[spent], np.log(y[spent]))
    spread = np.var(np.log(y[spent]) - amount.predict(x[spent]))
    return buys.predict_proba(x[test])[:, 1] * np.exp(amount.predict(x[test]) + spread / 2)


def _bg_nbd(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from propensity_peers.buy_till_you_die import expected_spend

    # Fitted to everybody's past: it looks at no customer's future, so that there is nothing to hold out.
    return expected_spend(task.history, task.about.weeks)[test]


def _column(name: str) -> Fit:
    def fit(task: Task, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        return task.numeric[test, task.about.numeric.index(name)]

    return fit


BINARY: dict[str, Fit] = {
    "logistic": _logistic,
    "lightgbm_small": _lightgbm(SMALL),
    "lightgbm_small_native": _lightgbm(SMALL, native=True),
    "lightgbm_default": _lightgbm(DEFAULT),
    "histogram_boosting": _histogram,
}
VALUE: dict[str, Fit] = {
    "past_orders": _column("orders"),
    "past_spend": _column("spend"),
    "bg_nbd_gamma_gamma": _bg_nbd,
    "lightgbm_tweedie": _tweedie,
    "lightgbm_two_part": _two_part,
}
LEARNERS = BINARY | VALUE
