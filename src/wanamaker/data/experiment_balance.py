"""How much the customers of the arms differ: standardised mean differences, single features, and a propensity model.

Axis letters: N sampled rows, F numeric features, J categorical features, K arms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wanamaker.data.experiment_table import ExperimentRows
from wanamaker.data.uplift_batch import UpliftSchema

_FOLDS = 3
_TREES = 40


@dataclass(frozen=True)
class Balance:
    """Of each feature or offer, the arm that differs most from the control.

    Attributes:
        smd: feature -> (difference of means in standard deviations, its standard error, offer). Of a categorical
            feature, that of the category whose share differs most.
        arm_auc: feature -> (AUC of the feature alone for the offer, at least .5; standard error under no difference;
            offer).
        propensity_auc: offer -> (cross-validated AUC of a model on all features, standard error).
        outside: share of rows with a propensity below `clip` or above 1 - `clip` in some arm, cross-validated; None
            where there is no feature, or no model.
    """

    smd: dict[str, tuple[float, float, str]]
    arm_auc: dict[str, tuple[float, float, str]]
    propensity_auc: dict[str, tuple[float, float]]
    outside: float | None


def balance_of(schema: UpliftSchema, rows: ExperimentRows, clip: float, seed: int, propensity: bool = True) -> Balance:
    """Compare the arms of a sample.

    Args:
        schema: names.
        rows: the sample.
        clip: see `Balance.outside`.
        seed: of the folds.
        propensity: fit the propensity model, too.
    """
    smd: dict[str, tuple[float, float, str]] = {}
    arm_auc: dict[str, tuple[float, float, str]] = {}
    control = rows.treatment == 0
    for k, arm in enumerate(schema.arms[1:], start=1):
        own = rows.treatment == k
        if min(own.sum(), control.sum()) < 2:
            continue
        both = own | control
        error = float(np.sqrt(1 / own.sum() + 1 / control.sum()))
        # Variance of the Mann-Whitney statistic without a difference, for AUC.
        auc_error = float(np.sqrt((both.sum() + 1) / (12 * own.sum() * control.sum())))
        for f, name in enumerate(schema.numeric):
            values = rows.numeric[:, f].astype(np.float64)
            _keep(smd, name, _difference(values[own], values[control]), error, arm)
            known = np.nan_to_num(values, nan=np.nanmin(values, initial=0) - 1)
            auc = rank_auc(known[both], own[both])
            _keep(arm_auc, name, max(auc, 1 - auc), auc_error, arm, 0.5)
        for j, name in enumerate(schema.categorical):
            codes = rows.categorical[:, j]
            for value in range(1, len(schema.categories[j]) + 1):
                hit = (codes == value).astype(np.float64)
                _keep(smd, name, _difference(hit[own], hit[control]), error, arm)
            auc = rank_auc(rates_of_others(codes[both], own[both].astype(np.float64)), own[both])
            _keep(arm_auc, name, auc, auc_error, arm, 0.5)
    if not propensity or not (schema.numeric or schema.categorical):
        return Balance(smd, arm_auc, {}, None)
    chance = propensities(rows, schema.num_arms, seed)  # [N, K]
    aucs = {}
    for k, arm in enumerate(schema.arms[1:], start=1):
        both = (rows.treatment == k) | control
        own = rows.treatment[both] == k
        ratio = chance[both, k] / np.maximum(chance[both, k] + chance[both, 0], 1e-12)
        auc = rank_auc(ratio, own)
        aucs[arm] = (auc, auc_error_of(auc, int(own.sum()), int((~own).sum())))
    outside = ((chance < clip) | (chance > 1 - clip)).any(axis=1).mean()
    return Balance(smd, arm_auc, aucs, float(outside))


def _keep(
    table: dict[str, tuple[float, float, str]], name: str, value: float, error: float, arm: str, centre: float = 0.0
) -> None:
    """Note a value if it lies further from `centre`, in standard errors, than what was noted before."""
    if name not in table or abs(value - centre) / error > abs(table[name][0] - centre) / table[name][1]:
        table[name] = (value, error, arm)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Standardised mean difference: over the root of the mean of both variances, NaN left out."""
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    if not len(one) or not len(other):
        return 0.0
    spread = np.sqrt((one.var() + other.var()) / 2)
    gap = one.mean() - other.mean()
    return float(gap / spread) if spread > 0 else 0.0


def rank_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve; ties count half.

    Args:
        score: [N], finite.
        positive: bool [N].
    """
    from scipy.stats import rankdata

    n1, n0 = int(positive.sum()), int((~positive).sum())
    if n1 == 0 or n0 == 0:
        return 0.5
    return float((rankdata(score)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def auc_error_of(auc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUC (Hanley and McNeil, 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0) / max(positives * negatives, 1)))


def rates_of_others(codes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean outcome of each row's category in the other half of the rows, [N]: a score that never saw its own row."""
    half = np.arange(len(codes)) % 2 == 0
    score = np.empty(len(codes))
    for fit, use in ((half, ~half), (~half, half)):
        count = np.bincount(codes[fit], minlength=int(codes.max(initial=0)) + 1)
        total = np.bincount(codes[fit], weights=target[fit], minlength=len(count))
        prior = target[fit].mean() if fit.any() else 0.0
        score[use] = ((total + prior) / (count + 1))[codes[use]]
    return score


def propensities(rows: ExperimentRows, num_arms: int, seed: int) -> np.ndarray:
    """Probability of each arm from all features, [N, K]; of a row by a model that never saw it."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    features = np.concatenate([rows.numeric, np.isnan(rows.numeric), rows.categorical], axis=1, dtype=np.float32)
    chance = np.zeros((len(rows.row), num_arms))
    for fit, use in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(features, rows.treatment):
        # Small trees with many rows a leaf: without a difference between arms they must find none.
        model = HistGradientBoostingClassifier(
            max_iter=_TREES,
            learning_rate=0.1,
            max_leaf_nodes=8,
            min_samples_leaf=max(20, len(fit) // 200),
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        )
        learnt = features[fit]
        filled = np.nan_to_num(learnt, nan=np.nan_to_num(np.nanmax(learnt, axis=0, initial=-np.inf), neginf=0))
        varies = filled.max(axis=0) > filled.min(axis=0)  # the trees refuse a column without two values
        if not varies.any():
            chance[use] = np.bincount(rows.treatment[fit], minlength=num_arms) / len(fit)
            continue
        model.fit(learnt[:, varies], rows.treatment[fit])
        chance[np.ix_(use, model.classes_.astype(int))] = model.predict_proba(features[use][:, varies])
    return chance
